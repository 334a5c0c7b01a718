package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"cdc-sidecar/schema"
)

func TestRows(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.apply(
			tx(1, insert(item, "1", "one", "10"), insert(item, "2", "two", null), insert(item, "3", "", "0")),
			tx(2, update(item, "1", "uno", "11"), remove(item, "3")),
			tx(3, update(item, "2", gone, "22")),
			tx(4, rekey(item, row("2", gone, gone), "20", "twenty", gone)),
		)
		w.want(items, "1 uno 11\n20 twenty 22")
		w.at(4)
		w.apply(tx(5, schema.Change{Table: item, Op: schema.Truncate}, insert(item, "5", "five", "5")))
		w.want(items, "5 five 5")
		got := w.applier.Stats()[head]
		want := Stats{
			Transactions: 5, Inserts: 4, Updates: 3, Deletes: 1, Truncates: 1, Commits: 2, Seconds: got.Seconds,
			Position: schema.Position{Epoch: epoch, Seq: 5}, Commit: committed.UnixMicro(),
		}
		if got != want {
			w.Errorf("stats %+v, want %+v", got, want)
		}
	})
}

// A change says what a row is to be. A row that is otherwise than the change expects becomes so all the same.
func TestRepair(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.exec(`INSERT INTO item VALUES (1, 'mine', 1), (8, 'eight', 8)`)
		w.apply(tx(1,
			insert(item, "1", "theirs", "2"),                    // is here
			update(item, "2", "two", "2"),                       // is not here
			remove(item, "3"),                                   // is not here
			rekey(item, row("4", gone, gone), "5", "five", "5"), // neither
			update(item, "8", gone, "80"),
		))
		w.want(items, "1 theirs 2\n2 two 2\n5 five 5\n8 eight 80")
		w.at(1)
		if got := w.applier.Stats()[head]; got.Repaired != 3 || got.Missing != 1 || got.Transactions != 1 || got.Commits != 1 {
			w.Errorf("stats %+v", got)
		}
		w.rejects(2, []schema.Transaction{tx(2, update(item, "9", gone, "9"))}, "item", "id=9", "7/2", "not here")
		w.at(1)
	})
}

// The order of changes to one row counts also when the first of them was a surprise.
func TestRepairKeepsOrder(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.exec(`INSERT INTO item VALUES (1, 'mine', 1), (2, 'mine', 2)`)
		w.apply(
			tx(1, insert(item, "1", "a", "1"), remove(item, "1"), insert(item, "1", "b", "2"), update(item, "1", "c", "3")),
			tx(2, insert(item, "2", "a", "1"), remove(item, "2")),
		)
		w.want(items, "1 c 3")
		w.at(2)
	})
}

// Keys that change places go through a third one, as their origin did it.
func TestKeysChangePlaces(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.apply(
			tx(1, insert(item, "1", "a", "1"), insert(item, "2", "b", "2")),
			tx(2,
				rekey(item, row("1", gone, gone), "-1", "a", "1"),
				rekey(item, row("2", gone, gone), "1", "b", "2"),
				rekey(item, row("-1", gone, gone), "2", "a", "1")),
		)
		w.want(items, "1 b 2\n2 a 1")
	})
}

func TestDuplicatesAreSkipped(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		first, second := tx(1, insert(item, "1", "a", "1")), tx(2, remove(item, "1"))
		w.apply(first, second)
		w.apply(first) // would bring the row back
		w.apply(first, second, tx(3, insert(item, "3", "c", "3")))
		w.want(items, "3 c 3")
		w.at(3)
		if got := w.applier.Stats()[head].Duplicates; got != 3 {
			w.Errorf("%d duplicates", got)
		}
	})
}

func TestGapAndEpoch(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		err := w.applier.Apply(w.Context(), head, []schema.Transaction{tx(1, insert(item, "1", "a", "1")), tx(3, insert(item, "3", "c", "3"))})
		var gap *GapError
		if !errors.As(err, &gap) || gap.Have.Seq != 1 || gap.Got.Seq != 3 || gap.Sender != head {
			w.Fatalf("got %v", err)
		}
		w.want(items, "1 a 1") // what stood before the gap is in
		w.at(1)
		other := tx(2, insert(item, "2", "b", "2"))
		other.Pos.Epoch = epoch + 1
		var wrong *EpochError
		if err := w.applier.Apply(w.Context(), head, []schema.Transaction{other}); !errors.As(err, &wrong) || wrong.Have.Epoch != epoch {
			w.Fatalf("got %v", err)
		}
		if err := w.applier.Apply(w.Context(), "stranger", []schema.Transaction{tx(1)}); !errors.As(err, &wrong) || !wrong.Have.IsZero() {
			w.Fatalf("got %v", err)
		}
		w.want(items, "1 a 1")
	})
}

