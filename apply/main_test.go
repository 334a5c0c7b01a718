package apply

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

var shared = servers.Shared{Spec: servers.Spec{Postgres: 1, MariaDB: 1, PostgresSettings: []string{"fsync=off"}}}

func TestMain(m *testing.M) {
	if servers.Oracle() { // MySQL has neither
		mariadbTypes = slices.DeleteFunc(mariadbTypes, func(t string) bool { return t == "uuid" || t == "inet6" })
		nasty[schema.MariaDB] = slices.DeleteFunc(nasty[schema.MariaDB], func(k nastyKey) bool { return strings.Contains(k.definition, "uuid") })
	}
	code := shared.Main(m).Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// world is an empty database of one engine with our own tables in it, and an Applier for it.
type world struct {
	testing.TB
	engine  schema.Engine
	dsn     schema.DSN
	target  Target
	db      database
	applier *Applier
	office  schema.Office
}

const head = schema.Office("head")

// epoch is the sender's in all tests.
const epoch = 7

// each runs a test against both targets, beside each other: what an Applier guarantees, it guarantees everywhere.
func each(t *testing.T, role schema.Role, test func(w *world)) {
	var both sync.WaitGroup
	both.Go(func() { t.Run("postgres", func(t *testing.T) { test(postgresWorld(t, role)) }) })
	both.Go(func() { t.Run("mariadb", func(t *testing.T) { test(mysqlWorld(t, role)) }) })
	both.Wait()
}

// everyDay is what part of rapid's checks a test makes that asks a server at each of them; FULL=1 makes all.
const everyDay = 3

// asksServers leaves most of rapid's checks to the full sizes.
func asksServers(t *testing.T) {
	t.Helper()
	if os.Getenv("CDC_FULL") != "" {
		return
	}
	checks := flag.Lookup("rapid.checks").Value
	all := checks.String()
	n, err := strconv.Atoi(all)
	if err == nil {
		err = checks.Set(strconv.Itoa(max(n/everyDay, 1)))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = checks.Set(all) })
}

func postgresWorld(t testing.TB, role schema.Role) *world {
	w := newWorld(t, schema.Postgres, servers.NewDatabase(t, shared.Set(t).Postgres[0]), openPostgres)
	w.target = Postgres(w.dsn)
	w.exec(catalog.OwnPostgresTables...)
	return w.ready(role)
}

func mysqlWorld(t testing.TB, role schema.Role) *world {
	w := newWorld(t, schema.MariaDB, servers.NewDatabase(t, shared.Set(t).MariaDB[0]), openMySQL)
	w.target = MySQL(w.dsn)
	w.exec(catalog.OwnMySQLTables...)
	return w.ready(role)
}

// offices gives each world an office of its own: MySQL's tables of ours are shared by all databases of the server.
var offices atomic.Int64

