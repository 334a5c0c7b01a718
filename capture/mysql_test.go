package capture

import (
	"context"
	"database/sql"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	driver "github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// mysqlOffice is a database of its own on a MariaDB or MySQL, with an office set up in it.
type mysqlOffice struct {
	MySQLConfig
	t     testing.TB
	conn  *sql.Conn // one session for all statements
	start string
	epoch uint64
}

func newMariaDBOffice(t testing.TB, ddl ...string) *mysqlOffice {
	t.Helper()
	return onMySQL(t, mariaDBServers.Set(t).MariaDB[0], ddl...)
}

func onMySQL(t testing.TB, server servers.Database, ddl ...string) *mysqlOffice {
	t.Helper()
	at, err := schema.ParseDSN(servers.NewDatabase(t, server))
	if err != nil {
		t.Fatal(err)
	}
	return newMySQLOffice(t, at, ddl...)
}

func newMySQLOffice(t testing.TB, at schema.DSN, ddl ...string) *mysqlOffice {
	t.Helper()
	o := &mysqlOffice{t: t, epoch: 1, MySQLConfig: MySQLConfig{
		DSN: at, Office: schema.Office("o-" + unique()), Role: schema.Head, Log: slog.New(slog.DiscardHandler),
		// The server is shared by the tests; each has a database of its own.
		Send: func(name schema.TableName) bool { return name.Schema == "" },
	}}
	o.conn = connectMySQL(t, at)
	o.exec(ddl...)
	return o
}

func connectMySQL(t testing.TB, at schema.DSN) *sql.Conn {
	t.Helper()
	config := driver.NewConfig()
	config.Net, config.Addr, config.User, config.Passwd, config.DBName = "tcp", at.Address(), at.User, at.Password, at.Database
	config.MultiStatements = true
	config.Params = map[string]string{"time_zone": "'+00:00'"}
	connector, err := driver.NewConnector(config)
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
	return conn
}

func (o *mysqlOffice) exec(statements ...string) {
	o.t.Helper()
	for _, s := range statements {
		if _, err := o.conn.ExecContext(o.t.Context(), s); err != nil {
			o.t.Fatalf("%s: %v", s, err)
		}
	}
}

func (o *mysqlOffice) scan(query string, into ...any) {
	o.t.Helper()
	if err := o.conn.QueryRowContext(o.t.Context(), query).Scan(into...); err != nil {
		o.t.Fatalf("%s: %v", query, err)
	}
}

// open prepares as often as it is called, and opens at the first place or where the journal stopped.
func (o *mysqlOffice) open() *MySQL {
	o.t.Helper()
	start, err := o.Prepare(o.t.Context(), o.epoch, o.start)
	if err != nil {
		o.t.Fatal(err)
	}
	o.start = start
	m, err := OpenMySQL(o.t.Context(), o.MySQLConfig, start)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = m.Close(context.Background()) })
	return m
}

type mysqlScenario struct{ *mysqlOffice }

func openMariaDBScenario(t *testing.T) scenarioOffice { return mysqlScenario{newMariaDBOffice(t)} }

func (o mysqlScenario) exec(t *testing.T, statement string) {
	t.Helper()
	o.mysqlOffice.exec(statement)
}

func (o mysqlScenario) source(*testing.T) Source { return o.open() }

// onlyMariaDB leaves a test of what MySQL lacks, or says otherwise, to MariaDB.
func onlyMariaDB(t *testing.T) {
	t.Helper()
	if servers.Oracle() {
		t.Skip("the server that was chosen is a MySQL")
	}
}

// resetBinlog is the statement that throws the binlog away.
func resetBinlog() string {
	if servers.Oracle() {
		return "RESET BINARY LOGS AND GTIDS"
	}
	return "RESET MASTER"
}

// oracle is a MySQL that the environment names; it cannot be installed everywhere as MariaDB can.
func oracle(t *testing.T) servers.Database {
	t.Helper()
	if servers.Oracle() {
		return mariaDBServers.Set(t).MariaDB[0]
	}
	url := os.Getenv("CDC_TEST_MYSQL9")
	if url == "" {
		t.Skip("CDC_TEST_MYSQL9 names no MySQL server")
	}
	return external{dsn(t, url)}
}

// external is a server that is not the tests' own.
type external struct{ schema.DSN }

func (e external) URL(database string) string {
	return "mysql://" + e.User + ":" + e.Password + "@" + e.Address() + "/" + database
}

func (e external) CreateDatabase(ctx context.Context, name string) error {
	return e.exec(ctx, "CREATE DATABASE `"+name+"`")
}

func (e external) DropDatabase(ctx context.Context, name string) error {
	return e.exec(ctx, "DROP DATABASE `"+name+"`")
}

func (e external) exec(ctx context.Context, statement string) error {
	db, err := sql.Open("mysql", e.User+":"+e.Password+"@tcp("+e.Address()+")/")
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, statement)
	return err
}

// TestScenariosOracle gives the scenarios to MySQL itself.
func TestScenariosOracle(t *testing.T) {
	server := oracle(t)
	files, err := filepath.Glob("../testdata/changes/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			s := readScenario(t, file)
			if strings.Contains(s.sql, " uuid") || strings.Contains(s.sql, " json") {
				t.Skip("MySQL has no uuid, and keeps no JSON as it was written")
			}
			got := s.run(t, "mariadb", mysqlScenario{onMySQL(t, server)})
			if diff := cmp.Diff(s.events, got); diff != "" {
				t.Errorf("%s (-file +mysql):\n%s", file, diff)
			}
		})
	}
}

// withoutHints is a source whose decoder knows only what the binlog says.
type withoutHints struct{ *MySQL }

func (s withoutHints) Read(ctx context.Context) ([]schema.Transaction, error) {
	s.ignoreCatalog = true
	return s.MySQL.Read(ctx)
}

func readHint(t *testing.T, src *MySQL, o *mysqlOffice, table string) (*catalog.Table, error) {
	t.Helper()
	return catalog.ReadMySQLTable(t.Context(), src.db, o.DSN.Database, table, o.DSN.Database)
}
