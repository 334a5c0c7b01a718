package clock

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"cdc-sidecar/schema"
)

func open(tb testing.TB, o Options) *Index {
	x, err := Open(tb.TempDir(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := x.Close(); err != nil {
			tb.Error(err)
		}
	})
	return x
}

// put is a touch that must succeed.
func put(tb testing.TB, x *Index, row schema.RowID, t Touch, plain bool) {
	tb.Helper()
	if err := x.Touch(row, t, plain); err != nil {
		tb.Fatal(err)
	}
}

func row(n int) schema.RowID { return rowID(someTables[0], fmt.Sprint(n)) }

func files(tb rapid.TB, dir string) []string {
	tb.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		tb.Fatal(err)
	}
	return found
}

// Whatever is in memory, in files, merged or released: what is retained is told exactly.
func TestIndexIsTheModel(t *testing.T) {
	orders := someTables[0].TableName
	dir := t.TempDir()
	var runs, merges int
	rapid.Check(t, func(t *rapid.T) {
		x, err := Open(dir, Options{Rows: rapid.IntRange(1, 6).Draw(t, "rows in memory")})
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		m, seq := &model{}, uint64(1)
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			if rapid.IntRange(0, 20).Draw(t, "release") == 0 {
				m.released = max(m.released, rapid.Uint64Range(0, seq).Draw(t, "released"))
				if err := x.Release(m.released); err != nil {
					t.Fatal(err)
				}
				continue
			}
			seq += rapid.Uint64Range(0, 2).Draw(t, "step")
			touch := modelTouch{
				Touch: Touch{Seq: seq, Stamp: stamps().Draw(t, "stamp"), Origin: rapid.SampledFrom(someOffices).Draw(t, "origin")},
				table: orders, row: row(rapid.IntRange(0, 40).Draw(t, "row")), plain: rapid.Bool().Draw(t, "plain"),
			}
			before := len(x.runs)
			if err := x.Touch(touch.row, touch.Touch, touch.plain); err != nil {
				t.Fatal(err)
			}
			m.touches = append(m.touches, touch)
			m.checkRow(t, x, orders, touch.row)
			runs = max(runs, len(x.runs))
			if len(x.runs) < before {
				merges++
			}
		}
		for n := range 42 { // one of them nobody touches
			m.checkRow(t, x, orders, row(n))
		}
		if n := len(files(t, x.dir)); n != x.Stats().Runs || n > maxRuns {
			t.Fatalf("%d files for %+v", n, x.Stats())
		}
	})
	if runs < maxRuns || merges == 0 {
		t.Errorf("at most %d runs, %d merges: files were not tried", runs, merges)
	}
}

// A million rows in 64 MB, whatever of it is on disk: the heap is measured where it is fullest, before rows go to disk.
func TestMemoryOfAMillionRows(t *testing.T) {
	const total, most = 1_000_000, 64 << 20
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // the second empties pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	ids := rowIDs(total)
	before, highest := heap(), int64(0)
	x := open(t, Options{})
	for i, id := range ids {
		put(t, x, id, Touch{Seq: uint64(i + 1), Stamp: schema.Stamp{Millis: int64(i)}, Origin: someOffices[i%3]}, true)
		if (i+2)%DefaultRows == 0 || i == total-1 {
			taken, told := heap()-before, x.Stats().Bytes
			if told < taken/2 || told > 2*taken {
				t.Errorf("after %d rows the heap has %d bytes more, and Stats tells of %d", i+1, taken, told)
			}
			highest = max(highest, taken)
		}
	}
	t.Logf("%.1f MB, %+v", float64(highest)/(1<<20), x.Stats())
	if highest > most {
		t.Errorf("%d rows took %d bytes of memory, more than %d", total, highest, most)
	}
	if s := x.Stats(); s.Runs == 0 || s.Rows != total || s.DiskBytes < (total-DefaultRows)*recordBytes {
		t.Errorf("%+v", s)
	}
	for i := 0; i < total; i += 97 {
		want := Clock{Last: Touch{Seq: uint64(i + 1), Stamp: schema.Stamp{Millis: int64(i)}, Origin: someOffices[i%3]}, Plain: true}
		if got, ok, err := x.Row(ids[i]); err != nil || !ok || got != want {
			t.Fatalf("row %d: %+v, %t, %v", i, got, ok, err)
		}
	}
	runtime.KeepAlive(ids)
}

