package apply

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cdc-sidecar/schema"
)

// parking is an office whose item has names that are unique: the head, with north's stream, or a branch, with the head's.
type parking struct {
	*headOffice
	sender schema.Office
	now    time.Time
	hold   *holding // of the branch
}

// holding is what a branch has under way, as a test says.
type holding map[schema.RowID]bool

func (h holding) Touched(_ schema.TableName, row schema.RowID) (bool, error) { return h[row], nil }

func (h holding) Held(_ schema.TableName, row schema.RowID, _ bool) (bool, error) { return h[row], nil }

func (h holding) HeldTable(schema.TableName) bool { return len(h) > 0 }
func (h holding) Holding() bool                   { return len(h) > 0 }

// eachParking runs a test at the head and at a branch of either engine.
func eachParking(t *testing.T, test func(p *parking)) {
	for _, role := range []schema.Role{schema.Head, schema.Branch} {
		t.Run(map[bool]string{true: "head", false: "branch"}[role == schema.Head], func(t *testing.T) {
			each(t, role, func(w *world) { test(newParking(w, role)) })
		})
	}
}

func newParking(w *world, role schema.Role) *parking {
	w.createItem()
	w.exec("CREATE UNIQUE INDEX item_name ON item (name)", "INSERT INTO item VALUES (1, 'a', 1), (3, 'c', 3)")
	p := &parking{headOffice: newHead(w), sender: north, now: noon, hold: &holding{}}
	p.options.Now = func() time.Time { return p.now }
	if role == schema.Branch {
		p.sender = head
		p.options = Options{Office: w.office, Role: schema.Branch, Hold: p.hold, Now: p.options.Now}
	}
	p.restart()
	return p
}

func (p *parking) atHead() bool { return p.options.Role == schema.Head }

// next applies changes of the stream, a transaction of its own, or several.
func (p *parking) next(changes ...schema.Change) {
	p.Helper()
	t := p.tx(p.sender, 5, 400, changes...)
	t.Origin = north
	if err := p.applier.Apply(p.Context(), p.sender, []schema.Transaction{t}); err != nil {
		p.Fatal(err)
	}
	pos, _, err := p.applier.Progress(p.Context(), p.sender)
	if err != nil || pos != t.Pos {
		p.Errorf("progress %s, %v; want %s", pos, err, t.Pos)
	}
}

// tend does what is due, a while later.
func (p *parking) tend() {
	p.Helper()
	p.now = p.now.Add(retryParked)
	if err := p.applier.Tend(p.Context(), p.sender); err != nil {
		p.Fatal(err)
	}
}

