package apply

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"cdc-sidecar/schema"
)

// mariaTable is a table as a MariaDB logs it, keyed by its first columns.
func mariaTable(name string, keys int, columns ...schema.Column) *schema.Table {
	t := schema.Table{TableName: schema.TableName{Name: name}, Engine: schema.MariaDB, Columns: columns}
	for i := range keys {
		t.Key = append(t.Key, i)
	}
	return schema.NewTable(t)
}

// inPostgres is the same table as a Postgres logs it.
func inPostgres(t *schema.Table) *schema.Table {
	p := *t
	p.Engine = schema.Postgres
	return schema.NewTable(p)
}

// counted has each delete and update of a table counted that was a statement: what a MariaDB's foreign key does fires no
// trigger, and is in no log. Postgres fires none for what is applied.
func (w *world) counted(tables ...string) {
	if w.engine == schema.Postgres {
		return
	}
	w.exec("CREATE TABLE said (what varchar(40))")
	for _, t := range tables {
		w.exec(fmt.Sprintf("CREATE TRIGGER %s_d AFTER DELETE ON %s FOR EACH ROW INSERT INTO said VALUES ('%s deleted')", t, t, t),
			fmt.Sprintf("CREATE TRIGGER %s_u AFTER UPDATE ON %s FOR EACH ROW INSERT INTO said VALUES ('%s updated')", t, t, t))
	}
}

func (w *world) wantSaid(want string) {
	w.Helper()
	if w.engine != schema.Postgres {
		w.want("SELECT concat(what, ' ', count(*)) FROM said GROUP BY what ORDER BY what", want)
	}
}

// wantQuiet wants nothing repaired, and no delete that found nothing.
func (w *world) wantQuiet() {
	w.Helper()
	if s := w.applier.Stats()[head]; s.Repaired != 0 || s.Missing != 0 {
		w.Errorf("%d repaired, %d missing; want none", s.Repaired, s.Missing)
	}
}

var (
	cascadeA = mariaTable("a", 1, integer("id"), text("name"))
	cascadeB = mariaTable("b", 1, integer("id"), integer("a"))
	cascadeC = mariaTable("c", 1, integer("id"), integer("b"))
)

// chain is three tables, each following the one before.
var chain = []string{
	"CREATE TABLE a (id int PRIMARY KEY, name varchar(20))",
	"CREATE TABLE b (id int PRIMARY KEY, a int, CONSTRAINT of_a FOREIGN KEY (a) REFERENCES a (id) ON DELETE CASCADE)",
	"CREATE TABLE c (id int PRIMARY KEY, b int, CONSTRAINT of_b FOREIGN KEY (b) REFERENCES b (id) ON DELETE CASCADE)",
	"INSERT INTO a VALUES (1, 'x'), (2, 'y')", "INSERT INTO b VALUES (10, 1), (11, 1), (20, 2)", "INSERT INTO c VALUES (100, 10), (110, 11), (111, 11), (200, 20), (300, NULL)",
}

