package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"cdc-sidecar/schema"
)

// tape is a Source that plays batches and then blocks, or fails.
type tape struct {
	batches chan []schema.Transaction
	fail    error

	mu        sync.Mutex
	confirmed []string
}

func newTape(batches ...[]schema.Transaction) *tape {
	t := &tape{batches: make(chan []schema.Transaction, 100)}
	for _, b := range batches {
		t.batches <- b
	}
	return t
}

func (t *tape) Read(ctx context.Context) ([]schema.Transaction, error) {
	select {
	case b := <-t.batches:
		return b, nil
	default:
	}
	if t.fail != nil {
		return nil, t.fail
	}
	select {
	case b := <-t.batches:
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (t *tape) Confirm(source string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.confirmed = append(t.confirmed, source)
}

func (t *tape) Close(context.Context) error { return nil }

func (t *tape) confirms() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.confirmed)
}

func own(source string) schema.Transaction {
	return schema.Transaction{Origin: "north", Last: true, Source: source}
}

func silent(source string, seen uint64) schema.Transaction {
	tx := schema.Transaction{Source: source, Last: true}
	if seen > 0 {
		tx.Seen = schema.Position{Epoch: 1, Seq: seen}
	}
	return tx
}

type recorder struct {
	mu    sync.Mutex
	calls [][]schema.Transaction
}

func (r *recorder) got() [][]schema.Transaction {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

func (r *recorder) sink(_ context.Context, txs []schema.Transaction) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, slices.Clone(txs))
	return nil
}

func (r *recorder) sources() (all []string) {
	for _, txs := range r.got() {
		for _, tx := range txs {
			all = append(all, tx.Source)
		}
	}
	return all
}

// running runs the corridor in the bubble; the returned function ends it.
func running(t *testing.T, src Source, sink schema.Sink) (end func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, src, sink, new(Stats)) }()
	return func() error { cancel(); return <-ended }
}

func TestRunFoldsSilentTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, r := newTape([]schema.Transaction{silent("1", 0), silent("2", 7), silent("3", 0)}), &recorder{}
		end := running(t, src, r.sink)
		synctest.Wait()
		if len(r.got()) != 0 {
			t.Fatalf("a position was handed over at once: %v", r.got())
		}
		time.Sleep(silentEvery)
		synctest.Wait()
		want := [][]schema.Transaction{{silent("3", 7)}}
		if diff := cmp.Diff(want, r.got()); diff != "" {
			t.Fatalf("after %s (-want +got):\n%s", silentEvery, diff)
		}
		time.Sleep(10 * silentEvery)
		synctest.Wait()
		if len(r.got()) != 1 {
			t.Errorf("an idle log wrote again: %v", r.got()[1:])
		}
		if err := end(); err != nil {
			t.Errorf("a clean end gave %v", err)
		}
		if diff := cmp.Diff([]string{"3"}, src.confirms()); diff != "" {
			t.Errorf("confirmed (-want +got):\n%s", diff)
		}
	})
}

func TestRunStampsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, r := newTape([]schema.Transaction{own("1"), silent("2", 5), own("3"), own("4"), silent("5", 6), own("6")}), &recorder{}
		end := running(t, src, r.sink)
		synctest.Wait()
		var seen []uint64
		for _, tx := range r.got()[0] {
			seen = append(seen, tx.Seen.Seq)
		}
		if diff := cmp.Diff([]uint64{0, 5, 5, 6}, seen); diff != "" {
			t.Errorf("seen (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"1", "3", "4", "6"}, r.sources()); diff != "" {
			t.Errorf("a silent transaction before a later one is not needed (-want +got):\n%s", diff)
		}
		_ = end()
	})
}

// While the sink works on one group, the next gathers; what was not taken is not confirmed.
func TestRunGathersWhileTheSinkWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newTape([]schema.Transaction{own("1")}, []schema.Transaction{own("2")}, []schema.Transaction{own("3")})
		r, gate := &recorder{}, make(chan struct{})
		end := running(t, src, func(ctx context.Context, txs []schema.Transaction) error {
			<-gate
			return r.sink(ctx, txs)
		})
		synctest.Wait()
		if len(src.confirms()) != 0 {
			t.Fatalf("confirmed before the sink had it: %v", src.confirms())
		}
		src.batches <- []schema.Transaction{own("4")}
		synctest.Wait()
		close(gate)
		synctest.Wait()
		if n := len(r.got()); n > 2 {
			t.Errorf("%d calls of the sink for what waited together", n)
		}
		if diff := cmp.Diff([]string{"1", "2", "3", "4"}, r.sources()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if got := src.confirms()[len(src.confirms())-1]; got != "4" {
			t.Errorf("confirmed %s last, want 4", got)
		}
		_ = end()
	})
}

// A part has no place to restart from: nothing may be confirmed for it.
func TestRunConfirmsNothingForAPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		part := schema.Transaction{Origin: "north"}
		src, r := newTape([]schema.Transaction{own("1"), part}), &recorder{}
		end := running(t, src, r.sink)
		synctest.Wait()
		if diff := cmp.Diff([]string{"1"}, src.confirms()); diff != "" || len(r.got()[0]) != 2 {
			t.Errorf("confirmed (-want +got):\n%s\nhanded over: %v", diff, r.got())
		}
		_ = end()
	})
}

