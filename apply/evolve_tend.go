package apply

import (
	"context"
	"fmt"
	"time"

	"cdc-sidecar/schema"
)

// lookHeld is how often the tables are looked at for what is held, or failed, and may have been done by a person meanwhile.
const lookHeld = 10 * time.Second

// known reads what the database says of schema changes, unless that is known: whoever asks for it wants no connection.
func (a *Applier) known(ctx context.Context) error {
	a.mu.Lock()
	known := a.evolution != nil || a.options.DDL.Apply == ""
	a.mu.Unlock()
	if known {
		return nil
	}
	ses, err := a.take(ctx)
	if err != nil {
		return err
	}
	if err := a.evolved(ctx, ses); err != nil {
		a.spoiled(ses)
		return err
	}
	a.release(ses)
	return nil
}

// lookAtHeld marks steps as done that somebody has done.
func (a *Applier) lookAtHeld(ctx context.Context, sender schema.Office) error {
	if err := a.known(ctx); err != nil {
		return err
	}
	a.mu.Lock()
	known, since := a.evolution, a.options.Now().Sub(a.lookedAt)
	due := known != nil && (since >= lookHeld || since < 0)
	if due {
		a.lookedAt = a.options.Now()
	}
	a.mu.Unlock()
	if !due {
		return nil
	}
	var open []ddlStep
	for _, r := range known.rows {
		if r.State == schema.DDLHeld || r.State == schema.DDLFailed {
			open = append(open, r)
		}
	}
	if len(open) == 0 {
		return nil
	}
	w := &writer{}
	err := a.ours(ctx, "look at schema changes that are held", func(ses session) error {
		w.start(&stream{applier: a, sender: sender}, ses, false)
		for i := range open {
			if err := w.lookAt(ctx, &open[i]); err != nil {
				return err
			}
		}
		if w.defined {
			a.unsure()
		}
		return nil
	})
	if err == nil {
		a.ordered(w)
	}
	return err
}

func (w *writer) lookAt(ctx context.Context, r *ddlStep) error {
	s, err := r.step()
	if err != nil || s == nil {
		return err
	}
	got, here, err := w.render(ctx, s)
	if err != nil || !got.Done {
		return nil //nolint:nilerr // it could not be rendered before
	}
	was := r.State
	r.State, r.Reason, r.after = schema.DDLDone, "somebody did it", fingerprint(here)
	if err := w.passed(ctx, was, r); err != nil {
		return fmt.Errorf("table %s: %w", r.Table, err)
	}
	if c, err := r.change(); err == nil { // it was read for the step
		w.order(c, false, fmt.Sprintf("%s %s %s", r.Origin, r.At, r.Subject))
	}
	if err := w.saveOrders(ctx); err != nil {
		return fmt.Errorf("table %s: %w", r.Table, err)
	}
	w.stream.applier.options.Log.Info("a step of a schema change was done by hand", "table", r.Table, "step", string(r.Step), "statement", r.Statement)
	return nil
}
