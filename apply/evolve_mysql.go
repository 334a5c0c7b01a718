package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

func (s *mysqlSession) ddl(ctx context.Context, office schema.Office) ([]ddlStep, error) {
	if err := s.send(ctx); err != nil {
		return nil, err
	}
	rows, err := s.conn.QueryContext(ctx, ddlQuery+" WHERE office = ? ORDER BY id", string(office)) //nolint:rowserrcheck // readDDL returns it
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	return readDDL(rows)
}

// send sends what is queued.
func (s *mysqlSession) send(ctx context.Context) error {
	if len(s.queued) == 0 {
		return nil
	}
	_, _, err := s.run(ctx, nil, nil)
	if err == nil && len(s.query) > 0 {
		_, err = s.flush(ctx, nil)
	}
	return err
}

func (s *mysqlSession) piece(ctx context.Context, office, origin schema.Office) (n int, err error) {
	err = s.conn.QueryRowContext(ctx, "SELECT part FROM "+mysqlProgress+" WHERE office = ? AND origin = ?", string(office), string(origin)).Scan(&n)
	return n, err
}

func (s *mysqlSession) describe(ctx context.Context, name schema.TableName) (*schema.Definition, error) {
	if err := s.send(ctx); err != nil {
		return nil, err
	}
	return catalog.ReadMySQLDefinition(ctx, s.conn, cmp.Or(name.Schema, s.definition.space), name.Name, s.definition.space)
}

var mysqlPatient = fmt.Sprintf("SET SESSION lock_wait_timeout = %d", int(ddlWait.Seconds()))

// define goes out without anything beside a statement: the log has it as it was sent.
func (s *mysqlSession) define(ctx context.Context, tag string, statements []string) error {
	if _, err := s.conn.ExecContext(ctx, mysqlPatient); err != nil {
		return err
	}
	for _, text := range statements {
		if _, err := s.conn.ExecContext(ctx, tagged(tag, text)); err != nil {
			return err
		}
	}
	_, err := s.conn.ExecContext(ctx, "SET SESSION lock_wait_timeout = 5")
	return err
}

// tagged puts a tag where the server's log keeps it; see schema.DDLTag.
func tagged(tag, statement string) string {
	if rest, ok := strings.CutPrefix(statement, "DROP TABLE "); ok {
		return "DROP TABLE " + tag + rest
	}
	return tag + statement
}

// lasting: what is not about the connection, the server's state or somebody else's work.
func (s *mysqlSession) lasting(err error) bool {
	var server *mysql.MySQLError
	if !errors.As(err, &server) || s.judge(err).fault == busy {
		return false
	}
	switch server.Number {
	case 1021, 1037, 1038, 1040, 1041, 1053, 1077, 1078, 1079, 1114, 1180, 1203, 1223, 1290, 1317, 1836, 1927, 3024, 1969, 4031:
		return false // disk, memory, connections, shutdown, read only, interrupted
	}
	return true
}
