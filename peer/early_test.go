package peer_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"cdc-sidecar/peer"
	"cdc-sidecar/schema"
)

// arrivals is a branch that knows its head, and a large transaction of the head's, of six pieces, that has not come.
func arrivals(t *testing.T) (branch *office, arrive func(from, to int)) {
	t.Helper()
	w := newWorld(t, 1, 1)
	head, branch := w.offices[0], w.offices[1]
	branch.db.progress["head"] = schema.Position{Epoch: head.box.epoch}
	if err := branch.peers.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	head.box.capture("head", schema.Position{}, schema.Position{}, "large", 6)
	return branch, func(from, to int) {
		t.Helper()
		var batch []peer.Delivery
		for _, e := range head.box.entries[from:to] {
			batch = append(batch, &delivery{body: e.Message})
		}
		if err := branch.peers.Receive(context.Background(), batch); err != nil {
			t.Fatal(err)
		}
	}
}

func begun(o *office) int {
	o.db.mu.Lock()
	defer o.db.mu.Unlock()
	return len(o.db.open)
}

// Pieces that come quickly are written as they come; when the line stalls, no lock is held, and the last piece brings all.
func TestALargeTransactionBeginsEarlyOnAFastLineOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		branch, arrive := arrivals(t)
		arrive(0, 1)
		if n := begun(branch); n != 0 {
			t.Fatalf("%d pieces written behind the first", n)
		}
		arrive(1, 3)
		if n := begun(branch); n != 3 {
			t.Fatalf("%d pieces written of three that came quickly", n)
		}
		time.Sleep(time.Second)
		arrive(0, 0) // the tick
		if n := begun(branch); n != 0 {
			t.Fatalf("%d pieces still written while the line stalls", n)
		}
		arrive(3, 5)
		if n := begun(branch); n != 0 {
			t.Fatalf("%d pieces written of a transaction that stalled", n)
		}
		arrive(5, 6)
		if got := rows(branch); len(got) != 6 {
			t.Fatalf("the branch has %v", got)
		}
	})
}

// A failure of what was begun early counts for nothing: the whole is written when the last piece has come.
func TestALargeTransactionThatFailedEarlyIsWrittenWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		branch, arrive := arrivals(t)
		calls := 0
		branch.db.fail = func() bool { calls++; return calls == 2 }
		arrive(0, 4)
		if n := begun(branch); n != 0 || calls != 2 {
			t.Fatalf("%d pieces written after %d calls", n, calls)
		}
		arrive(4, 6)
		if got := rows(branch); len(got) != 6 {
			t.Fatalf("the branch has %v", got)
		}
	})
}
