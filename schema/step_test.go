package schema

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// stock is a small table to change.
func stock() *Definition {
	return &Definition{
		Table: NewTable(Table{TableName: TableName{Name: "stock"}, Engine: Postgres, Key: []int{0}, Columns: []Column{
			{Name: "id", Kind: KindInt, Size: 64, Native: "bigint"},
			{Name: "name", Kind: KindText, Size: 20, Native: "character varying(20)"},
			{Name: "amount", Kind: KindDecimal, Size: 10, Scale: 2, Nullable: true, Native: "numeric(10,2)"},
			{Name: "colour", Kind: KindEnum, Nullable: true, Native: "colour", Labels: []string{"red", "green"}},
		}}),
		Details: []ColumnDetail{{ID: 1, Serial: true}, {ID: 2}, {ID: 3, Default: Expression{Kind: LiteralValue, Text: "0"}}, {ID: 5}},
		Indexes: []Index{{Name: "by_name", Parts: []IndexPart{{Column: "name"}}}},
		Checks:  []Check{{Name: "enough", Expression: Expression{Kind: PortableText, Text: `"amount" > 0 AND "name" <> 'amount'`}}},
		ForeignKeys: []ForeignKey{
			{Name: "of", Columns: []string{"name"}, Parent: TableName{Name: "item"}, ParentColumns: []string{"name"}, OnDelete: Cascade},
		},
	}
}

// with is a copy of a definition with something done to it.
func (d *Definition) with(do func(*Definition)) *Definition {
	n, err := ParseDefinition(AppendDefinition(nil, d))
	if err != nil {
		panic(err)
	}
	do(n)
	n.Table = NewTable(*n.Table)
	return n
}

// told are steps as words: what, and about which column.
func told(steps []Step) string {
	var all []string
	for _, s := range steps {
		word := string(s.Kind)
		switch {
		case s.Kind == DropColumn:
			word += " " + s.Was.Columns[s.WasColumn].Name
		case s.Kind == RenameColumn:
			word += " " + s.Was.Columns[s.WasColumn].Name + ">" + s.Is.Columns[s.Column].Name
		case s.Column >= 0:
			word += " " + s.Is.Columns[s.Column].Name
		case s.Index != nil:
			word += " " + s.Index.Name
		case s.Check != nil:
			word += " " + s.Check.Name
		case s.ForeignKey != nil:
			word += " " + s.ForeignKey.Name
		}
		if s.Destroys() != "" {
			word += " !"
		}
		all = append(all, word)
	}
	return strings.Join(all, ", ")
}

func column(d *Definition, name string) *Column { return &d.Columns[d.Column(name)] }

func removeColumn(d *Definition, i int) {
	d.Columns, d.Details = slices.Delete(d.Columns, i, i+1), slices.Delete(d.Details, i, i+1)
}

