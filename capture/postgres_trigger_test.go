package capture

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cdc-sidecar/schema"
)

// newDefiningOffice is an office that captures schema changes.
func newDefiningOffice(t *testing.T, ddl ...string) *postgresOffice {
	t.Helper()
	o := newPostgresOffice(t, ddl...)
	o.Definitions = true
	return o
}

// tellings are the changes of transactions, one line for each: the kinds of a schema change's steps, or the operation.
func tellings(txs []schema.Transaction) []string {
	var lines []string
	for _, tx := range txs {
		for _, c := range tx.Changes {
			line := c.Table.String() + ": " + c.Op.String()
			if d := c.Definition; d != nil {
				for _, s := range schema.Diff(d.Was, d.Is) {
					line += ", " + string(s.Kind)
				}
				if d.Statement == "" || d.Statement == notSeen {
					line += " (no statement)"
				}
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func wantTold(t *testing.T, what string, got []schema.Transaction, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, tellings(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// A table that comes while the publication is looked at, and is in it already, is not taken out of it again.
func TestPostgresTablesThatComeMeanwhile(t *testing.T) {
	o := newDefiningOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	p := o.open()
	other, made := connectPostgres(t, o.DSN.URL()), make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 100 && err == nil; i++ {
			_, err = other.Exec(context.WithoutCancel(t.Context()), fmt.Sprintf(`CREATE TABLE t%d (id int PRIMARY KEY)`, i))
		}
		made <- err
	}()
	for over := false; !over; {
		select {
		case err := <-made:
			if over = true; err != nil {
				t.Fatal(err)
			}
		default:
		}
		plan, err := p.setup.planPublication(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(plan) > 0 {
			t.Fatal(plan)
		}
	}
}

// Whatever is wrong with what is ours, an application's statements go on; what was not noted is noticed later.
func TestPostgresTriggersBreakNothing(t *testing.T) {
	o := newDefiningOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`, `CREATE TABLE u (id int PRIMARY KEY)`)
	p := o.open()

	other := connectPostgres(t, o.DSN.URL())
	tx, err := other.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM cdc_sidecar.definitions FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	o.exec(`ALTER TABLE t ADD a int`) // its row is locked: it goes on after lock_timeout
	_ = tx.Rollback(t.Context())
	o.exec(`INSERT INTO t VALUES (1, 1)`)
	if err := p.inspect(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.exec(`ALTER TABLE t ADD b int`)
	wantTold(t, "after a lock", o.read(p, 3), "t: insert", "t: define, add column (no statement)", "t: define, add column")
	var marks int
	if o.scan(`SELECT count(*) FROM cdc_sidecar.definitions WHERE table_id = ''`, &marks); marks != 0 {
		t.Error("the request to look stays")
	}

	user := "u_" + unique()
	o.exec(`CREATE ROLE `+user+` LOGIN PASSWORD 'x'`, `GRANT CREATE ON SCHEMA public TO `+user)
	t.Cleanup(func() { o.exec(`DROP OWNED BY `+user, `DROP ROLE `+user) })
	config := o.as(user, "x")
	theirs := connectPostgres(t, config.DSN.URL())
	for _, s := range []string{
		`CREATE TABLE theirs (id int PRIMARY KEY)`, `INSERT INTO theirs VALUES (1)`, `CREATE TEMP TABLE passing (id int PRIMARY KEY)`, `DROP TABLE passing`,
		`SET search_path = pg_temp`, `CREATE FUNCTION pg_temp.describe(oid) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(1/0)'`, `ALTER TABLE public.theirs ADD a int`,
	} {
		if _, err := theirs.Exec(t.Context(), s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	wantTold(t, "a user without any right to what is ours", o.read(p, 3), "theirs: define, create table", "theirs: insert", "theirs: define, add column")

	o.exec(`ALTER TABLE cdc_sidecar.definitions RENAME TO gone`, `CREATE TABLE fresh (id int PRIMARY KEY)`, `ALTER TABLE u ADD a int`, `DROP TABLE u`)
	o.exec(`ALTER TABLE cdc_sidecar.gone RENAME TO definitions`, `DROP FUNCTION cdc_sidecar.describe(oid)`, `ALTER TABLE t DROP a`, `DROP TABLE fresh`)
	_ = p.Close(t.Context())
	o.Definitions = false
	if err := o.Teardown(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left int
	if o.scan(`SELECT count(*) FROM pg_event_trigger`, &left); left != 0 {
		t.Errorf("%d event triggers are left", left)
	}
	o.exec(`CREATE TABLE fresh (id int PRIMARY KEY)`)
}

// Every schema change is told, in its place, however often reading begins anew; what was not durable is told again.
func TestPostgresSchemaChangesAndRestarts(t *testing.T) {
	o := newDefiningOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	p := o.open()
	o.exec(`ALTER TABLE t ADD a int`, `INSERT INTO t VALUES (1, 1)`)
	got := o.read(p, 2)
	wantTold(t, "at first", got, "t: define, add column", "t: insert")
	p.Confirm(got[0].Source)
	_ = p.Close(t.Context())
	o.start = got[0].Source
	o.exec(`BEGIN`, `ALTER TABLE t RENAME a TO b`, `INSERT INTO t VALUES (2, 2)`, `CREATE TABLE u (id int PRIMARY KEY)`, `COMMIT`, `INSERT INTO u VALUES (1)`)
	p = o.open()
	got = o.read(p, 3)
	wantTold(t, "behind the first", got, "t: insert", "t: define, rename column", "t: insert", "u: define, create table", "u: insert")
	for _, c := range got[0].Changes[0].Table.Columns {
		if c.Name == "b" {
			t.Error("a row has the definition of later")
		}
	}
	_ = p.Close(t.Context())
	p = o.open()
	wantTold(t, "once more", o.read(p, 3), "t: insert", "t: define, rename column", "t: insert", "u: define, create table", "u: insert")
	_ = p.Close(t.Context())
	// Functions of another version, and facts that they write in another way, are no change of any table.
	o.exec(`COMMENT ON FUNCTION cdc_sidecar.on_ddl() IS 'older'`, `UPDATE cdc_sidecar.definitions SET definition = (definition::jsonb || '{"older": true}')::text, statement = ''`)
	p = o.open()
	o.exec(`DROP TABLE u`)
	wantTold(t, "after an upgrade", o.read(p, 4), "t: insert", "t: define, rename column", "t: insert", "u: define, create table", "u: insert", "u: define, drop table")
	if plan, err := o.Plan(t.Context()); err != nil || len(plan) > 0 {
		t.Errorf("still to do: %v, %v", plan, err)
	}
}

// A database that was set up by a program without definitions gets them, and the first look at them is no news.
func TestPostgresUpgradeToDefinitions(t *testing.T) {
	o := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	_ = o.open().Close(t.Context())
	o.exec(`ALTER PUBLICATION "`+o.slot()+`" DROP TABLE cdc_sidecar.definitions`, `DROP TABLE cdc_sidecar.definitions`, `DROP TABLE cdc_sidecar.ddl`, `INSERT INTO t VALUES (1)`)
	o.Definitions = true
	p := o.open()
	o.exec(`ALTER TABLE t ADD a int`)
	wantTold(t, "behind the upgrade", o.read(p, 2), "t: insert", "t: define, add column")
}

// Where nobody may make event triggers, a change is told before the first row behind it, and after restarts not again.
func TestPostgresSchemaChangesWithoutTriggers(t *testing.T) {
	o := newPostgresOffice(t)
	user := "u_" + unique()
	o.exec(`CREATE ROLE `+user+` LOGIN REPLICATION PASSWORD 'x'`, `GRANT ALL ON SCHEMA public TO `+user, `GRANT CREATE ON DATABASE `+o.DSN.Database+` TO `+user)
	admin := o.conn
	t.Cleanup(func() {
		o.conn = admin
		o.exec(`DROP OWNED BY `+user, `DROP ROLE `+user)
	})
	o.PostgresConfig = o.as(user, "x")
	o.Definitions = true
	o.conn = connectPostgres(t, o.DSN.URL())
	o.exec(`CREATE TABLE t (id int PRIMARY KEY)`, `CREATE TABLE u (id int PRIMARY KEY)`)
	p := o.open()
	o.exec(`INSERT INTO t VALUES (1)`, `ALTER TABLE t ADD a int DEFAULT 5`, `INSERT INTO t VALUES (2)`, `INSERT INTO t VALUES (3)`, `ALTER TABLE u ADD b int`)
	got := o.read(p, 3)
	wantTold(t, "behind a change", got, "t: insert", "t: define, add column (no statement)", "t: insert", "t: insert")
	if err := p.inspect(t.Context()); err != nil {
		t.Fatal(err)
	}
	got = o.read(p, 1)
	wantTold(t, "by an inspection", got, "u: define, add column (no statement)")
	o.durable(p, got[0].Source)
	o.exec(`INSERT INTO t VALUES (4)`, `INSERT INTO u VALUES (1)`, `CREATE TABLE v (id int PRIMARY KEY)`, `DROP TABLE u`)
	p = o.open()
	o.exec(`INSERT INTO v VALUES (1)`)
	wantTold(t, "after a restart", o.read(p, 3), "t: insert", "u: insert", "v: define, create table (no statement)", "v: insert")
	if err := p.inspect(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantTold(t, "a dropped table", o.read(p, 1), "u: define, drop table (no statement)")
	_ = p.Close(t.Context())

	fix := ""
	for _, f := range CheckPostgres(t.Context(), o.PostgresConfig) {
		if f.Check == "db.ddl" && f.Severity == schema.Warning {
			fix = f.Fix
		}
		if f.Severity == schema.Failure {
			t.Errorf("%+v", f)
		}
	}
	if _, err := admin.PgConn().Exec(t.Context(), fix).ReadAll(); err != nil || fix == "" {
		t.Fatalf("doctor's statements: %v\n%s", err, fix)
	}
	if findings := CheckPostgres(t.Context(), o.PostgresConfig); !slices.ContainsFunc(findings, func(f schema.Finding) bool { return f.Check == "db.ddl" && f.Severity == schema.Fine }) {
		t.Errorf("after the administrator: %+v", findings)
	}
	p = o.open()
	o.exec(`ALTER TABLE v ADD a int`, `INSERT INTO v VALUES (2, 2)`)
	got = o.read(p, 6)
	wantTold(t, "with an administrator's triggers", got[len(got)-2:], "v: define, add column", "v: insert")
}

// durable makes the place known as the journal's, lets the source do what it does then, and closes it.
func (o *postgresOffice) durable(p *Postgres, source string) {
	o.t.Helper()
	p.Confirm(source)
	if err := p.attend(o.t.Context()); err != nil {
		o.t.Fatal(err)
	}
	if err := p.Close(context.Background()); err != nil {
		o.t.Fatal(err)
	}
	o.start = source
}

// What an apply changes is its origin's at the head, and nobody's news at a branch; so it is in a session that triggers do not fire in.
func TestPostgresSchemaChangesOfAnApply(t *testing.T) {
	const apply = `SET session_replication_role = replica; INSERT INTO cdc_sidecar.progress VALUES ('%s', 'south', 5, 0); BEGIN;
		UPDATE cdc_sidecar.progress SET epoch = 5, seq = 41, stamp_millis = 9, committed = 7 WHERE origin = 'south'; ALTER TABLE t ADD a int;
		CREATE TABLE u (id int PRIMARY KEY); COMMIT; INSERT INTO u VALUES (1)`
	for role, want := range map[schema.Role][]string{
		schema.Head:   {"t: define, add column", "u: define, create table", "u: insert"},
		schema.Branch: {"u: insert"},
	} {
		t.Run(string(role), func(t *testing.T) {
			o := newDefiningOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`)
			o.Role = role
			p := o.open()
			o.exec(strings.Split(fmt.Sprintf(apply, o.Office), ";")...)
			var got []schema.Transaction
			collect(t, p, func(tx *schema.Transaction) bool {
				got = append(got, *tx)
				return tx.Changes[0].Op == schema.Insert
			})
			wantTold(t, "of an apply", got, want...)
			if first := got[0]; role == schema.Head && (first.Origin != "south" || first.OriginPos.Seq != 41) {
				t.Errorf("of %s at %s", first.Origin, first.OriginPos)
			}
		})
	}
}

// Tables that do not go out have no schema changes, and one that is renamed to a name that does is new.
func TestPostgresSchemaChangesByFlow(t *testing.T) {
	o := newDefiningOffice(t, `CREATE TABLE private (id int PRIMARY KEY)`, `CREATE TABLE passing (id int PRIMARY KEY)`, `CREATE TABLE t (id int PRIMARY KEY)`)
	o.Send = func(n schema.TableName) bool { return n.Name != "private" && n.Name != "passing" }
	o.Forward = func(n schema.TableName) bool { return n.Name == "passing" }
	p := o.open()
	o.exec(`ALTER TABLE private ADD a int`, `ALTER TABLE passing ADD a int`, `DROP TABLE passing`, `ALTER TABLE t RENAME TO u`, `ALTER TABLE private RENAME TO shown`,
		`ALTER TABLE u RENAME TO private`, `DROP TABLE private`, `INSERT INTO shown VALUES (1, 1)`)
	wantTold(t, "by flow", o.read(p, 2), "u: define, rename table", "shown: define, create table")
	if err := p.inspect(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.exec(`INSERT INTO shown VALUES (2, 2)`)
	wantTold(t, "behind the inspection", o.read(p, 1), "shown: insert")
}

// Many schema changes of one transaction are cut into parts that fit into messages.
func TestPostgresManySchemaChanges(t *testing.T) {
	o := newDefiningOffice(t)
	p := o.open()
	const tables = 200
	o.exec(fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP EXECUTE format('CREATE TABLE t%%s (id int PRIMARY KEY, a text DEFAULT %%L)', i, repeat('x', 9000)); END LOOP; END $$`, tables))
	parts, changes := 0, 0
	for _, tx := range o.read(p, 1) {
		parts++
		changes += len(tx.Changes)
		if body := schema.AppendBatch(nil, []schema.Transaction{tx}); len(body) > 2*partBytes {
			t.Errorf("a part of %d bytes", len(body))
		}
	}
	if parts < tables*9000/partBytes || changes != tables {
		t.Errorf("%d changes in %d parts", changes, parts)
	}
}
