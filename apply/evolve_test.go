package apply

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"cdc-sidecar/schema"
)

// is is a table's definition with nothing but its columns.
func is(name string, columns ...schema.Column) *schema.Definition {
	t := define(name, columns...)
	t.Columns[0].Nullable = false
	d := &schema.Definition{Table: schema.NewTable(*t), Details: make([]schema.ColumnDetail, len(columns))}
	for i := range d.Details {
		d.Details[i].ID = i + 1
	}
	return d
}

func became(was, now *schema.Definition) schema.Change {
	c := schema.Change{Op: schema.Define, Definition: &schema.DefinitionChange{Was: was, Is: now, Statement: "what somebody typed"}}
	if c.Table = (*schema.Table)(nil); now != nil {
		c.Table = now.Table
	} else {
		c.Table = was.Table
	}
	return c
}

// evolves makes the world's Applier one that takes schema changes.
func (w *world) evolves(d DDL) {
	w.Helper()
	o := w.applier.options
	o.DDL = d
	w.applier.Close()
	w.applier = New(w.target, o)
	w.Cleanup(w.applier.Close)
}

// ddl are the rows of the table of schema changes: what became of which step.
func (w *world) ddl() string {
	w.Helper()
	return w.rows("SELECT step, subject, state FROM cdc_sidecar.ddl WHERE office = '" + string(w.office) + "' ORDER BY id")
}

// A schema change takes effect at its place: rows before it are of the old definition, rows behind it of the new one, in one
// transaction and in several.
func TestDefineInPlace(t *testing.T) {
	for _, role := range []schema.Role{schema.Head, schema.Branch} {
		t.Run(string(role), func(t *testing.T) {
			each(t, role, func(w *world) {
				w.evolves(DDL{Apply: ApplyAdditive})
				first := is("thing", integer("id"), text("name"))
				second := is("thing", integer("id"), text("name"), integer("stock"))
				w.apply(
					tx(1, became(nil, first), insert(first.Table, "1", "a")),
					tx(2, insert(first.Table, "2", "b"), became(first, second), insert(second.Table, "3", "c", "30"), update(second.Table, "1", "x", "10")),
					tx(3, update(second.Table, "2", "y", "20")),
				)
				w.want("SELECT id, name, stock FROM thing ORDER BY id", "1 x 10\n2 y 20\n3 c 30")
				w.at(3)
				w.want("SELECT part FROM cdc_sidecar.progress WHERE office = '"+string(w.office)+"'", "0")
				if got := w.ddl(); got != "create table  done\nadd column stock done" {
					w.Errorf("steps:\n%s", got)
				}
				if got := w.applier.Stats()[head]; got.Transactions != 3 || got.Defines != 2 || got.Inserts != 3 || got.Updates != 2 {
					w.Errorf("stats %+v", got)
				}
				w.apply(tx(2, became(first, second)), tx(3)) // once more
				w.at(3)
			})
		})
	}
}

// What takes something away is held, with its statement, and rows go on; the one who asked to stop stops, until it was done.
func TestDefineDestructive(t *testing.T) {
	both := is("item", integer("id"), text("name"), integer("stock"))
	less := is("item", integer("id"), text("name"))
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.evolves(DDL{Apply: ApplyAdditive, Destructive: HoldDestructive})
		w.apply(tx(1, insert(both.Table, "1", "a", "1"), became(both, less), insert(less.Table, "2", "b")))
		w.want(items, "1 a 1\n2 b NULL")
		if got := w.ddl(); got != "drop column stock held" {
			w.Errorf("steps:\n%s", got)
		}
		if err := w.applier.Tend(w.Context(), head); err != nil {
			w.Fatal(err)
		}
		steps, ok := w.applier.SchemaSteps()
		if !ok || len(steps) != 1 || !strings.Contains(steps[0].Statement, "DROP COLUMN") || steps[0].Table != "item" || steps[0].Reason == "" {
			w.Errorf("held: %v, %+v", ok, steps)
		}

		w.evolves(DDL{Apply: ApplyAdditive, Destructive: HaltDestructive})
		w.rejects(2, []schema.Transaction{tx(2, insert(less.Table, "3", "c"), became(both, less))}, "item", "DROP COLUMN")
		w.exec("ALTER TABLE item DROP COLUMN stock")
		w.apply(tx(2, insert(less.Table, "3", "c"), became(both, less)))
		w.want("SELECT * FROM item ORDER BY id", "1 a\n2 b\n3 c")

		w.evolves(DDL{Apply: ApplyAll})
		w.apply(tx(3, became(less, nil)), tx(4, insert(less.Table, "4", "d")))
		w.at(4)
		if got := w.applier.Stats()[head].Dropped; got != 1 {
			w.Errorf("%d rows of the dropped table were passed over", got)
		}
	})
}

