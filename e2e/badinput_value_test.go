package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"cdc-sidecar/admin"
	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// misfit is a table that is not the same at every office, and a change that one of them cannot take.
type misfit struct {
	name   string // of the table, and what is wrong with it
	tables [3]string
	writer int    // the office whose application writes
	change string // to the row with id 1
	halted int    // the office that cannot take it
	column string // that is to blame, with the value
	value  string
	mend   string // at the halted office; empty: the remedy of the message itself
	lost   string // done at the halted office once it has joined
	waits  bool   // nothing halts: the change waits for its table alone
}

// The offices of three, by index.
const (
	atHead = iota
	atNorth
	atSouth
)

const all = "id int PRIMARY KEY"

// rounds are the misfits, each shown to the end before the next. Those that halt one branch and the other stand in one round:
// neither halt is in the way of the other. What the head does not take it does not pass on either, so those stand alone.
var rounds = [][]misfit{{{
	name: "too_long", tables: [3]string{all + ", label varchar(100)", all + ", label varchar(10)", all + ", label varchar(100)"},
	writer: atHead, change: `INSERT INTO too_long VALUES (1, 'longer than ten')`,
	halted: atNorth, column: "label", value: "longer than ten", mend: `ALTER TABLE too_long ALTER COLUMN label TYPE varchar(100)`,
}, {
	name: "too_precise", tables: [3]string{all + ", rate numeric(12,4)", all + ", rate numeric(12,4)", all + ", rate decimal(12,2)"},
	writer: atHead, change: `INSERT INTO too_precise VALUES (1, 0.1234)`,
	halted: atSouth, column: "rate", value: "0.1234", mend: `ALTER TABLE too_precise MODIFY rate decimal(12,4)`,
}}, {{
	name: "too_many_digits", tables: [3]string{all + ", price numeric(12,2)", all + ", price numeric(5,2)", all + ", price decimal(12,2)"},
	writer: atSouth, change: `INSERT INTO too_many_digits VALUES (1, 12345.67)`,
	halted: atNorth, column: "price", value: "12345.67", mend: `ALTER TABLE too_many_digits ALTER COLUMN price TYPE numeric(12,2)`,
}, {
	name: "out_of_range", tables: [3]string{all + ", n bigint", all + ", n bigint", all + ", n int"},
	writer: atNorth, change: `INSERT INTO out_of_range VALUES (1, 3000000000)`,
	halted: atSouth, column: "n", value: "3000000000", mend: `ALTER TABLE out_of_range MODIFY n bigint`,
}}, {{
	name: "column_lacks", tables: [3]string{all + ", extra varchar(40)", all, all + ", extra varchar(40)"},
	writer: atHead, change: `INSERT INTO column_lacks VALUES (1, 'more')`,
	halted: atNorth, column: "extra", waits: true, value: "no such column",
}, {
	name: "not_a_number", tables: [3]string{all + ", amount numeric", all + ", amount numeric", all + ", amount decimal(12,2)"},
	writer: atHead, change: `INSERT INTO not_a_number VALUES (1, 'NaN')`,
	halted: atSouth, column: "amount", value: "NaN", mend: `ALTER TABLE not_a_number MODIFY amount varchar(40)`,
}}, {{
	name: "endless", tables: [3]string{all + ", until date", all + ", until date", all + ", until date"},
	writer: atHead, change: `INSERT INTO endless VALUES (1, 'infinity')`,
	halted: atSouth, column: "until", value: "infinity", mend: `ALTER TABLE endless MODIFY until varchar(40)`,
}}, {{
	name: "column_lacks_too", tables: [3]string{all + ", extra numeric(7,2)", all + ", extra numeric(7,2)", all},
	writer: atNorth, change: `INSERT INTO column_lacks_too VALUES (1, 12.25)`,
	halted: atSouth, column: "extra", waits: true, value: "no such column",
}}, {{
	name: "table_lacks", tables: [3]string{all, all, all}, lost: `DROP TABLE table_lacks`,
	writer: atHead, change: `INSERT INTO table_lacks VALUES (1)`,
	halted: atSouth, waits: true, value: "no such table", mend: `CREATE TABLE table_lacks (id int PRIMARY KEY)`,
}}, {{
	name: "zero_date", tables: [3]string{all + ", placed date", all + ", placed text", all + ", placed date"},
	writer: atSouth, change: `INSERT INTO zero_date VALUES (1, '0000-00-00')`,
	halted: atHead, column: "placed", value: "0000-00-00", mend: `ALTER TABLE zero_date ALTER COLUMN placed TYPE text`,
}}, {{
	name: "not_null", tables: [3]string{all + ", note varchar(40) NOT NULL", all + ", note varchar(40)", all + ", note varchar(40)"},
	writer: atNorth, change: `INSERT INTO not_null VALUES (1, NULL)`,
	halted: atHead, column: "note", value: "NULL",
}}}

