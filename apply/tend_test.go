package apply

import (
	"fmt"
	"strings"
	"testing"

	"cdc-sidecar/schema"
)

// entries are the numbers of the conflict log's entries that people see, oldest first.
func (h *headOffice) entries() (ids []int64) {
	h.Helper()
	for line := range strings.SplitSeq(h.rows(fmt.Sprintf("SELECT id FROM cdc_sidecar.conflicts WHERE office = '%s' AND state <> 'again' ORDER BY id", h.office)), "\n") {
		var id int64
		if _, err := fmt.Sscan(line, &id); err != nil {
			h.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// resolved checks the only entry, or that of a number.
func (h *headOffice) resolved(id int64, want string) {
	h.Helper()
	h.want(fmt.Sprintf("SELECT state, taken, resolved_at FROM cdc_sidecar.conflicts WHERE office = '%s' AND id = %d", h.office, id), want)
}

func (h *headOffice) resolve(id int64, take string) {
	h.Helper()
	if err := h.applier.Resolve(h.Context(), id, take); err != nil {
		h.Fatal(err)
	}
}

func (h *headOffice) refuses(id int64, take, name string) {
	h.Helper()
	if err := h.applier.Resolve(h.Context(), id, take); err == nil || !strings.Contains(err.Error(), name) {
		h.Errorf("resolve %d, take %s: %v, want it to say %q", id, take, err, name)
	}
}

// A person takes the image that lost, or that which stands; once, and in a transaction of the head's own.
func TestResolve(t *testing.T) {
	was := row("1", "a", "10")
	tests := []struct {
		name   string
		policy schema.PolicyKind
		here   string
		change schema.Change // of north, older than hq's
		rows   [2]string     // when local, and when remote is taken
	}{
		{"decided", schema.Latest, "(1, 'hq', 8)", full(was, "1", "north", null), [2]string{"1 hq 8", "1 north NULL"}},
		{"open", schema.Manual, "(1, 'hq', 8)", full(was, "1", "north", "7"), [2]string{"1 hq 8", "1 north 7"}},
		{"the other office won", schema.BranchWins, "(1, 'hq', 8)", full(was, "1", "north", "7"), [2]string{"1 hq 8", "1 north 7"}},
		{"merged", schema.Merge, "(1, 'a', 8)", full(was, "1", "north", "10"), [2]string{"1 a 8", "1 north 10"}},
		{"a delete", schema.Latest, "(1, 'hq', 8)", remove(item, "1"), [2]string{"1 hq 8", ""}},
		{"a delete that won", schema.BranchWins, "(1, 'hq', 8)", remove(item, "1"), [2]string{"1 hq 8", ""}},
		{"deleted here", schema.Latest, "", full(was, "1", "north", "7"), [2]string{"", "1 north 7"}},
		{"inserted at both", schema.Latest, "(1, 'hq', 8)", insert(item, "1", "north", "7"), [2]string{"1 hq 8", "1 north 7"}},
		{"a part of a row", schema.Latest, "(1, 'hq', 8)", update(item, "1", gone, "7"), [2]string{"1 hq 8", "1 hq 7"}},
		{"a part, and the rest before", schema.Latest, "", full(was, "1", gone, "7"), [2]string{"", "1 a 7"}},
		{"moved, and lost", schema.Latest, "(1, 'hq', 8)", rekey(item, row("1", gone, gone), "2", "north", "7"), [2]string{"1 hq 8", "2 north 7"}},
		{"moved, and won", schema.BranchWins, "(1, 'hq', 8)", rekey(item, row("1", gone, gone), "2", "north", "7"), [2]string{"1 hq 8", "2 north 7"}},
		{"moved, and deleted here", schema.BranchWins, "", rekey(item, row("1", gone, gone), "2", "north", "7"), [2]string{"", "2 north 7"}},
		{"moved, and not by now what had moved", schema.Latest, "(1, 'hq', 8), (2, 'other', 2)", rekey(item, row("1", gone, gone), "2", "north", "7"), [2]string{"1 hq 8\n2 other 2", "2 north 7"}},
	}
	eachHead(t, func(h *headOffice) {
		for _, c := range tests {
			for i, take := range []string{"local", "remote"} {
				h.Logf("%s, %s", c.name, take)
				h.clean()
				h.policy.Kind = c.policy
				if c.here != "" {
					h.exec("INSERT INTO item VALUES " + c.here)
				}
				h.clocks.touched(hq, 10, 500, false, "1")
				h.apply(h.tx(north, 5, 400, c.change))
				id := h.entries()[0]
				before := h.rows("SELECT origin, seq, committed FROM cdc_sidecar.progress WHERE office = '" + string(h.office) + "' ORDER BY origin")
				h.refuses(id, "both", "want local or remote")
				h.resolve(id, take)
				h.want(items, c.rows[i])
				h.resolved(id, fmt.Sprintf("resolved %s %d", take, noon.UnixMicro()))
				h.want("SELECT origin, seq, committed FROM cdc_sidecar.progress WHERE office = '"+string(h.office)+"' ORDER BY origin", before)
				h.refuses(id, "local", take+" was taken")
				h.refuses(id, "remote", take+" was taken")
				h.want(items, c.rows[i])
			}
		}
		h.refuses(1<<40, "local", "no entry")
	})
}

// Both rows gave way to one that moved: each can be had back.
func TestResolveTheRowThatGaveWay(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		h.clean("INSERT INTO item VALUES (1, 'a', 1), (2, 'hq', 8)")
		h.clocks.touched(hq, 10, 500, false, "2")
		h.apply(h.tx(north, 5, 600, rekey(item, row("1", gone, gone), "2", "n", "7")))
		h.want(items, "2 n 7")
		ids := h.entries()
		h.resolve(ids[1], "local")
		h.want(items, "2 hq 8")
		h.resolve(ids[0], "local")
		h.want(items, "1 a 1\n2 hq 8")
	})
}

// What nobody has whole is not made up.
func TestResolveWithoutAWholeRow(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		h.clean()
		h.clocks.touched(hq, 10, 500, false, "1")
		h.apply(h.tx(north, 5, 600, update(item, "1", gone, "7")))
		h.refuses(h.entries()[0], "remote", "does not hold all columns")
		h.want(items, "")
		h.resolve(h.entries()[0], "local")
	})
}

