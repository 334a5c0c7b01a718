package apply

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// place is where the head's stream stands in the tests of chunks.
func place(seq uint64) schema.Position { return schema.Position{Epoch: epoch, Seq: seq} }

var chunkStamp = schema.Stamp{Millis: 77, Counter: 5}

func (w *world) chunk(seq uint64, changes ...schema.Change) Taken {
	w.Helper()
	taken, err := w.applier.Chunk(w.Context(), head, place(seq), chunkStamp, changes, nil)
	if err != nil {
		w.Fatal(err)
	}
	return taken
}

func (w *world) wantTaken(got, want Taken) {
	w.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		w.Errorf("taken (-want +got):\n%s", diff)
	}
}

func (w *world) chunks() string {
	w.Helper()
	return w.rows(fmt.Sprintf("SELECT chunks, seq, stamp_millis, stamp_counter FROM cdc_sidecar.progress WHERE office = '%s'", w.office))
}

// Rows enter an empty stretch, and a second time change nothing.
func TestChunkOfNewRows(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		const n = 4500
		var changes []schema.Change
		for i := range n {
			changes = append(changes, insert(item, strconv.Itoa(i), "name "+strconv.Itoa(i), null))
		}
		save := []Join{{Table: "item", Pending: true, At: place(0), State: []byte(`{"from": "x"}`)}}
		taken, err := w.applier.Chunk(w.Context(), head, place(0), chunkStamp, changes, save)
		if err != nil {
			w.Fatal(err)
		}
		w.wantTaken(taken, Taken{Inserted: n})
		w.want("SELECT count(*), min(id), max(id), count(DISTINCT name), count(stock) FROM item", "4500 0 4499 4500 0")
		w.at(0)
		if got := w.chunks(); got != "1 0 77 5" {
			w.Errorf("progress row: %s", got)
		}
		joins, err := w.applier.Joins(w.Context())
		if diff := cmp.Diff(save, joins); err != nil || diff != "" {
			w.Errorf("joins (-want +got):\n%s%v", diff, err)
		}
		w.wantTaken(w.chunk(0, changes...), Taken{Same: n})
		w.apply(tx(1, update(item, "7", "later", "1")))
		w.wantTaken(w.chunk(1, insert(item, "7", "later", "1"), insert(item, "5000", "new", "2")), Taken{Same: 1, Inserted: 1})
		if got := w.applier.Stats()[head]; got.Transactions != 1 || got.Inserts != n+1 || got.Repaired != 0 || got.Position != place(1) {
			w.Errorf("stats %+v", got)
		}
	})
}

// Where the head's stream has brought a few of a chunk's rows, they are compared, and the others written, behind one barrier; also
// when a row that is new needs what another is to give up, and when a change of our own comes in between.
func TestChunkAmongFewRows(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.exec("ALTER TABLE item ADD UNIQUE (stock)")
		u := &underway{known: holding{}, committed: holding{}}
		w.applier.options.Hold = u
		w.applier.options.Passed = func(context.Context, uint64) error {
			u.known = u.committed
			u.barriers++
			return nil
		}
		rows := func(from, to int) (changes []schema.Change) {
			for i := from; i < to; i++ {
				changes = append(changes, insert(item, strconv.Itoa(i), "head", strconv.Itoa(i)))
			}
			return changes
		}
		w.exec("INSERT INTO item VALUES (10, 'head', 10), (150, 'other', 150), (399, 'other', 1399), (450, 'other', 1450)")
		w.wantTaken(w.chunk(0, rows(10, 200)...), Taken{Inserted: 188, Updated: 1, Same: 1})
		before := u.barriers
		w.wantTaken(w.chunk(0, rows(200, 400)...), Taken{Inserted: 199, Updated: 1})
		if n := u.barriers - before; n != 1 {
			t.Errorf("%d barriers for rows of which one was here", n)
		}
		w.exec("UPDATE item SET stock = 401 WHERE id = 450")
		w.wantTaken(w.chunk(0, rows(400, 500)...), Taken{Inserted: 99, Updated: 1})
		w.exec("INSERT INTO item VALUES (650, 'own', 650), (651, 'other', 651)")
		u.committed = holding{item.RowID(row("600", gone, gone)): true, item.RowID(row("650", gone, gone)): true} // 600 was deleted here
		w.wantTaken(w.chunk(0, rows(500, 700)...), Taken{Inserted: 197, Updated: 1, Held: 2})
		w.want("SELECT count(*), min(id), max(id), sum(stock) FROM item WHERE name = 'head'", fmt.Sprintf("688 10 699 %d", (10+699)*690/2-600-650))
		w.want("SELECT count(*) FROM item", "689")
	})
}

