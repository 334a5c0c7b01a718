package apply

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// openSession connects as an Applier does.
func (w *world) openSession() *postgresSession {
	w.Helper()
	ses, err := w.target.connect(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(ses.close)
	s, ok := ses.(*postgresSession)
	if !ok {
		w.Fatalf("session %T", ses)
	}
	return s
}

// steps binds changes as the writer does; joined says that they are one run.
func (w *world) steps(s session, joined bool, changes ...schema.Change) []step {
	w.Helper()
	steps := make([]step, len(changes))
	for i := range changes {
		c := &changes[i]
		p, err := s.defs().plan(w.Context(), c.Table)
		if err != nil {
			w.Fatal(err)
		}
		if steps[i], _, err = p.bind(c.Op, c, c.KeyRow(), nil); err != nil {
			w.Fatal(err)
		}
		steps[i].joins = joined && i > 0
	}
	return steps
}

// commits runs steps in a transaction and returns how many rows they hit.
func (w *world) commits(s session, steps []step) (sum int64) {
	w.Helper()
	s.begin()
	hits, failed, err := s.run(w.Context(), steps, nil)
	if err == nil {
		err = s.commit(w.Context())
	}
	if err != nil || len(hits) != len(steps) {
		w.Fatalf("%d hits of %d steps, failed %d: %v", len(hits), len(steps), failed, err)
	}
	for _, n := range hits {
		sum += n
	}
	return sum
}

// Rows of any type written by one statement become what single statements make of them: inserted, updated, deleted, and
// found by a key of that type.
func TestManyRowsAsOneByOne(t *testing.T) {
	asksServers(t)
	w := postgresWorld(t, schema.Branch)
	types := append([]string{"citext", `"char"`, "name", "xml", "yard"}, postgresTypes...)
	w.exec("CREATE EXTENSION citext", "CREATE DOMAIN yard AS varchar(3)")
	typed := newTyped(w, types)
	for i := range typed.tables {
		w.exec(fmt.Sprintf("CREATE TABLE one%02d (LIKE t%02d INCLUDING ALL)", i, i), fmt.Sprintf("CREATE TABLE copy%02d (LIKE t%02d INCLUDING ALL)", i, i))
	}
	s := w.openSession()
	asOne, byCopy := map[string]bool{}, map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		for range 5 {
			i := rapid.IntRange(0, len(types)-1).Draw(t, "type")
			many := typed.tables[i].Table
			one := *many
			one.Name = fmt.Sprintf("one%02d", i)
			changes := w.drawRows(t, &typed.tables[i])
			for _, of := range changes {
				steps := w.steps(s, true, of...)
				n := w.commits(s, steps)
				if of[0].Op == schema.Insert {
					asOne[types[i]] = steps[0].form.many.form.sql != ""
				}
				for j := range of {
					of[j].Table = schema.NewTable(one)
				}
				if single := w.commits(s, w.steps(s, false, of...)); n != single {
					t.Fatalf("%s of %s: %d rows by one statement, %d by single ones", of[0].Op, types[i], n, single)
				}
				got, want := w.rows("SELECT id, v::text FROM "+many.Name+" ORDER BY id"), w.rows("SELECT id, v::text FROM "+one.Name+" ORDER BY id")
				if got != want {
					t.Fatalf("%s of %s: by one statement\n%s\nby single ones\n%s", of[0].Op, types[i], got, want)
				}
				if of[0].Op != schema.Insert {
					continue
				}
				byCopy[types[i]] += w.asCopied(t, s, fmt.Sprintf("copy%02d", i), want, of)
			}
			w.exec("DELETE FROM "+many.Name, "DELETE FROM "+one.Name)
		}
	})
	went := 0
	for _, n := range byCopy {
		went += min(n, 1)
	}
	if went < 5 {
		t.Errorf("only rows of %v went by COPY", byCopy)
	}
	for name := range asOne {
		odd := name == `"char"` || name == "name" || name == "xml" || name == "yard"
		if asOne[name] == odd {
			t.Errorf("rows with %s by one statement: %v", name, asOne[name])
		}
	}
}