// A change that waits is dropped, and everybody is told how the rows stand, or it is tried once more.
func TestResolveParked(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		p := newParking(w, schema.Head)
		fresh := func() {
			p.clean("INSERT INTO item VALUES (1, 'a', 1), (3, 'c', 3)")
			p.restart() // or what waited would still be known
		}
		fresh()
		p.next(insert(item, "2", "a", "2"))
		p.next(update(item, "2", "a", "5"))
		ids := p.entries()
		p.refuses(ids[0], "remote", "item_name")
		p.refuses(ids[1], "remote", "change or delete that row")
		p.wantParked("id=2", "id=2")
		p.resolve(ids[0], "local")
		p.want(items, "1 a 1\n3 c 3")
		p.wantParked()
		p.wantStates("id=2 unique resolved", "id=2 unique resolved")
		p.wantTold("delete id=2 of  0.0")
		p.refuses(ids[0], "remote", "local was taken")
		p.refuses(ids[1], "remote", "resolved already")
		p.next(insert(item, "2", "b", "2"))
		p.want(items, "1 a 1\n2 b 2\n3 c 3")

		fresh()
		p.clocks.touched(hq, 10, 300, false, "3")
		p.next(rekey(item, row("3", gone, gone), "4", "a", "4"))
		p.next(update(item, "4", gone, "5"))
		id := p.entries()[0]
		p.resolve(id, "local")
		p.want(items, "1 a 1\n3 c 3")
		p.wantParked()
		p.wantStates("id=3 unique resolved", "id=4 unique resolved")
		p.wantTold("insert 3 c 3 of hq 300.1", "delete id=4 of  0.0")

		fresh()
		p.next(rekey(item, row("3", gone, gone), "4", "a", "4"))
		p.next(update(item, "4", gone, "5"))
		p.exec("UPDATE item SET name = 'z' WHERE id = 1")
		p.resolve(p.entries()[1], "remote")
		p.want(items, "1 z 1\n4 a 5")
		p.wantParked()
		p.wantStates("id=3 unique resolved", "id=4 unique resolved")
		p.wantTold("delete id=3 of north 400.2", "insert 4 a 5 of north 400.2")

		fresh() // applied by itself: there is nothing to decide any more
		p.next(update(item, "3", "a", "4"))
		p.exec("DELETE FROM item WHERE id = 1")
		p.tend()
		p.want(items, "3 a 4")
		p.refuses(p.entries()[0], "local", "resolved already")
	})
}

