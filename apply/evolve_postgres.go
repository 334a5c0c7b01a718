package apply

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

func (s *postgresSession) ddl(ctx context.Context, office schema.Office) ([]ddlStep, error) {
	rows, err := s.conn.Query(ctx, ddlQuery+" WHERE office = $1 ORDER BY id", string(office)) //nolint:rowserrcheck // readDDL returns it
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	return readDDL(rows)
}

// piece is always none: Postgres takes everything back.
func (s *postgresSession) piece(context.Context, schema.Office, schema.Office) (int, error) {
	return 0, nil
}

func (s *postgresSession) describe(ctx context.Context, name schema.TableName) (*schema.Definition, error) {
	if _, _, err := s.run(ctx, nil, nil); err != nil { // what is queued
		return nil, err
	}
	return catalog.ReadPostgresDefinition(ctx, s.conn, s.definition.space, name)
}

var (
	postgresPatient   = fmt.Sprintf("SET LOCAL lock_timeout = '%dms'", ddlWait.Milliseconds())
	postgresImpatient = "SET LOCAL lock_timeout = '" + postgresManners["lock_timeout"] + "'"
)

func (s *postgresSession) define(ctx context.Context, _ string, statements []string) error {
	if _, _, err := s.run(ctx, nil, nil); err != nil { // what is queued
		return err
	}
	statements = append(append([]string{postgresPatient}, statements...), postgresImpatient)
	for _, text := range statements {
		if _, err := s.conn.Exec(ctx, text, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	// A statement that was prepared knows the types of its table's columns, and of its own results.
	clear(s.statements)
	s.definition.marks, s.definition.ours = nil, nil
	return s.conn.DeallocateAll(ctx)
}

// lasting: what is not about the connection, the server's state or somebody else's work.
func (s *postgresSession) lasting(err error) bool {
	var server *pgconn.PgError
	if !errors.As(err, &server) || len(server.Code) != 5 || s.judge(err).fault == busy {
		return false
	}
	switch server.Code[:2] {
	case "08", "25", "40", "53", "57", "58", "XX":
		return false
	}
	return true
}
