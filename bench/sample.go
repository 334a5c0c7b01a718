package main

import (
	"context"
	"errors"
	"fmt"

	"cdc-sidecar/fleet"
)

// The smaller sections' own making of orders: they need it at one office, on either engine, in sizes of their own.

const (
	samplePostgres = `CREATE TABLE orders (id bigint PRIMARY KEY, branch_id int NOT NULL, customer text NOT NULL, amount numeric(12,2) NOT NULL,
		note char(64) NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL)`
	sampleMariaDB = `CREATE TABLE orders (id bigint PRIMARY KEY, branch_id int NOT NULL, customer text NOT NULL, amount decimal(12,2) NOT NULL,
		note char(64) NOT NULL, created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`

	// Row n, as an expression of n: names of different lengths, amounts and notes that do not repeat.
	samplePostgresRow = `n, (random()*49)::int, (ARRAY['Anna','Björn','Caroline','Dimitrios','Eve','Friederike','Giovanni','Hu'])[1+(random()*7)::int] || ' ' ||
		(ARRAY['Müller','Ng','Papadopoulos','Smith','van der Berg','Øster','Quinn','Rossi-Bianchi'])[1+(random()*7)::int] || ' ' || (random()*1e5)::int,
		(random()*1e5)::numeric(12,2), md5(random()::text) || md5(random()::text), now() - random() * interval '300 days', clock_timestamp()`
	sampleMariaDBRow = `seq, round(rand()*49), concat(elt(1+round(rand()*7),'Anna','Björn','Caroline','Dimitrios','Eve','Friederike','Giovanni','Hu'), ' ',
		elt(1+round(rand()*7),'Müller','Ng','Papadopoulos','Smith','van der Berg','Øster','Quinn','Rossi-Bianchi'), ' ', round(rand()*1e5)),
		round(rand()*1e5,2), concat(md5(rand()),md5(rand())), now(6) - interval rand()*25920000 second, now(6)`
)

func createSample(ctx context.Context, o *fleet.Office) error {
	if o.Postgres() {
		return o.Exec(ctx, samplePostgres)
	}
	return o.Exec(ctx, sampleMariaDB)
}

// insertSample inserts the rows from first to last, 100 a transaction.
func insertSample(ctx context.Context, o *fleet.Office, first, last int) error {
	if o.Postgres() {
		// DO commits each of its transactions; what is not timed need not wait for the disk.
		return o.Exec(ctx, fmt.Sprintf(`DO $$ DECLARE i bigint := %d; BEGIN WHILE i <= %d LOOP PERFORM set_config('synchronous_commit', 'off', true);
			INSERT INTO orders SELECT %s FROM generate_series(i, least(i + 99, %d)) n; COMMIT; i := i + 100; END LOOP; END $$`, first, last, samplePostgresRow, last))
	}
	for ; first <= last; first += 100 {
		if err := o.Exec(ctx, fmt.Sprintf(`INSERT INTO orders SELECT %s FROM seq_%d_to_%d`, sampleMariaDBRow, first, min(first+99, last))); err != nil {
			return err
		}
	}
	return nil
}

// updateSample updates single rows out of the first so many, each in its own transaction. For Postgres.
func updateSample(ctx context.Context, o *fleet.Office, updates, of int) error {
	return o.Exec(ctx, fmt.Sprintf(`DO $$ DECLARE k bigint; BEGIN FOR i IN 1..%d LOOP PERFORM set_config('synchronous_commit', 'off', true);
		k := 1 + (random()*%d)::bigint; -- not in the condition: it would be drawn anew for every row
		UPDATE orders SET amount = (random()*1e5)::numeric(12,2), updated_at = clock_timestamp() WHERE id = k; COMMIT; END LOOP; END $$`, updates, of-1))
}

// touchSample updates the first so many rows in one transaction.
func touchSample(ctx context.Context, o *fleet.Office, rows int) error {
	if o.Postgres() {
		return o.Exec(ctx, fmt.Sprintf(`UPDATE orders SET amount = (random()*1e5)::numeric(12,2), updated_at = clock_timestamp() WHERE id BETWEEN 1 AND %d`, rows))
	}
	return o.Exec(ctx, fmt.Sprintf(`UPDATE orders SET amount = round(rand()*1e5,2), updated_at = now(6) WHERE id BETWEEN 1 AND %d`, rows))
}

// markSample inserts a row as the last of what was made; its number is negative.
func markSample(ctx context.Context, o *fleet.Office, mark int) error {
	row := samplePostgresRow
	if o.Postgres() {
		return o.Exec(ctx, fmt.Sprintf(`INSERT INTO orders SELECT %s FROM (SELECT %d::bigint AS n) one`, row, -mark))
	}
	return o.Exec(ctx, fmt.Sprintf(`INSERT INTO orders SELECT %s FROM (SELECT %d AS seq) one`, sampleMariaDBRow, -mark))
}

// marked waits until the row of markSample is there.
func marked(ctx context.Context, o *fleet.Office, mark int) error {
	db, err := o.DB()
	if err != nil {
		return err
	}
	query := fmt.Sprintf("SELECT count(*) FROM orders WHERE id = %d", -mark)
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

// One text for a row of orders, equal on both engines when the row is.
const (
	samplePostgresText = `SELECT id, concat_ws('|', id, branch_id, customer, amount, note, to_char(created_at AT TIME ZONE 'UTC','YYYY-MM-DD HH24:MI:SS.US'),
		to_char(updated_at AT TIME ZONE 'UTC','YYYY-MM-DD HH24:MI:SS.US')) FROM orders ORDER BY id`
	sampleMariaDBText = `SELECT id, concat_ws('|', id, branch_id, customer, amount, note, date_format(created_at,'%Y-%m-%d %H:%i:%s.%f'),
		date_format(updated_at,'%Y-%m-%d %H:%i:%s.%f')) FROM orders ORDER BY id`
)

// equalSample compares the offices' orders and returns how many there are.
func equalSample(ctx context.Context, offices ...*fleet.Office) (rows int, err error) {
	var first fleet.Digest
	for i, o := range offices {
		query := sampleMariaDBText
		if o.Postgres() {
			query = samplePostgresText
		}
		d, err := o.DigestOf(ctx, query)
		if err != nil {
			return 0, err
		}
		if i == 0 {
			first = d
		} else if d != first {
			return 0, fmt.Errorf("orders differ: %+v at %s, %+v at %s", first, offices[0].Name, d, o.Name)
		}
	}
	return first.Rows, nil
}
