package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// launcher is the shell that becomes the server. It waits for a line before it does, so that the watcher knows the pid
// first: were we killed in between, the line would never come, the shell would read the end of the pipe and leave.
const launcher = `read -r go || exit 1; in=$1; shift; exec "$@" <"$in"`

// A host is what the servers of one Set share.
type host struct {
	dir     string
	watcher *watcher
	user    *syscall.Credential // nil: as we are
	log     io.Writer

	faketime string // the path of the library, when the databases have clocks of their own
}

// program is what to run: a server, or a helper that ends by itself.
type program struct {
	dir   string // the working folder and HOME
	log   string // the file that standard output and error are appended to
	input string // the file it reads; empty means /dev/null
	env   []string
	args  []string
}

// process is a running program, the leader of a session and process group of its own.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed after the process has ended and the watcher knows
	err  error         // how it ended; to be read after done
}

// run starts p under the watcher's eye. The context ends the launch, not the process.
func (h *host) run(ctx context.Context, p program) (*process, error) {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own copy
	ready, goAhead, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = ready.Close(), goAhead.Close() }()
	input := p.input
	if input == "" {
		input = os.DevNull
	}
	args := append([]string{"-c", launcher, "launcher", input}, p.args...)
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", args...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = p.dir, ready, log, log
	cmd.Env = append([]string{"HOME=" + p.dir, "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, p.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: h.user}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	proc := &process{cmd: cmd, log: p.log, done: make(chan struct{})}
	err = h.watcher.add(cmd.Process.Pid)
	if err == nil {
		_, err = goAhead.WriteString("go\n")
	}
	go proc.wait(h.watcher)
	if err != nil {
		return nil, errors.Join(err, proc.kill())
	}
	return proc, nil
}

func (p *process) wait(w *watcher) {
	defer close(p.done)
	p.err = p.cmd.Wait()
	if err := w.remove(p.cmd.Process.Pid); err != nil {
		p.err = errors.Join(p.err, err)
	}
}

// runToEnd runs a helper and returns when it has ended; when the context ends first, it is killed.
func (h *host) runToEnd(ctx context.Context, p program) error {
	proc, err := h.run(ctx, p)
	if err != nil {
		return err
	}
	select {
	case <-proc.done:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), proc.kill())
	}
	if proc.err != nil {
		return fmt.Errorf("%s: %w%s", filepath.Base(p.args[0]), proc.err, tail(p.log))
	}
	return nil
}

// untilReady returns when probe does not fail any more; when the process or the time ends first, it is killed.
func (p *process) untilReady(ctx context.Context, probe func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	go func() { // a probe may hang on a stranger who has taken the port, while the process is long gone
		select {
		case <-p.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if !p.alive() {
				return fmt.Errorf("ended at start: %w%s", p.err, tail(p.log))
			}
			return errors.Join(fmt.Errorf("not ready: %w%s", ctx.Err(), tail(p.log)), p.kill())
		case <-tick.C:
			if bounded(ctx, probe) == nil && p.alive() {
				return nil
			}
		}
	}
}

// bounded makes one probe. A server may accept before it can answer, and may never answer what it accepted then.
func bounded(ctx context.Context, probe func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	return probe(ctx)
}

// alive says whether the process still runs.
func (p *process) alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// stop asks with a signal, to the leader alone, and waits for the end; the context bounds only the waiting.
func (p *process) stop(ctx context.Context, signal syscall.Signal) error {
	if !p.alive() {
		return nil
	}
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal: %w", err)
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end: %w", ctx.Err())
	}
}

// kill is a crash: SIGKILL for the process and all its descendants. It returns when all of them are gone.
//
// The process is frozen first, so that it cannot start a child while its children are looked up. They are looked up
// because Postgres's leave the process group, and one that survived would keep the shared memory attached, which makes
// the next start fail.
func (p *process) kill() error {
	if !p.alive() {
		return nil
	}
	pid := p.cmd.Process.Pid
	if err := syscall.Kill(-pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("freeze: %w", err)
	}
	family := descendants(pid)
	for _, id := range append(family, -pid) {
		if err := syscall.Kill(id, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill: %w", err)
		}
	}
	<-p.done
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for _, id := range family {
		for running(id) {
			<-tick.C // a killed process ends as soon as the kernel lets it
		}
	}
	return nil
}

// descendants lists the children of pid, their children and so on.
func descendants(pid int) []int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var all []int
	for _, list := range lists {
		text, _ := os.ReadFile(list) // gone: it has no children
		for _, word := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(word); err == nil {
				all = append(append(all, child), descendants(child)...)
			}
		}
	}
	return all
}

// running says whether pid is a process that has not ended; a zombie has, whether or not somebody has collected it.
func running(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, found := bytes.Cut(text, []byte(") "))
	return found && !bytes.HasPrefix(state, []byte("Z")) && !bytes.HasPrefix(state, []byte("X"))
}

// tailBytes is how much of a server's log an error carries: its last words, not its life.
const tailBytes = 2000

func tail(log string) string {
	text, err := os.ReadFile(log)
	if err != nil || len(text) == 0 {
		return ""
	}
	return "; its log ends: " + string(text[max(0, len(text)-tailBytes):])
}
