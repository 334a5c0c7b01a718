package schema

import (
	"slices"
	"strings"
	"testing"
)

// sampleColumns are columns by a short name, as the catalog describes them: the engine, then the type.
var sampleColumns = map[string]Column{
	"pg bool":          {Kind: KindBool, Native: "boolean"},
	"pg int2":          {Kind: KindInt, Size: 16, Native: "smallint"},
	"pg int4":          {Kind: KindInt, Size: 32, Native: "integer"},
	"pg int8":          {Kind: KindInt, Size: 64, Native: "bigint"},
	"pg numeric":       {Kind: KindDecimal, Scale: -1, Native: "numeric"},
	"pg numeric(9,2)":  {Kind: KindDecimal, Size: 9, Scale: 2, Native: "numeric(9,2)"},
	"pg float4":        {Kind: KindFloat, Size: 32, Native: "real"},
	"pg float8":        {Kind: KindFloat, Size: 64, Native: "double precision"},
	"pg text":          {Kind: KindText, Native: "text"},
	"pg char(5)":       {Kind: KindText, Size: 5, Fixed: true, Native: "character(5)"},
	"pg bytea":         {Kind: KindBytes, Native: "bytea"},
	"pg date":          {Kind: KindDate, Native: "date"},
	"pg time":          {Kind: KindTime, Scale: 6, Native: "time without time zone"},
	"pg timetz":        {Kind: KindTimeTZ, Scale: 6, Native: "time with time zone"},
	"pg timestamp":     {Kind: KindTimestamp, Scale: 6, Native: "timestamp without time zone"},
	"pg timestamptz":   {Kind: KindTimestampTZ, Scale: 6, Native: "timestamp with time zone"},
	"pg interval":      {Kind: KindInterval, Native: "interval"},
	"pg jsonb":         {Kind: KindJSON, Native: "jsonb"},
	"pg uuid":          {Kind: KindUUID, Native: "uuid"},
	"pg enum":          {Kind: KindEnum, Native: "colour", Labels: []string{"red", "green"}},
	"pg bit(1)":        {Kind: KindBit, Size: 1, Fixed: true, Native: "bit(1)"},
	"pg varbit":        {Kind: KindBit, Native: "bit varying"},
	"pg inet":          {Kind: KindNative, Native: "inet"},
	"pg integer[]":     {Kind: KindNative, Native: "integer[]"},
	"pg text[]":        {Kind: KindNative, Native: "text[]"},
	"pg point":         {Kind: KindNative, Native: "point"},
	"pg geometry":      {Kind: KindNative, Native: "geometry(PointZ,4326)"},
	"pg vector":        {Kind: KindNative, Native: "vector(2)"},
	"my tinyint(1)":    {Kind: KindInt, Size: 8, Native: "tinyint(1)"},
	"my bigint":        {Kind: KindInt, Size: 64, Native: "bigint(20)"},
	"my decimal(9,1)":  {Kind: KindDecimal, Size: 9, Scale: 1, Native: "decimal(9,1)"},
	"my decimal(9,3)":  {Kind: KindDecimal, Size: 9, Scale: 3, Native: "decimal(9,3)"},
	"my float":         {Kind: KindFloat, Size: 32, Native: "float"},
	"my double":        {Kind: KindFloat, Size: 64, Native: "double"},
	"my char(5)":       {Kind: KindText, Size: 5, Fixed: true, Native: "char(5)"},
	"my char(36)":      {Kind: KindText, Size: 36, Fixed: true, Native: "char(36)"},
	"my varchar(40)":   {Kind: KindText, Size: 40, Native: "varchar(40)"},
	"my longtext":      {Kind: KindText, Native: "longtext"},
	"my binary(4)":     {Kind: KindBytes, Size: 4, Fixed: true, Native: "binary(4)"},
	"my binary(16)":    {Kind: KindBytes, Size: 16, Fixed: true, Native: "binary(16)"},
	"my varbinary(16)": {Kind: KindBytes, Size: 16, Native: "varbinary(16)"},
	"my date":          {Kind: KindDate, Native: "date"},
	"my time(6)":       {Kind: KindTime, Scale: 6, Native: "time(6)"},
	"my datetime(6)":   {Kind: KindTimestamp, Scale: 6, Native: "datetime(6)"},
	"my datetime(3)":   {Kind: KindTimestamp, Scale: 3, Native: "datetime(3)"},
	"my timestamp(6)":  {Kind: KindTimestampTZ, Scale: 6, Native: "timestamp(6)"},
	"my year":          {Kind: KindYear, Native: "year(4)"},
	"my json":          {Kind: KindJSON, Native: "longtext"},
	"my enum":          {Kind: KindEnum, Native: "enum('red','green')", Labels: []string{"red", "green"}},
	"my set":           {Kind: KindSet, Native: "set('red','green')", Labels: []string{"red", "green"}},
	"my set reversed":  {Kind: KindSet, Native: "set('green','red')", Labels: []string{"green", "red"}},
	"my bit(1)":        {Kind: KindBit, Size: 1, Fixed: true, Native: "bit(1)"},
	"my uuid":          {Kind: KindUUID, Native: "uuid"},
	"my inet6":         {Kind: KindNative, Native: "inet6"},
	"my geometry":      {Kind: KindNative, Native: "geometry"},
	"my linestring":    {Kind: KindNative, Native: "linestring"},
	"my point":         {Kind: KindNative, Native: "point"},
}

