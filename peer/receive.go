package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cdc-sidecar/schema"
)

const (
	// groupBytes and groupMessages bound what one call of the applier gets: a few of its commits' worth, so that the next
	// messages are read while it works.
	groupBytes    = 2 << 20
	groupMessages = 128
)

// group is a run of whole transactions of one sender, gathered for one call of the applier.
type group struct {
	from       *member
	txs        []schema.Transaction
	deliveries []Delivery
	acked      []schema.Acknowledgement
	bytes      int
	last       uint64
}

// Receive takes one batch of deliveries, in order. It settles each delivery that is durable in our database, is a
// duplicate, or is passed by; what it leaves unsettled is part of a transaction whose end has not come. An empty batch is
// a tick. An error means that the session is over: Start comes before the next Receive.
func (p *Peers) Receive(ctx context.Context, batch []Delivery) error {
	var g group
	for o := range p.opened(batch) {
		if o.err != nil {
			if !p.passBy(o, &o.message, o.err) {
				return o.err
			}
			continue
		}
		if o.message.Kind == schema.MessageControl {
			if err := p.land(ctx, &g); err != nil {
				return err
			}
			if err := p.control(ctx, &o.message); err != nil {
				return err
			}
			o.Settle()
			continue
		}
		if o.message.Kind == schema.MessageChunk {
			if err := p.land(ctx, &g); err != nil {
				return err
			}
			if err := p.chunk(ctx, o); err != nil {
				return err
			}
			o.Settle()
			continue
		}
		if err := p.numbered(ctx, &g, o); err != nil {
			return err
		}
	}
	if err := p.land(ctx, &g); err != nil {
		return err
	}
	return p.look(ctx, time.Now())
}

// passBy deals with what cannot be read: garbage is quarantined; a message of ours of an unknown version or kind holds its
// sender's stream (the sender's journal keeps it, and it comes again after an upgrade).
func (p *Peers) passBy(d Delivery, m *schema.Message, err error) bool {
	switch {
	case errors.Is(err, schema.ErrUnknown):
		p.mu.Lock()
		if from := p.members[m.Sender]; from != nil && from.held != err.Error() {
			from.held = err.Error()
			p.cfg.Log.Error("a stream is held", "office", m.Sender, "cause", err)
		}
		p.mu.Unlock()
	case errors.Is(err, schema.ErrNotOurs):
		p.quarantine(d, err)
	default:
		return false
	}
	d.Settle()
	return true
}

// numbered keeps the chain of the sender's stream: the next message is taken, a duplicate passed by, a gap asked for.
func (p *Peers) numbered(ctx context.Context, g *group, o *opened) error {
	d, m := o.Delivery, &o.message
	from := p.sender(m)
	if from == nil || !p.takes(from, m) {
		p.count(func(c *Counts) { c.Dropped++ })
		d.Settle()
		return nil
	}
	if g.from != from || g.bytes > groupBytes || len(g.deliveries) >= groupMessages {
		if err := p.land(ctx, g); err != nil {
			return err
		}
	}
	have := from.progress.Seq
	if g.from == from && g.last > have {
		have = g.last
	}
	switch {
	case m.Seq <= have && !schema.Planted(schema.DuplicateApplied):
		p.count(func(c *Counts) { c.Duplicates++ })
		p.acknowledge(m.Acknowledged)
		d.Settle()
		return nil
	case from.spool != nil || m.Part > 0 || m.More || m.Continued:
		if err := p.land(ctx, g); err != nil {
			return err
		}
		return p.piece(ctx, from, d, m)
	case m.Prev > have:
		p.gap(from, have)
		d.Settle()
		return nil
	}
	return p.gather(ctx, g, from, o)
}

// sender is the member whose stream this message belongs to, if we take streams from it.
func (p *Peers) sender(m *schema.Message) *member {
	p.mu.Lock()
	defer p.mu.Unlock()
	from := p.members[m.Sender]
	if from != nil {
		from.heard = time.Now()
	}
	return from
}

// takes reports whether from's stream is open for us now.
func (p *Peers) takes(from *member, m *schema.Message) bool {
	now := time.Now()
	switch {
	case from.progress.Epoch == 0 || from.join:
		return false
	case m.Epoch < from.progress.Epoch: // of a life that is over
		return false
	case m.Epoch > from.progress.Epoch: // a hello, or the answer to one, tells what becomes of it
		p.Greet()
		return false
	case from.halted != nil && now.Before(from.retryAt):
		return false
	}
	return true
}

// gather takes a message of whole transactions into the group.
func (p *Peers) gather(ctx context.Context, g *group, from *member, o *opened) error {
	if o.damage != nil {
		if err := p.land(ctx, g); err != nil {
			return err
		}
		p.unreadable(from, &o.message, o.damage)
		o.Settle()
		return nil
	}
	g.from, g.last = from, o.message.Seq
	g.txs = append(g.txs, o.txs...)
	g.deliveries = append(g.deliveries, o.Delivery)
	g.acked = o.message.Acknowledged
	g.bytes += o.bytes
	return nil
}