func TestRunReturnsTheFirstError(t *testing.T) {
	broken := errors.New("broken")
	synctest.Test(t, func(t *testing.T) {
		src, r := newTape([]schema.Transaction{own("1")}), &recorder{}
		src.fail = broken
		if err := Run(t.Context(), src, r.sink, nil); !errors.Is(err, broken) {
			t.Errorf("source failed, Run says %v", err)
		}
		if diff := cmp.Diff([]string{"1"}, r.sources()); diff != "" {
			t.Errorf("what was read before the failure is handed over (-want +got):\n%s", diff)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		src := newTape([]schema.Transaction{own("1")})
		err := Run(t.Context(), src, func(context.Context, []schema.Transaction) error { return broken }, nil)
		if !errors.Is(err, broken) || len(src.confirms()) != 0 {
			t.Errorf("sink failed, Run says %v, confirmed %v", err, src.confirms())
		}
	})
}

// busy is a Source that always has something.
type busy struct{ tape }

func (*busy) Read(context.Context) ([]schema.Transaction, error) {
	return []schema.Transaction{own("1")}, nil
}

// A server that shuts down waits for its readers: one that cannot go on has to leave.
func TestRunLetsGoWhenTheSinkStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		err := Run(t.Context(), &busy{}, func(ctx context.Context, _ []schema.Transaction) error {
			<-ctx.Done()
			return ctx.Err()
		}, nil)
		if !errors.Is(err, errStalled) || time.Since(begun) != stallLimit {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
	})
}

func TestStats(t *testing.T) {
	var s Stats
	table := &schema.Table{}
	commit := time.Now().Add(-time.Second)
	s.delivered([]schema.Transaction{
		{Origin: "a", Commit: commit, Changes: []schema.Change{{Table: table, Op: schema.Insert}, {Table: table, Op: schema.Delete}}},
		{Origin: "a", Commit: commit, Last: true, Changes: []schema.Change{{Table: table, Op: schema.Insert}}},
	}, commit.Add(3*time.Second))
	want := Counts{Transactions: 1, Inserts: 2, Deletes: 1, LastCommit: commit.Truncate(time.Microsecond).UTC(), Lag: 3 * time.Second}
	if diff := cmp.Diff(want, s.Counts()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s.delivered([]schema.Transaction{silent("1", 0)}, time.Now())
	if got := s.Counts(); got.Lag != 0 || got.Transactions != 1 {
		t.Errorf("an idle log: %+v", got)
	}
}

// large is a transaction that is a flood by itself.
func large(source string) schema.Transaction {
	tx := own(source)
	tx.Changes = []schema.Change{{Op: schema.Insert, After: schema.Row{schema.Of(strings.Repeat("x", lingerBytes/8))}}}
	return tx
}

// In a flood, groups wait for company; what is alone leaves at once, and so does a mark that somebody waits for.
func TestRunLingersInAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		src := newTape()
		end := running(t, src, r.sink)
		groups := func() (all []int) {
			for _, txs := range r.got() {
				all = append(all, len(txs))
			}
			return all
		}
		give := func(txs ...schema.Transaction) { src.batches <- txs }

		give(own("1"))
		synctest.Wait()
		if diff := cmp.Diff([]int{1}, groups()); diff != "" {
			t.Fatalf("alone:\n%s", diff)
		}
		time.Sleep(rateWindow)
		give(large("2"), large("3"), large("4"), large("5"))
		synctest.Wait() // this one tells that there is a flood
		for i := range 3 {
			give(large(fmt.Sprint(6 + i)))
			time.Sleep(time.Millisecond)
		}
		if diff := cmp.Diff([]int{1, 4}, groups()); diff != "" {
			t.Fatalf("others are waited for:\n%s", diff)
		}
		time.Sleep(lingerLimit)
		if diff := cmp.Diff([]int{1, 4, 3}, groups()); diff != "" {
			t.Fatalf("not for ever:\n%s", diff)
		}
		time.Sleep(time.Minute)
		give(large("9"), large("10"))
		synctest.Wait()
		time.Sleep(lingerLimit)
		give(own("11"))
		synctest.Wait()
		if diff := cmp.Diff([]int{1, 4, 3, 2, 1}, groups()); diff != "" {
			t.Fatalf("the flood is over:\n%s", diff)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRunDoesNotKeepAMarkWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		src := newTape()
		end := running(t, src, r.sink)
		time.Sleep(rateWindow)
		src.batches <- []schema.Transaction{large("1"), large("2"), large("3"), large("4")}
		synctest.Wait()
		src.batches <- []schema.Transaction{own("5"), {Last: true, Barrier: 7, Source: "6"}}
		synctest.Wait()
		got := r.got()
		if last := got[len(got)-1]; len(got) != 2 || len(last) != 2 || last[1].Barrier != 7 {
			t.Fatalf("got %+v", got)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	})
}
