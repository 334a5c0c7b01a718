package servers

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"time"
)

// TB is what of testing.TB is needed here. It is declared so that the demo, which uses this package too, does not carry
// the package testing.
type TB interface {
	Helper()
	Name() string
	Context() context.Context
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Runner is a *testing.M, or what stands for one.
type Runner interface{ Run() int }

// Database is a database server of either kind.
type Database interface {
	URL(database string) string
	CreateDatabase(ctx context.Context, name string) error
	DropDatabase(ctx context.Context, name string) error
}

// ForTest starts servers that end with the test.
func ForTest(tb TB, spec Spec) *Set {
	tb.Helper()
	set, err := Start(tb.Context(), spec)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(func() {
		if err := set.Close(); err != nil {
			tb.Errorf("close servers: %v", err)
		}
	})
	return set
}

// Shared is one Set for all tests of a binary. The first test that asks starts it, so that tests without servers do not
// wait for them; Main ends it.
//
//	var shared = servers.Shared{Spec: servers.Spec{Postgres: 1, MariaDB: 1}}
//
//	func TestMain(m *testing.M) { os.Exit(shared.Main(m).Run()) } // or goleak.VerifyTestMain(shared.Main(m))
//
//	func TestSomething(t *testing.T) {
//		address := servers.NewDatabase(t, shared.Set(t).Postgres[0])
type Shared struct {
	Spec Spec

	once sync.Once
	set  *Set
	err  error
}

// Set returns the servers.
func (s *Shared) Set(tb TB) *Set {
	tb.Helper()
	// Not the test's own context: the servers outlive the test that happened to come first.
	s.once.Do(func() { s.set, s.err = Start(context.WithoutCancel(tb.Context()), s.Spec) })
	if s.err != nil {
		tb.Fatalf("%v", s.err)
	}
	return s.set
}

// Main runs the tests and then ends the servers.
func (s *Shared) Main(m Runner) Runner { return sharedRunner{s, m} }

type sharedRunner struct {
	shared *Shared
	tests  Runner
}

// Run returns the exit code of the tests, or 1 when the servers did not end well.
func (r sharedRunner) Run() int {
	code := r.tests.Run()
	if r.shared.set == nil {
		return code
	}
	if err := r.shared.set.Close(); err != nil {
		return max(code, 1)
	}
	return code
}

// dropLimit bounds the removal of a test's database; it is only reached when something holds on to it.
const dropLimit = time.Minute

// NewDatabase creates a database of a unique name for the test and returns its URL. At the end of the test it is dropped,
// with the connections and replication slots that the test left. A server that does not run by then keeps it.
func NewDatabase(tb TB, server Database) string {
	tb.Helper()
	name := uniqueName(tb)
	if err := server.CreateDatabase(tb.Context(), name); err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(func() {
		if own, ok := server.(interface{ stopped() bool }); ok && own.stopped() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), dropLimit)
		defer cancel()
		if err := server.DropDatabase(ctx, name); err != nil {
			tb.Errorf("%v", err)
		}
	})
	return server.URL(name)
}

// NewVHost creates a virtual host of a unique name for the test and returns its URL. At the end of the test it is deleted.
func NewVHost(tb TB, broker *RabbitMQ) string {
	tb.Helper()
	name := uniqueName(tb)
	if err := broker.CreateVHost(tb.Context(), name); err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(func() {
		if broker.stopped() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), dropLimit)
		defer cancel()
		if err := broker.DeleteVHost(ctx, name); err != nil {
			tb.Errorf("%v", err)
		}
	})
	return broker.URL(name)
}

// nameBytes is how much of a test's name goes into the name of its database, which Postgres limits to 63 bytes.
const nameBytes = 40

// uniqueName is a name that needs no quotes in any engine and tells whose it is.
func uniqueName(tb TB) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(tb.Name()))
	return clean[:min(len(clean), nameBytes)] + "_" + strings.ToLower(rand.Text()[:8])
}

func (s *server) stopped() bool {
	if s.external != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.running()
}