// An office that takes no schema changes stops before them: nothing is passed over.
func TestDefineNotTaken(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		wide := is("item", integer("id"), text("name"), integer("stock"), text("note"))
		w.rejects(1, []schema.Transaction{tx(1, became(is("item", integer("id"), text("name"), integer("stock")), wide))}, "item", "ddl")
		w.at(0)
	})
}

// Nothing is done while ddl: {apply: none} says so; rows that need what is missing wait, and others go on. What waits goes on when
// somebody has made it.
func TestRowsWaitForTheirTable(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.evolves(DDL{Apply: ApplyNone})
		wide := is("item", integer("id"), text("name"), integer("stock"), text("note"))
		other := is("other", integer("id"), text("name"))
		w.apply(
			tx(1, insert(item, "1", "a", "1"), insert(item, "2", "b", "2")),
			tx(2, became(is("item", integer("id"), text("name"), integer("stock")), wide), became(nil, other)),
			tx(3, update(wide.Table, "1", "x", "1", "noted"), insert(other.Table, "1", "o"), update(other.Table, "1", "p")),
			tx(4, update(item, "2", "y", "2"), update(item, "1", "z", "7")), // the second behind what waits
		)
		w.at(4)
		w.want(items, "1 a 1\n2 y 2")
		w.want("SELECT count(*) FROM cdc_sidecar.parked WHERE office = '"+string(w.office)+"' AND reason LIKE '%ALTER TABLE%ADD COLUMN%note%'", "2") // and the one behind it
		if n, ok := w.applier.Waiting(); ok && n != 4 {
			w.Errorf("%d changes wait", n)
		}
		w.tended(items, "1 a 1\n2 y 2") // once
		waiting := w.applier.WaitingTables()
		if len(waiting) != 2 || waiting[0].Table != "item" || waiting[0].Changes != 2 || !strings.Contains(waiting[0].Needs, "column note: ") ||
			!strings.Contains(waiting[0].Needs, "ALTER TABLE ") || waiting[1].Table != "other" || waiting[1].Changes != 2 || !strings.Contains(waiting[1].Needs, "CREATE TABLE ") {
			w.Errorf("what waits: %+v", waiting)
		}
		long := w.pick("text", "longtext")
		w.exec("ALTER TABLE item ADD COLUMN note "+long, "CREATE TABLE other (id int PRIMARY KEY, name "+long+")")
		w.tended("SELECT id, name, stock, note FROM item ORDER BY id", "1 z 7 noted\n2 y 2 NULL")
		w.tended("SELECT id, name FROM other", "1 p")
		w.tended("SELECT count(*) FROM cdc_sidecar.parked WHERE office = '"+string(w.office)+"'", "0")
		if waiting := w.applier.WaitingTables(); len(waiting) > 0 {
			w.Errorf("what waits in the end: %+v", waiting)
		}
		// What was held is seen to be done.
		w.tended("SELECT count(*) FROM cdc_sidecar.ddl WHERE office = '"+string(w.office)+"' AND state = 'held'", "0")
	})
}

