package peer

import (
	"time"

	"cdc-sidecar/schema"
)

const (
	// askAgain is how long a request for a resend may go without any progress before it is repeated; each repetition
	// doubles it up to askAgainMost: on a line of 64 kbit/s one message takes minutes.
	askAgain     = 3 * time.Second
	askAgainMost = 5 * time.Minute
	// retryHalted is the first wait before a halted stream is tried again; it doubles up to retryHaltedMost, so that
	// what an operator mends is picked up within half a minute.
	retryHalted     = 2 * time.Second
	retryHaltedMost = 30 * time.Second
)

// member is what we know of another office: of its stream as we apply it, and of ours as it does.
type member struct {
	office schema.Office
	engine schema.Engine
	epoch  uint64 // of its journal, as it last said
	known  bool   // recorded: at the head since its hello

	// Its stream, as we apply it. Written by Receive only.
	progress schema.Position // the last applied; zero: not begun
	spool    *spool          // the pieces of a transaction whose end has not come
	chunk    []byte          // the pieces of a chunk whose end has not come
	tail     uint64          // the last seq it said it had sent
	told     time.Time       // when it said so
	ask      ask
	held     string // why its stream is held; empty: it is not
	join     bool   // it, or we, must join before the stream goes on
	halted   *Halt
	retryAt  time.Time
	retry    time.Duration

	// Our stream, as it applies it.
	reported schema.Position
	marker   *schema.Marker // a report that waits for our progress
	saved    schema.Position
	expired  bool
	heard    time.Time
	lag      time.Time // commit time of the last transaction applied from it
}

// Halt is a change that cannot be applied: its stream stands still there.
type Halt struct {
	At    schema.Position
	Since time.Time
	Cause error // usually a *schema.RejectedError
	Tries int
}

func (m *member) remember(r Member) {
	m.known, m.engine, m.epoch, m.expired = true, r.Engine, r.Epoch, r.Expired
	m.saved = r.Reported
	if m.reported.Less(r.Reported) {
		m.reported = r.Reported
	}
	if m.heard.Before(r.Heard) {
		m.heard = r.Heard
	}
}

// reset forgets what belonged to a broken session: its deliveries come again, as duplicates where they are spooled.
func (m *member) reset() {
	if m.spool != nil {
		m.spool.held = nil
		m.spool.restart()
	}
	m.ask = ask{}
}

// dropSpool ends a spooled transaction, applied or not: its pieces need not come again by themselves.
func (m *member) dropSpool() {
	if m.spool == nil {
		return
	}
	for _, d := range m.spool.held {
		d.Settle()
	}
	m.spool.close()
	m.spool = nil
}

// needs is the first piece of the stream that is not here, when everything to have is.
func (m *member) needs(have uint64) (from uint64, part uint32) {
	if m.spool != nil && m.spool.seq == have+1 {
		return m.spool.seq, m.spool.next
	}
	return have + 1, 0
}

// ask is our request to another office to send its stream again.
type ask struct {
	from  uint64 // the transaction asked for
	part  uint32 // and the piece of it
	at    time.Time
	wait  time.Duration
	limit uint64 // bytes
	open  bool   // not answered yet
}

// may reports whether it is time to ask, and notes that it was asked: at once where the last answer brought us forward,
// else only when nothing has come of the last request for a while. An answer that brought nothing may have overrun a
// bounded queue, so the next is a smaller one.
func (a *ask) may(from uint64, part uint32, now time.Time) bool {
	same := a.from == from && a.part == part
	if (a.open || same) && now.Sub(a.at) < a.wait {
		return false
	}
	switch {
	case same:
		a.wait, a.limit = min(2*a.wait, askAgainMost), max(a.limit/4, 1)
	case a.limit == 0:
		a.wait, a.limit = askAgain, resendBytes
	default:
		a.wait, a.limit = askAgain, min(2*a.limit, resendBytes)
	}
	a.from, a.part, a.at, a.open = from, part, now, true
	return true
}

// coming notes that the answer is on its way.
func (a *ask) coming(now time.Time) {
	if a.open {
		a.at = now
	}
}

// State is the member's state in one word, for status.
func (m *member) state(now time.Time) string {
	switch {
	case m.halted != nil:
		return "halted"
	case m.join:
		return "needs_join"
	case m.expired:
		return "expired"
	case m.held != "":
		return "held"
	case m.ask.open:
		return "gap"
	case now.Sub(m.heard) > silentAfter:
		return "silent"
	default:
		return "active"
	}
}
