package apply

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cdc-sidecar/schema"
)

const (
	hq    = schema.Office("hq") // whose touches the head's clocks know in these tests
	north = schema.Office("north")
	south = schema.Office("south")
)

// touch is what a clock remembers.
type touch struct {
	seq    uint64
	origin schema.Office
	stamp  schema.Stamp
	plain  bool
}

// clocks are the head's as a test sets them. A mark is passed as soon as behind has returned.
type clocks struct {
	mu      sync.Mutex
	rows    map[schema.RowID][]touch
	tables  map[schema.TableName][]touch
	writers map[schema.TableName][]schema.Office
	marks   []uint64
	gone    uint64 // released
	behind  func() // what applications do once the rows are locked
	refuse  error
}

// known is the last seq of the head's stream in all these tests.
const known = 77

func (c *clocks) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows, c.tables, c.behind, c.refuse, c.gone = map[schema.RowID][]touch{}, map[schema.TableName][]touch{}, nil, nil, 0
}

// touched notes a touch of rows of item.
func (c *clocks) touched(origin schema.Office, seq uint64, millis int64, plain bool, ids ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := touch{seq, origin, schema.Stamp{Millis: millis, Counter: 1}, plain}
	for _, id := range ids {
		row := itemID(id)
		c.rows[row] = append(c.rows[row], t)
		c.tables[item.TableName] = append(c.tables[item.TableName], t)
	}
}

func itemID(id string) schema.RowID { return item.RowID(row(id, gone, gone)) }

func newest(touches []touch, origin schema.Office) (last touch) {
	for _, t := range touches {
		if (!t.plain || t.origin != origin) && t.seq > last.seq {
			last = t
		}
	}
	return last
}

func (c *clocks) Epoch() uint64 { return epoch }

func (c *clocks) Against(_ schema.TableName, row schema.RowID, origin schema.Office) (uint64, schema.Office, schema.Stamp, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := newest(c.rows[row], origin)
	return t.seq, t.origin, t.stamp, nil
}

func (c *clocks) TableAgainst(table schema.TableName, origin schema.Office) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return newest(c.tables[table], origin).seq
}

func (c *clocks) Writers(table schema.TableName) []schema.Office { return c.writers[table] }

func (c *clocks) Passed(_ context.Context, mark uint64) error {
	c.mu.Lock()
	c.marks = append(c.marks, mark)
	behind, refuse := c.behind, c.refuse
	c.mu.Unlock()
	if behind != nil {
		behind()
	}
	return refuse
}

func (c *clocks) Last() uint64 { return known }
func (c *clocks) Released() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}
func (c *clocks) Now() schema.Stamp { return schema.Stamp{Millis: 900} }

func (c *clocks) barriers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.marks)
}

// noon is the head's wall clock: far ahead of all stamps of these tests but those that are mad.
var noon = time.UnixMilli(100_000)

// headOffice is a head with a table that everybody writes.
type headOffice struct {
	*world
	clocks  *clocks
	policy  schema.Policy
	options Options
	last    map[schema.Office]uint64 // seq of each branch's stream
}

func newHead(w *world) *headOffice {
	h := &headOffice{world: w, clocks: &clocks{writers: map[schema.TableName][]schema.Office{}}, last: map[schema.Office]uint64{}}
	h.clocks.forget()
	h.options = Options{
		Office: w.office, Role: schema.Head, Clocks: h.clocks, Now: func() time.Time { return noon },
		Policy: func(schema.TableName) schema.Policy { return h.policy },
	}
	h.restart()
	h.begin(north)
	h.begin(south)
	return h
}

// restart is a new life of the program.
func (h *headOffice) restart() {
	h.applier.Close()
	h.applier = New(h.target, h.options)
	h.Cleanup(h.applier.Close)
}

// clean is for the next case: an empty table, clocks that know nothing, and nothing in the log.
func (h *headOffice) clean(statements ...string) {
	h.Helper()
	h.clocks.forget()
	h.policy = schema.Policy{}
	for _, table := range []string{"conflicts", "parked"} {
		h.exec(fmt.Sprintf("DELETE FROM cdc_sidecar.%s WHERE office = '%s'", table, h.office))
	}
	h.exec("DELETE FROM item")
	h.exec(statements...)
}

// tx is the next transaction of a branch that has seen the head's stream up to seen.
func (h *headOffice) tx(sender schema.Office, seen uint64, millis int64, changes ...schema.Change) schema.Transaction {
	h.last[sender]++
	t := tx(h.last[sender], changes...)
	t.Origin, t.Seen, t.Stamp = sender, schema.Position{Epoch: epoch, Seq: seen}, schema.Stamp{Millis: millis, Counter: 2}
	return t
}

func (h *headOffice) apply(txs ...schema.Transaction) {
	h.Helper()
	if err := h.applier.Apply(h.Context(), txs[0].Origin, txs); err != nil {
		h.Fatal(err)
	}
}

