package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"cdc-sidecar/admin"
)

// gate says when the corridors to the broker run: always (realtime), else while somebody holds it open. Capture does not ask
// it: what an office writes is journalled in any mode.
type gate struct {
	mode SyncMode

	mu      sync.Mutex
	holders int           // opens that were not closed yet; in realtime one is never closed
	turned  chan struct{} // closed, and made anew, whenever the gate opens or closes
	last    time.Time     // end of the last sync that moved everything
}

func newGate(mode SyncMode) *gate {
	g := &gate{mode: mode, turned: make(chan struct{})}
	if mode.Kind == SyncRealtime {
		g.holders = 1
	}
	return g
}

// open holds the gate open until close is called, once or more often: for a sync, a join, a comparison.
func (g *gate) open() (close func()) {
	g.hold(1)
	return sync.OnceFunc(func() { g.hold(-1) })
}

func (g *gate) hold(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.holders > 0
	g.holders += n
	if (g.holders > 0) != before {
		close(g.turned)
		g.turned = make(chan struct{})
	}
}

// state is whether the gate is open, and what is closed when that changes.
func (g *gate) state() (open bool, turned <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.holders > 0, g.turned
}

// wait returns when the gate is open, or with ctx's error.
func (g *gate) wait(ctx context.Context) error {
	for {
		open, turned := g.state()
		if open {
			return ctx.Err()
		}
		select {
		case <-turned:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// context ends with parent, with cancel, and when the gate closes. Called while the gate is closed it has ended already.
func (g *gate) context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	open, turned := g.state()
	if !open {
		cancel()
		return ctx, cancel
	}
	go func() {
		defer cancel()
		for open {
			select {
			case <-turned:
				open, turned = g.state() // closed and opened again is open
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, cancel
}

// keep is the supervisor's keep, for a corridor that runs while the gate is open.
func (g *gate) keep(ctx context.Context, s *supervisor, name admin.CorridorName, f func(ctx context.Context, up func()) error) error {
	for {
		if open, _ := g.state(); !open {
			s.set(name, admin.CorridorClosed, nil)
		}
		if g.wait(ctx) != nil {
			s.set(name, admin.CorridorStopped, nil)
			return nil
		}
		open, cancel := g.context(ctx)
		err := s.keep(open, name, f)
		cancel()
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// drain sends what waits here and takes what waits for us, up to a position that it fixes when it begins, and tells every now
// and then what it waits for (empty: nothing) and what has moved. It goes on through outages, until ctx ends.
type drain func(ctx context.Context, tell telling) (admin.Moved, error)

type telling func(waitsFor string, moved admin.Moved)

// sync opens the gate, drains, and closes it again.
func (g *gate) sync(ctx context.Context, d drain, tell telling) (admin.Moved, error) {
	defer g.open()()
	moved, err := d(ctx, tell)
	if err == nil {
		g.mu.Lock()
		g.last = time.Now()
		g.mu.Unlock()
	}
	return moved, err
}

// schedule synchronises at each time of the configuration's schedule, until ctx ends; without one it only waits for that. A
// time that comes while a sync is still under way is passed over.
func (g *gate) schedule(ctx context.Context, log *slog.Logger, synchronise func(context.Context) (admin.Moved, error)) error {
	if g.mode.Schedule == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	for {
		next := g.mode.Schedule.Next(time.Now())
		if !sleepUntil(ctx, next) {
			return ctx.Err()
		}
		moved, err := synchronise(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			log.Warn("the scheduled sync failed; it is tried at the next time", "cause", err, "next", g.mode.Schedule.Next(time.Now()))
		default:
			log.Info("synchronised by schedule", "sent", moved.Sent.Transactions, "received", moved.Received.Transactions,
				"next", g.mode.Schedule.Next(time.Now()))
		}
	}
}

// clockLook is how often the clock on the wall is asked: a machine that slept, or whose clock was set, is noticed by then.
const clockLook = time.Minute

// sleepUntil waits for a time of the clock on the wall; false: ctx ended before. A zero time never comes.
func sleepUntil(ctx context.Context, at time.Time) bool {
	for {
		left := clockLook
		if !at.IsZero() {
			// Round drops the monotonic reading: it stands still while the machine sleeps.
			left = min(left, at.Sub(time.Now().Round(0)))
		}
		if left <= 0 {
			return true
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
}

// describe is the gate for status.
func (g *gate) describe() admin.Sync {
	g.mu.Lock()
	s := admin.Sync{Mode: string(g.mode.Kind), Schedule: g.mode.Text, Open: g.holders > 0, Last: g.last}
	g.mu.Unlock()
	if g.mode.Schedule != nil {
		s.Next = g.mode.Schedule.Next(time.Now())
	}
	return s
}
