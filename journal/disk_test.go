package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// disk is a file layer that knows what is not synced yet, can fail, and can be looked at between any two of its steps. The
// log's metadata (a bbolt database) does not go through it; it is synced whenever a step of the disk comes.
type disk struct {
	*fs.FS

	mu    sync.Mutex
	files map[string]*diskFile
	step  func(what string) error
}

func newDisk() *disk { return &disk{FS: fs.New(), files: map[string]*diskFile{}} }

type diskFile struct {
	types.WritableFile
	disk    *disk
	pending []unsyncedWrite // not synced
	synced  bool            // ever, since it was made
}

type unsyncedWrite struct {
	at       int64
	old, new []byte // old is shorter where the file was
}

// watch has step called before and after each step of the disk, not always by the same goroutine; nil ends that.
func (d *disk) watch(step func(what string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.step = step
}

func (d *disk) at(what string) error {
	d.mu.Lock()
	step := d.step
	d.mu.Unlock()
	if step == nil {
		return nil
	}
	return step(what)
}

func (d *disk) wrap(name string, f types.WritableFile, synced bool) types.WritableFile {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[name] = &diskFile{WritableFile: f, disk: d, synced: synced}
	return d.files[name]
}

func (d *disk) Create(dir, name string, size uint64) (types.WritableFile, error) {
	if err := d.at("create"); err != nil {
		return nil, err
	}
	f, err := d.FS.Create(dir, name, size)
	if err != nil {
		return nil, err
	}
	f = d.wrap(name, f, false)
	return f, d.at("created")
}

func (d *disk) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := d.FS.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	return d.wrap(name, f, true), nil
}

func (d *disk) Delete(dir, name string) error {
	if err := d.at("delete"); err != nil {
		return err
	}
	if err := d.FS.Delete(dir, name); err != nil {
		return err
	}
	d.mu.Lock()
	delete(d.files, name)
	d.mu.Unlock()
	return d.at("deleted")
}

func (f *diskFile) WriteAt(p []byte, at int64) (int, error) {
	if err := f.disk.at("write"); err != nil {
		return 0, err
	}
	old := make([]byte, len(p))
	n, err := f.ReadAt(old, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	f.disk.mu.Lock()
	f.pending = append(f.pending, unsyncedWrite{at: at, old: old[:n], new: append([]byte(nil), p...)})
	f.disk.mu.Unlock()
	return f.WritableFile.WriteAt(p, at)
}

func (f *diskFile) Sync() error {
	if err := f.disk.at("sync"); err != nil {
		return err
	}
	if err := f.WritableFile.Sync(); err != nil {
		return err
	}
	f.disk.mu.Lock()
	f.pending, f.synced = nil, true
	f.disk.mu.Unlock()
	return f.disk.at("synced")
}

// unsynced is how many bytes a power failure may take.
func (d *disk) unsynced() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, f := range d.files {
		for _, w := range f.pending {
			n += len(w.new)
		}
	}
	return n
}

// image copies dir as a power failure would leave it now: of what is not synced the first keep bytes are there. A file that
// was never synced has no name when lost is true. It may be called by any goroutine of the journal's: it stops none of them.
func (d *disk) image(t testing.TB, dir string, keep int, lost bool) string {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	to, err := os.MkdirTemp(t.TempDir(), "image")
	if err != nil {
		t.Error(err)
		return ""
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
		return ""
	}
	for _, n := range names {
		f := d.files[n.Name()]
		if lost && f != nil && !f.synced {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, n.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed since it was listed
		}
		if err != nil {
			t.Error(err)
			return ""
		}
		if f != nil {
			for i := len(f.pending) - 1; i >= 0; i-- {
				content = f.pending[i].undo(content, keep)
			}
		}
		if err := os.WriteFile(filepath.Join(to, n.Name()), content, 0o600); err != nil {
			t.Error(err)
			return ""
		}
	}
	return to
}

// undo takes back what is behind the first keep bytes of w.
func (w *unsyncedWrite) undo(content []byte, keep int) []byte {
	keep = min(keep, len(w.new))
	if keep < len(w.old) {
		copy(content[w.at+int64(keep):], w.old[keep:])
	}
	if len(w.old) < len(w.new) {
		content = content[:w.at+int64(max(keep, len(w.old)))]
	}
	return content
}

// flip changes one bit of the segment file that has needle, at needle.
func flip(t *testing.T, dir string, needle []byte) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(content, needle); at >= 0 {
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte{content[at] ^ 1}, int64(at)); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal(fmt.Errorf("no segment has %q", needle))
}
