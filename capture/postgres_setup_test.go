package capture

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// as is the office with another user.
func (o *postgresOffice) as(user, password string) PostgresConfig {
	c := o.PostgresConfig
	c.DSN = dsn(o.t, strings.Replace(o.DSN.URL(), o.DSN.User+"@", user+":"+password+"@", 1))
	return c
}

// An administrator's set-up, and a user that may only do the rest.
func TestPostgresSetupByAnAdministrator(t *testing.T) {
	o := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	user := "u_" + unique()
	o.exec(`CREATE ROLE ` + user + ` LOGIN PASSWORD 'x'`)
	t.Cleanup(func() {
		o.exec(`DROP OWNED BY `+user, `DROP ROLE `+user)
	})
	c := o.as(user, "x")

	plan, err := c.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Prepare(t.Context(), 1, "")
	wantRefused(t, err, fmt.Sprintf(`ALTER ROLE "%s" REPLICATION`, user))
	missing := 0
	for _, f := range CheckPostgres(t.Context(), c) {
		if f.Severity == schema.Failure && slices.Contains(plan, f.Fix) {
			missing++
		}
	}
	if missing != len(plan) {
		t.Errorf("doctor names %d of the %d missing statements", missing, len(plan))
	}

	o.exec(plan...)
	if plan, err = c.Plan(t.Context()); err != nil || len(plan) > 0 {
		t.Errorf("after the set-up: %v, %v", plan, err)
	}
	for _, f := range CheckPostgres(t.Context(), c) {
		if f.Severity == schema.Failure {
			t.Errorf("after the set-up: %+v", f)
		}
	}
	o.PostgresConfig = c
	o.exec(`CREATE TABLE not_ours (id int PRIMARY KEY)`)
	if err := o.open().Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := o.open() // a table that the user may not publish stops nothing
	o.exec(`INSERT INTO not_ours VALUES (1)`, `INSERT INTO t VALUES (1)`)
	if got := o.read(p, 1)[0].Changes[0].After[0].Text(); got != "1" {
		t.Errorf("read row %s", got)
	}
}

// What Setup made, Teardown takes away, and nothing else.
func TestPostgresTeardown(t *testing.T) {
	o := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	done, err := o.Setup(t.Context())
	if err != nil || len(done) == 0 {
		t.Fatalf("%v, %v", done, err)
	}
	if again, err := o.Setup(t.Context()); err != nil || len(again) > 0 {
		t.Errorf("a second set-up ran %v, %v", again, err)
	}
	neighbour := o.PostgresConfig
	neighbour.Office += "-2"
	if _, err := neighbour.Prepare(t.Context(), 1, ""); err != nil {
		t.Fatal(err)
	}
	_ = o.open().Close(t.Context())
	o.exec(`INSERT INTO cdc_sidecar.progress VALUES ('` + string(o.Office) + `', 'x', 1, 1)`)
	left := func() (n []int) {
		n = make([]int, 4)
		o.scan(`SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()), (SELECT count(*) FROM pg_publication),
			(SELECT count(*) FROM pg_namespace WHERE nspname = 'cdc_sidecar'), (SELECT count(*) FROM t)`, &n[0], &n[1], &n[2], &n[3])
		return n
	}
	if diff := cmp.Diff([]int{2, 2, 1, 0}, left()); diff != "" {
		t.Fatalf("before (-want +got):\n%s", diff)
	}
	if err := o.Teardown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{1, 1, 1, 0}, left()); diff != "" {
		t.Errorf("slots, publications, our schema, tables after the first of two (-want +got):\n%s", diff)
	}
	if err := neighbour.Teardown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := neighbour.Teardown(t.Context()); err != nil {
		t.Errorf("a second teardown: %v", err)
	}
	if diff := cmp.Diff([]int{0, 0, 0, 0}, left()); diff != "" {
		t.Errorf("after the last (-want +got):\n%s", diff)
	}
}

// What waiting does not mend says what does.
func TestPostgresRefusals(t *testing.T) {
	set := servers.ForTest(t, servers.Spec{Postgres: 1, PostgresSettings: []string{"fsync=off", "wal_level=replica", "max_replication_slots=1"}})
	o := onPostgres(t, set.Postgres[0], `CREATE TABLE t (id int PRIMARY KEY)`)
	_, err := o.Prepare(t.Context(), 1, "")
	wantRefused(t, err, "wal_level is replica", "ALTER SYSTEM SET wal_level = 'logical'", "restart")
	if findings := CheckPostgres(t.Context(), o.PostgresConfig); !slices.ContainsFunc(findings, func(f schema.Finding) bool {
		return f.Severity == schema.Failure && strings.Contains(f.Message, "wal_level is replica") && f.Fix == walLevelRemedy
	}) {
		t.Errorf("doctor does not name wal_level: %+v", findings)
	}

	o.exec(`CREATE ROLE writer LOGIN PASSWORD 'right'`)
	_, err = o.as("writer", "wrong").Prepare(t.Context(), 1, "")
	wantRefused(t, err, "password authentication failed", "database:")
	if strings.Contains(err.Error(), "wrong") {
		t.Errorf("the error has the password: %v", err)
	}
	other := o.PostgresConfig
	other.DSN = dsn(t, strings.Replace(o.DSN.URL(), o.DSN.Database, "no_such_database", 1))
	_, _, err = other.Hold(t.Context())
	wantRefused(t, err, "no_such_database", "create the database")
	down := o.PostgresConfig
	down.DSN = dsn(t, "postgres://postgres@127.0.0.1:1/x?sslmode=disable")
	if _, err = down.Prepare(t.Context(), 1, ""); err == nil {
		t.Error("connected to nothing")
	}
	if findings := CheckPostgres(t.Context(), down); len(findings) != 1 || findings[0].Severity != schema.Failure {
		t.Errorf("doctor on a server that is down: %+v", findings)
	}
}

