package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// stuck is when a test gives up on something that should long have happened.
const stuck = 60 * time.Second

// postgresOffice is a database of its own, with an office set up in it.
type postgresOffice struct {
	PostgresConfig
	t     *testing.T
	conn  *pgx.Conn
	start string
	epoch uint64
}

func newPostgresOffice(t *testing.T, ddl ...string) *postgresOffice {
	t.Helper()
	return onPostgres(t, postgresServers.Set(t).Postgres[0], ddl...)
}

func onPostgres(t *testing.T, server *servers.Postgres, ddl ...string) *postgresOffice {
	t.Helper()
	o := &postgresOffice{t: t, epoch: 1, PostgresConfig: PostgresConfig{
		DSN: dsn(t, servers.NewDatabase(t, server)), Office: schema.Office("o-" + unique()), Role: schema.Head, Log: slog.New(slog.DiscardHandler),
	}}
	o.conn = connectPostgres(t, o.DSN.URL())
	o.exec(ddl...)
	return o
}

func connectPostgres(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func dsn(t *testing.T, url string) schema.DSN {
	t.Helper()
	d, err := schema.ParseDSN(url)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (o *postgresOffice) exec(statements ...string) {
	o.t.Helper()
	for _, s := range statements {
		// The simple protocol takes several statements at once, as scenarios have them.
		if _, err := o.conn.PgConn().Exec(context.WithoutCancel(o.t.Context()), s).ReadAll(); err != nil {
			o.t.Fatalf("%s: %v", s, err)
		}
	}
}

func (o *postgresOffice) scan(sql string, into ...any) {
	o.t.Helper()
	if err := o.conn.QueryRow(o.t.Context(), sql).Scan(into...); err != nil {
		o.t.Fatalf("%s: %v", sql, err)
	}
}

// open prepares as often as it is called, and opens at the first place or where the journal stopped.
func (o *postgresOffice) open() *Postgres {
	o.t.Helper()
	start, err := o.Prepare(o.t.Context(), o.epoch, o.start)
	if err != nil {
		o.t.Fatal(err)
	}
	o.start = start
	p, err := OpenPostgres(o.t.Context(), o.PostgresConfig, start)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

// read returns transactions that are not silent, until n of them are complete.
func (o *postgresOffice) read(p *Postgres, n int) []schema.Transaction {
	o.t.Helper()
	var got []schema.Transaction
	ctx, cancel := context.WithTimeout(o.t.Context(), stuck)
	defer cancel()
	for whole := 0; whole < n; {
		txs, err := p.Read(ctx)
		if err != nil {
			o.t.Fatalf("after %d transactions: %v", len(got), err)
		}
		for _, tx := range txs {
			if !tx.Silent() {
				got = append(got, tx)
				if tx.Last {
					whole++
				}
			}
		}
	}
	return got
}

// until polls a condition that no signal tells.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(stuck); !done(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s: %s", stuck, what)
		}
	}
}

// capture runs the corridor into the sink until the test's end or the returned function ends it.
func (o *postgresOffice) capture(p *Postgres, sink schema.Sink) (end func() error) {
	ctx, cancel := context.WithCancel(o.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, p, sink, nil) }()
	var err error
	var once sync.Once
	end = func() error {
		once.Do(func() { cancel(); err = <-ended })
		return err
	}
	o.t.Cleanup(func() { _ = end() })
	return end
}

// journal is a sink that remembers.
type journal struct {
	mu     sync.Mutex
	ids    []string // first column of every row
	source string
}

func (j *journal) append(_ context.Context, txs []schema.Transaction) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range txs {
		for _, c := range txs[i].Changes {
			j.ids = append(j.ids, c.After[0].Text())
		}
		if txs[i].Source != "" {
			j.source = txs[i].Source
		}
	}
	return nil
}

func (j *journal) state() (ids []string, source string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.ids), j.source
}

func wantBroken(t *testing.T, err error, words string) {
	t.Helper()
	var broken *schema.BrokenError
	if !errors.As(err, new(*schema.LostError)) && (!errors.As(err, &broken) || broken.Remedy == "") || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v; want a LostError, or a BrokenError with a remedy, with %q", err, words)
	}
}

