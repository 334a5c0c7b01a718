package main

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A connection that hangs delays its own transactions and nobody else's.
func TestBeatIsAnOpenLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		at := map[int]time.Duration{}
		p := newPulse(20)
		p.began = time.Now()
		connection := func(hang int) func(context.Context, int) error {
			return func(_ context.Context, n int) error {
				mu.Lock()
				at[n] = time.Since(p.began)
				mu.Unlock()
				if n == hang {
					time.Sleep(32 * time.Millisecond)
				}
				return nil
			}
		}
		if err := p.beat(t.Context(), 5*time.Millisecond, []func(context.Context, int) error{connection(3), connection(0)}); err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= 20; n++ {
			want := time.Duration(n-1) * 5 * time.Millisecond
			if n == 5 || n == 7 || n == 9 { // due at 20, 30 and 40 ms on the connection that hangs from 10 to 42
				want = 42 * time.Millisecond
			}
			if at[n] != want {
				t.Errorf("transaction %d began after %s, want %s", n, at[n], want)
			}
		}
		if p.late.Load() != 2 { // 9 was due only 2 ms before
			t.Errorf("%d were late, want 2", p.late.Load())
		}
	})
}

func TestLatencyIsNeverNegative(t *testing.T) {
	p := newPulse(3)
	for i, ms := range []int{10, 20, 30} {
		p.committed[i].Store(int64(time.Duration(ms) * time.Millisecond))
	}
	p.seen = []time.Duration{14 * time.Millisecond, 19 * time.Millisecond, 31 * time.Millisecond}
	want := samples{4, 0, 1}
	if got := p.latencies(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
