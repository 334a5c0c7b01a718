package schema

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"regexp"
)

// A schema change may change rows without the log having them: values that each server computes for itself, rows that come and go
// with a partition, rows from before a table had a key. Capture says so (DefinitionChange.Rows), and the table is compared
// with the head's when the change is done.

// volatile kinds of defaults give each row, or each server, another value; of a text that only its engine understands nobody knows.
func volatile(d *ColumnDetail) bool {
	switch d.Default.Kind {
	case CurrentTime, RandomUUID, NativeText:
		return true
	}
	return d.Serial
}

var (
	// plainTable is CREATE TABLE at the beginning of a statement; all that is written to the new table stands behind it in the log.
	plainTable = regexp.MustCompile(`(?is)^(\s+|/\*.*?\*/|--[^\n]*\n)*create\s+(or\s+replace\s+)?table\b`)
	// notPlain are words of what brings rows along, and of another statement behind the first.
	notPlain      = regexp.MustCompile(`(?i)\b(select|execute|alter|rename|attach|detach)\b|\bas\s+(table|values)\b`)
	usingWord     = regexp.MustCompile(`(?i)\busing\b`)
	partitionWord = regexp.MustCompile(`(?i)\b(partition|ignore|tablespace)\b`)
)

// PlainCreate reports whether a statement makes tables that are empty, and nothing else.
func PlainCreate(statement string) bool {
	return plainTable.MatchString(statement) && !notPlain.MatchString(statement)
}

// ChangesRows reports whether what led from one definition to the other may have changed rows that no log has, as far as the two say
// that. The statement may be empty: then it counts as one that may. It would rather be wrong than miss one.
func ChangesRows(was, is *Definition, statement string) bool {
	switch {
	case is == nil:
		return false
	case was == nil:
		return !PlainCreate(statement)
	}
	for _, s := range Diff(was, is) {
		switch s.Kind {
		case AddColumn:
			if volatile(&is.Details[s.Column]) || is.Columns[s.Column].Identity {
				return true
			}
		case ChangeType:
			if statement == "" || usingWord.MatchString(statement) || !Widens(&s.Was.Columns[s.WasColumn], &is.Columns[s.Column]) {
				return true
			}
		case ChangeComputed:
			return true
		}
	}
	return false
}

// Frees reports whether generated columns became plain ones, and that is all by which rows may differ. Then those who took the change
// from another office are right, and not who made it: what they wrote before has the values, and has lost them where it came
// later.
func (d *DefinitionChange) Frees() bool {
	if d.Was == nil || d.Is == nil {
		return false
	}
	frees := false
	for _, s := range Diff(d.Was, d.Is) {
		switch s.Kind {
		case AddColumn:
			if volatile(&d.Is.Details[s.Column]) || d.Is.Columns[s.Column].Identity {
				return false
			}
		case ChangeType:
			return false
		case ChangeComputed:
			if d.Is.Details[s.Column].Computed.Kind != NoExpression {
				return false
			}
			frees = true
		}
	}
	return frees
}

// Removes reports whether rows may have left the table.
func (d *DefinitionChange) Removes() bool {
	if d.Was == nil || d.Is == nil {
		return false
	}
	return partitionWord.MatchString(d.Statement) || len(Diff(d.Was, d.Is)) == 0 && !usingWord.MatchString(d.Statement)
}

// OrderPrefix begins the JoinName of a row that is about no join: it orders a comparison of one table, and stands until that is done.
const OrderPrefix = "rows:"

// RowsOrder is in JoinState of such a row, as JSON: a table of which a schema change changed rows without the log.
type RowsOrder struct {
	Table TableName `json:"table"`
	Why   string    `json:"why"` // the statement, as far as it is known
	// At tells the change from others: its origin, and its place in that office's stream or the time when it was met.
	At string `json:"at"`
	// Up: this office's rows are right, and what differs goes to the head; else the head's are.
	Up bool `json:"up,omitempty"`
	// Gone: what only the other has, has left the table. Else it stays, and comes here, or goes to the head if it may.
	Gone bool `json:"gone,omitempty"`
}

// NewRowsOrder is the order that a change asks of a branch, made there itself or taken from the head's stream.
func NewRowsOrder(d *DefinitionChange, made bool, at string) RowsOrder {
	return RowsOrder{Table: d.Name(), Why: d.Statement, At: at, Up: made != d.Frees(), Gone: d.Removes()}
}

// Encode returns the JoinName and the JoinState of the order's row.
func (o *RowsOrder) Encode() (name string, state []byte) {
	state = appendMarshalled(nil, o)
	h := fnv.New64a()
	_, _ = h.Write(state)
	return fmt.Sprintf("%s%016x", OrderPrefix, h.Sum64()), state
}

// ParseRowsOrder reads a JoinState that Encode gave.
func ParseRowsOrder(state []byte) (o RowsOrder, err error) {
	if err = json.Unmarshal(state, &o); err != nil {
		err = fmt.Errorf("read which table is to be compared: %w", err)
	}
	return o, err
}
