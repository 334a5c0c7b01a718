package apply

import (
	"context"
	"slices"

	"cdc-sidecar/schema"
)

// A schema change that changes rows without the log having them leaves a branch to be compared with the head. The order to do so is
// a row among the joins, written in the transaction that did the change here, or noted it as this office's own; who compares is
// told when that is durable.

// bringing are the steps without which the rows of a change cannot be compared yet.
var bringing = []schema.StepKind{schema.CreateTable, schema.RenameTable, schema.AddColumn, schema.ChangeType, schema.ChangeComputed}

// settled reports whether a step that is in a state keeps nobody from comparing rows.
func settled(s *schema.Step, state string) bool {
	return !slices.Contains(bringing, s.Kind) || state != schema.DDLHeld && state != schema.DDLFailed
}

// order orders, at a branch, what a change asks for; made: an application of this office made it. at tells it from others.
func (w *writer) order(d *schema.DefinitionChange, made bool, at string) {
	if (d.Rows || made) && d.Is != nil && w.stream.applier.options.Role == schema.Branch {
		w.orders = append(w.orders, schema.NewRowsOrder(d, made, at))
	}
}

// saveOrders writes what is ordered with the open transaction.
func (w *writer) saveOrders(ctx context.Context) error {
	for i := range w.orders {
		name, state := w.orders[i].Encode()
		if err := w.ours(saveJoins(ctx, w.ses, w.stream.applier.options.Office, []Join{{Table: name, State: state}})); err != nil {
			return err
		}
	}
	return nil
}

// ordered tells what was ordered by the transaction that is committed.
func (a *Applier) ordered(w *writer) {
	for i := range w.orders {
		o := &w.orders[i]
		direction := "the head's rows come"
		if o.Up {
			direction = "this office's rows go to the head"
		}
		a.options.Log.Info("a schema change may have changed rows without the log: the table is compared with the head's", "table", o.Table.String(),
			"statement", o.Why, "where they differ", direction)
		if a.options.Ordered != nil {
			name, _ := o.Encode()
			a.options.Ordered(name, *o)
		}
	}
	w.orders = nil
}

// Called is how a table is called here now that had that name once, as far as schema changes say.
func (a *Applier) Called(ctx context.Context, table schema.TableName) (schema.TableName, error) {
	if err := a.known(ctx); err != nil {
		return table, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.evolution == nil { // no schema changes are taken, or one came just now
		return table, nil
	}
	now, _ := a.evolution.past.table(table)
	return now, nil
}
