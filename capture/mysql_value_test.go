package capture

import (
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// mysqlValueColumns has a column of every type, in an order that mixes types with a sign, without, and year.
const mysqlValueColumns = `id int PRIMARY KEY, y year, i8 tinyint, u8 tinyint unsigned, i16 smallint, u16 smallint unsigned, y2 year,
	i24 mediumint, u24 mediumint unsigned, i32 int, u32 int unsigned, i64 bigint, u64 bigint unsigned, b1 tinyint(1),
	d1 decimal(65,30), d2 decimal(9), d3 decimal(10,9) unsigned, d4 decimal(1,1), d5 decimal(18,9), f float, g double,
	bit1 bit(1), bit7 bit(7), bit64 bit(64), da date, t0 time, t1 time(1), t3 time(3), t6 time(6),
	dt0 datetime, dt2 datetime(2), dt4 datetime(4), dt6 datetime(6), ts0 timestamp NULL, ts3 timestamp(3) NULL, ts6 timestamp(6) NULL,
	c char(10), c255 char(255), vc varchar(20), vc2 varchar(300), tt tinytext, tx text, mt mediumtext, lt longtext,
	bi binary(4), vb varbinary(4), vb2 varbinary(400), tb tinyblob, bl blob, mb mediumblob, lb longblob,
	e enum('a','b''c','d\\e','','ü'), s set('x','y','z'), e300 enum(%s)`

func mysqlValueTable() string {
	var labels []string
	for i := range 300 {
		labels = append(labels, fmt.Sprintf("'l%d'", i))
	}
	return "CREATE TABLE v (" + fmt.Sprintf(mysqlValueColumns, strings.Join(labels, ",")) + ") CHARACTER SET utf8mb4"
}

// mysqlValues are values that went wrong somewhere once, in SQL, and their canonical text.
var mysqlValues = []struct{ column, sql, text string }{
	{"y", "0", "0000"},
	{"y", "1901", "1901"},
	{"y2", "2155", "2155"},
	{"i8", "-128", "-128"},
	{"u8", "255", "255"},
	{"i16", "-32768", "-32768"},
	{"u16", "65535", "65535"},
	{"i24", "-8388608", "-8388608"},
	{"u24", "16777215", "16777215"},
	{"i32", "-2147483648", "-2147483648"},
	{"u32", "4294967295", "4294967295"},
	{"i64", "-9223372036854775808", "-9223372036854775808"},
	{"u64", "18446744073709551615", "18446744073709551615"},
	{"b1", "true", "1"},
	{"b1", "7", "7"},
	{"d1", "-12345678901234567890123456789012345.000000000000000000000000000001", "-12345678901234567890123456789012345.000000000000000000000000000001"},
	{"d1", "0", "0.000000000000000000000000000000"},
	{"d1", "-0.0", "0.000000000000000000000000000000"},
	{"d1", "100000000", "100000000.000000000000000000000000000000"},
	{"d2", "-999999999", "-999999999"},
	{"d2", "10", "10"},
	{"d3", "9.000000001", "9.000000001"},
	{"d4", "-0.9", "-0.9"},
	{"d5", "1000000001.5", ""},
	{"d5", "100000000.000000010", "100000000.000000010"},
	{"f", "1.5", "1.5"},
	{"f", "-3.4028234e38", "-3.4028235e+38"},
	{"f", "16777216", "1.6777216e+07"},
	{"f", "0.1", "0.1"},
	{"g", "0.1", "0.1"},
	{"g", "-1.7976931348623157e308", "-1.7976931348623157e+308"},
	{"g", "123456789012345678", "1.2345678901234568e+17"},
	{"g", "5e-324", "5e-324"},
	{"bit1", "b'1'", "1"},
	{"bit7", "b'101'", "0000101"},
	{"bit64", "b'1000000000000000000000000000000000000000000000000000000000000001'", "1000000000000000000000000000000000000000000000000000000000000001"},
	{"da", "'0000-00-00'", "0000-00-00"},
	{"da", "'2024-00-31'", "2024-00-31"},
	{"da", "'9999-12-31'", "9999-12-31"},
	{"da", "'0001-01-01'", "0001-01-01"},
	{"t0", "'-838:59:59'", "-838:59:59"},
	{"t0", "'00:00:00'", "00:00:00"},
	{"t1", "'-00:00:00.1'", "-00:00:00.1"},
	{"t3", "'-1:02:03.45'", "-01:02:03.45"},
	{"t6", "'-838:59:58.999999'", "-838:59:58.999999"},
	{"t6", "'12:00:00.000001'", "12:00:00.000001"},
	{"t6", "'0:0:1'", "00:00:01"},
	{"dt0", "'0000-00-00 00:00:00'", "0000-00-00 00:00:00"},
	{"dt0", "'2024-02-00 01:02:03'", "2024-02-00 01:02:03"},
	{"dt2", "'2024-02-29 23:59:59.10'", "2024-02-29 23:59:59.1"},
	{"dt4", "'1000-01-01 00:00:00.0001'", "1000-01-01 00:00:00.0001"},
	{"dt6", "'9999-12-31 23:59:59.999999'", "9999-12-31 23:59:59.999999"},
	{"dt6", "'2000-01-01'", "2000-01-01 00:00:00"},
	{"ts0", "0", "0000-00-00 00:00:00"},
	{"ts0", "'1970-01-01 00:00:01'", "1970-01-01 00:00:01"},
	{"ts3", "'2038-01-19 03:14:07.999'", "2038-01-19 03:14:07.999"},
	{"ts6", "'2024-06-01 12:00:00.5'", "2024-06-01 12:00:00.5"},
	{"c", "'ab  '", "ab"},
	{"c", "''", ""},
	{"c255", "repeat('ü', 255)", strings.Repeat("ü", 255)},
	{"vc", "'ab  '", "ab  "},
	{"vc", "'🙂🙂'", "🙂🙂"},
	{"vc2", "repeat('€', 300)", strings.Repeat("€", 300)},
	{"tt", "'x'", "x"},
	{"tx", "repeat('ab', 30000)", strings.Repeat("ab", 30000)},
	{"mt", "repeat('ab', 50000)", strings.Repeat("ab", 50000)},
	{"lt", "'a\\0b'", "a\x00b"},
	{"bi", "x'01'", "\x01\x00\x00\x00"},
	{"bi", "''", "\x00\x00\x00\x00"},
	{"bi", "x'00ff2000'", "\x00\xff \x00"},
	{"vb", "x'0100'", "\x01\x00"},
	{"vb2", "repeat(x'ff', 400)", strings.Repeat("\xff", 400)},
	{"tb", "x'00'", "\x00"},
	{"bl", "x'ff00'", "\xff\x00"},
	{"mb", "repeat(x'00', 70000)", strings.Repeat("\x00", 70000)},
	{"lb", "''", ""},
	{"e", "'b''c'", "b'c"},
	{"e", `'d\\e'`, `d\e`},
	{"e", "''", ""},
	{"e", "'ü'", "ü"},
	{"e300", "'l299'", "l299"},
	{"s", "'z,x'", "x,z"},
	{"s", "''", ""},
	{"s", "'x,y,z'", "x,y,z"},
}

func TestMySQLValues(t *testing.T) { testMySQLValues(t, mariaDBServers.Set(t).MariaDB[0]) }

func TestMySQLValuesOracle(t *testing.T) { testMySQLValues(t, oracle(t)) }

func testMySQLValues(t *testing.T, server servers.Database) {
	o := onMySQL(t, server, "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION'", mysqlValueTable())
	src := o.open()
	for i, v := range mysqlValues {
		o.exec(fmt.Sprintf("INSERT INTO v (id, %s) VALUES (%d, %s)", v.column, i, v.sql))
	}
	o.exec("INSERT INTO v (id, e) VALUES (-1, 'no label')", "UPDATE v SET vc = 'end' WHERE id = -1")
	next := 0
	collect(t, src, func(tx *schema.Transaction) bool {
		c := tx.Changes[0]
		if next == len(mysqlValues) {
			if e := c.After[c.Table.Column("e")]; c.After[0].Text() != "-1" || e.State() != schema.Present || e.Text() != "" {
				t.Errorf("%v: an enum's empty error value", c.After)
			}
			return c.Op == schema.Update
		}
		want := mysqlValues[next]
		next++
		for i, column := range c.Table.Columns {
			v := c.After[i]
			switch {
			case column.Name == want.column && v.Text() != want.text && want.text != "":
				t.Errorf("%s = %s: got %.100q, want %.100q", want.column, want.sql, v.Text(), want.text)
			case column.Name == want.column && v.State() != schema.Present,
				column.Name != want.column && column.Name != "id" && v.State() != schema.Null:
				t.Errorf("%s = %s: column %s is %v", want.column, want.sql, column.Name, v)
			}
		}
		return false
	})
	if next != len(mysqlValues) {
		t.Errorf("%d of %d rows came", next, len(mysqlValues))
	}
}

// TestMySQLDefinition compares what the table map says with the catalog: they are made independently.
func TestMySQLDefinition(t *testing.T) { testMySQLDefinition(t, mariaDBServers.Set(t).MariaDB[0]) }

func TestMySQLDefinitionOracle(t *testing.T) { testMySQLDefinition(t, oracle(t)) }

func testMySQLDefinition(t *testing.T, server servers.Database) {
	o := onMySQL(t, server, mysqlValueTable())
	src := o.open()
	o.exec("INSERT INTO v (id) VALUES (1)")
	hint, err := readHint(t, src, o, "v")
	if err != nil {
		t.Fatal(err)
	}
	collect(t, withoutHints{src}, func(tx *schema.Transaction) bool {
		for i, got := range tx.Changes[0].Table.Columns {
			want := hint.Columns[i]
			got.Native, want.Native = "", ""
			if got.Name == "id" {
				want.Nullable = false
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("table map %+v\ncatalog   %+v", got, want)
			}
		}
		if !slices.Equal(tx.Changes[0].Table.Key, hint.Key) {
			t.Errorf("key %v, want %v", tx.Changes[0].Table.Key, hint.Key)
		}
		return true
	})
}

// TestMySQLJSON compares with the server's own text.
func TestMySQLJSON(t *testing.T) {
	o := onMySQL(t, oracle(t), "CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, j json)")
	src := o.open()
	for _, v := range []string{
		`'{"b": 1, "a": [true, null, "ü:,{\\"\\\\"], "": {}}'`, `'[]'`, `'"text"'`, `'null'`, `'-9223372036854775808'`, `'18446744073709551615'`, `'1.5'`, `'0.1'`, `'1.0'`,
		`'"\\u0000\\n€🙂"'`, `JSON_OBJECT('k', CAST('2024-01-02 03:04:05.678' AS DATETIME(3)), 'd', CAST('2024-01-02' AS DATE), 't', CAST('-01:02:03' AS TIME), 'n', CAST('12345678901234567890.123456789' AS DECIMAL(40,9)))`,
		`JSON_OBJECT('long', repeat('x', 70000), 'more', JSON_ARRAY(1, -1, 70000, -70000, 5000000000))`, `NULL`,
	} {
		o.exec("INSERT INTO t (j) VALUES (" + v + ")")
	}
	o.exec("UPDATE t SET j = JSON_SET(j, '$.b', 2) WHERE id = 1")
	o.end()
	rows := map[string]string{}
	for _, tx := range loud(readUntil(t, src)) {
		rows[tx.Changes[0].After[0].Text()] = tx.Changes[0].After[1].String()
	}
	for id, got := range rows {
		var want sql.NullString
		o.scan("SELECT CAST(j AS CHAR) FROM t WHERE id = "+id, &want)
		text := schema.NullValue()
		if want.Valid {
			text = schema.Of(want.String)
		}
		if got != text.String() {
			t.Errorf("row %s: got %.300s, want %.300s", id, got, text)
		}
	}
}

// TestMySQLReaders reads back what the formats' own definition writes.
func TestMySQLReaders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.IntRange(0, 6).Draw(t, "digits")
		micros := rapid.Uint64Range(0, 999999).Draw(t, "micros") / pow10(6-digits) * pow10(6-digits)
		h, m, s := rapid.Uint64Range(0, 838).Draw(t, "h"), rapid.Uint64Range(0, 59).Draw(t, "m"), rapid.Uint64Range(0, 59).Draw(t, "s")
		places := (digits + 1) / 2
		fraction := micros / pow10(6-2*places)
		number := int64((h<<12|m<<6|s)<<(8*places) | fraction)
		want := fmt.Sprintf("%02d:%02d:%02d", h, m, s)
		if micros > 0 {
			want += "." + strings.TrimRight(fmt.Sprintf("%06d", micros), "0")
		}
		if rapid.Bool().Draw(t, "negative") && number != 0 {
			number, want = -number, "-"+want
		}
		b := bigEndian(uint64(number+1<<(23+8*places)), 3+places)
		if got, err := readMySQLTime(digits)(nil, &mysqlBytes{b: b}); err != nil || string(got) != want {
			t.Fatalf("time(%d) % x: %q, %v, want %q", digits, b, got, err, want)
		}
		n := rapid.Int64().Draw(t, "n")
		for _, size := range []int{1, 2, 3, 4, 8} {
			v := n << (64 - 8*size) >> (64 - 8*size)
			little := bigEndian(uint64(v), size)
			slices.Reverse(little)
			if got, _ := readMySQLInt(size, false)(nil, &mysqlBytes{b: little}); string(got) != strconv.FormatInt(v, 10) {
				t.Fatalf("int of %d bytes: %q, want %d", size, got, v)
			}
		}
	})
}

func pow10(n int) uint64 { return uint64(math.Pow10(n)) }

func bigEndian(v uint64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[n-1-i] = byte(v >> (8 * i))
	}
	return b
}
