package e2e

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"cdc-sidecar/fleet"
	"cdc-sidecar/servers"
)

// halting is a database's server that can be stopped and started.
type halting interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// folder is where the office's database server has its files.
func folder(t *testing.T, o *fleet.Office) (path string) {
	t.Helper()
	db, err := o.DB()
	must(t, err)
	query := `SELECT @@datadir`
	if o.Postgres() {
		query = `SHOW data_directory`
	}
	must(t, db.QueryRowContext(within(t, stuck), query).Scan(&path))
	return strings.TrimSuffix(path, "/")
}

// stopped runs shell commands while the office's database server is down.
func stopped(t *testing.T, o *fleet.Office, commands ...string) {
	t.Helper()
	server, ok := o.Database.(halting)
	if !ok {
		t.Fatalf("the server of %s cannot be stopped", o.Name)
	}
	must(t, server.Stop(within(t, stuck)))
	for _, c := range commands {
		if out, err := exec.CommandContext(within(t, stuck), "sh", "-c", c).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", c, err, out)
		}
	}
	must(t, server.Start(within(t, stuck)))
	must(t, fleet.Until(within(t, stuck), "the application is connected again", func(ctx context.Context) error {
		var errs []error
		for range 4 { // every connection that it had
			errs = append(errs, o.Exec(ctx, `SELECT 1`))
		}
		return errors.Join(errs...)
	}))
}

// backup takes a copy of the server's files, and returns what puts it back.
func backup(t *testing.T, o *fleet.Office) (restore func()) {
	t.Helper()
	data := folder(t, o)
	stopped(t, o, "cp -a '"+data+"' '"+data+"-backup'")
	return func() {
		t.Helper()
		stopped(t, o, "rm -r '"+data+"'", "mv '"+data+"-backup' '"+data+"'")
	}
}

// own is a set of servers that a test may take apart.
func own(t *testing.T, postgres int) *servers.Set {
	t.Helper()
	ownServers(t)
	return servers.ForTest(t, servers.Spec{Postgres: postgres, MariaDB: 1, RabbitMQ: 1, PostgresSettings: []string{"fsync=off"}})
}

// Both branches get yesterday's backup: what everybody did since comes back from the head, and what their applications wrote to
// the restored tables, before the sidecars came, goes up.
func TestBranchesRestoredFromBackups(t *testing.T) {
	wholeOnly(t)
	set := own(t, 2)
	f := company(t, set, binary(t, "CDC_RACE_BINARY"), three(set)...)
	must(t, f.Start(within(t, stuck)))
	since, later := opens(t, f, 1000), opens(t, f, 1001)
	arrive(t, f, since, later)
	branches := f.Offices[1:]
	restore := []func(){backup(t, branches[0]), backup(t, branches[1])}
	since.trades(t, f.Offices...)
	arrive(t, f, since)
	_, err := f.Equal(within(t, stuck))
	must(t, err)
	before := []uint64{epoch(t, branches[0]), epoch(t, branches[1])}
	for i, o := range branches {
		must(t, o.Stop(within(t, stuck)))
		restore[i]()
		later.insert(t, o)
		later.update(t, o)
	}
	later.trades(t, f.Head())
	// The head no longer knows what became of a row before the backup was taken: its row stays, and the other is told of.
	later.doubts(changes(branches[0]), changes(branches[1]))
	for _, o := range branches {
		since.forgives(deletes(o)) // nobody has a word of that but the head, which has forgotten it
		must(t, o.Start())
	}
	for i, o := range branches {
		finds(t, o, before[i], "restored")
	}
	arrive(t, f, since, later)
	end(t, f, since, later)
}

// The head gets yesterday's backup: what it lacks comes back from the branches, what its applications wrote to it before its
// sidecar came reaches all, and so does what the branches could not send meanwhile.
func TestAHeadRestoredFromABackup(t *testing.T) {
	set := own(t, 2)
	restoredHead(t, set, three(set))
}

func TestAMariaDBHeadRestoredFromABackup(t *testing.T) {
	wholeOnly(t)
	set := own(t, 2)
	restoredHead(t, set, mariaDBHead(set))
}

func restoredHead(t *testing.T, set *servers.Set, specs []fleet.Spec) {
	t.Helper()
	f := company(t, set, binary(t, "CDC_RACE_BINARY"), specs...)
	must(t, f.Start(within(t, stuck)))
	since, later := opens(t, f, 1000), opens(t, f, 1001)
	arrive(t, f, since, later)
	head := f.Head()
	restore := backup(t, head)
	since.trades(t, f.Offices...)
	arrive(t, f, since)
	_, err := f.Equal(within(t, stuck))
	must(t, err)
	before := epoch(t, head)
	must(t, head.Stop(within(t, stuck)))
	restore()
	later.trades(t, f.Offices...)
	later.contest(t, head, f.Offices[atNorth])
	for _, o := range f.Offices { // nobody has a word of what was deleted before
		since.forgives(deletes(o))
	}
	// What was written to the restored tables before there was a log is not told apart from what they were.
	later.doubts(changes(head))
	later.forgives(deletes(head))
	must(t, head.Start())
	finds(t, head, before, "restored")
	arrive(t, f, since, later)
	end(t, f, since, later)
}
