package capture

import (
	"sync/atomic"
	"time"

	"cdc-sidecar/schema"
)

// Stats counts what Run handed over and the sink made durable. It outlives the corridor's restarts; all its methods may
// be called at any time from any goroutine. The zero value is ready.
type Stats struct {
	transactions atomic.Uint64
	changes      [schema.Truncate + 1]atomic.Uint64
	lastCommit   atomic.Int64 // microseconds since the Unix epoch
	lag          atomic.Int64 // nanoseconds
}

// Counts is a reading of Stats.
type Counts struct {
	Transactions uint64 // database transactions with something to send, each counted once, with its last part
	Inserts      uint64
	Updates      uint64
	Deletes      uint64
	Truncates    uint64
	LastCommit   time.Time     // commit time of the newest transaction, by its origin's log; zero: none yet
	Lag          time.Duration // from that commit to its being durable here; 0 as soon as the log has nothing newer
}

// Counts reads the counters; they may be moments apart from one another.
func (s *Stats) Counts() Counts {
	c := Counts{
		Transactions: s.transactions.Load(),
		Inserts:      s.changes[schema.Insert].Load(),
		Updates:      s.changes[schema.Update].Load(),
		Deletes:      s.changes[schema.Delete].Load(),
		Truncates:    s.changes[schema.Truncate].Load(),
		Lag:          time.Duration(s.lag.Load()),
	}
	if at := s.lastCommit.Load(); at != 0 {
		c.LastCommit = time.UnixMicro(at).UTC()
	}
	return c
}

// delivered counts transactions that the sink has taken.
func (s *Stats) delivered(txs []schema.Transaction, now time.Time) {
	if s == nil {
		return
	}
	for i := range txs {
		tx := &txs[i]
		if tx.Silent() {
			s.lag.Store(0)
			continue
		}
		for j := range tx.Changes {
			if op := tx.Changes[j].Op; int(op) < len(s.changes) {
				s.changes[op].Add(1)
			}
		}
		if tx.Last {
			s.transactions.Add(1)
		}
		s.lastCommit.Store(tx.Commit.UnixMicro())
		s.lag.Store(int64(max(0, now.Sub(tx.Commit))))
	}
}
