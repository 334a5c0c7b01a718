package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cdc-sidecar/schema"
)

const (
	// shipBytes is one window of live entries: large enough to hide a round trip, small enough that a resend or a hello
	// waits for little.
	shipBytes = 4 << 20
	// resendBytes is what one request for a resend is answered with. The asker asks again when it has it, so a resend of a
	// week never overruns a bounded queue.
	resendBytes = 8 << 20
	// unacknowledged is how much a branch may have under way to the head: the head's queue is bounded and shared, and what
	// would overflow it would only come back as a resend.
	unacknowledgedBytes = 32 << 20
	// tick is how often an office that has nothing to send says where it is, so that a loss with no later traffic is
	// noticed within a few of them.
	tick = 2 * time.Second
	// greet is how often a branch says hello.
	greet = 5 * time.Second
	// silentAfter: not heard for three hellos.
	silentAfter = 3 * greet
)

// sent notes a window that a branch has under way.
type sent struct {
	seq   uint64 // its last
	bytes int
}

// Ship sends what the journal grows by, the resends that others asked for, and control messages, until ctx ends or the
// wire breaks. Only one Ship runs at a time.
func (p *Peers) Ship(ctx context.Context, wire Wire) error {
	timer := time.NewTicker(tick)
	defer timer.Stop()
	p.said, p.greeted, p.next = time.Time{}, time.Time{}, 0
	for {
		grown := p.outbox.Grown()
		idle, err := p.shipOnce(ctx, wire)
		if err != nil {
			return err
		}
		if !idle {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-grown:
			if p.nobody { // news do not bring a listener; the tick tries again
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-p.wake:
				case <-timer.C:
				}
			}
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// shipOnce sends one round; idle says that nothing more is to be sent now.
func (p *Peers) shipOnce(ctx context.Context, wire Wire) (idle bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if err := p.shipControl(ctx, wire); err != nil {
		return false, err
	}
	resent, err := p.shipResend(ctx, wire)
	if err != nil {
		return false, err
	}
	sent, err := p.shipLive(ctx, wire)
	if err != nil {
		return false, err
	}
	answered, err := p.shipAnswers(ctx, wire)
	return !resent && !sent && !answered, err
}

// shipControl says what is due. A control message that reaches nobody is dropped: it is repeated anyway.
func (p *Peers) shipControl(ctx context.Context, wire Wire) error {
	p.periodic(time.Now())
	p.mu.Lock()
	say := p.say
	p.say = nil
	p.mu.Unlock()
	for i := range say {
		parcel := Parcel{To: say[i].to, Body: p.encode(&say[i].c)}
		if _, err := wire.Publish(ctx, []Parcel{parcel}); err != nil && !errors.Is(err, ErrNobody) {
			return fmt.Errorf("send control message: %w", err)
		}
	}
	return nil
}

// periodic queues hello, marker and tail when their time has come.
func (p *Peers) periodic(now time.Time) {
	first, _ := p.outbox.Bounds()
	if p.cfg.Role == schema.Branch {
		if p.greetNow.Swap(false) || now.Sub(p.greeted) >= greet {
			p.greeted = now
			p.hello()
			p.marked = schema.Position{} // said again: a marker may be lost like any message, and an idle branch says nothing else
		}
		p.mark()
	}
	if now.Sub(p.said) >= tick && p.next > 0 {
		p.said = now
		p.tell("", schema.Control{Tail: &schema.Tail{First: first, Last: p.next - 1}})
	}
}

// hello introduces a branch to whichever head listens.
func (p *Peers) hello() {
	p.mu.Lock()
	started := p.started
	var progress schema.Position
	for _, m := range p.members {
		progress = m.progress
	}
	p.mu.Unlock()
	if !started { // without what the database remembers, the head would take us for a newcomer
		return
	}
	first, last := p.outbox.Bounds()
	p.tell("", schema.Control{Hello: &schema.Hello{Progress: progress, First: first, Last: last, Program: p.cfg.Program, Engine: p.cfg.Engine}})
}

// mark reports, for an idle branch, what its log has applied: its own transactions carry the same when there are any.
func (p *Peers) mark() {
	seen := p.outbox.Seen()
	_, last := p.outbox.Bounds()
	if schema.Planted(schema.ReportBesideStream) {
		p.mu.Lock()
		for _, m := range p.members {
			seen, last = m.progress, 0
		}
		p.mu.Unlock()
	}
	if seen.IsZero() || seen == p.marked || p.next <= last {
		return // entries are still to be sent, and they will say it
	}
	p.marked = seen
	p.tell("", schema.Control{Marker: &schema.Marker{Seen: seen, After: last}})
}

// shipLive sends the next window of the journal to everybody.
func (p *Peers) shipLive(ctx context.Context, wire Wire) (bool, error) {
	if err := p.place(); err != nil {
		return false, err
	}
	limit := shipBytes
	if p.cfg.Role == schema.Branch {
		limit = min(limit, unacknowledgedBytes-p.underWay())
	}
	if p.nobody {
		limit = 1 // one entry, to learn whether somebody listens by now
	}
	if limit <= 0 {
		return false, nil
	}
	entries, _, err := p.outbox.Read(p.cursor, limit)
	if err != nil || len(entries) == 0 {
		return false, err
	}
	n, err := wire.Publish(ctx, parcels("", entries))
	p.advance(entries[:n])
	if errors.Is(err, ErrNobody) {
		p.nobody = true
		p.count(func(c *Counts) { c.Unroutable++ })
		return false, nil
	}
	p.nobody = false
	if err != nil {
		return false, fmt.Errorf("send: %w", err)
	}
	return true, nil
}

func parcels(to schema.Office, entries []Entry) []Parcel {
	out := make([]Parcel, len(entries))
	for i := range entries {
		out[i] = Parcel{To: to, Body: entries[i].Message}
	}
	return out
}

// place finds where live sending goes on: behind what was confirmed in an earlier session, or life.
func (p *Peers) place() error {
	first, last := p.outbox.Bounds()
	if p.next == 0 {
		p.next = min(max(p.outbox.Published()+1, first), last+1)
	} else if p.next >= first {
		return nil
	} else {
		p.next = first
	}
	cursor, err := p.outbox.Seek(p.next)
	if err != nil {
		return fmt.Errorf("find seq %d in the journal: %w", p.next, err)
	}
	p.cursor, p.window, p.within = cursor, nil, false
	return nil
}

// advance moves behind confirmed entries. The cursor may stop inside a large transaction; a new session begins it anew,
// which receivers take as it is: pieces they have are duplicates.
func (p *Peers) advance(entries []Entry) {
	if len(entries) == 0 {
		return
	}
	bytes := 0
	for i := range entries {
		bytes += len(entries[i].Message)
		if !entries[i].More {
			p.next = entries[i].Seq + 1
		}
	}
	p.cursor, p.within = entries[len(entries)-1].Next, entries[len(entries)-1].More
	p.outbox.SetPublished(p.next - 1)
	if p.cfg.Role == schema.Branch {
		p.window = append(p.window, sent{seq: p.next - 1, bytes: bytes})
	}
	p.count(func(c *Counts) { c.Published += uint64(len(entries)); c.PublishedBytes += uint64(bytes) })
}

// underWay is what a branch has sent and the head has not acknowledged.
func (p *Peers) underWay() int {
	acked := p.acknowledged()
	for len(p.window) > 0 && p.window[0].seq <= acked {
		p.window = p.window[1:]
	}
	total := 0
	for i := range p.window {
		total += p.window[i].bytes
	}
	return total
}

// acknowledged is the last seq of ours that the head has said it processed.
func (p *Peers) acknowledged() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var acked uint64
	for _, m := range p.members {
		if m.reported.Epoch == p.outbox.Epoch() {
			acked = max(acked, m.reported.Seq)
		}
	}
	return acked
}

// shipResend answers one office that asked for our stream again: a bounded stretch, then a tail that says how far it
// came. Live entries go on between two stretches, so one office's resend never holds up the others for long; the last
// stretch ends exactly where live sending stands, and from there on the asker is in step.
func (p *Peers) shipResend(ctx context.Context, wire Wire) (bool, error) {
	to, r, asked := p.takeAsked()
	if !asked {
		return false, nil
	}
	if err := p.place(); err != nil {
		return false, err
	}
	n, err := p.stretch(ctx, wire, to, r)
	if errors.Is(err, ErrNobody) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("send again to %s: %w", r.To, err)
	}
	first, _ := p.outbox.Bounds()
	p.tell(to, schema.Control{Tail: &schema.Tail{First: first, Last: p.next - 1, Answers: r.From}})
	p.count(func(c *Counts) { c.ResendsServed++; c.Resent += uint64(n) })
	return true, nil
}

