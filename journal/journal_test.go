package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft-wal/metadb"

	"cdc-sidecar/schema"
)

func TestNewJournalIsEmpty(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	j := open(t, dir, options())
	epoch := uint64(born.UnixMilli())
	s := j.State()
	if s.Epoch != epoch || j.Epoch() != epoch || s.First != 1 || s.Last != 0 || s.Source != "" || s.Budget != DefaultBudget || len(s.Acknowledged) != 0 {
		t.Errorf("state %+v", s)
	}
	if got := all(t, j); got != nil {
		t.Errorf("it has %s", seqs(got))
	}
	if c, err := j.Seek(1); err != nil || c == 0 {
		t.Errorf("seek: %d, %v", c, err)
	}
	shut(t, j)
	later := options()
	later.Now = func() time.Time { return born.Add(time.Hour) }
	if again := open(t, dir, later); again.Epoch() != epoch {
		t.Errorf("epoch %d after it was opened again, it was born at %d", again.Epoch(), epoch)
	}
}

func TestAppendNumbers(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, options())
	epoch := j.Epoch()
	at := func(seq uint64) schema.Position { return schema.Position{Epoch: epoch, Seq: seq} }
	stamp := func(counter uint32) schema.Stamp { return schema.Stamp{Millis: born.UnixMilli(), Counter: counter} }

	seen := local("3", row(3, 10))
	seen.Seen = schema.Position{Epoch: 9, Seq: 4}
	txs := []schema.Transaction{
		local("1", row(1, 10)), local("2", row(2, 10)), silent("2b", 3), seen, local("4", row(4, 10)),
		from(north, 50, "5", row(5, 10)), local("6", row(6, 10)), from(south, 8, "7", row(7, 10)), from(north, 51, "8", row(8, 10)),
	}
	put(t, j, txs...)
	want := []struct {
		seq   uint64
		at    schema.Position
		stamp schema.Stamp
		seen  uint64
	}{
		{1, at(1), stamp(0), 0},
		{2, at(2), stamp(1), 0},
		{},
		{3, at(3), stamp(2), 4},
		{4, at(4), stamp(3), 4},
		{5, schema.Position{Epoch: 9, Seq: 50}, schema.Stamp{Millis: born.UnixMilli() + 50, Counter: 7}, 0},
		{6, at(6), schema.Stamp{Millis: born.UnixMilli() + 50, Counter: 8}, 4}, // behind the stamp that it may have seen
		{7, schema.Position{Epoch: 9, Seq: 8}, schema.Stamp{Millis: born.UnixMilli() + 8, Counter: 7}, 0},
		{8, schema.Position{Epoch: 9, Seq: 51}, schema.Stamp{Millis: born.UnixMilli() + 51, Counter: 7}, 0},
	}
	for i, w := range want {
		if w.seq == 0 {
			continue
		}
		if got := txs[i]; got.Pos != at(w.seq) || got.OriginPos != w.at || got.Stamp != w.stamp || got.Seen.Seq != w.seen {
			t.Errorf("transaction %d: %s", i, tell(&got))
		}
	}
	check := func(j *Journal) {
		t.Helper()
		s := j.State()
		acked := fmt.Sprint(s.Acknowledged)
		if s.First != 1 || s.Last != 8 || s.Source != "8" || s.Seen.Seq != 4 || s.Stamp != want[8].stamp || acked != "[{north 9/51} {south 9/8}]" {
			t.Errorf("state %+v", s)
		}
		same(t, all(t, j), append(copies(txs[:2]), txs[3:]...))
	}
	check(j)
	shut(t, j)
	check(open(t, dir, options()))
}

// The acknowledgements of a message are those of its place in the log: a receiver takes them for granted at that place.
func TestAcknowledgedIsOfItsPlace(t *testing.T) {
	big := groupBytes/2 + 1
	for name, txs := range map[string][]schema.Transaction{
		"whole transactions": {from(north, 1, "1", row(1, big)), from(north, 2, "2", row(2, big)), local("3", row(3, big))},
		"one group":          {from(north, 1, "", row(1, big)), from(north, 2, "", row(2, big)), from(south, 1, "3", row(3, big))},
		"parts in a group":   append([]schema.Transaction{from(north, 1, "", row(1, 10))}, parts(from(north, 2, "", row(2, 10)), from(north, 2, "3", row(3, 10)))...),
	} {
		t.Run(name, func(t *testing.T) {
			j := open(t, t.TempDir(), options())
			put(t, j, txs...)
			for _, m := range messages(t, j, 1) {
				var at schema.Position
				for _, tx := range txs {
					if tx.Origin == north && tx.Pos.Seq <= m.Seq {
						at = tx.OriginPos
					}
				}
				if m.Acknowledged[0] != (schema.Acknowledgement{Office: north, Pos: at}) {
					t.Errorf("message %d acknowledges %v, want %v", m.Seq, m.Acknowledged[0], at)
				}
			}
			for seq := uint64(1); seq <= j.State().Last; seq++ {
				if m := messages(t, j, seq)[0]; m.Prev >= seq || m.Seq < seq {
					t.Errorf("seek %d finds message %d→%d", seq, m.Prev, m.Seq)
				}
			}
			same(t, all(t, j), txs)
		})
	}
}

