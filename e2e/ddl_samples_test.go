package e2e

import (
	"testing"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
)

// Databases of the shapes that people know, loaded and changed at a head of either engine: the branches of both engines have the
// same tables and rows. Views, functions and triggers are the head's own; what triggers write there is rows for the others.
func TestSamplesOfPostgres(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	e := newEvolving(t, set, bin, everyChange, three(set))
	e.load(t, "samples/shop_postgres.sql")
	e.load(t, "samples/rental_postgres.sql")
}

func TestSamplesOfMariaDB(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	e := newEvolving(t, set, bin, everyChange, []fleet.Spec{
		{Name: "head", Role: schema.Head, Database: set.MariaDB[0]},
		{Name: "north", Role: schema.Branch, Database: set.Postgres[0]},
	})
	e.load(t, "samples/shop_mariadb.sql")
	e.load(t, "samples/rental_mariadb.sql")
}

// load runs a sample's statements at the head, and compares behind each group.
func (e *evolving) load(t *testing.T, path string) {
	t.Helper()
	s := readScript(t, path)
	for i := range s.groups {
		must(t, e.Head().Exec(within(t, stuck), s.groups[i].statements...))
		e.equal(t, e.Head())
		if t.Failed() {
			t.Fatalf("%s, behind group %s", path, s.groups[i].name)
		}
		e.says(t, e.Head(), s.groups[i].notices)
	}
}
