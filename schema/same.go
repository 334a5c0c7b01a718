package schema

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// SameRow reports whether row rb of table b is what row ra of another office's table a is there: SameValue of each column of a.
// columns are those that differ, by their names, in a's order. A column that b lacks differs; what only b has does not count, nor
// does a column that either database computes by itself, for no change could mend it. A nil row differs from any row in all columns.
func SameRow(a *Table, ra Row, b *Table, rb Row) (same bool, columns []string) {
	if ra == nil && rb == nil {
		return true, nil
	}
	for i := range a.Columns {
		ca := &a.Columns[i]
		if ca.Generated {
			continue
		}
		at := i
		if at >= len(b.Columns) || b.Columns[at].Name != ca.Name {
			at = b.Column(ca.Name)
		}
		switch {
		case at >= 0 && b.Columns[at].Generated:
		case at < 0 || ra == nil || rb == nil || !SameValue(ca, ra[i], &b.Columns[at], rb[at]):
			columns = append(columns, ca.Name)
		}
	}
	return len(columns) == 0, columns
}

// SameValue reports whether vb, as column b holds it, is what va of another office's column a becomes there when it is applied.
// Values that mean the same but cannot be applied (a text to a uuid that is not written like one, a fraction that b has no digits for)
// are not the same. NULL is the same as NULL alone, and what an image does not have (Unchanged) as the like alone.
func SameValue(a *Column, va Value, b *Column, vb Value) bool {
	if va.state != Present || vb.state != Present {
		return va.state == vb.state
	}
	return sameText(a, va.text, b, vb.text)
}

func sameText(a *Column, ta string, b *Column, tb string) bool {
	switch {
	case a.Kind == KindNative && b.Kind == KindNative:
		return ta == tb && sameNative(a.Native, b.Native)
	case a.Kind == KindSet && b.Kind == KindSet:
		return sameSet(ta, tb)
	case oneForm(a, b):
		return sameForm(a, ta, b, tb)
	case b.Kind == KindText:
		return intoText(a, ta, b, tb)
	case a.Kind == KindText:
		return fromText(a, ta, b, tb)
	default:
		return acrossKinds(a, ta, b, tb)
	}
}

func sameForm(a *Column, ta string, b *Column, tb string) bool {
	if ta == tb && a.Size == b.Size && a.Fixed == b.Fixed {
		return true
	}
	var roomA, roomB [128]byte
	return bytes.Equal(appendForm(roomA[:0], a, ta), appendForm(roomB[:0], b, tb))
}

// intoText: a text takes the other's text as it is. Bytes are no text, and an instant would lose what makes it one.
func intoText(a *Column, ta string, b *Column, tb string) bool {
	if b.Fixed {
		tb = strings.TrimRight(tb, " ")
	}
	switch a.Kind {
	case KindBytes, KindTimestampTZ:
		return false
	case KindJSON:
		return sameJSON(ta, tb)
	case KindUUID:
		return strings.EqualFold(ta, tb)
	case KindNative:
		return ta == tb && (!mysqlAlone(a) || !mysqlText(b))
	default:
		return ta == tb
	}
}

// fromText: of a text only what is written as the database itself would write it.
func fromText(a *Column, ta string, b *Column, tb string) bool {
	if a.Fixed {
		ta = strings.TrimRight(ta, " ")
	}
	switch b.Kind {
	case KindInt:
		return plainInteger(ta) && ta == tb
	case KindDecimal:
		if ta == "NaN" || strings.HasSuffix(ta, "Infinity") {
			return ta == tb
		}
		whole, fraction, hasFraction := strings.Cut(ta, ".")
		plain := (plainInteger(whole) || whole == "-0" && hasFraction) && (!hasFraction || digits(fraction))
		return plain && (b.Size == 0 || len(fraction) == b.Scale) && sameNumber(ta, tb)
	case KindJSON:
		return sameJSON(ta, tb)
	case KindUUID:
		return isUUID(ta) && ta == tb
	case KindEnum:
		return ta == tb && slices.Contains(b.Labels, ta)
	case KindSet:
		return sameSet(ta, tb)
	case KindBit, KindInterval, KindTimeTZ:
		return ta == tb
	case KindNative:
		return ta == tb && (!mysqlAlone(b) || addresses[baseType(b.Native)])
	default:
		return false
	}
}

// acrossKinds are the pairs that are neither of one form nor text on either side. What is not here does not mix.
func acrossKinds(a *Column, ta string, b *Column, tb string) bool {
	switch [2]Kind{a.Kind, b.Kind} {
	case [2]Kind{KindInt, KindYear}, [2]Kind{KindYear, KindInt}:
		return withoutZeros(ta) == withoutZeros(tb)
	case [2]Kind{KindInt, KindFloat}:
		whole := wholeFloat(tb, b.Size)
		return whole != "" && sameNumber(ta, whole)
	case [2]Kind{KindBool, KindBit}:
		return b.Size == 1 && ta == tb
	case [2]Kind{KindBit, KindBool}:
		return a.Size == 1 && ta == tb
	case [2]Kind{KindUUID, KindBytes}:
		return (!b.Fixed || b.Size == uuidBytes) && uuidRaw(ta) == tb && tb != ""
	case [2]Kind{KindNative, KindBytes}: // a geometry or a vector, as MySQL stores it
		return ta == tb
	case [2]Kind{KindBytes, KindNative}:
		return ta == tb
	case [2]Kind{KindBytes, KindUUID}:
		return a.Fixed && a.Size == uuidBytes && uuidRaw(tb) == ta && ta != ""
	case [2]Kind{KindTimestampTZ, KindTimestamp}: // of instants only DATETIME reaches beyond 2038 in MySQL: there they stand in UTC
		return mysqlDatetime(b) && !mysqlTimestamp(a) && shortFraction(ta) == shortFraction(tb)
	case [2]Kind{KindTimestamp, KindTimestampTZ}:
		return mysqlDatetime(a) && !mysqlTimestamp(b) && shortFraction(ta) == shortFraction(tb)
	default:
		return false
	}
}

