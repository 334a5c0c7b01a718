package apply

import (
	"context"

	"cdc-sidecar/schema"
)

// What a foreign key of MySQL (up to 9.5) and of MariaDB does to the rows that refer to one, their logs do not say: of a parent
// that is deleted with its children they show the parent alone. So the changes of those rows are made here, from the foreign keys
// here, before the change that they follow, and go the way of all changes: the log of this office has them then, and
// nothing is left for the database to do by itself.

// cascading is what a writer knows of the rows that follow others.
type cascading struct {
	// all is what the call writes while that is cut in pieces: what is to be looked up must have been written before. Nil: it is not.
	all    []schema.Transaction
	have   schema.Position // at the head: the last that was marked in a piece
	hushed bool            // foreign keys do nothing in the piece in hand

	// A log may have what follows, too, behind what it follows. Of the transaction at: rows that are deleted already (false), or have
	// their new key (true).
	at   schema.Position
	done map[schema.RowID]bool
}

// cutting puts together what can be written at once: changes, and behind them deletes of rows that others may follow, for
// which it is enough to look once. Or one change of what others refer to.
type cutting struct {
	w         *writer
	relations map[schema.TableName]*relation

	pending []schema.Transaction
	roots   []root
	deleted []deletion
	touched map[schema.TableName]bool // by what is pending, other than by deletes
	closure map[schema.TableName]bool // of the roots: tables whose rows may follow
	parents map[schema.TableName]bool // of the roots themselves
	began   map[schema.Position]bool  // transactions of which something was written
}

// root is a change that others may follow.
type root struct {
	in       int // the place of its transaction in pending
	plan     *plan
	relation *relation
	change   *schema.Change
	moves    bool
}

// deletion is a row that is deleted by what is pending itself.
type deletion struct {
	plan   *plan
	change *schema.Change
}

// cut writes transactions in pieces when rows here may follow changes of them; false: they can be written as they are.
func (w *writer) cut(ctx context.Context, txs []schema.Transaction) (bool, error) {
	if w.cascade.all != nil || !w.ses.hush(false) { // where foreign keys act on what we write, they do it all by themselves
		return false, nil
	}
	c := cutting{w: w, relations: w.ses.defs().related(ctx, w.stream.applier.options.Receive), began: map[schema.Position]bool{}}
	if len(c.relations) == 0 || !c.needed(ctx, txs) {
		return false, nil
	}
	w.parts, w.cascade.all, w.cascade.have = true, txs, w.stream.have
	defer func() { w.cascade.all, w.cascade.hushed = nil, false }()
	c.reset()
	for i := range txs {
		if err := c.addTransaction(ctx, &txs[i]); err != nil {
			return true, err
		}
	}
	return true, c.flush(ctx)
}

// needed reports whether any of the changes may be followed.
func (c *cutting) needed(ctx context.Context, txs []schema.Transaction) bool {
	for i := range txs {
		found := false
		_ = c.each(ctx, &txs[i], func(change *schema.Change, p *plan, r *relation) error {
			found = found || c.followed(change, p, r)
			return nil
		})
		if found {
			return true
		}
	}
	return false
}

// each calls f for each change with its way into the table here and what may follow its rows. Of one that is not for this
// office, or not for its tables as they are, there is no plan; whoever writes it finds out why.
func (c *cutting) each(ctx context.Context, tx *schema.Transaction, f func(*schema.Change, *plan, *relation) error) error {
	var table *schema.Table
	var p *plan
	var r *relation
	for i := range tx.Changes {
		change := &tx.Changes[i]
		if change.Table != table {
			table, p, r = change.Table, nil, nil
			if c.w.stream.applier.options.Receive(table.TableName) {
				p, _ = c.w.ses.defs().plan(ctx, table)
			}
			if p != nil {
				r = c.relations[p.target.TableName]
			}
		}
		plan, relation := p, r
		if tx.Origin == c.w.stream.applier.options.Office && change.Decided == nil {
			plan, relation = nil, nil // here already
		}
		if err := f(change, plan, relation); err != nil {
			return err
		}
	}
	return nil
}

// followed reports whether rows may follow a change that its log shows alone. Between two Postgres that are only rows which
// the change's office had not seen: for the head to find. What a comparison found is none: the rows that refer to it have been compared, too.
func (c *cutting) followed(change *schema.Change, p *plan, r *relation) bool {
	logged := change.Table.Engine == schema.Postgres && p != nil && p.engine == schema.Postgres && c.w.stream.applier.options.Clocks == nil
	if p == nil || r == nil || change.Claimed || logged {
		return false
	}
	return change.Op == schema.Delete && r.onDelete || change.Op == schema.Update && shifts(change, p, r)
}

// shifts reports whether an update changes what rows here refer to.
func shifts(c *schema.Change, p *plan, r *relation) bool {
	if len(r.keys) == 0 || p.engine != schema.Postgres && !r.whole { // not all that would have to follow is ours: the database does it
		return false
	}
	for i := range p.columns {
		if to := p.columns[i].to; to < 0 || !r.keys[to] || c.After[i].IsUnchanged() {
			continue
		}
		if c.Before == nil || c.Before[i].IsUnchanged() {
			if c.Table.Engine != schema.Postgres { // its log has the columns that changed
				return true
			}
		} else if c.Before[i] != c.After[i] {
			return true
		}
	}
	return false
}

