package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"cdc-sidecar/schema"
)

// workload goes over several files, has what a transaction can be, and releases and resumes in between. Each step says which
// of txs it brings; what it returns are all that came to here.
func workload(j *Journal, acked func([]schema.Transaction)) error {
	var all []schema.Transaction
	appended := func(txs ...schema.Transaction) error {
		if err := j.Append(context.Background(), txs); err != nil {
			return err
		}
		if all = append(all, txs...); txs[len(txs)-1].Source != "" {
			acked(copies(all))
		}
		return nil
	}
	steps := []func() error{
		func() error { return appended(local("1", row(1, 300))) },
		func() error { return appended(local("2", row(2, 3000)), local("3", row(3, 5000))) },
		func() error { return appended(parts(local("", row(4, 9000)), local("4", row(5, 200)))[:1]...) },
		func() error { return appended(parts(local("", row(4, 9000)), local("4", row(5, 200)))[1:]...) },
		func() error { return appended(from(north, 1, "", row(6, 100))) },
		func() error {
			all = all[:len(all)-1]
			_, err := j.Resume()
			return err
		},
		func() error { return appended(from(north, 1, "", row(6, 100)), from(north, 2, "5", row(7, 100))) },
		func() error { return appended(local("6", row(8, 12000))) },
		func() error { return appended(local("7", row(9, 700))) },
		func() error { return j.Release(3) },
		func() error { return appended(local("8", row(10, 12000)), local("9", row(11, 12000))) },
		func() error { return appended(local("10", row(12, 20))) },
		func() error { return j.Release(7) },
		func() error { return appended(local("11", row(13, 100))) },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

func crashOptions(d *disk) Options {
	o := options()
	o.vfs, o.segment, o.Budget = d, 16<<10, 128<<10
	return o
}

// survives opens what a crash left: everything acknowledged is there, nothing incomplete is to be seen, and it goes on.
func survives(t *testing.T, what, dir string, acked []schema.Transaction) {
	t.Helper()
	survivesIn(t, what, dir, crashOptions(newDisk()), acked)
}

func survivesIn(t *testing.T, what, dir string, o Options, acked []schema.Transaction) {
	t.Helper()
	j, err := Open(dir, o)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer func() { shut(t, j) }()
	s := j.State()
	held := transactions(t, messages(t, j, s.First), s.First)
	var last uint64
	if len(acked) > 0 {
		last = acked[len(acked)-1].Pos.Seq
	}
	if s.Last < last {
		t.Fatalf("%s: the last is %d, %d was acknowledged", what, s.Last, last)
	}
	for len(acked) > 0 && acked[0].Pos.Seq < s.First {
		acked = acked[1:]
	}
	if len(held) < len(acked) {
		t.Fatalf("%s: holds %s, acknowledged were %s", what, seqs(held), seqs(acked))
	}
	same(t, held[:len(acked)], acked)
	next := []schema.Transaction{local("next", row(99, 10))}
	put(t, j, next...)
	if next[0].Pos.Seq != s.Last+1 {
		t.Fatalf("%s: goes on with %d behind %d", what, next[0].Pos.Seq, s.Last)
	}
	same(t, all(t, j), append(held, next...))
}

// At every step of the disk the power fails: with nothing, some or all of what is not synced on it, and a file that was
// never synced with or without its name.
func TestPowerFailureAtEveryStep(t *testing.T) {
	dir := t.TempDir()
	d := newDisk()
	type image struct {
		what, dir string
		acked     []schema.Transaction
	}
	var mu sync.Mutex // the log changes its files in a goroutine of its own
	var acked []schema.Transaction
	var images []image
	steps := 0
	j := open(t, dir, crashOptions(d))
	d.watch(func(what string) error {
		mu.Lock()
		defer mu.Unlock()
		steps++
		n := d.unsynced()
		cuts := map[int]bool{0: true, n: true}
		for _, cut := range []int{1, 31, 32, 40, n / 3, n / 2, n - 16, n - 9, n - 8, n - 1} { // headers stand at the ends
			cuts[min(max(cut, 0), n)] = true
		}
		for cut := range cuts {
			for _, lost := range []bool{false, true} {
				name := fmt.Sprintf("step %d (%s), %d of %d bytes, lost %v", steps, what, cut, n, lost)
				images = append(images, image{name, d.image(t, dir, cut, lost), acked})
			}
		}
		return nil
	})
	err := workload(j, func(all []schema.Transaction) {
		mu.Lock()
		defer mu.Unlock()
		acked = all
	})
	if err != nil {
		t.Fatal(err)
	}
	d.watch(nil)
	mu.Lock()
	defer mu.Unlock()
	if steps < 40 || len(images) < 300 {
		t.Errorf("%d steps, %d images: the workload does less than it should", steps, len(images))
	}
	for _, i := range images {
		survives(t, i.what, i.dir, i.acked)
	}
	survives(t, "the end", d.image(t, dir, 0, true), acked)
}

// One write is torn at each of its bytes.
func TestTornAtEveryByte(t *testing.T) {
	for name, size := range map[string]int{"within a file": 150, "and fills the file": 17000} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d := newDisk()
			j := open(t, dir, crashOptions(d))
			acked := []schema.Transaction{local("1", row(1, 300)), local("2", row(2, 300))}
			put(t, j, acked...)
			torn := 0
			d.watch(func(what string) error {
				if what != "sync" {
					return nil
				}
				d.watch(nil)
				n := d.unsynced()
				for keep := max(0, n-700); keep <= n; keep++ { // what is before is a row's bytes
					image := d.image(t, dir, keep, false)
					survives(t, fmt.Sprintf("%d of %d bytes", keep, n), image, acked)
					if err := os.RemoveAll(image); err != nil {
						t.Fatal(err)
					}
					torn++
				}
				return nil
			})
			put(t, j, local("3", row(3, size)), local("4", row(4, 20)))
			if torn < 300 {
				t.Errorf("torn at %d places", torn)
			}
		})
	}
}