func TestProgressOfSenders(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		ctx := w.Context()
		if _, ok, err := w.applier.Progress(ctx, "north"); ok || err != nil {
			w.Fatal(ok, err)
		}
		if err := w.applier.Begin(ctx, "north", schema.Position{Epoch: 3, Seq: 9}); err != nil {
			w.Fatal(err)
		}
		all, err := w.applier.Senders(ctx)
		if err != nil || len(all) != 2 || all["north"] != (schema.Position{Epoch: 3, Seq: 9}) || all[head] != (schema.Position{Epoch: epoch}) {
			w.Fatal(all, err)
		}
		if err := w.applier.Forget(ctx, "north"); err != nil {
			w.Fatal(err)
		}
		if _, ok, err := w.applier.Progress(ctx, "north"); ok || err != nil {
			w.Fatal(ok, err)
		}
		if err := w.applier.Begin(ctx, "north", schema.Position{}); err == nil {
			w.Fatal("a position without an epoch was recorded")
		}
	})
}

// Somebody else moved the progress row: a second sidecar, or a restored database.
func TestFence(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.apply(tx(1, insert(item, "1", "a", "1")))
		second := New(w.target, Options{Office: w.office, Role: schema.Branch})
		w.Cleanup(second.Close)
		if err := second.Apply(w.Context(), head, []schema.Transaction{tx(2, update(item, "1", "second", "2"))}); err != nil {
			w.Fatal(err)
		}
		if err := w.applier.Apply(w.Context(), head, []schema.Transaction{tx(2, update(item, "1", "first", "2"))}); !errors.Is(err, ErrFenced) {
			w.Fatalf("got %v", err)
		}
		w.want(items, "1 second 2")
		w.apply(tx(2, update(item, "1", "first", "2")), tx(3, update(item, "1", "third", "3"))) // it has read the row again
		w.want(items, "1 third 3")
		w.at(3)
	})
}

func TestParts(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.exec(`INSERT INTO item VALUES (2, 'mine', 0)`)
		w.apply(tx(1, insert(item, "1", "a", "1")), part(2, 0, false, remove(item, "1")))
		w.at(1)
		w.want(items, "1 a 1\n2 mine 0")
		w.apply(part(2, 1, false, insert(item, "2", "b", "2"), insert(item, "3", "c", "3"))) // a surprise undoes this part only
		w.apply(part(2, 1, false, insert(item, "2", "b", "2")))                              // delivered twice
		w.want(items, "1 a 1\n2 mine 0")
		w.apply(part(2, 2, true), tx(3, insert(item, "4", "d", "4")))
		w.want(items, "2 b 2\n3 c 3\n4 d 4")
		w.at(3)
		if got := w.applier.Stats()[head]; got.Transactions != 3 || got.Commits != 3 || got.Repaired != 1 {
			w.Errorf("stats %+v", got)
		}
	})
}

func TestPartsThatDoNotFollow(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		var gap *GapError
		wantGap := func(tx schema.Transaction) {
			w.Helper()
			if err := w.applier.Apply(w.Context(), head, []schema.Transaction{tx}); !errors.As(err, &gap) {
				w.Fatalf("got %v", err)
			}
		}
		wantGap(part(1, 1, true, insert(item, "9", "x", "9")))
		w.apply(part(1, 0, false, insert(item, "1", "a", "1")))
		wantGap(part(1, 2, true, insert(item, "3", "c", "3")))
		w.apply(part(1, 0, false, insert(item, "1", "a", "1")))
		w.applier.Discard(w.Context())
		wantGap(part(1, 1, true, insert(item, "2", "b", "2")))
		w.apply(part(1, 0, false, insert(item, "1", "old", "1")))
		w.apply(part(1, 0, false, insert(item, "1", "a", "1")), part(1, 1, true, insert(item, "2", "b", "2"))) // it begins anew
		w.want(items, "1 a 1\n2 b 2")
		w.at(1)
	})
}