// followers are what applications have their foreign keys do.
var followers = []struct {
	name    string
	create  []string
	tables  string
	changes []schema.Change
	want    map[string]string // by query
	said    string
	only    schema.Engine
}{
	{
		name: "a chain", create: chain, tables: "a b c", changes: []schema.Change{remove(cascadeA, "1")},
		want: map[string]string{"SELECT id FROM a": "2", "SELECT id FROM b": "20", "SELECT id FROM c ORDER BY id": "200\n300"},
		said: "a deleted 1\nb deleted 2\nc deleted 3",
	},
	{
		name: "what was written just before", create: chain, tables: "a b c",
		changes: []schema.Change{
			insert(cascadeB, "30", "2"), insert(cascadeC, "400", "30"), update(cascadeB, "10", "2"), remove(cascadeC, "200"), remove(cascadeA, "2"), remove(cascadeC, "300"),
		},
		want: map[string]string{"SELECT id FROM a": "1", "SELECT id FROM b": "11", "SELECT id FROM c ORDER BY id": "110\n111"},
		said: "a deleted 1\nb deleted 3\nb updated 1\nc deleted 4",
	},
	{
		name: "itself", tables: "node", create: []string{
			"CREATE TABLE node (id int PRIMARY KEY, up int, CONSTRAINT up FOREIGN KEY (up) REFERENCES node (id) ON DELETE CASCADE)",
			"INSERT INTO node VALUES (1, NULL)", "INSERT INTO node VALUES (2, 1)", "INSERT INTO node VALUES (3, 2)", "INSERT INTO node VALUES (4, NULL)", "INSERT INTO node VALUES (5, 5)", "INSERT INTO node VALUES (6, 4)",
		},
		changes: []schema.Change{remove(mariaTable("node", 1, integer("id"), integer("up")), "1"), remove(mariaTable("node", 1, integer("id"), integer("up")), "5")},
		want:    map[string]string{"SELECT id FROM node ORDER BY id": "4\n6"}, said: "node deleted 4",
	},
	{
		name: "a circle", tables: "x y", create: []string{
			"CREATE TABLE x (id int PRIMARY KEY, y int)", "CREATE TABLE y (id int PRIMARY KEY, x int, FOREIGN KEY (x) REFERENCES x (id) ON DELETE CASCADE)",
			"INSERT INTO x VALUES (1, 1), (2, 2)", "INSERT INTO y VALUES (1, 2), (2, 1)", "ALTER TABLE x ADD FOREIGN KEY (y) REFERENCES y (id) ON DELETE CASCADE",
		},
		changes: []schema.Change{remove(mariaTable("x", 1, integer("id"), integer("y")), "1")},
		want:    map[string]string{"SELECT count(*) FROM x": "0", "SELECT count(*) FROM y": "0"}, said: "x deleted 2\ny deleted 2",
	},
	{
		name: "set null", tables: "a d", create: []string{
			chain[0], "CREATE TABLE d (id int PRIMARY KEY, a int, name varchar(9), FOREIGN KEY (a) REFERENCES a (id) ON DELETE SET NULL)",
			chain[3], "INSERT INTO d VALUES (1, 1, 'one'), (2, 2, 'two')",
		},
		changes: []schema.Change{remove(cascadeA, "1")},
		want:    map[string]string{"SELECT id, a, name FROM d ORDER BY id": "1 NULL one\n2 2 two"}, said: "a deleted 1\nd updated 1",
	},
	{
		name: "set default", only: schema.Postgres, create: []string{
			chain[0], "CREATE TABLE d (id int PRIMARY KEY, a int DEFAULT 1 + 1, FOREIGN KEY (a) REFERENCES a (id) ON DELETE SET DEFAULT)",
			chain[3], "INSERT INTO d VALUES (1, 1), (2, 2)",
		},
		changes: []schema.Change{remove(cascadeA, "1")},
		want:    map[string]string{"SELECT id, a FROM d ORDER BY id": "1 2\n2 2"},
	},
	{
		name: "a key", tables: "a l m", create: []string{
			chain[0], "CREATE TABLE l (a int, n int, text varchar(9), PRIMARY KEY (a, n), FOREIGN KEY (a) REFERENCES a (id) ON UPDATE CASCADE)",
			"CREATE TABLE m (id int PRIMARY KEY, a int, n int, FOREIGN KEY (a, n) REFERENCES l (a, n) ON UPDATE CASCADE)",
			chain[3], "INSERT INTO l VALUES (1, 1, 'p'), (1, 2, 'q'), (2, 1, 'r')", "INSERT INTO m VALUES (1, 1, 1), (2, 1, 2), (3, 2, 1)",
		},
		changes: []schema.Change{rekey(cascadeA, row("1", "x"), "7", "x"), rekey(cascadeA, row("2", "y"), "2", "z")},
		want: map[string]string{
			"SELECT id, name FROM a ORDER BY id": "2 z\n7 x", "SELECT a, n, text FROM l ORDER BY a, n": "2 1 r\n7 1 p\n7 2 q", "SELECT id, a, n FROM m ORDER BY id": "1 7 1\n2 7 2\n3 2 1",
		},
		said: "a updated 2\nl updated 2\nm updated 2",
	},
	{
		name: "two ways", tables: "a b e f", create: []string{
			chain[0], chain[1], "CREATE TABLE e (id int PRIMARY KEY, a int, FOREIGN KEY (a) REFERENCES a (id) ON DELETE CASCADE)",
			"CREATE TABLE f (id int PRIMARY KEY, b int, e int, a int, FOREIGN KEY (b) REFERENCES b (id) ON DELETE CASCADE, FOREIGN KEY (e) REFERENCES e (id) ON DELETE CASCADE, FOREIGN KEY (a) REFERENCES a (id) ON DELETE SET NULL)",
			chain[3], chain[4], "INSERT INTO e VALUES (5, 1)", "INSERT INTO f VALUES (1, 10, 5, NULL), (2, 20, NULL, 1)",
		},
		changes: []schema.Change{remove(cascadeA, "1")},
		want:    map[string]string{"SELECT id FROM b": "20", "SELECT count(*) FROM e": "0", "SELECT id, b, a FROM f": "2 20 NULL"},
		said:    "a deleted 1\nb deleted 2\ne deleted 1\nf deleted 1\nf updated 1",
	},
	{
		name: "by another key", tables: "p q", create: []string{
			"CREATE TABLE p (id int PRIMARY KEY, code varchar(9) UNIQUE)", "CREATE TABLE q (id int PRIMARY KEY, code varchar(9), FOREIGN KEY (code) REFERENCES p (code) ON DELETE CASCADE ON UPDATE CASCADE)",
			"INSERT INTO p VALUES (1, 'k'), (2, 'l')", "INSERT INTO q VALUES (1, 'k'), (2, 'l')",
		},
		changes: []schema.Change{remove(mariaTable("p", 1, integer("id"), text("code")), "1"), update(mariaTable("p", 1, integer("id"), text("code")), "2", "m")},
		want:    map[string]string{"SELECT id, code FROM q": "2 m", "SELECT id, code FROM p": "2 m"}, said: "p deleted 1\np updated 1\nq deleted 1\nq updated 1",
	},
}