func wantRefused(t *testing.T, err error, words ...string) {
	t.Helper()
	var refused *schema.RefusedError
	if !errors.As(err, &refused) {
		t.Errorf("got %v; want a RefusedError", err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not name %q", err, w)
		}
	}
}

func TestPostgresImages(t *testing.T) {
	o := newPostgresOffice(t,
		`CREATE TABLE plain (id int PRIMARY KEY, a text, body text); ALTER TABLE plain ALTER body SET STORAGE EXTERNAL`,
		`CREATE TABLE whole (id int PRIMARY KEY, a text, body text); ALTER TABLE whole ALTER body SET STORAGE EXTERNAL; ALTER TABLE whole REPLICA IDENTITY FULL`)
	p := o.open()
	for _, table := range []string{"plain", "whole"} {
		o.exec(`INSERT INTO `+table+` VALUES (1, 'x', repeat('0123456789', 1000))`,
			`UPDATE `+table+` SET a = NULL`, `UPDATE `+table+` SET id = 2`, `DELETE FROM `+table)
	}
	body := schema.Of(strings.Repeat("0123456789", 1000))
	one, two, x, none, same := schema.Of("1"), schema.Of("2"), schema.Of("x"), schema.NullValue(), schema.Value{}
	want := [][2]schema.Row{
		{nil, {one, x, body}},
		{nil, {one, none, same}},
		{{one, same, same}, {two, none, same}},
		{{two, same, same}, nil},
		{nil, {one, x, body}},
		{{one, x, body}, {one, none, same}},
		{{one, none, body}, {two, none, same}},
		{{two, none, body}, nil},
	}
	for i, tx := range o.read(p, len(want)) {
		c := tx.Changes[0]
		if diff := cmp.Diff(want[i], [2]schema.Row{c.Before, c.After}, cmp.Comparer(func(a, b schema.Value) bool { return a == b })); diff != "" {
			t.Errorf("change %d (-want +got):\n%s", i, diff)
		}
		if tx.Commit.IsZero() || time.Since(tx.Commit).Abs() > time.Hour || tx.Origin != o.Office {
			t.Errorf("change %d: origin %q, committed %s", i, tx.Origin, tx.Commit)
		}
	}
}

// Whatever was durable is not read again, whatever was not is, and nothing in between.
func TestPostgresReadsOnWhereTheJournalStopped(t *testing.T) {
	o := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	p := o.open()
	for i := range 20 {
		o.exec(`INSERT INTO t VALUES (` + strconv.Itoa(i) + `)`)
	}
	all := o.read(p, 20)
	for _, stop := range []int{0, 7, 19} {
		p.Confirm(all[stop].Source)
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		o.start = all[stop].Source
		p = o.open()
		if stop == 19 {
			o.exec(`INSERT INTO t VALUES (20)`)
		}
		next := o.read(p, 1)[0]
		if got, want := next.Changes[0].After[0].Text(), strconv.Itoa(stop+1); got != want {
			t.Errorf("confirmed %d, read on at %s", stop, got)
		}
	}
}

