package apply

import (
	"context"
	"slices"
	"time"

	"cdc-sidecar/schema"
)

// Noting is a sink that, before transactions go on, notes what this office's applications themselves renamed, dropped and made: rows
// of other offices that were under way meanwhile find by it where they belong. A branch notes, too, of which tables they changed rows
// without the log. What comes twice is noted twice, in the same order.
func (a *Applier) Noting(next schema.Sink) schema.Sink {
	return func(ctx context.Context, txs []schema.Transaction) error {
		rows, changes := a.ownSteps(txs)
		if len(rows)+len(changes) > 0 {
			w := &writer{}
			err := a.ours(ctx, "note a schema change of this office", func(ses session) error {
				w.start(&stream{applier: a, sender: a.options.Office}, ses, false)
				for i := range rows {
					if err := w.remember(ctx, &rows[i]); err != nil {
						return err
					}
				}
				for _, c := range changes {
					w.order(c, true, a.options.Now().UTC().Format(time.RFC3339Nano))
				}
				return w.saveOrders(ctx)
			})
			if err != nil {
				return err
			}
			a.ordered(w)
		}
		if slices.ContainsFunc(txs, func(tx schema.Transaction) bool { return defines(&tx) }) {
			a.unsure() // sessions know definitions from before
		}
		return next(ctx, txs)
	}
}

// ownSteps are the steps of this office's schema changes by which rows find their places, and those of the changes that changed rows.
func (a *Applier) ownSteps(txs []schema.Transaction) (rows []ddlStep, changes []*schema.DefinitionChange) {
	for i := range txs {
		tx := &txs[i]
		if tx.Origin != a.options.Office || a.options.DDL.Apply == "" {
			continue
		}
		for j := range tx.Changes {
			c := &tx.Changes[j]
			if c.Op != schema.Define {
				continue
			}
			rows = append(rows, ownStepsOf(a.options.Role, tx, j, c)...)
			// A table that was dropped here and made again is empty, and the head may have kept its rows. One that is to be joined is compared anyway.
			wants := c.Definition.Rows || c.Definition.Was == nil
			if wants && a.options.Role == schema.Branch && !a.isJoining(c.Definition.Name()) {
				changes = append(changes, c.Definition)
			}
		}
	}
	return rows, changes
}

func ownStepsOf(role schema.Role, tx *schema.Transaction, index int, c *schema.Change) (rows []ddlStep) {
	for _, s := range schema.Diff(c.Definition.Was, c.Definition.Is) {
		// A branch is not the one to say that a table is no more: while the head has it, its rows wait for it here.
		if !slices.Contains(remembered, s.Kind) || s.Kind == schema.DropTable && role == schema.Branch {
			continue
		}
		r := ddlStep{body: bodyOf(tx, index, c)}
		r.Origin, r.Table, r.Step, r.State, r.Reason = tx.Origin, tableOf(&s).String(), s.Kind, schema.DDLDone, "made here"
		r.Subject, r.Was = subjectOf(&s)
		rows = append(rows, r)
	}
	return rows
}

// unexplained reports whether rows come without a column that the table here has, and this office's log has not been asked why.
func (w *writer) unexplained(p *plan) bool {
	a := w.stream.applier
	if len(p.unexplained) == 0 || a.options.DDL.Apply == "" {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(p.unexplained, func(name string) bool { return !a.asked[columnOf{p.target.TableName, name}] })
}

// ask makes sure that what the applications here have done to a table is noted: the default that a column has by now need not be
// what the rows got that were there when it was added, and such are those that come without it.
func (w *writer) ask(ctx context.Context, p *plan) error {
	a := w.stream.applier
	if err := a.Barrier(ctx); err != nil {
		return err
	}
	a.mu.Lock()
	for _, name := range p.unexplained {
		a.asked[columnOf{p.target.TableName, name}] = true
	}
	a.mu.Unlock()
	return a.evolved(ctx, w.ses)
}

// columnOf is a column of a table here.
type columnOf struct {
	table schema.TableName
	name  string
}

// dropped notes, at a branch, that the head has dropped a table, too, which was dropped here first: nobody sends rows of it any more,
// and those that wait for it are let go of.
func (w *writer) dropped(ctx context.Context, tx *schema.Transaction, index int, c *schema.Change) error {
	o := &w.stream.applier.options
	if o.Role != schema.Branch || c.Definition.Is != nil {
		return nil
	}
	r := ddlStep{body: bodyOf(tx, index, c)}
	r.Origin, r.At, r.Table, r.Step, r.State, r.Reason = tx.Origin, tx.OriginPos, c.Definition.Was.String(), schema.DropTable, schema.DDLDone, "made here"
	return w.remember(ctx, &r)
}
