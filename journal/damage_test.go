package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/hashicorp/raft-wal/segment"

	"cdc-sidecar/schema"
)

// copied is the disk as it is, with its newest file changed.
func copied(d *MemoryDisk, change func(content []byte) []byte) *MemoryDisk {
	c := &MemoryDisk{names: map[string]*memoryFile{}, segments: d.segments}
	for name, f := range d.names {
		c.names[name] = &memoryFile{content: slices.Clone(f.content), named: true}
	}
	tail := c.names[segment.FileName(d.segments.Segments[len(d.segments.Segments)-1])]
	tail.content = change(tail.content)
	return c
}

func newest(d *MemoryDisk) (content []byte) {
	copied(d, func(b []byte) []byte { content = b; return b })
	return content
}

// filled has each transaction in a write of its own.
func filled(t *testing.T, sizes ...int) (*MemoryDisk, []schema.Transaction) {
	t.Helper()
	d := &MemoryDisk{}
	j := open(t, "mem", inMemory(d))
	var txs []schema.Transaction
	for i, size := range sizes {
		tx := []schema.Transaction{local(fmt.Sprint(i), row(i, size))}
		put(t, j, tx...)
		txs = append(txs, tx...)
	}
	shut(t, j)
	return d, txs
}

// opened is what a journal on the disk holds, or that it is broken.
func opened(t *testing.T, what string, d *MemoryDisk) (held []schema.Transaction, broken bool) {
	t.Helper()
	j, err := Open("mem", inMemory(d))
	if err == nil {
		defer shut(t, j)
		held, err = readAll(t, j)
	}
	var b *schema.BrokenError
	if err != nil && !errors.As(err, &b) {
		t.Fatalf("%s: %v", what, err)
	}
	return held, err != nil
}

// A bit flips anywhere in the newest file, and then the journal is opened: it says that it is broken, or has everything. Only
// the last write of all may count as torn.
func TestAnyFlippedBitIsNoTornEnd(t *testing.T) {
	for name, sizes := range map[string][]int{"one file": {20, 9, 9, 20}, "a file behind another": {20, memorySegmentBytes, 9, 9, 20}} {
		t.Run(name, func(t *testing.T) {
			d, txs := filled(t, sizes...)
			used := len(newest(d))
			stride := 5 // meets every bit of a byte, and most bytes
			if os.Getenv("CDC_FULL") != "" {
				stride = 1
			}
			torn, noticed, flips := 0, 0, 0
			for bit := 0; bit < used*8; bit += stride {
				flips++
				what := fmt.Sprintf("bit %d of byte %d of %d", bit%8, bit/8, used)
				held, broken := opened(t, what, copied(d, func(b []byte) []byte {
					b[bit/8] ^= 1 << (bit % 8)
					return b
				}))
				switch {
				case broken:
					noticed++
				case len(held) == len(txs):
				case len(held) == len(txs)-1:
					torn++
				default:
					t.Errorf("%s: holds %d of %d transactions", what, len(held), len(txs))
				}
				same(t, held, txs[:len(held)])
			}
			if noticed < flips/2 || torn == 0 {
				t.Errorf("of %d flipped bits %d were noticed, %d taken for torn", flips, noticed, torn)
			}
		})
	}
}

// A sector in the middle becomes zeros.
func TestLostSectorIsNoTornEnd(t *testing.T) {
	const sector = 512
	d, txs := filled(t, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300)
	used := len(newest(d))
	if used < 10*sector {
		t.Fatalf("%d bytes are too few", used)
	}
	for at := 0; at+3*sector < used; at += sector {
		held, broken := opened(t, fmt.Sprint("sector at ", at), copied(d, func(b []byte) []byte {
			clear(b[at : at+sector])
			return b
		}))
		if !broken {
			t.Errorf("sector at %d of %d: holds %d of %d transactions, and says nothing", at, used, len(held), len(txs))
		}
	}
}

