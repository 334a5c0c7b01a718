package peer

import (
	"sort"
	"time"

	"cdc-sidecar/schema"
)

// Status is what one peer looks like from here.
type Status struct {
	Office         schema.Office
	Engine         schema.Engine
	Epoch          uint64
	State          string          // active, silent, gap, held, halted, expired, needs_join
	Cause          string          // of held and needs_join
	Progress       schema.Position // of its stream, applied here
	Acknowledged   schema.Position // of our stream, applied there
	Unacknowledged uint64          // transactions of ours that it has not confirmed
	Tail           uint64          // of its stream: the last that it said it had sent
	Told           time.Time
	Heard          time.Time
	Lag            time.Time // commit time of the last transaction applied from it
	Halted         *Halt
}

// Status lists the peers by name.
func (p *Peers) Status() ([]Status, Counts) {
	_, last := p.outbox.Bounds()
	epoch := p.outbox.Epoch()
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Status, 0, len(p.members))
	for _, m := range p.members {
		s := Status{
			Office: m.office, Engine: m.engine, Epoch: m.epoch, State: m.state(now), Cause: m.held,
			Tail: m.tail, Told: m.told, Progress: m.progress, Acknowledged: m.reported, Heard: m.heard, Lag: m.lag, Unacknowledged: last,
		}
		if m.reported.Epoch == epoch {
			s.Unacknowledged = last - min(last, m.reported.Seq)
		}
		if m.halted != nil {
			h := *m.halted
			s.Halted = &h
		}
		out = append(out, s)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Office < out[j].Office })
	return out, p.counts
}
