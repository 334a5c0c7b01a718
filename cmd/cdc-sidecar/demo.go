package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/spf13/cobra"

	"cdc-sidecar/fleet"
)

const (
	// The script's length: every phase is to be seen, and all of it with the servers' start stays under a minute.
	demoSeconds = 25
	// In less, nothing has piled up before the link is back; a demonstration of more than an hour is a test.
	demoSecondsMin, demoSecondsMax = 5, 3600
	// The applications write a lot for an office and little for a machine that runs four servers.
	demoWriters = 2
	demoPause   = 50 * time.Millisecond
	// How often the offices are looked at; a look costs each of them one request and one count.
	demoLookEvery = 500 * time.Millisecond
	// How long the offices may take to find one another, and then to become equal: much more than they need anywhere.
	demoMeetLimit, demoConvergeLimit = time.Minute, 45 * time.Second
)

// errInterrupted is a demonstration that ended before it proved anything: no success, and no trouble to keep logs of.
var errInterrupted = errors.New("demo: interrupted before the offices were compared; everything is stopped and removed")

func (p *program) newDemoCommand() *cobra.Command {
	d := &demo{}
	seconds := demoSeconds
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "One head and two branches converge before your eyes, on servers of their own",
		Long: "One head office (Postgres) and two branches (Postgres, MariaDB) with applications that write at all three, on private\n" +
			"servers in a temporary folder. A link is cut and restored, a sidecar is killed and started again; then all rows of all\n" +
			"offices are compared. On a terminal the offices go on until Ctrl-C; with HEADLESS=1, --json or without a terminal it\n" +
			"ends by itself. Exit code 0 only if every office ended equal, 4 when they differ.",
		Example: "  cdc-sidecar demo\n" +
			"  HEADLESS=1 cdc-sidecar demo --seconds 60\n" +
			"  cdc-sidecar demo --json | jq .summary",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if seconds < demoSecondsMin || seconds > demoSecondsMax {
				return &usageError{fmt.Errorf("--seconds must be %d to %d, got %d", demoSecondsMin, demoSecondsMax, seconds)}
			}
			d.length = time.Duration(seconds) * time.Second
			d.screen = newDemoScreen(p.Out, !headless() && !p.json && isTerminal(p.Out))
			if p.json {
				d.screen.out = p.Err
			}
			result, err := d.run(cmd.Context())
			if err != nil {
				return err
			}
			if !result.good() {
				return &failedAnswer{answer: result.answer(), code: result.exitCode()}
			}
			return p.report(cmd, result.answer())
		},
	}
	cmd.Flags().IntVar(&seconds, "seconds", seconds, "how long the applications write, at least")
	cmd.Flags().BoolVar(&d.keep, "keep", false, "keep the folder with configurations, journals and logs")
	return cmd
}

// headless reports whether the user wants no terminal tricks and an end without a key.
func headless() bool {
	h := os.Getenv("HEADLESS")
	return h != "" && h != "0"
}

// demo is one demonstration: a company, and what happens to it.
type demo struct {
	demoStage
	length time.Duration
	screen *demoScreen

	work     *fleet.Workload
	observer *demoObserver
	began    time.Time // of the applications' writing
}

// run is the whole demonstration. What is left of it is a result, and after trouble a folder with the logs.
func (d *demo) run(ctx context.Context) (demoResult, error) {
	result, err := d.play(ctx)
	trouble := !errors.Is(err, errInterrupted) && (err != nil || !result.good())
	kept, closing := d.close(d.keep || trouble)
	if kept != "" {
		d.screen.note("logs", kept)
	}
	if err != nil && !errors.Is(err, errInterrupted) {
		err = fmt.Errorf("demo: %w", err)
	}
	return result, errors.Join(err, closing)
}

func (d *demo) play(ctx context.Context) (demoResult, error) {
	if err := d.open(ctx, d.screen); err != nil {
		return demoResult{}, interrupted(ctx, err)
	}
	if err := d.meet(ctx); err != nil {
		return demoResult{}, interrupted(ctx, err)
	}
	if err := d.perform(ctx); err != nil {
		return demoResult{}, interrupted(ctx, err)
	}
	if d.screen.live { // the Ctrl-C that ended the show must not end the comparison
		ctx = context.WithoutCancel(ctx)
	}
	d.screen.tell(d.elapsed(), "the applications have stopped: what is under way arrives, then every row is compared")
	result, err := d.converge(ctx)
	return result, interrupted(ctx, err)
}

