package catalog

import (
	"slices"
	"strings"
	"testing"

	"cdc-sidecar/schema"
)

func TestPostgresValues(t *testing.T) {
	for _, test := range []struct {
		column schema.Column
		text   string
		want   string // empty: refused
	}{
		{schema.Column{Kind: schema.KindBool}, "t", "1"},
		{schema.Column{Kind: schema.KindBool}, "f", "0"},
		{schema.Column{Kind: schema.KindBool}, "yes", ""},
		{schema.Column{Kind: schema.KindBytes}, `\x00ff`, "\x00\xff"},
		{schema.Column{Kind: schema.KindBytes}, `\377`, ""},
		{schema.Column{Kind: schema.KindBytes}, `\x0`, ""},
		{schema.Column{Kind: schema.KindFloat, Size: 64}, "1000000", "1e+06"},
		{schema.Column{Kind: schema.KindFloat, Size: 64}, "0.1", "0.1"},
		{schema.Column{Kind: schema.KindFloat, Size: 64}, "-0", "-0"},
		{schema.Column{Kind: schema.KindFloat, Size: 64}, "-Infinity", "-Infinity"},
		{schema.Column{Kind: schema.KindFloat, Size: 32}, "1.17549435e-38", "1.1754944e-38"},
		{schema.Column{Kind: schema.KindFloat, Size: 32}, "one", ""},
		{schema.Column{Kind: schema.KindTimestampTZ}, "2024-01-01 00:00:00.5+00", "2024-01-01 00:00:00.5"},
		{schema.Column{Kind: schema.KindTimestampTZ}, "0044-03-15 12:00:00+00 BC", "0044-03-15 12:00:00 BC"},
		{schema.Column{Kind: schema.KindTimestampTZ}, "-infinity", "-infinity"},
		{schema.Column{Kind: schema.KindTimestampTZ}, "2024-01-01 00:00:00+01", ""},
		{schema.Column{Kind: schema.KindText, Fixed: true, Size: 5}, "ab   ", "ab"},
		{schema.Column{Kind: schema.KindText, Size: 5}, "ab   ", "ab   "},
		{schema.Column{Kind: schema.KindDecimal}, "-10.50", "-10.50"},
	} {
		got, err := convert(PostgresCanonical(&test.column), test.text)
		if (err != nil) != (test.want == "") || got != test.want && err == nil {
			t.Errorf("%s %q: got %q, %v; want %q", test.column.Kind, test.text, got, err, test.want)
		}
	}
}

func TestMySQLCanonical(t *testing.T) {
	const refused = "\x00refused"
	for _, test := range []struct {
		column     schema.Column
		text, want string
	}{
		{schema.Column{Kind: schema.KindInt, Native: "int(5) unsigned zerofill"}, "00042", "42"},
		{schema.Column{Kind: schema.KindInt, Native: "int(5) unsigned zerofill"}, "00000", "0"},
		{schema.Column{Kind: schema.KindDecimal, Native: "decimal(6,2) unsigned zerofill"}, "0000.50", "0.50"},
		{schema.Column{Kind: schema.KindFloat, Size: 32}, "0.10000000149011612", "0.1"},
		{schema.Column{Kind: schema.KindFloat, Size: 64}, "0.10000000149011612", "0.10000000149011612"},
		{schema.Column{Kind: schema.KindFloat, Size: 64}, "one", refused},
		{schema.Column{Kind: schema.KindTime, Scale: 6}, "-00:00:01.500000", "-00:00:01.5"},
		{schema.Column{Kind: schema.KindTimestamp, Scale: 3}, "2024-01-01 00:00:00.000", "2024-01-01 00:00:00"},
		{schema.Column{Kind: schema.KindTimestamp}, "2024-01-01 10:00:00", "2024-01-01 10:00:00"},
		{schema.Column{Kind: schema.KindYear}, "0", "0000"},
		{schema.Column{Kind: schema.KindYear}, "20240", refused},
		{schema.Column{Kind: schema.KindBit, Size: 9}, "\x01\x02", "100000010"},
		{schema.Column{Kind: schema.KindBit, Size: 9}, "\x01", refused},
		{schema.Column{Kind: schema.KindText, Fixed: true}, "ab  ", "ab"},
		{schema.Column{Kind: schema.KindText}, "ab  ", "ab  "},
		{schema.Column{Kind: schema.KindText}, "\xff", refused},
		{schema.Column{Kind: schema.KindBytes}, "\xff ", "\xff "},
	} {
		got, err := convert(MySQLCanonical(&test.column), test.text)
		if (err != nil) != (test.want == refused) || got != test.want && err == nil {
			t.Errorf("%s %q: got %q, %v; want %q", test.column.Kind, test.text, got, err, test.want)
		}
	}
}

func TestReader(t *testing.T) {
	columns := []schema.Column{{Name: "a", Kind: schema.KindBool}, {Name: `b"c`, Kind: schema.KindInt, Generated: true}, {Name: "d`e", Kind: schema.KindText}}
	table := func(engine schema.Engine) *Table {
		return &Table{Table: schema.NewTable(schema.Table{TableName: schema.TableName{Name: "t"}, Engine: engine, Columns: columns, Key: []int{2}})}
	}
	for _, test := range []struct {
		reader *Reader
		list   string
		width  int
	}{
		{NewReader(table(schema.Postgres)), "\"a\", \"d`e\"", 2}, // its log has no generated columns
		{NewReader(table(schema.MySQL)), "`a`, `b\"c`, `d``e`", 3},
		{NewKeyReader(table(schema.Postgres)), "\"d`e\"", 1},
	} {
		if test.reader.Select() != test.list || test.reader.Width() != test.width {
			t.Errorf("%s, %d; want %s, %d", test.reader.Select(), test.reader.Width(), test.list, test.width)
		}
	}
	r := NewReader(table(schema.Postgres))
	value := []byte("x")
	row, err := r.Row([][]byte{nil, value})
	value[0] = 'y' // the row has its own
	if want := (schema.Row{schema.NullValue(), {}, schema.Of("x")}); err != nil || !slices.Equal(row, want) {
		t.Errorf("got %v, %v; want %v", row, err, want)
	}
	if _, err := r.Row([][]byte{[]byte("maybe"), nil}); err == nil || !strings.Contains(err.Error(), "table t column a") {
		t.Errorf("a value of another type: %v", err)
	}
	if _, err := r.Row([][]byte{nil}); err == nil {
		t.Error("a row that is too short is taken")
	}
}

func convert(canonical func(string) (string, error), text string) (string, error) {
	if canonical == nil {
		return text, nil
	}
	return canonical(text)
}
