package e2e

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/catalog"
	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// everyChange lets an office do whatever another one did to its tables.
const everyChange = "ddl: {apply: all, destructive: apply}\n"

// evolving is a company whose tables change. It begins with one table, into which each office writes where it is.
type evolving struct {
	*fleet.Fleet
	bin   string
	marks int64
	alone []string // tables that some office has for itself
	plays []played // what says which office made a table
	// pen is held by applications for reading while they write; whoever compares takes it from them.
	pen sync.RWMutex
	// live are the tables that applications write; there must be some before they begin.
	live   []string
	writes []atomic.Int64 // by office
}

// newEvolving starts a company; ddl is the offices' configuration of schema changes.
func newEvolving(t *testing.T, set *servers.Set, bin, ddl string, offices []fleet.Spec) *evolving {
	t.Helper()
	for i := range offices {
		offices[i].Extra += ddl
	}
	f := companyOf(t, fleet.Options{
		Broker: set.RabbitMQ[0], Binary: bin, Offices: offices,
		Schema: func(ctx context.Context, o *fleet.Office) error {
			return o.Exec(ctx, `CREATE TABLE marks (office varchar(40) PRIMARY KEY, n bigint NOT NULL)`)
		},
	})
	e := &evolving{Fleet: f, bin: bin, writes: make([]atomic.Int64, len(offices))}
	must(t, f.Start(within(t, stuck)))
	for _, o := range f.Offices {
		must(t, o.Exec(within(t, stuck), fmt.Sprintf(`INSERT INTO marks VALUES ('%s', 0)`, o.Name)))
	}
	return e
}

// mariaDBFirst is a head with a MariaDB, and two branches with a Postgres each.
func mariaDBFirst(set *servers.Set) []fleet.Spec {
	return []fleet.Spec{
		{Name: "head", Role: schema.Head, Database: set.MariaDB[0]},
		{Name: "north", Role: schema.Branch, Database: set.Postgres[0]},
		{Name: "south", Role: schema.Branch, Database: set.Postgres[1]},
	}
}

// quoted is a name in an office's words.
func quoted(o *fleet.Office, name string) string {
	if o.Postgres() {
		return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
	}
	return "`" + strings.ReplaceAll(name, "`", "``") + "`"
}

// writing has an application at every office write the live tables until the test ends it. What the tables refuse just then
// (there is none of the name yet, a lock took too long) is no fault: an application would see the same without sidecars.
func (e *evolving) writing(t *testing.T) (end func()) {
	var runs []func(context.Context) error
	for _, o := range e.Offices {
		runs = append(runs, func(ctx context.Context) error { return e.write(ctx, o) })
	}
	return background(t, runs...)
}

// writePause is a small rate: what is tested is the order of rows and schema changes.
const writePause = 25 * time.Millisecond

func (e *evolving) write(ctx context.Context, o *fleet.Office) error {
	db, err := o.DB()
	if err != nil {
		return err
	}
	rnd, base := rand.New(rand.NewPCG(6, uint64(o.Index))), int64(o.Index+1)*1e12
	for n := base; ctx.Err() == nil; {
		pause(ctx, writePause)
		e.pen.RLock()
		table := quoted(o, e.live[rnd.IntN(len(e.live))])
		id := base + rnd.Int64N(max(n-base, 1))
		statement := fmt.Sprintf(`UPDATE %s SET note = 'changed %d' WHERE id = %d`, table, rnd.IntN(1e6), id)
		switch rnd.IntN(6) {
		case 0, 1, 2:
			n++
			statement = fmt.Sprintf(`INSERT INTO %s (id, note) VALUES (%d, 'of %s')`, table, n, o.Name)
		case 3:
			statement = fmt.Sprintf(`DELETE FROM %s WHERE id = %d`, table, id)
		}
		_, err := db.ExecContext(context.WithoutCancel(ctx), statement)
		e.pen.RUnlock()
		if err == nil {
			e.writes[o.Index].Add(1)
		}
	}
	return nil
}