func (p *Peers) takeAsked() (to schema.Office, r schema.Resend, asked bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for to, r = range p.asked {
		delete(p.asked, to)
		return to, r, true
	}
	return "", r, false
}

// stretch sends entries again, of what was already sent, and counts them. What is released is not there: the tail says so.
func (p *Peers) stretch(ctx context.Context, wire Wire, to schema.Office, r schema.Resend) (int, error) {
	cursor, err := p.outbox.Seek(r.From)
	if errors.Is(err, ErrReleased) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find seq %d in the journal: %w", r.From, err)
	}
	limit := resendBytes
	if r.Limit > 0 {
		limit = int(min(r.Limit, resendBytes))
	}
	total := 0
	for bytes := 0; cursor < p.cursor && bytes < limit; {
		entries, next, err := p.outbox.Read(cursor, min(limit-bytes, shipBytes))
		if err != nil || len(entries) == 0 {
			return total, err
		}
		cursor = next
		again := entries[:0]
		for _, e := range entries {
			if e.Next <= p.cursor && (e.Seq != r.From || e.Part >= r.Part) {
				again = append(again, e)
				bytes += len(e.Message)
			}
		}
		if _, err := wire.Publish(ctx, parcels(to, again)); err != nil {
			return total, err
		}
		total += len(again)
	}
	return total, nil
}

func (p *Peers) count(f func(*Counts)) {
	p.mu.Lock()
	f(&p.counts)
	p.mu.Unlock()
}