// tended tends until a query gives what is wanted.
func (w *world) tended(query, want string) {
	w.Helper()
	for range 100 {
		w.applier.mu.Lock()
		w.applier.triedAt, w.applier.lookedAt = w.applier.triedAt.Add(-retryParked), w.applier.lookedAt.Add(-lookHeld)
		w.applier.mu.Unlock()
		if err := w.applier.Tend(w.Context(), head); err != nil {
			w.Fatal(err)
		}
		if w.rows(query) == want {
			return
		}
	}
	w.want(query, want)
}

// Rows of a former definition find their places: renamed columns and tables; columns that were dropped are left out.
func TestRowsOfFormerDefinitions(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.evolves(DDL{Apply: ApplyAll})
		was := is("item", integer("id"), text("name"), integer("stock"))
		renamed := is("article", integer("id"), text("title"), integer("stock"))
		less := is("article", integer("id"), text("title"))
		w.apply(tx(1, insert(item, "1", "a", "1")), tx(2, became(was, renamed)), tx(3, insert(item, "2", "b", "2"), update(item, "1", "x", "9")))
		w.want("SELECT id, title, stock FROM article ORDER BY id", "1 x 9\n2 b 2")
		less.Details[1].ID = 2
		w.apply(tx(4, became(renamed, less)), tx(5, insert(item, "3", "c", "3"), update(renamed.Table, "2", "y", "8"), remove(item, "1")))
		w.want("SELECT * FROM article ORDER BY id", "2 y\n3 c")
		if got := w.applier.Stats()[head]; got.Dropped != 2 {
			w.Errorf("stats %+v", got)
		}
		w.evolves(DDL{Apply: ApplyAll}) // another process knows it from the database
		w.apply(tx(6, update(item, "3", "z", "4")))
		w.want("SELECT * FROM article ORDER BY id", "2 y\n3 z")
	})
}

// Rows that were written before a column was added get what the rows that were there got, whatever its default is by now.
func TestRowsFromBeforeAColumn(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.evolves(DDL{Apply: ApplyAll})
		was := is("item", integer("id"), text("name"), integer("stock"))
		now := is("item", integer("id"), text("name"), integer("stock"), text("colour"), integer("size"))
		now.Details[4].Default = schema.Expression{Kind: schema.LiteralValue, Text: "5"}
		named := is("item", integer("id"), text("name"), integer("stock"), text("tint"), integer("size"))
		for i := range named.Details {
			was.Details[min(i, 2)].ID, now.Details[i].ID, named.Details[i].ID = min(i, 2)+1, i+1, i+1
		}
		named.Details[4].Default = now.Details[4].Default
		w.apply(tx(1, insert(item, "1", "a", "1")), tx(2, became(was, now)), tx(3, became(now, named)))
		w.exec("ALTER TABLE item ALTER COLUMN tint SET DEFAULT (concat('none')), ALTER COLUMN size SET DEFAULT 7")
		w.evolves(DDL{Apply: ApplyAll})
		w.apply(tx(4, insert(item, "2", "b", "2"), update(item, "1", "x", "1")), tx(5, insert(item, "3", "c", "3")))
		w.want("SELECT id, name, stock, coalesce(tint, '-'), size FROM item ORDER BY id", "1 x 1 - 5\n2 b 2 - 5\n3 c 3 - 5")
	})
}

// Where a table here has more columns than a row that comes, this office's own log is asked first, once, why that is so.
func TestOwnLogIsAskedForColumns(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.evolves(DDL{Apply: ApplyAll})
		was := is("item", integer("id"), text("name"), integer("stock"))
		now := is("item", integer("id"), text("name"), integer("stock"), integer("size"))
		now.Details[3].Default = schema.Expression{Kind: schema.LiteralValue, Text: "5"}
		own := tx(0, became(was, now))
		own.Origin = w.office
		asked, made := 0, false
		w.applier.options.Passed = func(ctx context.Context, _ uint64) error {
			if asked++; !made {
				return nil
			}
			return w.applier.Noting(func(context.Context, []schema.Transaction) error { return nil })(ctx, []schema.Transaction{own})
		}
		w.apply(tx(1, insert(item, "1", "a", "1")))
		w.exec("ALTER TABLE item ADD COLUMN size integer NOT NULL DEFAULT 5", "ALTER TABLE item ALTER COLUMN size SET DEFAULT 7, ADD COLUMN nobodys integer")
		made = true
		w.applier.unsure()
		w.apply(tx(2, insert(item, "2", "b", "2")))
		w.apply(tx(3, insert(item, "3", "c", "3")))
		w.want("SELECT id, size FROM item ORDER BY id", "1 5\n2 5\n3 5")
		if asked != 2 { // at the start, and for the two columns
			w.Errorf("the log was asked %d times", asked)
		}
	})
}