// written waits until every office's application has written so many times.
func (e *evolving) written(t *testing.T, atLeast int64) {
	t.Helper()
	must(t, fleet.Until(within(t, stuck), "every application has written", func(context.Context) error {
		for _, o := range e.Offices {
			if n := e.writes[o.Index].Load(); n < atLeast {
				return fmt.Errorf("%s: its application wrote %d times, want %d", o.Name, n, atLeast)
			}
		}
		return nil
	}))
}

// arrived waits until everything that any office has done is done at all: each writes behind it, and waits for the others'.
func (e *evolving) arrived(t *testing.T) {
	t.Helper()
	e.marks++
	for _, o := range e.Offices {
		must(t, o.Exec(within(t, stuck), fmt.Sprintf(`UPDATE marks SET n = %d WHERE office = '%s'`, e.marks, o.Name)))
	}
	must(t, fleet.Until(within(t, stuck), "every office's mark is everywhere", func(ctx context.Context) error {
		for _, o := range e.Offices {
			d, err := o.DigestOf(ctx, fmt.Sprintf(`SELECT n, n FROM marks WHERE n = %d`, e.marks))
			if err == nil && d.Rows != len(e.Offices) {
				err = fmt.Errorf("%s has %d of %d marks; %s", o.Name, d.Rows, len(e.Offices), unfinished(ctx, o))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}))
}

// unfinished says what an office has not done of others' schema changes; for people.
func unfinished(ctx context.Context, o *fleet.Office) string {
	var text []string
	for _, s := range steps(ctx, o, "state IN ('pending', 'held', 'failed')") {
		text = append(text, s.String())
	}
	return strings.Join(text, "; ")
}

// told is one row of what an office says of others' schema changes.
type told struct{ table, step, subject, state, reason, statement string }

func (s told) String() string {
	return fmt.Sprintf("%s %s %s: %s (%s): %s", s.table, s.step, s.subject, s.state, s.reason, s.statement)
}

// steps reads what an office says of others' schema changes.
func steps(ctx context.Context, o *fleet.Office, where string) (all []told) {
	db, err := o.DB()
	if err != nil {
		return nil
	}
	rows, err := db.QueryContext(ctx, `SELECT table_name, step, subject, state, reason, statement FROM cdc_sidecar.ddl WHERE office = '`+string(o.Name)+`' AND `+where+` ORDER BY id`)
	if err != nil {
		return []told{{reason: err.Error()}}
	}
	defer rows.Close()
	for rows.Next() {
		var s told
		var reason, statement sql.NullString
		if err := rows.Scan(&s.table, &s.step, &s.subject, &s.state, &reason, &statement); err != nil {
			return []told{{reason: err.Error()}}
		}
		s.reason, s.statement = reason.String, statement.String
		all = append(all, s)
	}
	if err := rows.Err(); err != nil {
		return []told{{reason: err.Error()}}
	}
	return all
}

// definitionsAt reads what an office's tables are, without those that have no key: they are not sent.
func definitionsAt(ctx context.Context, o *fleet.Office) (map[schema.TableName]*schema.Definition, error) {
	all := map[schema.TableName]*schema.Definition{}
	if o.Postgres() {
		conn, err := pgx.Connect(ctx, o.URL)
		if err != nil {
			return nil, err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		found, err := catalog.ReadPostgresDefinitions(ctx, conn, "public")
		for _, d := range found {
			all[d.TableName] = d
		}
		return keyed(all), err
	}
	db, err := o.DB()
	if err != nil {
		return nil, err
	}
	dsn, err := schema.ParseDSN(o.URL)
	if err != nil {
		return nil, err
	}
	found, err := catalog.ReadMySQLDefinitions(ctx, db, dsn.DefaultSchema())
	for _, d := range found {
		if d.Schema == "" { // else another database of the server, another office's perhaps
			all[d.TableName] = d
		}
	}
	return keyed(all), err
}

func keyed(all map[schema.TableName]*schema.Definition) map[schema.TableName]*schema.Definition {
	maps.DeleteFunc(all, func(_ schema.TableName, d *schema.Definition) bool { return len(d.Key) == 0 })
	return all
}

// equal wants all offices' tables to be the same, and their rows. of is the office whose tables the others' are held against.
func (e *evolving) equal(t *testing.T, of *fleet.Office) {
	t.Helper()
	e.equalBy(t, func(schema.TableName) *fleet.Office { return of })
}

// played is a script at an office.
type played struct {
	script
	at *fleet.Office
}

// maker is the office that made a table: another engine's says less of it.
func (e *evolving) maker(name schema.TableName) *fleet.Office {
	for i := range e.plays {
		if e.plays[i].names(name.Name) {
			return e.plays[i].at
		}
	}
	return e.Head()
}

// equalBy is equal where each table is held against that of another office.
func (e *evolving) equalBy(t *testing.T, maker func(schema.TableName) *fleet.Office) {
	t.Helper()
	e.pen.Lock()
	defer e.pen.Unlock()
	e.arrived(t)
	var last error // what differed, also when the time is over in the middle of a look
	err := fleet.Until(within(t, stuck), "every office's tables are the same", func(ctx context.Context) error {
		err := e.sameTables(ctx, maker)
		if ctx.Err() == nil {
			last = err
		}
		return err
	})
	if err != nil {
		t.Fatalf("%v\n%v", err, last)
	}
	a := asked(t, e.Head(), e.bin, 0, "verify")
	tables, err := definitionsAt(within(t, stuck), e.Head())
	must(t, err)
	for _, o := range a.Result.Offices {
		if len(o.Tables) < len(tables)-len(e.alone) {
			t.Errorf("%s: %d tables were compared of %d", o.Office, len(o.Tables), len(tables))
		}
		for _, r := range o.Tables {
			if r.Found() > 0 {
				t.Errorf("%s: %+v", o.Office, r)
			}
		}
	}
}

// sameTables: the definitions, how many rows there are, and nothing left to do.
func (e *evolving) sameTables(ctx context.Context, maker func(schema.TableName) *fleet.Office) error {
	var wrong []error
	at, names := map[*fleet.Office]map[schema.TableName]*schema.Definition{}, map[schema.TableName]bool{}
	for _, o := range e.Offices {
		if left := unfinished(ctx, o); left != "" {
			wrong = append(wrong, fmt.Errorf("%s: not done: %s", o.Name, left))
		}
		all, err := definitionsAt(ctx, o)
		if err != nil {
			return err
		}
		at[o] = all
		for name := range all {
			names[name] = names[name] || !slices.Contains(e.alone, name.Name)
		}
	}
	for _, name := range slices.SortedFunc(maps.Keys(names), func(a, b schema.TableName) int { return cmp.Compare(a.Name, b.Name) }) {
		for _, o := range e.Offices {
			of := maker(name)
			if of != e.Head() && o != of && o != e.Head() {
				of = e.Head() // from which it has the table
			}
			switch want, have := at[of][name], at[o][name]; {
			case !names[name]: // some office's alone
			case have == nil || want == nil:
				if (have == nil) != (want == nil) {
					wrong = append(wrong, fmt.Errorf("%s: table %s: it is there: %t, at %s: %t", o.Name, name, have != nil, of.Name, want != nil))
				}
			case o != of:
				if differs := catalog.Equivalent(want, have); len(differs) > 0 {
					wrong = append(wrong, fmt.Errorf("%s: table %s: %s", o.Name, name, strings.Join(differs, ", ")))
				}
				wrong = append(wrong, sameCount(ctx, name, of, o))
			}
		}
	}
	return errors.Join(wrong...)
}

// sameCount wants as many rows of a table at two offices.
func sameCount(ctx context.Context, name schema.TableName, a, b *fleet.Office) error {
	x, err := countRows(ctx, a, name.Name)
	y, again := countRows(ctx, b, name.Name)
	if err = errors.Join(err, again); err == nil && x != y {
		err = fmt.Errorf("table %s: %s has %d rows, %s %d", name, a.Name, x, b.Name, y)
	}
	return err
}

func countRows(ctx context.Context, o *fleet.Office, table string) (n int, err error) {
	db, err := o.DB()
	if err != nil {
		return 0, err
	}
	err = db.QueryRowContext(ctx, `SELECT count(*) FROM `+quoted(o, table)).Scan(&n)
	return n, err
}