// What is here becomes what the head has; what it does not have goes away.
func TestChunkOverOldRows(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.exec("ALTER TABLE item ADD UNIQUE (stock)")
		for i := range 100 {
			w.exec(fmt.Sprintf("INSERT INTO item VALUES (%d, 'old', %d)", i, i))
		}
		var changes []schema.Change
		for i := range 120 {
			switch id := strconv.Itoa(i); i % 4 {
			case 0:
				changes = append(changes, remove(item, id))
			case 1:
				changes = append(changes, insert(item, id, "old", id))
			default:
				changes = append(changes, insert(item, id, "new", strconv.Itoa(i+1000)))
			}
		}
		changes = append(changes, insert(item, "500", "new", "0")) // needs what the deleted row had
		w.wantTaken(w.chunk(0, changes...), Taken{Inserted: 5 + 10 + 1, Updated: 50, Deleted: 25, Same: 25, Missing: 5})
		w.want("SELECT count(*), sum(id), sum(stock) FROM item WHERE name = 'new'", fmt.Sprintf("61 %d %d", sumOf(2, 3)+500, sumOf(2, 3)+60*1000))
		w.want("SELECT count(*) FROM item WHERE name = 'old'", "30")
		w.want("SELECT count(*) FROM item", "91")
	})
}

// sumOf sums the numbers below 120 with one of these remainders by 4.
func sumOf(remainders ...int) (sum int) {
	for i := range 120 {
		if slices.Contains(remainders, i%4) {
			sum += i
		}
	}
	return sum
}

// Elsewhere than at its place a chunk is not written.
func TestChunkElsewhere(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.apply(tx(1, insert(item, "1", "a", "1")))
		elsewhere := func(at schema.Position) {
			w.Helper()
			_, err := w.applier.Chunk(w.Context(), head, at, chunkStamp, []schema.Change{insert(item, "9", "x", "9")}, []Join{{Table: "item"}})
			if !errors.Is(err, ErrElsewhere) {
				w.Errorf("at %s: %v", at, err)
			}
		}
		elsewhere(place(0))
		elsewhere(place(2))
		elsewhere(schema.Position{Epoch: epoch + 1, Seq: 1})
		w.apply(part(2, 0, false, insert(item, "2", "b", "2")))
		elsewhere(place(1)) // in the middle of what follows
		w.apply(part(2, 1, true, insert(item, "3", "c", "3")))
		w.exec(fmt.Sprintf("UPDATE cdc_sidecar.progress SET seq = 7 WHERE office = '%s'", w.office)) // a second sidecar
		elsewhere(place(2))
		w.want(items, "1 a 1\n2 b 2\n3 c 3")
		if joins, err := w.applier.Joins(w.Context()); len(joins) > 0 || err != nil {
			w.Errorf("joins %v, %v", joins, err)
		}
	})
}

// A row whose unique key another row here has waits; the rest is written.
func TestChunkParks(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.exec("ALTER TABLE item ADD UNIQUE (name)", "INSERT INTO item VALUES (50, 'taken', 1)")
		var changes []schema.Change
		for i := range 20 {
			changes = append(changes, insert(item, strconv.Itoa(i), "n"+strconv.Itoa(i), "0"))
		}
		changes[3].After[1] = schema.Of("taken")
		w.wantTaken(w.chunk(0, changes...), Taken{Inserted: 20, Parked: 1})
		w.want("SELECT count(*), sum(stock) FROM item", "20 1")
		w.exec("DELETE FROM item WHERE id = 50")
		if err := w.applier.Tend(w.Context(), head); err != nil {
			w.Fatal(err)
		}
		w.want("SELECT name FROM item WHERE id = 3", "taken")
		if n, _ := w.applier.Waiting(); n != 0 {
			w.Errorf("%d wait", n)
		}
	})
}

// A value that does not fit is rejected, and nothing is written.
func TestChunkRejected(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.exec("CREATE TABLE item (id int PRIMARY KEY, name varchar(3) NOT NULL, stock int)")
		for _, bad := range []schema.Change{insert(item, "2", null, "1"), insert(item, "2", "far too long", "1")} {
			_, err := w.applier.Chunk(w.Context(), head, place(0), chunkStamp, []schema.Change{insert(item, "1", "a", "1"), bad}, nil)
			var rejected *schema.RejectedError
			if !errors.As(err, &rejected) || rejected.Key != "id=2" || rejected.At != place(0) {
				w.Errorf("got %v", err)
			}
		}
		w.want(items, "")
		w.wantTaken(w.chunk(0, insert(item, "1", "a", "1")), Taken{Inserted: 1})
	})
}

