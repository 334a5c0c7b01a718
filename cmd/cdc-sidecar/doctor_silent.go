package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// mysqlSequence is a SEQUENCE of MariaDB.
type mysqlSequence struct {
	name      string // quoted, with its database
	increment int64  // 0: the server's auto_increment_increment
}

// readMySQLSequences reads MariaDB's sequences; a MySQL has none.
func readMySQLSequences(ctx context.Context, db *sql.DB, database string) (sequences []mysqlSequence, err error) {
	rows, err := db.QueryContext(ctx, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'SEQUENCE' AND TABLE_SCHEMA = ? ORDER BY 1", database)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		sequences = append(sequences, mysqlSequence{name: catalog.QuoteMySQL(database) + "." + catalog.QuoteMySQL(name)})
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for i := range sequences {
		if err := db.QueryRowContext(ctx, "SELECT increment FROM "+sequences[i].name).Scan(&sequences[i].increment); err != nil {
			return nil, fmt.Errorf("read sequence %s: %w", sequences[i].name, err)
		}
	}
	return sequences, nil
}

// checkSilent names what the log of a MySQL or MariaDB does not say, as far as it can be found beforehand.
func (o officeTables) checkSilent(c Config) []schema.Finding {
	if o.mysql == nil {
		return nil
	}
	findings := o.checkSequences()
	var partitioned []string
	for i := range o.tables {
		if t := &o.tables[i]; t.Partitioned && c.Sends(t.TableName) {
			partitioned = append(partitioned, ownName(t))
		}
	}
	if len(partitioned) > 0 {
		findings = append(findings, schema.Finding{
			Check: "table.partition", Severity: schema.Fine,
			Message: "note: rows that a partition takes with it (ALTER TABLE … TRUNCATE, DROP or EXCHANGE PARTITION) are not in the log, of " + strings.Join(partitioned, ", "),
			Cause:   "delete the rows, or compare the table afterwards: cdc-sidecar verify",
		})
	}
	return append(findings, schema.Finding{
		Check: "table.unlogged", Severity: schema.Fine,
		Message: "note: what a session writes with sql_log_bin=0 is in no log, and nobody can see it there",
		Cause:   "cdc-sidecar verify finds such rows, and tables that were changed so stop at the first row of another shape",
	})
}

// checkSequences finds sequences that give out the same numbers as their namesakes at other offices.
func (o officeTables) checkSequences() []schema.Finding {
	var findings []schema.Finding
	for _, s := range o.mysql.sequences {
		every := s.increment
		if every == 0 {
			every = o.mysql.increment
		}
		if max(every, -every) > 1 {
			continue
		}
		findings = append(findings, schema.Finding{
			Check: "table.sequence", Severity: schema.Warning,
			Message: fmt.Sprintf("sequence %s gives out every number", s.name),
			Cause:   "where a sequence stands is not sent: another office gives out the same numbers",
			Fix:     "ALTER SEQUENCE " + s.name + " INCREMENT BY 0; -- it then goes by auto_increment_increment and auto_increment_offset: cdc-sidecar setup --interleave",
		})
	}
	return findings
}
