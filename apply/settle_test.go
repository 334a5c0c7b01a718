package apply

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// settleLimit is when a test gives up.
const settleLimit = time.Minute

// logOf is a head's log as its clocks know it.
type logOf struct {
	Clocks
	last  uint64
	xids  []uint32
	whole bool
}

func (l *logOf) Epoch() uint64                           { return epoch }
func (l *logOf) Last() uint64                            { return l.last }
func (l *logOf) Logged(_, _ uint64) (_ []uint32, _ bool) { return l.xids, l.whole }

// standby is a Postgres whose commits wait for a standby that never answers, where a session says so.
type standby struct{ *world }

func newStandby(t *testing.T, set *servers.Set) *standby {
	w := newWorld(t, schema.Postgres, servers.NewDatabase(t, set.Postgres[0]), openPostgres)
	w.target = Postgres(w.dsn)
	w.exec(catalog.OwnPostgresTables...)
	s := &standby{world: w}
	s.createItem()
	s.await("ghost")
	return s
}

// await makes commits wait for a standby of that name; empty: for none.
func (s *standby) await(name string) {
	s.Helper()
	s.exec("ALTER SYSTEM SET synchronous_standby_names = '"+name+"'", "SELECT pg_reload_conf()")
	s.until("SELECT setting FROM pg_settings WHERE name = 'synchronous_standby_names'", func(got string) bool { return got == name })
}

// until asks again and again, as there is no signal for what happens in a server.
func (s *standby) until(query string, met func(string) bool) {
	s.Helper()
	limit := time.Now().Add(settleLimit)
	for got := s.rows(query); !met(got); got = s.rows(query) {
		if time.Now().After(limit) {
			s.Fatalf("%s: still %s", query, got)
		}
	}
}

// head is an Applier whose clocks know what log says.
func (s *standby) head(dsn schema.DSN, log *logOf) *Applier {
	a := New(Postgres(dsn), Options{Office: "hq", Role: schema.Head, Clocks: log})
	s.Cleanup(a.Close)
	return a
}

// slow begins a transaction with an item in a session of its own, and commits it as the statement says; the commit is in the log
// and waits for the standby when slow returns.
func (s *standby) slow(id int, commits ...string) (xid uint32, done <-chan error) {
	s.Helper()
	db := openPostgres(s, s.dsn)
	for _, statement := range []string{"SET synchronous_commit = on", "BEGIN", "INSERT INTO item VALUES (" + strconv.Itoa(id) + ", 'slow', 1)"} {
		if err := db.exec(s.Context(), statement); err != nil {
			s.Fatal(err)
		}
	}
	number, err := db.query(s.Context(), "SELECT txid_current() % 4294967296")
	if err != nil {
		s.Fatal(err)
	}
	n, err := strconv.ParseUint(number[0][0].String, 10, 32)
	if err != nil {
		s.Fatal(err)
	}
	before := s.rows(syncing)
	end := make(chan error, 1)
	go func() {
		var err error
		for _, c := range commits {
			if err == nil {
				err = db.exec(context.WithoutCancel(s.Context()), c)
			}
		}
		end <- err
		_ = db.close()
	}()
	s.until(syncing, func(got string) bool { return got > before })
	return uint32(n), end
}

const syncing = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"

// looks waits until the Applier has looked for the third time whether it may go on.
func (s *standby) looks() {
	s.Helper()
	const query = "SELECT coalesce(max(query_start)::text, '') FROM pg_stat_activity WHERE application_name = 'cdc-sidecar apply' AND datname = current_database() AND query LIKE 'SELECT pg_current_snapshot()%'"
	last := ""
	for range 3 {
		s.until(query, func(got string) bool { return got != last })
		last = s.rows(query)
	}
}