// underway is a Hold that learns of an application's changes only when the log has been read to a mark.
type underway struct {
	committed, known holding
	barriers         int
}

func (u *underway) Holding() bool { return len(u.known) > 0 }
func (u *underway) Held(t schema.TableName, row schema.RowID, removes bool) (bool, error) {
	return u.known.Held(t, row, removes)
}

func (u *underway) Touched(t schema.TableName, row schema.RowID) (bool, error) {
	return u.known.Touched(t, row)
}
func (u *underway) HeldTable(t schema.TableName) bool { return u.known.HeldTable(t) }

// The office's own changes under way, known or not yet read from its log, are not overwritten: neither an update, an insert nor
// a delete of theirs.
func TestChunkPassesOwnChangesBy(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.exec("INSERT INTO item VALUES (1, 'known', 1), (2, 'unread', 2), (5, 'old', 5), (6, 'unread', 6)")
		own := func(ids ...string) holding {
			h := holding{}
			for _, id := range ids {
				h[item.RowID(row(id, gone, gone))] = true
			}
			return h
		}
		u := &underway{known: own("1"), committed: own("1", "2", "3", "6")} // 3 is deleted here
		w.applier.options.Hold = u
		w.applier.options.Passed = func(context.Context, uint64) error {
			u.known = u.committed
			u.barriers++
			return nil
		}
		got := w.chunk(0, insert(item, "1", "head", "0"), insert(item, "2", "head", "0"), insert(item, "3", "head", "0"), insert(item, "4", "head", "0"),
			insert(item, "5", "head", "0"), remove(item, "6"))
		w.wantTaken(got, Taken{Inserted: 1, Updated: 1, Held: 4})
		w.want(items, "1 known 1\n2 unread 2\n4 head 0\n5 head 0\n6 unread 6")
		u.known, u.committed = own(), own("8")
		w.applier.streams[head].work.met = false
		got = w.chunk(0, insert(item, "7", "head", "0"), insert(item, "8", "head", "0")) // hoped to be new, but 8 was deleted just now
		w.wantTaken(got, Taken{Inserted: 1, Held: 1})
		w.want("SELECT id FROM item WHERE id > 6", "7")
		if u.barriers < 3 {
			w.Errorf("%d barriers", u.barriers)
		}
	})
}

// While a table is being joined, an update that does not hold all of its row may come before the row does.
func TestUpdateBeforeChunk(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.applier.Joining(func(n schema.TableName) bool { return n.Name == "item" })
		w.apply(tx(1, update(item, "1", gone, "5")), tx(2, insert(item, "2", "b", "2")))
		w.want(items, "2 b 2")
		if got := w.applier.Stats()[head]; got.Joining != 1 || got.Repaired != 0 {
			w.Errorf("stats %+v", got)
		}
		w.chunk(2, insert(item, "1", "a", "5"))
		w.want(items, "1 a 5\n2 b 2")
		w.applier.Joining(func(schema.TableName) bool { return false })
		w.rejects(3, []schema.Transaction{tx(3, update(item, "4", gone, "5"))}, "item", "id=4")
	})
}

// A database that takes 'a' for 'A' gives the row the head's key, and deletes no other row than the head says.
func TestChunkOfCaselessKeys(t *testing.T) {
	w := mysqlWorld(t, schema.Branch)
	named := define("named", text("id"), integer("n"))
	w.exec("CREATE TABLE named (id varchar(20) COLLATE utf8mb4_general_ci PRIMARY KEY, n int)", "INSERT INTO named VALUES ('a', 1), ('b', 2), ('C', 3)")
	got := w.chunk(0, insert(named, "A", "1"), remove(named, "B"), insert(named, "C", "3"))
	w.wantTaken(got, Taken{Updated: 1, Missing: 1, Same: 1})
	w.want("SELECT id, n FROM named ORDER BY id", "A 1\nb 2\nC 3")
}

// A lock of somebody else's is waited for.
func TestChunkWaitsForLocks(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.exec("INSERT INTO item VALUES (1, 'a', 1)", "BEGIN", "UPDATE item SET name = 'locked' WHERE id = 1")
		done := make(chan error, 1)
		go func() {
			_, err := w.applier.Chunk(context.WithoutCancel(w.Context()), head, place(0), chunkStamp, []schema.Change{insert(item, "1", "head", "1")}, nil)
			done <- err
		}()
		busy := time.NewTimer(2500 * time.Millisecond)
		defer busy.Stop()
		select {
		case err := <-done:
			w.Fatalf("a locked row was written: %v", err)
		case <-busy.C: // behind several limits of the servers
		}
		w.exec("COMMIT")
		if err := <-done; err != nil {
			w.Fatal(err)
		}
		w.want(items, "1 head 1")
	})
}

