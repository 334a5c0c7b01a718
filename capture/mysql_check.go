package capture

import (
	"context"
	"fmt"
	"strconv"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// CheckMySQL is doctor's look at the database: what would lose or stall changes, each with the statement that mends it. It
// changes nothing.
func CheckMySQL(ctx context.Context, config MySQLConfig) []schema.Finding {
	s, err := config.setup(ctx)
	if err != nil {
		return []schema.Finding{failure("db.connect", err)}
	}
	defer s.close()
	variables, err := s.variables(ctx)
	if err != nil {
		return []schema.Finding{failure("db.connect", err)}
	}
	findings := []schema.Finding{fine("db.connect", "connected to "+string(s.engine)+" "+variables["version"])}
	for _, check := range []struct {
		name string
		run  func(context.Context, map[string]string) ([]schema.Finding, error)
	}{
		{"db.settings", s.checkSettings},
		{"db.replication", s.checkReplication},
		{"db.setup", s.checkPlan},
		{"table.key", s.checkTables},
		{"table.cascade", s.checkCascades},
	} {
		found, err := check.run(ctx, variables)
		findings = append(findings, found...)
		if err != nil {
			findings = append(findings, failure(check.name, err))
		}
	}
	return findings
}

func (s *mysqlSetup) checkSettings(ctx context.Context, variables map[string]string) ([]schema.Finding, error) {
	if err := s.settings(ctx); err != nil {
		return nil, err
	}
	findings := []schema.Finding{fine("db.settings", "the binlog has whole rows")}
	warn := func(check, message, cause, fix string) {
		findings = append(findings, schema.Finding{Check: check, Severity: schema.Warning, Message: message, Cause: cause, Fix: fix})
	}
	if variables["sync_binlog"] != "1" || variables["innodb_flush_log_at_trx_commit"] != "1" {
		warn("db.durability", fmt.Sprintf("sync_binlog is %s, innodb_flush_log_at_trx_commit is %s", variables["sync_binlog"], variables["innodb_flush_log_at_trx_commit"]),
			"after a power cut, binlog and tables may differ: other offices would have changes that this one lost",
			"SET GLOBAL sync_binlog = 1; SET GLOBAL innodb_flush_log_at_trx_commit = 1")
	}
	if s.engine == schema.MariaDB && variables["gtid_strict_mode"] != "ON" {
		warn("db.gtid_strict_mode", "gtid_strict_mode is OFF", "a write with a number out of order would stop capture for good", "SET GLOBAL gtid_strict_mode = ON")
	}
	const day = 86400
	if seconds, err := strconv.ParseFloat(variables["binlog_expire_logs_seconds"], 64); err == nil && seconds > 0 && seconds < day {
		warn("db.binlog_expire", fmt.Sprintf("the binlog is kept for %.0f seconds", seconds),
			"a sidecar that is switched off for longer has to join again", "SET GLOBAL binlog_expire_logs_seconds = 604800")
	}
	return append(findings, s.checkFilters(ctx)...), nil
}

// checkFilters looks for databases that are kept out of the binlog. Only this statement tells, and only to some users.
func (s *mysqlSetup) checkFilters(ctx context.Context) []schema.Finding {
	for _, query := range []string{"SHOW MASTER STATUS", "SHOW BINARY LOG STATUS"} {
		status, err := s.table(ctx, query)
		if err != nil || len(status) == 0 || len(status[0]) < 4 || status[0][2]+status[0][3] == "" {
			continue
		}
		return []schema.Finding{{
			Check: "db.binlog_filter", Severity: schema.Failure,
			Message: fmt.Sprintf("the binlog leaves databases out (binlog_do_db=%s, binlog_ignore_db=%s)", status[0][2], status[0][3]),
			Cause:   "their changes would be lost without a word", Fix: "remove binlog_do_db and binlog_ignore_db from [mysqld], then restart the server",
		}}
	}
	return nil
}

func (s *mysqlSetup) checkReplication(ctx context.Context, _ map[string]string) ([]schema.Finding, error) {
	may, user, err := s.mayReplicate(ctx)
	if err != nil {
		return nil, err
	}
	if !may {
		return nil, &schema.RefusedError{What: "the user may not read the binlog", Remedy: replicationGrant(user)}
	}
	return []schema.Finding{fine("db.replication", "the user may read the binlog")}, nil
}

func (s *mysqlSetup) checkPlan(ctx context.Context, _ map[string]string) ([]schema.Finding, error) {
	plan, err := s.plan(ctx)
	if err != nil {
		return nil, err
	}
	if len(plan) == 0 {
		return []schema.Finding{fine("db.setup", "our tables are there")}, nil
	}
	var findings []schema.Finding
	for _, statement := range plan {
		findings = append(findings, fine("db.setup", "`run` will set up: "+statement))
	}
	return findings, nil
}

// warn names the tables that are to be sent and cannot be.
func (s *mysqlSetup) warn(ctx context.Context) {
	findings, err := s.checkTables(ctx, nil)
	if err != nil {
		s.config.log().Warn("cannot look for tables without a key", "error", err)
	}
	for _, f := range findings {
		if f.Severity != schema.Fine {
			s.config.log().Warn(f.Message, "cause", f.Cause, "fix", f.Fix)
		}
	}
}

func (s *mysqlSetup) checkTables(ctx context.Context, _ map[string]string) ([]schema.Finding, error) {
	tables, err := catalog.ReadMySQL(ctx, s.db, s.config.DSN.DefaultSchema())
	if err != nil {
		return nil, s.config.refused("read the catalog", err)
	}
	var findings []schema.Finding
	captured := 0
	for i := range tables {
		t := &tables[i]
		if !s.config.sends(t.TableName) {
			continue
		}
		name := catalog.QuoteMySQL(t.OwnSchema) + "." + catalog.QuoteMySQL(t.Name)
		if len(t.Key) == 0 {
			findings = append(findings, schema.Finding{
				Check: "table.key", Severity: schema.Warning, Message: fmt.Sprintf("table %s is not captured: it has no primary key", name),
				Cause: "without a key its rows cannot be found at the other offices", Fix: fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (…)", name),
			})
			continue
		}
		captured++
		if t.StorageEngine != "InnoDB" {
			findings = append(findings, schema.Finding{
				Check: "table.engine", Severity: schema.Warning, Message: fmt.Sprintf("table %s is in %s", name, t.StorageEngine),
				Cause: "without transactions, a statement that fails half-way leaves rows that others have and this office may not", Fix: fmt.Sprintf("ALTER TABLE %s ENGINE=InnoDB", name),
			})
		}
	}
	return append(findings, fine("table.key", fmt.Sprintf("%d tables are captured", captured))), nil
}

// checkCascades warns of foreign keys whose own writes the binlog does not have: of MariaDB, and of MySQL before 9.6.
func (s *mysqlSetup) checkCascades(ctx context.Context, _ map[string]string) ([]schema.Finding, error) {
	keys, err := s.table(ctx, `SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS
		WHERE (DELETE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT') OR UPDATE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT')) ORDER BY 1, 2, 3`)
	if err != nil {
		return nil, s.config.refused("read the foreign keys", err)
	}
	var findings []schema.Finding
	for _, k := range keys {
		if s.config.sends(catalog.MySQLName(k[0], k[1], s.config.DSN.DefaultSchema())) {
			findings = append(findings, schema.Finding{
				Check: "table.cascade", Severity: schema.Warning,
				Message: fmt.Sprintf("foreign key %s of table %s.%s cascades", k[2], catalog.QuoteMySQL(k[0]), catalog.QuoteMySQL(k[1])),
				Cause:   "the binlog does not have what the server does to child rows by itself (MySQL from 9.6 on has it): the other offices do it by their own foreign keys, and one without keeps orphans",
				Fix:     "have the same foreign key, with the same rules, at every office",
			})
		}
	}
	return findings, nil
}
