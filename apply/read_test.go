package apply

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cdc-sidecar/schema"
)

// plenty bounds nothing in these tests.
const plenty = 1 << 20

// stretches reads a whole table, so many rows at a time, and the keys of it the same way, which have to be those of the rows.
func (w *world) stretches(name string, limit int) (t *schema.Table, all []schema.Row) {
	w.Helper()
	table := schema.TableName{Name: name}
	for more := true; more; {
		var from schema.Row
		if len(all) > 0 {
			from = all[len(all)-1]
		}
		var rows, keys []schema.Row
		var err error
		if t, rows, more, err = w.applier.Stretch(w.Context(), table, from, limit, plenty); err != nil {
			w.Fatal(err)
		}
		if more && len(rows) == 0 || len(rows) > limit {
			w.Fatalf("table %s: %d rows of at most %d, more: %t", name, len(rows), limit, more)
		}
		if _, keys, _, err = w.applier.Keys(w.Context(), table, from, len(rows)); err != nil {
			w.Fatal(err)
		}
		for i, row := range rows {
			if len(keys) != len(rows) || t.RowID(keys[i]) != t.RowID(row) {
				w.Fatalf("table %s: the keys %v of the rows %v", name, keys, rows)
			}
		}
		if len(rows) > 0 && (len(keys[0]) != len(t.Columns) || len(t.Key) < len(t.Columns) && !slices.Contains(keys[0], schema.Value{})) {
			w.Fatalf("table %s: a key with more than its columns: %v", name, keys[0])
		}
		all = append(all, rows...)
	}
	return t, all
}

// whole is what a table holds by its stretches, whatever their size: each row once, found by its key again, in the order that
// the query gives of the first column.
func (w *world) whole(name, inOrder string) {
	w.Helper()
	want := w.rows(inOrder)
	for _, limit := range []int{1, 3, plenty} {
		t, all := w.stretches(name, limit)
		if got := ids(all); got != want {
			w.Errorf("table %s by %d: the rows\n%s\nwant\n%s", name, limit, got, want)
		}
		_, found, err := w.applier.Find(w.Context(), t.TableName, all)
		if err != nil {
			w.Fatal(err)
		}
		if !reflect.DeepEqual(found, all) {
			w.Errorf("table %s: the rows\n%v\nare found as\n%v", name, all, found)
		}
	}
}

type nastyKey struct{ name, key, definition, values string }

