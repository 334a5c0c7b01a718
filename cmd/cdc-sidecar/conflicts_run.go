package main

import (
	"cmp"
	"context"
	"slices"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/apply"
	"cdc-sidecar/schema"
)

// conflicts is the conflict log for the API; a branch has none.
func (s *sidecar) conflicts() admin.Conflicts {
	if s.cfg.Role != schema.Head {
		return nil
	}
	return s.conflictLog()
}

func (s *sidecar) conflictLog() conflictLog {
	return conflictLog{db: s.db, decider: func() decider {
		if s.meet() == nil {
			return nil
		}
		return resolver{s.applier}
	}}
}

// resolver is the applier as the conflict log's decisions see it.
type resolver struct{ *apply.Applier }

func (r resolver) Decide(ctx context.Context, id int64, take string) error {
	return r.Resolve(ctx, id, take)
}

const (
	// lookEvery is how old the count of what waits for a person may be.
	lookEvery = 15 * time.Second
	// pruneEvery: entries are kept for days.
	pruneEvery = time.Hour
)

// keepLog drops what the conflict log need not keep any longer, and counts what waits for a person.
func (s *sidecar) keepLog(ctx context.Context) error {
	if s.cfg.Role != schema.Head {
		return nil
	}
	log := s.conflictLog()
	timer := time.NewTicker(lookEvery)
	defer timer.Stop()
	var pruned time.Time
	for {
		waiting, err := log.waiting(ctx)
		if err == nil && s.cfg.ConflictKeep > 0 && time.Since(pruned) >= pruneEvery {
			pruned = time.Now()
			_, err = log.prune(ctx, s.cfg.ConflictKeep, pruned)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("the conflict log cannot be looked after", "cause", err)
		} else if err == nil {
			s.state.awaits(waiting)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// awaits notes how many conflicts wait for a person, by office.
func (w *watch) awaits(open map[schema.Office]uint64) {
	w.mu.Lock()
	w.open = open
	w.mu.Unlock()
}

// describeConflicts fills in what is known of conflicts, and of what it takes to see them.
func (s *sidecar) describeConflicts(out *admin.Status) {
	for c, n := range s.applier.Conflicts() {
		out.Conflicts.Total += n
		out.Conflicts.ByTable = append(out.Conflicts.ByTable, admin.ConflictCount{Table: c.Table.String(), Policy: c.Policy.String(), Winner: c.Winner, Count: n})
	}
	slices.SortFunc(out.Conflicts.ByTable, func(a, b admin.ConflictCount) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Winner, b.Winner))
	})
	s.state.mu.Lock()
	for office, n := range s.state.open {
		out.Conflicts.Open += n
		for i := range out.Peers {
			if out.Peers[i].Office == office {
				out.Peers[i].Conflicts.Open = n
			}
		}
	}
	s.state.mu.Unlock()
	if n, known := s.applier.Waiting(); known {
		out.Parked = uint64(n)
	}
	for _, w := range s.applier.WaitingTables() {
		out.Waiting = append(out.Waiting, admin.WaitingTable{Table: w.Table, Changes: uint64(w.Changes), Needs: w.Needs})
	}
	out.DDL = s.schemaChanges()
	index := s.clocks.Stats()
	out.Clocks.Rows, out.Clocks.Bytes, out.Clocks.DiskBytes = uint64(index.Rows), index.Bytes, index.DiskBytes
	for _, st := range s.applier.Stats() {
		out.Clocks.Held += st.Held
		out.Clocks.Barriers += st.Barriers
		out.Clocks.BarrierSeconds += st.BarrierSeconds
	}
}
