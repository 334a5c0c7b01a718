package apply

import (
	"context"
	"errors"
	"fmt"

	"cdc-sidecar/schema"
)

// writer writes into one open database transaction. It first hopes: all steps go to the database at once. When a row turns
// out to be otherwise than the change expects it (inserted but there, updated but not there), everything of the call is
// undone and done again carefully, one step after the other, each followed by what repairs it.
type writer struct {
	stream *stream
	ses    session
	parts  bool // the transaction comes in parts: what precedes this call must survive an undo
	tally  Stats
	last   *step // of the last write, for an error at commit

	steps []step
	args  []schema.Value
	hits  []int64
}

func (w *writer) start(s *stream, ses session, parts bool) {
	w.stream, w.ses, w.parts, w.tally, w.last = s, ses, parts, Stats{}, nil
}

// write writes transactions, or one part of one.
func (w *writer) write(ctx context.Context, txs []schema.Transaction) error {
	defer w.forget()
	if err := w.plan(ctx, txs); err != nil {
		return err
	}
	if len(w.steps) == 0 {
		return nil
	}
	if w.parts {
		w.ses.save()
	}
	tally := w.tally
	surprise, err := w.hope(ctx)
	if err != nil || !surprise {
		return err
	}
	if w.tally = tally; w.parts {
		w.ses.restore()
	} else {
		w.ses.restart()
	}
	for i := range w.steps {
		if err := w.careful(ctx, &w.steps[i]); err != nil {
			return err
		}
	}
	return nil
}

// forget lets go of the values, which may be large.
func (w *writer) forget() {
	clear(w.steps)
	clear(w.args)
	w.steps, w.args = w.steps[:0], w.args[:0]
}