// nasty are keys whose order is not that of their text, or not that of their bytes.
var nasty = map[schema.Engine][]nastyKey{
	schema.Postgres: {
		{"ci", "t, n", `t text COLLATE "nocase", n int`, `('b',1),('B',2),('a',3),('A',-4),('ä',5),('A',6),('',7),(' ',8),('a ',9),('Z',10),('_',11)`},
		{"enums", "e, n", "e level, n smallint", "('low',1),('low',-1),('high',0),('high',-32768),('high',2),('mid',0)"},
		{"bytes", "b, d", "b bytea, d numeric", `('\x00',1),('\x',2),('\xff',3),('\x61',1.50),('\x61',1.5e10),('\x61',-2),('\x61','NaN'),('\x61','Infinity')`},
		{"times", "at, day", "at timestamptz, day date", `('2024-01-01 00:00+02','2024-01-01'),('infinity','infinity'),('-infinity','-infinity'),('0044-03-15 12:00 BC','0044-03-15 BC'),('2024-01-01','0001-01-01')`},
		{"floats", "f, r", "f double precision, r real", "(0.1,0.1),(0.1,0.2),('NaN','NaN'),('-Infinity',0),(-1e300,1),(1e-300,1)"},
		{"others", "u, ip, a", "u uuid, ip inet, a int[]", `('ffffffff-0000-0000-0000-000000000000','10.0.0.9','{1}'),('0fffffff-0000-0000-0000-000000000000','10.0.0.10','{2,1}'),('0fffffff-0000-0000-0000-000000000000','10.0.0.9','{10}'),('0fffffff-0000-0000-0000-000000000000','10.0.0.9','{2}')`},
		{"blanks", "c, v", "c char(4), v varchar(4)", `('a','a'),('a','a '),('b',''),('ab','x'),('','x')`},
		{"parts", "a, b", "a int, b text", "(3,'c'),(1,'a'),(2,'b'),(11,'z')"},
	},
	schema.MariaDB: {
		{"ci", "t, n", "t varchar(20) COLLATE utf8mb4_general_ci, n int", `('b',1),('B',2),('a',3),('A',-4),('ä',5),('A',6),('',7),('a ',9),('Z',10),('_',11),('a\tb',1)`},
		{"enums", "e, n", "e enum('low','mid','high'), n tinyint", "('low',1),('low',-1),('high',0),('high',-128),('high',2),('mid',0)"},
		{"bytes", "b, d", "b varbinary(10), d decimal(20,4)", `(x'00',1),('',2),(x'ff',3),(x'61',1.50),(x'61',15000000000),(x'61',-2),(x'6100',0)`},
		{"wholes", "u, s", "u bigint unsigned, s bigint", "(18446744073709551615,1),(9223372036854775808,-9223372036854775808),(9223372036854775808,9223372036854775807),(0,0),(0,-1)"},
		{"times", "at, day, d", "at timestamp(6) DEFAULT '2000-01-01', day date, d time(3)", `('2024-01-01 00:00:00.5','0000-00-00','-838:59:59'),('2024-01-01 00:00:00.5','2024-01-01','10:00:00.5'),('2024-01-01 00:00:00.5','2024-01-01','-10:00:00.5'),('2024-01-01 00:00:00','2024-01-01','9:00')`},
		{"floats", "f, r", "f double, r float", "(0.1,0.1),(0.1,0.2),(-1e300,1),(1e-300,1),(1e-300,-0.7)"},
		{"others", "u, ip, y, b", "u uuid, ip inet6, y year, b bit(9)", `('ffffffff-0000-0000-0000-000000000000','10::9',2000,1),('0fffffff-0000-0000-0000-000000000000','10::10',1999,256),('0fffffff-0000-0000-0000-000000000000','10::9',1999,2),('0fffffff-0000-0000-0000-000000000000','10::9',1999,3)`},
		{"sets", "s, c", "s set('z','m','a'), c char(4)", "('',''),('z','a'),('z','b'),('z,m',''),('a','A'),('z,a','')"},
		{"parts", "a, b", "a int, b varchar(10)", "(3,'c'),(1,'a'),(2,'b'),(11,'z')"},
	},
}

// The stretches of a table have neither gaps nor repeats, in the database's own order, whatever its key.
func TestStretchAnyKey(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		if w.engine == schema.Postgres {
			w.exec("CREATE TYPE level AS ENUM ('low', 'mid', 'high')", `CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`)
		} else {
			w.exec("SET sql_mode = ''")
		}
		for _, n := range nasty[w.engine] {
			more := map[bool]string{true: " PARTITION BY RANGE (a)", false: ""}[n.name == "parts" && w.engine == schema.Postgres]
			w.exec(fmt.Sprintf("CREATE TABLE %s (id serial%s, %s, note varchar(10), PRIMARY KEY (%s))%s", n.name, w.pick("", " UNIQUE"), n.definition, n.key, more))
			if more != "" {
				w.exec("CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (3)", "CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (3) TO (30)")
			}
			w.exec(fmt.Sprintf("INSERT INTO %s (%s) VALUES %s", n.name, n.key, n.values))
			w.whole(n.name, "SELECT id FROM "+n.name+" ORDER BY "+n.key)
		}
	})
}

// Any values of any type as a part of the key.
func TestStretchAnyValue(t *testing.T) {
	asksServers(t)
	each(t, schema.Head, func(w *world) {
		types := newTyped(w, map[bool][]string{true: postgresTypes, false: mariadbTypes}[w.engine == schema.Postgres])
		r := newReading(w)
		for i, ddl := range types.types {
			if ddl == "json" || w.engine != schema.Postgres && slices.Contains(notKeys, ddl) {
				continue
			}
			name := fmt.Sprintf("k%02d", i)
			w.exec(fmt.Sprintf("CREATE TABLE %s (id int, v %s NOT NULL, more text, PRIMARY KEY (v, id))", name, strings.TrimSuffix(ddl, " NULL")))
			table := r.table(name)
			var changes []schema.Change
			rapid.Check(w, func(t *rapid.T) {
				if id := strconv.Itoa(len(changes)); len(changes) < 25 {
					changes = append(changes, insert(table.Table, id, draw(t, w.engine, &table.Columns[1]), "row "+id))
				}
			})
			types.seq++
			w.apply(tx(types.seq, changes...))
			w.whole(name, "SELECT id FROM "+name+" ORDER BY v, id")
		}
	})
}

