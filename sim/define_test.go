package sim_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"cdc-sidecar/apply"
	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// In some runs the offices change their tables while everybody writes: items gets further columns behind its own ones, which are
// renamed, made wider and dropped again, and tables come and go. All names are given once. A column, or a table, is changed again
// only by the office that made it: two offices that change one thing at once are for people to sort out.

// definer plans the schema changes of a run. It has its own chance, so that runs without it are what they would be without it.
type definer struct {
	r     *rand.Rand
	names int
	maker map[string]schema.Office // of columns and tables
}

// schemaPlan is which schema changes a run has.
type schemaPlan struct {
	rate  float64 // how many there are for each transaction of an application; 0: none
	most  int
	heads bool // the head alone makes them
	kinds []string
	// random: some columns that are added have another value in each row.
	random bool
}

// schemaFaults are what may befall such a company.
var schemaFaults = []func(*world){cutLine, cutLine, purge, endSession, powerFailure, killProcess, crashSoon, databaseRestart, clockJump, restart}

var allKinds = []string{"add", "add", "add", "drop", "rename", "widen", "widen", "create", "drop table"}

// defines plans schema changes for every third run.
func (p *plan) defines(seed uint64) {
	r := rand.New(rand.NewPCG(seed, 23))
	if seed%3 != 0 {
		return
	}
	p.schema = schemaPlan{rate: pick(r, 0.1, 0.3), most: 1 + r.IntN(12), heads: r.IntN(3) == 0, kinds: allKinds}
	p.joiner, p.found, p.allJoin, p.away, p.faults, p.budget = 0, nil, false, 0, nil, max(p.budget, 128<<10)
	for _, f := range schemaFaults {
		if p.faultRate > 0 && r.IntN(2) == 0 {
			p.faults = append(p.faults, f)
		}
	}
	if p.schema.random = r.IntN(3) == 0 && p.schema.heads && !p.unique; p.schema.random {
		p.schema.kinds = append(slices.Clone(allKinds), "add random", "add random", "add random")
		// An update from before such a column lacks its value, and so cannot bring back a row that was deleted, however late it is.
		p.deletes, p.moves = false, false
	}
}

// ours reports whether a table is one that all offices write: items, whatever it is called at the moment, or one that some office made.
func ours(t schema.TableName) bool { return isItems(t) || strings.HasPrefix(t.Name, "extra") }

func isItems(t schema.TableName) bool { return t.Schema == "" && strings.HasPrefix(t.Name, items.Name) }

// items is what the office calls the table at the moment.
func (o *office) items() schema.TableName {
	if o.w.plan.schema.rate == 0 {
		return items
	}
	for name := range o.db.Definitions() {
		if isItems(name) {
			return name
		}
	}
	return items
}

// extras are the tables that some office made, as far as they are here.
func (o *office) extras() (names []schema.TableName) {
	for name := range o.db.Definitions() {
		if ours(name) && !isItems(name) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b schema.TableName) int { return strings.Compare(a.Name, b.Name) })
	return names
}

// define begins a schema change at some office.
func (w *world) define() {
	d := &w.definer
	o := w.offices[d.r.IntN(len(w.offices))]
	if w.plan.schema.heads {
		o = w.head()
	}
	kind := w.plan.schema.kinds[d.r.IntN(len(w.plan.schema.kinds))]
	statement := d.statement(o, kind)
	if statement == "" || w.plan.schema.most == 0 {
		return
	}
	w.plan.schema.most--
	w.writes++
	who := fmt.Sprintf("app%05d", w.writes)
	w.did("%s: %s", o.name, statement)
	if o.postgres() && w.plan.solo < 0 && d.r.IntN(2) == 0 { // among rows
		among := func(ctx context.Context, t *apply.MemoryWrite) error { return t.Define(ctx, statement) }
		w.begin(o, []statementOf{w.statement(o, "w"+who[3:]), among, w.statement(o, "v"+who[3:])})
		return
	}
	w.began(func() {
		_ = o.db.Define(context.Background(), w.appStep(who), statement)
	})
}

func (o *office) postgres() bool { return o.w.plan.engines[o.n] == schema.Postgres }

