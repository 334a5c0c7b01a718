package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// What north may have had when it made a change.
const (
	sees   = "sees"   // all that the clocks have let go of
	joins  = "joins"  // its table is being joined
	missed = "missed" // it has seen less than the clocks reach back to
	before = "before" // it has seen a former life of the head
	never  = "never"  // it has seen nothing, and the clocks have let go of something
	claims = "claims" // it was compared, and there was nothing that it had missed
	finds  = "finds"  // it was compared while it was joined
)

// asNorth is a change of north as it is sent in one of these cases.
func asNorth(how string, seen uint64, c schema.Change) (schema.Position, schema.Change) {
	at := schema.Position{Epoch: epoch, Seq: seen}
	switch how {
	case joins, claims, finds:
		c.Blind, c.Claimed = how != claims, how != joins
	case before:
		at = schema.Position{Epoch: epoch - 1, Seq: 1000}
	case never:
		at = schema.Position{}
	}
	return at, c
}

// lets is what the clocks have released in one of these cases; north has seen 5.
func lets(how string) uint64 {
	if how == missed || how == never {
		return 8
	}
	return 0
}

var (
	atHead       = row("1", "hq", "8")
	branchPolicy = schema.Policy{Kind: schema.BranchWins}
	headPolicy   = schema.Policy{Kind: schema.HeadWins}
	stockPolicy  = schema.Policy{Kind: schema.Add, Add: []string{"stock"}}
)

func fromFull(before schema.Row) schema.Change {
	return schema.Change{Table: item, Op: schema.Delete, Before: before}
}