// wantLog checks the conflict log: of each entry the kind, the winner, its state, the images, and whose they are.
func (h *headOffice) wantLog(want ...string) {
	h.Helper()
	got := h.rows(fmt.Sprintf(`SELECT concat(row_key, ' ', kind, ' ', policy, ' ', winner, ' ', state, ': ', coalesce(local_image, 'none'), ' of ', local_origin,
		' ', local_millis, '.', local_counter, ' and ', coalesce(remote_before, 'none'), ' to ', coalesce(remote_image, 'none'), ' of ', remote_origin,
		' ', remote_millis, '.', remote_counter, ': ', coalesce(result_image, 'none')) FROM cdc_sidecar.conflicts WHERE office = '%s' ORDER BY id`, h.office))
	if want := strings.Join(want, "\n"); brief(got) != want {
		h.Errorf("the conflict log has\n%s\nwant\n%s", brief(got), want)
	}
}

// brief writes images of item as their values alone.
func brief(log string) string {
	for _, name := range []string{"id", "name", "stock", "code"} {
		log = strings.ReplaceAll(log, `"`+name+`":`, "")
	}
	return strings.ReplaceAll(log, `"`, "")
}

// wantTold checks what is told to all offices, in the order of the log: the rows of each entry that tells of any.
func (h *headOffice) wantTold(want ...string) {
	h.Helper()
	lines := h.rows(fmt.Sprintf("SELECT %s FROM cdc_sidecar.conflicts WHERE office = '%s' AND resolution IS NOT NULL ORDER BY id",
		h.pick("encode(resolution, 'hex')", "HEX(resolution)"), h.office))
	var got []string
	for line := range strings.SplitSeq(lines, "\n") {
		body, err := hex.DecodeString(line)
		if err != nil {
			h.Fatal(err)
		}
		if len(body) == 0 {
			continue
		}
		batch, err := schema.DecodeBatch(body, epoch)
		if err != nil || len(batch.Transactions) != 1 {
			h.Fatalf("%d transactions: %v", len(batch.Transactions), err)
		}
		for _, c := range batch.Transactions[0].Changes {
			if err := c.Validate(); err != nil {
				h.Error(err)
			}
			image := show(c.After)
			if c.Op == schema.Delete {
				image = c.KeyString()
			}
			if c.Decided == nil || c.Decided.Known != known {
				h.Fatalf("decided: %+v", c.Decided)
			}
			got = append(got, fmt.Sprintf("%s %s of %s %d.%d", c.Op, image, c.Decided.Origin, c.Decided.Stamp.Millis, c.Decided.Stamp.Counter))
		}
	}
	if !slices.Equal(got, want) {
		h.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func eachHead(t *testing.T, test func(h *headOffice)) {
	each(t, schema.Head, func(w *world) {
		w.createItem()
		test(newHead(w))
	})
}

func full(before schema.Row, after ...string) schema.Change { return rekey(item, before, after...) }

var asItWas = row("1", "a", "10")

const asItIs = "INSERT INTO item VALUES (1, 'hq', 8)"

// One change of north, which has seen the head's stream to 5, meets the head's touch 10 of the stamp 500.
var arbitrations = []struct {
	name   string
	policy schema.Policy
	here   string // the row as it stands
	millis int64  // of north's change
	change schema.Change
	rows   string
	log    string
	told   []string
}{
	{
		"update/update, theirs later", latestPolicy, asItIs, 600, full(asItWas, "1", "north", "7"), "1 north 7",
		"id=1 update/update latest remote decided: {1,hq,8} of hq 500.1 and {1,a,10} to {1,north,7} of north 600.2: {1,north,7}",
		[]string{"insert 1 north 7 of north 600.2"},
	},
	{
		"update/update, ours later", latestPolicy, asItIs, 400, full(asItWas, "1", "north", "7"), "1 hq 8",
		"id=1 update/update latest local decided: {1,hq,8} of hq 500.1 and {1,a,10} to {1,north,7} of north 400.2: {1,hq,8}",
		[]string{"insert 1 hq 8 of hq 500.1"},
	},
	{
		"update/delete, theirs later", latestPolicy, asItIs, 600, remove(item, "1"), "",
		"id=1 update/delete latest remote decided: {1,hq,8} of hq 500.1 and {1} to none of north 600.2: none",
		[]string{"delete id=1 of north 600.2"},
	},
	{
		"update/delete, ours later", latestPolicy, asItIs, 400, remove(item, "1"), "1 hq 8",
		"id=1 update/delete latest local decided: {1,hq,8} of hq 500.1 and {1} to none of north 400.2: {1,hq,8}",
		[]string{"insert 1 hq 8 of hq 500.1"},
	},
	{
		"delete/update, theirs later", latestPolicy, "", 600, full(asItWas, "1", "north", "7"), "1 north 7",
		"id=1 delete/update latest remote decided: none of hq 500.1 and {1,a,10} to {1,north,7} of north 600.2: {1,north,7}",
		[]string{"insert 1 north 7 of north 600.2"},
	},
	{
		"delete/update, ours later", latestPolicy, "", 400, full(asItWas, "1", "north", "7"), "",
		"id=1 delete/update latest local decided: none of hq 500.1 and {1,a,10} to {1,north,7} of north 400.2: none",
		[]string{"delete id=1 of hq 500.1"},
	},
	{
		"delete/delete", latestPolicy, "", 600, remove(item, "1"), "",
		"id=1 delete/delete latest remote decided: none of hq 500.1 and {1} to none of north 600.2: none",
		[]string{"delete id=1 of north 600.2"},
	},
	{
		"insert/insert, theirs later", latestPolicy, asItIs, 600, insert(item, "1", "north", null), "1 north NULL",
		"id=1 insert/insert latest remote decided: {1,hq,8} of hq 500.1 and none to {1,north,null} of north 600.2: {1,north,null}",
		[]string{"insert 1 north NULL of north 600.2"},
	},
	{
		"insert/insert, ours later", latestPolicy, asItIs, 400, insert(item, "1", "north", null), "1 hq 8",
		"id=1 insert/insert latest local decided: {1,hq,8} of hq 500.1 and none to {1,north,null} of north 400.2: {1,hq,8}",
		[]string{"insert 1 hq 8 of hq 500.1"},
	},
	{
		"head",
		schema.Policy{Kind: schema.HeadWins},
		asItIs, 600, full(asItWas, "1", "north", "7"), "1 hq 8",
		"id=1 update/update head local decided: {1,hq,8} of hq 500.1 and {1,a,10} to {1,north,7} of north 600.2: {1,hq,8}",
		[]string{"insert 1 hq 8 of hq 500.1"},
	},
	{
		"branch",
		schema.Policy{Kind: schema.BranchWins},
		asItIs, 400, full(asItWas, "1", "north", "7"), "1 north 7",
		"id=1 update/update branch remote decided: {1,hq,8} of hq 500.1 and {1,a,10} to {1,north,7} of north 400.2: {1,north,7}",
		[]string{"insert 1 north 7 of north 400.2"},
	},
	{
		"a list",
		schema.Policy{Kind: schema.Ordered, Order: []schema.Office{"north", "hq"}},
		asItIs, 400, full(asItWas, "1", "north", "7"), "1 north 7",
		"id=1 update/update [north, hq] remote decided: {1,hq,8} of hq 500.1 and {1,a,10} to {1,north,7} of north 400.2: {1,north,7}",
		[]string{"insert 1 north 7 of north 400.2"},
	},
	{
		"merge", mergePolicy, asItIs, 600, full(row("1", "hq", "10"), "1", "north", "10"), "1 north 8",
		"id=1 update/update merge merged decided: {1,hq,8} of hq 500.1 and {1,hq,10} to {1,north,10} of north 600.2: {1,north,8}",
		[]string{"insert 1 north 8 of north 600.2"},
	},
	{
		"add",
		schema.Policy{Kind: schema.Add, Add: []string{"stock"}},
		asItIs, 400, full(asItWas, "1", "north", "7"), "1 hq 5",
		"id=1 update/update {add: [stock]} merged decided: {1,hq,8} of hq 500.1 and {1,a,10} to {1,north,7} of north 400.2: {1,hq,5}",
		[]string{"insert 1 hq 5 of hq 500.1"},
	},
	{
		"manual",
		schema.Policy{Kind: schema.Manual},
		asItIs, 600, full(asItWas, "1", "north", "7"), "1 hq 8",
		"id=1 update/update manual none open: {1,hq,8} of hq 500.1 and {1,a,10} to {1,north,7} of north 600.2: {1,hq,8}",
		[]string{"insert 1 hq 8 of hq 500.1"},
	},
	{
		"an unchanged column keeps the head's value", latestPolicy, asItIs, 600, update(item, "1", gone, "7"), "1 hq 7",
		"id=1 update/update latest remote decided: {1,hq,8} of hq 500.1 and none to {1,7} of north 600.2: {1,hq,7}",
		[]string{"insert 1 hq 7 of north 600.2"},
	},
	{
		"a part of a row that is gone stays gone", latestPolicy, "", 600, update(item, "1", gone, "7"), "",
		"id=1 delete/update latest local decided: none of hq 500.1 and none to {1,7} of north 600.2: none",
		[]string{"delete id=1 of hq 500.1"},
	},
}

func TestArbitrate(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		for _, c := range arbitrations {
			h.clean()
			h.policy = c.policy
			if c.here != "" {
				h.exec(c.here)
			}
			h.clocks.touched(hq, 10, 500, false, "1")
			h.apply(h.tx(north, 5, c.millis, c.change))
			h.Logf("%s", c.name)
			h.want(items, c.rows)
			h.wantLog(c.log)
			h.wantTold(c.told...)
		}
	})
}

