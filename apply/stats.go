package apply

import (
	"maps"

	"cdc-sidecar/schema"
)

// Stats count what was applied of one sender's stream since the program started. Only what is committed counts.
type Stats struct {
	Transactions uint64
	Inserts      uint64
	Updates      uint64
	Deletes      uint64
	Truncates    uint64
	Duplicates   uint64 // transactions passed over because they were applied before
	Own          uint64 // transactions of this office itself, come back as an acknowledgement
	Filtered     uint64 // changes of tables that this office does not receive
	Repaired     uint64 // rows that were there although inserted, or not there although updated
	Missing      uint64 // deletes of rows that were not there
	Commits      uint64 // database transactions
	Errors       uint64 // calls of Apply that failed
	Held         uint64 // changes passed by at a branch: the head will meet the office's own change of the row
	Joining      uint64 // updates passed by of rows that a join has yet to bring
	Parked       uint64 // changes that wait: another row has their unique key
	Busy         uint64 // transactions rolled back and tried again because of others' locks
	Defines      uint64 // schema changes, whatever became of their steps
	Dropped      uint64 // changes that had values of columns, or rows of tables, that were dropped here on purpose
	Clamped      uint64 // transactions whose stamp was too far ahead
	Replaced     uint64 // values that a column here cannot hold, and for which Options.Unmapped gave others
	Barriers     uint64
	// BarrierSeconds is the time that row locks were held for barriers.
	BarrierSeconds float64
	Seconds        float64

	Position schema.Position // the last transaction applied
	Commit   int64           // its commit time at the origin, in microseconds since the Unix epoch
}

func (s *Stats) add(t *Stats) {
	s.Transactions += t.Transactions
	s.Inserts += t.Inserts
	s.Updates += t.Updates
	s.Deletes += t.Deletes
	s.Truncates += t.Truncates
	s.Own += t.Own
	s.Filtered += t.Filtered
	s.Repaired += t.Repaired
	s.Missing += t.Missing
	s.Held += t.Held
	s.Joining += t.Joining
	s.Parked += t.Parked
	s.Defines += t.Defines
	s.Dropped += t.Dropped
	s.Clamped += t.Clamped
	s.Replaced += t.Replaced
	s.Barriers += t.Barriers
	s.BarrierSeconds += t.BarrierSeconds
	s.Commits++
}

func (s *Stats) count(op schema.Op) {
	switch op {
	case schema.Insert:
		s.Inserts++
	case schema.Update:
		s.Updates++
	case schema.Delete:
		s.Deletes++
	case schema.Truncate:
		s.Truncates++
	}
}

// Conflict is what conflicts are counted by.
type Conflict struct {
	Table  schema.TableName
	Policy schema.PolicyKind
	Winner string // local, remote, merged, none
}

// Conflicts are the conflicts decided since the program started.
func (a *Applier) Conflicts() map[Conflict]uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.counts)
}

// Waiting is how many changes are parked; false while that is not known.
func (a *Applier) Waiting() (int, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, d := range a.parked.all() {
		n += len(d.queue)
	}
	return n, a.parked != nil
}

// Stats returns a snapshot for each sender that was ever spoken of. It waits for no running Apply: such a stream's last
// committed figures are returned.
func (a *Applier) Stats() map[schema.Office]Stats {
	out := map[schema.Office]Stats{}
	for _, s := range a.all() {
		out[s.sender] = s.snapshot()
	}
	return out
}
