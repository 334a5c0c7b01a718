package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// traveller is an office of either engine that loses its way.
type traveller struct {
	t       *testing.T
	name    schema.Office
	role    schema.Role
	epoch   uint64
	start   string
	prepare func(ctx context.Context, epoch uint64, at string) (string, error)
	lose    func(ctx context.Context, epoch uint64, lost *schema.LostError) error
	began   func(ctx context.Context) (string, error)
	open    func(ctx context.Context, start string) (Source, error)
	exec    func(statements ...string)
	scan    func(query string, into ...any)
}

func (o *postgresOffice) traveller(role schema.Role) *traveller {
	o.Role = role
	return &traveller{
		t: o.t, name: o.Office, role: role, epoch: 100, prepare: o.Prepare, lose: o.Lose, began: o.Began, exec: o.exec, scan: o.scan,
		open: func(ctx context.Context, start string) (Source, error) {
			return OpenPostgres(ctx, o.PostgresConfig, start)
		},
	}
}

func (o *mysqlOffice) traveller(t *testing.T, role schema.Role) *traveller {
	o.Role = role
	return &traveller{
		t: t, name: o.Office, role: role, epoch: 100, prepare: o.Prepare, lose: o.Lose, began: o.Began, exec: o.exec, scan: o.scan,
		open: func(ctx context.Context, start string) (Source, error) { return OpenMySQL(ctx, o.MySQLConfig, start) },
	}
}

// lives begins the journal, or goes on with it, and reads one row behind it.
func (w *traveller) lives(row int) {
	w.t.Helper()
	start, err := w.prepare(w.t.Context(), w.epoch, w.start)
	if err != nil {
		w.t.Fatal(err)
	}
	src, err := w.open(w.t.Context(), start)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = src.Close(context.Background()) }()
	w.exec(fmt.Sprintf("INSERT INTO t VALUES (%d)", row))
	tx := readOne(w.t, src)
	if got := tx.Changes[0].After[0].Text(); got != strconv.Itoa(row) {
		w.t.Fatalf("read row %s, want %d", got, row)
	}
	if w.start = tx.Source; w.start == "" {
		w.t.Fatal("a transaction without a place")
	}
	src.Confirm(w.start)
}

// finds is what a start with the journal of that epoch and place ends with.
func (w *traveller) finds(epoch uint64, at string) *schema.LostError {
	w.t.Helper()
	_, err := w.prepare(w.t.Context(), epoch, at)
	if err == nil { // some losses show when the log is read
		var src Source
		if src, err = w.open(w.t.Context(), at); err == nil {
			_, err = readToError(w.t, src)
			_ = src.Close(context.Background())
		}
	}
	var lost *schema.LostError
	if !errors.As(err, &lost) {
		w.t.Fatalf("got %v, want a LostError", err)
	}
	return lost
}

// orders are the rows that wait for a comparison.
func (w *traveller) orders() (n, pending int) {
	w.scan(fmt.Sprintf("SELECT count(*), coalesce(sum(pending), 0) FROM cdc_sidecar.joins WHERE office = '%s'", w.name), &n, &pending)
	return n, pending
}

// heals wants the loss to be of that kind, through all that may interrupt the way out of it, and then the next life to work.
func (w *traveller) heals(kind schema.Lost) {
	w.t.Helper()
	lost := w.finds(w.epoch, w.start)
	if lost.Kind != kind {
		w.t.Fatalf("lost: %v; want %v", lost, kind)
	}
	for range 2 {
		if err := w.lose(w.t.Context(), w.epoch, lost); err != nil {
			w.t.Fatal(err)
		}
	}
	if kind != schema.Stranger {
		for _, at := range []string{w.start, ""} { // the former journal, and one that is not younger
			again := w.finds(w.epoch, at)
			if again.Kind.Began() != kind.Began() || again.Known < w.epoch {
				w.t.Errorf("noted as %v, found again as %v (epoch %d)", kind, again, again.Known)
			}
			w.begins(kind)
		}
	}
	w.epoch, w.start = w.epoch+1, ""
	if lost.Known >= w.epoch {
		w.epoch = lost.Known + 1
	}
	if _, err := w.prepare(w.t.Context(), w.epoch, ""); err != nil { // and is killed before its journal has the place
		w.t.Fatal(err)
	}
	w.begins(kind)
	w.lives(1001)
	w.lives(1002)
	w.begins(kind)
	if n, pending := w.orders(); pending > 0 || (n == 1) != (w.role == schema.Branch && kind != schema.Stranger) {
		w.t.Errorf("%d orders, %d pending, at a %s", n, pending, w.role)
	}
	if w.role == schema.Branch && kind != schema.Stranger {
		var text string
		w.scan("SELECT state FROM cdc_sidecar.joins WHERE office = '"+string(w.name)+"' AND table_name = '*'", &text)
		var order schema.JoinOrder
		if err := json.Unmarshal([]byte(text), &order); err != nil || order.Phase != schema.PhaseClaim || order.Why != kind.String() {
			w.t.Errorf("the order is %s: %v", text, err)
		}
	}
}

