package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// ErrNoClock is returned by SetClock of a server that goes by the machine's clock.
var ErrNoClock = errors.New("the server has no clock of its own: set Clocks in the Spec of its Set")

// SetClock lets the server's wall clock be this far from the machine's, from its return on and until the next call, also
// over a restart. To a server that runs it is a jump. What the server measures (time-outs of its waits, mostly) goes on
// by the machine's other clock, which never jumps. It takes up to a second; when the context ends first, the clock
// jumps nevertheless.
func (p *Postgres) SetClock(ctx context.Context, offset time.Duration) error {
	return p.setClock(ctx, offset)
}

// SetClock is Postgres's.
func (m *MariaDB) SetClock(ctx context.Context, offset time.Duration) error {
	return m.setClock(ctx, offset)
}

func (s *server) setClock(ctx context.Context, offset time.Duration) error {
	if s.external != nil {
		return ErrExternal
	}
	if s.host.faketime == "" {
		return fmt.Errorf("set the clock of %s: %w", s.name, ErrNoClock)
	}
	if err := s.writeClock(offset); err != nil {
		return fmt.Errorf("set the clock of %s: %w", s.name, err)
	}
	// Each process of the server looks at the file once in a second of the machine's clock, so that from the next second
	// on none has the old offset.
	now := time.Now()
	look := time.NewTimer(now.Truncate(time.Second).Add(time.Second).Sub(now))
	defer look.Stop()
	select {
	case <-look.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("set the clock of %s: %w", s.name, ctx.Err())
	}
}

// writeClock replaces the file in one step: a server must not read half an offset.
func (s *server) writeClock(offset time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.clockFile() + ".next"
	if err := s.host.write(next, fmt.Sprintf("%+.9f\n", offset.Seconds())); err != nil {
		return err
	}
	return os.Rename(next, s.clockFile())
}

func (s *server) clockFile() string { return filepath.Join(s.dir(), "clock") }

// clock is the environment that gives a server a clock of its own.
func (s *server) clock() []string {
	if s.host.faketime == "" {
		return nil
	}
	return []string{
		"LD_PRELOAD=" + s.host.faketime,
		"FAKETIME_TIMESTAMP_FILE=" + s.clockFile(),
		// Once a second and not at every look at the clock: opening a file allocates, which in a signal handler, where
		// Postgres looks at it too, is a risk.
		"FAKETIME_CACHE_DURATION=0",
		"FAKETIME_DONT_FAKE_MONOTONIC=1",
		"NO_FAKE_STAT=1", // the times of files are the machine's
	}
}

// dropShared removes the names of the shared memory that the library makes for a process and the programs it starts.
// Nobody needs them once it runs, and after a kill they would be left behind.
func (s *server) dropShared(pid int) error {
	if s.host.faketime == "" {
		return nil
	}
	for _, pattern := range []string{"/dev/shm/faketime_shm_%d", "/dev/shm/sem.faketime_sem_%d"} {
		if err := os.Remove(fmt.Sprintf(pattern, pid)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// faketimePackage is the Debian package of the library that stands between a program and the clock.
const faketimePackage = "libfaketime"

// needsFaketime says whether any of the kinds has a clock to be set. RabbitMQ's has no say in anything.
func needsFaketime(spec Spec, kinds []Kind) bool {
	return spec.Clocks && (slices.Contains(kinds, KindPostgres) || slices.Contains(kinds, KindMariaDB))
}

// findFaketime finds the library for the servers, which are taken to be of our own architecture: a machine may have it for
// several. Of its two builds it is the one for programs with threads, for Postgres too: it keeps signals out while it works.
func findFaketime() (string, error) {
	triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	for _, dir := range []string{filepath.Join("/usr/lib", triplet), "/usr/lib64", "/usr/lib", "/usr/local/lib"} {
		path := filepath.Join(dir, "faketime/libfaketimeMT.so.1")
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("libfaketime, which sets the servers' clocks: %w; on Debian, run: "+
		"sudo apt-get update && sudo apt-get install -y --no-install-recommends %s", errMissing, faketimePackage)
}
