package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// server is what the three kinds have in common. Its methods may be called from any goroutine.
type server struct {
	host     *host
	name     string // "postgres1": of the folder and the log
	external *url.URL
	ports    []port // the first is the one that clients use
	engine   engine

	mu    sync.Mutex
	procs []*process // in the order of their start; the last is the server, those before it serve it
}

// engine is what differs between the kinds.
type engine interface {
	// prepare fills the server's empty folder, once.
	prepare(ctx context.Context) error
	// launch starts the processes, the server itself last. On an error it returns what did start.
	launch(ctx context.Context) ([]*process, error)
	// probe returns nil when the server serves.
	probe(ctx context.Context) error
	// stopSignal asks for an orderly end.
	stopSignal() syscall.Signal
	// portCount is how many ports it needs.
	portCount() int
}

// Start starts the server again after Stop or Kill, on the same port and folder, and returns when it serves. A server that
// runs is left alone. The context bounds the start, not the server's life.
func (s *server) Start(ctx context.Context) error {
	if s.external != nil {
		return ErrExternal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running() {
		return nil
	}
	if err := s.end(); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	var err error
	if s.procs, err = s.engine.launch(ctx); err != nil {
		return fmt.Errorf("start %s: %w", s.name, errors.Join(err, s.end()))
	}
	main := s.procs[len(s.procs)-1]
	err = main.untilReady(ctx, s.engine.probe)
	if err := errors.Join(err, s.dropShared(main.cmd.Process.Pid)); err != nil {
		return fmt.Errorf("start %s: %w", s.name, errors.Join(err, s.end()))
	}
	return nil
}

// Stop asks for an orderly end (Postgres's is a fast shutdown) and waits for it. When the context ends first, the server
// may still be stopping.
func (s *server) Stop(ctx context.Context) error {
	if s.external != nil {
		return ErrExternal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop(ctx, s.engine.stopSignal())
}

func (s *server) stop(ctx context.Context, signal syscall.Signal) error {
	if len(s.procs) > 0 {
		if err := s.procs[len(s.procs)-1].stop(ctx, signal); err != nil {
			return fmt.Errorf("stop %s: %w", s.name, err)
		}
	}
	return s.end()
}

// Kill is a crash: SIGKILL for every process of the server. It returns when all of them are gone.
func (s *server) Kill() error {
	if s.external != nil {
		return ErrExternal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end()
}

// end kills what runs, the server first.
func (s *server) end() error {
	for n := len(s.procs); n > 0; n-- {
		if err := s.procs[n-1].kill(); err != nil {
			return fmt.Errorf("end %s: %w", s.name, err)
		}
		s.procs = s.procs[:n-1]
	}
	return nil
}

func (s *server) running() bool {
	return len(s.procs) > 0 && s.procs[len(s.procs)-1].alive()
}

// Pid is the process id of the server itself, the leader of its process group; 0 when it does not run or is external.
func (s *server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running() {
		return 0
	}
	return s.procs[len(s.procs)-1].cmd.Process.Pid
}

// Port is the server's TCP port on 127.0.0.1; of an external server it is the port of its URL, 0 when that has none.
func (s *server) Port() int {
	if s.external != nil {
		number, _ := strconv.Atoi(s.external.Port()) // a number, for url.Parse accepts no other
		return number
	}
	return s.ports[0].number
}

// Log is the path of the file that holds all the server has said; of an external server it is empty.
func (s *server) Log() string {
	if s.external != nil {
		return ""
	}
	return filepath.Join(s.dir(), "log")
}

func (s *server) dir() string { return filepath.Join(s.host.dir, s.name) }

// first makes the server: ports, folder, start. It begins anew on other ports when a stranger took one of them, which no
// claim of ours can prevent.
func (s *server) first(ctx context.Context) error {
	began := time.Now()
	for attempt := 1; ; attempt++ {
		err := s.try(ctx)
		if err == nil {
			_, err = fmt.Fprintf(s.host.log, "%s serves on 127.0.0.1:%d after %.1f s\n", s.name, s.Port(), time.Since(began).Seconds())
			return err
		}
		stolen := s.portStolen(ctx)
		err = errors.Join(err, releasePorts(s.ports), os.RemoveAll(s.dir()))
		if s.ports = nil; !stolen || attempt == portAttempts {
			return err
		}
	}
}

func (s *server) try(ctx context.Context) error {
	var err error
	if s.ports, err = claimPorts(ctx, s.engine.portCount()); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	if err := s.host.mkdir(s.dir()); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	if err := s.engine.prepare(ctx); err != nil {
		return fmt.Errorf("prepare %s: %w", s.name, err)
	}
	return s.Start(ctx)
}

// portStolen says, of a server that did not start, whether somebody else listens on one of its ports.
func (s *server) portStolen(ctx context.Context) bool {
	var lc net.ListenConfig
	for _, p := range s.ports {
		probe, err := lc.Listen(ctx, "tcp", fmt.Sprintf(":%d", p.number))
		if err != nil {
			return ctx.Err() == nil
		}
		_ = probe.Close()
	}
	return false
}

// mkdir makes a folder that the servers' user owns.
func (h *host) mkdir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return h.chown(dir)
}

// write makes a file that only the servers' user can read.
func (h *host) write(name, text string) error {
	if err := os.WriteFile(name, []byte(text), 0o400); err != nil {
		return err
	}
	return h.chown(name)
}

func (h *host) chown(name string) error {
	if h.user == nil {
		return nil
	}
	return os.Chown(name, int(h.user.Uid), int(h.user.Gid))
}
