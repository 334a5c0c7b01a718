package apply

import (
	"context"
	"fmt"
	"slices"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// maxFollowers bounds the rows that follow what is written at once: their keys are in memory.
const maxFollowers = 1 << 20

// relation is what follows the rows of one table here.
type relation struct {
	referrers []referrer // those that this office takes
	closure   map[schema.TableName]bool
	whole     bool // this office takes all that follows, however far
	onDelete  bool
	keys      map[int]bool // the columns that others follow when they change
}

// referrer is a foreign key by which rows of child follow.
type referrer struct {
	*catalog.Referrer
	child   *catalog.Table
	columns []int // of the child
	parents []int // of the table referred to, in the same order
	keysOf  *lookup
}

// related is what follows the rows of each table; nil: nothing of any.
func (d *definitions) related(ctx context.Context, receive func(schema.TableName) bool) map[schema.TableName]*relation {
	if d.tables == nil && d.load(ctx) != nil { // whoever plans a change says why
		return nil
	}
	if d.relatedAt != d.readAt {
		d.relations, d.references, d.relatedAt = d.relate(receive), d.refer(receive), d.readAt
	}
	return d.relations
}

func (d *definitions) relate(receive func(schema.TableName) bool) map[schema.TableName]*relation {
	all := map[schema.TableName]*relation{}
	for name, t := range d.tables {
		if !slices.ContainsFunc(t.Referrers, func(k catalog.Referrer) bool { return k.Follows() }) || !receive(name) {
			continue
		}
		r := &relation{closure: map[schema.TableName]bool{}, keys: map[int]bool{}}
		for i := range t.Referrers {
			if k := &t.Referrers[i]; k.Follows() {
				r.add(t, k, d.tables[k.Child], receive)
			}
		}
		r.whole = d.close(t, receive, r.closure)
		all[name] = r
	}
	return all
}

// add adds a foreign key whose rows can be told and are for this office. A MySQL has no SET DEFAULT.
func (r *relation) add(t *catalog.Table, k *catalog.Referrer, child *catalog.Table, receive func(schema.TableName) bool) {
	if child == nil || len(child.Key) == 0 || !receive(child.TableName) {
		return
	}
	n := referrer{Referrer: k, child: child}
	var known bool
	if n.columns, n.parents, known = columnsOf(k, t, child); !known {
		return
	}
	n.keysOf = newLookup(child, catalog.NewKeyReader(child), n.columns, "")
	r.referrers = append(r.referrers, n)
	r.onDelete = r.onDelete || k.OnDelete != schema.Forbid
	if k.OnUpdate != schema.Forbid {
		for _, p := range n.parents {
			r.keys[p] = true
		}
	}
}

// columnsOf are the places of a foreign key's columns in its table, and in that which it refers to; false: one of them is not there.
func columnsOf(k *catalog.Referrer, parent, child *catalog.Table) (columns, parents []int, known bool) {
	for i, name := range k.Columns {
		columns, parents = append(columns, child.Column(name)), append(parents, parent.Column(k.ParentColumns[i]))
	}
	return columns, parents, !slices.Contains(columns, -1) && !slices.Contains(parents, -1)
}

// close gathers the tables whose rows follow those of t, however far, and reports whether this office takes them all.
func (d *definitions) close(t *catalog.Table, receive func(schema.TableName) bool, closure map[schema.TableName]bool) bool {
	whole := true
	for i := range t.Referrers {
		if !t.Referrers[i].Follows() {
			continue
		}
		name := t.Referrers[i].Child
		child := d.tables[name]
		if child == nil || len(child.Key) == 0 || !receive(name) {
			whole = false
		} else if !closure[name] {
			closure[name] = true
			whole = d.close(child, receive, closure) && whole
		}
	}
	return whole
}

// toWrite locks rows that are to be written.
const toWrite = " FOR UPDATE"

// newLookup finds rows by the values of some columns, and locks them by a clause of that engine; empty: it does not.
func newLookup(t *catalog.Table, reader *catalog.Reader, columns []int, lock string) *lookup {
	q := &lookup{table: t, reader: reader, form: &form{}}
	q.form.text("SELECT " + q.reader.Select() + " FROM " + only(t) + tableName(t.Engine, t.OwnSchema, t.Name))
	separator := " WHERE "
	for _, c := range columns {
		q.compare(separator, c, " = ")
		separator = " AND "
	}
	q.form.text(lock)
	q.form.finish()
	return q
}

// walk finds what follows the roots of a piece.
type walk struct {
	c    *cutting
	seen map[following]bool
	out  [][]schema.Change // by transaction: what follows others comes first
	n    int
}

// following is a row that goes (no referrer), or changes by a foreign key.
type following struct {
	row schema.RowID
	by  *catalog.Referrer
}

// member is a row with the place of the transaction in which it goes or changes.
type member struct {
	in     int
	before schema.Row
	after  schema.Row // nil: it goes
}

// follow puts what follows the roots to what is pending of their transactions, before them where they go, and reports whether there is anything that the
// database is not to do by itself.
func (c *cutting) follow(ctx context.Context) (hush bool, err error) {
	if len(c.roots) == 0 {
		return false, nil
	}
	x := walk{c: c, seen: map[following]bool{}, out: make([][]schema.Change, len(c.pending))}
	for _, d := range c.deleted {
		if d.plan.sameKey && (c.closure[d.plan.target.TableName] || c.parents[d.plan.target.TableName]) {
			id, err := d.plan.rowID(d.change.KeyRow())
			if err != nil {
				return false, err
			}
			x.seen[following{row: id}] = true
		}
	}
	whole := true
	for i := 0; i < len(c.roots); {
		n := 1
		for i+n < len(c.roots) && c.roots[i+n].plan == c.roots[i].plan {
			n++
		}
		if err := x.fromRoots(ctx, c.roots[i:i+n]); err != nil {
			return false, err
		}
		whole = whole && c.roots[i].relation.whole
		i += n
	}
	for i, changes := range x.out {
		switch {
		case len(changes) == 0:
		case c.roots[0].moves: // then it is the only one, and the last: a new key is there before whoever refers to it
			c.pending[i].Changes = append(c.pending[i].Changes, changes...)
		default:
			c.pending[i].Changes = append(changes, c.pending[i].Changes...)
		}
	}
	return x.n > 0 && whole, nil
}

// fromRoots finds what follows roots of one plan.
func (x *walk) fromRoots(ctx context.Context, roots []root) error {
	p, r := roots[0].plan, roots[0].relation
	var key []int
	for _, k := range p.source.Key {
		key = append(key, p.columns[k].to)
	}
	images := make([]schema.Row, len(roots))
	for i := range roots {
		var err error
		if images[i], err = p.image(roots[i].change.KeyRow()); err != nil {
			return err
		}
	}
	// The rows are locked, so that nobody can refer to one behind our back.
	q := newLookup(p.target, catalog.NewReader(p.target), key, toWrite)
	var gone, changed []member
	there := make([]bool, len(roots))
	err := x.c.w.seek(ctx, q, images, func(i int, row schema.Row) error {
		there[i] = true
		m := member{in: roots[i].in, before: row}
		if !roots[i].moves {
			gone = append(gone, m)
			return nil
		}
		after, err := p.image(roots[i].change.After)
		if err != nil {
			return err
		}
		m.after = slices.Clone(row)
		for j := range after {
			if !after[j].IsUnchanged() {
				m.after[j] = after[j]
			}
		}
		changed = append(changed, m)
		return nil
	})
	for i := range roots {
		if !there[i] && !roots[i].moves { // somebody here removed it, too; what refers to it may have come since
			gone = append(gone, member{in: roots[i].in, before: images[i]})
		}
	}
	if err == nil {
		err = x.follow(ctx, r, gone)
	}
	if err == nil {
		err = x.follow(ctx, r, changed)
	}
	return err
}

// follow finds what follows members of one table; they either all go, or all change.
func (x *walk) follow(ctx context.Context, r *relation, members []member) error {
	if r == nil || len(members) == 0 {
		return nil
	}
	gone := members[0].after == nil
	for i := range r.referrers {
		k := &r.referrers[i]
		action := k.OnUpdate
		if gone {
			action = k.OnDelete
		}
		if action == schema.Forbid || action == schema.SetDefault && k.child.Engine != schema.Postgres {
			continue
		}
		children, of, err := x.children(ctx, k, members)
		if err == nil && len(children) > 0 && gone && action == schema.Cascade {
			err = x.remove(ctx, k, children)
		} else if err == nil && len(children) > 0 {
			err = x.change(ctx, k, action, gone, children, func(i int) schema.Row { return members[of[i]].after })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// children are the rows that refer to members by k, as members themselves (with keys alone), and of which each is.
func (x *walk) children(ctx context.Context, k *referrer, members []member) (children []member, of []int, err error) {
	var images []schema.Row
	var places []int
	for i, m := range members {
		image, refers := make(schema.Row, len(k.child.Columns)), m.after == nil
		for j, c := range k.columns {
			image[c] = m.before[k.parents[j]]
			refers = refers || m.after[k.parents[j]] != image[c]
		}
		if refers && !slices.ContainsFunc(k.columns, func(c int) bool { return image[c].State() != schema.Present }) {
			images, places = append(images, image), append(places, i)
		}
	}
	by := k.Referrer
	if members[0].after == nil && k.OnDelete == schema.Cascade {
		by = nil
	}
	err = x.c.w.seek(ctx, k.keysOf, images, func(i int, row schema.Row) error {
		f := following{row: k.child.RowID(row), by: by}
		if x.seen[f] || x.seen[following{row: f.row}] {
			return nil
		}
		x.seen[f] = true
		if x.n++; x.n > maxFollowers {
			return &schema.RejectedError{
				Table: k.child.TableName, Cause: fmt.Errorf("more than %d rows follow the change by foreign key %s", maxFollowers, k.Name),
				Remedy: "delete here what follows it, some at a time",
			}
		}
		children, of = append(children, member{in: members[places[i]].in, before: row}), append(of, places[i])
		return nil
	})
	return children, of, err
}

// remove deletes rows that follow, behind what follows them.
func (x *walk) remove(ctx context.Context, k *referrer, children []member) error {
	if r := x.c.relations[k.child.TableName]; r != nil && r.onDelete {
		whole, _, err := x.read(ctx, k.child, children)
		if err == nil {
			err = x.follow(ctx, r, whole)
		}
		if err != nil {
			return err
		}
	}
	for _, m := range children {
		x.emit(m.in, schema.Change{Table: k.child.Table, Op: schema.Delete, Before: m.before}, false)
	}
	return nil
}

// change sets the columns of a foreign key in rows that follow; become are the rows that they refer to, as those become.
func (x *walk) change(ctx context.Context, k *referrer, action schema.Action, gone bool, children []member, become func(i int) schema.Row) error {
	var defaults schema.Row
	var err error
	if action == schema.SetDefault {
		if defaults, err = x.defaults(ctx, k); err != nil {
			return err
		}
	}
	whole, of, err := x.read(ctx, k.child, children)
	if err != nil {
		return err
	}
	for i := range whole {
		m := &whole[i]
		m.after = slices.Clone(m.before)
		for j, column := range k.columns {
			switch {
			case action == schema.Cascade:
				m.after[column] = become(of[i])[k.parents[j]]
			case !slices.Contains(k.Sets(gone), k.Columns[j]):
			case action == schema.SetDefault:
				m.after[column] = defaults[column]
			default:
				m.after[column] = schema.NullValue()
			}
		}
	}
	for _, m := range whole {
		after := make(schema.Row, len(m.after))
		for _, c := range append(slices.Clone(k.columns), k.child.Key...) {
			after[c] = m.after[c]
		}
		x.emit(m.in, schema.Change{Table: k.child.Table, Op: schema.Update, Before: m.before, After: after}, k.child.RowID(after) != k.child.RowID(m.before))
	}
	return x.follow(ctx, x.c.relations[k.child.TableName], whole)
}

// emit notes a change that follows. A Postgres' own transaction will bring it again, as will one in which a new key was followed at the
// head: there too the log has first the key.
func (x *walk) emit(in int, change schema.Change, moved bool) {
	tx, w := &x.c.pending[in], x.c.w
	root := &x.c.roots[slices.IndexFunc(x.c.roots, func(r root) bool { return r.in == in })]
	change.Blind, change.Follows = root.change.Blind, true
	x.out[in] = append(x.out[in], change)
	logged := moved || change.Op == schema.Delete && root.change.Table.Engine == schema.Postgres
	if !logged || tx.Pos != w.cascade.at {
		return
	}
	if w.cascade.done == nil {
		w.cascade.done = map[schema.RowID]bool{}
	}
	w.cascade.done[change.Table.RowID(change.Before)] = moved
}

// read locks and reads whole rows by their keys; of is the place of each among them.
func (x *walk) read(ctx context.Context, t *catalog.Table, keys []member) (whole []member, of []int, err error) {
	for from := 0; from < len(keys); from += lockBatch {
		batch := keys[from:min(from+lockBatch, len(keys))]
		images := make([]schema.Row, len(batch))
		for i := range batch {
			images[i] = batch[i].before
		}
		rows, err := x.c.w.ses.fetch(ctx, t, images, true)
		if err != nil {
			return nil, nil, x.c.w.unread(err, t)
		}
		for i, row := range rows {
			if row != nil {
				whole, of = append(whole, member{in: batch[i].in, before: row}), append(of, from+i)
			}
		}
	}
	return whole, of, nil
}

// seek looks rows up by images, and calls answer with the place of the image and a row that it found.
func (w *writer) seek(ctx context.Context, q *lookup, images []schema.Row, answer func(i int, row schema.Row) error) error {
	asker, ok := w.ses.(asker)
	if !ok {
		return fmt.Errorf("%T cannot be asked for rows", w.ses)
	}
	for from := 0; from < len(images); from += lockBatch {
		batch := images[from:min(from+lockBatch, len(images))]
		steps := make([]step, len(batch))
		for i, image := range batch {
			args, err := q.bind(image, nil)
			if err != nil {
				return err
			}
			steps[i] = step{form: q.form, args: args}
		}
		err := asker.ask(ctx, steps, q.reader.Width(), func(i int, values [][]byte) error {
			row, err := q.row(values)
			if err != nil {
				return err
			}
			return answer(from+i, row)
		})
		if err != nil {
			return w.unread(err, q.table)
		}
	}
	return nil
}

// defaults are what SET DEFAULT gives the columns of a foreign key in Postgres.
func (x *walk) defaults(ctx context.Context, k *referrer) (row schema.Row, err error) {
	q := &lookup{table: k.child, reader: catalog.NewColumnsReader(k.child, k.columns), form: &form{}}
	text, separator := "SELECT "+q.reader.Select()+" FROM (SELECT ", ""
	for i, c := range k.columns {
		value := "NULL"
		if k.Defaults[i] != "" {
			value = "(" + k.Defaults[i] + ")"
		}
		text, separator = text+separator+"CAST("+value+" AS "+k.child.Columns[c].Native+") AS "+quote(schema.Postgres, k.child.Columns[c].Name), ", "
	}
	q.form.text(text + ") d")
	q.form.finish()
	err = x.c.w.seek(ctx, q, []schema.Row{nil}, func(_ int, got schema.Row) error {
		row = got
		return nil
	})
	return row, err
}
