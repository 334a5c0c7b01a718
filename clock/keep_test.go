package clock

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"cdc-sidecar/schema"
)

// journalOf is a journal in memory: it shows what is closed, a message for each transaction, and forgets the rest at its end.
type journalOf struct {
	epoch    uint64
	released int
	messages [][]byte // by seq, from 1 on
	open     [][]byte
	stamp    schema.Stamp
}

func (j *journalOf) Epoch() uint64            { return j.epoch }
func (j *journalOf) Stamp() schema.Stamp      { return j.stamp }
func (j *journalOf) Bounds() (uint64, uint64) { return uint64(j.released) + 1, uint64(len(j.messages)) }

func (j *journalOf) Messages(cursor uint64, _ int) ([][]byte, uint64, error) {
	at := max(int(cursor), j.released)
	end := min(at+3, len(j.messages))
	return j.messages[at:end], uint64(end), nil
}

func (j *journalOf) append(_ context.Context, txs []schema.Transaction) error {
	for i := range txs {
		tx := txs[i]
		if !tx.Silent() {
			m := schema.Message{Version: schema.WireVersion, Kind: schema.MessageTransaction, Sender: "head", Epoch: j.epoch, Seq: tx.Pos.Seq}
			var err error
			if m.Body, m.Codec, err = schema.Pack(schema.AppendBatch(nil, []schema.Transaction{tx})); err != nil {
				return err
			}
			j.open, j.stamp = append(j.open, schema.AppendMessage(nil, &m)), tx.Stamp
		}
		if tx.Source != "" {
			j.messages, j.open = append(j.messages, j.open...), nil
		}
	}
	return nil
}