func TestFollowers(t *testing.T) {
	for _, test := range followers {
		for _, role := range []schema.Role{schema.Branch, schema.Head} {
			t.Run(test.name+"/"+string(role), func(t *testing.T) {
				each(t, role, func(w *world) {
					if test.only != "" && test.only != w.engine {
						w.Skip("only " + test.only)
					}
					w.exec(test.create...)
					w.counted(strings.Fields(test.tables)...)
					w.apply(tx(1, test.changes...), tx(2))
					for query, want := range test.want {
						w.want(query, want)
					}
					w.wantSaid(test.said)
					w.wantQuiet()
					w.at(2)
				})
			})
		}
	}
}

// Many transactions in one go, and one parent with more children than are looked up at once.
func TestManyFollowers(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		w.exec(chain[:3]...)
		w.exec("CREATE INDEX by_a ON b (a)", "CREATE INDEX by_b ON c (b)")
		const parents, children = 40, 10_000
		var as, bs []string
		for i := range parents {
			as, bs = append(as, fmt.Sprintf("(%d, 'x')", i)), append(bs, fmt.Sprintf("(%d, %d)", -1-i, i))
		}
		for i := range children {
			bs = append(bs, fmt.Sprintf("(%d, %d)", i, 0))
		}
		w.exec("INSERT INTO a VALUES "+strings.Join(as, ","), "INSERT INTO b VALUES "+strings.Join(bs, ","), "INSERT INTO c SELECT id, id FROM b")
		var txs []schema.Transaction
		for i := range uint64(parents - 1) {
			txs = append(txs, tx(i+1, remove(cascadeA, strconv.FormatUint(i, 10)), insert(cascadeC, strconv.FormatUint(20_000+i, 10), null)))
		}
		w.apply(txs...)
		w.want("SELECT count(*) FROM a", "1")
		w.want("SELECT count(*) FROM b", "1")
		w.want("SELECT count(*) FROM c", strconv.Itoa(parents))
		w.at(parents - 1)
		w.wantQuiet()
		if s := w.applier.Stats()[head]; s.Commits != 1 || s.Transactions != parents-1 {
			t.Errorf("%d commits of %d transactions, want one of %d", s.Commits, s.Transactions, parents-1)
		}
	})
}

// A transaction in parts: what an earlier part wrote follows a later one.
func TestFollowersOfParts(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.exec(chain...)
		w.apply(part(1, 0, false, insert(cascadeB, "12", "1")), part(1, 1, true, remove(cascadeA, "1")))
		w.want("SELECT id FROM b", "20")
		w.want("SELECT id FROM c ORDER BY id", "200\n300")
		w.at(1)
	})
}

// What this office does not take is left alone by us; a MariaDB has it follow by itself.
func TestFollowersThatAreNotOurs(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.exec(chain...)
		w.applier.options.Receive = func(n schema.TableName) bool { return n.Name != "c" }
		w.apply(tx(1, remove(cascadeA, "1")))
		w.want("SELECT id FROM b", "20")
		w.want("SELECT count(*) FROM c", w.pick("5", "2"))
	})
}

