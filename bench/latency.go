package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"cdc-sidecar/fleet"
	"cdc-sidecar/servers"
)

// latencySection asks how long after its commit a change is visible elsewhere.
var latencySection = section{
	name:  "latency",
	title: "Latency",
	about: "200 transactions a second, an insert or an update of one row each, over 4 connections at the head, each begun at its own time whatever became of the one before. " +
		"Measured is from the return of a transaction's commit at the head until a query at the branch shows it; the branch is asked every millisecond, over one connection with " +
		"one prepared statement on an index. Native replication reads the same source afterwards, in the same way.",
	needs: latencyNeeds,
	run:   latency,
}

// latencyPairs are those that are measured from the head to the branch.
var latencyPairs = []string{"pg-pg", "maria-maria", "pg-maria", "maria-pg"}

func latencyNeeds(o options) servers.Spec {
	spec := servers.Spec{RabbitMQ: 1}
	for _, pair := range o.pairs {
		if strings.Contains(pair, "pg") {
			spec.Postgres = 2
		}
		if strings.Contains(pair, "maria") {
			spec.MariaDB = 3 // the third is the native replica, which is a server's business and not a database's
		}
	}
	return spec
}

func latency(ctx context.Context, b *bench) error {
	for _, pair := range latencyPairs {
		if !slices.Contains(b.pairs, pair) {
			continue
		}
		if err := latencyOf(ctx, b, pair); err != nil {
			return fmt.Errorf("%s: %w", pair, err)
		}
	}
	return nil
}

// latencyRun is one pair's source with its table pulses, in which numbers rise through all stretches.
type latencyRun struct {
	pair   string
	source *fleet.Office
	count  int // of a stretch
	next   int
}

// warmUp is how many transactions go before a stretch and do not count: connections, statements and caches are then there.
const warmUp = 200

func latencyOf(ctx context.Context, b *bench, pair string) (err error) {
	from, to, _ := strings.Cut(pair, "-")
	server := func(engine string, at int) servers.Database {
		if engine == "pg" {
			return b.servers.Postgres[min(at, 1)] // two subscribers fit on one server
		}
		return b.servers.MariaDB[at]
	}
	l := &latencyRun{pair: pair, count: 6000}
	if b.quick {
		l.count = 400
	}
	create := func(ctx context.Context, o *fleet.Office) error { return createPulses(ctx, o, 2*(l.count+warmUp)) }
	f, err := b.fleet(ctx, server(from, 0), server(to, 1), create)
	if err != nil {
		return err
	}
	defer func() { err = b.leave(f, err) }()
	l.source = f.Offices[0]
	var native *nativeTarget
	if from == to {
		if native, err = newNative(ctx, l.source, server(from, 2), create); err != nil {
			return fmt.Errorf("native replication: %w", err)
		}
		defer func() { err = errors.Join(err, native.close()) }()
	}
	if err := f.Start(ctx); err != nil {
		return err
	}
	if err := l.measure(ctx, b, "ours", f.Offices[1], atMost(15, 6), atMost(60, 20)); err != nil {
		return err
	}
	if err := stop(ctx, f.Offices...); err != nil {
		return err
	}
	if native == nil {
		return nil
	}
	if err := native.follow(ctx); err != nil {
		return fmt.Errorf("native replication: %w", err)
	}
	return l.measure(ctx, b, "native", native.Office, nil, nil)
}

// createPulses makes a table of rows to be updated, the same everywhere. Each row knows the last transaction that wrote it.
func createPulses(ctx context.Context, o *fleet.Office, rows int) error {
	numbers, hash := fmt.Sprintf("SELECT n FROM generate_series(1, %d) n", rows), "md5(n::text)"
	note := "char(64) NOT NULL, updated_at timestamptz NOT NULL)"
	if !o.Postgres() {
		numbers, hash = fmt.Sprintf("SELECT seq AS n FROM seq_1_to_%d", rows), "md5(n)"
		note = "char(64) NOT NULL, updated_at timestamp(6) NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
	}
	return o.Exec(ctx, "CREATE TABLE pulses (id bigint PRIMARY KEY, number bigint NOT NULL, customer varchar(80) NOT NULL, amount decimal(12,2) NOT NULL, note "+note,
		"CREATE INDEX pulses_number ON pulses (number)",
		"INSERT INTO pulses SELECT n, 0, 'nobody yet', 0.25, "+hash+", '2026-01-02 03:04:05' FROM ("+numbers+") all_of_them")
}

// measure makes a stretch at the source while the target is watched, and puts its figures into the report.
func (l *latencyRun) measure(ctx context.Context, b *bench, who string, target *fleet.Office, half, nearly *must) error {
	if _, err := l.stretch(ctx, target, warmUp); err != nil {
		return fmt.Errorf("%s, warming up: %w", who, err)
	}
	p, err := l.stretch(ctx, target, l.count)
	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	ms, row := p.latencies(), l.pair+" "+who
	const table = "Milliseconds from commit to visible"
	b.report.add(
		single(table, row, "p50", ms.percentile(50), half), single(table, row, "p90", ms.percentile(90), nil),
		single(table, row, "p99", ms.percentile(99), nearly), single(table, row, "max", ms.percentile(100), nil))
	b.logf("  %s: p50 %s, p90 %s, p99 %s, max %s ms; %d of %d transactions began late", row, number(ms.percentile(50)), number(ms.percentile(90)),
		number(ms.percentile(99)), number(ms.percentile(100)), p.late.Load(), l.count)
	rows, err := equalPulses(ctx, l.source, target)
	if err != nil {
		return err
	}
	b.report.note("equal: %s rows, %s; %d of %d transactions began later than they should", number(float64(rows)), row, p.late.Load(), l.count)
	return nil
}