// The other columns of an entry: whose log, when, which transaction, that nobody has resolved it; and what is counted.
func TestConflictEntry(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		h.exec("INSERT INTO item VALUES (1, 'hq', 8)")
		h.clocks.touched(hq, 10, 500, false, "1")
		h.apply(h.tx(north, 9, 600, update(item, "1", "north", "7")))
		h.want(fmt.Sprintf("SELECT office, decided_at, table_name, remote_epoch, remote_seq, resolved_at, taken FROM cdc_sidecar.conflicts WHERE office = '%s'", h.office),
			fmt.Sprintf("%s %d item %d 1 0 ", h.office, noon.UnixMicro(), epoch))
		want := map[Conflict]uint64{{Table: item.TableName, Policy: schema.Latest, Winner: "remote"}: 1}
		if got := h.applier.Conflicts(); fmt.Sprint(got) != fmt.Sprint(want) {
			h.Errorf("counted %v, want %v", got, want)
		}
	})
}

// What is no conflict leaves nothing behind but its row, and costs one barrier for a group.
func TestNoConflict(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		h.exec("INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)")
		h.apply(h.tx(north, 5, 100))                // the first of a life has a barrier of its own
		h.clocks.touched(hq, 5, 500, false, "1")    // seen
		h.clocks.touched(south, 5, 500, true, "1")  // seen
		h.clocks.touched(north, 12, 500, true, "2") // its own, not yet come back to it
		h.clocks.touched(hq, 6, 500, false, "3")    // of a row that it does not touch
		before := h.clocks.barriers()
		h.apply(h.tx(north, 5, 400, update(item, "1", "x", "1"), insert(item, "4", "d", "4")), h.tx(north, 5, 401, update(item, "2", "y", "2")), h.tx(north, 5, 402, remove(item, "4")))
		h.want(items, "1 x 1\n2 y 2\n3 c 3")
		h.wantLog()
		if got := h.clocks.barriers() - before; got != 1 {
			h.Errorf("%d barriers for one group", got)
		}
		if s := h.applier.Stats()[north]; s.Barriers != 1 || s.Repaired+s.Busy+s.Parked != 0 {
			h.Errorf("%+v", s)
		}
		marks := h.clocks.marks
		if !slices.IsSorted(marks) || len(slices.Compact(slices.Clone(marks))) != len(marks) {
			h.Errorf("marks %v do not rise", marks)
		}
		// Another branch's change of a row that north has not seen is one, plain as it is.
		h.clocks.touched(south, 13, 500, true, "3")
		h.apply(h.tx(north, 5, 403, update(item, "3", "z", "3")))
		h.wantLog("id=3 update/update latest local decided: {3,c,3} of south 500.1 and none to {3,z,3} of north 403.2: {3,c,3}")
	})
}

