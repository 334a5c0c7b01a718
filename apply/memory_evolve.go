package apply

import (
	"context"
	"errors"

	"cdc-sidecar/schema"
)

// errNoDDL: a database in memory has the tables that it began with. Its Applier has no DDL, so that nothing here is asked for.
var errNoDDL = errors.New("a database in memory takes no schema changes")

func (s *memorySession) ddl(context.Context, schema.Office) ([]ddlStep, error) { return nil, errNoDDL }

func (s *memorySession) piece(context.Context, schema.Office, schema.Office) (int, error) {
	return 0, nil
}

func (s *memorySession) describe(context.Context, schema.TableName) (*schema.Definition, error) {
	return nil, errNoDDL
}

func (s *memorySession) define(context.Context, string, []string) error { return errNoDDL }

func (s *memorySession) lasting(err error) bool { return errors.Is(err, errNoDDL) }
