package e2e

import (
	"context"
	"testing"
	"time"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
)

// Three offices, four writers each, on disjoint rows: all equal afterwards, each transaction sent exactly once, and no office
// applies a row of its own.
func TestThreeOfficesEndEqual(t *testing.T) {
	set := shared.Set(t)
	f := company(t, set, binary(t, "CDC_RACE_BINARY"), three(set)...)
	flow(t, f, sized(5*time.Second, 30*time.Second))
}

// The same with MariaDB as the head, and a branch on the head's own server: offices may share a server.
func TestMariaDBAsTheHead(t *testing.T) {
	set := shared.Set(t)
	f := company(t, set, binary(t, "CDC_RACE_BINARY"),
		fleet.Spec{Name: "head", Role: schema.Head, Database: set.MariaDB[0]},
		fleet.Spec{Name: "north", Role: schema.Branch, Database: set.Postgres[0]},
		fleet.Spec{Name: "south", Role: schema.Branch, Database: set.MariaDB[0]},
	)
	flow(t, f, sized(4*time.Second, 30*time.Second))
}

func flow(t *testing.T, f *fleet.Fleet, long time.Duration) {
	if err := f.Start(within(t, stuck)); err != nil {
		t.Fatal(err)
	}
	w := &fleet.Workload{Writers: 4}
	writing, stop := context.WithTimeout(within(t, stuck), long)
	defer stop()
	if err := w.Run(writing, f); err != nil {
		t.Fatal(err)
	}
	digests, err := f.Equal(within(t, stuck))
	if err != nil {
		t.Fatal(err)
	}
	if digests["orders"].Rows == 0 {
		t.Fatal("nothing was written")
	}
	sentOnce(t, f, w)
	appliedOnlyOthers(t, f)
	t.Logf("%d transactions, %v", total(f, w), digests)
}

func total(f *fleet.Fleet, w *fleet.Workload) int64 {
	var n int64
	for _, o := range f.Offices {
		n += w.Committed(o)
	}
	return n
}

// sentOnce: the journal numbered each local transaction once, and the head each of everybody: amplification 1.0.
func sentOnce(t *testing.T, f *fleet.Fleet, w *fleet.Workload) {
	t.Helper()
	for _, o := range f.Offices {
		s, err := o.Status(within(t, stuck))
		if err != nil {
			t.Fatal(err)
		}
		want := w.Committed(o)
		if o.Role == schema.Head {
			want = total(f, w)
		}
		if got := int64(s.Journal.Last); got != want {
			t.Errorf("%s sent %d transactions, its applications (at the head: everybody's) committed %d", o.Name, got, want)
		}
	}
}

// appliedOnlyOthers: no office applied changes of its own that came back, and none was applied twice.
func appliedOnlyOthers(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	captured := map[schema.Office]uint64{}
	applied := map[schema.Office]uint64{}
	var all uint64
	for _, o := range f.Offices {
		s, err := o.Status(within(t, stuck))
		if err != nil {
			t.Fatal(err)
		}
		c, a := s.Capture.Changes, s.Apply.Changes
		captured[o.Name], applied[o.Name] = c.Insert+c.Update+c.Delete, a.Insert+a.Update+a.Delete
		if o.Role == schema.Head { // its log has everybody's changes
			all = captured[o.Name]
			captured[o.Name] -= applied[o.Name]
		}
		if s.Apply.Repaired > 0 {
			t.Errorf("%s: %d rows were not as the change expected them", o.Name, s.Apply.Repaired)
		}
	}
	for _, o := range f.Offices {
		if want := all - captured[o.Name]; applied[o.Name] != want {
			t.Errorf("%s applied %d changes, the others made %d", o.Name, applied[o.Name], want)
		}
	}
}
