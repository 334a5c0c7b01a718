package main

import (
	"context"
	"errors"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/journal"
	"cdc-sidecar/schema"
)

const (
	// fullFor is how long capture waits in a journal that is full before the session ends. Meanwhile the rest of the session
	// lives: what makes room comes with it. Not longer, because nobody answers the database then, whose shutdown waits for that.
	fullFor = 15 * time.Second
	// fullAgain is how often it looks for room: the journal tells nobody that it was released.
	fullAgain = 250 * time.Millisecond
)

// makingRoom is a sink into a journal that may be full. At the head, who holds it up is given up at once: applications never
// wait for a branch. A branch waits for the head's acknowledgements, which come only while it listens.
func (s *sidecar) makingRoom(sink schema.Sink) schema.Sink {
	return func(ctx context.Context, txs []schema.Transaction) error {
		err := sink(ctx, txs)
		if !errors.Is(err, journal.ErrFull) {
			return err
		}
		return s.whileFull(ctx, txs, sink, err)
	}
}

// whileFull tries again until there is room, or for as long as fullFor; err is what the sink has said.
func (s *sidecar) whileFull(ctx context.Context, txs []schema.Transaction, sink schema.Sink, err error) error {
	s.log.Warn("the journal is full", "cause", err)
	s.state.readied(false)
	limit, tick := time.NewTimer(fullFor), time.NewTicker(fullAgain)
	defer limit.Stop()
	defer tick.Stop()
	for errors.Is(err, journal.ErrFull) {
		s.keeper.set(admin.CaptureCorridor, admin.CorridorWaiting, err)
		more, failed := s.peers.Relieve(ctx)
		if failed != nil {
			return failed
		}
		if !more {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-limit.C:
				return err
			case <-tick.C:
			}
		}
		err = sink(ctx, txs)
	}
	if err == nil {
		s.keeper.set(admin.CaptureCorridor, admin.CorridorRunning, nil)
		s.state.readied(true)
	}
	return err
}
