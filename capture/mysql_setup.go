package capture

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// mysqlSetup looks at one server, and changes what is ours on it.
type mysqlSetup struct {
	config MySQLConfig
	db     *sql.DB
	engine schema.Engine
}

func (c MySQLConfig) setup(ctx context.Context) (*mysqlSetup, error) {
	db, engine, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	return &mysqlSetup{config: c, db: db, engine: engine}, nil
}

func (s *mysqlSetup) close() { _ = s.db.Close() }

// Plan returns the statements that the server still lacks for this office: our tables, the user's right to read the binlog.
// It changes nothing.
func (c MySQLConfig) Plan(ctx context.Context) ([]string, error) {
	s, err := c.setup(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close()
	plan, err := s.plan(ctx)
	if err != nil {
		return nil, err
	}
	may, user, err := s.mayReplicate(ctx)
	if err != nil {
		return nil, err
	}
	if !may {
		plan = append(plan, replicationGrant(user))
	}
	return plan, nil
}

// Setup runs what Plan says, as far as its user may, and returns the statements.
func (c MySQLConfig) Setup(ctx context.Context) ([]string, error) {
	plan, err := c.Plan(ctx)
	if err != nil {
		return nil, err
	}
	s, err := c.setup(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close()
	return plan, s.execute(ctx, plan)
}

// Prepare makes the server ready for the journal of the given epoch, and returns the place where OpenMySQL begins: at, the
// journal's durable Source, after it is certain that the server's history has it; or, for a new journal (at is empty), the
// place where the binlog ends now. It may be called again after any interruption.
//
// Errors: *schema.RefusedError for what the server does not allow or is not set to, *schema.LostError when the binlog and
// the journal do not belong together any more. A loss that Lose has noted is none for a journal that is new and younger.
func (c MySQLConfig) Prepare(ctx context.Context, epoch uint64, at string) (string, error) {
	s, err := c.setup(ctx)
	if err != nil {
		return "", err
	}
	defer s.close()
	if err := s.settings(ctx); err != nil {
		return "", err
	}
	row, err := s.row(ctx)
	if err != nil {
		return "", err
	}
	if _, err := judge(c.Office, epoch, at, row); err != nil {
		return "", err
	}
	if at != "" {
		if err := s.verify(ctx, at); err != nil {
			return "", err
		}
	}
	plan, err := s.plan(ctx)
	if err != nil {
		return "", err
	}
	if err := s.execute(ctx, plan); err != nil {
		return "", err
	}
	s.warn(ctx)
	if at != "" {
		return at, nil
	}
	return s.start(ctx, epoch, beganAs(row))
}

// start writes the journal's row and returns the place behind it. It is written anew even if it is there: an empty binlog
// has no places.
func (s *mysqlSetup) start(ctx context.Context, epoch uint64, began string) (string, error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return "", s.config.refused("write cdc_sidecar.journal", err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err = tx.ExecContext(ctx, "DELETE FROM cdc_sidecar.journal WHERE office = ?", string(s.config.Office)); err == nil {
		_, err = tx.ExecContext(ctx, "INSERT INTO cdc_sidecar.journal (office, epoch, began) VALUES (?, ?, ?)", string(s.config.Office), epoch, began)
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return "", s.config.refused("write cdc_sidecar.journal", err)
	}
	return s.seed(ctx)
}

// end is the place behind everything that the server has committed.
func (s *mysqlSetup) end(ctx context.Context) (string, error) {
	position, err := s.place(ctx)
	if err != nil {
		return "", err
	}
	if position.String() == "" {
		return "", errors.New("the binlog has no place after a write: is it switched off for the user (sql_log_bin)?")
	}
	return position.String(), nil
}

// verify makes sure that the server's history has the place at. Whether the binlog still reaches back to it shows when it
// is read.
func (s *mysqlSetup) verify(ctx context.Context, at string) error {
	position, err := parseMySQLPosition(s.engine, at)
	if err != nil {
		return &schema.BrokenError{
			What: "the journal's place in the database's log is none of this server's kind", Cause: err,
			Remedy: "is database: another server than before? " + rejoinRemedy,
		}
	}
	lacks := &schema.LostError{ // of a RESET nothing but the binlog is lost; but from here it looks like a backup
		Kind: schema.Restored,
		What: fmt.Sprintf("the server's history does not have the transactions that the journal has (%s): it was restored, reset, or is another server", position),
	}
	if s.engine == schema.MariaDB {
		var text string
		if err := s.db.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_binlog_pos").Scan(&text); err != nil {
			return s.config.refused("read gtid_binlog_pos", err)
		}
		server, err := parseMySQLPosition(s.engine, text)
		if err != nil {
			return err
		}
		if !server.reached(position) {
			return lacks
		}
		return nil
	}
	var has, reaches bool
	err = s.db.QueryRowContext(ctx, "SELECT GTID_SUBSET(?, @@GLOBAL.gtid_executed), GTID_SUBSET(@@GLOBAL.gtid_purged, ?)", at, at).Scan(&has, &reaches)
	switch {
	case err != nil:
		return s.config.refused("read gtid_executed", err)
	case !has:
		return lacks
	case !reaches:
		return lostBinlog(errors.New("it is purged beyond the journal's last place"))
	}
	return nil
}

// plan returns the statements that are missing.
func (s *mysqlSetup) plan(ctx context.Context) ([]string, error) {
	missing, err := s.missing(ctx)
	if err != nil || len(missing) == 0 {
		return nil, err
	}
	return catalog.OwnMySQLTables, nil
}

// missing are the names of those of our tables that are not there.
func (s *mysqlSetup) missing(ctx context.Context) (map[string]bool, error) {
	missing := map[string]bool{}
	for _, table := range schema.OwnTables {
		missing[table] = true
	}
	tables, err := s.table(ctx, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '"+schema.OwnSchema+"'")
	if err != nil {
		return nil, s.config.refused("look for our tables", err)
	}
	for _, t := range tables {
		delete(missing, t[0])
	}
	return missing, nil
}

// table reads what a statement gives, all of it as text: the columns of SHOW differ from version to version.
func (s *mysqlSetup) table(ctx context.Context, query string) ([][]string, error) {
	rows, err := s.db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var all [][]string
	for rows.Next() {
		raw, into := make([]sql.RawBytes, len(columns)), make([]any, len(columns))
		for i := range raw {
			into[i] = &raw[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		row := make([]string, len(columns))
		for i := range raw {
			row[i] = string(raw[i])
		}
		all = append(all, row)
	}
	return all, rows.Err()
}

func (s *mysqlSetup) execute(ctx context.Context, statements []string) error {
	for _, statement := range statements {
		if _, err := s.db.ExecContext(ctx, statement); err != nil {
			first, _, _ := strings.Cut(statement, "\n")
			return s.config.refused("set up the database: "+first, err)
		}
	}
	return nil
}

// Teardown removes everything of this office from the server: our rows, and our tables when no other office's rows are left
// in them. What was not read from the binlog yet is lost to the other offices.
func (c MySQLConfig) Teardown(ctx context.Context) error {
	s, err := c.setup(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	missing, err := s.missing(ctx)
	if err != nil {
		return err
	}
	for _, table := range schema.OwnTables {
		if missing[table] {
			continue
		}
		if _, err := s.db.ExecContext(ctx, "DELETE FROM cdc_sidecar."+table+" WHERE office = ?", string(c.Office)); err != nil {
			return c.refused("tear down cdc_sidecar."+table, err)
		}
	}
	if !missing[schema.JournalTable] {
		var others int
		if err := s.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM cdc_sidecar.journal").Scan(&others); err != nil || others > 0 {
			return err
		}
	}
	if _, err := s.db.ExecContext(ctx, "DROP DATABASE IF EXISTS cdc_sidecar"); err != nil {
		return c.refused("drop database cdc_sidecar", err)
	}
	return nil
}

// TeardownSQL are the statements of Teardown, for an administrator.
func (c MySQLConfig) TeardownSQL() []string {
	var statements []string
	for _, table := range schema.OwnTables {
		statements = append(statements, fmt.Sprintf("DELETE FROM cdc_sidecar.%s WHERE office = '%s'", table, c.Office))
	}
	return append(statements, "DROP DATABASE cdc_sidecar -- unless cdc_sidecar.journal has rows of other offices")
}
