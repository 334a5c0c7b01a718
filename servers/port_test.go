package servers

import (
	"context"
	"fmt"
	"net"
	"os"
	"testing"
)

func TestClaimedPortIsNobodyElses(t *testing.T) {
	p, err := claimPort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.number < lowestPort || p.number >= highestPort {
		t.Errorf("claimed %d", p.number)
	}
	if _, err := tryPort(t.Context(), p.number); err == nil {
		t.Error("claimed twice")
	}
	if err := p.release(); err != nil {
		t.Fatal(err)
	}
	listener := listen(t, p.number)
	if _, err := tryPort(t.Context(), p.number); err == nil {
		t.Error("claimed although somebody listens")
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := tryPort(t.Context(), p.number)
	if err != nil {
		t.Fatalf("free again, but: %v", err)
	}
	if err := again.release(); err != nil {
		t.Error(err)
	}
}

// robbed is a Postgres whose first port a stranger takes at the worst moment.
type robbed struct {
	*Postgres
	t     *testing.T
	taken []int
}

func (r *robbed) prepare(ctx context.Context) error {
	if len(r.taken) == 0 {
		listener := listen(r.t, r.Port())
		r.t.Cleanup(func() { _ = listener.Close() })
	}
	r.taken = append(r.taken, r.Port())
	return r.Postgres.prepare(ctx)
}

func TestStolenPortIsReplaced(t *testing.T) {
	host, err := newHost(t.Context(), Spec{Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	set := &Set{host: host}
	if err := set.addPostgres(Spec{Postgres: 1}); err != nil {
		t.Fatal(err)
	}
	victim := &robbed{Postgres: set.Postgres[0], t: t}
	victim.engine = victim
	if err := set.startAll(t.Context()); err != nil {
		t.Error(err)
	}
	if len(victim.taken) != 2 || victim.Port() != victim.taken[1] || victim.taken[0] == victim.taken[1] {
		t.Errorf("tried the ports %v, serves on %d", victim.taken, victim.Port())
	}
	if err := set.Close(); err != nil {
		t.Error(err)
	}
}

func listen(t *testing.T, number int) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", number))
	if err != nil {
		t.Fatal(err)
	}
	return listener
}