func (w *traveller) begins(kind schema.Lost) {
	w.t.Helper()
	if began, err := w.began(w.t.Context()); err != nil || began != kind.Began() {
		w.t.Errorf("began as %q, %v; want %q", began, err, kind.Began())
	}
}

// otherJournals are losses that both engines show in the same way: what stands in the journal's row.
var otherJournals = []struct {
	name string
	do   func(w *traveller)
	kind schema.Lost
}{
	{"folder emptied", func(w *traveller) { w.epoch, w.start = 200, "" }, schema.LostJournal},
	{"folder emptied, clock set back", func(w *traveller) { w.epoch, w.start = 50, "" }, schema.LostJournal},
	{"older folder put back", func(w *traveller) {
		w.exec("UPDATE cdc_sidecar.journal SET epoch = 150 WHERE office = '" + string(w.name) + "'")
	}, schema.LostJournal},
	{"backup of an earlier life", func(w *traveller) {
		w.exec("UPDATE cdc_sidecar.journal SET epoch = 50 WHERE office = '" + string(w.name) + "'")
	}, schema.Restored},
}

// loses notes a loss and begins the next life.
func (w *traveller) loses(kind schema.Lost) {
	w.t.Helper()
	if err := w.lose(w.t.Context(), w.epoch, &schema.LostError{Kind: kind}); err != nil {
		w.t.Fatal(err)
	}
	w.epoch, w.start = w.epoch+1, ""
	w.lives(2000 + int(w.epoch))
}