// A stretch is as long as its bytes allow, be the rows behind small or large; and it has one row at least.
func TestStretchOfBytes(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		w.exec("CREATE TABLE wide (id int PRIMARY KEY, v "+w.pick("text", "longtext")+")",
			w.pick("INSERT INTO wide SELECT i, repeat('x', 96) FROM generate_series(1, 3000) i", "INSERT INTO wide SELECT seq, REPEAT('x', 96) FROM seq_1_to_3000"),
			w.pick("INSERT INTO wide SELECT i, repeat('y', 300000) FROM generate_series(3001, 3100) i", "INSERT INTO wide SELECT seq, REPEAT('y', 300000) FROM seq_3001_to_3100"),
			w.pick("INSERT INTO wide SELECT i, 'z' FROM generate_series(3101, 3200) i", "INSERT INTO wide SELECT seq, 'z' FROM seq_3101_to_3200"))
		const most = 100_000
		var from schema.Row
		reads, id := 0, 0
		for more := true; more; reads++ {
			var rows []schema.Row
			var err error
			if _, rows, more, err = w.applier.Stretch(w.Context(), schema.TableName{Name: "wide"}, from, 2000, most); err != nil {
				w.Fatal(err)
			}
			bytes := 0
			for _, row := range rows {
				if id++; row[0].Text() != strconv.Itoa(id) {
					w.Fatalf("row %v where %d should be", row[0], id)
				}
				bytes += len(row[0].Text()) + len(row[1].Text())
			}
			if bytes > most && len(rows) > 1 {
				w.Fatalf("%d rows of %d bytes", len(rows), bytes)
			}
			if len(rows) > 0 {
				from = rows[len(rows)-1]
			}
		}
		if id != 3200 {
			w.Errorf("%d rows of 3200", id)
		}
		if reads > 160 { // one for each large row, about four for the small ones, and some to find out
			w.Errorf("%d stretches", reads)
		}
	})
}

// A stretch costs what it gives, wherever it is, and also where the first column of the key says little.
func TestStretchByIndex(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		w.exec("CREATE TABLE big (a int, b varchar(20), c int, PRIMARY KEY (a, b))",
			w.pick("INSERT INTO big SELECT i / 4000, 'b' || i, i FROM generate_series(0, 9999) i", "INSERT INTO big SELECT seq DIV 4000, CONCAT('b', seq), seq FROM seq_0_to_9999"),
			w.pick("ANALYZE big", "ANALYZE TABLE big"))
		r := newReading(w)
		table := r.table("big")
		r.begin2()
		r.get(table, false, row("0", "b0", gone))
		reader := w.applier.withSession(r.session)
		if _, err := reader.Definition(w.Context(), table.TableName); err != nil { // MySQL's definitions are in tables, whose rows it counts too
			w.Fatal(err)
		}
		for range 8 { // the server may plan it otherwise when it is used to it
			for _, from := range []schema.Row{row("0", "b2000", gone), row("2", "b8000", gone), row("2", "b9900", gone)} {
				read := func() {
					_, rows, more, err := reader.Stretch(w.Context(), table.TableName, from, 50, plenty)
					if err != nil || len(rows) != 50 || !more {
						w.Fatal(len(rows), more, err)
					}
				}
				if n := r.reads(read); n > 120 {
					w.Fatalf("behind %v: %d rows of 10000 were read for 50", from, n)
				}
			}
		}
		if err := r.commit(w.Context()); err != nil {
			w.Fatal(err)
		}
	})
}

