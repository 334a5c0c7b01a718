package clock

import (
	"bytes"

	"cdc-sidecar/schema"
)

// maxRuns bounds what a look-up of a row that is nowhere costs, and the memory that files take: 3.5 MB each at most.
const maxRuns = 8

// merge makes one run of the newest ones: of as many as are not much larger than what is newer than they are, so that a row is
// not written again each time. It runs in the writer, without the lock of the readers.
func (x *Index) merge() error {
	n, rows := 2, x.runs[0].rows+x.runs[1].rows
	for n < len(x.runs) && x.runs[n].rows <= 2*rows {
		rows += x.runs[n].rows
		n++
	}
	old := x.runs[:n]
	w, err := newRun(x.path(), rows)
	if err != nil {
		return err
	}
	merged, err := w.finish(mergeInto(w, old, x.released.Load()))
	if err != nil {
		return err
	}
	return x.replace(n, merged)
}

// mergeInto writes the rows of the runs, newest run first, each row as all of them together have it, without what is released.
func mergeInto(w *runWriter, runs []*run, released uint64) error {
	cursors := make([]*cursor, len(runs))
	for i, r := range runs {
		cursors[i] = &cursor{run: r}
		if err := cursors[i].next(); err != nil {
			return err
		}
	}
	for {
		var first *cursor
		for _, c := range cursors {
			if !c.end && (first == nil || bytes.Compare(c.row[:], first.row[:]) < 0) {
				first = c
			}
		}
		if first == nil {
			return nil
		}
		row, e := first.row, entry{}
		for _, c := range cursors {
			if !c.end && c.row == row {
				e = e.over(c.entry)
				if err := c.next(); err != nil {
					return err
				}
			}
		}
		if e.last > released {
			if err := w.add(row, e); err != nil {
				return err
			}
		}
	}
}

// cursor walks through a run.
type cursor struct {
	run    *run
	bucket int // the next to read
	buffer []byte
	left   []byte // of the buffer

	row   schema.RowID
	entry entry
	end   bool
}

func (c *cursor) next() error {
	for len(c.left) == 0 {
		if c.bucket == len(c.run.sums) {
			c.end = true
			return nil
		}
		if err := c.run.read(c.bucket, &c.buffer); err != nil {
			return err
		}
		c.bucket++
		c.left = c.buffer
	}
	c.row, c.entry = decode(c.left)
	c.left = c.left[recordBytes:]
	return nil
}
