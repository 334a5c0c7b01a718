package schema

import "strconv"

// State says what an image has of a column.
type State uint8

// The states. Unchanged is the zero value: a column that an image does not have was not touched, which is not NULL.
const (
	Unchanged State = iota
	Null
	Present
)

// Value is one column's value in canonical text (see Kind). Text keeps every kind exact: no float for decimals, no
// time.Time for times that have no zone. It is immutable and comparable.
type Value struct {
	state State
	text  string
}

// Of is a present value with the given canonical text; for KindBytes the text is the bytes.
func Of(text string) Value { return Value{state: Present, text: text} }

// NullValue is SQL's NULL.
func NullValue() Value { return Value{state: Null} }

// State says whether v is present, NULL or unchanged.
func (v Value) State() State { return v.state }

// Text is the canonical text; empty unless v is present.
func (v Value) Text() string { return v.text }

// IsNull reports SQL's NULL.
func (v Value) IsNull() bool { return v.state == Null }

// IsUnchanged reports that the image has nothing to say of the column.
func (v Value) IsUnchanged() bool { return v.state == Unchanged }

// String is for people: quoted text, NULL, or a dash for unchanged.
func (v Value) String() string {
	switch v.state {
	case Null:
		return "NULL"
	case Present:
		return strconv.Quote(v.text)
	default:
		return "-"
	}
}

// Row is an image: one value for each column of the table, in the table's order. A nil Row is no image.
type Row []Value

// Complete reports whether the image has every column of t that a writer would write.
func (r Row) Complete(t *Table) bool {
	for i, v := range r {
		if v.state == Unchanged && !t.Columns[i].Generated {
			return false
		}
	}
	return r != nil
}