// What is released takes nothing: neither files nor memory.
func TestReleaseFrees(t *testing.T) {
	x := open(t, Options{Rows: 1000})
	least := x.Stats()
	for n := range 5500 {
		put(t, x, row(n), Touch{Seq: uint64(n + 1), Origin: "north"}, true)
	}
	full := x.Stats()
	if full.Runs == 0 || full.Bytes <= least.Bytes || full.DiskBytes == 0 {
		t.Fatalf("%+v", full)
	}
	if err := x.Release(3300); err != nil {
		t.Fatal(err)
	}
	if s := x.Stats(); s.Runs == 0 || s.Runs >= full.Runs || len(files(t, x.dir)) != s.Runs {
		t.Errorf("released in part: %+v, before %+v", s, full)
	}
	if err := x.Release(5500); err != nil {
		t.Fatal(err)
	}
	if s := x.Stats(); s != least || len(files(t, x.dir)) != 0 {
		t.Errorf("all is released: %+v, files %v", s, files(t, x.dir))
	}
	if err := x.Release(7); err != nil || x.released.Load() != 5500 {
		t.Errorf("a release goes back to %d: %v", x.released.Load(), err)
	}
}

// An office whose rows are released as they come never goes to disk, and does not grow.
func TestReleasedRowsStayInMemory(t *testing.T) {
	x := open(t, Options{Rows: 1000})
	for n := range 20_000 {
		put(t, x, row(n), Touch{Seq: uint64(n + 1), Origin: "north"}, true)
		if n%10 == 0 && n > 100 {
			if err := x.Release(uint64(n - 100)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s := x.Stats(); x.files != 0 || s.Bytes > 1000*slotBytes {
		t.Errorf("%d files were made, %+v", x.files, s)
	}
}

// Readers see each touch that is done, while rows go to disk, files are merged, and what is old is released.
func TestReadersBesideTheWriter(t *testing.T) {
	const all, touches = 64, 30_000
	x := open(t, Options{Rows: 8})
	var done [all]atomic.Uint64
	var floor atomic.Uint64
	stop := make(chan struct{})
	var readers sync.WaitGroup
	read := func(random *rand.Rand) error {
		n := random.IntN(all)
		want := done[n].Load()
		got, err := x.Against(someTables[0].TableName, row(n), "south")
		if err != nil {
			return err
		}
		if got.Seq < want && want > floor.Load() {
			return fmt.Errorf("row %d was touched at %d, the index says %d", n, want, got.Seq)
		}
		return nil
	}
	for i := range 2 {
		readers.Go(func() {
			random := rand.New(rand.NewPCG(2, uint64(i)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := read(random); err != nil {
					t.Error(err)
					return
				}
				_, _ = x.Stats(), x.Writers(someTables[0].TableName)
			}
		})
	}
	readers.Go(func() {
		for seq := range uint64(touches) {
			floor.Store(seq / 2)
			if err := x.Release(seq / 2); err != nil {
				t.Error(err)
			}
		}
	})
	random := rand.New(rand.NewPCG(3, 3))
	for seq := uint64(1); seq <= touches; seq++ {
		n := random.IntN(all)
		put(t, x, row(n), Touch{Seq: seq, Origin: "north"}, true)
		done[n].Store(seq)
	}
	close(stop)
	readers.Wait()
}

// Whoever writes a file holds the writer's lock: readers and Release must not need it. A hang is the failure.
func TestNobodyWaitsForTheWriter(t *testing.T) {
	x := open(t, Options{Rows: 4})
	for n := range 10 {
		put(t, x, row(n), Touch{Seq: uint64(n + 1), Origin: "north"}, true)
	}
	x.writing.Lock()
	defer x.writing.Unlock()
	if _, ok, err := x.Row(row(0)); err != nil || !ok {
		t.Error(ok, err)
	}
	if err := x.Release(10); err != nil {
		t.Error(err)
	}
	x.TableAgainst(someTables[0].TableName, "north")
}

// And while the file is written, it does not hold the readers' lock.
func TestFilesAreWrittenBesideReaders(t *testing.T) {
	x := open(t, Options{Rows: 4})
	for n := range 4 * maxRuns {
		put(t, x, row(n), Touch{Seq: uint64(n + 1), Origin: "north"}, true)
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	w, err := newRun(x.path(), 4*maxRuns)
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.finish(mergeInto(w, x.runs, 0))
	if err != nil || r.rows != 4*maxRuns {
		t.Fatal(r, err)
	}
	if err := r.remove(); err != nil {
		t.Error(err)
	}
}

func TestOpenEmptiesItsFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "clocks")
	x, err := Open(dir, Options{Rows: 1})
	if err != nil {
		t.Fatal(err)
	}
	put(t, x, row(1), Touch{Seq: 1, Origin: "north"}, true)
	stranger := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(stranger, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if found := files(t, dir); len(found) != 2 {
		t.Fatal(found)
	}
	// The first life ends without Close.
	y, err := Open(dir, Options{Rows: 1})
	if err != nil {
		t.Fatal(err)
	}
	if found := files(t, dir); len(found) != 1 || found[0] != stranger {
		t.Errorf("after the start there are %v", found)
	}
	if _, ok, err := y.Row(row(1)); ok || err != nil {
		t.Errorf("a row of a former life: %t, %v", ok, err)
	}
	put(t, y, row(2), Touch{Seq: 1, Origin: "north"}, true)
	if err := y.Close(); err != nil {
		t.Error(err)
	}
	if found := files(t, dir); len(found) != 1 {
		t.Errorf("after the end there are %v", found)
	}
	if _, _, err := y.Row(row(2)); err == nil {
		t.Error("a closed index answers")
	}
	if _, err := Open(stranger, Options{}); err == nil {
		t.Error("a file was taken for a folder")
	}
}

// A touch that cannot be kept makes the index useless: half an index would lose conflicts.
func TestUselessAfterAnError(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, x *Index) error{
		"no folder any more": func(t *testing.T, x *Index) error {
			if err := os.RemoveAll(x.dir); err != nil {
				t.Fatal(err)
			}
			for n := range 4 {
				if err := x.Touch(row(n), Touch{Seq: uint64(10 + n), Origin: "north"}, true); err != nil {
					if !errors.Is(err, fs.ErrNotExist) {
						t.Error(err)
					}
					return err
				}
			}
			return nil
		},
		"backwards": func(t *testing.T, x *Index) error {
			txs := []schema.Transaction{
				{Pos: schema.Position{Seq: 3}, Origin: "head", Changes: []schema.Change{{Table: someTables[0], Op: schema.Insert, After: image("3")}}},
				{Source: "the end of it"},
			}
			if _, err := x.Take("head", schema.Head, txs); err != nil {
				t.Fatal(err)
			}
			_, err := x.Take("head", schema.Head, txs[:1])
			return err
		},
		"no seq": func(_ *testing.T, x *Index) error { return x.Touch(row(1), Touch{Origin: "north"}, true) },
		"too many offices": func(t *testing.T, x *Index) error {
			for n := range maxOffices - 1 {
				put(t, x, row(2), Touch{Seq: 9, Origin: schema.Office(fmt.Sprintf("o%d", n))}, true)
			}
			if c, _, err := x.Row(row(2)); err != nil || c.Last.Origin != schema.Office(fmt.Sprintf("o%d", maxOffices-2)) {
				t.Error(c, err)
			}
			return x.Touch(row(2), Touch{Seq: 9, Origin: "one-more"}, true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := open(t, Options{Rows: 4})
			put(t, x, row(2), Touch{Seq: 2, Origin: "north"}, true)
			why := spoil(t, x)
			if why == nil {
				t.Fatal("no error")
			}
			if _, _, err := x.Row(row(2)); !errors.Is(err, why) {
				t.Errorf("Row: %v", err)
			}
			if _, err := x.Against(someTables[0].TableName, row(2), "north"); !errors.Is(err, why) {
				t.Errorf("Against: %v", err)
			}
			if err := x.Touch(row(2), Touch{Seq: 90, Origin: "north"}, true); !errors.Is(err, why) {
				t.Errorf("Touch: %v", err)
			}
		})
	}
}
