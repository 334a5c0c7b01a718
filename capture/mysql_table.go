package capture

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// mysqlTable is a table as one table map of the binlog describes it. The binlog describes a table anew before each
// statement's rows; equal descriptions share one mysqlTable.
type mysqlTable struct {
	ownSchema, ownName string
	captured           bool
	passing            bool          // only what was applied of other offices is sent on
	own                *ownTable     // nil: an application's table
	table              *schema.Table // nil unless captured or ours
	readers            []mysqlReader // by column
}

// mysqlTableReader makes definitions of table maps. What a table map says, it says for its own moment in the log; what it
// leaves out (JSON in MariaDB, uuid, generated columns, the type's own name) comes from the catalog as it is now, and is
// believed only where both agree on names and types.
type mysqlTableReader struct {
	engine   schema.Engine
	charsets map[uint64]*mysqlCharset // by collation
	json     *mysqlJSON
	// characters completes a character set that is not Unicode, when a column first needs it.
	characters func(*mysqlCharset) error
}

// define makes the definition of a captured table. hint may be nil.
func (d *mysqlTableReader) define(name schema.TableName, m *replication.TableMapEvent, hint *catalog.Table) (*schema.Table, []mysqlReader, error) {
	names := m.ColumnNameString()
	if len(names) != int(m.ColumnCount) {
		return nil, nil, &schema.BrokenError{
			What:   fmt.Sprintf("table %s: the binlog does not name its columns (it was written with another binlog_row_metadata than FULL)", name),
			Remedy: "SET GLOBAL binlog_row_metadata = 'FULL'; what was written before cannot be read: the office needs to join again",
		}
	}
	t := schema.Table{TableName: name, Engine: d.engine, Columns: make([]schema.Column, len(names))}
	readers := make([]mysqlReader, len(names))
	facts, err := newMySQLFacts(m)
	if err != nil {
		return nil, nil, fmt.Errorf("table %s: %w", name, err)
	}
	for i := range names {
		c := &t.Columns[i]
		c.Name = names[i]
		_, c.Nullable = m.Nullable(i)
		var err error
		if readers[i], err = d.column(c, facts, i); err != nil {
			return nil, nil, fmt.Errorf("table %s column %s: %w", name, c.Name, err)
		}
		if readers[i] == nil {
			return nil, nil, &schema.BrokenError{
				What:   fmt.Sprintf("table %s column %s: type %d of the binlog is not known to this program", name, c.Name, facts.types[i]),
				Remedy: "change the column's type (COMPRESSED columns: ALTER TABLE … MODIFY it without COMPRESSED), or flow: none for the table; the office needs to join again",
			}
		}
	}
	for _, k := range m.PrimaryKey {
		if k >= uint64(len(names)) {
			return nil, nil, brokenMySQL("upgrade cdc-sidecar", "table %s: the binlog says that column %d of %d is of the key", name, k, len(names))
		}
		t.Key = append(t.Key, int(k))
	}
	if hint != nil {
		d.refine(&t, readers, facts, hint)
	}
	return schema.NewTable(t), readers, nil
}

// mysqlFacts are a table map's optional parts, by column.
type mysqlFacts struct {
	types      []byte // with enum and set told from strings
	meta       []uint16
	unsigned   map[int]bool
	collations map[int]uint64
	labels     map[int][]string
}

// newMySQLFacts makes an error of the library's panics at optional parts that do not fit the columns, as the library itself does where
// it reads the log.
func newMySQLFacts(m *replication.TableMapEvent) (f mysqlFacts, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = brokenMySQL("upgrade cdc-sidecar", "the binlog describes it in parts that do not fit one another: %v", p)
		}
	}()
	f = mysqlFacts{types: slices.Clone(m.ColumnType), meta: m.ColumnMeta, unsigned: m.UnsignedMap(), collations: m.CollationMap(), labels: m.EnumStrValueMap()}
	if f.labels == nil {
		f.labels = map[int][]string{}
	}
	for i, labels := range m.SetStrValueMap() {
		f.labels[i] = labels
	}
	if f.collations == nil {
		f.collations = map[int]uint64{}
	}
	for i, collation := range m.EnumSetCollationMap() {
		f.collations[i] = collation
	}
	for i := range f.types {
		if m.IsEnumColumn(i) {
			f.types[i] = mysql.MYSQL_TYPE_ENUM
		} else if m.IsSetColumn(i) {
			f.types[i] = mysql.MYSQL_TYPE_SET
		}
	}
	if len(f.types) != len(f.meta) || uint64(len(f.types)) != m.ColumnCount || len(m.NullBitmap) < (len(f.types)+7)/8 {
		return f, brokenMySQL("upgrade cdc-sidecar", "the binlog describes %d columns by %d types", m.ColumnCount, len(f.types))
	}
	return f, nil
}

var mysqlIntegers = map[byte]struct {
	bytes int
	name  string
}{
	mysql.MYSQL_TYPE_TINY: {1, "tinyint"}, mysql.MYSQL_TYPE_SHORT: {2, "smallint"}, mysql.MYSQL_TYPE_INT24: {3, "mediumint"},
	mysql.MYSQL_TYPE_LONG: {4, "int"}, mysql.MYSQL_TYPE_LONGLONG: {8, "bigint"},
}