// Counters that wait are added when they are written, whatever was added meanwhile.
func TestAddThatWaited(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		p := newParking(w, schema.Head)
		p.policy = schema.Policy{Kind: schema.Add, Add: []string{"stock"}}
		p.next(full(row("3", "c", "3"), "3", "a", "5"))
		p.next(full(row("3", "a", "5"), "3", "a", "6"))
		p.exec("UPDATE item SET stock = stock + 100 WHERE id = 3", "DELETE FROM item WHERE id = 1")
		p.tend()
		p.want(items, "3 a 106")
	})
}

// Rows that are to be told again are told as they stand, of whoever touched them last; all of them, or all the next time.
func TestAgain(t *testing.T) {
	other := define("other", integer("id"), text("v"))
	eachHead(t, func(h *headOffice) {
		h.options.Receive = func(n schema.TableName) bool { return n != other.TableName }
		h.restart()
		h.clean("INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2)")
		h.clocks.touched(hq, 10, 500, false, "1")
		h.clocks.touched(north, 12, 700, true, "2")
		told := func(c schema.Change) schema.Change {
			c.Decided = &schema.Decision{Origin: north, Stamp: schema.Stamp{Millis: 600}, Known: 3}
			return c
		}
		h.applier.Again([]schema.Change{told(insert(other, "1", "not here")), told(insert(item, "1", "old", "0")), told(remove(item, "2"))})
		h.applier.Again([]schema.Change{told(insert(item, "3", "gone", "0"))})
		if n := h.applier.Owed(); n != 4 {
			h.Errorf("%d are owed", n)
		}
		if h.engine == schema.Postgres { // InnoDB would let us wait for five seconds
			h.exec("BEGIN", "UPDATE item SET stock = 5 WHERE id = 2")
			if err := h.applier.Tend(h.Context(), north); err != nil || h.applier.Owed() != 4 {
				h.Errorf("%v, %d are owed", err, h.applier.Owed())
			}
			h.exec("ROLLBACK")
			h.wantTold()
		}
		if err := h.applier.Tend(h.Context(), north); err != nil || h.applier.Owed() != 0 {
			h.Errorf("%v, %d are owed", err, h.applier.Owed())
		}
		h.wantTold("insert 1 a 1 of hq 500.1", "insert 2 b 2 of north 700.1", "delete id=3 of  0.0")
		h.want(items, "1 a 1\n2 b 2")
		if n := len(h.applier.Conflicts()); n != 0 {
			h.Errorf("%d conflicts are counted", n)
		}
	})
}

// At a branch, what is written beside the stream begins with a progress row, or it would go out as the branch's own.
func TestTendAtABranch(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		p := newParking(w, schema.Branch)
		p.next(insert(item, "2", "a", "2"))
		p.exec("DELETE FROM item WHERE id = 1")
		p.now = p.now.Add(retryParked)
		if err := p.applier.Tend(p.Context(), "nobody"); err == nil || !strings.Contains(err.Error(), "nobody") {
			p.Errorf("got %v", err)
		}
		p.want(items, "3 c 3")
		p.want(fmt.Sprintf("SELECT seq, waits FROM cdc_sidecar.progress WHERE office = '%s' AND origin = 'head'", p.office), "1 1")
		p.tend()
		p.want(items, "2 a 2\n3 c 3")
		// Written once more when the change was parked, then first and last by Tend: nothing waits any longer.
		p.want(fmt.Sprintf("SELECT seq, committed, waits FROM cdc_sidecar.progress WHERE office = '%s' AND origin = 'head'", p.office), fmt.Sprintf("1 %d 0", committed.UnixMicro()+3))
		p.next(update(item, "2", "b", "2"))
	})
}
