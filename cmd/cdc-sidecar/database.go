package main

import (
	"context"
	"errors"

	"cdc-sidecar/apply"
	"cdc-sidecar/capture"
	"cdc-sidecar/schema"
)

// databaseTools is what setup and teardown do in the office's own database; capture's two configurations are that.
type databaseTools interface {
	// Plan is what Setup would do: the statements that the database lacks.
	Plan(ctx context.Context) ([]string, error)
	Setup(ctx context.Context) ([]string, error)
	Teardown(ctx context.Context) error
	// TeardownSQL are the statements of Teardown. It asks nobody.
	TeardownSQL() []string
	// Hold takes the office's lock; it fails with schema.ErrHeld while a sidecar of the office runs.
	Hold(ctx context.Context) (release func(), lost <-chan struct{}, err error)
}

func toolsFor(c Config) databaseTools {
	if c.Database.Scheme == "mysql" {
		return notYet{}
	}
	return postgresTools(c)
}

func postgresTools(c Config) capture.PostgresConfig {
	return capture.PostgresConfig{DSN: c.Database, Office: c.Office, Role: c.Role, Send: c.Sends}
}

// checkCapture asks whether changes can be read from the database, checkApply whether they can be written to it.
func checkCapture(ctx context.Context, c Config) []schema.Finding {
	if c.Database.Scheme == "mysql" {
		return []schema.Finding{{Check: "db.capture", Severity: schema.Failure, Message: errNotYet.Error()}}
	}
	return capture.CheckPostgres(ctx, postgresTools(c))
}

func checkApply(ctx context.Context, c Config) []schema.Finding {
	if c.Database.Scheme == "mysql" {
		return apply.CheckMySQL(ctx, c.Database, c.Receives)
	}
	return apply.CheckPostgres(ctx, c.Database, c.Receives)
}

// notYet stands in until MySQL and MariaDB can be captured.
type notYet struct{}

var errNotYet = errors.New("capture from MySQL and MariaDB is not built in yet")

func (notYet) Plan(context.Context) ([]string, error)  { return nil, errNotYet }
func (notYet) Setup(context.Context) ([]string, error) { return nil, errNotYet }
func (notYet) Teardown(context.Context) error          { return errNotYet }
func (notYet) TeardownSQL() []string                   { return nil }
func (notYet) Hold(context.Context) (func(), <-chan struct{}, error) {
	return nil, nil, errNotYet
}