var errDisk = errors.New("the disk is broken")

// The n-th step of the disk fails: from then on the journal takes nothing, whatever the disk says; what it acknowledged
// is there when it is opened again, and can be read until then.
func TestDiskFails(t *testing.T) {
	for _, kind := range []string{"write", "sync", "create"} {
		for n := 1; ; n++ {
			dir := t.TempDir()
			d := newDisk()
			seen := 0
			j := open(t, dir, crashOptions(d))
			d.watch(func(what string) error {
				if what == kind {
					if seen++; seen == n {
						return errDisk
					}
				}
				return nil
			})
			var acked []schema.Transaction
			err := workload(j, func(all []schema.Transaction) { acked = all })
			if err == nil {
				if n < 4 {
					t.Errorf("only %d times %s", n-1, kind)
				}
				break
			}
			what := fmt.Sprintf("%s %d", kind, n)
			if kind != "create" && !errors.Is(err, errDisk) {
				t.Errorf("%s: %v", what, err)
			}
			again := j.Append(t.Context(), []schema.Transaction{local("x", row(1, 1))})
			if again == nil {
				t.Errorf("%s: the journal goes on after a failure", what)
			}
			if _, err := j.Resume(); err == nil {
				t.Errorf("%s: capture may start again after a failure", what)
			}
			if s := j.State(); len(acked) > 0 {
				if got := all(t, j); got[len(got)-1].Pos.Seq != s.Last || s.Last < acked[len(acked)-1].Pos.Seq {
					t.Errorf("%s: holds %s, acknowledged were %s", what, seqs(got), seqs(acked))
				}
			}
			d.watch(nil)
			survives(t, what+", and the power", d.image(t, dir, 0, true), acked)
			shut(t, j)
			survives(t, what, dir, acked)
		}
	}
}

// raft-wal seals a full file first and says so in its metadata later. A process that ends in between must find a journal
// that it can write to.
func TestEndRightBehindAFullFile(t *testing.T) {
	o := options()
	o.segment = 16 << 10
	for size := 1000; size < 4000; size += 50 {
		dir := t.TempDir()
		j := open(t, dir, o)
		files := func() int {
			names, err := filepath.Glob(filepath.Join(dir, "*.wal"))
			if err != nil {
				t.Fatal(err)
			}
			return len(names)
		}
		var txs []schema.Transaction
		for i := range 40 {
			tx := []schema.Transaction{local(fmt.Sprint(i), row(i, size))}
			put(t, j, tx...)
			txs = append(txs, tx...)
			if i%3 == 0 {
				shut(t, j)
				j = open(t, dir, o)
			}
		}
		same(t, all(t, j), txs)
		if files() < 3 {
			t.Fatalf("%d files", files())
		}
	}
}

// A bit flips anywhere in the file: what is read is what was written, or an error that says so, never anything else. A journal
// that is opened on such a file may also take it for torn, and then holds what was before.
func TestAnyFlippedBit(t *testing.T) {
	dir := t.TempDir()
	d := newDisk()
	j := open(t, dir, crashOptions(d))
	txs := []schema.Transaction{local("1", row(1, 100)), local("2", row(2, 100)), local("3", row(3, 100))}
	for i := range txs {
		put(t, j, txs[i:i+1]...)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	content, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(content, "\x00"))
	noticed := 0
	check := func(at int, got []schema.Transaction, err error) {
		t.Helper()
		var broken *schema.BrokenError
		switch {
		case errors.As(err, &broken):
			noticed++
		case err != nil:
			t.Errorf("bit %d: %v", at, err)
		default:
			same(t, got, txs[:len(got)])
		}
	}
	for at := range used * 8 {
		put := func(b byte) {
			f, err := os.OpenFile(names[0], os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte{b}, int64(at/8)); err != nil {
				t.Fatal(err)
			}
		}
		put(content[at/8] ^ 1<<(at%8))
		got, err := readAll(t, j)
		if check(at, got, err); err == nil && len(got) != len(txs) {
			t.Errorf("bit %d: %d transactions", at, len(got))
		}
		if at%53 == 0 {
			got, err := reopened(t, d.image(t, dir, 0, false))
			check(at, got, err)
		}
		put(content[at/8])
	}
	if noticed < used*8/2 {
		t.Errorf("%d of %d flipped bits were noticed", noticed, used*8)
	}
}

func reopened(t *testing.T, dir string) ([]schema.Transaction, error) {
	j, err := Open(dir, crashOptions(newDisk()))
	if err != nil {
		return nil, err
	}
	defer shut(t, j)
	return readAll(t, j)
}

// readAll is all for a journal that may be damaged.
func readAll(t *testing.T, j *Journal) ([]schema.Transaction, error) {
	c, err := j.Seek(1)
	var found []schema.Message
	for err == nil {
		var entries []Entry
		if entries, c, err = j.Read(c, 1<<20); len(entries) == 0 {
			break
		}
		for _, e := range entries {
			m, err := schema.DecodeMessage(e.Message)
			if err != nil {
				t.Errorf("message %d: %v", e.Seq, err)
			}
			found = append(found, m)
		}
	}
	if err != nil {
		return nil, err
	}
	return transactions(t, found, 1), nil
}
