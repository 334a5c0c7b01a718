package apply

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// sequenceTable is table t of one column with the sequence s.
func sequenceTable(s catalog.Sequence) *catalog.Table {
	return &catalog.Table{Table: define("t", integer("id"), text("name")), Sequences: []catalog.Sequence{s}}
}

func TestSequencesFollowOnlyWhatConcernsThem(t *testing.T) {
	plain := catalog.Sequence{Name: "public.s", Increment: 1, Min: 1, Max: 1 << 31, Settable: true}
	third := plain
	third.Increment, third.Class = 16, 3
	down := plain
	down.Increment = -1
	counter := plain
	counter.Name, counter.Increment = "", 0
	refused := plain
	refused.Settable = false
	for _, test := range []struct {
		name     string
		sequence catalog.Sequence
		values   []string
		want     string // the value that the statement is about; "": there is none
	}{
		{"the greatest of a group", plain, []string{"5", "9", "7"}, "9"},
		{"nothing", plain, nil, ""},
		{"below the first number", plain, []string{"0", "-5"}, ""},
		{"no number", plain, []string{"x", "", "1.5", "99999999999999999999"}, ""},
		{"the greatest of its type, a mark", plain, []string{"7", "2147483647", "2147483000"}, "7"},
		{"of its own class", third, []string{"3", "19", "20", "34"}, "19"},
		{"of other classes only", third, []string{"1", "16", "100000"}, ""},
		{"one that counts down", down, []string{"-5"}, ""},
		{"AUTO_INCREMENT", counter, []string{"5"}, ""},
		{"without the privilege", refused, []string{"5"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var q sequences
			table := sequenceTable(test.sequence)
			for _, v := range test.values {
				q.saw(table, 0, v)
				q.saw(table, 1, "1000000")
			}
			got := q.statements()
			if test.want == "" {
				if len(got) != 0 {
					t.Errorf("got %q, want nothing", got)
				}
				return
			}
			if len(got) != 1 || !strings.HasSuffix(got[0], "WHERE given < "+test.want) {
				t.Errorf("got %q, want one about %s", got, test.want)
			}
		})
	}
}

// What was reached is not asked for again, until something may have changed.
func TestSequencesAskOnce(t *testing.T) {
	var q sequences
	table := sequenceTable(catalog.Sequence{Name: "public.s", Increment: 1, Min: 1, Max: 1 << 31, Settable: true})
	count := func(value string, want int, when string) {
		t.Helper()
		q.saw(table, 0, value)
		if got := q.statements(); len(got) != want {
			t.Errorf("%s: %q, want %d statements", when, got, want)
		}
	}
	count("5", 1, "at first")
	count("5", 0, "again")
	count("4", 0, "a smaller one")
	count("6", 1, "a greater one")
	q.forget()
	count("6", 1, "after an error")
	q.since = q.since.Add(-2 * definitionsAge)
	count("6", 0, "at the end of the minute")
	count("6", 1, "after a minute")
	table = sequenceTable(table.Sequences[0])
	count("6", 1, "with definitions read anew")
}

func TestSequencesWarnOnce(t *testing.T) {
	var log bytes.Buffer
	q := sequences{log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 3 {
		q.saw(sequenceTable(catalog.Sequence{Name: "public.s", Increment: 1, Min: 1, Max: 1 << 31}), 0, "5")
		q.forget()
	}
	if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "GRANT SELECT, UPDATE ON SEQUENCE public.s TO") {
		t.Errorf("logged %q", log.String())
	}
}

// A change's value counts where the plan brings it to; NULL and what the log left out do not.
func TestSequencesOfAChange(t *testing.T) {
	target := &catalog.Table{Table: define("t", text("name"), integer("id")), OwnSchema: "public"}
	target.Table = schema.NewTable(schema.Table{TableName: target.TableName, Engine: schema.Postgres, Columns: target.Columns, Key: []int{1}})
	target.Sequences = []catalog.Sequence{{Column: 1, Name: "public.s", Increment: 1, Min: 1, Max: 1 << 31, Settable: true}}
	source := define("t", integer("id"), text("name"))
	p, err := newPlan(source, target, schema.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		change schema.Change
		want   int
	}{
		{insert(source, "5", "7"), 1},
		{update(source, "6", gone), 1},
		{rekey(source, row("6", gone), "8", gone), 1},
		{update(source, gone, "9"), 0},
		{insert(source, null, "9"), 0},
		{remove(source, "9"), 0},
		{schema.Change{Table: source, Op: schema.Truncate}, 0},
	} {
		var q sequences
		q.sawChange(p, &test.change)
		if got := q.statements(); len(got) != test.want {
			t.Errorf("%s %v: %q, want %d statements", test.change.Op, test.change.After, got, test.want)
		}
	}
}