// Another epoch of the head: what a branch has seen is nothing of this history.
func TestSeenOfAnotherLife(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		h.exec("INSERT INTO item VALUES (1, 'a', 1)")
		h.clocks.touched(hq, 3, 500, false, "1")
		old := h.tx(north, 1000, 400, update(item, "1", "x", "1"))
		old.Seen.Epoch--
		h.apply(old)
		h.want(items, "1 a 1")
	})
}

// The second change of a row in one group, or in one transaction, meets what was decided about the first.
func TestDecidedTwice(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		for _, group := range []bool{true, false} {
			h.clean("INSERT INTO item VALUES (1, 'hq', 8), (2, 'hq', 8), (3, 'c', 3)")
			h.clocks.touched(hq, 10, 500, false, "1", "2")
			first := []schema.Change{update(item, "1", "n1", "1"), update(item, "2", "n1", "1"), update(item, "3", "n1", "1")}
			second := []schema.Change{update(item, "1", "n2", "2"), remove(item, "2"), update(item, "3", "n2", "2")}
			if group {
				h.apply(h.tx(north, 5, 400, first...), h.tx(north, 5, 600, second...))
				h.want(items, "1 n2 2\n3 n2 2")
				h.wantLog(
					"id=1 update/update latest local decided: {1,hq,8} of hq 500.1 and none to {1,n1,1} of north 400.2: {1,hq,8}",
					"id=2 update/update latest local decided: {2,hq,8} of hq 500.1 and none to {2,n1,1} of north 400.2: {2,hq,8}",
					"id=1 update/update latest remote decided: {1,hq,8} of hq 500.1 and none to {1,n2,2} of north 600.2: {1,n2,2}",
					"id=2 update/delete latest remote decided: {2,hq,8} of hq 500.1 and {2} to none of north 600.2: none")
				h.wantTold("insert 1 hq 8 of hq 500.1", "insert 2 hq 8 of hq 500.1", "insert 1 n2 2 of north 600.2", "delete id=2 of north 600.2")
				continue
			}
			h.apply(h.tx(north, 5, 400, append(first, second...)...))
			h.want(items, "1 hq 8\n2 hq 8\n3 n2 2")
			h.wantLog(
				"id=1 update/update latest local decided: {1,hq,8} of hq 500.1 and none to {1,n1,1} of north 400.2: {1,hq,8}",
				"id=2 update/update latest local decided: {2,hq,8} of hq 500.1 and none to {2,n1,1} of north 400.2: {2,hq,8}",
				"id=1 update/update latest local decided: {1,hq,8} of hq 500.1 and none to {1,n2,2} of north 400.2: {1,hq,8}",
				"id=2 update/delete latest local decided: {2,hq,8} of hq 500.1 and {2} to none of north 400.2: {2,hq,8}")
		}
	})
}

