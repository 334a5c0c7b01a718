package journal

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"

	"github.com/hashicorp/raft-wal/types"

	"cdc-sidecar/schema"
)

// ErrCrashed is what everything that was open on a MemoryDisk gets when that has crashed.
var ErrCrashed = errors.New("the disk in memory crashed")

// memorySegmentBytes is the size of a file on a MemoryDisk: a simulation of a few hundred transactions shall go over several.
const memorySegmentBytes = 64 << 10

// MemoryDisk is a volume for one journal, in memory, that crashes as a real one does. Simulations run thousands of lives of
// the real journal on it; nothing else makes one. The zero value is an empty disk. It starts no goroutine.
type MemoryDisk struct {
	mu     sync.Mutex
	holder *mount // nil when no journal is open
	fuse   int    // steps until it crashes by itself; 0: it does not
	lies   bool

	names     map[string]*memoryFile
	segments  types.PersistentState
	stable    map[string][]byte
	published string
}

// Crash is a power failure: what was not synced is gone, a file that never was with its name, and so is what SetPublished
// said. Everything open on the disk is dead: each further call fails with ErrCrashed, and Close ends it without writing. The
// next Open finds what was durable.
func (d *MemoryDisk) Crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crash()
}

// Kill is the end of the process alone (kill -9): everything open is dead, but what was written stays, synced or not.
func (d *MemoryDisk) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kill()
}

// Wipe is the loss of the volume: a Crash, and then nothing is left. The next Open is a birth; its epoch is greater if the
// clock of that journal has moved by a millisecond.
func (d *MemoryDisk) Wipe() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kill()
	d.names, d.segments, d.stable, d.published = nil, types.PersistentState{}, nil, ""
}

// CrashAfter lets the disk crash by itself, steps from now; 0 takes that back. A step is each moment before a write, before
// a file is made, and before and behind a sync, a deletion and a change of the metadata: so all that a crash can leave is met,
// what is durable without its writer having heard of it among it. Opening a journal takes steps too.
func (d *MemoryDisk) CrashAfter(steps int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fuse = steps
}

// SyncLies makes the disk say that it synced without doing so: the journal then acknowledges what a Crash takes. It is
// there to show that a simulation notices.
func (d *MemoryDisk) SyncLies(lies bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lies = lies
}

func (d *MemoryDisk) kill() {
	d.fuse = 0
	if d.holder != nil {
		d.holder.dead, d.holder = true, nil
	}
}

func (d *MemoryDisk) crash() {
	d.kill()
	d.published = ""
	for name, f := range d.names {
		if !f.named {
			delete(d.names, name)
		}
		f.undo()
	}
}

// open gives the disk to a journal.
func (d *MemoryDisk) open(dir string) (*mount, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.holder != nil {
		return nil, fmt.Errorf("journal %s: %w (it is open in this process)", dir, schema.ErrHeld)
	}
	d.holder = &mount{disk: d}
	return d.holder, nil
}

// mount is a MemoryDisk in the hands of one journal, until it is closed or the disk crashes. It is volume, types.VFS, and with
// memoryMeta the types.MetaStore.
type mount struct {
	disk *MemoryDisk
	dead bool
}

// step is called with the disk locked.
func (m *mount) step() error {
	if m.dead {
		return ErrCrashed
	}
	if m.disk.fuse > 0 {
		if m.disk.fuse--; m.disk.fuse == 0 {
			m.disk.crash()
			return ErrCrashed
		}
	}
	return nil
}

// between makes a change that is durable at once. The disk may crash before it, and behind it.
func (m *mount) between(change func() error) error {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if err := m.step(); err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	return m.step()
}

// look is for what changes nothing.
func (m *mount) look(at func() error) error {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if m.dead {
		return ErrCrashed
	}
	return at()
}

func (m *mount) files() types.VFS       { return m }
func (m *mount) meta() types.MetaStore  { return memoryMeta{m} }
func (m *mount) firm(name string) error { return firm(m, "", name) }

// free is without end, but on a dead disk.
func (m *mount) free() (uint64, error) { return math.MaxUint64, m.look(func() error { return nil }) }

// remember says nothing of a crash: a line that is not synced is lost without a word.
func (m *mount) remember(line string) error {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if !m.dead {
		m.disk.published = line
	}
	return nil
}

func (m *mount) recall() string {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	return m.disk.published
}

// Close lets the next journal have the disk.
func (m *mount) Close() error {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if m.disk.holder == m {
		m.disk.holder = nil
	}
	m.dead = true
	return nil
}

// ListDir is the names of the files.
func (m *mount) ListDir(string) (names []string, err error) {
	err = m.look(func() error {
		for name := range m.disk.names {
			names = append(names, name)
		}
		slices.Sort(names)
		return nil
	})
	return names, err
}

