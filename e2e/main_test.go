package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// shared are the servers of tests that do not end servers.
var shared lanes

func TestMain(m *testing.M) { os.Exit(shared.Main(m).Run()) }

// lanes are sets of servers, each for one test at a time: what offices keep in a server beside their databases (slots, the
// tables of cdc_sidecar) goes by the office's name, and there is a north in every test.
type lanes struct {
	sets [atATime]servers.Shared
	free chan *servers.Shared
}

// atATime is how many tests run beside each other, not counting those with servers of their own. They wait more than they
// compute, and two cores carry them.
const atATime = 3

// external are the variables that name servers from elsewhere. Every set would have the same, so there is one lane then.
var external = []string{"CDC_TEST_POSTGRES", "CDC_TEST_MYSQL", "CDC_TEST_AMQP"}

// Main runs the tests and then ends the servers.
func (l *lanes) Main(m servers.Runner) servers.Runner {
	n := len(l.sets)
	if slices.ContainsFunc(external, func(name string) bool { return os.Getenv(name) != "" }) {
		n = 1
	}
	// All parallel tests may begin: then they queue for servers, not for a turn without any. A default only, for Run reads
	// the command line after it.
	if err := flag.Set("test.parallel", "1000"); err != nil {
		panic(err)
	}
	l.free = make(chan *servers.Shared, n)
	for i := range n {
		l.sets[i].Spec = servers.Spec{Postgres: 2, MariaDB: 1, RabbitMQ: 1, PostgresSettings: []string{"fsync=off"}}
		m = l.sets[i].Main(m)
		l.free <- &l.sets[i]
	}
	return m
}

// Set lets the test run beside others from here on, and gives it servers that are its alone until its end. A test calls it
// once, before it makes anything else.
func (l *lanes) Set(t *testing.T) *servers.Set {
	t.Helper()
	t.Parallel()
	set := <-l.free
	began := time.Now()
	t.Cleanup(func() { // the first registered and so the last to run
		t.Logf("took %.1f s after its wait for servers", time.Since(began).Seconds())
		l.free <- set
	})
	return set.Set(t)
}

// ownSet is held by a test that has a whole set of servers to itself: one at a time, beside those in the lanes.
var ownSet sync.Mutex

// ownServers lets a test that starts a whole set itself run beside the others.
func ownServers(t *testing.T) {
	t.Helper()
	t.Parallel()
	ownSet.Lock()
	began := time.Now()
	t.Cleanup(func() {
		t.Logf("took %.1f s after its wait for the others", time.Since(began).Seconds())
		ownSet.Unlock()
	})
}

// stuck is when a wait is given up: far above anything a shared machine makes of these tests. CDC_STUCK shortens it for
// somebody who works on a test.
var stuck = patience()

func patience() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("CDC_STUCK")); err == nil {
		return d
	}
	return 4 * time.Minute
}

// full reports whether the sizes of the promise are asked for (make test FULL=1), not those of every day.
func full() bool { return os.Getenv("CDC_FULL") != "" }

// wholeOnly leaves a test to the full sizes: what it shows is shown every day by another one like it, or in the rooms, and what
// is run every day has twelve minutes.
func wholeOnly(t *testing.T) {
	t.Helper()
	if !full() {
		t.Skip("with the full sizes: make test FULL=1")
	}
}

// sized is the size of every day, or the full one.
func sized[T any](short, whole T) T {
	if full() {
		return whole
	}
	return short
}

// binary is a sidecar that make has built.
func binary(t *testing.T, env string) string {
	t.Helper()
	path := os.Getenv(env)
	if path == "" {
		t.Skipf("%s does not name a sidecar binary: run make test", env)
	}
	return path
}

var fleets atomic.Int64

// company makes a fleet in databases of its own and ends it with the test. What a sidecar said is shown when the test fails.
func company(t *testing.T, set *servers.Set, bin string, offices ...fleet.Spec) *fleet.Fleet {
	t.Helper()
	return companyOf(t, fleet.Options{Broker: set.RabbitMQ[0], Binary: bin, Offices: offices})
}

// companyOf is company with more to say; name and folder are its own.
func companyOf(t *testing.T, o fleet.Options) *fleet.Fleet {
	t.Helper()
	dir, err := os.MkdirTemp("", "cdc-e2e-") // t.TempDir's paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	o.Dir, o.Name = dir, fmt.Sprintf("e2e%d", fleets.Add(1))
	f, err := fleet.New(within(t, stuck), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			show(t, f)
		}
		forget(t, f)
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	return f
}

// forget removes what the sidecars keep in a server beside the offices' databases, or for them: the next test has offices
// of the same names there.
func forget(t *testing.T, f *fleet.Fleet) {
	for _, o := range f.Offices {
		o.Kill()
		if !o.Postgres() {
			if err := o.Exec(within(t, stuck), `DROP DATABASE IF EXISTS `+schema.OwnSchema); err != nil {
				t.Error(err)
			}
			continue
		}
		err := fleet.Until(within(t, stuck), "the slot of "+string(o.Name)+" is gone", func(ctx context.Context) error {
			return o.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()`)
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// three is a head and two branches, all engines of the house.
func three(set *servers.Set) []fleet.Spec {
	return []fleet.Spec{
		{Name: "head", Role: schema.Head, Database: set.Postgres[0]},
		{Name: "north", Role: schema.Branch, Database: set.Postgres[1]},
		{Name: "south", Role: schema.Branch, Database: set.MariaDB[0]},
	}
}

// lastLines is what is shown of a sidecar's log when a test fails.
const lastLines = 25

func show(t *testing.T, f *fleet.Fleet) {
	for _, o := range f.Offices {
		if s, err := o.Status(context.Background()); err == nil {
			t.Logf("%s: %s, journal %+v, capture %+v, apply %+v, peers %+v, %v", o.Name, s.State, s.Journal, s.Capture, s.Apply, s.Peers, s.Reasons())
		}
		text, _ := os.ReadFile(o.Log())
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		t.Logf("the last lines of %s:\n%s", o.Log(), strings.Join(lines[max(0, len(lines)-lastLines):], "\n"))
		if keep := os.Getenv("CDC_KEEP_LOGS"); keep != "" {
			_ = os.WriteFile(filepath.Join(keep, t.Name()[4:]+"-"+string(o.Name)+".log"), text, 0o600)
		}
	}
}

// within is a context that ends with the test, or after a stuck-guard.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), d)
	t.Cleanup(cancel)
	return ctx
}
