package apply

import (
	"context"
	"slices"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// A row may come whose office had not seen that somebody removed the row it refers to. At the office that removed it, it would have
// gone or been cleared with it, or the removal would have been refused. The head decides: such a row is not to be without what it refers to, whatever
// the policy says, and its image is in the conflict log. Elsewhere foreign keys do not get in the way of what the head says: a row
// may be without what it refers to until the head has met both.

// reference is a foreign key by which rows of a table here refer to a parent's, where this office takes both tables.
type reference struct {
	*catalog.Referrer
	parent  *catalog.Table
	columns []int // of the child
	parents []int // of the parent, in the same order
	keyed   bool  // they are the parent's key: the clocks know its rows by it
	keysOf  *lookup
	// above are the tables whose rows take the parent's with them without the log's saying so: only of them do the clocks know.
	above map[schema.TableName]bool
}

// refer is what rows of each table refer to. It also notes the names of these foreign keys.
func (d *definitions) refer(receive func(schema.TableName) bool) map[schema.TableName][]reference {
	all := map[schema.TableName][]reference{}
	d.covered = map[string]bool{}
	for name, t := range d.tables {
		for i := range t.Referrers {
			k := &t.Referrers[i]
			child := d.tables[k.Child]
			if child == nil || !receive(k.Child) || !receive(name) {
				continue
			}
			columns, parents, known := columnsOf(k, t, child)
			if !known {
				continue
			}
			d.covered[k.Name] = true
			all[k.Child] = append(all[k.Child], reference{
				Referrer: k, parent: t, columns: columns, parents: parents,
				keyed: len(parents) == len(t.Key) && !slices.ContainsFunc(t.Key, func(c int) bool { return !slices.Contains(parents, c) }),
				// The rows are kept from going until the row that refers to them is committed, or has been decided on.
				keysOf: newLookup(t, catalog.NewColumnsReader(t, parents), parents, toRefer[t.Engine]),
			})
		}
	}
	if d.engine != schema.Postgres {
		for _, references := range all {
			for i := range references {
				references[i].above = map[schema.TableName]bool{}
				climb(all, references[i].parent.TableName, references[i].above)
			}
		}
	}
	return all
}

// climb gathers the tables whose rows take those of a table with them, however far.
func climb(all map[schema.TableName][]reference, table schema.TableName, above map[schema.TableName]bool) {
	for i := range all[table] {
		if r := &all[table][i]; r.OnDelete == schema.Cascade && !above[r.parent.TableName] {
			above[r.parent.TableName] = true
			climb(all, r.parent.TableName, above)
		}
	}
}

// toRefer locks rows so that they stay, and that others may still refer to them.
var toRefer = map[schema.Engine]string{
	schema.Postgres: " FOR KEY SHARE", schema.MySQL: " LOCK IN SHARE MODE", schema.MariaDB: " LOCK IN SHARE MODE",
}

// refers are the foreign keys of the table that a change goes to, if it is for the head to decide on them.
func (w *writer) refers(p *plan, c *schema.Change) []reference {
	if w.stream.applier.options.Clocks == nil || c.Op != schema.Insert && c.Op != schema.Update {
		return nil
	}
	return w.ses.defs().references[p.target.TableName]
}

// dependent reports whether others may remove what rows of a change refer to.
func (w *writer) dependent(p *plan, c *schema.Change, origin schema.Office) bool {
	return slices.ContainsFunc(w.refers(p, c), func(r reference) bool {
		return r.keyed && w.stream.applier.othersWrite(r.parent.TableName, origin)
	})
}

// parentOf is the key of the row that an image of a child refers to; nil: it refers to none.
func (r *reference) parentOf(image schema.Row) schema.Row {
	key := make(schema.Row, len(r.parent.Columns))
	for i, c := range r.columns {
		if image[c].State() != schema.Present {
			return nil
		}
		key[r.parents[i]] = image[c]
	}
	return key
}

// findParents looks for the rows that contested steps refer to, has them stay, and notes what is not there. moved says that
// those updates are passed by which leave a row with what it refers to.
func (w *writer) findParents(ctx context.Context, steps []step, moved bool) error {
	var all []parents
	for i := range steps {
		st := &steps[i]
		if st.lacks = nil; !st.contested || st.change == nil {
			continue
		}
		refers := w.refers(st.plan, st.change)
		if len(refers) == 0 {
			continue
		}
		image, err := st.plan.image(st.change.After)
		if err != nil {
			return locate(err, st.change, st.at)
		}
		var before schema.Row
		if moved && st.change.Op == schema.Update && st.change.Before != nil {
			before = st.plan.imageIfFits(st.change.Before)
		}
		for j := range refers {
			r := &refers[j]
			if r.keyed && (before == nil || slices.ContainsFunc(r.columns, func(c int) bool { return before[c] != image[c] })) {
				all = r.add(all, image, st)
			}
		}
	}
	for i := range all {
		if err := all[i].find(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// parents are rows that steps refer to by one foreign key.
type parents struct {
	by   *reference
	keys []schema.Row
	ids  []schema.RowID
	of   [][]*step            // who refers to each
	at   map[schema.RowID]int // the place of each
}

// add adds what an image refers to.
func (r *reference) add(all []parents, image schema.Row, st *step) []parents {
	key := r.parentOf(image)
	if key == nil {
		return all
	}
	i := slices.IndexFunc(all, func(p parents) bool { return p.by == r })
	if i < 0 {
		i, all = len(all), append(all, parents{by: r, at: map[schema.RowID]int{}})
	}
	p, id := &all[i], r.parent.RowID(key)
	n, known := p.at[id]
	if !known {
		n = len(p.keys)
		p.at[id], p.keys, p.ids, p.of = n, append(p.keys, key), append(p.ids, id), append(p.of, nil)
	}
	p.of[n] = append(p.of[n], st)
	return all
}

// find locks the rows, and notes in the steps which are not there.
func (p *parents) find(ctx context.Context, w *writer) error {
	there := make([]bool, len(p.keys))
	if err := w.seek(ctx, p.by.keysOf, p.keys, func(i int, _ schema.Row) error { there[i] = true; return nil }); err != nil {
		return err
	}
	for i, of := range p.of {
		for _, st := range of {
			if !there[i] {
				st.lacks = append(st.lacks, lacking{by: p.by, parent: p.ids[i]})
			}
		}
	}
	return nil
}

// lacking is a row that is not there, and the foreign key by which a step's row refers to it.
type lacking struct {
	by     *reference
	parent schema.RowID
}

// bereaved reports whether something that the step's row refers to was removed by somebody without its office having seen that, and
// who did. An office that has no such foreign key may send rows before what they refer to: those stay, unless they are disputed. Behind a barrier.
func (w *writer) bereaved(st *step, disputed bool) (lost *reference, by version, err error) {
	for _, l := range st.lacks {
		v, ok := w.decided[l.parent]
		if !ok {
			var seq uint64
			if seq, v.origin, v.stamp, err = w.stream.applier.options.Clocks.Against(l.by.parent.TableName, l.parent, st.tx.Origin); err != nil {
				return nil, by, err
			}
			// An office may have a row without what it refers to for a while, as long as the head has not met the row.
			ok = disputed || seq > w.seen(st.tx) || w.vanished(l.by, st.tx)
		}
		if ok && (lost == nil || l.by.OnDelete != schema.SetNull) { // who goes is not cleared
			lost = l.by
		}
		if ok {
			by = by.later(v)
		}
	}
	return lost, by, nil
}

// vanished reports whether a row that is not there may have gone unlogged, with one that it referred to, without an office's having seen that.
func (w *writer) vanished(by *reference, tx *schema.Transaction) bool {
	for table := range by.above {
		if w.stream.applier.options.Clocks.TableAgainst(table, tx.Origin) > w.seen(tx) {
			return true
		}
	}
	return false
}

// bereavedNow is bereaved with what this transaction has written meanwhile.
func (w *writer) bereavedNow(ctx context.Context, st *step, disputed bool) (lost *reference, by version, err error) {
	if lost, by, err = w.bereaved(st, disputed); lost == nil || err != nil {
		return nil, by, err
	}
	one := []step{*st}
	if err := w.findParents(ctx, one, false); err != nil {
		return nil, by, err
	}
	st.lacks = one[0].lacks
	return w.bereaved(st, disputed)
}

// bereave is a decision by which a row would be there without what it refers to, mended: it goes, or its reference is cleared.
func (c *contest) bereave(d decision, lost *reference) decision {
	if d.result == nil || d.winner == localWins || d.winner == nobodyYet {
		return d
	}
	d.by = c.localBy.later(c.by)
	clears := lost.OnDelete == schema.SetNull
	for _, column := range lost.columns {
		clears = clears && c.table.Columns[column].Nullable && !slices.Contains(c.table.Key, column)
	}
	if !clears {
		if d.result = nil; c.local == nil {
			d.winner = localWins
			return d
		}
		d.winner = merged
		return d
	}
	d.winner, d.result = merged, slices.Clone(d.result)
	for _, column := range lost.columns {
		d.result[column] = schema.NullValue()
	}
	return d
}

// decideFor is what becomes of a row: by the policy, and by what refers to what.
func (c *contest) decideFor(st *step) (decision, error) {
	if st.change.Follows && c.local != nil && !c.older {
		return c.take(), nil // what it refers to is gone, or is called otherwise, whoever changed the row since
	}
	d, err := c.decide()
	if err == nil && st.lost != nil {
		d = c.bereave(d, st.lost)
	}
	return d, err
}

// covers reports whether an error is about a foreign key between tables that this office takes: what one of the two lacks is on its way, or
// the head will say what becomes of the other.
func (w *writer) covers(err error) bool {
	v := w.ses.judge(err)
	return v.fault == unreferred && w.ses.defs().covered[v.key]
}
