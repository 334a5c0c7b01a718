package peer

import (
	"context"
	"fmt"
	"time"

	"cdc-sidecar/schema"
)

// control takes what an office says beside its stream.
func (p *Peers) control(ctx context.Context, m *schema.Message) error {
	c, err := schema.DecodeControl(m.Body)
	if err != nil {
		p.cfg.Log.Warn("a control message that cannot be read is passed by", "office", m.Sender, "cause", err)
		return nil
	}
	p.count(func(n *Counts) { n.ControlReceived++ })
	switch {
	case c.Hello != nil && p.cfg.Role == schema.Head:
		return p.hear(ctx, m, c.Hello)
	case c.Welcome != nil && p.cfg.Role == schema.Branch && c.Welcome.To == p.cfg.Office:
		return p.welcomed(ctx, m, c.Welcome)
	}
	from := p.sender(m)
	if from == nil {
		return nil
	}
	switch {
	case c.Tail != nil:
		p.tailed(from, m, c.Tail)
	case c.Resend != nil:
		p.asks(from, c.Resend)
	case c.Fetch != nil && p.cfg.Server != nil:
		p.cfg.Server.Asked(from.office, c.Fetch)
	case c.Report != nil && p.cfg.Server != nil:
		p.cfg.Server.Reported(from.office, c.Report)
	case c.Compare != nil && c.Compare.To == p.cfg.Office:
		p.cfg.Joiner.Asked(c.Compare)
	case c.Marker != nil && p.cfg.Role == schema.Head:
		return p.reports(from, m, c.Marker)
	case c.Definitions != nil:
		p.definitions(from, c.Definitions)
	case c.Leave != nil && p.cfg.Role == schema.Head:
		return p.left(ctx, from, m)
	}
	return nil
}

// left forgets a branch that was torn down. Its queue it has deleted itself.
func (p *Peers) left(ctx context.Context, from *member, m *schema.Message) error {
	p.mu.Lock()
	returned := from.epoch > m.Epoch
	p.mu.Unlock()
	if returned {
		return nil
	}
	if err := p.Remove(ctx, from.office); err != nil {
		return err
	}
	p.cfg.Log.Info("an office has left", "office", from.office)
	return nil
}

// hear takes a branch's hello at the head: it makes the branch a member, and is answered with what the head knows of it.
func (p *Peers) hear(ctx context.Context, msg *schema.Message, h *schema.Hello) error {
	now := time.Now()
	p.mu.Lock()
	from := p.member(msg.Sender)
	fresh := !from.known || from.epoch != msg.Epoch || from.engine != h.Engine
	if from.epoch != msg.Epoch {
		from.join, from.held = false, ""
	}
	from.known, from.epoch, from.engine, from.heard = true, msg.Epoch, h.Engine, now
	p.mu.Unlock()
	if fresh {
		if err := p.register.Save(ctx, p.record(from)); err != nil {
			return err
		}
		p.cfg.Log.Info("an office is a member", "office", from.office, "epoch", msg.Epoch, "engine", h.Engine, "program", h.Program)
	}
	if err := p.anew(ctx, from, msg, h); err != nil {
		return err
	}
	first, _ := p.outbox.Bounds()
	acked, last := p.outbox.Acknowledged(from.office)
	lags, err := p.lags(ctx, from, h, first)
	if err != nil {
		return err
	}
	p.tell(from.office, schema.Control{Welcome: &schema.Welcome{
		To: from.office, Progress: from.progress, First: first, Last: last, Expired: lags, Program: p.cfg.Program, Acknowledged: acked, Restored: p.cfg.Restored != nil && p.cfg.Restored(),
	}})
	return nil
}

// mustJoin marks an office whose stream cannot be followed from here.
func (p *Peers) mustJoin(from *member, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !from.join {
		p.cfg.Log.Error("an office's stream cannot be taken", "office", from.office, "cause", why,
			"remedy", "stop the other one; if there is none, run `cdc-sidecar teardown` at the office and start it anew")
	}
	from.join, from.held = true, why
}

// welcomed takes the head's answer at a branch.
func (p *Peers) welcomed(ctx context.Context, msg *schema.Message, w *schema.Welcome) error {
	p.mu.Lock()
	from := p.members[msg.Sender]
	if from == nil && len(p.members) > 0 {
		p.mu.Unlock()
		p.cfg.Log.Error("a second head answers: it is not listened to", "office", msg.Sender)
		return nil
	}
	from = p.member(msg.Sender)
	from.known, from.epoch, from.heard = true, msg.Epoch, time.Now()
	p.mu.Unlock()
	if err := p.follow(ctx, from, p.standing(from, msg, w)); err != nil {
		return err
	}
	if from.progress == (schema.Position{Epoch: msg.Epoch, Seq: w.Last}) { // the messages that said so it may never have had
		p.acknowledge([]schema.Acknowledgement{{Office: p.cfg.Office, Pos: w.Acknowledged}})
	}
	if _, last := p.outbox.Bounds(); w.Progress.Epoch == p.outbox.Epoch() && w.Progress.Seq > last {
		p.mustJoin(from, fmt.Sprintf("the head has applied this office's stream to %d, its journal ends at %d: it was set back", w.Progress.Seq, last))
	}
	return nil
}

// tailed compares what an office says it has sent with what we have: everything before the tail has arrived, or is lost.
func (p *Peers) tailed(from *member, msg *schema.Message, t *schema.Tail) {
	if from.progress.Epoch != msg.Epoch || from.progress.Epoch == 0 || from.join {
		return
	}
	p.mu.Lock()
	from.tail, from.told = t.Last, time.Now()
	if t.Answers != 0 {
		from.ask.open = false
	}
	have := from.progress.Seq
	if have >= t.Last {
		from.ask = ask{}
	}
	waits := from.halted != nil && time.Now().Before(from.retryAt)
	p.mu.Unlock()
	switch {
	case have+1 < t.First: // a hello, or the answer to one, tells what becomes of it
		p.Greet()
	case have < t.Last && !waits:
		p.gap(from, have)
	}
}

// asks notes that an office wants our stream again.
func (p *Peers) asks(from *member, r *schema.Resend) {
	if r.To != p.cfg.Office || r.Epoch != p.outbox.Epoch() || r.From == 0 {
		return
	}
	p.mu.Lock()
	p.asked[p.toward(from.office)] = *r
	p.mu.Unlock()
	p.nudge()
}

// reports takes a marker of an idle branch: it counts once we have processed what stood before it.
func (p *Peers) reports(from *member, msg *schema.Message, k *schema.Marker) error {
	p.mu.Lock()
	if from.progress.Epoch != msg.Epoch {
		p.mu.Unlock()
		return nil
	}
	if k.After > from.progress.Seq {
		from.marker = k
		p.mu.Unlock()
		return nil
	}
	p.reported(from, k.Seen)
	p.mu.Unlock()
	return p.release()
}

// reported raises what a branch has reported of our stream. The caller holds mu.
func (p *Peers) reported(from *member, seen schema.Position) {
	if seen.Epoch == p.outbox.Epoch() && from.reported.Less(seen) {
		from.reported = seen
	}
}
