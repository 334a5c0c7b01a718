package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cdc-sidecar/schema"
)

const (
	// postgresNameBytes is how much of a name Postgres keeps; it cuts the rest off with a notice.
	postgresNameBytes = 63
	// postgresTextLength is the greatest length that varchar takes.
	postgresTextLength = 10485760
)

// postgresBuiltIn are the names, as format_type writes them without a length, of types that every Postgres has and that hold
// values. A user's type of the same name is written with its schema.
var postgresBuiltIn = map[string]bool{
	"boolean": true, "smallint": true, "integer": true, "bigint": true, "numeric": true, "real": true, "double precision": true, "oid": true,
	"text": true, "character varying": true, "character": true, "name": true, "bytea": true, `"char"`: true,
	"date": true, "time without time zone": true, "time with time zone": true, "timestamp without time zone": true, "timestamp with time zone": true,
	"json": true, "jsonb": true, "jsonpath": true, "uuid": true, "bit": true, "bit varying": true, "money": true, "xml": true,
	"inet": true, "cidr": true, "macaddr": true, "macaddr8": true, "tsvector": true, "tsquery": true, "pg_lsn": true,
	"point": true, "line": true, "lseg": true, "box": true, "path": true, "polygon": true, "circle": true,
	"int4range": true, "int8range": true, "numrange": true, "tsrange": true, "tstzrange": true, "daterange": true,
	"int4multirange": true, "int8multirange": true, "nummultirange": true, "tsmultirange": true, "tstzmultirange": true, "datemultirange": true,
}

func postgresHas(native string) bool {
	base := strings.TrimRight(baseName(native), "[]")
	return postgresBuiltIn[base] || base == "interval" || strings.HasPrefix(base, "interval ")
}

// postgresNames: a name that is cut would be another one.
func postgresNames(t *schema.Table) error {
	names := []string{t.Name}
	for i := range t.Columns {
		names = append(names, t.Columns[i].Name)
	}
	for _, name := range names {
		if len(name) > postgresNameBytes {
			return &schema.RejectedError{
				Table: t.TableName, Cause: fmt.Errorf("the name %s has %d bytes, Postgres keeps %d", name, len(name), postgresNameBytes), Remedy: "shorten it, or flow: none for the table",
			}
		}
	}
	return nil
}

func postgresColumnTypes(_ schema.Engine, t *schema.Table) ([]string, error) {
	types := make([]string, len(t.Columns))
	for i := range t.Columns {
		c := &t.Columns[i]
		if t.Engine == schema.Postgres && postgresHas(c.Native) {
			types[i] = c.Native
			continue
		}
		var err error
		if types[i], err = postgresColumnType(t, c, slices.Contains(t.Key, i)); err != nil {
			return nil, err
		}
	}
	return types, generatedKey(t)
}

// generatedKey: Postgres' log does not have what it computes, and so does not say which row it means.
func generatedKey(t *schema.Table) error {
	for _, k := range t.Key {
		if c := &t.Columns[k]; c.Generated && t.Engine == schema.Postgres {
			return &schema.RejectedError{
				Table: t.TableName, Column: c.Name, Cause: errors.New("its key is computed, and Postgres' log does not have what is"), Remedy: "flow: none for the table",
			}
		}
	}
	return nil
}

// postgresColumnType is a type for a column by what its values mean.
func postgresColumnType(t *schema.Table, c *schema.Column, key bool) (string, error) {
	switch c.Kind {
	case schema.KindBool:
		return "boolean", nil
	case schema.KindInt:
		return postgresInteger(c), nil
	case schema.KindDecimal:
		if c.Size == 0 {
			return "numeric", nil
		}
		return fmt.Sprintf("numeric(%d,%d)", c.Size, c.Scale), nil
	case schema.KindFloat:
		return map[bool]string{true: "real", false: "double precision"}[c.Size == 32], nil
	case schema.KindText:
		return postgresText(c), nil
	case schema.KindBytes:
		return "bytea", nil
	case schema.KindDate, schema.KindUUID, schema.KindInterval:
		return c.Kind.String(), nil
	case schema.KindTime, schema.KindTimeTZ, schema.KindTimestamp, schema.KindTimestampTZ:
		if c.Scale < 0 {
			return c.Kind.String(), nil
		}
		return fmt.Sprintf("%s(%d)", c.Kind, min(c.Scale, fullFraction)), nil
	case schema.KindYear:
		return "smallint", nil
	case schema.KindJSON: // json has no order
		return map[bool]string{true: "jsonb", false: "json"}[key], nil
	case schema.KindEnum, schema.KindSet:
		return "text", nil
	case schema.KindBit:
		return withLength(map[bool]string{true: "bit", false: "bit varying"}[c.Fixed], c.Size), nil
	case schema.KindNative:
		if t.Engine != schema.Postgres && mysqlAddresses[baseName(c.Native)] {
			return "text", nil
		}
		if base := baseName(c.Native); t.Engine != schema.Postgres && (mysqlSpatial[base] || base == "vector") {
			return "bytea", nil
		}
		return "", untyped(t, c, "is none that every Postgres has")
	}
	return "", untyped(t, c, "is not known")
}

func postgresInteger(c *schema.Column) string {
	switch {
	case c.Unsigned && (c.Size == 64 || c.Size == 0):
		return "numeric(20,0)"
	case c.Size == 64 || c.Size == 0 || c.Size == 32 && c.Unsigned:
		return "bigint"
	case c.Size > 16 || c.Size == 16 && c.Unsigned:
		return "integer"
	}
	return "smallint"
}

// postgresText: the length of MySQL's text types is one of bytes, and says nothing of the values.
func postgresText(c *schema.Column) string {
	switch {
	case c.Size == 0 || c.Size > postgresTextLength || strings.HasSuffix(c.Native, "text"):
		return "text"
	case c.Fixed:
		return fmt.Sprintf("char(%d)", c.Size)
	}
	return fmt.Sprintf("varchar(%d)", c.Size)
}