// asCopied writes inserts of a type into a table by COPY, if it takes them, and compares.
func (w *world) asCopied(t *rapid.T, s *postgresSession, name, want string, inserts []schema.Change) int {
	table := *inserts[0].Table
	table.Name = name
	for i := range inserts {
		inserts[i].Table = schema.NewTable(table)
	}
	n := w.copies(s, w.steps(s, true, inserts...))
	if n > 0 {
		if got := w.rows("SELECT id, v::text FROM " + name + " ORDER BY id"); got != want {
			t.Fatalf("%s: by COPY\n%s\nby single ones\n%s", name, got, want)
		}
		w.exec("DELETE FROM " + name)
	}
	return n
}

// copies sends steps by COPY, in a transaction, and returns how many; 0: it does not take them.
func (w *world) copies(s *postgresSession, steps []step) int {
	w.Helper()
	steps[0].form.copied = newCopied(steps[0].plan, steps[0].form)
	if steps[0].form.copied.sql == "" {
		return 0
	}
	s.begin()
	_, _, err := s.run(w.Context(), nil, nil)
	if err != nil {
		w.Fatal(err)
	}
	sent, rows, err := s.copyIn(w.Context(), steps)
	if err == nil {
		err = s.commit(w.Context())
	}
	if err != nil || int(rows) != sent || sent != 0 && sent != len(steps) {
		w.Fatalf("%d of %d rows sent by COPY, %d written: %v", sent, len(steps), rows, err)
	}
	return sent
}

// drawRows draws inserts of some rows, updates of most of them and some more, and deletes.
func (w *world) drawRows(t *rapid.T, table *catalog.Table) [][]schema.Change {
	column := &table.Columns[1]
	value := func() schema.Value {
		switch {
		case rapid.IntRange(0, 9).Draw(t, "null") == 0:
			return schema.NullValue()
		case column.Native == "yard", column.Native == `"char"`:
			return schema.Of(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "value"))
		case column.Native == "xml":
			return schema.Of("<a/>")
		case column.Native == "name":
			return schema.Of("käse")
		}
		return schema.Of(draw(t, schema.Postgres, column))
	}
	var inserts, updates, deletes []schema.Change
	for id := range 20 {
		key := schema.Of(strconv.Itoa(id))
		inserts = append(inserts, schema.Change{Table: table.Table, Op: schema.Insert, After: schema.Row{key, value()}})
		if id%5 > 0 {
			key = schema.Of(strconv.Itoa(id + 1))
		} else {
			key = schema.Of(strconv.Itoa(id + 100))
		}
		updates = append(updates, schema.Change{Table: table.Table, Op: schema.Update, After: schema.Row{key, value()}})
		deletes = append(deletes, schema.Change{Table: table.Table, Op: schema.Delete, Before: schema.Row{key, {}}})
	}
	return [][]schema.Change{inserts, updates, deletes}
}