func follow(tb rapid.TB, dir string, j *journalOf, rows int) *Follower {
	tb.Helper()
	f, err := Follow(dir, Options{Rows: rows, Program: "test"}, j, "head", schema.Head, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func catchUp(tb rapid.TB, f *Follower) {
	tb.Helper()
	if err := f.CatchUp(context.Background()); err != nil {
		tb.Fatal(err)
	}
}

func sink(tb rapid.TB, f *Follower, j *journalOf, txs ...schema.Transaction) {
	tb.Helper()
	if err := f.Sink(j.append)(context.Background(), txs); err != nil {
		tb.Fatal(err)
	}
}

func keep(tb rapid.TB, f *Follower) {
	tb.Helper()
	if err := f.Keep(); err != nil {
		tb.Fatal(err)
	}
}

// crash ends the use of an index as the end of its process does.
func crash(tb rapid.TB, f *Follower) {
	tb.Helper()
	if err := closeRuns(f.current().runs); err != nil {
		tb.Fatal(err)
	}
}

// lives draws lives of an office, each ended by Keep or by a crash, within a database transaction or behind it.
type lives struct {
	*rapid.T
	dir     string
	journal *journalOf
	follow  *Follower
	model   *model
	rows    int
	within  []schema.Transaction // what is taken, but not closed
	taken   int                  // over
}

// unit appends what one database transaction gave, or a beginning of it, which later comes again.
func (l *lives) unit() {
	txs, seq := l.within, uint64(len(l.journal.messages))
	if txs == nil {
		for range rapid.IntRange(1, 3).Draw(l.T, "transactions") {
			seq++
			tx := schema.Transaction{Pos: schema.Position{Seq: seq}, Stamp: stamps().Draw(l.T, "stamp"), Origin: rapid.SampledFrom(someOffices).Draw(l.T, "origin"), Last: true}
			for range rapid.IntRange(1, 4).Draw(l.T, "changes") {
				c, touches, absent := drawChange(l.T, "head", &tx)
				if absent != (schema.RowID{}) { // what is stale, a test of its own has
					continue
				}
				tx.Changes = append(tx.Changes, c)
				l.model.touches = append(l.model.touches, touches...)
			}
			txs = append(txs, tx)
		}
	}
	l.within = txs
	if cut := rapid.IntRange(0, 2*len(txs)).Draw(l.T, "cut"); cut < len(txs) {
		sink(l, l.follow, l.journal, txs[:cut]...)
		l.journal.open = nil // the session ends
		return
	}
	txs[len(txs)-1].Source = "behind"
	sink(l, l.follow, l.journal, txs...)
	l.within = nil
}

func (l *lives) release() {
	l.journal.released = rapid.IntRange(l.journal.released, len(l.journal.messages)).Draw(l.T, "released")
	l.model.released = uint64(l.journal.released)
	if err := l.follow.Forget(); err != nil {
		l.Fatal(err)
	}
}

// restart ends a life and begins the next. A transaction that is not closed comes again.
func (l *lives) restart() {
	orderly := rapid.Bool().Draw(l.T, "orderly")
	fits := orderly && l.follow.whole && l.journal.released < len(l.journal.messages)
	if orderly {
		keep(l, l.follow)
	} else {
		crash(l, l.follow)
	}
	if fits && rapid.IntRange(0, 3).Draw(l.T, "released meanwhile") == 0 {
		l.journal.released = rapid.IntRange(l.journal.released, len(l.journal.messages)-1).Draw(l.T, "released")
		l.model.released = uint64(l.journal.released)
	}
	l.follow = follow(l, l.dir, l.journal, l.rows)
	if l.follow.InStep() != fits {
		l.Fatalf("taken over: %t, want %t: %v", !fits, fits, l.follow.refused)
	}
	if fits {
		l.taken++
	}
	catchUp(l, l.follow)
}

func (l *lives) check() {
	if l.within != nil {
		return
	}
	x := l.follow.current()
	for _, table := range someTables {
		l.model.checkTable(l.T, x, table.TableName)
		for _, key := range []string{"a", "b", "c", "d", "e", "f", "nobody's"} {
			l.model.checkRow(l.T, x, table.TableName, rowID(table, key))
		}
	}
	if n := len(files(l, l.dir)); n != x.Stats().Runs {
		l.Fatalf("%d files for %+v", n, x.Stats())
	}
}

// However lives end, the index knows what the journal says.
func TestLivesAreTheModel(t *testing.T) {
	dir, taken := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		l := &lives{T: t, dir: dir, journal: &journalOf{epoch: 1}, model: &model{}, rows: rapid.IntRange(1, 8).Draw(t, "rows in memory")}
		l.follow = follow(t, dir, l.journal, l.rows)
		defer func() { _ = l.follow.Close() }()
		catchUp(t, l.follow)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"unit", "unit", "unit", "unit", "release", "restart", "restart"}).Draw(t, "step") {
			case "unit":
				l.unit()
			case "release":
				if l.within == nil {
					l.release()
				}
			case "restart":
				l.restart()
			}
			l.check()
		}
		taken += l.taken
	})
	if taken == 0 {
		t.Error("nothing was ever taken over")
	}
}

func change(key string) schema.Change {
	return schema.Change{Table: someTables[0], Op: schema.Insert, After: image(key)}
}

func closed(seq uint64, origin schema.Office, changes ...schema.Change) schema.Transaction {
	return schema.Transaction{
		Pos: schema.Position{Seq: seq}, Stamp: schema.Stamp{Millis: int64(seq)}, Origin: origin, Changes: changes, Last: true, Source: "behind",
	}
}

// keptLife leaves an index with two files and one row that was in memory.
func keptLife(tb rapid.TB, dir string) *journalOf {
	j := &journalOf{epoch: 1}
	f := follow(tb, dir, j, 2)
	catchUp(tb, f)
	for i, key := range []string{"a", "b", "c", "d", "a"} {
		sink(tb, f, j, closed(uint64(i+1), someOffices[i%3], change(key)))
	}
	keep(tb, f)
	return j
}

