package main

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"cdc-sidecar/fleet"
)

// stretch is what the applications did in some seconds.
type stretch struct {
	ms      samples
	seconds float64
}

// together is a round of two branches that join while applications write at the head.
func (j *joinRun) together(ctx context.Context, round int, pace joinPace) (err error) {
	ctx, cancel := context.WithTimeout(ctx, stuck)
	defer cancel()
	extra := ""
	if pace.rows > 0 {
		extra = fmt.Sprintf("join: {rows: %d}\n", pace.rows)
	}
	f, err := j.company(ctx, extra, j.servers.Postgres[1], j.servers.MariaDB[0])
	if err != nil {
		return err
	}
	defer func() { err = j.leave(f, err) }()
	head := f.Offices[0]
	j.profiles(f, fmt.Sprintf("joins-%d", round+1))
	if err := startHead(ctx, head); err != nil {
		return err
	}
	if err := calm(ctx, f.Offices...); err != nil {
		return err
	}
	live, err := newLive(ctx, head, j.rows)
	if err != nil {
		return err
	}
	defer live.close()
	found, err := j.loaded(ctx, live, f)
	if err != nil {
		return err
	}
	if err := f.Settled(ctx); err != nil {
		return err
	}
	if j.equal, err = equalJoined(ctx, f.Offices...); err != nil {
		return err
	}
	line := fmt.Sprintf("  %s, round %d: both joined in %.1f s; commits, ms:", pace.name, round+1, found[meanwhile].seconds)
	for when, stretch := range found {
		j.commits[when] = append(j.commits[when], stretch)
		line += fmt.Sprintf(" %s p50 %s, p99 %s;", stretchNames[when], number(stretch.ms.percentile(50)), number(stretch.ms.percentile(99)))
	}
	j.both = append(j.both, 2*float64(j.rows)/found[meanwhile].seconds)
	j.logf("%s", line)
	return stop(ctx, f.Offices...)
}

// The stretches: no branch is there yet, both join, both follow.
const (
	before = iota
	meanwhile
	after
	stretches
)

var stretchNames = [stretches]string{"before", "meanwhile", "after"}

// How long the stretches before and after are.
const (
	calmLoad      = 20 * time.Second
	calmLoadQuick = 3 * time.Second
)

// loaded has the applications write, after a while both branches join, and both follow for a while.
func (j *joinRun) loaded(ctx context.Context, live *live, f *fleet.Fleet) (found [stretches]stretch, err error) {
	g, ctx := errgroup.WithContext(ctx)
	ended := make(chan struct{})
	g.Go(func() error { return live.run(ctx, ended) })
	g.Go(func() error {
		defer close(ended)
		length := calmLoad
		if j.quick {
			length = calmLoadQuick
		}
		if err := pause(ctx, length/4); err != nil { // warm by then
			return err
		}
		for when, do := range [stretches]func() error{
			before:    func() error { return pause(ctx, length) },
			meanwhile: func() error { return j.comeIn(ctx, f.Offices[1:]) },
			after:     func() error { return pause(ctx, length) },
		} {
			from := live.now()
			if err := do(); err != nil {
				return err
			}
			found[when] = live.between(from, live.now())
		}
		return nil
	})
	return found, g.Wait()
}

func pause(ctx context.Context, length time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(length):
		return nil
	}
}

// comeIn starts branches and returns when all have joined.
func (j *joinRun) comeIn(ctx context.Context, branches []*fleet.Office) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, o := range branches {
		g.Go(func() error {
			if err := o.Start(); err != nil {
				return err
			}
			_, err := joined(ctx, o)
			return err
		})
	}
	return g.Wait()
}

// live are the applications at the head.
type live struct {
	rows    int // that were there at first
	writers []*liveWriter
	began   time.Time

	mu   sync.Mutex
	made []transaction
}

// transaction is one that was made: when it began, since live.began, and how long it took.
type transaction struct{ at, took time.Duration }

// liveEvery is the time between two transactions.
const liveEvery = 10 * time.Millisecond

func newLive(ctx context.Context, head *fleet.Office, rows int) (*live, error) {
	l := &live{rows: rows}
	for range writers {
		w, err := newLiveWriter(ctx, head)
		if err != nil {
			l.close()
			return nil, err
		}
		l.writers = append(l.writers, w)
	}
	return l, nil
}

func (l *live) close() {
	for _, w := range l.writers {
		_ = w.conn.Close()
	}
}

func (l *live) now() time.Duration { return time.Since(l.began) }