func (c *cutting) reset() {
	c.pending, c.roots, c.deleted = nil, nil, nil
	c.touched, c.closure, c.parents = map[schema.TableName]bool{}, map[schema.TableName]bool{}, map[schema.TableName]bool{}
}

func (c *cutting) addTransaction(ctx context.Context, tx *schema.Transaction) error {
	if w := c.w; w.cascade.at != tx.Pos {
		w.cascade.at, w.cascade.done = tx.Pos, nil
	}
	c.part(tx)
	err := c.each(ctx, tx, func(change *schema.Change, p *plan, r *relation) error {
		if p == nil {
			c.add(tx, change)
			return nil
		}
		return c.addChange(ctx, tx, root{plan: p, relation: r, change: change})
	})
	c.pending[c.part(tx)].Last = tx.Last
	return err
}

// addChange adds a change to what is pending, of which some is written before where it matters for what follows.
func (c *cutting) addChange(ctx context.Context, tx *schema.Transaction, r root) error {
	name := r.plan.target.TableName
	isRoot := c.followed(r.change, r.plan, r.relation)
	if isRoot && r.change.Op == schema.Update || c.breaks(name, r, isRoot) {
		if err := c.flush(ctx); err != nil {
			return err
		}
	}
	if r.change = c.w.undone(r.plan, r.change); r.change == nil {
		return nil
	}
	isRoot = c.followed(r.change, r.plan, r.relation)
	r.moves = isRoot && r.change.Op == schema.Update
	c.add(tx, r.change)
	if r.change.Op == schema.Delete {
		c.deleted = append(c.deleted, deletion{plan: r.plan, change: r.change})
	} else {
		c.touched[name] = true
	}
	if !isRoot {
		return nil
	}
	r.in = len(c.pending) - 1
	c.roots, c.parents[name] = append(c.roots, r), true
	for child := range r.relation.closure {
		c.closure[child] = true
	}
	if r.moves {
		return c.flush(ctx)
	}
	return nil
}

// breaks reports whether what is pending must be written before a change, so that what is looked up for either is as it was then.
func (c *cutting) breaks(name schema.TableName, r root, isRoot bool) bool {
	if len(c.roots) >= lockBatch {
		return true
	}
	if len(c.roots) > 0 {
		// Of a table that refers to itself, a log without what follows has no row that followed another.
		same := isRoot && len(c.parents) == 1 && c.parents[name] && r.change.Table.Engine != schema.Postgres
		if c.closure[name] && !same || r.change.Op != schema.Delete && c.parents[name] {
			return true
		}
	}
	if !isRoot {
		return false
	}
	for touched := range c.touched {
		if touched == name || r.relation.closure[touched] {
			return true
		}
	}
	return false
}

// part is the place of a transaction in what is pending.
func (c *cutting) part(tx *schema.Transaction) int {
	if last := len(c.pending) - 1; last >= 0 && c.pending[last].Pos == tx.Pos {
		return last
	}
	piece := *tx
	piece.Changes, piece.Last = nil, false
	first := c.w.stream.applier.options.Role == schema.Head || len(c.began) == 0
	if !first || c.began[tx.Pos] { // it is marked
		piece.Part = max(piece.Part, 1)
	}
	c.began[tx.Pos] = true
	c.pending = append(c.pending, piece)
	return len(c.pending) - 1
}

func (c *cutting) add(tx *schema.Transaction, change *schema.Change) {
	p := &c.pending[c.part(tx)]
	p.Changes = append(p.Changes, *change)
}

// flush writes what is pending, with what follows it.
func (c *cutting) flush(ctx context.Context) error {
	if len(c.pending) == 0 {
		return nil
	}
	w := c.w
	hush, err := c.follow(ctx)
	if err != nil {
		return locate(err, c.roots[0].change, c.pending[c.roots[0].in].Pos)
	}
	if hush { // a row that stays, because somebody changed it meanwhile, is not to go with its parent unseen
		w.cascade.hushed = w.ses.hush(true)
	}
	if err := w.writeRows(ctx, c.pending); err != nil {
		return err
	}
	if hush {
		w.cascade.hushed = false
		w.ses.hush(false)
	}
	w.cascade.have = c.pending[len(c.pending)-1].Pos
	c.reset()
	return nil
}

// place is where the head's next mark stands behind, and all that a branch's mark stands for.
func (c *cascading) place(have schema.Position, txs []schema.Transaction) (schema.Position, []schema.Transaction) {
	if c.all == nil {
		return have, txs
	}
	return c.have, c.all
}

// undone is what is left of a change that was made before its time, as one that follows another; nil: nothing.
func (w *writer) undone(p *plan, c *schema.Change) *schema.Change {
	if len(w.cascade.done) == 0 || !p.sameKey || c.Op == schema.Truncate {
		return c
	}
	id, err := p.rowID(c.KeyRow())
	if err != nil {
		return c
	}
	moved, ok := w.cascade.done[id]
	switch {
	case !ok:
	case c.Op == schema.Insert:
		delete(w.cascade.done, id)
	case c.Op == schema.Delete && !moved:
		delete(w.cascade.done, id)
		return nil
	case c.Op == schema.Update && !moved: // its delete is yet to come
		return nil
	case c.Op == schema.Update && moved && p.keyMoves(c.KeyRow(), c.After):
		delete(w.cascade.done, id)
		there := *c
		there.Before = nil
		return &there
	}
	return c
}