// settles starts Settle, and checks that it returns no sooner than the standby answers, and that the items are there to be read then.
func (s *standby) settles(a *Applier, want string, ends ...<-chan error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), settleLimit)
	defer cancel()
	settled := make(chan error, 1)
	go func() {
		_, err := a.Settle(ctx)
		settled <- err
	}()
	s.looks()
	select {
	case err := <-settled:
		s.Fatalf("settled with %v while a commit that is in the log cannot be seen", err)
	default:
	}
	s.await("")
	if err := <-settled; err != nil {
		s.Fatal(err)
	}
	_, rows, _, err := a.Stretch(ctx, item.TableName, nil, 100, plenty)
	if err != nil || ids(rows) != want {
		s.Fatalf("settled, and then %s are read, %v; want %s", ids(rows), err, want)
	}
	for _, end := range ends {
		if err := <-end; err != nil {
			s.Fatal(err)
		}
	}
}

func TestSettleBehindStandby(t *testing.T) {
	set := servers.ForTest(t, servers.Spec{Postgres: 1, PostgresSettings: []string{"synchronous_commit=local", "max_prepared_transactions=10"}})
	t.Run("waits", func(t *testing.T) { settleWaits(t, set) })
	t.Run("does not wait for what is open", func(t *testing.T) { settleDoesNotWaitForOpen(t, newStandby(t, set)) })
	t.Run("a plain user", func(t *testing.T) { settlePlainUser(t, newStandby(t, set)) })
}

// What is in the log before anybody sees it is waited for, be it the newest of all transactions or one of the middle, known by its
// number or (behind a restart) by what it does.
func settleWaits(t *testing.T, set *servers.Set) {
	for name, test := range map[string]struct {
		known, whole bool
		later        string // what another session does behind it
		commit       []string
	}{
		"the newest":             {known: true, whole: true},
		"an older":               {known: true, whole: true, later: "INSERT INTO item VALUES (9, 'later', 1)"},
		"the newest, unknown":    {},
		"an older, unknown":      {later: "INSERT INTO item VALUES (9, 'later', 1)"},
		"a prepared one":         {known: true, whole: true, commit: []string{"SET synchronous_commit = local", "PREPARE TRANSACTION 'two'", "SET synchronous_commit = on", "COMMIT PREPARED 'two'"}},
		"a prepared one, unseen": {commit: []string{"SET synchronous_commit = local", "PREPARE TRANSACTION 'two'", "SET synchronous_commit = on", "COMMIT PREPARED 'two'"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStandby(t, set)
			if test.commit == nil {
				test.commit = []string{"COMMIT"}
			}
			log := &logOf{last: 5, whole: test.whole}
			xid, end := s.slow(1, test.commit...)
			want := "1"
			if test.later != "" {
				s.exec(test.later)
				want = "1\n9"
			}
			if test.known {
				log.xids = []uint32{xid - 1, xid}
			}
			s.settles(s.head(s.dsn, log), want, end)
		})
	}
}

// A transaction that is merely open is not waited for.
func settleDoesNotWaitForOpen(t *testing.T, s *standby) {
	s.exec("BEGIN", "INSERT INTO item VALUES (1, 'open', 1)")
	for _, whole := range []bool{true, false} {
		ctx, cancel := context.WithTimeout(t.Context(), settleLimit)
		if last, err := s.head(s.dsn, &logOf{last: 5, whole: whole}).Settle(ctx); err != nil || last != 5 {
			t.Errorf("whole %t: %d, %v", whole, last, err)
		}
		cancel()
	}
	s.exec("ROLLBACK")
}

// A user that is not shown what others do waits for all that they have open.
func settlePlainUser(t *testing.T, s *standby) {
	s.exec("CREATE ROLE plain LOGIN PASSWORD 'p'", "GRANT SELECT ON item TO plain")
	a := s.head(s.as("plain", "p"), &logOf{last: 5})
	_, end := s.slow(1, "COMMIT")
	ctx, cancel := context.WithCancel(t.Context())
	settled := make(chan error, 1)
	go func() {
		_, err := a.Settle(ctx)
		settled <- err
	}()
	s.looks()
	cancel()
	if err := <-settled; err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("given up with %v", err)
	}
	s.settles(a, "1", end)
}