// What capture hands over is what the office had seen by then: our own stamps are behind it, strictly rising, and go on so
// in the next life.
func TestStampIsBehindWhatWasSeen(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, options())
	stamp := func(millis int64, counter uint32) schema.Stamp {
		return schema.Stamp{Millis: born.UnixMilli() + millis, Counter: counter}
	}
	own := func(seen schema.Stamp) schema.Transaction {
		tx := local("own", row(1, 10))
		tx.Stamp = seen
		return tx
	}
	mark := func(seen schema.Stamp) schema.Transaction {
		return schema.Transaction{Last: true, Source: "mark", Stamp: seen}
	}
	large := parts(own(stamp(40, 0)), own(stamp(50, 0)), own(stamp(60, 0)))
	for i, step := range []struct {
		txs  []schema.Transaction
		want schema.Stamp
	}{
		{[]schema.Transaction{own(schema.Stamp{})}, stamp(0, 0)},
		{[]schema.Transaction{own(stamp(-5, 9))}, stamp(0, 1)}, // long ago
		{[]schema.Transaction{own(stamp(0, 1))}, stamp(0, 2)},
		{[]schema.Transaction{own(stamp(7, 3))}, stamp(7, 4)},
		{[]schema.Transaction{own(schema.Stamp{})}, stamp(7, 5)},
		{[]schema.Transaction{mark(stamp(9, 1))}, stamp(9, 1)},
		{[]schema.Transaction{mark(stamp(8, 1))}, stamp(9, 1)},
		{[]schema.Transaction{own(stamp(8, 0))}, stamp(9, 2)},
		{[]schema.Transaction{own(stamp(9, schema.MaxCounter))}, stamp(10, 0)},
		{[]schema.Transaction{from(north, 30, "f", row(2, 10)), own(stamp(20, 0))}, stamp(30, 8)},
		{large[:1], stamp(30, 8)}, // open: not to be seen yet
		{large[1:], stamp(40, 1)},
	} {
		put(t, j, step.txs...)
		if got := j.State().Stamp; got != step.want {
			t.Errorf("step %d: stamp %v, want %v", i, got, step.want)
		}
		if last := step.txs[len(step.txs)-1]; last.Source == "own" && last.Stamp != step.want {
			t.Errorf("step %d: the transaction has the stamp %v, want %v", i, last.Stamp, step.want)
		}
		if i%2 == 1 { // not between the parts
			shut(t, j)
			j = open(t, dir, options())
			if got := j.State().Stamp; got != step.want {
				t.Errorf("step %d: stamp %v in the next life, want %v", i, got, step.want)
			}
		}
	}
	for i := range large {
		if large[i].Stamp != stamp(40, 1) {
			t.Errorf("part %d has the stamp %v", i, large[i].Stamp)
		}
	}
	var last schema.Stamp
	for _, tx := range all(t, j) {
		if tx.Origin == here && tx.Part == 0 {
			if !last.Less(tx.Stamp) {
				t.Errorf("transaction %d: stamp %v behind %v", tx.Pos.Seq, tx.Stamp, last)
			}
			last = tx.Stamp
		}
	}
}