// Counters get every delta of a group once, those without a conflict too.
func TestAddInAGroup(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		h.clean("INSERT INTO item VALUES (1, 'a', 100), (2, 'b', 10)")
		h.policy = schema.Policy{Kind: schema.Add, Add: []string{"stock"}}
		h.clocks.touched(hq, 10, 500, false, "1") // +90
		var txs []schema.Transaction
		for i := range 5 {
			one := func(id, name string, from int) schema.Change {
				return full(row(id, name, fmt.Sprint(from)), id, name, fmt.Sprint(from+1))
			}
			txs = append(txs, h.tx(north, 5, 400+int64(i), one("1", "a", 10+2*i), one("2", "b", 10+i), one("1", "a", 11+2*i)))
		}
		h.apply(txs...)
		h.want(items, "1 a 110\n2 b 15")
	})
}

// A conflict in the second part of a large transaction leaves the first part as it is.
func TestConflictInAPart(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		h.exec("INSERT INTO item VALUES (1, 'a', 1), (2, 'hq', 8), (3, 'c', 3)")
		h.clocks.touched(hq, 10, 500, false, "2")
		whole := h.tx(north, 5, 600, update(item, "1", "x", "1"), insert(item, "4", "d", "4"))
		parts := []schema.Transaction{whole, whole, whole}
		parts[0].Last = false
		parts[1].Part, parts[1].Last, parts[1].Changes = 1, false, []schema.Change{update(item, "3", "y", "3"), update(item, "2", "n", "7")}
		parts[2].Part, parts[2].Changes = 2, []schema.Change{remove(item, "4"), update(item, "2", "n2", "6")}
		for i := range parts {
			h.apply(parts[i])
		}
		h.want(items, "1 x 1\n2 n2 6\n3 y 3")
		h.wantLog("id=2 update/update latest remote decided: {2,hq,8} of hq 500.1 and none to {2,n,7} of north 600.2: {2,n,7}",
			"id=2 update/update latest remote decided: {2,n,7} of north 600.2 and none to {2,n2,6} of north 600.2: {2,n2,6}")
		h.want(fmt.Sprintf("SELECT seq, stamp_millis FROM cdc_sidecar.progress WHERE office = '%s' AND origin = 'north'", h.office), "1 600")
	})
}

// A row that moved from key 1 to key 2 is one decision over both keys, and both are told.
var moves = []struct {
	name, here string
	touched    []string
	millis     int64
	rows       string
	log, told  []string
}{
	{
		"the old key was changed here, theirs later", "(1, 'hq', 8)",
		[]string{"1"},
		600, "2 n 7",
		[]string{"id=1 key update/update latest remote decided: {1,hq,8} of hq 500.1 and {1} to {2,n,7} of north 600.2: {2,n,7}"},
		[]string{"delete id=1 of north 600.2", "insert 2 n 7 of north 600.2"},
	},
	{
		"the old key was changed here, ours later", "(1, 'hq', 8)",
		[]string{"1"},
		400, "1 hq 8",
		[]string{"id=1 key update/update latest local decided: {1,hq,8} of hq 500.1 and {1} to {2,n,7} of north 400.2: {1,hq,8}"},
		[]string{"insert 1 hq 8 of hq 500.1", "delete id=2 of hq 500.1"},
	},
	{
		"the new key was taken here, theirs later", "(1, 'a', 1), (2, 'hq', 8)",
		[]string{"2"},
		600, "2 n 7",
		[]string{
			"id=1 key update/update latest remote decided: {1,a,1} of hq 500.1 and {1} to {2,n,7} of north 600.2: {2,n,7}",
			"id=2 key update/update latest remote decided: {2,hq,8} of hq 500.1 and {1} to {2,n,7} of north 600.2: {2,n,7}",
		},
		[]string{"delete id=1 of north 600.2", "insert 2 n 7 of north 600.2"},
	},
	{
		"the new key was taken here, ours later", "(1, 'a', 1), (2, 'hq', 8)",
		[]string{"2"},
		400, "1 a 1\n2 hq 8",
		[]string{
			"id=1 key update/update latest local decided: {1,a,1} of hq 500.1 and {1} to {2,n,7} of north 400.2: {1,a,1}",
		},
		[]string{"insert 1 a 1 of hq 500.1", "insert 2 hq 8 of hq 500.1"},
	},
	{
		"the old key was deleted here, theirs later", "(9, 'i', 9)",
		[]string{"1"},
		600, "2 n 7\n9 i 9",
		[]string{"id=1 key delete/update latest remote decided: none of hq 500.1 and {1} to {2,n,7} of north 600.2: {2,n,7}"},
		[]string{"delete id=1 of north 600.2", "insert 2 n 7 of north 600.2"},
	},
	{
		"the old key was deleted here, ours later", "(9, 'i', 9)",
		[]string{"1"},
		400, "9 i 9",
		[]string{"id=1 key delete/update latest local decided: none of hq 500.1 and {1} to {2,n,7} of north 400.2: none"},
		[]string{"delete id=1 of hq 500.1", "delete id=2 of hq 500.1"},
	},
	{"nobody touched either", "(1, 'a', 1)", nil, 400, "2 n 7", nil, nil},
}

