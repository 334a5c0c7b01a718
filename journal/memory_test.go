package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cdc-sidecar/schema"
)

func inMemory(d *MemoryDisk) Options {
	o := options()
	o.Disk = d
	return o
}

// reopen opens the disk again, after a crash.
func reopen(t *testing.T, d *MemoryDisk) *Journal { return open(t, "mem", inMemory(d)) }

func TestMemoryDiskLeavesNothingBehind(t *testing.T) {
	t.Chdir(t.TempDir())
	d := &MemoryDisk{}
	j := reopen(t, d)
	var txs []schema.Transaction
	for i := range 100 { // several files
		tx := []schema.Transaction{local(fmt.Sprint(i), row(i, 3000))}
		put(t, j, tx...)
		txs = append(txs, tx...)
	}
	if err := j.SetPublished(60); err != nil {
		t.Fatal(err)
	}
	shut(t, j)
	j = reopen(t, d)
	same(t, all(t, j), txs)
	if j.Published() != 60 {
		t.Errorf("published %d", j.Published())
	}
	if len(d.names) < 4 {
		t.Errorf("%d files", len(d.names))
	}
	if names, err := os.ReadDir("."); err != nil || len(names) != 0 {
		t.Errorf("it made %v on the real disk, %v", names, err)
	}
}

func TestMemoryDiskIsHeld(t *testing.T) {
	d := &MemoryDisk{}
	j := reopen(t, d)
	if _, err := Open("mem", inMemory(d)); !errors.Is(err, schema.ErrHeld) {
		t.Errorf("the second: %v", err)
	}
	d.Crash()
	again := reopen(t, d) // the dead one is not closed yet
	shut(t, j)
	if _, err := Open("mem", inMemory(d)); !errors.Is(err, schema.ErrHeld) {
		t.Errorf("the close of a dead journal let go of the lock of a living one: %v", err)
	}
	shut(t, again)
	reopen(t, d)
}

