package schema

import (
	"hash/fnv"
	"strconv"
)

// Kind is what a column's values mean, whatever engine holds them. The set is closed.
type Kind uint8

// The kinds, each with the one canonical text of its values (see Value). Two engines that hold the same value give the
// same text.
const (
	KindInvalid     Kind = iota
	KindBool             // 0 or 1
	KindInt              // decimal digits, - when negative; Size bits (8, 16, 24, 32, 64), Unsigned
	KindDecimal          // as the log has it, scale kept: -10.50, also NaN, Infinity, -Infinity; Size precision (0: any), Scale
	KindFloat            // the shortest text that reads back to the same bits (Go 'g'), NaN, Infinity, -Infinity; Size 32 or 64
	KindText             // UTF-8; Size the most characters (0: any), Fixed for blank-padded char(n)
	KindBytes            // the bytes themselves; Size the most bytes (0: any), Fixed for binary(n)
	KindDate             // 2006-01-02; whatever else the engine has (infinity, 0000-00-00, BC) as the engine writes it
	KindTime             // 15:04:05.999999, trailing zeros of the fraction off; MySQL's reaches ±838:59:59; Scale digits
	KindTimeTZ           // 15:04:05.999999+00 as Postgres writes it
	KindTimestamp        // 2006-01-02 15:04:05.999999, no zone; Scale digits of the fraction
	KindTimestampTZ      // the same, in UTC, the zone not written: an instant
	KindInterval         // as Postgres writes it with IntervalStyle=postgres
	KindYear             // 2006
	KindJSON             // JSON text as the engine gives it
	KindUUID             // 36 characters, lower case
	KindEnum             // the label; Labels
	KindSet              // labels joined by commas; Labels
	KindBit              // 0s and 1s; Size digits, Fixed for bit(n) against bit varying
	KindNative           // the engine's own text of a type that only that engine has; exact between equal engines, else refused
)

var kindNames = [...]string{
	"invalid", "bool", "int", "decimal", "float", "text", "bytes", "date", "time", "timetz", "timestamp",
	"timestamptz", "interval", "year", "json", "uuid", "enum", "set", "bit", "native",
}

// Valid reports whether k is one of the closed set.
func (k Kind) Valid() bool { return k > KindInvalid && int(k) < len(kindNames) }

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// Engine names the product that a definition was read from.
type Engine string

// The engines. MySQL and MariaDB differ in positions and in some types.
const (
	Postgres Engine = "postgres"
	MySQL    Engine = "mysql"
	MariaDB  Engine = "mariadb"
)

// Column is one column of a table, as the office that wrote the change had it.
type Column struct {
	Name     string
	Kind     Kind
	Size     int  // bits, precision or greatest length, by Kind; 0: not limited
	Scale    int  // digits after the point, or of the second's fraction; -1: not limited
	Unsigned bool // KindInt
	Fixed    bool // char(n), binary(n), bit(n)
	Nullable bool
	Native   string   // the engine's own type, as its catalog writes it: numeric(12,2), longtext
	Labels   []string // KindEnum, KindSet

	Generated bool // computed by the database: captured, never written
	Identity  bool // GENERATED ALWAYS AS IDENTITY: written with OVERRIDING SYSTEM VALUE
}

// TableName is a table as the whole fleet calls it. Schema is empty for the fleet's default schema (the one that
// `database:` points at; Postgres: public), so public.orders and shop.orders are one table.
type TableName struct {
	Schema string
	Name   string
}

func (n TableName) String() string {
	if n.Schema == "" {
		return n.Name
	}
	return n.Schema + "." + n.Name
}

// Table is the definition of a table: what a receiver needs in order to read its rows. It does not change once it is
// made; a changed table is a new Table.
type Table struct {
	TableName
	Engine  Engine
	Columns []Column
	Key     []int // indexes of the columns that identify a row, in key order; empty: none

	fingerprint uint64
	keyByName   []int
}

// Column returns the index of the column of that name, or -1.
func (t *Table) Column(name string) int {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return i
		}
	}
	return -1
}

// Fingerprint is equal for equal definitions. It is computed at the first call, which must come before the table is shared
// between goroutines (NewTable does it).
func (t *Table) Fingerprint() uint64 {
	if t.fingerprint == 0 {
		h := fnv.New64a()
		_, _ = h.Write(appendTable(nil, t))
		t.fingerprint = h.Sum64()
	}
	return t.fingerprint
}

// NewTable completes a definition.
func NewTable(t Table) *Table {
	t.fingerprint = 0
	t.Fingerprint()
	t.keyByName = orderKey(&t)
	return &t
}