// diffs are changes of stock, and the steps that they are; ! is behind what destroys something.
var diffs = map[string]struct {
	change func(d *Definition)
	want   string // ! is behind what destroys something
}{
	"nothing":      {func(*Definition) {}, ""},
	"rename table": {func(d *Definition) { d.TableName = TableName{Schema: "shop", Name: "goods"} }, "rename table"},
	"rename": {func(d *Definition) {
		d.Columns[2].Name = "count"
		d.Checks[0].Expression.Text = `"count" > 0 AND "name" <> 'amount'`
	}, "rename column amount>count"},
	"rename an indexed one": {func(d *Definition) {
		d.Columns[1].Name, d.Indexes[0].Parts[0].Column, d.ForeignKeys[0].Columns[0] = "title", "title", "title"
		d.Checks[0].Expression.Text = `"amount" > 0 AND "title" <> 'amount'`
	}, "rename column name>title"},
	"names passed on": {func(d *Definition) {
		d.Columns[1].Name, d.Columns[2].Name, d.Indexes, d.ForeignKeys, d.Checks = "amount", "sum", nil, nil, nil
	}, "drop foreign key of, drop check enough, drop index by_name, rename column amount>sum, rename column name>amount"},
	"names exchanged": {func(d *Definition) {
		d.Columns[1].Name, d.Columns[2].Name, d.Indexes, d.ForeignKeys, d.Checks = "amount", "name", nil, nil, nil
	}, "drop foreign key of, drop check enough, drop index by_name, rename column name>cdc_name, rename column amount>name, rename column cdc_name>amount"},
	"dropped and added again": {
		func(d *Definition) { d.Details[1].ID = 9 },
		"drop foreign key of, drop check enough, drop index by_name, drop column name !, add column name, add index by_name, add check enough !, add foreign key of !",
	},
	"column replaced": {func(d *Definition) {
		removeColumn(d, 3)
		d.Columns, d.Details = append(d.Columns, Column{Name: "color", Kind: KindText, Native: "text"}), append(d.Details, ColumnDetail{ID: 7})
	}, "add column color, drop column colour !"},
	"widened":    {func(d *Definition) { column(d, "name").Size = 30 }, "change type name"},
	"narrowed":   {func(d *Definition) { column(d, "name").Size = 10 }, "change type name !"},
	"label":      {func(d *Definition) { column(d, "colour").Labels = []string{"red", "blue", "green"} }, "add labels colour"},
	"label gone": {func(d *Definition) { column(d, "colour").Labels = []string{"red"} }, "change type colour !"},
	"another enum": {func(d *Definition) {
		c := column(d, "colour")
		c.Native, c.Labels = "tint", []string{"red", "green", "x"}
	}, "change type colour"},
	"default":        {func(d *Definition) { d.Details[2].Default = Expression{Kind: CurrentTime} }, "change default amount"},
	"not null":       {func(d *Definition) { column(d, "amount").Nullable = false }, "change nullable amount !"},
	"null":           {func(d *Definition) { column(d, "name").Nullable = true }, "change nullable name"},
	"serial":         {func(d *Definition) { d.Details[0].Serial = false }, "change serial id"},
	"key":            {func(d *Definition) { d.Key = []int{1, 0} }, "change key !"},
	"key of a null":  {func(d *Definition) { d.Key = []int{2}; d.Columns[2].Nullable = false }, "change nullable amount !, change key !"},
	"key given up":   {func(d *Definition) { d.Key = []int{1}; d.Columns[0].Nullable = true }, "change key !, change nullable id"},
	"computed":       {func(d *Definition) { d.Details[2].Computed = Expression{Kind: PortableText, Text: "1"} }, "change computed amount !"},
	"collation":      {func(d *Definition) { d.Details[1].Collation = "C" }, ""},
	"comments":       {func(d *Definition) { d.Comment, d.Details[3].Comment = "x", "y" }, "change column comment colour, change comment"},
	"index anew":     {func(d *Definition) { d.Indexes[0].Unique = true }, "drop index by_name, add index by_name !"},
	"name's letters": {func(d *Definition) { d.Indexes[0].Name = "BY_name" }, ""},
	"key's action":   {func(d *Definition) { d.ForeignKeys[0].OnDelete = SetNull }, "drop foreign key of, add foreign key of !"},
}

