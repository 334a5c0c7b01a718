package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

func manual() *gate { return newGate(SyncMode{Kind: SyncManual}) }

func TestRealtimeIsAlwaysOpen(t *testing.T) {
	g := newGate(SyncMode{Kind: SyncRealtime})
	g.open()()
	if err := g.wait(t.Context()); err != nil || !g.describe().Open {
		t.Errorf("%v, %+v", err, g.describe())
	}
	ctx, cancel := g.context(t.Context())
	defer cancel()
	if ctx.Err() != nil {
		t.Error("closed")
	}
}

// The gate stands open as long as anybody holds it, and closing twice counts once.
func TestGateIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := manual()
		waited := make(chan error, 1)
		go func() { waited <- g.wait(t.Context()) }()
		synctest.Wait()
		if len(waited) > 0 || g.describe().Open {
			t.Fatal("open before anybody opened it")
		}
		first, second := g.open(), g.open()
		if err := <-waited; err != nil {
			t.Fatal(err)
		}
		ctx, cancel := g.context(t.Context())
		defer cancel()
		first()
		first()
		synctest.Wait()
		if ctx.Err() != nil || !g.describe().Open {
			t.Error("closed while one still holds it")
		}
		second()
		<-ctx.Done()
		if late, cancel := g.context(t.Context()); late.Err() == nil {
			t.Error("a context of a closed gate goes on")
			cancel()
		}
		third := g.open()
		ctx, cancel = g.context(t.Context())
		defer cancel()
		third()
		<-ctx.Done()
	})
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := manual().wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func corridorState(s *supervisor) admin.Corridor { return s.snapshot()[0] }

// A corridor behind the gate runs while it is open, begins anew when it opens again, and its end by the gate is no error.
func TestCorridorBehindTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := manual(), newSupervisor(slog.New(slog.DiscardHandler), admin.ShipCorridor)
		runs, fail := 0, make(chan error)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- g.keep(ctx, s, admin.ShipCorridor, func(ctx context.Context, up func()) error {
				runs++
				up()
				select {
				case err := <-fail:
					return err
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		}()
		synctest.Wait()
		if c := corridorState(s); c.State != admin.CorridorClosed || runs != 0 {
			t.Fatalf("%+v, %d runs", c, runs)
		}
		shut := g.open()
		synctest.Wait()
		if c := corridorState(s); c.State != admin.CorridorRunning || runs != 1 {
			t.Fatalf("%+v, %d runs", c, runs)
		}
		fail <- errors.New("connection refused")
		synctest.Wait()
		if c := corridorState(s); c.State != admin.CorridorWaiting || c.Error == "" {
			t.Fatalf("%+v", c)
		}
		time.Sleep(2 * firstWait)
		synctest.Wait()
		if c := corridorState(s); c.State != admin.CorridorRunning || runs != 2 {
			t.Fatalf("%+v, %d runs", c, runs)
		}
		shut()
		synctest.Wait()
		if c := corridorState(s); c.State != admin.CorridorClosed || c.Error != "" || c.Restarts != 1 {
			t.Fatalf("%+v", c)
		}
		defer g.open()()
		synctest.Wait()
		if c := corridorState(s); c.State != admin.CorridorRunning || runs != 3 {
			t.Fatalf("%+v, %d runs", c, runs)
		}
		cancel()
		if err := <-ended; err != nil || corridorState(s).State != admin.CorridorStopped {
			t.Errorf("%v, %+v", err, corridorState(s))
		}
	})
}

// What is refused for good before it was ever up ends the program, as without a gate.
func TestRefusalBehindTheGate(t *testing.T) {
	g, s := newGate(SyncMode{Kind: SyncRealtime}), newSupervisor(slog.New(slog.DiscardHandler), admin.ShipCorridor)
	refusal := &schema.RefusedError{}
	err := g.keep(t.Context(), s, admin.ShipCorridor, func(context.Context, func()) error { return refusal })
	if !errors.Is(err, refusal) {
		t.Errorf("got %v", err)
	}
}

func TestScheduledSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mode, err := parseSync("TZ=UTC 30 2 * * *") // the fake clock begins at midnight UTC
		if err != nil {
			t.Fatal(err)
		}
		g := newGate(mode)
		var at []time.Time
		takes := []time.Duration{time.Hour, 30 * time.Hour, time.Minute}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err = g.schedule(ctx, slog.New(slog.DiscardHandler), func(ctx context.Context) (admin.Moved, error) {
			return g.sync(ctx, func(ctx context.Context, _ telling) (admin.Moved, error) {
				if !g.describe().Open {
					t.Error("drained behind a closed gate")
				}
				at = append(at, time.Now().UTC())
				time.Sleep(takes[len(at)-1])
				switch len(at) {
				case 2:
					return admin.Moved{}, errors.New("the line is down")
				case len(takes):
					cancel()
				}
				return admin.Moved{}, nil
			}, func(string, admin.Moved) {})
		})
		if !errors.Is(err, context.Canceled) || len(at) != 3 {
			t.Fatalf("%v, %v", err, at)
		}
		for i, day := range []int{1, 2, 4} { // the second took until the third's time was over
			if want := time.Date(2000, 1, day, 2, 30, 0, 0, time.UTC); !at[i].Equal(want) {
				t.Errorf("sync %d at %s, want %s", i, at[i], want)
			}
		}
		s := g.describe()
		if s.Open || !s.Last.Equal(time.Now()) || s.Next.UTC().Day() != 5 || s.Mode != admin.SyncScheduled {
			t.Errorf("%+v", s)
		}
	})
}

func TestWithoutAScheduleNothingHappensByItself(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := manual().schedule(ctx, slog.New(slog.DiscardHandler), func(context.Context) (admin.Moved, error) {
		t.Error("a sync that nobody asked for")
		return admin.Moved{}, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