// Joins are as they were saved last, for this office alone.
func TestJoins(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		ctx := w.Context()
		check := func(want ...Join) {
			w.Helper()
			got, err := w.applier.Joins(ctx)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				w.Errorf("joins (-want +got):\n%s%v", diff, err)
			}
		}
		check()
		all, one := Join{Table: schema.JoinAll, Pending: true, State: []byte{}}, Join{Table: "shop.Größe", Pending: true, At: place(3), State: []byte(`{"q": "it's \\"}`)}
		for _, err := range []error{w.applier.SaveJoins(ctx, nil), w.applier.SaveJoins(ctx, []Join{one, all}), w.applier.SaveJoins(ctx, []Join{one})} {
			if err != nil {
				w.Fatal(err)
			}
		}
		check(all, one)
		w.want(fmt.Sprintf("SELECT touched FROM cdc_sidecar.joins WHERE office = '%s' ORDER BY table_name", w.office), "0\n1")
		one.Pending, one.At, one.State = false, place(9), []byte("{}")
		if err := w.applier.SaveJoins(ctx, []Join{one}); err != nil {
			w.Fatal(err)
		}
		other := New(w.target, Options{Office: "of-" + w.office, Role: schema.Branch})
		defer other.Close()
		if err := other.DropJoins(ctx, []string{schema.JoinAll, "shop.Größe"}); err != nil {
			w.Fatal(err)
		}
		check(all, one)
		if err := w.applier.DropJoins(ctx, []string{schema.JoinAll, "none"}); err != nil {
			w.Fatal(err)
		}
		check(one)
	})
}

// The database in memory does what the others do.
func TestMemoryChunk(t *testing.T) {
	for _, engine := range []schema.Engine{schema.Postgres, schema.MariaDB} {
		t.Run(string(engine), func(t *testing.T) {
			ctx := t.Context()
			m := NewMemory(MemoryOptions{Engine: engine, Now: time.Now, Tables: []catalog.Table{{Table: item, OwnSchema: "public"}}})
			a := New(m.Target(func(context.Context, string) error { return nil }), Options{Office: "o", Role: schema.Branch})
			defer a.Close()
			if err := a.Begin(ctx, head, place(0)); err != nil {
				t.Fatal(err)
			}
			m.Load(item.TableName, row("2", "old", "2"))
			m.Load(item.TableName, row("3", "old", "3"))
			save := []Join{{Table: "item", Pending: true, At: place(0), State: []byte("s")}}
			got, err := a.Chunk(ctx, head, place(0), chunkStamp, []schema.Change{insert(item, "1", "a", "1"), insert(item, "2", "b", "2"), remove(item, "3")}, save)
			if err != nil || got != (Taken{Inserted: 1, Updated: 1, Deleted: 1}) {
				t.Fatal(got, err)
			}
			if diff := cmp.Diff("[[1 a 1] [2 b 2]]", fmt.Sprint(texts(m.Rows(item.TableName)))); diff != "" {
				t.Error(diff)
			}
			if _, err := a.Chunk(ctx, head, place(1), chunkStamp, nil, nil); !errors.Is(err, ErrElsewhere) {
				t.Errorf("elsewhere: %v", err)
			}
			if err := a.SaveJoins(ctx, []Join{{Table: "item", State: []byte("t")}}); err != nil {
				t.Fatal(err)
			}
			joins, err := a.Joins(ctx)
			if diff := cmp.Diff([]Join{{Table: "item", State: []byte("t")}}, joins); err != nil || diff != "" {
				t.Error(diff, err)
			}
			for absent, want := range map[bool]int{false: 1, true: 2} {
				n, err := a.Claim(ctx, item.TableName, []schema.Row{row("1", gone, gone), row("8", gone, gone), row("9", gone, gone)}, absent, false)
				if err != nil || n != want {
					t.Errorf("claimed %d, %v; want %d", n, err, want)
				}
			}
			if err := a.DropJoins(ctx, []string{"item"}); err != nil {
				t.Fatal(err)
			}
			own := schema.TableName{Schema: schema.OwnSchema}
			for table, want := range map[string]int{schema.JoinsTable: 0, schema.ClaimsTable: 0, schema.ProgressTable: 1} {
				if own.Name = table; len(m.Rows(own)) != want {
					t.Errorf("table %s has %v", table, m.Rows(own))
				}
			}
		})
	}
}

