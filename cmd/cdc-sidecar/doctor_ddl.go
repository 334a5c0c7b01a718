package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"strings"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

// heldDocument is where a person reads what to do with what is held, failed or different.
const heldDocument = "docs/schema-changes.md"

// checkSchemaChanges names what other offices' schema changes have left to do here, and where tables differ. The first is in the
// database; the second only the running sidecar knows.
func checkSchemaChanges(ctx context.Context, c Config) []schema.Finding {
	findings := checkSteps(ctx, c)
	ctx, cancel := context.WithTimeout(ctx, askRunning)
	defer cancel()
	var s admin.Status
	if err := newClient(c).call(ctx, http.MethodGet, "/api/v1/status", &s); err != nil {
		return append(findings, schema.Finding{
			Check: "db.drift", Severity: schema.Fine, Message: "note: where tables differ from other offices' is only known while the sidecar runs",
			Cause: err.Error(),
		})
	}
	return append(findings, driftFindings(&s)...)
}

// askRunning bounds the wait for the running sidecar, which answers from memory.
const askRunning = 5 * time.Second

// checkSteps names the steps that are held here or failed.
func checkSteps(ctx context.Context, c Config) []schema.Finding {
	steps, err := openSteps(ctx, c)
	if err != nil {
		return []schema.Finding{{
			Check: "ddl.steps", Severity: schema.Fine, Message: "note: what is left of other offices' schema changes is not known", Cause: err.Error(),
		}}
	}
	return stepFindings(steps)
}

// openSteps reads them from the database; before setup there is nothing to read.
func openSteps(ctx context.Context, c Config) (steps []admin.SchemaStep, err error) {
	db, err := newOffice(c, nil).sql()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var made int
	err = db.QueryRowContext(ctx, "SELECT count(*) FROM information_schema.tables WHERE table_schema = '"+schema.OwnSchema+"' AND table_name = '"+schema.DDLTable+"'").Scan(&made)
	if err != nil || made == 0 {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT origin, table_name, step, subject, statement, state, reason, at FROM "+schema.OwnSchema+"."+schema.DDLTable+
		" WHERE office = '"+string(c.Office)+"' AND state IN ('"+schema.DDLHeld+"', '"+schema.DDLFailed+"') ORDER BY id") // an office's name has letters, digits and dashes
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s admin.SchemaStep
		var subject, statement, reason sql.NullString
		var at int64
		if err := rows.Scan(&s.Origin, &s.Table, &s.Step, &subject, &statement, &s.State, &reason, &at); err != nil {
			return nil, err
		}
		s.Subject, s.Statement, s.Reason, s.Since = subject.String, statement.String, reason.String, time.UnixMicro(at)
		steps = append(steps, s)
	}
	return steps, rows.Err()
}

// stepFindings is a finding for each of the steps, or one for none.
func stepFindings(steps []admin.SchemaStep) []schema.Finding {
	if len(steps) == 0 {
		return []schema.Finding{{Check: "ddl.steps", Severity: schema.Fine, Message: "nothing is left to do of other offices' schema changes"}}
	}
	causes := map[string]string{
		schema.DDLHeld:   "held: ddl: {apply, destructive} leaves it to a person; rows that need it wait, all others go on",
		schema.DDLFailed: "failed; rows that need it wait, all others go on",
	}
	var findings []schema.Finding
	for i := range steps {
		s := &steps[i]
		findings = append(findings, schema.Finding{
			Check: "ddl." + s.State, Severity: schema.Warning,
			Message: fmt.Sprintf("table %s: %s, by office %s: %s", printable(s.Table), strings.TrimSpace(s.Step+" "+printable(s.Subject)), s.Origin, printable(s.Reason)),
			Cause:   causes[s.State], Fix: careful(s.Step, s.Statement), Document: heldDocument,
		})
	}
	return findings
}

// driftFindings is a finding for each table that differs: at a branch from the head's, at the head for each branch.
func driftFindings(s *admin.Status) []schema.Finding {
	if s.Role == schema.Branch {
		return driftOf(s.Drift, "table %s differs from the head's: %s", "the tables are as the head's", "")
	}
	var findings []schema.Finding
	for i := range s.Peers {
		office := string(s.Peers[i].Office)
		findings = append(findings, driftOf(s.Peers[i].Drift, "office "+office+": its table %s differs from the head's: %s", "the tables of office "+office+" are as the head's", office)...)
	}
	return findings
}

// driftOf is that of one branch; there is not empty where the branch is not this office.
func driftOf(d *admin.Drift, differs, same, there string) []schema.Finding {
	switch {
	case d == nil && there == "":
		return []schema.Finding{{Check: "db.drift", Severity: schema.Fine, Message: "note: the tables were not held against the head's yet"}}
	case d == nil:
		return []schema.Finding{{Check: "db.drift", Severity: schema.Fine, Message: "note: office " + there + " has not said yet whether its tables are as the head's"}}
	case d.Different == 0:
		return []schema.Finding{{Check: "db.drift", Severity: schema.Fine, Message: same}}
	}
	var findings []schema.Finding
	for _, t := range d.Tables {
		f := schema.Finding{
			Check: "db.drift", Severity: schema.Warning, Message: fmt.Sprintf(differs, printable(t.Table), printable(strings.Join(t.Differences, "; "))),
			Cause:    "rows with a value that has no place wait, or fail, at the office that lacks it",
			Document: heldDocument,
		}
		switch {
		case len(t.Statements) == 0:
		case there == "":
			f.Fix = strings.Join(t.Statements, ";\n")
		default: // it must not be taken for a statement of this database
			f.Fix = "at office " + there + ": " + strings.Join(t.Statements, ";\n")
		}
		findings = append(findings, f)
	}
	if left := d.Different - min(d.Different, uint64(len(d.Tables))); left > 0 {
		findings = append(findings, schema.Finding{Check: "db.drift", Severity: schema.Warning, Message: fmt.Sprintf("more tables differ: %d", left)})
	}
	return findings
}

// driftText has, for status, a line for each branch whose tables differ, and one for each of its tables.
func driftText(s *admin.Status) string {
	var b strings.Builder
	tell := func(title string, d *admin.Drift) {
		if d == nil || d.Different == 0 {
			return
		}
		fmt.Fprintf(&b, "! "+title+": %d (cdc-sidecar doctor names the statements)\n", d.Different)
		for _, t := range d.Tables {
			fmt.Fprintf(&b, "  drift: %s: %s\n", printable(t.Table), printable(strings.Join(t.Differences, "; ")))
		}
	}
	tell("tables that differ from the head's", s.Drift)
	for i := range s.Peers {
		p := &s.Peers[i]
		tell("tables of office "+string(p.Office)+" (here) that differ from the head's (there)", p.Drift)
	}
	return b.String()
}

// driftCount is how many tables differ, of all offices that this one knows of.
func driftCount(s *admin.Status) (n uint64) {
	if s.Drift != nil {
		n = s.Drift.Different
	}
	for i := range s.Peers {
		if d := s.Peers[i].Drift; d != nil {
			n += d.Different
		}
	}
	return n
}
