package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"cdc-sidecar/broker"
	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// applicationSection asks what the writing application notices of the sidecar beside its database.
var applicationSection = section{
	name:  "application",
	title: "The writing application",
	about: "pgbench's tpcb-like transactions over 4 connections at a head whose own sidecar runs, or does not; the other office is elsewhere, and what is shipped waits in the broker. " +
		"Flat out, and at a rate of half of that, where the time of a transaction (from when it was due) is what an application notices. For comparison the same with a reader of the " +
		"database's own replication: `pg_recvlogical` to /dev/null, and a MariaDB replica that only receives. On MariaDB the same statements are made by this program. In turns, each " +
		"begun when the reader has caught up; “behind” is how long the sidecar took after a turn to ship the rest.",
	needs: func(o options) servers.Spec { return servedBy(o, 1, 2) },
	run:   application,
}

func application(ctx context.Context, b *bench) error {
	if slices.Contains(b.pairs, "pg-pg") {
		if err := applicationOn(ctx, b, "Postgres", postgres, b.servers.Postgres[0]); err != nil {
			return fmt.Errorf("at Postgres: %w", err)
		}
	}
	if slices.Contains(b.pairs, "maria-maria") {
		if err := applicationOn(ctx, b, "MariaDB", maria, b.servers.MariaDB[0]); err != nil {
			return fmt.Errorf("at MariaDB: %w", err)
		}
	}
	return nil
}

// A turn is what the application did in some seconds.
type appTurn struct {
	rate float64 // transactions a second
	ms   samples // of each transaction
}

// writer is the application of an engine.
type appWriter interface {
	// write makes transactions for so long; at so many a second, or flat out for 0.
	write(ctx context.Context, length time.Duration, rate float64) (appTurn, error)
	// native has somebody read the log from now on by the database's own means, until stop.
	native(ctx context.Context) (stop func() error, err error)
}

// Who reads the log in a turn.
const (
	nobody = "off"
	us     = "ours"
	native = "native"
)

// appRun is one engine's head, its application, and what was measured.
type appRun struct {
	b      *bench
	title  string
	f      *fleet.Fleet
	head   *fleet.Office
	writer appWriter
	away   *receiver // the other office, which only comes back at the end

	turns  map[string][]appTurn
	behind samples
	marks  int
}

func applicationOn(ctx context.Context, b *bench, title string, k kind, server servers.Database) (err error) {
	scale := 10
	if b.quick {
		scale = 4
	}
	f, err := b.headOnly(ctx, server, func(ctx context.Context, o *fleet.Office) error {
		db, err := o.DB()
		if err != nil {
			return err
		}
		return workloadOf(k).create(ctx, db, scale)
	})
	if err != nil {
		return err
	}
	defer func() { err = b.leave(f, err) }()
	a := &appRun{b: b, title: title, f: f, head: f.Offices[0]}
	url := b.servers.RabbitMQ[0].URL(f.VHost())
	a.away = newReceiver("elsewhere", url, filepath.Join(b.temp, f.VHost()), 1, new(sync.Mutex))
	if err := broker.Declare(ctx, broker.Config{URL: url, Office: a.away.name, Role: schema.Branch}); err != nil {
		return err
	}
	if k == postgres {
		a.writer = &pgbenchWriter{url: a.head.URL, dir: b.temp}
	} else {
		m, err := newMariaWriter(ctx, a.head, b.servers.MariaDB[1], scale)
		if err != nil {
			return err
		}
		defer m.close()
		a.writer = m
	}
	return a.run(ctx, k)
}

func (a *appRun) run(ctx context.Context, k kind) error {
	if err := a.with(ctx, us, func() error { return nil }); err != nil { // the first start makes slot and tables
		return err
	}
	length := 10 * time.Second
	readers := []string{nobody, us, native}
	if a.b.quick {
		length, readers = 2*time.Second, readers[:2]
	}
	if _, err := a.writer.write(ctx, length/2, 0); err != nil { // caches
		return err
	}
	db, err := a.head.DB()
	if err != nil {
		return err
	}
	if err := workloadOf(k).calm(ctx, db); err != nil {
		return err
	}
	flat := "flat out"
	if err := a.rounds(ctx, flat, readers, a.b.times(5), length, 0); err != nil {
		return err
	}
	half := ratesOf(a.turns[nobody]).median() / 2
	a.figures(flat, readers, 0)
	paced := fmt.Sprintf("%s a second", number(half))
	if err := a.rounds(ctx, paced, readers, a.b.times(3), length/2, half); err != nil {
		return err
	}
	a.figures("at half", readers, half)
	return a.arrived(ctx)
}

