package fleet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Workload is the offices' applications: each writer inserts, updates and deletes rows of its own, in transactions of one
// to five changes, some of which it rolls back.
type Workload struct {
	Writers int           // at each office
	Pause   time.Duration // between two transactions of a writer; 0: none
	// Tolerate says that a writer may lose its database: it goes on when that is back. Commits are then only known roughly.
	Tolerate bool

	committed []atomic.Int64 // by office
	unsure    atomic.Int64
}

// Committed is how many transactions the office's applications have committed.
func (w *Workload) Committed(o *Office) int64 { return w.committed[o.Index].Load() }

// Unsure is how many commits ended with a lost connection: they happened or not.
func (w *Workload) Unsure() int64 { return w.unsure.Load() }

// Run writes at every office until ctx ends. The first error of a writer ends it, unless Tolerate is set.
func (w *Workload) Run(ctx context.Context, f *Fleet) error {
	wait, err := w.Start(ctx, f)
	if err != nil {
		return err
	}
	return wait()
}

// Start is Run in the background: from its return on, the counters may be read. The caller must call wait, once; it waits
// until every writer has ended and returns what Run would.
func (w *Workload) Start(ctx context.Context, f *Fleet) (wait func() error, err error) {
	w.committed = make([]atomic.Int64, len(f.Offices))
	dbs := make([]*sql.DB, len(f.Offices))
	for i, o := range f.Offices {
		if dbs[i], err = o.DB(); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	for at, o := range f.Offices {
		db := dbs[at]
		for i := range w.Writers {
			wr := &writer{w: w, o: o, db: db, next: int64(o.Index+1)*1e12 + int64(i+1)*1e9, rnd: rand.New(rand.NewPCG(uint64(o.Index), uint64(i)))}
			wg.Go(func() {
				if err := wr.run(ctx); err != nil {
					cancel(fmt.Errorf("application at %s: %w", o.Name, err))
				}
			})
		}
	}
	return func() error {
		wg.Wait()
		err := context.Cause(ctx)
		cancel(nil)
		if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return nil
	}, nil
}

// mine bounds what a writer keeps alive of its own rows.
const mine = 500

type writer struct {
	w    *Workload
	o    *Office
	db   *sql.DB
	next int64
	ids  []int64
	rnd  *rand.Rand
}

func (r *writer) run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := r.transaction(ctx)
		if err != nil && !r.w.Tolerate && ctx.Err() == nil {
			return err
		}
		pause := r.w.Pause
		if err != nil {
			pause = max(pause, pollEvery)
		}
		if pause > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
	return nil
}

// transaction makes one; a statement that ctx interrupts is rolled back, a commit never is.
func (r *writer) transaction(ctx context.Context) error {
	whole := context.WithoutCancel(ctx)
	tx, err := r.db.BeginTx(whole, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	ids := append([]int64(nil), r.ids...)
	for range 1 + r.rnd.IntN(5) {
		if ids, err = r.change(whole, tx, ids); err != nil {
			return err
		}
	}
	if r.rnd.IntN(10) == 0 {
		return nil // the application changes its mind
	}
	if err := tx.Commit(); err != nil {
		r.w.unsure.Add(1)
		return err
	}
	r.ids = ids
	r.w.committed[r.o.Index].Add(1)
	return nil
}

func (r *writer) change(ctx context.Context, tx *sql.Tx, ids []int64) ([]int64, error) {
	exec := func(query string, args ...any) error {
		if !r.o.Postgres() {
			query = questionMarks(query)
		}
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	}
	n := r.rnd.IntN(10)
	switch {
	case n < 4 || len(ids) == 0 || len(ids) > mine && n < 2:
		r.next++
		id := r.next
		err := exec(`INSERT INTO orders VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9)`, id, string(r.o.Name), fmt.Sprintf("Kunde %d – ☕ o'%d", id, n),
			fmt.Sprintf("%d.%02d", r.rnd.IntN(99999), r.rnd.IntN(100)), r.rnd.IntN(1000), n%2 == 1, nil,
			fmt.Sprintf("2026-01-02 03:04:05.%06d", r.rnd.IntN(1e6)), fmt.Sprintf("2026-11-21 10:%02d:05.%06d", r.rnd.IntN(60), r.rnd.IntN(1e6)))
		if err == nil {
			err = exec(`INSERT INTO order_lines VALUES ($1,$2,$3,$4,$5)`, id, 1, fmt.Sprintf("sku-%d", r.rnd.IntN(50)), "12.345", []byte{0, 0xff, byte(n)})
		}
		return append(ids, id), err
	case n < 8:
		id := ids[r.rnd.IntN(len(ids))]
		return ids, exec(`UPDATE orders SET qty = coalesce(qty,0) + 1, note = $1, amount = amount + 0.01 WHERE id = $2`, fmt.Sprintf("changed %d", r.rnd.Int64()), id)
	default:
		i := r.rnd.IntN(len(ids))
		id := ids[i]
		rest := append(append([]int64(nil), ids[:i]...), ids[i+1:]...)
		if err := exec(`DELETE FROM order_lines WHERE order_id = $1`, id); err != nil {
			return ids, err
		}
		return rest, exec(`DELETE FROM orders WHERE id = $1`, id)
	}
}

// questionMarks turns $1, $2 … in order into MySQL's marks.
func questionMarks(query string) string {
	out := make([]byte, 0, len(query))
	for i := 0; i < len(query); i++ {
		if query[i] != '$' {
			out = append(out, query[i])
			continue
		}
		out = append(out, '?')
		for i+1 < len(query) && query[i+1] >= '0' && query[i+1] <= '9' {
			i++
		}
	}
	return string(out)
}
