package apply

import (
	"context"

	"cdc-sidecar/schema"
)

// The origin of a transaction holds what the head says of a row for older than its own change of it, until the head has applied the
// transaction. Of one that is committed in pieces that comes with the last: what was decided in the others is told once more then.

// owed is a row of which something was decided in a piece that is not the last.
type owed struct {
	st  step
	row schema.RowID
	key schema.Row
}

// overruled finds out about which rows of a piece something was decided, be it by this attempt or by one before.
func (w *writer) overruled(ctx context.Context, tx *schema.Transaction, from, to int) error {
	a := w.stream.applier
	if a.options.Clocks == nil || tx.Origin == a.options.Office {
		return nil
	}
	var steps []step
	for i := range tx.Changes[from:to] {
		c := &tx.Changes[from+i]
		p, err := w.planTable(ctx, c.Table)
		if err != nil || p == nil || !p.sameKey || c.Op == schema.Truncate || !a.contests(p.target.TableName, tx.Origin) {
			continue // what has no place here waits, and is told when it is written
		}
		st := step{change: c, plan: p, at: tx.Pos, tx: tx, policy: a.options.Policy(p.source.TableName)}
		if err := p.identify(c, &st); err != nil {
			return locate(err, c, tx.Pos)
		}
		steps = append(steps, st)
	}
	if len(steps) == 0 {
		return nil
	}
	if err := w.barrier(ctx); err != nil {
		return err
	}
	for i := range steps {
		for j, row := range steps[i].touched() {
			seq, _, _, err := a.options.Clocks.Against(steps[i].plan.target.TableName, row, tx.Origin)
			if err != nil {
				return err
			}
			if seq > w.seen(tx) {
				w.owed = append(w.owed, owed{steps[i], row, steps[i].keys[j]})
			}
		}
	}
	return nil
}

// retell tells of those rows as they stand behind the last piece.
func (w *writer) retell(ctx context.Context) error {
	if len(w.owed) == 0 || schema.Planted(schema.DecidedEarlierUntold) {
		return nil
	}
	w.standing = map[schema.RowID]*standingRow{}
	told := map[schema.RowID]bool{}
	for i := range w.owed {
		o := &w.owed[i]
		if told[o.row] {
			continue
		}
		told[o.row] = true
		p, err := w.planTable(ctx, o.st.change.Table) // the table may have been changed since
		if err != nil || p == nil {
			continue
		}
		o.st.plan = p
		s, err := w.now(ctx, &o.st, o.row, o.key)
		if err != nil {
			return err
		}
		if err := w.tell(ctx, &o.st, o.row, s); err != nil {
			return err
		}
	}
	return nil
}
