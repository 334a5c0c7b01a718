package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// ownTable is a table in public with the key id.
func ownTable(name string, partial []string, sequences ...catalog.Sequence) catalog.Table {
	t := schema.NewTable(schema.Table{TableName: schema.TableName{Name: name}, Columns: []schema.Column{{Name: "id", Kind: schema.KindInt, Size: 64}}, Key: []int{0}})
	return catalog.Table{Table: t, OwnSchema: "public", PartialOld: partial, Sequences: sequences}
}

// lines are findings, one a line.
func lines(findings []schema.Finding) []string {
	var all []string
	for _, f := range findings {
		all = append(all, strings.Join([]string{string(f.Severity), f.Check, f.Message, f.Cause, f.Fix}, " | "))
	}
	return all
}

func policyConfig(t *testing.T, role, database, tables string) Config {
	t.Helper()
	c, err := LoadConfig(write(t, "cdc-sidecar.yaml", "office: here\nrole: "+role+"\ndatabase: "+database+"\nbroker: amqp://127.0.0.1/\ntables:\n"+tables))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheckOldRows(t *testing.T) {
	const postgres, mysql = "postgres://u:p@h/shop", "mysql://u:p@h/shop"
	tables := []catalog.Table{
		ownTable("merged", []string{"public.merged", "public.merged_1"}), ownTable("counted", []string{"public.counted"}),
		ownTable("whole", nil), ownTable("other", []string{"public.other"}), ownTable("received", []string{"public.received"}),
	}
	keyless := ownTable("merged_keyless", []string{"public.merged_keyless"})
	keyless.Table = schema.NewTable(schema.Table{TableName: keyless.TableName})
	tables = append(tables, keyless)
	const settled = "  - {name: public.merged*, conflict: merge}\n  - {name: public.counted, conflict: {add: [stock]}}\n  - {name: public.whole, conflict: merge}\n  - {name: public.received, flow: receive, conflict: merge}\n"
	const lacks = ": the log does not have its rows as they were before a change | conflict: "
	const needs = " needs them of every office that writes the table; the first change without them halts it | "
	warnings := []string{
		"warning | table.old_rows | table public.merged" + lacks + "merge" + needs + "ALTER TABLE public.merged REPLICA IDENTITY FULL;\nALTER TABLE public.merged_1 REPLICA IDENTITY FULL",
		"warning | table.old_rows | table public.counted" + lacks + "{add: [stock]}" + needs + "ALTER TABLE public.counted REPLICA IDENTITY FULL",
	}
	const one = "ok | table.old_rows | of 1 tables that are settled by merge or add, the log has rows as they were |  | "
	note := func(names, first, all string) string {
		return "ok | table.old_rows | note: the log does not have rows as they were before a change, of " + names +
			" | where the head says conflict: merge, or add, these tables need here what is for the first of them: " + first + " | " + all
	}
	const set = "SET GLOBAL binlog_row_image = 'FULL'; -- and in [mysqld]: binlog_row_image=FULL; connections that are open keep the old setting"
	for _, test := range []struct {
		name   string
		config Config
		tables officeTables
		want   []string
	}{
		{"the head knows", policyConfig(t, "head", postgres, settled), officeTables{tables: tables}, append(warnings[:2:2], one)},
		{"the head without such a policy", policyConfig(t, "head", postgres, "  - {name: public.received, flow: receive}\n"), officeTables{tables: tables}, nil},
		{"a branch that says so", policyConfig(t, "branch", postgres, settled), officeTables{tables: tables}, append(warnings[:2:2], one,
			note("public.other", "ALTER TABLE public.other REPLICA IDENTITY FULL", "ALTER TABLE public.other REPLICA IDENTITY FULL;\n"))},
		{"a branch that does not know", policyConfig(t, "branch", postgres, "  - {name: public.received, flow: none}\n"), officeTables{tables: tables[1:]}, []string{
			note("public.counted, public.other", "ALTER TABLE public.counted REPLICA IDENTITY FULL", "ALTER TABLE public.counted REPLICA IDENTITY FULL;\nALTER TABLE public.other REPLICA IDENTITY FULL;\n"),
		}},
		{
			"MySQL with whole images", policyConfig(t, "head", mysql, "  - {name: shop.merged, conflict: merge}\n"),
			officeTables{tables: tables[:1], mysql: &mysqlTables{rowImage: "FULL"}},
			[]string{one},
		},
		{
			"MySQL without", policyConfig(t, "head", mysql, "  - {name: shop.merged, conflict: merge}\n"),
			officeTables{tables: tables[:1], mysql: &mysqlTables{rowImage: "MINIMAL"}},
			[]string{"warning | table.old_rows | table public.merged" + lacks + "merge" + needs + set},
		},
		{
			"a MySQL branch without", policyConfig(t, "branch", mysql, "  - {name: shop.no}\n"),
			officeTables{tables: tables[:2], mysql: &mysqlTables{rowImage: "NOBLOB"}},
			[]string{note("public.merged, public.counted", set, set+"\n")},
		},
	} {
		if diff := cmp.Diff(test.want, lines(test.tables.checkOldRows(test.config))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestCheckKeys(t *testing.T) {
	plain, third, down := catalog.Sequence{Increment: 1}, catalog.Sequence{Increment: 8, Class: 3}, catalog.Sequence{Increment: -16}
	const same, why = "warning | table.generated_key | the database gives out these keys, as other offices' databases do: ",
		" | two offices that insert give the same key to different rows, and one of the rows is lost to the conflict log | cdc-sidecar setup --interleave "
	const branch = "16 --offset K (the same 16 everywhere; K: this office's own number, from 2 to 16)"
	for _, test := range []struct {
		name   string
		role   string
		tables officeTables
		want   []string
	}{
		{"none", "head", officeTables{tables: []catalog.Table{ownTable("a", nil)}}, nil},
		{
			"of the head", "head",
			officeTables{tables: []catalog.Table{ownTable("a", nil, plain), ownTable("b", nil, plain), ownTable("sent", nil, plain)}},
			[]string{same + "public.a.id, public.b.id" + why + "16 --offset 1"},
		},
		{"of a branch", "branch", officeTables{tables: []catalog.Table{ownTable("a", nil, plain)}}, []string{same + "public.a.id" + why + branch}},
		{
			"interleaved", "branch",
			officeTables{tables: []catalog.Table{ownTable("a", nil, third), ownTable("b", nil, down)}},
			[]string{"ok | table.generated_key | 2 generated keys are interleaved |  | "},
		},
		{
			"a new table beside", "branch",
			officeTables{tables: []catalog.Table{ownTable("a", nil, plain), ownTable("b", nil, third)}},
			[]string{"ok | table.generated_key | 1 generated keys are interleaved |  | ", same + "public.a.id" + why + "8 --offset 3"},
		},
		{
			"MariaDB", "branch",
			officeTables{tables: []catalog.Table{ownTable("a", nil, catalog.Sequence{})}, mysql: &mysqlTables{rowImage: "FULL", increment: 1, offset: 1}},
			[]string{same + "public.a.id" + why + branch},
		},
		{
			"MariaDB, interleaved", "branch",
			officeTables{tables: []catalog.Table{ownTable("a", nil, catalog.Sequence{})}, mysql: &mysqlTables{rowImage: "FULL", increment: 4, offset: 2}},
			[]string{"ok | table.generated_key | 1 generated keys are interleaved |  | "},
		},
	} {
		c := policyConfig(t, test.role, "postgres://u:p@h/shop", "  - {name: public.sent, flow: send}\n")
		if diff := cmp.Diff(test.want, lines(test.tables.checkKeys(c))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// What doctor prints mends what it found, and setup what it says of the keys.
func TestDoctorsTablesOnRealServers(t *testing.T) {
	o := newInterleavedOffice(t, "postgres", schema.Head, shared.Set(t).Postgres[0])
	m := newInterleavedOffice(t, "mariadb", schema.Branch, servers.ForTest(t, servers.Spec{MariaDB: 1}).MariaDB[0])
	check := func(o interleavedOffice, tables string) string {
		t.Helper()
		c, err := LoadConfig(o.config)
		if err != nil {
			t.Fatal(err)
		}
		c.Tables = append(c.Tables, policyConfig(t, string(c.Role), "postgres://u:p@h/shop", tables).Tables...)
		return fixes([]groupFindings{{checkGroup{name: "Tables"}, checkTables(t.Context(), c)}})
	}
	const merged = "  - {name: public.c_behind, conflict: merge}\n"
	const fix = "ALTER TABLE public.c_behind REPLICA IDENTITY FULL;\n"
	found := check(o, merged)
	for _, want := range []string{fix, "public.a_serial.id, public.b identity's.Id", "-- not SQL: cdc-sidecar setup --interleave 16 --offset 1"} {
		if !strings.Contains(found, want) {
			t.Errorf("%q is not in\n%s", want, found)
		}
	}
	o.exec(t, fix)
	statementsOf(t, "setup", "--interleave", "16", "--offset", "1", "--config", o.config)
	if got := check(o, merged); got != "-- nothing to fix\n" {
		t.Errorf("Postgres, mended: %s", got)
	}
	if got := check(m, "  - {name: a.b}\n"); !strings.Contains(got, ".a_serial.id") || !strings.Contains(got, "setup --interleave 16 --offset K") {
		t.Errorf("MariaDB: %s", got)
	}
	statementsOf(t, "setup", "--interleave", "16", "--offset", "7", "--config", m.config)
	if got := check(m, "  - {name: a.b}\n"); got != "-- nothing to fix\n" {
		t.Errorf("MariaDB, mended: %s", got)
	}
}
