package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cdc-sidecar/schema"
)

// everything makes a table with a column of each type, and returns its definition.
func (w *world) everything(name string, types []string) *schema.Table {
	w.Helper()
	if w.engine == schema.Postgres {
		w.exec(`DO $$ BEGIN CREATE TYPE colour AS ENUM ('red', 'green', 'it''s'); EXCEPTION WHEN duplicate_object THEN END $$`)
	}
	ddl := "CREATE TABLE " + name + " (id varchar(20), n int"
	for i, t := range types {
		ddl += fmt.Sprintf(", c%02d %s", i, t)
	}
	w.exec(ddl + ", PRIMARY KEY (n, id))")
	t, err := w.applier.Definition(w.Context(), schema.TableName{Name: name})
	if err != nil {
		w.Fatal(err)
	}
	return t
}

// carry draws rows of a table and applies them to another world that has the table, where it reads them again. Values that do not
// exist there are left out; but of each column some arrive.
func (w *world) carry(t *schema.Table) {
	w.Helper()
	var changes []schema.Change
	rapid.Check(w, func(rt *rapid.T) {
		n := len(changes)
		c := schema.Change{Table: t, Op: schema.Insert, After: row([]string{"id ", "ID ", "ä", ""}[n%4]+strconv.Itoa(n/8), strconv.Itoa(n%8/4))}
		for i := 2; i < len(t.Columns); i++ {
			c.After = append(c.After, schema.Of(draw(rt, t.Engine, &t.Columns[i])))
		}
		changes = append(changes, c)
	})
	arrived := make([]int, len(t.Columns))
	for n, c := range changes {
		var rejected *schema.RejectedError
		next := []schema.Transaction{tx(uint64(n+1), c)}
		for err := w.applier.Apply(w.Context(), head, next); err != nil; err = w.applier.Apply(w.Context(), head, next) {
			if !errors.As(err, &rejected) {
				w.Fatal(err)
			}
			at := t.Column(rejected.Column)
			if at < 0 { // the server itself does not name the column, of a day that no calendar has
				at = slices.IndexFunc(c.After, func(v schema.Value) bool { return strings.HasPrefix(v.Text(), "2024-02-31") })
			}
			if at < 0 || c.After[at].IsNull() {
				w.Fatal(err)
			}
			c.After[at] = schema.NullValue()
		}
		here, rows, err := w.applier.Find(w.Context(), t.TableName, []schema.Row{w.keyOf(t, c.After)})
		if err != nil || rows[0] == nil {
			w.Fatalf("row %v: %v", c.After, err)
		}
		for i := range t.Columns {
			to := here.Column(t.Columns[i].Name)
			if sent, got := c.After[i], rows[0][to]; sent.IsNull() != got.IsNull() || !sameValue(&t.Columns[i], sent.Text(), &here.Columns[to], got.Text()) {
				w.Errorf("%s %v became %s %v", t.Columns[i].Native, sent, here.Columns[to].Native, got)
			} else if !sent.IsNull() {
				arrived[i]++
			}
		}
	}
	for i, n := range arrived {
		if n == 0 {
			w.Errorf("column %s %s: no value arrived", t.Columns[i].Name, t.Columns[i].Native)
		}
	}
	w.whole(t.Name, "SELECT id FROM "+t.Name+" ORDER BY n, id")
	if n := w.rows("SELECT count(*) FROM " + t.Name); n != strconv.Itoa(len(changes)) {
		w.Errorf("%s rows of %d", n, len(changes))
	}
}

// keyOf is the key of another office's row in the columns here.
func (w *world) keyOf(t *schema.Table, image schema.Row) schema.Row {
	w.Helper()
	here, err := w.applier.Definition(w.Context(), t.TableName)
	if err != nil {
		w.Fatal(err)
	}
	key := make(schema.Row, len(here.Columns))
	for _, k := range t.Key {
		key[here.Column(t.Columns[k].Name)] = image[k]
	}
	return key
}

// A table with a column of every type is made at each engine as each engine has it, takes its rows, and gives them back.
func TestCreate(t *testing.T) {
	asksServers(t)
	types := map[schema.Engine][]string{schema.Postgres: postgresTypes, schema.MariaDB: mariadbTypes}
	for _, from := range []schema.Engine{schema.Postgres, schema.MariaDB} {
		for _, to := range []schema.Engine{schema.Postgres, schema.MariaDB} {
			t.Run(fmt.Sprintf("%s to %s", from, to), func(t *testing.T) {
				open := map[schema.Engine]func(testing.TB, schema.Role) *world{schema.Postgres: postgresWorld, schema.MariaDB: mysqlWorld}
				source, target := open[from](t, schema.Head), open[to](t, schema.Branch)
				table := source.everything("every", types[from])
				if err := target.applier.Create(t.Context(), table); err != nil {
					t.Fatal(err)
				}
				target.carry(table)
				here, err := target.applier.Definition(t.Context(), table.TableName)
				if err != nil {
					t.Fatal(err)
				}
				for i := range table.Columns {
					c, made := &table.Columns[i], &here.Columns[i]
					if from == to && c.Kind != schema.KindEnum && (made.Kind != c.Kind || made.Native != c.Native) || made.Nullable != c.Nullable || made.Name != c.Name {
						t.Errorf("column %+v was made as %+v", c, made)
					}
				}
				if got := source.oneWay(here); len(got) > 0 {
					t.Errorf("what applications write here into %q does not go back", got)
				}
				if err := target.applier.Create(t.Context(), table); err != nil { // it is here
					t.Error(err)
				}
			})
		}
	}
}

