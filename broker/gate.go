package broker

import "sync"

// gate is whether the broker lets us publish. RabbitMQ closes it with connection.blocked while it is short of memory or
// disk: it then reads nothing from us, and whatever we wrote would sit in the link until a write times out.
type gate struct {
	mu     sync.Mutex
	reason string
	open   chan struct{} // closed while publishing is allowed
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) set(blocked bool, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.blocked()
	g.reason = reason
	switch {
	case blocked && !was:
		g.open = make(chan struct{})
	case !blocked && was:
		close(g.open)
	}
}

// blocked is called with mu held.
func (g *gate) blocked() bool {
	select {
	case <-g.open:
		return false
	default:
		return true
	}
}

// state returns the broker's reason, and whether it blocks.
func (g *gate) state() (string, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reason, g.blocked()
}

// opened returns a channel that is closed when publishing is, or becomes, allowed.
func (g *gate) opened() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}
