package journal

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"cdc-sidecar/schema"
)

// small keeps next to nothing of what was released, and has small files.
func small(budget int64) Options {
	o := options()
	o.Budget, o.segment = budget, 64<<10
	return o
}

func fill(t *testing.T, j *Journal, n, size int) []schema.Transaction {
	t.Helper()
	var all []schema.Transaction
	for range n {
		id := int(j.State().Last) + 1
		txs := []schema.Transaction{local(fmt.Sprint(id), row(id, size))}
		put(t, j, txs...)
		all = append(all, txs...)
	}
	return all
}

func TestReleaseIsLazyAndExact(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, small(800<<10)) // keeps 100 KiB
	txs := fill(t, j, 300, 2000)
	release := func(seq, from, to uint64) { // from ≤ First ≤ to
		t.Helper()
		if err := j.Release(seq); err != nil {
			t.Fatal(err)
		}
		s := j.State()
		if s.First < from || s.First > to || s.Last != 300 {
			t.Fatalf("released to %d: %+v", seq, s)
		}
		same(t, all(t, j), txs[s.First-1:])
		if _, err := j.Seek(s.First - 1); s.First > 1 {
			var released *ReleasedError
			if !errors.As(err, &released) || released.First != s.First {
				t.Errorf("seek %d: %v", s.First-1, err)
			}
		}
	}
	release(0, 1, 1)
	release(100, 101, 101)
	if got, want := j.State().Bytes, int64(200*2000); got < want || got > want*5/4 {
		t.Errorf("%d bytes after a third was released, want some %d", got, want)
	}
	release(50, 101, 101)
	release(1000, 230, 280) // some 100 KiB stay of what everybody has
	first := j.State().First
	shut(t, j)
	j = open(t, dir, small(800<<10))
	if s := j.State(); s.First != first || s.Bytes < 80<<10 || s.Bytes > 150<<10 {
		t.Errorf("opened again: %+v, first was %d", s, first)
	}
	txs = append(txs, fill(t, j, 1, 2000)...)
	same(t, all(t, j), txs[first-1:])
}

// Everything that the next life needs stands in the last record, which is never released.
func TestReleaseKeepsTheHead(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, small(64<<10))
	put(t, j, silent("a", 4))
	put(t, j, from(north, 8, "b", row(1, 60<<10)))
	before := j.State()
	if err := j.Release(before.Last); err != nil {
		t.Fatal(err)
	}
	shut(t, j)
	j = open(t, dir, small(64<<10))
	s := j.State()
	if s.Last != before.Last || s.Source != "b" || s.Seen != before.Seen || s.Stamp != before.Stamp || fmt.Sprint(s.Acknowledged) != "[{north 9/8}]" {
		t.Errorf("state %+v, it was %+v", s, before)
	}
	put(t, j, silent("c", 5)) // now nothing but heads is left
	if err := j.Release(s.Last); err != nil {
		t.Fatal(err)
	}
	if s = j.State(); s.First != s.Last+1 || s.Bytes > 1<<10 {
		t.Errorf("state %+v", s)
	}
	if got := all(t, j); len(got) != 0 {
		t.Errorf("holds %s", seqs(got))
	}
}

func TestFullRecovers(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, small(256<<10))
	var txs []schema.Transaction
	var err error
	for id := 1; err == nil; id++ {
		tx := []schema.Transaction{local(fmt.Sprint(id), row(id, 3000))}
		if err = j.Append(t.Context(), tx); err == nil {
			txs = append(txs, tx...)
		}
	}
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "remedy:") {
		t.Fatalf("got %v", err)
	}
	full := j.State()
	if full.Bytes < 256<<10 || full.Bytes > 300<<10 || full.Last != uint64(len(txs)) {
		t.Errorf("full at %+v", full)
	}
	if err := j.Append(t.Context(), []schema.Transaction{silent("x", 1)}); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	same(t, all(t, j), txs)
	if err := j.Release(full.Last / 2); err != nil {
		t.Fatal(err)
	}
	txs = append(txs, fill(t, j, 1, 3000)...)
	if got, want := j.State().Last, full.Last+1; got != want {
		t.Errorf("last is %d after it recovered, want %d", got, want)
	}
	same(t, all(t, j), txs[full.Last/2:])
}

// A transaction larger than the budget goes in, and out when everybody has it: it is the last, and gone but for the head
// that its last piece is.
func TestReleaseOfATransactionBeyondTheBudget(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, small(128<<10))
	first := fill(t, j, 1, 10)
	large := parts(local("", row(2, 100<<10)), local("", row(3, 100<<10)), local("", row(4, 100<<10)), local("2", row(5, 100<<10)))
	for i := range large {
		put(t, j, large[i:i+1]...)
	}
	if err := j.Append(t.Context(), []schema.Transaction{local("3", row(6, 10))}); !errors.Is(err, ErrFull) {
		t.Fatalf("got %v", err)
	}
	if err := j.Release(1); err != nil {
		t.Fatal(err)
	}
	if got := all(t, j); len(got) != len(first)+3 || got[0].Pos.Seq != 2 || got[0].Part != 0 {
		t.Errorf("holds %s: the transaction must stay whole", seqs(got))
	}
	if err := j.Release(2); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		if s := j.State(); s.First != 3 || s.Last != 2 || s.Source != "2" || s.Bytes > s.Budget {
			t.Errorf("state %+v", s)
		}
		var released *ReleasedError
		if _, err := j.Seek(2); !errors.As(err, &released) || released.First != 3 {
			t.Errorf("seek 2: %v: its last piece alone is no transaction", err)
		}
		if got := all(t, j); len(got) != 0 {
			t.Errorf("holds %s", seqs(got))
		}
	}
	check()
	shut(t, j)
	j = open(t, dir, small(128<<10))
	check()
	next := []schema.Transaction{local("3", row(6, 10))}
	put(t, j, next...)
	same(t, all(t, j), next)
}