// unreadable halts a stream whose message is damaged inside a sound envelope, or newer than this program: its sender has
// it in its journal, and is asked for it again.
func (p *Peers) unreadable(from *member, m *schema.Message, err error) {
	p.halt(from, schema.Position{Epoch: m.Epoch, Seq: m.Seq}, fmt.Errorf("read message %d of %s: %w", m.Seq, from.office, err))
}

// piece spools a piece of a large transaction and applies the whole when its last piece has come.
func (p *Peers) piece(ctx context.Context, from *member, d Delivery, m *schema.Message) error {
	if from.spool == nil && m.Part == 0 && m.Prev <= from.progress.Seq {
		s, err := newSpool(p.cfg.Dir, m)
		if err != nil {
			return err
		}
		from.spool = s
	}
	s := from.spool
	switch {
	case s != nil && s.seq == m.Seq && m.Part < s.next:
		p.count(func(c *Counts) { c.Duplicates++ })
		d.Settle()
		return nil
	case s == nil || s.seq != m.Seq || s.next != m.Part:
		p.gap(from, from.progress.Seq)
		d.Settle()
		return nil
	}
	if err := s.add(m); err != nil {
		return err
	}
	p.count(func(c *Counts) { c.Spooled++ })
	p.advanced(from)
	p.hold(s, d)
	if m.More || m.Continued {
		p.early(ctx, from, m)
		return nil
	}
	defer from.dropSpool()
	p.acknowledge(m.Acknowledged)
	whole, err := p.unspool(ctx, from, m.Epoch)
	return p.landed(ctx, from, m.Seq, s.held, whole, err)
}

// heels is how soon one piece follows another on a line that is as fast as the database. A branch then writes as they come.
const heels = 250 * time.Millisecond

// early begins to apply a large transaction of which more is on its way, if pieces come quickly: the last is then followed by
// little more than the commit. When it fails, or the line stalls, all of it is undone, and done again when the last piece has
// come. At the head other branches' streams would wait for its locks, and the line with them.
func (p *Peers) early(ctx context.Context, from *member, m *schema.Message) {
	s, now := from.spool, time.Now()
	quick := now.Sub(s.came) < heels
	s.came = now
	if p.cfg.Role == schema.Head || s.late || !quick {
		return
	}
	p.acknowledge(m.Acknowledged)
	if _, err := p.unspool(ctx, from, m.Epoch); err != nil {
		s.restart() // if it was the data's fault, the whole will say so
	}
	s.came = time.Now() // what the database took is not the line's fault
}

// stalled undoes what was begun early of a transaction whose next piece does not come. It reports whether anything is begun.
func (p *Peers) stalled(ctx context.Context, now time.Time) (begun bool) {
	for _, m := range p.spooling() {
		if m.spool.applied == 0 {
			continue
		}
		if now.Sub(m.spool.came) < heels {
			begun = true
			continue
		}
		p.applier.Discard(ctx)
		m.spool.restart()
	}
	return begun
}

// hold keeps a piece unsettled until its transaction is applied: after a crash the broker has it still. Beyond half of what
// the broker lets us keep, over all senders, the oldest of this one are settled earlier, or the broker would stop sending;
// a crash is then a gap.
func (p *Peers) hold(s *spool, d Delivery) {
	s.held = append(s.held, d)
	total := 0
	for _, m := range p.spooling() {
		total += len(m.spool.held)
	}
	for ; total > p.cfg.Unsettled/2 && len(s.held) > 0; total-- {
		s.held[0].Settle()
		s.held = s.held[1:]
	}
}

// spooling are the members of whom part of a large transaction has come. Only Receive looks into a spool.
func (p *Peers) spooling() (all []*member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.members {
		if m.spool != nil {
			all = append(all, m)
		}
	}
	return all
}

// unspool applies a large transaction piece by piece, in one transaction of the database. It returns the transaction's
// head: the last piece without its changes.
func (p *Peers) unspool(ctx context.Context, from *member, epoch uint64) ([]schema.Transaction, error) {
	var whole []schema.Transaction
	err := from.spool.each(func(codec schema.Codec, packed []byte) error {
		batch, _, err := schema.UnpackBatch(packed, codec, epoch)
		if err != nil {
			return err
		}
		if n := len(batch.Transactions); n > 0 {
			whole = []schema.Transaction{batch.Transactions[n-1]}
			whole[0].Changes = nil
		}
		return p.applier.Apply(ctx, from.office, batch.Transactions)
	})
	if err != nil {
		p.applier.Discard(ctx)
	}
	return whole, err
}

// land hands the group to the applier and empties it.
func (p *Peers) land(ctx context.Context, g *group) error {
	if g.from == nil {
		return nil
	}
	from, txs, deliveries, acked, last := g.from, g.txs, g.deliveries, g.acked, g.last
	*g = group{}
	p.acknowledge(acked)
	err := p.applier.Apply(ctx, from.office, txs)
	return p.landed(ctx, from, last, deliveries, txs, err)
}

