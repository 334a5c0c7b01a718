package main

import (
	"context"
	"fmt"
	"time"

	"cdc-sidecar/fleet"
	"cdc-sidecar/servers"
)

// contestedSection asks what it costs that several offices may write a table.
var contestedSection = section{
	name:  "contested",
	title: "Contested tables against one-way",
	about: "The same changes of one branch, applied at a Postgres head, to a table that its own applications do not write (one-way), and to one that they do " +
		"(contested: rows are compared with their clocks behind a barrier). In turns; timed is the head's work on what waits when the branch's link is restored, from the first row on.",
	needs: func(options) servers.Spec { return servers.Spec{Postgres: 2, RabbitMQ: 1} },
	run:   contested,
}

func contested(ctx context.Context, b *bench) (err error) {
	f, err := b.found(ctx, fleet.Options{}, b.servers.Postgres[0], b.servers.Postgres[1],
		further{head: "tables:\n  - {name: public.oneway, flow: receive}\n  - {name: public.contested, flow: both}\n"},
		func(ctx context.Context, o *fleet.Office) error {
			columns := "(id bigint PRIMARY KEY, office int NOT NULL, customer text NOT NULL, amount numeric(12,2) NOT NULL, note text NOT NULL)"
			return o.Exec(ctx, "CREATE TABLE oneway "+columns, "CREATE TABLE contested "+columns)
		})
	if err != nil {
		return err
	}
	defer func() { err = b.leave(f, err) }()
	if err := f.Start(ctx); err != nil {
		return err
	}
	c := &backlog{head: f.Offices[0], branch: f.Offices[1], transactions: b.scaled(3000), updates: b.scaled(50_000)}
	speed := map[string]samples{}
	for round := range b.times(5) {
		for _, table := range []string{"oneway", "contested"} {
			rate, err := c.round(ctx, table, round)
			if err != nil {
				return err
			}
			b.logf("  round %d, %s: %s rows/s", round+1, table, number(rate))
			speed[table] = append(speed[table], rate)
		}
	}
	status, err := c.head.Status(ctx)
	if err != nil {
		return err
	}
	const table, row = "Rows a second", "pg-pg"
	b.report.add(median(table, row, "one-way", speed["oneway"], nil), median(table, row, "contested", speed["contested"], nil),
		ratio(table, row, "contested to one-way", speed["contested"], speed["oneway"], atLeast(0.85, 0)))
	b.report.note("equal: both tables after every round; the head waited at %d barriers, %.2f s in all", status.Clocks.Barriers, status.Clocks.BarrierSeconds)
	return nil
}

// backlog is what a branch's link that was cut leaves to the head.
type backlog struct {
	head, branch *fleet.Office
	transactions int // of 100 rows
	updates      int // of one row each
	written      uint64
}

// round makes changes at the branch while its link is cut, and returns the rows a second at which the head applies them.
func (c *backlog) round(ctx context.Context, table string, round int) (float64, error) {
	c.branch.Link.Cut()
	first, rows := round*c.transactions*100+1, c.transactions*100
	// DO commits each of its transactions.
	err := c.branch.Exec(ctx,
		fmt.Sprintf("DO $$ BEGIN FOR i IN 0..%d LOOP INSERT INTO %s SELECT n, n %% 50, 'customer ' || n, n %% 1000 + 0.25, repeat('x', 64) FROM generate_series(%d + i*100, %d + i*100) n; COMMIT; END LOOP; END $$",
			c.transactions-1, table, first, first+99),
		fmt.Sprintf("DO $$ BEGIN FOR i IN %d..%d LOOP UPDATE %s SET amount = amount + 1 WHERE id = i; COMMIT; END LOOP; END $$", first, first+c.updates-1, table))
	if err != nil {
		return 0, err
	}
	before := c.written
	c.written += uint64(rows + c.updates)
	if err := c.captured(ctx); err != nil {
		return 0, err
	}
	if err := c.branch.Link.Restore(); err != nil {
		return 0, err
	}
	// From the first row on: how soon the branch finds its broker again is not the question.
	if err := c.applied(ctx, before+1); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := c.applied(ctx, c.written); err != nil {
		return 0, err
	}
	rate := float64(rows+c.updates) / time.Since(began).Seconds()
	return rate, c.equal(ctx, table)
}

func (c *backlog) captured(ctx context.Context) error {
	return fleet.Until(ctx, "the branch has captured its changes", func(ctx context.Context) error {
		s, err := c.branch.Status(ctx)
		if n := s.Capture.Changes.Insert + s.Capture.Changes.Update; err == nil && n < c.written {
			err = fmt.Errorf("%d of %d captured", n, c.written)
		}
		return err
	})
}

func (c *backlog) applied(ctx context.Context, rows uint64) error {
	return fleet.Until(ctx, "the head has applied the branch's changes", func(ctx context.Context) error {
		s, err := c.head.Status(ctx)
		if n := s.Apply.Changes.Insert + s.Apply.Changes.Update; err == nil && n < rows {
			err = fmt.Errorf("%d of %d applied; %v", n, rows, s.Reasons())
		}
		return err
	})
}

func (c *backlog) equal(ctx context.Context, table string) error {
	query := "SELECT id, concat_ws('|', id, office, customer, amount, note) FROM " + table + " ORDER BY id"
	here, err := c.head.DigestOf(ctx, query)
	if err != nil {
		return err
	}
	there, err := c.branch.DigestOf(ctx, query)
	if err == nil && here != there {
		err = fmt.Errorf("table %s: %+v at the head, %+v at the branch", table, here, there)
	}
	return err
}
