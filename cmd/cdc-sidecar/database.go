package main

import (
	"context"

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
		return mysqlConfig(c, nil)
	}
	return postgresConfig(c, nil)
}

// checkCapture asks whether changes can be read from the database, checkApply whether they can be written to it.
func checkCapture(ctx context.Context, c Config) []schema.Finding {
	if c.Database.Scheme == "mysql" {
		return capture.CheckMySQL(ctx, mysqlConfig(c, nil))
	}
	return capture.CheckPostgres(ctx, postgresConfig(c, nil))
}

func checkApply(ctx context.Context, c Config) []schema.Finding {
	if c.Database.Scheme == "mysql" {
		return apply.CheckMySQL(ctx, c.Database, c.Receives)
	}
	return apply.CheckPostgres(ctx, c.Database, c.Receives)
}

// checkApplyDDL asks whether other offices' schema changes can be done there, where they are to be.
func checkApplyDDL(ctx context.Context, c Config) []schema.Finding {
	switch {
	case c.DDL.Apply == apply.ApplyNone:
		return nil
	case c.Database.Scheme == "mysql":
		return apply.CheckMySQLDDL(ctx, c.Database)
	}
	return apply.CheckPostgresDDL(ctx, c.Database, c.Receives)
}