// wantParked checks what waits, in the database and by the Applier once it has read it.
func (p *parking) wantParked(keys ...string) {
	p.Helper()
	p.want(fmt.Sprintf("SELECT row_key FROM cdc_sidecar.parked WHERE office = '%s' ORDER BY id", p.office), strings.Join(keys, "\n"))
	ses, err := p.applier.take(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	if err := p.applier.recall(p.Context(), ses); err != nil {
		p.Fatal(err)
	}
	p.applier.release(ses)
	if n, ok := p.applier.Waiting(); n != len(keys) || !ok {
		p.Errorf("%d changes wait (%v), want %d", n, ok, len(keys))
	}
}

// wantStates checks kinds and states of the conflict log; a branch has none.
func (p *parking) wantStates(want ...string) {
	p.Helper()
	if !p.atHead() {
		want = nil
	}
	p.want(fmt.Sprintf("SELECT row_key, kind, state FROM cdc_sidecar.conflicts WHERE office = '%s' AND state <> '%s' ORDER BY id", p.office, stateAgain), strings.Join(want, "\n"))
}

// Another row has the name: it stays as it is, the change waits, the stream goes on, later changes of the row wait behind it,
// also through a restart, and when the name is free the row is as it would have been.
func TestParked(t *testing.T) {
	eachParking(t, func(p *parking) {
		p.next(insert(item, "2", "a", "2"), update(item, "3", "x", "3"))
		p.want(items, "1 a 1\n3 x 3")
		p.wantParked("id=2")
		p.wantStates("id=2 unique parked")
		p.want(fmt.Sprintf("SELECT table_name FROM cdc_sidecar.parked WHERE office = '%s' AND reason LIKE '%%item_name%%' AND parked_at = %d", p.office, p.now.UnixMicro()), "item")
		p.next(update(item, "2", "a", "5"))
		p.restart()
		p.next(update(item, "3", "y", "3"), update(item, "2", gone, "6"))
		p.want(items, "1 a 1\n3 y 3")
		p.wantParked("id=2", "id=2", "id=2")
		p.tend()
		p.want(items, "1 a 1\n3 y 3")
		p.exec("UPDATE item SET name = 'z' WHERE id = 1")
		p.tend()
		p.want(items, "1 z 1\n2 a 6\n3 y 3")
		p.wantParked()
		p.wantStates("id=2 unique resolved", "id=2 unique resolved", "id=2 unique resolved")
		if p.atHead() {
			p.wantTold("insert 2 a 6 of north 400.2")
		}
		p.next(update(item, "2", "b", "7"))
		p.want(items, "1 z 1\n2 b 7\n3 y 3")
	})
}

// The answer to a COMMIT is lost. What that transaction parked waits nevertheless, and is written when it can be.
func TestParkedInACommitWithoutAnswer(t *testing.T) {
	eachParking(t, func(p *parking) {
		wire := newWire(p.world)
		p.next(update(item, "3", "c", "4"))
		var broken atomic.Bool
		cut := func(said []byte) fate {
			if bytes.Contains(said, []byte("COMMIT")) && broken.CompareAndSwap(false, true) {
				return answered
			}
			return passes
		}
		wire.cut.Store(&cut)
		t := p.tx(p.sender, 5, 400, insert(item, "2", "a", "2"))
		t.Origin = north
		if err := p.applier.Apply(p.Context(), p.sender, []schema.Transaction{t}); err == nil {
			p.Fatal("the lost answer was not noticed")
		}
		p.settled()
		if err := p.applier.Apply(p.Context(), p.sender, []schema.Transaction{t}); err != nil { // it is sent once more
			p.Fatal(err)
		}
		p.next(update(item, "1", "z", "1"))
		p.tend()
		p.want(items, "1 z 1\n2 a 2\n3 c 4")
		p.wantParked()
	})
}

// An update waits as well, and a later change of the row that needs the name no more ends the wait at once.
func TestParkedUpdateIsFreed(t *testing.T) {
	eachParking(t, func(p *parking) {
		p.next(update(item, "3", "a", "4"))
		p.want(items, "1 a 1\n3 c 3")
		p.next(update(item, "3", "d", "5"))
		p.want(items, "1 a 1\n3 d 5")
		p.wantParked()
		p.wantStates("id=3 unique resolved")
		p.next(update(item, "3", "a", "6"))
		p.next(remove(item, "3"))
		p.want(items, "1 a 1")
		p.wantParked()
		// The row that has the name goes, or changes, in the very transaction.
		p.next(insert(item, "4", "a", "4"), remove(item, "1"))
		p.want(items, "4 a 4")
		p.next(insert(item, "5", "a", "5"), update(item, "4", "q", "4"))
		p.want(items, "4 q 4\n5 a 5")
		p.wantParked()
	})
}

// What waits is looked at as it is when it is tried, whatever applications did meanwhile, and however often it was tried.
func TestParkedRowThatChangedMeanwhile(t *testing.T) {
	eachParking(t, func(p *parking) {
		p.next(insert(item, "2", "a", "2"))
		p.next(update(item, "2", "a", "4"))
		p.exec("INSERT INTO item VALUES (2, 'app', 7)") // the application makes the very row
		p.next(update(item, "2", "free", gone))
		p.want(items, "1 a 1\n2 free 4\n3 c 3")
		p.wantParked()
		p.next(update(item, "2", "a", "5"))
		p.exec("DELETE FROM item WHERE id = 2")
		p.next(update(item, "2", "b", "6"))
		p.want(items, "1 a 1\n2 b 6\n3 c 3")
		p.wantParked()
	})
}

// Two rows exchange their names, and three pass them on.
func TestExchangedNames(t *testing.T) {
	eachParking(t, func(p *parking) {
		p.next(update(item, "1", "c", "1"), update(item, "3", "a", "3"))
		p.want(items, "1 c 1\n3 a 3")
		p.wantParked()
		p.exec("INSERT INTO item VALUES (5, 'e', 5)")
		p.next(update(item, "1", "a", "1"), update(item, "3", "e", "3"), update(item, "5", "c", "5"))
		p.want(items, "1 a 1\n3 e 3\n5 c 5")
		p.wantParked()
	})
}

// Keys that change into a dispute, and out of one: everything that has to do with it waits, in order.
func TestKeysOfADispute(t *testing.T) {
	tests := []struct {
		name string
		txs  [][]schema.Change
		wait []string // while the name is taken
		rows string
		end  string
	}{
		{
			"into a dispute",
			[][]schema.Change{{insert(item, "2", "a", "2")}, {remove(item, "2"), rekey(item, row("3", gone, gone), "2", "a", "9")}},
			[]string{"id=3"},
			"1 a 1\n3 c 3", "1 z 1\n2 a 9",
		},
		{
			"out of a dispute",
			[][]schema.Change{{insert(item, "2", "a", "2")}, {rekey(item, row("2", gone, gone), "4", "a", "4")}, {update(item, "4", gone, "8")}, {insert(item, "2", "b", "7")}},
			[]string{"id=2", "id=2", "id=4", "id=2"},
			"1 a 1\n3 c 3", "1 z 1\n2 b 7\n3 c 3\n4 a 8",
		},
		{
			"a key change that waits, and a new row of its old key",
			[][]schema.Change{{rekey(item, row("3", gone, gone), "4", "a", "4")}, {insert(item, "3", "new", "9")}, {update(item, "4", "a", "5")}},
			[]string{"id=3", "id=3", "id=4"},
			"1 a 1\n3 c 3", "1 z 1\n3 new 9\n4 a 5",
		},
		{
			"the same in one transaction",
			[][]schema.Change{{rekey(item, row("3", gone, gone), "4", "a", "4"), insert(item, "3", "new", "9"), update(item, "4", "a", "5")}},
			[]string{"id=3", "id=3", "id=4"},
			"1 a 1\n3 c 3", "1 z 1\n3 new 9\n4 a 5",
		},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			eachParking(t, func(p *parking) {
				for i, changes := range c.txs {
					p.next(changes...)
					if i == 1 {
						p.restart()
					}
				}
				p.want(items, c.rows)
				p.wantParked(c.wait...)
				p.exec("UPDATE item SET name = 'z' WHERE id = 1")
				p.tend()
				p.want(items, c.end)
				p.wantParked()
				if p.atHead() {
					p.want(fmt.Sprintf("SELECT count(*) FROM cdc_sidecar.conflicts WHERE office = '%s' AND state = 'parked'", p.office), "0")
				}
			})
		})
	}
}