func TestDiff(t *testing.T) {
	for name, c := range diffs {
		t.Run(name, func(t *testing.T) {
			if got := told(Diff(stock(), stock().with(c.change))); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
	if got := told(Diff(nil, stock())); got != "create table, add index by_name, add foreign key of" {
		t.Errorf("a new table: %s", got)
	}
	if got := told(Diff(stock(), nil)); got != "drop table !" {
		t.Errorf("a dropped table: %s", got)
	}
	if got := Diff(nil, nil); got != nil {
		t.Errorf("nothing: %v", got)
	}
}

// names that columns, indexes and constraints of drawn definitions have: few, so that they meet.
var few = []string{"a", "b", "c", "d", "E"}

func definitionColumns(t *rapid.T) (all []Column, details []ColumnDetail) {
	names := rapid.Permutation(few).Draw(t, "names")[:rapid.IntRange(1, len(few)).Draw(t, "width")]
	ids := rapid.Permutation([]int{1, 2, 3, 4, 5, 6}).Draw(t, "ids")
	known := rapid.Bool().Draw(t, "ids are known")
	bit := rapid.Bool()
	for i, name := range names {
		c := Column{Name: name, Kind: rapid.SampledFrom([]Kind{KindInt, KindText, KindEnum}).Draw(t, "kind"), Nullable: bit.Draw(t, "nullable"), Native: "as it is"}
		d := ColumnDetail{Comment: rapid.SampledFrom([]string{"", "x"}).Draw(t, "comment"), Serial: bit.Draw(t, "serial"), Default: expressions().Draw(t, "default")}
		c.Size = rapid.SampledFrom([]int{8, 16}).Draw(t, "size")
		if c.Kind == KindEnum {
			c.Labels = rapid.Permutation([]string{"x", "y", "z"}).Draw(t, "labels")[:rapid.IntRange(1, 3).Draw(t, "count")]
		}
		if known {
			d.ID = ids[i]
		}
		if c.Generated = bit.Draw(t, "computed"); c.Generated {
			d.Computed, d.Stored = Expression{Kind: PortableText, Text: `"a" + ` + rapid.SampledFrom([]string{"1", "2"}).Draw(t, "term")}, bit.Draw(t, "stored")
		}
		all, details = append(all, c), append(details, d)
	}
	return all, details
}

func expressions() *rapid.Generator[Expression] {
	return rapid.SampledFrom([]Expression{{}, {Kind: LiteralValue, Text: "1"}, {Kind: CurrentTime}, {Kind: PortableText, Text: `"b" > 1 AND 'a' <> 'b'`}})
}

func definitions() *rapid.Generator[*Definition] {
	return rapid.Custom(func(t *rapid.T) *Definition {
		d := &Definition{Comment: rapid.SampledFrom([]string{"", "x"}).Draw(t, "comment")}
		table := Table{TableName: TableName{Name: rapid.SampledFrom([]string{"t", "u"}).Draw(t, "table")}, Engine: MySQL}
		table.Columns, d.Details = definitionColumns(t)
		for i := range table.Columns {
			if !table.Columns[i].Nullable && rapid.Bool().Draw(t, "in the key") {
				table.Key = append(table.Key, i)
			}
		}
		d.Table = NewTable(table)
		some := func(what string) []string {
			return rapid.Permutation(few).Draw(t, what)[:rapid.IntRange(0, 2).Draw(t, "how many")]
		}
		column := func() string { return d.Columns[rapid.IntRange(0, len(d.Columns)-1).Draw(t, "part")].Name }
		for _, name := range some("indexes") {
			d.Indexes = append(d.Indexes, Index{Name: name, Unique: rapid.Bool().Draw(t, "unique"), Parts: []IndexPart{{Column: column()}, {Expression: expressions().Draw(t, "expression")}}})
		}
		for _, name := range some("foreign keys") {
			d.ForeignKeys = append(d.ForeignKeys, ForeignKey{Name: name, Columns: []string{column()}, Parent: TableName{Name: "p"}, ParentColumns: []string{"q"}})
		}
		for _, name := range some("checks") {
			d.Checks = append(d.Checks, Check{Name: name, Expression: expressions().Draw(t, "condition")})
		}
		return d
	})
}

// database is what a step makes of a table, as strictly as a database would.
type database struct {
	t *rapid.T
	*Definition
	key []string
}

func (b *database) column(name string) int {
	i := b.Column(name)
	if i < 0 {
		b.t.Fatalf("there is no column %s", name)
	}
	return i
}

func (b *database) do(s *Step) {
	switch s.Kind {
	case CreateTable:
		b.Definition = s.Is.with(func(d *Definition) { d.Indexes, d.ForeignKeys, d.Key = nil, nil, nil })
		b.key = keyOf(s.Is)
	case DropTable:
		b.Definition = nil
	case RenameTable:
		b.TableName = s.Is.TableName
	case DropForeignKey:
		b.ForeignKeys = without(b.t, b.ForeignKeys, func(k ForeignKey) bool { return k.Name == s.ForeignKey.Name })
	case DropCheck:
		b.Checks = without(b.t, b.Checks, func(c Check) bool { return c.Name == s.Check.Name })
	case DropIndex:
		b.Indexes = without(b.t, b.Indexes, func(x Index) bool { return x.Name == s.Index.Name })
	case AddIndex:
		b.Indexes = with(b.t, b.Indexes, *s.Index, func(x Index) bool { return SameName(x.Name, s.Index.Name) })
	case AddCheck:
		b.Checks = with(b.t, b.Checks, *s.Check, func(c Check) bool { return SameName(c.Name, s.Check.Name) })
	case AddForeignKey:
		b.ForeignKeys = with(b.t, b.ForeignKeys, *s.ForeignKey, func(k ForeignKey) bool { return SameName(k.Name, s.ForeignKey.Name) })
	case ChangeComment:
		b.Comment = s.Is.Comment
	case ChangeKey:
		if b.key = keyOf(s.Is); slices.ContainsFunc(b.key, func(k string) bool { return b.Columns[b.column(k)].Nullable }) {
			b.t.Fatalf("the key %v may be NULL", b.key)
		}
	default:
		b.doColumn(s)
	}
}

func (b *database) doColumn(s *Step) {
	if s.Kind == DropColumn {
		name := s.Was.Columns[s.WasColumn].Name
		i := b.column(name)
		hangs := slices.ContainsFunc(b.Indexes, func(x Index) bool { return x.Parts[0].Column == name }) ||
			slices.ContainsFunc(b.ForeignKeys, func(k ForeignKey) bool { return k.Columns[0] == name })
		if hangs {
			b.t.Fatalf("something hangs on column %s", name)
		}
		if slices.Contains(b.key, name) {
			b.key = []string{"lost with " + name}
		}
		b.Columns, b.Details = slices.Delete(b.Columns, i, i+1), slices.Delete(b.Details, i, i+1)
		return
	}
	is, detail := &s.Is.Columns[s.Column], &s.Is.Details[s.Column]
	if s.Kind == AddColumn || s.Kind == RenameColumn {
		if b.Column(is.Name) >= 0 {
			b.t.Fatalf("column %s is there", is.Name)
		}
	}
	if s.Kind == AddColumn {
		b.Columns, b.Details = append(b.Columns, *is), append(b.Details, *detail)
		return
	}
	if s.Kind == RenameColumn {
		b.rename(s.Was.Columns[s.WasColumn].Name, is.Name)
		return
	}
	i := b.column(is.Name)
	c, d := &b.Columns[i], &b.Details[i]
	switch s.Kind {
	case AddLabels, ChangeType:
		nullable, generated, identity := c.Nullable, c.Generated, c.Identity
		*c = *is
		c.Nullable, c.Generated, c.Identity = nullable, generated, identity
	case ChangeComputed:
		c.Generated, d.Computed, d.Stored = is.Generated, detail.Computed, detail.Stored
	case ChangeDefault:
		d.Default = detail.Default
	case ChangeNullable:
		if c.Nullable = is.Nullable; is.Nullable && slices.Contains(b.key, is.Name) {
			b.t.Fatalf("column %s is in the key", is.Name)
		}
	case ChangeSerial:
		d.Serial, c.Identity = detail.Serial, is.Identity
	case ChangeColComment:
		d.Comment = detail.Comment
	default:
		b.t.Fatalf("what is %s", s.Kind)
	}
}

// rename changes all that names the column, as a database does.
func (b *database) rename(from, to string) {
	key := slices.Clone(b.key)
	b.Definition = b.renamedColumn(b.column(from), to)
	names := map[string]string{from: to}
	b.key = renamed(key, names)
	for i := range b.Details {
		b.Details[i].Computed.Text = renamedText(b.Details[i].Computed.Text, names)
	}
	for i := range b.Indexes {
		b.Indexes[i].Parts[1].Expression.Text = renamedText(b.Indexes[i].Parts[1].Expression.Text, names)
	}
	b.Checks = slices.Clone(b.Checks)
	for i := range b.Checks {
		b.Checks[i].Expression.Text = renamedText(b.Checks[i].Expression.Text, names)
	}
}

func keyOf(d *Definition) (names []string) {
	for _, k := range d.Key {
		names = append(names, d.Columns[k].Name)
	}
	return names
}

func without[T any](t *rapid.T, all []T, is func(T) bool) []T {
	i := slices.IndexFunc(all, is)
	if i < 0 {
		t.Fatalf("what shall be dropped is not there")
	}
	return slices.Delete(slices.Clone(all), i, i+1)
}

func with[T any](t *rapid.T, all []T, one T, is func(T) bool) []T {
	if slices.ContainsFunc(all, is) {
		t.Fatalf("%v is there already", one)
	}
	return append(slices.Clone(all), one)
}

// sorted is all that is said of a table, whatever the order, without IDs and the case of names that have none.
func (b *database) sorted() string {
	if b.Definition == nil {
		return "none"
	}
	var all []string
	for i, c := range b.Columns {
		d := b.Details[i]
		d.ID = 0
		all = append(all, fmt.Sprintf("column %+v %+v", c, d))
	}
	for _, x := range b.Indexes {
		x.Name = strings.ToLower(x.Name)
		all = append(all, fmt.Sprintf("index %+v", x))
	}
	for _, k := range b.ForeignKeys {
		k.Name = strings.ToLower(k.Name)
		all = append(all, fmt.Sprintf("foreign key %+v", k))
	}
	for _, c := range b.Checks {
		c.Name = strings.ToLower(c.Name)
		all = append(all, fmt.Sprintf("check %+v", c))
	}
	slices.Sort(all)
	return fmt.Sprintf("%s %q key %v\n%s", b.TableName, b.Comment, b.key, strings.Join(all, "\n"))
}

// The steps from one definition to another, done one after the other, lead to the other; and nothing leads from one to itself.
func TestDiffLeadsThere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.OneOf(rapid.Just[*Definition](nil), definitions(), definitions(), definitions(), definitions())
		was, is := some.Draw(t, "was"), some.Draw(t, "is")
		if steps := Diff(was, was); len(steps) > 0 {
			t.Fatalf("from one to itself: %s", told(steps))
		}
		b := &database{t: t}
		if was != nil {
			b.Definition, b.key = was.with(func(d *Definition) { d.Key = nil }), keyOf(was)
		}
		steps := Diff(was, is)
		for i := range steps {
			b.do(&steps[i])
		}
		want := &database{Definition: is}
		if is != nil {
			want.key = keyOf(is)
		}
		if got := b.sorted(); got != want.sorted() {
			t.Fatalf("%s leads to\n%s\nnot to\n%s", told(steps), got, want.sorted())
		}
	})
}

func TestDefinitionRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := definitions().Draw(t, "definition")
		got, err := ParseDefinition(AppendDefinition(nil, d))
		if err != nil || !reflect.DeepEqual(got, d) || got.Fingerprint() != d.Fingerprint() {
			t.Fatalf("%+v, %v; want %+v", got, err, d)
		}
		if plain := d.with(func(d *Definition) { d.Comment, d.Details[0].ID, d.Details[0].Comment = "another", 77, "another" }); plain.Fingerprint() != d.Fingerprint() {
			t.Fatalf("IDs and comments change the fingerprint")
		}
		if other := d.with(func(d *Definition) { d.Details[0].Stored = !d.Details[0].Stored }); other.Fingerprint() == d.Fingerprint() {
			t.Fatalf("another definition has the same fingerprint")
		}
	})
}

func TestDefinitionErrors(t *testing.T) {
	good := string(AppendDefinition(nil, stock()))
	for name, c := range map[string][2]string{
		"no JSON":          {good, "x"},
		"no name":          {`"Name":"stock"`, `"Name":""`},
		"a column too few": {`{"id":5}`, `{"id":5},{"id":6}`},
		"an unknown kind":  {`"Kind":16`, `"Kind":99`},
		"equal names":      {`"Name":"amount"`, `"Name":"name"`},
		"a key far away":   {`"Key":[0]`, `"Key":[4]`},
	} {
		text := strings.Replace(good, c[0], c[1], 1)
		if _, err := ParseDefinition([]byte(text)); err == nil || text == good {
			t.Errorf("%s is believed: %s", name, text)
		}
		if _, err := ParseDefinitionChange([]byte(`{"is":` + text + `}`)); err == nil {
			t.Errorf("%s is believed in a change", name)
		}
	}
	if _, err := ParseDefinitionChange([]byte(`{"statement":"ALTER"}`)); err == nil {
		t.Error("a change of nothing is believed")
	}
}

