package schema

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// texts are values that a column of the kind may hold, few enough that two draws are often the same value.
var texts = map[Kind][]string{
	KindBool:        {"0", "1"},
	KindInt:         {"0", "1", "-1", "10", "100", "2024", "16777217", "9007199254740993"},
	KindDecimal:     {"0", "0.00", "-0.0", "1", "1.0", "1.00", "10", "10.00", "0.1", "0.10", "-1", "-1.00", "2024", "NaN", "Infinity", "9007199254740993"},
	KindFloat:       {"0", "-0", "1", "-1", "10", "0.1", "0.5", "0.10000000149011612", "2024", "1e+06", "NaN", "Infinity", "9.007199254740992e+15"},
	KindText:        {"", "0", "-0", "1", "1.0", "1.00", "0.1", "10", "010", "NaN", "a", "a ", "A", "red", "red,green", "green,red", "0000", "2024", "{}", "{ }", `{"a":1}`, aUUID, strings.ToUpper(aUUID), "2024-01-01", "2024-01-01 00:00:00", "10:00:00.5", "10:00:00.50", "1 mon", "01", "::1", "{1}"},
	KindBytes:       {"", "a", "a\x00", "a\x00\x00\x00", "abcdefghijklmnop", "1"},
	KindDate:        {"2024-01-01", "infinity", "0000-00-00"},
	KindTime:        {"10:00:00", "10:00:00.5", "-10:00:00"},
	KindTimeTZ:      {"10:00:00+00", "10:00:00+01"},
	KindTimestamp:   {"2024-01-01 00:00:00", "2024-01-01 00:00:00.5", "infinity"},
	KindTimestampTZ: {"2024-01-01 00:00:00", "2024-01-01 00:00:00.5", "infinity"},
	KindInterval:    {"1 mon", "30 days"},
	KindYear:        {"0000", "2024"},
	KindJSON:        {"{}", "{ }", `{"a":1}`, `{"a": 1.0}`, `{"a":1,"a":1}`, `{"a":2,"a":1}`, "1", "1.0", "0", "-0", `"a"`, `"\u0061"`, `"red"`, "[]", "[1]", "[1,1]", "[[1]]"},
	KindUUID:        {aUUID, "61626364-6566-6768-696a-6b6c6d6e6f70"},
	KindEnum:        {"red", "green"},
	KindSet:         {"", "red", "green", "red,green"},
	KindBit:         {"0", "1", "01"},
	KindNative:      {"::1", "{1}", "1"},
}

func sampleNames() *rapid.Generator[string] {
	return rapid.SampledFrom(slices.Sorted(maps.Keys(sampleColumns)))
}

// drawRow draws a row for the columns v0, v1 … with values of their kinds.
func drawRow(t *rapid.T, table *Table) Row {
	row := make(Row, len(table.Columns))
	for i := range row {
		c := &table.Columns[i]
		switch rapid.IntRange(0, 9).Draw(t, "state") {
		case 0:
			row[i] = NullValue()
		default:
			text := rapid.SampledFrom(texts[c.Kind]).Draw(t, "text")
			switch { // as the catalog's readers write it
			case c.Kind == KindText && c.Fixed:
				text = strings.TrimRight(text, " ")
			case c.Kind == KindFloat:
				text = shortestFloat(text, c.Size)
			case c.Kind == KindDecimal && c.Size > 0:
				if r, ok := new(big.Rat).SetString(text); ok {
					text = r.FloatString(c.Scale)
				}
			}
			row[i] = Of(text)
		}
	}
	return row
}

// Whatever two offices call a row: when the hashes are equal, the rows are the same; a row is always the same as itself.
func TestEqualHashesAreSameRows(t *testing.T) {
	equal, both := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		for range 20 {
			var a, b []Column
			for i := range rapid.IntRange(1, 2).Draw(t, "columns") {
				ca, cb := sampleColumns[sampleNames().Draw(t, "there")], sampleColumns[sampleNames().Draw(t, "here")]
				ca.Name, cb.Name = string(rune('a'+i)), string(rune('a'+i))
				a, b = append(a, ca), append(b, cb)
			}
			if rapid.Bool().Draw(t, "the other order") {
				slices.Reverse(b)
			}
			head, here := NewTable(Table{Columns: a}), NewTable(Table{Columns: b})
			ra, rb := drawRow(t, head), drawRow(t, here)
			same, columns := SameRow(head, ra, here, rb)
			hash := head.HashRow(ra)
			seen := NewHasherAs(here, head).Hash(rb) == hash
			plain := NewHasher(here, []string{"b", "a"}[2-len(b):]).Hash(rb) == hash
			if (seen || plain) && !same {
				t.Fatalf("equal hashes (%t, %t) of\n%v of %v\n%v of %v\nwhich differ in %v", seen, plain, ra, a, rb, b, columns)
			}
			if plain && !seen {
				t.Fatalf("knowing the definition makes the hashes of %v of %v and %v of %v differ", ra, a, rb, b)
			}
			if ok, columns := SameRow(here, rb, here, rb); !ok || here.HashRow(rb) != NewHasherAs(here, here).Hash(rb) {
				t.Fatalf("%v of %v is not itself in %v", rb, b, columns)
			}
			if same {
				both++
			}
			if seen {
				equal++
			}
		}
	})
	if equal == 0 || both < equal {
		t.Errorf("%d rows were the same, %d by their hashes", both, equal)
	}
	t.Logf("%d rows were the same, %d by their hashes", both, equal)
}

