package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
)

// A MariaDB's log does not have what its foreign keys do. Whoever deletes a customer there with all that is his deletes it everywhere.
func TestForeignKeysOfMariaDBReachEveryOffice(t *testing.T) {
	set := shared.Set(t)
	for _, head := range []fleet.Spec{
		{Name: "head", Role: schema.Head, Database: set.Postgres[0]},
		{Name: "head", Role: schema.Head, Database: set.MariaDB[0]},
	} {
		t.Run(fmt.Sprintf("%T", head.Database), func(t *testing.T) {
			f := companyWith(t, set, createCustomers, head,
				fleet.Spec{Name: "north", Role: schema.Branch, Database: set.Postgres[1]},
				fleet.Spec{Name: "south", Role: schema.Branch, Database: set.MariaDB[0]},
				fleet.Spec{Name: "west", Role: schema.Branch, Database: set.MariaDB[0]},
			)
			must(t, f.Start(within(t, stuck)))
			must(t, f.Met(within(t, stuck)))
			captured(t, f.Offices[0], "INSERT INTO customers VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')",
				"INSERT INTO bills (id, customer, refers) VALUES (10, 1, NULL), (11, 1, 10), (20, 2, NULL), (30, 3, NULL), (40, 4, NULL)",
				"INSERT INTO positions VALUES (10, 1, 4), (10, 2, NULL), (11, 1, 1), (20, 1, 1), (30, 1, 2)")
			sameCustomers(t, f, "4 customers, 5 bills, 5 positions, 4 sold")
			captured(t, f.Offices[2], "DELETE FROM customers WHERE id = 1", "UPDATE customers SET id = 7 WHERE id = 2", "INSERT INTO bills (id, customer) VALUES (70, 7)")
			captured(t, f.Offices[3], "INSERT INTO bills (id, customer) VALUES (41, 4)", "INSERT INTO positions VALUES (41, 1, 4)", "DELETE FROM bills WHERE id = 41")
			sameCustomers(t, f, "3 customers, 4 bills, 2 positions, 1 sold")
			captured(t, f.Offices[0], "DELETE FROM customers WHERE id = 3")
			sameCustomers(t, f, "2 customers, 3 bills, 1 positions, 0 sold")
			captured(t, f.Offices[1], "DELETE FROM customers WHERE id = 7")
			sameCustomers(t, f, "1 customers, 1 bills, 0 positions, 0 sold")
			s, err := f.Head().Status(within(t, stuck))
			must(t, err)
			if s.Conflicts.Total != 0 {
				t.Errorf("conflicts: %v", s.Conflicts)
			}
			raceOverCustomers(t, f)
		})
	}
}

// raceOverCustomers has applications of all offices make rows that refer to others, and remove those, at the same time: whoever was
// quicker, no stream halts, and no row is left without what it refers to.
func raceOverCustomers(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	var runs []func(context.Context) error
	var done [4]int
	for _, o := range f.Offices {
		runs = append(runs, func(ctx context.Context) error {
			db, err := o.DB()
			if err != nil {
				return err
			}
			rnd := rand.New(rand.NewPCG(3, uint64(o.Index)))
			for n := 1000 * (o.Index + 1); ctx.Err() == nil; n++ {
				pause(ctx, writePause)
				some := func(table string) string {
					return fmt.Sprintf("(SELECT id FROM (SELECT id FROM %s ORDER BY (id * %d) %% 101 LIMIT 1) x)", table, rnd.IntN(100)+1)
				}
				kinds := []int{0, 0, 1, 1, 1, 2, 2, 2, 3, 4}
				if o == f.Head() && !o.Postgres() { // what goes with what it removes, over two tables, nobody else is ever told of
					kinds = kinds[:8]
				}
				statement := []string{
					fmt.Sprintf("INSERT INTO customers VALUES (%d, '%s')", n, o.Name),
					fmt.Sprintf("INSERT INTO bills VALUES (%d, %s, %s)", n, some("customers"), some("bills")),
					fmt.Sprintf("INSERT INTO positions VALUES (%s, %d, %s)", some("bills"), n, some("customers")),
					"DELETE FROM customers WHERE id = " + some("customers"), "DELETE FROM bills WHERE id = " + some("bills"),
				}[kinds[rnd.IntN(len(kinds))]]
				// What an office's own foreign keys forbid is no fault.
				if _, err := db.ExecContext(context.WithoutCancel(ctx), statement); err == nil {
					done[o.Index]++
				}
			}
			return nil
		})
	}
	end := background(t, runs...)
	must(t, fleet.Until(within(t, stuck), "all offices have written", func(ctx context.Context) error {
		s, err := f.Head().Status(ctx)
		if err != nil {
			return err
		}
		if applied := s.Apply.Transactions; applied < sized[uint64](300, 5000) {
			return fmt.Errorf("%d transactions at the head", applied)
		}
		return nil
	}))
	end()
	if slices.Min(done[:]) < 20 {
		t.Errorf("the offices wrote %v times, want each 20 times", done)
	}
	sameCustomers(t, f, "")
	s, err := f.Head().Status(within(t, stuck))
	must(t, err)
	t.Logf("%v writes, %d conflicts", done, s.Conflicts.Total)
}

