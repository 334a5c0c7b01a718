package clock

import (
	"slices"
	"testing"

	"cdc-sidecar/schema"
)

func TestLogged(t *testing.T) {
	var f Follower
	f.logged.before = 10 // a former life's
	tx := func(seq uint64, xid uint32) schema.Transaction {
		return schema.Transaction{Origin: "head", Pos: schema.Position{Epoch: 1, Seq: seq}, XID: xid}
	}
	silent := tx(0, 99)
	silent.Origin = ""
	f.noteLogged([]schema.Transaction{tx(11, 7), tx(12, 7), silent, tx(13, 0), tx(14, 5)})
	f.noteLogged([]schema.Transaction{tx(15, 4_294_967_295), tx(16, 3)})
	for _, c := range []struct {
		from, to uint64
		want     []uint32
		whole    bool
	}{
		{0, 16, []uint32{7, 5, 4_294_967_295, 3}, false},
		{9, 11, []uint32{7}, false},
		{10, 10, nil, true},
		{10, 11, []uint32{7}, true}, // the first part tells of all
		{11, 15, []uint32{5, 4_294_967_295}, true},
		{16, 20, nil, true},
	} {
		if xids, whole := f.Logged(c.from, c.to); !slices.Equal(xids, c.want) || whole != c.whole {
			t.Errorf("behind %d to %d: %v, whole %t; want %v, %t", c.from, c.to, xids, whole, c.want, c.whole)
		}
	}
	for i := range uint32(loggedKept) {
		f.noteLogged([]schema.Transaction{tx(100+uint64(i), 1000+i)})
	}
	if _, whole := f.Logged(15, 200); whole {
		t.Error("whole, though numbers were let go")
	}
	if xids, whole := f.Logged(16, 1<<40); !whole || len(xids) != loggedKept || len(f.logged.ring) != loggedKept {
		t.Errorf("%d numbers of the last %d, whole %t, %d kept", len(xids), loggedKept, whole, len(f.logged.ring))
	}
}

// What is journaled while the index still reads the past is known as well; what a former life journaled is not.
func TestLoggedOfFollower(t *testing.T) {
	dir, j := t.TempDir(), &journalOf{epoch: 1}
	numbered := func(seq uint64) schema.Transaction {
		tx := closed(seq, "head", change("a"))
		tx.XID = 700 + uint32(seq)
		return tx
	}
	f := follow(t, dir, j, 2)
	sink(t, f, j, numbered(1), numbered(2)) // before it caught up
	catchUp(t, f)
	sink(t, f, j, numbered(3))
	if xids, whole := f.Logged(0, 3); !slices.Equal(xids, []uint32{701, 702, 703}) || !whole {
		t.Errorf("%v, whole %t", xids, whole)
	}
	keep(t, f)
	f = follow(t, dir, j, 2)
	catchUp(t, f)
	sink(t, f, j, numbered(4))
	if xids, whole := f.Logged(2, 4); !slices.Equal(xids, []uint32{704}) || whole {
		t.Errorf("behind a restart: %v, whole %t", xids, whole)
	}
	if xids, whole := f.Logged(3, 4); !slices.Equal(xids, []uint32{704}) || !whole {
		t.Errorf("since a restart: %v, whole %t", xids, whole)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