// A truncate empties the table of what waits, too.
func TestTruncateOfADispute(t *testing.T) {
	eachParking(t, func(p *parking) {
		p.next(insert(item, "2", "a", "2"))
		p.next(schema.Change{Table: item, Op: schema.Truncate}, insert(item, "7", "g", "7"))
		p.tend()
		p.want(items, "7 g 7")
		p.wantParked()
	})
}

// A table that nobody else writes has collisions like any other.
func TestParkedInAOneWayTable(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		p := newParking(w, schema.Head)
		p.options.Written = func(schema.TableName) bool { return false }
		p.restart()
		p.next(insert(item, "2", "a", "2"))
		p.next(update(item, "2", "a", "5"), update(item, "3", "x", "3"))
		p.want(items, "1 a 1\n3 x 3")
		p.wantParked("id=2", "id=2")
		p.exec("DELETE FROM item WHERE id = 1")
		p.tend()
		p.want(items, "2 a 5\n3 x 3")
		p.wantParked()
	})
}

// A conflict whose winner collides waits as it is; and a change of a disputed row that meets a conflict waits behind.
func TestConflictOfADispute(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		p := newParking(w, schema.Head)
		p.clocks.touched(hq, 10, 300, false, "3")
		p.next(update(item, "3", "a", "4"))
		p.want(items, "1 a 1\n3 c 3")
		p.wantParked("id=3")
		p.wantLog("id=3 unique latest none parked: {3,c,3} of hq 300.1 and none to {3,a,4} of north 400.2: {3,c,3}")
		p.wantTold()
		p.exec("UPDATE item SET stock = 33 WHERE id = 3")
		p.clocks.touched(hq, 11, 350, false, "3")
		p.next(update(item, "3", "a", "5"))
		p.want(items, "1 a 1\n3 c 33")
		p.wantParked("id=3", "id=3")
		p.exec("UPDATE item SET name = 'z' WHERE id = 1")
		p.tend()
		p.want(items, "1 z 1\n3 a 5")
		p.wantParked()
		// What stood there until then is kept.
		p.want(fmt.Sprintf("SELECT count(*) FROM cdc_sidecar.conflicts WHERE office = '%s' AND state = 'decided' AND local_image LIKE '%%\"33\"%%' AND result_image LIKE '%%\"5\"%%'", p.office), "1")
		p.wantTold("insert 3 a 5 of north 400.2")
	})
}

// A stamp from far ahead does not come back with what had waited.
func TestDriftOfAParkedChange(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		p := newParking(w, schema.Head)
		mad := p.tx(north, 5, noon.Add(time.Hour).UnixMilli(), insert(item, "2", "a", "2"))
		p.apply(mad)
		p.exec("DELETE FROM item WHERE id = 1")
		p.tend()
		p.want(items, "2 a 2\n3 c 3")
		p.wantTold("insert 2 a 2 of north 100000.0")
	})
}