// Values do not slip from one column into the next, nor do columns change places.
func TestHashTellsColumnsApart(t *testing.T) {
	table := NewTable(Table{Columns: []Column{{Name: "a", Kind: KindText}, {Name: "b", Kind: KindText}, {Name: "c", Kind: KindText}}})
	rows := []Row{
		{Of("ab"), Of(""), Of("c")},
		{Of("a"), Of("b"), Of("c")},
		{Of(""), Of("ab"), Of("c")},
		{Of("b"), Of("a"), Of("c")},
		{Of("c"), Of("b"), Of("a")},
		{NullValue(), Of("b"), Of("c")},
		{Of("b"), NullValue(), Of("c")},
		{NullValue(), NullValue(), Of("bc")},
		{Of("a\x01b"), Of(""), Of("c")},
	}
	hashes := map[uint64]Row{}
	for _, r := range rows {
		h := table.HashRow(r)
		if other, ok := hashes[h]; ok {
			t.Errorf("%v and %v have one hash", other, r)
		}
		hashes[h] = r
		if got := NewHasherAs(table, table).Hash(r); got != h {
			t.Errorf("%v: a Hasher says %x, HashRow %x", r, got, h)
		}
	}
	renamed := NewTable(Table{Columns: []Column{{Name: "a", Kind: KindText}, {Name: "b", Kind: KindText}, {Name: "d", Kind: KindText}}})
	if renamed.HashRow(rows[0]) == table.HashRow(rows[0]) {
		t.Error("another column's name does not count")
	}
}

// Offices of two versions compare hashes: these must stay as they are for as long as WireVersion does.
func TestHashStays(t *testing.T) {
	var columns []Column
	var row Row
	for kind := KindBool; kind.Valid(); kind++ {
		columns = append(columns, Column{Name: kind.String(), Kind: kind, Size: 64, Native: "n"})
		row = append(row, Of(texts[kind][1]))
	}
	if got, want := NewTable(Table{Columns: columns}).HashRow(row), uint64(0x38aadf488ec549e2); got != want {
		t.Errorf("the hash is %#x, was %#x", got, want)
	}
}

func numbers() *rapid.Generator[string] {
	return rapid.OneOf(rapid.StringMatching(`[-+]?[01]{1,4}(\.[01]{0,4})?([eE][-+]?[012])?`), rapid.StringMatching(`-?[0-9]{1,30}(\.[0-9]{1,30})?`))
}

func TestNumbersHaveOneForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := numbers().Draw(t, "a"), numbers().Draw(t, "b")
		ra, ok := new(big.Rat).SetString(a)
		rb, ok2 := new(big.Rat).SetString(b)
		if !ok || !ok2 {
			t.Fatalf("%s or %s is no number", a, b)
		}
		if got, want := sameNumber(a, b), ra.Cmp(rb) == 0; got != want {
			t.Fatalf("%s and %s: same %t, want %t", a, b, got, want)
		}
	})
}

// documents draws JSON with few names and values, in any notation.
func documents(depth int) *rapid.Generator[string] {
	space := rapid.SampledFrom([]string{"", "", " ", "\n\t"})
	return rapid.Custom(func(t *rapid.T) string {
		kind := rapid.IntRange(0, 5).Draw(t, "kind")
		if depth == 0 {
			kind %= 4
		}
		text := func() string {
			return rapid.SampledFrom([]string{`""`, `"a"`, `"\u0061"`, `"b"`, `"ab"`, `"\n"`, `"\u000A"`, `"\/"`, `"/"`, `"ä"`, `"\u00E4"`, `"\uD83D\ude00"`, `"😀"`, `"\\u0061"`}).Draw(t, "text")
		}
		var parts []string
		pad := func(s string) string { return space.Draw(t, "before") + s + space.Draw(t, "behind") }
		switch kind {
		case 0:
			return pad(rapid.SampledFrom([]string{"null", "true", "false"}).Draw(t, "word"))
		case 1:
			return pad(rapid.StringMatching(`-?(0|[12]0?)(\.[01]0?)?([eE][+-]?[01])?`).Draw(t, "number"))
		case 2, 3:
			return pad(text())
		case 4:
			for range rapid.IntRange(0, 2).Draw(t, "length") {
				parts = append(parts, documents(depth-1).Draw(t, "value"))
			}
			return pad("[" + pad(strings.Join(parts, ",")) + "]")
		default:
			for range rapid.IntRange(0, 3).Draw(t, "length") {
				parts = append(parts, pad(text())+":"+documents(depth-1).Draw(t, "value"))
			}
			return pad("{" + pad(strings.Join(parts, ",")) + "}")
		}
	})
}

