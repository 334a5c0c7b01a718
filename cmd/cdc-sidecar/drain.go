package main

import (
	"context"
	"fmt"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/peer"
	"cdc-sidecar/schema"
)

// drainLook is how often a drain looks how far it is: what it waits for is in several rooms.
const drainLook = 50 * time.Millisecond

// drained is what a drain waits for, fixed when it begins.
type drained struct {
	began    time.Time
	own      uint64 // our stream is to be with the others to here
	sent     uint64 // and was, before
	received map[schema.Office]uint64
	changes  admin.Apply
}

// drain sends what waits here and takes what waits for us; see the type. The head waits for every member that has not been given
// up.
func (s *sidecar) drain(ctx context.Context, note func(string)) (admin.Moved, error) {
	d, err := s.startDrain(ctx)
	if err != nil {
		return admin.Moved{}, err
	}
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	said := ""
	for {
		done, why := s.drainedTo(d)
		if done {
			return s.moved(d), nil
		}
		if why != said {
			note(why)
			said = why
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s.moved(d), ctx.Err()
		}
	}
}

func (s *sidecar) startDrain(ctx context.Context) (*drained, error) {
	if err := (tables{s}).Overtake(ctx); err != nil {
		return nil, fmt.Errorf("read this office's log to its end: %w", err)
	}
	_, last := s.journal.Bounds()
	d := &drained{began: time.Now(), own: last, sent: last, received: map[schema.Office]uint64{}, changes: applied(s.applier.Stats())}
	members, _ := s.peers.Status()
	for i := range members {
		m := &members[i]
		d.received[m.Office] = m.Progress.Seq
		if m.Acknowledged.Epoch == s.journal.Epoch() {
			d.sent = min(d.sent, m.Acknowledged.Seq)
		} else {
			d.sent = 0
		}
	}
	s.peers.Greet()
	return d, nil
}

// drainedTo reports whether everything has moved; if not, why it takes so long.
func (s *sidecar) drainedTo(d *drained) (bool, string) {
	for _, c := range s.keeper.snapshot() {
		if c.State != admin.CorridorRunning && c.Error != "" {
			return false, fmt.Sprintf("%s: %s", c.Name, c.Error)
		}
	}
	if s.equal.client != nil {
		if p := s.equal.client.Progress(); p != nil {
			return false, "this office is joining: " + p.Why
		}
	}
	members, _ := s.peers.Status()
	if len(members) == 0 {
		if s.cfg.Role == schema.Head {
			return true, ""
		}
		return false, "the head has not answered yet"
	}
	for i := range members {
		if why := s.waitsFor(d, &members[i]); why != "" {
			return false, why
		}
	}
	return true, ""
}

// waitsFor is what a member is waited for; empty: nothing.
func (s *sidecar) waitsFor(d *drained, m *peer.Status) string {
	if m.State == "expired" {
		return ""
	}
	reached := m.Acknowledged.Seq
	if m.Acknowledged.Epoch != s.journal.Epoch() {
		reached = 0
	}
	switch {
	case !m.Told.After(d.began):
		return fmt.Sprintf("office %s has not been heard of yet", m.Office)
	case m.Halted != nil:
		return fmt.Sprintf("the stream of office %s is halted: %v", m.Office, m.Halted.Cause)
	case m.Progress.Seq < m.Tail:
		return fmt.Sprintf("taking the stream of office %s: %d of %d transactions are left", m.Office, m.Tail-m.Progress.Seq, m.Tail-min(m.Tail, d.received[m.Office]))
	case reached < d.own:
		return fmt.Sprintf("sending to office %s: %d transactions are left", m.Office, d.own-reached)
	}
	return ""
}

// moved is what has moved since the begin.
func (s *sidecar) moved(d *drained) admin.Moved {
	var m admin.Moved
	members, _ := s.peers.Status()
	sent := d.own
	for i := range members {
		p := &members[i]
		if p.Acknowledged.Epoch != s.journal.Epoch() {
			sent = d.sent
		} else {
			sent = min(sent, p.Acknowledged.Seq)
		}
		m.Received.Transactions += p.Progress.Seq - min(p.Progress.Seq, d.received[p.Office])
	}
	m.Sent.Transactions = sent - min(sent, d.sent)
	now := applied(s.applier.Stats())
	count := func(a admin.Changes) uint64 { return a.Insert + a.Update + a.Delete + a.Truncate }
	m.Received.Changes = count(now.Changes) - count(d.changes.Changes)
	return m
}

// silence is why an office's part of a job does not begin.
func (s *sidecar) silence(office schema.Office) string {
	for _, c := range s.keeper.snapshot() {
		if c.State != admin.CorridorRunning && c.Error != "" {
			return fmt.Sprintf("%s: %s", c.Name, c.Error)
		}
	}
	if s.cfg.Role == schema.Head && s.peers != nil && time.Since(s.peers.Heard(office)) > 3*remindEvery {
		return fmt.Sprintf("office %s is not heard of", office)
	}
	return ""
}
