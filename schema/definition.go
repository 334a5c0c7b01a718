package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
)

// Definition is a table with all that a schema change can say of it. What a receiver needs in order to read rows is its Table;
// the rest is what the table is for the applications: defaults, further keys, checks. It does not change once it is made.
type Definition struct {
	*Table
	Details     []ColumnDetail `json:"details"` // one for each column
	Indexes     []Index        `json:"indexes,omitempty"`
	ForeignKeys []ForeignKey   `json:"foreign_keys,omitempty"`
	Checks      []Check        `json:"checks,omitempty"`
	Comment     string         `json:"comment,omitempty"`
}

// ColumnDetail is what rows do not need to know of a column.
type ColumnDetail struct {
	// ID stays with the column through renames, and is given to no other column of the table: Postgres' attnum; elsewhere
	// capture's own count. 0: nobody knows, and the column goes by its name.
	ID       int        `json:"id,omitempty"`
	Default  Expression `json:"default,omitzero"`
	Computed Expression `json:"computed,omitzero"` // of a generated column
	Stored   bool       `json:"stored,omitempty"`  // the generated column is kept in the row, not computed as it is read
	Serial   bool       `json:"serial,omitempty"`  // the database gives numbers: identity, serial, auto_increment
	Comment  string     `json:"comment,omitempty"`
	// Collation is the engine's word for how a text is compared (MySQL: the charset is the word's beginning); empty: nobody said.
	Collation string `json:"collation,omitempty"`
}

// ExpressionKind is what is known of an expression. The set is closed.
type ExpressionKind string

// The kinds of expressions.
const (
	NoExpression     ExpressionKind = ""         // there is none
	LiteralValue     ExpressionKind = "literal"  // a constant, in the canonical text of its column's kind
	NullValueDefault ExpressionKind = "null"     // NULL, said so
	CurrentTime      ExpressionKind = "now"      // the time of the statement or transaction
	RandomUUID       ExpressionKind = "uuid"     // gen_random_uuid(), uuid()
	PortableText     ExpressionKind = "portable" // in the small language that every engine has (see Expression.Text)
	NativeText       ExpressionKind = "native"   // in the words of the definition's engine, understood by it alone
)

// Expression is a default, a check, or what a generated column computes.
type Expression struct {
	Kind ExpressionKind `json:"kind,omitempty"`
	// Text is empty for null, now and uuid. Portable text has names in double quotes, strings in single quotes (doubled inside),
	// numbers, ( ) , + - * / < <= = >= > <>, AND OR NOT IN BETWEEN IS NULL, and the functions LOWER UPPER CHAR_LENGTH ABS
	// COALESCE; single blanks between words.
	Text string `json:"text,omitempty"`
}

// Index is an index that is not the primary key.
type Index struct {
	Name   string      `json:"name"`
	Unique bool        `json:"unique,omitempty"`
	Parts  []IndexPart `json:"parts"`
	// Method is empty for the engine's usual ordered index; else the engine's word: gin, fulltext, spatial.
	Method string `json:"method,omitempty"`
	// Where is the condition of a partial index.
	Where Expression `json:"where,omitzero"`
	// Native is the engine's own statement or clause behind the name, for what Parts cannot say (opclasses, INCLUDE): a
	// receiver of the same engine takes it as it is.
	Native string `json:"native,omitempty"`
}

// IndexPart is a column of an index, or an expression.
type IndexPart struct {
	Column     string     `json:"column,omitempty"`
	Expression Expression `json:"expression,omitzero"`
	Descending bool       `json:"descending,omitempty"`
	Prefix     int        `json:"prefix,omitempty"` // MySQL: only the first so many characters
}

// ForeignKey is a reference to another table.
type ForeignKey struct {
	Name          string    `json:"name"`
	Columns       []string  `json:"columns"`
	Parent        TableName `json:"parent"`
	ParentColumns []string  `json:"parent_columns"`
	OnDelete      Action    `json:"on_delete,omitempty"`
	OnUpdate      Action    `json:"on_update,omitempty"`
}

// Action is what a foreign key does to its rows when their parent goes or changes its key. Empty: it forbids that.
type Action string

// The actions.
const (
	Forbid     Action = ""
	Cascade    Action = "cascade"
	SetNull    Action = "set null"
	SetDefault Action = "set default"
)

