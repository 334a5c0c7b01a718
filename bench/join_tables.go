package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sync/errgroup"

	"cdc-sidecar/fleet"
)

// joinTable is one of the tables that a branch joins with: orders as in the other sections, or lines with a key of two columns.
type joinTable struct {
	name  string
	lines bool
	share int // of a hundred rows of all tables
}

// Small tables and large ones, as anywhere.
var joinTables = [8]joinTable{
	{"orders1", false, 30},
	{"lines1", true, 20},
	{"orders2", false, 20},
	{"lines2", true, 10},
	{"orders3", false, 8},
	{"lines3", true, 7},
	{"orders4", false, 4},
	{"orders5", false, 1},
}

// rows is how many rows the table has when all have so many together.
func (t joinTable) rows(all int) int { return all * t.share / 100 }

// linesOfOrder is how many lines have one order.
const linesOfOrder = 4

func (t joinTable) create(k kind) string {
	columns := map[kind]string{
		postgres: "(id bigint PRIMARY KEY, branch_id integer NOT NULL, customer text NOT NULL, amount numeric(12,2) NOT NULL, note varchar(64) NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL)",
		maria:    "(id bigint PRIMARY KEY, branch_id int NOT NULL, customer text NOT NULL, amount decimal(12,2) NOT NULL, note varchar(64) NOT NULL, created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL)",
	}[k]
	if t.lines {
		columns = map[kind]string{
			postgres: "(order_id bigint, line integer, sku varchar(40) NOT NULL, price numeric(10,3), note varchar(64) NOT NULL, PRIMARY KEY (order_id, line))",
			maria:    "(order_id bigint, line int, sku varchar(40) NOT NULL, price decimal(10,3), note varchar(64) NOT NULL, PRIMARY KEY (order_id, line))",
		}[k]
	}
	return "CREATE TABLE " + t.name + " " + columns
}

// fill makes the head's rows.
func (t joinTable) fill(all int) string {
	if t.lines {
		return fmt.Sprintf("INSERT INTO %s SELECT n / %d, n %% %d, 'sku-' || (random()*99999)::int, round((random()*999)::numeric, 3), md5(random()::text) FROM generate_series(0, %d) n",
			t.name, linesOfOrder, linesOfOrder, t.rows(all)-1)
	}
	return fmt.Sprintf("INSERT INTO %s SELECT n, n %% 50, %s, %s, md5(random()::text) || md5(random()::text), clock_timestamp() - random() * interval '30 days', clock_timestamp() FROM generate_series(0, %d) n",
		t.name, postgresCustomer, postgresAmount, t.rows(all)-1)
}

// text is an expression for a row, the same on both engines.
func (t joinTable) text(w workload) string {
	if t.lines {
		return "concat_ws('|', order_id, line, sku, price, note)"
	}
	return w.text("orders")
}

// createJoined makes the tables at an office, at the head with so many rows.
func createJoined(ctx context.Context, o *fleet.Office, rows int) error {
	for _, t := range joinTables {
		if err := o.Exec(ctx, t.create(kindOf(o))); err != nil {
			return err
		}
		if rows > 0 {
			if err := o.Exec(ctx, t.fill(rows)); err != nil {
				return err
			}
		}
	}
	return nil
}

// equalJoined compares all tables of the offices, and returns how many rows they have.
func equalJoined(ctx context.Context, offices ...*fleet.Office) (int, error) {
	found := make([][]contents, len(offices))
	g, inner := errgroup.WithContext(ctx)
	for i, o := range offices {
		g.Go(func() error {
			d, err := at(o)
			if err != nil {
				return err
			}
			for _, t := range joinTables {
				var c contents
				if err := d.QueryRowContext(inner, d.digest(t.name, t.text(d.workload))).Scan(&c.rows, &c.hash); err != nil {
					return fmt.Errorf("read %s at %s: %w", t.name, o.Name, err)
				}
				found[i] = append(found[i], c)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	rows := 0
	for n, t := range joinTables {
		for i, o := range offices[1:] {
			if found[i+1][n] != found[0][n] {
				return 0, fmt.Errorf("table %s differs: %+v at %s, %+v at %s", t.name, found[0][n], offices[0].Name, found[i+1][n], o.Name)
			}
		}
		rows += found[0][n].rows
	}
	return rows, nil
}

// copyJoined has Postgres copy the tables from one database to another: COPY to here, and from here. Each table is a
// transaction.
func copyJoined(ctx context.Context, from, to *fleet.Office) error {
	return onPostgres(ctx, from, func(out *stdlib.Conn) error {
		return onPostgres(ctx, to, func(in *stdlib.Conn) error {
			for _, t := range joinTables {
				if err := pipe(ctx, t.name, out, in); err != nil {
					return fmt.Errorf("copy %s: %w", t.name, err)
				}
			}
			return nil
		})
	})
}

func onPostgres(ctx context.Context, o *fleet.Office, do func(*stdlib.Conn) error) error {
	db, err := o.DB()
	if err != nil {
		return err
	}
	return withConn(ctx, db, func(conn *sql.Conn) error {
		return conn.Raw(func(driver any) error {
			c, ok := driver.(*stdlib.Conn)
			if !ok {
				return fmt.Errorf("%s is not Postgres", o.Name)
			}
			return do(c)
		})
	})
}

func withConn(ctx context.Context, db *sql.DB, do func(*sql.Conn) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(conn), conn.Close())
}

func pipe(ctx context.Context, table string, out, in *stdlib.Conn) error {
	r, w := io.Pipe()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		_, err := out.Conn().PgConn().CopyTo(ctx, w, "COPY "+table+" TO STDOUT")
		return errors.Join(err, w.CloseWithError(err))
	})
	g.Go(func() error {
		_, err := in.Conn().PgConn().CopyFrom(ctx, r, "COPY "+table+" FROM STDIN")
		return errors.Join(err, r.CloseWithError(err))
	})
	return g.Wait()
}
