package apply

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// sets is a world with one session of its own, whose runs are tested without a writer.
type sets struct {
	*world
	ses *mysqlSession
}

func newSets(t *testing.T, ddl ...string) *sets {
	t.Helper()
	w := mysqlWorld(t, schema.Branch)
	w.exec(ddl...)
	ses, err := w.target.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ses.close)
	return &sets{w, ses.(*mysqlSession)}
}

func (w *sets) table(name string) *catalog.Table {
	w.Helper()
	tables, err := w.ses.definition.read(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	i := slices.IndexFunc(tables, func(t catalog.Table) bool { return t.Name == name })
	if i < 0 {
		w.Fatalf("no table %s", name)
	}
	return &tables[i]
}

// steps are changes of the tables' own definitions as steps; joined says whether each may be one statement with the one before.
func (w *sets) steps(joined bool, changes ...schema.Change) []step {
	w.Helper()
	var steps []step
	for i := range changes {
		c := &changes[i]
		p, err := w.ses.defs().plan(w.Context(), c.Table)
		if err != nil {
			w.Fatal(err)
		}
		st, _, err := p.bind(c.Op, c, c.KeyRow(), nil)
		if err != nil {
			w.Fatal(err)
		}
		st.joins = joined && i > 0 && steps[i-1].form == st.form
		steps = append(steps, st)
	}
	return steps
}

// run runs steps in a transaction, which is committed unless they fail, and reports the rows hit and how many sets it took.
func (w *sets) run(steps []step) (hits []int64, count int, err error) {
	w.Helper()
	before := w.counted()
	w.ses.begin()
	if hits, _, err = w.ses.run(w.Context(), steps, nil); err == nil {
		err = w.ses.commit(w.Context())
	} else if rollback := w.ses.rollback(w.Context()); rollback != nil {
		w.Fatal(rollback)
	}
	return hits, w.counted() - before, err
}

// counted is how many updates and deletes of joined tables the server has run in the session.
func (w *sets) counted() (n int) {
	w.Helper()
	rows, err := w.ses.conn.QueryContext(w.Context(), "SHOW SESSION STATUS WHERE Variable_name IN ('Com_update_multi', 'Com_delete_multi')")
	if err != nil {
		w.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var one int
		if err := rows.Scan(&name, &one); err != nil {
			w.Fatal(err)
		}
		n += one
	}
	if err := rows.Err(); err != nil {
		w.Fatal(err)
	}
	return n
}

func total(hits []int64) (n int64) {
	for _, h := range hits {
		n += h
	}
	return n
}

// A set leaves every value of every type as the single statements do.
func TestMySQLSetValues(t *testing.T) {
	asksServers(t)
	columns := make([]string, 0, len(mariadbTypes))
	w := newSets(t)
	for i, ddl := range mariadbTypes {
		if w.ses.definition.engine == schema.MySQL && (ddl == "uuid" || ddl == "inet6") {
			continue
		}
		columns = append(columns, fmt.Sprintf("v%02d %s NULL", i, strings.TrimSuffix(ddl, " NULL")))
	}
	columns = append(columns, "ascii_text varchar(600) character set ascii", "swedish varchar(20) collate utf8mb4_swedish_ci", "wide varchar(20) character set utf16",
		"stays varchar(10) DEFAULT 'stays'", "`stored` bigint AS (v04 * 2) STORED", "computed bigint AS (v04 + 1) VIRTUAL", "INDEX (computed)", "INDEX (`stored`)", "INDEX (v14)")
	for _, name := range []string{"single", "joined"} {
		w.exec("CREATE TABLE " + name + " (id bigint PRIMARY KEY, " + strings.Join(columns, ", ") + ") ROW_FORMAT=DYNAMIC")
		for id := range 40 {
			w.exec(fmt.Sprintf("INSERT INTO %s (id) VALUES (%d)", name, id))
		}
	}
	single, joined := w.table("single"), w.table("joined")
	rapid.Check(t, func(t *rapid.T) {
		var a, b []schema.Change
		for id := range rapid.IntRange(mysqlLargeLeast, 40).Draw(t, "rows") {
			image := make(schema.Row, len(single.Columns))
			image[0] = schema.Of(fmt.Sprint(id))
			for i := range single.Columns {
				c := &single.Columns[i]
				switch {
				case i == 0 || c.Name == "stays" || c.Generated:
				case rapid.IntRange(0, 3).Draw(t, "null") == 0:
					image[i] = schema.NullValue()
				case c.Name == "ascii_text":
					image[i] = schema.Of(strings.Repeat("x ", rapid.IntRange(0, 300).Draw(t, "length")))
				default:
					image[i] = schema.Of(draw(t, schema.MariaDB, c))
				}
			}
			a = append(a, schema.Change{Table: single.Table, Op: schema.Update, After: image})
			b = append(b, schema.Change{Table: joined.Table, Op: schema.Update, After: image})
		}
		for _, c := range []struct {
			steps []step
			sets  int
		}{{w.steps(false, a...), 0}, {w.steps(true, b...), 1}} {
			hits, count, err := w.run(c.steps)
			if err != nil || total(hits) != int64(len(a)) || len(hits) != len(a) || count != c.sets {
				t.Fatalf("%d sets, hits %v: %v", count, hits, err)
			}
		}
		for i := range single.Columns {
			c := &single.Columns[i]
			shown := exactly(c)
			if a, b := w.rows("SELECT id, "+shown+" FROM single ORDER BY id"), w.rows("SELECT id, "+shown+" FROM joined ORDER BY id"); a != b {
				t.Fatalf("%s %s: single\n%s\njoined\n%s", c.Name, c.Native, a, b)
			}
		}
	})
	w.want("CHECK TABLE joined EXTENDED", w.dsn.Database+".joined check status OK")
}

// exactly shows all that a value is.
func exactly(c *schema.Column) string {
	name := quote(schema.MySQL, c.Name)
	switch c.Kind {
	case schema.KindFloat:
		return name + " * 1e0"
	case schema.KindInt, schema.KindBool, schema.KindYear, schema.KindBit:
		return name + " + 0"
	case schema.KindDecimal, schema.KindDate, schema.KindTime, schema.KindTimestamp, schema.KindTimestampTZ:
		return name
	}
	return "HEX(" + name + ")"
}

// A set finds the rows that the single statements find, through the primary key, whatever the key is of.
func TestMySQLSetKeys(t *testing.T) {
	for _, c := range []struct {
		key  string // definition of the columns
		sets int    // that are expected for the keys
		keys [][]string
	}{
		{"a int, PRIMARY KEY (a)", 1, [][]string{{"0"}, {"1"}, {"-1"}, {"2147483647"}, {"-2147483648"}}},
		{"a tinyint unsigned, PRIMARY KEY (a)", 1, [][]string{{"0"}, {"1"}, {"10"}, {"255"}, {"100"}}},
		{"a bigint, PRIMARY KEY (a)", 1, [][]string{{"0"}, {"9007199254740992"}, {"9007199254740993"}, {"9223372036854775807"}, {"-9223372036854775808"}}},
		{"a bigint unsigned, PRIMARY KEY (a)", 1, [][]string{{"0"}, {"9007199254740992"}, {"9007199254740993"}, {"18446744073709551615"}, {"18446744073709551614"}}},
		{"a binary(16), PRIMARY KEY (a)", 1, [][]string{{"0123456789abcdef"}, {"0123456789ABCDEF"}, {"\x00123456789abcde\x00"}, {"\xff123456789abcdef"[:16]}, {strings.Repeat("'", 16)}}},
		{"a varbinary(20), PRIMARY KEY (a)", 1, [][]string{{""}, {"a"}, {"a\x00"}, {"a "}, {"A"}}},
		{"a varchar(20) character set latin1, PRIMARY KEY (a)", 1, [][]string{{"a"}, {"B"}, {"c"}, {"?"}, {""}}},
		{"a varchar(20) collate utf8mb4_swedish_ci, PRIMARY KEY (a)", 1, [][]string{{"a"}, {"B"}, {`it's \ "`}, {"\n"}, {"1.0"}}},
		{"a varchar(20) collate utf8mb4_bin, PRIMARY KEY (a)", 1, [][]string{{"a"}, {"A"}, {"01"}, {"1"}, {"1.0"}}},
		{"a char(36) character set ascii, PRIMARY KEY (a)", 1, [][]string{{"0a1b2c3d-0000-4000-8000-00000000000f"}, {"a"}, {"b"}, {"c"}, {"d"}}},
		{"a varchar(20) character set ucs2, PRIMARY KEY (a)", 1, [][]string{{"a"}, {"b"}, {"c"}, {"d"}, {"e"}}},
		{"a varchar(20) collate utf8mb4_general_ci, PRIMARY KEY (a)", 0, [][]string{{"ä"}, {"ö"}, {"ü"}, {"😀"}, {"x"}}}, // only ASCII is the same everywhere
		{"a int, b varchar(10) collate utf8mb4_general_ci, c bigint, PRIMARY KEY (c, b, a)", 1, [][]string{{"1", "x", "1"}, {"1", "x", "2"}, {"1", "y", "1"}, {"2", "x", "1"}, {"2", "y", "2"}}},
		{"a date, PRIMARY KEY (a)", 0, [][]string{{"2026-01-01"}, {"2026-01-02"}, {"2026-01-03"}, {"0000-00-00"}, {"2026-02-31"}}},
		{"a decimal(30,2), PRIMARY KEY (a)", 0, [][]string{{"1.00"}, {"1.01"}, {"-1.00"}, {"12345678901234567890.12"}, {"12345678901234567890.13"}}},
		{"a float, PRIMARY KEY (a)", 0, [][]string{{"0.1"}, {"0.2"}, {"0.3"}, {"1e+20"}, {"-1"}}},
		{"a enum('x','y','z','1','2'), PRIMARY KEY (a)", 0, [][]string{{"x"}, {"y"}, {"z"}, {"1"}, {"2"}}},
	} {
		t.Run(c.key, func(t *testing.T) {
			w := newSets(t, "CREATE TABLE k ("+c.key+", v int, w varchar(20) DEFAULT 'w', INDEX (v))")
			k := w.table("k")
			var inserts, updates, deletes []schema.Change
			for i, key := range c.keys {
				full := append(slices.Clone(key), fmt.Sprint(i), "w")
				inserts = append(inserts, insert(k.Table, full...))
				full[len(key)] = fmt.Sprint(i + 100)
				updates = append(updates, update(k.Table, full...))
				deletes = append(deletes, remove(k.Table, key...))
			}
			if _, _, err := w.run(w.steps(true, inserts...)); err != nil {
				t.Fatal(err)
			}
			w.explains(w.steps(true, updates...), c.sets > 0)
			for _, changes := range [][]schema.Change{updates, updates, deletes} { // an update that changes nothing hits its row, too
				hits, count, err := w.run(w.steps(true, changes...))
				if err != nil || fmt.Sprint(hits) != "[1 1 1 1 1]" || count != c.sets {
					t.Fatalf("%d sets, hits %v: %v", count, hits, err)
				}
				if changes[0].Op == schema.Update {
					w.want("SELECT COUNT(DISTINCT v), MIN(v), MAX(v) FROM k", "5 100 104")
					for i, change := range changes {
						image := change.KeyRow()
						rows, err := w.ses.fetch(t.Context(), k, []schema.Row{image}, false)
						if err != nil || rows[0] == nil || rows[0][len(c.keys[0])] != schema.Of(fmt.Sprint(i+100)) {
							t.Fatalf("row %s is %v: %v", image, rows[0], err)
						}
					}
				}
			}
			w.want("SELECT COUNT(*) FROM k", "0")
			hits, _, err := w.run(w.steps(true, updates...))
			if err != nil || fmt.Sprint(hits) != "[0 0 0 0 0]" {
				t.Fatalf("hits of rows that are not there: %v, %v", hits, err)
			}
		})
	}
}

// explains checks how the server finds the rows of a set.
func (w *sets) explains(steps []step, expected bool) {
	w.Helper()
	w.ses.query, w.ses.tuples, w.ses.joined = w.ses.query[:0], w.ses.tuples[:0], w.ses.joined[:0]
	n, err := w.ses.addSet(w.Context(), steps)
	if err != nil || (n == len(steps)) != expected {
		w.Fatalf("%d of %d steps in a set: %v", n, len(steps), err)
	}
	if n == 0 {
		return
	}
	if plan := w.rows("EXPLAIN FORMAT=TRADITIONAL " + string(w.ses.query[:len(w.ses.query)-1])); !strings.Contains(plan, "t eq_ref PRIMARY PRIMARY") && !strings.Contains(plan, "t NULL eq_ref PRIMARY PRIMARY") {
		w.Errorf("the rows are not found by their keys:\n%s", plan)
	}
}

// The index is taken, and other rows left alone, whether the table is empty, small or large.
func TestMySQLSetIndex(t *testing.T) {
	w := newSets(t, "CREATE TABLE k (id int PRIMARY KEY, v int, INDEX (v))")
	k := w.table("k")
	var updates, deletes []schema.Change
	for i := range 500 {
		updates = append(updates, update(k.Table, fmt.Sprint(i), "7"))
		deletes = append(deletes, remove(k.Table, fmt.Sprint(i)))
	}
	for _, rows := range []string{"", "INSERT INTO k SELECT seq, seq FROM seq_0_to_9", "INSERT INTO k SELECT seq, seq FROM seq_10_to_30000"} {
		if rows != "" {
			w.exec(rows, "ANALYZE TABLE k")
		}
		w.explains(w.steps(true, updates...), true)
		w.explains(w.steps(true, deletes...), true)
	}
	// Somebody else has locked a row that the set does not mean.
	w.exec("START TRANSACTION", "UPDATE k SET v = -1 WHERE id = 600")
	for _, changes := range [][]schema.Change{updates, deletes} {
		if hits, count, err := w.run(w.steps(true, changes...)); err != nil || total(hits) != 500 || count != 1 {
			t.Fatalf("%d sets hit %d rows: %v", count, total(hits), err)
		}
	}
	w.exec("COMMIT")
}

// Of rows that are missing there are fewer hits.
func TestMySQLSetMissing(t *testing.T) {
	w := newSets(t, "CREATE TABLE k (id int PRIMARY KEY, v int)", "INSERT INTO k VALUES (1, 1), (2, 2), (4, 4)")
	k := w.table("k")
	hits, count, err := w.run(w.steps(true, update(k.Table, "1", "10"), update(k.Table, "2", "2"), update(k.Table, "3", "30"), update(k.Table, "4", "40"), update(k.Table, "5", "5")))
	if err != nil || len(hits) != 5 || total(hits) != 3 || count != 1 {
		t.Fatalf("%d sets, hits %v: %v", count, hits, err)
	}
	w.want("SELECT * FROM k ORDER BY id", "1 10\n2 2\n4 40")
	if hits, count, err = w.run(w.steps(true, remove(k.Table, "3"), remove(k.Table, "4"), remove(k.Table, "5"), remove(k.Table, "6"), remove(k.Table, "7"))); err != nil || total(hits) != 1 || count != 1 {
		t.Fatalf("%d sets, hits %v: %v", count, hits, err)
	}
	w.want("SELECT * FROM k ORDER BY id", "1 10\n2 2")
}

// What the server does by itself when a row changes, it does in a set, too.
func TestMySQLSetSideEffects(t *testing.T) {
	w := newSets(t, "CREATE TABLE k (id int, v int, touched timestamp NULL DEFAULT NULL ON UPDATE CURRENT_TIMESTAMP, u int UNIQUE, PRIMARY KEY (id))",
		"CREATE TABLE child (id int PRIMARY KEY, u int, FOREIGN KEY (u) REFERENCES k (u) ON UPDATE CASCADE)",
		"CREATE TABLE parts (id int, v int, PRIMARY KEY (id)) PARTITION BY HASH (id) PARTITIONS 3")
	for i := range 5 {
		w.exec(fmt.Sprintf("INSERT INTO k VALUES (%d, 0, NULL, %[1]d)", i), fmt.Sprintf("INSERT INTO child VALUES (%d, %[1]d)", i), fmt.Sprintf("INSERT INTO parts VALUES (%d, 0)", i))
	}
	k, parts := w.table("k").Table, w.table("parts").Table
	var changes []schema.Change
	for i, v := range []string{"0", "1", "2", "3", "0"} {
		changes = append(changes, update(k, fmt.Sprint(i), v, gone, fmt.Sprint(i*10)))
	}
	for i := range 5 {
		changes = append(changes, update(parts, fmt.Sprint(i), fmt.Sprint(i+7)))
	}
	hits, count, err := w.run(w.steps(true, changes...))
	if err != nil || total(hits) != 10 || count != 2 {
		t.Fatalf("%d sets, hits %v: %v", count, hits, err)
	}
	w.want("SELECT id, v, touched IS NOT NULL, u FROM k ORDER BY id", "0 0 0 0\n1 1 1 10\n2 2 1 20\n3 3 1 30\n4 0 1 40")
	w.want("SELECT id, u FROM child ORDER BY id", "0 0\n1 10\n2 20\n3 30\n4 40")
	w.want("SELECT id, v FROM parts ORDER BY id", "0 7\n1 8\n2 9\n3 10\n4 11")
	if hits, count, err = w.run(w.steps(true, remove(parts, "1"), remove(parts, "2"), remove(parts, "3"), remove(parts, "9"), remove(parts, "10"))); err != nil || total(hits) != 3 || count != 1 {
		t.Fatalf("%d sets, hits %v: %v", count, hits, err)
	}
	w.want("SELECT id FROM parts ORDER BY id", "0\n4")
}

// In a collation two keys may be one row. Single statements would write it twice; a set hits it once, which shows.
func TestMySQLSetOfOneRow(t *testing.T) {
	w := newSets(t, "CREATE TABLE k (id varchar(10) collate utf8mb4_general_ci PRIMARY KEY, v int)", "INSERT INTO k VALUES ('a', 0), ('b', 0), ('c', 0), ('d', 0)")
	k := w.table("k")
	hits, count, err := w.run(w.steps(true, update(k.Table, "a", "1"), update(k.Table, "A", "2"), update(k.Table, "b", "3"), update(k.Table, "c", "4"), update(k.Table, "d", "5")))
	if err != nil || total(hits) != 4 || count != 1 {
		t.Fatalf("%d sets, hits %v: %v", count, hits, err)
	}
}

// What a set is refused for is judged as of single statements, or it is a reason to try them.
func TestMySQLSetFails(t *testing.T) {
	w := newSets(t, "CREATE TABLE k (id int PRIMARY KEY, u int UNIQUE, n tinyint, w varchar(3), parent int, CHECK (n <> 13), FOREIGN KEY (parent) REFERENCES k (id) ON DELETE CASCADE)",
		"INSERT INTO k VALUES (1, 1, 1, 'a', NULL), (2, 2, 2, 'b', 1), (3, 3, 3, 'c', NULL), (4, 4, 4, 'd', NULL), (5, 5, 5, 'e', NULL), (6, 6, 6, 'f', NULL)")
	own := w.table("k")
	loose := *own.Table // as another office has it: wider
	loose.Columns = slices.Clone(own.Columns)
	k := schema.NewTable(loose)
	good := []schema.Change{update(k, "1", "1", "10", "x", null), update(k, "2", "2", "10", "x", "1"), update(k, "3", "3", "10", "x", null), update(k, "4", "4", "10", "x", null), update(k, "5", "5", "10", "x", null)}
	for _, c := range []struct {
		name string
		bad  schema.Change
		want []fault
	}{
		{"duplicate", update(k, "4", "6", "10", "x", null), []fault{duplicate}},
		{"check", update(k, "4", "4", "13", "x", null), []fault{data}},
		{"foreign key", update(k, "4", "4", "10", "x", "99"), []fault{unreferred}},
		{"range", update(k, "4", "4", "1000", "x", null), []fault{data}},
		{"length", update(k, "4", "4", "10", "long", null), []fault{data}},
		{"number", update(k, "4", "4", "ten", "x", null), []fault{data}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.ses.sets = nil
			steps := w.steps(true, good...)
			copy(steps[3].args, c.bad.After[1:]) // past the converters, which would refuse some
			_, count, err := w.run(steps)
			if err == nil || count != 1 || !slices.Contains(c.want, w.ses.judge(err).fault) {
				t.Fatalf("%d sets: %v, judged %d", count, err, w.ses.judge(err).fault)
			}
			w.want("SELECT SUM(n), GROUP_CONCAT(w) FROM k", "21 a,b,c,d,e,f")
			_, count, err = w.run(w.steps(true, good...))
			if want := map[bool]int{true: 1}[c.want[0] == duplicate]; err != nil || count != want {
				t.Fatalf("after the failure %d sets, want %d: %v", count, want, err)
			}
			w.exec("UPDATE k SET n = id, w = CHAR(96 + id USING utf8mb4)")
		})
	}
	// The cascade of one delete takes another row of the set with it.
	w.ses.sets = nil
	hits, count, err := w.run(w.steps(true, remove(k, "1"), remove(k, "2"), remove(k, "3"), remove(k, "4"), remove(k, "5")))
	if count != 1 || err != nil && w.ses.judge(err).fault != unsupported || err == nil && total(hits) != 4 {
		t.Fatalf("%d sets, hits %v: %v, judged %d", count, hits, err, w.ses.judge(err).fault)
	}
}

