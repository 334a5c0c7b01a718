package catalog

import (
	"slices"
	"strings"
	"testing"

	"cdc-sidecar/schema"
)

// What differs has a statement that mends it, in the words of the engine here, and nothing else has.
func TestMends(t *testing.T) {
	source := changed(orders(schema.Postgres), func(d *schema.Definition) {
		d.Indexes = []schema.Index{{Name: "by_customer", Parts: on("customer")}}
		d.Checks = []schema.Check{{Name: "positive", Expression: portableText(`"price" > 0`)}}
		for i := range d.Details {
			d.Details[i].ID = i + 1
		}
	})
	for _, engine := range engines {
		for _, c := range []struct {
			name  string
			do    func(d *schema.Definition)
			wants string // in a statement; empty: there is none
			takes bool
		}{
			{"nothing", func(d *schema.Definition) { d.Comment, d.Details[1].Comment = "another", "another" }, "", false},
			{"a column is missing", func(d *schema.Definition) { remove(d, "note") }, "ADD COLUMN [note] ", false},
			{"a column is here alone", func(d *schema.Definition) { add(d, define(d.Engine, "x", nil, "more int|null")) }, "DROP COLUMN [more]", true},
			{"a narrower column", func(d *schema.Definition) { retype(d, "customer smallint") }, "[customer]", false},
			{"an index is missing", func(d *schema.Definition) { d.Indexes = nil }, "by_customer", false},
			{"a check is missing", func(d *schema.Definition) { d.Checks = nil }, "positive", false},
			{"a unique index is here alone", func(d *schema.Definition) {
				d.Indexes = append(d.Indexes, schema.Index{Name: "more", Unique: true, Parts: on("at")})
			}, "DROP INDEX", true},
		} {
			here, err := mirror(engine, source)
			if err != nil {
				t.Fatal(err)
			}
			here = changed(here, c.do)
			for i := range here.Details { // the columns have come in another order
				here.Details[i].ID = len(here.Details) - i
			}
			got := Mends(source, here, engine, "shop", Equivalent(source, here))
			mark := map[bool]string{true: `"`, false: "`"}[engine == schema.Postgres]
			word := strings.NewReplacer("[", mark, "]", mark).Replace(c.wants)
			named := slices.ContainsFunc(got, func(m Mend) bool { return strings.Contains(m.Statement, word) && (m.Takes != "") == c.takes })
			if c.wants == "" && len(got) > 0 || c.wants != "" && (!named || len(got) > 2) {
				t.Errorf("%s at %s: %+v, want %q", c.name, engine, got, c.wants)
			}
		}
		got := Mends(source, nil, engine, "shop", nil)
		if len(got) != 2 || !strings.HasPrefix(got[0].Statement, "CREATE TABLE ") || !strings.Contains(got[1].Statement, "by_customer") {
			t.Errorf("at %s, where it is not: %+v", engine, got)
		}
	}
}

// A table that a branch made as the head has it is done when the head is told of it.
func TestCreatedWhereItStems(t *testing.T) {
	made := changed(orders(schema.Postgres), func(d *schema.Definition) {
		add(d, define(schema.Postgres, "x", nil, "net inet|null"))
	})
	for _, engine := range []schema.Engine{schema.MySQL, schema.MariaDB} {
		there, err := mirror(engine, made)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Render(Place{Engine: schema.Postgres, Default: "public", Here: made}, schema.Step{Kind: schema.CreateTable, Is: there})
		if err != nil || !got.Done || got.Conflict != "" {
			t.Errorf("%s: %+v, %v", engine, got, err)
		}
		got, err = Render(Place{Engine: schema.Postgres, Default: "public", Here: changed(made, func(d *schema.Definition) { retype(d, "customer smallint") })},
			schema.Step{Kind: schema.CreateTable, Is: there})
		if err != nil || got.Done || got.Conflict == "" {
			t.Errorf("%s, a narrower column: %+v, %v", engine, got, err)
		}
	}
}

// What was made here is there in the other's words, which say more or less than ours; what somebody changed differs all the same.
func TestDrift(t *testing.T) {
	made := changed(orders(schema.MariaDB), func(d *schema.Definition) {
		add(d, define(schema.MariaDB, "x", nil, "words text|null"))
		add(d, define(schema.MariaDB, "x", nil, "big bigint unsigned"))
		d.Checks = []schema.Check{{Name: "ours", Expression: schema.Expression{Kind: schema.NativeText, Text: "json_valid(`data`)"}}, {Name: "plain", Expression: portableText(`"price" > 0`)}}
	})
	there, err := mirror(schema.Postgres, made)
	if err != nil {
		t.Fatal(err)
	}
	there = changed(there, func(d *schema.Definition) { d.Checks = d.Checks[len(d.Checks)-1:] })
	for name, c := range map[string]struct {
		there, here *schema.Definition
		wants       string // the only line begins so; empty: there is none
	}{
		"as it was made":              {there, made, ""},
		"as it was made there":        {made, there, ""},
		"a type that is narrower":     {there, changed(made, func(d *schema.Definition) { retype(d, "customer smallint") }), "column customer: it is "},
		"a text that is shorter":      {changed(there, func(d *schema.Definition) { retype(d, "note text|null") }), changed(made, func(d *schema.Definition) { retype(d, "note varchar(20)|null") }), "column note: it is "},
		"a type that is another":      {changed(there, func(d *schema.Definition) { retype(d, "big numeric") }), made, "column big: it is "},
		"a check that the other has":  {there, changed(made, func(d *schema.Definition) { d.Checks = d.Checks[:1] }), "check plain is not here"},
		"a check that the other lost": {changed(there, func(d *schema.Definition) { d.Checks = nil }), made, "check plain is here alone"},
		"a column more":               {there, changed(made, func(d *schema.Definition) { add(d, define(schema.MariaDB, "x", nil, "more int|null")) }), "column more is here alone"},
	} {
		got := Drift(c.there, c.here)
		if c.wants == "" && got != nil || c.wants != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.wants)) {
			t.Errorf("%s: %q, want %q", name, got, c.wants)
		}
	}
	if len(Equivalent(there, made)) == 0 {
		t.Error("held against what it was made from, the table there is the same without further thought: the test shows nothing")
	}
}
