package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"cdc-sidecar/fleet"
	"cdc-sidecar/servers"
)

// The smaller sections use the workload of the catch-up, phase by phase, in sizes of their own.

// servedBy is a broker, and so many servers of each engine of which the pair with itself is chosen.
func servedBy(o options, ofPostgres, ofMaria int) servers.Spec {
	spec := servers.Spec{RabbitMQ: 1}
	if slices.Contains(o.pairs, "pg-pg") {
		spec.Postgres = ofPostgres
	}
	if slices.Contains(o.pairs, "maria-maria") {
		spec.MariaDB = ofMaria
	}
	return spec
}

// at is an office's database with its workload.
func at(o *fleet.Office) (database, error) {
	db, err := o.DB()
	return database{DB: db, workload: workloadOf(kindOf(o)), url: o.URL}, err
}

// createSample makes the tables without pgbench's.
func createSample(ctx context.Context, o *fleet.Office) error {
	d, err := at(o)
	if err != nil {
		return err
	}
	return d.create(ctx, d.DB, 0)
}

// mark inserts a row as the last of what was made.
func mark(ctx context.Context, o *fleet.Office, number int) error {
	return o.Exec(ctx, fmt.Sprintf("INSERT INTO marks VALUES (%d)", number))
}

// marked waits until the row of mark is there.
func marked(ctx context.Context, o *fleet.Office, number int) error {
	db, err := o.DB()
	if err != nil {
		return err
	}
	query := fmt.Sprintf("SELECT count(*) FROM marks WHERE id = %d", number)
	ctx, cancel := context.WithTimeout(ctx, catchUpLimit)
	defer cancel()
	return fleet.Until(ctx, "the last row has arrived", func(ctx context.Context) error {
		n := 0
		if err := db.QueryRowContext(ctx, query).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return errors.New("it has not; " + reasons(ctx, o))
		}
		return nil
	})
}

// reasons is what a sidecar says of itself when something does not come.
func reasons(ctx context.Context, o *fleet.Office) string {
	s, err := o.Status(ctx)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s is %s: %v", o.Name, s.State, s.Reasons())
}

// equalSample compares the offices' orders and returns how many there are.
func equalSample(ctx context.Context, offices ...*fleet.Office) (rows int, err error) {
	var first contents
	for i, o := range offices {
		d, err := at(o)
		if err != nil {
			return 0, err
		}
		c, err := d.contents(ctx, insert100)
		if err != nil {
			return 0, err
		}
		if i == 0 {
			first = c
		} else if c != first {
			return 0, fmt.Errorf("orders differ: %+v at %s, %+v at %s", first, offices[0].Name, c, o.Name)
		}
	}
	return first.rows, nil
}
