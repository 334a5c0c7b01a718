package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/apply"
	"cdc-sidecar/broker"
	"cdc-sidecar/capture"
	"cdc-sidecar/peer"
	"cdc-sidecar/schema"
)

// watch is what the running sidecar knows of itself beside what its rooms count.
type watch struct {
	started time.Time
	capture capture.Stats

	mu        sync.Mutex
	ready     bool
	publisher *broker.Publisher
	findings  []schema.Finding
	open      map[schema.Office]uint64 // conflicts that wait for a person
	last      admin.State
	since     time.Time
}

func (w *watch) readied(ready bool) {
	w.mu.Lock()
	w.ready = ready
	w.mu.Unlock()
}

func (w *watch) found(f []schema.Finding) {
	w.mu.Lock()
	w.findings = f
	w.mu.Unlock()
}

func (w *watch) publishes(p *broker.Publisher) {
	w.mu.Lock()
	w.publisher = p
	w.mu.Unlock()
}

// Live is nil: that it answers is the proof.
func (s *sidecar) Live() error { return nil }

// RemoveOffice forgets a branch for good: its record and place in the journal here, its queue at the broker.
func (s *sidecar) RemoveOffice(ctx context.Context, name schema.Office) error {
	if s.cfg.Role != schema.Head {
		return admin.ErrNotHead
	}
	peers := s.meet()
	if peers == nil {
		return errors.New("the sidecar is still starting")
	}
	known, _ := peers.Status()
	found := false
	for _, k := range known {
		found = found || k.Office == name
	}
	if !found {
		return admin.ErrUnknownOffice
	}
	if err := peers.Remove(ctx, name); err != nil {
		return err
	}
	s.log.Info("an office was removed", "office", name)
	return broker.RemoveOffice(ctx, brokerConfig(s.cfg), name)
}

func (s *sidecar) meet() *peer.Peers {
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	return s.peers
}

// Status is a snapshot of everything, from memory.
func (s *sidecar) Status() admin.Status {
	out := admin.Status{
		Office: s.cfg.Office, Role: s.cfg.Role, Engine: s.db.engine, Version: version, Started: s.state.started,
		Corridors: s.keeper.snapshot(), Notices: s.cfg.Notices,
	}
	out.Sync, out.Verify, out.Joining = s.gate.describe(), s.jobs.verified(), s.describeJoin()
	out.Drift = s.drift.found()
	counted := s.state.capture.Counts()
	out.Capture = admin.Capture{
		Transactions: counted.Transactions,
		Changes:      admin.Changes{Insert: counted.Inserts, Update: counted.Updates, Delete: counted.Deletes, Truncate: counted.Truncates},
		LagSeconds:   counted.Lag.Seconds(), LastCommit: counted.LastCommit,
	}
	if peers := s.meet(); peers != nil {
		s.describe(&out, peers)
	}
	s.judge(&out)
	return out
}

// describe fills in what journal, peers, broker and applier know.
func (s *sidecar) describe(out *admin.Status, peers *peer.Peers) {
	j := s.journal.State()
	out.Journal = admin.Journal{
		Epoch: j.Epoch, First: j.First, Last: j.Last, Published: s.journal.Published(), Released: j.First - min(j.First, 1),
		Bytes: j.Bytes, Budget: j.Budget, Source: j.Source,
	}
	members, counts := peers.Status()
	for i := range members {
		out.Peers = append(out.Peers, s.peerOf(&members[i]))
	}
	out.Broker = admin.Broker{
		Published: counts.Published, Bytes: counts.PublishedBytes, Returned: counts.Unroutable, Received: counts.Received,
		Quarantined: counts.Quarantined,
	}
	s.state.mu.Lock()
	if p := s.state.publisher; p != nil {
		out.Broker.Connected = true
		if why, blocked := p.Blocked(); blocked {
			out.Broker.Blocked = why
		}
	}
	s.state.mu.Unlock()
	out.Apply = applied(s.applier.Stats())
	out.Apply.Duplicates += counts.Duplicates
	out.Apply.Gaps = counts.Gaps
	s.describeConflicts(out)
}