// texts are rows' values.
func texts(rows []schema.Row) (all [][]string) {
	for _, r := range rows {
		var line []string
		for _, v := range r {
			line = append(line, v.Text())
		}
		all = append(all, line)
	}
	return all
}

// The connection is lost around the COMMIT of a chunk: it is written once more, which changes nothing where it was written.
func TestConnectionLostAtCommitOfChunk(t *testing.T) {
	for name, what := range map[string]fate{"before": lost, "after": answered} {
		t.Run(name, func(t *testing.T) {
			each(t, schema.Branch, func(w *world) {
				w.createItem()
				p := newWire(w)
				w.at(0) // connects
				var broken atomic.Bool
				cut := func(said []byte) fate {
					if bytes.Contains(said, []byte("COMMIT")) && broken.CompareAndSwap(false, true) {
						return what
					}
					return passes
				}
				p.cut.Store(&cut)
				changes := []schema.Change{insert(item, "1", "a", "1"), insert(item, "2", "b", "2")}
				save := []Join{{Table: "item", At: place(0), State: []byte{}}}
				if _, err := w.applier.Chunk(w.Context(), head, place(0), chunkStamp, changes, save); err == nil || errors.Is(err, ErrElsewhere) {
					w.Fatalf("got %v", err)
				}
				w.settled()
				taken, err := w.applier.Chunk(w.Context(), head, place(0), chunkStamp, changes, save)
				if err != nil {
					w.Fatal(err)
				}
				w.wantTaken(taken, map[string]Taken{"before": {Inserted: 2}, "after": {Same: 2}}[name])
				w.want(items, "1 a 1\n2 b 2")
				w.at(0)
			})
		})
	}
}

// Whatever stands here and whatever the chunk: what it speaks of is as it says, but for the rows that are held, and nothing
// else has changed. Held rows become known before the chunk, or with the mark behind its rows.
func TestAnyChunk(t *testing.T) {
	for _, w := range []*world{postgresWorld(t, schema.Branch), mysqlWorld(t, schema.Branch)} {
		t.Run(string(w.engine), func(t *testing.T) {
			w.createItem()
			u := &underway{}
			w.applier.options.Hold = u
			w.applier.options.Passed = func(context.Context, uint64) error {
				u.known = u.committed
				return nil
			}
			rapid.Check(t, func(t *rapid.T) {
				want := model{}
				w.exec("DELETE FROM item")
				values := func() [2]string {
					return [2]string{rapid.SampledFrom([]string{"a", "it's", ""}).Draw(t, "name"), strconv.Itoa(rapid.IntRange(0, 3).Draw(t, "stock"))}
				}
				for _, id := range rapid.SliceOfDistinct(rapid.IntRange(1, 40), rapid.ID[int]).Draw(t, "here") {
					want[id] = values()
					w.exec(fmt.Sprintf("INSERT INTO item VALUES (%d, %s, %s)", id, "'"+map[bool]string{true: "it''s", false: want[id][0]}[want[id][0] == "it's"]+"'", want[id][1]))
				}
				u.known, u.committed = holding{}, holding{}
				var changes []schema.Change
				held := 0
				for _, id := range rapid.SliceOfDistinct(rapid.IntRange(1, 40), rapid.ID[int]).Draw(t, "chunk") {
					key, v := strconv.Itoa(id), values()
					c := insert(item, key, v[0], v[1])
					if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
						c = remove(item, key)
					}
					changes = append(changes, c)
					if fate := rapid.IntRange(0, 9).Draw(t, "held"); fate < 2 {
						held++
						u.committed[item.RowID(c.KeyRow())] = true
						u.known[item.RowID(c.KeyRow())] = fate == 0
						continue
					}
					if want[id] = v; c.Op == schema.Delete {
						delete(want, id)
					}
				}
				maybe := rapid.Bool().Draw(t, "met")
				w.applier.stream(head).work.met = maybe
				taken := w.chunk(0, changes...)
				if got := w.rows(items); got != want.String() {
					t.Fatalf("the table has\n%s\nwant\n%s", got, want)
				}
				sum := taken.Inserted + taken.Updated + taken.Deleted + taken.Same + taken.Missing + taken.Held
				if taken.Held != held || sum != len(changes) {
					t.Fatalf("%+v of %d changes, %d of them held", taken, len(changes), held)
				}
			})
		})
	}
}
