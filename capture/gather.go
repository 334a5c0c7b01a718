package capture

import (
	"context"
	"net"
	"syscall"
	"time"
)

const (
	// gatherBytes is what one read of the log's connection may bring.
	gatherBytes = 512 << 10
	// gatherSoon is a wait after which more is surely on its way: the server sends row after row.
	gatherSoon = 200 * time.Microsecond
	// gatherAfter is how many such waits in a row make a flood. A transaction of an application or two is fewer, and is not
	// kept waiting.
	gatherAfter = 24
	// gatherLeast and gatherMost are how long a flood may gather: as long as it takes for gatherEnough to arrive. Measured: with
	// 16 KiB at a time the server's own work for a row is a fifth more, because it waits and wakes as often as we do.
	gatherLeast  = 500 * time.Microsecond
	gatherMost   = 10 * time.Millisecond
	gatherEnough = 128 << 10
)

// gatherer reads a log that its server sends row by row, each in a packet of its own. Who reads at once what comes is woken
// for every row, which costs more than the row; so while rows come without an end, the gatherer lets them gather for a
// moment and reads many at once. That also spares the server, whose sending wakes nobody meanwhile.
type gatherer struct {
	net.Conn
	buffer   []byte
	from, to int // what of buffer is still to be handed out
	soon     int // reads in a row that hardly waited
	pause    time.Duration
	timer    *time.Timer
	raw      syscall.RawConn // nil: not a socket
	// limit is how long a read may wait for anything; 0: whatever deadline is set. A deadline for each of a flood's packets,
	// as a library would set it, costs as much as the packet.
	limit time.Duration
	hurry *Hurry
}

func newGatherer(conn net.Conn) *gatherer {
	g := &gatherer{Conn: conn, buffer: make([]byte, gatherBytes), pause: gatherLeast, timer: stoppedTimer()}
	if socket, ok := conn.(syscall.Conn); ok {
		g.raw, _ = socket.SyscallConn() // nil: as it was
	}
	return g
}

// stoppedTimer is for whoever resets it before each use.
func stoppedTimer() *time.Timer {
	timer := time.NewTimer(0)
	timer.Stop()
	return timer
}

// dial is a dialer's DialContext.
type dial = func(ctx context.Context, network, address string) (net.Conn, error)

// gathering dials, and gives what reads to use.
func gathering(dial dial, use func(*gatherer)) dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		g := newGatherer(conn)
		use(g)
		return g, nil
	}
}

// wakeAt asks the kernel to tell of so many bytes only. Without it every packet wakes the thread that waits for all of the
// program's connections, though nobody wants to read. A connection that cannot be asked is none the worse.
func (g *gatherer) wakeAt(bytes int) {
	if g.raw != nil {
		_ = g.raw.Control(func(fd uintptr) { _ = setReceiveLowWater(fd, bytes) })
	}
}

// Read implements io.Reader. Like any connection's it has one reader at a time.
func (g *gatherer) Read(p []byte) (int, error) {
	if g.from == g.to {
		if err := g.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, g.buffer[g.from:g.to])
	g.from += n
	return n, nil
}

// waiting reports that the next Read will have to ask the network.
func (g *gatherer) waiting() bool { return g.from == g.to }

// gather lets rows come for a while: a short one when somebody waits for what is among them, or begins to.
func (g *gatherer) gather() {
	g.wakeAt(gatherBytes)
	defer g.wakeAt(1)
	defer g.timer.Stop()
	if !g.hurry.someoneWaits() {
		g.timer.Reset(g.pause)
		select {
		case <-g.timer.C:
			return
		case <-g.hurry.calls():
		}
	}
	g.timer.Reset(gatherLeast)
	<-g.timer.C
}

func (g *gatherer) fill() error {
	flood := g.soon >= gatherAfter
	if flood {
		g.gather()
	}
	began := time.Now()
	if g.limit > 0 {
		if err := g.SetReadDeadline(began.Add(g.limit)); err != nil {
			return err
		}
	}
	n, err := g.Conn.Read(g.buffer)
	if flood && n < gatherEnough {
		g.pause = min(2*g.pause, gatherMost)
	} else if flood && n > 2*gatherEnough {
		g.pause = max(g.pause/2, gatherLeast)
	}
	if time.Since(began) < gatherSoon {
		g.soon++
	} else {
		g.soon = 0
	}
	g.from, g.to = 0, n
	if n > 0 {
		return nil // an error comes again
	}
	return err
}