// What is to be found of two values.
const (
	alike   = "alike"    // the same, and the hashes say so
	aSecond = "a second" // the same, but the hashes cannot say so: a second look
	differ  = "differ"
)

const aUUID = "0a1b2c3d-0000-4000-8000-00000000000f"

// pairs are values of a column there and one here, each as its own database writes it.
var pairs = []struct {
	a, ta, b, tb string
	want         string
}{
	{"pg numeric", "1.50", "my decimal(9,1)", "1.5", alike},
	{"pg numeric", "1.5", "my decimal(9,3)", "1.500", alike},
	{"pg numeric", "15e-1", "my decimal(9,3)", "1.500", alike},
	{"pg numeric", "0.15E+1", "my decimal(9,3)", "1.500", alike},
	{"pg numeric", "-0.00", "my decimal(9,1)", "0.0", alike},
	{"pg numeric", "0000.5", "my decimal(9,1)", "0.5", alike},
	{"pg numeric", "100", "my decimal(9,1)", "100.0", alike},
	{"pg numeric", "100", "my decimal(9,1)", "10.0", differ},
	{"pg numeric", "-1.5", "my decimal(9,1)", "1.5", differ},
	{"pg numeric", "1.50000000000000000001", "my decimal(9,1)", "1.5", differ},
	{"pg numeric", "12345678901234567890123", "pg numeric", "12345678901234567890124", differ},
	{"pg numeric", "NaN", "pg numeric", "NaN", alike},
	{"pg numeric", "Infinity", "pg numeric", "-Infinity", differ},
	{"pg numeric", "NaN", "pg numeric", "0", differ},
	{"pg numeric", "1e99999999999999999999", "pg numeric", "1e99999999999999999998", differ},
	{"pg bool", "1", "my tinyint(1)", "1", alike},
	{"my tinyint(1)", "0", "pg bool", "0", alike},
	{"my tinyint(1)", "2", "pg bool", "1", differ},
	{"pg int4", "-7", "my bigint", "-7", alike},
	{"pg int4", "70", "pg int4", "7", differ},
	{"my bigint", "1500", "pg numeric", "1500.000", alike},
	{"pg numeric", "1.0", "pg bool", "1", alike},
	{"pg float8", "1e+06", "my double", "1000000", alike},
	{"pg float8", "0.1", "pg float4", "0.1", differ},
	{"pg float4", "0.5", "my double", "0.5", alike},
	{"pg float4", "0.1", "my double", "0.10000000149011612", alike},
	{"pg float8", "-0", "my double", "0", alike},
	{"pg float8", "NaN", "pg float8", "NaN", alike},
	{"pg float8", "NaN", "pg float8", "Infinity", differ},
	{"pg float8", "0.1", "pg numeric", "0.1", differ},
	{"pg numeric", "0.1", "my double", "0.1", differ},
	{"my bigint", "1000000", "pg float8", "1e+06", alike},
	{"my bigint", "0", "pg float8", "-0", alike},
	{"my bigint", "9007199254740993", "pg float8", "9.007199254740992e+15", differ},
	{"my bigint", "1", "pg float8", "NaN", differ},
	{"pg float8", "7", "my bigint", "7", differ},
	{"pg text", "ab", "my varchar(40)", "ab", alike},
	{"pg text", "ab", "my varchar(40)", "AB", differ},
	{"pg text", "ab", "my varchar(40)", "ab ", differ},
	{"pg text", "", "my varchar(40)", "0", differ},
	{"pg char(5)", "ab   ", "my char(5)", "ab", alike},
	{"pg char(5)", "ab", "my varchar(40)", "ab", alike},
	{"pg char(5)", "ab", "my varchar(40)", "ab   ", differ},
	{"pg text", "ab ", "my char(5)", "ab", differ},
	{"pg text", "ab", "my char(5)", "ab", alike},
	{"my bigint", "42", "pg text", "42", alike},
	{"my bigint", "42", "pg text", "042", differ},
	{"pg text", "42", "my bigint", "42", alike},
	{"pg text", "042", "my bigint", "42", differ},
	{"pg numeric(9,2)", "1.50", "my varchar(40)", "1.50", alike},
	{"pg numeric(9,2)", "1.50", "my varchar(40)", "1.5", differ},
	{"pg numeric", "1.50", "my varchar(40)", "1.50", aSecond},
	{"pg numeric", "1.50", "my varchar(40)", "1.5", differ},
	{"pg numeric(9,2)", "-0.50", "my varchar(40)", "-0.50", alike},
	{"pg numeric(9,2)", "-150.00", "my varchar(40)", "-150.00", alike},
	{"pg numeric(9,2)", "0.00", "my varchar(40)", "-0.00", differ},
	{"pg numeric(9,2)", "1.00", "my varchar(40)", "1.", differ},
	{"pg numeric(9,2)", "1.00", "my varchar(40)", "--1.00", differ},
	{"pg text", "1.50", "pg numeric(9,2)", "1.50", alike},
	{"pg text", "1.5", "pg numeric(9,2)", "1.50", differ},
	{"pg text", "-0.50", "pg numeric(9,2)", "-0.50", alike},
	{"pg text", "+1.50", "pg numeric(9,2)", "1.50", differ},
	{"pg float8", "0.25", "pg text", "0.25", alike},
	{"pg float8", "0", "pg text", "0", aSecond},
	{"pg float8", "-0", "pg text", "0", differ},
	{"pg float8", "0.25", "pg text", "0.250", differ},
	{"pg bool", "1", "my varchar(40)", "1", alike},
	{"pg bool", "1", "my varchar(40)", "t", differ},
	{"pg bytea", "\x00\xff", "my varbinary(16)", "\x00\xff", alike},
	{"pg bytea", "ab\x00\x00", "my binary(4)", "ab\x00\x00", alike},
	{"pg bytea", "ab", "my binary(4)", "ab\x00\x00", differ},
	{"my binary(4)", "ab", "my binary(4)", "ab\x00\x00", alike},
	{"my binary(4)", "ab", "my varbinary(16)", "ab", differ},
	{"pg bytea", "ab", "my longtext", "ab", differ},
	{"pg date", "2024-02-29", "my date", "2024-02-29", alike},
	{"pg date", "infinity", "my date", "0000-00-00", differ},
	{"pg date", "0044-03-15 BC", "pg date", "0044-03-15", differ},
	{"pg date", "2024-02-29", "my longtext", "2024-02-29", alike},
	{"pg date", "2024-02-29", "pg timestamp", "2024-02-29 00:00:00", differ},
	{"pg time", "10:11:12.5", "my time(6)", "10:11:12.500000", alike},
	{"pg time", "10:11:12", "my time(6)", "-10:11:12", differ},
	{"pg time", "10:11:12.5", "my longtext", "10:11:12.5", alike},
	{"pg time", "10:11:12.5", "my longtext", "10:11:12.50", differ},
	{"pg timetz", "10:00:00+01", "pg timetz", "09:00:00+00", differ},
	{"pg timestamp", "2024-01-02 03:04:05.100000", "my datetime(6)", "2024-01-02 03:04:05.1", alike},
	{"pg timestamp", "2024-01-02 03:04:05.1234", "my datetime(3)", "2024-01-02 03:04:05.123", differ},
	{"pg timestamp", "2024-01-02 03:04:00", "my datetime(3)", "2024-01-02 03:04:00.000", alike},
	{"pg timestamp", "0044-01-02 03:04:05 BC", "pg timestamp", "0044-01-02 03:04:05", differ},
	{"pg timestamptz", "2024-01-02 03:04:05.5", "my timestamp(6)", "2024-01-02 03:04:05.5", alike},
	{"pg timestamptz", "2024-01-02 03:04:05.5", "my datetime(6)", "2024-01-02 03:04:05.5", alike},
	{"my datetime(6)", "2024-01-02 03:04:05.5", "pg timestamptz", "2024-01-02 03:04:05.5", alike},
	{"pg timestamptz", "2024-01-02 03:04:05", "pg timestamp", "2024-01-02 03:04:05", differ},
	{"my timestamp(6)", "2024-01-02 03:04:05", "my datetime(6)", "2024-01-02 03:04:05", differ},
	{"my timestamp(6)", "2024-01-02 03:04:05", "pg timestamp", "2024-01-02 03:04:05", differ},
	{"my datetime(6)", "2024-01-02 03:04:05", "my timestamp(6)", "2024-01-02 03:04:05", differ},
	{"pg timestamptz", "2024-01-02 03:04:05", "my longtext", "2024-01-02 03:04:05", differ},
	{"pg interval", "1 mon", "my longtext", "1 mon", alike},
	{"pg interval", "1 mon", "pg interval", "30 days", differ},
	{"my year", "2024", "pg int2", "2024", alike},
	{"my year", "0000", "pg int2", "0", alike},
	{"pg int4", "2024", "my year", "2024", alike},
	{"pg int4", "0", "my year", "0000", alike},
	{"my year", "2024", "pg numeric", "2024", differ},
	{"pg jsonb", `{"a": 1, "bb": [1.50, null, true, "x"]}`, "my json", `{"bb":[1.5,null,true,"\u0078"],"a":10e-1}`, alike},
	{"pg jsonb", `{"a": 2}`, "my json", `{"a": 1, "a": 2}`, alike},
	{"pg jsonb", `{"a": 1}`, "my json", `{"a": 1, "a": 2}`, differ},
	{"pg jsonb", `{"a": 1}`, "my json", `{"a": "1"}`, differ},
	{"pg jsonb", `{"a": null}`, "my json", `{}`, differ},
	{"pg jsonb", `[1, 2]`, "my json", `[2, 1]`, differ},
	{"pg jsonb", `[1, [2]]`, "my json", `[[1], 2]`, differ},
	{"pg jsonb", `0.1`, "my json", `0.1000000000000000001`, differ},
	{"pg jsonb", `"\ud800"`, "pg jsonb", `"\ud801"`, differ},
	{"pg jsonb", `"😀"`, "my json", `"\ud83d\uDE00"`, alike},
	{"pg jsonb", `{"a": 1}`, "my longtext", `{"a":1}`, alike},
	{"pg jsonb", `{"a": 1}`, "my longtext", `{"a":1`, differ},
	{"my longtext", `{"a":1}`, "pg jsonb", `{"a": 1}`, aSecond},
	{"my longtext", `{"a": 1}`, "pg jsonb", `{"a": 1}`, alike},
	{"my longtext", `{"a":1`, "pg jsonb", `{"a": 1}`, differ},
	{"my longtext", `{"a":1}`, "pg text", `{"a": 1}`, differ},
	{"my uuid", aUUID, "pg uuid", aUUID, alike},
	{"pg uuid", aUUID, "my char(36)", aUUID, alike},
	{"pg uuid", aUUID, "my char(36)", strings.ToUpper(aUUID), alike},
	{"my char(36)", aUUID, "pg uuid", aUUID, alike},
	{"my char(36)", strings.ToUpper(aUUID), "pg uuid", aUUID, differ},
	{"my char(36)", strings.ToUpper(aUUID), "pg text", aUUID, differ},
	{"pg uuid", "61626364-6566-6768-696a-6b6c6d6e6f70", "my binary(16)", "abcdefghijklmnop", alike},
	{"my binary(16)", "abcdefghijklmnop", "pg uuid", "61626364-6566-6768-696a-6b6c6d6e6f70", alike},
	{"pg uuid", "61626364-6566-6768-696a-6b6c6d6e6f70", "my varbinary(16)", "abcdefghijklmnop", alike},
	{"pg uuid", "61626364-6566-6768-696a-6b6c6d6e6f70", "my varbinary(16)", "", differ},
	{"my varbinary(16)", "abcdefghijklmnop", "pg uuid", "61626364-6566-6768-696a-6b6c6d6e6f70", differ},
	{"pg enum", "red", "my enum", "red", alike},
	{"pg enum", "red", "my varchar(40)", "red", alike},
	{"my varchar(40)", "red", "pg enum", "red", alike},
	{"pg text", "", "my enum", "", differ},
	{"pg enum", "red", "my set", "red", differ},
	{"my set", "red,green", "pg text", "red,green", alike},
	{"my set", "red,green", "pg text", "green,red", differ},
	{"pg text", "green,red", "my set", "red,green", aSecond},
	{"my set", "red,green", "my set reversed", "green,red", aSecond},
	{"my set", "red", "my set reversed", "green,red", differ},
	{"my set", "", "my set reversed", "", alike},
	{"pg bool", "1", "my bit(1)", "1", alike},
	{"my bit(1)", "0", "pg bool", "0", alike},
	{"my bit(1)", "1", "pg int4", "1", differ},
	{"pg varbit", "010", "pg varbit", "10", differ},
	{"pg varbit", "1", "pg bool", "1", differ},
	{"pg inet", "10.0.0.1", "my longtext", "10.0.0.1", alike},
	{"pg integer[]", "{1}", "pg text[]", "{1}", differ},
	{"pg integer[]", "{1}", "pg integer[]", "{1}", alike},
	{"my geometry", "x", "my point", "x", aSecond},
	{"my inet6", "::1", "my longtext", "::1", differ},
	{"my inet6", "::1", "pg text", "::1", alike},
	{"pg point", "(1,2)", "my longtext", "(1,2)", alike},
	{"pg geometry", "0101000000", "my longtext", "0101000000", alike},
	{"my longtext", "0101000000", "pg geometry", "0101000000", alike},
	{"pg vector", "[1,2]", "my longtext", "[1,2]", alike},
	{"my longtext", "[1,2]", "pg vector", "[1,2]", alike},
	{"pg text", "x", "my linestring", "x", differ},
}

