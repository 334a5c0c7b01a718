package e2e

import (
	"context"
	"fmt"
	"testing"

	"cdc-sidecar/fleet"
)

// longAgo are the schema changes of a table while its branches were away, in both engines' words; rows are written behind each.
var longAgo = []string{
	`CREATE TABLE ledger (id bigint PRIMARY KEY, note varchar(40), amount integer NOT NULL, spare integer)`,
	`ALTER TABLE ledger ADD COLUMN state varchar(10) NOT NULL DEFAULT 'new'`,
	`CREATE INDEX ledger_state ON ledger (state)`,
	`ALTER TABLE ledger DROP COLUMN spare`,
	`ALTER TABLE ledger RENAME COLUMN note TO remark`,
	`ALTER TABLE ledger ADD COLUMN price numeric(10,2)`,
	`ALTER TABLE ledger RENAME TO journals`,
	`ALTER TABLE journals ADD COLUMN made date`,
	`ALTER TABLE journals RENAME COLUMN remark TO note`,
	`CREATE TABLE other (id integer PRIMARY KEY, label varchar(20))`,
	`ALTER TABLE journals RENAME TO ledger`,
	`ALTER TABLE ledger ADD COLUMN code varchar(40)`,
	`CREATE UNIQUE INDEX ledger_code ON ledger (code)`,
	`ALTER TABLE ledger ADD CONSTRAINT ledger_amount CHECK (amount >= 0)`,
	`ALTER TABLE other ADD COLUMN text varchar(20) NOT NULL DEFAULT 'x'`,
	`DROP TABLE other`,
	`ALTER TABLE ledger DROP COLUMN made`,
	`ALTER TABLE ledger ADD COLUMN made varchar(30)`,
	`DROP INDEX ledger_state`,
	`ALTER TABLE ledger ALTER COLUMN state SET DEFAULT 'later'`,
}

// Two branches, one of each engine, are away while the head's tables change and rows are written between: back again, they do
// all of it in its order.
func TestAwayForSchemaChanges(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	awayFor(t, newEvolving(t, set, bin, everyChange, three(set)))
}

func TestAwayForSchemaChangesOfMariaDB(t *testing.T) {
	wholeOnly(t)
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	awayFor(t, newEvolving(t, set, bin, everyChange, mariaDBFirst(set)))
}

func awayFor(t *testing.T, e *evolving) {
	head := e.Head()
	for _, o := range e.Offices[1:] {
		must(t, o.Stop(within(t, stuck)))
	}
	rows := sized(5000, 100000) / len(longAgo)
	table := "ledger"
	for n, statement := range longAgo {
		if !head.Postgres() && statement == `DROP INDEX ledger_state` {
			statement += ` ON ledger`
		}
		must(t, head.Exec(within(t, stuck), statement))
		switch statement {
		case `ALTER TABLE ledger RENAME TO journals`:
			table = "journals"
		case `ALTER TABLE journals RENAME TO ledger`:
			table = "ledger"
		}
		must(t, writeLedger(within(t, stuck), head, table, n*rows, rows))
	}
	for _, o := range e.Offices[1:] {
		must(t, o.Start())
	}
	e.equal(t, head)
	n, err := countRows(within(t, stuck), e.Offices[atSouth], "ledger")
	must(t, err)
	if n != rows*len(longAgo) {
		t.Errorf("%d rows, want %d", n, rows*len(longAgo))
	}
}

// writeLedger inserts rows, and changes some that were there before.
func writeLedger(ctx context.Context, o *fleet.Office, table string, from, rows int) error {
	series := fmt.Sprintf("generate_series(%d, %d) n(seq)", from+1, from+rows)
	if !o.Postgres() {
		series = fmt.Sprintf("seq_%d_to_%d", from+1, from+rows)
	}
	return o.Exec(ctx,
		fmt.Sprintf(`INSERT INTO %s (id, amount) SELECT seq, seq FROM %s`, table, series),
		fmt.Sprintf(`UPDATE %s SET amount = amount + 1 WHERE id %% 10 = 0 AND id > %d`, table, from-rows),
	)
}