// Two branches send large transactions at the same time; neither waits for the other.
func TestPartsOfTwoSenders(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		w.createItem()
		w.begin("north")
		w.apply(part(1, 0, false, insert(item, "1", "a", "1")))
		if err := w.applier.Apply(w.Context(), "north", []schema.Transaction{part(1, 0, false, insert(item, "2", "b", "2"))}); err != nil {
			w.Fatal(err)
		}
		w.apply(part(1, 1, true))
		w.want(items, "1 a 1")
		if err := w.applier.Apply(w.Context(), "north", []schema.Transaction{part(1, 1, true)}); err != nil {
			w.Fatal(err)
		}
		w.want(items, "1 a 1\n2 b 2")
	})
}

// An office's own transactions come back as acknowledgements, and some tables are not received: progress moves all the same.
func TestOwnAndFiltered(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.applier.options.Receive = func(n schema.TableName) bool { return n.Name != "secret" }
		own := tx(1, insert(item, "1", "a", "1"))
		own.Origin = w.office
		w.apply(own, tx(2, insert(define("secret", integer("id")), "1")))
		w.want(items, "")
		w.at(2)
		if got := w.applier.Stats()[head]; got.Own != 1 || got.Filtered != 1 || got.Transactions != 2 {
			w.Errorf("stats %+v", got)
		}
	})
}

// What is rejected leaves no trace, and what came before it in the same call is in.
func TestRejected(t *testing.T) {
	wide := define("item", integer("id"), text("name"), integer("stock"), text("colour"))
	typed := func(c schema.Column) *schema.Table { return define("item", integer("id"), text("name"), c) }
	for _, c := range []struct {
		name   string
		change schema.Change
		names  []string
	}{
		{"table", insert(define("nowhere", integer("id")), "1"), []string{"table nowhere", "remedy: CREATE TABLE IF NOT EXISTS", "flow: none"}},
		{"column", insert(wide, "1", "a", "1", "red"), []string{"column colour", "id=1", "ADD COLUMN"}},
		{"null", insert(define("strict", integer("id"), integer("n")), "1", null), []string{"strict", "column n", "NULL"}},
		{"missing default", insert(define("strict", integer("id")), "1"), []string{"strict", "id=1"}},
		{"range", insert(typed(schema.Column{Name: "stock", Kind: schema.KindInt, Size: 64}), "1", "a", "3000000000"), []string{"column stock", "3000000000"}},
		{"kind", insert(typed(schema.Column{Name: "stock", Kind: schema.KindDate}), "1", "a", "2026-01-01"), []string{"column stock", "2026-01-01"}},
		{"length", insert(item, "1", strings.Repeat("ä", 101), "1"), []string{"column name", "101 characters"}},
		{"check", insert(item, "1", "a", "-5"), []string{"item", "id=1"}},
		{"no key", schema.Change{Table: schema.NewTable(schema.Table{TableName: item.TableName, Columns: item.Columns}), Op: schema.Insert, After: row("1", "a", "1")}, []string{"no key"}},
		{"other key", schema.Change{Table: schema.NewTable(schema.Table{TableName: item.TableName, Columns: item.Columns, Key: []int{1}}), Op: schema.Insert, After: row("1", "a", "1")}, []string{"identified by", "ADD UNIQUE"}},
		{"trigger", insert(define("guarded", integer("id")), "13"), []string{"guarded", "id=13", "unlucky"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, schema.Branch, func(w *world) {
				w.exec(`CREATE TABLE item (id int PRIMARY KEY, name varchar(100), stock int CHECK (stock >= 0))`,
					`CREATE TABLE strict (id int PRIMARY KEY, n int NOT NULL UNIQUE)`, `INSERT INTO strict VALUES (7, 77), (78, 78)`,
					`CREATE TABLE guarded (id int PRIMARY KEY)`)
				w.guard()
				w.apply(tx(1, insert(item, "10", "ten", "10")))
				w.rejects(3, []schema.Transaction{
					tx(2, insert(item, "20", "twenty", "20")), tx(3, insert(item, "30", "thirty", "30"), c.change), tx(4, insert(item, "40", "forty", "40")),
				}, c.names...)
				w.want(items, "10 ten 10\n20 twenty 20")
				w.at(2)
				// In parts it is the same.
				w.apply(part(3, 0, false, insert(item, "30", "thirty", "30")))
				w.rejects(3, []schema.Transaction{part(3, 1, true, c.change)}, c.names...)
				w.want(items, "10 ten 10\n20 twenty 20")
				w.at(2)
			})
		})
	}
}

