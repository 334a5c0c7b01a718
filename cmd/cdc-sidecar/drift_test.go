package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/apply"
	"cdc-sidecar/schema"
)

// tableOf is a definition with text columns; the first is the key.
func tableOf(engine schema.Engine, name string, columns ...string) *schema.Definition {
	t := schema.Table{TableName: schema.TableName{Name: name}, Engine: engine, Key: []int{0}}
	native := map[schema.Engine]string{schema.Postgres: "character varying(20)", schema.MariaDB: "varchar(20)"}[engine]
	for i, c := range columns {
		t.Columns = append(t.Columns, schema.Column{Name: c, Kind: schema.KindText, Native: native, Size: 20, Nullable: i > 0})
	}
	return &schema.Definition{Table: schema.NewTable(t), Details: make([]schema.ColumnDetail, len(columns))}
}

func definitionsOf(all ...*schema.Definition) definitions {
	d := definitions{}
	for _, one := range all {
		d[one.TableName] = one
	}
	return d
}

// A branch's tables against the head's: what matters is where rows go from one to the other.
func TestDifferences(t *testing.T) {
	c := Config{Office: "north", Role: schema.Branch, Database: schema.DSN{Scheme: "mysql", Database: "shop"}, Tables: []TableEntry{
		{Name: "up", schema: "*", table: "up*", Flow: FlowSend}, {Name: "down", schema: "*", table: "down*", Flow: FlowReceive},
	}}
	theirs := definitionsOf(
		tableOf(schema.Postgres, "orders", "id", "note", "colour"), tableOf(schema.Postgres, "same", "id", "note"),
		tableOf(schema.Postgres, "prices", "id"), tableOf(schema.Postgres, "up_there", "id"), tableOf(schema.Postgres, "down_there", "id"))
	ours := definitionsOf(
		tableOf(schema.MariaDB, "orders", "id", "note", "more"), tableOf(schema.MariaDB, "same", "id", "note"),
		tableOf(schema.MariaDB, "own", "id"), tableOf(schema.MariaDB, "kept", "id"), tableOf(schema.MariaDB, "up_here", "id"), tableOf(schema.MariaDB, "down_here", "id"))
	found := differences(&c, theirs, ours, []schema.TableName{{Name: "kept"}})
	var got []string
	for _, d := range found {
		got = append(got, d.table.String()+": "+strings.Join(d.lines, "; "))
	}
	want := []string{
		"down_there: the table is not here", "orders: column colour is not here; column more is here alone", "own: the table is here alone",
		"prices: the table is not here", "up_here: the table is here alone",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A difference counts when both offices have got what the other had when it was seen first.
func TestSightings(t *testing.T) {
	at := func(epoch, seq uint64) schema.Position { return schema.Position{Epoch: epoch, Seq: seq} }
	table := schema.TableName{Name: "orders"}
	one, two := []difference{{table, []string{"column a is not here"}}}, []difference{{table, []string{"column a is not here", "column b is not here"}}}
	seen := sightings{}
	for i, step := range []struct {
		found  []difference
		now    look
		sure   int
		unsure bool
	}{
		{one, look{at: at(1, 10), last: at(2, 5), progress: at(1, 10), applied: at(2, 5)}, 0, true}, // for the first time
		{one, look{at: at(1, 12), last: at(2, 7), progress: at(1, 9), applied: at(2, 6)}, 0, true},  // it may be under way to here
		{one, look{at: at(1, 12), last: at(2, 7), progress: at(1, 10), applied: at(2, 4)}, 0, true}, // or to the head
		{one, look{at: at(1, 12), last: at(2, 7), progress: at(1, 10), applied: at(2, 5)}, 1, false},
		{two, look{at: at(1, 20), last: at(2, 9), progress: at(1, 15), applied: at(2, 9)}, 1, true},
		{two, look{at: at(1, 20), last: at(2, 9), progress: at(1, 20), applied: at(2, 9)}, 2, false},
		{two, look{at: at(7, 1), last: at(2, 9), progress: at(7, 1), applied: at(2, 9)}, 0, true}, // the head's journal is a new one
		{two, look{at: at(7, 1), last: at(2, 9), progress: at(7, 1), applied: at(2, 9)}, 2, false},
		{nil, look{at: at(7, 1), last: at(2, 9), progress: at(7, 1), applied: at(2, 9)}, 0, false},
		{one, look{at: at(7, 1), last: at(2, 9), progress: at(7, 1), applied: at(2, 9)}, 0, true}, // it came again
	} {
		sure, unsure := seen.sure(step.found, step.now)
		lines := 0
		for _, d := range sure {
			lines += len(d.lines)
		}
		if lines != step.sure || unsure != step.unsure {
			t.Errorf("look %d: %d are sure, others are not: %v; want %d, %v", i, lines, unsure, step.sure, step.unsure)
		}
	}
}

// What a held or failed step explains is told with its statement, which is the remedy then; the rest has statements of its own.
func TestDescribeDrift(t *testing.T) {
	c := Config{Office: "north", Role: schema.Branch, Database: schema.DSN{Scheme: "mysql", Database: "shop"}}
	theirs := tableOf(schema.Postgres, "orders", "id", "note", "colour", "size")
	here := tableOf(schema.MariaDB, "orders", "id", "note", "more")
	d := difference{theirs.TableName, []string{"column colour is not here", "column size is not here", "column more is here alone"}}
	steps := []apply.SchemaStep{
		{Table: "orders", Step: schema.AddColumn, Subject: "colour", Statement: "ALTER TABLE orders ADD COLUMN colour", State: schema.DDLHeld},
		{Table: "other", Step: schema.AddColumn, Subject: "size", Statement: "of another table", State: schema.DDLHeld},
	}
	got := d.describe(theirs, here, schema.MariaDB, &c, steps)
	want := admin.DriftTable{
		Table:       "orders",
		Differences: []string{"column colour is not here (held here: ALTER TABLE orders ADD COLUMN colour)", "column size is not here", "column more is here alone"},
		Statements: []string{
			"ALTER TABLE orders ADD COLUMN colour",
			"ALTER TABLE `shop`.`orders` ADD COLUMN `size` varchar(20) CHARACTER SET utf8mb4",
			"-- it drops the column with its values; or make it at the head as it is here:\n-- ALTER TABLE `shop`.`orders` DROP COLUMN `more`",
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	renamed := difference{schema.TableName{Name: "bills"}, []string{notHere}}
	steps[0] = apply.SchemaStep{Table: "bills", Step: schema.RenameTable, Subject: "bills", Was: "orders", Statement: "RENAME TABLE orders TO bills", State: schema.DDLFailed}
	got = renamed.describe(tableOf(schema.Postgres, "bills", "id"), nil, schema.MariaDB, &c, steps)
	if !slices.Equal(got.Statements, []string{steps[0].Statement}) || !strings.Contains(got.Differences[0], "(failed here: RENAME TABLE") {
		t.Errorf("a rename that failed: %+v", got)
	}
	missing := difference{schema.TableName{Name: "prices"}, []string{notHere}}
	got = missing.describe(tableOf(schema.Postgres, "prices", "id"), nil, schema.MariaDB, &c, nil)
	if len(got.Statements) != 1 || !strings.HasPrefix(got.Statements[0], "CREATE TABLE IF NOT EXISTS `shop`.`prices`") {
		t.Errorf("a table that is missing: %+v", got)
	}
	alone := difference{schema.TableName{Name: "own"}, []string{hereAlone}}
	if got = alone.describe(nil, tableOf(schema.MariaDB, "own", "id"), schema.MariaDB, &c, nil); len(got.Statements) != 1 || !strings.HasPrefix(got.Statements[0], "-- ") {
		t.Errorf("a table that is here alone: %+v", got)
	}
}

// drifted are what a branch finds.
func drifted(now time.Time) *admin.Drift {
	return &admin.Drift{Checked: now, Different: 3, Tables: []admin.DriftTable{
		{
			Table: "orders", Differences: []string{"column colour is not here", "column more is here alone"},
			Statements: []string{"ALTER TABLE `shop`.`orders` ADD COLUMN `colour` varchar(20)", "-- it drops the column with its values:\n-- ALTER TABLE `shop`.`orders` DROP COLUMN `more`"},
		},
		{Table: "own", Differences: []string{hereAlone}, Statements: []string{"-- north has it alone"}},
	}}
}

func TestDriftInStatusAndDoctor(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	branch := admin.Status{Role: schema.Branch, Drift: drifted(now), Peers: []admin.Peer{{Office: "head", Role: schema.Head}}}
	head := admin.Status{Role: schema.Head, Peers: []admin.Peer{
		{Office: "east", Role: schema.Branch},
		{Office: "north", Role: schema.Branch, Drift: drifted(now)},
		{Office: "south", Role: schema.Branch, Drift: &admin.Drift{Checked: now}},
	}}
	golden(t, "testdata/status_drift.golden", driftText(&branch)+driftText(&head))
	if driftCount(&branch) != 3 || driftCount(&head) != 3 {
		t.Errorf("%d and %d tables differ, want 3", driftCount(&branch), driftCount(&head))
	}
	steps := []admin.SchemaStep{
		{Origin: "head", Table: "orders", Step: "drop column", Subject: "note", State: schema.DDLHeld, Reason: "it drops the column with its values", Statement: "ALTER TABLE `shop`.`orders` DROP COLUMN `note`"},
		{Origin: "south", Table: "goods", Step: "add index", Subject: "only", State: schema.DDLFailed, Reason: "Duplicate entry '7'", Statement: "CREATE UNIQUE INDEX `only` ON `shop`.`goods` (`n`)"},
	}
	groups := []groupFindings{
		{checkGroup{name: "At a branch"}, append(stepFindings(steps), driftFindings(&branch)...)},
		{checkGroup{name: "At the head"}, append(stepFindings(nil), driftFindings(&head)...)},
		{checkGroup{name: "At a branch that has not looked"}, driftFindings(&admin.Status{Role: schema.Branch})},
	}
	golden(t, "testdata/doctor_drift.golden", findingsText(groups, marksFor(false))+fixes(groups))
}

// What does not fit into one message is left out of the tables, and counted all the same.
func TestDriftFits(t *testing.T) {
	d := &admin.Drift{Different: 10}
	for range d.Different {
		d.Tables = append(d.Tables, admin.DriftTable{Table: "t", Statements: []string{strings.Repeat("x", driftReport/4)}})
	}
	if text := fit(d); len(text) > driftReport || len(d.Tables) != 3 || d.Different != 10 {
		t.Errorf("%d bytes of %d tables", len(text), len(d.Tables))
	}
}

// An answer in several pieces is one answer; a piece of another, or one behind a gap, is none.
func TestDriftAnswerInPieces(t *testing.T) {
	d := newDrift(nil)
	piece := func(id uint64, part uint32, more bool, body string) {
		d.heard("head", &schema.Definitions{To: "north", ID: id, Part: part, More: more, Body: []byte(body)})
	}
	id := d.id
	piece(id-1, 0, false, "old")
	piece(id, 0, true, "lost")
	piece(id, 2, false, "behind a gap")
	if d.answer != nil {
		t.Fatalf("took %q", d.answer.body)
	}
	piece(id, 0, true, "one ")
	piece(id, 1, true, "answer ")
	piece(id, 2, false, "whole")
	a := d.take()
	if a == nil || string(a.body) != "one answer whole" || a.head != "head" {
		t.Fatalf("took %+v", a)
	}
	piece(id, 0, false, "once more")
	if a := d.take(); a != nil {
		t.Errorf("took %q again", a.body)
	}
}

// Tables in which others are prepared, and those that are left alone, are no other office's concern.
func TestDefinitionsBesides(t *testing.T) {
	d := definitionsOf(tableOf(schema.MariaDB, "t", "id"), tableOf(schema.MariaDB, "_t_gho", "id"), tableOf(schema.MariaDB, "__t_old", "id"), tableOf(schema.MariaDB, "_x_new", "id"))
	for name, want := range map[string]bool{"t": false, "_t_gho": true, "__t_old": true, "_x_new": false} {
		if got := d.besides(schema.TableName{Name: name}); got != want {
			t.Errorf("%s is beside another: %v, want %v", name, got, want)
		}
	}
}
