package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

type mysqlInterleaver struct {
	config Config
	db     *sql.DB
}

func openMySQLInterleaver(ctx context.Context, c Config) (interleaver, error) {
	db, err := newOffice(c, nil).sql()
	if err != nil {
		return nil, err
	}
	if err := db.PingContext(ctx); err != nil {
		_ = db.Close()
		return nil, err
	}
	return &mysqlInterleaver{c, db}, nil
}

func (m *mysqlInterleaver) close() { _ = m.db.Close() }

// plan is one statement for the whole server: AUTO_INCREMENT has no settings of its own for a table.
func (m *mysqlInterleaver) plan(ctx context.Context, i interleaving) ([]string, error) {
	var now interleaving
	var server string
	err := m.db.QueryRowContext(ctx, "SELECT @@GLOBAL.auto_increment_increment, @@GLOBAL.auto_increment_offset, VERSION()").Scan(&now.every, &now.offset, &server)
	if err != nil {
		return nil, fmt.Errorf("read auto_increment_increment: %w", err)
	}
	if now == i {
		return nil, nil
	}
	if err := m.alone(ctx); err != nil {
		return nil, err
	}
	tables, err := catalog.ReadMySQL(ctx, m.db, m.config.Database.DefaultSchema())
	if err != nil {
		return nil, err
	}
	var refused []error
	for _, k := range generatedKeys(m.config, tables) {
		column := catalog.QuoteMySQL(k.column())
		var used int64
		err := m.db.QueryRowContext(ctx, fmt.Sprintf("SELECT COALESCE(MAX(%s), 0) FROM %s.%s", column, catalog.QuoteMySQL(k.table.OwnSchema), catalog.QuoteMySQL(k.table.Name))).Scan(&used)
		if err != nil {
			return nil, fmt.Errorf("read the greatest %s: %w", k, err)
		}
		refused = append(refused, i.fits("column "+k.String(), used, k.sequence.Max))
	}
	if err := errors.Join(refused...); err != nil {
		return nil, err
	}
	return []string{interleaveServer(i, server)}, nil
}

// alone refuses a server that other offices use as well: its numbers would be theirs, too.
func (m *mysqlInterleaver) alone(ctx context.Context) error {
	var others sql.NullString
	err := m.db.QueryRowContext(ctx, "SELECT GROUP_CONCAT(office ORDER BY office SEPARATOR ', ') FROM cdc_sidecar.journal WHERE office <> ?", string(m.config.Office)).Scan(&others)
	const noDatabase, noTable, deniedDatabase, deniedTable = 1049, 1146, 1044, 1142
	var no *mysql.MySQLError
	switch {
	case errors.As(err, &no) && slices.Contains([]uint16{noDatabase, noTable, deniedDatabase, deniedTable}, no.Number):
		return nil // nobody's sidecar has run here, as far as our user can see
	case err != nil:
		return fmt.Errorf("look for other offices on the server: %w", err)
	case others.String != "":
		return &schema.RefusedError{
			What:   fmt.Sprintf("AUTO_INCREMENT is interleaved for a whole server, and this one has other offices too: %s", others.String),
			Remedy: "move each office to a server of its own; or flow: send, receive or none for tables that both would insert into",
		}
	}
	return nil
}

// interleaveServer sets both variables in one statement: between two, other offices' numbers would be given out.
func interleaveServer(i interleaving, server string) string {
	note := "-- for the whole server, all of its databases; connections that are open keep their numbers: restart the applications\n"
	set := "PERSIST"
	if strings.Contains(server, "MariaDB") || strings.HasPrefix(server, "5.") {
		set = "GLOBAL"
		note += fmt.Sprintf("-- the server forgets it when it restarts, unless [mysqld] in my.cnf has: auto_increment_increment=%d and auto_increment_offset=%d\n", i.every, i.offset)
	}
	return fmt.Sprintf("%sSET %s auto_increment_offset = %d, %[2]s auto_increment_increment = %[4]d", note, set, i.offset, i.every)
}

func (m *mysqlInterleaver) execute(ctx context.Context, statements []string) error {
	for _, statement := range statements {
		if _, err := m.db.ExecContext(ctx, statement); err != nil {
			return &schema.RefusedError{
				What: "interleave AUTO_INCREMENT", Cause: err,
				Remedy: "run what the same command with --print-sql prints as an administrator of the server (privilege SYSTEM_VARIABLES_ADMIN, or SUPER)",
			}
		}
	}
	return nil
}