// guard puts a trigger on a table that fires for the applier too.
func (w *world) guard() {
	if w.engine != schema.Postgres {
		w.exec(`CREATE TRIGGER guard BEFORE INSERT ON guarded FOR EACH ROW
			IF NEW.id = 13 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'unlucky'; END IF`)
		return
	}
	w.exec(`CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.id = 13 THEN RAISE EXCEPTION 'unlucky'; END IF; RETURN NEW; END $$`,
		`CREATE TRIGGER guard BEFORE INSERT ON guarded FOR EACH ROW EXECUTE FUNCTION guard()`,
		`ALTER TABLE guarded ENABLE ALWAYS TRIGGER guard`)
}

// Definitions are kept, but not against what the database has by now.
func TestChangedDefinition(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		wide := define("item", integer("id"), text("name"), integer("stock"), text("colour"))
		w.apply(tx(1, insert(item, "1", "a", "1")))
		w.exec(`ALTER TABLE item ADD COLUMN colour varchar(10)`)
		w.apply(tx(2, insert(wide, "2", "b", "2", "red")))
		w.exec(`ALTER TABLE item DROP COLUMN colour`)
		w.rejects(3, []schema.Transaction{tx(3, insert(wide, "3", "c", "3", "red"))}, "column colour")
		w.exec(`DROP TABLE item`)
		w.rejects(3, []schema.Transaction{tx(3, insert(item, "3", "c", "3"))}, "table item")
		w.createItem()
		w.apply(tx(3, insert(item, "3", "c", "3")))
		w.want(items, "3 c 3")
	})
}

func TestGeneratedAndIdentity(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.exec(w.pick(
			`CREATE TABLE g (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED, later int DEFAULT 5)`,
			`CREATE TABLE g (id int AUTO_INCREMENT PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED, later int DEFAULT 5)`))
		twice := integer("twice")
		twice.Generated = true
		id := integer("id")
		id.Identity = true
		g := define("g", id, integer("a"), twice)
		w.apply(tx(1, insert(g, "7", "1", "2"), insert(g, "0", "1", gone), update(g, "7", "3", "999"), update(g, "7", gone, "6")))
		w.want("SELECT id, a, twice, later FROM g ORDER BY id", "0 1 2 5\n7 3 6 5")
	})
}

// Children come after their parents, as at their origin.
func TestForeignKeys(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.exec(`CREATE TABLE parent (id int PRIMARY KEY)`,
			`CREATE TABLE child (id int PRIMARY KEY, parent int, FOREIGN KEY (parent) REFERENCES parent (id) ON DELETE CASCADE)`)
		parent, child := define("parent", integer("id")), define("child", integer("id"), integer("parent"))
		w.apply(tx(1, insert(parent, "1"), insert(child, "1", "1"), insert(parent, "2"), insert(child, "2", "2")),
			tx(2, remove(parent, "1"), remove(child, "1"))) // the order in which Postgres logs a cascade
		w.want("SELECT id, parent FROM child", "2 2")
		w.apply(tx(3, schema.Change{Table: child, Op: schema.Truncate}, schema.Change{Table: parent, Op: schema.Truncate}, insert(parent, "3")))
		w.want("SELECT (SELECT count(*) FROM child), (SELECT max(id) FROM parent)", "0 3")
	})
}

// Only the key that the origin identifies rows by counts, whether or not it is the primary one here.
func TestOtherUniqueKey(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.exec(`CREATE TABLE u (own int PRIMARY KEY DEFAULT 1, a int NOT NULL, b varchar(10) NOT NULL, v int, UNIQUE (b, a))`)
		u := schema.NewTable(schema.Table{TableName: schema.TableName{Name: "u"}, Engine: schema.Postgres, Key: []int{0, 1}, Columns: []schema.Column{integer("a"), text("b"), integer("v")}})
		w.apply(tx(1, insert(u, "1", "x", "1")), tx(2, insert(u, "1", "x", "2")), tx(3, update(u, "1", "x", "3")))
		w.want("SELECT own, a, b, v FROM u", "1 1 x 3")
	})
}