// Behind what has been settled once nothing is asked.
func TestSettleOnce(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		log := &logOf{last: 5, whole: true}
		a := New(w.target, Options{Office: w.office, Role: schema.Head, Clocks: log})
		w.Cleanup(a.Close)
		for range 2 {
			if last, err := a.Settle(w.Context()); err != nil || last != 5 {
				w.Fatal(last, err)
			}
		}
		marks := w.rows("SELECT mark FROM cdc_sidecar.barrier WHERE office = '" + string(w.office) + "'")
		if want := w.pick("", "1"); marks != want {
			w.Errorf("marks %q, want %q", marks, want)
		}
		canceled, cancel := context.WithCancel(w.Context())
		cancel()
		log.last, log.xids = 6, []uint32{1}
		if _, err := a.Settle(canceled); err == nil {
			w.Error("settled without the server")
		}
		if last, err := a.Settle(w.Context()); err != nil || last != 6 {
			w.Error(last, err)
		}
		if _, err := New(w.target, Options{Office: w.office}).Settle(w.Context()); err == nil {
			w.Error("settled without clocks")
		}
	})
}

func TestSnapshot(t *testing.T) {
	for _, c := range []struct {
		text         string
		seen, unseen []uint32
	}{
		{"700:705:", []uint32{3, 699, 704}, []uint32{705, 706, 800}},
		{"700:705:700,703", []uint32{699, 701, 704}, []uint32{700, 703, 705}},
		// the fourth round, and numbers of the third
		{"12884901880:12884901889:12884901883", []uint32{4_294_967_290, 4_294_967_295, 0, 2_200_000_000}, []uint32{4_294_967_291, 1, 2}},
		{"3:2000000000:", []uint32{1_999_999_999, 100, 4_000_000_000, 4_294_967_295}, []uint32{2_000_000_000, 2_000_000_001}},
	} {
		n, err := parseSnapshot(c.text)
		if err != nil {
			t.Fatal(err)
		}
		for _, xid := range c.seen {
			if !n.sees(xid) {
				t.Errorf("%s does not see %d", c.text, xid)
			}
		}
		for _, xid := range c.unseen {
			if n.sees(xid) {
				t.Errorf("%s sees %d", c.text, xid)
			}
		}
	}
	for _, text := range []string{"", "1:2", "1:x:", "1:2:3,y"} {
		if _, err := parseSnapshot(text); err == nil {
			t.Errorf("%q is a snapshot", text)
		}
	}
}

// In memory, too, a commit is in the log before it is seen.
func TestSettleInMemory(t *testing.T) {
	for _, engine := range []schema.Engine{schema.Postgres, schema.MariaDB} {
		table := define("item", integer("id"))
		m := NewMemory(MemoryOptions{Engine: engine, Tables: []catalog.Table{{Table: table}}, Now: time.Now})
		halt, at := make(chan struct{}), make(chan string, 100)
		writer := m.Target(func(_ context.Context, what string) error {
			if what == "committed" {
				at <- what
				<-halt
			}
			return nil
		})
		looks := make(chan string, 100)
		reader := m.Target(func(_ context.Context, what string) error {
			looks <- what
			return nil
		})
		written := make(chan error, 1)
		go func() {
			written <- New(writer, Options{Office: "hq"}).Begin(t.Context(), "north", schema.Position{Epoch: 1, Seq: 7})
		}()
		<-at
		settled := make(chan error, 1)
		a := New(reader, Options{Office: "hq", Clocks: &logOf{last: 1}})
		go func() {
			_, err := a.Settle(t.Context())
			settled <- err
		}()
		for <-looks != "settled" {
		}
		if got := m.Rows(schema.TableName{Schema: schema.OwnSchema, Name: schema.ProgressTable}); len(got) != 0 || len(settled) != 0 {
			t.Errorf("%s: %v seen, settled %d", engine, got, len(settled))
		}
		close(halt)
		if err := <-settled; err != nil {
			t.Fatal(err)
		}
		if got, err := a.Senders(t.Context()); err != nil || got["north"].Seq != 7 {
			t.Errorf("%s: settled, and %v is read, %v", engine, got, err)
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		a.Close()
	}
}
