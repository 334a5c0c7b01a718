package apply

import (
	"context"
	"errors"
	"slices"
	"time"

	"cdc-sidecar/schema"
)

// A change whose table, or one of whose columns, is not here waits with the parked ones, and those behind it of the same row
// behind it. All else goes on. It is written when somebody has made what it needs.

// unfitError is a rejection that ends when the table here is changed.
type unfitError struct{ rejected *schema.RejectedError }

func (e *unfitError) Error() string { return e.rejected.Error() }
func (e *unfitError) Unwrap() error { return e.rejected }

// errDropped: the table was dropped here on purpose.
var errDropped = errors.New("the table was dropped here")

// maxWaiting bounds the changes that wait here, each some hundred bytes in memory and a row in the database: with more of them,
// the stream stops until they can be written.
const maxWaiting = 10_000

// misfit has a change wait for its table; p is nil where there is none. The error is why it cannot.
func (w *writer) misfit(p *plan, c *schema.Change, tx *schema.Transaction, err error) error {
	if w.stream.applier.options.DDL.Apply == "" {
		return err
	}
	n := 0
	for _, d := range append(w.disputed.all(), w.waiting.all()...) {
		n += len(d.queue)
	}
	if n += len(w.steps); n >= maxWaiting {
		return err
	}
	if p != nil && (!p.sameKey || c.Op == schema.Truncate) {
		return err
	}
	st := step{form: &form{op: opOwn}, change: c, plan: p, at: tx.Pos, tx: tx, alone: true, misfit: locate(err, c, tx.Pos)}
	switch {
	case p != nil:
		if err := p.identify(c, &st); err != nil {
			return err
		}
	case c.Op == schema.Truncate: // there is nothing to empty but what waits
		st.rows[0] = c.Table.TableID()
	default:
		st.keys[0] = c.KeyRow()
		st.rows[0] = c.Table.RowID(st.keys[0])
		if c.Op == schema.Update && c.After.Complete(c.Table) && c.Table.RowID(c.After) != st.rows[0] {
			st.two, st.keys[1], st.rows[1] = true, c.After, c.Table.RowID(c.After)
		}
	}
	w.misfits = true
	w.steps = append(w.steps, st)
	return nil
}

// wait parks a change that has no place here.
func (w *writer) wait(ctx context.Context, st *step) error {
	if st.change.Op == schema.Truncate {
		return w.truncateWaiting(ctx, st)
	}
	w.collision = st.misfit
	if err := w.park(ctx, st, nil); err != nil {
		return err
	}
	w.stream.applier.noticeMisfit(st)
	return nil
}

// noticeMisfit logs that a change waits, and for what.
func (a *Applier) noticeMisfit(st *step) {
	table := st.change.Table.TableName
	a.mu.Lock()
	quiet := time.Since(a.notified[table]) < noticeEvery
	if !quiet {
		a.notified[table] = time.Now()
	}
	a.mu.Unlock()
	if !quiet {
		a.options.Log.Warn("changes of a table wait: it is not here as its origin has it", "table", table.String(), "cause", st.misfit)
	}
}

// table is how the fleet calls the step's table.
func (st *step) table() string {
	if st.plan == nil {
		return st.change.Table.String()
	}
	return st.plan.target.String()
}

// incomplete reports that there are columns that the table here lacks.
func (p *plan) incomplete() bool {
	return slices.ContainsFunc(p.columns, func(m mapping) bool { return m.missing })
}

// lacks is why a change cannot be written before the table here is changed.
func (p *plan) lacks(c *schema.Change) error {
	for i := range p.columns {
		if p.columns[i].missing && c.After != nil && !c.After[i].IsUnchanged() {
			return p.missingColumn(i)
		}
	}
	return nil
}

// leaves reports whether a change has values of columns that were dropped here.
func (p *plan) leaves(c *schema.Change) bool {
	for i := range p.columns {
		if m := &p.columns[i]; m.to < 0 && m.dropped && c.After != nil && c.After[i].State() == schema.Present {
			return true
		}
	}
	return false
}
