package journal

import (
	"errors"
	"fmt"
)

// ErrFull says that the journal may not grow: its budget is used up, or the disk nearly is. Nothing was written; the same
// Append may be tried again. Meanwhile the database keeps its log.
var ErrFull = errors.New("journal full")

const (
	// keepBytes is how much of what every office has applied stays anyway, where the budget allows: a branch that comes a
	// little later than the others then needs no join.
	keepBytes = segmentBytes
	// keepShare bounds that in a small budget.
	keepShare = 8
	// LeastFree stays free on the volume: running into a full disk would end in the middle of a write, and the database
	// may be on the same volume.
	LeastFree = 256 << 20
)

// Release lets everything to seq go. It is lazy: the newest keepBytes stay, and the last record always does.
func (j *Journal) Release(seq uint64) error {
	j.reach.Lock()
	defer j.reach.Unlock()
	j.mu.Lock()
	seq = min(seq, j.closed.seq)
	keep := min(keepBytes, uint64(j.options.Budget)/keepShare)
	held := j.closed.total - j.before
	pressed := held > uint64(j.options.Budget)/10*9
	small := seq+1 < j.firstSeq || held <= keep+keep/2 && !pressed
	limit := j.closed.total - keep
	j.mu.Unlock()
	if small {
		return nil
	}
	to, err := j.seek(seq + 1)
	if err != nil {
		return err
	}
	first, last, _ := j.extent()
	end := min(uint64(to), last) // the first record to stay
	if !pressed {
		if end, err = j.keepFrom(first, end, limit); err != nil {
			return err
		}
	}
	if end <= first {
		return nil
	}
	if err := j.log.DeleteRange(first, end-1); err != nil {
		return fmt.Errorf("release the journal to %d: %w", seq, err)
	}
	return j.begins(end)
}

// keepFrom lowers end to the first record of a transaction behind which no more than the kept bytes stand.
func (j *Journal) keepFrom(first, end, limit uint64) (uint64, error) {
	low, high := first, end
	for low < high {
		mid := (low + high) / 2
		r, err := j.read(mid)
		if err != nil {
			return 0, err
		}
		if r.total < limit {
			low = mid + 1
		} else {
			high = mid
		}
	}
	for ; low > first; low-- { // never into the middle of a transaction
		r, err := j.read(low)
		if err != nil || r.part == 0 {
			return low, err
		}
	}
	return low, nil
}

// room is nil when the journal may grow.
func (j *Journal) room() error {
	s := j.State()
	if s.Bytes > s.Budget {
		return fmt.Errorf("%w: %s holds %d bytes of a budget of %d, because an office has not applied what is in it; "+
			"remedy: bring that office back, remove it (offices remove), or raise journal.budget", ErrFull, j.dir, s.Bytes, s.Budget)
	}
	free, err := j.volume.free()
	if err != nil {
		return err
	}
	if free < LeastFree {
		return fmt.Errorf("%w: the volume of %s has %d MiB free, %d are kept; remedy: make room on it", ErrFull, j.dir, free>>20, LeastFree>>20)
	}
	return nil
}
