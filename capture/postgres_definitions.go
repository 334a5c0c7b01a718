package capture

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// planTriggers are the statements for the event triggers and their functions, as far as schema changes are to be captured and they
// are not there as this program makes them.
func (s *postgresSetup) planTriggers(ctx context.Context) ([]string, error) {
	if !s.config.Definitions {
		return nil, nil
	}
	var there, super, ours bool
	var user string
	err := s.conn.QueryRow(ctx, `
		SELECT (SELECT count(*) = $1 FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid JOIN pg_namespace n ON n.oid = p.pronamespace
				WHERE e.evtname = ANY($2) AND e.evtenabled = 'A' AND n.nspname = 'cdc_sidecar')
			AND coalesce((SELECT obj_description(p.oid, 'pg_proc') = $3 FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
				WHERE n.nspname = 'cdc_sidecar' AND p.proname = 'on_ddl'), false),
			(SELECT rolsuper FROM pg_roles WHERE rolname = current_user), current_user::text,
			coalesce((SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'cdc_sidecar'), true)`,
		len(catalog.PostgresTriggerNames), catalog.PostgresTriggerNames, catalog.PostgresFunctionsMark()).Scan(&there, &super, &user, &ours)
	if err != nil {
		return nil, s.config.refused("look for our event triggers", err)
	}
	s.triggers = there
	if there {
		return nil, nil
	}
	var plan []string
	if !super && ours {
		// The functions run with the rights of the administrator who makes them: what they write to must not be somebody else's
		// to put triggers on.
		plan = append(plan, "ALTER SCHEMA cdc_sidecar OWNER TO CURRENT_USER", "ALTER TABLE cdc_sidecar.definitions OWNER TO CURRENT_USER",
			"GRANT USAGE ON SCHEMA cdc_sidecar TO "+quoted(user), "GRANT SELECT, INSERT, UPDATE, DELETE ON cdc_sidecar.definitions TO "+quoted(user))
	}
	return slices.Concat(plan, catalog.PostgresFunctions(), catalog.PostgresTriggers()), nil
}