// A barrier alone says something to others of this process; the journal has nothing to remember.
func TestBarrierWritesNothing(t *testing.T) {
	barrier := schema.Transaction{Last: true, Barrier: 7}
	dir := t.TempDir()
	j := open(t, dir, options())
	put(t, j, local("1", row(1, 10)))
	before, index, grown := j.State(), j.index, j.Grown()
	put(t, j, barrier)
	put(t, j, barrier, barrier)
	if j.index != index || !reflect.DeepEqual(j.State(), before) {
		t.Errorf("%d records more; state %+v, it was %+v", j.index-index, j.State(), before)
	}
	select {
	case <-grown:
		t.Error("grown by a barrier")
	default:
	}
	group := []schema.Transaction{from(north, 1, "", row(2, 10)), barrier, from(north, 2, "2", row(3, 10)), barrier}
	put(t, j, group...)
	if s := j.State(); s.Last != 3 || s.Source != "2" {
		t.Errorf("state %+v", s)
	}
	index = j.index
	put(t, j, barrier, silent("3", 8)) // a mark, as ever
	if s := j.State(); j.index != index+1 || s.Source != "3" || s.Seen.Seq != 8 {
		t.Errorf("%d records more, state %+v", j.index-index, s)
	}
	if got := all(t, j); len(got) != 3 {
		t.Errorf("holds %s", seqs(got))
	}
}

// A log that has whole seconds only: the stamp is the time of capture, within that second; and no clock goes back.
func TestStampOfWholeSeconds(t *testing.T) {
	second := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	now := second
	o := options()
	o.Now = func() time.Time { return now }
	j := open(t, t.TempDir(), o)
	for _, c := range []struct {
		name        string
		now, commit time.Time
		want        time.Duration // behind second
		counter     uint32
	}{
		{"captured before it was committed", second.Add(-time.Hour), second, 0, 0},
		{"captured within the second", second.Add(300 * time.Millisecond), second, 300 * time.Millisecond, 0},
		{"captured late", second.Add(time.Hour), second, 999 * time.Millisecond, 0},
		{"the clock goes back", second.Add(-time.Hour), second, 999 * time.Millisecond, 1},
		{"microseconds count", second, second.Add(2*time.Second + time.Microsecond), 2 * time.Second, 0},
		{"no commit time at all", second.Add(3 * time.Second), time.Time{}, 3 * time.Second, 0},
		{"the next second, captured at once", second.Add(3500 * time.Millisecond), second.Add(3 * time.Second), 3500 * time.Millisecond, 0},
	} {
		now = c.now
		txs := []schema.Transaction{local("1", row(1, 10))}
		txs[0].Commit = c.commit
		put(t, j, txs...)
		if want := (schema.Stamp{Millis: second.Add(c.want).UnixMilli(), Counter: c.counter}); txs[0].Stamp != want {
			t.Errorf("%s: stamp %v, want %v", c.name, txs[0].Stamp, want)
		}
	}
}

func TestLargeRowIsCutAndJoined(t *testing.T) {
	j := open(t, t.TempDir(), options())
	txs := append([]schema.Transaction{local("1", row(1, 10)), local("2", row(2, 5<<20))},
		parts(local("", row(3, 10)), local("", row(4, 3<<20)), local("3", row(5, 10)))...)
	txs = append(txs, local("4", row(6, 10)))
	put(t, j, txs...)
	cut := 0
	for _, m := range messages(t, j, 1) {
		if m.Continued {
			cut++
		}
	}
	if cut < 7 {
		t.Errorf("%d messages were cut, want at least 7 of 8 MiB", cut)
	}
	same(t, all(t, j), txs)
	if c, err := j.Seek(3); err != nil {
		t.Error(err)
	} else if e, _, err := j.Read(c, 1); err != nil || len(e) != 1 || e[0].Seq != 3 || e[0].Part != 0 {
		t.Errorf("seek 3 gives %+v, %v", e, err)
	}
}

func TestSmallTransactionsShareMessages(t *testing.T) {
	j := open(t, t.TempDir(), options())
	var txs []schema.Transaction
	for i := range 1000 {
		txs = append(txs, local(fmt.Sprint(i), row(i, 1000)))
	}
	put(t, j, txs...)
	if n := len(messages(t, j, 1)); n < 3 || n > 8 {
		t.Errorf("1 MB of small transactions went into %d messages", n)
	}
	same(t, all(t, j), txs)
}

func TestOnlyCompleteTransactionsAreVisible(t *testing.T) {
	j := open(t, t.TempDir(), options())
	put(t, j, local("1", row(1, 10)))
	grown := j.Grown()
	p := parts(local("", row(2, 10)), local("", row(3, 10)), local("2", row(4, 10)))
	put(t, j, p[:1]...)
	put(t, j, p[1:2]...)
	if s := j.State(); s.Last != 1 || s.Source != "1" || len(all(t, j)) != 1 {
		t.Errorf("an incomplete transaction is visible: %+v", s)
	}
	select {
	case <-grown:
		t.Error("grown by an incomplete transaction")
	default:
	}
	put(t, j, p[2:]...)
	if s := j.State(); s.Last != 2 || s.Source != "2" || len(all(t, j)) != 4 {
		t.Errorf("a complete transaction is not visible: %+v", s)
	}
	select {
	case <-grown:
	default:
		t.Error("not told of growth")
	}
}

