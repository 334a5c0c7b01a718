package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
)

// contestant is a way for changes to get from the source to a target of its own: our sidecars, or the engine's replication.
// It is made stopped. One that is stopped has its place in the source's log.
type contestant interface {
	name() string
	target() database
	// start returns when everything is on its way to run; it does not wait for anything to arrive.
	start(ctx context.Context) error
	// complete says, once the mark has been seen, whether everything before it has arrived, too.
	complete(ctx context.Context) (bool, error)
	// settle waits for what is left to do after the last row: acknowledgements, say.
	settle(ctx context.Context) error
	// processes are the ids of those that work for it, by their roles.
	processes() map[string]int
	// measure adds what else there is to say of a run that has settled.
	measure(ctx context.Context, rows int, o *outcome) error
	// stop returns when nothing of it runs any more.
	stop(ctx context.Context) error
	// close removes it altogether, also after Ctrl-C.
	close() error
}

// The roles of processes, in the order of the report.
const (
	headSidecar   = "head sidecar"
	branchSidecar = "branch sidecar"
	sourceServer  = "source server"
	targetServer  = "target server"
	brokerServer  = "broker"
)

// outcome is what one phase of one contestant was.
type outcome struct {
	seconds     float64            // from the start until everything was there
	starting    float64            // of those, until the phase's first mark was there
	cpu         map[string]float64 // seconds by role
	peak        map[string]float64 // MB by role: sidecars only
	bytesPerRow float64            // on the broker
}

// ours are the two sidecars.
type ours struct {
	fleet          *fleet.Fleet
	source, branch *fleet.Office // branch, or the head where it is the target: whoever receives
	to             database
	servers        map[string]int // processes that are there anyway
	profile        string         // where CPU profiles go; empty: nowhere
}

func (c *ours) name() string { return "ours" }

func (c *ours) target() database { return c.to }

func (c *ours) start(context.Context) error {
	for _, o := range c.fleet.Offices {
		if err := o.Start(); err != nil {
			return err
		}
	}
	return nil
}

// profiles makes each sidecar write a CPU profile, named after what is measured, from its next start to its end.
func (c *ours) profiles(what string) {
	for _, o := range c.fleet.Offices {
		if o.Env = nil; c.profile != "" {
			o.Env = []string{"CDC_CPUPROFILE=" + filepath.Join(c.profile, what+"-"+string(o.Name)+".pprof")}
		}
	}
}

// complete compares positions: rows that have nothing to do with one another may arrive in any order, the mark with them.
func (c *ours) complete(ctx context.Context) (bool, error) {
	source, err := c.source.Status(ctx)
	if err != nil {
		return false, err
	}
	target, err := c.branch.Status(ctx)
	if err != nil {
		return false, err
	}
	for _, p := range target.Peers {
		if p.Office == c.source.Name {
			return p.Progress.Epoch == source.Journal.Epoch && p.Progress.Seq >= source.Journal.Last, nil
		}
	}
	return false, nil
}

func (c *ours) settle(ctx context.Context) error { return c.fleet.Settled(ctx) }

func (c *ours) processes() map[string]int {
	all := map[string]int{headSidecar: c.fleet.Offices[0].Pid(), branchSidecar: c.fleet.Offices[1].Pid()}
	for role, pid := range c.servers {
		all[role] = pid
	}
	return all
}

func (c *ours) measure(ctx context.Context, rows int, o *outcome) error {
	o.peak = map[string]float64{}
	for _, office := range c.fleet.Offices {
		memory, err := memoryOf(office.Pid())
		if err != nil {
			return fmt.Errorf("sidecar of %s: %w", office.Name, err)
		}
		role := branchSidecar
		if office.Role == schema.Head {
			role = headSidecar
		}
		o.peak[role] = memory.peak
	}
	s, err := c.source.Status(ctx)
	o.bytesPerRow = float64(s.Broker.Bytes) / float64(rows)
	return err
}

func (c *ours) stop(ctx context.Context) error {
	var errs []error
	for _, o := range c.fleet.Offices {
		errs = append(errs, o.Stop(ctx))
	}
	return errors.Join(errs...)
}

func (c *ours) close() error { return nil } // the fleet is left by whoever made it

// stuck bounds one phase of one contestant, and what is done before it: it only ends a hang.
const stuck = 10 * time.Minute

// pollEvery is how often the target is asked for the mark.
const pollEvery = 5 * time.Millisecond

// race starts a contestant, times it until a phase's changes are all there, and stops it, on request only when it has settled.
func race(ctx context.Context, c contestant, phase string, rows int, settle bool) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, stuck)
	defer cancel()
	before, err := cpuOf(c.processes())
	if err != nil {
		return outcome{}, err
	}
	began := time.Now()
	if err := c.start(ctx); err != nil {
		return outcome{}, err
	}
	first, last, err := await(ctx, c, phase)
	if err != nil {
		return outcome{}, err
	}
	o := outcome{seconds: last.Sub(began).Seconds(), starting: first.Sub(began).Seconds(), cpu: map[string]float64{}}
	if settle {
		if err := c.settle(ctx); err != nil {
			return o, err
		}
	}
	after, err := cpuOf(c.processes())
	if err != nil {
		return o, err
	}
	for role := range after {
		o.cpu[role] = after[role] - before[role] // a sidecar did not run before
	}
	if err := c.measure(ctx, rows, &o); err != nil {
		return o, err
	}
	return o, c.stop(ctx)
}

// await returns when the phase's first mark was seen at the target, and when everything was there.
func await(ctx context.Context, c contestant, phase string) (first, last time.Time, err error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for ended := false; ; {
		if !ended {
			var begun bool
			if begun, ended, err = c.target().marked(ctx, phase); begun && first.IsZero() {
				first = time.Now()
			}
		}
		last = time.Now()
		if ended && err == nil {
			var all bool
			if all, err = c.complete(ctx); all && err == nil {
				return first, last, nil
			}
		}
		if err != nil {
			return first, last, fmt.Errorf("%s, waiting for %s: %w", c.name(), phase, err)
		}
		select {
		case <-ctx.Done():
			return first, last, fmt.Errorf("%s, waiting for the end of %s: %w", c.name(), phase, ctx.Err())
		case <-tick.C:
		}
	}
}

func cpuOf(processes map[string]int) (map[string]float64, error) {
	used := map[string]float64{}
	for role, pid := range processes {
		var err error
		if used[role], err = cpuSeconds(pid); err != nil {
			return nil, fmt.Errorf("%s: %w", role, err)
		}
	}
	return used, nil
}
