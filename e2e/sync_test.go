package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"cdc-sidecar/admin"
	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// A slice of a table is sent again from either side; nothing else is touched.
func TestSyncOfASlice(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := filled(t, set, bin, sized(300, 20000), three(set)...)
	must(t, f.Start(within(t, stuck)))
	head, north, south := f.Head(), f.Offices[atNorth], f.Offices[atSouth]
	found(t, head, bin, nil)
	ofNorth, ofSouth := alter(t, north), alter(t, south)

	a := asked(t, north, bin, 0, "sync", "--table", "orders", "--where", "row.id < 10")
	wantMended(t, a, 3, 0)
	ofNorth = without(ofNorth, "id=7\t", "id=8\t", "id=9\t")
	found(t, north, bin, ofNorth)
	a = asked(t, head, bin, 0, "sync", "--table", "orders", "--where", "row.id == 11", "--office", "south")
	wantMended(t, a, 1, 0)
	ofSouth = without(ofSouth, "id=11\t")
	found(t, head, bin, ofSouth, "--office", "south")

	a = asked(t, north, bin, 0, "sync", "--table", "order_*", "--mode", "replace", "--extra", "delete")
	wantMended(t, a, uint64(sized(600, 40000)), 1)
	found(t, north, bin, without(ofNorth, "order_id="))
	a = asked(t, north, bin, 0, "sync", "--table", "orders", "--extra", "keep")
	wantMended(t, a, 2, 0)
	ofNorth = []string{"orders\tmissing there\tid=2000013\t-\tnorth", "orders\tmissing there\tid=2000014\t-\tnorth"}
	found(t, north, bin, ofNorth)
	a = asked(t, head, bin, 0, "sync", "--table", "*", "--prefer", "branch")
	if n := len(a.Result.Offices); n != 2 {
		t.Errorf("%d offices were compared", n)
	}
	_, err := f.Equal(within(t, stuck))
	must(t, err)
	found(t, head, bin, nil)
	for _, wrong := range [][]string{
		{"sync", "--table", "nothing"},
		{"sync", "--table", "orders", "--where", "row.nothing == 1"},
		{"sync", "--table", "orders", "--where", "row.id"},
		{"verify", "--table", "nothing"},
	} {
		if a := asked(t, north, bin, 1, wrong...); a.Error == nil || a.Result.State != admin.JobFailed {
			t.Errorf("%s: %+v", wrong, a)
		}
		asked(t, head, bin, 1, wrong...)
	}
}

func without(lines []string, parts ...string) (rest []string) {
	for _, l := range lines {
		has := false
		for _, p := range parts {
			has = has || strings.Contains(l, p)
		}
		if !has {
			rest = append(rest, l)
		}
	}
	return rest
}

// wantMended wants one table of one office to have been mended so.
func wantMended(t *testing.T, a answered, repaired, removed uint64) {
	t.Helper()
	if len(a.Result.Offices) != 1 || len(a.Result.Offices[0].Tables) != 1 {
		t.Fatalf("not one table of one office: %+v", a.Result)
	}
	r := a.Result.Offices[0].Tables[0]
	if r.Repaired != repaired || r.Sent != 0 || r.Removed != removed {
		t.Errorf("%d repaired, %d sent, %d removed; want %d, 0, %d", r.Repaired, r.Sent, r.Removed, repaired, removed)
	}
}

// byHand is three offices of which some speak with the others only when they are told to. The head alone has rows.
func byHand(t *testing.T, set *servers.Set, bin string, manual ...int) *fleet.Fleet {
	t.Helper()
	offices := three(set)
	for _, i := range manual {
		offices[i].Extra = "sync: manual\n"
	}
	f := companyOf(t, fleet.Options{
		Broker: set.RabbitMQ[0], Binary: bin, Offices: offices,
		Schema: func(ctx context.Context, o *fleet.Office) error {
			err := fleet.CreateTables(ctx, o)
			if err == nil && o.Role == schema.Head {
				err = fill(ctx, o, sized(200, 20000))
			}
			return err
		},
	})
	for _, o := range f.Offices {
		must(t, o.Start())
		captures(t, o)
	}
	return f
}