// landed notes what the applier said. A rejected change halts this stream alone; any other error ends the session.
func (p *Peers) landed(ctx context.Context, from *member, last uint64, deliveries []Delivery, txs []schema.Transaction, err error) error {
	var rejected *schema.RejectedError
	switch {
	case errors.As(err, &rejected), errors.Is(err, schema.ErrUnknown):
		pos, _, err2 := p.applier.Progress(ctx, from.office) // what stood before it in the group may be in
		if err2 != nil {
			return err2
		}
		p.mu.Lock()
		from.progress = pos
		p.mu.Unlock()
		at := schema.Position{Epoch: pos.Epoch, Seq: pos.Seq + 1}
		if rejected != nil && !rejected.At.IsZero() {
			at = rejected.At
		}
		p.halt(from, at, err)
	case err != nil:
		return fmt.Errorf("apply the stream of %s: %w", from.office, err)
	default:
		p.applied(from, last, txs)
	}
	for _, d := range deliveries {
		d.Settle()
	}
	if err == nil && p.cfg.Role == schema.Head {
		return p.release()
	}
	return nil
}

// applied moves the sender's progress, and at the head what the sender reported with it.
func (p *Peers) applied(from *member, last uint64, txs []schema.Transaction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	from.progress.Seq = last
	if from.halted != nil {
		p.cfg.Log.Info("a halted stream goes on", "office", from.office, "position", from.progress)
	}
	from.halted, from.retry, from.held = nil, 0, ""
	p.counts.Received += uint64(len(txs))
	if p.cfg.Role == schema.Head {
		for i := range txs {
			p.reported(from, txs[i].Seen)
		}
		if m := from.marker; m != nil && m.After <= last {
			p.reported(from, m.Seen)
			from.marker = nil
		}
	}
	if n := len(txs); n > 0 {
		from.lag = txs[n-1].Commit
	}
	from.ask.coming(time.Now())
	if last >= from.tail {
		from.ask = ask{}
	}
}

// advanced notes that a resend is under way, so that it is not asked for again meanwhile.
func (p *Peers) advanced(from *member) {
	p.mu.Lock()
	from.ask.coming(time.Now())
	p.mu.Unlock()
}

// halt stops a stream at a change that cannot be applied. Its messages are passed by until the next try: the sender's
// journal keeps them, and a resend brings them back.
func (p *Peers) halt(from *member, at schema.Position, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if from.halted == nil {
		from.halted = &Halt{At: at, Since: time.Now()}
		p.counts.Halts++
	}
	if from.halted.Cause == nil || from.halted.Cause.Error() != cause.Error() {
		p.cfg.Log.Error("a stream is halted", "office", from.office, "position", at, "cause", cause)
	}
	from.halted.At, from.halted.Cause = at, cause
	from.halted.Tries++
	from.retry = min(max(retryHalted, 2*from.retry), retryHaltedMost)
	from.retryAt = time.Now().Add(from.retry)
}

// gap asks the sender for what is missing behind have.
func (p *Peers) gap(from *member, have uint64) {
	p.mu.Lock()
	p.counts.Gaps++
	seq, part := from.needs(have)
	ask := from.ask.may(seq, part, time.Now())
	resend := schema.Resend{To: from.office, Epoch: from.progress.Epoch, From: seq, Part: part, Limit: from.ask.limit}
	if ask {
		p.counts.ResendsAsked++
	}
	p.mu.Unlock()
	if ask {
		p.cfg.Log.Info("a gap in a stream: asking for it again", "office", from.office, "from", seq, "part", part)
		p.tell(p.toward(from.office), schema.Control{Resend: &resend})
	}
}

// toward is the address of an office: the head writes to one branch, a branch's messages all go to the head.
func (p *Peers) toward(office schema.Office) schema.Office {
	if p.cfg.Role == schema.Head {
		return office
	}
	return ""
}

// acknowledge takes from a message of the head how far it had processed our stream, before the message is applied: a row
// is held only for changes that the head had not met at that place.
func (p *Peers) acknowledge(acks []schema.Acknowledgement) {
	if p.cfg.Role != schema.Branch {
		return
	}
	for _, a := range acks {
		if a.Office != p.cfg.Office || a.Pos.Epoch != p.outbox.Epoch() {
			continue
		}
		p.mu.Lock()
		moved := false
		for _, m := range p.members {
			if m.reported.Less(a.Pos) {
				m.reported, moved = a.Pos, true
			}
		}
		p.mu.Unlock()
		if !moved {
			continue
		}
		if p.cfg.Acknowledged != nil {
			p.cfg.Acknowledged(a.Pos.Seq)
		}
		if err := p.outbox.Release(a.Pos.Seq); err != nil {
			p.cfg.Log.Warn("the journal could not be released", "seq", a.Pos.Seq, "cause", err)
		}
		p.nudge()
	}
}