func TestKeyChange(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		for _, policy := range []schema.PolicyKind{schema.Latest, schema.Merge} {
			for _, c := range moves {
				h.Logf("%s, %s", policy, c.name)
				h.clean("INSERT INTO item VALUES " + c.here)
				h.policy.Kind = policy
				h.clocks.touched(hq, 10, 500, false, c.touched...)
				change := rekey(item, row("1", gone, gone), "2", "n", "7")
				if policy == schema.Merge {
					change.Before = row("1", "a", "1")
				}
				h.apply(h.tx(north, 5, c.millis, change))
				h.want(items, c.rows)
				h.wantTold(c.told...)
				if policy == schema.Latest {
					h.wantLog(c.log...)
				}
			}
		}
	})
}

// A key of two columns of which one changed, by a log that has only what changed.
func TestKeyChangeInPart(t *testing.T) {
	pair := schema.NewTable(schema.Table{TableName: schema.TableName{Name: "pair"}, Engine: schema.MariaDB, Key: []int{1, 0}, Columns: []schema.Column{integer("b"), integer("a"), text("v")}})
	each(t, schema.Head, func(w *world) {
		w.exec("CREATE TABLE pair (a int, b int, v varchar(10), PRIMARY KEY (a, b))", "INSERT INTO pair VALUES (1, 1, 'hq'), (1, 5, 'x')")
		h := newHead(w)
		h.clocks.rows[pair.RowID(row("1", "1", gone))] = []touch{{10, hq, schema.Stamp{Millis: 500, Counter: 1}, false}}
		h.apply(h.tx(north, 5, 600, rekey(pair, row("1", "1", gone), "2", gone, gone), rekey(pair, row("5", "1", gone), "6", gone, gone)))
		h.want("SELECT a, b, v FROM pair ORDER BY b", "1 2 hq\n1 6 x")
		h.wantTold("delete a=1, b=1 of north 600.2", "insert 1 2 hq of north 600.2")
	})
}

// A truncate empties the table but for rows that its office had not seen the last touch of; those are told.
func TestTruncate(t *testing.T) {
	truncate := schema.Change{Table: item, Op: schema.Truncate}
	eachHead(t, func(h *headOffice) {
		const rows = "INSERT INTO item VALUES (1, 'a', 1), (2, 'hq', 2), (3, 'c', 3)"
		h.clean(rows)
		h.clocks.touched(hq, 10, 500, false, "2")
		h.clocks.touched(north, 11, 500, true, "3")
		h.apply(h.tx(north, 5, 600, truncate, insert(item, "1", "new", "1")))
		h.want(items, "1 new 1\n2 hq 2")
		h.wantLog("id=2 update/truncate latest local decided: {2,hq,2} of hq 500.1 and none to none of north 600.2: {2,hq,2}")
		h.wantTold("insert 2 hq 2 of hq 500.1")

		h.clean(rows) // all of it seen
		h.clocks.touched(hq, 10, 500, false, "2")
		h.apply(h.tx(north, 10, 600, truncate))
		h.want(items, "")
		h.wantLog()

		// What was decided before it in the same transaction survives it, and what comes behind meets what survived.
		h.clean(rows)
		h.clocks.touched(hq, 10, 500, false, "2")
		h.apply(h.tx(north, 5, 600, update(item, "2", "n", "7"), truncate, insert(item, "2", "again", "9"), insert(item, "3", "c2", "3")))
		h.want(items, "2 again 9\n3 c2 3")
		h.wantTold("insert 2 n 7 of north 600.2", "insert 2 n 7 of north 600.2", "insert 2 again 9 of north 600.2")

		h.clean() // more rows than one batch
		h.exec(h.pick("INSERT INTO item SELECT i, 'a', i FROM generate_series(1, 2500) i", "INSERT INTO item SELECT seq, 'a', seq FROM seq_1_to_2500"))
		h.clocks.touched(hq, 10, 500, false, "1", "1000", "1001", "2500")
		h.apply(h.tx(north, 5, 600, truncate))
		h.want("SELECT id FROM item ORDER BY id", "1\n1000\n1001\n2500")
	})
}

