package journal

import (
	"fmt"
	"sync"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// filer is raft-wal's own, but for the writers that it hands out. Those of raft-wal keep a segment's write buffer and index in
// memory until it is released or the process ends: megabytes for each 16 MiB of a backlog.
type filer struct{ *segment.Filer }

// Create makes a segment.
func (f filer) Create(info types.SegmentInfo) (types.SegmentWriter, error) {
	w, err := f.Filer.Create(info)
	if err != nil {
		return nil, err
	}
	return &segmentWriter{files: f.Filer, info: info, writer: w}, nil
}

// RecoverTail opens the last segment again.
func (f filer) RecoverTail(info types.SegmentInfo) (types.SegmentWriter, error) {
	w, err := f.Filer.RecoverTail(info)
	if err != nil {
		return nil, err
	}
	return &segmentWriter{files: f.Filer, info: info, writer: w}, nil
}

// segmentWriter becomes a mere reader, which needs no memory, when its segment is sealed.
type segmentWriter struct {
	files *segment.Filer
	info  types.SegmentInfo

	mu     sync.RWMutex
	writer types.SegmentWriter // nil once it is sealed
	reader types.SegmentReader // then
}

// Append writes and syncs. raft-wal calls it, ForceSeal and Sealed one at a time.
func (s *segmentWriter) Append(entries []types.LogEntry) error {
	if s.writer == nil { // raft-wal does not tell why
		return fmt.Errorf("the file is full and the next could not be begun: %w", types.ErrSealed)
	}
	if err := s.writer.Append(entries); err != nil {
		return err
	}
	sealed, index, err := s.Sealed()
	if err != nil || !sealed {
		return err
	}
	return s.seal(index)
}

// ForceSeal seals the segment as it is, and says where its index begins.
func (s *segmentWriter) ForceSeal() (uint64, error) {
	if s.writer == nil {
		return s.info.IndexStart, nil
	}
	index, err := s.writer.ForceSeal()
	if err != nil {
		return 0, err
	}
	return index, s.seal(index)
}

func (s *segmentWriter) seal(index uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.info.IndexStart, s.info.MaxIndex = index, s.writer.LastIndex()
	r, err := s.files.Open(s.info)
	if err != nil {
		return err
	}
	err = s.writer.Close()
	s.reader, s.writer = r, nil
	return err
}

// Sealed says whether the segment takes no more, and where its index begins.
func (s *segmentWriter) Sealed() (bool, uint64, error) {
	if s.writer != nil {
		return s.writer.Sealed()
	}
	return true, s.info.IndexStart, nil
}

// LastIndex is the last durable record, or 0.
func (s *segmentWriter) LastIndex() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.writer == nil {
		return s.info.MaxIndex
	}
	return s.writer.LastIndex()
}

// GetLog reads a record.
func (s *segmentWriter) GetLog(index uint64) (*types.PooledBuffer, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.writer == nil {
		return s.reader.GetLog(index)
	}
	return s.writer.GetLog(index)
}

// Close lets go of the file.
func (s *segmentWriter) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writer == nil {
		return s.reader.Close()
	}
	return s.writer.Close()
}
