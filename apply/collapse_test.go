package apply

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"cdc-sidecar/schema"
)

// thing has a unique key besides its own, which rows hand on to one another.
func thing(name string) *schema.Table {
	return define(name, integer("id"), integer("slot"), text("name"))
}

// things are what another office has: by id, each with a slot ("" is NULL) and a name.
type things map[int][2]string

func (s things) row(id int) []string {
	slot := s[id][0]
	if slot == "" {
		slot = null
	}
	return []string{strconv.Itoa(id), slot, s[id][1]}
}

func (s things) free(slot string) string {
	for _, t := range s {
		if t[0] == slot {
			return ""
		}
	}
	return slot
}

// change makes a change that the office's own database allows. Of strange ids, whose rows are not the same here, it tells
// whole rows.
func (s things) change(t *rapid.T, table *schema.Table, ids int, strange map[int]bool) []schema.Change {
	id := rapid.IntRange(1, ids).Draw(t, "id")
	name := rapid.SampledFrom([]string{"a", "b", "", "it's"}).Draw(t, "name")
	slot := s.free(strconv.Itoa(rapid.IntRange(1, 6).Draw(t, "slot")))
	_, there := s[id]
	switch op := rapid.IntRange(0, 99).Draw(t, "op"); {
	case !there:
		s[id] = [2]string{slot, name}
		return []schema.Change{insert(table, s.row(id)...)}
	case op < 30:
		s[id] = [2]string{s[id][0], name}
		if !strange[id] {
			return []schema.Change{update(table, strconv.Itoa(id), gone, name)}
		}
	case op < 50:
		s[id] = [2]string{slot, name}
	case op < 60 && len(s) > 1: // the slot goes to another
		other := slices.Sorted(maps.Keys(s))[0]
		if other == id {
			other = slices.Max(slices.Collect(maps.Keys(s)))
		}
		given := s[id][0]
		s[id], s[other] = [2]string{"", name}, [2]string{given, s[other][1]}
		return []schema.Change{update(table, s.row(id)...), update(table, s.row(other)...)}
	case op < 62 && !strange[id]:
		to := ids + 1 + rapid.IntRange(1, ids).Draw(t, "to")
		if _, taken := s[to]; !taken && !strange[to] {
			s[to] = s[id]
			delete(s, id)
			return []schema.Change{rekey(table, row(strconv.Itoa(id), gone, gone), s.row(to)...)}
		}
	case op < 63:
		clear(s)
		return []schema.Change{{Table: table, Op: schema.Truncate}}
	case op < 90:
		delete(s, id)
		return []schema.Change{remove(table, strconv.Itoa(id))}
	}
	return []schema.Change{update(table, s.row(id)...)}
}

// However many transactions are written together, the tables become what they become one by one: with rows that are not here
// or here already, with keys that move, and with unique values that are handed on.
func TestTogetherAsOneByOne(t *testing.T) {
	asksServers(t)
	for _, role := range []schema.Role{schema.Branch, schema.Head} {
		t.Run(string(role), func(t *testing.T) {
			each(t, role, func(w *world) { rapid.Check(w.TB, w.togetherAsOneByOne()) })
		})
	}
}

