package journal

import (
	"errors"
	"fmt"
	"sort"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// Cursor is a place in the journal, for Read.
type Cursor uint64

// Entry is one message, ready to publish.
type Entry struct {
	Prev, Seq uint64
	Part      uint32
	More      bool // the transaction goes on in the next entry
	Changes   int
	Message   []byte
	Next      Cursor // behind this entry
}

// ReleasedError says that what was asked for is no longer held.
type ReleasedError struct{ First uint64 }

func (e *ReleasedError) Error() string {
	return fmt.Sprintf("the journal no longer holds that; it begins at %d", e.First)
}

// read gets one record.
func (j *Journal) read(index uint64) (record, error) {
	var l raft.Log
	if err := j.log.GetLog(index, &l); err != nil {
		switch {
		case errors.Is(err, wal.ErrNotFound):
			return record{}, j.released()
		case errors.Is(err, wal.ErrClosed):
			return record{}, errClosed
		}
		return record{}, j.broken(fmt.Errorf("read record %d: %w", index, err))
	}
	r, err := parseRecord(l.Data)
	if err != nil {
		return record{}, j.broken(fmt.Errorf("read record %d: %w", index, err))
	}
	return r, nil
}

func (j *Journal) released() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return &ReleasedError{First: j.firstSeq}
}

func (j *Journal) extent() (first, last, firstSeq uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.first, j.closedAt, j.firstSeq
}

// Seek finds the first entry that reaches seq, or the end when seq is behind the last. The error is a *ReleasedError when
// seq is no longer held. It reads some twenty records and needs no memory for an index.
func (j *Journal) Seek(seq uint64) (Cursor, error) {
	j.reach.RLock()
	defer j.reach.RUnlock()
	return j.seek(seq)
}

func (j *Journal) seek(seq uint64) (Cursor, error) {
	first, last, firstSeq := j.extent()
	if seq < firstSeq {
		return 0, j.released()
	}
	var failed error
	n := sort.Search(int(last-first+1), func(i int) bool {
		r, err := j.read(first + uint64(i))
		if err != nil {
			failed = err
			return true
		}
		return r.seq >= seq
	})
	return Cursor(first + uint64(n)), failed
}

// Read returns entries from the cursor on, about maxBytes of them and at least one where there is one, and the cursor behind
// the last. Only complete transactions are visible.
func (j *Journal) Read(c Cursor, maxBytes int) ([]Entry, Cursor, error) {
	j.reach.RLock()
	defer j.reach.RUnlock()
	_, last, _ := j.extent()
	var out []Entry
	for bytes := 0; uint64(c) <= last && (len(out) == 0 || bytes < maxBytes); c++ {
		r, err := j.read(uint64(c))
		if err != nil {
			return nil, c, err
		}
		if len(r.message) == 0 {
			continue
		}
		bytes += len(r.message)
		out = append(out, Entry{Prev: r.prev, Seq: r.seq, Part: r.part, More: r.more, Changes: r.changes, Message: r.message, Next: c + 1})
	}
	return out, c, nil
}

// Messages reads on behind a cursor for whoever indexes the journal: the zero cursor is the beginning of what is held, and so is
// one that was released meanwhile, for what it stood at is of no use to an index any more. None are returned at the end.
func (j *Journal) Messages(cursor uint64, maxBytes int) (messages [][]byte, next uint64, err error) {
	at := Cursor(cursor)
	var entries []Entry
	for {
		if at == 0 {
			if at, err = j.Seek(j.State().First); err != nil {
				return nil, 0, err
			}
		}
		var released *ReleasedError
		if entries, at, err = j.Read(at, maxBytes); !errors.As(err, &released) {
			break
		}
		at = 0
	}
	for i := range entries {
		messages = append(messages, entries[i].Message)
	}
	return messages, uint64(at), err
}
