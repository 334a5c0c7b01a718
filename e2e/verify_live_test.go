package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"cdc-sidecar/fleet"
)

// Three offices write, on rows of their own and on one that all of them write. Nobody ever finds a difference: what is not equal is
// on its way.
func TestVerifyUnderLoad(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := filled(t, set, bin, sized(500, 20000), three(set)...)
	must(t, f.Start(within(t, stuck)))
	writing, end := context.WithCancel(within(t, 2*stuck))
	defer end()
	load := &fleet.Workload{Writers: 1, Pause: sized(40*time.Millisecond, 15*time.Millisecond)}
	wait, err := load.Start(writing, f)
	must(t, err)
	hot := make(chan error, 1)
	go func() { hot <- heat(writing, t, f) }()
	must(t, fleet.Until(within(t, stuck), "every office's application has written", func(context.Context) error {
		for _, o := range f.Offices {
			if load.Committed(o) < 20 {
				return fmt.Errorf("%s: %d transactions", o.Name, load.Committed(o))
			}
		}
		return nil
	}))
	until, again := time.Now().Add(sized(8*time.Second, time.Minute)), 0
	for ; again == 0 || time.Now().Before(until); again++ {
		wantAll(t, asked(t, f.Head(), bin, 0, "verify"), 2)
		wantAll(t, asked(t, f.Offices[1+again%2], bin, 0, "verify"), 1)
	}
	end()
	must(t, wait())
	must(t, <-hot)
	t.Logf("%d transactions, compared %d times", total(f, load), again)
	_, err = f.Equal(within(t, stuck))
	must(t, err)
	for _, o := range f.Offices {
		wantAll(t, asked(t, o, bin, 0, "verify"), max(1, 2-2*o.Index))
	}
}

// heat writes one row, and deletes and inserts another, at one office after the other, each time as soon as all offices have
// what was written before: these rows are in flight nearly always.
func heat(ctx context.Context, t *testing.T, f *fleet.Fleet) error {
	for n := 0; ctx.Err() == nil; n++ {
		o := f.Offices[n%len(f.Offices)]
		also := `DELETE FROM order_lines WHERE order_id = 7 AND line = 2`
		if n%2 == 1 {
			also = `INSERT INTO order_lines VALUES (7, 2, 'hot', 1, NULL)`
		}
		// Not under ctx: of what is cut off in the middle nobody would know whether it happened.
		if err := o.Exec(within(t, stuck), fmt.Sprintf(`UPDATE orders SET note = 'hot %d' WHERE id = 7`, n), also); err != nil {
			return err
		}
		err := fleet.Until(ctx, "the hot rows are everywhere", func(ctx context.Context) error {
			for _, o := range f.Offices {
				d, err := o.DigestOf(ctx, fmt.Sprintf(`SELECT id, id FROM orders WHERE id = 7 AND note = 'hot %d' AND
					(SELECT count(*) FROM order_lines WHERE order_id = 7 AND line = 2) = %d`, n, n%2))
				if err == nil && d.Rows != 1 {
					err = fmt.Errorf("%s does not have them", o.Name)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// wantAll wants every office and table compared to its end, and all rows equal.
func wantAll(t *testing.T, a answered, offices int) {
	t.Helper()
	if len(a.Result.Offices) != offices {
		t.Fatalf("%d offices were compared, want %d", len(a.Result.Offices), offices)
	}
	for _, o := range a.Result.Offices {
		if len(o.Tables) != len(fleet.Tables) {
			t.Errorf("%s compared %d tables", o.Office, len(o.Tables))
		}
		for _, r := range o.Tables {
			if r.Rows == 0 || r.Equal == 0 || r.Found() > 0 || r.InFlight > 0 {
				t.Errorf("%s: %+v", o.Office, r)
			}
		}
	}
}
