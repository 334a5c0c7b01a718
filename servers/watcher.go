package servers

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

//go:embed watcher.sh
var watcherScript string

// A watcher is a small shell process that ends a Set's servers and removes its folder when we are gone.
//
// It exists because no code of ours runs after a kill -9, and because Linux's parent-death signal would reach neither a
// server's children nor the folder. It reads a pipe that only we hold open, so the kernel tells it of our end.
type watcher struct {
	mu   sync.Mutex
	pipe *os.File
	cmd  *exec.Cmd
}

func startWatcher(ctx context.Context, dir string) (*watcher, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start watcher: %w", err)
	}
	defer func() { _ = r.Close() }() // the child has its own copy
	// By the environment, so that a list of processes does not show the whole script.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", `eval "$script"`, "watcher", dir)
	cmd.Stdin = r
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "script=" + watcherScript}
	// Its own session, or the terminal's Ctrl-C would end it together with us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("start watcher: %w", err)
	}
	return &watcher{pipe: w, cmd: cmd}, nil
}

// add makes the watcher answerable for the process group of pid.
func (w *watcher) add(pid int) error { return w.tell("+", pid) }

// remove takes that back, once the process has ended.
func (w *watcher) remove(pid int) error { return w.tell("-", pid) }

func (w *watcher) tell(sign string, pid int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := fmt.Fprintf(w.pipe, "%s %d\n", sign, pid); err != nil {
		return fmt.Errorf("tell watcher: %w", err)
	}
	return nil
}

// close lets the watcher do its work now, and waits for its end.
func (w *watcher) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.pipe.Close(); err != nil {
		return fmt.Errorf("close watcher: %w", err)
	}
	if err := w.cmd.Wait(); err != nil {
		return fmt.Errorf("close watcher: %w", err)
	}
	return nil
}
