package schema

import (
	"fmt"
	"time"
)

// Position is a place in an office's history. Seq is dense (1, 2, 3 …): the office's journal numbers each transaction
// once, when it is durable there. Epoch rises when the history is no longer the one it was (restored database, lost slot,
// lost journal); it is the time of the journal's birth in Unix milliseconds, so a later life is always greater.
type Position struct {
	Epoch uint64
	Seq   uint64
}

// IsZero reports whether p names no place at all.
func (p Position) IsZero() bool { return p == Position{} }

// Less orders positions of one office: by epoch, then by seq.
func (p Position) Less(q Position) bool {
	if p.Epoch != q.Epoch {
		return p.Epoch < q.Epoch
	}
	return p.Seq < q.Seq
}

func (p Position) String() string { return fmt.Sprintf("%d/%d", p.Epoch, p.Seq) }

// Stamp is a hybrid logical clock: milliseconds since the Unix epoch, and a counter for what happens within one.
// It is never behind anything that the office had seen when it gave the stamp.
type Stamp struct {
	Millis  int64
	Counter uint32
}

// MaxCounter is the greatest counter that is given: a clock that stands still for a million transactions moves by itself.
// So a stamp fits into eight bytes (Packed) until the year 2527.
const MaxCounter = 1<<20 - 1

// Packed is s in eight bytes, in the same order. A counter or time beyond the bounds counts as the bound.
func (s Stamp) Packed() uint64 {
	return uint64(min(max(s.Millis, 0), 1<<44-1))<<20 | uint64(min(s.Counter, MaxCounter))
}

// UnpackStamp is Packed's way back.
func UnpackStamp(p uint64) Stamp {
	return Stamp{Millis: int64(p >> 20), Counter: uint32(p & MaxCounter)}
}

// Less orders stamps of any offices; equal stamps of two offices are decided by the office's name.
func (s Stamp) Less(t Stamp) bool {
	if s.Millis != t.Millis {
		return s.Millis < t.Millis
	}
	return s.Counter < t.Counter
}

// Next is the first stamp that is behind neither s nor the given time.
func (s Stamp) Next(at time.Time) Stamp {
	if ms := at.UnixMilli(); ms > s.Millis {
		return Stamp{Millis: ms}
	}
	if s.Counter >= MaxCounter {
		return Stamp{Millis: s.Millis + 1}
	}
	return Stamp{Millis: s.Millis, Counter: s.Counter + 1}
}

// Max is the later of the two.
func (s Stamp) Max(t Stamp) Stamp {
	if s.Less(t) {
		return t
	}
	return s
}
