package catalog

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"cdc-sidecar/schema"
)

// A table that is neither what it was elsewhere nor what it shall be is left alone, and what differs is said; one that is so already,
// or holds more, is done.
func TestRenderHere(t *testing.T) {
	was := orders(schema.Postgres)
	one := func(column string) *schema.Definition {
		return changed(was, func(d *schema.Definition) { add(d, define(d.Engine, "x", nil, column)) })
	}
	is := func(do func(*schema.Definition)) *schema.Definition { return changed(was, do) }
	wide := is(func(d *schema.Definition) { retype(d, "customer bigint") })
	for name, c := range map[string]struct {
		is, here *schema.Definition
		conflict string // a word of it; empty: it is done
	}{
		"a column that is there":           {one("a integer|null"), one("a integer|null"), ""},
		"a wider column":                   {one("a integer|null"), one("a bigint|null"), ""},
		"a narrower column":                {one("a integer|null"), one("a smallint|null"), "smallint"},
		"a column of another type":         {one("a integer|null"), one("a date|null"), "date"},
		"a column without NULL":            {one("a integer|null"), one("a integer"), "NULL"},
		"a column that is computed":        {one("a integer|null"), one(`a integer|null|computed:"customer"`), "computed"},
		"a type that is wider already":     {wide, is(func(d *schema.Definition) { retype(d, "customer numeric") }), ""},
		"a type that was changed":          {wide, is(func(d *schema.Definition) { retype(d, "customer date") }), "neither"},
		"a column that is not there":       {wide, is(func(d *schema.Definition) { remove(d, "customer") }), "not here"},
		"a renamed column, both are there": {is(func(d *schema.Definition) { d.Columns[2].Name = "memo" }), one("memo text|null"), "both"},
		"a renamed column, none is there":  {is(func(d *schema.Definition) { d.Columns[2].Name = "memo" }), is(func(d *schema.Definition) { remove(d, "note") }), "neither"},
		"another name of the table":        {is(func(d *schema.Definition) { d.Name = "sales" }), is(func(d *schema.Definition) { d.Name = "bills" }), "bills"},
		"no table":                         {wide, nil, "not here"},
		"another index of the name": {
			is(func(d *schema.Definition) { d.Indexes = []schema.Index{{Name: "x", Parts: on("customer")}} }),
			is(func(d *schema.Definition) { d.Indexes = []schema.Index{{Name: "X", Parts: on("at")}} }), "another index",
		},
	} {
		t.Run(name, func(t *testing.T) {
			steps := schema.Diff(was, c.is)
			got, err := Render(Place{Engine: schema.Postgres, Default: "public", Here: c.here}, steps[0])
			if err != nil || len(got.Statements) > 0 || got.Done != (c.conflict == "") || !strings.Contains(got.Conflict, c.conflict) {
				t.Errorf("%v\n%s\nwant %q", err, got, c.conflict)
			}
		})
	}
	cut := one("a integer|default:0") // its default was to be dropped, and that was cut off
	got, err := Render(Place{Engine: schema.Postgres, Default: "public", Here: cut}, schema.Diff(was, one("a integer"))[0])
	if want := []string{`ALTER TABLE "public"."orders" ALTER COLUMN "a" DROP DEFAULT`}; err != nil || !slices.Equal(got.Statements, want) {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestRenderRefuses(t *testing.T) {
	was := orders(schema.Postgres)
	for name, is := range map[string]*schema.Definition{
		"a type that nobody has": changed(was, func(d *schema.Definition) {
			add(d, define(schema.MariaDB, "x", nil, "a strange|null"))
			d.Engine = schema.MariaDB
		}),
		"a long name": changed(was, func(d *schema.Definition) { d.Columns[2].Name = strings.Repeat("x", 64) }),
	} {
		var rejected *schema.RejectedError
		if got, err := Render(Place{Engine: schema.Postgres, Default: "public", Here: was}, schema.Diff(was, is)[0]); !errors.As(err, &rejected) || rejected.Remedy == "" {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}

// Equivalent names each thing that matters.
func TestEquivalent(t *testing.T) {
	source := changed(orders(schema.Postgres), func(d *schema.Definition) {
		d.Indexes = []schema.Index{{Name: "by_customer", Parts: on("customer")}, {Name: "only", Unique: true, Parts: on("customer", "at")}, {Name: "words", Method: "gin", Parts: on("data")}}
		d.Checks = []schema.Check{{Name: "positive", Expression: portableText(`"price" > 0`)}}
		d.ForeignKeys = []schema.ForeignKey{{Name: "of", Columns: []string{"customer"}, Parent: schema.TableName{Name: "customers"}, ParentColumns: []string{"id"}}}
	})
	for _, engine := range engines {
		for want, do := range map[string]func(d *schema.Definition){
			"":                              func(d *schema.Definition) { d.Comment = "another" },
			"column note is not here":       func(d *schema.Definition) { remove(d, "note") },
			"column more is here alone":     func(d *schema.Definition) { add(d, define(d.Engine, "x", nil, "more int|null")) },
			"column customer: it is":        func(d *schema.Definition) { retype(d, "customer smallint") },
			"column note: it must not":      func(d *schema.Definition) { d.Columns[2].Nullable = false },
			"column customer: it may be":    func(d *schema.Definition) { d.Columns[1].Nullable = true },
			"column price: its default":     func(d *schema.Definition) { d.Details[3].Default.Text = "1" },
			"column id: it gets no numbers": func(d *schema.Definition) { d.Details[0].Serial = false },
			"its key is":                    func(d *schema.Definition) { d.Key = []int{1} },
			"index by_customer is not":      func(d *schema.Definition) { d.Indexes = d.Indexes[1:] },
			"unique index more is here": func(d *schema.Definition) {
				d.Indexes = append(d.Indexes, schema.Index{Name: "more", Unique: true, Parts: on("at")})
			},
			"check positive is not":  func(d *schema.Definition) { d.Checks = nil },
			"foreign key of is not":  func(d *schema.Definition) { d.ForeignKeys = nil },
			"check more is here":     func(d *schema.Definition) { d.Checks = append(d.Checks, schema.Check{Name: "more"}) },
			"foreign key more is he": func(d *schema.Definition) { d.ForeignKeys = append(d.ForeignKeys, schema.ForeignKey{Name: "more"}) },
		} {
			here, err := mirror(engine, source)
			if err != nil {
				t.Fatal(err)
			}
			got := Equivalent(source, changed(here, do))
			if want == "" && got != nil || want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], want)) {
				t.Errorf("at %s: %q, want %q", engine, got, want)
			}
		}
	}
}

func TestExpressions(t *testing.T) {
	table := define(schema.Postgres, "t", nil, "n integer", "s text", "ok boolean", "data jsonb", `a"b integer`).Table
	for text, want := range map[string]string{ // at MySQL; empty: there is no such thing
		`"n" > 1 AND ("s" = 'it''s \' OR NOT "ok")`:  "`n` > 1 AND (`s` = 'it\\'s \\\\' OR NOT `ok`)",
		`("n" + 1) * 2 >= -3.5e-2`:                   "(`n` + 1) * 2 >= - 3.5e-2",
		`"s" NOT IN ('a', 'b')`:                      "`s` NOT IN ('a', 'b')",
		`"n" NOT BETWEEN 1 AND 2 OR "s" IS NOT NULL`: "`n` NOT BETWEEN 1 AND 2 OR `s` IS NOT NULL",
		`CHAR_LENGTH(LOWER("s")) < ABS("n")`:         "CHAR_LENGTH(LOWER(`s`)) < ABS(`n`)",
		`"a""b" = COALESCE("n", 0)`:                  "`a\"b` = COALESCE(`n`, 0)",
		`("ok")`:                                     "(`ok`)",
		`"n"`:                                        "", // a number is no condition in a Postgres
		`"n" / 2 = 1`:                                "",
		`LOWER("n") = 'x'`:                           "",
		`"data" = 'x'`:                               "",
		`"no" = 1`:                                   "",
		`pg_sleep(1) = 1`:                            "",
		`"n" = 1; DROP TABLE t`:                      "",
		`"n" = 1 OR`:                                 "",
		`("n" = 1`:                                   "",
		`"n" = 'open`:                                "",
		`"n" = (SELECT 1)`:                           "",
		`"n" = 1 -- x`:                               "",
		``:                                           "",
	} {
		got, why := dialect{to: schema.MySQL, from: table}.condition(portableText(text))
		if got != want || (got == "") != (why != "") {
			t.Errorf("%s: %s, %s; want %s", text, got, why, want)
		}
	}
	native := schema.Expression{Kind: schema.NativeText, Text: "f(n)"}
	for _, to := range engines {
		if got, why := (dialect{to: to, from: table}).condition(native); (got == "f(n)") != (to == schema.Postgres) || (why == "") != (to == schema.Postgres) {
			t.Errorf("native text at %s: %q, %q", to, got, why)
		}
	}
}

// What two names of one engine are called in another are two names there, and names are found again.
func TestNames(t *testing.T) {
	long := strings.Repeat("ä", 40)
	for _, engine := range engines {
		a, b := shortened(engine, long+"a"), shortened(engine, long+"b")
		if (engine == schema.Postgres) != (a != long+"a") || a == b || !nameFits(engine, a) {
			t.Errorf("%s: %s, %s", engine, a, b)
		}
		for _, from := range engines {
			x := schema.Index{Name: "at", Unique: true}
			here := schema.Index{Name: indexName(engine, from, "orders", &x), Unique: true}
			if !sameIndexName(engine, &here, from, &x, "orders") || !sameIndexName(from, &x, engine, &here, "orders") {
				t.Errorf("index at of %s is not found at %s as %s", from, engine, here.Name)
			}
			if name := constraintName(engine, from, "orders", "ok"); !sameConstraintName(engine, name, from, "ok", "orders") || !sameConstraintName(from, "ok", engine, name, "orders") {
				t.Errorf("constraint ok of %s is not found at %s as %s", from, engine, name)
			}
		}
	}
}