func TestPostgresServerSettings(t *testing.T) {
	set := servers.ForTest(t, servers.Spec{Postgres: 1, PostgresSettings: []string{"fsync=off", "max_replication_slots=1"}})
	o := onPostgres(t, set.Postgres[0], `SELECT pg_create_physical_replication_slot('taken')`)
	t.Cleanup(func() { o.exec(`SELECT pg_drop_replication_slot('taken')`) })
	_, err := o.Prepare(t.Context(), 1, "")
	wantRefused(t, err, "all replication slots are in use", "max_replication_slots")
	found := false
	for _, f := range CheckPostgres(t.Context(), o.PostgresConfig) {
		found = found || f.Severity == schema.Failure && strings.Contains(f.Fix, "max_replication_slots")
	}
	if !found {
		t.Error("doctor does not see it")
	}

	o.exec(`ALTER SYSTEM SET synchronous_standby_names = '*'`, `SELECT pg_reload_conf()`)
	// Commits would wait for ever, the removal of the test's database among them.
	t.Cleanup(func() { o.exec(`ALTER SYSTEM RESET synchronous_standby_names`, `SELECT pg_reload_conf()`) })
	until(t, "the setting to be read", func() bool {
		_, err = o.Prepare(t.Context(), 1, "")
		return err != nil && strings.Contains(err.Error(), "synchronous_standby_names")
	})
	wantRefused(t, err, "commits would wait", "ALTER SYSTEM SET synchronous_standby_names")
}

// Without an encoding nobody knows what the text means.
func TestPostgresWrongEncoding(t *testing.T) {
	o := newPostgresOffice(t)
	name := "ascii_" + unique()
	o.exec(`CREATE DATABASE ` + name + ` ENCODING 'SQL_ASCII' TEMPLATE template0`)
	t.Cleanup(func() { o.exec(`DROP DATABASE ` + name + ` WITH (FORCE)`) })
	c := o.PostgresConfig
	c.DSN = dsn(t, strings.Replace(o.DSN.URL(), o.DSN.Database, name, 1))
	_, err := c.Prepare(t.Context(), 1, "")
	wantRefused(t, err, "SQL_ASCII", "UTF8")
}

// A server that came back on another timeline is read on where its history has all that the journal has, and not otherwise.
func TestPostgresTimelines(t *testing.T) {
	set := servers.ForTest(t, servers.Spec{Postgres: 1, PostgresSettings: []string{"fsync=off", "restart_after_crash=off"}})
	server := set.Postgres[0]
	o := onPostgres(t, server, `CREATE TABLE t (id int PRIMARY KEY)`)
	p := o.open()
	o.exec(`INSERT INTO t VALUES (1)`)
	o.start = o.read(p, 1)[0].Source
	p.Confirm(o.start)
	_ = p.Close(t.Context())
	var data string
	o.scan(`SHOW data_directory`, &data)
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Archive recovery that finds nothing to fetch ends on a new timeline, as a promotion does.
	writeConf(t, filepath.Join(data, "recovery.signal"), "")
	writeConf(t, filepath.Join(data, "postgresql.auto.conf"), "restore_command = 'false'\nrecovery_target_timeline = 'current'\n")
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.conn = connectPostgres(t, o.DSN.URL())
	until(t, "the recovery to end", func() (ended bool) { o.scan(`SELECT NOT pg_is_in_recovery()`, &ended); return ended })
	old, err := parsePostgresPosition(o.start)
	if err != nil {
		t.Fatal(err)
	}
	o.exec(`INSERT INTO t VALUES (2)`)
	var end string
	o.scan(`SELECT pg_current_wal_lsn()::text`, &end)
	beyond := old
	if beyond.lsn, err = pglogrepl.ParseLSN(end); err != nil {
		t.Fatal(err)
	}
	_, err = o.Prepare(t.Context(), o.epoch, beyond.String())
	wantBroken(t, err, "does not contain the journal's last place")
	next := o.read(o.open(), 1)[0]
	now, err := parsePostgresPosition(next.Source)
	if err != nil || now.timeline == old.timeline || next.Changes[0].After[0].Text() != "2" {
		t.Errorf("read on at %s (from %s), %v: %v", next.Source, old, next.Changes[0].After, err)
	}
	// A standby that was promoted without the slot, and one that had not got all.
	promoted := onPostgres(t, server, `CREATE TABLE t (id int PRIMARY KEY)`)
	w := promoted.traveller(schema.Branch)
	w.lives(1)
	w.start = old.String()
	promoted.exec(`SELECT pg_drop_replication_slot('` + promoted.slot() + `')`)
	w.heals(schema.LostLog)
	w.start = beyond.String()
	promoted.exec(`DELETE FROM t`)
	w.heals(schema.Restored)
}

// writeConf writes a file that the server's own user can read.
func writeConf(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
}
