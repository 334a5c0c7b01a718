package journal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	fileHeaderBytes  = 32 // of raft-wal's segments
	frameHeaderBytes = 8  // in front of each frame; frames begin at multiples of it
	// scanBytes is read at once of the rest of a segment, which most often is nothing but zeros.
	scanBytes = 64 << 10
	// maxRecord is more than a record can have.
	maxRecord = 2 * maxMessage
	// maxIndexes is more than a segment has.
	maxIndexes = 1 << 20
)

// intact refuses a newest segment with damage in its middle. raft-wal reads it up to the first frame that makes no sense, and
// takes that for the end of a write that the power cut short; what stands behind is then overwritten without a word. But
// a write begins only when the one before is synced, and each record knows its write: so a whole record that is two writes
// behind the end proves that something is missing that was acknowledged. Damage in the last write alone cannot be told from
// a torn one.
func intact(dir string, v volume, files types.SegmentFiler, state types.PersistentState, w types.SegmentWriter) error {
	tail := &state.Segments[len(state.Segments)-1]
	end := w.LastIndex()
	if tail.MinIndex > tail.BaseIndex && end < tail.MinIndex {
		return fmt.Errorf("the newest segment ends at record %d, but was released to record %d", end, tail.MinIndex)
	}
	last, err := lastRecord(files, state, w)
	if err != nil {
		return err
	}
	file, err := v.files().OpenReader(dir, segment.FileName(*tail))
	if err != nil {
		return err
	}
	defer file.Close()
	s := scanner{file: file, from: bufio.NewReaderSize(io.NewSectionReader(file, 0, math.MaxInt64), scanBytes)}
	for n := tail.BaseIndex; n <= end && err == nil; {
		var entry bool
		if entry, err = s.frame(); entry {
			n++
		}
	}
	if err != nil {
		return fmt.Errorf("the newest segment cannot be read a second time: %w", err)
	}
	found, err := s.behind(end, last.write+1)
	if err == nil && found > 0 {
		err = fmt.Errorf("the newest segment is readable up to record %d, but record %d stands intact behind it", end, found)
	}
	return err
}

// lastRecord is the one before the end that w found; zero when there is none.
func lastRecord(files types.SegmentFiler, state types.PersistentState, w types.SegmentWriter) (record, error) {
	from, index := types.SegmentReader(w), w.LastIndex()
	if index == 0 {
		if len(state.Segments) == 1 {
			return record{}, nil
		}
		before := state.Segments[len(state.Segments)-2]
		r, err := files.Open(before)
		if err != nil {
			return record{}, err
		}
		defer r.Close()
		from, index = r, before.MaxIndex
	}
	raw, err := from.GetLog(index)
	if err != nil {
		return record{}, fmt.Errorf("read record %d: %w", index, err)
	}
	defer raw.Close()
	_, r, err := parseEntry(raw.Bs)
	if err != nil {
		return record{}, fmt.Errorf("read record %d: %w", index, err)
	}
	return record{head: head{write: r.write}}, nil // the rest of it points into raw
}

// parseEntry reads what raft-wal makes of a record (its BinaryCodec, which must not be given what may be garbage).
func parseEntry(b []byte) (index uint64, r record, err error) {
	var fields [3]uint64 // index, term, type
	for i := range fields {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return 0, r, protowire.ParseError(n)
		}
		fields[i], b = v, b[n:]
	}
	data, n := protowire.ConsumeBytes(b)
	if n < 0 {
		return 0, r, protowire.ParseError(n)
	}
	r, err = parseRecord(data)
	return fields[0], r, err
}

// scanner reads a segment's frames.
type scanner struct {
	file types.ReadableFile
	from *bufio.Reader
	at   int64
}

func (s *scanner) skip(n int64) error {
	s.at += n
	for n > 0 { // a length is 32 bits, which an int need not have
		m, err := s.from.Discard(int(min(n, scanBytes)))
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

// frame goes over one frame of the readable part, and says whether it has a record.
func (s *scanner) frame() (entry bool, err error) {
	if s.at == 0 {
		if err := s.skip(fileHeaderBytes); err != nil {
			return false, err
		}
	}
	h, err := s.from.Peek(frameHeaderBytes)
	if err != nil {
		return false, err
	}
	kind, size := h[0], int64(frameHeaderBytes)
	if kind != segment.FrameCommit { // that has a checksum in place of its length
		size += (int64(binary.LittleEndian.Uint32(h[4:])) + frameHeaderBytes - 1) &^ (frameHeaderBytes - 1)
	}
	return kind == segment.FrameEntry, s.skip(size)
}

// behind looks, from here on, for a record behind index end that was written later than write. It returns its index, or 0.
func (s *scanner) behind(end, write uint64) (uint64, error) {
	for {
		block, err := s.from.Peek(scanBytes)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		for i := 0; i+frameHeaderBytes <= len(block); i += frameHeaderBytes {
			if block[i] != segment.FrameEntry {
				continue
			}
			index, r, err := s.recordAt(s.at+int64(i), end)
			if err != nil || r.write > write {
				return index, err
			}
		}
		if err != nil {
			return 0, nil
		}
		if err := s.skip(scanBytes); err != nil {
			return 0, err
		}
	}
}

// recordAt reads the record behind index end whose frame begins there; it is empty when there is none, or a torn one.
func (s *scanner) recordAt(at int64, end uint64) (uint64, record, error) {
	var start [frameHeaderBytes + binary.MaxVarintLen64]byte
	n, err := s.file.ReadAt(start[:], at)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, record{}, err
	}
	size := binary.LittleEndian.Uint32(start[4:])
	index, _ := binary.Uvarint(start[frameHeaderBytes:])
	if n < frameHeaderBytes || start[1]|start[2]|start[3] != 0 || size > maxRecord || index <= end || index > end+maxIndexes {
		return 0, record{}, nil // what only looks like a frame must not cost much
	}
	b := make([]byte, size)
	if _, err := s.file.ReadAt(b, at+frameHeaderBytes); err != nil {
		if errors.Is(err, io.EOF) {
			return 0, record{}, nil
		}
		return 0, record{}, err
	}
	if index, r, err := parseEntry(b); err == nil {
		return index, r, nil
	}
	return 0, record{}, nil
}
