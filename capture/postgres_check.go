package capture

import (
	"context"
	"errors"
	"fmt"

	"cdc-sidecar/schema"
)

// CheckPostgres is doctor's look at the database: what would lose or stall changes, each with the statement that mends it.
// It changes nothing.
func CheckPostgres(ctx context.Context, config PostgresConfig) []schema.Finding {
	conn, err := config.connect(ctx)
	if err != nil {
		return []schema.Finding{failure("db.connect", err)}
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	s := &postgresSetup{config: config, conn: conn}
	var findings []schema.Finding
	var version string
	if err := conn.QueryRow(ctx, `SELECT current_setting('server_version')`).Scan(&version); err != nil {
		return []schema.Finding{failure("db.connect", err)}
	}
	findings = append(findings, fine("db.connect", "connected to Postgres "+version))
	for _, check := range []struct {
		name string
		run  func(context.Context) ([]schema.Finding, error)
	}{
		{"db.settings", s.checkSettings},
		{"db.replication", s.checkReplication},
		{"db.slot", s.checkSlot},
		{"db.setup", s.checkPlan},
		{"db.ddl", s.checkTriggers},
	} {
		found, err := check.run(ctx)
		findings = append(findings, found...)
		if err != nil {
			findings = append(findings, failure(check.name, err))
		}
	}
	return append(findings, s.unusable()...)
}

func fine(check, message string) schema.Finding {
	return schema.Finding{Check: check, Severity: schema.Fine, Message: message}
}

func failure(check string, err error) schema.Finding {
	f := schema.Finding{Check: check, Severity: schema.Failure, Message: err.Error()}
	var refused *schema.RefusedError
	if errors.As(err, &refused) {
		f.Message, f.Fix = refused.What, refused.Remedy
		if refused.Cause != nil {
			f.Cause = refused.Cause.Error()
		}
	}
	return f
}

func (s *postgresSetup) checkSettings(ctx context.Context) ([]schema.Finding, error) {
	if err := s.settings(ctx); err != nil {
		return nil, err
	}
	findings := []schema.Finding{fine("db.settings", "wal_level is logical")}
	var keep string
	if err := s.conn.QueryRow(ctx, `SELECT current_setting('max_slot_wal_keep_size')`).Scan(&keep); err != nil {
		return findings, s.config.refused("read max_slot_wal_keep_size", err)
	}
	if keep == "-1" {
		findings = append(findings, schema.Finding{
			Check: "db.max_slot_wal_keep_size", Severity: schema.Warning,
			Message: "max_slot_wal_keep_size is -1: no limit",
			Cause:   "a sidecar that is switched off for long would fill the database's disk with log",
			Fix:     "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf()",
		})
	}
	return findings, nil
}

// checkReplication connects as the reader of the log does: the only sure test of the privilege and of pg_hba.conf.
func (s *postgresSetup) checkReplication(ctx context.Context) ([]schema.Finding, error) {
	stream, _, err := s.config.connectReplication(ctx)
	if err != nil {
		return nil, err
	}
	_ = stream.Close(context.WithoutCancel(ctx))
	return []schema.Finding{fine("db.replication", "the user may replicate")}, nil
}

// slotWarning is how much log a slot may hold back before doctor says so.
const slotWarning = 1 << 30

func (s *postgresSetup) checkSlot(ctx context.Context) ([]schema.Finding, error) {
	slot, err := s.slot(ctx)
	if err != nil {
		return nil, err
	}
	name := s.config.slot()
	if slot == nil {
		var free int
		err := s.conn.QueryRow(ctx, `SELECT current_setting('max_replication_slots')::int - count(*) FROM pg_replication_slots`).Scan(&free)
		if err != nil {
			return nil, s.config.refused("count replication slots", err)
		}
		if free <= 0 {
			return nil, &schema.RefusedError{What: "all replication slots are in use", Remedy: "ALTER SYSTEM SET max_replication_slots = 10; then restart Postgres"}
		}
		return []schema.Finding{fine("db.slot", "a slot is free; `run` creates "+name)}, nil
	}
	switch {
	case slot.invalidated != "":
		return nil, &schema.RefusedError{What: fmt.Sprintf("replication slot %s was invalidated: %s", name, slot.invalidated), Remedy: lostRemedy}
	case !slot.ours:
		return nil, &schema.RefusedError{What: "replication slot " + name + " is of another plugin, kind or database", Remedy: "SELECT pg_drop_replication_slot('" + name + "')"}
	case slot.retained > slotWarning:
		return []schema.Finding{{
			Check: "db.slot", Severity: schema.Warning,
			Message: fmt.Sprintf("replication slot %s holds back %d MiB of log (%s)", name, slot.retained>>20, slot.status),
			Cause:   "the sidecar does not run, or a transaction has been open for long",
			Fix:     "cdc-sidecar run; or, to give the office up, cdc-sidecar teardown --yes",
		}}, nil
	}
	return []schema.Finding{fine("db.slot", "replication slot "+name+" is in order")}, nil
}

// checkPlan says what set-up would still do. That is a failure only where our user may not do it.
func (s *postgresSetup) checkPlan(ctx context.Context) ([]schema.Finding, error) {
	plan, err := s.plan(ctx)
	if err != nil {
		return nil, err
	}
	if len(plan) == 0 {
		return []schema.Finding{fine("db.setup", fmt.Sprintf("publication %s has %d tables", s.config.slot(), len(s.wanted())-1))}, nil
	}
	var may bool
	err = s.conn.QueryRow(ctx, `SELECT has_database_privilege(current_database(), 'CREATE') AND NOT EXISTS (
		SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE format('%I.%I', n.nspname, c.relname) = ANY($1) AND NOT pg_has_role(c.relowner, 'USAGE'))`, s.ownedNames()).Scan(&may)
	if err != nil {
		return nil, s.config.refused("read the user's privileges", err)
	}
	var findings []schema.Finding
	for _, statement := range plan {
		f := schema.Finding{Check: "db.setup", Severity: schema.Fine, Message: "`run` will set up: " + statement}
		if !may {
			f.Severity, f.Fix = schema.Failure, statement
			f.Message, f.Cause = "set-up is not complete", "the user may not do it by itself: it owns not all the tables, or may not create a schema"
		}
		findings = append(findings, f)
	}
	return findings, nil
}

// ownedNames are the tables that the publication's owner has to own, as format('%I.%I') writes them.
func (s *postgresSetup) ownedNames() []string {
	var names []string
	for i := range s.tables {
		if t := &s.tables[i]; s.config.sends(t.TableName) && usable(t) {
			names = append(names, t.OwnSchema+"."+t.Name)
		}
	}
	return names
}

// unusable are the tables that are to be sent and cannot be, as plan last read them.
func (s *postgresSetup) unusable() []schema.Finding {
	var findings []schema.Finding
	for i := range s.tables {
		t := &s.tables[i]
		if !s.config.sends(t.TableName) || usable(t) {
			continue
		}
		name := quoted(t.OwnSchema, t.Name)
		f := schema.Finding{Check: "table.key", Severity: schema.Warning, Message: fmt.Sprintf("table %s is not captured: it has no primary key", name)}
		f.Cause, f.Fix = "without a key its rows cannot be found at the other offices", fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (…)", name)
		switch {
		case t.Unlogged:
			f.Check, f.Message = "table.unlogged", fmt.Sprintf("table %s is not captured: it is unlogged", name)
			f.Cause, f.Fix = "unlogged tables do not reach the database's log", fmt.Sprintf("ALTER TABLE %s SET LOGGED", name)
		case len(t.Key) > 0:
			f.Check, f.Message = "table.identity", fmt.Sprintf("table %s is not captured: its replica identity (%s) does not have the key", name, t.ReplicaIdentity)
			f.Cause, f.Fix = "the log would not say which row was updated or deleted", fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL", name)
		}
		findings = append(findings, f)
	}
	return findings
}
