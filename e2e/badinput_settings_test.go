package e2e

import (
	"strings"
	"testing"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// A Postgres that writes too little into its log is refused before anything is set up; after the restart that the message
// asks for, the office gets what the head wrote meanwhile.
func TestWrongWALLevel(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	own := servers.ForTest(t, servers.Spec{Postgres: 1, PostgresSettings: []string{"wal_level=replica"}})
	f := company(t, set, bin,
		fleet.Spec{Name: "head", Role: schema.Head, Database: set.Postgres[0]},
		fleet.Spec{Name: "north", Role: schema.Branch, Database: own.Postgres[0]})
	head, north := f.Offices[0], f.Offices[1]
	var l ledger
	must(t, head.Start())
	captures(t, head)
	l.write(t, head)

	refused(t, north, "wal_level", "replica", "ALTER SYSTEM SET wal_level = 'logical'", "restart")
	diagnosed(t, north, "wal_level", "replica", "ALTER SYSTEM SET wal_level = 'logical'")
	l.write(t, head)

	own.Postgres[0].Adjust("wal_level=logical")
	must(t, own.Postgres[0].Stop(within(t, stuck)))
	must(t, own.Postgres[0].Start(within(t, stuck)))
	reconnect(t, north)
	healthy(t, north)
	l.returns(t, f, north)
	l.settles(t, f)
}

// Each setting on which it depends whether MariaDB's binlog has whole rows: spoilt while the sidecar is down, it is refused
// by name, and the statement in the message mends it.
func TestWrongBinlogSettings(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	own := servers.ForTest(t, servers.Spec{MariaDB: 1})
	f := company(t, set, bin,
		fleet.Spec{Name: "head", Role: schema.Head, Database: set.Postgres[0]},
		fleet.Spec{Name: "south", Role: schema.Branch, Database: own.MariaDB[0]})
	head, south := f.Offices[0], f.Offices[1]
	var l ledger
	must(t, f.Start(within(t, stuck)))
	for _, c := range []struct{ variable, value string }{
		{"binlog_format", "MIXED"},
		{"binlog_format", "STATEMENT"},
		{"binlog_row_image", "MINIMAL"},
		{"binlog_row_metadata", "NO_LOG"},
	} {
		must(t, south.Stop(within(t, stuck)))
		l.write(t, head, south)
		must(t, south.Exec(within(t, stuck), "SET GLOBAL "+c.variable+" = "+c.value))
		refused(t, south, c.variable+" is "+c.value, "SET GLOBAL "+c.variable)
		fix := diagnosed(t, south, c.variable, c.value, "SET GLOBAL "+c.variable).Fix
		must(t, south.Exec(within(t, stuck), firstStatement(fix)))
		healthy(t, south)
		l.returns(t, f, south)
	}

	must(t, south.Stop(within(t, stuck)))
	l.write(t, head, south)
	restart := func(option string) {
		own.MariaDB[0].Adjust(option)
		must(t, own.MariaDB[0].Stop(within(t, stuck)))
		must(t, own.MariaDB[0].Start(within(t, stuck)))
		reconnect(t, south)
	}
	restart("--skip-log-bin")
	refused(t, south, "log_bin is OFF", "log_bin=", "restart")
	diagnosed(t, south, "log_bin is OFF", "[mysqld]")
	restart("--log-bin=binlog")
	healthy(t, south)
	l.returns(t, f, south)
	l.settles(t, f)
}

// firstStatement is the statement at the start of a remedy.
func firstStatement(remedy string) string {
	statement, _, _ := strings.Cut(remedy, ";")
	return statement
}
