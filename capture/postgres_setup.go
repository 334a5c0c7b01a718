package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// Plan returns the statements that the database still lacks for this office: our tables, the publication, the user's right
// to replicate. It changes nothing. The slot is not among them: Prepare creates it, at the moment from which the journal
// is complete.
func (c PostgresConfig) Plan(ctx context.Context) ([]string, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	s := postgresSetup{config: c, conn: conn}
	plan, err := s.plan(ctx)
	if err != nil {
		return nil, err
	}
	var may bool
	var user string
	if err := conn.QueryRow(ctx, `SELECT rolname::text, rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user`).Scan(&user, &may); err != nil {
		return nil, c.refused("read the user's privileges", err)
	}
	triggers, err := s.planTriggers(ctx)
	if err != nil {
		return nil, err
	}
	plan = append(plan, triggers...)
	if !may {
		plan = append(plan, fmt.Sprintf("ALTER ROLE %s REPLICATION", quoted(user)))
	}
	return plan, nil
}

// Setup runs what Plan says, as far as its user may, and returns the statements. Event triggers that it may not make stay away.
func (c PostgresConfig) Setup(ctx context.Context) ([]string, error) {
	plan, err := c.Plan(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	s := postgresSetup{config: c, conn: conn}
	triggers, err := s.planTriggers(ctx)
	if err != nil {
		return nil, err
	}
	others := slices.DeleteFunc(slices.Clone(plan), func(statement string) bool { return slices.Contains(triggers, statement) })
	if err := s.execute(ctx, others); err != nil {
		return plan, err
	}
	if err := s.installTriggers(ctx); err != nil {
		return plan, err
	}
	return plan, s.reconcile(ctx, nil)
}

// Prepare makes the database ready for the journal of the given epoch, and returns the place where OpenPostgres begins: at,
// the journal's durable Source, after it is certain that the log still reaches it; or, for a new journal (at is empty), the
// place of a new slot. It may be called again after any interruption.
//
// Errors: *schema.RefusedError for what the server does not allow or is not set to, *schema.LostError when the log and the
// journal do not belong together any more, schema.ErrHeld when another process reads the slot. A loss that Lose has noted is
// none for a journal that is new and younger.
func (c PostgresConfig) Prepare(ctx context.Context, epoch uint64, at string) (string, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	s := postgresSetup{config: c, conn: conn}
	if err := s.settings(ctx); err != nil {
		return "", err
	}
	stream, _, err := c.connectReplication(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = stream.Close(context.WithoutCancel(ctx)) }()
	row, err := s.row(ctx)
	if err != nil {
		return "", err
	}
	how, err := judge(c.Office, epoch, at, row)
	if err != nil {
		return "", err
	}
	if at != "" {
		return at, s.resume(ctx, stream, at)
	}
	if err := s.shape(ctx, true); err != nil {
		return "", err
	}
	if how != goesOn {
		if err := s.begin(ctx, epoch, beganAs(row)); err != nil {
			return "", err
		}
	}
	return s.newSlot(ctx, stream)
}

// postgresSetup looks at one database, and changes what is ours in it.
type postgresSetup struct {
	config PostgresConfig
	conn   *pgx.Conn

	tables     []catalog.Table   // as plan last read them
	published  map[uint32]string // as inspect last left them
	impossible []string          // statements that inspect could not run, and said so
	triggers   bool              // the event triggers are there, as planTriggers last looked
	reconciled bool              // the table of definitions has been compared with the catalog
}

// settings checks what only an administrator can change.
func (s *postgresSetup) settings(ctx context.Context) error {
	var level, standbys, encoding string
	var recovery bool
	err := s.conn.QueryRow(ctx, `SELECT current_setting('wal_level'), current_setting('synchronous_standby_names'),
		current_setting('server_encoding'), pg_is_in_recovery()`).Scan(&level, &standbys, &encoding, &recovery)
	switch {
	case err != nil:
		return s.config.refused("read the server's settings", err)
	case recovery:
		return &schema.RefusedError{What: "the database server is a standby: nobody writes there", Remedy: "point database: at the primary"}
	case level != "logical":
		return &schema.RefusedError{What: fmt.Sprintf("wal_level is %s: the log does not have the rows", level), Remedy: walLevelRemedy}
	case encoding == "SQL_ASCII":
		return &schema.RefusedError{What: "the database's encoding is SQL_ASCII: nobody knows what its text means", Remedy: "move it to a database with ENCODING 'UTF8'"}
	case strings.Contains(standbys, "*") || strings.Contains(standbys, s.config.slot()):
		return &schema.RefusedError{
			What:   fmt.Sprintf("synchronous_standby_names is %q: it takes the sidecar for a standby, and commits would wait for it", standbys),
			Remedy: "name the standbys: ALTER SYSTEM SET synchronous_standby_names = '…'; SELECT pg_reload_conf()",
		}
	}
	return nil
}

// resume makes sure that the log can be read on from at.
func (s *postgresSetup) resume(ctx context.Context, stream *pgconn.PgConn, at string) error {
	place, err := parsePostgresPosition(at)
	if err != nil {
		return err
	}
	if err := s.verify(ctx, stream, place); err != nil {
		return err
	}
	return s.shape(ctx, false)
}

// shape makes our tables and the publication what they should be. Only a new journal may have a new publication: one that
// vanished under an old journal is a *schema.LostError.
func (s *postgresSetup) shape(ctx context.Context, fresh bool) error {
	plan, err := s.planTables(ctx)
	if err != nil {
		return err
	}
	publication, err := s.publication(ctx)
	if err != nil {
		return err
	}
	if fresh && !publication.exists {
		if plan, err = s.plan(ctx); err != nil {
			return err
		}
	}
	if err := s.execute(ctx, plan); err != nil {
		return err
	}
	if err := s.installTriggers(ctx); err != nil {
		return err
	}
	if err := s.inspect(ctx); err != nil {
		return err
	}
	if fresh || s.triggers {
		err = s.reconcile(ctx, nil)
	} else { // what the log has to say comes first: see blindDefiner
		err = s.firstLook(ctx)
	}
	if err != nil {
		return err
	}
	s.warn()
	return nil
}

// planLock bounds the wait for a lock on a table that is published: whoever holds one must not find us waiting in
// front of others for long.
const planLock = 10 * time.Second

func (s *postgresSetup) execute(ctx context.Context, statements []string) error {
	if len(statements) == 0 {
		return nil
	}
	if _, err := s.conn.Exec(ctx, fmt.Sprintf("SET lock_timeout = %d", planLock.Milliseconds())); err != nil {
		return s.config.refused("set lock_timeout", err)
	}
	for _, statement := range statements {
		if _, err := s.conn.Exec(ctx, statement); err != nil {
			first, _, _ := strings.Cut(statement, "\n")
			return s.config.refused("set up the database: "+first, err)
		}
	}
	return nil
}

// plan returns the statements that the database lacks.
func (s *postgresSetup) plan(ctx context.Context) ([]string, error) {
	tables, err := s.planTables(ctx)
	if err != nil {
		return nil, err
	}
	publication, err := s.planPublication(ctx)
	return append(tables, publication...), err
}

// planTables are the statements for the tables that are ours.
func (s *postgresSetup) planTables(ctx context.Context) ([]string, error) {
	var ours int
	err := s.conn.QueryRow(ctx, `SELECT count(to_regclass('cdc_sidecar.' || name)) FROM unnest($1::text[]) name`, schema.OwnTables).Scan(&ours)
	if err != nil {
		return nil, s.config.refused("look for our tables", err)
	}
	if ours == len(schema.OwnTables) {
		return nil, nil
	}
	var user string
	if err := s.conn.QueryRow(ctx, `SELECT current_user::text`).Scan(&user); err != nil {
		return nil, s.config.refused("read the user's name", err)
	}
	return append(slices.Clone(catalog.OwnPostgresTables), "GRANT USAGE ON SCHEMA cdc_sidecar TO "+quoted(user),
		"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA cdc_sidecar TO "+quoted(user),
		"GRANT USAGE ON ALL SEQUENCES IN SCHEMA cdc_sidecar TO "+quoted(user)), nil
}

// planPublication returns the statements for the publication.
func (s *postgresSetup) planPublication(ctx context.Context) ([]string, error) {
	now, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	return now.plan(s.config.slot(), s.wanted()), nil
}

// look reads the application's tables and the publication as of one moment: a table that came between two looks would be one that
// is published and not wanted.
func (s *postgresSetup) look(ctx context.Context) (p postgresPublication, err error) {
	tx, err := s.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return p, s.config.refused("read the catalog", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if s.tables, err = catalog.ReadPostgres(ctx, s.conn, s.config.DSN.DefaultSchema()); err != nil {
		return p, s.config.refused("read the catalog", err)
	}
	return s.publication(ctx)
}

// usable reports whether t can be published without harm: every row of it can be told by its key, in the log, too.
func usable(t *catalog.Table) bool { return len(t.Key) > 0 && t.KeyLogged && !t.Unlogged }

// wanted are the quoted names of the tables to publish.
func (s *postgresSetup) wanted() []string {
	var names []string
	for _, table := range schema.OwnTables {
		if schema.Published(table) {
			names = append(names, quoted(schema.OwnSchema, table))
		}
	}
	for i := range s.tables {
		if t := &s.tables[i]; s.config.sends(t.TableName) && usable(t) {
			names = append(names, quoted(t.OwnSchema, t.Name))
		}
	}
	return names
}

// warn names the tables that are to be sent and cannot be.
func (s *postgresSetup) warn() {
	for _, f := range s.unusable() {
		s.config.log().Warn(f.Message, "cause", f.Cause, "fix", f.Fix)
	}
}

// slotLimit bounds the creation of a slot, which waits for all transactions that are under way.
const slotLimit = time.Minute

// newSlot creates the slot, in place of a leftover of an earlier life or of an aborted set-up, and returns where it begins.
func (s *postgresSetup) newSlot(ctx context.Context, stream *pgconn.PgConn) (string, error) {
	position, err := identify(ctx, stream)
	if err != nil {
		return "", err
	}
	if err := s.dropSlot(ctx); err != nil {
		return "", err
	}
	if _, err := s.conn.Exec(ctx, fmt.Sprintf("SET statement_timeout = %d", slotLimit.Milliseconds())); err != nil {
		return "", s.config.refused("set statement_timeout", err)
	}
	var lsn string
	err = s.conn.QueryRow(ctx, `SELECT lsn::text FROM pg_create_logical_replication_slot($1, 'pgoutput')`, s.config.slot()).Scan(&lsn)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "57014" {
		return "", fmt.Errorf("create replication slot %s: transactions have been open for longer than %s: %s", s.config.slot(), slotLimit, s.blockers(ctx))
	}
	if err != nil {
		return "", s.config.refused("create replication slot "+s.config.slot(), err)
	}
	if position.lsn, err = pglogrepl.ParseLSN(lsn); err != nil {
		return "", fmt.Errorf("create replication slot %s: %w", s.config.slot(), err)
	}
	return position.String(), nil
}

// blockers names what a new slot waits for.
func (s *postgresSetup) blockers(ctx context.Context) string {
	var names []string
	err := s.conn.QueryRow(ctx, `SELECT array(
		SELECT format('pid %s of %s since %s', pid, usename, date_trunc('second', xact_start)) FROM pg_stat_activity
		WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
		UNION ALL SELECT format('prepared transaction %L of %s since %s', gid, owner, date_trunc('second', prepared)) FROM pg_prepared_xacts)`).Scan(&names)
	if err != nil || len(names) == 0 {
		return "see pg_stat_activity and pg_prepared_xacts"
	}
	return strings.Join(names, ", ")
}

// dropSlot drops the slot if there is one. One that somebody reads is theirs, and so is one of another database: slot names
// belong to the whole cluster, and another office of our name there would lose its changes without a word.
func (s *postgresSetup) dropSlot(ctx context.Context) error {
	slot, err := s.slot(ctx)
	switch {
	case err != nil || slot == nil:
		return err
	case slot.pid != 0:
		return s.held(slot.pid)
	case !slot.ours:
		return &schema.RefusedError{
			What:   fmt.Sprintf("replication slot %s belongs to another database of this cluster, or to another plugin", s.config.slot()),
			Remedy: fmt.Sprintf("give this office another name; or, if nobody needs that slot: SELECT pg_drop_replication_slot('%s')", s.config.slot()),
		}
	}
	if _, err := s.conn.Exec(ctx, `SELECT pg_drop_replication_slot($1)`, s.config.slot()); err != nil {
		return s.config.refused("drop replication slot "+s.config.slot(), err)
	}
	return nil
}

func (s *postgresSetup) held(pid int32) error {
	return fmt.Errorf("replication slot %s: %w: server process %d reads it", s.config.slot(), schema.ErrHeld, pid)
}

// Teardown removes everything of this office from the database: slot, publication, our rows, and our tables when no other
// office's rows are left in them. What the slot has not delivered yet is lost to the other offices.
func (c PostgresConfig) Teardown(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	s := postgresSetup{config: c, conn: conn}
	slot, err := s.slot(ctx)
	if err != nil {
		return err
	}
	if slot != nil && slot.ours { // a slot of our name that is not ours stays
		if err := s.dropSlot(ctx); err != nil {
			return err
		}
	}
	for _, statement := range c.TeardownSQL()[1:] {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return c.refused("tear down: "+statement, err)
		}
	}
	return nil
}

// TeardownSQL are the statements of Teardown, for an administrator.
func (c PostgresConfig) TeardownSQL() []string {
	office := "'" + string(c.Office) + "'" // its alphabet needs no escapes
	forget := func(table string) string {
		return fmt.Sprintf("DO $$ BEGIN IF to_regclass('cdc_sidecar.%[1]s') IS NOT NULL THEN DELETE FROM cdc_sidecar.%[1]s WHERE office = %[2]s; END IF; END $$", table, office)
	}
	statements := []string{
		fmt.Sprintf("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '%s' AND database = current_database()", c.slot()),
		"DROP PUBLICATION IF EXISTS " + quoted(c.slot()),
	}
	for _, table := range schema.OwnTables { // the journal's row last: it says whether anything is left
		statements = append(statements, forget(table))
	}
	return append(statements, `DO $$ BEGIN IF to_regclass('cdc_sidecar.journal') IS NOT NULL THEN
	IF NOT EXISTS (SELECT FROM cdc_sidecar.journal) THEN DROP SCHEMA cdc_sidecar CASCADE; END IF; END IF; END $$`)
}
