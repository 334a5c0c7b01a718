package catalog

import (
	"errors"
	"strings"

	"cdc-sidecar/schema"
)

// rule says that values of one kind may stand in columns of another, and which of them.
type rule struct {
	from, to schema.Kind
	only     string // what is not refused, for people; empty: whatever fits into the column's size
	where    func(from, to *schema.Column, source, target schema.Engine) bool
}

// rules are all pairs of kinds that mean the same, but for text, which takes almost everything (see Mix). apply's converters ask
// them; docs/types.md is made of them.
var rules = []rule{
	{schema.KindInt, schema.KindBool, "0 and 1", nil},
	{schema.KindDecimal, schema.KindBool, "0 and 1", nil},
	{schema.KindBit, schema.KindBool, "from bit(1)", func(from, _ *schema.Column, _, _ schema.Engine) bool { return from.Size == 1 }},
	{schema.KindBool, schema.KindInt, "", nil},
	{schema.KindDecimal, schema.KindInt, "whole numbers", nil},
	{schema.KindYear, schema.KindInt, "", nil},
	{schema.KindText, schema.KindInt, "an integer in its plain form: no blanks, no leading zeros", nil},
	{schema.KindInt, schema.KindYear, "0 and 1901 to 2155", nil},
	{schema.KindBool, schema.KindDecimal, "", nil},
	{schema.KindInt, schema.KindDecimal, "", nil},
	{schema.KindText, schema.KindDecimal, "a decimal in its plain form, with as many digits behind the point as the column has", nil},
	{schema.KindInt, schema.KindFloat, "as far as every whole number has a float of its own: 2^24, 2^53", nil},
	{schema.KindNative, schema.KindBytes, "a geometry or a vector of MySQL, as it stores it", nativeToBytes},
	{schema.KindUUID, schema.KindBytes, "16 bytes", func(_, to *schema.Column, _, _ schema.Engine) bool { return !to.Fixed || to.Size == uuidBytes }},
	{schema.KindText, schema.KindUUID, "36 characters in lower case", nil},
	{schema.KindBytes, schema.KindUUID, "from binary(16)", func(from, _ *schema.Column, _, _ schema.Engine) bool { return from.Fixed && from.Size == uuidBytes }},
	{schema.KindText, schema.KindJSON, "text that is JSON", nil},
	{schema.KindText, schema.KindEnum, "labels that the column has", nil},
	{schema.KindText, schema.KindSet, "labels that the column has, joined by commas", nil},
	{schema.KindBool, schema.KindBit, "into bit(1)", func(_, to *schema.Column, _, _ schema.Engine) bool { return to.Size == 1 }},
	{schema.KindText, schema.KindBit, "0s and 1s", nil},
	{schema.KindText, schema.KindInterval, plainInPostgres, intoPostgres},
	{schema.KindText, schema.KindTimeTZ, plainInPostgres, intoPostgres},
	{schema.KindTimestampTZ, schema.KindTimestamp, "from Postgres' timestamptz into MySQL's DATETIME, in UTC", intoMySQL},
	{schema.KindTimestamp, schema.KindTimestampTZ, "from MySQL's DATETIME, in UTC, into Postgres' timestamptz", intoPostgresOnly},
	{schema.KindText, schema.KindNative, plainInPostgres + "; MariaDB's inet4 and inet6", textToNative},
	{schema.KindBytes, schema.KindNative, "a geometry or a vector, as MySQL stores it", func(_, to *schema.Column, source, target schema.Engine) bool {
		return source == schema.Postgres && target != schema.Postgres && BytesNative(to)
	}},
}

const (
	plainInPostgres = "at Postgres, and as Postgres would write it"
	uuidBytes       = 16
)

func intoPostgres(_, _ *schema.Column, _, target schema.Engine) bool {
	return target == schema.Postgres
}

func intoPostgresOnly(_, _ *schema.Column, source, target schema.Engine) bool {
	return source != schema.Postgres && target == schema.Postgres
}

func intoMySQL(_, _ *schema.Column, source, target schema.Engine) bool {
	return source == schema.Postgres && target != schema.Postgres
}

func nativeToBytes(from, _ *schema.Column, source, target schema.Engine) bool {
	return source != schema.Postgres && target == schema.Postgres && BytesNative(from)
}

func textToNative(_, to *schema.Column, _, target schema.Engine) bool {
	return target == schema.Postgres || mysqlAddresses[baseName(to.Native)]
}

// BytesNative reports whether a native type is one of MySQL's whose canonical text is bytes.
func BytesNative(c *schema.Column) bool {
	base := strings.ToLower(baseName(c.Native))
	return c.Kind == schema.KindNative && (mysqlSpatial[base] || base == "vector")
}

// Mix reports whether values of one column may stand in another at all; single values may still be refused.
func Mix(from, to *schema.Column, source, target schema.Engine) bool {
	crossing := (source == schema.Postgres) != (target == schema.Postgres)
	switch {
	case from.Kind == schema.KindNative && to.Kind == schema.KindNative:
		return mixNative(from, to, target, crossing)
	case from.Kind == to.Kind:
		return true
	case to.Kind == schema.KindText: // bytes have no encoding, and an instant would lose what makes it one
		bytes := from.Kind == schema.KindBytes || source != schema.Postgres && BytesNative(from)
		return !bytes && from.Kind != schema.KindTimestampTZ
	}
	for i := range rules {
		if r := &rules[i]; r.from == from.Kind && r.to == to.Kind {
			return r.where == nil || r.where(from, to, source, target)
		}
	}
	return false
}

