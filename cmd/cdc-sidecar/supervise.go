package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

const (
	// firstWait is short, because most ends are a restart of the other side that is over at once.
	firstWait = 200 * time.Millisecond
	// mostWait keeps the promise of a try at least every five seconds, with the jitter on top.
	mostWait = 4 * time.Second
	jitter   = 0.2
	// repeatAfter: the same error is logged again after a minute, not at every try.
	repeatAfter = time.Minute
)

// supervisor runs corridors again and again: the one retry loop of the program. A corridor never reconnects by itself; it
// returns its error and starts anew from the durable position, the same way as at a cold start.
type supervisor struct {
	log *slog.Logger

	mu        sync.Mutex
	corridors []admin.Corridor
	everUp    map[admin.CorridorName]bool
}

func newSupervisor(log *slog.Logger, names ...admin.CorridorName) *supervisor {
	s := &supervisor{log: log, everUp: map[admin.CorridorName]bool{}}
	for _, n := range names {
		s.corridors = append(s.corridors, admin.Corridor{Name: n, State: admin.CorridorStarting, Since: time.Now()})
	}
	return s
}

// keep runs f until ctx ends (nil), or until it is refused for good before it was ever up (that error). f calls up when it
// does its work.
func (s *supervisor) keep(ctx context.Context, name admin.CorridorName, f func(ctx context.Context, up func()) error) error {
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(firstWait), backoff.WithMaxInterval(mostWait),
		backoff.WithRandomizationFactor(jitter), backoff.WithMaxElapsedTime(0)) // the default gives up after 15 minutes
	var said string
	var saidAt time.Time
	for {
		s.set(name, admin.CorridorStarting, nil)
		err := f(ctx, func() {
			wait.Reset()
			said = ""
			s.set(name, admin.CorridorRunning, nil)
		})
		if ctx.Err() != nil {
			s.set(name, admin.CorridorStopped, nil)
			return nil
		}
		if err == nil {
			err = errors.New("ended without an error")
		}
		var refused *schema.RefusedError
		if errors.As(err, &refused) && !s.wasUp(name) {
			s.set(name, admin.CorridorStopped, err)
			return err
		}
		s.set(name, stateOf(err), err)
		if err.Error() != said || time.Since(saidAt) > repeatAfter {
			s.log.Warn("a corridor ended and is tried again", "corridor", name, "cause", err)
			said, saidAt = err.Error(), time.Now()
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// stateOf tells what waits for somebody to decide from what waits for something to come back.
func stateOf(err error) admin.CorridorState {
	var broken *schema.BrokenError
	if errors.As(err, &broken) {
		return admin.CorridorBlocked
	}
	return admin.CorridorWaiting
}

func (s *supervisor) wasUp(name admin.CorridorName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.everUp[name]
}

// set notes a corridor's state. A start does not hide the error of the last one: that is what an operator wants to see.
func (s *supervisor) set(name admin.CorridorName, state admin.CorridorState, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.corridors {
		c := &s.corridors[i]
		if c.Name != name {
			continue
		}
		switch state {
		case admin.CorridorStarting:
			c.Attempts++
			if c.Error != "" {
				return
			}
		case admin.CorridorRunning:
			s.everUp[name] = true
			c.Error, c.Attempts = "", 0
		case admin.CorridorClosed:
			c.Error, c.Attempts = "", 0
		case admin.CorridorStopped:
			if err == nil { // told to, not ended by an error
				break
			}
			fallthrough
		case admin.CorridorWaiting, admin.CorridorBlocked:
			c.Restarts++
			if err != nil {
				c.Error = err.Error()
			}
		}
		if c.State != state {
			c.State, c.Since = state, time.Now()
		}
	}
}

// snapshot is every corridor's state, and whether it was ever up.
func (s *supervisor) snapshot() []admin.Corridor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]admin.Corridor(nil), s.corridors...)
}
