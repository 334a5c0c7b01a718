package clock

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"cdc-sidecar/schema"
)

// onDisk is an index with rows 0 to 3 in one file, and nothing in memory.
func onDisk(t *testing.T) (*Index, string) {
	x := open(t, Options{Rows: 4})
	for n := range 4 {
		put(t, x, row(n), Touch{Seq: uint64(n + 1), Stamp: schema.Stamp{Millis: 7, Counter: 3}, Origin: "north"}, n%2 == 0)
	}
	found := files(t, x.dir)
	if len(found) != 1 || x.rows.used != 0 {
		t.Fatalf("%v, %d in memory", found, x.rows.used)
	}
	return x, found[0]
}

// No byte of a file can change without an error for whoever asks for a row of it: never "no clock".
func TestDamagedFile(t *testing.T) {
	x, path := onDisk(t)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(good) != 4*recordBytes {
		t.Fatalf("%d bytes", len(good))
	}
	for at := range good {
		bad := append([]byte{}, good...)
		bad[at] ^= 0x20
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		for n := range 4 {
			if c, ok, err := x.Row(row(n)); err == nil {
				t.Fatalf("byte %d is another, and row %d is %+v, %t", at, n, c, ok)
			}
		}
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	want := Clock{Last: Touch{Seq: 3, Stamp: schema.Stamp{Millis: 7, Counter: 3}, Origin: "north"}, Plain: true}
	if c, ok, err := x.Row(row(2)); err != nil || !ok || c != want {
		t.Errorf("the file is whole again: %+v, %t, %v", c, ok, err)
	}
}

func TestTruncatedFile(t *testing.T) {
	orders := someTables[0].TableName
	for name, use := range map[string]func(x *Index) error{
		"Row":     func(x *Index) error { _, _, err := x.Row(row(1)); return err },
		"Against": func(x *Index) error { _, err := x.Against(orders, row(1), "north"); return err },
		"Row, touched again": func(x *Index) error {
			if err := x.Touch(row(1), Touch{Seq: 9, Origin: "north"}, true); err != nil {
				return err
			}
			_, _, err := x.Row(row(1))
			return err
		},
		"merge": func(x *Index) error {
			for n := 100; x.files <= maxRuns+1; n++ {
				if err := x.Touch(row(n), Touch{Seq: uint64(n), Origin: "north"}, true); err != nil {
					return err
				}
			}
			return nil
		},
		"Against, taken again": func(x *Index) error {
			_, err := x.Take("head", schema.Head, []schema.Transaction{{
				Origin: "north", Pos: schema.Position{Seq: 9}, Changes: []schema.Change{{Table: someTables[0], Op: schema.Insert, After: image("1")}},
			}})
			if err != nil {
				return err
			}
			_, err = x.Against(orders, row(1), "north")
			return err
		},
		"Take of a decision": func(x *Index) error {
			_, err := x.Take("head", schema.Head, []schema.Transaction{{
				Origin: "north", Pos: schema.Position{Seq: 9}, Changes: []schema.Change{{Table: someTables[0], Op: schema.Delete, Before: image("1"), Decided: &schema.Decision{Origin: "head"}}},
			}})
			return err
		},
	} {
		for _, bytes := range []int64{0, 4*recordBytes - 1} {
			t.Run(name, func(t *testing.T) {
				x, path := onDisk(t)
				if err := os.Truncate(path, bytes); err != nil {
					t.Fatal(err)
				}
				if err := use(x); !errors.Is(err, io.EOF) {
					t.Errorf("of a file of %d bytes: %v", bytes, err)
				}
			})
		}
	}
}

// What cannot be written whole is not there at all.
func TestWriteError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "1"+extension)
	w, err := newRun(path, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.add(row(1), entry{last: 1}); err != nil {
		t.Fatal(err)
	}
	if err := w.file.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := w.finish(nil); err == nil || r != nil {
		t.Errorf("%v, %v", r, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a file is left: %v", err)
	}
}

// Rows that begin alike, against all odds, are still told apart.
func TestRowsThatBeginAlike(t *testing.T) {
	x := open(t, Options{Rows: 100})
	id := func(n int) schema.RowID { return schema.RowID{14: byte(n >> 8), 15: byte(n)} }
	for n := range 1000 {
		put(t, x, id(n), Touch{Seq: uint64(n + 1), Origin: "north"}, true)
	}
	for n := range 1001 {
		if c, ok, err := x.Row(id(n)); err != nil || ok != (n < 1000) || ok && c.Last.Seq != uint64(n+1) {
			t.Fatalf("row %d: %+v, %t, %v", n, c, ok, err)
		}
	}
}

func TestFilter(t *testing.T) {
	const n = 100_000
	ids := rowIDs(2 * n)
	f := newFilter(n)
	for _, id := range ids[:n] {
		f.add(id)
	}
	for _, id := range ids[:n] {
		if !f.has(id) {
			t.Fatalf("%x is forgotten", id)
		}
	}
	wrong := 0
	for _, id := range ids[n:] {
		if f.has(id) {
			wrong++
		}
	}
	if wrong > n/50 {
		t.Errorf("%d of %d rows that are not there pass", wrong, n)
	}
	if got := len(newFilter(1<<30)) * 8; got > filterBytes {
		t.Errorf("the filter of many rows takes %d bytes", got)
	}
}