// A capture that lost its connection in the middle of a transaction reads it again, and in the same process.
func TestResume(t *testing.T) {
	for name, unit := range map[string]func() []schema.Transaction{
		"parts": func() []schema.Transaction {
			return parts(local("", row(2, 10)), local("", row(3, 10)), local("2", row(4, 10)))
		},
		"a group": func() []schema.Transaction {
			return []schema.Transaction{from(north, 1, "", row(2, 10)), from(north, 2, "", row(3, 10)), from(north, 3, "2", row(4, 10))}
		},
	} {
		for n := range 3 {
			t.Run(fmt.Sprintf("%s, %d came", name, n), func(t *testing.T) {
				dir := t.TempDir()
				j := open(t, dir, options())
				first := []schema.Transaction{local("1", row(1, 10))}
				put(t, j, first...)
				for _, tx := range unit()[:n] {
					put(t, j, tx)
				}
				if source, err := j.Resume(); err != nil || source != "1" {
					t.Fatalf("resume at %q, %v; want 1", source, err)
				}
				again := unit()
				put(t, j, again...)
				want := append(first, again...)
				same(t, all(t, j), want)
				shut(t, j)
				j = open(t, dir, options())
				same(t, all(t, j), want)
			})
		}
	}
}

func TestMarks(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, options())
	put(t, j, silent("1", 5))
	put(t, j, silent("2", 6), silent("3", 0))
	put(t, j, append([]schema.Transaction{silent("4", 7)}, parts(local("", row(1, 10)), local("", row(2, 10)))[:1]...)...)
	if s := j.State(); s.Last != 0 || s.Source != "4" || s.Seen.Seq != 7 {
		t.Errorf("state %+v: what precedes an incomplete transaction is durable", s)
	}
	err := j.Append(t.Context(), []schema.Transaction{silent("5", 8)})
	if err == nil || !strings.Contains(err.Error(), "without its last part") {
		t.Errorf("a position in the middle of a transaction: %v", err)
	}
	shut(t, j)
	j = open(t, dir, options())
	if s := j.State(); s.First != 1 || s.Last != 0 || s.Source != "4" || s.Seen.Seq != 7 {
		t.Errorf("state %+v after it was opened again", s)
	}
	open1 := from(north, 1, "", row(1, 10))
	put(t, j, open1)
	put(t, j, silent("6", 9)) // the group was its last
	if s := j.State(); s.Last != 1 || s.Source != "6" {
		t.Errorf("state %+v: the place behind an open group closes it", s)
	}
}

func TestAppendRefusesDisorder(t *testing.T) {
	p := parts(local("", row(1, 10)), local("", row(2, 10)), local("1", row(3, 10)))
	for name, txs := range map[string][]schema.Transaction{
		"begins with a later part": {p[1]},
		"leaves a part out":        {p[0], p[2]},
		"another in between":       {p[0], local("1", row(4, 10))},
		"the same part twice":      {p[0], p[0]},
	} {
		t.Run(name, func(t *testing.T) {
			j := open(t, t.TempDir(), options())
			put(t, j, local("0", row(0, 10)))
			if err := j.Append(t.Context(), copies(txs)); err == nil {
				t.Fatal("it was taken")
			}
			good := []schema.Transaction{local("1", row(5, 10))}
			put(t, j, good...) // nothing of the refused was kept
			if got := all(t, j); len(got) != 2 || got[1].Pos.Seq != 2 {
				t.Errorf("holds %s", seqs(got))
			}
		})
	}
}

func TestAppendMindsItsContext(t *testing.T) {
	j := open(t, t.TempDir(), options())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Append(ctx, []schema.Transaction{local("1", row(1, 1))}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if s := j.State(); s.Last != 0 {
		t.Errorf("state %+v", s)
	}
}

func TestSecondOpenIsHeld(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, options())
	_, err := Open(dir, options())
	if !errors.Is(err, schema.ErrHeld) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("got %v, want held by pid %d", err, os.Getpid())
	}
	shut(t, j)
	open(t, dir, options())
}