// installTriggers makes the event triggers, all or nothing, where the user may.
func (s *postgresSetup) installTriggers(ctx context.Context) error {
	plan, err := s.planTriggers(ctx)
	if err != nil || len(plan) == 0 {
		return err
	}
	err = pgx.BeginFunc(ctx, s.conn, func(tx pgx.Tx) error {
		for _, statement := range plan {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "42501" || pg.Code == "55P03") { // insufficient_privilege, lock_not_available
		s.config.log().Warn(withoutTriggers, "cause", pg.Message, "fix", "cdc-sidecar setup --print-sql, as a superuser")
		return nil
	}
	if err != nil {
		return s.config.refused("make the event triggers", err)
	}
	s.triggers = true
	return nil
}

const withoutTriggers = "schema changes are noticed late: the database has not our event triggers"

// checkTriggers says what is lost without event triggers.
func (s *postgresSetup) checkTriggers(ctx context.Context) ([]schema.Finding, error) {
	plan, err := s.planTriggers(ctx)
	if err != nil || !s.config.Definitions {
		return nil, err
	}
	if len(plan) == 0 {
		return []schema.Finding{fine("db.ddl", "event triggers note schema changes")}, nil
	}
	var super bool
	if err := s.conn.QueryRow(ctx, `SELECT rolsuper FROM pg_roles WHERE rolname = current_user`).Scan(&super); err != nil {
		return nil, s.config.refused("read the user's privileges", err)
	}
	if super {
		return []schema.Finding{fine("db.ddl", "`run` will make event triggers that note schema changes")}, nil
	}
	fix := ""
	for _, statement := range plan {
		fix += statement + ";\n"
	}
	return []schema.Finding{{
		Check: "db.ddl", Severity: schema.Warning, Message: withoutTriggers,
		Cause: "only a superuser may make them. Until then a change is told before the table's next row, or within a minute, and not at its own place " +
			"in the log; several changes look like one, without their statements; rows written to a new table before it is noticed are not sent",
		Fix: fix,
	}}, nil
}

// notSeen stands in for a statement that nobody noted.
const notSeen = "(noticed later: the statement is not known)"

// reconcile makes the table of definitions what the catalog says, where the event triggers have not: there are none, one of them
// failed, or nobody has looked yet. The first look makes no news. Whoever changes a definition meanwhile is right: the
// attempt fails, and the next inspection makes another.
func (s *postgresSetup) reconcile(ctx context.Context, told []toldDefinition) error {
	if !s.config.Definitions {
		return nil
	}
	if s.triggers && s.reconciled {
		var missed bool
		err := s.conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM cdc_sidecar.definitions WHERE office = '' AND table_id = '')`).Scan(&missed)
		if err != nil || !missed {
			return s.refusedOrNil("read the tables' definitions", err)
		}
	}
	err := pgx.BeginTxFunc(ctx, s.conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		kept, err := readDefinitions(ctx, tx)
		if err != nil {
			return err
		}
		facts, err := catalog.ReadPostgresFacts(ctx, tx, nil)
		if err != nil {
			return err
		}
		return s.correct(ctx, tx, kept, facts, told)
	})
	var pg *pgconn.PgError
	switch {
	case err == nil:
		s.reconciled = true
		return nil
	case errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "23505" || pg.Code == "42501" || pg.Code == "55P03"):
		s.config.log().Warn("the definitions of the tables could not be noted; the next inspection tries again", "cause", pg.Message)
		return nil
	}
	return s.config.refused("note the tables' definitions", err)
}

// firstLook fills a table of definitions that is empty.
func (s *postgresSetup) firstLook(ctx context.Context) error {
	var has bool
	err := s.conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM cdc_sidecar.definitions WHERE office = '')`).Scan(&has)
	if err != nil || has {
		return s.refusedOrNil("read the tables' definitions", err)
	}
	return s.reconcile(ctx, nil)
}

func (s *postgresSetup) refusedOrNil(what string, err error) error {
	if err == nil {
		return nil
	}
	return s.config.refused(what, err)
}

// readDefinitions are the facts that the table of definitions has, by the table's number as text; the empty one asks for a look.
func readDefinitions(ctx context.Context, q catalog.PostgresQuerier) (map[string]string, error) {
	rows, err := q.Query(ctx, `SELECT table_id, definition FROM cdc_sidecar.definitions WHERE office = ''`) //nolint:rowserrcheck // ForEachRow returns it
	if err != nil {
		return nil, err
	}
	kept := map[string]string{}
	var id, definition string
	_, err = pgx.ForEachRow(rows, []any{&id, &definition}, func() error {
		kept[id] = definition
		return nil
	})
	return kept, err
}

// correct writes what differs. What a comparison with the log has told already is no news.
func (s *postgresSetup) correct(ctx context.Context, tx pgx.Tx, kept map[string]string, facts []catalog.PostgresFacts, told []toldDefinition) error {
	first := len(kept) == 0
	here := map[string]bool{"": false}
	batch := new(pgx.Batch)
	for _, f := range facts {
		id := strconv.FormatUint(uint64(f.OID), 10)
		here[id] = true
		was, known := kept[id]
		statement := notSeen
		if first || slices.ContainsFunc(told, func(t toldDefinition) bool { return t.oid == f.OID && t.facts == f.Text }) {
			statement = ""
		}
		if catalog.PostgresUsable(f.Text) && (!known || was != f.Text) {
			queueDefinition(batch, f, statement)
		}
	}
	for id := range kept {
		if here[id] {
			continue
		}
		batch.Queue(`UPDATE cdc_sidecar.definitions SET statement = $2 WHERE office = '' AND table_id = $1 AND table_id <> ''`, id, notSeen)
		batch.Queue(`DELETE FROM cdc_sidecar.definitions WHERE office = '' AND table_id = $1`, id)
	}
	return tx.SendBatch(ctx, batch).Close()
}

func queueDefinition(batch *pgx.Batch, f catalog.PostgresFacts, statement string) {
	batch.Queue(`INSERT INTO cdc_sidecar.definitions (office, table_id, schema_name, table_name, definition, statement) VALUES ('', $1, $2, $3, $4, $5)
		ON CONFLICT (office, table_id) DO UPDATE SET schema_name = $2, table_name = $3, definition = $4, statement = $5`,
		strconv.FormatUint(uint64(f.OID), 10), f.Schema, f.Name, f.Text, statement)
}

// keep writes what a comparison told, after it is durable, without making news of it.
func (s *postgresSetup) keep(ctx context.Context, told []toldDefinition) error {
	batch := new(pgx.Batch)
	for _, t := range told {
		batch.Queue(`INSERT INTO cdc_sidecar.definitions (office, table_id, schema_name, table_name, definition)
			VALUES ('', $1, $2::jsonb ->> 'schema', $2::jsonb ->> 'name', $2::jsonb::text)
			ON CONFLICT (office, table_id) DO UPDATE SET schema_name = excluded.schema_name, table_name = excluded.table_name, definition = excluded.definition, statement = ''`,
			strconv.FormatUint(uint64(t.oid), 10), t.facts)
	}
	if err := s.conn.SendBatch(ctx, batch).Close(); err != nil {
		return s.config.refused("note the tables' definitions", err)
	}
	return nil
}

// knownDefinitions are the facts that have been told of each table.
func (s *postgresSetup) knownDefinitions(ctx context.Context) (map[uint32]string, error) {
	kept, err := readDefinitions(ctx, s.conn)
	if err != nil {
		return nil, s.config.refused("read the tables' definitions", err)
	}
	known := make(map[uint32]string, len(kept))
	for id, facts := range kept {
		if oid, err := strconv.ParseUint(id, 10, 32); err == nil {
			known[uint32(oid)] = facts
		}
	}
	return known, nil
}

// factsOf asks the catalog for one table that can be captured.
func (s *postgresSetup) factsOf(ctx context.Context, oid uint32) (string, error) {
	facts, err := catalog.ReadPostgresFacts(ctx, s.conn, []uint32{oid})
	if err != nil || len(facts) == 0 || !catalog.PostgresUsable(facts[0].Text) {
		return "", err
	}
	return facts[0].Text, nil
}
