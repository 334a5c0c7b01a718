package e2e

import (
	"context"
	"fmt"
	"testing"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// rowsOfPostgres are schema changes that change rows without the log of a Postgres having them.
var rowsOfPostgres = []string{
	`ALTER TABLE items ALTER COLUMN n TYPE bigint USING n::bigint * 2`,
	`CREATE TABLE copied AS SELECT id, note FROM items WHERE id <= 300`,
	`ALTER TABLE copied ADD PRIMARY KEY (id)`,
	`ALTER TABLE copied ALTER COLUMN note TYPE varchar(40) USING upper(note)`,
	`ALTER TABLE copied RENAME TO copies`,
	`ALTER TABLE parts ATTACH PARTITION piece FOR VALUES IN (2)`,
	`ALTER TABLE parts DETACH PARTITION part_1`,
	`ALTER TABLE sums ALTER COLUMN twice DROP EXPRESSION`,
}

// rowsOfMariaDB are those of a MariaDB.
var rowsOfMariaDB = []string{
	`CREATE TABLE late (id bigint NOT NULL, note varchar(40))`,
	`INSERT INTO late SELECT id, note FROM items WHERE id <= 200`,
	`ALTER TABLE late ADD PRIMARY KEY (id)`,
	`ALTER TABLE ranges TRUNCATE PARTITION p0`,
	`ALTER TABLE stock ADD COLUMN at datetime DEFAULT '2001-01-01 00:00:00', ADD COLUMN since datetime DEFAULT now()`,
}

// What a schema change does to rows without the log of the office that made it, the others have all the same: each branch compares
// the table with the head's when it is done, and sends up what it did itself, whatever crashes meanwhile.
func TestRowsThatNoLogHas(t *testing.T) {
	set := shared.Set(t)
	offices := three(set)
	testRowsThatNoLogHas(t, set, offices, 0, 2, `uuid DEFAULT gen_random_uuid()`)
}

// The same where the head is a MariaDB, and both others are Postgres.
func TestRowsThatNoLogHasWithMariaDBAsTheHead(t *testing.T) {
	wholeOnly(t)
	set := shared.Set(t)
	offices := three(set)
	offices[0].Database, offices[2].Database = set.MariaDB[0], set.Postgres[0]
	testRowsThatNoLogHas(t, set, offices, 1, 0, `timestamp(6) DEFAULT now()`) // it has no uuid for a Postgres behind it
}

// testRowsThatNoLogHas plays the two engines' statements at an office of each; another is a column of which each row has another value.
func testRowsThatNoLogHas(t *testing.T, set *servers.Set, offices []fleet.Spec, postgres, mariadb int, another string) {
	e := newEvolving(t, set, binary(t, "CDC_RACE_BINARY"), everyChange, offices)
	a, b := e.Offices[postgres], e.Offices[mariadb]
	must(t, a.Exec(within(t, stuck),
		`CREATE TABLE items (id bigint PRIMARY KEY, note varchar(40), n varchar(20))`,
		`CREATE TABLE sums (id bigint PRIMARY KEY, note varchar(40), a integer DEFAULT 3, twice integer GENERATED ALWAYS AS (a * 2) STORED)`,
		`CREATE TABLE stock (id bigint PRIMARY KEY, note varchar(40))`,
		`CREATE TABLE parts (id bigint, k integer, note varchar(40), PRIMARY KEY (id, k)) PARTITION BY LIST (k)`,
		`CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1)`,
		`CREATE TABLE piece (id bigint NOT NULL, k integer NOT NULL, note varchar(40), PRIMARY KEY (id, k))`,
		`INSERT INTO items SELECT i, 'item ' || i, i FROM generate_series(1, 500) i`,
		`INSERT INTO sums SELECT i, 'sum ' || i, i FROM generate_series(1, 200) i`,
		`INSERT INTO stock SELECT i, 'stock ' || i FROM generate_series(1, 300) i`,
		`INSERT INTO parts SELECT i, 1, 'part ' || i FROM generate_series(1, 100) i`,
		`INSERT INTO piece SELECT i, 2, 'piece ' || i FROM generate_series(1, 100) i`))
	must(t, b.Exec(within(t, stuck),
		`CREATE TABLE ranges (id bigint PRIMARY KEY, note varchar(40)) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (100), PARTITION p1 VALUES LESS THAN MAXVALUE)`,
		`INSERT INTO ranges SELECT id, note FROM (SELECT 1 AS id, 'one' AS note UNION SELECT 99, 'last' UNION SELECT 100, 'stays' UNION SELECT 2000, 'stays, too') r`))
	e.arrived(t)
	e.live = []string{"items", "sums", "stock"}
	end := e.writing(t)
	for _, statement := range append([]string{`ALTER TABLE items ADD COLUMN u ` + another}, rowsOfPostgres...) {
		must(t, a.Exec(within(t, stuck), statement))
	}
	e.Offices[1].Kill()
	for _, statement := range rowsOfMariaDB {
		must(t, b.Exec(within(t, stuck), statement))
	}
	e.Offices[2].Kill()
	must(t, e.Offices[1].Start())
	must(t, e.Offices[2].Start())
	e.arrived(t)
	end()
	e.compared(t)
	e.equal(t, e.Head())
	for table, want := range map[string]int{"ranges": 2, "late": 200, "copies": 300, "parts": 100, "part_1": 100} {
		for _, o := range e.Offices {
			if n, err := countRows(within(t, stuck), o, table); err != nil || n != want {
				t.Errorf("%s has %d rows of %s, want %d: %v", o.Name, n, table, want, err)
			}
		}
	}
}

// compared waits until no schema change leaves a table to be compared.
func (e *evolving) compared(t *testing.T) {
	t.Helper()
	e.arrived(t)
	must(t, fleet.Until(within(t, stuck), "the tables are compared", func(ctx context.Context) error {
		for _, o := range e.Offices[1:] {
			d, err := o.DigestOf(ctx, `SELECT pending, state FROM cdc_sidecar.joins WHERE table_name LIKE '`+schema.OrderPrefix+`%'`)
			if err == nil && d.Rows > 0 {
				err = fmt.Errorf("%s has %d orders", o.Name, d.Rows)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}))
	e.arrived(t)
}
