package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// The checks below look at what would make applying fail or do more than it should. Each returns findings, never an error:
// a check that cannot be made is a finding too.

// CheckPostgres checks a Postgres database as a target; receive says which tables this office takes (nil: all).
func CheckPostgres(ctx context.Context, dsn schema.DSN, receive func(schema.TableName) bool) []schema.Finding {
	ses, err := Postgres(dsn).connect(ctx)
	if err != nil {
		return []schema.Finding{connectFinding(err)}
	}
	defer ses.close()
	s, ok := ses.(*postgresSession)
	if !ok {
		return nil
	}
	tables, err := received(ctx, ses, receive)
	if err != nil {
		return []schema.Finding{failed("apply.tables", err)}
	}
	findings := append(checkKeys(schema.Postgres, tables), s.checkRole(ctx))
	return append(findings, s.checkTables(ctx, tables)...)
}

// CheckMySQL checks a MySQL or MariaDB database as a target; receive says which tables this office takes (nil: all).
func CheckMySQL(ctx context.Context, dsn schema.DSN, receive func(schema.TableName) bool) []schema.Finding {
	ses, err := MySQL(dsn).connect(ctx)
	if err != nil {
		return []schema.Finding{connectFinding(err)}
	}
	defer ses.close()
	s, ok := ses.(*mysqlSession)
	if !ok {
		return nil
	}
	tables, err := received(ctx, ses, receive)
	if err != nil {
		return []schema.Finding{failed("apply.tables", err)}
	}
	findings := append(checkKeys(schema.MySQL, tables), s.checkServer(ctx)...)
	for i := range tables {
		findings = append(findings, checkMySQLTable(&tables[i])...)
	}
	return findings
}

func received(ctx context.Context, ses session, receive func(schema.TableName) bool) ([]catalog.Table, error) {
	all, err := ses.defs().read(ctx)
	if err != nil {
		return nil, err
	}
	var tables []catalog.Table
	for i := range all {
		if receive == nil || receive(all[i].TableName) {
			tables = append(tables, all[i])
		}
	}
	return tables, nil
}

func failed(check string, err error) schema.Finding {
	return schema.Finding{Check: check, Severity: schema.Failure, Message: "cannot be checked: " + err.Error()}
}

func connectFinding(err error) schema.Finding {
	f := schema.Finding{Check: "apply.connect", Severity: schema.Failure, Message: err.Error(), Cause: "nothing can be applied here"}
	var refused *schema.RefusedError
	if errors.As(err, &refused) {
		f.Message, f.Fix = refused.What, refused.Remedy
		if refused.Cause != nil {
			f.Message += ": " + refused.Cause.Error()
		}
	}
	return f
}

// checkKeys finds the tables whose rows cannot be told apart. Its first finding says how many are fine.
func checkKeys(engine schema.Engine, tables []catalog.Table) []schema.Finding {
	var findings []schema.Finding
	for i := range tables {
		if t := &tables[i]; len(t.Key) == 0 {
			findings = append(findings, schema.Finding{
				Check: "apply.key", Severity: schema.Warning,
				Message: fmt.Sprintf("table %s has no key", t.TableName), Cause: "changes of its rows cannot be applied",
				Fix: fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (…), or flow: none (or send) for the table", tableName(engine, t.OwnSchema, t.Name)),
			})
		}
	}
	fine := schema.Finding{Check: "apply.tables", Severity: schema.Fine, Message: fmt.Sprintf("%d of %d tables can be applied to", len(tables)-len(findings), len(tables))}
	return append([]schema.Finding{fine}, findings...)
}

func (s *postgresSession) checkRole(ctx context.Context) schema.Finding {
	var role string
	if err := s.conn.QueryRow(ctx, "SHOW session_replication_role").Scan(&role); err != nil {
		return failed("apply.triggers", err)
	}
	if role == "replica" {
		return schema.Finding{Check: "apply.triggers", Severity: schema.Fine, Message: "triggers and foreign keys do not act on applied rows a second time"}
	}
	return schema.Finding{
		Check: "apply.triggers", Severity: schema.Warning,
		Message: fmt.Sprintf("user %s may not set session_replication_role", s.user()),
		Cause:   "triggers and foreign keys of this database act on applied rows, which carry their effects already",
		Fix:     "GRANT SET ON PARAMETER session_replication_role TO " + quote(schema.Postgres, s.user()) + " (Postgres 15 and later; before, the user has to be a superuser)",
	}
}