// Keys of any type that can be one: the row is found by it, as by a single statement.
func TestManyRowsByKeysOfAnyType(t *testing.T) {
	asksServers(t)
	w := postgresWorld(t, schema.Branch)
	for i, kind := range []string{
		"smallint", "bigint", "numeric", "numeric(10,2)", "real", "double precision", "text", "varchar(10)", "char(5)", "bytea", "date", "timestamp",
		"timestamptz", "uuid", "bit(8)", "bit varying(10)", "interval", "inet", "boolean", "time", "oid",
	} {
		t.Run(kind, func(t *testing.T) {
			name := fmt.Sprintf("k%02d", i)
			w.exec(fmt.Sprintf("CREATE TABLE %s (k %s PRIMARY KEY, n int)", name, kind))
			s := w.openSession()
			if err := s.defs().load(t.Context()); err != nil {
				t.Fatal(err)
			}
			table := s.defs().tables[schema.TableName{Name: name}]
			rapid.Check(t, func(t *rapid.T) {
				w.exec("DELETE FROM " + name)
				var inserts, updates, deletes []schema.Change
				seen := map[string]bool{}
				for range 40 {
					text := draw(t, schema.Postgres, &table.Columns[0])
					if seen[text] || text == "-0" { // equal to 0
						continue
					}
					seen[text] = true
					key := schema.Of(text)
					inserts = append(inserts, schema.Change{Table: table.Table, Op: schema.Insert, After: schema.Row{key, schema.Of("1")}})
					updates = append(updates, schema.Change{Table: table.Table, Op: schema.Update, After: schema.Row{key, schema.Of("2")}})
					deletes = append(deletes, schema.Change{Table: table.Table, Op: schema.Delete, Before: schema.Row{key, {}}})
				}
				// Numbers such as 1.1 and 1.10 are one key: the first of them is there.
				s.begin()
				for _, st := range w.steps(s, false, inserts...) {
					if _, _, err := s.run(w.Context(), []step{st}, nil); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.commit(w.Context()); err != nil {
					t.Fatal(err)
				}
				rows := w.rows("SELECT count(*) FROM " + name)
				if got := w.commits(s, w.steps(s, true, updates...)); strconv.FormatInt(got, 10) != rows {
					t.Fatalf("%d of %s rows updated", got, rows)
				}
				w.want("SELECT count(*) FROM "+name+" WHERE n = 2", rows)
				if got := w.commits(s, w.steps(s, true, deletes...)); strconv.FormatInt(got, 10) != rows {
					t.Fatalf("%d of %s rows deleted", got, rows)
				}
			})
		})
	}
}

// A statement for many rows finds them by their keys, also when it was made while the table was tiny.
func TestManyRowsAreLookedUp(t *testing.T) {
	w := postgresWorld(t, schema.Branch)
	w.createItem()
	w.exec("INSERT INTO item VALUES (1, 'one', 1)", "VACUUM ANALYZE item", "ALTER TABLE item SET (autovacuum_enabled = off)")
	s := w.openSession()
	const rows = 500
	var updates, deletes []schema.Change
	for id := range rows {
		updates = append(updates, update(item, strconv.Itoa(10*id+1), "x", "7"))
		deletes = append(deletes, remove(item, strconv.Itoa(10*id+1)))
	}
	for range 10 { // more often than the planner needs to settle on a plan
		w.commits(s, w.steps(s, true, updates...))
		w.commits(s, w.steps(s, true, deletes...))
		w.exec("INSERT INTO item VALUES (1, 'one', 1)")
	}
	w.exec("INSERT INTO item SELECT i, 'n', 0 FROM generate_series(2, 50000) AS i")
	for _, changes := range [][]schema.Change{updates, deletes} {
		s.begin()
		if _, _, err := s.run(t.Context(), w.steps(s, true, changes...), nil); err != nil {
			t.Fatal(err)
		}
		var read int64
		err := s.conn.QueryRow(t.Context(), "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'item'").Scan(&read)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if read < rows || read > 3*rows {
			t.Errorf("%s of %d rows read %d", changes[0].Op, rows, read)
		}
	}
	w.want("SELECT count(*) FROM item", "49500")
	var mode string
	if err := s.conn.QueryRow(t.Context(), "SHOW plan_cache_mode").Scan(&mode); err != nil || mode != "auto" {
		t.Errorf("plan_cache_mode is left %s, %v", mode, err)
	}
}

// What no statement for many rows takes is found out, and only the change to blame is rejected.
func TestOneAmongMany(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		w.exec("CREATE TABLE item (id int PRIMARY KEY, name varchar(100) UNIQUE, stock int CHECK (stock >= 0))",
			"INSERT INTO item VALUES (7, 'seven', 7), (900, 'taken', 0)")
		var changes []schema.Change
		for id := 1; id <= 40; id++ { // of them 7 is here
			changes = append(changes, insert(item, strconv.Itoa(id), "n"+strconv.Itoa(id), strconv.Itoa(id)))
		}
		for id := 21; id <= 60; id++ { // of them those from 41 on are not
			changes = append(changes, update(item, strconv.Itoa(id), "m"+strconv.Itoa(id), "0"))
		}
		for id := 31; id <= 70; id++ {
			changes = append(changes, remove(item, strconv.Itoa(id)))
		}
		w.apply(tx(1, changes...))
		w.want("SELECT count(*), sum(id), sum(stock) FROM item WHERE id < 900", "30 465 210")
		w.want("SELECT name FROM item WHERE id IN (7, 21) ORDER BY id", "n7\nm21")
		if got := w.applier.Stats()[head]; got.Repaired != 21 || got.Missing != 10 || got.Inserts != 40 || got.Updates != 40 || got.Deletes != 40 {
			w.Errorf("stats %+v", got)
		}
		changes = nil
		for id := 1; id <= 30; id++ {
			stock := "5"
			if id == 23 {
				stock = "-5"
			}
			changes = append(changes, update(item, strconv.Itoa(id), "k"+strconv.Itoa(id), stock))
		}
		w.rejects(3, []schema.Transaction{tx(2, changes[:20]...), tx(3, changes[20:]...)}, "item", "id=23")
		w.at(2)
		w.want("SELECT count(*) FROM item WHERE stock = 5", "20")
	})
}

