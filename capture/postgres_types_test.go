package capture

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// Every built-in scalar type, and what users make of them.
var postgresTypeCases = []struct{ native, literal, kind, text string }{
	{"smallint", "-32768", "int/16", "-32768"},
	{"integer", "2147483647", "int/32", "2147483647"},
	{"bigint", "-9223372036854775808", "int/64", "-9223372036854775808"},
	{"oid", "4294967295", "int/32 unsigned", "4294967295"},
	{"boolean", "true", "bool", "1"},
	{"numeric", "'NaN'", "decimal/0,-1", "NaN"},
	{"numeric", "'-Infinity'", "decimal/0,-1", "-Infinity"},
	{"numeric", "1e-30", "decimal/0,-1", "0.000000000000000000000000000001"},
	{"numeric(20,5)", "1.50", "decimal/20,5", "1.50000"},
	{"numeric(3,-2)", "12345", "decimal/3,-2", "12300"},
	{"real", "1e7", "float/32", "1e+07"},
	{"double precision", "'-Infinity'", "float/64", "-Infinity"},
	{"double precision", "'5e-324'", "float/64", "5e-324"},
	{"text", "'x'", "text", "x"},
	{"character varying(12)", "'x '", "text/12", "x "},
	{"character varying", "'x'", "text", "x"},
	{"character(4)", "'ab'", "text/4 fixed", "ab"},
	{"bpchar", "'ab  '", "text", "ab  "},
	{"name", "'x'", "text/63", "x"},
	{"bytea", `'\x00c0ff'`, "bytes", "\x00\xc0\xff"},
	{"date", "'0044-03-15 BC'", "date", "0044-03-15 BC"},
	{"date", "'infinity'", "date", "infinity"},
	{"time without time zone", "'24:00:00'", "time/0,6", "24:00:00"},
	{"time(2) without time zone", "'01:02:03.456'", "time/0,2", "01:02:03.46"},
	{"time with time zone", "'01:02:03.4-07:30'", "timetz/0,6", "01:02:03.4-07:30"},
	{"timestamp without time zone", "'infinity'", "timestamp/0,6", "infinity"},
	{"timestamp(0) without time zone", "'294276-12-31 23:59:59'", "timestamp/0", "294276-12-31 23:59:59"},
	{"timestamp with time zone", "'2024-03-31 03:30:00.120+02'", "timestamptz/0,6", "2024-03-31 01:30:00.12"},
	{"timestamp with time zone", "'0001-01-01 00:00:00+00 BC'", "timestamptz/0,6", "0001-01-01 00:00:00 BC"},
	{"interval", "'1 year -2 days 03:04:05.6'", "interval", "1 year -2 days +03:04:05.6"},
	{"json", `'{"b":1, "b": 2}'`, "json", `{"b":1, "b": 2}`},
	{"jsonb", `'{"b":1, "b": 2}'`, "json", `{"b": 2}`},
	{"uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
	{"bit(3)", "B'101'", "bit/3 fixed", "101"},
	{"bit varying(9)", "B'0011'", "bit/9", "0011"},
	{"mood", "'it''s'", "enum [sad it's]", "it's"},
	{"positive", "7", "int/32", "7"},
	{"price", "1.5", "decimal/8,2", "1.50"},
	{"moods", "'sad'", "enum [sad it's]", "sad"},
	{"money", "1234.5", "native", "$1,234.50"},
	{"inet", "'10.0.0.1/8'", "native", "10.0.0.1/8"},
	{"macaddr", "'08002b:010203'", "native", "08:00:2b:01:02:03"},
	{"point", "'(1,2)'", "native", "(1,2)"},
	{"integer[]", "'{1,NULL,3}'", "native", "{1,NULL,3}"},
	{"int4range", "'[1,5)'", "native", "[1,5)"},
	{"tsvector", "'a b'", "native", "'a' 'b'"},
	{"xml", "'<a/>'", "native", "<a/>"},
	{"pair", "'(1,x)'", "native", "(1,x)"},
}

// Kind and canonical text of every type; the definition in the event is the one that the catalog gives.
func TestPostgresTypes(t *testing.T) {
	columns, literals := []string{"id int PRIMARY KEY"}, []string{"1"}
	for i, c := range postgresTypeCases {
		columns = append(columns, fmt.Sprintf("c%d %s", i, c.native))
		literals = append(literals, c.literal)
	}
	o := newPostgresOffice(t, `CREATE TYPE mood AS ENUM ('sad', 'it''s')`, `CREATE DOMAIN positive AS int CHECK (VALUE > 0)`,
		`CREATE DOMAIN price0 AS numeric(8, 2)`, `CREATE DOMAIN price AS price0`, `CREATE DOMAIN moods AS mood`,
		`CREATE TYPE pair AS (a int, b text)`,
		`CREATE TABLE t (`+strings.Join(columns, ", ")+`)`)
	p := o.open()
	o.exec(`INSERT INTO t VALUES (` + strings.Join(literals, ", ") + `)`)
	change := o.read(p, 1)[0].Changes[0]
	for i, c := range postgresTypeCases {
		column := &change.Table.Columns[i+1]
		if got := kindText(column); got != c.kind || column.Native != c.native {
			t.Errorf("%s: %s, called %s; want %s", c.native, got, column.Native, c.kind)
		}
		if got := change.After[i+1].Text(); got != c.text {
			t.Errorf("%s %s: got %q, want %q", c.native, c.literal, got, c.text)
		}
	}
	tables, err := catalog.ReadPostgres(t.Context(), o.conn, "public")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(change.Table.Columns, tables[0].Columns); diff != "" || change.Table.Fingerprint() != tables[0].Fingerprint() {
		t.Errorf("log and catalog disagree (-log +catalog):\n%s", diff)
	}
}

func kindText(c *schema.Column) string {
	s := c.Kind.String()
	switch {
	case c.Scale != 0:
		s += fmt.Sprintf("/%d,%d", c.Size, c.Scale)
	case c.Size != 0 || c.Kind == schema.KindTimestamp:
		s += fmt.Sprintf("/%d", c.Size)
	}
	if c.Unsigned {
		s += " unsigned"
	}
	if c.Fixed {
		s += " fixed"
	}
	if len(c.Labels) > 0 {
		s += fmt.Sprint(" ", c.Labels)
	}
	return s
}

// Whatever is written is what is captured, whatever it is.
func TestPostgresValuesAreExact(t *testing.T) {
	o := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY, i bigint, f4 real, f8 double precision, d numeric, s text, b bytea, t timestamptz)`)
	p := o.open()
	id := 0
	rapid.Check(t, func(rt *rapid.T) {
		id++
		i := rapid.Int64().Draw(rt, "bigint")
		f4 := rapid.Float32().Draw(rt, "real")
		f8 := rapid.Float64().Draw(rt, "double")
		d := fmt.Sprintf("%d.%0*d", rapid.Int64().Draw(rt, "units"), rapid.IntRange(1, 12).Draw(rt, "digits"), rapid.Uint32().Draw(rt, "fraction"))
		s := strings.ToValidUTF8(strings.ReplaceAll(rapid.String().Draw(rt, "text"), "\x00", ""), "")
		b := rapid.SliceOf(rapid.Byte()).Draw(rt, "bytes")
		at := time.UnixMicro(rapid.Int64Range(-60e15, 200e15).Draw(rt, "time")).UTC()
		_, err := o.conn.Exec(t.Context(), `INSERT INTO t VALUES ($1, $2, $3, $4, $5::text::numeric, $6, $7, $8)`, id, i, f4, f8, d, s, b, at)
		if err != nil {
			rt.Fatal(err)
		}
		want := []string{
			strconv.Itoa(id), strconv.FormatInt(i, 10), strconv.FormatFloat(float64(f4), 'g', -1, 32), strconv.FormatFloat(f8, 'g', -1, 64),
			d, s, string(b), at.Format("2006-01-02 15:04:05.999999"),
		}
		row := o.read(p, 1)[0].Changes[0].After
		for column, v := range row {
			if v.Text() != want[column] && !(math.IsNaN(f8) && column == 3) {
				rt.Fatalf("column %d: wrote %q, captured %q", column, want[column], v.Text())
			}
		}
	})
}