// interrupted tells trouble from a user who wants no more: whatever fails then fails because of that.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// perform is the show, with applications that write from its beginning to its end.
func (d *demo) perform(ctx context.Context) error {
	writing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	d.work = &fleet.Workload{Writers: demoWriters, Pause: demoPause, Tolerate: true}
	wait, err := d.work.Start(writing, d.fleet)
	if err != nil {
		return err
	}
	d.began, d.observer = time.Now(), newDemoObserver(d.fleet, d.work)
	d.screen.begin()
	err = d.show(ctx)
	stop()
	return errors.Join(err, wait())
}

// meet starts the sidecars and waits until they know one another.
func (d *demo) meet(ctx context.Context) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, demoMeetLimit)
	defer cancel()
	if err := d.fleet.Start(ctx); err != nil {
		return errors.Join(d.fallen(), err)
	}
	d.screen.note("sidecars", fmt.Sprintf("head, north and south know one another after %.1f s", time.Since(began).Seconds()))
	for _, o := range d.fleet.Offices {
		d.screen.note("console", fmt.Sprintf("http://%s/  (%s)", o.Admin, o.Name))
	}
	return nil
}

// show plays the script; before a person it then goes on until that person has seen enough, which is no error.
func (d *demo) show(ctx context.Context) error {
	if err := d.watch(ctx, d.length, d.script(), nil); err != nil || !d.screen.live {
		return err
	}
	d.screen.tell(d.elapsed(), "that was the script; the offices go on until Ctrl-C, or q and Enter")
	if err := d.watch(ctx, math.MaxInt64, nil, quitKey(os.Stdin)); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// demoStep is something that happens to an office.
type demoStep struct {
	at     float64 // as a part of the script's length
	tell   string
	do     func() error
	behind *fleet.Office // has something to catch up on from now on
}

// script: a cut link is a third of it, because that is what a branch office lives with.
func (d *demo) script() []demoStep {
	north, south := d.fleet.Offices[1], d.fleet.Offices[2]
	return []demoStep{
		{at: 0.20, tell: "north's link to the broker is cut: its changes wait in its journal", do: func() error {
			north.Link.Cut()
			return nil
		}},
		{at: 0.52, tell: "north's link is restored", do: north.Link.Restore, behind: north},
		{at: 0.66, tell: "kill -9 of south's sidecar: its changes wait in the database's log", do: func() error {
			south.Kill()
			return nil
		}},
		{at: 0.80, tell: "south's sidecar is started again", do: south.Start, behind: south},
	}
}

// watch looks at the offices again and again and lets the steps happen, until the time is over or quit is closed.
func (d *demo) watch(ctx context.Context, length time.Duration, steps []demoStep, quit <-chan struct{}) error {
	tick := time.NewTicker(demoLookEvery)
	defer tick.Stop()
	for d.elapsed() < length {
		for len(steps) > 0 && d.elapsed().Seconds() >= steps[0].at*length.Seconds() {
			step := steps[0]
			steps = steps[1:]
			d.screen.tell(d.elapsed(), step.tell)
			if err := step.do(); err != nil {
				return err
			}
			d.observer.await(step.behind)
		}
		if err := d.fallen(); err != nil {
			return err
		}
		sights := d.observer.look(ctx)
		for _, line := range d.observer.caughtUp(sights) {
			d.screen.tell(d.elapsed(), line)
		}
		if d.screen.due() {
			d.screen.draw(d.elapsed(), d.observer.rates(sights))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-quit:
			return nil
		case <-tick.C:
		}
	}
	return nil
}

// fallen is about a sidecar that has ended by itself: it is to run for ever, whatever happens around it.
func (d *demo) fallen() error {
	for _, o := range d.fleet.Offices {
		if o.Pid() != 0 && !o.Alive() {
			return fmt.Errorf("the sidecar of %s ended by itself: %s", o.Name, lastLine(o.Log()))
		}
	}
	return nil
}

func (d *demo) elapsed() time.Duration { return time.Since(d.began) }

// quitKey is closed when somebody types a line that begins with q. Its goroutine waits for a key that may never come and
// ends with the process, as nothing else can end a read from a terminal.
func quitKey(in io.Reader) <-chan struct{} {
	quit := make(chan struct{})
	go func() {
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			if line := lines.Text(); line != "" && (line[0] == 'q' || line[0] == 'Q') {
				close(quit)
				return
			}
		}
	}()
	return quit
}