// Create makes a file. It does not take its size before it is written.
func (m *mount) Create(_, name string, _ uint64) (types.WritableFile, error) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if err := m.step(); err != nil {
		return nil, err
	}
	if m.disk.names[name] != nil {
		return nil, &os.PathError{Op: "create", Path: name, Err: os.ErrExist}
	}
	if m.disk.names == nil {
		m.disk.names = map[string]*memoryFile{}
	}
	f := &memoryFile{}
	m.disk.names[name] = f
	return &memoryHandle{m, f}, nil
}

// Delete takes the name away; who has the file open may go on reading.
func (m *mount) Delete(_, name string) error {
	return m.between(func() error {
		if m.disk.names[name] == nil {
			return &os.PathError{Op: "delete", Path: name, Err: os.ErrNotExist}
		}
		delete(m.disk.names, name)
		return nil
	})
}

// OpenReader opens a file to read.
func (m *mount) OpenReader(dir, name string) (types.ReadableFile, error) {
	return m.OpenWriter(dir, name)
}

// OpenWriter opens a file to read and write.
func (m *mount) OpenWriter(_, name string) (f types.WritableFile, err error) {
	err = m.look(func() error {
		if m.disk.names[name] == nil {
			return &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
		}
		f = &memoryHandle{m, m.disk.names[name]}
		return nil
	})
	return f, err
}

// memoryFile is what is written; and of what is not synced, how to take it back.
type memoryFile struct {
	content  []byte
	unsynced []overwritten
	named    bool // synced since it was made: its name is durable
}

type overwritten struct {
	at  int
	old []byte // what stood there, where the file was as long
	end int    // how long the file was
}

func (f *memoryFile) write(p []byte, at int) {
	end := len(f.content)
	old := f.content[min(at, end):min(at+len(p), end)]
	f.unsynced = append(f.unsynced, overwritten{at: at, old: slices.Clone(old), end: end})
	if more := at + len(p) - end; more > 0 {
		f.content = append(f.content, make([]byte, more)...)
	}
	copy(f.content[at:], p)
}

func (f *memoryFile) undo() {
	for _, w := range slices.Backward(f.unsynced) {
		f.content = f.content[:w.end]
		copy(f.content[min(w.at, w.end):], w.old)
	}
	f.unsynced = nil
}

// memoryHandle is a file in the hands of one journal.
type memoryHandle struct {
	mount *mount
	file  *memoryFile
}

// ReadAt reads what is written, synced or not.
func (h *memoryHandle) ReadAt(p []byte, at int64) (n int, err error) {
	err = h.mount.look(func() error {
		if n = copy(p, h.file.content[min(int(at), len(h.file.content)):]); n < len(p) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

// WriteAt writes; it is lost in a crash before Sync.
func (h *memoryHandle) WriteAt(p []byte, at int64) (int, error) {
	h.mount.disk.mu.Lock()
	defer h.mount.disk.mu.Unlock()
	if err := h.mount.step(); err != nil {
		return 0, err
	}
	h.file.write(p, int(at))
	return len(p), nil
}

// Sync makes the file durable, and its name.
func (h *memoryHandle) Sync() error {
	return h.mount.between(func() error {
		if !h.mount.disk.lies {
			h.file.unsynced, h.file.named = nil, true
		}
		return nil
	})
}

// Close has nothing to let go of.
func (h *memoryHandle) Close() error { return nil }

// memoryMeta is the list of segments on a MemoryDisk.
type memoryMeta struct{ mount *mount }

// Load is the state that was last committed.
func (m memoryMeta) Load(string) (state types.PersistentState, err error) {
	err = m.mount.look(func() error {
		state = m.mount.disk.segments
		state.Segments = slices.Clone(state.Segments)
		return nil
	})
	return state, err
}

// CommitState replaces it.
func (m memoryMeta) CommitState(state types.PersistentState) error {
	return m.mount.between(func() error {
		state.Segments = slices.Clone(state.Segments)
		m.mount.disk.segments = state
		return nil
	})
}

// GetStable is a value that SetStable was given, or nil.
func (m memoryMeta) GetStable(key []byte) (value []byte, err error) {
	err = m.mount.look(func() error {
		value = slices.Clone(m.mount.disk.stable[string(key)])
		return nil
	})
	return value, err
}

// SetStable keeps a value.
func (m memoryMeta) SetStable(key, value []byte) error {
	return m.mount.between(func() error {
		if m.mount.disk.stable == nil {
			m.mount.disk.stable = map[string][]byte{}
		}
		m.mount.disk.stable[string(key)] = slices.Clone(value)
		return nil
	})
}

// Close has nothing to let go of.
func (m memoryMeta) Close() error { return nil }