// sequenceOf reads table t and gives its only sequence.
func (w *world) sequenceOf(table string) *catalog.Sequence {
	w.Helper()
	ses, err := w.target.connect(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	defer ses.close()
	tables, err := ses.defs().read(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	for i := range tables {
		if tables[i].Name == table && len(tables[i].Sequences) == 1 {
			return &tables[i].Sequences[0]
		}
	}
	w.Fatalf("table %s has not one sequence", table)
	return nil
}

func TestAdvance(t *testing.T) {
	w := postgresWorld(t, schema.Branch)
	for _, test := range []struct {
		name, options, state string
		reach                int64
		want                 string // what the sequence gives next
	}{
		{"unused", "", "", 5, "6"},
		{"unused, its first number", "", "", 1, "2"},
		{"behind", "", "SELECT setval('%s', 3)", 5, "6"},
		{"behind, set and not called", "", "SELECT setval('%s', 5, false)", 5, "6"},
		{"reached", "", "SELECT setval('%s', 5)", 5, "6"},
		{"ahead", "", "SELECT setval('%s', 90)", 5, "91"},
		{"ahead, set and not called", "", "SELECT setval('%s', 6, false)", 5, "6"},
		{"far behind", "", "SELECT setval('%s', 3)", 5_000_000, "5000001"},
		{"interleaved", "INCREMENT BY 16 START WITH 3", "", 35, "51"},
		{"interleaved, called", "INCREMENT BY 16 START WITH 3", "SELECT nextval('%s')", 35, "51"},
		{"interleaved, ahead", "INCREMENT BY 16 START WITH 3", "SELECT setval('%s', 51, false)", 35, "51"},
		{"interleaved, far behind", "INCREMENT BY 16 START WITH 3", "", 16_000_003, "16000019"},
		{"cached", "CACHE 20", "SELECT setval('%s', 3)", 30, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := w.of(t)
			w.exec(`CREATE SCHEMA "it's"`, `CREATE SEQUENCE "it's".s `+test.options, `CREATE TABLE t (id bigint PRIMARY KEY DEFAULT nextval('"it''s".s'))`)
			defer w.exec(`DROP SCHEMA "it's" CASCADE`, `DROP TABLE t`)
			if test.state != "" {
				w.exec(strings.ReplaceAll(test.state, "%s", `"it''s".s`))
			}
			s := w.sequenceOf("t")
			w.exec(advance(s, test.reach), advance(s, test.reach))
			next, err := strconv.ParseInt(w.rows(`SELECT nextval('"it''s".s')`), 10, 64)
			if err != nil || next <= test.reach || test.want != "" && test.want != strconv.FormatInt(next, 10) {
				t.Errorf("next is %d, %v; want %s, greater than %d", next, err, test.want, test.reach)
			}
		})
	}
}

// of is the world for a test within the test.
func (w *world) of(t testing.TB) *world {
	inner := *w
	inner.TB = t
	return &inner
}

// The application takes numbers as fast as can be while the sequence is moved on to one that it is about to reach: it
// never gets a number twice. (With setval in the place of nextval it does, in nearly every run of this test.)
func TestAdvanceAgainstTheApplication(t *testing.T) {
	w := postgresWorld(t, schema.Branch)
	w.exec("CREATE TABLE t (id bigserial PRIMARY KEY)")
	s := w.sequenceOf("t")
	application, err := pgx.Connect(t.Context(), w.dsn.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = application.Close(context.Background()) }()
	ended := make(chan error, 1)
	go func() {
		for range 10 {
			var taken, different int
			err := application.QueryRow(context.Background(), `SELECT count(n), count(DISTINCT n) FROM (SELECT nextval('t_id_seq') n FROM generate_series(1, 200000)) x`).Scan(&taken, &different)
			if err == nil && taken != different {
				err = fmt.Errorf("%d numbers were taken, %d of them different", taken, different)
			}
			if err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	for i := int64(0); ; i++ {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
		given, err := strconv.ParseInt(w.rows("SELECT last_value FROM t_id_seq"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		w.exec(advance(s, given+i*7919%1500))
	}
}

// InnoDB's counter follows greater numbers without our doing: those inserted, also when interleaved, and those that an
// update brings (MariaDB and MySQL 8; before MySQL 8 the application's next insert fails once).
func TestAutoIncrementFollows(t *testing.T) {
	w := mysqlWorld(t, schema.Branch)
	w.exec("CREATE TABLE item (id int AUTO_INCREMENT PRIMARY KEY, name varchar(100), stock int)", "INSERT INTO item (name) VALUES ('own')")
	w.apply(tx(1, insert(item, "1000", "theirs", "1")))
	w.exec("INSERT INTO item (name) VALUES ('own')")
	w.want("SELECT id, name FROM item ORDER BY id", "1 own\n1000 theirs\n1001 own")
	w.exec("SET SESSION auto_increment_increment = 16", "SET SESSION auto_increment_offset = 3")
	w.apply(tx(2, insert(item, "2000", "theirs", "1")))
	w.exec("INSERT INTO item (name) VALUES ('own')")
	w.want("SELECT id, id % 16 FROM item WHERE id > 2000", "2003 3")
	w.exec("SET SESSION auto_increment_increment = 1", "DROP TABLE item", "CREATE TABLE item (id int AUTO_INCREMENT PRIMARY KEY, name varchar(100), stock int)")
	w.apply(tx(3, insert(item, "10", "theirs", "1")), tx(4, rekey(item, row("10", gone, gone), "500", "theirs", "1")))
	w.exec("INSERT INTO item (name) VALUES ('own')")
	w.want("SELECT id, name FROM item ORDER BY id", "500 theirs\n501 own")
}

// What a row costs on a table with a sequence.
func BenchmarkSequences(b *testing.B) {
	table := sequenceTable(catalog.Sequence{Name: "public.s", Increment: 1, Min: 1, Max: math.MaxInt64, Settable: true})
	source := define("t", integer("id"), text("name"))
	p, err := newPlan(source, table, schema.Postgres)
	if err != nil {
		b.Fatal(err)
	}
	var q sequences
	changes := make([]schema.Change, 2000)
	for i := range changes {
		changes[i] = insert(source, strconv.Itoa(1_000_000+i), "x")
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		q.sawChange(p, &changes[n%len(changes)])
	}
}

// Applied keys are never given out again: neither after the hopeful way nor the careful one, nor in parts.
func TestSequencesAreAheadOfAppliedRows(t *testing.T) {
	w := postgresWorld(t, schema.Branch)
	w.exec("CREATE TABLE item (id serial PRIMARY KEY, name varchar(100), stock int)")
	w.apply(tx(1, insert(item, "5", "theirs", "1")))
	w.exec("INSERT INTO item (name) VALUES ('own')")
	w.want("SELECT id, name FROM item ORDER BY id", "5 theirs\n6 own")
	w.exec("INSERT INTO item (id, name) VALUES (40, 'here')")
	w.apply(tx(2, insert(item, "40", "theirs", "1")), tx(3, rekey(item, row("5", gone, gone), "50", "theirs", "1")))
	w.exec("INSERT INTO item (name) VALUES ('own')")
	w.want("SELECT max(id) FROM item", "51")
	w.apply(part(4, 0, false, insert(item, "60", "theirs", "1")), part(4, 1, true, insert(item, "70", "theirs", "1")))
	w.want("SELECT nextval('item_id_seq')", "71")
	w.exec("ALTER TABLE item ALTER id DROP DEFAULT", "DROP SEQUENCE item_id_seq") // a sequence that is gone stops nothing
	w.apply(tx(5, insert(item, "80", "theirs", "1")))
	w.want("SELECT max(id) FROM item", "80")
	w.at(5)
}
