package journal

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// mend replaces a last segment that raft-wal would open and then never write to. It seals a full segment in the file first
// and in its metadata a moment later; when the process ends between the two, or in the middle of the first, each later
// append fails with "segment is sealed". What was acknowledged is copied to a new segment, properly sealed, with an empty
// one behind it; both come into force with one commit of the metadata.
//
// Before, it syncs that segment: a process that was killed may have left in it what is not durable yet, and raft-wal takes for
// durable what it finds.
func mend(dir string, v volume, meta types.MetaStore, files types.SegmentFiler) error {
	state, err := meta.Load(dir)
	if err != nil {
		return err
	}
	if len(state.Segments) == 0 {
		return whole(files)
	}
	at := len(state.Segments) - 1
	tail := state.Segments[at]
	if !tail.SealTime.IsZero() {
		return nil
	}
	if err := v.firm(segment.FileName(tail)); err != nil {
		return err
	}
	w, err := files.RecoverTail(tail)
	if errors.Is(err, os.ErrNotExist) && tail.MinIndex == tail.BaseIndex {
		return nil // raft-wal makes it: its name was not durable, so no write to it was
	}
	if err != nil {
		return err
	}
	defer w.Close()
	if err := intact(dir, v, files, state, w); err != nil {
		return err
	}
	if sealed, _, err := w.Sealed(); err != nil || !sealed {
		return err
	}
	state.Segments = state.Segments[:at]
	next := tail.MinIndex
	if last := w.LastIndex(); last >= tail.MinIndex {
		whole := tail
		whole.ID, whole.BaseIndex, whole.MaxIndex = state.NextSegmentID, tail.MinIndex, last
		if err := reseal(files, w, &whole); err != nil {
			return err
		}
		state.NextSegmentID++
		state.Segments = append(state.Segments, whole)
		next = last + 1
	}
	tail.ID, tail.BaseIndex, tail.MinIndex, tail.CreateTime = state.NextSegmentID, next, next, time.Now()
	state.NextSegmentID++
	state.Segments = append(state.Segments, tail)
	return meta.CommitState(state)
}

// whole refuses segments without the list of segments: raft-wal would take the journal for a new one and delete them.
func whole(files types.SegmentFiler) error {
	segments, err := files.List()
	if err == nil && len(segments) > 0 {
		err = fmt.Errorf("there are %d segments but not their list", len(segments))
	}
	return err
}

// reseal copies the records of from that info speaks of, and completes info.
func reseal(files types.SegmentFiler, from types.SegmentReader, info *types.SegmentInfo) error {
	if err := files.Delete(info.BaseIndex, info.ID); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // of an attempt that did not get to its end
	}
	roomy := *info
	roomy.SizeLimit *= 2 // not to be sealed before its end
	to, err := files.Create(roomy)
	if err != nil {
		return err
	}
	defer to.Close()
	for at := info.MinIndex; at <= info.MaxIndex; {
		var batch []types.LogEntry
		for size := 0; at <= info.MaxIndex && size < storeBytes; at++ {
			data, err := from.GetLog(at)
			if err != nil {
				return err
			}
			batch = append(batch, types.LogEntry{Index: at, Data: slices.Clone(data.Bs)})
			size += len(data.Bs)
			if err := data.Close(); err != nil {
				return err
			}
		}
		if err := to.Append(batch); err != nil {
			return err
		}
	}
	info.SealTime = time.Now()
	info.IndexStart, err = to.ForceSeal()
	return err
}
