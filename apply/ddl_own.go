package apply

import (
	"context"
	"slices"

	"cdc-sidecar/schema"
)

// Noting is a sink that, before transactions go on, notes what this office's applications themselves renamed, dropped and made: rows
// of other offices that were under way meanwhile find by it where they belong. What comes twice is noted twice, in the same order.
func (a *Applier) Noting(next schema.Sink) schema.Sink {
	return func(ctx context.Context, txs []schema.Transaction) error {
		if rows := a.ownSteps(txs); len(rows) > 0 {
			err := a.ours(ctx, "note a schema change of this office", func(ses session) error {
				w := &writer{}
				w.start(&stream{applier: a, sender: a.options.Office}, ses, false)
				for i := range rows {
					if err := w.remember(ctx, &rows[i]); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		if slices.ContainsFunc(txs, func(tx schema.Transaction) bool { return defines(&tx) }) {
			a.unsure() // sessions know definitions from before
		}
		return next(ctx, txs)
	}
}

// ownSteps are the steps of this office's schema changes by which rows find their places.
func (a *Applier) ownSteps(txs []schema.Transaction) (rows []ddlStep) {
	for i := range txs {
		tx := &txs[i]
		if tx.Origin != a.options.Office || a.options.DDL.Apply == "" {
			continue
		}
		for j := range tx.Changes {
			c := &tx.Changes[j]
			if c.Op == schema.Define {
				rows = append(rows, ownStepsOf(a.options.Role, tx, j, c)...)
			}
		}
	}
	return rows
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