func (w *world) togetherAsOneByOne() func(t *rapid.T) {
	for _, name := range []string{"alone_a", "alone_b", "group_a", "group_b"} {
		w.exec(fmt.Sprintf("CREATE TABLE %s (id int PRIMARY KEY, slot int UNIQUE, name varchar(20))", name))
	}
	sender := 0
	apply := func(t *rapid.T, txs []schema.Transaction, step int) {
		sender++
		name := schema.Office(fmt.Sprintf("s%d", sender))
		w.begin(name)
		for chunk := range slices.Chunk(txs, step) {
			if err := w.applier.Apply(w.Context(), name, chunk); err != nil {
				t.Fatalf("%d at a time: %v", step, err)
			}
		}
	}
	return func(t *rapid.T) {
		ids := rapid.SampledFrom([]int{3, 10, 60}).Draw(t, "ids")
		tables := [2]string{"_a", "_b"}
		stores, strange := [2]things{{}, {}}, [2]map[int]bool{{}, {}}
		for i, name := range tables {
			w.exec("DELETE FROM alone"+name, "DELETE FROM group"+name)
			for range rapid.IntRange(0, 3).Draw(t, "strange") { // there and here, only there, only here
				id := rapid.IntRange(1, ids).Draw(t, "strange id")
				strange[i][id] = true
				which := rapid.IntRange(0, 2).Draw(t, "where")
				if which < 2 {
					stores[i][id] = [2]string{"", "x"}
				} else {
					delete(stores[i], id)
				}
				w.exec("DELETE FROM alone"+name+" WHERE id = "+strconv.Itoa(id), "DELETE FROM group"+name+" WHERE id = "+strconv.Itoa(id))
				if which != 1 {
					w.exec(fmt.Sprintf("INSERT INTO alone%s VALUES (%d, NULL, 'y')", name, id), fmt.Sprintf("INSERT INTO group%s VALUES (%d, NULL, 'y')", name, id))
				}
			}
		}
		var alone, group []schema.Transaction
		definitions := map[string]*schema.Table{}
		for _, name := range tables {
			definitions["alone"+name], definitions["group"+name] = thing("alone"+name), thing("group"+name)
		}
		for seq := range rapid.IntRange(1, 60).Draw(t, "transactions") {
			var of [2][]schema.Change
			for range rapid.IntRange(1, 4).Draw(t, "changes") {
				i := rapid.IntRange(0, 1).Draw(t, "table")
				for _, c := range stores[i].change(t, definitions["alone"+tables[i]], ids, strange[i]) {
					of[0] = append(of[0], c)
					c.Table = definitions["group"+tables[i]]
					of[1] = append(of[1], c)
				}
			}
			alone, group = append(alone, tx(uint64(seq+1), of[0]...)), append(group, tx(uint64(seq+1), of[1]...))
		}
		apply(t, alone, 1)
		apply(t, group, len(group))
		for _, name := range tables {
			got, want := w.rows("SELECT id, slot, name FROM group"+name+" ORDER BY id"), w.rows("SELECT id, slot, name FROM alone"+name+" ORDER BY id")
			if got != want {
				t.Fatalf("together\n%s\none by one\n%s", got, want)
			}
		}
	}
}