// A Postgres logs what follows behind what it follows: it has been done by then, and nothing is missing.
func TestFollowersThatAreLogged(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.exec(chain...)
		w.exec("CREATE TABLE l (a int, n int, text varchar(9), PRIMARY KEY (a, n), FOREIGN KEY (a) REFERENCES a (id) ON UPDATE CASCADE)", "INSERT INTO l VALUES (2, 1, 'p')")
		w.counted("b", "c", "l")
		a, b, c := inPostgres(cascadeA), inPostgres(cascadeB), inPostgres(cascadeC)
		l := inPostgres(mariaTable("l", 2, integer("a"), integer("n"), text("text")))
		w.apply(
			tx(1, remove(a, "1"), remove(b, "10"), remove(b, "11"), remove(c, "100"), remove(c, "110"), remove(c, "111"), insert(b, "10", "2"), remove(b, "10")),
			tx(2, rekey(a, row("2", "y"), "7", "y"), rekey(b, row("20", gone), "20", "7"), rekey(l, row("2", "1", gone), "7", "1", "p")),
		)
		w.want("SELECT id, a FROM b", "20 7")
		w.want("SELECT a, n, text FROM l", "7 1 p")
		// A row that refers to it in two ways: its reference is cleared before it goes.
		w.exec("INSERT INTO a VALUES (3, 'z')", "INSERT INTO b VALUES (30, 3)", "CREATE TABLE g (id int PRIMARY KEY, b int, a int, FOREIGN KEY (b) REFERENCES b (id) ON DELETE CASCADE, FOREIGN KEY (a) REFERENCES a (id) ON DELETE SET NULL)",
			"INSERT INTO g VALUES (1, 30, 3)")
		w.applier.Close()
		w.applier = New(w.target, w.applier.options)
		w.Cleanup(w.applier.Close)
		g := inPostgres(mariaTable("g", 1, integer("id"), integer("b"), integer("a")))
		w.apply(tx(3, remove(a, "3"), rekey(g, row("1", "30", "3"), "1", "30", null), remove(b, "30"), remove(g, "1")))
		w.want("SELECT count(*) FROM g", "0")
		w.want("SELECT id FROM c ORDER BY id", "200\n300")
		w.wantQuiet()
	})
}

// What a head did that followed a new key comes behind the key, whoever the head is.
func TestFollowersThatTheHeadLogged(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.exec(followers[6].create...)
		a, l := mariaTable("a", 1, integer("id"), text("name")), mariaTable("l", 2, integer("a"), integer("n"), text("text"))
		m := mariaTable("m", 1, integer("id"), integer("a"), integer("n"))
		w.apply(tx(1, rekey(a, row("1", "x"), "7", "x"), rekey(l, row("1", "1", "p"), "7", "1", "p"), rekey(l, row("1", "2", "q"), "7", "2", "q"),
			rekey(m, row("1", "1", "1"), "1", "7", "1"), rekey(m, row("2", "1", "2"), "2", "7", "2")))
		for query, want := range followers[6].want {
			w.want(query, strings.ReplaceAll(want, "2 z", "2 y"))
		}
		w.wantQuiet()
	})
}

// At the head what follows meets what others did to it, as if it were in the log; but it follows, and what they did is in the conflict log.
func TestFollowersThatAreContested(t *testing.T) {
	test := func(w *world) {
		h := newHead(w)
		w.exec("CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1)")
		w.exec("CREATE TABLE item (id int PRIMARY KEY, name varchar(100), stock int, FOREIGN KEY (stock) REFERENCES a (id) ON DELETE CASCADE)")
		w.exec("INSERT INTO item VALUES (1, 'one', 1), (2, 'two', 1)")
		h.clocks.touched(head, 50, 5000, false, "2")
		h.apply(h.tx(north, 40, 3000, remove(mariaTable("a", 1, integer("id")), "1")))
		w.want(items, "")
		w.want("SELECT count(*) FROM a", "0")
		h.wantLog("id=2 update/delete latest remote decided: {2,two,1} of head 5000.1 and {2} to none of north 3000.2: none")
		h.wantTold("delete id=2 of north 3000.2")
		if n := h.clocks.barriers(); n > 4 {
			w.Errorf("%d barriers for one delete", n)
		}
	}
	t.Run("postgres", func(t *testing.T) { test(postgresWorld(t, schema.Head)) })
	t.Run("mariadb", func(t *testing.T) { test(mysqlWorld(t, schema.Head)) })
}

// A trigger can tell what is applied.
func TestTriggersCanTellAnApply(t *testing.T) {
	w := mysqlWorld(t, schema.Branch)
	w.createItem()
	w.exec("CREATE TABLE said (what varchar(40))",
		"CREATE TRIGGER said AFTER INSERT ON item FOR EACH ROW BEGIN IF @cdc_sidecar_apply IS NULL THEN INSERT INTO said VALUES (NEW.name); END IF; END")
	w.apply(tx(1, insert(item, "1", "applied", "1")))
	w.exec("INSERT INTO item VALUES (2, 'written', 1)")
	w.want("SELECT what FROM said", "written")
	w.want("SELECT count(*) FROM item", "2")
}
