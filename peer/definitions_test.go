package peer_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cdc-sidecar/schema"
)

// saidOf gathers what an office hears of definitions.
type saidOf struct {
	mu  sync.Mutex
	all []schema.Definitions
	by  []schema.Office
}

func (s *saidOf) heard(from schema.Office, d *schema.Definitions) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all, s.by = append(s.all, *d), append(s.by, from)
}

func (s *saidOf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// A branch's question gets to the head, and the answer, all pieces of it in their order, to that branch alone. Of what could not be
// sent yet, the newest is.
func TestDefinitionsAreAskedForAndAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 2)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		head, one, two := w.offices[0], w.offices[1], w.offices[2]
		for _, body := range []string{"old", "new"} { // before anybody listens
			one.peers.Say("", schema.Control{Definitions: &schema.Definitions{ID: 6, Body: []byte(body)}})
		}
		for _, o := range w.offices {
			wg.Go(func() { w.live(ctx, o, func() bool { return false }) })
		}
		if !eventually(time.Hour, w.met) {
			t.Error("the offices did not find one another")
		}
		one.peers.Say("", schema.Control{Definitions: &schema.Definitions{ID: 7, Body: []byte("asked")}})
		if !eventually(time.Minute, func() bool {
			n := head.said.count()
			return n > 0 && string(head.said.all[n-1].Body) == "asked"
		}) || head.said.by[0] != one.name {
			t.Errorf("the head heard %+v of %v", head.said.all, head.said.by)
		}
		for _, d := range head.said.all {
			if string(d.Body) == "old" {
				t.Error("the head heard a question that a newer one had replaced")
			}
		}
		for part := range uint32(3) {
			head.peers.Say(one.name, schema.Control{Definitions: &schema.Definitions{To: one.name, ID: 7, Part: part, More: part < 2, Body: []byte{byte(part)}}})
		}
		if !eventually(time.Minute, func() bool { return one.said.count() == 3 }) {
			t.Errorf("the branch heard %+v", one.said.all)
		}
		for i, d := range one.said.all {
			if int(d.Part) != i || d.ID != 7 || d.More != (i < 2) || one.said.by[i] != head.name {
				t.Errorf("piece %d: %+v of %s", i, d, one.said.by[i])
			}
		}
		if two.said.count() != 0 {
			t.Errorf("another branch heard %+v", two.said.all)
		}
		cancel()
		wg.Wait()
	})
}
