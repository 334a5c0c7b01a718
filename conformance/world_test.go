package conformance

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"cdc-sidecar/apply"
	"cdc-sidecar/capture"
	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// shared are the servers: what the environment names, or this machine's own.
var shared = servers.Shared{Spec: servers.Spec{Postgres: 1, MariaDB: 1, PostgresSettings: []string{"fsync=off"}}}

func TestMain(m *testing.M) { goleak.VerifyTestMain(shared.Main(m)) }

// office is a database of its own with a connection that writes and reads as an application does.
type office struct {
	testing.TB
	engine  schema.Engine
	version string // 15.18
	dsn     schema.DSN
	name    schema.Office
	conn    connection
}

// connection is an application's session. Values come as the server's own text, in the settings under which catalog.Reader reads.
type connection interface {
	exec(ctx context.Context, statement string) error
	query(ctx context.Context, query string) ([][][]byte, error)
}

// engines are the servers to send values between, by their engine.
func engines(t *testing.T) map[schema.Engine]servers.Database {
	t.Helper()
	set := shared.Set(t)
	all := map[schema.Engine]servers.Database{schema.Postgres: set.Postgres[0]}
	probe := openMySQLOffice(t, set.MariaDB[0])
	all[probe.engine] = set.MariaDB[0]
	return all
}

func newOffice(t testing.TB, server servers.Database, engine schema.Engine) *office {
	t.Helper()
	if engine == schema.Postgres {
		return openPostgresOffice(t, server)
	}
	return openMySQLOffice(t, server)
}

func newName() schema.Office { return schema.Office("o-" + strings.ToLower(rand.Text()[:10])) }

var versionDigits = regexp.MustCompile(`[0-9]+\.[0-9]+`)

func (o *office) exec(statements ...string) {
	o.Helper()
	for _, s := range statements {
		if err := o.conn.exec(context.WithoutCancel(o.Context()), s); err != nil {
			o.Fatalf("%s: %.2000s: %v", o.engine, s, err)
		}
	}
}

func (o *office) query(query string) [][][]byte {
	o.Helper()
	rows, err := o.conn.query(o.Context(), query)
	if err != nil {
		o.Fatalf("%s: %.2000s: %v", o.engine, query, err)
	}
	return rows
}

func (o *office) dsnOf(url string) schema.DSN {
	o.Helper()
	d, err := schema.ParseDSN(url)
	if err != nil {
		o.Fatal(err)
	}
	return d
}

// applier is an Applier into the office, with our tables.
func (o *office) applier() *apply.Applier {
	target, own := apply.MySQL(o.dsn), catalog.OwnMySQLTables
	if o.engine == schema.Postgres {
		target, own = apply.Postgres(o.dsn), catalog.OwnPostgresTables
	}
	o.exec(own...)
	a := apply.New(target, apply.Options{Office: o.name, Role: schema.Branch})
	o.Cleanup(a.Close)
	if err := a.Begin(o.Context(), source, schema.Position{Epoch: epoch}); err != nil {
		o.Fatal(err)
	}
	return a
}

// capture reads the office's log from now on.
func (o *office) capture() capture.Source {
	var start string
	var src capture.Source
	var err error
	if o.engine == schema.Postgres {
		config := capture.PostgresConfig{DSN: o.dsn, Office: o.name, Role: schema.Head}
		if start, err = config.Prepare(o.Context(), epoch, ""); err == nil {
			src, err = capture.OpenPostgres(o.Context(), config, start)
		}
	} else {
		config := capture.MySQLConfig{DSN: o.dsn, Office: o.name, Role: schema.Head, Send: func(n schema.TableName) bool { return n.Schema == "" }}
		if start, err = config.Prepare(o.Context(), epoch, ""); err == nil {
			src, err = capture.OpenMySQL(o.Context(), config, start)
		}
	}
	if err != nil {
		o.Fatal(err)
	}
	o.Cleanup(func() { _ = src.Close(context.Background()) })
	return src
}