// A group is written as what it comes to: rows that change again and again are written once, equal statements together.
func TestCollapse(t *testing.T) {
	w := postgresWorld(t, schema.Branch)
	w.createItem()
	w.exec("CREATE TABLE other (id int PRIMARY KEY, name varchar(100), stock int)", "INSERT INTO item VALUES (1, 'one', 1), (2, 'two', 2), (3, 'three', 3)")
	other := define("other", integer("id"), text("name"), integer("stock"))
	plain := rekey(item, row("30", gone, gone), "31", "m", "1")
	s := stream{applier: w.applier}
	for _, c := range []struct {
		name    string
		changes []schema.Change
		want    string
	}{
		{"one row", []schema.Change{insert(item, "9", "a", "1"), update(item, "9", gone, "2"), update(item, "9", "b", gone)}, "insert 9 b 2"},
		{"updates", []schema.Change{update(item, "1", "a", gone), update(item, "1", gone, "2"), update(item, "1", "b", gone)}, "update b 2 1"},
		{"deleted", []schema.Change{update(item, "1", "a", "1"), remove(item, "1")}, "delete 1"},
		{"made anew", []schema.Change{remove(item, "1"), insert(item, "1", "a", "1"), update(item, "1", "b", "1")}, "delete 1, insert 1 b 1"},
		{"gone again", []schema.Change{remove(item, "1"), insert(item, "1", "a", "1"), remove(item, "1")}, "delete 1"},
		{"never was", []schema.Change{insert(item, "9", "a", "1"), remove(item, "9"), remove(item, "1")}, "delete 1, delete 9 (nothing)"},
		{"came and stayed", []schema.Change{insert(item, "9", "a", "1"), remove(item, "9"), insert(item, "9", "b", "1")}, "insert 9 b 1"},
		{
			"sorted",
			[]schema.Change{insert(item, "8", "a", "1"), insert(other, "8", "a", "1"), update(item, "1", "b", "1"), insert(item, "9", "a", "1"), insert(other, "9", "a", "1"), remove(item, "2")},
			"delete 2, update b 1 1, insert 8 a 1, +insert 9 a 1, insert 8 a 1, +insert 9 a 1",
		},
		{"fence", []schema.Change{insert(item, "8", "a", "1"), plain, update(item, "8", "b", "1"), remove(item, "2")}, "insert 8 a 1, update 31 m 1 30, delete 2, update b 1 8"},
		{"no history", []schema.Change{insert(item, "8", "a", "1"), remove(item, "8"), update(item, "8", "b", "1")}, "as sent"},
		{"twice", []schema.Change{insert(item, "8", "a", "1"), insert(item, "8", "a", "1"), remove(item, "9")}, "as sent"},
	} {
		work := &s.work
		work.start(&s, w.openSession(), false)
		if err := work.plan(t.Context(), []schema.Transaction{tx(1, c.changes...)}); err != nil {
			t.Fatal(err)
		}
		work.steps = work.steps[1:] // the progress row's
		steps, collapsed := work.hopeful()
		got := ""
		for i, st := range steps {
			if i > 0 {
				got += ", "
			}
			if st.joins {
				got += "+"
			}
			got += st.form.op.String()
			for _, v := range st.args {
				got += " " + v.Text()
			}
			if st.absent {
				got += " (nothing)"
			}
		}
		if !collapsed {
			got = "as sent"
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		work.forget()
	}
}

// What is collapsed and not as hoped is done again as it was sent, and groups after it are left as they are for a while.
func TestCollapseIsGivenUp(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		seq := uint64(0)
		group := func(extra ...schema.Change) []schema.Transaction {
			var txs []schema.Transaction
			for _, c := range append(extra, insert(item, "1", "a", "1"), update(item, "1", "b", "1"), remove(item, "1")) {
				seq++
				txs = append(txs, tx(seq, c))
			}
			return txs
		}
		shy := func(want int) {
			w.Helper()
			if got := w.applier.stream(head).work.collapse.shy; got != want {
				w.Errorf("shy of %d groups, want %d", got, want)
			}
		}
		w.exec("INSERT INTO item VALUES (1, 'mine', 1)")
		w.apply(group()...)
		shy(1)
		w.want(items, "")
		if got := w.applier.Stats()[head]; got.Repaired != 1 || got.Inserts != 1 || got.Updates != 1 || got.Deletes != 1 || got.Missing != 0 {
			w.Errorf("stats %+v", got)
		}
		w.apply(group()...) // as it came
		shy(0)
		w.apply(group(insert(item, "2", "c", "2"))...)
		shy(0)
		w.exec("INSERT INTO item VALUES (3, 'mine', 1)")
		w.apply(group(insert(item, "3", "d", "3"))...)
		shy(1)
		w.want(items, "2 c 2\n3 d 3")
		w.at(seq)
	})
}

// A trigger that fires for us sees every change, in the order in which they were made.
func TestTriggersSeeEveryChange(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.exec(w.pick(`CREATE TABLE history (n serial PRIMARY KEY, what text)`, `CREATE TABLE history (n int AUTO_INCREMENT PRIMARY KEY, what text)`))
		if w.engine == schema.Postgres {
			w.record("item", "concat(NEW.id, ' ', NEW.name)")
		} else {
			for _, event := range []string{"INSERT", "UPDATE"} {
				w.exec(fmt.Sprintf("CREATE TRIGGER h_%s AFTER %s ON item FOR EACH ROW INSERT INTO history (what) VALUES (concat(NEW.id, ' ', NEW.name))", event, event))
			}
		}
		w.apply(tx(1, insert(item, "1", "a", "1"), update(item, "1", "b", "1")), tx(2, insert(item, "2", "c", "1"), update(item, "1", "d", "1"), remove(item, "2")))
		w.want("SELECT what FROM history ORDER BY n", "1 a\n1 b\n2 c\n1 d")
	})
}