// One change of north, of the stamp 600, meets row 1 as it is here. touched is the seq of hq's touch of it, of the stamp 700; 0:
// the clocks know none. The log is the kind and the winner of its entries; told is how the row is told.
var blindCases = []struct {
	name    string
	how     string
	policy  schema.Policy
	here    schema.Row
	touched uint64
	change  schema.Change
	rows    string
	log     string
	told    string
}{
	{"not blind", sees, latestPolicy, atHead, 0, full(row("1", "old", "1"), "1", "n", "2"), "1 n 2", "", ""},
	{"update of what stands", joins, headPolicy, atHead, 0, full(atHead, "1", "n", "2"), "1 n 2", "", ""},
	{"update of what stands, touched before", joins, headPolicy, atHead, 4, full(atHead, "1", "n", "2"), "1 n 2", "", ""},
	{"update of what stands, touched since", joins, headPolicy, atHead, 6, full(atHead, "1", "n", "2"), "1 hq 8", "update/update local", "insert 1 hq 8 of hq 700"},
	{"update of something else", joins, latestPolicy, atHead, 0, full(row("1", "old", "1"), "1", "n", "2"), "1 n 2", "update/update remote", "insert 1 n 2 of north 600"},
	{"update of something else, head", joins, headPolicy, atHead, 0, full(row("1", "old", "1"), "1", "n", "2"), "1 hq 8", "update/update local", "insert 1 hq 8 of o 0"},
	{"update of something else, touched before", joins, latestPolicy, atHead, 4, full(row("1", "old", "1"), "1", "n", "2"), "1 hq 8", "update/update local", "insert 1 hq 8 of hq 700"},
	{"update to what stands", joins, headPolicy, atHead, 0, full(row("1", "old", "1"), "1", "hq", "8"), "1 hq 8", "", ""},
	{"update to what stands, touched since", joins, headPolicy, atHead, 6, full(row("1", "old", "1"), "1", "hq", "8"), "1 hq 8", "", ""},
	{"part of a row, as it stands", joins, headPolicy, atHead, 0, update(item, "1", gone, "8"), "1 hq 8", "", ""},
	{"part of a row, otherwise", joins, latestPolicy, atHead, 0, update(item, "1", gone, "9"), "1 hq 9", "update/update remote", "insert 1 hq 9 of north 600"},
	{"part of a row that is not here", joins, latestPolicy, nil, 0, update(item, "1", gone, "9"), "", "delete/update local", ""},
	{"part of a row that was deleted here", joins, latestPolicy, nil, 4, update(item, "1", gone, "9"), "", "delete/update local", "delete id=1 of hq 700"},
	{"update of a row that is not here", joins, headPolicy, nil, 0, update(item, "1", "n", "2"), "1 n 2", "", ""},
	{"update of a row that was deleted here", joins, headPolicy, nil, 4, update(item, "1", "n", "2"), "", "delete/update local", "delete id=1 of hq 700"},
	{"insert", joins, headPolicy, nil, 0, insert(item, "1", "n", "2"), "1 n 2", "", ""},
	{"insert of a row that was deleted here", joins, latestPolicy, nil, 4, insert(item, "1", "n", "2"), "", "delete/insert local", "delete id=1 of hq 700"},
	{"insert of what stands", joins, headPolicy, atHead, 6, insert(item, "1", "hq", "8"), "1 hq 8", "", ""},
	{"insert of something else", joins, latestPolicy, atHead, 0, insert(item, "1", "n", "2"), "1 n 2", "insert/insert remote", "insert 1 n 2 of north 600"},
	{"insert of something else, merge", joins, mergePolicy, atHead, 4, insert(item, "1", "n", "8"), "1 hq 8", "insert/insert local", "insert 1 hq 8 of hq 700"},
	{"insert of something else, add", joins, stockPolicy, atHead, 0, insert(item, "1", "hq", "9"), "1 hq 9", "insert/insert remote", "insert 1 hq 9 of north 600"},
	{"update of something else, merge", joins, mergePolicy, atHead, 4, full(row("1", "hq", "10"), "1", "n", "10"), "1 n 8", "update/update merged", "insert 1 n 8 of hq 700"},
	{"update of something else, add", joins, stockPolicy, atHead, 4, full(row("1", "hq", "10"), "1", "n", "7"), "1 hq 5", "update/update merged", "insert 1 hq 5 of hq 700"},
	{"update of what stands, add", joins, stockPolicy, atHead, 0, full(atHead, "1", "n", "5"), "1 n 5", "", ""},
	{"delete of what stands", joins, headPolicy, atHead, 0, fromFull(atHead), "", "", ""},
	{"delete of something else", joins, headPolicy, atHead, 0, fromFull(row("1", "old", "1")), "1 hq 8", "update/delete local", "insert 1 hq 8 of o 0"},
	{"delete by the key", joins, latestPolicy, atHead, 0, remove(item, "1"), "", "update/delete remote", "delete id=1 of north 600"},
	{"delete of nothing", joins, headPolicy, nil, 6, remove(item, "1"), "", "", ""},
	{"to another key, of what stands", joins, headPolicy, atHead, 0, rekey(item, atHead, "2", "n", "2"), "2 n 2", "", ""},
	{"to another key, of something else", joins, headPolicy, atHead, 0, rekey(item, row("1", "old", "1"), "2", "n", "2"), "1 hq 8", "key update/update local", "insert 1 hq 8 of o 0\ndelete id=2 of o 0"},
	{"to another key, of nothing, in part", joins, headPolicy, nil, 0, rekey(item, row("1", gone, gone), "2", gone, "2"), "", "key delete/update local", ""},
	{"to a key that is taken", joins, headPolicy, row("2", "hq", "8"), 0, rekey(item, row("1", gone, gone), "2", "n", "2"), "2 hq 8", "key update/update local", "delete id=1 of o 0\ninsert 2 hq 8 of o 0"},
	{"to a key that is so already", joins, headPolicy, row("2", "n", "2"), 0, rekey(item, row("1", gone, gone), "2", "n", "2"), "2 n 2", "", ""},

	{"claim", claims, headPolicy, atHead, 0, insert(item, "1", "n", "2"), "1 n 2", "", ""},
	{"claim of what was touched before", claims, headPolicy, atHead, 4, insert(item, "1", "n", "2"), "1 n 2", "", ""},
	{"claim of what was touched since", claims, branchPolicy, atHead, 6, insert(item, "1", "n", "2"), "1 hq 8", "insert/insert local", "insert 1 hq 8 of hq 700"},
	{"claim that a row is gone which came since", claims, branchPolicy, atHead, 6, remove(item, "1"), "1 hq 8", "update/delete local", "insert 1 hq 8 of hq 700"},
	{"claim that a row is gone", claims, headPolicy, atHead, 4, remove(item, "1"), "", "", ""},
	{"claim of what was deleted since", claims, branchPolicy, nil, 6, insert(item, "1", "n", "2"), "", "delete/insert local", "delete id=1 of hq 700"},
	{"claim of what is so", claims, branchPolicy, atHead, 6, insert(item, "1", "hq", "8"), "1 hq 8", "", ""},
	{"claim by one who joins", finds, latestPolicy, nil, 0, insert(item, "1", "n", "2"), "1 n 2", "", ""},
	{"claim by one who joins, of what was deleted", finds, branchPolicy, nil, 4, insert(item, "1", "n", "2"), "", "delete/insert local", "delete id=1 of hq 700"},
	{"claim by one who joins, of something else", finds, latestPolicy, atHead, 0, insert(item, "1", "n", "2"), "1 n 2", "insert/insert remote", "insert 1 n 2 of north 600"},
	{"claim by one who joins, of something else, touched", finds, branchPolicy, atHead, 4, insert(item, "1", "n", "2"), "1 hq 8", "insert/insert local", "insert 1 hq 8 of hq 700"},

	{"forgotten: of what stands", missed, latestPolicy, atHead, 0, full(atHead, "1", "n", "2"), "1 n 2", "", ""},
	{"forgotten: of something else", missed, latestPolicy, atHead, 0, full(row("1", "old", "1"), "1", "n", "2"), "1 hq 8", "update/update local", "insert 1 hq 8 of o 900"},
	{"forgotten: without old values", missed, branchPolicy, atHead, 0, update(item, "1", "n", "2"), "1 n 2", "update/update remote", "insert 1 n 2 of north 600"},
	{"forgotten: what is not here", missed, latestPolicy, nil, 0, update(item, "1", "n", "2"), "", "delete/update local", "delete id=1 of o 900"},
	{"forgotten: insert", missed, latestPolicy, nil, 0, insert(item, "1", "n", "2"), "1 n 2", "", ""},
	{"another life: of something else", before, latestPolicy, atHead, 0, full(row("1", "old", "1"), "1", "n", "2"), "1 n 2", "update/update remote", "insert 1 n 2 of north 600"},
	{"another life: of what stands, touched", before, latestPolicy, atHead, 1, full(atHead, "1", "n", "2"), "1 hq 8", "update/update local", "insert 1 hq 8 of hq 700"},
	{"another life: part of a row that is not here", before, latestPolicy, nil, 0, update(item, "1", gone, "2"), "", "delete/update local", ""},
	{"never: of something else", never, latestPolicy, atHead, 0, full(row("1", "old", "1"), "1", "n", "2"), "1 n 2", "update/update remote", "insert 1 n 2 of north 600"},
}

