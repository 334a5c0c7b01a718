package capture

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// stuck is when a test gives up on something that should long have happened.
const stuck = 60 * time.Second

// postgresOffice is a database of its own, with an office set up in it.
type postgresOffice struct {
	PostgresConfig
	t     *testing.T
	conn  *pgx.Conn
	start string
	epoch uint64
}

func newPostgresOffice(t *testing.T, ddl ...string) *postgresOffice {
	t.Helper()
	return onPostgres(t, postgresServers.Set(t).Postgres[0], ddl...)
}

func onPostgres(t *testing.T, server *servers.Postgres, ddl ...string) *postgresOffice {
	t.Helper()
	o := &postgresOffice{t: t, epoch: 1, PostgresConfig: PostgresConfig{
		DSN: dsn(t, servers.NewDatabase(t, server)), Office: schema.Office("o-" + unique()), Role: schema.Head, Log: slog.New(slog.DiscardHandler),
	}}
	o.conn = connectPostgres(t, o.DSN.URL())
	o.exec(ddl...)
	return o
}

func connectPostgres(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func dsn(t *testing.T, url string) schema.DSN {
	t.Helper()
	d, err := schema.ParseDSN(url)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (o *postgresOffice) exec(statements ...string) {
	o.t.Helper()
	for _, s := range statements {
		// The simple protocol takes several statements at once, as scenarios have them.
		if _, err := o.conn.PgConn().Exec(o.t.Context(), s).ReadAll(); err != nil {
			o.t.Fatalf("%s: %v", s, err)
		}
	}
}

func (o *postgresOffice) scan(sql string, into ...any) {
	o.t.Helper()
	if err := o.conn.QueryRow(o.t.Context(), sql).Scan(into...); err != nil {
		o.t.Fatalf("%s: %v", sql, err)
	}
}

// open prepares as often as it is called, and opens at the first place or where the journal stopped.
func (o *postgresOffice) open() *Postgres {
	o.t.Helper()
	start, err := o.Prepare(o.t.Context(), o.epoch, o.start)
	if err != nil {
		o.t.Fatal(err)
	}
	o.start = start
	p, err := OpenPostgres(o.t.Context(), o.PostgresConfig, start)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}