func newWorld(t testing.TB, engine schema.Engine, url string, open func(testing.TB, schema.DSN) database) *world {
	t.Helper()
	dsn, err := schema.ParseDSN(url)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, engine: engine, dsn: dsn, db: open(t, dsn), office: schema.Office(fmt.Sprintf("o%d", offices.Add(1)))}
	t.Cleanup(func() {
		if err := w.db.close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// database is the application's connection.
type database interface {
	exec(ctx context.Context, statement string) error
	query(ctx context.Context, query string) ([][]sql.NullString, error)
	close() error
}

type postgresDatabase struct{ conn *pgx.Conn }

func openPostgres(t testing.TB, dsn schema.DSN) database {
	t.Helper()
	config, err := pgx.ParseConfig(dsn.URL())
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	config.RuntimeParams["timezone"] = "UTC"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return postgresDatabase{conn}
}

func (d postgresDatabase) exec(ctx context.Context, statement string) error {
	_, err := d.conn.Exec(ctx, statement)
	return err
}

func (d postgresDatabase) query(ctx context.Context, query string) (lines [][]sql.NullString, err error) {
	rows, err := d.conn.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var line []sql.NullString
		for _, v := range rows.RawValues() {
			line = append(line, sql.NullString{String: string(v), Valid: v != nil})
		}
		lines = append(lines, line)
	}
	return lines, rows.Err()
}

func (d postgresDatabase) close() error { return d.conn.Close(context.Background()) }

type mysqlDatabase struct {
	db   *sql.DB
	conn *sql.Conn
}

func openMySQL(t testing.TB, dsn schema.DSN) database {
	t.Helper()
	connector, err := mysql.NewConnector(mysqlTarget{dsn}.config())
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := mysqlDatabase{db, conn}
	if err := d.exec(t.Context(), "SET time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES', NAMES utf8mb4"); err != nil {
		t.Fatal(err)
	}
	return d
}

// sequence is MariaDB's table of whole numbers; MySQL has to make one.
var sequence = regexp.MustCompile(`\bseq_([0-9]+)_to_([0-9]+)\b`)

func (d mysqlDatabase) exec(ctx context.Context, statement string) error {
	if servers.Oracle() && sequence.MatchString(statement) {
		if _, err := d.conn.ExecContext(ctx, "SET SESSION cte_max_recursion_depth = 1000000"); err != nil {
			return err
		}
		statement = sequence.ReplaceAllString(statement, "(WITH RECURSIVE s (seq) AS (SELECT $1 UNION ALL SELECT seq + 1 FROM s WHERE seq < $2) SELECT seq FROM s) numbers")
	}
	_, err := d.conn.ExecContext(ctx, statement)
	return err
}

func (d mysqlDatabase) query(ctx context.Context, query string) (lines [][]sql.NullString, err error) {
	rows, err := d.conn.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		line, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range line {
			into[i] = &line[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, rows.Err()
}

func (d mysqlDatabase) close() error { return errors.Join(d.conn.Close(), d.db.Close()) }

func (w *world) ready(role schema.Role) *world {
	w.applier = New(w.target, Options{Office: w.office, Role: role})
	w.Cleanup(w.applier.Close)
	w.begin(head)
	return w
}

func (w *world) begin(sender schema.Office) {
	w.Helper()
	if err := w.applier.Begin(w.Context(), sender, schema.Position{Epoch: epoch}); err != nil {
		w.Fatal(err)
	}
}

// pick is for what the engines write differently.
func (w *world) pick(postgres, mysql string) string {
	if w.engine == schema.Postgres {
		return postgres
	}
	return mysql
}

func (w *world) exec(statements ...string) {
	w.Helper()
	for _, s := range statements {
		if err := w.db.exec(w.Context(), s); err != nil {
			w.Fatalf("%s: %v", s, err)
		}
	}
}

// rows is a query's result as text, a line for each row.
func (w *world) rows(query string) string {
	w.Helper()
	rows, err := w.db.query(w.Context(), query)
	if err != nil {
		w.Fatalf("%s: %v", query, err)
	}
	lines := make([]string, len(rows))
	for i, row := range rows {
		line := make([]string, len(row))
		for j, v := range row {
			if line[j] = v.String; !v.Valid {
				line[j] = "NULL"
			}
		}
		lines[i] = strings.Join(line, " ")
	}
	return strings.Join(lines, "\n")
}

func (w *world) want(query, want string) {
	w.Helper()
	if got := w.rows(query); got != want {
		w.Errorf("%s:\n%s\nwant:\n%s", query, got, want)
	}
}

// at checks the progress of the head's stream, in the database and by the Applier.
func (w *world) at(seq uint64) {
	w.Helper()
	const sender = head
	got := w.rows(fmt.Sprintf("SELECT epoch, seq FROM cdc_sidecar.progress WHERE office = '%s' AND origin = '%s'", w.office, sender))
	if want := fmt.Sprintf("%d %d", epoch, seq); got != want {
		w.Errorf("progress of %s in the database is %q, want %q", sender, got, want)
	}
	pos, ok, err := w.applier.Progress(w.Context(), sender)
	if err != nil || !ok || pos.Seq != seq {
		w.Errorf("Progress(%s) = %s, %v, %v; want seq %d", sender, pos, ok, err, seq)
	}
}

func (w *world) apply(txs ...schema.Transaction) {
	w.Helper()
	if err := w.applier.Apply(w.Context(), head, txs); err != nil {
		w.Fatal(err)
	}
}

// rejects applies and wants a rejection at seq that names all of these.
func (w *world) rejects(seq uint64, txs []schema.Transaction, names ...string) {
	w.Helper()
	err := w.applier.Apply(w.Context(), head, txs)
	var rejected *schema.RejectedError
	if !errors.As(err, &rejected) {
		w.Fatalf("got %v, want a rejection", err)
	}
	if rejected.At != (schema.Position{Epoch: epoch, Seq: seq}) {
		w.Errorf("rejected at %s, want %d", rejected.At, seq)
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			w.Errorf("%q does not name %q", err, name)
		}
	}
}

var committed = time.Date(2026, 3, 4, 5, 6, 7, 890000, time.UTC)

// tx is a whole transaction of the head's stream, made by the office elsewhere.
func tx(seq uint64, changes ...schema.Change) schema.Transaction {
	at := schema.Position{Epoch: epoch, Seq: seq}
	return schema.Transaction{
		Origin: "elsewhere", OriginPos: at, Pos: at, Stamp: schema.Stamp{Millis: 1000 + int64(seq), Counter: 3}, Commit: committed,
		Changes: changes, Last: true,
	}
}

// part is part n of a transaction.
func part(seq uint64, n int, last bool, changes ...schema.Change) schema.Transaction {
	t := tx(seq, changes...)
	t.Part, t.Last = n, last
	return t
}

// gone is a value of row that the log left out.
const gone = "\x00unchanged"

// null is SQL's NULL in row.
const null = "\x00null"

func row(values ...string) schema.Row {
	r := make(schema.Row, len(values))
	for i, v := range values {
		switch v {
		case gone:
		case null:
			r[i] = schema.NullValue()
		default:
			r[i] = schema.Of(v)
		}
	}
	return r
}

func insert(t *schema.Table, values ...string) schema.Change {
	return schema.Change{Table: t, Op: schema.Insert, After: row(values...)}
}

func update(t *schema.Table, values ...string) schema.Change {
	return schema.Change{Table: t, Op: schema.Update, After: row(values...)}
}

func rekey(t *schema.Table, before schema.Row, values ...string) schema.Change {
	return schema.Change{Table: t, Op: schema.Update, Before: before, After: row(values...)}
}

func remove(t *schema.Table, key ...string) schema.Change {
	r := make(schema.Row, len(t.Columns))
	copy(r, row(key...))
	return schema.Change{Table: t, Op: schema.Delete, Before: r}
}

func define(name string, columns ...schema.Column) *schema.Table {
	return schema.NewTable(schema.Table{TableName: schema.TableName{Name: name}, Engine: schema.Postgres, Columns: columns, Key: []int{0}})
}

func integer(name string) schema.Column {
	return schema.Column{Name: name, Kind: schema.KindInt, Size: 32, Nullable: true, Native: "integer"}
}

func text(name string) schema.Column {
	return schema.Column{Name: name, Kind: schema.KindText, Nullable: true, Native: "text"}
}

// item is the table of most tests.
var item = define("item", integer("id"), text("name"), integer("stock"))

func (w *world) createItem() {
	w.exec(`CREATE TABLE item (id int PRIMARY KEY, name varchar(100), stock int)`)
}

const items = "SELECT id, name, stock FROM item ORDER BY id"
