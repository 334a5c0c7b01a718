package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// hanging are sessions whose commits are in the log, and hang there for a synchronous standby that does not exist: nobody sees
// what they wrote until they are released.
type hanging struct {
	head  *fleet.Office
	conns []*pgx.Conn
	wg    sync.WaitGroup
	errs  chan error
}

// hang begins such a session for each statement, and returns when all of them hang.
func hang(t *testing.T, head *fleet.Office, statements ...string) *hanging {
	t.Helper()
	h := &hanging{head: head, errs: make(chan error, len(statements))}
	for _, statement := range statements {
		conn, err := pgx.Connect(within(t, stuck), head.URL)
		must(t, err)
		h.conns = append(h.conns, conn)
		_, err = conn.Exec(within(t, stuck), "SET synchronous_commit = on")
		must(t, err)
		h.wg.Go(func() {
			if _, err := conn.Exec(within(t, stuck), statement); err != nil {
				h.errs <- fmt.Errorf("%s: %w", statement, err)
			}
		})
	}
	must(t, fleet.Until(within(t, stuck), "the commits hang", func(ctx context.Context) error {
		n, err := waiting(ctx, head)
		if err == nil && n < len(statements) {
			err = fmt.Errorf("%d of %d hang", n, len(statements))
		}
		return err
	}))
	return h
}

// waiting is how many commits hang.
func waiting(ctx context.Context, head *fleet.Office) (n int, err error) {
	db, err := head.DB()
	if err != nil {
		return 0, err
	}
	return n, db.QueryRowContext(ctx, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()").Scan(&n)
}

// standby lets the head's server wait for a standby of that name; empty: for none.
func standby(t *testing.T, head *fleet.Office, name string) {
	t.Helper()
	must(t, head.Exec(within(t, stuck), "ALTER SYSTEM SET synchronous_standby_names = '"+name+"'", "SELECT pg_reload_conf()"))
}

// release lets the sessions go on.
func (h *hanging) release(t *testing.T) {
	t.Helper()
	standby(t, h.head, "")
	h.wg.Wait()
	close(h.errs)
	for err := range h.errs {
		t.Error(err)
	}
	for _, conn := range h.conns {
		must(t, conn.Close(within(t, stuck)))
	}
}

// The head has a slow synchronous standby: commits are in its log, and at the branches, long before the head's own sessions see
// them. A reader of its tables that took the log's word for what is visible would miss them.
func TestAJoinBehindASlowStandby(t *testing.T) {
	wholeOnly(t)
	set := shared.Set(t)
	own := servers.ForTest(t, servers.Spec{Postgres: 1, PostgresSettings: []string{"fsync=off"}})
	bin := binary(t, "CDC_RACE_BINARY")
	const rows = 4000
	f := companyOf(t, fleet.Options{
		Broker: set.RabbitMQ[0], Binary: bin,
		Offices: []fleet.Spec{
			{Name: "hq", Role: schema.Head, Database: own.Postgres[0]},
			{Name: "north", Role: schema.Branch, Database: set.Postgres[1], Extra: "join: {rows: 2000}\n"}, // for several rounds
			{Name: "south", Role: schema.Branch, Database: set.MariaDB[0], Extra: "join: {rows: 2000, extra: delete}\n"},
		},
		Schema: func(ctx context.Context, o *fleet.Office) error {
			if o.Name == "north" {
				return nil
			}
			if err := createWares(ctx, o); err != nil {
				return err
			}
			return fillWares(ctx, o, rows) // south has all: what it would miss is a change, a deletion, and a new row
		},
	})
	hq := f.Head()
	// Who works here does not wait, but for the sessions that want to.
	must(t, hq.Exec(within(t, stuck), "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = local', current_database()); END $$"))
	must(t, hq.Start())
	captures(t, hq)
	for round := range sized(3, 9) {
		standby(t, hq, "nobody")
		h := hang(t, hq,
			fmt.Sprintf("UPDATE names SET seen = seen + 7 WHERE name LIKE '%%%d'", round),
			fmt.Sprintf("DELETE FROM readings WHERE id %% 50 = %d", round),
			fmt.Sprintf("INSERT INTO prices SELECT concat('late ', n), '2026-11-21', n FROM generate_series(%d, %d) n", 1+round*1000, 300+round*1000),
			fmt.Sprintf("UPDATE documents SET body = repeat('late ', 800) WHERE id %% 10 = %d", round),
			fmt.Sprintf("UPDATE tokens SET holder = 'late' WHERE id = '%s'", token(round+1)))
		if round == 0 {
			for _, o := range f.Offices[1:] {
				must(t, o.Start())
			}
		}
		// The log is read on meanwhile, and everything that hangs is sent to the branches.
		must(t, hq.Exec(within(t, stuck), fmt.Sprintf("SET synchronous_commit = local; INSERT INTO order_lines VALUES (%d, 9, 'meanwhile', 1, NULL)", round)))
		must(t, fleet.Until(within(t, stuck), "the head sends what hangs", func(ctx context.Context) error {
			s, err := hq.Status(ctx)
			if want := uint64(6 * (round + 1)); err == nil && s.Journal.Published < want {
				err = fmt.Errorf("%d transactions are sent, want %d", s.Journal.Published, want)
			}
			return err
		}))
		pause(t.Context(), time.Second) // for the joins, to read what they can
		if n, err := waiting(within(t, stuck), hq); err != nil || n != 5 {
			t.Errorf("%d commits hang (%v), want 5", n, err)
		}
		h.release(t)
	}
	must(t, f.Met(within(t, stuck)))
	_, err := sameWares(within(t, stuck), f)
	must(t, err)
	verifies(t, bin, f.Offices[1:]...)
}