func TestClosedJournal(t *testing.T) {
	j := open(t, t.TempDir(), options())
	put(t, j, local("1", row(1, 10)))
	c, err := j.Seek(1)
	if err != nil {
		t.Fatal(err)
	}
	shut(t, j)
	if err := j.Append(t.Context(), []schema.Transaction{local("2", row(2, 10))}); !errors.Is(err, errClosed) {
		t.Errorf("append: %v", err)
	}
	if _, err := j.Resume(); !errors.Is(err, errClosed) {
		t.Errorf("resume: %v", err)
	}
	if _, _, err := j.Read(c, 1); !errors.Is(err, errClosed) {
		t.Errorf("read: %v", err)
	}
}

func TestAnotherOfficesJournal(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, options())
	p := parts(local("", row(1, 10)), local("1", row(2, 10)))
	put(t, j, p[0])
	shut(t, j)
	o := options()
	o.Office = north
	_, err := Open(dir, o)
	var broken *schema.BrokenError
	if !errors.As(err, &broken) || !strings.Contains(err.Error(), "head, not north") {
		t.Errorf("got %v", err)
	}
	j = open(t, dir, options())
	put(t, j, p...)
	same(t, all(t, j), p)
}

func TestFlippedBitIsNoticed(t *testing.T) {
	needle := "a needle in the journal, long enough not to be found elsewhere"
	marked := func(id int) schema.Change {
		c := row(id, 1000) // does not compress: the needle stays as it is
		c.After[1] = schema.Of(c.After[1].Text() + needle)
		return c
	}
	for name, c := range map[string]struct {
		rows   []schema.Change
		opens  bool // the record is not looked at when the journal is opened
		opened bool // flipped under an open journal
	}{
		"in the middle, while it is open": {[]schema.Change{row(1, 10), marked(2), row(3, 10)}, true, true},
		"in the middle, while it is not":  {[]schema.Change{row(1, 10), marked(2), row(3, 10)}, true, false},
		"in the first record":             {[]schema.Change{marked(1), row(2, 10), row(3, 10)}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j := open(t, dir, options())
			for i := range c.rows {
				put(t, j, local(fmt.Sprint(i+1), c.rows[i]))
			}
			if !c.opened {
				shut(t, j)
			}
			flip(t, dir, []byte(needle))
			if !c.opened {
				j = open(t, dir, options())
			}
			cursor, err := j.Seek(1)
			for err == nil {
				var entries []Entry
				if entries, cursor, err = j.Read(cursor, 1); len(entries) == 0 && err == nil {
					t.Fatal("read to the end over a damaged record")
				}
			}
			var broken *schema.BrokenError
			if !errors.As(err, &broken) || !errors.Is(err, errChecksum) || broken.Remedy == "" {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestPublished(t *testing.T) {
	dir := t.TempDir()
	now := born
	o := options()
	o.Now = func() time.Time { return now }
	j := open(t, dir, o)
	var txs []schema.Transaction
	for i := range 10 {
		txs = append(txs, local(fmt.Sprint(i), row(i, 10)))
	}
	put(t, j, txs...)
	if j.Published() != 0 {
		t.Errorf("published %d of a new journal", j.Published())
	}
	tell := func(seq uint64) {
		t.Helper()
		if err := j.SetPublished(seq); err != nil {
			t.Fatal(err)
		}
	}
	remembered := func(want uint64) {
		t.Helper()
		image := open(t, newDisk().image(t, dir, 0, false), o)
		if got := image.Published(); got != want {
			t.Errorf("remembered %d, want %d", got, want)
		}
	}
	name := filepath.Join(dir, publishedName)
	tell(3)
	remembered(3)
	now = now.Add(publishEvery / 2)
	tell(4) // not written yet
	remembered(3)
	now = now.Add(publishEvery / 2)
	tell(5)
	remembered(5)
	for text, want := range map[string]uint64{
		fmt.Sprintf("%d 7 .\n", j.Epoch()): 7, fmt.Sprintf("%d 7", j.Epoch()): 0, fmt.Sprintf("%d 7 x\n", j.Epoch()): 0, "": 0, "x": 0,
		fmt.Sprintf("%d 7 .\n", j.Epoch()-1): 0, // of a journal that was here before
		fmt.Sprintf("%d 11 .\n", j.Epoch()):  0, // more than there is: the volume is an older copy
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		remembered(want)
	}
	tell(6)
	shut(t, j) // whatever the time
	remembered(6)
}

// One appends, others read, seek and release: what they see is always a chain, and never less than what was released.
func TestConcurrentUse(t *testing.T) {
	o := options()
	o.segment = 64 << 10
	o.Budget = 512 << 10 // keeps little, so that a release often has something to do
	j := open(t, t.TempDir(), o)
	const last = 600
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { releaseBehind(t, j, done) })
	for range 2 {
		wg.Go(func() { seekLast(t, j, last, done) })
	}
	for i := 1; i <= last; i++ {
		err := j.Append(t.Context(), []schema.Transaction{local(fmt.Sprint(i), row(i, 3000))})
		if errors.Is(err, ErrFull) {
			if err := j.Release(j.State().Last); err != nil {
				t.Error(err)
				break
			}
			i--
			continue
		}
		if err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	wg.Wait()
	s := j.State()
	if s.Last != last || s.First < 2 || s.First > last-4 {
		t.Errorf("state %+v", s)
	}
	if got := all(t, j); uint64(len(got)) != last-s.First+1 {
		t.Errorf("holds %s", seqs(got))
	}
}

// releaseBehind releases everything but the last few, as they come.
func releaseBehind(t *testing.T, j *Journal, done <-chan struct{}) {
	for {
		grown := j.Grown()
		if s := j.State(); s.Last > 5 {
			if err := j.Release(s.Last - 5); err != nil {
				t.Error(err)
				return
			}
		}
		select {
		case <-grown:
		case <-done:
			return
		}
	}
}

// seekLast looks for the newest transaction, again and again. The appender may be far ahead by then, and the releaser too.
func seekLast(t *testing.T, j *Journal, last uint64, done <-chan struct{}) {
	var released *ReleasedError
	for seq := uint64(0); seq < last; {
		grown := j.Grown()
		at := j.State().Last
		if at == seq {
			select {
			case <-grown:
				continue
			case <-done:
				return
			}
		}
		seq = at
		c, err := j.Seek(seq)
		if errors.As(err, &released) {
			continue
		}
		if err != nil {
			t.Error(err)
			return
		}
		entries, _, err := j.Read(c, 1)
		if errors.As(err, &released) {
			continue
		}
		if err != nil || len(entries) == 0 || entries[0].Prev >= seq || entries[0].Seq < seq {
			t.Errorf("seek %d gives %+v, %v", seq, entries, err)
			return
		}
	}
}

// What a journal holds must not be in memory: a backlog is as long as the budget allows.
func TestBacklogTakesNoMemory(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	o := options()
	o.segment = 2 << 20
	j := open(t, t.TempDir(), o)
	tx := local("1", row(1, 1<<20))
	put(t, j, tx)
	before := heap()
	for range 127 {
		put(t, j, tx)
	}
	if after := heap(); after > before+16<<20 {
		t.Errorf("%d MiB more in memory for 127 MiB in the journal", (after-before)>>20)
	}
	if s := j.State(); s.Bytes < 128<<20 {
		t.Errorf("state %+v", s)
	}
}

// An office that sends nothing moves its place in the log for ever: its marks must not fill the journal, and its place stays.
func TestMarksOfAnIdleOfficeGoByThemselves(t *testing.T) {
	o := Options{Office: "north", Budget: 256 << 10}
	dir := t.TempDir()
	j, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		if err := j.Append(t.Context(), []schema.Transaction{{Source: strconv.Itoa(i)}}); err != nil {
			t.Fatalf("mark %d: %v", i, err)
		}
	}
	if s := j.State(); s.Source != "4999" || s.Bytes > o.Budget {
		t.Errorf("source %s, %d bytes of a budget of %d", s.Source, s.Bytes, o.Budget)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j, err = Open(dir, o); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if s := j.State(); s.Source != "4999" || s.First != 1 || s.Last != 0 {
		t.Errorf("reopened: %+v", s)
	}
}

// Without its list of segments the log underneath would delete them and begin anew.
func TestLostListOfSegmentsIsNoticed(t *testing.T) {
	dir := t.TempDir()
	j, err := Open(dir, Options{Office: "north"})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, metadb.FileName)); err != nil {
		t.Fatal(err)
	}
	before, _ := filepath.Glob(filepath.Join(dir, "*.wal"))
	_, err = Open(dir, Options{Office: "north"})
	var broken *schema.BrokenError
	if !errors.As(err, &broken) {
		t.Errorf("opened with %v, want a BrokenError", err)
	}
	if after, _ := filepath.Glob(filepath.Join(dir, "*.wal")); len(before) == 0 || len(after) != len(before) {
		t.Errorf("%d segments before, %d after", len(before), len(after))
	}
}
