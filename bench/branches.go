package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"cdc-sidecar/admin"
	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// branchesSection asks what fifty branches cost the head's sidecar, instead of one.
var branchesSection = section{
	name:  "branches",
	title: "Fifty branches",
	about: "One head with its Postgres database and its sidecar, and branches that are real queues with receivers in the benchmark's own process: they speak the protocol, take every " +
		"transaction, acknowledge, and only count the rows. insert100, made while the sidecar stood still; its CPU time is taken from its start until the last receiver has the last row. " +
		"Everything shares the machine, so with fifty receivers the same work is done among busier neighbours. One and fifty in turns.",
	needs: func(options) servers.Spec { return servers.Spec{Postgres: 2, RabbitMQ: 1} },
	run:   branches,
}

const manyBranches = 50

func branches(ctx context.Context, b *bench) (err error) {
	rows := b.scaled(2000) * rowsOfTransaction
	if b.quick && b.rows == quickRows {
		rows = 50_000 // fewer are over before they can be measured
	}
	var companies [2]*company
	for i, n := range []int{1, manyBranches} {
		c, err := newCompany(ctx, b, b.servers.Postgres[i], n)
		if err != nil {
			return err
		}
		defer func() { err = b.leave(c.f, err) }()
		companies[i] = c
	}
	turns := b.times(3)
	for turn := range turns {
		for i := range companies {
			c := companies[(turn+i)%2] // whoever was second is first
			if err := c.turn(ctx, b, rows, turn == turns-1); err != nil {
				return fmt.Errorf("%d branches: %w", len(c.receivers), err)
			}
		}
	}
	const table = "CPU seconds per million rows"
	one, many := companies[0], companies[1]
	for _, c := range companies {
		row := "one branch"
		if len(c.receivers) > 1 {
			row = fmt.Sprintf("%d branches", len(c.receivers))
		}
		b.report.add(median(table, row, "head sidecar", c.sidecar, nil), median(table, row, "broker", c.broker, nil), median(table, row, "seconds a turn", c.took, nil))
	}
	b.report.add(ratio(table, "50 to 1", "head sidecar", many.sidecar, one.sidecar, atMost(1.15, 0)), ratio(table, "50 to 1", "broker", many.broker, one.broker, nil))
	b.report.note("complete: each receiver had every transaction in its place, %s rows each, and the head heard so from all", number(float64(many.rows)))
	b.report.note("with nothing to do, the head's sidecar takes %.2f %% of a core for 50 branches, %.2f %% for one", many.idle, one.idle)
	return nil
}

// company is a head and its receivers.
type company struct {
	f         *fleet.Fleet
	head      *fleet.Office
	node      *servers.RabbitMQ
	receivers []*receiver
	rows      int // of orders at the head so far

	sidecar, broker, took samples
	idle                  float64 // percent of a core
}

// newCompany makes the head and has its branches introduce themselves. Nothing runs when it returns.
func newCompany(ctx context.Context, b *bench, server servers.Database, branches int) (*company, error) {
	f, err := b.headOnly(ctx, server, createSample)
	if err != nil {
		return nil, err
	}
	c := &company{f: f, head: f.Offices[0], node: b.servers.RabbitMQ[0]}
	var turn sync.Mutex
	for i := range branches {
		name := schema.Office(fmt.Sprintf("branch-%d", i+1))
		c.receivers = append(c.receivers, newReceiver(name, c.node.URL(f.VHost()), filepath.Join(b.temp, f.VHost()), uint64(i+1), &turn))
	}
	err = c.live(ctx, func(ctx context.Context) error { return c.known(ctx) })
	if err != nil {
		return nil, b.leave(f, err)
	}
	return c, nil
}

// headOnly is a fleet of one.
func (b *bench) headOnly(ctx context.Context, server servers.Database, create func(context.Context, *fleet.Office) error) (*fleet.Fleet, error) {
	b.fleets++
	name := fmt.Sprintf("bench%d", b.fleets)
	return fleet.New(ctx, fleet.Options{
		Broker: b.servers.RabbitMQ[0], Binary: b.binary, Dir: filepath.Join(b.temp, name), Name: name, Direct: true,
		Offices: []fleet.Spec{{Name: "head", Role: schema.Head, Database: server}},
		Schema:  create,
	})
}