// Everything open on a crashed disk is dead, and the next life has what was acknowledged.
func TestMemoryDiskCrashes(t *testing.T) {
	d := &MemoryDisk{}
	j := reopen(t, d)
	acked := []schema.Transaction{local("1", row(1, 100)), local("2", row(2, 100))}
	put(t, j, acked...)
	if err := j.SetPublished(1); err != nil {
		t.Fatal(err)
	}
	c, err := j.Seek(1)
	if err != nil {
		t.Fatal(err)
	}
	d.Crash()
	for what, err := range map[string]error{
		"append": j.Append(t.Context(), []schema.Transaction{local("3", row(3, 100))}),
		"seek":   func() error { _, err := j.Seek(2); return err }(),
		"read":   func() error { _, _, err := j.Read(c, 1); return err }(),
	} {
		if !errors.Is(err, ErrCrashed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	j2 := reopen(t, d)
	shut(t, j) // after the next life has begun: it must not disturb it
	same(t, all(t, j2), acked)
	if j2.Published() != 0 {
		t.Errorf("published %d survived a power failure unsynced", j2.Published())
	}
	d.Wipe()
	shut(t, j2)
	later := inMemory(d)
	later.Now = func() time.Time { return born.Add(time.Millisecond) }
	j3 := open(t, "mem", later)
	if s := j3.State(); s.Last != 0 || s.Source != "" || s.Epoch != uint64(born.UnixMilli())+1 {
		t.Errorf("state %+v of a lost volume", s)
	}
}

// What a killed process wrote and did not sync may be there in the next life; then no power failure takes it any more.
func TestMemoryDiskKillsAndCrashes(t *testing.T) {
	d := &MemoryDisk{}
	j := reopen(t, d)
	put(t, j, local("1", row(1, 100)))
	d.SyncLies(true)
	tx := []schema.Transaction{local("2", row(2, 100))}
	put(t, j, tx...)
	if err := j.SetPublished(2); err != nil {
		t.Fatal(err)
	}
	d.SyncLies(false)
	d.Kill()
	shut(t, j)
	j = reopen(t, d)
	if s := j.State(); s.Last != 2 || j.Published() != 2 {
		t.Fatalf("state %+v, published %d: a kill took what was written", s, j.Published())
	}
	d.Crash()
	shut(t, j)
	if s := reopen(t, d).State(); s.Last != 2 {
		t.Errorf("state %+v: a journal had shown what was not durable", s)
	}
}

// What a crash and a kill leave of files that are synced, half synced and not at all.
func TestMemoryDiskFiles(t *testing.T) {
	for end, want := range map[string]string{"crash": "half=12345 synced=abc", "kill": "half=1xy4567 new=q synced=abc", "wipe": ""} {
		d := &MemoryDisk{}
		m, err := d.open("mem")
		if err != nil {
			t.Fatal(err)
		}
		write := func(name, text string, at int64, sync bool) {
			t.Helper()
			f, err := m.OpenWriter("", name)
			if errors.Is(err, os.ErrNotExist) {
				f, err = m.Create("", name, 1<<20)
			}
			if err == nil {
				_, err = f.WriteAt([]byte(text), at)
			}
			if err == nil && sync {
				err = f.Sync()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		write("synced", "abc", 0, true)
		write("half", "12345", 0, true)
		write("half", "4567", 3, false)
		write("half", "xy", 1, false)
		write("new", "q", 0, false)
		write("gone", "g", 0, true)
		if err := m.Delete("", "gone"); err != nil {
			t.Fatal(err)
		}
		map[string]func(){"crash": d.Crash, "kill": d.Kill, "wipe": d.Wipe}[end]()
		if _, err := m.ListDir(""); !errors.Is(err, ErrCrashed) {
			t.Errorf("%s: the dead list files: %v", end, err)
		}
		if m, err = d.open("mem"); err != nil {
			t.Fatal(err)
		}
		names, err := m.ListDir("")
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range names {
			f, err := m.OpenReader("", name)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(io.NewSectionReader(f, 0, 100))
			if err != nil {
				t.Fatal(err)
			}
			names[i] += "=" + string(text)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s leaves %q, want %q", end, got, want)
		}
	}
}

// A disk that lies loses what was acknowledged: the simulation has something to notice.
func TestMemoryDiskLies(t *testing.T) {
	d := &MemoryDisk{}
	j := reopen(t, d)
	put(t, j, local("1", row(1, 100)))
	d.SyncLies(true)
	put(t, j, local("2", row(2, 100)))
	d.Crash()
	shut(t, j)
	if s := reopen(t, d).State(); s.Last != 1 || s.Source != "1" {
		t.Errorf("state %+v", s)
	}
}

// The disk crashes at every one of its steps, in the workload that goes over several files, and while the journal is opened
// again. Nothing acknowledged is lost, and the same step leaves the same disk.
func TestMemoryDiskCrashesAtEveryStep(t *testing.T) {
	o := crashOptions(nil)
	life := func(t *testing.T, step int) (*MemoryDisk, bool) {
		o := o
		o.vfs, o.Disk = nil, &MemoryDisk{}
		o.Disk.CrashAfter(step)
		var acked []schema.Transaction
		j, err := Open("mem", o)
		if err == nil {
			err = workload(j, func(all []schema.Transaction) { acked = all })
			o.Disk.Crash() // if it has not by itself: an opened journal reads on
			shut(t, j)
		}
		if err != nil && !errors.Is(err, ErrCrashed) {
			t.Fatalf("step %d: %v", step, err)
		}
		crashed := err != nil
		for again := 1; again < 40; again += 3 {
			o.Disk.CrashAfter(again)
			j, err := Open("mem", o)
			if err == nil {
				shut(t, j)
				break
			}
			if !errors.Is(err, ErrCrashed) {
				t.Fatalf("step %d, and %d of the next life: %v", step, again, err)
			}
		}
		o.Disk.CrashAfter(0)
		survivesIn(t, fmt.Sprintf("step %d", step), "mem", o, acked)
		return o.Disk, crashed
	}
	steps := 1
	for ; ; steps++ {
		first, crashed := life(t, steps)
		if !crashed {
			break
		}
		second, _ := life(t, steps)
		for name, f := range first.names {
			if g := second.names[name]; g == nil || !bytes.Equal(f.content, g.content) {
				t.Fatalf("step %d: two lives have left different files %s", steps, name)
			}
		}
	}
	if steps < 50 {
		t.Errorf("%d steps", steps)
	}
}

// In a bubble of synctest every goroutine has to end: that of a crashed journal too, with a file just full.
func TestMemoryDiskInABubble(t *testing.T) {
	for crash, do := range map[string]func(*MemoryDisk){
		"closed": func(*MemoryDisk) {}, "crashed": (*MemoryDisk).Crash, "killed": (*MemoryDisk).Kill, "wiped": (*MemoryDisk).Wipe,
	} {
		t.Run(crash, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &MemoryDisk{}
				for range 3 {
					time.Sleep(time.Second)
					j, err := Open("mem", Options{Office: here, Disk: d})
					if err != nil {
						t.Fatal(err)
					}
					grown := j.Grown()
					go func() {
						for i := range 4 {
							put(t, j, local(fmt.Sprint(i), row(i, memorySegmentBytes/2)))
						}
					}()
					<-grown
					synctest.Wait()
					do(d)
					shut(t, j)
				}
			})
		})
	}
}

func BenchmarkMemoryDisk(b *testing.B) {
	b.Run("birth and close", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			shut(b, open1(b, &MemoryDisk{}))
		}
	})
	b.Run("open and close", func(b *testing.B) {
		d := &MemoryDisk{}
		j := open1(b, d)
		for i := range 50 {
			put(b, j, local(fmt.Sprint(i), row(i, 300)))
		}
		shut(b, j)
		b.ReportAllocs()
		for b.Loop() {
			shut(b, open1(b, d))
		}
	})
	b.Run("append", func(b *testing.B) {
		j := open1(b, &MemoryDisk{})
		defer shut(b, j)
		tx := local("1", row(1, 100))
		b.ReportAllocs()
		for b.Loop() {
			put(b, j, tx)
		}
	})
}

func open1(b *testing.B, d *MemoryDisk) *Journal {
	j, err := Open("mem", inMemory(d))
	if err != nil {
		b.Fatal(err)
	}
	return j
}