// plan turns transactions into steps. At the head each transaction has its own progress row before it: the head's capture
// divides the database transaction by them again, to forward each with its origin. At a branch nothing is forwarded, and
// one row with the last position, written first, is enough.
func (w *writer) plan(ctx context.Context, txs []schema.Transaction) error {
	o := &w.stream.applier.options
	have, progress := w.stream.have, w.ses.defs().progressForm()
	for i := range txs {
		tx := &txs[i]
		if o.Role == schema.Head && tx.Part == 0 {
			w.steps = append(w.steps, mark(progress, o.Office, w.stream.sender, have, tx))
			have = tx.Pos
		} else if i == 0 && tx.Part == 0 {
			last := &txs[len(txs)-1]
			w.steps = append(w.steps, mark(progress, o.Office, w.stream.sender, have, last))
		}
		if tx.Last {
			w.tally.Transactions++
		}
		if tx.Origin == o.Office {
			if tx.Last {
				w.tally.Own++
			}
			continue
		}
		if err := w.planChanges(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) planChanges(ctx context.Context, tx *schema.Transaction) error {
	var table *schema.Table // rows of one table come in runs
	var p *plan             // nil: this office does not take the table
	for i := range tx.Changes {
		c := &tx.Changes[i]
		if c.Table != table {
			var err error
			if p, err = w.planTable(ctx, c.Table); err != nil {
				return locate(err, c, tx.Pos)
			}
			table = c.Table
		}
		if p == nil {
			w.tally.Filtered++
			continue
		}
		st, args, err := p.bind(c.Op, c, c.KeyRow(), w.args)
		if err != nil {
			return locate(err, c, tx.Pos)
		}
		st.at = tx.Pos
		w.args = args
		w.steps = append(w.steps, st)
		w.tally.count(c.Op)
	}
	return nil
}

func (w *writer) planTable(ctx context.Context, t *schema.Table) (*plan, error) {
	if !w.stream.applier.options.Receive(t.TableName) {
		return nil, nil
	}
	return w.ses.defs().plan(ctx, t)
}

// hope runs all steps at once and reports whether a row was otherwise than expected.
func (w *writer) hope(ctx context.Context) (surprise bool, err error) {
	var failed int
	w.hits, failed, err = w.ses.run(ctx, w.steps, w.hits[:0])
	if err != nil {
		v := w.ses.judge(err)
		if v.fault == duplicate || v.fault == unsupported || failed < 0 && v.fault != transient {
			return true, nil // one by one it may be mended, or shows at least which step it was
		}
		return false, explain(err, v, &w.steps[max(failed, 0)], w.ses.user())
	}
	missing := uint64(0)
	for i, n := range w.hits {
		switch st := &w.steps[i]; {
		case n > 0 || st.form.op == schema.Truncate:
		case st.form.op == 0:
			return false, w.fenced(st)
		case st.form.op == schema.Delete:
			missing++
		default:
			return true, nil
		}
	}
	w.tally.Missing += missing
	w.last = &step{change: w.steps[len(w.steps)-1].change, at: w.steps[len(w.steps)-1].at, plan: w.steps[len(w.steps)-1].plan}
	return false, nil
}

func (w *writer) fenced(st *step) error {
	return fmt.Errorf("apply %s of %s: %w", st.at, w.stream.sender, ErrFenced)
}

// one runs a single step.
func (w *writer) one(ctx context.Context, st *step) (hits int64, err error) {
	var n [1]int64
	got, _, err := w.ses.run(ctx, []step{*st}, n[:0])
	if err != nil {
		return 0, err
	}
	return got[0], nil
}

// careful runs one step and what repairs it.
func (w *writer) careful(ctx context.Context, st *step) error {
	switch st.form.op {
	case schema.Insert:
		return w.insert(ctx, st)
	case schema.Truncate:
		st = &step{form: st.plan.deleteAll(), change: st.change, plan: st.plan, at: st.at}
	}
	n, err := w.one(ctx, st)
	switch {
	case err != nil:
		return w.explain(err, st)
	case n > 0 || st.form.op == schema.Truncate:
		return nil
	case st.form.op == 0:
		return w.fenced(st)
	case st.form.op == schema.Delete:
		w.tally.Missing++
		return nil
	}
	if !st.change.After.Complete(st.change.Table) {
		return locate(&schema.RejectedError{
			Table: st.change.Table.TableName, Cause: errors.New("the row to update is not here, and the change does not hold all of its columns"),
			Remedy: "copy the row from the office that has it",
		}, st.change, st.at)
	}
	w.repaired(st, "no row")
	insert, _, err := st.plan.bind(schema.Insert, st.change, nil, nil)
	if err != nil {
		return locate(err, st.change, st.at)
	}
	insert.at = st.at
	return w.insert(ctx, &insert)
}

// insert inserts a row; one that exists is given all columns of the change.
func (w *writer) insert(ctx context.Context, st *step) error {
	n, inserting := w.one(ctx, st)
	switch {
	case n > 0:
		return nil
	case inserting != nil && w.ses.judge(inserting).fault != duplicate:
		return w.explain(inserting, st)
	}
	update, _, err := st.plan.bind(schema.Update, st.change, st.change.After, nil)
	if err != nil {
		return locate(err, st.change, st.at)
	}
	update.at = st.at
	n, err = w.one(ctx, &update)
	switch {
	case err != nil:
		return w.explain(err, st)
	case n > 0:
		w.repaired(st, "a row of this key")
		return nil
	case inserting != nil:
		return w.explain(inserting, st) // not the key: another unique one
	default:
		return fmt.Errorf("apply %s to table %s at %s: %w", st.change.Op, st.change.Table.TableName, st.at, errVanished)
	}
}

func (w *writer) explain(err error, st *step) error {
	return explain(err, w.ses.judge(err), st, w.ses.user())
}

func (w *writer) repaired(st *step, found string) {
	w.tally.Repaired++
	w.stream.applier.noticeRepair(w.stream.sender, st, found)
}

// commit makes everything durable. Constraints that are checked only now speak of the last change, which may not be the
// one to blame; the server's words name the constraint.
func (w *writer) commit(ctx context.Context) error {
	err := w.ses.commit(ctx)
	if err == nil {
		return nil
	}
	if v := w.ses.judge(err); w.last != nil && v.fault != transient {
		return explain(err, v, w.last, w.ses.user())
	}
	return fmt.Errorf("commit: %w", err)
}
