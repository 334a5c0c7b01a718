package main

import (
	"strings"
	"testing"

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

// What is held or failed stands in status with its statement, printable whatever a name is made of.
func TestSchemaChangesInStatus(t *testing.T) {
	if got := schemaChangesText(admin.SchemaChanges{}); got != "" {
		t.Errorf("nothing is said as %q", got)
	}
	got := schemaChangesText(admin.SchemaChanges{Held: 1, Failed: 1, Notices: 2, Entries: []admin.SchemaStep{
		{Table: "orders", Step: "drop column", Subject: "note", State: schema.DDLHeld, Reason: "it drops the column with its values", Statement: "ALTER TABLE orders DROP COLUMN note"},
		{Table: "or\x1bders", Step: "add index", Subject: "i", State: schema.DDLFailed, Reason: "duplicate", Statement: "CREATE UNIQUE INDEX i"},
	}})
	for _, want := range []string{
		"! schema changes held: 1 ", "  orders: drop column note (it drops the column with its values): ALTER TABLE orders DROP COLUMN note\n",
		"! schema changes that failed: 1\n", "add index i (duplicate): CREATE UNIQUE INDEX i\n", "note: steps of schema changes that mean nothing here: 2\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.Contains(got, "\x1b") {
		t.Errorf("a control character is in %q", got)
	}
}