// Check is a condition that rows must meet.
type Check struct {
	Name       string     `json:"name"`
	Expression Expression `json:"expression"`
}

// DefinitionChange is a schema change in the stream, at the place where it stood in the office's log: rows before it are of Was,
// rows behind it of Is. Was is nil for a table that was made, Is for one that was dropped.
type DefinitionChange struct {
	Was *Definition `json:"was,omitempty"`
	Is  *Definition `json:"is,omitempty"`
	// Statement is what somebody typed, for people, as far as the log has it; it may be cut. It is never run.
	Statement string `json:"statement,omitempty"`
	// Rows: the rows of the table are not what the log says of them (ChangesRows). Was and Is may be equal then.
	Rows bool `json:"rows,omitempty"`
}

// Name is the table's, as it is called behind the change.
func (d *DefinitionChange) Name() TableName {
	if d.Is != nil {
		return d.Is.TableName
	}
	return d.Was.TableName
}

// Detail returns what is said of the column with that name; nil when there is none.
func (d *Definition) Detail(column string) *ColumnDetail {
	if i := d.Column(column); i >= 0 {
		return &d.Details[i]
	}
	return nil
}

// Validate checks what the type system cannot.
func (d *Definition) Validate() error {
	switch {
	case d.Table == nil || d.Name == "":
		return errors.New("a definition without a name")
	case len(d.Details) != len(d.Columns):
		return fmt.Errorf("table %s: details of %d columns, there are %d", d.TableName, len(d.Details), len(d.Columns))
	}
	for i := range d.Columns {
		if !d.Columns[i].Kind.Valid() {
			return fmt.Errorf("table %s column %s: unknown kind %d", d.TableName, d.Columns[i].Name, d.Columns[i].Kind)
		}
		if slices.ContainsFunc(d.Columns[:i], func(c Column) bool { return c.Name == d.Columns[i].Name }) {
			return fmt.Errorf("table %s: two columns are called %s", d.TableName, d.Columns[i].Name)
		}
	}
	for _, k := range d.Key {
		if k < 0 || k >= len(d.Columns) {
			return fmt.Errorf("table %s: its key has column %d of %d", d.TableName, k, len(d.Columns))
		}
	}
	return nil
}

// Fingerprint is equal for definitions that are equal but for the columns' IDs and comments. (The Table's own is about rows
// alone.)
func (d *Definition) Fingerprint() uint64 {
	plain := *d
	plain.Comment, plain.Details = "", slices.Clone(d.Details)
	for i := range plain.Details {
		plain.Details[i].ID, plain.Details[i].Comment = 0, ""
	}
	h := fnv.New64a()
	_, _ = h.Write(AppendDefinition(nil, &plain))
	return h.Sum64()
}

// AppendDefinition appends a definition as it travels and as it is kept: JSON, which newer programs may add to.
func AppendDefinition(b []byte, d *Definition) []byte { return appendMarshalled(b, d) }

func marshalChange(d *DefinitionChange) []byte { return appendMarshalled(nil, d) }

func appendMarshalled(b []byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) //nolint:forbidigo // plain structs of strings and numbers: there is nothing that could fail
	}
	return append(b, text...)
}

// ParseDefinition reads what AppendDefinition wrote.
func ParseDefinition(text []byte) (*Definition, error) {
	d := new(Definition)
	if err := json.Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("a table's definition: %w", err)
	}
	if err := d.Validate(); err != nil {
		return nil, err
	}
	d.Table = NewTable(*d.Table)
	return d, nil
}

// ParseDefinitionChange reads the JSON of a DefinitionChange.
func ParseDefinitionChange(text []byte) (*DefinitionChange, error) {
	c := new(DefinitionChange)
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("a schema change: %w", err)
	}
	if c.Was == nil && c.Is == nil {
		return nil, errors.New("a schema change that says nothing")
	}
	for _, d := range []*Definition{c.Was, c.Is} {
		if d == nil {
			continue
		}
		if err := d.Validate(); err != nil {
			return nil, err
		}
		d.Table = NewTable(*d.Table)
	}
	return c, nil
}

// SameName compares names of indexes and constraints as the engines do, without regard to case.
func SameName(a, b string) bool { return strings.EqualFold(a, b) }