// createMisfits makes the tables beside the company's own.
func createMisfits(ctx context.Context, o *fleet.Office) error {
	for _, m := range slices.Concat(rounds...) {
		if m.tables[o.Index] == "" {
			continue
		}
		if err := o.Exec(ctx, "CREATE TABLE "+m.name+" ("+m.tables[o.Index]+")"); err != nil {
			return err
		}
	}
	return fleet.CreateTables(ctx, o)
}

// companyWith is company with tables of the test's own.
func companyWith(t *testing.T, set *servers.Set, tables func(context.Context, *fleet.Office) error, offices ...fleet.Spec) *fleet.Fleet {
	t.Helper()
	return companyOf(t, fleet.Options{Broker: set.RabbitMQ[0], Binary: binary(t, "CDC_RACE_BINARY"), Schema: tables, Offices: offices})
}

// A change that an office cannot take halts that stream there, by name, with what mends it, and holds up nobody else; one whose
// table or column is not there waits by itself. Once the table is mended it goes on by itself.
func TestChangesThatCannotBeTaken(t *testing.T) {
	set := shared.Set(t)
	f := companyWith(t, set, createMisfits, three(set)...)
	var l ledger
	must(t, f.Start(within(t, stuck)))
	for _, m := range slices.Concat(rounds...) {
		if m.lost != "" {
			must(t, f.Offices[m.halted].Exec(within(t, stuck), m.lost))
		}
	}
	for _, round := range rounds {
		haltAndMend(t, f, &l, round)
	}
	l.goesOn(t, f)
	l.settles(t, f)
}

// haltAndMend has every misfit of a round halt its office before the first of them is mended.
func haltAndMend(t *testing.T, f *fleet.Fleet, l *ledger, round []misfit) {
	t.Helper()
	for _, m := range round {
		must(t, f.Offices[m.writer].Exec(within(t, stuck), m.change))
	}
	remedies := make([]string, len(round))
	for i, m := range round {
		remedies[i] = m.isNamed(t, f.Offices[m.halted])
	}
	for _, m := range round {
		m.othersGoOn(t, f, l)
	}
	for i, m := range round {
		must(t, f.Offices[m.halted].Exec(within(t, stuck), remedies[i]))
	}
	for _, m := range round {
		m.arrives(t, f)
	}
}

// isNamed wants the halt to tell of the misfit, and returns the statement that mends it.
func (m *misfit) isNamed(t *testing.T, at *fleet.Office) string {
	t.Helper()
	if m.waits {
		reason := m.waitsFor(t, at)
		names(t, m.name+": what waits", reason, m.name, m.column, "1", m.value)
		return m.mends(reason)
	}
	halt := m.halts(t, at)
	names(t, m.name+": the halt", halt.Table+" "+halt.Column+" "+halt.Key+" "+halt.Cause, m.name, m.column, "1", m.value)
	if halt.Table != m.name || halt.Column != m.column || halt.Position == (admin.Position{}) {
		t.Errorf("%s: halted at %+v", m.name, halt)
	}
	return m.mends(halt.Remedy)
}