// Short runs, tables with triggers and changes of keys are written by single statements; long runs as several sets.
func TestMySQLSetRuns(t *testing.T) {
	w := newSets(t, "CREATE TABLE k (id int PRIMARY KEY, v int, note varchar(1000))", "INSERT INTO k SELECT seq, 0, '' FROM seq_1_to_5000",
		"CREATE TABLE triggered (id int PRIMARY KEY, v int)", "INSERT INTO triggered SELECT seq, 0 FROM seq_1_to_10",
		"CREATE TRIGGER counts BEFORE UPDATE ON triggered FOR EACH ROW SET NEW.v = NEW.v + 1", "CREATE TABLE large (id int PRIMARY KEY, v mediumtext)", "INSERT INTO large SELECT seq, '' FROM seq_1_to_100", "CREATE TABLE other (a int PRIMARY KEY, b int NOT NULL UNIQUE, c int)",
		"INSERT INTO other SELECT seq, seq, 0 FROM seq_1_to_10")
	k, triggered, other, large := w.table("k"), w.table("triggered"), w.table("other"), w.table("large")
	byB := schema.NewTable(schema.Table{TableName: other.TableName, Engine: other.Engine, Columns: other.Columns, Key: []int{1}})
	updates := func(n int, change func(id string) schema.Change) (changes []schema.Change) {
		for i := range n {
			changes = append(changes, change(fmt.Sprint(i+1)))
		}
		return changes
	}
	short := func(id string) schema.Change { return update(k.Table, id, "1", gone) }
	long := func(id string) schema.Change { return update(k.Table, id, "2", strings.Repeat("'", 1000)) }
	for _, c := range []struct {
		name    string
		changes []schema.Change
		least   int
		most    int
	}{
		{"one", updates(1, short), 0, 0},
		{"few", updates(mysqlSetLeast-1, short), 0, 0},
		{"least", updates(mysqlSetLeast, short), 1, 1},
		{"many", updates(5000, short), 5, 5},
		{"rest", updates(mysqlSetRows+1, short), 1, 1},
		{"long", updates(1000, long), 7, 8},
		{"few of a large type", updates(mysqlLargeLeast-1, func(id string) schema.Change { return update(large.Table, id, "x") }), 0, 0},
		{"large type", updates(mysqlLargeLeast, func(id string) schema.Change { return update(large.Table, id, "x") }), 1, 1},
		{"very large", updates(20, func(id string) schema.Change { return update(large.Table, id, strings.Repeat("x", 100<<10)) }), 2, 2}, // of three rows each; what is left is too few
		{"two forms", append(updates(10, short), updates(10, long)...), 2, 2},
		{"triggers", updates(10, func(id string) schema.Change { return update(triggered.Table, id, "1") }), 0, 0},
		{"moves", updates(10, func(id string) schema.Change { return rekey(k.Table, row(id, gone, gone), "-"+id, "3", gone) }), 0, 0},
		{"other key", updates(10, func(id string) schema.Change { return update(byB, gone, id, "1") }), 0, 0},
		{"mixed", slices.Concat([]schema.Change{insert(k.Table, "9001", "1", "x"), insert(k.Table, "9002", "1", "x")}, updates(4000, short)[3000:], []schema.Change{remove(k.Table, "9001"), insert(k.Table, "9003", "1", "x")}), 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			hits, count, err := w.run(w.steps(true, c.changes...))
			if err != nil || len(hits) != len(c.changes) || total(hits) != int64(len(hits)) || count < c.least || count > c.most {
				t.Fatalf("%d sets, %d hits of %d: %v", count, total(hits), len(c.changes), err)
			}
		})
	}
	w.want("SELECT COUNT(*), SUM(v = 1) FROM k WHERE id > 1010 AND id <= 5000", "3990 3990")
	w.want("SELECT SUM(LENGTH(note)) FROM k WHERE v = 2", "990000")
}

func TestMySQLRowWord(t *testing.T) {
	for version, want := range map[string]string{
		"10.11.14-MariaDB-0+deb12u2": "", "5.5.5-10.6.18-MariaDB": "", "11.4.2-MariaDB": "", "10.2.44-MariaDB": "none", "10.3.0-MariaDB": "",
		"8.0.19": "ROW", "8.0.18": "none", "8.4.0-commercial": "ROW", "9.1.0": "ROW", "5.7.44-log": "none", "nonsense": "none", "": "none",
	} {
		got := mysqlRowWord(version)
		if got == nil && want != "none" || got != nil && string(got) != want {
			t.Errorf("%s: %q, want %q", version, got, want)
		}
	}
}