// column describes a column and gives its reader; nil for a type that this program does not know.
func (d *mysqlTableReader) column(c *schema.Column, f mysqlFacts, i int) (mysqlReader, error) {
	meta := int(f.meta[i])
	if integer, ok := mysqlIntegers[f.types[i]]; ok {
		c.Kind, c.Size, c.Unsigned, c.Native = schema.KindInt, 8*integer.bytes, f.unsigned[i], integer.name
		if c.Unsigned {
			c.Native += " unsigned"
		}
		return readMySQLInt(integer.bytes, c.Unsigned), nil
	}
	switch f.types[i] {
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		c.Kind, c.Size, c.Scale = schema.KindDecimal, meta>>8, meta&0xff
		if c.Scale > c.Size {
			return nil, nil
		}
		c.Native = fmt.Sprintf("decimal(%d,%d)", c.Size, c.Scale)
		return readMySQLDecimal(c.Size, c.Scale), nil
	case mysql.MYSQL_TYPE_FLOAT:
		c.Kind, c.Size, c.Native = schema.KindFloat, 32, "float"
		return readMySQLFloat, nil
	case mysql.MYSQL_TYPE_DOUBLE:
		c.Kind, c.Size, c.Native = schema.KindFloat, 64, "double"
		return readMySQLDouble, nil
	case mysql.MYSQL_TYPE_BIT:
		c.Kind, c.Size, c.Fixed = schema.KindBit, meta>>8*8+meta&0xff, true
		if c.Native = fmt.Sprintf("bit(%d)", c.Size); c.Size > 64 {
			return nil, nil
		}
		return readMySQLBit(c.Size), nil
	case mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET:
		return d.labelled(c, f, i)
	case mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_BLOB:
		return d.text(c, f, i)
	case mysql.MYSQL_TYPE_JSON:
		c.Kind, c.Native = schema.KindJSON, "json"
		return d.json.reader(meta), nil
	case mysql.MYSQL_TYPE_GEOMETRY, mysql.MYSQL_TYPE_VECTOR:
		c.Kind, c.Native = schema.KindNative, "geometry"
		if f.types[i] == mysql.MYSQL_TYPE_VECTOR {
			c.Native = "vector"
		}
		return readMySQLBinary(meta, 0), nil
	}
	return temporal(c, f.types[i], meta), nil
}

func temporal(c *schema.Column, kind byte, digits int) mysqlReader {
	const mostDigits = 6
	if digits > mostDigits {
		return nil
	}
	var r mysqlReader
	switch kind {
	case mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE:
		c.Kind, c.Native, r = schema.KindDate, "date", readMySQLDate
	case mysql.MYSQL_TYPE_YEAR:
		c.Kind, c.Native, r = schema.KindYear, "year", readMySQLYear
	case mysql.MYSQL_TYPE_DATETIME:
		c.Kind, c.Native, r = schema.KindTimestamp, "datetime", readMySQLOldDatetime
	case mysql.MYSQL_TYPE_TIMESTAMP:
		c.Kind, c.Native, r = schema.KindTimestampTZ, "timestamp", readMySQLOldTimestamp
	case mysql.MYSQL_TYPE_TIME:
		c.Kind, c.Native, r = schema.KindTime, "time", readMySQLOldTime
	case mysql.MYSQL_TYPE_DATETIME2:
		c.Kind, c.Native, c.Scale, r = schema.KindTimestamp, "datetime", digits, readMySQLDatetime(digits)
	case mysql.MYSQL_TYPE_TIMESTAMP2:
		c.Kind, c.Native, c.Scale, r = schema.KindTimestampTZ, "timestamp", digits, readMySQLTimestamp(digits)
	case mysql.MYSQL_TYPE_TIME2:
		c.Kind, c.Native, c.Scale, r = schema.KindTime, "time", digits, readMySQLTime(digits)
	}
	if c.Scale > 0 {
		c.Native = fmt.Sprintf("%s(%d)", c.Native, c.Scale)
	}
	return r
}

func (d *mysqlTableReader) labelled(c *schema.Column, f mysqlFacts, i int) (mysqlReader, error) {
	charset, err := d.charset(f, i)
	if err != nil {
		return nil, err
	}
	c.Labels = make([]string, len(f.labels[i]))
	quoted := make([]string, len(c.Labels))
	for j, raw := range f.labels[i] {
		label, err := charset.append(nil, []byte(raw))
		if err != nil {
			return func(dst []byte, _ *mysqlBytes) ([]byte, error) { return dst, err }, nil
		}
		c.Labels[j] = string(label)
		quoted[j] = "'" + strings.ReplaceAll(c.Labels[j], "'", "''") + "'"
	}
	bytes, list := int(f.meta[i]&0xff), "("+strings.Join(quoted, ",")+")"
	if f.types[i] == mysql.MYSQL_TYPE_SET {
		c.Kind, c.Native = schema.KindSet, "set"+list
		return readMySQLSet(bytes, c.Labels), nil
	}
	c.Kind, c.Native = schema.KindEnum, "enum"+list
	return readMySQLEnum(bytes, c.Labels), nil
}

