package journal

import (
	"fmt"
	"time"
)

// publishedName is the file that remembers how far the broker has confirmed the stream. It is written now and then and not
// synced: when it is lost or stale, some messages go out twice and are skipped as duplicates; when it says too much (the
// broker lost what it had confirmed), receivers see a gap and ask.
const (
	publishedName = "published"
	publishEvery  = time.Second
)

// SetPublished remembers that the broker has everything to seq.
func (j *Journal) SetPublished(seq uint64) error {
	j.mu.Lock()
	j.published = seq
	now := j.options.Now()
	due := now.Sub(j.writtenAt) >= publishEvery
	if due {
		j.writtenAt = now
	}
	j.mu.Unlock()
	if !due {
		return nil
	}
	return j.writePublished(seq)
}

// Published is what SetPublished was last told, or 0 when that is not known.
func (j *Journal) Published() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.published
}

func (j *Journal) writePublished(seq uint64) error {
	if err := j.volume.remember(fmt.Sprintf("%d %d .\n", j.Epoch(), seq)); err != nil {
		return fmt.Errorf("remember what is published: %w", err)
	}
	return nil
}

func (j *Journal) recallPublished() {
	var epoch, seq uint64
	var end string // a torn line has none
	n, _ := fmt.Sscanf(j.volume.recall(), "%d %d %s", &epoch, &seq, &end)
	if n == 3 && end == "." && epoch == j.closed.epoch && seq <= j.closed.seq {
		j.published = seq
	}
}