func createCustomers(ctx context.Context, o *fleet.Office) error {
	return o.Exec(ctx, "CREATE TABLE customers (id int PRIMARY KEY, name varchar(20))",
		`CREATE TABLE bills (id int PRIMARY KEY, customer int, refers int,
			FOREIGN KEY (customer) REFERENCES customers (id) ON DELETE CASCADE ON UPDATE CASCADE, FOREIGN KEY (refers) REFERENCES bills (id) ON DELETE CASCADE)`,
		`CREATE TABLE positions (bill int, n int, sold_to int, PRIMARY KEY (bill, n),
			FOREIGN KEY (bill) REFERENCES bills (id) ON DELETE CASCADE, FOREIGN KEY (sold_to) REFERENCES customers (id) ON DELETE SET NULL ON UPDATE CASCADE)`)
}

// sameCustomers waits until every office has so many rows (empty: however many), and wants the same rows, none of which refers to one that is gone.
func sameCustomers(t *testing.T, f *fleet.Fleet, want string) {
	t.Helper()
	texts := []string{
		"SELECT id, concat_ws('|', id, name) FROM customers ORDER BY id", "SELECT id, concat_ws('|', id, customer, refers) FROM bills ORDER BY id",
		"SELECT bill, concat_ws('|', bill, n, coalesce(sold_to, -1)) FROM positions ORDER BY bill, n",
	}
	var last error // also when the time is over in the middle of a look
	same := func(ctx context.Context) error {
		for _, o := range f.Offices {
			db, err := o.DB()
			if err != nil {
				return err
			}
			var got string
			var orphans int
			if err := db.QueryRowContext(ctx, `SELECT concat((SELECT count(*) FROM customers), ' customers, ', (SELECT count(*) FROM bills), ' bills, ',
				(SELECT count(*) FROM positions), ' positions, ', (SELECT count(sold_to) FROM positions), ' sold'),
				(SELECT count(*) FROM bills WHERE customer NOT IN (SELECT id FROM customers)) + (SELECT count(*) FROM positions WHERE bill NOT IN (SELECT id FROM bills))`,
			).Scan(&got, &orphans); err != nil {
				return err
			}
			if want != "" && got != want || orphans > 0 {
				return fmt.Errorf("%s: %s, %d of them orphans; want %s", o.Name, got, orphans, want)
			}
			for _, text := range texts {
				here, err := o.DigestOf(ctx, text)
				if err != nil {
					return err
				}
				there, err := f.Head().DigestOf(ctx, text)
				if err != nil {
					return err
				}
				if here != there {
					return fmt.Errorf("%s: %s is %v, at the head %v", o.Name, text, here, there)
				}
			}
		}
		return nil
	}
	if err := fleet.Until(within(t, stuck), "every office holds the same", func(ctx context.Context) error {
		err := same(ctx)
		if ctx.Err() == nil {
			last = err
		}
		return err
	}); err != nil {
		t.Fatalf("%v\n%v", err, last)
	}
	must(t, f.Settled(within(t, stuck)))
}