// checkTables asks for everything of all tables at once.
func (s *postgresSession) checkTables(ctx context.Context, tables []catalog.Table) []schema.Finding {
	byOID, oids := map[uint32]*catalog.Table{}, make([]uint32, len(tables))
	for i := range tables {
		oids[i] = tables[i].OID
		byOID[oids[i]] = &tables[i]
	}
	rows, err := s.conn.Query(ctx, `
		SELECT c.oid, row_security_active(c.oid),
		       ARRAY(SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p WHERE NOT has_table_privilege(c.oid, p)),
		       ARRAY(SELECT t.tgname::text FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled IN ('A', 'R') ORDER BY 1)
		FROM pg_class c WHERE c.oid = ANY($1) ORDER BY c.relname`, oids)
	if err != nil {
		return []schema.Finding{failed("apply.privileges", err)}
	}
	defer rows.Close()
	var findings []schema.Finding
	for rows.Next() {
		var oid uint32
		var hidden bool
		var missing, always []string
		if err := rows.Scan(&oid, &hidden, &missing, &always); err != nil {
			return append(findings, failed("apply.privileges", err))
		}
		findings = append(findings, s.checkTable(byOID[oid], hidden, missing, always)...)
	}
	if err := rows.Err(); err != nil {
		findings = append(findings, failed("apply.privileges", err))
	}
	return findings
}

func (s *postgresSession) checkTable(t *catalog.Table, hidden bool, missing, always []string) []schema.Finding {
	findings := s.checkSequences(t)
	if len(missing) > 0 {
		findings = append(findings, schema.Finding{
			Check: "apply.privileges", Severity: schema.Failure, Message: fmt.Sprintf("table %s: user %s lacks %s", t.TableName, s.user(), strings.Join(missing, ", ")),
			Cause: "its changes cannot be applied",
			Fix:   fmt.Sprintf("GRANT %s ON %s TO %s", strings.Join(missing, ", "), tableName(schema.Postgres, t.OwnSchema, t.Name), quote(schema.Postgres, s.user())),
		})
	}
	if hidden {
		findings = append(findings, schema.Finding{
			Check: "apply.policies", Severity: schema.Failure, Message: fmt.Sprintf("table %s: row security hides rows from user %s", t.TableName, s.user()),
			Cause: "its changes cannot be applied", Fix: "ALTER ROLE " + quote(schema.Postgres, s.user()) + " BYPASSRLS",
		})
	}
	if len(always) > 0 {
		findings = append(findings, triggerFinding(t, always, "they are ENABLE ALWAYS or REPLICA and fire for applied rows too"))
	}
	return findings
}

// checkSequences finds the sequences that cannot be kept ahead of the keys that are applied.
func (s *postgresSession) checkSequences(t *catalog.Table) []schema.Finding {
	var findings []schema.Finding
	for i := range t.Sequences {
		if q := &t.Sequences[i]; !q.Settable {
			findings = append(findings, schema.Finding{
				Check: "apply.sequences", Severity: schema.Warning, Message: fmt.Sprintf("table %s: user %s may not move on its sequence %s", t.TableName, s.user(), q.Name),
				Cause: "behind keys that were applied, the application's own inserts may fail, once for each key that exists",
				Fix:   sequenceGrant(q, quote(schema.Postgres, s.user())),
			})
		}
	}
	return findings
}

func triggerFinding(t *catalog.Table, names []string, why string) schema.Finding {
	return schema.Finding{
		Check: "apply.triggers", Severity: schema.Warning, Message: fmt.Sprintf("table %s has triggers: %s", t.TableName, strings.Join(names, ", ")),
		Cause: why + ": what they write is written a second time where their own rows are sent as well",
		Fix:   "make sure that they only fill columns of the row itself, or flow: none for the tables that they write to",
	}
}

