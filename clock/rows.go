package clock

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math/bits"
	"slices"

	"cdc-sidecar/schema"
)

const (
	// leastSlots is where a table of rows begins: 3.6 KB.
	leastSlots = 64
	slotBytes  = 56
)

// slot is a place for a row; last is 0 while it is free.
type slot struct {
	row schema.RowID
	entry
}

// rows is a hash table. Its keys are hashes already and nothing is ever taken out of it, so it is small and takes less time
// and memory than Go's map: 75 bytes for each of DefaultRows.
type rows struct {
	slots []slot // a power of two of them
	used  int
}

// newRows has room for n rows.
func newRows(n int) rows {
	return rows{slots: make([]slot, 1<<bits.Len(uint(max(n*4/3, leastSlots-1))))}
}

// room is how many rows it takes: three of four slots, beyond which a search takes long.
func (r *rows) room() int { return len(r.slots) / 4 * 3 }

// find is the row's slot, or the free one where it belongs.
func (r *rows) find(row schema.RowID) *slot {
	last := uint64(len(r.slots) - 1)
	for i := binary.LittleEndian.Uint64(row[:8]); ; i++ {
		if s := &r.slots[i&last]; s.last == 0 || s.row == row {
			return s
		}
	}
}

// claim is the row's slot, or a free one that becomes its own: the caller must touch it.
func (r *rows) claim(row schema.RowID) *slot {
	s := r.find(row)
	if s.last == 0 {
		r.used++
		s.row = row
	}
	return s
}

// after are the rows whose last touch is behind seq.
func (r *rows) after(seq uint64) iter.Seq[*slot] {
	return func(yield func(*slot) bool) {
		for i := range r.slots {
			if s := &r.slots[i]; s.last > seq && !yield(s) {
				return
			}
		}
	}
}

// sortedAfter are those in the order of a run.
func (r *rows) sortedAfter(seq uint64) []*slot {
	return slices.SortedFunc(r.after(seq), func(a, b *slot) int { return bytes.Compare(a.row[:], b.row[:]) })
}

func (r *rows) clear() {
	clear(r.slots)
	r.used = 0
}
