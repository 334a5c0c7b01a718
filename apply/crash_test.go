package apply

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cdc-sidecar/schema"
)

// wire is a network between an Applier and its database that can be cut where it hurts.
type wire struct {
	listener net.Listener
	to       string
	wait     sync.WaitGroup
	// cut is called with what the client is about to say; it says what of it arrives.
	cut atomic.Pointer[func(said []byte) fate]
}

type fate int

const (
	passes   fate = iota
	lost          // the connection breaks before it arrives
	answered      // it arrives, and the connection breaks before the answer does
)

// newWire stands between the world's Applier and its database from now on.
func newWire(w *world) *wire {
	w.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(w.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	p := &wire{listener: l, to: w.dsn.Address()}
	p.wait.Go(p.serve)
	w.applier.Close()
	w.Cleanup(func() {
		w.applier.Close()
		if err := l.Close(); err != nil {
			w.Error(err)
		}
		p.wait.Wait()
	})
	dsn, err := schema.ParseDSN(strings.Replace(w.dsn.URL(), w.dsn.Address(), l.Addr().String(), 1))
	if err != nil {
		w.Fatal(err)
	}
	w.target = w.retarget(dsn)
	w.applier = New(w.target, w.applier.options)
	return p
}

func (w *world) retarget(dsn schema.DSN) Target {
	if w.engine == schema.Postgres {
		return Postgres(dsn)
	}
	return MySQL(dsn)
}

func (p *wire) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		var d net.Dialer
		server, err := d.DialContext(context.Background(), "tcp", p.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		var answers sync.Mutex          // held while the last words are answered
		heard := make(chan struct{}, 1) // the server has said something
		p.wait.Go(func() { p.speak(client, server, &answers, heard) })
		p.wait.Go(func() {
			buffer := make([]byte, 32<<10)
			for {
				n, err := server.Read(buffer)
				select {
				case heard <- struct{}{}:
				default:
				}
				answers.Lock()
				if err == nil {
					_, err = client.Write(buffer[:n])
				}
				answers.Unlock()
				if err != nil {
					_ = client.Close()
					_ = server.Close()
					return
				}
			}
		})
	}
}

// speak carries what the client says.
func (p *wire) speak(client, server net.Conn, answers *sync.Mutex, heard <-chan struct{}) {
	defer server.Close()
	defer client.Close()
	buffer := make([]byte, 1<<20)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		what := passes
		if cut := p.cut.Load(); cut != nil {
			what = (*cut)(buffer[:n])
		}
		if what == lost {
			return
		}
		if what == answered {
			answers.Lock() // the answer is not carried
			select {
			case <-heard: // of what came before
			default:
			}
			_, _ = server.Write(buffer[:n])
			<-heard // the server is at it, with its locks, before anybody learns that the connection is gone
			_ = client.Close()
			answers.Unlock()
			_, _ = io.Copy(io.Discard, server) // until the server has seen that we are gone
			return
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// The connection is lost around COMMIT. Only the database knows what became of it, and the next call asks.
func TestConnectionLostAtCommit(t *testing.T) {
	for _, c := range []struct {
		name string
		fate fate
	}{{"before", lost}, {"after", answered}} {
		t.Run(c.name, func(t *testing.T) {
			each(t, schema.Head, func(w *world) {
				w.createItem()
				p := newWire(w)
				w.apply(tx(1, insert(item, "1", "a", "1")))
				var broken atomic.Bool
				cut := func(said []byte) fate {
					if bytes.Contains(said, []byte("COMMIT")) && broken.CompareAndSwap(false, true) {
						return c.fate
					}
					return passes
				}
				p.cut.Store(&cut)
				group := []schema.Transaction{tx(2, insert(item, "2", "b", "2")), tx(3, insert(item, "3", "c", "3"), remove(item, "1"))}
				err := w.applier.Apply(w.Context(), head, group)
				var rejected *schema.RejectedError
				if err == nil || errors.As(err, &rejected) {
					w.Fatalf("got %v", err)
				}
				w.settled()
				w.exec("UPDATE item SET name = 'touched' WHERE id = 2") // a second apply would insert the row anew: a repair
				w.apply(group...)
				w.want("SELECT count(*) FROM item WHERE id IN (2, 3)", "2")
				w.at(3)
				stats := w.applier.Stats()[head]
				if want := map[fate]uint64{lost: 0, answered: 2}[c.fate]; stats.Duplicates != want || stats.Repaired != 0 {
					w.Errorf("stats %+v, want %d duplicates", stats, want)
				}
			})
		})
	}
}

// settled waits until the database has decided about a transaction that nobody waits for any more: its locks are gone.
func (w *world) settled() {
	w.Helper()
	w.exec(fmt.Sprintf("UPDATE cdc_sidecar.progress SET committed = committed + 1 WHERE office = '%s'", w.office))
}

// The connection is killed in the middle of a transaction in parts: nothing of it stays, and it is applied anew.
func TestConnectionLostBetweenParts(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.apply(tx(1, insert(item, "1", "a", "1")), part(2, 0, false, insert(item, "2", "b", "2")))
		w.kill()
		err := w.applier.Apply(w.Context(), head, []schema.Transaction{part(2, 1, true, insert(item, "3", "c", "3"))})
		var rejected *schema.RejectedError
		if err == nil || errors.As(err, &rejected) {
			w.Fatalf("got %v", err)
		}
		w.want(items, "1 a 1")
		w.at(1)
		w.apply(part(2, 0, false, insert(item, "2", "b", "2")), part(2, 1, true, insert(item, "3", "c", "3")))
		w.want(items, "1 a 1\n2 b 2\n3 c 3")
		w.at(2)
	})
}

