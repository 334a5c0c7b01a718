package apply

import (
	"context"
	"fmt"

	"cdc-sidecar/schema"
)

// Mark writes this office's next mark into its own log, in a transaction of its own: whoever has read the log to it has read
// everything that was committed before.
func (a *Applier) Mark(ctx context.Context) (uint64, error) {
	ses, err := a.take(ctx)
	if err != nil {
		return 0, err
	}
	mark, err := ses.mark(ctx, a.options.Office)
	if err != nil {
		a.spoiled(ses)
		return 0, fmt.Errorf("write a mark: %w", err)
	}
	a.release(ses)
	return mark, nil
}

// Disputed reports whether a change of the row is parked here.
func (a *Applier) Disputed(ctx context.Context, row schema.RowID) (bool, error) {
	if a.disputed() == nil {
		ses, err := a.take(ctx)
		if err == nil {
			err = a.recall(ctx, ses)
		}
		if err != nil {
			if ses != nil {
				a.spoiled(ses)
			}
			return false, err
		}
		a.release(ses)
	}
	return a.disputed()[row] != nil, nil
}
