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

// closedAfter is how long somebody is not heard who has closed his line: the others say something every two seconds.
const closedAfter = 10 * time.Second

// notedWithin is when a branch has surely read in its own log what it has applied, which is noted once a second. After an apply
// that left no trace there it would not come.
const notedWithin = 5 * time.Second

// drained is what a drain has moved, and what it waits for.
type drained struct {
	began    time.Time
	sent     uint64 // of our stream, before
	received map[schema.Office]schema.Position
	changes  admin.Apply
	own      uint64 // our stream is to be with the others to here
	others   *places
	second   bool      // round, or a later one
	since    time.Time // when the round began, or our own line came back
}

// drain sends what waits here and takes what waits for us; see the type. The head waits for every member that has not been given
// up. It goes round twice: what the first round brought up makes decisions that the branch is to have, too, and what came from one
// branch goes on to the others. In the second round somebody who has closed his own line meanwhile is not waited for.
func (s *sidecar) drain(ctx context.Context, tell telling) (admin.Moved, error) {
	received, err := s.applier.Senders(ctx)
	if err != nil {
		return admin.Moved{}, err
	}
	d := &drained{began: time.Now(), sent: s.journal.Published(), received: received, changes: applied(s.applier.Stats())}
	rounds := 2
	if s.cfg.Role == schema.Branch {
		rounds = 3 // in the last one the head hears how far we came: it may wait for that, and we are about to close the line
	}
	for n := range rounds {
		d.second = n > 0
		if err := s.round(ctx, d, tell); err != nil {
			return s.moved(d), err
		}
	}
	return s.moved(d), nil
}

// round moves everything that is there when it begins.
func (s *sidecar) round(ctx context.Context, d *drained, tell telling) error {
	last, err := tables{s}.Last(ctx)
	if err != nil {
		return fmt.Errorf("read this office's log to its end: %w", err)
	}
	d.own, d.others, d.since = last.Seq, s.jobs.askPlaces(), time.Now()
	defer s.jobs.forgetPlaces(d.others)
	s.peers.Greet()
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	for {
		s.jobs.remindPlaces(d.others, time.Now())
		done, why, err := s.drainedTo(d)
		if done || err != nil {
			return err
		}
		tell(why, s.moved(d))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// drainedTo reports whether everything has moved; if not, why it takes so long.
func (s *sidecar) drainedTo(d *drained) (done bool, why string, err error) {
	for _, c := range s.keeper.snapshot() {
		if c.State != admin.CorridorRunning {
			if d.since = time.Now(); c.Error != "" {
				why = fmt.Sprintf("%s: %s", c.Name, c.Error)
			}
			return false, why, nil
		}
	}
	if s.equal.client != nil {
		if p := s.equal.client.Progress(); p != nil {
			return false, "this office is joining: " + p.Why, nil
		}
	}
	members, _ := s.peers.Status()
	if len(members) == 0 && s.cfg.Role == schema.Branch {
		return false, "the head has not answered yet", nil
	}
	for i := range members {
		if why, err := s.waitsFor(d, &members[i]); why != "" || err != nil {
			return false, why, err
		}
	}
	return true, "", nil
}

// waitsFor is what a member is waited for; empty: nothing.
func (s *sidecar) waitsFor(d *drained, m *peer.Status) (string, error) {
	closed := d.second && min(time.Since(m.Heard), time.Since(d.since)) > closedAfter
	if m.State == "expired" || closed && s.journal.Published() >= d.own {
		return "", nil
	}
	end, told, err := s.jobs.place(d.others, m.Office)
	if err != nil {
		return "", fmt.Errorf("office %s: %w", m.Office, err)
	}
	reached := m.Acknowledged.Seq
	if m.Acknowledged.Epoch != s.journal.Epoch() {
		reached = 0
	}
	switch {
	case m.Halted != nil:
		return fmt.Sprintf("the stream of office %s is halted: %v", m.Office, m.Halted.Cause), nil
	case !m.Heard.After(d.began):
		return fmt.Sprintf("office %s has not been heard of yet", m.Office), nil
	case told && m.Progress.Less(end), !told && m.Progress.Seq < m.Tail:
		return fmt.Sprintf("taking what office %s has sent", m.Office), nil
	case reached < d.own:
		return fmt.Sprintf("office %s has yet to take what is sent", m.Office), nil
	case !told:
		return fmt.Sprintf("asking office %s where its stream ends", m.Office), nil
	case s.cfg.Role == schema.Branch && s.journal.State().Seen.Less(end) && time.Since(d.since) < notedWithin:
		return "reading in this office's own log what it has taken", nil // only then the head can hear of it
	case s.equal.client != nil && s.equal.client.Ordering() != "":
		return fmt.Sprintf("comparing table %s, of which a schema change changed rows", s.equal.client.Ordering()), nil
	}
	return "", nil
}

// moved is what has moved since the begin.
func (s *sidecar) moved(d *drained) admin.Moved {
	var m admin.Moved
	members, _ := s.peers.Status()
	for i := range members {
		p := &members[i]
		if before, known := d.received[p.Office]; known && before.Epoch == p.Progress.Epoch {
			m.Received.Transactions += p.Progress.Seq - min(p.Progress.Seq, before.Seq)
		}
	}
	sent := min(s.journal.Published(), d.own)
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