// statement is one of a kind; empty: there is nothing to do it to.
func (d *definer) statement(o *office, kind string) string {
	table := o.items()
	if extras := o.extras(); len(extras) > 0 && d.r.IntN(3) == 0 {
		if extra := pick(d.r, extras...); d.maker[extra.Name] == o.name {
			table = extra
		}
	}
	is := o.db.Definitions()[table]
	if is == nil {
		return ""
	}
	column, alter := d.mine(o, is), "ALTER TABLE "+quoted(table)+" "
	switch kind {
	case "add":
		return alter + "ADD COLUMN " + quote(d.name(o, "x")) + " " + d.typ(o, 20) + pick(d.r, "", fmt.Sprintf(" DEFAULT '%d'", d.names))
	case "add random":
		return alter + "ADD COLUMN " + quote(d.name(o, "x")) + " " + long(o) + " DEFAULT " + random(o)
	case "drop":
		if column != nil {
			return alter + "DROP COLUMN " + quote(column.Name)
		}
	case "rename":
		if column != nil {
			return alter + "RENAME COLUMN " + quote(column.Name) + " TO " + quote(d.name(o, "x"))
		}
	case "widen":
		if column != nil {
			return d.widen(o, is, column)
		}
	case "create":
		return fmt.Sprintf("CREATE TABLE %s (\n\t\"id\" bigint NOT NULL,\n\t\"who\" %s,\n\tPRIMARY KEY (\"id\")\n)", quoted(schema.TableName{Name: d.name(o, "extra")}), long(o))
	case "drop table":
		if d.maker[table.Name] == o.name {
			return "DROP TABLE " + quoted(table)
		}
	case "rename table":
		if to := ""; d.maker[table.Name] == o.name || o.role == schema.Head && isItems(table) {
			if to = d.name(o, "extra"); isItems(table) {
				to = d.name(o, items.Name)
			}
			if o.postgres() {
				return alter + "RENAME TO " + quote(to)
			}
			return "RENAME TABLE " + quoted(table) + " TO " + quoted(schema.TableName{Name: to})
		}
	}
	return ""
}

// widen makes a column wider.
func (d *definer) widen(o *office, is *schema.Definition, c *schema.Column) string {
	typ, def := "bigint", ""
	if c.Kind == schema.KindText {
		typ = long(o)
	}
	if c.Kind == schema.KindText && c.Size > 0 && d.r.IntN(3) > 0 {
		typ = fmt.Sprintf("%s(%d)", varchar(o), c.Size+20)
	}
	if o.postgres() {
		return "ALTER TABLE " + quoted(is.TableName) + " ALTER COLUMN " + quote(c.Name) + " TYPE " + typ
	}
	if x := is.Detail(c.Name).Default; x.Kind == schema.LiteralValue {
		def = " DEFAULT '" + x.Text + "'"
	} else if x.Kind == schema.RandomUUID {
		def = " DEFAULT " + random(o)
	}
	return "ALTER TABLE " + quoted(is.TableName) + " MODIFY COLUMN " + quote(c.Name) + " " + typ + def
}

// name is a new one.
func (d *definer) name(o *office, prefix string) string {
	d.names++
	name := fmt.Sprintf("%s%d", prefix, d.names)
	d.maker[name] = o.name
	return name
}

// mine is one of the columns that the office made; nil: there is none.
func (d *definer) mine(o *office, is *schema.Definition) *schema.Column {
	var all []*schema.Column
	for i := range is.Columns {
		if d.maker[is.Columns[i].Name] == o.name {
			all = append(all, &is.Columns[i])
		}
	}
	if len(all) == 0 {
		return nil
	}
	return pick(d.r, all...)
}

func (d *definer) typ(o *office, size int) string {
	return pick(d.r, map[bool]string{true: "integer", false: "int"}[o.postgres()], fmt.Sprintf("%s(%d)", varchar(o), size))
}

func varchar(o *office) string {
	return map[bool]string{true: "character varying", false: "varchar"}[o.postgres()]
}

func long(o *office) string { return map[bool]string{true: "text", false: "longtext"}[o.postgres()] }

func random(o *office) string {
	return map[bool]string{true: "gen_random_uuid()", false: "(uuid())"}[o.postgres()]
}

func quote(name string) string { return `"` + name + `"` }

func quoted(t schema.TableName) string { return `"public".` + quote(t.Name) }

// fill is what a statement writes into the further columns of a row: by its bits into some of them.
func fill(row schema.Row, first int, bits uint64, n int) {
	for i := first; i < len(row); i++ {
		if bits>>i&1 != 0 {
			row[i] = schema.Of(strconv.Itoa(n))
		}
	}
}

