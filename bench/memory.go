package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"cdc-sidecar/fleet"
	"cdc-sidecar/servers"
)

// memorySection asks how much memory the sidecars take, and what that depends on.
var memorySection = section{
	name:  "memory",
	title: "Memory",
	about: "Resident memory of both sidecars, from /proc: at rest, after five seconds without a change; and the peak of a life that had a backlog to catch up with, made while it did not " +
		"run: one and four times as many rows in transactions of 100, and one transaction of two sizes. Each backlog begins with new processes. MB are millions of bytes.",
	needs: func(o options) servers.Spec { return servedBy(o, 2, 2) },
	run:   memory,
}

// memoryPairs are those whose memory is measured: what one engine's code takes is much like that of the other.
var memoryPairs = []string{"pg-pg", "maria-maria"}

func memory(ctx context.Context, b *bench) error {
	for _, pair := range memoryPairs {
		if !slices.Contains(b.pairs, pair) {
			continue
		}
		if err := memoryOfPair(ctx, b, pair); err != nil {
			return fmt.Errorf("%s: %w", pair, err)
		}
		if b.quick {
			return nil // the first tells most
		}
	}
	return nil
}

func memoryOfPair(ctx context.Context, b *bench, pair string) (err error) {
	head, branch := servers.Database(nil), servers.Database(nil)
	if pair == "pg-pg" {
		head, branch = b.servers.Postgres[0], b.servers.Postgres[1]
	} else {
		head, branch = b.servers.MariaDB[0], b.servers.MariaDB[1]
	}
	f, err := b.fleet(ctx, head, branch, createSample)
	if err != nil {
		return err
	}
	defer func() { err = b.leave(f, err) }()
	m := &memoryRun{b: b, pair: pair, f: f}
	if err := m.rest(ctx); err != nil {
		return err
	}
	n, one := b.scaled(2000)*rowsOfTransaction, b.scaled(50_000)
	thousands := func(n int) string { return number(float64(n)) }
	for _, load := range []struct {
		what, grown string
		sizes       sizes
	}{
		{thousands(n) + " rows waiting", "", sizes{inserts: n}},
		{thousands(4*n) + " rows waiting", "four times the rows", sizes{before: n, inserts: 4 * n}},
		{"a transaction of " + thousands(one), "", sizes{big: one}},
		{"a transaction of " + thousands(10*one), "ten times the transaction", sizes{big: 10 * one}},
	} {
		if err := m.load(ctx, load.what, load.grown, load.sizes); err != nil {
			return fmt.Errorf("%s: %w", load.what, err)
		}
	}
	equal, err := equalSample(ctx, f.Offices...)
	if err != nil {
		return err
	}
	b.report.note("equal: %s orders at both offices of %s after all of it", number(float64(equal)), pair)
	return nil
}

// memoryRun is one pair's fleet.
type memoryRun struct {
	b     *bench
	pair  string
	f     *fleet.Fleet
	marks int
	last  []float64 // the offices' peaks of the load before
}

// The promises, in MB.
const (
	mostAtRest    = 40
	mostUnderLoad = 120
)

// restFor is how long nothing happens before memory at rest is looked at.
const restFor = 5 * time.Second

const residentTable = "Resident memory, MB"

// rest starts the sidecars, looks at them when nothing has happened for a while, and stops them.
func (m *memoryRun) rest(ctx context.Context) error {
	if err := m.f.Start(ctx); err != nil {
		return err
	}
	select {
	case <-time.After(restFor):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := m.look("at rest", "", func(r rss) float64 { return r.now }, mostAtRest); err != nil {
		return err
	}
	return stop(ctx, m.f.Offices...)
}

// load has changes made while the sidecars do not run, and looks at their peaks when they have caught up.
func (m *memoryRun) load(ctx context.Context, what, grown string, s sizes) error {
	head, branch := m.f.Offices[0], m.f.Offices[1]
	d, err := at(head)
	if err != nil {
		return err
	}
	if s.big > 0 {
		err = d.big(ctx, d.DB, s)
	} else {
		err = d.insert(ctx, d.DB, s)
	}
	if err != nil {
		return err
	}
	m.marks++
	if err := mark(ctx, head, m.marks); err != nil {
		return err
	}
	if err := m.f.Start(ctx); err != nil {
		return err
	}
	if err := marked(ctx, branch, m.marks); err != nil {
		return err
	}
	if err := m.f.Settled(ctx); err != nil { // what the acknowledgement lets go also takes memory
		return err
	}
	if err := m.look(what, grown, func(r rss) float64 { return r.peak }, mostUnderLoad); err != nil {
		return err
	}
	return stop(ctx, m.f.Offices...)
}

// look notes what both sidecars take; grown says how this load is larger than the one before, if it is.
func (m *memoryRun) look(what, grown string, which func(rss) float64, most float64) error {
	var found []float64
	for i, o := range m.f.Offices {
		r, err := memoryOf(o.Pid())
		if err != nil {
			return err
		}
		m.b.report.add(single(residentTable, what+", "+m.pair, string(o.Name), which(r), atMost(most, 0)))
		if grown != "" {
			m.b.report.add(single("Peak of the larger load to that of the smaller", grown+", "+m.pair, string(o.Name), which(r)/m.last[i], nil))
		}
		found = append(found, which(r))
		m.b.logf("  %s, %s, %s: %s MB", m.pair, what, o.Name, number(which(r)))
	}
	m.last = found
	return nil
}
