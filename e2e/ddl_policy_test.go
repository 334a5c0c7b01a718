package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
)

// goods are a table with what may be taken away, and one beside it.
var goods = []string{
	`CREATE TABLE goods (id bigint PRIMARY KEY, note varchar(40), spare integer, state varchar(20))`,
	`INSERT INTO goods VALUES (1, 'one', 1, 'new')`,
	`CREATE TABLE beside (id bigint PRIMARY KEY, note varchar(40))`,
}

// By default a branch does what takes nothing away. What does is held and told with its statement, and rows go on; a person who
// runs the statement has done it.
func TestHeldSchemaChanges(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	e := newEvolving(t, set, bin, "", three(set))
	head := e.Head()
	must(t, head.Exec(within(t, stuck), append(goods,
		`ALTER TABLE goods DROP COLUMN spare`,
		`ALTER TABLE goods ALTER COLUMN state TYPE varchar(10)`,
		`ALTER TABLE goods ADD COLUMN price numeric(10,2)`,
		`INSERT INTO goods VALUES (2, 'two', 'old', 2.5)`)...))
	e.arrived(t)
	for _, o := range e.Offices[1:] {
		has1(t, o, `SELECT id, id FROM goods WHERE id = 2 AND price = 2.5 AND spare IS NULL`)
		held := steps(within(t, stuck), o, "state = '"+schema.DDLHeld+"'")
		if len(held) != 2 || held[0].step != string(schema.DropColumn) || held[1].step != string(schema.ChangeType) {
			t.Fatalf("%s holds %v", o.Name, held)
		}
		tells(t, o, bin, "held", held[0].statement, held[1].statement)
	}
	for _, o := range e.Offices[1:] {
		run := map[string]bool{} // what the other branch's person has run is held here, too
		for _, s := range steps(within(t, stuck), o, "state = '"+schema.DDLHeld+"'") {
			if !run[s.statement] {
				must(t, o.Exec(within(t, stuck), strings.Split(s.statement, ";\n")...))
			}
			run[s.statement] = true
		}
		must(t, fleet.Until(within(t, stuck), "nothing is held any more", func(ctx context.Context) error {
			if held := steps(ctx, o, "state = '"+schema.DDLHeld+"'"); len(held) > 0 {
				return fmt.Errorf("%v", held)
			}
			return nil
		}))
	}
	must(t, head.Exec(within(t, stuck), `INSERT INTO goods VALUES (3, 'three', 'old', 3.5)`))
	e.equal(t, head)
}

// An office that takes no schema changes: a row that needs one waits, and those of its table; others do not. The status names the statement, and
// once a person has run it, all of them are written.
func TestNoSchemaChanges(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	e := newEvolving(t, set, bin, "ddl: {apply: none}\n", three(set))
	for _, o := range e.Offices { // by hand, everywhere: nobody does it for another
		must(t, o.Exec(within(t, stuck), goods[0], goods[2], `CREATE TABLE still (id bigint PRIMARY KEY)`))
	}
	head := e.Head()
	e.arrived(t)
	south := e.Offices[2]
	unlogged(t, south, `ALTER TABLE still ADD COLUMN alone integer`)
	must(t, head.Exec(within(t, stuck),
		`ALTER TABLE goods ADD COLUMN price integer`,
		`INSERT INTO goods (id, note, price) VALUES (5, 'five', 5)`,
		`INSERT INTO goods (id, note, price) VALUES (6, 'six', 6)`,
		`UPDATE goods SET note = 'still five' WHERE id = 5`,
		`INSERT INTO beside VALUES (1, 'goes on')`))
	e.arrived(t)
	for _, o := range e.Offices[1:] {
		has1(t, o, `SELECT id, id FROM beside WHERE id = 1`)
		if n, err := countRows(within(t, stuck), o, "goods"); err != nil || n != 0 {
			t.Errorf("%s has %d goods, want none: %v", o.Name, n, err)
		}
		held := steps(within(t, stuck), o, "state = '"+schema.DDLHeld+"'")
		var statement string
		for _, s := range held {
			if s.step == string(schema.AddColumn) && s.subject == "price" {
				statement = s.statement
			}
		}
		if statement == "" {
			t.Fatalf("%s holds %v", o.Name, held)
		}
		drift := map[string]string{"goods": "column price is not here (held here: " + statement}
		if o == south {
			drift["still"] = "column alone is here alone"
		}
		drifts(t, head, o, bin, drift)
		tells(t, o, bin, statement, "column price: the table here has no such column; remedy: ALTER TABLE ")
		if o == south {
			unlogged(t, o, `ALTER TABLE still DROP COLUMN alone`)
		}
		must(t, o.Exec(within(t, stuck), statement))
		drifts(t, head, o, bin, nil)
		must(t, fleet.Until(within(t, stuck), "the rows that waited are written", func(ctx context.Context) error {
			d, err := o.DigestOf(ctx, `SELECT id, id FROM goods WHERE id = 5 AND note = 'still five' AND price = 5 OR id = 6 AND price = 6`)
			if err == nil && d.Rows != 2 {
				err = fmt.Errorf("%s has %d of them", o.Name, d.Rows)
			}
			return err
		}))
	}
	asked(t, head, bin, 0, "verify")
}

// An office that is to stop where something would be taken away stops there, says what to do, and goes on when it is done.
func TestHaltAtSchemaChanges(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	e := newEvolving(t, set, bin, "ddl: {destructive: halt}\n", three(set))
	head := e.Head()
	must(t, head.Exec(within(t, stuck), goods...))
	e.arrived(t)
	must(t, head.Exec(within(t, stuck), `ALTER TABLE goods DROP COLUMN spare`, `INSERT INTO goods VALUES (2, 'two', 'old')`))
	for _, o := range e.Offices[1:] {
		must(t, fleet.Until(within(t, stuck), "the office says why it stopped", func(ctx context.Context) error {
			s, err := o.Status(ctx)
			if err == nil && !strings.Contains(strings.Join(s.Reasons(), "\n"), "destructive: halt") {
				err = fmt.Errorf("%v", s.Reasons())
			}
			return err
		}))
		if n, err := countRows(within(t, stuck), o, "goods"); err != nil || n != 1 {
			t.Errorf("%s has %d goods, want 1: %v", o.Name, n, err)
		}
		must(t, o.Exec(within(t, stuck), `ALTER TABLE goods DROP COLUMN spare`))
	}
	e.equal(t, head)
}

// has1 wants one row of a query.
func has1(t *testing.T, o *fleet.Office, query string) {
	t.Helper()
	if d, err := o.DigestOf(within(t, stuck), query); err != nil || d.Rows != 1 {
		t.Errorf("%s: %s: %d rows, want 1: %v", o.Name, query, d.Rows, err)
	}
}

// tells wants words in what an office's status prints for people.
func tells(t *testing.T, o *fleet.Office, bin string, words ...string) {
	t.Helper()
	stdout, stderr, _ := ask(t, o, bin, "status")
	for _, w := range words {
		if !strings.Contains(stdout, w) {
			t.Errorf("the status of %s does not say %q:\n%s%s", o.Name, w, stdout, stderr)
		}
	}
}