// Connections that break at any moment lose and double nothing.
func TestPostgresSurvivesBrokenConnections(t *testing.T) {
	o := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	const breaks, rows = 5, 20
	var j journal
	for n := range breaks {
		end := o.capture(o.open(), j.append)
		for i := range rows {
			o.exec(`INSERT INTO t VALUES (` + strconv.Itoa(n*rows+i) + `)`)
			if i == rows/2 {
				o.exec(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '` + o.slot() + `'`)
			}
		}
		var err error
		until(t, "the slot to be free", func() (free bool) {
			o.scan(`SELECT active_pid IS NULL FROM pg_replication_slots WHERE slot_name = '`+o.slot()+`'`, &free)
			return free
		})
		if err = end(); errors.As(err, new(*schema.BrokenError)) || errors.As(err, new(*schema.RefusedError)) {
			t.Fatalf("a broken connection is worth a retry, got %v", err)
		}
		if _, source := j.state(); source != "" {
			o.start = source
		}
	}
	o.capture(o.open(), j.append)
	until(t, "the last row", func() bool { ids, _ := j.state(); return len(ids) >= breaks*rows })
	ids, _ := j.state()
	for i, id := range ids {
		if id != strconv.Itoa(i) {
			t.Fatalf("change %d is of row %s", i, id)
		}
	}
}

func TestPostgresIdentity(t *testing.T) {
	o := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	if _, err := o.Prepare(t.Context(), 1, "0/16B3748@1/1"); err == nil {
		t.Error("a journal that the database does not know was taken")
	} else {
		wantBroken(t, err, "does not know the journal")
	}
	first, err := o.Prepare(t.Context(), 1, "")
	if err != nil {
		t.Fatal(err)
	}
	o.exec(`INSERT INTO t VALUES (1)`)
	second, err := o.Prepare(t.Context(), 1, "") // the set-up before was aborted: nothing durable yet
	if err != nil {
		t.Fatal(err)
	}
	a, _ := parsePostgresPosition(first)
	b, _ := parsePostgresPosition(second)
	if a.lsn >= b.lsn || a.system != b.system {
		t.Errorf("set up at %s, then at %s", first, second)
	}
	if again, err := o.Prepare(t.Context(), 1, second); err != nil || again != second {
		t.Errorf("a journal that goes on: %s, %v", again, err)
	}
	for name, test := range map[string]struct{ epoch, at, words string }{
		"earlier life":     {"2", second, "journal of an earlier life"},
		"lost journal":     {"2", "", "was lost or belongs to another database"},
		"another cluster":  {"1", b.lsn.String() + "@1/1", "belongs to the database cluster 1"},
		"restored":         {"1", "FFFF/0@" + b.system + "/1", "restored to an earlier state"},
		"no place":         {"1", "mysql-bin.000001", "is none of Postgres'"},
		"foreign timeline": {"1", b.lsn.String() + "@" + b.system + "/7", "history"},
	} {
		t.Run(name, func(t *testing.T) {
			epoch, _ := strconv.ParseUint(test.epoch, 10, 64)
			_, err := o.Prepare(t.Context(), epoch, test.at)
			if name == "foreign timeline" { // timeline 1 has no history file: any error but silence
				if err == nil {
					t.Error("a timeline that the server never had was taken")
				}
				return
			}
			wantBroken(t, err, test.words)
		})
	}
}

// What somebody else does to the slot is an error, never a silent start from now.
func TestPostgresSlotMeddledWith(t *testing.T) {
	for name, test := range map[string]struct{ sql, words string }{
		"dropped":   {`SELECT pg_drop_replication_slot('%[1]s')`, "is gone"},
		"advanced":  {`SELECT pg_replication_slot_advance('%[1]s', pg_current_wal_lsn())`, "moved on or recreated"},
		"recreated": {`SELECT pg_drop_replication_slot('%[1]s'); SELECT pg_create_logical_replication_slot('%[1]s', 'pgoutput')`, "moved on or recreated"},
		"another plugin": {
			`SELECT pg_drop_replication_slot('%[1]s'); SELECT pg_create_physical_replication_slot('%[1]s')`, "not ours",
		},
		"publication dropped": {`DROP PUBLICATION "%[1]s"`, "publication"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`)
			if err := o.open().Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			o.exec(`INSERT INTO t VALUES (1)`, fmt.Sprintf(test.sql, o.slot()))
			_, err := o.Prepare(t.Context(), o.epoch, o.start)
			wantBroken(t, err, test.words)
			p, err := OpenPostgres(t.Context(), o.PostgresConfig, o.start)
			wantBroken(t, err, test.words)
			if p != nil {
				t.Error("opened all the same")
			}
			if err := o.Teardown(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPostgresSlotInvalidated(t *testing.T) {
	set := servers.ForTest(t, servers.Spec{Postgres: 1, PostgresSettings: []string{
		"fsync=off", "max_slot_wal_keep_size=1MB", "min_wal_size=32MB", "max_wal_size=32MB",
	}})
	o := onPostgres(t, set.Postgres[0], `CREATE TABLE t (id int PRIMARY KEY, a text)`)
	if err := o.open().Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the slot to be lost", func() (lost bool) {
		o.exec(`INSERT INTO t SELECT coalesce(max(id), 0) + 1, repeat('x', 1000) FROM t`, `SELECT pg_switch_wal()`, `CHECKPOINT`)
		o.scan(`SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = '`+o.slot()+`'`, &lost)
		return lost
	})
	_, err := o.Prepare(t.Context(), o.epoch, o.start)
	wantBroken(t, err, "was invalidated")
	found := false
	for _, f := range CheckPostgres(t.Context(), o.PostgresConfig) {
		found = found || f.Check == "db.slot" && f.Severity == schema.Failure && strings.Contains(f.Message, "invalidated")
	}
	if !found {
		t.Error("doctor does not say that the slot was invalidated")
	}
}

// One slot has one reader, one office one sidecar.
func TestPostgresHeld(t *testing.T) {
	o := newPostgresOffice(t)
	p := o.open()
	var pid int32
	o.scan(`SELECT active_pid FROM pg_replication_slots WHERE slot_name = '`+o.slot()+`'`, &pid)
	_, err := OpenPostgres(t.Context(), o.PostgresConfig, o.start)
	if !errors.Is(err, schema.ErrHeld) || !strings.Contains(err.Error(), strconv.Itoa(int(pid))) {
		t.Errorf("got %v, want ErrHeld with process %d", err, pid)
	}
	if _, err = o.Prepare(t.Context(), o.epoch, ""); !errors.Is(err, schema.ErrHeld) {
		t.Errorf("a set-up took the slot from its reader: %v", err)
	}
	if err := o.Teardown(t.Context()); !errors.Is(err, schema.ErrHeld) {
		t.Errorf("a teardown took the slot from its reader: %v", err)
	}
	_ = p.Close(t.Context())

	release, _, err := o.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.Hold(t.Context()); !errors.Is(err, schema.ErrHeld) || !strings.Contains(err.Error(), "server process") {
		t.Errorf("got %v, want ErrHeld with the holder", err)
	}
	release()
	release, lost, err := o.Hold(t.Context())
	for until := time.Now().Add(stuck); errors.Is(err, schema.ErrHeld) && time.Now().Before(until); { // the server has yet to notice
		release, lost, err = o.Hold(t.Context())
	}
	if err != nil {
		t.Fatalf("the lock was not released: %v", err)
	}
	defer release()
	o.exec(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	select {
	case <-lost:
	case <-time.After(stuck):
		t.Error("the lock's connection broke, and nobody was told")
	}
}

// A captured database that nobody writes to lets go of the log that others write.
func TestPostgresIdleDatabaseKeepsNoLog(t *testing.T) {
	server := postgresServers.Set(t).Postgres[0]
	o := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	other := connectPostgres(t, servers.NewDatabase(t, server))
	var j journal
	o.capture(o.open(), j.append)
	var written string
	for _, sql := range []string{`CREATE TABLE noise AS SELECT generate_series(1, 10000)`, `DELETE FROM noise`} {
		if _, err := other.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	o.scan(`SELECT pg_current_wal_lsn()::text`, &written)
	until(t, "the slot to pass "+written, func() (passed bool) {
		o.scan(`SELECT confirmed_flush_lsn >= '`+written+`'::pg_lsn FROM pg_replication_slots WHERE slot_name = '`+o.slot()+`'`, &passed)
		return passed
	})
	if ids, _ := j.state(); len(ids) != 0 {
		t.Errorf("captured %v of a database that is not ours", ids)
	}
}

// What a sink did not take is read again.
func TestPostgresConfirmsOnlyWhatIsDurable(t *testing.T) {
	o := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	p := o.open()
	o.exec(`INSERT INTO t VALUES (1)`, `INSERT INTO t VALUES (2)`)
	full := errors.New("disk full")
	ctx, cancel := context.WithTimeout(t.Context(), stuck)
	defer cancel()
	err := Run(ctx, p, func(_ context.Context, txs []schema.Transaction) error {
		if txs[0].Silent() {
			return nil
		}
		return full
	}, nil)
	if !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
	_ = p.Close(t.Context())
	if got := o.read(o.open(), 1)[0].Changes[0].After[0].Text(); got != "1" {
		t.Errorf("row 1 was let go: read on at row %s", got)
	}
}

// The server's own shutdown waits for nobody but the journal.
func TestPostgresStopsFast(t *testing.T) {
	set := servers.ForTest(t, servers.Spec{Postgres: 1, PostgresSettings: []string{"fsync=off"}})
	server := set.Postgres[0]
	o := onPostgres(t, server, `CREATE TABLE t (id int PRIMARY KEY, a text)`)
	var j journal
	end := o.capture(o.open(), j.append)
	o.exec(`INSERT INTO t VALUES (-1)`)
	until(t, "the first row", func() bool { ids, _ := j.state(); return len(ids) > 0 })
	o.exec(`INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i`)
	begun := time.Now()
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > stuck/2 {
		t.Errorf("the server needed %s to stop", took)
	}
	if err := end(); errors.As(err, new(*schema.BrokenError)) {
		t.Errorf("a server that stops is no broken log: %v", err)
	}
	if ids, _ := j.state(); len(ids) != 20001 {
		t.Errorf("%d rows were captured before the end", len(ids))
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, o.start = j.state()
	o.conn = connectPostgres(t, o.DSN.URL())
	p := o.open()
	o.exec(`INSERT INTO t VALUES (0)`)
	if got := o.read(p, 1)[0].Changes[0].After[0].Text(); got != "0" {
		t.Errorf("read on at row %s", got)
	}
}

// A transaction of any size comes in parts of one size.
func TestPostgresLargeTransaction(t *testing.T) {
	rows := 100_000
	if os.Getenv("CDC_FULL") == "1" {
		rows = 1_000_000
	}
	o := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY, a text)`)
	p := o.open()
	o.exec(fmt.Sprintf(`INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, %d) i`, rows))
	var n, part int
	var most uint64
	collect(t, p, func(tx *schema.Transaction) bool {
		if tx.Part != part || tx.Bytes() > partBytes+64 || tx.Last != (tx.Source != "") {
			t.Errorf("part %d came as part %d with %d bytes, last %v, source %q", part, tx.Part, tx.Bytes(), tx.Last, tx.Source)
		}
		n, part = n+len(tx.Changes), part+1
		if part%8 == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
		return tx.Last
	})
	if n != rows {
		t.Errorf("%d rows in %d parts", n, part)
	}
	const enough = 64 << 20 // the queue and the garbage between two collections; all rows are 30 MB of values and more
	if most > enough {
		t.Errorf("the heap grew to %d MiB", most>>20)
	}
}

// Tables that cannot be captured are left alone: publishing them would break the application.
func TestPostgresTablesWithoutAKey(t *testing.T) {
	o := newPostgresOffice(t,
		`CREATE TABLE good (id int PRIMARY KEY)`,
		`CREATE TABLE keyless (a int); INSERT INTO keyless VALUES (1)`,
		`CREATE TABLE no_identity (id int PRIMARY KEY); ALTER TABLE no_identity REPLICA IDENTITY NOTHING; INSERT INTO no_identity VALUES (1)`,
		`CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE); INSERT INTO deferred VALUES (1)`,
		`CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY)`,
		`CREATE TABLE private (id int PRIMARY KEY)`,
		`CREATE TABLE full_with_unique (id int NOT NULL UNIQUE); ALTER TABLE full_with_unique REPLICA IDENTITY FULL`)
	o.Send = func(n schema.TableName) bool { return n.Name != "private" }
	p := o.open()
	o.exec(`UPDATE keyless SET a = 2`, `UPDATE no_identity SET id = 2`, `UPDATE deferred SET id = 2`, `DELETE FROM keyless`,
		`INSERT INTO private VALUES (1)`, `INSERT INTO unlogged VALUES (1)`, `INSERT INTO full_with_unique VALUES (1)`, `INSERT INTO good VALUES (1)`)
	var names []string
	for _, tx := range o.read(p, 2) {
		names = append(names, tx.Changes[0].Table.Name)
	}
	if diff := cmp.Diff([]string{"full_with_unique", "good"}, names); diff != "" {
		t.Errorf("captured (-want +got):\n%s", diff)
	}
	found := map[string]string{}
	for _, f := range CheckPostgres(t.Context(), o.PostgresConfig) {
		if strings.HasPrefix(f.Check, "table.") {
			found[f.Message] = f.Fix
		}
	}
	want := map[string]string{
		`table "public"."keyless" is not captured: it has no primary key`:                                    `ALTER TABLE "public"."keyless" ADD PRIMARY KEY (…)`,
		`table "public"."no_identity" is not captured: its replica identity (nothing) does not have the key`: `ALTER TABLE "public"."no_identity" REPLICA IDENTITY FULL`,
		`table "public"."deferred" is not captured: its replica identity (default) does not have the key`:    `ALTER TABLE "public"."deferred" REPLICA IDENTITY FULL`,
		`table "public"."unlogged" is not captured: it is unlogged`:                                          `ALTER TABLE "public"."unlogged" SET LOGGED`,
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

// The publication follows the tables, and nobody else may take one out of it unnoticed.
func TestPostgresPublicationIsInspected(t *testing.T) {
	o := newPostgresOffice(t, `CREATE TABLE a (id int PRIMARY KEY)`, `CREATE TABLE b (id int PRIMARY KEY)`)
	p := o.open()
	o.exec(`CREATE TABLE c (id int PRIMARY KEY)`, `DROP TABLE b`, `ALTER TABLE a DROP CONSTRAINT a_pkey`)
	if err := p.setup.inspect(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.exec(`INSERT INTO c VALUES (1)`, `UPDATE a SET id = 2`) // a has no key any more: it must not stay published
	if got := o.read(p, 1)[0].Changes[0].Table.Name; got != "c" {
		t.Errorf("captured a change of %s", got)
	}
	o.exec(`ALTER PUBLICATION "` + o.slot() + `" DROP TABLE c`)
	wantBroken(t, p.setup.inspect(t.Context()), `"public"."c"`)
	o.exec(`DROP PUBLICATION "` + o.slot() + `"`)
	wantBroken(t, p.setup.inspect(t.Context()), "publication")
}

// Changes of a table's definition in mid-stream: each row comes with the definition it was written under.
func TestPostgresTableChanges(t *testing.T) {
	o := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY, a varchar(5))`)
	p := o.open()
	o.exec(`INSERT INTO t VALUES (1, 'x')`, `ALTER TABLE t ALTER a TYPE numeric(12, 2) USING 1, ADD b text NOT NULL DEFAULT 'd'`,
		`INSERT INTO t VALUES (2, 2)`, `ALTER TABLE t RENAME TO u`, `INSERT INTO u VALUES (3, 3)`, `ALTER TABLE u DROP b`, `INSERT INTO u VALUES (4, 4)`)
	var got []string
	for _, tx := range o.read(p, 4) {
		c := tx.Changes[0]
		line := c.Table.Name
		for i, column := range c.Table.Columns {
			line += fmt.Sprintf(" %s %s=%s", column.Name, column.Native, c.After[i])
		}
		got = append(got, line+fmt.Sprint(" key ", c.Table.Key))
	}
	want := []string{
		`t id integer="1" a character varying(5)="x" key [0]`,
		`t id integer="2" a numeric(12,2)="2.00" b text="d" key [0]`,
		`u id integer="3" a numeric(12,2)="3.00" b text="d" key [0]`,
		`u id integer="4" a numeric(12,2)="4.00" key [0]`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// An apply of ours at the head goes on as its origin's, at a branch it only moves Seen.
func TestPostgresApplies(t *testing.T) {
	const apply = `INSERT INTO cdc_sidecar.progress VALUES ('%s', 'south', 5, 0); BEGIN;
		UPDATE cdc_sidecar.progress SET epoch = 5, seq = 41, stamp_millis = 9, committed = 7 WHERE origin = 'south'; INSERT INTO t VALUES (1);
		UPDATE cdc_sidecar.progress SET seq = 42 WHERE origin = 'south'; INSERT INTO t VALUES (2); COMMIT; INSERT INTO t VALUES (3)`
	for role, want := range map[schema.Role][]string{
		schema.Head:   {"south 5/41 seen 0/0: 1", "south 5/42 seen 0/0: 2", "own 0/0 seen 0/0: 3"},
		schema.Branch: {"own 0/0 seen 5/42: 3"},
	} {
		t.Run(string(role), func(t *testing.T) {
			o := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`)
			o.Role = role
			p := o.open()
			for _, s := range strings.Split(fmt.Sprintf(apply, o.Office), ";") {
				o.exec(s)
			}
			var got []string
			collect(t, p, func(tx *schema.Transaction) bool {
				origin := tx.Origin
				if origin == o.Office {
					origin = "own"
				}
				id := tx.Changes[0].After[0].Text()
				got = append(got, fmt.Sprintf("%s %s seen %s: %s", origin, tx.OriginPos, tx.Seen, id))
				return id == "3"
			})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