// A statement that the database refuses is noted as failed, and everything else goes on.
func TestDefineFails(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.evolves(DDL{Apply: ApplyAll})
		was := is("item", integer("id"), text("name"), integer("stock"))
		now := is("item", integer("id"), text("name"), integer("stock"))
		now.Indexes = []schema.Index{{Name: "item_name", Unique: true, Parts: []schema.IndexPart{{Column: "stock"}}}}
		w.apply(
			tx(1, insert(item, "1", "a", "1"), insert(item, "2", "b", "1")),
			tx(2, update(item, "1", "x", "1"), became(was, now), insert(item, "3", "c", "1")),
		)
		w.want(items, "1 x 1\n2 b 1\n3 c 1")
		if got := w.ddl(); got != "add index item_name failed" {
			w.Errorf("steps:\n%s", got)
		}
		w.at(2)
	})
}

// A table that an application holds is waited for a moment only, and tried again.
func TestDefineWaitsForLocks(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.evolves(DDL{Apply: ApplyAdditive})
		w.applier.patience = 1
		w.exec("INSERT INTO item VALUES (1, 'a', 1)", w.pick("BEGIN", "START TRANSACTION"), "UPDATE item SET stock = 5 WHERE id = 1")
		change := tx(1, insert(item, "2", "b", "2"), became(is("item", integer("id"), text("name"), integer("stock")),
			is("item", integer("id"), text("name"), integer("stock"), text("note"))))
		err := w.applier.Apply(w.Context(), head, []schema.Transaction{change})
		if !errors.Is(err, errQueued) || !strings.Contains(err.Error(), "ADD COLUMN") {
			w.Fatalf("got %v", err)
		}
		w.exec("COMMIT")
		w.apply(change)
		w.want("SELECT id, stock, note FROM item ORDER BY id", "1 5 NULL\n2 2 NULL")
		w.at(1)
	})
}

// A large transaction comes in parts, and the schema change may be in any of them.
func TestDefineInParts(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.evolves(DDL{Apply: ApplyAdditive})
		was := is("item", integer("id"), text("name"), integer("stock"))
		wide := is("item", integer("id"), text("name"), integer("stock"), text("note"))
		parts := []schema.Transaction{
			part(1, 0, false, insert(item, "1", "a", "1")),
			part(1, 1, false, insert(item, "2", "b", "2"), became(was, wide), insert(wide.Table, "3", "c", "3", "n")),
			part(1, 2, true, insert(wide.Table, "4", "d", "4", "m")),
		}
		err := w.applier.Apply(w.Context(), head, parts)
		var gap *GapError
		if errors.As(err, &gap) && w.engine != schema.Postgres { // it has to come again
			w.at(0)
			err = w.applier.Apply(w.Context(), head, parts)
		}
		if err != nil {
			w.Fatal(err)
		}
		w.want("SELECT id, name, stock, note FROM item ORDER BY id", "1 a 1 NULL\n2 b 2 NULL\n3 c 3 n\n4 d 4 m")
		w.at(1)
		if got := w.applier.Stats()[head]; got.Inserts != 4 || got.Repaired != 0 || got.Transactions != 1 {
			w.Errorf("stats %+v", got)
		}
	})
}

