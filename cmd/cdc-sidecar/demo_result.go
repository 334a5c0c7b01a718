package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
)

// demoResult is what a demonstration has proved, or not.
type demoResult struct {
	Equal            bool         `json:"equal"`
	Offices          []demoOffice `json:"offices"`
	Transactions     int64        `json:"transactions"`      // that the applications committed
	Lost             int64        `json:"lost"`              // committed and never sent
	Doubled          int64        `json:"doubled"`           // sent more often than committed
	ConvergedSeconds float64      `json:"converged_seconds"` // from the last write until all were equal; 0: never
}

// demoOffice is what one office holds at the end.
type demoOffice struct {
	Office       schema.Office `json:"office"`
	Transactions int64         `json:"transactions"`
	Tables       []demoTable   `json:"tables"`
}

type demoTable struct {
	Table string `json:"table"`
	Rows  int    `json:"rows"`
	Hash  string `json:"hash"` // over all rows in key order, the same text for a row on both engines
}

func (r *demoResult) good() bool { return r.Equal && r.Lost == 0 && r.Doubled == 0 }

func (r *demoResult) exitCode() int {
	if !r.Equal {
		return exitDiffer
	}
	return exitRuntime
}

// converge waits until every office holds the same rows and nothing is under way, and counts. Offices that are not equal
// in time are a result; offices that cannot be read or say nothing are an error.
func (d *demo) converge(ctx context.Context) (demoResult, error) {
	stopped := time.Now()
	r := demoResult{}
	for _, o := range d.fleet.Offices {
		r.Offices = append(r.Offices, demoOffice{Office: o.Name, Transactions: d.work.Committed(o)})
		r.Transactions += d.work.Committed(o)
		if d.work.Committed(o) == 0 {
			return r, fmt.Errorf("the applications at %s could not write", o.Name)
		}
	}
	err := d.atRest(ctx, &r, stopped)
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	if err != nil {
		if r.read(ctx, d.fleet) != nil || r.difference() == nil {
			return r, err // not readable, or equal and yet not at rest
		}
		d.screen.note("trouble", errors.Join(d.fallen(), r.difference()).Error())
		return r, nil
	}
	r.Equal = true
	return r, r.count(ctx, d)
}

// atRest waits until all offices are equal and stay so when nothing is under way any more.
func (d *demo) atRest(ctx context.Context, r *demoResult, stopped time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, demoConvergeLimit)
	defer cancel()
	equal := func(ctx context.Context) error {
		if err := d.fallen(); err != nil {
			cancel() // waiting does not raise it
			return err
		}
		if err := r.read(ctx, d.fleet); err != nil {
			return err
		}
		return r.difference()
	}
	if err := fleet.Until(ctx, "every office holds the same", equal); err != nil {
		return err
	}
	r.ConvergedSeconds = time.Since(stopped).Seconds()
	if err := d.fleet.Settled(ctx); err != nil {
		return err
	}
	return equal(ctx)
}

// read reads every table of every office.
func (r *demoResult) read(ctx context.Context, f *fleet.Fleet) error {
	for i, o := range f.Offices {
		tables := make([]demoTable, len(fleet.Tables))
		for t, name := range fleet.Tables {
			digest, err := o.Digest(ctx, name)
			if err != nil {
				return err
			}
			tables[t] = demoTable{Table: name, Rows: digest.Rows, Hash: digest.Hash}
		}
		r.Offices[i].Tables = tables
	}
	return nil
}

// difference names a table that two offices do not have alike; nil when there is none.
func (r *demoResult) difference() error {
	first := r.Offices[0]
	for _, o := range r.Offices[1:] {
		for t, table := range o.Tables {
			if want := first.Tables[t]; table != want {
				return fmt.Errorf("%s: %s has %d rows (%s), %s %d (%s)", table.Table, first.Office, want.Rows, want.Hash, o.Office, table.Rows, table.Hash)
			}
		}
	}
	return nil
}

// count holds what was sent against what was committed: a branch numbers its own transactions, the head everybody's.
func (r *demoResult) count(ctx context.Context, d *demo) error {
	for i, o := range d.fleet.Offices {
		status, err := o.Status(ctx)
		if err != nil {
			return err
		}
		want := r.Offices[i].Transactions
		if o == d.fleet.Head() {
			want = r.Transactions
		}
		sent := int64(status.Journal.Last)
		r.Lost += max(0, want-sent)
		r.Doubled += max(0, sent-want-d.work.Unsure())
	}
	return nil
}

// answer is the table of what the offices hold, and the verdict.
func (r *demoResult) answer() answer {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "\nOFFICE\tTRANSACTIONS\tTABLE\tROWS\tHASH\t")
	for _, o := range r.Offices {
		for t, table := range o.Tables {
			mark := "✓"
			if table != r.Offices[0].Tables[t] {
				mark = "✗"
			}
			fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\t%s\n", o.Office, o.Transactions, table.Table, table.Rows, table.Hash, mark)
		}
	}
	_ = w.Flush() // into memory
	verdict := "equal"
	if !r.Equal {
		verdict = "DIFFERENT"
	}
	fmt.Fprintf(&b, "\n%s: %d offices, %d transactions, %d lost, %d doubled", verdict, len(r.Offices), r.Transactions, r.Lost, r.Doubled)
	if r.Equal {
		fmt.Fprintf(&b, ", converged in %.2f s", r.ConvergedSeconds)
	}
	b.WriteString("\n")
	return answer{Text: b.String(), Result: r, Summary: map[string]any{
		"equal": r.Equal, "transactions": r.Transactions, "lost": r.Lost, "doubled": r.Doubled, "converged_seconds": r.ConvergedSeconds,
	}}
}