// mends is the statement that a remedy names.
func (m *misfit) mends(mend string) string {
	if m.mend != "" {
		return m.mend
	}
	if i := strings.Index(mend, "ALTER "); i >= 0 {
		mend = mend[i:]
	}
	mend, _, _ = strings.Cut(mend, ", or ")
	return mend
}

// waitsFor waits until the change waits in the office's database, and the status counts it, and returns why.
func (m *misfit) waitsFor(t *testing.T, at *fleet.Office) (reason string) {
	t.Helper()
	db, err := at.DB()
	must(t, err)
	must(t, fleet.Until(within(t, stuck), fmt.Sprintf("the change of %s waits at %s", m.name, at.Name), func(ctx context.Context) error {
		s, err := at.Status(ctx)
		if err == nil && s.Parked == 0 {
			err = errors.New("nothing waits")
		}
		if err != nil {
			return err
		}
		return db.QueryRowContext(ctx, fmt.Sprintf("SELECT reason FROM cdc_sidecar.parked WHERE table_name = '%s'", m.name)).Scan(&reason)
	}))
	return reason
}

// halts waits until the office says that a stream stands still there.
func (m *misfit) halts(t *testing.T, at *fleet.Office) (halt admin.Halt) {
	t.Helper()
	must(t, fleet.Until(within(t, stuck), fmt.Sprintf("%s halts at %s", at.Name, m.name), func(ctx context.Context) error {
		s, err := at.Status(ctx)
		if err != nil {
			return err
		}
		for _, p := range s.Peers {
			if p.Halted != nil && p.State == admin.PeerHalted {
				halt = *p.Halted
				if s.State != admin.Degraded || !s.Ready {
					t.Errorf("%s: state %s, ready %v; want degraded and ready", m.name, s.State, s.Ready)
				}
				return nil
			}
		}
		return fmt.Errorf("%s: %v", s.State, s.Reasons())
	}))
	return halt
}

// othersGoOn: a branch that is not concerned writes, and every office that is not halted gets it.
func (m *misfit) othersGoOn(t *testing.T, f *fleet.Fleet, l *ledger) {
	t.Helper()
	writer := f.Offices[atNorth]
	if m.halted == atNorth || m.halted == atHead && m.writer == atNorth {
		writer = f.Offices[atSouth]
	}
	l.write(t, writer)
	for i, o := range f.Offices {
		if i == m.halted && o.Role == schema.Branch {
			continue // all that comes to it is the one stream of the head
		}
		must(t, fleet.Until(within(t, stuck), fmt.Sprintf("%s: %s gets what %s writes", m.name, o.Name, writer.Name), func(ctx context.Context) error {
			d, err := o.DigestOf(ctx, fmt.Sprintf(`SELECT order_id, line FROM order_lines WHERE order_id = %d`, l.rows))
			if err == nil && d.Rows != 1 {
				err = fmt.Errorf("not there yet")
			}
			return err
		}))
	}
}

// arrives waits until every office holds the table's one row, equal to the writer's.
func (m *misfit) arrives(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	query := "SELECT id, id FROM " + m.name
	if m.column != "" {
		query = fmt.Sprintf("SELECT id, concat_ws('|', id, %[1]s) FROM %[2]s", m.column, m.name)
	}
	want, err := f.Offices[m.writer].DigestOf(within(t, stuck), query)
	must(t, err)
	if want.Rows != 1 {
		t.Fatalf("%s has %d rows", m.name, want.Rows)
	}
	for _, o := range f.Offices {
		must(t, fleet.Until(within(t, stuck), m.name+" is equal at "+string(o.Name), func(ctx context.Context) error {
			got, err := o.DigestOf(ctx, query)
			if err == nil && got != want {
				s, _ := o.Status(ctx)
				err = fmt.Errorf("%+v, want %+v; %v", got, want, s.Reasons())
			}
			return err
		}))
	}
}
