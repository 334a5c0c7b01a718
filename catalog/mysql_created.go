package catalog

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strings"

	"cdc-sidecar/schema"
)

// mysqlVague is a column whose default the catalog may not say whole.
type mysqlVague struct {
	table  schema.TableName // the database's own name
	column string
}

// vague: of bytes, MySQL's catalog leaves out all from the first zero on, and MariaDB's has a question mark for what is no text.
func (m mysqlDefault) vague(text string) bool {
	switch {
	case m.column.Kind != schema.KindBytes:
		return false
	case m.engine == schema.MySQL:
		return strings.HasPrefix(text, "0x") && len(text)-len("0x") < 2*m.column.Size && !strings.Contains(m.extra, "default_generated")
	}
	return strings.Contains(text, "?")
}

// readVague reads such defaults where the server tells them whole.
func (d *mysqlDefining) readVague(ctx context.Context, vague []mysqlVague) error {
	created := map[schema.TableName]string{}
	for _, v := range vague {
		if created[v.table] == "" {
			text, err := d.created(ctx, v.table)
			if err != nil {
				return fmt.Errorf("the default of %s.%s.%s: %w", v.table.Schema, v.table.Name, v.column, err)
			}
			created[v.table] = text
		}
		literal := createdDefault(created[v.table], v.column)
		if literal == "" { // not a literal
			continue
		}
		t := d.byName[v.table]
		m := mysqlDefault{engine: schema.MariaDB, column: &t.Columns[t.Column(v.column)]} // both write it as MariaDB's catalog does
		t.Detail(v.column).Default = m.expression(sql.NullString{String: literal, Valid: true})
	}
	return nil
}

func (d *mysqlDefining) created(ctx context.Context, table schema.TableName) (text string, err error) {
	rows, err := d.q.QueryContext(ctx, "SHOW CREATE TABLE "+QuoteMySQL(table.Schema)+"."+QuoteMySQL(table.Name))
	if err != nil {
		return "", err
	}
	err = eachRow(rows, func(scan func(...any) error) error { return scan(new(string), &text) })
	return text, err
}

// createdDefault is the literal behind a column's DEFAULT in a table of bytes as SHOW CREATE TABLE has it; empty: there is none.
// In front of it a column of bytes has nothing in quotes.
func createdDefault(table, column string) string {
	for line := range strings.SplitSeq(table, "\n") {
		rest, found := strings.CutPrefix(line, "  "+QuoteMySQL(column)+" ")
		if !found {
			continue
		}
		_, literal, _ := strings.Cut(rest, " DEFAULT ")
		if strings.HasPrefix(literal, "'") {
			_, end := mysqlQuoted(literal, 0)
			return literal[:end]
		}
		digits, isHex := strings.CutPrefix(literal, "0x")
		digits, _, _ = strings.Cut(strings.TrimSuffix(digits, ","), " ")
		if raw, err := hex.DecodeString(digits); isHex && err == nil {
			return fmt.Sprintf("0x%x", raw)
		}
	}
	return ""
}
