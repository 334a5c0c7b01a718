package apply

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// The types whose values are sent to and fro, as each engine has them. Both a name of a type and its DDL.
var postgresTypes = []string{
	"boolean", "smallint", "integer", "bigint", "numeric", "numeric(10,2)", "numeric(3,-2)", "numeric(25,0)", "real", "double precision",
	"text", "varchar(10)", "char(5)", "bytea", "date", "time", "time(0)", "timestamp", "timestamp(3)", "timestamptz", "timestamptz(0)",
	"json", "jsonb", "uuid", "bit(8)", "bit varying(10)", "colour", "interval", "timetz", "inet", "integer[]",
}

var mariadbTypes = []string{
	"tinyint(1)", "tinyint unsigned", "smallint", "mediumint", "int", "int unsigned", "bigint", "bigint unsigned", "decimal(10,2)",
	"decimal(65,30)", "decimal(20,0)", "float", "float(7,2)", "double", "varchar(10)", "char(5)", "char(36)", "text", "tinytext", "longtext",
	"varchar(10) character set latin1", "binary(16)", "varbinary(10)", "longblob", "date", "time", "time(6)", "datetime", "datetime(6)",
	"timestamp(6) NULL", "year", "json", "uuid", "bit(8)", "enum('red','green','it''s')", "set('red','green','it''s')", "inet6", "point",
}

// typed is a world with a table for each type; the tables' definitions are what its own catalog says.
type typed struct {
	*world
	types  []string
	tables []catalog.Table
	seq    uint64
}

func newTyped(w *world, types []string) *typed {
	w.Helper()
	if w.engine == schema.Postgres {
		w.exec(`CREATE TYPE colour AS ENUM ('red', 'green', 'it''s')`)
	}
	for i, ddl := range types {
		w.exec(fmt.Sprintf("CREATE TABLE t%02d (id int PRIMARY KEY, v %s)", i, ddl))
	}
	ses, err := w.target.connect(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	defer ses.close()
	tables, err := ses.defs().read(w.Context())
	if err != nil || len(tables) != len(types) {
		w.Fatalf("%d tables: %v", len(tables), err)
	}
	return &typed{world: w, types: types, tables: tables}
}

// receive applies a value of a column of another database to column i here, and returns what stands here then in canonical
// text. refused is the rejection; any other error fails the test.
func (w *typed) receive(t *rapid.T, from *schema.Table, i int, text string) (got string, refused *schema.RejectedError) {
	source := *from
	source.TableName = w.tables[i].TableName
	table := schema.NewTable(source)
	ctx := context.WithoutCancel(w.Context())
	err := w.applier.Apply(ctx, head, []schema.Transaction{tx(w.seq+1, remove(table, "1"), insert(table, "1", text))})
	if errors.As(err, &refused) {
		if refused.Table != table.TableName || refused.Cause == nil {
			t.Fatalf("the rejection does not say enough: %v", refused)
		}
		return "", refused
	}
	if err != nil {
		t.Fatalf("apply %s %q to %s: %v", from.Columns[1].Native, text, w.types[i], err)
	}
	w.seq++
	c := &w.tables[i].Columns[1]
	return w.canonical(t, c, w.rows(fmt.Sprintf("SELECT %s FROM t%02d", w.reader(c), i))), nil
}

// reader is the expression that shows a value exactly.
func (w *typed) reader(c *schema.Column) string {
	postgres := w.engine == schema.Postgres
	switch {
	case c.Kind == schema.KindBool:
		return "v::int"
	case c.Kind == schema.KindBytes && postgres:
		return "encode(v, 'hex')"
	case c.Kind == schema.KindBytes, baseType(c.Native) == "point":
		return "hex(v)"
	case c.Kind == schema.KindFloat && !postgres:
		return "CAST(v AS DOUBLE)"
	case c.Kind == schema.KindBit && !postgres:
		return fmt.Sprintf("lpad(bin(v), %d, '0')", c.Size)
	case postgres && c.Native != "inet": // as text it has the length of its mask always, and by itself where it says something
		return "v::text"
	}
	return "v"
}

func (w *typed) canonical(t *rapid.T, c *schema.Column, text string) string {
	kind := c.Kind
	if c.Native == "point" {
		kind = schema.KindBytes
	}
	switch kind {
	case schema.KindBytes:
		raw, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	case schema.KindFloat:
		bits := 64
		if w.engine == schema.Postgres {
			bits = c.Size
		}
		v, err := strconv.ParseFloat(text, bits)
		if err != nil {
			t.Fatal(err)
		}
		return formatFloat(v, c.Size)
	case schema.KindTime, schema.KindTimestamp, schema.KindTimestampTZ:
		text = strings.TrimSuffix(text, "+00")
		text = strings.Replace(text, "+00 BC", " BC", 1)
		if strings.Contains(text, ".") {
			text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
		}
	}
	return text
}

func formatFloat(v float64, bits int) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "Infinity"
	case math.IsInf(v, -1):
		return "-Infinity"
	}
	return strconv.FormatFloat(v, 'g', -1, bits)
}

