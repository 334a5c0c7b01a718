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
			{"a check is missing", func(d *schema.Definition) { d.Checks = nil }, "positive", true},
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