// Where a label begins the key of a MySQL's table, too.
func TestStretchByLabels(t *testing.T) {
	w := mysqlWorld(t, schema.Head)
	w.exec("CREATE TABLE labelled (kind enum('z','m','it''s a','none'), id int, PRIMARY KEY (kind, id))",
		"INSERT INTO labelled SELECT seq DIV 4000 + 1, seq FROM seq_0_to_9999", "ANALYZE TABLE labelled")
	r := newReading(w)
	reader := w.applier.withSession(r.session)
	table, err := reader.Definition(w.Context(), schema.TableName{Name: "labelled"})
	if err != nil {
		w.Fatal(err)
	}
	for _, c := range []struct{ label, id, next string }{{"z", "10", "z"}, {"z", "3999", "m"}, {"m", "7900", "m"}, {"it's a", "8000", "it's a"}, {"it's a", "9900", "it's a"}} {
		var rows []schema.Row
		read := func() {
			if _, rows, _, err = reader.Stretch(w.Context(), table.TableName, row(c.label, c.id), 50, plenty); err != nil {
				w.Fatal(err)
			}
		}
		if n := r.reads(read); n > 120 {
			w.Errorf("behind %s %s: %d rows of 10000 were read for 50", c.label, c.id, n)
		}
		if len(rows) != 50 || rows[0][0].Text() != c.next {
			w.Errorf("behind %s %s: %d rows, the first %v", c.label, c.id, len(rows), rows[0])
		}
	}
}

// withSession is an Applier that reads by a given session.
func (a *Applier) withSession(ses session) *Applier {
	b := New(lent{ses}, a.options)
	return b
}

type lent struct{ session }

func (l lent) connect(context.Context) (session, error) { return l, nil }
func (lent) close()                                     {}

// Neither an application's lock nor its open transaction stops a reader, which sees what is committed.
func TestStretchLocksNothing(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		w.createItem()
		w.exec("INSERT INTO item VALUES (1, 'one', 1), (2, 'two', 2), (3, 'three', 3)", "BEGIN", "UPDATE item SET name = 'zwei' WHERE id = 2", "INSERT INTO item VALUES (4, 'four', 4)")
		_, rows := w.stretches("item", 10)
		if len(rows) != 3 || rows[1][1].Text() != "two" {
			w.Errorf("beside an open transaction: %v", rows)
		}
		if _, found, err := w.applier.Find(w.Context(), item.TableName, []schema.Row{row("2", gone, gone), row("4", gone, gone)}); err != nil || found[0][1].Text() != "two" || found[1] != nil {
			w.Errorf("beside an open transaction: %v, %v", found, err)
		}
		w.exec("COMMIT")
		if _, rows = w.stretches("item", 10); len(rows) != 4 || rows[1][1].Text() != "zwei" {
			w.Errorf("behind it: %v", rows)
		}
	})
}

// A key that the database finds another row for gives that row as it is.
func TestFindWithoutRegardToCase(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		if w.engine == schema.Postgres {
			w.exec(`CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`)
		}
		w.exec("CREATE TABLE names (name varchar(20) COLLATE "+w.pick("nocase", "utf8mb4_general_ci")+" PRIMARY KEY, n int)", "INSERT INTO names VALUES ('Anna', 1)")
		asked := []schema.Row{row("ANNA", gone), row("Anna", gone), row("Bob", gone)}
		table, rows, err := w.applier.Find(w.Context(), schema.TableName{Name: "names"}, asked)
		if err != nil {
			w.Fatal(err)
		}
		if !reflect.DeepEqual(rows, []schema.Row{row("Anna", "1"), row("Anna", "1"), nil}) {
			w.Errorf("found %v", rows)
		}
		if table.RowID(rows[0]) == table.RowID(asked[0]) || table.RowID(rows[1]) != table.RowID(asked[1]) {
			w.Error("the RowIDs do not tell the keys apart")
		}
	})
}

