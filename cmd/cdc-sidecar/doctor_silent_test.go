package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

func TestCheckSilent(t *testing.T) {
	const unlogged = "ok | table.unlogged | note: what a session writes with sql_log_bin=0 is in no log, and nobody can see it there | " +
		"cdc-sidecar verify finds such rows, and tables that were changed so stop at the first row of another shape | "
	parts := ownTable("parts", nil)
	parts.Partitioned = true
	for _, test := range []struct {
		name   string
		tables officeTables
		want   []string
	}{
		{"Postgres", officeTables{tables: []catalog.Table{parts}}, nil},
		{"MySQL", officeTables{tables: []catalog.Table{ownTable("a", nil)}, mysql: &mysqlTables{increment: 1}}, []string{unlogged}},
		{"partitions", officeTables{tables: []catalog.Table{parts}, mysql: &mysqlTables{}}, []string{
			"ok | table.partition | note: rows that a partition takes with it (ALTER TABLE … TRUNCATE, DROP or EXCHANGE PARTITION) are not in the log, of public.parts | " +
				"delete the rows, or compare the table afterwards: cdc-sidecar verify | ", unlogged,
		}},
		{"sequences", officeTables{mysql: &mysqlTables{increment: 1, sequences: []mysqlSequence{{"`d`.`s`", 1}, {"`d`.`u`", 8}, {"`d`.`v`", 0}}}}, []string{
			sequenceLine("`d`.`s`"), sequenceLine("`d`.`v`"), unlogged,
		}},
		{"interleaved", officeTables{mysql: &mysqlTables{increment: 16, sequences: []mysqlSequence{{"`d`.`v`", 0}}}}, []string{unlogged}},
	} {
		if diff := cmp.Diff(test.want, lines(test.tables.checkSilent(policyConfig(t, "head", "mysql://u:p@h/shop", "  - {name: shop.no}\n")))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func sequenceLine(name string) string {
	return "warning | table.sequence | sequence " + name + " gives out every number | where a sequence stands is not sent: another office gives out the same numbers | " +
		"ALTER SEQUENCE " + name + " INCREMENT BY 0; -- it then goes by auto_increment_increment and auto_increment_offset: cdc-sidecar setup --interleave"
}

// What doctor says of a MariaDB that has what its log does not tell of, and what is left of it when its fixes were run.
func TestDoctorNamesWhatTheLogDoesNotSay(t *testing.T) {
	if servers.Oracle() {
		t.Skip("the server that was chosen is a MySQL, which has no sequences")
	}
	m := newInterleavedOffice(t, "mariadb", schema.Branch, servers.ForTest(t, servers.Spec{MariaDB: 1}).MariaDB[0])
	m.exec(t, "CREATE SEQUENCE numbers")
	m.exec(t, "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 2")
	c, err := LoadConfig(m.config)
	if err != nil {
		t.Fatal(err)
	}
	found := strings.Join(lines(checkTables(t.Context(), c)), "\n")
	for _, want := range []string{"`numbers` gives out every number", "table.partition", ".parts", "sql_log_bin=0"} {
		if !strings.Contains(found, want) {
			t.Errorf("%q is not in\n%s", want, found)
		}
	}
	m.exec(t, "ALTER SEQUENCE numbers INCREMENT BY 0")
	statementsOf(t, "setup", "--interleave", "16", "--offset", "7", "--config", m.config)
	if found = strings.Join(lines(checkTables(t.Context(), c)), "\n"); strings.Contains(found, "table.sequence") {
		t.Errorf("mended: %s", found)
	}
}