func TestBlind(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		for _, c := range blindCases {
			h.Logf("%s", c.name)
			h.clean()
			h.policy = c.policy
			if c.here != nil {
				h.exec(fmt.Sprintf("INSERT INTO item VALUES (%s, '%s', %s)", c.here[0].Text(), c.here[1].Text(), c.here[2].Text()))
			}
			h.clocks.gone = lets(c.how)
			if c.touched > 0 {
				h.clocks.touched(hq, c.touched, 700, false, "1")
			}
			tx := h.tx(north, 5, 600, c.change)
			tx.Seen, tx.Changes[0] = asNorth(c.how, 5, c.change)
			h.apply(tx)
			h.want(items, c.rows)
			h.want(fmt.Sprintf("SELECT kind, winner FROM cdc_sidecar.conflicts WHERE office = '%s' ORDER BY id", h.office), c.log)
			h.wantTold(h.toldLines(c.told)...)
		}
	})
}

// toldLines are those of wantTold: of is told with the stamps' counters, o is the office of this test.
func (h *headOffice) toldLines(told string) (lines []string) {
	if told == "" {
		return nil
	}
	for line := range strings.SplitSeq(told, "\n") {
		line = strings.Replace(line, " of o ", " of "+string(h.office)+" ", 1)
		counter := map[string]string{" 600": ".2", " 700": ".1", " 900": ".1"}
		for stamp, c := range counter {
			if before, ok := strings.CutSuffix(line, stamp); ok {
				line = before + stamp + c
			}
		}
		if before, ok := strings.CutSuffix(line, " 0"); ok {
			line = before + " 0.0"
		}
		lines = append(lines, strings.Replace(line, "900.1", "100000.0", 1)) // the time of the decision
	}
	return lines
}