// A head that was restored remains so while there is a branch that has not sent what it has, though it loses more.
func TestRestoredUntilAllHaveSent(t *testing.T) {
	for engine, w := range map[string]*traveller{
		"postgres": newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`).traveller(schema.Head),
		"mariadb":  newMariaDBOffice(t, "CREATE TABLE t (id int PRIMARY KEY)").traveller(t, schema.Head),
	} {
		t.Run(engine, func(t *testing.T) {
			w.t = t
			reports := func(epoch uint64) {
				w.exec("DELETE FROM cdc_sidecar.offices WHERE office = '"+string(w.name)+"'",
					fmt.Sprintf("INSERT INTO cdc_sidecar.offices (office, member, reported_epoch) VALUES ('%[1]s', 'north', %[2]d), ('%[1]s', 'south', %[3]d)", w.name, w.epoch, epoch))
			}
			w.lives(1)
			w.loses(schema.Restored)
			w.begins(schema.Restored)
			reports(w.epoch - 1)
			w.loses(schema.LostLog)
			w.begins(schema.Restored)
			reports(w.epoch)
			w.loses(schema.LostLog)
			w.begins(schema.LostLog)
		})
	}
}

// roleOf gives every second case to a branch.
func roleOf(i int) schema.Role { return []schema.Role{schema.Branch, schema.Head}[i%2] }

func TestPostgresLost(t *testing.T) {
	cases := []struct {
		name, sql string
		kind      schema.Lost
	}{
		{"slot dropped", `SELECT pg_drop_replication_slot('SLOT')`, schema.LostLog},
		{"slot recreated by hand", `SELECT pg_drop_replication_slot('SLOT'); INSERT INTO t VALUES (7); SELECT pg_create_logical_replication_slot('SLOT', 'pgoutput')`, schema.LostLog},
		{"slot moved on", `INSERT INTO t VALUES (7); SELECT pg_replication_slot_advance('SLOT', pg_current_wal_lsn())`, schema.LostLog},
		{"publication dropped", `DROP PUBLICATION "SLOT"`, schema.LostLog},
		{"schema dropped", `DROP SCHEMA cdc_sidecar CASCADE`, schema.Stranger},
		{"row gone", `DELETE FROM cdc_sidecar.journal`, schema.Stranger},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`)
			w := o.traveller(roleOf(i))
			w.lives(1)
			o.exec(strings.Split(strings.ReplaceAll(c.sql, "SLOT", o.slot()), "; ")...) // each is a transaction
			w.heals(c.kind)
		})
	}
	for i, c := range otherJournals {
		t.Run(c.name, func(t *testing.T) {
			w := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`).traveller(roleOf(i))
			w.lives(1)
			c.do(w)
			w.heals(c.kind)
		})
	}
}

func TestMySQLLost(t *testing.T) {
	for i, c := range otherJournals {
		t.Run(c.name, func(t *testing.T) {
			w := newMariaDBOffice(t, "CREATE TABLE t (id int PRIMARY KEY)").traveller(t, roleOf(i))
			w.lives(1)
			c.do(w)
			w.heals(c.kind)
		})
	}
	set := servers.ForTest(t, servers.Spec{MariaDB: 1}) // the binlog is the whole server's
	for i, c := range []struct {
		name string
		do   func(o *mysqlOffice)
		kind schema.Lost
	}{
		{"binlog purged", func(o *mysqlOffice) {
			o.exec("INSERT INTO t VALUES (2)", "FLUSH BINARY LOGS", "INSERT INTO t VALUES (3)", "FLUSH BINARY LOGS")
			o.purgeAll()
		}, schema.LostLog},
		{"binlog purged, head", func(o *mysqlOffice) {
			o.exec("INSERT INTO t VALUES (2)", "FLUSH BINARY LOGS")
			o.purgeAll()
		}, schema.LostLog},
		{"binlog reset", func(o *mysqlOffice) { o.exec("INSERT INTO t VALUES (2)", resetBinlog(), "INSERT INTO t VALUES (3)") }, schema.Restored},
		{"database dropped", func(o *mysqlOffice) { o.exec("DROP DATABASE cdc_sidecar") }, schema.Stranger},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := onMySQL(t, set.MariaDB[0], "CREATE TABLE t (id int PRIMARY KEY)")
			w := o.traveller(t, roleOf(i))
			w.lives(1)
			c.do(o)
			w.heals(c.kind)
		})
	}
}

// purgeAll leaves the newest file of the binlog.
func (o *mysqlOffice) purgeAll() {
	o.t.Helper()
	s, err := o.setup(o.t.Context())
	if err != nil {
		o.t.Fatal(err)
	}
	defer s.close()
	files, err := s.table(o.t.Context(), "SHOW BINARY LOGS")
	if err != nil {
		o.t.Fatal(err)
	}
	o.purge(s, files[len(files)-1][0])
}

// A binlog that is reset while it is read: the reader is told nothing, Belongs is. So with a schema that is dropped.
func TestBelongs(t *testing.T) {
	set := servers.ForTest(t, servers.Spec{MariaDB: 1})
	maria := onMySQL(t, set.MariaDB[0], "CREATE TABLE t (id int PRIMARY KEY)")
	postgres := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	for _, c := range []struct {
		w       *traveller
		belongs func(ctx context.Context, epoch uint64, at string) error
		do      string
		kind    schema.Lost
	}{
		{maria.traveller(t, schema.Branch), maria.Belongs, resetBinlog(), schema.Restored},
		{postgres.traveller(schema.Branch), postgres.Belongs, "DROP SCHEMA cdc_sidecar CASCADE", schema.Stranger},
	} {
		t.Run(c.kind.String(), func(t *testing.T) {
			c.w.t = t
			c.w.lives(1)
			src, err := c.w.open(t.Context(), c.w.start)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.belongs(t.Context(), c.w.epoch, c.w.start); err != nil {
				t.Fatalf("while all is well: %v", err)
			}
			c.w.exec(c.do)
			var lost *schema.LostError
			if err := c.belongs(t.Context(), c.w.epoch, c.w.start); !errors.As(err, &lost) || lost.Kind != c.kind {
				t.Errorf("got %v, want %v", err, c.kind)
			}
			_ = src.Close(t.Context())
			c.w.heals(c.kind)
		})
	}
}

// restorable is a server whose data folder can be put back.
type restorable interface {
	Stop(ctx context.Context) error
	Start(ctx context.Context) error
}

// copied stops the server for a copy of its data folder, and returns what puts it back.
func copied(t *testing.T, server restorable, data string) (restore func()) {
	t.Helper()
	backup := data + "-backup"
	run := func(args ...string) {
		t.Helper()
		if err := server.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, command := range args {
			if out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v %s", command, err, out)
			}
		}
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	data = strings.TrimSuffix(data, "/")
	run("cp -a '" + data + "' '" + backup + "'")
	return func() {
		t.Helper()
		run("rm -r '"+data+"'", "mv '"+backup+"' '"+data+"'")
	}
}

func TestPostgresRestored(t *testing.T) {
	set := servers.ForTest(t, servers.Spec{Postgres: 1, PostgresSettings: []string{"fsync=off"}})
	o := onPostgres(t, set.Postgres[0], `CREATE TABLE t (id int PRIMARY KEY)`)
	w := o.traveller(schema.Branch)
	w.lives(1)
	var data string
	o.scan(`SHOW data_directory`, &data)
	restore := copied(t, set.Postgres[0], data)
	o.conn = connectPostgres(t, o.DSN.URL())
	w.lives(2)
	o.exec(`SELECT pg_switch_wal()`)
	w.lives(3)
	restore()
	o.conn = connectPostgres(t, o.DSN.URL())
	w.heals(schema.Restored)
}

func TestMySQLRestored(t *testing.T) {
	set := servers.ForTest(t, servers.Spec{MariaDB: 1})
	o := onMySQL(t, set.MariaDB[0], "CREATE TABLE t (id int PRIMARY KEY)")
	w := o.traveller(t, schema.Head)
	w.lives(1)
	var data string
	o.scan("SELECT @@datadir", &data)
	restore := copied(t, set.MariaDB[0], strings.TrimSuffix(data, "/"))
	o.conn = connectMySQL(t, o.DSN)
	w.lives(2)
	restore()
	o.conn = connectMySQL(t, o.DSN)
	w.heals(schema.Restored)
}
