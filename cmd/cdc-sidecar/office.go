package main

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // the register's way to Postgres

	"cdc-sidecar/apply"
	"cdc-sidecar/capture"
	"cdc-sidecar/schema"
)

// office is the office's own database: what the two engines do in their own way, chosen once by the URL.
type office struct {
	name   schema.Office
	dsn    schema.DSN
	engine schema.Engine
	target apply.Target
	hurry  *capture.Hurry // of those who wait for marks in this database's log

	hold    func(context.Context) (release func(), lost <-chan struct{}, err error)
	prepare func(ctx context.Context, epoch uint64, at string) (start string, err error)
	belongs func(ctx context.Context, epoch uint64, at string) error
	lose    func(ctx context.Context, epoch uint64, lost *schema.LostError) error
	began   func(ctx context.Context) (string, error)
	open    func(ctx context.Context, start string, joining []string) (capture.Source, error)
}

func newOffice(c Config, log *slog.Logger) office {
	o := office{name: c.Office, dsn: c.Database, hurry: capture.NewHurry()}
	if c.Database.Scheme == "mysql" {
		cfg := mysqlConfig(c, log)
		cfg.Hurry = o.hurry
		o.engine, o.target = schema.MySQL, apply.MySQL(c.Database)
		o.hold, o.prepare, o.belongs, o.lose, o.began = cfg.Hold, cfg.Prepare, cfg.Belongs, cfg.Lose, cfg.Began
		o.open = func(ctx context.Context, start string, joining []string) (capture.Source, error) {
			cfg.Joining = joining
			return capture.OpenMySQL(ctx, cfg, start)
		}
		return o
	}
	cfg := postgresConfig(c, log)
	cfg.Hurry = o.hurry
	o.engine, o.target = schema.Postgres, apply.Postgres(c.Database)
	o.hold, o.prepare, o.belongs, o.lose, o.began = cfg.Hold, cfg.Prepare, cfg.Belongs, cfg.Lose, cfg.Began
	o.open = func(ctx context.Context, start string, joining []string) (capture.Source, error) {
		cfg.Joining = joining
		return capture.OpenPostgres(ctx, cfg, start)
	}
	return o
}

func postgresConfig(c Config, log *slog.Logger) capture.PostgresConfig {
	return capture.PostgresConfig{
		DSN: c.Database, Office: c.Office, Role: c.Role, Send: c.Sends, Forward: c.Forwards, Definitions: c.DDL.Publish, Log: log,
	}
}

func mysqlConfig(c Config, log *slog.Logger) capture.MySQLConfig {
	return capture.MySQLConfig{
		DSN: c.Database, Office: c.Office, Role: c.Role, Send: c.Sends, Forward: c.Forwards, Definitions: c.DDL.Publish, Log: log,
	}
}

// sqlTimeout bounds a connection attempt of the register.
const sqlTimeout = 10 * time.Second

// sql opens a plain connection for the register's few statements.
func (o office) sql() (*sql.DB, error) {
	if o.dsn.Scheme == "postgres" {
		db, err := sql.Open("pgx", o.dsn.URL())
		if err != nil {
			return nil, fmt.Errorf("open the database: %w", err)
		}
		return db, nil
	}
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.Passwd = "tcp", o.dsn.Address(), o.dsn.User, o.dsn.Password
	cfg.ClientFoundRows, cfg.Timeout = true, sqlTimeout
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	return sql.OpenDB(connector), nil
}