// The same on a database in memory, which the simulation stands on.
func TestBlindInMemory(t *testing.T) {
	for _, engine := range []schema.Engine{schema.Postgres, schema.MariaDB} {
		for _, c := range blindCases {
			t.Run(fmt.Sprintf("%v/%s", engine, c.name), func(t *testing.T) {
				db := NewMemory(MemoryOptions{Engine: engine, Now: time.Now, OldRows: true, Tables: []catalog.Table{{Table: item, OwnSchema: "public"}}})
				if c.here != nil {
					db.Load(item.TableName, c.here)
				}
				known := &clocks{gone: lets(c.how)}
				known.forget()
				known.gone = lets(c.how)
				if c.touched > 0 {
					known.touched(hq, c.touched, 700, false, "1")
				}
				a := New(db.Target(func(context.Context, string) error { return nil }), Options{
					Office: hq, Role: schema.Head, Clocks: known, Now: func() time.Time { return noon },
					Policy: func(schema.TableName) schema.Policy { return c.policy },
				})
				defer a.Close()
				if err := a.Begin(t.Context(), north, schema.Position{Epoch: epoch}); err != nil {
					t.Fatal(err)
				}
				one := tx(1, c.change)
				one.Origin, one.Stamp = north, schema.Stamp{Millis: 600, Counter: 2}
				one.Seen, one.Changes[0] = asNorth(c.how, 5, c.change)
				if err := a.Apply(t.Context(), north, []schema.Transaction{one}); err != nil {
					t.Fatal(err)
				}
				var rows, log []string
				for _, r := range db.Rows(item.TableName) {
					rows = append(rows, show(r))
				}
				for _, e := range db.Conflicts() {
					log = append(log, e[schema.ConflictKind]+" "+e[schema.ConflictWinner])
				}
				if got := strings.Join(rows, "\n"); got != c.rows {
					t.Errorf("rows %q, want %q", got, c.rows)
				}
				if got := strings.Join(log, "\n"); got != c.log {
					t.Errorf("log %q, want %q", got, c.log)
				}
			})
		}
	}
}

// A change that shows no old values follows those of its own office: the row is not strange because it is being joined.
func TestBlindFollowsItsOwn(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		blind := func(c schema.Change) schema.Change {
			c.Blind = true
			return c
		}
		h.policy = headPolicy
		h.apply(h.tx(north, 5, 600, blind(insert(item, "1", "n", "1")), blind(update(item, "1", "n", "2"))), h.tx(north, 5, 601, blind(update(item, "1", gone, "3"))))
		h.clocks.touched(north, known+1, 601, true, "1")
		h.apply(h.tx(north, 5, 602, blind(update(item, "1", "m", gone))))
		h.want(items, "1 m 3")
		h.wantLog()

		// Not what the office did in a former life of its journal, which it may have lost: the clocks knew it when this one began.
		h.clean("INSERT INTO item VALUES (1, 'n', 1)")
		h.policy = headPolicy
		h.clocks.touched(north, known, 500, true, "1")
		h.apply(h.tx(north, 5, 603, blind(update(item, "1", "m", gone))))
		h.want(items, "1 n 1")
	})
}

