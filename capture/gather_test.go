package capture

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
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