func TestPast(t *testing.T) {
	a := is("a", integer("id"), text("x"), text("y"))
	b := is("b", integer("id"), text("z"), text("y"))
	c := is("b", integer("id"), text("z"))
	var rows []ddlStep
	for i, change := range []schema.Change{became(a, b), became(b, c), became(nil, is("a", integer("id")))} {
		body := bodyOf(&schema.Transaction{Origin: "north"}, i, &change)
		for _, s := range schema.Diff(change.Definition.Was, change.Definition.Is) {
			r := ddlStep{SchemaStep: SchemaStep{Step: s.Kind, State: schema.DDLDone}, body: body}
			r.Subject, r.Was = subjectOf(&s)
			rows = append(rows, r)
		}
	}
	p, err := newPast(rows[:len(rows)-1])
	if err != nil {
		t.Fatal(err)
	}
	if now, gone := p.table(a.TableName); now != b.TableName || gone {
		t.Errorf("a is %v, %t", now, gone)
	}
	x, xGone := p.column(b.TableName, "x")
	y, yGone := p.column(b.TableName, "y")
	if x != "z" || xGone || y != "y" || !yGone {
		t.Errorf("x is %s, %t; y is %s, %t", x, xGone, y, yGone)
	}
	if p, err = newPast(rows); err != nil {
		t.Fatal(err)
	}
	if now, _ := p.table(a.TableName); now != a.TableName {
		t.Errorf("the new a is %v", now)
	}
	if !slices.ContainsFunc(rows, func(r ddlStep) bool { s, err := r.step(); return err == nil && s != nil && s.Kind == schema.DropColumn }) {
		t.Error("no step was found again by its row")
	}
}

// What an application renames or drops here is known to rows of other offices that were under way.
func TestRowsMeetWhatWasChangedHere(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		w.createItem()
		w.evolves(DDL{Apply: ApplyAdditive})
		w.apply(tx(1, insert(item, "1", "a", "1")))
		w.exec("ALTER TABLE item "+w.pick("RENAME COLUMN name TO title", "CHANGE name title varchar(100)"), "ALTER TABLE item DROP COLUMN stock")
		w.apply(tx(2, update(item, "1", "x", "2"))) // nobody has read the log so far
		w.want("SELECT * FROM item", "1 a")
		was := is("item", integer("id"), text("name"), integer("stock"))
		renamed := is("item", integer("id"), text("title"), integer("stock"))
		less := is("item", integer("id"), text("title"))
		own := tx(0, became(was, renamed), became(renamed, less))
		own.Origin = w.office
		passed := false
		sink := w.applier.Noting(func(context.Context, []schema.Transaction) error { passed = true; return nil })
		for range 2 { // it may come again
			if err := sink(w.Context(), []schema.Transaction{own}); err != nil || !passed {
				w.Fatal(passed, err)
			}
		}
		w.tended("SELECT * FROM item", "1 x")
		w.apply(tx(3, insert(item, "2", "b", "2")))
		w.want("SELECT * FROM item ORDER BY id", "1 x\n2 b")
	})
}

// A row is known to the clocks by its table's former name, too: a change that was under way while the table was renamed meets what
// others had done to the row before.
func TestRenamedRowsAreTheSame(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		h.options.DDL = DDL{Apply: ApplyAll}
		h.restart()
		h.clean("INSERT INTO item VALUES (1, 'hq', 8)")
		was, now := is("item", item.Columns...), is("thing", item.Columns...)
		h.apply(h.tx(north, 5, 300, became(was, now)))
		h.clocks.touched(hq, 10, 500, false, "1")
		h.apply(h.tx(south, 5, 400, full(asItWas, "1", "south", "7")))
		h.want("SELECT id, name, stock FROM thing", "1 hq 8")
		h.wantLog("id=1 update/update latest local decided: {1,hq,8} of hq 500.1 and {1,a,10} to {1,south,7} of south 400.2: {1,hq,8}")
		h.exec("ALTER TABLE thing RENAME TO item")
	})
}