func TestWidens(t *testing.T) {
	integer := func(size int, unsigned bool) Column { return Column{Kind: KindInt, Size: size, Unsigned: unsigned} }
	decimal := func(size, scale int) Column { return Column{Kind: KindDecimal, Size: size, Scale: scale} }
	text := func(size int) Column { return Column{Kind: KindText, Size: size} }
	for _, c := range []struct {
		a, b           Column
		widens, narrow bool // a to b, b to a
	}{
		{integer(32, false), integer(64, false), true, false},
		{integer(32, true), integer(32, false), false, false},
		{integer(32, true), integer(64, false), true, false},
		{integer(64, true), integer(64, false), false, false},
		{integer(64, false), decimal(20, 0), true, false},
		{integer(64, false), decimal(20, 2), false, false},
		{decimal(10, 2), decimal(12, 4), true, false},
		{decimal(10, 2), decimal(12, 5), false, false},
		{decimal(10, 2), decimal(0, -1), true, false},
		{text(20), text(0), true, false},
		{text(20), text(20), true, true},
		{text(20), Column{Kind: KindText, Size: 30, Fixed: true}, false, false},
		{Column{Kind: KindFloat, Size: 32}, Column{Kind: KindFloat, Size: 64}, true, false},
		{Column{Kind: KindTimestamp, Scale: 3}, Column{Kind: KindTimestamp, Scale: 6}, true, false},
		{Column{Kind: KindTimestamp}, Column{Kind: KindTimestampTZ}, false, false},
		{Column{Kind: KindEnum, Labels: []string{"a"}}, Column{Kind: KindEnum, Labels: []string{"b", "a"}}, true, false},
		{Column{Kind: KindBit, Size: 3}, Column{Kind: KindBit, Size: 4}, true, false},
		{Column{Kind: KindBit, Size: 3, Fixed: true}, Column{Kind: KindBit, Size: 4, Fixed: true}, false, false},
		{Column{Kind: KindNative, Native: "inet"}, Column{Kind: KindNative, Native: "cidr"}, false, false},
	} {
		if Widens(&c.a, &c.b) != c.widens || Widens(&c.b, &c.a) != c.narrow {
			t.Errorf("%+v to %+v: %t, and back %t", c.a, c.b, Widens(&c.a, &c.b), Widens(&c.b, &c.a))
		}
	}
}

func TestRenamedText(t *testing.T) {
	names := map[string]string{"a": "b", "b": "a", `q"q`: "plain"}
	for text, want := range map[string]string{
		`"a" > b AND a1 = 'a''a'`: `"b" > a AND a1 = 'a''a'`,
		"`a` + `b`":               "`b` + `a`",
		`"q""q" = 1`:              `"plain" = 1`,
		`"a`:                      `"b"`,
		"":                        "",
	} {
		if got := renamedText(text, names); got != cmp.Or(want, got) {
			t.Errorf("%s becomes %s, not %s", text, got, want)
		}
	}
}
