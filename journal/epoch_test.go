package journal

import (
	"errors"
	"testing"
	"time"

	"cdc-sidecar/schema"
)

// A clock that was set back does not give a new journal an epoch that was there before.
func TestEpochBehindAFormerLife(t *testing.T) {
	now := uint64(born.UnixMilli())
	for _, test := range []struct{ after, want uint64 }{{0, now}, {now - 1, now}, {now, now + 1}, {now + 5000, now + 5001}} {
		dir := t.TempDir()
		options := Options{Office: here, After: test.after, Now: func() time.Time { return born }}
		j, err := Open(dir, options)
		if err != nil {
			t.Fatal(err)
		}
		if j.Epoch() != test.want {
			t.Errorf("after %d: epoch %d, want %d", test.after, j.Epoch(), test.want)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		options.After = test.want + 10 // an old journal keeps its own
		if j, err = Open(dir, options); err != nil || j.Epoch() != test.want {
			t.Fatalf("opened again: %v", err)
		}
		if _, err := Hold(dir); !errors.Is(err, schema.ErrHeld) {
			t.Errorf("held twice: %v", err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		held, err := Hold(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, options); !errors.Is(err, schema.ErrHeld) {
			t.Errorf("opened while it is held: %v", err)
		}
		if err := held.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A journal that begins behind another knows what was applied before it, also when it is opened again.
func TestBegin(t *testing.T) {
	dir := t.TempDir()
	options := Options{Office: here, Now: func() time.Time { return born }}
	j, err := Open(dir, options)
	if err != nil {
		t.Fatal(err)
	}
	want := schema.Position{Epoch: 7, Seq: 8}
	if err := j.Begin(t.Context(), "place", map[schema.Office]schema.Position{north: want, south: {Epoch: 3, Seq: 4}}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j, err = Open(dir, options); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if pos, last := j.Acknowledged(north); pos != want || last != 0 || j.State().Source != "place" {
		t.Errorf("acknowledged %v at %d, begun at %q", pos, last, j.State().Source)
	}
	if err := j.Append(t.Context(), []schema.Transaction{from(north, 9, "next", row(1, 5))}); err != nil {
		t.Fatal(err)
	}
	if pos, last := j.Acknowledged(north); pos.Seq != 9 || last != 1 {
		t.Errorf("acknowledged %v at %d", pos, last)
	}
	if pos, _ := j.Acknowledged(south); pos.Seq != 4 {
		t.Errorf("acknowledged of south %v", pos)
	}
}
