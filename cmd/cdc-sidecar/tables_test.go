package main

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cdc-sidecar/schema"
)

func tableConfig(t *testing.T, database, tables string) Config {
	t.Helper()
	text := "office: north\nrole: head\nbroker: amqp://x@h/\ndatabase: " + database + "\ntables:\n" + tables
	c, err := loadConfig(write(t, "c.yaml", text), variables(nil))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRules(t *testing.T) {
	const entries = "  - {name: '*', flow: none}\n" +
		"  - {name: DEFAULT.*, flow: both}\n" +
		"  - {name: DEFAULT.order*, conflict: head}\n" +
		"  - {name: DEFAULT.order_log, flow: send}\n" +
		"  - {name: DEFAULT.order_log, conflict: merge}\n" +
		"  - {name: 'arch?.*', flow: receive}\n" +
		"  - {name: 'odd.we.ird', flow: send}\n"
	for engine, database := range map[string]string{"public": "postgres://u@h/shop", "shop": "mysql://u@h/shop"} {
		c := tableConfig(t, database, strings.ReplaceAll(entries, "DEFAULT", engine))
		for _, want := range []struct {
			table    schema.TableName
			flow     Flow
			conflict string
		}{
			{schema.TableName{Name: "customers"}, FlowBoth, "latest"},
			{schema.TableName{Name: "orders"}, FlowBoth, "head"},
			{schema.TableName{Name: "order_log"}, FlowSend, "merge"},
			{schema.TableName{Schema: "arch1", Name: "orders"}, FlowReceive, "latest"},
			{schema.TableName{Schema: "arch12", Name: "orders"}, FlowNone, "latest"},
			{schema.TableName{Schema: "odd", Name: "we.ird"}, FlowSend, "latest"},
			{schema.TableName{Schema: "else", Name: "orders"}, FlowNone, "latest"},
		} {
			got := c.Rule(want.table)
			if got.Flow != want.flow || got.Conflict.String() != want.conflict {
				t.Errorf("%s, %s: got %+v, want %s %s", engine, want.table, got, want.flow, want.conflict)
			}
			sends := want.flow == FlowBoth || want.flow == FlowSend
			receives := want.flow == FlowBoth || want.flow == FlowReceive
			if c.Sends(want.table) != sends || c.Receives(want.table) != receives {
				t.Errorf("%s, %s: sends %t, receives %t with flow %s", engine, want.table, c.Sends(want.table), c.Receives(want.table), want.flow)
			}
		}
	}
}

// The other office's schema of the same name as our default one is another schema.
func TestRulesKnowTheDefaultSchema(t *testing.T) {
	c := tableConfig(t, "mysql://u@h/shop", "  - {name: public.*, flow: none}\n")
	if !c.Sends(schema.TableName{Name: "orders"}) || c.Sends(schema.TableName{Schema: "public", Name: "orders"}) {
		t.Error("public is not the default schema of a MySQL office")
	}
}

func TestRulesDoNotAllocate(t *testing.T) {
	c := tableConfig(t, "postgres://u@h/shop", "  - {name: public.a*, flow: none}\n  - {name: '*.b', flow: none}\n")
	name := schema.TableName{Name: "orders"}
	if n := testing.AllocsPerRun(100, func() { c.Sends(name) }); n != 0 {
		t.Errorf("%v allocations for each change", n)
	}
}

func TestGlobIsARegularExpression(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(rapid.SampledFrom([]rune("ab[.*?")), 0, 8, -1).Draw(t, "pattern")
		name := rapid.StringOfN(rapid.SampledFrom([]rune("ab[.")), 0, 10, -1).Draw(t, "name")
		quoted := strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(pattern))
		if want := regexp.MustCompile(`^` + quoted + `$`).MatchString(name); glob(pattern, name) != want {
			t.Fatalf("glob(%q, %q) is not %t", pattern, name, want)
		}
	})
}

func TestNearest(t *testing.T) {
	names := []string{"broker", "database", "office", "role", "tables"}
	for word, want := range map[string]string{
		"brokr": "broker", "Broker": "broker", "ofice": "office", "roll": "role", "tabels": "tables", "dat": "", "colour": "", "databases": "database",
	} {
		if got := nearest(word, names); got != want {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
}

// What is said last of a column counts, of a table that no entry means nothing does.
func TestUnmapped(t *testing.T) {
	c := tableConfig(t, "postgres://u@h/shop", "  - {name: public.*, columns: {price: {unmapped: null}, day: {unmapped: {value: 0001-01-01}}, note: {unmapped: {value: ''}}}}\n"+
		"  - {name: public.orders, columns: {price: {unmapped: error}, Größe: {unmapped: {value: 7}}, day: {}}}\n  - {name: public.orders, flow: both}\n")
	for _, want := range []struct {
		table, column string
		value         schema.Value
	}{
		{"items", "price", schema.NullValue()},
		{"items", "day", schema.Of("0001-01-01")},
		{"items", "note", schema.Of("")},
		{"items", "Größe", schema.Value{}},
		{"orders", "price", schema.Value{}},
		{"orders", "Größe", schema.Of("7")},
		{"orders", "day", schema.Of("0001-01-01")},
		{"orders", "note", schema.Of("")},
	} {
		if got := c.Unmapped(schema.TableName{Name: want.table}, want.column); got != want.value {
			t.Errorf("%s.%s: %s, want %s", want.table, want.column, got, want.value)
		}
	}
	for entry, problem := range map[string]string{
		"{price: {unmapped: NULL value}}":             "unmapped: \"NULL value\": want error, null, or {value: …}",
		"{price: {unmapped: {}}}":                     "unmapped: want error, null, or {value: …}",
		"{price: {unmapped: {valeu: 1}}}":             "valeu",
		"{price: {unmaped: null}}":                    "unmaped",
		"{price: {unmapped: [1]}}":                    "unmapped: want a single value",
		"[price]":                                     "columns: want names of columns",
		"{price: {unmapped: null}, price: {}}":        "price",
		"{price: {unmapped: {value: {deep: value}}}}": "value: want a single value",
	} {
		text := "office: north\nrole: head\nbroker: amqp://x@h/\ndatabase: postgres://u@h/shop\ntables:\n  - {name: public.a, columns: " + entry + "}\n"
		if _, err := loadConfig(write(t, "c.yaml", text), variables(nil)); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: %v, want a problem that says %q", entry, err, problem)
		}
	}
}