// live runs the receivers and the head's sidecar while f does. A receiver that fails ends it.
func (c *company) live(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ctx, stuck := context.WithTimeout(ctx, liveLimit)
	defer stuck()
	g, inner := errgroup.WithContext(ctx)
	for _, r := range c.receivers {
		g.Go(func() error {
			err := r.run(inner)
			if err != nil {
				cancel(err)
			}
			return err
		})
	}
	err := c.head.Start()
	if err == nil {
		g.Go(func() error {
			if err := c.head.Exited(inner); inner.Err() == nil {
				cancel(fmt.Errorf("the sidecar of %s has ended: %w", c.head.Name, err))
			}
			return nil
		})
		err = f(ctx)
	}
	cause := context.Cause(ctx)
	cancel(nil)
	return errors.Join(err, cause, g.Wait(), stop(context.WithoutCancel(ctx), c.head))
}

// liveLimit ends a turn that hangs.
const liveLimit = 5 * time.Minute

// known waits until the head has every branch as its member and sends to it.
func (c *company) known(ctx context.Context) error {
	return fleet.Until(ctx, "the head knows its branches", func(ctx context.Context) error {
		s, err := c.head.Status(ctx)
		if err != nil {
			return err
		}
		active := 0
		for _, p := range s.Peers {
			if p.Progress.Epoch != 0 && p.State == admin.PeerActive {
				active++
			}
		}
		if !s.Ready || active != len(c.receivers) {
			return fmt.Errorf("%d of %d; %v", active, len(c.receivers), s.Reasons())
		}
		return nil
	})
}

// turn makes rows at the head and measures how they are sent to everybody; after the last turn also what idleness costs.
func (c *company) turn(ctx context.Context, b *bench, rows int, last bool) error {
	d, err := at(c.head)
	if err != nil {
		return err
	}
	if err := d.insert(ctx, d.DB, sizes{before: c.rows, inserts: rows}); err != nil {
		return err
	}
	c.rows += rows
	if b.profile != "" {
		c.head.Env = []string{"CDC_CPUPROFILE=" + filepath.Join(b.profile, fmt.Sprintf("%d-branches.pprof", len(c.receivers)))}
	}
	return c.live(ctx, func(ctx context.Context) error {
		began := time.Now()
		before, err := cpuSeconds(c.node.Pid())
		if err != nil {
			return err
		}
		for _, r := range c.receivers {
			if err := r.until(ctx, uint64(c.rows)); err != nil {
				return err
			}
		}
		sidecar, err := cpuSeconds(c.head.Pid())
		if err != nil {
			return err
		}
		broker, err := cpuSeconds(c.node.Pid())
		if err != nil {
			return err
		}
		millions := float64(rows) / 1e6
		c.sidecar, c.broker = append(c.sidecar, sidecar/millions), append(c.broker, (broker-before)/millions)
		c.took = append(c.took, time.Since(began).Seconds())
		b.logf("  %d branches: %s rows in %.1f s, CPU of the sidecar %.2f s, of the broker %.2f s", len(c.receivers), number(float64(rows)), time.Since(began).Seconds(), sidecar, broker-before)
		if err := c.complete(ctx); err != nil || !last {
			return err
		}
		c.idle, err = c.rest(ctx, b)
		return err
	})
}

// complete checks that every receiver has all of the journal and no row more.
func (c *company) complete(ctx context.Context) error {
	s, err := c.head.Status(ctx)
	if err != nil {
		return err
	}
	for _, r := range c.receivers {
		if pos, rows, _ := r.has(); rows != uint64(c.rows) || pos.Seq != s.Journal.Last || pos.Epoch != s.Journal.Epoch {
			return fmt.Errorf("receiver %s is at %s with %d rows; the head has %d, and its journal ends at %d/%d", r.name, pos, rows, c.rows, s.Journal.Epoch, s.Journal.Last)
		}
	}
	return fleet.Until(ctx, "every branch has acknowledged", func(ctx context.Context) error {
		s, err := c.head.Status(ctx)
		if err != nil {
			return err
		}
		for _, p := range s.Peers {
			if p.Unacknowledged > 0 {
				return fmt.Errorf("%s has not: %d", p.Office, p.Unacknowledged)
			}
		}
		return nil
	})
}

// rest is what the sidecar takes of a core, in percent, with nothing to do.
func (c *company) rest(ctx context.Context, b *bench) (float64, error) {
	const full, quick = 10 * time.Second, 2 * time.Second
	length := full
	if b.quick {
		length = quick
	}
	before, err := cpuSeconds(c.head.Pid())
	if err != nil {
		return 0, err
	}
	select {
	case <-time.After(length):
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	after, err := cpuSeconds(c.head.Pid())
	return 100 * (after - before) / length.Seconds(), err
}