// extra is a statement on a table that some office made; nil: there is none.
func (w *world) extra(o *office, who string) statementOf {
	d := &w.definer
	names := o.extras()
	if len(names) == 0 || d.r.IntN(3) > 0 {
		return nil
	}
	name, id, kind, bits, n := pick(d.r, names...), schema.Of(strconv.Itoa(1001+d.r.IntN(3))), d.r.IntN(3), d.r.Uint64(), w.writes
	return func(ctx context.Context, t *apply.MemoryWrite) error {
		var err error
		switch kind {
		case 0:
			if err = t.Insert(ctx, name, schema.Row{id, schema.Of(who)}); err != nil && o.postgres() {
				return err
			}
			return nil
		case 1:
			_, err = t.Update(ctx, name, schema.Row{id}, func(r schema.Row) {
				r[1] = schema.Of(who)
				fill(r, 2, bits, n)
			})
		default:
			_, err = t.Delete(ctx, name, schema.Row{id})
		}
		return err
	}
}

// narrow is an event of items, under whatever name, with the columns that the table began with; what the others have is compared
// where everything is at rest.
func narrow(e apply.MemoryEvent) apply.MemoryEvent {
	if e.Op == schema.Define || !isItems(e.Table.TableName) || len(e.Table.Columns) <= colNote+1 && e.Table.TableName == items {
		return e
	}
	t := *e.Table
	t.TableName, t.Columns = items, t.Columns[:colNote+1]
	e.Table = schema.NewTable(t)
	if e.Before != nil {
		e.Before = e.Before[: colNote+1 : colNote+1]
	}
	if e.After != nil {
		e.After = e.After[: colNote+1 : colNote+1]
	}
	return e
}

// tag is what a statement says of whose schema change it does; false: an application's own.
func tagged(e *apply.MemoryEvent) (origin schema.Office, at schema.Position, ok bool) {
	if e.Definition == nil {
		return "", at, false
	}
	_, origin, at, _, ok = schema.ParseDDLTag(e.Definition.Statement)
	return origin, at, ok
}

// checkDefined: all offices have the same tables, with the same rows in all of their columns, and no step is left over.
func (w *world) checkDefined() error {
	if w.plan.schema.rate == 0 {
		return nil
	}
	for _, o := range w.offices {
		for _, s := range o.db.MemorySteps() {
			if s.State != schema.DDLDone {
				return failed("", "%s: a step is %s: %+v", o.name, s.State, s)
			}
		}
	}
	want := w.head().db.Definitions()
	for _, o := range w.offices[1:] {
		got := o.db.Definitions()
		for _, name := range tableNames(want, got) {
			if want[name] == nil || got[name] == nil {
				return failed("", "table %s is %v at %s, and %v at %s", name, want[name] != nil, w.head().name, got[name] != nil, o.name)
			}
			if differs := catalog.Equivalent(want[name], got[name]); len(differs) > 0 {
				return failed("", "table %s of %s is not what it is at %s: %s", name, o.name, w.head().name, strings.Join(differs, "; "))
			}
			if name == prices || name == visits {
				continue
			}
			if err := w.sameRows(o, want[name], got[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkPlaces: where the head alone changes tables, no row of it comes to a branch before the change that it needs.
func (w *world) checkPlaces() error {
	if w.plan.schema.rate == 0 || !w.plan.schema.heads || w.plan.unique || w.plan.moves { // a row may wait for a key, too
		return nil
	}
	for _, o := range w.offices[1:] {
		for sender, s := range o.life.applier.Stats() {
			if s.Parked > 0 {
				return failed("", "%d changes of %s came to %s before the definitions that they need", s.Parked, sender, o.name)
			}
		}
	}
	return nil
}

func tableNames(maps ...map[schema.TableName]*schema.Definition) (all []schema.TableName) {
	for _, m := range maps {
		for name := range m {
			all = append(all, name)
		}
	}
	slices.SortFunc(all, func(a, b schema.TableName) int { return strings.Compare(a.Name, b.Name) })
	return slices.Compact(all)
}

// sameRows compares by the columns' names.
func (w *world) sameRows(o *office, head, branch *schema.Definition) error {
	want, got := byKey(w.head().db.Rows(head.TableName)), byKey(o.db.Rows(branch.TableName))
	for _, key := range keysOf(want, got) {
		a, b := want[key], got[key]
		if (a == nil) != (b == nil) {
			return failed(key, "table %s row %s is %v at %s, and %v at %s", head.TableName, key, a, w.head().name, b, o.name)
		}
		for i := range head.Columns {
			if at := branch.Column(head.Columns[i].Name); a[i] != b[at] {
				return failed(key, "table %s row %s column %s is %v at %s, and %v at %s", head.TableName, key, head.Columns[i].Name, a[i], w.head().name, b[at], o.name)
			}
		}
	}
	return nil
}
