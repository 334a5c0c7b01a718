package capture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// readToError runs a source until it ends by itself, and returns what came before.
func readToError(t *testing.T, src Source) ([]schema.Transaction, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), stuck)
	defer cancel()
	var all []schema.Transaction
	for {
		txs, err := src.Read(ctx)
		if err != nil {
			if ctx.Err() != nil {
				t.Fatalf("nothing stopped it; it gave %d transactions", len(all))
			}
			return all, err
		}
		all = append(all, txs...)
	}
}

// TestMySQLStops: what a captured table's log must not have, stops capture by a name, before anything of it goes out, and
// again at the same place when it is started again. The transaction in front goes out.
func TestMySQLStops(t *testing.T) {
	const table = "CREATE TABLE t (id int PRIMARY KEY, a varchar(20), b blob)"
	tests := []struct {
		name       string
		statements []string
		names      []string // that the error must have
	}{
		{"statement format", []string{"SET SESSION binlog_format = 'STATEMENT'", "INSERT INTO t VALUES (2, 'x', 'y')"}, []string{"statement-format DML", "INSERT INTO t", "binlog_format = 'ROW'"}},
		{"statement format from elsewhere", []string{"SET SESSION binlog_format = 'STATEMENT'", "SET @own = DATABASE()", "USE test_elsewhere", "SET @update = CONCAT('UPDATE ', @own, '.t SET a = 1')", "PREPARE p FROM @update", "EXECUTE p"}, []string{"statement-format DML", "UPDATE"}},
		{"minimal row image", []string{"SET SESSION binlog_row_image = 'MINIMAL'", "UPDATE t SET a = 'x' WHERE id = 1"}, []string{"table t", "binlog_row_image"}},
		{"noblob row image", []string{"SET SESSION binlog_row_image = 'NOBLOB'", "UPDATE t SET a = 'x' WHERE id = 1"}, []string{"table t", "binlog_row_image"}},
		{"XA", []string{"XA START 'one'", "INSERT INTO t VALUES (2, 'x', 'y')", "XA END 'one'", "XA PREPARE 'one'", "XA COMMIT 'one'"}, []string{"XA", "table t"}},
		{"XA prepared before", nil, []string{"XA", "whose preparation was not read"}},
		{"compressed column", []string{"CREATE TABLE z (id int PRIMARY KEY, a blob COMPRESSED, b int)", "INSERT INTO z VALUES (1, 'x', 2)"}, []string{"table z column a", "COMPRESSED"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "compressed column" {
				onlyMariaDB(t)
			}
			o := newMariaDBOffice(t, table, "CREATE DATABASE IF NOT EXISTS test_elsewhere")
			if test.name == "XA prepared before" {
				o.exec("XA START 'two'", "INSERT INTO t VALUES (2, 'x', 'y')", "XA END 'two'", "XA PREPARE 'two'")
				test.statements = []string{"XA COMMIT 'two'"}
			}
			src := o.open()
			if test.name != "XA prepared before" {
				o.exec("INSERT INTO t VALUES (1, 'a', 'b')")
			}
			o.exec(test.statements...)
			txs, err := readToError(t, src)
			checkStop(t, txs, err, test.names)
			for i := range txs {
				if txs[i].Source != "" {
					o.start = txs[i].Source
				}
			}
			again, err := readToError(t, o.open())
			checkStop(t, again, err, test.names)
			for i := range again {
				if !again[i].Silent() {
					t.Errorf("given out twice: %v", again[i])
				}
			}
		})
	}
}

func checkStop(t *testing.T, txs []schema.Transaction, err error, names []string) {
	t.Helper()
	var broken *schema.BrokenError
	if !errors.As(err, &broken) || broken.Remedy == "" {
		t.Fatalf("got %v, want a BrokenError with a remedy", err)
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not name %q: %v", name, err)
		}
	}
	for i := range txs {
		for _, c := range txs[i].Changes {
			if c.After[0].Text() != "1" || c.Op != schema.Insert {
				t.Errorf("given out: %s %s", c.Op, c.KeyString())
			}
		}
	}
}

// TestMySQLHarmless: the same things in databases and tables that are not captured stop nothing.
func TestMySQLHarmless(t *testing.T) {
	compressed := " COMPRESSED"
	if servers.Oracle() {
		compressed = ""
	}
	o := newMariaDBOffice(t, "CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE keyless (a int)",
		"DROP DATABASE IF EXISTS test_elsewhere", "CREATE DATABASE test_elsewhere", "CREATE TABLE test_elsewhere.e (id int PRIMARY KEY, a blob"+compressed+", b text)")
	src := o.open()
	own := o.DSN.Database
	o.exec("SET SESSION binlog_format = 'STATEMENT'", "USE test_elsewhere", "INSERT INTO e VALUES (1, 'x', 'y')",
		"INSERT INTO test_elsewhere.e SELECT 2, '"+own+"x', uuid()", "CREATE TEMPORARY TABLE tmp (a int)", "INSERT INTO tmp VALUES (1)", "DROP TEMPORARY TABLE tmp",
		"DELETE FROM mysql.time_zone_name WHERE name = 'no such'", "SET SESSION binlog_format = 'ROW'",
		"SET SESSION binlog_row_image = 'MINIMAL'", "UPDATE e SET b = 'z'", "SET SESSION binlog_row_image = 'FULL'",
		"XA START 'h'", "INSERT INTO e VALUES (3, 'x', 'y')", "XA END 'h'", "XA PREPARE 'h'", "XA COMMIT 'h'",
		"XA START 'i'", "INSERT INTO e VALUES (4, 'x', 'y')", "XA END 'i'", "XA PREPARE 'i'", "XA ROLLBACK 'i'",
		"USE `"+own+"`", "INSERT INTO keyless VALUES (1)", "UPDATE keyless SET a = 2",
		"CREATE TEMPORARY TABLE t2 (a int)", "INSERT INTO t2 VALUES (1)", "DROP TEMPORARY TABLE t2",
		"CREATE VIEW w AS SELECT * FROM t", "CREATE FUNCTION f() RETURNS int DETERMINISTIC RETURN 1", "DROP VIEW w", "ANALYZE TABLE t", "FLUSH TABLES",
		"BEGIN", "SAVEPOINT a", "INSERT INTO t VALUES (99)", "ROLLBACK TO a", "INSERT INTO t VALUES (1)", "COMMIT")
	collect(t, src, func(tx *schema.Transaction) bool {
		if len(tx.Changes) != 1 || tx.Changes[0].Table.Name != "t" || tx.Changes[0].After[0].Text() != "1" || tx.Origin != o.Office {
			t.Errorf("given out: %+v", tx)
		}
		return true
	})
}

