package main

import (
	"fmt"
	"strings"

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

// schemaChanges is what status says of other offices' schema changes.
func (s *sidecar) schemaChanges() admin.SchemaChanges {
	out := admin.SchemaChanges{Entries: []admin.SchemaStep{}}
	steps, _ := s.applier.SchemaSteps()
	for _, st := range steps {
		switch st.State {
		case schema.DDLHeld:
			out.Held++
		case schema.DDLFailed:
			out.Failed++
		default:
			out.Notices++
			continue
		}
		if len(out.Entries) < admin.MaxSchemaSteps {
			out.Entries = append(out.Entries, admin.SchemaStep{
				Origin: st.Origin, Table: st.Table, Step: string(st.Step), Subject: st.Subject, Statement: st.Statement,
				State: st.State, Reason: st.Reason, Since: st.Time,
			})
		}
	}
	return out
}

// schemaChangesText is a line for those that are held or failed, and one for each of them.
func schemaChangesText(c admin.SchemaChanges) string {
	var b strings.Builder
	for _, kind := range []struct {
		state string
		n     uint64
		means string
	}{
		{schema.DDLHeld, c.Held, "schema changes held: %d (run the statements when it suits; docs/schema-changes.md)\n"},
		{schema.DDLFailed, c.Failed, "schema changes that failed: %d\n"},
	} {
		if kind.n == 0 {
			continue
		}
		fmt.Fprintf(&b, "! "+kind.means, kind.n)
		for _, e := range c.Entries {
			if e.State == kind.state {
				fmt.Fprintf(&b, "  %s: %s (%s): %s\n", printable(e.Table), strings.TrimSpace(e.Step+" "+printable(e.Subject)), printable(e.Reason), printable(e.Statement))
			}
		}
	}
	if c.Notices > 0 {
		fmt.Fprintf(&b, "note: steps of schema changes that mean nothing here: %d\n", c.Notices)
	}
	return b.String()
}