// A power failure may leave of the last write its end without its beginning: that is torn, not damaged, and stays so when the
// next life has written over the beginning.
func TestTornInAnyOrder(t *testing.T) {
	d := &MemoryDisk{}
	j := open(t, "mem", inMemory(d))
	acked := []schema.Transaction{local("1", row(1, 100)), local("2", row(2, 100))}
	put(t, j, acked...)
	before := len(newest(d))
	var last []schema.Transaction // one write of several records
	for id := range 6 {
		tx := local("", row(10+id, 200))
		last = append(last, parts(tx, tx)...)
	}
	last[len(last)-1].Source = "3"
	put(t, j, last...)
	shut(t, j)
	used := len(newest(d))
	if used < before+2000 {
		t.Fatalf("%d bytes are too few to be torn", used-before)
	}
	for lost := 8; lost < used-before; lost += 8 {
		what := fmt.Sprintf("the first %d of %d bytes lost", lost, used-before)
		c := copied(d, func(b []byte) []byte {
			clear(b[before : before+lost])
			return b
		})
		held, broken := opened(t, what, c)
		if broken {
			t.Fatalf("%s: taken for damage", what)
		}
		same(t, held, acked)
		want := copies(acked)
		for n := range 3 { // what is left of the torn write stands behind each of them
			j := open(t, "mem", inMemory(c))
			tx := []schema.Transaction{local(fmt.Sprint("next ", n), row(n, 10))}
			put(t, j, tx...)
			want = append(want, tx...)
			same(t, all(t, j), want)
			c.Crash()
			shut(t, j)
		}
	}
}

// What Resume cuts off begins a new file, and the numbers of its writes are given again.
func TestCutIsNoDamage(t *testing.T) {
	d := &MemoryDisk{}
	j := open(t, "mem", inMemory(d))
	want := []schema.Transaction{local("1", row(1, 10))}
	put(t, j, want...)
	for n := range 5 {
		for _, p := range parts(local("", row(2, 10)), local("", row(3, 10)), local("", row(4, 10)))[:2] {
			put(t, j, p)
		}
		if n%2 == 0 {
			if _, err := j.Resume(); err != nil {
				t.Fatal(err)
			}
		}
		d.Kill()
		shut(t, j)
		j = open(t, "mem", inMemory(d))
		tx := []schema.Transaction{local(fmt.Sprint(n), row(9, 10))}
		put(t, j, tx...)
		want = append(want, tx...)
		same(t, all(t, j), want)
	}
}

// The file was cut short behind what had been released in it.
func TestLostEndOfAReleasedFile(t *testing.T) {
	d := &MemoryDisk{}
	o := inMemory(d)
	o.Budget = 16 << 10
	j := open(t, "mem", o)
	for i := range 12 {
		put(t, j, local(fmt.Sprint(i), row(i, 1000)))
	}
	if err := j.Release(10); err != nil {
		t.Fatal(err)
	}
	shut(t, j)
	if tail := d.segments.Segments[0]; len(d.segments.Segments) != 1 || tail.MinIndex < 5 {
		t.Fatalf("released to %+v", tail)
	}
	used := len(newest(d))
	for keep, want := range map[int]bool{used: false, used / 4: true, fileHeaderBytes: true, 0: true} {
		j, err := Open("mem", inMemory(copied(d, func(b []byte) []byte { return b[:keep] })))
		if err == nil {
			shut(t, j)
		}
		var broken *schema.BrokenError
		if errors.As(err, &broken) != want || err != nil && !want {
			t.Errorf("%d of %d bytes are left: %v", keep, used, err)
		}
	}
	clear(d.names)
	var broken *schema.BrokenError
	if _, err := Open("mem", inMemory(d)); !errors.As(err, &broken) {
		t.Errorf("without the file: %v", err)
	}
}

// Bytes of a row that look like the journal's own are not taken for them.
func TestRowsThatLookLikeFrames(t *testing.T) {
	d, _ := filled(t, 300, 300, 300)
	forged := slices.Clone(newest(d))
	header := binary.LittleEndian.AppendUint32([]byte{segment.FrameEntry, 0, 0, 0}, 1<<20)
	forged = append(forged, bytes.Repeat(header, 1000)...)
	e := &MemoryDisk{}
	j := open(t, "mem", inMemory(e))
	want := []schema.Transaction{local("1", schema.Change{
		Table: item, Op: schema.Insert, After: schema.Row{schema.Of("1"), schema.Of(string(forged))},
	})}
	put(t, j, want...)
	d.Crash()
	shut(t, j)
	same(t, all(t, open(t, "mem", inMemory(e))), want)
	held, broken := opened(t, "garbage behind the end", copied(d, func(b []byte) []byte { return append(b, bytes.Repeat(header, 5000)...) }))
	if broken || len(held) != 3 {
		t.Errorf("holds %d, broken %v: garbage behind the end is no record", len(held), broken)
	}
}
