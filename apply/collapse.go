package apply

import (
	"cmp"
	"slices"

	"cdc-sidecar/schema"
)

// At a branch a group is hoped for as what it comes to: of each row its last state, and equal statements side by side. Nobody
// forwards what is written there, so nobody sees the difference; and what does not go as hoped is done again as it was sent.

const (
	// scattered is the share of the steps, one in so many, that begin a statement of their own above which it is worth to
	// look at each row.
	scattered = 8
	// mostShy bounds how many groups are written as they came after one that could not be collapsed.
	mostShy = 64
)

// final is what the steps of a stretch come to for one row: it is deleted, or written, or first the one and then the other.
// The fields are indexes of steps, none: there is none.
type final struct {
	deletes int // what is there before
	writes  int // the step that inserts or updates it; those that follow are merged into it
	absent  int // deletes what an earlier step has inserted: nothing is to be found
	merged  *schema.Change
}

const none = -1

// phase is where a statement stands in a stretch: what is deleted makes room for what is updated, and both for what is new.
type phase uint8

const (
	phaseDelete phase = iota
	phaseAbsent
	phaseUpdate
	phaseInsert
)

// ordered is a step of a stretch with its place.
type ordered struct {
	phase phase
	rank  int // of the form, by first appearance: parents come before their children
	index int // of the step
	form  *form
	args  []schema.Value
}

// collapse is what a writer needs to put steps together.
type collapse struct {
	rows   map[schema.RowID]int // indexes of finals
	finals []final
	forms  map[*form]int
	order  []ordered
	images []schema.Value // of merged changes
	out    []step

	// shy is how many groups are still written as they came, and shyness how many it was at first.
	shy, shyness int
}

// hopeful is the list of steps to be hoped for, and whether it is another than w.steps, which it is where that wins something.
func (w *writer) hopeful() (_ []step, collapsed bool) {
	statements := w.join()
	if w.stream.applier.options.Role == schema.Head || statements*scattered < len(w.steps) {
		return w.steps, false
	}
	c := &w.collapse
	if c.shy > 0 {
		c.shy--
		return w.steps, false
	}
	if c.rows == nil {
		c.rows, c.forms = map[schema.RowID]int{}, map[*form]int{}
	}
	for i := range w.steps {
		st := &w.steps[i]
		if !st.collapses() {
			if !w.flush() {
				return w.steps, false
			}
			c.out = append(c.out, *st)
			c.out[len(c.out)-1].joins = false
		} else if !w.fold(i) {
			return w.steps, false
		}
	}
	if !w.flush() {
		return w.steps, false
	}
	return c.out, true
}

// collapses reports whether a step may change places with others: of a single row, that no trigger follows.
func (st *step) collapses() bool {
	return st.form.single && st.plan.sameKey && !st.plan.fires && !st.contested && st.change.Decided == nil
}

// fold adds step i to what is known of its row. It reports false for a history that makes no sense: that is not to be tidied
// away but written as it came.
func (w *writer) fold(i int) bool {
	st := &w.steps[i]
	row, err := w.rowOf(st)
	if err != nil {
		return false
	}
	c := &w.collapse
	c.rank(st.form)
	at, ok := c.rows[row]
	if !ok {
		at = len(c.finals)
		c.rows[row] = at
		c.finals = append(c.finals, final{deletes: none, writes: none, absent: none})
	}
	f := &c.finals[at]
	switch here := f.writes != none; {
	case !ok && st.form.op == schema.Delete:
		f.deletes = i
	case !ok, st.form.op == schema.Insert && !here:
		f.writes, f.absent, f.merged = i, none, nil
	case !here || st.form.op == schema.Insert || st.plan != w.steps[f.writes].plan:
		return false
	case st.form.op == schema.Update:
		w.merge(f, st.change)
	case w.steps[f.writes].form.op == schema.Update:
		f.deletes, f.writes = i, none
	case f.deletes == none: // inserted before
		f.absent, f.writes = i, none
	default:
		f.writes = none
	}
	return true
}