// A truncate by an office that is joining takes away what the office itself has brought, and nothing that it may never have had.
func TestBlindTruncate(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		truncate := schema.Change{Table: item, Op: schema.Truncate, Blind: true}
		h.apply(h.tx(north, 5, 600, insert(item, "1", "n", "1")))
		h.exec("INSERT INTO item VALUES (2, 'hq', 2), (3, 'old', 3)")
		h.clocks.touched(north, known+1, 600, true, "1")
		h.clocks.touched(hq, 4, 500, false, "2")
		h.apply(h.tx(north, 5, 601, truncate))
		h.want(items, "2 hq 2\n3 old 3")
		h.wantTold("insert 2 hq 2 of hq 500.1", "insert 3 old 3 of "+string(h.office)+" 0.0")
		truncate.Blind = false
		h.apply(h.tx(north, 5, 602, truncate))
		h.want(items, "")
	})
}

// A group that was not blind when it was planned is, when the clocks let go meanwhile of what its office had not seen.
func TestReleasedMeanwhile(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		h.exec("INSERT INTO item VALUES (1, 'hq', 8)")
		h.apply(h.tx(north, 5, 100))
		h.clocks.behind = func() {
			h.clocks.mu.Lock()
			defer h.clocks.mu.Unlock()
			h.clocks.gone = 8
		}
		h.apply(h.tx(north, 5, 600, update(item, "1", "n", "7")))
		h.want(items, "1 hq 8")
		if log := h.rows(fmt.Sprintf("SELECT winner FROM cdc_sidecar.conflicts WHERE office = '%s'", h.office)); log != "local" {
			h.Errorf("the conflict log has %q", log)
		}
	})
}

// A blind change that waits for a unique value is compared with its row, too, when it comes in.
func TestBlindWaits(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		h.exec("CREATE TABLE coded (id int PRIMARY KEY, code varchar(20) UNIQUE)", "INSERT INTO coded VALUES (1, 'a'), (2, 'b')")
		coded := define("coded", integer("id"), text("code"))
		h.policy = headPolicy
		change := rekey(coded, row("2", "b"), "2", "a")
		change.Blind = true
		h.apply(h.tx(north, 5, 600, change)) // a is taken
		h.want("SELECT id, code FROM coded ORDER BY id", "1 a\n2 b")
		h.exec("UPDATE coded SET code = 'c' WHERE id = 1", "UPDATE coded SET code = 'x' WHERE id = 2")
		if err := h.applier.Tend(h.Context(), north); err != nil {
			h.Fatal(err)
		}
		h.want("SELECT id, code FROM coded ORDER BY id", "1 c\n2 x")
		kinds := strings.Split(h.rows(fmt.Sprintf("SELECT kind, winner FROM cdc_sidecar.conflicts WHERE office = '%s' ORDER BY id", h.office)), "\n")
		if !slices.Contains(kinds, "update/update local") {
			h.Errorf("the conflict log has %q", kinds)
		}
	})
}

// What an office itself had sent since counts against what it claims only if its database went back to an earlier state.
func TestClaimOverOwnChange(t *testing.T) {
	eachHead(t, func(h *headOffice) {
		for _, c := range []struct {
			restored bool
			touched  uint64
			change   schema.Change
			rows     string
			log      string
		}{
			{false, 6, insert(item, "1", "n", "2"), "1 n 2", ""},
			{true, 6, insert(item, "1", "n", "2"), "1 hq 8", "insert/insert local"},
			{true, 6, remove(item, "1"), "1 hq 8", "update/delete local"},
			{true, 5, insert(item, "1", "n", "2"), "1 n 2", ""},
			{true, 5, remove(item, "1"), "", ""},
		} {
			h.clean()
			h.policy = branchPolicy
			h.exec("INSERT INTO item VALUES (1, 'hq', 8)")
			h.clocks.touched(north, c.touched, 700, true, "1")
			tx := h.tx(north, 5, 600, c.change)
			tx.Seen, tx.Changes[0] = asNorth(claims, 5, c.change)
			tx.Changes[0].Restored = c.restored
			h.apply(tx)
			h.want(items, c.rows)
			h.want(fmt.Sprintf("SELECT kind, winner FROM cdc_sidecar.conflicts WHERE office = '%s' ORDER BY id", h.office), c.log)
		}
	})
}
