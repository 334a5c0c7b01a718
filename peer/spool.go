package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"cdc-sidecar/schema"
)

// spool keeps the pieces of one large transaction on disk until its last has come. Only then need the database see it:
// a transaction of an hour's transfer over a poor line holds the target's row locks for seconds, and memory holds one
// piece at a time. It is not fsynced: after a crash the pieces come again, or are asked for.
//
// Where pieces come one on the heels of the other, the database gets them as they come (see early).
type spool struct {
	seq  uint64
	prev uint64
	next uint32 // the part expected next
	file *os.File
	w    *bufio.Writer
	size int64
	held []Delivery // to settle at the commit

	applied int64     // bytes of the file that are in the applier's open transaction
	came    time.Time // the last piece
	late    bool      // it is not worth to begin before the last piece
}

// newSpool opens a file that has no name any more, so that nothing is left behind by a crash.
func newSpool(dir string, m *schema.Message) (*spool, error) {
	f, err := os.CreateTemp(dir, "spool-*")
	if err != nil {
		return nil, fmt.Errorf("spool a large transaction of %s: %w", m.Sender, err)
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("spool: %w", err)
	}
	return &spool{seq: m.Seq, prev: m.Prev, file: f, w: bufio.NewWriterSize(f, 64<<10)}, nil
}

func (s *spool) close() { _ = s.file.Close() }

// add appends a piece: codec, whether the body goes on, length, body.
func (s *spool) add(m *schema.Message) error {
	var head [6]byte
	head[0] = byte(m.Codec)
	if m.Continued {
		head[1] = 1
	}
	binary.LittleEndian.PutUint32(head[2:], uint32(len(m.Body)))
	if _, err := s.w.Write(head[:]); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if _, err := s.w.Write(m.Body); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.next++
	s.size += int64(len(head) + len(m.Body))
	return nil
}

// restart makes the next each begin with the first piece: what was applied is undone. It waits for the last then.
func (s *spool) restart() { s.applied, s.late = 0, true }

// each calls f with each packed body behind those applied, in order, bodies that were cut in pieces joined. A body that f
// took counts as applied.
func (s *spool) each(f func(codec schema.Codec, body []byte) error) error {
	if err := s.w.Flush(); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	r := bufio.NewReaderSize(io.NewSectionReader(s.file, s.applied, s.size-s.applied), 64<<10)
	var body []byte
	read := s.applied
	for {
		var head [6]byte
		if _, err := io.ReadFull(r, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read spool: %w", err)
		}
		n := int(binary.LittleEndian.Uint32(head[2:]))
		if len(body)+n > schema.MaxBody {
			return fmt.Errorf("a row of more than %d MiB", schema.MaxBody>>20)
		}
		at := len(body)
		body = append(body, make([]byte, n)...)
		if _, err := io.ReadFull(r, body[at:]); err != nil {
			return fmt.Errorf("read spool: %w", err)
		}
		read += int64(len(head) + n)
		if head[1] == 1 {
			continue
		}
		if err := f(schema.Codec(head[0]), body); err != nil {
			return err
		}
		s.applied = read
		body = body[:0]
	}
}