func sameJSON(ta, tb string) bool {
	a, ok := appendJSON(nil, ta)
	if !ok || ta == tb {
		return ok
	}
	b, ok := appendJSON(nil, tb)
	return ok && bytes.Equal(a, b)
}

func sameNumber(ta, tb string) bool {
	var roomA, roomB [64]byte
	return bytes.Equal(appendNumber(roomA[:0], ta), appendNumber(roomB[:0], tb))
}

// sameSet: each database writes a set's labels in the order in which its own column lists them.
func sameSet(ta, tb string) bool {
	if ta == tb {
		return true
	}
	labels := func(text string) []string {
		list := strings.Split(text, ",")
		slices.Sort(list)
		return slices.Compact(list)
	}
	return slices.Equal(labels(ta), labels(tb))
}

// sameNative: equal types; in MySQL, whose log says geometry of every spatial type, also those that differ in a length.
func sameNative(a, b string) bool {
	baseA, baseB := baseType(a), baseType(b)
	return a == b || addresses[baseA] && addresses[baseB] || mysqlNatives[baseA] && mysqlNatives[baseB] && (baseA == baseB || baseA == "geometry") || baseA == "geometry" && (baseB == "point" || baseB == "polygon")
}

// addresses are the types of network addresses, which write one address in one way. Those with a network are Postgres' alone.
var addresses = map[string]bool{"inet": true, "inet4": true, "inet6": true}

// mysqlNatives are the native types that MySQL or MariaDB has and Postgres has not; point and polygon are Postgres' as well.
var mysqlNatives = map[string]bool{
	"geometry": true, "linestring": true, "multipoint": true, "multilinestring": true, "multipolygon": true, "geometrycollection": true,
	"geomcollection": true, "inet4": true, "inet6": true, "vector": true,
}

// mysqlAlone reports whether a native type can only be MySQL's: a geometry and a vector are also types of Postgres' extensions, whose
// values are text.
func mysqlAlone(c *Column) bool {
	base := baseType(c.Native)
	return mysqlNatives[base] && base != "geometry" && base != "vector"
}

// baseType is a native type without its parameters.
func baseType(native string) string {
	base, _, _ := strings.Cut(strings.ToLower(native), "(")
	return base
}

// mysqlText, mysqlDatetime and mysqlTimestamp tell MySQL's types from Postgres' of the same kind by their names.
func mysqlText(c *Column) bool {
	switch baseType(c.Native) {
	case "char", "varchar", "tinytext", "mediumtext", "longtext":
		return true
	case "text":
		return c.Size > 0
	}
	return false
}

func mysqlDatetime(c *Column) bool { return baseType(c.Native) == "datetime" }

func mysqlTimestamp(c *Column) bool {
	return baseType(c.Native) == "timestamp" && !strings.HasSuffix(c.Native, "with time zone")
}

// plainInteger: no sign but a minus, no leading zeros, no blanks.
func plainInteger(s string) bool {
	number := strings.TrimPrefix(s, "-")
	return digits(number) && (number[0] != '0' || s == "0")
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func withoutZeros(text string) string {
	if short := strings.TrimLeft(text, "0"); short != "" {
		return short
	}
	return "0"
}

// wholeFloat writes a float that is a whole number as an integer, as far as every such number has a float of its own; else it
// is empty.
func wholeFloat(text string, size int) string {
	limit := float64(1 << 53)
	if size == 32 {
		limit = 1 << 24
	}
	f, err := strconv.ParseFloat(text, size)
	if err == nil && f >= -limit && f <= limit && f == float64(int64(f)) {
		return strconv.FormatInt(int64(f), 10)
	}
	return ""
}

const (
	uuidBytes = 16
	uuidChars = 36
)

// isUUID: 36 characters, lower case.
func isUUID(text string) bool { return strings.ToLower(text) == text && uuidRaw(text) != "" }

// uuidRaw are the 16 bytes of a uuid's text; empty when it is none.
func uuidRaw(text string) string {
	if len(text) != uuidChars || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return ""
	}
	raw, err := hex.DecodeString(text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:])
	if err != nil {
		return ""
	}
	return string(raw)
}

// uuidText is the text of a uuid's 16 bytes; empty when they are not 16.
func uuidText(raw string) string {
	if len(raw) != uuidBytes {
		return ""
	}
	h := hex.EncodeToString([]byte(raw))
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
