package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"cdc-sidecar/admin"
	"cdc-sidecar/fleet"
	"cdc-sidecar/servers"
)

// wireSection asks how many bytes a change is on its way.
var wireSection = section{
	name:  "wire",
	title: "Bytes on the wire",
	about: "The same changes of a Postgres head in four forms: the bodies of our messages; what Postgres itself sends for them (pgoutput, version 1, read from a second slot); " +
		"the same with what the protocols wrap around each message (30 bytes there, about 100 at AMQP); and the JSON of Debezium's Postgres connector (envelope without schema, " +
		"values only, `before` null as for REPLICA IDENTITY DEFAULT), made from that second slot change by change. insert100 and update1 were made while the sidecars stood still; " +
		"trickle are 200 transactions of one row a second while they ran, so that messages are small.",
	needs: func(options) servers.Spec { return servers.Spec{Postgres: 2, RabbitMQ: 1} },
	run:   wire,
}

// framed is about what AMQP adds to a message of ours: method, header with content type, number and user, and body frames.
const framed = 100

// wireRun is the section's fleet.
type wireRun struct {
	f     *fleet.Fleet
	sizes sizes
	marks int
}

func wire(ctx context.Context, b *bench) (err error) {
	f, err := b.fleet(ctx, b.servers.Postgres[0], b.servers.Postgres[1], createSample)
	if err != nil {
		return err
	}
	defer func() { err = b.leave(f, err) }()
	err = f.Offices[0].Exec(ctx, "CREATE PUBLICATION raw FOR TABLE orders, marks", "SELECT pg_create_logical_replication_slot('raw', 'pgoutput')")
	if err != nil {
		return err
	}
	if err := f.Start(ctx); err != nil {
		return err
	}
	w := &wireRun{f: f, sizes: sizes{inserts: b.scaled(2000) * rowsOfTransaction, updates: b.scaled(100_000)}}
	for _, phase := range []string{insert100, update1} {
		if err := w.backlog(ctx, b, phase); err != nil {
			return fmt.Errorf("%s: %w", phase, err)
		}
	}
	seconds := 20
	if b.quick {
		seconds = 3
	}
	if err := w.trickle(ctx, b, seconds); err != nil {
		return err
	}
	rows, err := equalSample(ctx, f.Offices...)
	if err != nil {
		return err
	}
	b.report.note("equal: %s orders at both offices after all of it", number(float64(rows)))
	return nil
}

// backlog has a phase's changes made while the sidecars stand still, and counts what takes them to the branch.
func (w *wireRun) backlog(ctx context.Context, b *bench, phase string) error {
	head, branch := w.f.Offices[0], w.f.Offices[1]
	if err := stop(ctx, head, branch); err != nil {
		return err
	}
	d, err := at(head)
	if err != nil {
		return err
	}
	if phase == insert100 {
		err = d.insert(ctx, d.DB, w.sizes)
	} else {
		err = d.update(ctx, d.DB, w.sizes)
	}
	if err != nil {
		return err
	}
	w.marks++
	if err := mark(ctx, head, w.marks); err != nil {
		return err
	}
	if err := w.f.Start(ctx); err != nil {
		return err
	}
	return w.count(ctx, b, phase, 0, 0, &must{limit: 20}, &must{limit: 50})
}

// trickle makes single rows at an even pace while the sidecars run.
func (w *wireRun) trickle(ctx context.Context, b *bench, seconds int) error {
	head := w.f.Offices[0]
	before, err := head.Status(ctx)
	if err != nil {
		return err
	}
	db, err := head.DB()
	if err != nil {
		return err
	}
	p := newPulse(200 * seconds)
	p.began = time.Now()
	change := func(ctx context.Context, n int) error {
		_, err := db.ExecContext(ctx, fmt.Sprintf("INSERT INTO orders SELECT $1, 7, %s, %s, md5(random()::text) || md5(random()::text), clock_timestamp(), clock_timestamp()",
			postgresCustomer, postgresAmount), w.sizes.inserts+n)
		return err
	}
	if err := p.beat(ctx, beatEvery, slices.Repeat([]func(context.Context, int) error{change}, writers)); err != nil {
		return err
	}
	w.marks++
	if err := mark(ctx, head, w.marks); err != nil {
		return err
	}
	return w.count(ctx, b, "trickle", before.Broker.Published, before.Broker.Bytes, nil, nil)
}