func sampleColumn(t *testing.T, name string) *Column {
	t.Helper()
	c, ok := sampleColumns[name]
	if !ok {
		t.Fatalf("no column %q", name)
	}
	c.Name = "v"
	return &c
}

// only is a table with that column.
func only(c *Column) *Table { return NewTable(Table{Columns: []Column{*c}, Key: []int{0}}) }

func TestSameValue(t *testing.T) {
	for _, p := range pairs {
		a, b := sampleColumn(t, p.a), sampleColumn(t, p.b)
		va, vb := Of(p.ta), Of(p.tb)
		if got := SameValue(a, va, b, vb); got != (p.want != differ) {
			t.Errorf("%s %q and %s %q: same %t, want %s", p.a, p.ta, p.b, p.tb, got, p.want)
		}
		head, here := only(a).HashRow(Row{va}), NewHasherAs(only(b), only(a)).Hash(Row{vb})
		if (head == here) != (p.want == alike) {
			t.Errorf("%s %q and %s %q: hashes equal %t, want %s", p.a, p.ta, p.b, p.tb, head == here, p.want)
		}
		if plain := NewHasher(only(b), []string{"v"}).Hash(Row{vb}); plain == head && p.want == differ {
			t.Errorf("%s %q and %s %q: plain hashes are equal", p.a, p.ta, p.b, p.tb)
		}
		for _, c := range []*Column{a, b} {
			for _, v := range []Value{va, vb} {
				if !SameValue(c, v, c, v) {
					t.Errorf("%s %s is not itself", c.Native, v)
				}
			}
		}
	}
}

