package schema

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

func TestValue(t *testing.T) {
	for _, c := range []struct {
		value           Value
		state           State
		null, unchanged bool
		text, people    string
	}{
		{Value{}, Unchanged, false, true, "", "-"},
		{NullValue(), Null, true, false, "", "NULL"},
		{Of(""), Present, false, false, "", `""`},
		{Of("a\nb"), Present, false, false, "a\nb", `"a\nb"`},
		{Of("NULL"), Present, false, false, "NULL", `"NULL"`},
	} {
		if v := c.value; v.State() != c.state || v.IsNull() != c.null || v.IsUnchanged() != c.unchanged || v.Text() != c.text || v.String() != c.people {
			t.Errorf("%#v: %v %v %v %q %s", v, v.State(), v.IsNull(), v.IsUnchanged(), v.Text(), v)
		}
	}
	if Of("") == NullValue() || Of("") == (Value{}) || NullValue() == (Value{}) {
		t.Error("values that differ are equal")
	}
}

func TestRowComplete(t *testing.T) {
	table := NewTable(Table{Columns: []Column{{Name: "a", Kind: KindInt}, {Name: "b", Kind: KindInt, Generated: true}}})
	for name, c := range map[string]struct {
		row  Row
		want bool
	}{
		"all":                    {Row{Of("1"), Of("2")}, true},
		"NULL is a value":        {Row{NullValue(), NullValue()}, true},
		"generated is not ours":  {Row{Of("1"), {}}, true},
		"one is unchanged":       {Row{{}, Of("2")}, false},
		"no image at all":        {nil, false},
		"everything is left out": {Row{{}, {}}, false},
	} {
		if got := c.row.Complete(table); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestKeyRowAndKeyString(t *testing.T) {
	item := item()
	pair := NewTable(Table{TableName: TableName{Name: "pair"}, Key: []int{1, 0}, Columns: []Column{{Name: "a", Kind: KindText}, {Name: "b", Kind: KindInt}}})
	keyless := NewTable(Table{TableName: TableName{Name: "log"}, Columns: []Column{{Name: "line", Kind: KindText}}})
	old, after := Row{Of("1"), {}, {}}, Row{Of("2"), Of("x"), Of("3")}
	for name, c := range map[string]struct {
		change Change
		row    Row
		text   string
	}{
		"insert":                           {Change{Table: item, Op: Insert, After: after}, after, "id=2"},
		"update of the key":                {Change{Table: item, Op: Update, Before: old, After: after}, old, "id=1"},
		"update, the key is as it was":     {Change{Table: item, Op: Update, After: after}, after, "id=2"},
		"update, the log has no key in it": {Change{Table: item, Op: Update, Before: Row{{}, Of("y"), {}}, After: after}, after, "id=2"},
		"delete":                           {Change{Table: item, Op: Delete, Before: old}, old, "id=1"},
		"truncate":                         {Change{Table: item, Op: Truncate}, nil, "(no key)"},
		"in the key's order":               {Change{Table: pair, Op: Insert, After: Row{Of("x"), Of("7")}}, Row{Of("x"), Of("7")}, `b=7, a="x"`},
		"NULL in the key":                  {Change{Table: pair, Op: Insert, After: Row{NullValue(), Of("7")}}, Row{NullValue(), Of("7")}, `b=7, a=NULL`},
		"half of the key before":           {Change{Table: pair, Op: Update, Before: Row{{}, Of("6")}, After: Row{Of("x"), Of("7")}}, Row{Of("x"), Of("7")}, `b=7, a="x"`},
		"no key":                           {Change{Table: keyless, Op: Insert, After: Row{Of("x")}}, Row{Of("x")}, "(no key)"},
	} {
		if got := c.change.KeyRow(); fmt.Sprint(got) != fmt.Sprint(c.row) {
			t.Errorf("%s: row %v, want %v", name, got, c.row)
		}
		if got := c.change.KeyString(); got != c.text {
			t.Errorf("%s: %s, want %s", name, got, c.text)
		}
	}
}

func TestValidateChange(t *testing.T) {
	item := item()
	row := Row{Of("1"), Of("x"), Of("3")}
	for name, c := range map[string]struct {
		change Change
		want   string // in the error; empty: none
	}{
		"insert":             {Change{Table: item, Op: Insert, After: row}, ""},
		"update":             {Change{Table: item, Op: Update, Before: row, After: row}, ""},
		"delete":             {Change{Table: item, Op: Delete, Before: row}, ""},
		"truncate":           {Change{Table: item, Op: Truncate}, ""},
		"no table":           {Change{Op: Insert, After: row}, "without a table"},
		"no operation":       {Change{Table: item, After: row}, "unknown operation"},
		"another operation":  {Change{Table: item, Op: Define + 1, After: row}, "unknown operation"},
		"define":             {Change{Table: item, Op: Define, Definition: &DefinitionChange{}}, ""},
		"define of nothing":  {Change{Table: item, Op: Define}, "definition: false"},
		"insert and define":  {Change{Table: item, Op: Insert, After: row, Definition: &DefinitionChange{}}, "definition: true"},
		"insert of nothing":  {Change{Table: item, Op: Insert}, "insert without a row"},
		"update to nothing":  {Change{Table: item, Op: Update, Before: row}, "update without a row"},
		"delete of nothing":  {Change{Table: item, Op: Delete}, "without a key"},
		"a narrow row":       {Change{Table: item, Op: Insert, After: row[:2]}, "number of columns"},
		"a wide row before":  {Change{Table: item, Op: Delete, Before: append(Row{Of("")}, row...)}, "number of columns"},
		"an empty row is no": {Change{Table: item, Op: Insert, After: Row{}}, "number of columns"},
	} {
		err := c.change.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[fmt.Stringer]string{
		Insert: "insert", Update: "update", Delete: "delete", Truncate: "truncate", Op(9): "op(9)",
		KindInt: "int", KindNative: "native", Kind(99): "kind(99)", MessageControl: "control", MessageKind(0): "kind(0)", MessageKind(77): "kind(77)",
		TableName{Name: "t"}: "t", TableName{Schema: "s", Name: "t"}: "s.t", Position{Epoch: 3, Seq: 4}: "3/4",
	} {
		if got.String() != want {
			t.Errorf("%#v is called %s, want %s", got, got, want)
		}
	}
	for k := range len(kindNames) + 2 {
		if got, want := Kind(k).Valid(), k >= 1 && k <= int(KindNative); got != want {
			t.Errorf("kind %d is valid: %v", k, got)
		}
	}
}

func TestTable(t *testing.T) {
	a, b := shop(), shop()
	if a.Fingerprint() != b.Fingerprint() || a.Fingerprint() == 0 {
		t.Errorf("equal tables have the fingerprints %x and %x", a.Fingerprint(), b.Fingerprint())
	}
	seen := map[uint64]string{a.Fingerprint(): "as it was"}
	for name, change := range map[string]func(*Table){
		"name": func(t *Table) { t.Name = "x" }, "schema": func(t *Table) { t.Schema = "" }, "engine": func(t *Table) { t.Engine = Postgres },
		"key": func(t *Table) { t.Key = []int{2} }, "key order": func(t *Table) { t.Key = []int{0, 2} }, "a column less": func(t *Table) { t.Columns = t.Columns[:18] },
		"column name": func(t *Table) { t.Columns[0].Name = "x" }, "kind": func(t *Table) { t.Columns[0].Kind = KindInt },
		"nullable": func(t *Table) { t.Columns[0].Nullable = false }, "labels": func(t *Table) { t.Columns[15].Labels = []string{"small", "größer", ""} },
		"size": func(t *Table) { t.Columns[0].Size = 1 }, "scale": func(t *Table) { t.Columns[0].Scale = -1 },
	} {
		changed := shop()
		change(changed)
		got := NewTable(*changed).Fingerprint()
		if other, is := seen[got]; is {
			t.Errorf("%s: the fingerprint is that of %s", name, other)
		}
		seen[got] = name
	}
	if a.Column("text") != 4 || a.Column("Text") != -1 || a.Column("") != -1 {
		t.Errorf("columns: %d %d %d", a.Column("text"), a.Column("Text"), a.Column(""))
	}
}

func TestParseOffice(t *testing.T) {
	for name, good := range map[string]bool{
		"a": true, "head": true, "north-2": true, "a-": true, strings.Repeat("a", 40): true,
		"": false, "A": false, "2a": false, "-a": false, "a_b": false, "a b": false, "a.b": false, "ä": false, "a\n": false, strings.Repeat("a", 41): false,
	} {
		got, err := ParseOffice(name)
		if (err == nil) != good || good && string(got) != name || !good && (got != "" || !strings.Contains(err.Error(), fmt.Sprintf("%q", name))) {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
}

func TestParseDSN(t *testing.T) {
	for raw, want := range map[string]struct{ scheme, user, password, address, database, schema, text string }{
		"postgres://u:p@db:5433/shop":        {"postgres", "u", "p", "db:5433", "shop", "public", "postgres://u@db:5433/shop"},
		"postgresql://u@db/shop":             {"postgres", "u", "", "db:5432", "shop", "public", "postgres://u@db:5432/shop"},
		"mysql://u:p%40%2Fss@db/shop":        {"mysql", "u", "p@/ss", "db:3306", "shop", "shop", "mysql://u@db:3306/shop"},
		"mariadb://u:p@[::1]:99/shop?tls=on": {"mysql", "u", "p", "[::1]:99", "shop", "shop", "mysql://u@[::1]:99/shop"},
	} {
		d, err := ParseDSN(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if d.Scheme != want.scheme || d.User != want.user || d.Password != want.password || d.Address() != want.address ||
			d.Database != want.database || d.DefaultSchema() != want.schema || d.String() != want.text || d.URL() != raw {
			t.Errorf("%s: %+v", raw, d)
		}
	}
	if d, err := ParseDSN("mysql://u@h/d?tls=on&x=1"); err != nil || d.Params.Get("tls") != "on" || d.Params.Get("x") != "1" {
		t.Errorf("parameters: %+v, %v", d, err)
	}
	for raw, names := range map[string]string{
		"": "scheme", "db:5432": "scheme", "oracle://u:secret@h/d": `"oracle"`, "postgres://u:secret@h": "/database", "mysql://u:secret@/d": "host",
		"postgres://u:se%cret@h/d": "percent-encoded", "postgres://u:secret@h:port/d": "URL", "mysql:u:secret@h/d": "host",
	} {
		_, err := ParseDSN(raw)
		if err == nil || !strings.Contains(err.Error(), names) || strings.Contains(err.Error(), "cret") {
			t.Errorf("%s: %v, want an error with %s and without the password", raw, err, names)
		}
	}
}

func TestPosition(t *testing.T) {
	ordered := []Position{{}, {0, 1}, {1, 0}, {1, 1}, {1, 2}, {2, 0}, {2, 1}}
	for i, p := range ordered {
		for j, q := range ordered {
			if p.Less(q) != (i < j) {
				t.Errorf("%s < %s is %v", p, q, p.Less(q))
			}
		}
		if p.IsZero() != (i == 0) {
			t.Errorf("%s is zero: %v", p, p.IsZero())
		}
	}
}

func TestStamp(t *testing.T) {
	ordered := []Stamp{{-1, 5}, {}, {0, 1}, {1, 0}, {1, math.MaxUint32}, {2, 0}}
	for i, s := range ordered {
		for j, o := range ordered {
			if s.Less(o) != (i < j) {
				t.Errorf("%v < %v is %v", s, o, s.Less(o))
			}
			if want := ordered[max(i, j)]; s.Max(o) != want {
				t.Errorf("the later of %v and %v is %v", s, o, s.Max(o))
			}
		}
	}
	for _, c := range []struct {
		at   Stamp
		now  int64
		want Stamp
	}{
		{Stamp{10, 5}, 11, Stamp{11, 0}},
		{Stamp{10, 5}, 10, Stamp{10, 6}},
		{Stamp{10, 5}, 3, Stamp{10, 6}},
		{Stamp{10, math.MaxUint32}, 10, Stamp{11, 0}},
		{Stamp{10, math.MaxUint32}, 12, Stamp{12, 0}},
		{Stamp{}, -5, Stamp{0, 1}},
	} {
		if got := c.at.Next(time.UnixMilli(c.now)); got != c.want || !c.at.Less(got) {
			t.Errorf("behind %v at %d comes %v, want %v", c.at, c.now, got, c.want)
		}
	}
}

func TestErrors(t *testing.T) {
	cause := errors.New("value out of range")
	rejected := &RejectedError{Table: TableName{Schema: "shop", Name: "t"}, Key: "id=7", Column: "c", At: Position{Epoch: 1, Seq: 2}, Cause: cause, Remedy: "widen it"}
	refused := &RefusedError{What: "wal_level is replica", Remedy: "ALTER SYSTEM"}
	broken := &BrokenError{What: "the slot is lost", Cause: cause}
	for err, want := range map[error]string{
		rejected: "table shop.t column c row id=7 at 1/2: value out of range; remedy: widen it",
		refused:  "wal_level is replica; remedy: ALTER SYSTEM",
		broken:   "the slot is lost: value out of range",
		&RejectedError{Table: TableName{Name: "t"}, Cause: cause}: "table t: value out of range",
	} {
		if err.Error() != want {
			t.Errorf("got  %s\nwant %s", err, want)
		}
	}
	if !errors.Is(rejected, cause) || !errors.Is(broken, cause) || errors.Is(refused, cause) {
		t.Error("the causes are not to be found in the errors, or where there is none")
	}
}

func TestBytes(t *testing.T) {
	c := Change{Table: item(), Op: Insert, After: Row{Of("1"), Of(strings.Repeat("x", 1000)), NullValue()}}
	tx := Transaction{Changes: []Change{c, c}}
	if n := tx.Bytes(); n < 2000 || n > 2200 || n < 2*c.Bytes() {
		t.Errorf("2000 bytes measure as %d", n)
	}
}