// kill ends all connections of the Applier, as a server does that stops.
func (w *world) kill() {
	w.Helper()
	if w.engine == schema.Postgres {
		w.exec("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = 'cdc-sidecar apply' AND datname = current_database()")
		return
	}
	for id := range strings.FieldsSeq(w.rows("SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()")) {
		w.exec("KILL " + id)
	}
}

// After the database was restarted every idle connection is dead; one failed call finds that out, not one for each.
func TestIdleConnectionsLost(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.begin("north")
		w.apply(part(1, 0, false, insert(item, "1", "a", "1")))
		if err := w.applier.Apply(w.Context(), "north", []schema.Transaction{tx(1)}); err != nil {
			w.Fatal(err)
		}
		w.apply(part(1, 1, true))
		if n := len(w.applier.idle); n != 2 {
			w.Fatalf("%d idle connections", n)
		}
		w.kill()
		if err := w.applier.Apply(w.Context(), head, []schema.Transaction{tx(2, insert(item, "2", "b", "2"))}); err == nil {
			w.Fatal("a dead connection was not noticed")
		}
		w.apply(tx(2, insert(item, "2", "b", "2")))
		w.want(items, "1 a 1\n2 b 2")
	})
}

// A cancelled call leaves nothing behind and the next one works.
func TestCancelled(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.exec("INSERT INTO item VALUES (1, 'a', 1)")
		w.exec(w.pick("BEGIN", "START TRANSACTION"), "UPDATE item SET stock = 5 WHERE id = 1")
		ctx, cancel := context.WithCancel(w.Context())
		done := make(chan error, 1)
		go func() {
			done <- w.applier.Apply(ctx, head, []schema.Transaction{tx(1, update(item, "1", "b", "2"))})
		}()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			w.Fatalf("got %v", err)
		}
		w.exec("ROLLBACK")
		w.apply(tx(1, update(item, "1", "b", "2")))
		w.want(items, "1 b 2")
	})
}

// A row that an application holds is waited for a moment, then the Applier gives way: it lets go of its own locks, says
// that it is to be tried again, and the application has been held up by nothing.
func TestLockedRow(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.exec("INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2)")
		w.exec(w.pick("BEGIN", "START TRANSACTION"), "UPDATE item SET stock = 5 WHERE id = 2")
		w.applier.patience = time.Second
		change := tx(1, update(item, "1", "x", "1"), update(item, "2", "y", "2"))
		err := w.applier.Apply(w.Context(), head, []schema.Transaction{change})
		var rejected *schema.RejectedError
		var refused *schema.RefusedError
		if err == nil || errors.As(err, &rejected) || errors.As(err, &refused) {
			w.Fatalf("got %v", err)
		}
		w.exec("UPDATE item SET stock = 6 WHERE id = 1", "COMMIT")
		w.want(items, "1 a 6\n2 b 5")
		w.apply(change)
		w.want(items, "1 x 1\n2 y 2")
	})
}