// charset is a column's; where the table map does not say, the collation is 0, which nobody knows.
func (d *mysqlTableReader) charset(f mysqlFacts, i int) (mysqlCharset, error) {
	c := d.charsets[f.collations[i]]
	if c == nil {
		return mysqlCharset{name: fmt.Sprintf("of collation %d", f.collations[i])}, nil
	}
	if c.decode == nil && c.name != "binary" {
		if err := d.characters(c); err != nil {
			return *c, err
		}
	}
	return *c, nil
}

// mysqlBlobs are the four types that the binlog knows by the bytes of their length.
var mysqlBlobs = [5]string{1: "tiny", 2: "", 3: "medium", 4: "long"}

func (d *mysqlTableReader) text(c *schema.Column, f mysqlFacts, i int) (mysqlReader, error) {
	charset, err := d.charset(f, i)
	if err != nil {
		return nil, err
	}
	meta := int(f.meta[i])
	binary := charset.name == "binary"
	c.Kind = schema.KindText
	if binary {
		c.Kind = schema.KindBytes
	}
	if f.types[i] == mysql.MYSQL_TYPE_BLOB {
		if meta < 1 || meta > 4 {
			return nil, nil
		}
		c.Size = catalog.MySQLLength(1<<(8*meta) - 1)
		if binary {
			c.Native = mysqlBlobs[meta] + "blob"
			return readMySQLBinary(meta, 0), nil
		}
		c.Native = mysqlBlobs[meta] + "text"
		return readMySQLText(meta, charset), nil
	}
	length, name := meta, "var"
	if f.types[i] == mysql.MYSQL_TYPE_STRING {
		// The two highest bits of the length hide, turned over, in the type's byte.
		length, name, c.Fixed = meta&0xff|(meta>>4&0x300^0x300), "", true
	}
	lengthBytes := 1
	if length > 255 {
		lengthBytes = 2
	}
	if binary {
		c.Size, c.Native = length, fmt.Sprintf("%sbinary(%d)", name, length)
		if c.Fixed {
			return readMySQLBinary(lengthBytes, length), nil
		}
		return readMySQLBinary(lengthBytes, 0), nil
	}
	c.Size = length / max(charset.width, 1)
	c.Native = fmt.Sprintf("%schar(%d)", name, c.Size)
	return readMySQLText(lengthBytes, charset), nil
}

// refine takes from the catalog what the table map does not say. A column is believed when its name stands at the same
// place and its type is stored in the same way.
func (d *mysqlTableReader) refine(t *schema.Table, readers []mysqlReader, f mysqlFacts, hint *catalog.Table) {
	if len(hint.Columns) != len(t.Columns) {
		return
	}
	for i := range t.Columns {
		c, h := &t.Columns[i], hint.Columns[i]
		if c.Name != h.Name {
			return
		}
		if alike(c, &h) {
			c.Native, c.Kind, c.Size, c.Generated = h.Native, h.Kind, h.Size, h.Generated
			continue
		}
		if r := mariadbStrings[h.Native]; r != nil && f.types[i] == mysql.MYSQL_TYPE_STRING && c.Size == mariadbStringSizes[h.Native] {
			c.Native, c.Kind, c.Size, c.Fixed, c.Generated = h.Native, h.Kind, 0, false, h.Generated
			readers[i] = r
		}
	}
}

// alike says that a column of a table map may be the catalog's.
func alike(c, h *schema.Column) bool {
	same := c.Scale == h.Scale && c.Unsigned == h.Unsigned && c.Fixed == h.Fixed && slices.Equal(c.Labels, h.Labels)
	switch {
	case c.Kind == schema.KindText && h.Kind == schema.KindJSON: // MariaDB
		return same && c.Native == "longtext"
	case c.Kind == schema.KindBytes && h.Kind == schema.KindNative: // MariaDB
		var n int
		_, err := fmt.Sscanf(h.Native, "vector(%d)", &n)
		return err == nil && same && c.Native == fmt.Sprintf("varbinary(%d)", 4*n)
	case c.Kind == schema.KindNative && h.Kind == schema.KindNative: // geometry: the catalog says point, polygon …
		return h.Native != "inet4" && h.Native != "inet6"
	case c.Kind == schema.KindText: // the table map has bytes, and how many a character takes depends on the version
		return same && h.Kind == c.Kind
	default:
		return same && h.Kind == c.Kind && h.Size == c.Size
	}
}

// mariadbStrings are MariaDB's types that the binlog has as strings of bytes, by their names in the catalog.
var (
	mariadbStrings     = map[string]mysqlReader{"uuid": readMariaDBUUID, "inet4": readMariaDBInet4, "inet6": readMariaDBInet6}
	mariadbStringSizes = map[string]int{"uuid": 16, "inet4": 4, "inet6": 16}
)
