package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// shop is a database in which rendered statements are run. space is its default schema; the tables of another one are in the
// schema shop.
type shop struct {
	engine schema.Engine
	space  string
	ready  bool // its schemas are there
	exec   func(statement string) error
	read   func(name schema.TableName) (*schema.Definition, error)
}

// parents are what foreign keys of the cases point at.
var parents = []string{"CREATE TABLE %s.customers (id bigint PRIMARY KEY)", "CREATE TABLE %s.others (id int PRIMARY KEY)"}

func postgresShop(t *testing.T) *shop {
	conn, err := pgx.Connect(t.Context(), servers.NewDatabase(t, postgresServers.Set(t).Postgres[0]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	s := &shop{engine: schema.Postgres, space: "s"}
	s.exec = func(statement string) error {
		_, err := conn.PgConn().Exec(t.Context(), statement).ReadAll()
		return err
	}
	s.read = func(name schema.TableName) (*schema.Definition, error) {
		return ReadPostgresDefinition(t.Context(), conn, s.space, name)
	}
	return s
}

// mysqlShop is the server's own: its databases are called as the cases say.
func mysqlShop(t *testing.T) *shop {
	set := servers.ForTest(t, servers.Spec{MariaDB: 1})
	at, err := schema.ParseDSN(servers.NewDatabase(t, set.MariaDB[0]))
	if err != nil {
		t.Fatal(err)
	}
	config := mysql.NewConfig()
	config.Net, config.Addr, config.User, config.Passwd = "tcp", at.Address(), at.User, at.Password
	connector, err := mysql.NewConnector(config)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s := &shop{space: "s"}
	if s.engine, err = MySQLEngine(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	s.exec = func(statement string) error {
		_, err := conn.ExecContext(t.Context(), statement)
		return err
	}
	s.read = func(name schema.TableName) (*schema.Definition, error) {
		own := s.space
		if name.Schema != "" {
			own = name.Schema
		}
		return ReadMySQLDefinition(t.Context(), conn, own, name.Name, s.space)
	}
	for _, setting := range []string{"innodb_flush_log_at_trx_commit = 0", "sync_binlog = 0"} { // what is made here need not outlive the test
		if err := s.exec("SET GLOBAL " + setting); err != nil {
			t.Fatal(err)
		}
	}
	session := MySQLSession + ", SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,ALLOW_INVALID_DATES'"
	if err := s.exec(session); err != nil {
		t.Fatal(err)
	}
	return s
}

// clear leaves the database with nothing but the parents.
func (s *shop) clear(t *testing.T) {
	t.Helper()
	statements := []string{"DROP TABLE IF EXISTS s.orders", `DROP TABLE IF EXISTS shop."Orders"`, `DROP TYPE IF EXISTS s."Mood", s.mood`}
	if s.engine != schema.Postgres {
		statements = []string{"DROP TABLE IF EXISTS s.orders, shop.`Orders`"}
	}
	if !s.ready {
		statements = []string{"CREATE SCHEMA s", "CREATE SCHEMA shop"}
		for _, parent := range parents {
			statements = append(statements, fmt.Sprintf(parent, "s"), fmt.Sprintf(parent, "shop"))
		}
		s.ready = true
	}
	for _, statement := range statements {
		if err := s.exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// step renders a step for the table as it is, and runs it.
func (s *shop) step(t *testing.T, step schema.Step) Rendered {
	t.Helper()
	r, err := Render(Place{Engine: s.engine, Default: s.space, Here: s.here(t, step)}, step)
	if err != nil {
		t.Fatalf("%s at %s: %v", step.Kind, s.engine, err)
	}
	for _, statement := range r.Statements {
		if err := s.exec(statement); err != nil {
			t.Fatalf("%s at %s: %s: %v", step.Kind, s.engine, statement, err)
		}
	}
	if r.Conflict != "" {
		t.Errorf("%s at %s: %s", step.Kind, s.engine, r.Conflict)
	}
	return r
}

// here is the table that a step is about.
func (s *shop) here(t *testing.T, step schema.Step) *schema.Definition {
	t.Helper()
	for _, d := range []*schema.Definition{step.Is, step.Was} {
		if d == nil {
			continue
		}
		here, err := s.read(d.TableName)
		if err != nil {
			t.Fatal(err)
		}
		if here != nil {
			return here
		}
	}
	return nil
}

// lead does all steps from one definition to another, and a second time, when nothing is left to do; the table is then what it is
// there.
func (s *shop) lead(t *testing.T, was, is *schema.Definition) *schema.Definition {
	t.Helper()
	steps := schema.Diff(was, is)
	for _, step := range steps {
		s.step(t, step)
	}
	for _, step := range steps {
		if step.Is != is { // the first of a circle of names: only whoever did it knows that it is done
			continue
		}
		again, err := Render(Place{Engine: s.engine, Default: s.space, Here: s.here(t, step)}, step)
		if err != nil || len(again.Statements) > 0 || again.Conflict != "" {
			t.Errorf("%s at %s, done already: %v\n%s", step.Kind, s.engine, err, again)
		}
	}
	if is == nil {
		if here := s.here(t, schema.Step{Was: was}); here != nil {
			t.Errorf("the table is still at %s", s.engine)
		}
		return nil
	}
	here, err := s.read(is.TableName)
	if err != nil || here == nil {
		t.Fatalf("the table at %s: %v, %v", s.engine, here, err)
	}
	if differs := Equivalent(is, here); differs != nil {
		t.Errorf("the table at %s is not what it is at %s: %s", s.engine, is.Engine, strings.Join(differs, "; "))
	}
	return here
}

// numbered gives columns the IDs that the same columns have in the case.
func numbered(d, of *schema.Definition) *schema.Definition {
	if d == nil {
		return nil
	}
	return changed(d, func(d *schema.Definition) {
		for i := range d.Columns {
			d.Details[i].ID = 0
			if at := of.Column(d.Columns[i].Name); at >= 0 {
				d.Details[i].ID = of.Details[at].ID
			}
		}
	})
}

// lessFor takes out of a case what the server cannot have or what a test of statements needs not.
func lessFor(engine schema.Engine, d *schema.Definition) *schema.Definition {
	if d == nil {
		return nil
	}
	return changed(d, func(d *schema.Definition) {
		d.Engine = engine
		d.Checks = slices.DeleteFunc(d.Checks, func(c schema.Check) bool { return c.Expression.Kind == schema.NativeText })
		for i := range d.ForeignKeys {
			k := &d.ForeignKeys[i]
			if k.OnDelete == schema.SetNull { // MySQL refuses that of a column which must not be NULL
				k.OnDelete = schema.Cascade
			}
			switch {
			case engine == schema.Postgres || k.Parent.Name != "customers":
			default:
				k.Parent.Name = "others"
				k.OnUpdate, k.OnDelete = schema.Forbid, schema.Cascade
			}
			if k.Name == "self" || engine == schema.Postgres && k.Parent.Name == "customers" {
				k.Parent.Name = "others" // whose key is an int, as the column
			}
		}
		d.Indexes = slices.DeleteFunc(d.Indexes, func(x schema.Index) bool {
			nothing := engine == schema.MariaDB && x.Parts[0].Column == ""
			return nothing || engine != schema.Postgres && x.Parts[0].Column == "note" && x.Parts[0].Prefix == 0 && x.Method == ""
		})
	})
}

// What is rendered from the definitions of one engine makes the same table in the other and in another of its own, step by step, on
// real servers; and what is done is known to be done.
func TestRenderOnServers(t *testing.T) {
	shops := []*shop{postgresShop(t), mysqlShop(t)}
	for name, c := range renderCases() {
		for i, from := range shops {
			if related(from.engine, cmpOr(c.is, c.was).Engine) {
				t.Run(name, func(t *testing.T) { onServers(t, from, shops[1-i], c) })
			}
		}
	}
}

func onServers(t *testing.T, from, to *shop, c renderCase) {
	was, is := lessFor(from.engine, c.was), lessFor(from.engine, c.is)
	from.clear(t)
	to.clear(t)
	var before *schema.Definition
	if was != nil {
		before = numbered(from.lead(t, nil, was), was)
		to.lead(t, nil, before)
	}
	after := numbered(from.lead(t, was, is), is)
	if t.Failed() {
		return
	}
	to.lead(t, before, after)
	checked := strings.Contains(t.Name(), "/rename-checked") // by the names alone it is another column, and a check holds the old one
	if before != nil && after != nil && before.TableName == after.TableName && !checked {
		to.clear(t)
		to.lead(t, nil, before)
		to.mend(t, after)
	}
}

// mend runs what is offered for where the table here differs from another, until nothing does: what one statement makes may be what
// the next needs.
func (s *shop) mend(t *testing.T, is *schema.Definition) {
	t.Helper()
	var ran []string
	for range 3 {
		here, err := s.read(is.TableName)
		if err != nil || here == nil {
			t.Fatalf("the table at %s: %v, %v", s.engine, here, err)
		}
		differs := Drift(is, here)
		if len(differs) == 0 {
			return
		}
		for _, m := range Mends(is, here, s.engine, s.space, differs) {
			ran = append(ran, m.Statement)
			if err := s.exec(m.Statement); err != nil {
				t.Fatalf("at %s, for %s: %s: %v", s.engine, strings.Join(differs, "; "), m.Statement, err)
			}
		}
	}
	here, err := s.read(is.TableName)
	if err != nil {
		t.Fatal(err)
	}
	if differs := Drift(is, here); len(differs) > 0 {
		t.Errorf("at %s, %s is left behind\n%s", s.engine, strings.Join(differs, "; "), strings.Join(ran, "\n"))
	}
}
