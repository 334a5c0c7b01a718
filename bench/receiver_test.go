package main

import (
	"sync"
	"testing"

	"cdc-sidecar/schema"
)

// A receiver that did not notice what is missing would prove nothing.
func TestReceiverInsistsOnEveryTransaction(t *testing.T) {
	row := schema.Change{Op: schema.Insert}
	whole := func(seq uint64, rows int) schema.Transaction {
		return schema.Transaction{Pos: schema.Position{Epoch: 9, Seq: seq}, Changes: make([]schema.Change, rows), Last: true}
	}
	part := func(seq uint64, part int, last bool) schema.Transaction {
		return schema.Transaction{Pos: schema.Position{Epoch: 9, Seq: seq}, Part: part, Last: last, Changes: []schema.Change{row}}
	}
	for name, c := range map[string]struct {
		txs  []schema.Transaction
		seq  uint64
		rows uint64
		fail bool
	}{
		"in order":               {[]schema.Transaction{whole(1, 2), whole(2, 0), whole(3, 1)}, 3, 3, false},
		"in parts":               {[]schema.Transaction{part(1, 0, false), part(1, 1, false), part(1, 2, true), whole(2, 1)}, 2, 4, false},
		"one is missing":         {[]schema.Transaction{whole(1, 1), whole(3, 1)}, 1, 1, true},
		"one is there twice":     {[]schema.Transaction{whole(1, 1), whole(1, 1)}, 1, 1, true},
		"a part is missing":      {[]schema.Transaction{part(1, 0, false), part(1, 2, true)}, 0, 1, true},
		"the end never comes":    {[]schema.Transaction{part(1, 0, false), whole(2, 1)}, 0, 1, true},
		"it begins in the midst": {[]schema.Transaction{part(1, 1, true)}, 0, 0, true},
	} {
		r := newReceiver("north", "", "", 1, new(sync.Mutex))
		if err := r.Begin(t.Context(), "head", schema.Position{Epoch: 9}); err != nil {
			t.Fatal(err)
		}
		err := r.Apply(t.Context(), "head", c.txs)
		if pos, rows, _ := r.has(); (err != nil) != c.fail || pos.Seq != c.seq || rows != c.rows {
			t.Errorf("%s: %v, at %s with %d rows", name, err, pos, rows)
		}
	}
}
