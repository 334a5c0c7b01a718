package apply

import (
	"errors"
	"strings"
	"testing"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// columns by a short name: the engine, then the type. What the catalog makes of real types is tested with real servers.
var sampleColumns = map[string]schema.Column{
	"pg bool":            {Kind: schema.KindBool},
	"pg int2":            {Kind: schema.KindInt, Size: 16},
	"pg int4":            {Kind: schema.KindInt, Size: 32},
	"pg int8":            {Kind: schema.KindInt, Size: 64},
	"pg numeric":         {Kind: schema.KindDecimal, Scale: -1, Native: "numeric"},
	"pg numeric(5,2)":    {Kind: schema.KindDecimal, Size: 5, Scale: 2, Native: "numeric(5,2)"},
	"pg numeric(3,-2)":   {Kind: schema.KindDecimal, Size: 3, Scale: -2, Native: "numeric(3,-2)"},
	"pg float4":          {Kind: schema.KindFloat, Size: 32},
	"pg float8":          {Kind: schema.KindFloat, Size: 64},
	"pg text":            {Kind: schema.KindText, Native: "text"},
	"pg varchar(5)":      {Kind: schema.KindText, Size: 5},
	"pg char(5)":         {Kind: schema.KindText, Size: 5, Fixed: true},
	"pg bytea":           {Kind: schema.KindBytes},
	"pg date":            {Kind: schema.KindDate},
	"pg time":            {Kind: schema.KindTime, Scale: 6},
	"pg timestamp":       {Kind: schema.KindTimestamp, Scale: 6},
	"pg timestamp(3)":    {Kind: schema.KindTimestamp, Scale: 3},
	"pg timestamptz":     {Kind: schema.KindTimestampTZ, Scale: 6},
	"pg json":            {Kind: schema.KindJSON},
	"pg uuid":            {Kind: schema.KindUUID},
	"pg enum":            {Kind: schema.KindEnum, Labels: []string{"a", "b"}},
	"pg bit(4)":          {Kind: schema.KindBit, Size: 4, Fixed: true},
	"pg bit(1)":          {Kind: schema.KindBit, Size: 1, Fixed: true},
	"pg varbit":          {Kind: schema.KindBit},
	"pg interval":        {Kind: schema.KindInterval, Native: "interval"},
	"pg timetz":          {Kind: schema.KindTimeTZ},
	"pg inet":            {Kind: schema.KindNative, Native: "inet"},
	"pg int4[]":          {Kind: schema.KindNative, Native: "integer[]"},
	"my tinyint":         {Kind: schema.KindInt, Size: 8, Native: "tinyint(1)"},
	"my int":             {Kind: schema.KindInt, Size: 32},
	"my int unsigned":    {Kind: schema.KindInt, Size: 32, Unsigned: true},
	"my bigint unsigned": {Kind: schema.KindInt, Size: 64, Unsigned: true},
	"my decimal(5,2)":    {Kind: schema.KindDecimal, Size: 5, Scale: 2, Native: "decimal(5,2)"},
	"my decimal(65,30)":  {Kind: schema.KindDecimal, Size: 65, Scale: 30, Native: "decimal(65,30)"},
	"my float":           {Kind: schema.KindFloat, Size: 32, Native: "float"},
	"my float(7,2)":      {Kind: schema.KindFloat, Size: 32, Native: "float(7,2)"},
	"my double":          {Kind: schema.KindFloat, Size: 64, Native: "double"},
	"my varchar(5)":      {Kind: schema.KindText, Size: 5, Native: "varchar(5)"},
	"my char(5)":         {Kind: schema.KindText, Size: 5, Fixed: true, Native: "char(5)"},
	"my char(36)":        {Kind: schema.KindText, Size: 36, Fixed: true, Native: "char(36)"},
	"my tinytext":        {Kind: schema.KindText, Size: 255, Native: "tinytext"},
	"my longtext":        {Kind: schema.KindText, Native: "longtext"},
	"my binary(16)":      {Kind: schema.KindBytes, Size: 16, Fixed: true},
	"my varbinary(4)":    {Kind: schema.KindBytes, Size: 4},
	"my longblob":        {Kind: schema.KindBytes},
	"my date":            {Kind: schema.KindDate},
	"my time":            {Kind: schema.KindTime},
	"my time(6)":         {Kind: schema.KindTime, Scale: 6},
	"my datetime":        {Kind: schema.KindTimestamp, Native: "datetime"},
	"my datetime(6)":     {Kind: schema.KindTimestamp, Scale: 6, Native: "datetime(6)"},
	"my timestamp(6)":    {Kind: schema.KindTimestampTZ, Scale: 6, Native: "timestamp(6)"},
	"my year":            {Kind: schema.KindYear},
	"my json":            {Kind: schema.KindJSON, Native: "json"},
	"my enum":            {Kind: schema.KindEnum, Labels: []string{"a", "b"}},
	"my set":             {Kind: schema.KindSet, Labels: []string{"a", "b"}},
	"my bit(4)":          {Kind: schema.KindBit, Size: 4, Fixed: true},
	"my uuid":            {Kind: schema.KindUUID},
	"my geometry":        {Kind: schema.KindNative, Native: "geometry"},
	"my point":           {Kind: schema.KindNative, Native: "point"},
	"my inet6":           {Kind: schema.KindNative, Native: "inet6"},
}

func sampleEngine(name string) schema.Engine {
	if strings.HasPrefix(name, "pg ") {
		return schema.Postgres
	}
	return schema.MySQL
}

const same = "\x00same"

var conversions = []struct {
	from, to string
	text     string
	want     string // same, another text, or ! and a word of the refusal
}{
	{"pg bool", "my tinyint", "1", same},
	{"my tinyint", "pg bool", "0", same},
	{"my tinyint", "pg bool", "2", "!boolean"},
	{"my tinyint", "pg int2", "-128", same},
	{"pg bit(1)", "pg bool", "1", same},
	{"pg int4", "my tinyint", "128", "!range"},
	{"my int unsigned", "pg int4", "4294967295", "!range"},
	{"my int unsigned", "pg int8", "4294967295", same},
	{"my bigint unsigned", "pg int8", "18446744073709551615", "!range"},
	{"my bigint unsigned", "pg numeric", "18446744073709551615", same},
	{"pg int8", "my bigint unsigned", "-1", "!range"},
	{"pg int8", "my int", "5", same},
	{"pg numeric", "my int", "5.00", "5"},
	{"pg numeric", "my int", "-0.0", "0"},
	{"pg numeric", "my int", "5.01", "!whole"},
	{"pg int4", "my varchar(5)", "12345", same},
	{"pg int4", "my varchar(5)", "123456", "!characters"},
	{"my varchar(5)", "pg int4", "-123", same},
	{"my varchar(5)", "pg int4", "0123", "!plain"},
	{"my varchar(5)", "pg int4", "", "!plain"},
	{"pg numeric", "my decimal(5,2)", "123.4500", same},
	{"pg numeric", "my decimal(5,2)", "123.456", "!after the point"},
	{"pg numeric", "my decimal(5,2)", "1234.5", "!before the point"},
	{"pg numeric", "my decimal(5,2)", "0000.5", same},
	{"pg numeric", "my decimal(65,30)", "NaN", "!NaN"},
	{"pg numeric", "pg numeric(5,2)", "NaN", same},
	{"pg numeric", "pg numeric(5,2)", "1.005", "!after the point"},
	{"pg numeric", "pg numeric(3,-2)", "12300", same},
	{"pg numeric", "pg numeric(3,-2)", "12345", "!multiples"},
	{"pg numeric", "pg numeric(3,-2)", "0", same},
	{"my varchar(5)", "my decimal(5,2)", "1.50", same},
	{"my varchar(5)", "my decimal(5,2)", "1.5", "!digits after"},
	{"my int", "my decimal(5,2)", "1000", "!before the point"},
	{"pg float8", "my double", "1e+21", same},
	{"pg float8", "my double", "NaN", "!NaN"},
	{"pg float8", "my double", "-Infinity", "!Infinity"},
	{"pg float8", "pg float4", "0.5", same},
	{"pg float8", "pg float4", "0.1", "!fewer"},
	{"pg float4", "pg float8", "0.1", "0.10000000149011612"},
	{"pg float8", "my float(7,2)", "1.25", same},
	{"my float", "my float(7,2)", "0", same},
	{"pg float4", "my float(7,2)", "1.125", "!rounds"},
	{"my int", "my double", "42", same},
	{"pg int8", "my double", "9007199254740993", "!roughly"},
	{"pg numeric", "my double", "0.1", "!fit"},
	{"pg text", "my varchar(5)", "añb😀c", same},
	{"pg text", "my varchar(5)", "añb😀cd", "!6 characters"},
	{"pg text", "my tinytext", strings.Repeat("ä", 128), "!256 bytes"},
	{"pg text", "my char(5)", "a ", "!blanks"},
	{"pg char(5)", "my char(5)", "a", same},
	{"pg char(5)", "my varchar(5)", "a    ", "a"},
	{"my char(5)", "pg text", "a", same},
	{"my longtext", "pg text", "a\x00b", "!NUL"},
	{"pg text", "my longtext", "a'b\\", same},
	{"pg text", "my longblob", "a", "!fit"},
	{"pg bytea", "my longtext", "a", "!fit"},
	{"pg bytea", "my varbinary(4)", "\x00\xff\x00\x01", same},
	{"pg bytea", "my varbinary(4)", "12345", "!5 bytes"},
	{"pg bytea", "my binary(16)", "1234", "!4 bytes"},
	{"my binary(16)", "pg bytea", "0123456789abcdef", same},
	{"pg uuid", "my char(36)", "0a1b2c3d-0000-4000-8000-00000000000f", same},
	{"my char(36)", "pg uuid", "0a1b2c3d-0000-4000-8000-00000000000f", same},
	{"my char(36)", "pg uuid", "0A1B2C3D-0000-4000-8000-00000000000F", "!lower case"},
	{"my char(36)", "pg uuid", "none", "!uuid"},
	{"pg uuid", "my binary(16)", "61626364-6566-6768-696a-6b6c6d6e6f70", "abcdefghijklmnop"},
	{"my binary(16)", "pg uuid", "abcdefghijklmnop", "61626364-6566-6768-696a-6b6c6d6e6f70"},
	{"pg date", "my date", "2024-02-29", same},
	{"pg date", "my date", "infinity", "!0001 to 9999"},
	{"pg date", "my date", "0044-03-15 BC", "!0001 to 9999"},
	{"pg date", "my date", "10000-01-01", "!0001 to 9999"},
	{"my date", "pg date", "0000-00-00", "!0001 to 9999"},
	{"my date", "pg date", "2024-00-10", "!0001 to 9999"},
	{"my date", "my date", "0000-00-00", same},
	{"pg date", "pg date", "infinity", same},
	{"pg time", "my time", "10:11:12", same},
	{"pg time", "my time", "10:11:12.5", "!fraction"},
	{"pg time", "my time(6)", "24:00:00", same},
	{"my time(6)", "pg time", "23:59:59.999999", same},
	{"my time(6)", "pg time", "24:00:00", same},
	{"my time(6)", "pg time", "24:00:01", "!24:00:00"},
	{"my time(6)", "pg time", "838:59:59", "!24:00:00"},
	{"my time(6)", "pg time", "-01:00:00", "!negative"},
	{"pg timestamp", "my datetime(6)", "2024-01-02 03:04:05.123456", same},
	{"pg timestamp", "my datetime", "2024-01-02 03:04:05.1", "!fraction"},
	{"pg timestamp", "pg timestamp(3)", "2024-01-02 03:04:05.1234", "!fraction"},
	{"pg timestamp", "my datetime(6)", "infinity", "!0001 to 9999"},
	{"pg timestamp", "my datetime(6)", "0044-01-02 03:04:05 BC", "!0001 to 9999"},
	{"pg timestamp", "my timestamp(6)", "2024-01-02 03:04:05", "!fit"},
	{"pg timestamp", "pg timestamptz", "2024-01-02 03:04:05", "!fit"},
	{"pg timestamptz", "my timestamp(6)", "2024-01-02 03:04:05", same},
	{"pg timestamptz", "my timestamp(6)", "1969-12-31 23:59:59", "!1970"},
	{"pg timestamptz", "my timestamp(6)", "1970-01-01 00:00:00.5", "!1970"},
	{"pg timestamptz", "my datetime(6)", "2024-01-02 03:04:05", same},
	{"my datetime(6)", "pg timestamptz", "2024-01-02 03:04:05", same},
	{"my datetime(6)", "pg timestamp", "0000-00-00 00:00:00", "!0001 to 9999"},
	{"my timestamp(6)", "pg timestamptz", "2024-01-02 03:04:05.5", same},
	{"my timestamp(6)", "my datetime(6)", "2024-01-02 03:04:05.5", "!fit"},
	{"my timestamp(6)", "pg timestamp", "2024-01-02 03:04:05.5", "!fit"},
	{"pg interval", "my longtext", "1 mon 2 days", same},
	{"pg interval", "pg interval", "1 mon 2 days", same},
	{"pg timetz", "pg timetz", "10:00:00+01", same},
	{"my year", "pg int2", "2024", same},
	{"my year", "pg int2", "0000", "0"},
	{"pg int4", "my year", "70", "!1901"},
	{"pg int4", "my year", "2024", same},
	{"pg json", "my json", `{"a": 1.5, "b": [1e3, -9223372036854775808, 18446744073709551615]}`, same},
	{"pg json", "my json", `{"a": 0.1234567890123456789}`, "!0.1234567890123456789"},
	{"pg json", "my json", `[18446744073709551616]`, "!18446744073709551616"},
	{"pg json", "my json", `[18446744073709551617]`, "!18446744073709551617"},
	{"my longtext", "pg json", `{"a": 1}`, same},
	{"my longtext", "pg json", `{"a": 1`, "!JSON"},
	{"pg json", "my longtext", `{"a": 1}`, same},
	{"pg enum", "my enum", "a", same},
	{"pg enum", "my varchar(5)", "a", same},
	{"my varchar(5)", "pg enum", "c", "!label"},
	{"my enum", "pg enum", "", "!label"},
	{"my set", "pg text", "a,b", same},
	{"pg text", "my set", "a,b", same},
	{"pg text", "my set", "a,c", "!label"},
	{"pg text", "my set", "", same},
	{"pg bit(4)", "my bit(4)", "0101", same},
	{"pg varbit", "my bit(4)", "010", "!3 bits"},
	{"my bit(4)", "pg varbit", "0101", same},
	{"pg bool", "pg bit(1)", "1", same},
	{"pg inet", "pg inet", "10.0.0.1", same},
	{"pg inet", "my longtext", "10.0.0.1", same},
	{"pg int4[]", "my json", "{1,2}", "!fit"},
	{"pg int4[]", "pg inet", "{1,2}", "!fit"},
	{"my longtext", "pg inet", "10.0.0.1", same},
	{"my longtext", "pg interval", "1 day", same},
	{"my longtext", "pg inet", "a\x00", "!NUL"},
	{"my inet6", "pg inet", "::1", same},
	{"pg inet", "my inet6", "10.0.0.1", "!no address"},
	{"pg text", "my inet6", "::0", "!plain form"},
	{"pg text", "pg varbit", "012", "!0 and 1"},
	{"my geometry", "pg bytea", "x", same},
	{"pg bytea", "my geometry", "x", same},
	{"my geometry", "my point", "x", same},
	{"my geometry", "my longtext", "x", "!fit"},
	{"my geometry", "pg text", "x", "!fit"},
	{"my inet6", "my inet6", "::1", same},
	{"my inet6", "my point", "::1", "!fit"},
}

func TestConvert(t *testing.T) {
	for _, c := range conversions {
		t.Run(c.from+" to "+c.to+" "+shorten(c.text), func(t *testing.T) {
			f := converterFor(column(t, c.from), column(t, c.to), sampleEngine(c.from), sampleEngine(c.to))
			got, err := c.text, error(nil)
			if f != nil {
				got, err = f(c.text)
			}
			word, refused := strings.CutPrefix(c.want, "!")
			switch {
			case refused && err == nil:
				t.Errorf("became %q, want a refusal", got)
			case refused && !strings.Contains(err.Error(), word):
				t.Errorf("refused with %q, which does not say %q", err, word)
			case !refused && err != nil:
				t.Errorf("refused: %v", err)
			case !refused && c.want == same && got != c.text, !refused && c.want != same && got != c.want:
				t.Errorf("became %q, want %q", got, c.want)
			}
		})
	}
}

// What the catalog says of two kinds, and docs/types.md after it, is what the converters do, for every pair of columns.
func TestConvertersAgreeWithTheCatalog(t *testing.T) {
	for fromName, from := range sampleColumns {
		for toName, to := range sampleColumns {
			source, target := sampleEngine(fromName), sampleEngine(toName)
			never := false
			if f := converterFor(from, to, source, target); f != nil {
				_, err := f("")
				var misfit *misfitError
				never = errors.As(err, &misfit)
			}
			if mix := catalog.Mix(&from, &to, source, target); mix == never {
				t.Errorf("%s into %s: the catalog says %t", fromName, toName, mix)
			}
		}
	}
}

func column(t *testing.T, name string) schema.Column {
	t.Helper()
	c, ok := sampleColumns[name]
	if !ok {
		t.Fatalf("no column %q", name)
	}
	return c
}

// A table equal at both ends costs nothing for each value.
func TestEqualColumnsAreNotLookedAt(t *testing.T) {
	for name, c := range sampleColumns {
		if sampleEngine(name) != schema.Postgres && c.Kind == schema.KindEnum || strings.Contains(name, "float(") {
			continue // an enum's empty label and a rounding column are looked at always
		}
		if f := converterFor(c, c, sampleEngine(name), sampleEngine(name)); f != nil {
			t.Errorf("%s has a converter to itself", name)
		}
	}
}

func TestLiterals(t *testing.T) {
	for _, c := range []struct {
		kind  schema.Kind
		value schema.Value
		want  string
	}{
		{schema.KindInt, schema.NullValue(), "NULL"},
		{schema.KindInt, schema.Of("-5"), "-5"},
		{schema.KindInt, schema.Of("5; DROP TABLE x"), "'5; DROP TABLE x'"},
		{schema.KindInt, schema.Of("5-- "), "'5-- '"},
		{schema.KindInt, schema.Of("-"), "'-'"},
		{schema.KindInt, schema.Of(""), "''"},
		{schema.KindDecimal, schema.Of("-10.50"), "-10.50"},
		{schema.KindFloat, schema.Of("0.1"), "0.1e0"},
		{schema.KindFloat, schema.Of("1e+21"), "1e+21"},
		{schema.KindText, schema.Of("12"), "'12'"},
		{schema.KindText, schema.Of("it's \\ \x00\n\r\x1a \"`"), `'it\'s \\ \0\n\r\Z "` + "`'"},
		{schema.KindBytes, schema.Of("\xff'\x00"), "_binary'\xff\\'\\0'"},
		{schema.KindBytes, schema.Of("12"), "_binary'12'"},
		{schema.KindBit, schema.Of("0101"), "b'0101'"},
		{schema.KindDate, schema.Of("2024-01-01"), "'2024-01-01'"},
		{schema.KindYear, schema.Of("0000"), "0000"},
	} {
		if got := string(appendLiteral(nil, c.value, &schema.Column{Kind: c.kind})); got != c.want {
			t.Errorf("%s %s is written %s, want %s", c.kind, c.value, got, c.want)
		}
	}
}