// mixNative: MySQL's log says geometry of every spatial type; the column says which it takes, and the server checks.
func mixNative(from, to *schema.Column, target schema.Engine, crossing bool) bool {
	a, b := strings.ToLower(baseName(from.Native)), strings.ToLower(baseName(to.Native))
	switch {
	case crossing:
		return mysqlAddresses[a] && b == "inet" || a == "inet" && mysqlAddresses[b]
	case target == schema.Postgres:
		return from.Native == to.Native
	}
	return a == b || a == "geometry" && mysqlSpatial[b]
}

// Fate is what becomes of a column's values elsewhere.
type Fate string

// The fates.
const (
	Exact   Fate = "exact"   // a column of the same kind
	Mapped  Fate = "mapped"  // one of another kind, in which the values are the same
	Refused Fate = "refused" // there is no such column
)

// Fit is what becomes of a column in a table that CreateTable makes.
type Fit struct {
	Fate Fate
	Type string // that it gets; empty when it is refused
	Not  string // the values that are refused all the same, for people; empty: none
	Why  string // of Refused
}

// FitOf is the fit of a column that is no key at another engine than its own.
func FitOf(target, source schema.Engine, c schema.Column) Fit {
	c.Name, c.Nullable = "c", true
	t := schema.NewTable(schema.Table{TableName: schema.TableName{Name: "t"}, Engine: source, Columns: []schema.Column{{Name: "id", Kind: schema.KindInt, Size: 32, Native: "int"}, c}, Key: []int{0}})
	types := mysqlColumnTypes
	if target == schema.Postgres {
		types = postgresColumnTypes
	}
	all, err := types(target, t)
	if err != nil {
		if rejected := new(schema.RejectedError); errors.As(err, &rejected) {
			err = rejected.Cause
		}
		return Fit{Fate: Refused, Why: err.Error()}
	}
	f := Fit{Fate: Mapped, Type: all[1]}
	kind := kindOf(target, all[1])
	if kind == c.Kind {
		f.Fate = Exact
	}
	switch crossing := (source == schema.Postgres) != (target == schema.Postgres); {
	case crossing && target == schema.Postgres:
		f.Not = notInPostgres[c.Kind]
	case crossing:
		f.Not = notInMySQL(target, &c, kind)
	case target == schema.MySQL && source == schema.MariaDB && c.Kind == schema.KindJSON:
		f.Not = notJSON[schema.MySQL]
	}
	return f
}

// kindOf is the kind of a type as CreateTable writes it.
func kindOf(engine schema.Engine, text string) schema.Kind {
	text, _, _ = strings.Cut(text, " CHARACTER SET")
	base := baseName(text)
	if engine == schema.Postgres {
		return postgresNamedKinds[base]
	}
	base, _, _ = strings.Cut(base, " ")
	if kind := mysqlKinds[base]; kind != schema.KindInvalid {
		return kind
	}
	return schema.KindNative
}

// postgresNamedKinds are the kinds of the types that CreateTable chooses for values of the other family.
var postgresNamedKinds = map[string]schema.Kind{
	"boolean": schema.KindBool, "smallint": schema.KindInt, "integer": schema.KindInt, "bigint": schema.KindInt, "numeric": schema.KindDecimal,
	"real": schema.KindFloat, "double precision": schema.KindFloat, "text": schema.KindText, "varchar": schema.KindText, "char": schema.KindText,
	"bytea": schema.KindBytes, "date": schema.KindDate, "time": schema.KindTime, "timestamp": schema.KindTimestamp, "timestamptz": schema.KindTimestampTZ,
	"json": schema.KindJSON, "jsonb": schema.KindJSON, "uuid": schema.KindUUID, "bit": schema.KindBit,
}

// The values that the other family has not.
var (
	notInPostgres = map[schema.Kind]string{
		schema.KindText: "text with a NUL character", schema.KindDate: "zero dates and days that no calendar has", schema.KindTime: "times below 0 and beyond 24:00:00",
		schema.KindTimestamp: "zero dates and days that no calendar has", schema.KindTimestampTZ: "the zero date",
	}
	notJSON = map[schema.Engine]string{
		schema.MariaDB: "JSON that nests deeper than the server reads", schema.MySQL: "JSON that nests deeper than the server reads, and numbers that neither a double nor 64 bits hold",
	}
)

func notInMySQL(target schema.Engine, c *schema.Column, kind schema.Kind) string {
	switch c.Kind {
	case schema.KindDecimal:
		switch {
		case kind == schema.KindText:
			return ""
		case c.Size == 0:
			return "NaN, ±Infinity, more than 35 digits before the point or 30 behind it"
		}
		return "NaN"
	case schema.KindFloat:
		return "NaN, ±Infinity"
	case schema.KindDate, schema.KindTimestamp, schema.KindTimestampTZ:
		return "±infinity, and days outside of the years 1 to 9999"
	case schema.KindJSON:
		return notJSON[target]
	}
	return ""
}
