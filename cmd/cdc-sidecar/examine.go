package main

import (
	"context"
	"time"

	"cdc-sidecar/schema"
)

// examineEvery is how often the running sidecar looks at its database as doctor does: tables and settings change while it
// runs, and seldom. A look is a few queries on connections of its own.
const examineEvery = 5 * time.Minute

// examine keeps in the status what doctor would say about the database, until ctx ends. It returns nil: what it finds is
// for people and stops nothing.
func (s *sidecar) examine(ctx context.Context) error {
	tick := time.NewTicker(examineEvery)
	defer tick.Stop()
	for {
		groups := runChecks(ctx, databaseChecks(s.cfg))
		if ctx.Err() != nil {
			return nil
		}
		s.state.found(wrong(groups))
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// wrong are the findings that somebody should look at.
func wrong(groups []groupFindings) []schema.Finding {
	var all []schema.Finding
	for _, g := range groups {
		for _, f := range g.findings {
			if f.Severity != schema.Fine {
				all = append(all, f)
			}
		}
	}
	return all
}