func TestNamesThatNeedQuotes(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		mark := w.pick(`"`, "`")
		q := func(s string) string { return mark + strings.ReplaceAll(s, mark, mark+mark) + mark }
		names := []string{"select", "a`b", `a"b`, "Ünïcode 😀", "$1", "a.b", "%s?"}
		if w.engine != schema.Postgres {
			names[3] = "Ünïcode" // MySQL's names stay in the first plane
		}
		for i, name := range names {
			seq := uint64(2*i + 1)
			w.exec(fmt.Sprintf("CREATE TABLE %s (%s int PRIMARY KEY, %s varchar(20))", q(name), q(name), q("x"+name)))
			table := define(name, integer(name), text("x"+name))
			w.apply(tx(seq, insert(table, "1", name)), tx(seq+1, update(table, "1", "'"+name+`\`)))
			w.want(fmt.Sprintf("SELECT * FROM %s", q(name)), "1 '"+name+`\`)
		}
	})
}

// The head's own log is divided by progress rows: each transaction has its own, with what is forwarded with it.
func TestHeadMarksEachTransaction(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		w.createItem()
		w.exec(w.pick(`CREATE TABLE history (n serial PRIMARY KEY, what text)`, `CREATE TABLE history (n int AUTO_INCREMENT PRIMARY KEY, what text)`))
		w.record("cdc_sidecar.progress", "concat('mark ', NEW.seq, ' ', NEW.stamp_millis, ' ', NEW.stamp_counter, ' ', NEW.committed)")
		w.record("item", "concat('item ', NEW.id)")
		w.apply(tx(1, insert(item, "1", "a", "1"), insert(item, "2", "b", "2")), tx(2), tx(3, insert(item, "3", "c", "3")))
		micros := committed.UnixMicro()
		w.want("SELECT what FROM history ORDER BY n", strings.Join([]string{
			fmt.Sprintf("mark 1 1001 3 %d", micros), "item 1", "item 2", fmt.Sprintf("mark 2 1002 3 %d", micros),
			fmt.Sprintf("mark 3 1003 3 %d", micros), "item 3",
		}, "\n"))
		if got := w.applier.Stats()[head].Commits; got != 1 {
			w.Errorf("%d commits for one group", got)
		}
	})
}

// record writes a line of history for each row written, in the applier's own transaction.
func (w *world) record(table, what string) {
	name := strings.ReplaceAll(table, ".", "_")
	if w.engine != schema.Postgres {
		database, table, ok := strings.Cut(table, ".")
		if !ok {
			database, table = w.dsn.Database, database
		}
		w.exec(fmt.Sprintf("CREATE TRIGGER %s.h_%s AFTER %s ON %s.%s FOR EACH ROW INSERT INTO %s.history (what) VALUES (%s)",
			database, name, map[bool]string{true: "UPDATE", false: "INSERT"}[ok], database, table, w.dsn.Database, what))
		w.Cleanup(func() {
			if err := w.db.exec(context.Background(), fmt.Sprintf("DROP TRIGGER %s.h_%s", database, name)); err != nil {
				w.Error(err)
			}
		})
		return
	}
	w.exec(fmt.Sprintf(`CREATE FUNCTION h_%s() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.history (what) VALUES (%s); RETURN NULL; END $$`, name, what),
		fmt.Sprintf(`CREATE TRIGGER h AFTER INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION h_%s()`, table, name),
		fmt.Sprintf(`ALTER TABLE %s ENABLE ALWAYS TRIGGER h`, table))
}

// At a branch nothing is forwarded: one progress row for the group, before everything else.
func TestBranchMarksTheGroup(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.exec(w.pick(`CREATE TABLE history (n serial PRIMARY KEY, what text)`, `CREATE TABLE history (n int AUTO_INCREMENT PRIMARY KEY, what text)`))
		w.record("cdc_sidecar.progress", "concat('mark ', NEW.seq)")
		w.record("item", "concat('item ', NEW.id)")
		w.apply(tx(1, insert(item, "1", "a", "1")), tx(2), tx(3, insert(item, "3", "c", "3")))
		w.want("SELECT what FROM history ORDER BY n", "mark 3\nitem 1\nitem 3")
	})
}

// Groups are bounded, and a transaction larger than the bound is still one.
func TestGroupSize(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		var txs []schema.Transaction
		id := 0
		for seq := uint64(1); seq <= 5; seq++ {
			var changes []schema.Change
			for range 2250 {
				id++
				changes = append(changes, insert(item, fmt.Sprint(id), "n", "0"))
			}
			txs = append(txs, tx(seq, changes...))
		}
		w.apply(txs...)
		w.want("SELECT count(*), max(id) FROM item", "11250 11250")
		if got := w.applier.Stats()[head].Commits; got != 3 {
			w.Errorf("%d commits", got)
		}
	})
}
