package main

import (
	"testing"

	"cdc-sidecar/admin"
	"cdc-sidecar/resync"
	"cdc-sidecar/schema"
)

// A table has diverged until all of it was compared and found equal: some of its rows say nothing of the others.
func TestTallyOfSomeRows(t *testing.T) {
	j := newJobs(nil)
	for i, step := range []struct {
		where     string
		different uint64
		repaired  uint64
		diverged  uint64
	}{
		{"row.id < 10", 0, 0, 0},
		{"", 3, 0, 1},
		{"row.id < 10", 0, 0, 1},
		{"row.id > 10", 2, 2, 1},
		{"", 2, 2, 0},
		{"row.id < 10", 1, 0, 1},
		{"", 0, 0, 0},
	} {
		j.tally(&asked{
			Job: admin.Job{Spec: admin.Spec{Kind: admin.JobVerify, Where: step.where}, State: admin.JobDone},
			parts: []*part{{office: "north", result: resync.Result{Tables: []schema.TableReport{
				{Table: "orders", Different: step.different, Repaired: step.repaired},
			}}}},
		})
		if got := uint64(j.verify.Diverged); got != step.diverged {
			t.Errorf("step %d: %d tables have diverged, want %d", i+1, got, step.diverged)
		}
	}
}
