package catalog

import (
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"cdc-sidecar/schema"
)

// typed is what a column of a type is, as the engine's catalog would describe it, given the type as a statement has it.
func typed(engine schema.Engine, name, ddl string) schema.Column {
	c := schema.Column{Name: name}
	if engine == schema.Postgres {
		postgresTyped(&c, ddl)
	} else {
		mysqlTyped(engine, &c, ddl)
	}
	return c
}

// arguments are the numbers in a type's brackets.
func arguments(ddl string) (all []int) {
	_, rest, _ := strings.Cut(ddl, "(")
	inside, _, _ := strings.Cut(rest, ")")
	for word := range strings.SplitSeq(inside, ",") {
		if n, err := strconv.Atoi(strings.TrimSpace(word)); err == nil {
			all = append(all, n)
		}
	}
	return all
}

// argument is one of them, or what stands for it.
func argument(all []int, i, otherwise int) int {
	if i < len(all) {
		return all[i]
	}
	return otherwise
}

var mysqlSynonyms = map[string]string{"integer": "int", "numeric": "decimal", "boolean": "tinyint", "bool": "tinyint"}

// mysqlTextBytes are the lengths of the types that have one of their own.
var mysqlTextBytes = map[string]int64{
	"tinytext": 255, "text": 65535, "mediumtext": 1<<24 - 1, "longtext": 1<<32 - 1, "tinyblob": 255, "blob": 65535, "mediumblob": 1<<24 - 1, "longblob": 1<<32 - 1,
}

func mysqlTyped(engine schema.Engine, c *schema.Column, ddl string) {
	full, _, _ := strings.Cut(ddl, " CHARACTER SET")
	full, _, _ = strings.Cut(full, " COLLATE")
	name, _, _ := strings.Cut(baseName(full), " ")
	if known, ok := mysqlSynonyms[name]; ok {
		name = known
	}
	args := arguments(full)
	m := MySQLType{Name: name, Full: full, Precision: argument(args, 0, 10), Scale: argument(args, 1, 0), Fraction: argument(args, 0, 0)}
	switch name {
	case "char", "varchar", "binary", "varbinary":
		m.Length = int64(argument(args, 0, 1))
	case "bit":
		m.Precision = argument(args, 0, 1)
	default:
		m.Length = mysqlTextBytes[name]
	}
	if name == "enum" || name == "set" { // baseName goes by the first bracket that closes, which may be a label's
		m.Full = full
	}
	m.Describe(c)
	if engine == schema.MariaDB && name == "json" {
		c.Native = "longtext"
	}
}

// postgresOIDs are the types with a kind of their own, by all the names that statements have for them.
var postgresOIDs = map[string]uint32{
	"boolean": pgtype.BoolOID, "smallint": pgtype.Int2OID, "integer": pgtype.Int4OID, "bigint": pgtype.Int8OID, "oid": pgtype.OIDOID,
	"numeric": pgtype.NumericOID, "real": pgtype.Float4OID, "double precision": pgtype.Float8OID, "text": pgtype.TextOID,
	"character varying": pgtype.VarcharOID, "varchar": pgtype.VarcharOID, "character": pgtype.BPCharOID, "char": pgtype.BPCharOID, "name": pgtype.NameOID,
	"bytea": pgtype.ByteaOID, "date": pgtype.DateOID, "uuid": pgtype.UUIDOID, "json": pgtype.JSONOID, "jsonb": pgtype.JSONBOID,
	"time": pgtype.TimeOID, "time without time zone": pgtype.TimeOID, "timetz": pgtype.TimetzOID, "time with time zone": pgtype.TimetzOID,
	"timestamp": pgtype.TimestampOID, "timestamp without time zone": pgtype.TimestampOID,
	"timestamptz": pgtype.TimestamptzOID, "timestamp with time zone": pgtype.TimestamptzOID,
	"interval": pgtype.IntervalOID, "bit": pgtype.BitOID, "bit varying": pgtype.VarbitOID, "varbit": pgtype.VarbitOID,
}

