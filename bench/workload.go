package main

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
)

// sizes are what the phases do.
type sizes struct {
	before       int // rows of orders that are there already
	inserts      int // rows, 100 a transaction
	updates      int // of one row, each its own transaction
	big          int // rows of one update
	transactions int // of tpcb-like, 4 changes each
	scale        int // of pgbench's tables: 100,000 accounts each
}

func (b *bench) sizes() sizes {
	s := sizes{inserts: b.scaled(500_000), updates: b.scaled(200_000), big: b.scaled(300_000), transactions: b.scaled(50_000), scale: 4}
	s.inserts -= s.inserts % rowsOfTransaction
	if b.quick {
		s.scale = 1
	}
	return s
}

const rowsOfTransaction = 100

// rows is how many changes a phase makes.
func (s sizes) rows(phase string) int {
	return map[string]int{insert100: s.inserts, update1: s.updates, bigtxn: s.big, mixed: 4 * s.transactions}[phase]
}

// database is one office's, or a native replica's.
type database struct {
	*sql.DB
	workload
	url string
}

// workload is how an engine makes the phases' changes, and what else it calls differently. The tables are: orders; those of
// pgbench, whose history has a key; and marks, whose rows say that a phase is over.
type workload interface {
	// create makes the tables, those of pgbench only for a scale, with their first rows.
	create(ctx context.Context, db *sql.DB, scale int) error
	// insert, update, big and tpcb make a phase's changes as fast as they can.
	insert(ctx context.Context, db *sql.DB, s sizes) error
	update(ctx context.Context, db *sql.DB, s sizes) error
	big(ctx context.Context, db *sql.DB, s sizes) error
	tpcb(ctx context.Context, d database, s sizes) error
	// calm has the server do now what it would otherwise do at a moment of its own choice: write its pages, clean up.
	calm(ctx context.Context, db *sql.DB) error
	// text is an expression for a row's columns as one text, equal on both engines when the row is.
	text(table string) string
	// digest is a query of two numbers: the rows, and a sum over the hashes of their texts.
	digest(table, text string) string
}

func workloadOf(k kind) workload {
	if k == maria {
		return mariaWorkload{}
	}
	return postgresWorkload{}
}

// change makes a phase's changes, between two marks.
func (d database) change(ctx context.Context, phase string, s sizes) error {
	err := execute(ctx, d.DB, fmt.Sprintf("INSERT INTO marks VALUES (%d)", -markOf(phase)))
	if err != nil {
		return err
	}
	switch phase {
	case insert100:
		err = d.insert(ctx, d.DB, s)
	case update1:
		err = d.update(ctx, d.DB, s)
	case bigtxn:
		err = d.big(ctx, d.DB, s)
	case mixed:
		err = d.tpcb(ctx, d, s)
	}
	if err != nil {
		return fmt.Errorf("make the changes: %w", err)
	}
	return execute(ctx, d.DB, fmt.Sprintf("INSERT INTO marks VALUES (%d)", markOf(phase)))
}

// markOf is the key of the row that a phase ends with; it begins with one of the opposite sign.
func markOf(phase string) int { return 1 + slices.Index(phaseNames, phase) }

// marked says which of a phase's marks are there.
func (d database) marked(ctx context.Context, phase string) (begun, ended bool, err error) {
	var lowest, highest sql.NullInt64
	n := markOf(phase)
	err = d.QueryRowContext(ctx, fmt.Sprintf("SELECT min(id), max(id) FROM marks WHERE id IN (%d, %d)", -n, n)).Scan(&lowest, &highest)
	return lowest.Valid, highest.Int64 > 0, err
}

// tables are those that a phase changes.
func tables(phase string) []string {
	if phase == mixed {
		return []string{"pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"}
	}
	return []string{"orders"}
}

// contents is what the tables of a phase hold.
type contents struct {
	rows int
	hash string
}

func (d database) contents(ctx context.Context, phase string) (contents, error) {
	var all contents
	for _, table := range tables(phase) {
		var rows int
		var hash string
		if err := d.QueryRowContext(ctx, d.digest(table, d.text(table))).Scan(&rows, &hash); err != nil {
			return all, fmt.Errorf("read %s: %w", table, err)
		}
		all.rows += rows
		all.hash += hash + " "
	}
	return all, nil
}

// clients is how many connections make changes at the same time.
const clients = 4

// inParallel runs f for each part of n things, each part on a connection of its own, and returns the first error.
func inParallel(ctx context.Context, db *sql.DB, n int, f func(ctx context.Context, conn *sql.Conn, from, to int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() {
			conn, err := db.Conn(ctx)
			if err != nil {
				cancel(err)
				return
			}
			defer conn.Close()
			if err := f(ctx, conn, i*n/clients, (i+1)*n/clients); err != nil {
				cancel(err)
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}