// A table that one branch alone writes needs no barrier. When a second one writes it, or has, it does.
func TestOneWayTables(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		h.options.Written = func(schema.TableName) bool { return false }
		h.restart()
		h.clocks.touched(hq, 10, 500, false, "1", "2", "3") // would be conflicts
		h.apply(h.tx(north, 5, 400))                        // the first of a life has a barrier of its own
		before := h.clocks.barriers()
		h.apply(h.tx(north, 5, 400, insert(item, "1", "n", "1")))
		h.apply(h.tx(north, 5, 401, update(item, "1", "n", "2")), h.tx(north, 5, 402, schema.Change{Table: item, Op: schema.Truncate}, insert(item, "1", "n", "3")))
		if got := h.clocks.barriers() - before; got != 0 {
			h.Errorf("%d barriers for one writer", got)
		}
		h.wantLog()
		h.apply(h.tx(south, 5, 400, insert(item, "2", "s", "1")))
		h.apply(h.tx(north, 5, 403, insert(item, "3", "n", "1")))
		if got := h.clocks.barriers() - before; got < 2 {
			h.Errorf("%d barriers for two writers", got)
		}
		h.want("SELECT row_key FROM cdc_sidecar.conflicts WHERE office = '"+string(h.office)+"' ORDER BY id", "id=2\nid=3")

		h.clean()
		h.clocks.writers[item.TableName] = []schema.Office{south} // as the clocks remember from a life before
		h.restart()
		h.clocks.touched(south, 10, 500, true, "1")
		h.apply(h.tx(north, 5, 400, insert(item, "1", "n", "1")))
		h.want("SELECT row_key FROM cdc_sidecar.conflicts WHERE office = '"+string(h.office)+"' ORDER BY id", "id=1")
	})
}

// A stamp from far ahead counts as the time of its arrival, in the order of arrival, and nowhere as itself.
func TestDrift(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		h.exec("INSERT INTO item VALUES (1, 'hq', 8), (2, 'b', 2)")
		h.clocks.touched(hq, 10, noon.UnixMilli()-1, false, "1")
		mad := noon.Add(DefaultDrift + time.Second).UnixMilli()
		edge := noon.Add(DefaultDrift).UnixMilli()
		h.apply(h.tx(north, 5, mad, update(item, "1", "n1", "7")), h.tx(north, 5, mad, update(item, "1", "n2", "6")))
		h.want(items, "1 n2 6\n2 b 2")
		h.wantTold("insert 1 n1 7 of north 100000.0", "insert 1 n2 6 of north 100000.1")
		progress := fmt.Sprintf("SELECT stamp_millis, stamp_counter FROM cdc_sidecar.progress WHERE office = '%s' AND origin = 'north'", h.office)
		h.want(progress, "100000 1")
		if got := h.applier.Stats()[north].Clamped; got != 2 {
			h.Errorf("%d clamped", got)
		}
		h.apply(h.tx(north, 5, edge, update(item, "2", "n", "2")))
		h.want(progress, fmt.Sprintf("%d 2", edge))
	})
}

// merge and add do not guess: a change without old values halts its stream, with the statement that mends its office.
func TestOldValuesAreMissing(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		h.exec("INSERT INTO item VALUES (1, 'hq', 8)")
		for _, policy := range []schema.Policy{mergePolicy, {Kind: schema.Add, Add: []string{"stock"}}} {
			h.policy = policy
			engine := *item
			for _, c := range []struct {
				engine schema.Engine
				remedy string
			}{{schema.Postgres, `at north: ALTER TABLE "public"."item" REPLICA IDENTITY FULL`}, {schema.MariaDB, "at north: SET GLOBAL binlog_row_image = 'FULL'"}} {
				engine.Engine = c.engine
				table := schema.NewTable(engine)
				fine := h.tx(north, 5, 400, insert(table, "2", "b", "2"), remove(table, "2"))
				err := h.applier.Apply(h.Context(), north, []schema.Transaction{fine, h.tx(north, 5, 400, update(table, "1", "n", "7"))})
				var rejected *schema.RejectedError
				if !errors.As(err, &rejected) || rejected.Remedy != c.remedy || rejected.Table != item.TableName || rejected.Key != "id=1" || rejected.At.Seq != h.last[north] {
					h.Errorf("%v", err)
				}
				if pos, _, err := h.applier.Progress(h.Context(), north); err != nil || pos != fine.Pos {
					h.Errorf("progress %s, %v; want that before the halt, %s", pos, err, fine.Pos)
				}
				h.last[north] = fine.Pos.Seq
			}
		}
		h.want(items, "1 hq 8")
		h.wantLog()
	})
}