func postgresTyped(c *schema.Column, ddl string) {
	c.Native = ddl
	base := baseName(ddl)
	oid, ok := postgresOIDs[base]
	if !ok && strings.HasPrefix(base, "interval ") {
		oid, ok = pgtype.IntervalOID, true
	}
	kind := postgresKinds[oid]
	if !ok {
		c.Kind = schema.KindNative
		return
	}
	args, modifier := arguments(ddl), int32(-1)
	switch oid {
	case pgtype.VarcharOID, pgtype.NumericOID:
		if len(args) > 0 {
			modifier = int32(args[0]) + lengthHeader
		}
		if oid == pgtype.NumericOID && len(args) > 0 {
			modifier = int32(args[0])<<16 | int32(argument(args, 1, 0)&0x7ff) + lengthHeader
		}
	case pgtype.BPCharOID:
		modifier = int32(argument(args, 0, 1)) + lengthHeader
	case pgtype.BitOID:
		modifier = int32(argument(args, 0, 1))
	default:
		modifier = int32(argument(args, 0, -1))
	}
	c.Kind, c.Size, c.Unsigned = kind.kind, kind.size, oid == pgtype.OIDOID
	modify(c, oid, modifier)
}

// holds reports whether every value of a column elsewhere (source; mapped is the type that it would be given here) can be kept by
// one that is here: the same type, one that is wider, or one that stands for it.
func holds(source, mapped, here *schema.Column) bool {
	if mapped.Kind == here.Kind && mapped.Kind != schema.KindNative {
		return schema.Widens(mapped, here) || source.Kind == here.Kind && schema.Widens(source, here)
	}
	if mapped.Kind == schema.KindNative && here.Kind == schema.KindNative {
		return sameNative(mapped.Native, here.Native)
	}
	if mapped.Kind != here.Kind && schema.Widens(mapped, here) {
		return true
	}
	return standsFor(source, here)
}

// standsFor are the pairs of kinds of which one holds all that the other does, written in another way.
func standsFor(source, here *schema.Column) bool {
	longText := here.Kind == schema.KindText && !here.Fixed && (here.Size == 0 || here.Size >= enumText)
	switch source.Kind {
	case schema.KindBool:
		return here.Kind == schema.KindInt || here.Kind == schema.KindBit && here.Size == 1 || here.Kind == schema.KindBool
	case schema.KindInt:
		return here.Kind == schema.KindBool && strings.HasPrefix(source.Native, "tinyint(1)")
	case schema.KindUUID:
		return here.Kind == schema.KindText && (here.Size == 0 || here.Size >= 36) || here.Kind == schema.KindBytes && here.Size == 16 || here.Kind == schema.KindUUID
	case schema.KindJSON, schema.KindInterval, schema.KindTimeTZ, schema.KindSet, schema.KindNative:
		return longText && (source.Kind != schema.KindJSON || here.Size == 0)
	case schema.KindEnum:
		return longText || here.Kind == schema.KindEnum && !slices.ContainsFunc(source.Labels, func(l string) bool { return !slices.Contains(here.Labels, l) })
	case schema.KindTimestamp, schema.KindTimestampTZ:
		return (here.Kind == schema.KindTimestamp || here.Kind == schema.KindTimestampTZ) && (here.Scale < 0 || here.Scale >= min(fraction(source), fullFraction))
	case schema.KindYear:
		return here.Kind == schema.KindInt
	}
	return false
}

// sameNative compares types by name, whatever schema one of them stands in.
func sameNative(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	_, x := splitType(a)
	_, y := splitType(b)
	return strings.EqualFold(x, y)
}

// splitType takes Postgres' name of a type apart: shop."Colour" is in schema shop, and called Colour.
func splitType(native string) (space, name string) {
	parts := []string{""}
	quoted := false
	for _, c := range native {
		switch {
		case c == '"':
			quoted = !quoted
		case c == '.' && !quoted:
			parts = append(parts, "")
		default:
			parts[len(parts)-1] += string(c)
		}
	}
	if len(parts) > 1 {
		space = parts[0]
	}
	return space, parts[len(parts)-1]
}