// Rows that the branch has changes of under way are passed by, and counted; its own transactions come back as nothing, but for
// the resolutions in them.
func TestHold(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		p := newParking(w, schema.Branch)
		(*p.hold)[itemID("1")] = true
		p.next(update(item, "1", "held", "9"), update(item, "3", "x", "9"), insert(item, "4", "d", "4"))
		p.want(items, "1 a 1\n3 x 9\n4 d 4")
		p.next(remove(item, "1"), insert(item, "1", "held", "9"))
		p.want(items, "1 a 1\n3 x 9\n4 d 4")
		if s := p.applier.Stats()[head]; s.Held != 3 || s.Repaired+s.Missing != 0 {
			p.Errorf("%+v", s)
		}

		own := p.tx(head, 0, 500, update(item, "3", "own", "1"), update(item, "4", "decided", "8"), insert(item, "5", "new", "5"), remove(item, "3"))
		own.Origin = p.office
		for i := 1; i < len(own.Changes); i++ {
			own.Changes[i].Decided = &schema.Decision{Origin: hq, Stamp: schema.Stamp{Millis: 700}}
		}
		own.Changes[1].Op = schema.Insert // as the head writes them
		if err := p.applier.Apply(p.Context(), head, []schema.Transaction{own}); err != nil {
			p.Fatal(err)
		}
		p.want(items, "1 a 1\n4 decided 8\n5 new 5")
		p.want(fmt.Sprintf("SELECT stamp_millis FROM cdc_sidecar.progress WHERE office = '%s' AND origin = 'head'", p.office), "700")
		if s := p.applier.Stats()[head]; s.Own != 1 || s.Repaired != 0 {
			p.Errorf("%+v", s)
		}
		delete(*p.hold, itemID("1"))
		p.next(update(item, "1", "b", "9"))
		p.want(items, "1 b 9\n4 decided 8\n5 new 5")
	})
}

// Of a row that moved, one key may be held and the other not; of a truncated table, some rows.
func TestHoldInPart(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		p := newParking(w, schema.Branch)
		moved := rekey(item, row("3", gone, gone), "2", "m", "7")
		(*p.hold)[itemID("3")] = true
		p.next(moved)
		p.want(items, "1 a 1\n2 m 7\n3 c 3")

		clear(*p.hold)
		p.exec("DELETE FROM item WHERE id = 2")
		(*p.hold)[itemID("2")] = true
		p.next(moved)
		p.want(items, "1 a 1")

		p.exec("INSERT INTO item VALUES (2, 'mine', 2), (3, 'c', 3)")
		p.next(update(item, "1", "y", "1"), schema.Change{Table: item, Op: schema.Truncate}, insert(item, "9", "i", "9"))
		p.want(items, "2 mine 2\n9 i 9")
		(*p.hold)[itemID("9")] = true
		p.next(rekey(item, row("9", gone, gone), "2", "j", "9")) // both
		p.want(items, "2 mine 2\n9 i 9")

		// The key that is not held collides: it waits, the other is not touched.
		clear(*p.hold)
		(*p.hold)[itemID("9")] = true
		p.next(rekey(item, row("9", gone, gone), "4", "mine", "4"))
		p.want(items, "2 mine 2\n9 i 9")
		p.wantParked("id=4")
		p.exec("DELETE FROM item WHERE id = 2")
		p.tend()
		p.want(items, "4 mine 4\n9 i 9")
		p.wantParked()
	})
}

// A table that is keyed otherwise here is rejected for its collision as before, and not for what waits of another table.
func TestOtherKeyBesideADispute(t *testing.T) {
	eachParking(t, func(p *parking) {
		if p.atHead() {
			p.options.Written = func(schema.TableName) bool { return false }
			p.restart()
		}
		p.exec("CREATE TABLE side (own int PRIMARY KEY, id int NOT NULL UNIQUE, v varchar(9) UNIQUE)", "INSERT INTO side VALUES (1, 1, 'a'), (2, 2, 'b')")
		side := define("side", integer("id"), text("v"))
		p.next(insert(item, "2", "a", "2"))
		p.next(update(side, "2", "c"))
		p.want("SELECT own, id, v FROM side ORDER BY id", "1 1 a\n2 2 c")
		err := p.applier.Apply(p.Context(), p.sender, []schema.Transaction{p.tx(p.sender, 5, 400, update(side, "2", "a"))})
		var rejected *schema.RejectedError
		if !errors.As(err, &rejected) || !errors.Is(err, errCollides) {
			p.Errorf("got %v", err)
		}
	})
}
