package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"

	"cdc-sidecar/admin"
	"cdc-sidecar/journal"
	"cdc-sidecar/peer"
	"cdc-sidecar/schema"
)

// A journal that is full is tried again, for as long as the session can do without capture; other errors are not.
func TestSinkIntoAFullJournal(t *testing.T) {
	full, broken := fmt.Errorf("%w: here", journal.ErrFull), errors.New("broken")
	for _, c := range []struct {
		name    string
		answers []error // the last one for ever
		want    error
		tries   int
		state   admin.CorridorState
	}{
		{"has room", []error{nil}, nil, 1, admin.CorridorRunning},
		{"is broken", []error{broken}, broken, 1, admin.CorridorRunning},
		{"has room soon", []error{full, full, nil}, nil, 3, admin.CorridorRunning},
		{"breaks", []error{full, broken}, broken, 2, admin.CorridorWaiting},
		{"stays full", []error{full}, full, int(fullFor/fullAgain) + 1, admin.CorridorWaiting},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := slog.New(slog.DiscardHandler)
				s := &sidecar{log: log, keeper: newSupervisor(log, admin.CaptureCorridor), peers: peer.New(peer.Config{Role: schema.Branch}, nil, nil, nil)}
				s.keeper.set(admin.CaptureCorridor, admin.CorridorRunning, nil)
				s.state.readied(true)
				tries := 0
				err := s.makingRoom(func(context.Context, []schema.Transaction) error {
					tries++
					return c.answers[min(tries, len(c.answers))-1]
				})(t.Context(), nil)
				if !errors.Is(err, c.want) || tries < c.tries-1 || tries > c.tries {
					t.Errorf("after %d tries: %v; want %v after %d", tries, err, c.want, c.tries)
				}
				if got := s.keeper.snapshot()[0].State; got != c.state {
					t.Errorf("capture is %s, want %s", got, c.state)
				}
			})
		})
	}
}