// rounds has every reader's turn in each round, beginning with another one each time.
func (a *appRun) rounds(ctx context.Context, what string, readers []string, n int, length time.Duration, rate float64) error {
	a.turns, a.behind = map[string][]appTurn{}, nil
	for round := range n {
		for i := range readers {
			reader := readers[(round+i)%len(readers)]
			var t appTurn
			err := a.with(ctx, reader, func() (err error) {
				t, err = a.writer.write(ctx, length, rate)
				return err
			})
			if err != nil {
				return fmt.Errorf("%s, %s: %w", what, reader, err)
			}
			a.turns[reader] = append(a.turns[reader], t)
			a.b.logf("  %s %s, round %d, %s: %s transactions/s, p50 %s ms, p99 %s ms", a.title, what, round+1, reader, number(t.rate), number(t.ms.percentile(50)), number(t.ms.percentile(99)))
		}
	}
	return nil
}

// with has a reader read, which has caught up, while f runs.
func (a *appRun) with(ctx context.Context, reader string, f func() error) error {
	switch reader {
	case us:
		if err := a.head.Start(); err != nil {
			return err
		}
		if err := a.caughtUp(ctx); err != nil {
			return err
		}
		if err := f(); err != nil {
			return err
		}
		began := time.Now()
		if err := a.caughtUp(ctx); err != nil {
			return err
		}
		a.behind = append(a.behind, time.Since(began).Seconds())
		return stop(ctx, a.head)
	case native:
		end, err := a.writer.native(ctx)
		if err != nil {
			return fmt.Errorf("begin to read: %w", err)
		}
		return errors.Join(f(), end())
	default:
		return f()
	}
}

// caughtUp commits a mark and waits until the sidecar has shipped it.
func (a *appRun) caughtUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpLimit)
	defer cancel()
	err := fleet.Until(ctx, "the sidecar reads", func(ctx context.Context) error { // before the first time, nobody keeps the mark
		s, err := a.head.Status(ctx)
		if err == nil && !s.Ready {
			err = fmt.Errorf("it is %s: %v", s.State, s.Reasons())
		}
		return err
	})
	if err != nil {
		return err
	}
	since := time.Now()
	if !a.head.Postgres() {
		since = since.Truncate(time.Second) // the binlog knows no more
	}
	a.marks++
	if err := a.head.Exec(ctx, fmt.Sprintf("INSERT INTO marks VALUES (%d)", a.marks)); err != nil {
		return err
	}
	return fleet.Until(ctx, "the sidecar has caught up", func(ctx context.Context) error {
		s, err := a.head.Status(ctx)
		if err != nil {
			return err
		}
		if s.Capture.LastCommit.Before(since) || s.Journal.Unsent() > 0 {
			return fmt.Errorf("captured up to %s, %d transactions not shipped; %v", s.Capture.LastCommit, s.Journal.Unsent(), s.Reasons())
		}
		return nil
	})
}

// catchUpLimit bounds the wait for a sidecar that has a turn's transactions to catch up with.
const catchUpLimit = 3 * time.Minute

func ratesOf(turns []appTurn) samples {
	var s samples
	for _, t := range turns {
		s = append(s, t.rate)
	}
	return s
}

func percentilesOf(turns []appTurn, p float64) samples {
	var s samples
	for _, t := range turns {
		s = append(s, t.ms.percentile(p))
	}
	return s
}

// figures puts what was measured into the report.
func (a *appRun) figures(what string, readers []string, rate float64) {
	row := func(reader string) string { return a.title + " " + reader }
	off := ratesOf(a.turns[nobody])
	for _, reader := range readers {
		turns := a.turns[reader]
		rates := ratesOf(turns)
		table := "Transactions a second, " + what
		a.b.report.add(median(table, row(reader), "transactions/s", rates, nil))
		if reader != nobody {
			var m *must
			if reader == us {
				m = atLeast(0.93, 0.97)
			}
			a.b.report.add(ratio(table, row(reader), "to off", rates, off, m))
		}
		a.b.report.add(
			median(table, row(reader), "p50, ms", percentilesOf(turns, 50), nil),
			median(table, row(reader), "p99, ms", percentilesOf(turns, 99), nil))
		if reader == us {
			a.b.report.add(median(table, row(reader), "behind, s", a.behind, nil))
		}
	}
	if rate > 0 {
		a.b.report.note("%s at half: %s transactions a second", a.title, number(rate))
	}
}

// arrived has the other office come back, and compares what it gets with what the database holds: each transaction of the
// application changes four rows, one of which is its line in the history.
func (a *appRun) arrived(ctx context.Context) error {
	db, err := a.head.DB()
	if err != nil {
		return err
	}
	c := &company{f: a.f, head: a.head, receivers: []*receiver{a.away}}
	return c.live(ctx, func(ctx context.Context) error {
		if err := a.caughtUp(ctx); err != nil {
			return err
		}
		var history, marks int
		if err := db.QueryRowContext(ctx, "SELECT (SELECT count(*) FROM pgbench_history), (SELECT count(*) FROM marks)").Scan(&history, &marks); err != nil {
			return err
		}
		c.rows = 4*history + marks
		if err := a.away.until(ctx, uint64(c.rows)); err != nil {
			return err
		}
		if err := c.complete(ctx); err != nil {
			return err
		}
		a.b.report.note("complete: the other office, back again, got all of %s transactions of %s's application, each in its place", number(float64(history)), a.title)
		return nil
	})
}