// sameValue is the judge: whether two texts, each canonical for its column, mean the same.
func sameValue(from *schema.Column, sent string, to *schema.Column, got string) bool {
	numeric := func(k schema.Kind) bool {
		return k == schema.KindBool || k == schema.KindInt || k == schema.KindDecimal || k == schema.KindFloat || k == schema.KindYear
	}
	switch {
	case numeric(from.Kind) && numeric(to.Kind):
		a, b := number(from, sent), number(to, got)
		return a == nil && b == nil && sent == got || a != nil && b != nil && a.Cmp(b) == 0
	case from.Kind == schema.KindJSON && to.Kind == schema.KindJSON, to.Kind == schema.KindJSON:
		return reflect.DeepEqual(document(sent), document(got))
	case from.Kind == schema.KindUUID && to.Kind == schema.KindBytes:
		return strings.ReplaceAll(sent, "-", "") == hex.EncodeToString([]byte(got))
	case from.Kind == schema.KindBytes && to.Kind == schema.KindUUID:
		return strings.ReplaceAll(got, "-", "") == hex.EncodeToString([]byte(sent))
	}
	return sent == got
}

func number(c *schema.Column, text string) *big.Rat {
	if c.Kind == schema.KindFloat {
		v, err := strconv.ParseFloat(text, c.Size)
		if err != nil {
			return nil
		}
		return new(big.Rat).SetFloat64(v)
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil
	}
	return r
}

func document(text string) any {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return err.Error()
	}
	return numbersOf(v)
}

