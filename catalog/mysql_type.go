package catalog

import (
	"strings"

	"cdc-sidecar/schema"
)

// MySQLType is a column's type as information_schema.COLUMNS has it.
type MySQLType struct {
	Name      string // DATA_TYPE: int, varchar
	Full      string // COLUMN_TYPE: int(10) unsigned, enum('a','b')
	Length    int64  // CHARACTER_MAXIMUM_LENGTH: characters, or bytes of a binary type and of the text types
	Precision int    // NUMERIC_PRECISION
	Scale     int    // NUMERIC_SCALE
	Fraction  int    // DATETIME_PRECISION
}

// Describe fills in what the type says of a column: native name, kind, size, scale, sign, labels.
func (m MySQLType) Describe(c *schema.Column) {
	c.Native, c.Kind = m.Full, mysqlKinds[m.Name]
	switch c.Kind {
	case schema.KindInvalid: // geometry, vector, inet6 and whatever comes: only an equal engine understands it
		c.Kind = schema.KindNative
	case schema.KindInt:
		c.Size, c.Unsigned = mysqlIntegers[m.Name], strings.Contains(m.Full, " unsigned")
	case schema.KindDecimal:
		c.Size, c.Scale = m.Precision, m.Scale
	case schema.KindFloat:
		c.Size = 64
		if m.Name == "float" {
			c.Size = 32
		}
	case schema.KindText, schema.KindBytes:
		c.Size, c.Fixed = MySQLLength(m.Length), m.Name == "char" || m.Name == "binary"
	case schema.KindTime, schema.KindTimestamp, schema.KindTimestampTZ:
		c.Scale = m.Fraction
	case schema.KindEnum, schema.KindSet:
		c.Labels = mysqlLabels(m.Full)
	case schema.KindBit:
		c.Size, c.Fixed = m.Precision, true
	}
}

// MySQLLength is a length for Column.Size: longtext and longblob, which hold 4 GiB, count as not limited.
func MySQLLength(n int64) int {
	if n >= 1<<32-1 {
		return 0
	}
	return int(n)
}

var mysqlIntegers = map[string]int{"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}

// mysqlKinds are the types that have a kind of their own. tinyint(1) stays an integer, for it holds 2 as well; its native
// name tells a target that has booleans.
var mysqlKinds = map[string]schema.Kind{
	"tinyint": schema.KindInt, "smallint": schema.KindInt, "mediumint": schema.KindInt, "int": schema.KindInt, "bigint": schema.KindInt,
	"decimal": schema.KindDecimal, "float": schema.KindFloat, "double": schema.KindFloat,
	"char": schema.KindText, "varchar": schema.KindText,
	"tinytext": schema.KindText, "text": schema.KindText, "mediumtext": schema.KindText, "longtext": schema.KindText,
	"binary": schema.KindBytes, "varbinary": schema.KindBytes,
	"tinyblob": schema.KindBytes, "blob": schema.KindBytes, "mediumblob": schema.KindBytes, "longblob": schema.KindBytes,
	"date": schema.KindDate, "time": schema.KindTime, "datetime": schema.KindTimestamp, "timestamp": schema.KindTimestampTZ,
	"year": schema.KindYear, "json": schema.KindJSON, "uuid": schema.KindUUID, "bit": schema.KindBit,
	"enum": schema.KindEnum, "set": schema.KindSet,
}

// mysqlLabels takes enum('a','it”s') apart. The server writes a quote twice, and a backslash and what would not print
// behind a backslash.
func mysqlLabels(full string) []string {
	_, list, _ := strings.Cut(full, "(")
	var labels []string
	var label strings.Builder
	inside := false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c != '\'' && !inside: // a comma, or the bracket at the end
		case c != '\'' && c != '\\':
			label.WriteByte(c)
		case c == '\\' && i+1 < len(list):
			i++
			label.WriteByte(mysqlEscaped(list[i]))
		case inside && i+1 < len(list) && list[i+1] == '\'':
			i++
			label.WriteByte('\'')
		case inside:
			labels = append(labels, label.String())
			label.Reset()
			inside = false
		default:
			inside = true
		}
	}
	return labels
}

func mysqlEscaped(c byte) byte {
	switch c {
	case '0':
		return 0
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	default:
		return c
	}
}
