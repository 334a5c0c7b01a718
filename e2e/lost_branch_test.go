package e2e

import (
	"context"
	"os"
	"testing"

	"cdc-sidecar/fleet"
)

// loss is a way in which an office loses its way.
type loss struct {
	lose func(t *testing.T, o *fleet.Office)
	why  string
}

// losing has, while the sidecars of both branches are down, one on Postgres and one on MariaDB, everybody's applications write; then the loss; then everything that
// was written is everywhere.
func losing(t *testing.T, l loss) {
	set := shared.Set(t)
	f := company(t, set, binary(t, "CDC_RACE_BINARY"), three(set)...)
	must(t, f.Start(within(t, stuck)))
	orders := []*trade{opens(t, f, 1000), opens(t, f, 1001), opens(t, f, 1002)}
	arrive(t, f, orders...)
	before := map[*fleet.Office]uint64{}
	for i, o := range f.Offices[1:] {
		before[o] = epoch(t, o)
		must(t, o.Stop(within(t, stuck)))
		orders[i].trades(t, o, f.Head())
		orders[i].contest(t, o, f.Head())
		l.lose(t, o)
	}
	for _, o := range f.Offices[1:] {
		must(t, o.Start())
	}
	for _, o := range f.Offices[1:] {
		finds(t, o, before[o], l.why)
	}
	orders[2].trades(t, f.Offices...) // while the tables are compared
	arrive(t, f, orders...)
	end(t, f, orders...)
}

func TestBranchesWithoutTheirJournals(t *testing.T) {
	losing(t, loss{func(t *testing.T, o *fleet.Office) { must(t, os.RemoveAll(o.Data())) }, "journal lost"})
}

// The slot is gone; the binlog is.
func TestBranchesWithoutTheirLogs(t *testing.T) {
	losing(t, loss{func(t *testing.T, o *fleet.Office) {
		if o.Postgres() {
			must(t, dropSlot(within(t, stuck), o))
		} else {
			must(t, purgeBinlog(within(t, stuck), o))
		}
	}, "log lost"})
}

// RESET MASTER looks like a backup, for the binlog begins anew.
func TestABranchWhoseBinlogWasReset(t *testing.T) {
	wholeOnly(t)
	set := shared.Set(t)
	f := company(t, set, binary(t, "CDC_RACE_BINARY"), three(set)...)
	must(t, f.Start(within(t, stuck)))
	order := opens(t, f, 1000)
	arrive(t, f, order)
	south := f.Offices[atSouth]
	before := epoch(t, south)
	must(t, south.Stop(within(t, stuck)))
	order.trades(t, f.Offices...)
	order.contest(t, f.Head(), south)
	must(t, fleet.Until(within(t, stuck), "the binlog is reset", func(ctx context.Context) error { return south.Exec(ctx, `RESET MASTER`) }))
	must(t, south.Start())
	finds(t, south, before, "restored")
	arrive(t, f, order)
	end(t, f, order)
}