// A row that an application makes after we have looked, behind the barrier, is never written over: everything begins anew, and
// then it is a conflict like any other.
func TestRowComesBehindTheBarrier(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		h.apply(h.tx(north, 5, 100))
		application := h.connect()
		for _, c := range []struct {
			change  schema.Change
			barrier int // the one behind which rows are looked at, and not written: an insert is hoped for first, and locks its row
		}{
			{insert(item, "2", "n", "7"), 2},
			{update(item, "2", "n", "7"), 1},
			{remove(item, "2"), 2},
			{update(item, "3", "n", "7"), 1},
			{rekey(item, row("4", gone, gone), "2", "n", "7"), 2},
		} {
			h.clean("INSERT INTO item VALUES (1, 'hq', 8), (4, 'd', 4)")
			h.clocks.touched(hq, 10, 500, false, "1", "3") // 1: so that rows are looked at before they are written
			id, barrier := "2", 0
			if c.change.After != nil {
				id = c.change.After[0].Text()
			}
			h.clocks.behind = func() {
				switch barrier++; barrier {
				case c.barrier:
					if err := application.exec(h.Context(), "INSERT INTO item VALUES ("+id+", 'app', 1)"); err != nil {
						h.Error(err)
					}
				case c.barrier + 1:
					h.clocks.touched(hq, 20, 700, false, id)
				}
			}
			busy := h.applier.Stats()[north].Busy
			h.apply(h.tx(north, 5, 600, update(item, "1", "n", "7"), c.change))
			h.Logf("%s %s", c.change.Op, id)
			h.want(items, "1 n 7\n"+id+" app 1\n4 d 4")
			h.want(fmt.Sprintf("SELECT local_origin, winner, local_millis FROM cdc_sidecar.conflicts WHERE office = '%s' ORDER BY id", h.office), "hq remote 500\nhq local 700")
			if got := h.applier.Stats()[north].Busy - busy; got != 1 {
				h.Errorf("begun anew %d times", got)
			}
		}
	})
}

// connect opens one more connection of the application.
func (w *world) connect() database {
	open := openPostgres
	if w.engine != schema.Postgres {
		open = openMySQL
	}
	d := open(w, w.dsn)
	w.Cleanup(func() {
		if err := d.close(); err != nil {
			w.Error(err)
		}
	})
	return d
}

// A barrier that is not passed changes nothing, and the next try does it.
func TestBarrierFails(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		h.apply(h.tx(north, 5, 100))
		away := errors.New("capture is away")
		h.clocks.refuse = away
		change := h.tx(north, 5, 400, insert(item, "1", "n", "1"))
		if err := h.applier.Apply(h.Context(), north, []schema.Transaction{change}); !errors.Is(err, away) {
			h.Fatalf("got %v", err)
		}
		h.want(items, "")
		h.clocks.refuse = nil
		h.apply(change)
		h.want(items, "1 n 1")
	})
}

// An application that holds a row for a second delays the apply, and that is all.
func TestApplicationHoldsARow(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		h.exec("INSERT INTO item VALUES (1, 'hq', 8), (2, 'b', 2)")
		h.clocks.touched(hq, 10, 500, false, "1")
		h.exec(h.pick("BEGIN", "START TRANSACTION"), "UPDATE item SET name = 'app' WHERE id = 1")
		change := h.tx(north, 5, 600, update(item, "1", "n", "7"), update(item, "2", "n", "2"))
		done := make(chan error, 1)
		go func() { done <- h.applier.Apply(h.Context(), north, []schema.Transaction{change}) }()
		select {
		case err := <-done:
			h.Fatalf("did not wait: %v", err)
		case <-time.After(time.Second):
		}
		h.exec("COMMIT")
		if err := <-done; err != nil {
			h.Fatal(err)
		}
		h.want(items, "1 n 7\n2 n 2")
		h.wantLog("id=1 update/update latest remote decided: {1,app,8} of hq 500.1 and none to {1,n,7} of north 600.2: {1,n,7}")
	})
}

// An application that writes two rows in the one order, while we write them in the other, is never the victim: Postgres looks
// for dead-locks after a second, and by then we have let go. (InnoDB looks at once, and sends away whoever has written less.)
func TestApplicationIsNoVictim(t *testing.T) {
	w := postgresWorld(t, schema.Head)
	w.createItem()
	h := newHead(w)
	h.exec("INSERT INTO item VALUES (1, 'a', 0), (2, 'b', 0)")
	h.clocks.touched(hq, 10, 500, false, "1", "2")
	const rounds = 200
	application := make(chan error, 1)
	go func() {
		for range rounds {
			for _, sql := range []string{"BEGIN", "UPDATE item SET stock = stock + 1 WHERE id = 2", "UPDATE item SET stock = stock + 1 WHERE id = 1", "COMMIT"} {
				if err := h.db.exec(h.Context(), sql); err != nil {
					application <- fmt.Errorf("%s: %w", sql, err)
					return
				}
			}
		}
		application <- nil
	}()
	applied := 0
	for {
		select {
		case err := <-application:
			if err != nil {
				h.Fatal(err)
			}
			h.Logf("%d transactions applied meanwhile, %d begun anew", applied, h.applier.Stats()[north].Busy)
			if applied == 0 {
				h.Error("nothing was applied meanwhile")
			}
			return
		default:
			h.apply(h.tx(north, 5, 400, update(item, "1", "n", "1"), update(item, "2", "n", "1")))
			applied++
		}
	}
}
