package capture

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// packets is a connection on which each write of the server's is a packet of its own, as long as it is read at once, and
// several are read together when they have gathered.
type packets struct {
	net.Conn
	waiting chan []byte
	reads   int
}

func (p *packets) Read(b []byte) (int, error) {
	p.reads++
	first, open := <-p.waiting
	if !open {
		return 0, io.EOF
	}
	n := copy(b, first)
	for {
		select {
		case more, open := <-p.waiting:
			if !open {
				return n, nil
			}
			n += copy(b[n:], more)
		default:
			return n, nil
		}
	}
}

// A flood is read many rows at a time, completely and in order; a trickle, row by row as it comes.
func TestGathererReadsAFloodInLargePieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rows = 1000
		p := &packets{waiting: make(chan []byte, rows)}
		g := newGatherer(p)
		want := make([]byte, 0, 2*rows)
		go func() {
			defer close(p.waiting)
			for i := range rows {
				p.waiting <- []byte{byte(i), byte(i >> 8)}
				time.Sleep(10 * time.Microsecond)
			}
		}()
		for i := range rows {
			want = append(want, byte(i), byte(i>>8))
		}
		got, err := io.ReadAll(g)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(want), err)
		}
		if p.reads > rows/10 {
			t.Fatalf("%d rows took %d reads", rows, p.reads)
		}
	})
}

func TestGathererDoesNotKeepATrickleWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &packets{waiting: make(chan []byte)}
		g := newGatherer(p)
		go func() {
			for range 100 {
				time.Sleep(2 * gatherSoon)
				p.waiting <- []byte{1}
			}
		}()
		began := time.Now()
		if _, err := io.ReadFull(g, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 200*gatherSoon { // the bubble's clock is exact
			t.Fatalf("took %s", took)
		}
	})
}

// An error of the connection comes through, deadlines among them.
func TestGathererPassesErrorsOn(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	g := newGatherer(client)
	if err := g.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if err := g.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v", err)
	}
}

// Who waits for a mark in a flood is not kept waiting for as long as the flood may gather.
func TestGathererHurriesForWhoeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &packets{waiting: make(chan []byte, 1<<16)}
		g, hurry := newGatherer(p), NewHurry()
		g.hurry = hurry
		ctx, end := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer end()
		running.Go(func() {
			defer close(p.waiting)
			for ctx.Err() == nil {
				p.waiting <- []byte{1}
				time.Sleep(10 * time.Microsecond)
			}
		})
		read := func() time.Duration { // until the next read of the connection has brought something
			began, reads := time.Now(), p.reads
			for p.reads == reads {
				if _, err := g.Read(make([]byte, gatherBytes)); err != nil {
					t.Fatal(err)
				}
			}
			return time.Since(began)
		}
		for range 2 * gatherAfter {
			read()
		}
		if took := read(); took <= gatherLeast {
			t.Fatalf("no flood: a read took %s", took)
		}
		time.AfterFunc(gatherLeast, hurry.Begin)
		if took := read(); took > 2*gatherLeast {
			t.Fatalf("a read took %s though somebody began to wait after %s", took, gatherLeast)
		}
		if took := read(); took > gatherLeast {
			t.Fatalf("a read took %s though somebody waits", took)
		}
		hurry.End()
		if took := read(); took <= gatherLeast {
			t.Fatalf("a read took %s though nobody waits any more", took)
		}
	})
}
