package peer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cdc-sidecar/schema"
)

// chaos is what goes wrong in a run.
type chaos struct {
	breaks float64 // chance of a broken session at each step
	purges int     // how many times a queue is purged
	limit  int     // drop-head bound of every queue
	pieces int     // a transaction has up to so many
}

// seeds is how many runs each kind of trouble gets, more of them with FULL=1.
func seeds() int64 {
	if os.Getenv("CDC_FULL") != "" {
		return 8
	}
	return 3
}

func TestEveryOfficeGetsEverythingOnce(t *testing.T) {
	for name, c := range map[string]chaos{
		"calm":        {pieces: 1},
		"pieces":      {pieces: 7},
		"breaks":      {pieces: 3, breaks: 0.05},
		"purges":      {pieces: 3, purges: 10},
		"overflow":    {pieces: 2, limit: 8},
		"big pieces":  {pieces: 60, breaks: 0.002}, // more pieces than the broker lets us keep unsettled
		"everything":  {pieces: 6, breaks: 0.03, purges: 6, limit: 40},
		"with misses": {pieces: 40, purges: 3, limit: 60},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range seeds() {
				synctest.Test(t, func(t *testing.T) { converge(t, seed, c) })
			}
		})
	}
}

func converge(t *testing.T, seed int64, c chaos) {
	w := newWorld(t, seed, 3)
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	calm := false
	breaks := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return !calm && w.r.Float64() < c.breaks
	}
	var wg sync.WaitGroup
	for _, o := range w.offices {
		o.queue.limit = c.limit
	}
	for _, o := range w.offices {
		wg.Go(func() { w.live(ctx, o, breaks) })
	}
	if !eventually(time.Hour, w.met) {
		t.Fatalf("seed %d: the offices did not find one another", seed)
	}
	want := workload(w, rand.New(rand.NewSource(seed+100)), c)
	mu.Lock()
	calm = true
	mu.Unlock()
	if !eventually(30*time.Minute, func() bool { return w.equal(want) == nil }) {
		w.dump(t)
		t.Errorf("seed %d: %v", seed, w.equal(want))
	}
	if !eventually(30*time.Minute, w.released) {
		t.Errorf("seed %d: a journal still holds what every member has applied", seed)
	}
	cancel()
	wg.Wait()
}

// workload writes at every office and purges queues in between; it returns how many rows there must be.
func workload(w *world, r *rand.Rand, c chaos) int {
	rows := 0
	for i := range 150 {
		o := w.offices[r.Intn(len(w.offices))]
		pieces := 1 + r.Intn(c.pieces)
		o.db.write(fmt.Sprintf("%s/%d", o.name, i), pieces)
		rows += pieces
		if c.purges > 0 && i%(150/c.purges) == 7 {
			w.offices[r.Intn(len(w.offices))].queue.purge()
		}
		if r.Intn(4) == 0 {
			time.Sleep(time.Duration(r.Intn(3000)) * time.Millisecond)
		}
	}
	return rows
}

func eventually(limit time.Duration, f func() bool) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Second) {
		if f() {
			return true
		}
	}
	return false
}

// equal says where an office lacks a row or has one twice.
func (w *world) equal(rows int) error {
	for _, o := range w.offices {
		o.db.mu.Lock()
		n := len(o.db.rows)
		var twice string
		for id, times := range o.db.rows {
			if times != 1 {
				twice = fmt.Sprintf("%s %d times", id, times)
			}
		}
		o.db.mu.Unlock()
		if n != rows || twice != "" {
			return fmt.Errorf("%s has %d of %d rows; %s", o.name, n, rows, twice)
		}
	}
	return nil
}

// met reports that the head knows every branch, and every branch the head.
func (w *world) met() bool {
	for _, o := range w.offices {
		s, _ := o.peers.Status()
		for _, x := range s {
			if x.Progress.Epoch == 0 {
				return false
			}
		}
		if want := 1; o.role == schema.Branch && len(s) != want || o.role == schema.Head && len(s) != len(w.offices)-1 {
			return false
		}
	}
	return true
}

// released reports that no journal holds more than it must.
func (w *world) released() bool {
	for _, o := range w.offices {
		if first, last := o.box.Bounds(); first <= last {
			return false
		}
	}
	return true
}

func TestARejectedChangeHaltsItsStreamAloneAndGoesOnWhenMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 2)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		head, one, two := w.offices[0], w.offices[1], w.offices[2]
		var mended sync.Mutex
		bad := true
		head.db.reject = func(tx schema.Transaction) error {
			mended.Lock()
			defer mended.Unlock()
			if bad && tx.Origin == one.name && tx.Pos.Seq == 3 {
				return &schema.RejectedError{Table: orders.TableName, Key: "id=3", At: tx.Pos, Cause: errors.New("no such column")}
			}
			return nil
		}
		for _, o := range w.offices {
			wg.Go(func() { w.live(ctx, o, func() bool { return false }) })
		}
		if !eventually(time.Hour, w.met) { // what is released before a branch is known, it has to join for
			t.Error("the offices did not find one another")
		}
		for i := range 10 {
			one.db.write(fmt.Sprintf("one/%d", i), 1)
			two.db.write(fmt.Sprintf("two/%d", i), 1)
		}
		if !eventually(5*time.Minute, func() bool { return len(rows(one)) == 20 }) {
			// one's own ten and two's ten
			t.Errorf("branch-1 has %d rows, want 20: the other stream did not go on", len(rows(one)))
		}
		halted := func() bool {
			status, _ := head.peers.Status()
			return status[0].State == "halted"
		}
		if !eventually(5*time.Minute, halted) {
			t.Error("the rejected change halts nothing")
		}
		if n := len(rows(head)); n != 12 {
			t.Errorf("the head has %d rows while branch-1's third transaction is rejected, want 12", n)
		}
		status, _ := head.peers.Status()
		if status[0].State != "halted" || status[0].Halted.At.Seq != 3 || status[1].State != "active" {
			t.Errorf("status: %+v", status)
		}
		mended.Lock()
		bad = false
		mended.Unlock()
		if !eventually(5*time.Minute, func() bool { return w.equal(20) == nil }) {
			t.Error(w.equal(20))
		}
		cancel()
		wg.Wait()
	})
}

func rows(o *office) map[string]int {
	o.db.mu.Lock()
	defer o.db.mu.Unlock()
	out := map[string]int{}
	for k, v := range o.db.rows {
		out[k] = v
	}
	return out
}

func TestABranchThatComesLaterThanTheJournalReachesIsToldToJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 2)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		never := func() bool { return false }
		late := w.offices[2]
		late.away.Store(true)
		for _, o := range w.offices[:2] {
			wg.Go(func() { w.live(ctx, o, never) })
		}
		for i := range 5 {
			w.offices[0].db.write(fmt.Sprintf("head/%d", i), 1)
		}
		if !eventually(time.Minute, w.released) {
			t.Fatal("the head's journal was not released")
		}
		late.away.Store(false)
		wg.Go(func() { w.live(ctx, late, never) })
		if !eventually(time.Minute, func() bool {
			s, _ := late.peers.Status()
			return len(s) == 1 && s[0].State == "needs_join"
		}) {
			s, _ := late.peers.Status()
			t.Errorf("the late branch says %+v", s)
		}
		cancel()
		wg.Wait()
	})
}