// The Applier and an application lock each other: whoever is the victim, nothing is rejected and nothing is half done.
func TestDeadlock(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.exec("INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2)")
		w.apply(part(1, 0, false, update(item, "1", "x", "1")))
		w.exec(w.pick("BEGIN", "START TRANSACTION"), "UPDATE item SET stock = 5 WHERE id = 2")
		app := make(chan error, 1)
		go func() { app <- w.db.exec(w.Context(), "UPDATE item SET stock = 5 WHERE id = 1") }()
		err := w.applier.Apply(w.Context(), head, []schema.Transaction{part(1, 1, true, update(item, "2", "y", "2"))})
		var rejected *schema.RejectedError
		if errors.As(err, &rejected) {
			w.Fatalf("got %v", err)
		}
		if appErr := <-app; err != nil && appErr != nil {
			w.Errorf("both gave up: %v; %v", err, appErr)
		}
		w.exec("ROLLBACK")
		if err != nil {
			w.want(items, "1 a 1\n2 b 2")
			w.apply(part(1, 0, false, update(item, "1", "x", "1")), part(1, 1, true, update(item, "2", "y", "2")))
		}
		w.want(items, "1 x 1\n2 y 2")
		w.at(1)
	})
}

func TestRefused(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		clerk := "weak_" + string(w.office)
		if w.engine == schema.Postgres {
			w.exec(`CREATE ROLE `+clerk+` LOGIN PASSWORD 'clerk'`, `GRANT USAGE ON SCHEMA cdc_sidecar TO `+clerk,
				`GRANT ALL ON ALL TABLES IN SCHEMA cdc_sidecar TO `+clerk, `GRANT SELECT ON item TO `+clerk)
		} else {
			w.exec(`CREATE USER `+clerk+`@'%' IDENTIFIED BY 'clerk'`, `GRANT ALL ON cdc_sidecar.* TO `+clerk+`@'%'`,
				`GRANT SELECT ON `+w.dsn.Database+`.* TO `+clerk+`@'%'`)
		}
		w.Cleanup(func() {
			ctx := context.Background()
			drop := []string{`DROP USER ` + clerk + `@'%'`}
			if w.engine == schema.Postgres {
				drop = []string{`DROP OWNED BY ` + clerk, `DROP ROLE ` + clerk}
			}
			for _, sql := range drop {
				if err := w.db.exec(ctx, sql); err != nil {
					w.Error(err)
				}
			}
		})
		weak := New(w.retarget(w.as(clerk, "clerk")), Options{Office: w.office, Role: schema.Branch})
		defer weak.Close()
		var refused *schema.RefusedError
		err := weak.Apply(w.Context(), head, []schema.Transaction{tx(1, insert(item, "1", "a", "1"))})
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "item") || !strings.Contains(refused.Remedy, "GRANT") {
			w.Fatalf("got %v", err)
		}
		w.at(0)
		wrong := New(w.retarget(w.as(clerk, "wrong")), Options{Office: w.office, Role: schema.Branch})
		defer wrong.Close()
		if _, _, err := wrong.Progress(w.Context(), head); !errors.As(err, &refused) || strings.Contains(err.Error(), "wrong@") {
			w.Fatalf("got %v", err)
		}
	})
}

// Triggers of the application act on its own writes only; where the database cannot tell, doctor says so.
func TestTriggersDoNotFireOnPostgres(t *testing.T) {
	w := postgresWorld(t, schema.Branch)
	w.createItem()
	w.exec(`CREATE TABLE audit (id int)`, `CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NEW; END $$`,
		`CREATE TRIGGER audit AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION audit()`, `INSERT INTO item VALUES (1, 'a', 1)`)
	w.apply(tx(1, insert(item, "2", "b", "2")))
	w.want("SELECT id FROM audit", "1")
	// Foreign keys neither: a child may come before its parent.
	w.exec(`CREATE TABLE parent (id int PRIMARY KEY)`, `CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent)`)
	w.apply(tx(2, insert(define("child", integer("id"), integer("parent")), "1", strconv.Itoa(1)), insert(define("parent", integer("id")), "1")))
	w.want("SELECT parent FROM child", "1")
}

// A table in another schema than the fleet's default keeps its schema's name.
func TestOtherSchema(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		space := w.dsn.Database + "_x"
		w.exec(w.pick("CREATE SCHEMA ", "CREATE DATABASE ")+space, "CREATE TABLE "+space+".t (id int PRIMARY KEY)")
		if w.engine != schema.Postgres {
			w.Cleanup(func() {
				if err := w.db.exec(context.Background(), "DROP DATABASE "+space); err != nil {
					w.Error(err)
				}
			})
		}
		table := schema.NewTable(schema.Table{TableName: schema.TableName{Schema: space, Name: "t"}, Columns: []schema.Column{integer("id")}, Key: []int{0}})
		w.apply(tx(1, insert(table, "1")), tx(2, update(table, "1")), tx(3, insert(table, "1"), insert(table, "2")))
		w.want("SELECT id FROM "+space+".t ORDER BY id", "1\n2")
	})
}