// seeLimit bounds the wait for the last transactions of a stretch.
const seeLimit = 30 * time.Second

func (l *latencyRun) stretch(ctx context.Context, target *fleet.Office, n int) (*pulse, error) {
	p := newPulse(n)
	first := l.next
	l.next += n
	var connections []func(context.Context, int) error
	for range writers {
		w, err := l.writer(ctx)
		if err != nil {
			return nil, err
		}
		defer w.close()
		connections = append(connections, func(ctx context.Context, number int) error { return w.change(ctx, first+number) })
	}
	query, done, err := prepareWatch(ctx, target)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(n)*beatEvery+seeLimit)
	defer cancel()
	p.began = time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.beat(ctx, beatEvery, connections) })
	g.Go(func() error { return p.watch(ctx, query, first) })
	return p, g.Wait()
}

// pulseWriter is an application's connection with its two statements.
type pulseWriter struct {
	conn           *sql.Conn
	insert, update *sql.Stmt
}

func (l *latencyRun) writer(ctx context.Context) (*pulseWriter, error) {
	db, err := l.source.DB()
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	insert := "INSERT INTO pulses SELECT 1000000000 + n, n, 'Björn Papadopoulos ' || n, 12.34, md5(random()::text) || md5(random()::text), clock_timestamp() FROM (SELECT $1::bigint AS n) one"
	update := "UPDATE pulses SET number = id, amount = amount + 1, note = md5(random()::text), updated_at = clock_timestamp() WHERE id = $1"
	if !l.source.Postgres() {
		insert = "INSERT INTO pulses SELECT 1000000000 + n, n, concat('Björn Papadopoulos ', n), 12.34, concat(md5(rand()), md5(rand())), now(6) FROM (SELECT ? AS n) one"
		update = "UPDATE pulses SET number = id, amount = amount + 1, note = md5(rand()), updated_at = now(6) WHERE id = ?"
	}
	w := &pulseWriter{conn: conn}
	var errs [2]error
	w.insert, errs[0] = conn.PrepareContext(ctx, insert)
	w.update, errs[1] = conn.PrepareContext(ctx, update)
	if err := errors.Join(errs[:]...); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// change makes one transaction: odd numbers are inserts, even ones update a row that had not been touched.
func (w *pulseWriter) change(ctx context.Context, number int) error {
	statement := w.insert
	if number%2 == 0 {
		statement = w.update
	}
	result, err := statement.ExecContext(ctx, number)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("%d rows were changed: %w", n, err)
	}
	return nil
}

func (w *pulseWriter) close() { _ = w.conn.Close() }

// prepareWatch opens the watcher's connection. The caller calls done.
func prepareWatch(ctx context.Context, target *fleet.Office) (query *sql.Stmt, done func(), err error) {
	db, err := target.DB()
	if err != nil {
		return nil, nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, nil, err
	}
	mark := "$1"
	if !target.Postgres() {
		mark = "?"
	}
	if query, err = conn.PrepareContext(ctx, "SELECT number FROM pulses WHERE number > "+mark+" ORDER BY number"); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return query, func() { _ = conn.Close() }, nil
}

// equalPulses compares two offices and returns how many rows they have.
func equalPulses(ctx context.Context, source, target *fleet.Office) (int, error) {
	digest := func(o *fleet.Office) (fleet.Digest, error) {
		at := "to_char(updated_at AT TIME ZONE 'UTC','YYYY-MM-DD HH24:MI:SS.US')"
		if !o.Postgres() {
			at = "date_format(updated_at,'%Y-%m-%d %H:%i:%s.%f')"
		}
		return o.DigestOf(ctx, "SELECT id, concat_ws('|', id, number, customer, amount, trim(note), "+at+") FROM pulses ORDER BY id")
	}
	here, err := digest(source)
	if err != nil {
		return 0, err
	}
	there, err := digest(target)
	if err == nil && here != there {
		err = fmt.Errorf("table pulses: %+v at %s, %+v at %s", here, source.Name, there, target.Name)
	}
	return here.Rows, err
}

// lookEvery is how often the other office is asked for news.
const lookEvery = time.Millisecond

// watch asks with one prepared query, "which numbers above this one are there", until all have been seen; the first number of
// this stretch there is the one behind before. Transactions of several connections become visible in any order: it asks from
// the lowest that is missing.
func (p *pulse) watch(ctx context.Context, query *sql.Stmt, before int) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for floor := 0; floor < len(p.seen); {
		numbers, err := column[int](ctx, query, before+floor)
		if err != nil {
			return fmt.Errorf("look at the target: %w", err)
		}
		now := time.Since(p.began)
		for _, n := range numbers {
			if n -= before; n < 1 || n > len(p.seen) {
				return fmt.Errorf("the target shows transaction %d, which was never made", before+n)
			}
			if p.seen[n-1] == 0 {
				p.seen[n-1] = now
			}
		}
		for floor < len(p.seen) && p.seen[floor] != 0 {
			floor++
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d transactions were seen: %w", floor, len(p.seen), ctx.Err())
		}
	}
	return nil
}

// column reads a query's only column.
func column[T any](ctx context.Context, query *sql.Stmt, args ...any) ([]T, error) {
	rows, err := query.QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}