// rowsOf says how many rows the office has of one that wrote them.
func rowsOf(t *testing.T, o *fleet.Office, writer string) int {
	t.Helper()
	d, err := o.DigestOf(within(t, stuck), `SELECT id, id FROM orders WHERE office = '`+writer+`'`)
	must(t, err)
	return d.Rows
}

// order writes rows at an office, each in a transaction, and waits until its sidecar has them in the journal.
func order(t *testing.T, o *fleet.Office, first, n int) {
	t.Helper()
	for i := first; i < first+n; i++ {
		captured(t, o, fmt.Sprintf(`INSERT INTO orders VALUES (%d, '%s', 'x', 1.5, 1, %s, NULL, '2026-01-02 03:04:05', '2026-01-02 03:04:05')`,
			1000000*(o.Index+1)+i, o.Name, map[bool]string{true: "true", false: "1"}[o.Postgres()]))
	}
}

// closedTo wants nothing of the writer at the office, and its line closed.
func closedTo(t *testing.T, o *fleet.Office, writer *fleet.Office, has int) {
	t.Helper()
	if n := rowsOf(t, o, string(writer.Name)); n != has {
		t.Errorf("%s has %d orders of %s, want %d", o.Name, n, writer.Name, has)
	}
}

// shut waits until the office's line is closed: right behind a sync it is about to be.
func shut(t *testing.T, o *fleet.Office) {
	t.Helper()
	must(t, fleet.Until(within(t, stuck), string(o.Name)+" closes its line", func(ctx context.Context) error {
		s, err := o.Status(ctx)
		if err != nil {
			return err
		}
		closed := 0
		for _, c := range s.Corridors {
			if c.State == admin.CorridorClosed {
				closed++
			}
		}
		if s.Sync.Open || closed != 2 || s.State != admin.Running && s.Joining == nil || !s.Ready {
			return fmt.Errorf("open %v, corridors %+v, %s", s.Sync.Open, s.Corridors, s.State)
		}
		return nil
	}))
}

// A branch that synchronises by hand: it joins at its first sync, and between two of them nothing moves; the others go on.
func TestManualBranch(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := byHand(t, set, bin, atNorth)
	head, north, south := f.Head(), f.Offices[atNorth], f.Offices[atSouth]
	order(t, north, 1, 2)
	order(t, head, 1, 3)
	must(t, fleet.Until(within(t, stuck), "south has the head's orders", func(ctx context.Context) error {
		d, err := south.DigestOf(ctx, `SELECT id, id FROM orders WHERE office = 'head'`)
		if err == nil && d.Rows != 3 {
			err = fmt.Errorf("%d", d.Rows)
		}
		return err
	}))
	shut(t, north)
	closedTo(t, north, head, 0)
	closedTo(t, head, north, 0)

	a := asked(t, north, bin, 0, "sync", "--wait")
	if a.Result.Moved.Sent.Transactions != 2 {
		t.Errorf("the first sync moved %+v", a.Result.Moved)
	}
	closedTo(t, north, head, 3)
	closedTo(t, head, north, 2)
	shut(t, north)
	for round := 1; round <= sized(2, 5); round++ {
		at := 10 * round
		order(t, north, at, 4)
		order(t, head, at, 2)
		order(t, south, at, 1)
		must(t, fleet.Until(within(t, stuck), "the head has south's order", func(context.Context) error {
			if n := rowsOf(t, head, "south"); n != round {
				return fmt.Errorf("%d", n)
			}
			return nil
		}))
		shut(t, north)
		closedTo(t, north, head, 3+2*(round-1))
		closedTo(t, head, north, 2+4*(round-1))
		a = asked(t, north, bin, 0, "sync", "--wait")
		want := admin.Moved{Sent: admin.MovedCount{Transactions: 4}, Received: admin.MovedCount{Changes: 3}}
		// The head's stream has north's own transactions, too, which change nothing.
		if got := a.Result.Moved; got.Sent.Transactions != want.Sent.Transactions || got.Received.Changes != want.Received.Changes || got.Received.Transactions < 3 {
			t.Errorf("a sync moved %+v, want %+v", got, want)
		}
		closedTo(t, north, south, round)
		closedTo(t, north, head, 3+2*round)
		closedTo(t, head, north, 2+4*round)
	}
	must(t, fleet.Until(within(t, stuck), "all hold the same", func(ctx context.Context) error { _, err := f.Compare(ctx); return err }))
	found(t, north, bin, nil) // opens the line for itself
	shut(t, north)
}

