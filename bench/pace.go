package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// pulse is a stretch of paced transactions, numbered from 1: when each was committed, and when it was seen elsewhere. The clock is
// this process', so the two may be compared.
type pulse struct {
	began     time.Time
	committed []atomic.Int64 // nanoseconds since began; index is the number less one
	seen      []time.Duration
	late      atomic.Int64 // transactions that began more than a period behind their time
}

func newPulse(n int) *pulse {
	return &pulse{committed: make([]atomic.Int64, n), seen: make([]time.Duration, n)}
}

// beat makes the transactions over the given connections in turn, one each period, whether or not the one before is through:
// an open loop, as far as the connections suffice. It returns when the last is committed.
func (p *pulse) beat(ctx context.Context, period time.Duration, connections []func(ctx context.Context, number int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for at, change := range connections {
		g.Go(func() error {
			timer := time.NewTimer(0)
			defer timer.Stop()
			for i := at; i < len(p.committed); i += len(connections) {
				wait := time.Until(p.began.Add(time.Duration(i) * period))
				if wait < -period {
					p.late.Add(1)
				}
				timer.Reset(max(wait, 0))
				select {
				case <-timer.C:
				case <-ctx.Done():
					return ctx.Err()
				}
				if err := change(ctx, i+1); err != nil {
					return fmt.Errorf("transaction %d: %w", i+1, err)
				}
				p.committed[i].Store(int64(time.Since(p.began)))
			}
			return nil
		})
	}
	return g.Wait()
}

// The pace of what is measured live: 200 transactions a second over 4 connections.
const (
	beatEvery = 5 * time.Millisecond
	writers   = 4
)

// latencies are the milliseconds from each commit's return until it was seen. One that was seen before its writer had the
// answer took no time.
func (p *pulse) latencies() samples {
	out := make(samples, len(p.seen))
	for i := range out {
		out[i] = max(0, p.seen[i]-time.Duration(p.committed[i].Load())).Seconds() * 1000
	}
	return out
}
