package main

import (
	"context"
	"fmt"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/fleet"
)

const (
	// demoLookLimit bounds one look at one office, so that a sidecar that hangs does not hold up the show.
	demoLookLimit = 2 * time.Second
	// demoFew: what is under way at any moment while applications write; an office that lacks no more has caught up.
	demoFew = 10
	// demoRows is the one number that shows a table fill.
	demoRows = `SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM order_lines)`
)

// demoSight is an office at one moment.
type demoSight struct {
	office    *fleet.Office
	state     string
	committed uint64 // transactions of its applications
	applied   uint64 // transactions of the other offices, since its sidecar started
	unsent    uint64 // transactions that the broker does not have yet
	rows      string

	writesPerSecond, appliedPerSecond float64 // since the last drawing
}

// demoObserver looks at the offices, and remembers what it needs for rates and for an office that catches up.
type demoObserver struct {
	fleet     *fleet.Fleet
	work      *fleet.Workload
	published []uint64     // by office, as last heard: a sidecar that is dead says nothing
	behind    []demoBehind // by office
	before    []demoSight
	at        time.Time // of before
}

// demoBehind is an office that has something to catch up on, since a time that is zero when it has not.
type demoBehind struct {
	since time.Time
	most  uint64 // transactions that it had not sent
}

func newDemoObserver(f *fleet.Fleet, w *fleet.Workload) *demoObserver {
	n := len(f.Offices)
	return &demoObserver{
		fleet: f, work: w, published: make([]uint64, n), behind: make([]demoBehind, n), before: make([]demoSight, n), at: time.Now(),
	}
}

// look sees what can be seen; an office that does not answer is a sight too.
func (v *demoObserver) look(ctx context.Context) []demoSight {
	out := make([]demoSight, len(v.fleet.Offices))
	for i, o := range v.fleet.Offices {
		out[i] = v.lookAt(ctx, i, o)
	}
	return out
}

func (v *demoObserver) lookAt(ctx context.Context, i int, o *fleet.Office) demoSight {
	ctx, cancel := context.WithTimeout(ctx, demoLookLimit)
	defer cancel()
	s := demoSight{office: o, committed: uint64(v.work.Committed(o)), rows: countRows(ctx, o)}
	status, err := o.Status(ctx)
	switch {
	case !o.Alive():
		s.state = "killed"
	case err != nil:
		s.state = "no answer"
	default:
		s.state = string(status.State)
		s.applied = status.Apply.Transactions - min(status.Apply.OwnReturned, status.Apply.Transactions)
		if status.Journal.Published > 0 {
			v.published[i] = status.Journal.Published
		}
	}
	s.unsent = v.unsent(i, &s, &status)
	return s
}

// unsent counts from the commits, not from the journal: so it is true of a dead sidecar as well. The head's journal holds
// everybody's transactions, which only it can count.
func (v *demoObserver) unsent(i int, s *demoSight, status *admin.Status) uint64 {
	if s.office == v.fleet.Head() {
		return status.Journal.Unsent()
	}
	return s.committed - min(s.committed, v.published[i])
}

func countRows(ctx context.Context, o *fleet.Office) string {
	db, err := o.DB()
	if err != nil {
		return "?"
	}
	var rows string
	if err := db.QueryRowContext(ctx, demoRows).Scan(&rows); err != nil {
		return "?"
	}
	return rows
}

// rates fills in what happened per second since it was last called.
func (v *demoObserver) rates(now []demoSight) []demoSight {
	seconds := time.Since(v.at).Seconds()
	for i := range now {
		s, before := &now[i], &v.before[i]
		s.writesPerSecond = float64(s.committed-before.committed) / seconds
		applied := s.applied
		if applied >= before.applied { // else its sidecar began to count anew
			applied -= before.applied
		}
		s.appliedPerSecond = float64(applied) / seconds
	}
	v.before, v.at = now, time.Now()
	return now
}

// await begins to watch an office that has something to catch up on; nil is none.
func (v *demoObserver) await(o *fleet.Office) {
	if o != nil {
		v.behind[o.Index] = demoBehind{since: time.Now()}
	}
}

// caughtUp has a line for each office that was behind and no longer is.
func (v *demoObserver) caughtUp(now []demoSight) []string {
	var lines []string
	for i := range now {
		s, b := &now[i], &v.behind[i]
		if b.since.IsZero() {
			continue
		}
		b.most = max(b.most, s.unsent)
		if s.unsent <= demoFew && s.state == string(admin.Running) {
			lines = append(lines, fmt.Sprintf("%s has caught up after %.1f s; %d of its transactions had waited", s.office.Name, time.Since(b.since).Seconds(), b.most))
			*b = demoBehind{}
		}
	}
	return lines
}
