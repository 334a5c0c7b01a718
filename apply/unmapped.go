package apply

import (
	"errors"
	"fmt"

	"cdc-sidecar/schema"
)

// Unmapped says what is written where a column here cannot hold a value that comes for it: Unchanged, the change is refused; else
// NULL, or a value in canonical text.
type Unmapped func(table schema.TableName, column string) schema.Value

// replace takes over what is said of the table's columns. A key is never replaced: two rows would become one.
func (p *plan) replace(what Unmapped) {
	for i := range p.columns {
		if m := &p.columns[i]; m.to >= 0 && !p.isKey(m.to) {
			m.instead = what(p.target.TableName, p.target.Columns[m.to].Name)
		}
	}
}

func (p *plan) isKey(column int) bool {
	for _, k := range p.source.Key {
		if p.columns[k].to == column {
			return true
		}
	}
	for _, k := range p.target.Key {
		if k == column {
			return true
		}
	}
	return false
}

// instead is what is written for a value of a source column that was refused; it counts.
func (p *plan) instead(i int, refused error) (schema.Value, error) {
	m := &p.columns[i]
	switch to := &p.target.Columns[m.to]; {
	case m.instead.IsUnchanged():
		return schema.Value{}, refused
	case m.instead.IsNull() && !to.Nullable:
		return schema.Value{}, &schema.RejectedError{
			Table: p.source.TableName, Column: to.Name, Cause: fmt.Errorf("NULL is to stand for it, and the column here is NOT NULL: %w", errors.Unwrap(refused)),
			Remedy: "allow NULL here: ALTER TABLE " + p.name() + " " + dropNotNull(p.engine, to),
		}
	}
	p.replaced++
	return m.instead, nil
}
