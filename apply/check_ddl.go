package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// The checks below look at what other offices' schema changes need, beyond what their rows do. What is missing is a warning: such a
// change fails then, is kept with its statement, and the stream goes on.

const (
	checkDDL = "ddl.privileges"
	ddlCause = "other offices' schema changes fail here, and wait with their statements for a person"
)

// CheckPostgresDDL asks whether the user may change the tables that this office takes, and make others.
func CheckPostgresDDL(ctx context.Context, dsn schema.DSN, receive func(schema.TableName) bool) []schema.Finding {
	ses, err := Postgres(dsn).connect(ctx)
	if err != nil {
		return nil // it is found already
	}
	defer ses.close()
	s, ok := ses.(*postgresSession)
	if !ok {
		return nil
	}
	tables, err := received(ctx, ses, receive)
	if err != nil {
		return []schema.Finding{failed(checkDDL, err)}
	}
	findings, err := s.checkOwners(ctx, tables)
	if err == nil {
		var more []schema.Finding
		more, err = s.checkSchemas(ctx, dsn.DefaultSchema(), tables)
		findings = append(findings, more...)
	}
	if err != nil {
		return []schema.Finding{failed(checkDDL, err)}
	}
	if len(findings) == 0 {
		findings = []schema.Finding{{Check: checkDDL, Severity: schema.Fine, Message: fmt.Sprintf("user %s may do other offices' schema changes", s.user())}}
	}
	return findings
}

// owned is a table that belongs to somebody else.
type owned struct {
	Table, Owner string
	Super        bool
}

// checkOwners finds the tables that the user may not change: only an owner may, and who is a member of the owning role.
func (s *postgresSession) checkOwners(ctx context.Context, tables []catalog.Table) ([]schema.Finding, error) {
	oids := make([]uint32, len(tables))
	for i := range tables {
		oids[i] = tables[i].OID
	}
	rows, err := s.conn.Query(ctx, `
		SELECT format('%I.%I', n.nspname, c.relname), r.rolname::text, r.rolsuper
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.oid = c.relowner
		WHERE c.oid = ANY($1) AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY r.rolname, n.nspname, c.relname`, oids)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[owned])
	if err != nil || len(all) == 0 {
		return nil, err
	}
	user := quote(schema.Postgres, s.user())
	var names, fixes []string
	for _, f := range all {
		names = append(names, f.Table)
		fix := "GRANT " + quote(schema.Postgres, f.Owner) + " TO " + user
		if f.Super { // who is a member of a superuser's role may do everything
			fix = "ALTER TABLE " + f.Table + " OWNER TO " + user
		}
		if !slices.Contains(fixes, fix) {
			fixes = append(fixes, fix)
		}
	}
	return []schema.Finding{{
		Check: checkDDL, Severity: schema.Warning, Message: fmt.Sprintf("user %s may not change tables that others own: %s", s.user(), strings.Join(names, ", ")),
		Cause: ddlCause, Fix: strings.Join(fixes, ";\n"),
	}}, nil
}

// checkSchemas finds the schemas in which the user may not make a table.
func (s *postgresSession) checkSchemas(ctx context.Context, space string, tables []catalog.Table) ([]schema.Finding, error) {
	spaces := []string{space}
	for i := range tables {
		if !slices.Contains(spaces, tables[i].OwnSchema) {
			spaces = append(spaces, tables[i].OwnSchema)
		}
	}
	rows, err := s.conn.Query(ctx, `SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname = ANY($1) AND NOT has_schema_privilege(oid, 'CREATE') ORDER BY 1`, spaces)
	if err != nil {
		return nil, err
	}
	closed, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(closed) == 0 {
		return nil, err
	}
	return []schema.Finding{{
		Check: checkDDL, Severity: schema.Warning, Message: fmt.Sprintf("user %s may not make tables in %s", s.user(), strings.Join(closed, ", ")),
		Cause: ddlCause, Fix: "GRANT CREATE ON SCHEMA " + strings.Join(closed, ", ") + " TO " + quote(schema.Postgres, s.user()),
	}}, nil
}

// CheckMySQLDDL asks whether the account has been given what changes and makes tables. Grants through roles are not seen.
func CheckMySQLDDL(ctx context.Context, dsn schema.DSN) []schema.Finding {
	ses, err := MySQL(dsn).connect(ctx)
	if err != nil {
		return nil // it is found already
	}
	defer ses.close()
	s, ok := ses.(*mysqlSession)
	if !ok {
		return nil
	}
	missing, account, err := s.missingDDL(ctx)
	switch {
	case err != nil:
		return []schema.Finding{failed(checkDDL, err)}
	case len(missing) == 0:
		return []schema.Finding{{Check: checkDDL, Severity: schema.Fine, Message: "the account may do other offices' schema changes"}}
	}
	return []schema.Finding{{
		Check: checkDDL, Severity: schema.Warning, Message: "the account has not been given " + strings.Join(missing, ", ") + " on its whole database",
		Cause: ddlCause, Fix: fmt.Sprintf("GRANT %s ON %s.* TO %s", strings.Join(missing, ", "), quote(schema.MySQL, dsn.Database), account),
	}}
}

// missingDDL are the privileges for tables that the account lacks, and its name as a GRANT has it.
func (s *mysqlSession) missingDDL(ctx context.Context) (missing []string, account string, err error) {
	rows, err := s.conn.QueryContext(ctx, `
		SELECT p.name, `+mysqlGrantee+` FROM (SELECT 1 AS n, 'CREATE' AS name UNION SELECT 2, 'ALTER' UNION SELECT 3, 'DROP' UNION SELECT 4, 'INDEX' UNION SELECT 5, 'REFERENCES') p
		WHERE p.name NOT IN (SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = `+mysqlGrantee+`)
		  AND p.name NOT IN (SELECT PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES WHERE GRANTEE = `+mysqlGrantee+`
		                     AND DATABASE() LIKE REPLACE(TABLE_SCHEMA, '\\_', '_'))
		ORDER BY p.n`)
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name, &account); err != nil {
			return nil, "", err
		}
		missing = append(missing, name)
	}
	return missing, account, rows.Err()
}