// A head that synchronises by hand: what came from one branch is at the other behind the sync, too.
func TestManualHead(t *testing.T) {
	wholeOnly(t)
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := byHand(t, set, bin, 0)
	head, north, south := f.Head(), f.Offices[atNorth], f.Offices[atSouth]
	a := asked(t, head, bin, 0, "sync", "--wait")
	if a.Summary["state"] != "done" {
		t.Errorf("%v", a.Summary)
	}
	// The branches knew of no head before; now they join, at each sync a little, or at one that takes as long.
	for _, o := range f.Offices[1:] {
		joined := func(ctx context.Context) error {
			s, err := o.Status(ctx)
			if err == nil && (s.Joining != nil || len(s.Peers) != 1) {
				err = fmt.Errorf("%v", s.Reasons())
			}
			return err
		}
		if joined(within(t, stuck)) != nil {
			asked(t, head, bin, 0, "sync", "--wait")
		}
		must(t, fleet.Until(within(t, stuck), string(o.Name)+" has joined", joined))
	}
	for round := 1; round <= 2; round++ {
		shut(t, head)
		for _, o := range f.Offices {
			order(t, o, 10*round, 2)
		}
		for _, o := range f.Offices {
			for _, w := range f.Offices {
				n := 2 * (round - 1)
				if w == o {
					n = 2 * round
				}
				closedTo(t, o, w, n)
			}
		}
		a = asked(t, head, bin, 0, "sync", "--wait")
		if got := a.Result.Moved; got.Received.Transactions != 4 || got.Received.Changes != 4 || got.Sent.Transactions != 6 {
			t.Errorf("a sync moved %+v", got)
		}
		for _, o := range []*fleet.Office{head, north, south} {
			for _, w := range f.Offices {
				closedTo(t, o, w, 2*round)
			}
		}
	}
}

// Both sides synchronise by hand: a sync waits for the other's, and says so; who is done closes his line, and is not waited for.
func TestManualOnBothSides(t *testing.T) {
	wholeOnly(t)
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := byHand(t, set, bin, 0, atNorth)
	head, north := f.Head(), f.Offices[atNorth]
	for round, why := range []string{"this office is joining", "office head "} { // a fresh company, then one that knows itself
		for _, o := range f.Offices {
			order(t, o, 10*round, 2)
		}
		waits := begin(t, north, bin, "sync", "--wait")
		waits.says(t, "waiting: ", why)
		for _, v := range []*calling{begin(t, head, bin, "sync", "--wait"), waits} {
			if code := v.ended(t); code != 0 {
				t.Errorf("exit code %d: %s", code, v.err.String())
			}
		}
		for _, o := range []*fleet.Office{head, north} {
			shut(t, o)
			closedTo(t, o, north, 2*round+2)
			closedTo(t, o, head, 2*round+2)
		}
		for _, o := range []*fleet.Office{head, north} { // so that a sidecar syncs that has not heard of anybody yet
			must(t, o.Stop(within(t, stuck)))
			must(t, o.Start())
			captures(t, o)
		}
	}
}