func applied(stats map[schema.Office]apply.Stats) admin.Apply {
	var a admin.Apply
	for _, st := range stats {
		a.Transactions += st.Transactions
		a.Changes.Insert += st.Inserts
		a.Changes.Update += st.Updates
		a.Changes.Delete += st.Deletes
		a.Changes.Truncate += st.Truncates
		a.OwnReturned += st.Own
		a.Repaired += st.Repaired + st.Missing
		a.Replaced += st.Replaced
		a.Duplicates += st.Duplicates
		if at := time.UnixMicro(st.Commit); st.Commit > 0 && at.After(a.LastApplied) {
			a.LastApplied = at
		}
	}
	return a
}

func (s *sidecar) peerOf(m *peer.Status) admin.Peer {
	p := admin.Peer{
		Office: m.Office, Role: schema.Head, Engine: m.Engine, State: admin.PeerState(m.State), Cause: m.Cause,
		Progress: admin.Position(m.Progress), Acknowledged: admin.Position(m.Acknowledged), Unacknowledged: m.Unacknowledged,
		LastHeard: m.Heard, LastApplied: m.Lag,
	}
	if s.cfg.Role == schema.Head {
		p.Role, p.Drift = schema.Branch, s.tellers.of(m.Office)
	}
	if m.Halted != nil {
		var rejected *schema.RejectedError
		if errors.As(m.Halted.Cause, &rejected) {
			p.Halted = admin.HaltOf(rejected)
		} else {
			p.Halted = &admin.Halt{Cause: m.Halted.Cause.Error()}
		}
		p.Halted.Position = admin.Position(m.Halted.At)
	}
	return p
}

// judge says in one word how it goes.
func (s *sidecar) judge(out *admin.Status) {
	w := &s.state
	w.mu.Lock()
	defer w.mu.Unlock()
	out.Ready, out.Findings = w.ready, w.findings
	state := admin.Running
	for _, c := range out.Corridors {
		switch {
		case c.Name == admin.CaptureCorridor && c.State == admin.CorridorBlocked:
			state = admin.Blocked
		case c.State != admin.CorridorRunning && c.State != admin.CorridorClosed && state == admin.Running:
			state = admin.Degraded
		}
	}
	if out.Joining != nil && state == admin.Running {
		state = admin.Degraded
	}
	for _, p := range out.Peers {
		if p.State != admin.PeerActive && p.State != admin.PeerSilent && state == admin.Running {
			state = admin.Degraded
		}
	}
	if !w.ready && state != admin.Blocked {
		state = admin.Starting
	}
	if state != w.last {
		w.last, w.since = state, time.Now()
	}
	out.State, out.Since = state, w.since
}

// describeJoin is how far this branch is with becoming equal to the head; nil: it is, or nobody is.
func (s *sidecar) describeJoin() *admin.Joining {
	if s.meet() == nil || s.equal.client == nil {
		return nil
	}
	p := s.equal.client.Progress()
	if p == nil {
		return nil
	}
	j := &admin.Joining{Phase: p.Phase, Why: p.Why, Since: p.Since, Note: s.silence(s.cfg.Office)}
	for i := range p.Tables {
		t := &p.Tables[i]
		row := admin.JoinTable{Table: t.Table, State: admin.JoinWaiting, Rows: t.Rows, Total: t.Total}
		switch {
		case t.Done:
			row.State = admin.JoinDone
		case t.Seconds > 0:
			row.State = admin.JoinRunning
			row.RowsPerSecond = float64(t.Rows) / t.Seconds
			if left := t.Total - min(t.Total, t.Rows); row.RowsPerSecond > 0 {
				row.Remaining = float64(left) / row.RowsPerSecond
			}
		}
		if t.Error != "" {
			j.Note = t.Table + ": " + t.Error
		}
		j.Tables = append(j.Tables, row)
	}
	slices.SortFunc(j.Tables, func(a, b admin.JoinTable) int { return strings.Compare(a.Table, b.Table) })
	return j
}