// knows compares a follower with what keptLife's journal says.
func knows(t *testing.T, f *Follower) {
	t.Helper()
	orders := someTables[0].TableName
	for i, key := range []string{"a", "b", "c", "d", "a"} {
		want := uint64(i + 1)
		if i == 0 {
			want = 5
		}
		if seq, _, _, err := f.Against(orders, rowID(someTables[0], key), "nobody"); err != nil || seq != want {
			t.Errorf("row %s was touched at %d, %v; want %d", key, seq, err, want)
		}
	}
	if got := f.Writers(orders); len(got) != 3 || f.Last() != 5 {
		t.Errorf("writers %v, last %d", got, f.Last())
	}
}

// What is kept is good for one life, for the next touch is in no file.
func TestKeptForOneLife(t *testing.T) {
	dir := t.TempDir()
	j := keptLife(t, dir)
	stranger := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(stranger, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := follow(t, dir, j, 2)
	if !f.InStep() || f.Refused() != nil {
		t.Fatal(f.refused)
	}
	if err := f.Ready(context.Background()); err != nil {
		t.Error(err)
	}
	catchUp(t, f)
	knows(t, f)
	if found := files(t, dir); len(found) != 3 {
		t.Errorf("in use there are %v", found)
	}
	crash(t, f)
	f = follow(t, dir, j, 2)
	if f.InStep() || f.Refused() != nil {
		t.Errorf("taken over again: %t, %v", f.InStep(), f.refused)
	}
	catchUp(t, f)
	knows(t, f)
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if found := files(t, dir); len(found) != 1 || found[0] != stranger {
		t.Errorf("at the end there are %v", found)
	}
}

// A life that never had its database still hands over what it took over.
func TestKeptAgain(t *testing.T) {
	dir := t.TempDir()
	j := keptLife(t, dir)
	for range 3 {
		f := follow(t, dir, j, 2)
		if !f.InStep() {
			t.Fatal(f.refused)
		}
		knows(t, f)
		keep(t, f)
	}
}

// Another journal, another end of it, another reader: nothing is taken over, and all is built again.
func TestOthersAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		program string
		office  schema.Office
		role    schema.Role
		journal func(j *journalOf)
	}{
		"another epoch":   {"test", "head", schema.Head, func(j *journalOf) { j.epoch++ }},
		"another stamp":   {"test", "head", schema.Head, func(j *journalOf) { j.stamp.Millis++ }},
		"an older copy":   {"test", "head", schema.Head, func(j *journalOf) { j.messages = j.messages[:4] }},
		"a longer one":    {"test", "head", schema.Head, func(j *journalOf) { _ = j.append(context.Background(), []schema.Transaction{closed(6, "head")}) }},
		"another program": {"other", "head", schema.Head, func(*journalOf) {}},
		"another office":  {"test", "north", schema.Head, func(*journalOf) {}},
		"another role":    {"test", "head", schema.Branch, func(*journalOf) {}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j := keptLife(t, dir)
			c.journal(j)
			f, err := Follow(dir, Options{Rows: 2, Program: c.program}, j, c.office, c.role, nil)
			if err != nil {
				t.Fatal(err)
			}
			if f.InStep() || !errors.Is(f.Refused(), errOthers) || len(files(t, dir)) != 0 {
				t.Errorf("taken over: %t, %v, files %v", f.InStep(), f.Refused(), files(t, dir))
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// No byte of what is kept can change, and no file be cut or missing, without all of it being built again.
func TestDamagedKept(t *testing.T) {
	origin := t.TempDir()
	j := keptLife(t, origin)
	kept := map[string][]byte{}
	for _, path := range files(t, origin) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		kept[filepath.Base(path)] = b
	}
	if len(kept) != 4 {
		t.Fatalf("%d files", len(kept))
	}
	dir := t.TempDir()
	try := func(what, damaged string, b []byte) {
		for name, good := range kept {
			if name == damaged {
				good = b
			}
			if good == nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, name), good, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f := follow(t, dir, j, 2)
		if f.InStep() != (damaged == "") {
			t.Errorf("%s %s: taken over %t, %v", damaged, what, f.InStep(), f.refused)
		}
		if missing := damaged == manifest && b == nil; (f.Refused() == nil) != (missing || damaged == "") {
			t.Errorf("%s %s: %v", damaged, what, f.Refused())
		}
		catchUp(t, f)
		knows(t, f)
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if left := files(t, dir); len(left) != 0 {
			t.Fatalf("%s %s: left are %v", damaged, what, left)
		}
	}
	try("as it was", "", nil)
	for name, good := range kept {
		try("missing", name, nil)
		try("empty", name, []byte{})
		try("cut", name, good[:len(good)-1])
		try("longer", name, append(bytes.Clone(good), 0))
		for at := range good {
			bad := bytes.Clone(good)
			bad[at] ^= 0x20
			try("with another byte", name, bad)
		}
	}
}

// A transaction that is cut off when the journal opens again must be in no index.
func TestHalfATransactionIsNotKept(t *testing.T) {
	dir, j := t.TempDir(), &journalOf{epoch: 1}
	f := follow(t, dir, j, 2)
	catchUp(t, f)
	half := closed(2, "north", change("b"))
	half.Source = ""
	sink(t, f, j, closed(1, "head", change("a")), half)
	keep(t, f)
	if left := files(t, dir); len(left) != 0 {
		t.Error(left)
	}
}

// An index that is not whole, or does not know what the journal has, is not kept.
func TestNotInStepIsNotKept(t *testing.T) {
	for name, spoil := range map[string]func(f *Follower, j *journalOf) error{
		"the journal has more": func(_ *Follower, j *journalOf) error {
			return j.append(context.Background(), []schema.Transaction{closed(6, "head", change("b"))})
		},
		"useless": func(f *Follower, _ *journalOf) error {
			if f.current().Touch(row(1), Touch{Seq: 1}, true) == nil {
				return errors.New("a touch out of order was taken")
			}
			return nil
		},
		"all is released": func(_ *Follower, j *journalOf) error { j.released = 5; return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j := keptLife(t, dir)
			f := follow(t, dir, j, 2)
			if !f.InStep() {
				t.Fatal(f.refused)
			}
			if err := spoil(f, j); err != nil {
				t.Fatal(err)
			}
			keep(t, f)
			if left := files(t, dir); len(left) != 0 {
				t.Error(left)
			}
		})
	}
	dir := t.TempDir()
	j := keptLife(t, dir)
	j.epoch++
	f := follow(t, dir, j, 2)
	keep(t, f) // nothing was read yet
	if left := files(t, dir); len(left) != 0 {
		t.Error(left)
	}
}

// A stale decision is told to whoever reads the journal, until the journal releases it: an index that is kept would hide it.
func TestStaleDecisionsAreNotHidden(t *testing.T) {
	dir, j := t.TempDir(), &journalOf{epoch: 1}
	told := 0
	begin := func() *Follower {
		f, err := Follow(dir, Options{}, j, "head", schema.Head, func(stale []schema.Change) { told += len(stale) })
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	absent := schema.Change{Table: someTables[0], Op: schema.Delete, Before: image("a"), Decided: &schema.Decision{Origin: "head"}}
	f := begin()
	catchUp(t, f)
	sink(t, f, j, closed(1, "head", change("a")), closed(2, "north", absent), closed(3, "head", change("b")))
	for life := 1; life < 4; life++ {
		if told != life {
			t.Fatalf("told %d times in %d lives", told, life)
		}
		keep(t, f)
		f = begin()
		catchUp(t, f)
	}
	j.released = 2
	keep(t, f)
	if f = begin(); !f.InStep() || told != 4 {
		t.Errorf("in step %t, told %d times", f.InStep(), told)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