// tables are the definitions of the office's tables, by name.
func (o *office) tables() map[string]*catalog.Table {
	o.Helper()
	var all []catalog.Table
	var err error
	switch c := o.conn.(type) {
	case postgresConnection:
		all, err = catalog.ReadPostgres(o.Context(), c.conn, "public")
	case mysqlConnection:
		all, err = catalog.ReadMySQL(o.Context(), c.conn, o.dsn.Database)
	}
	if err != nil {
		o.Fatal(err)
	}
	tables := map[string]*catalog.Table{}
	for i := range all {
		if all[i].Schema == "" {
			tables[all[i].Name] = &all[i]
		}
	}
	return tables
}

// has reports whether the server is one of those that have the file's type.
func (o *office) has(f *typeFile) bool {
	for _, need := range f.engines {
		if need.engine == o.engine && atLeast(o.version, need.version) {
			return true
		}
	}
	return false
}

func atLeast(have, need string) bool {
	number := func(text string) float64 {
		whole, fraction, _ := strings.Cut(text, ".")
		w, _ := strconv.Atoi(whole)
		f, _ := strconv.Atoi(fraction)
		return float64(w) + float64(f)/1000
	}
	return need == "" || number(have) >= number(need)
}

type postgresConnection struct{ conn *pgx.Conn }

func openPostgresOffice(t testing.TB, server servers.Database) *office {
	t.Helper()
	o := &office{TB: t, engine: schema.Postgres, name: newName()}
	o.dsn = o.dsnOf(servers.NewDatabase(t, server))
	config, err := pgx.ParseConfig(o.dsn.URL())
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range catalog.PostgresSession() {
		config.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	o.conn = postgresConnection{conn}
	o.version = versionDigits.FindString(conn.PgConn().ParameterStatus("server_version"))
	return o
}

func (c postgresConnection) exec(ctx context.Context, statement string) error {
	_, err := c.conn.PgConn().Exec(ctx, statement).ReadAll()
	return err
}

func (c postgresConnection) query(ctx context.Context, query string) ([][][]byte, error) {
	result := c.conn.PgConn().ExecParams(ctx, query, nil, nil, nil, nil).Read()
	return result.Rows, result.Err
}

// binary are a query's values as the types' own send functions give them.
func (c postgresConnection) binary(ctx context.Context, query string) ([][][]byte, error) {
	result := c.conn.PgConn().ExecParams(ctx, query, nil, nil, nil, []int16{1}).Read()
	return result.Rows, result.Err
}

type mysqlConnection struct{ conn *sql.Conn }

func openMySQLOffice(t testing.TB, server servers.Database) *office {
	t.Helper()
	o := &office{TB: t, name: newName()}
	o.dsn = o.dsnOf(servers.NewDatabase(t, server))
	config := mysql.NewConfig()
	config.Net, config.Addr, config.User, config.Passwd, config.DBName = "tcp", o.dsn.Address(), o.dsn.User, o.dsn.Password, o.dsn.Database
	config.MultiStatements = true
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
	o.conn = mysqlConnection{conn}
	if o.engine, err = catalog.MySQLEngine(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	o.exec(catalog.MySQLSession, strictMode)
	o.version = versionDigits.FindString(string(o.query("SELECT VERSION()")[0][0]))
	return o
}

const (
	strictMode  = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,ALLOW_INVALID_DATES'"
	lenientMode = "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,ALLOW_INVALID_DATES'"
)

func (c mysqlConnection) exec(ctx context.Context, statement string) error {
	_, err := c.conn.ExecContext(ctx, statement)
	return err
}

func (c mysqlConnection) query(ctx context.Context, query string) ([][][]byte, error) {
	rows, err := c.conn.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var all [][][]byte
	for rows.Next() {
		values, into := make([][]byte, len(names)), make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		all = append(all, values)
	}
	return all, rows.Err()
}

func quoteName(engine schema.Engine, name string) string {
	if engine == schema.Postgres {
		return `"` + name + `"`
	}
	return "`" + name + "`"
}

func rowsByID(rows [][][]byte) map[string][][]byte {
	byID := map[string][][]byte{}
	for _, r := range rows {
		byID[string(r[0])] = r[1:]
	}
	return byID
}

func describeRow(values [][]byte) string {
	parts := make([]string, len(values))
	for i, v := range values {
		if parts[i] = "NULL"; v != nil {
			parts[i] = fmt.Sprintf("%.100q", v)
		}
	}
	return strings.Join(parts, " ")
}