// calling is a verb under way.
type calling struct {
	cmd      *exec.Cmd
	out, err output
	done     chan struct{}
}

// output can be read while it is written.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func begin(t *testing.T, o *fleet.Office, bin string, args ...string) *calling {
	t.Helper()
	v := &calling{cmd: exec.CommandContext(within(t, 2*stuck), bin, append(args, "--config", o.Config())...), done: make(chan struct{})}
	v.cmd.Env, v.cmd.Stdout, v.cmd.Stderr = fleet.Environment(), &v.out, &v.err
	must(t, v.cmd.Start())
	go func() {
		_ = v.cmd.Wait() // its exit code is asked for
		close(v.done)
	}()
	return v
}

// says waits until the verb has said, on standard error, all of these words.
func (v *calling) says(t *testing.T, words ...string) {
	t.Helper()
	must(t, fleet.Until(within(t, stuck), "the verb says what it waits for", func(context.Context) error {
		for _, w := range words {
			if text := v.err.String(); !strings.Contains(text, w) {
				return fmt.Errorf("no %q in %q", w, text)
			}
		}
		return nil
	}))
}

func (v *calling) ended(t *testing.T) int {
	t.Helper()
	select {
	case <-v.done:
	case <-within(t, stuck).Done():
		t.Fatalf("the verb still runs: %s", v.err.String())
	}
	return v.cmd.ProcessState.ExitCode()
}

// The line is cut in the middle of a sync with much to move both ways: the sync says so, and ends when all of it has moved. An
// interrupt in such a state ends it cleanly.
func TestOutageDuringSync(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := byHand(t, set, bin, atNorth)
	head, north := f.Head(), f.Offices[atNorth]
	asked(t, north, bin, 0, "sync", "--wait")
	shut(t, north)
	const many = 3000
	heap := func(o *fleet.Office, first int) {
		db, err := o.DB()
		must(t, err)
		for i := range many {
			if _, err := db.ExecContext(within(t, stuck), fmt.Sprintf(`INSERT INTO order_lines VALUES (%d, %d, 'heap', 1, NULL)`, first+i, o.Index)); err != nil {
				t.Fatal(err)
			}
		}
	}
	heap(head, 1e6)
	heap(north, 1e6)

	ended := begin(t, north, bin, "sync", "--wait")
	north.Link.Cut()
	ended.says(t, "waiting: ")
	must(t, ended.cmd.Process.Signal(syscall.SIGINT))
	if code := ended.ended(t); code != 1 || !strings.Contains(ended.err.String(), "interrupted") {
		t.Errorf("an interrupted sync: exit code %d, %s", code, ended.err.String())
	}
	shut(t, north)
	must(t, north.Link.Restore())

	v := begin(t, north, bin, "sync", "--wait")
	must(t, fleet.Until(within(t, stuck), "the sync is in the middle", func(ctx context.Context) error {
		d, err := north.DigestOf(ctx, fmt.Sprintf(`SELECT order_id, order_id FROM order_lines WHERE sku = 'heap' AND line = %d`, head.Index))
		if err == nil && d.Rows == 0 {
			err = errors.New("nothing has come")
		}
		return err
	}))
	north.Link.Cut()
	v.says(t, "waiting: ", string(admin.ReceiveCorridor))
	must(t, north.Link.Restore())
	if code := v.ended(t); code != 0 || !strings.HasPrefix(v.out.String(), "sent ") {
		t.Errorf("exit code %d: %s %s", code, v.out.String(), v.err.String())
	}
	t.Logf("%s%s", v.err.String(), v.out.String())
	d, err := f.Compare(within(t, stuck))
	must(t, err)
	if n := d["order_lines"].Rows; n < 2*many {
		t.Errorf("%d order lines", n)
	}
	shut(t, north)
}