// run makes transactions, one each period over the connections in turn, until ended is closed.
func (l *live) run(ctx context.Context, ended <-chan struct{}) error {
	l.began = time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for first, w := range l.writers {
		g.Go(func() error {
			timer := time.NewTimer(0)
			defer timer.Stop()
			for n := first; ; n += len(l.writers) {
				timer.Reset(max(0, time.Until(l.began.Add(time.Duration(n)*liveEvery))))
				select {
				case <-timer.C:
				case <-ended:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
				at := l.now()
				if err := w.change(ctx, n, l.rows); err != nil {
					return fmt.Errorf("transaction %d: %w", n, err)
				}
				l.mu.Lock()
				l.made = append(l.made, transaction{at, l.now() - at})
				l.mu.Unlock()
			}
		})
	}
	return g.Wait()
}

// between are the transactions that began from one time on and before another.
func (l *live) between(from, to time.Duration) stretch {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := stretch{seconds: (to - from).Seconds()}
	for _, t := range l.made {
		if t.at >= from && t.at < to {
			s.ms = append(s.ms, t.took.Seconds()*1000)
		}
	}
	return s
}

// liveWriter is one connection with its statements, of which each is a transaction.
type liveWriter struct {
	conn             *sql.Conn
	inserts, updates [8]string // of joinTables; the driver prepares each once
}

func newLiveWriter(ctx context.Context, head *fleet.Office) (*liveWriter, error) {
	db, err := head.DB()
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &liveWriter{conn: conn}
	for at, t := range joinTables {
		insert := "INSERT INTO %s SELECT 1000000000 + n, 7, 'Björn ' || n, 12.34, md5(random()::text), clock_timestamp(), clock_timestamp() FROM (SELECT $1::bigint AS n) one"
		update := "UPDATE %s SET amount = amount + 1, updated_at = clock_timestamp() WHERE id = $1"
		if t.lines {
			insert = "INSERT INTO %s SELECT 1000000000 + n, 1, 'sku', 12.5, md5(random()::text) FROM (SELECT $1::bigint AS n) one"
			update = fmt.Sprintf("UPDATE %%s SET price = price + 1 WHERE order_id = $1::bigint / %d AND line = mod($1::bigint, %d)", linesOfOrder, linesOfOrder)
		}
		w.inserts[at], w.updates[at] = fmt.Sprintf(insert, t.name), fmt.Sprintf(update, t.name)
	}
	return w, nil
}

// stride leads through a table's rows in an order that knows no neighbours.
const stride = 7919

// change makes transaction n: of three in four an update of a row that has been there, else an insert.
func (w *liveWriter) change(ctx context.Context, n, rows int) error {
	turn := n / writers
	at := turn % len(joinTables)
	statement, key := w.updates[at], n*stride%joinTables[at].rows(rows)
	if (n+turn)%4 == 0 {
		statement, key = w.inserts[at], n
	}
	result, err := w.conn.ExecContext(ctx, statement, key)
	if err != nil {
		return err
	}
	if hit, err := result.RowsAffected(); err != nil || hit != 1 {
		return fmt.Errorf("table %s, row %d: %d rows were changed: %w", joinTables[at].name, key, hit, err)
	}
	return nil
}

// reportTogether reports the rounds at one pace, and forgets them.
func (j *joinRun) reportTogether(pace joinPace) {
	const table = "Commits at the head while a Postgres and a MariaDB branch join, ms"
	row := pace.name
	of := func(all []stretch, p float64) (s samples) {
		for _, x := range all {
			s = append(s, x.ms.percentile(p))
		}
		return s
	}
	for _, p := range []float64{50, 99} {
		name := fmt.Sprintf("p%.0f", p)
		var m *must
		if p == 99 {
			m = atMost(1.2, 0)
		}
		for when, name := range stretchNames {
			j.report.add(median(table, row, fmt.Sprintf("p%.0f %s", p, name), of(j.commits[when], p), nil))
		}
		j.report.add(ratio(table, row, name+", meanwhile to before", of(j.commits[meanwhile], p), of(j.commits[before], p), m),
			ratio(table, row, name+", meanwhile to after", of(j.commits[meanwhile], p), of(j.commits[after], p), nil))
	}
	j.report.add(median("Rows a second, two branches at once", row, "both together", j.both, nil))
	j.report.note("equal: %s rows in %d tables at all three offices, %s", number(float64(j.equal)), len(joinTables), pace.name)
	j.commits, j.both = [stretches][]stretch{}, nil
}