// Rows of a table that inherits are its own, not its parent's.
func TestStretchWithoutHeirs(t *testing.T) {
	w := postgresWorld(t, schema.Head)
	w.exec("CREATE TABLE parent (id int PRIMARY KEY, v text)", "CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (parent)",
		"INSERT INTO parent VALUES (1, 'parent')", "INSERT INTO heir VALUES (1, 'heir'), (2, 'heir')")
	if _, rows := w.stretches("parent", 1); !reflect.DeepEqual(rows, []schema.Row{row("1", "parent")}) {
		t.Errorf("parent: %v", rows)
	}
	if _, rows := w.stretches("heir", 1); len(rows) != 2 {
		t.Errorf("heir: %v", rows)
	}
}

func TestReadErrors(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		missing := schema.TableName{Name: "missing"}
		_, _, _, err := w.applier.Stretch(w.Context(), missing, nil, 1, 1)
		_, _, _, keysErr := w.applier.Keys(w.Context(), missing, nil, 1)
		_, _, findErr := w.applier.Find(w.Context(), missing, nil)
		_, definitionErr := w.applier.Definition(w.Context(), missing)
		for _, err := range []error{err, keysErr, findErr, definitionErr} {
			if !errors.Is(err, ErrNoTable) || !strings.Contains(err.Error(), "missing") {
				w.Errorf("a missing table: %v", err)
			}
		}
		w.exec("CREATE TABLE missing (id int)")
		var rejected *schema.RejectedError
		if _, _, _, err := w.applier.Stretch(w.Context(), missing, nil, 1, 1); !errors.As(err, &rejected) {
			w.Errorf("a table without a key: %v", err)
		}
		if d, err := w.applier.Definition(w.Context(), missing); err != nil || len(d.Columns) != 1 {
			w.Errorf("its definition: %v, %v", d, err)
		}
		w.exec("DROP TABLE missing", "CREATE TABLE missing (other int PRIMARY KEY)", "INSERT INTO missing VALUES (7)")
		for range 2 { // what is known of the table may be old once
			_, rows, _, _ := w.applier.Stretch(w.Context(), missing, nil, 1, 1)
			if len(rows) == 1 && rows[0][0].Text() == "7" {
				return
			}
		}
		w.Error("a table that was made anew is not read")
	})
}

// Tables are those whose rows the log tells apart, with about how large they are, counted or not.
func TestTables(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		w.createItem()
		w.exec("CREATE TABLE nokey (id int)", w.pick("CREATE TABLE counted (id int PRIMARY KEY, v text) PARTITION BY HASH (id)", "CREATE TABLE counted (id int PRIMARY KEY, v text) PARTITION BY HASH (id) PARTITIONS 2"))
		fill := func(table string) string {
			return w.pick("INSERT INTO "+table+" SELECT i, repeat('x', 50) FROM generate_series(1, 2000) i", "INSERT INTO "+table+" SELECT seq, REPEAT('x', 50) FROM seq_1_to_2000")
		}
		want := []string{"counted", "fresh", "item"}
		if w.engine == schema.Postgres {
			w.exec("CREATE TABLE counted0 PARTITION OF counted FOR VALUES WITH (modulus 2, remainder 0)", "CREATE TABLE counted1 PARTITION OF counted FOR VALUES WITH (modulus 2, remainder 1)",
				"CREATE UNLOGGED TABLE forgotten (id int PRIMARY KEY)", "CREATE SCHEMA shop", "CREATE TABLE shop.item (id int PRIMARY KEY)")
			want = append(want, "shop.item")
		}
		w.exec(fill("counted"), w.pick("ANALYZE counted", "ANALYZE TABLE counted"), "CREATE TABLE fresh (id int PRIMARY KEY, v text)", fill("fresh"))
		sizes, err := w.applier.Tables(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		var names []string
		for _, s := range sizes {
			names = append(names, s.Table.String())
			if n := s.Table.Name; n == "counted" || n == "fresh" {
				if s.Rows < 500 || s.Rows > 8000 || s.Bytes < 10_000 || s.Bytes > 2_000_000 {
					w.Errorf("table %s: %d rows, %d bytes; it has 2000 rows", s.Table, s.Rows, s.Bytes)
				}
			} else if s.Rows > 10 {
				w.Errorf("table %s: %d rows; it is empty", s.Table, s.Rows)
			}
		}
		if !reflect.DeepEqual(names, want) {
			w.Errorf("tables %v, want %v", names, want)
		}
	})
}