// Where many rows go by COPY, among other steps, all stand there in the end; and a row that is here already is told, and undone.
func TestRunWithCopy(t *testing.T) {
	w := postgresWorld(t, schema.Branch)
	w.exec("CREATE TABLE items (id bigint PRIMARY KEY, v text, n numeric(12,2))", "CREATE TABLE other (id bigint PRIMARY KEY, v text, n numeric(12,2))")
	s := w.openSession()
	tables, err := s.definition.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	insert := func(name string, from, n int) (all []schema.Change) {
		at := slices.IndexFunc(tables, func(t catalog.Table) bool { return t.Name == name })
		table := tables[at].Table
		for i := range n {
			all = append(all, schema.Change{Table: table, Op: schema.Insert, After: schema.Row{
				schema.Of(strconv.Itoa(from + i)), schema.Of("tab\t, newline\n, back\\slash"), schema.Of("-12.50"),
			}})
		}
		return all
	}
	steps := w.steps(s, true, insert("items", 0, copyFewest-1)...)
	steps = append(steps, w.steps(s, true, insert("other", 0, 3*copyFewest)...)...)
	steps = append(steps, w.steps(s, true, insert("items", copyFewest, copyFewest)...)...)
	if n := w.commits(s, steps); int(n) != len(steps) {
		t.Errorf("%d rows of %d were hit", n, len(steps))
	}
	const sum = "SELECT count(*), sum(id), sum(n), count(DISTINCT v) FROM "
	if got, want := w.rows(sum+"items")+w.rows(sum+"other"), w.rows(fmt.Sprintf(
		"SELECT %d, (SELECT sum(n) FROM generate_series(0, %d) n) - %d, %d * -12.50, 1", 2*copyFewest-1, 2*copyFewest-1, copyFewest-1, 2*copyFewest-1))+w.rows(
		fmt.Sprintf("SELECT %d, (SELECT sum(n) FROM generate_series(0, %d) n), %d * -12.50, 1", 3*copyFewest, 3*copyFewest-1, 3*copyFewest)); got != want {
		t.Errorf("there is %s, wanted %s", got, want)
	}
	s.begin()
	s.save()
	steps = append(w.steps(s, true, insert("items", 5000, 2)...), w.steps(s, true, insert("other", 2*copyFewest, 2*copyFewest)...)...)
	_, failed, err := s.run(t.Context(), steps, nil)
	if err == nil || failed != 2 || s.judge(err).fault != collision {
		t.Errorf("rows that are here: failed %d: %v", failed, err)
	}
	s.restore()
	if err := s.commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := w.rows("SELECT count(*) FROM items WHERE id >= 5000"), w.rows("SELECT 0"); got != want {
		t.Errorf("%s rows of what was undone", got)
	}
}
