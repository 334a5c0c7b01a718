package peer

import (
	"context"
	"fmt"
	"time"

	"cdc-sidecar/schema"
)

// saveEvery is how often the members' reports are written down: they may be older than the truth, never newer.
const saveEvery = 5 * time.Second

// release lets go, at the head, of what every member has reported; before the first hello of anybody nothing.
func (p *Peers) release() error {
	epoch := p.outbox.Epoch()
	_, floor := p.outbox.Bounds()
	p.mu.Lock()
	waited := false
	for _, m := range p.members {
		if !m.known || m.expired || m.join {
			continue
		}
		waited = true
		if m.reported.Epoch != epoch {
			floor = 0
		} else if !schema.Planted(schema.ReleasedBeforeReported) {
			floor = min(floor, m.reported.Seq)
		}
	}
	p.mu.Unlock()
	if !waited || floor == 0 {
		return nil
	}
	if err := p.outbox.Release(floor); err != nil {
		return fmt.Errorf("release the journal to %d: %w", floor, err)
	}
	return nil
}

// look is what a tick does: reports are written down, a journal near its budget lets go of the branch that holds it up,
// halted streams that are due are asked for again.
func (p *Peers) look(ctx context.Context, now time.Time) error {
	if p.cfg.Role == schema.Head {
		if err := p.save(ctx, now); err != nil {
			return err
		}
		if err := p.relieve(ctx); err != nil {
			return err
		}
	}
	if !p.stalled(ctx, now) { // its locks would be in the way
		if err := p.tend(ctx); err != nil {
			return err
		}
	}
	p.mu.Lock()
	var due []*member
	for _, m := range p.members {
		if m.halted != nil && !m.join && !now.Before(m.retryAt) {
			m.ask = ask{limit: 1} // one message tells whether it is mended
			due = append(due, m)
		}
	}
	p.mu.Unlock()
	for _, m := range due {
		p.gap(m, m.progress.Seq)
	}
	return nil
}

// tend lets the applier do what is due. A branch without a head yet has nothing that could be.
func (p *Peers) tend(ctx context.Context) error {
	var head schema.Office
	p.mu.Lock()
	for _, m := range p.members {
		if p.cfg.Role == schema.Branch && m.progress.Epoch != 0 {
			head = m.office
		}
	}
	p.mu.Unlock()
	if p.cfg.Role == schema.Branch && head == "" {
		return nil
	}
	return p.applier.Tend(ctx, head)
}

// save writes down what members have reported since the last time.
func (p *Peers) save(ctx context.Context, now time.Time) error {
	if now.Sub(p.saved) < saveEvery {
		return nil
	}
	p.mu.Lock()
	var changed []Member
	for _, m := range p.members {
		if m.known && m.saved != m.reported {
			m.saved = m.reported
			changed = append(changed, p.recordLocked(m))
		}
	}
	p.mu.Unlock()
	if len(changed) == 0 {
		return nil
	}
	p.saved = now
	return p.register.Save(ctx, changed...)
}

// relieve marks the member that is furthest behind as expired when the journal nears its budget: it must join again, and
// nobody else waits for it. The head's applications never wait for an absent branch.
func (p *Peers) relieve(ctx context.Context) error {
	if !p.outbox.Pressed() {
		return nil
	}
	p.mu.Lock()
	var last *member
	for _, m := range p.members {
		if m.known && !m.expired && (last == nil || m.reported.Less(last.reported)) {
			last = m
		}
	}
	if last == nil {
		p.mu.Unlock()
		return p.shorten()
	}
	last.expired = true
	record := p.recordLocked(last)
	p.mu.Unlock()
	p.cfg.Log.Error("a member stayed away longer than the journal's budget reaches: it must join again",
		"office", last.office, "reported", last.reported)
	if err := p.register.Save(ctx, record); err != nil {
		return err
	}
	return p.release()
}

// Relieve makes room in a journal that is full, at the head, and reports whether there is more than before. A tick may come too
// late for that: what fills the journal is faster.
func (p *Peers) Relieve(ctx context.Context) (bool, error) {
	if p.cfg.Role != schema.Head {
		return false, nil
	}
	first, _ := p.outbox.Bounds()
	for p.waitedFor() > 0 { // several may be as far behind
		if err := p.relieve(ctx); err != nil {
			return false, err
		}
		if now, _ := p.outbox.Bounds(); now != first || !p.outbox.Pressed() {
			return now != first, nil
		}
	}
	err := p.relieve(ctx)
	now, _ := p.outbox.Bounds()
	return now != first, err
}

// waitedFor counts the members for whose sake the head keeps its journal.
func (p *Peers) waitedFor() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.members {
		if m.known && !m.expired {
			n++
		}
	}
	return n
}

// shorten lets the older half of the journal go when it nears its budget and no member is left to wait for: whoever comes
// later must join.
func (p *Peers) shorten() error {
	first, last := p.outbox.Bounds()
	to := first + (last-first)/2
	p.cfg.Log.Warn("the journal nears its budget and no member needs it: the older half is let go", "from", first, "to", to)
	if err := p.outbox.Release(to); err != nil {
		return fmt.Errorf("release the journal to %d: %w", to, err)
	}
	return nil
}

func (p *Peers) record(m *member) Member {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.recordLocked(m)
}

func (p *Peers) recordLocked(m *member) Member {
	return Member{Office: m.office, Engine: m.engine, Epoch: m.epoch, Reported: m.reported, Expired: m.expired, Heard: m.heard}
}