// oneWay are the columns here that take nothing of a table elsewhere, by their types.
func (w *world) oneWay(from *schema.Table) (types []string) {
	w.Helper()
	ses := newReading(w)
	p, err := ses.defs().plan(w.Context(), from)
	if err != nil {
		w.Fatal(err)
	}
	for i := range p.columns {
		only := *p
		only.columns = p.columns[i : i+1]
		if only.fits() != nil {
			types = append(types, p.target.Columns[p.columns[i].to].Native)
		}
	}
	return types
}

// A MariaDB's TIMESTAMP does not follow the clock, schemas are made, what is computed is a plain column, and keys differ by case
// and by blanks at the end.
func TestCreateDetails(t *testing.T) {
	for _, from := range []schema.Engine{schema.Postgres, schema.MariaDB} {
		each(t, schema.Branch, func(w *world) {
			space := "shop" + string(w.office)
			w.Cleanup(func() { // a MySQL's is a database of its own
				if err := w.db.exec(context.WithoutCancel(w.Context()), w.pick("SELECT 1", "DROP DATABASE IF EXISTS "+space)); err != nil {
					w.Error(err)
				}
			})
			stamp := schema.Column{Name: "at", Kind: schema.KindTimestampTZ, Scale: 6, Native: "timestamp(6)"}
			if from == schema.Postgres {
				stamp.Native = "timestamp with time zone"
			}
			doubled := integer("doubled")
			doubled.Generated, doubled.Nullable = true, false
			name := schema.Column{Name: "name", Kind: schema.KindText, Size: 20, Native: map[bool]string{true: "character varying(20)", false: "varchar(20)"}[from == schema.Postgres]}
			old := stamp
			old.Name, old.Nullable = "old", true
			table := schema.NewTable(schema.Table{
				TableName: schema.TableName{Schema: space, Name: "order lines"}, Engine: from, Key: []int{0},
				Columns: []schema.Column{name, stamp, old, doubled, integer("n")},
			})
			if err := w.applier.Create(w.Context(), table); err != nil {
				w.Fatal(err)
			}
			twice := map[bool]string{true: gone, false: "2"}[from == schema.Postgres]
			const at = "2024-02-29 12:00:00.25"
			w.apply(tx(1, insert(table, "a", at, null, twice, "1"), insert(table, "A", at, null, twice, "1"), insert(table, "a ", at, at, twice, "1")), tx(2, update(table, "a", gone, gone, gone, "3")))
			_, rows, _, err := w.applier.Stretch(w.Context(), table.TableName, nil, 10, plenty)
			if err != nil || len(rows) != 3 {
				w.Fatal(rows, err)
			}
			for _, row := range rows {
				if row[1].Text() != at || row[2].IsNull() != (row[0].Text() != "a ") || row[4].Text() != map[bool]string{true: "3", false: "1"}[row[0].Text() == "a"] {
					w.Errorf("row %v", row)
				}
			}
		})
	}
}

// What cannot be made, or takes nothing, is said before any row comes.
func TestCreateRefuses(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		for _, table := range []*schema.Table{
			define("here", integer("id"), text("missing")),
			define("here", integer("id"), schema.Column{Name: "v", Kind: schema.KindBytes, Native: "bytea"}),
			define("here", schema.Column{Name: "v", Kind: schema.KindText, Native: "text"}),
			schema.NewTable(schema.Table{TableName: schema.TableName{Name: "nokey"}, Engine: schema.Postgres, Columns: []schema.Column{integer("id")}}),
		} {
			if table.Name == "here" {
				w.exec("DROP TABLE IF EXISTS here", "CREATE TABLE here (id int PRIMARY KEY, v int)")
			}
			err := w.applier.Create(w.Context(), table)
			var rejected *schema.RejectedError
			if !errors.As(err, &rejected) || rejected.Remedy == "" || rejected.Table != table.TableName {
				w.Errorf("table %s %v: %v", table.TableName, table.Columns, err)
			}
		}
	})
}

// A user that may not make tables is told what to grant.
func TestCreateWithoutPrivilege(t *testing.T) {
	w := postgresWorld(t, schema.Branch)
	w.exec("CREATE ROLE nomaker LOGIN PASSWORD 'p'", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
	t.Cleanup(func() {
		if err := w.db.exec(context.WithoutCancel(t.Context()), "DROP ROLE nomaker"); err != nil {
			t.Error(err)
		}
	})
	a := New(Postgres(w.as("nomaker", "p")), Options{Office: w.office, Role: schema.Branch})
	defer a.Close()
	err := a.Create(t.Context(), item)
	var refused *schema.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "GRANT CREATE ON SCHEMA") {
		t.Errorf("refused with %v", err)
	}
}
