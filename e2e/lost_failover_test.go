package e2e

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"testing"

	"cdc-sidecar/fleet"
	"cdc-sidecar/servers"
)

// shell runs a command to its end.
func shell(t *testing.T, command string) {
	t.Helper()
	if out, err := exec.CommandContext(within(t, stuck), "sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v %s", command, err, out)
	}
}

// ask1 is the one value that a query has.
func ask1[T any](t *testing.T, address, query string) (value T) {
	t.Helper()
	db, err := fleet.OpenDB(address)
	must(t, err)
	defer db.Close()
	must(t, db.QueryRowContext(within(t, stuck), query).Scan(&value))
	return value
}

// follower makes a server follow another; follows returns when it has all that the other has committed.
func follower(t *testing.T, of, server *servers.Postgres) (data string, follows func()) {
	t.Helper()
	at := server.URL("postgres")
	data = ask1[string](t, at, `SHOW data_directory`)
	programs := ask1[string](t, at, `SELECT setting FROM pg_config WHERE name = 'BINDIR'`)
	must(t, server.Stop(within(t, stuck)))
	shell(t, fmt.Sprintf(`rm -r '%[1]s' && '%[2]s/pg_basebackup' -h 127.0.0.1 -p %[3]d -U postgres -D '%[1]s' -R -X stream -c fast --no-sync && chown -R --reference="$(dirname '%[1]s')" '%[1]s'`,
		data, programs, of.Port()))
	must(t, server.Start(within(t, stuck)))
	return data, func() {
		t.Helper()
		end := ask1[string](t, of.URL("postgres"), `SELECT pg_current_wal_lsn()::text`)
		must(t, fleet.Until(within(t, stuck), "the standby has everything", func(context.Context) error {
			if !ask1[bool](t, at, `SELECT pg_last_wal_replay_lsn() >= '`+end+`'`) {
				return errors.New("it has not")
			}
			return nil
		}))
	}
}

// A branch's database fails over to a standby, which has everything but the slot; applications go on there before the sidecar does.
func TestABranchThatFailedOver(t *testing.T) {
	wholeOnly(t)
	set := own(t, 3)
	f := company(t, set, binary(t, "CDC_RACE_BINARY"), three(set)...)
	must(t, f.Start(within(t, stuck)))
	north := f.Offices[atNorth]
	orders := []*trade{opens(t, f, 1000), opens(t, f, 1001)}
	arrive(t, f, orders...)
	replica, follows := follower(t, set.Postgres[1], set.Postgres[2])
	before := epoch(t, north)
	must(t, north.Stop(within(t, stuck)))
	orders[0].trades(t, f.Offices...)
	orders[0].contest(t, f.Head(), north)
	follows()
	must(t, set.Postgres[2].Stop(within(t, stuck)))
	former := folder(t, north)
	stopped(t, north, "rm -r '"+former+"'", "mv '"+replica+"' '"+former+"'") // the address goes over to it
	must(t, north.Exec(within(t, stuck), `SELECT pg_promote()`))
	orders[1].trades(t, north)
	must(t, north.Start())
	finds(t, north, before, "log lost")
	orders[1].trades(t, f.Head(), f.Offices[atSouth])
	arrive(t, f, orders...)
	end(t, f, orders...)
}
