package e2e

import (
	"os"
	"testing"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// mariaDBHead is a head on MariaDB, whose log is nobody else's, and two branches.
func mariaDBHead(set *servers.Set) []fleet.Spec {
	return []fleet.Spec{
		{Name: "head", Role: schema.Head, Database: set.MariaDB[0]},
		{Name: "north", Role: schema.Branch, Database: set.Postgres[0]},
		{Name: "south", Role: schema.Branch, Database: set.Postgres[1]},
	}
}

// losingHead has, while the head's sidecar is down, everybody's applications write; then the loss; then everything that was
// written is everywhere. The branches' sidecars run, and keep what they cannot send.
func losingHead(t *testing.T, offices func(*servers.Set) []fleet.Spec, l loss) {
	t.Helper()
	set := shared.Set(t)
	f := company(t, set, binary(t, "CDC_RACE_BINARY"), offices(set)...)
	must(t, f.Start(within(t, stuck)))
	orders := []*trade{opens(t, f, 1000), opens(t, f, 1001)}
	arrive(t, f, orders...)
	head := f.Head()
	before := epoch(t, head)
	must(t, head.Stop(within(t, stuck)))
	orders[0].trades(t, f.Offices...)
	orders[0].contest(t, head, f.Offices[atNorth])
	l.lose(t, head)
	must(t, head.Start())
	finds(t, head, before, l.why)
	orders[1].trades(t, f.Offices...) // while the tables are compared
	arrive(t, f, orders...)
	end(t, f, orders...)
}

func TestAHeadWithoutItsJournal(t *testing.T) {
	wholeOnly(t)
	losingHead(t, three, loss{func(t *testing.T, o *fleet.Office) { must(t, os.RemoveAll(o.Data())) }, "journal lost"})
}

func TestAHeadWithoutItsSlot(t *testing.T) {
	wholeOnly(t)
	losingHead(t, three, loss{func(t *testing.T, o *fleet.Office) { must(t, dropSlot(within(t, stuck), o)) }, "log lost"})
}

func TestAHeadWithoutItsBinlog(t *testing.T) {
	wholeOnly(t)
	losingHead(t, mariaDBHead, loss{func(t *testing.T, o *fleet.Office) { must(t, purgeBinlog(within(t, stuck), o)) }, "log lost"})
}
