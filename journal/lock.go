package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"cdc-sidecar/schema"
)

// LockName is the file whose lock says that a process has the journal. The system lets go of it when the process ends,
// however that happens; the pid inside is for people.
const LockName = "lock"

// Hold takes a journal's folder without opening what is in it, for whoever puts it aside; LockName has to stay where it is
// meanwhile. When another process has the journal the error wraps schema.ErrHeld.
func Hold(dir string) (io.Closer, error) { return lock(dir) }

func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, LockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock journal: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock journal: %w", err)
		}
		pid := make([]byte, 20)
		n, _ := f.ReadAt(pid, 0)
		return nil, fmt.Errorf("journal %s: %w (pid %s)", dir, schema.ErrHeld, strings.TrimSpace(string(pid[:n])))
	}
	pid := strconv.Itoa(os.Getpid()) + "\n"
	if err := errors.Join(f.Truncate(0), write(f, pid)); err != nil {
		return nil, errors.Join(fmt.Errorf("lock journal: %w", err), f.Close())
	}
	return f, nil
}

func write(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}
