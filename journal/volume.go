package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
	"golang.org/x/sys/unix"
)

// volume is what a journal lies on, held by it alone until Close: a folder, or the MemoryDisk of a simulation.
type volume interface {
	files() types.VFS
	meta() types.MetaStore
	// firm syncs a file and its name, if it exists.
	firm(name string) error
	// free is how many bytes there is room for.
	free() (uint64, error)
	// remember keeps one line, unsynced: a crash may take it, or give back an older one.
	remember(line string) error
	// recall is that line, or "".
	recall() string
	io.Closer
}

// folder is a volume on a real disk.
type folder struct {
	dir  string
	vfs  types.VFS
	lock *os.File
}

// openFolder makes the folder where it is missing. When another process has it the error wraps schema.ErrHeld.
func openFolder(dir string, vfs types.VFS) (*folder, error) {
	if vfs == nil {
		vfs = fs.New()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the journal's folder: %w", err)
	}
	held, err := lock(dir)
	if err != nil {
		return nil, err
	}
	return &folder{dir: dir, vfs: vfs, lock: held}, nil
}

func (f *folder) files() types.VFS      { return f.vfs }
func (f *folder) meta() types.MetaStore { return &metadb.BoltMetaDB{} }
func (f *folder) Close() error          { return f.lock.Close() }

func (f *folder) firm(name string) error {
	err := firm(f.vfs, f.dir, name)
	if err != nil {
		return err
	}
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// firm syncs a file, if it exists.
func firm(vfs types.VFS, dir, name string) error {
	file, err := vfs.OpenWriter(dir, name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

func (f *folder) free() (uint64, error) {
	var disk unix.Statfs_t
	if err := unix.Statfs(f.dir, &disk); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", f.dir, err)
	}
	return disk.Bavail * uint64(disk.Bsize), nil
}

func (f *folder) remember(line string) error {
	name := filepath.Join(f.dir, publishedName)
	if err := os.WriteFile(name+".new", []byte(line), 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

func (f *folder) recall() string {
	line, err := os.ReadFile(filepath.Join(f.dir, publishedName))
	if err != nil {
		return ""
	}
	return string(line)
}