// meaning is the judge: the standard library's reading, with numbers as fractions.
func meaning(t *rapid.T, text string) any {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return fractions(v)
}

func fractions(v any) any {
	switch v := v.(type) {
	case json.Number:
		r, _ := new(big.Rat).SetString(v.String())
		return r
	case []any:
		for i := range v {
			v[i] = fractions(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = fractions(v[k])
		}
	}
	return v
}

// shuffled writes what a document means once more: other order, other white space, other notation.
func shuffled(t *rapid.T, v any) string {
	space := rapid.SampledFrom([]string{"", " ", "\r\n"}).Draw(t, "space")
	switch v := v.(type) {
	case *big.Rat:
		return v.FloatString(rapid.IntRange(3, 6).Draw(t, "digits"))
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = shuffled(t, v[i])
		}
		return "[" + strings.Join(parts, space+",") + "]"
	case map[string]any:
		var parts []string
		for _, k := range rapid.Permutation(slices.Sorted(maps.Keys(v))).Draw(t, "order") {
			parts = append(parts, shuffled(t, k)+space+":"+shuffled(t, v[k]))
		}
		return "{" + strings.Join(parts, ","+space) + "}"
	default:
		b, _ := json.Marshal(v)
		return string(b)
	}
}

func TestJSONHasOneForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := documents(3).Draw(t, "a"), documents(1).Draw(t, "b")
		if again := shuffled(t, meaning(t, a)); !sameJSON(a, again) {
			t.Fatalf("%q and %q are not the same", a, again)
		}
		if got, want := sameJSON(a, b), reflect.DeepEqual(meaning(t, a), meaning(t, b)); got != want {
			t.Fatalf("%q and %q: same %t, want %t", a, b, got, want)
		}
	})
}

// What the standard library takes for JSON is JSON here, and nothing else is.
func TestJSONIsStrict(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(documents(2).Draw(t, "document"))
		if len(text) > 0 {
			at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
			text[at] = rapid.SampledFrom([]byte("{}[]\":,\\0-+.eEutfn \x00\x7fa1")).Draw(t, "damage")
		}
		before := []byte("before")
		form, ok := appendJSON(before, string(text))
		if ok != json.Valid(text) {
			t.Fatalf("%q: taken %t", text, ok)
		}
		if !ok && !bytes.Equal(form, before) || !bytes.HasPrefix(form, before) {
			t.Fatalf("%q: left %q", text, form)
		}
	})
	for depth, want := range map[int]bool{jsonDepth: true, jsonDepth + 1: false} {
		deep := strings.Repeat("[", depth) + strings.Repeat("]", depth)
		if _, ok := appendJSON(nil, deep); ok != want || json.Valid([]byte(deep)) != want {
			t.Errorf("%d deep: taken %t", depth, ok)
		}
	}
}

// An ordinary row costs no allocation; a value that is large once does not stay in memory.
func TestHasherKeepsLittle(t *testing.T) {
	table, row := ordinary()
	h := NewHasherAs(table, table)
	if n := testing.AllocsPerRun(100, func() { h.Hash(row); table.HashRow(row) }); n != 0 {
		t.Errorf("%v allocations for a row", n)
	}
	large := slices.Clone(row)
	large[1] = Of(strings.Repeat("x", 2*mostKept))
	if h.Hash(large) != table.HashRow(large) || cap(h.buffer) > mostKept || h.Hash(row) != table.HashRow(row) {
		t.Errorf("%d bytes are kept, or the hash is another", cap(h.buffer))
	}
}

// ordinary is a row of an int, a text of 20 characters, a numeric and a timestamp.
func ordinary() (*Table, Row) {
	table := NewTable(Table{Key: []int{0}, Columns: []Column{
		{Name: "id", Kind: KindInt, Size: 32}, {Name: "name", Kind: KindText}, {Name: "price", Kind: KindDecimal, Size: 12, Scale: 2}, {Name: "at", Kind: KindTimestamp, Scale: 6},
	}})
	return table, Row{Of("123456"), Of("twenty letters, more"), Of("1234.50"), Of("2024-01-02 03:04:05.678901")}
}

func BenchmarkHashRow(b *testing.B) {
	table, row := ordinary()
	b.ReportAllocs()
	for b.Loop() {
		table.HashRow(row)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkHasher(b *testing.B) {
	table, row := ordinary()
	h := NewHasherAs(table, table)
	b.ReportAllocs()
	for b.Loop() {
		h.Hash(row)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkHashJSON(b *testing.B) {
	table := NewTable(Table{Columns: []Column{{Name: "doc", Kind: KindJSON}}})
	row := Row{Of(`{"id": 17, "name": "an ordinary document", "tags": ["a", "b"], "price": 12.50, "address": {"city": "Wien", "zip": "1010"}}`)}
	b.ReportAllocs()
	for b.Loop() {
		table.HashRow(row)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