func numbersOf(v any) any {
	switch v := v.(type) {
	case json.Number:
		r, _ := new(big.Rat).SetString(v.String())
		return r.RatString()
	case []any:
		for i := range v {
			v[i] = numbersOf(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = numbersOf(v[k])
		}
	}
	return v
}

// draw draws a value that a column holds, the edges more often than their share.
func draw(t *rapid.T, engine schema.Engine, c *schema.Column) string {
	pick := func(s ...string) string { return rapid.SampledFrom(s).Draw(t, "value") }
	postgres := engine == schema.Postgres
	switch c.Kind {
	case schema.KindBool:
		return pick("0", "1")
	case schema.KindInt:
		return drawInt(t, c)
	case schema.KindDecimal:
		return drawDecimal(t, c, postgres)
	case schema.KindFloat:
		v := rapid.SampledFrom([]float64{0, 0.1, 0.5, 1, -1.25, 1e21, 1 << 30, math.Copysign(0, -1), math.NaN(), math.Inf(1), 16777217, rapid.Float64().Draw(t, "float")}).Draw(t, "value")
		if c.Size == 32 {
			v = float64(float32(v))
		}
		if !postgres {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				v = 0
			}
			if strings.Contains(c.Native, ",") {
				v = float64(float32(math.Round(math.Mod(v, 1000)*100) / 100))
			}
		}
		return formatFloat(v, c.Size)
	case schema.KindText:
		return drawText(t, c, postgres)
	case schema.KindBytes:
		n := c.Size
		if n == 0 || !c.Fixed {
			n = rapid.IntRange(0, max(min(c.Size, 20), 12)).Draw(t, "bytes")
		}
		if c.Size > 0 {
			n = min(n, c.Size)
		}
		return string(rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "value"))
	case schema.KindBit:
		n := c.Size
		if !c.Fixed {
			n = rapid.IntRange(0, c.Size).Draw(t, "bits")
		}
		return rapid.StringOfN(rapid.RuneFrom([]rune("01")), n, n, -1).Draw(t, "value")
	case schema.KindJSON:
		values := []string{"1", `{"a": [1, 2.5, null, "x\"y"]}`, `[]`, `"😀"`, `{"b": 1, "a": 2}`, `12345678901234567890123`, `0.1234567890123456789`}
		if !postgres && servers.Oracle() { // whose JSON has no other numbers than doubles and those of 64 bits
			values = values[:5]
		}
		return pick(values...)
	case schema.KindEnum:
		return pick(c.Labels...)
	case schema.KindSet:
		return pick("", "red", "red,it's", "red,green,it's")
	case schema.KindUUID:
		return rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`).Draw(t, "value")
	case schema.KindInterval:
		return pick("1 mon", "2 days 03:04:05.5", "-00:00:01", "00:00:00")
	case schema.KindTimeTZ:
		return pick("10:11:12+00", "00:00:00.123456+05:30", "23:59:59-07")
	case schema.KindNative:
		return map[string]string{"inet": "10.1.2.0/24", "integer[]": "{1,NULL,3}", "inet6": "fe80::1", "point": pointBytes}[c.Native]
	}
	return drawTime(t, c, postgres)
}

// pointBytes is POINT(1 2) as MySQL's log has it.
const pointBytes = "\x00\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf0\x3f\x00\x00\x00\x00\x00\x00\x00\x40"

func drawInt(t *rapid.T, c *schema.Column) string {
	if c.Unsigned {
		most := uint64(1)<<c.Size - 1
		return strconv.FormatUint(rapid.SampledFrom([]uint64{0, 1, 2, 100, most / 2, most/2 + 1, most, rapid.Uint64Range(0, most).Draw(t, "any")}).Draw(t, "value"), 10)
	}
	most := int64(1)<<(c.Size-1) - 1
	return strconv.FormatInt(rapid.SampledFrom([]int64{0, 1, -1, 2, 100, -most - 1, most, most / 2, rapid.Int64Range(-most-1, most).Draw(t, "any")}).Draw(t, "value"), 10)
}

func drawDecimal(t *rapid.T, c *schema.Column, postgres bool) string {
	if c.Scale < 0 && c.Size > 0 {
		return rapid.SampledFrom([]string{"0", "12300", "-99900"}).Draw(t, "value")
	}
	size, scale := c.Size, c.Scale
	if size == 0 {
		size, scale = 45, 32
		if special := rapid.SampledFrom([]string{"", "", "", "NaN", "Infinity", "-Infinity", "1.10", "5.00", "1"}).Draw(t, "special"); special != "" {
			return special
		}
	}
	whole := strings.TrimLeft(rapid.StringOfN(rapid.RuneFrom([]rune("0123456789")), 0, size-scale, -1).Draw(t, "whole"), "0")
	text := cmp.Or(whole, "0")
	if scale > 0 {
		n := scale
		if postgres && c.Size == 0 {
			n = rapid.IntRange(1, scale).Draw(t, "digits")
		}
		text += "." + rapid.StringOfN(rapid.RuneFrom([]rune("0012345678990")), n, n, -1).Draw(t, "fraction")
	}
	if rapid.Bool().Draw(t, "negative") && strings.Trim(text, "0.") != "" {
		text = "-" + text
	}
	return text
}

func drawText(t *rapid.T, c *schema.Column, postgres bool) string {
	n := c.Size
	if n == 0 || n > 40 {
		n = 40
	}
	latin := strings.Contains(c.Native, "(10)") && !postgres // one of them is latin1
	text := rapid.SampledFrom([]string{
		"", "a", "it's", "-7", "007", "red", "1.50", `{"a": 1}`, "0a1b2c3d-0000-4000-8000-00000000000f", "blanks  ", "äöü", "😀😀😀😀😀😀", `\`, "%", "\x00", "\n",
		rapid.StringN(0, n, -1).Draw(t, "any"),
	}).Draw(t, "value")
	if postgres {
		text = strings.ReplaceAll(text, "\x00", "")
	}
	if latin {
		text = strings.Map(func(r rune) rune {
			if r > 255 || r >= 0x80 && r < 0xa0 {
				return '?'
			}
			return r
		}, text)
	}
	for utf8.RuneCountInString(text) > n {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	if c.Fixed {
		text = strings.TrimRight(text, " ")
	}
	return text
}

func drawTime(t *rapid.T, c *schema.Column, postgres bool) string {
	days := []string{"2024-02-29", "0001-01-01", "9999-12-31", "1970-01-01", "2038-01-19", "1999-12-31", "1582-10-10"}
	clocks := []string{"00:00:00", "23:59:59", "03:14:07", "12:00:01"}
	pick := func(s []string) string { return rapid.SampledFrom(s).Draw(t, "value") }
	fraction := ""
	if c.Scale > 0 {
		fraction = strings.TrimRight(pick([]string{"", ".5", ".123456", ".999999", ".1"}), "")
		if len(fraction) > c.Scale+1 {
			fraction = strings.TrimRight(fraction[:c.Scale+1], "0.")
		}
	}
	switch {
	case c.Kind == schema.KindYear:
		return pick([]string{"0000", "1901", "1970", "2024", "2155"})
	case c.Kind == schema.KindTime && postgres:
		return pick([]string{"24:00:00", "10:11:12" + fraction, "00:00:00" + fraction})
	case c.Kind == schema.KindTime:
		return pick([]string{"10:11:12" + fraction, "00:00:00" + fraction, "838:59:59", "-838:59:59", "24:00:01", "-00:00:01" + fraction}) // Postgres takes the first two
	case c.Kind == schema.KindTimestampTZ && !postgres:
		return pick([]string{"1970-01-01 00:00:01", "2038-01-19 03:14:07", "2024-02-29 12:00:00", "0000-00-00 00:00:00"}[:3]) + fraction
	}
	special := []string{"infinity", "-infinity", "0044-03-15 BC", "12345-01-01"}
	if !postgres {
		special = []string{"0000-00-00", "2024-00-00", "2024-02-31"}
	}
	day := pick(append(days, special...))
	if c.Kind == schema.KindDate || strings.HasSuffix(day, "infinity") {
		return day
	}
	day, era, _ := strings.Cut(day, " ")
	return strings.TrimSuffix(day+" "+pick(clocks)+fraction+" "+era, " ")
}

// Any value of any type of any engine, sent to a column of any type of any engine: it arrives as the same value, or it is
// refused with a reason. What arrived goes back whence it came and is still the same.
func TestAnyValue(t *testing.T) {
	asksServers(t)
	postgres := newTyped(postgresWorld(t, schema.Branch), postgresTypes)
	mariadb := newTyped(mysqlWorld(t, schema.Branch), mariadbTypes)
	worlds := []*typed{postgres, mariadb}
	accepted, refusals := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		for range 10 {
			source := rapid.SampledFrom(worlds).Draw(t, "source")
			target := rapid.SampledFrom(worlds).Draw(t, "target")
			from := rapid.IntRange(0, len(source.tables)-1).Draw(t, "from")
			to := rapid.IntRange(0, len(target.tables)-1).Draw(t, "to")
			a, b := source.tables[from].Table, target.tables[to].Table
			text := draw(t, source.engine, &a.Columns[1])
			got, refused := target.receive(t, a, to, text)
			if refused != nil {
				if a.Engine == b.Engine && source.types[from] == target.types[to] {
					t.Fatalf("%s %q is refused by its own type: %v", source.types[from], text, refused)
				}
				refusals++
				continue
			}
			accepted++
			if !sameValue(&a.Columns[1], text, &b.Columns[1], got) {
				t.Fatalf("%s %q became %s %q", source.types[from], text, target.types[to], got)
			}
			if back, refused := source.receive(t, b, from, got); refused == nil && !sameValue(&a.Columns[1], text, &a.Columns[1], back) {
				t.Fatalf("%s %q became %s %q and came back as %q", source.types[from], text, target.types[to], got, back)
			}
		}
	})
	t.Logf("%d accepted, %d refused", accepted, refusals)
}