// rowOf is the row of a step that touches one. It is asked for by join and by fold, and kept apart from rows, which say that
// something else has to do with the row.
func (w *writer) rowOf(st *step) (row schema.RowID, err error) {
	if st.rows[0] != (schema.RowID{}) {
		return st.rows[0], nil
	}
	if st.row == (schema.RowID{}) {
		st.row, err = st.plan.rowID(st.change.KeyRow())
	}
	return st.row, err
}

// merge lets an update follow what is written of the row: its values are the later ones.
func (w *writer) merge(f *final, update *schema.Change) {
	if f.merged == nil {
		before := w.steps[f.writes].change
		from := len(w.collapse.images)
		w.collapse.images = append(w.collapse.images, before.After...)
		merged := *before
		merged.After = w.collapse.images[from:len(w.collapse.images):len(w.collapse.images)]
		f.merged = &merged
	}
	for i, v := range update.After {
		if !v.IsUnchanged() {
			f.merged.After[i] = v
		}
	}
}

// flush appends what the stretch came to. It reports false when that cannot be written.
func (w *writer) flush() bool {
	c := &w.collapse
	for i := range c.finals {
		f := &c.finals[i]
		if f.deletes != none {
			w.place(phaseDelete, f.deletes)
		}
		if f.absent != none {
			w.place(phaseAbsent, f.absent)
		}
		if f.writes == none {
			continue
		}
		o := w.place(map[bool]phase{true: phaseInsert, false: phaseUpdate}[w.steps[f.writes].form.op == schema.Insert], f.writes)
		if f.merged == nil {
			continue
		}
		merged, args, err := w.steps[f.writes].plan.bind(o.form.op, f.merged, f.merged.KeyRow(), w.args)
		if err != nil {
			return false
		}
		w.args, o.form, o.args, o.rank = args, merged.form, merged.args, c.rank(merged.form)
	}
	slices.SortFunc(c.order, func(a, b ordered) int {
		return cmp.Or(cmp.Compare(a.phase, b.phase), cmp.Compare(a.rank, b.rank), cmp.Compare(a.index, b.index))
	})
	for i := range c.order {
		o := &c.order[i]
		c.out = append(c.out, w.steps[o.index])
		st := &c.out[len(c.out)-1]
		st.form, st.args, st.absent = o.form, o.args, o.phase == phaseAbsent
		st.joins = i > 0 && c.order[i-1].phase == o.phase && c.order[i-1].form == o.form
	}
	c.settle()
	return true
}

// place notes where a step goes.
func (w *writer) place(p phase, index int) *ordered {
	c, st := &w.collapse, &w.steps[index]
	c.order = append(c.order, ordered{phase: p, rank: c.rank(st.form), index: index, form: st.form, args: st.args})
	return &c.order[len(c.order)-1]
}

// rank numbers the forms of a stretch.
func (c *collapse) rank(f *form) int {
	n, ok := c.forms[f]
	if !ok {
		n = len(c.forms)
		c.forms[f] = n
	}
	return n
}

// learn notes how a hope for collapsed steps ended: where tables are tied together so that the order counts, it is given up
// for a while.
func (c *collapse) learn(fulfilled bool) {
	if fulfilled {
		c.shyness = 0
		return
	}
	c.shyness = min(max(2*c.shyness, 1), mostShy)
	c.shy = c.shyness
}

// settle ends a stretch.
func (c *collapse) settle() {
	clear(c.order)
	clear(c.finals)
	clear(c.rows)
	clear(c.forms)
	c.order, c.finals = c.order[:0], c.finals[:0]
}

// forget lets go of the values.
func (c *collapse) forget() {
	c.settle()
	clear(c.images)
	clear(c.out)
	c.images, c.out = c.images[:0], c.out[:0]
}
