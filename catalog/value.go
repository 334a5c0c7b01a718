package catalog

import (
	"fmt"
	"strings"

	"cdc-sidecar/schema"
)

// A Reader makes rows of what a SELECT returns: the same values, in the same canonical text, as capture reads from the log.
type Reader struct {
	table     *Table
	list      string
	columns   []int // of each expression in the list
	canonical []func(text string) (string, error)
}

// NewReader is for the whole rows of a table. Of a Postgres the rows have no generated columns (see PostgresSelect).
func NewReader(t *Table) *Reader {
	all := make([]int, len(t.Columns))
	for i := range all {
		all[i] = i
	}
	return newReader(t, all)
}

// NewKeyReader is for the key alone: the other columns of its rows are Unchanged.
func NewKeyReader(t *Table) *Reader { return newReader(t, t.Key) }

func newReader(t *Table, columns []int) *Reader {
	expressions, canonical := t.MySQLSelect, MySQLCanonical
	if t.Engine == schema.Postgres {
		expressions, canonical = t.PostgresSelect, PostgresCanonical
	}
	r := &Reader{table: t}
	var list []string
	all := expressions()
	for _, i := range columns {
		if all[i] != "" {
			list = append(list, all[i])
			r.columns = append(r.columns, i)
			r.canonical = append(r.canonical, canonical(&t.Columns[i]))
		}
	}
	r.list = strings.Join(list, ", ")
	return r
}

// Select is what stands between SELECT and FROM; the session's settings are to be those of PostgresSession or MySQLSession.
func (r *Reader) Select() string { return r.list }

// Width is how many values Select gives.
func (r *Reader) Width() int { return len(r.columns) }

// Row makes one row of the Width values of a result, each as text (of bytes in MySQL and MariaDB: the bytes); nil is NULL.
// It keeps none of them.
func (r *Reader) Row(values [][]byte) (schema.Row, error) {
	if len(values) != len(r.columns) {
		return nil, fmt.Errorf("read table %s: %d values came of %d columns", r.table.TableName, len(values), len(r.columns))
	}
	row := make(schema.Row, len(r.table.Columns))
	for i, value := range values {
		column := r.columns[i]
		if value == nil {
			row[column] = schema.NullValue()
			continue
		}
		text := string(value)
		if canonical := r.canonical[i]; canonical != nil {
			var err error
			if text, err = canonical(text); err != nil {
				c := &r.table.Columns[column]
				return nil, fmt.Errorf("read table %s column %s: a value cannot be read as %s: %w", r.table.TableName, c.Name, c.Native, err)
			}
		}
		row[column] = schema.Of(text)
	}
	return row, nil
}

// NewColumnsReader is for some columns, in their order; the other columns of its rows are Unchanged. None of them is a generated one.
func NewColumnsReader(t *Table, columns []int) *Reader { return newReader(t, columns) }
