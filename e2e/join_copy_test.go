package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
)

// allWares are the names of the eight tables.
func allWares() []string {
	all := append([]string(nil), fleet.Tables...)
	for i := range wares {
		all = append(all, wares[i].name)
	}
	return all
}

// dump copies the head's tables, as they are at one moment, into a branch of the same engine.
func dump(ctx context.Context, from, to *fleet.Office) error {
	src, err := pgx.Connect(ctx, from.URL)
	if err != nil {
		return err
	}
	defer src.Close(ctx)
	dst, err := pgx.Connect(ctx, to.URL)
	if err != nil {
		return err
	}
	defer dst.Close(ctx)
	if _, err := src.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ"); err != nil {
		return err
	}
	for _, table := range allWares() {
		r, w := io.Pipe()
		go func() {
			_, err := src.PgConn().CopyTo(ctx, w, "COPY "+table+" TO STDOUT")
			w.CloseWithError(err)
		}()
		if _, err := dst.PgConn().CopyFrom(ctx, r, "COPY "+table+" FROM STDIN"); err != nil {
			return fmt.Errorf("copy %s: %w", table, err)
		}
	}
	return nil
}

// load is dump into a branch of the other engine.
func load(ctx context.Context, from, to *fleet.Office) error {
	src, err := from.DB()
	if err != nil {
		return err
	}
	dst, err := to.DB()
	if err != nil {
		return err
	}
	tx, err := src.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, table := range allWares() {
		if err := loadTable(ctx, tx, dst, table); err != nil {
			return fmt.Errorf("load %s: %w", table, err)
		}
	}
	return nil
}

// loadBatch is how many rows are inserted at once.
const loadBatch = 200

func loadTable(ctx context.Context, src *sql.Tx, dst *sql.DB, table string) error {
	rows, err := src.QueryContext(ctx, "SELECT * FROM "+table)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	marks := "(" + strings.Repeat("?, ", len(columns)-1) + "?)"
	var args []any
	insert := func() error {
		n := len(args) / len(columns)
		if n == 0 {
			return nil
		}
		_, err := dst.ExecContext(ctx, "INSERT INTO "+table+" VALUES "+strings.Repeat(marks+", ", n-1)+marks, args...)
		args = args[:0]
		return err
	}
	for rows.Next() {
		row, to := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			to[i] = &row[i]
		}
		if err := rows.Scan(to...); err != nil {
			return err
		}
		if args = append(args, row...); len(args) == loadBatch*len(columns) {
			if err := insert(); err != nil {
				return err
			}
		}
	}
	if rows.Err() != nil {
		return rows.Err()
	}
	return insert()
}

// Branches begin with a copy of the head from a while ago, while the head goes on: only what has changed since is sent.
func TestABranchBeginsWithACopy(t *testing.T) {
	wholeOnly(t)
	set := shared.Set(t)
	bin := binary(t, "CDC_RACE_BINARY")
	rows := sized(12_000, 200_000)
	f := companyOf(t, fleet.Options{
		Broker: set.RabbitMQ[0], Binary: bin,
		Offices: []fleet.Spec{
			{Name: "hq", Role: schema.Head, Database: set.Postgres[0]},
			{Name: "north", Role: schema.Branch, Database: set.Postgres[1], Extra: "join: {extra: delete}\n"}, // what the head has deleted since
			{Name: "south", Role: schema.Branch, Database: set.MariaDB[0], Extra: "join: {extra: delete}\n"},
		},
		Schema: func(ctx context.Context, o *fleet.Office) error {
			if err := createWares(ctx, o); err != nil {
				return err
			}
			if o.Role != schema.Head {
				return nil
			}
			return fillWares(ctx, o, rows)
		},
	})
	hq := f.Head()
	must(t, hq.Start())
	captures(t, hq)
	end := background(t, ordersOf(&fleet.Workload{Writers: 1, Pause: 50 * time.Millisecond}, hq), func(ctx context.Context) error {
		_, err := stir(ctx, hq, rows, 100*time.Millisecond)
		return err
	})
	must(t, dump(within(t, stuck), hq, f.Offices[1]))
	must(t, load(within(t, stuck), hq, f.Offices[2]))
	pause(t.Context(), time.Second) // the head goes on, and the copies get old
	for _, o := range f.Offices[1:] {
		must(t, o.Start())
	}
	must(t, f.Met(within(t, stuck)))
	end()
	_, err := sameWares(within(t, stuck), f)
	must(t, err)
	for _, o := range f.Offices[1:] {
		all, written := 0, 0
		for _, figures := range joined(t, o) {
			all, written = all+figures["rows"], written+figures["written"]
		}
		t.Logf("%s: %d rows, %d of them were sent", o.Name, all, written)
		if all < rows || written > all/5 {
			t.Errorf("%s: %d of %d rows were sent, though most were there: %v", o.Name, written, all, joined(t, o))
		}
	}
	verifies(t, bin, f.Offices[1:]...)
}