// TestMySQLSettings: a server that cannot be captured is refused with the statement that mends it.
func TestMySQLSettings(t *testing.T) {
	set := servers.ForTest(t, servers.Spec{MariaDB: 1})
	o := onMySQL(t, set.MariaDB[0])
	for _, test := range []struct{ variable, bad, good string }{
		{"binlog_format", "MIXED", "ROW"}, {"binlog_row_image", "NOBLOB", "FULL"}, {"binlog_row_metadata", "MINIMAL", "FULL"},
	} {
		o.exec(fmt.Sprintf("SET GLOBAL %s = '%s'", test.variable, test.bad))
		_, err := o.Prepare(t.Context(), 1, "")
		var refused *schema.RefusedError
		if !errors.As(err, &refused) || !strings.Contains(refused.What, test.variable+" is "+test.bad) ||
			!strings.Contains(refused.Remedy, fmt.Sprintf("SET GLOBAL %s = '%s'", test.variable, test.good)) {
			t.Errorf("%s = %s: %v", test.variable, test.bad, err)
		}
		if found := findings(CheckMySQL(t.Context(), o.MySQLConfig), schema.Failure); len(found) != 1 || !strings.Contains(found[0].Fix, test.variable) {
			t.Errorf("%s = %s: doctor finds %+v", test.variable, test.bad, found)
		}
		o.exec(fmt.Sprintf("SET GLOBAL %s = '%s'", test.variable, test.good))
	}
	if found := findings(CheckMySQL(t.Context(), o.MySQLConfig), schema.Failure); len(found) != 0 {
		t.Errorf("doctor finds %+v", found)
	}
}

func TestMySQLNoBinlog(t *testing.T) {
	set := servers.ForTest(t, servers.Spec{MariaDB: 1, MariaDBOptions: []string{"--skip-log-bin"}})
	_, err := onMySQL(t, set.MariaDB[0]).Prepare(t.Context(), 1, "")
	var refused *schema.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.What, "log_bin is OFF") || !strings.Contains(refused.Remedy, "[mysqld]") {
		t.Errorf("got %v", err)
	}
}

func TestMySQLAccess(t *testing.T) {
	o := newMariaDBOffice(t, "CREATE TABLE t (id int PRIMARY KEY)")
	user := "u" + unique()
	o.exec(fmt.Sprintf("CREATE USER %s@'127.0.0.1' IDENTIFIED BY 'right'", user), fmt.Sprintf("GRANT ALL ON `%s`.* TO %s@'127.0.0.1'", o.DSN.Database, user))
	t.Cleanup(func() {
		_, _ = o.conn.ExecContext(context.Background(), fmt.Sprintf("DROP USER %s@'127.0.0.1'", user))
	})
	config := o.MySQLConfig
	config.DSN.User, config.DSN.Password = user, "wrong"
	_, err := config.Prepare(t.Context(), 1, "")
	refusal(t, err, "Access denied", "password")
	config.DSN.Password = "right"
	_, err = config.Prepare(t.Context(), 1, "")
	refusal(t, err, "cdc_sidecar", "GRANT")
	o.exec(fmt.Sprintf("GRANT ALL ON cdc_sidecar.* TO %s@'127.0.0.1'", user))
	start, err := config.Prepare(t.Context(), 1, "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = OpenMySQL(t.Context(), config, start)
	refusal(t, err, "may not read the binlog", "GRANT REPLICATION SLAVE")
	if found := findings(CheckMySQL(t.Context(), config), schema.Failure); len(found) != 1 || !strings.Contains(found[0].Fix, "GRANT REPLICATION SLAVE") {
		t.Errorf("doctor finds %+v", found)
	}
	o.exec(fmt.Sprintf("GRANT REPLICATION SLAVE ON *.* TO %s@'127.0.0.1'", user))
	src, err := OpenMySQL(t.Context(), config, start)
	if err != nil {
		t.Fatal(err)
	}
	o.exec("INSERT INTO t VALUES (1)")
	collect(t, src, func(*schema.Transaction) bool { return true })
	_ = src.Close(t.Context())
}

func refusal(t *testing.T, err error, names ...string) {
	t.Helper()
	var refused *schema.RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("got %v, want a RefusedError", err)
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not name %q: %v", name, err)
		}
	}
}

func findings(all []schema.Finding, severity schema.Severity) []schema.Finding {
	var some []schema.Finding
	for _, f := range all {
		if f.Severity == severity {
			some = append(some, f)
		}
	}
	return some
}
