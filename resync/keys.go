package resync

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"cdc-sidecar/schema"
)

// keysInMemory bounds the keys of a table that are looked through at once: 32 MiB. A table with more is looked through as often
// as that takes.
const keysInMemory = 2 << 20

const rowIDBytes = len(schema.RowID{})

// keySet is the keys that the head has of a table, on disk: one RowID after the other. It outlives a crash of the process; what
// a crash of the machine takes of it only makes more keys be asked for.
type keySet struct {
	file *os.File
	out  *bufio.Writer
	n    int64
}

// openKeys opens the set of a table in dir, with as many keys as a former life had noted; fresh: an empty one.
func openKeys(dir string, table schema.TableName, fresh bool) (*keySet, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep the keys of table %s: %w", table, err)
	}
	id := table.TableID()
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("keys-%x", id[:8])), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keep the keys of table %s: %w", table, err)
	}
	s := &keySet{file: f, out: bufio.NewWriterSize(f, 64<<10)}
	if fresh {
		err = f.Truncate(0)
	} else if info, e := f.Stat(); e == nil {
		s.n = info.Size() / int64(rowIDBytes)
		_, err = f.Seek(s.n*int64(rowIDBytes), io.SeekStart)
	} else {
		err = e
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("keep the keys of table %s: %w", table, err)
	}
	return s, nil
}

func (s *keySet) add(id schema.RowID) error {
	s.n++
	_, err := s.out.Write(id[:])
	return err
}

// flush comes before what stands behind the keys is noted elsewhere.
func (s *keySet) flush() error { return s.out.Flush() }

// remove ends the use of the set.
func (s *keySet) remove() error {
	return errors.Join(s.file.Close(), os.Remove(s.file.Name()))
}

func (s *keySet) close() error { return errors.Join(s.out.Flush(), s.file.Close()) }

// shares is in how many parts the set is looked through.
func (s *keySet) shares() int { return int(s.n/keysInMemory) + 1 }

// shareOf is the part that a key belongs to: RowIDs are hashes, so the parts are equal.
func shareOf(id schema.RowID, shares int) int {
	return int(uint32(id[0])<<16|uint32(id[1])<<8|uint32(id[2])) % shares
}

// share reads one part into memory, sorted.
func (s *keySet) share(k, shares int) ([]schema.RowID, error) {
	if err := s.out.Flush(); err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(io.NewSectionReader(s.file, 0, s.n*int64(rowIDBytes)), 256<<10)
	var ids []schema.RowID
	for {
		var id schema.RowID
		if _, err := io.ReadFull(in, id[:]); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read kept keys: %w", err)
		}
		if shareOf(id, shares) == k {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	return ids, nil
}

func compareIDs(a, b schema.RowID) int { return bytes.Compare(a[:], b[:]) }