// count waits for the mark at the branch and puts the three sums side by side.
func (w *wireRun) count(ctx context.Context, b *bench, name string, messagesBefore, bytesBefore uint64, ofJSON, ofRaw *must) error {
	head, branch := w.f.Offices[0], w.f.Offices[1]
	if err := marked(ctx, branch, w.marks); err != nil {
		return err
	}
	s, err := shipped(ctx, head)
	if err != nil {
		return err
	}
	raw, err := readRaw(ctx, head)
	if err != nil {
		return err
	}
	if raw.Changes == 0 {
		return fmt.Errorf("%s: the second slot shows no changes", name)
	}
	n, messages, bytes := float64(raw.Changes), float64(s.Broker.Published-messagesBefore), float64(s.Broker.Bytes-bytesBefore)
	const sizes, shares = "Bytes a change", "Ours in percent of the others"
	b.report.add(
		single(sizes, name, "ours", bytes/n, nil),
		single(sizes, name, "pgoutput", float64(raw.Bytes)/n, nil),
		single(sizes, name, "Debezium JSON", float64(raw.Debezium)/n, nil),
		single(sizes, name, "ours with frames", (bytes+framed*messages)/n, nil),
		single(sizes, name, "pgoutput with frames", float64(raw.Bytes+wrapped*raw.Messages)/n, nil),
		single(sizes, name, "changes a message of ours", n/messages, nil),
		single(shares, name, "of Debezium JSON", 100*bytes/float64(raw.Debezium), ofJSON),
		single(shares, name, "of pgoutput", 100*bytes/float64(raw.Bytes), ofRaw),
		single(shares, name, "of pgoutput, both with frames", 100*(bytes+framed*messages)/float64(raw.Bytes+wrapped*raw.Messages), nil))
	b.logf("  %s: %d changes, a change is %.1f bytes in %.0f messages of ours, %.1f in pgoutput, %.1f in JSON",
		name, raw.Changes, bytes/n, messages, float64(raw.Bytes)/n, float64(raw.Debezium)/n)
	return nil
}

// shipped is the status of an office whose journal is with the broker as a whole: a message may be applied elsewhere before
// its confirmation has come back and it counts.
func shipped(ctx context.Context, o *fleet.Office) (s admin.Status, err error) {
	err = fleet.Until(ctx, "everything is with the broker", func(ctx context.Context) error {
		s, err = o.Status(ctx)
		if err == nil && s.Journal.Unsent() > 0 {
			err = fmt.Errorf("%d transactions are not", s.Journal.Unsent())
		}
		return err
	})
	return s, err
}

// readRaw takes everything from the second slot.
func readRaw(ctx context.Context, head *fleet.Office) (*rawStream, error) {
	db, err := head.DB()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT (lsn - '0/0')::bigint, data FROM pg_logical_slot_get_binary_changes('raw', NULL, NULL, 'proto_version', '1', 'publication_names', 'raw')")
	if err != nil {
		return nil, fmt.Errorf("read the second slot: %w", err)
	}
	defer rows.Close()
	s := &rawStream{database: "shop"}
	for rows.Next() {
		var lsn uint64
		var message []byte
		if err := rows.Scan(&lsn, &message); err != nil {
			return nil, fmt.Errorf("read the second slot: %w", err)
		}
		if err := s.add(lsn, message); err != nil {
			return nil, err
		}
	}
	return s, rows.Err()
}

// stop stops sidecars in an orderly way, all at once.
func stop(ctx context.Context, offices ...*fleet.Office) error {
	var g errgroup.Group
	for _, o := range offices {
		g.Go(func() error {
			if err := o.Stop(ctx); err != nil {
				return fmt.Errorf("stop %s: %w", o.Name, err)
			}
			return nil
		})
	}
	return g.Wait()
}