// NULL, nothing and an empty text are three things.
func TestSameStates(t *testing.T) {
	text := sampleColumn(t, "pg text")
	values := []Value{{}, NullValue(), Of(""), Of("NULL")}
	h := NewHasher(only(text), []string{"v"})
	for i, a := range values {
		for j, b := range values {
			if SameValue(text, a, text, b) != (i == j) || (only(text).HashRow(Row{a}) == h.Hash(Row{b})) != (i == j) {
				t.Errorf("%s and %s", a, b)
			}
		}
	}
}

func TestSameRow(t *testing.T) {
	head := NewTable(Table{Engine: Postgres, Key: []int{0}, Columns: []Column{
		{Name: "id", Kind: KindInt, Size: 32}, {Name: "price", Kind: KindDecimal, Size: 9, Scale: 2}, {Name: "sum", Kind: KindInt, Generated: true}, {Name: "note", Kind: KindText},
	}})
	here := NewTable(Table{Engine: MariaDB, Key: []int{1}, Columns: []Column{
		{Name: "note", Kind: KindText}, {Name: "id", Kind: KindInt, Size: 64}, {Name: "extra", Kind: KindText}, {Name: "price", Kind: KindDecimal, Size: 10, Scale: 4},
	}})
	computed := NewTable(Table{Engine: MariaDB, Key: []int{0}, Columns: []Column{
		{Name: "id", Kind: KindInt}, {Name: "price", Kind: KindDecimal}, {Name: "note", Kind: KindText, Generated: true},
	}})
	narrow := NewTable(Table{Engine: MariaDB, Key: []int{0}, Columns: []Column{{Name: "id", Kind: KindInt}, {Name: "price", Kind: KindDecimal}}})
	row := Row{Of("1"), Of("1.50"), {}, Of("n")}
	for name, c := range map[string]struct {
		ra    Row
		b     *Table
		rb    Row
		want  []string
		plain bool // of hashes that are to be equal: without knowing the head's definition, too
	}{
		"the same":            {row, here, Row{Of("n"), Of("1"), Of("mine"), Of("1.5000")}, nil, true},
		"differs":             {row, here, Row{NullValue(), Of("1"), Of("mine"), Of("1.5001")}, []string{"price", "note"}, false},
		"is computed here":    {row, computed, Row{Of("1"), Of("1.5"), {}}, nil, false},
		"a column is missing": {row, narrow, Row{Of("1"), Of("1.5")}, []string{"note"}, false},
		"there is no row":     {row, here, nil, []string{"id", "price", "note"}, false},
		"there is none there": {nil, here, Row{Of("n"), Of("1"), Of("mine"), Of("1.5")}, []string{"id", "price", "note"}, false},
		"there are no rows":   {nil, here, nil, nil, false},
	} {
		same, columns := SameRow(head, c.ra, c.b, c.rb)
		if same != (c.want == nil) || !slices.Equal(columns, c.want) {
			t.Errorf("%s: %t %v, want %v", name, same, columns, c.want)
		}
		if c.ra == nil || c.rb == nil {
			continue
		}
		if got := NewHasherAs(c.b, head).Hash(c.rb) == head.HashRow(c.ra); got != c.plain {
			t.Errorf("%s: hashes equal %t", name, got)
		}
		if got := NewHasher(c.b, []string{"note", "id", "price"}).Hash(c.rb) == head.HashRow(c.ra); got != c.plain {
			t.Errorf("%s: plain hashes equal %t", name, got)
		}
	}
}