func checkMySQLTable(t *catalog.Table) []schema.Finding {
	var findings []schema.Finding
	if !strings.EqualFold(t.StorageEngine, "InnoDB") {
		findings = append(findings, schema.Finding{
			Check: "apply.engine", Severity: schema.Failure, Message: fmt.Sprintf("table %s is %s", t.TableName, t.StorageEngine),
			Cause: "it takes no part in transactions: after a crash changes are lost or applied twice",
			Fix:   fmt.Sprintf("ALTER TABLE %s ENGINE=InnoDB", tableName(schema.MySQL, t.OwnSchema, t.Name)),
		})
	}
	if bare := slices.DeleteFunc(slices.Clone(t.Triggers), func(name string) bool { return slices.Contains(t.Guarded, name) }); len(bare) > 0 {
		f := triggerFinding(t, bare, "they cannot be switched off for applied rows")
		f.Fix = "what they write elsewhere, write only IF @cdc_sidecar_apply IS NULL THEN … END IF; those that only fill columns of the row itself may stay"
		findings = append(findings, f)
	}
	return findings
}

// leastPacket is what max_allowed_packet should be at least: a row of that size, written as text.
const leastPacket = 64 << 20

func (s *mysqlSession) checkServer(ctx context.Context) []schema.Finding {
	var packet int64
	var readOnly bool
	if err := s.conn.QueryRowContext(ctx, "SELECT @@max_allowed_packet, @@global.read_only").Scan(&packet, &readOnly); err != nil {
		return []schema.Finding{failed("apply.server", err)}
	}
	var findings []schema.Finding
	if packet < leastPacket {
		findings = append(findings, schema.Finding{
			Check: "apply.packet", Severity: schema.Warning, Message: fmt.Sprintf("max_allowed_packet is %d MiB", packet>>20),
			Cause: "a row that is larger, written as text, cannot be applied", Fix: fmt.Sprintf("SET GLOBAL max_allowed_packet = %d", leastPacket),
		})
	}
	if readOnly {
		findings = append(findings, schema.Finding{
			Check: "apply.writable", Severity: schema.Warning, Message: "the server is read_only", Cause: "applying waits until it is not, unless the account may write all the same",
			Fix: "SET GLOBAL read_only = OFF",
		})
	}
	return append(findings, s.checkPrivileges(ctx)...)
}

// checkPrivileges looks at what is granted to the account itself. Grants through roles are not seen, hence a warning only.
func (s *mysqlSession) checkPrivileges(ctx context.Context) []schema.Finding {
	rows, err := s.conn.QueryContext(ctx, `
		SELECT p.name FROM (SELECT 'SELECT' AS name UNION SELECT 'INSERT' UNION SELECT 'UPDATE' UNION SELECT 'DELETE') p
		WHERE p.name NOT IN (SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = `+mysqlGrantee+`)
		  AND p.name NOT IN (SELECT PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES WHERE GRANTEE = `+mysqlGrantee+`
		                     AND DATABASE() LIKE REPLACE(TABLE_SCHEMA, '\\_', '_'))`)
	if err != nil {
		return []schema.Finding{failed("apply.privileges", err)}
	}
	defer rows.Close()
	var missing []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return []schema.Finding{failed("apply.privileges", err)}
		}
		missing = append(missing, name)
	}
	if err := rows.Err(); err != nil {
		return []schema.Finding{failed("apply.privileges", err)}
	}
	if len(missing) == 0 {
		return nil
	}
	return []schema.Finding{{
		Check: "apply.privileges", Severity: schema.Warning, Message: "the account has not been given " + strings.Join(missing, ", ") + " on its whole database",
		Cause: "tables for which it has no grant of another kind cannot be applied to",
		Fix:   "GRANT SELECT, INSERT, UPDATE, DELETE ON `…`.* TO CURRENT_USER()",
	}}
}

// mysqlGrantee is the account in the quotes in which information_schema has it.
const mysqlGrantee = `CONCAT('''', SUBSTRING_INDEX(CURRENT_USER(), '@', 1), '''@''', SUBSTRING_INDEX(CURRENT_USER(), '@', -1), '''')`
