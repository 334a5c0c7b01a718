package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// officeTables are the office's tables and what of the server's settings concerns them all.
type officeTables struct {
	tables []catalog.Table
	mysql  *mysqlTables // nil of Postgres
}

// mysqlTables are server variables.
type mysqlTables struct {
	rowImage  string
	increment int64 // auto_increment_increment: from one generated key to the next
	offset    int64 // auto_increment_offset
	sequences []mysqlSequence
}

// checkTables asks whether conflicts of the tables can be settled, and whether they come from the keys alone.
func checkTables(ctx context.Context, c Config) []schema.Finding {
	read := readPostgresTables
	if c.Database.Scheme == "mysql" {
		read = readMySQLTables
	}
	o, err := read(ctx, c)
	if err != nil {
		return []schema.Finding{{Check: "table.read", Severity: schema.Failure, Message: fmt.Sprintf("the tables cannot be checked: %v", err)}}
	}
	return append(append(o.checkOldRows(c), o.checkKeys(c)...), o.checkSilent(c)...)
}

func readPostgresTables(ctx context.Context, c Config) (o officeTables, err error) {
	conn, err := pgx.Connect(ctx, c.Database.URL())
	if err != nil {
		return o, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	o.tables, err = catalog.ReadPostgres(ctx, conn, c.Database.DefaultSchema())
	return o, err
}

func readMySQLTables(ctx context.Context, c Config) (o officeTables, err error) {
	db, err := newOffice(c, nil).sql()
	if err != nil {
		return o, err
	}
	defer db.Close()
	o.mysql = &mysqlTables{}
	err = db.QueryRowContext(ctx, "SELECT @@GLOBAL.binlog_row_image, @@GLOBAL.auto_increment_increment, @@GLOBAL.auto_increment_offset").
		Scan(&o.mysql.rowImage, &o.mysql.increment, &o.mysql.offset)
	if err == nil {
		o.mysql.sequences, err = readMySQLSequences(ctx, db, c.Database.Database)
	}
	if err != nil {
		return o, err
	}
	o.tables, err = catalog.ReadMySQL(ctx, db, c.Database.DefaultSchema())
	return o, err
}

// checkOldRows finds the tables whose rows, as they were before a change, are not in the log: merge and add need them. A
// branch does not know the head's policies; there it is a note, unless its own file names one that needs them.
func (o officeTables) checkOldRows(c Config) []schema.Finding {
	var findings []schema.Finding
	var notNeeded, fixes []string
	whole := 0
	for i := range o.tables {
		t := &o.tables[i]
		if !c.Sends(t.TableName) || len(t.Key) == 0 || t.Unlogged {
			continue
		}
		policy, fix := c.Policy(t.TableName), o.oldRowsFix(t)
		switch {
		case fix == "" && policy.NeedsOld():
			whole++
		case fix == "":
		case policy.NeedsOld():
			findings = append(findings, schema.Finding{
				Check: "table.old_rows", Severity: schema.Warning,
				Message: fmt.Sprintf("table %s: the log does not have its rows as they were before a change", ownName(t)),
				Cause:   fmt.Sprintf("conflict: %s needs them of every office that writes the table; the first change without them halts it", policy),
				Fix:     fix,
			})
		case c.Role == schema.Branch:
			notNeeded, fixes = append(notNeeded, ownName(t)), append(fixes, fix)
		}
	}
	if whole > 0 {
		findings = append(findings, schema.Finding{
			Check: "table.old_rows", Severity: schema.Fine, Message: fmt.Sprintf("of %d tables that are settled by merge or add, the log has rows as they were", whole),
		})
	}
	if len(notNeeded) > 0 {
		findings = append(findings, schema.Finding{
			Check: "table.old_rows", Severity: schema.Fine,
			Message: "note: the log does not have rows as they were before a change, of " + strings.Join(notNeeded, ", "),
			Cause:   "where the head says conflict: merge, or add, these tables need here what is for the first of them: " + fixes[0],
			Fix:     script(unique(fixes)),
		})
	}
	return findings
}

// oldRowsFix is what makes the log have whole old rows of the table from now on; empty when it has.
func (o officeTables) oldRowsFix(t *catalog.Table) string {
	if o.mysql != nil {
		if strings.EqualFold(o.mysql.rowImage, "FULL") {
			return ""
		}
		return "SET GLOBAL binlog_row_image = 'FULL'; -- and in [mysqld]: binlog_row_image=FULL; connections that are open keep the old setting"
	}
	var statements []string
	for _, name := range t.PartialOld {
		statements = append(statements, "ALTER TABLE "+name+" REPLICA IDENTITY FULL")
	}
	return strings.Join(statements, ";\n")
}

// checkKeys finds the tables that several offices write and whose keys this database makes up: two offices would make up
// the same.
func (o officeTables) checkKeys(c Config) []schema.Finding {
	var same []string
	apart, found := 0, interleaving{}
	for _, k := range generatedKeys(c, o.tables) {
		if is := o.interleaving(k.sequence); is.every > 1 {
			found, apart = is, apart+1
		} else {
			same = append(same, k.String())
		}
	}
	var findings []schema.Finding
	if apart > 0 {
		findings = append(findings, schema.Finding{
			Check: "table.generated_key", Severity: schema.Fine,
			Message: fmt.Sprintf("%d generated keys are interleaved", apart),
		})
	}
	if len(same) > 0 {
		findings = append(findings, schema.Finding{
			Check: "table.generated_key", Severity: schema.Warning,
			Message: "the database gives out these keys, as other offices' databases do: " + strings.Join(same, ", "),
			Cause:   "two offices that insert give the same key to different rows, and one of the rows is lost to the conflict log",
			Fix:     found.command(c.Role),
		})
	}
	return findings
}

// interleaving is how the numbers of s are spread; every is at most 1 when they are not.
func (o officeTables) interleaving(s *catalog.Sequence) interleaving {
	is := interleaving{every: max(s.Increment, -s.Increment), offset: s.Class}
	if o.mysql != nil {
		is = interleaving{every: o.mysql.increment, offset: o.mysql.offset}
	}
	if is.offset == 0 {
		is.offset = is.every
	}
	return is
}

// ownName is a table as the office's own database has it.
func ownName(t *catalog.Table) string { return t.OwnSchema + "." + t.Name }

// unique leaves the first of equal texts, in their order.
func unique(texts []string) []string {
	seen := map[string]bool{}
	var all []string
	for _, s := range texts {
		if !seen[s] {
			seen[s], all = true, append(all, s)
		}
	}
	return all
}
