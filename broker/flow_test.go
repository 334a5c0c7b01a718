package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"pgregory.net/rapid"

	"cdc-sidecar/schema"
)

func TestOrderOverSeveralWindows(t *testing.T) {
	ctx, url := bench(t)
	head, north := declared(ctx, t, url)
	out := numbered(0, 2*windowMessages+17)
	// Some larger than a frame, and together larger than a window.
	for i := 0; i < len(out); i += 10 {
		out[i].Body = append(append(out[i].Body, ' '), bytes.Repeat([]byte("x"), 300<<10)...)
	}
	p := openPublisher(ctx, t, head)
	publish(ctx, t, p, out)

	c := openConsumer(ctx, t, north)
	seen := 0
	err := c.Run(ctx, func(_ context.Context, batch []*Delivery) error {
		for _, d := range batch {
			if !bytes.Equal(d.Body, out[seen].Body) || d.UserID != "guest" || d.Key != "stream.all" || d.Redelivered {
				t.Errorf("delivery %d is %.20q, key %s, user %s, redelivered %v", seen, d.Body, d.Key, d.UserID, d.Redelivered)
			}
			seen++
			d.Settle()
		}
		// Not before a second has gone by: a broker that is slow puts acknowledgements off, and forgets them with the channel.
		if seen == len(out) && len(batch) == 0 {
			return errDone
		}
		return nil
	})
	if !errors.Is(err, errDone) {
		t.Fatal(err)
	}
	if err := errors.Join(c.Close(), p.Close()); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "everything is acknowledged", func() bool { return waiting(ctx, t, north) == 0 })
}

func TestWindow(t *testing.T) {
	half := make([]byte, windowBytes/2)
	for _, test := range []struct {
		name string
		out  []Outgoing
		want int
	}{
		{"few", make([]Outgoing, 3), 3},
		{"many", make([]Outgoing, windowMessages+1), windowMessages},
		{"large", []Outgoing{{Body: half}, {Body: half}, {Body: []byte("x")}}, 2},
		{"one larger than a window", []Outgoing{{Body: make([]byte, windowBytes+1)}, {}}, 1},
	} {
		if got := len(window(test.out)); got != test.want {
			t.Errorf("%s: %d messages, want %d", test.name, got, test.want)
		}
	}
}

func TestRoutes(t *testing.T) {
	ctx, url := bench(t)
	head, north := declared(ctx, t, url)
	south := branchOffice(url, "south")
	if err := Declare(ctx, south); err != nil {
		t.Fatal(err)
	}
	publish(ctx, t, openPublisher(ctx, t, head), []Outgoing{
		{Key: OfficeKey("north"), Body: []byte("1"), Mandatory: true},
		{Key: OfficeKey("south"), Body: []byte("2"), Mandatory: true},
		{Key: StreamKey(schema.StreamAll), Body: []byte("3"), Mandatory: true},
	})
	publish(ctx, t, openPublisher(ctx, t, south), []Outgoing{{Key: StreamKey(schema.StreamAll), Body: []byte("4"), Mandatory: true}})
	for _, test := range []struct {
		cfg  Config
		want string
	}{{north, "[1 3]"}, {south, "[2 3]"}, {head, "[4]"}} {
		n := strings.Count(test.want, " ") + 1
		if got := fmt.Sprint(receive(ctx, t, openConsumer(ctx, t, test.cfg), n, everything)); got != test.want {
			t.Errorf("%s got %s, want %s", test.cfg.Office, got, test.want)
		}
	}
}

func TestUnroutable(t *testing.T) {
	ctx, url := bench(t)
	head := headOffice(url)
	if err := Declare(ctx, head); err != nil {
		t.Fatal(err)
	}
	p := openPublisher(ctx, t, head)
	if n, err := p.Publish(ctx, numbered(0, 10)); n != 0 || !errors.Is(err, ErrUnroutable) {
		t.Fatalf("published %d to nobody: %v", n, err)
	}
	north := branchOffice(url, "north")
	if err := Declare(ctx, north); err != nil {
		t.Fatal(err)
	}
	// The same publisher goes on; what nobody must get counts, what somebody must get and does not ends the count.
	out := numbered(0, 10)
	out[3] = Outgoing{Key: OfficeKey("nobody"), Body: []byte("3")}
	out[6] = Outgoing{Key: OfficeKey("nobody"), Body: []byte("6"), Mandatory: true}
	out[8] = out[6]
	if n, err := p.Publish(ctx, out); n != 6 || !errors.Is(err, ErrUnroutable) || !strings.Contains(err.Error(), "office.nobody") {
		t.Fatalf("published %d: %v", n, err)
	}
	publish(ctx, t, p, numbered(10, 12))
	want := "[0 1 2 4 5 7 9 10 11]"
	if got := fmt.Sprint(receive(ctx, t, openConsumer(ctx, t, north), 9, everything)); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
}

func TestPublishersTakeTurns(t *testing.T) {
	ctx, url := bench(t)
	head, north := declared(ctx, t, url)
	p := openPublisher(ctx, t, head)
	const each = 40
	outcomes := make(chan error, 4)
	for writer := range 4 {
		go func() {
			var err error
			for i := 0; i < each && err == nil; i += 10 {
				_, err = p.Publish(ctx, numbered(writer*each+i, writer*each+i+10))
			}
			outcomes <- err
		}()
	}
	for range 4 {
		if err := outcome(ctx, t, outcomes); err != nil {
			t.Error(err)
		}
	}
	got := receive(ctx, t, openConsumer(ctx, t, north), 4*each, everything)
	next := [4]int{}
	for _, i := range got {
		if i%each != next[i/each] {
			t.Fatalf("writer %d: got %d, want %d", i/each, i%each, next[i/each])
		}
		next[i/each]++
	}
}

func TestUnsettledComesAgainInOrder(t *testing.T) {
	ctx, url := bench(t)
	head, north := declared(ctx, t, url)
	publish(ctx, t, openPublisher(ctx, t, head), numbered(0, 60))

	first := openConsumer(ctx, t, north)
	receive(ctx, t, first, 60, func(_ *Delivery, i int) bool { return i%3 == 0 || i < 10 })
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	var want []int
	for i := 10; i < 60; i++ {
		if i%3 != 0 {
			want = append(want, i)
		}
	}
	again := 0
	got := receive(ctx, t, openConsumer(ctx, t, north), len(want), func(d *Delivery, _ int) bool {
		if d.Redelivered {
			again++
		}
		return true
	})
	if !slices.Equal(got, want) || again != len(want) {
		t.Fatalf("got again %v (%d marked), want %v", got, again, want)
	}
}

func TestSettleLater(t *testing.T) {
	ctx, url := bench(t)
	head, north := declared(ctx, t, url)
	publish(ctx, t, openPublisher(ctx, t, head), numbered(0, Prefetch+10))
	c := openConsumer(ctx, t, north)
	var held []*Delivery
	count, ticks := 0, 0
	err := c.Run(ctx, func(_ context.Context, batch []*Delivery) error {
		for _, d := range batch {
			if number(t, d) != count {
				t.Errorf("got %d, want %d", number(t, d), count)
			}
			count++
		}
		held = append(held, batch...)
		if len(batch) == 0 {
			ticks++
		}
		switch {
		case count == Prefetch && ticks < 2:
			return nil // nothing more must come while these are unsettled
		case count < Prefetch:
			return nil
		}
		if ticks < 2 {
			t.Errorf("%d deliveries while %d were unsettled", count, Prefetch)
		}
		for _, d := range held {
			d.Settle()
		}
		if count == Prefetch+10 {
			return errDone
		}
		return nil
	})
	if !errors.Is(err, errDone) {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "everything is acknowledged", func() bool { return waiting(ctx, t, north) == 0 })
}

// TestAcknowledge plays deliveries and settlements in any order against a model of the broker's books.
func TestAcknowledge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		books := ledger{}
		var u unsettled
		var everything []*Delivery
		settled := func() (n int) {
			for _, d := range everything {
				if d.settled.Load() {
					n++
				}
			}
			return n
		}
		t.Repeat(map[string]func(*rapid.T){
			"deliver": func(t *rapid.T) {
				d := &Delivery{tag: uint64(len(everything) + 1)}
				everything, u, books[d.tag] = append(everything, d), append(u, d), true
			},
			"settle": func(t *rapid.T) {
				if len(everything) > 0 {
					rapid.SampledFrom(everything).Draw(t, "delivery").Settle()
				}
			},
			"acknowledge": func(t *rapid.T) {
				if err := u.acknowledge(books); err != nil {
					t.Fatal(err)
				}
				if len(books) != len(everything)-settled() || len(u) != len(books) {
					t.Fatalf("%d delivered, %d settled, but %d open at the broker and %d here", len(everything), settled(), len(books), len(u))
				}
			},
			"": func(t *rapid.T) {
				for _, d := range everything {
					if !d.settled.Load() && !books[d.tag] {
						t.Fatalf("delivery %d was acknowledged without having been settled", d.tag)
					}
				}
			},
		})
	})
}

// ledger is the broker's side of acknowledgements: the open tags. An unknown tag is an error, as it is there.
type ledger map[uint64]bool

func (l ledger) Ack(tag uint64, multiple bool) error {
	if !l[tag] {
		return fmt.Errorf("unknown delivery tag %d", tag)
	}
	for open := range l {
		if open == tag || multiple && open < tag {
			delete(l, open)
		}
	}
	return nil
}

func TestOverflowDropsTheOldest(t *testing.T) {
	ctx, url := bench(t)
	head, north := headOffice(url), branchOffice(url, "north")
	north.QueueBytes = 32 << 10
	for _, c := range []Config{head, north} {
		if err := Declare(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	out := numbered(0, 200)
	for i := range out {
		out[i].Body = append(append(out[i].Body, ' '), bytes.Repeat([]byte("x"), 1<<10)...)
	}
	publish(ctx, t, openPublisher(ctx, t, head), out)
	c := openConsumer(ctx, t, north)
	var got []int
	err := c.Run(ctx, func(_ context.Context, batch []*Delivery) error {
		for _, d := range batch {
			got = append(got, number(t, d))
			d.Settle()
		}
		if len(got) > 0 && got[len(got)-1] == 199 {
			return errDone
		}
		return nil
	})
	if !errors.Is(err, errDone) {
		t.Fatal(err)
	}
	if got[0] == 0 || fmt.Sprint(got) != sequence(got[0], 200) {
		t.Fatalf("got %v, want the last ones, without a gap", got)
	}
}

func TestSecondConsumerWaits(t *testing.T) {
	ctx, url := bench(t)
	head, north := declared(ctx, t, url)
	first, second := openConsumer(ctx, t, north), openConsumer(ctx, t, north)
	p := openPublisher(ctx, t, head)
	publish(ctx, t, p, numbered(0, 5))
	got := make(chan int, 10)
	ended := run(ctx, second, func(_ context.Context, batch []*Delivery) error {
		for _, d := range batch {
			d.Settle()
			got <- number(t, d)
		}
		return nil
	})
	if n := receive(ctx, t, first, 5, everything); len(n) != 5 {
		t.Fatalf("the first consumer got %v", n)
	}
	eventually(ctx, t, "the second consumer notices the first", second.ActiveElsewhere)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	publish(ctx, t, p, numbered(5, 6))
	if n := outcome(ctx, t, got); n != 5 {
		t.Fatalf("the second consumer got %d", n)
	}
	eventually(ctx, t, "the second consumer knows that it is alone", func() bool { return !second.ActiveElsewhere() })
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if err := outcome(ctx, t, ended); !errors.Is(err, ErrClosed) {
		t.Fatalf("Run of a closed consumer: %v", err)
	}
}

func TestHandlerFails(t *testing.T) {
	ctx, url := bench(t)
	head, north := declared(ctx, t, url)
	publish(ctx, t, openPublisher(ctx, t, head), numbered(0, 3))
	c := openConsumer(ctx, t, north)
	wrong := errors.New("wrong")
	err := c.Run(ctx, func(_ context.Context, batch []*Delivery) error {
		for _, d := range batch {
			if number(t, d) == 1 {
				return wrong
			}
			d.Settle()
		}
		return nil
	})
	if !errors.Is(err, wrong) {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	// What was settled before the failure is done with.
	if got := fmt.Sprint(receive(ctx, t, openConsumer(ctx, t, north), 2, everything)); got != "[1 2]" {
		t.Fatalf("came again: %s", got)
	}
}

func TestStopWhileConsuming(t *testing.T) {
	ctx, url := bench(t)
	head, north := declared(ctx, t, url)
	publish(ctx, t, openPublisher(ctx, t, head), numbered(0, 2))
	c := openConsumer(ctx, t, north)
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	err := c.Run(stop, func(inner context.Context, batch []*Delivery) error {
		for _, d := range batch {
			d.Settle()
			if number(t, d) == 1 {
				cancel()
				<-inner.Done()
			}
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "what was settled is acknowledged", func() bool { return waiting(ctx, t, north) == 0 })
}

func BenchmarkPublish(b *testing.B) {
	url := shared.Set(b).RabbitMQ[0].URL("/")
	north := branchOffice(url, "north")
	if err := errors.Join(Declare(b.Context(), headOffice(url)), Declare(b.Context(), north)); err != nil {
		b.Fatal(err)
	}
	p, err := OpenPublisher(b.Context(), headOffice(url))
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	out := make([]Outgoing, windowMessages)
	for i := range out {
		out[i] = Outgoing{Key: StreamKey(schema.StreamAll), Body: make([]byte, 1<<10), Mandatory: true}
	}
	b.SetBytes(1 << 10)
	for n := 0; n < b.N; n += len(out) {
		if _, err := p.Publish(b.Context(), out); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := Teardown(context.Background(), north); err != nil {
		b.Fatal(err)
	}
}

var _ acknowledger = (*amqp.Channel)(nil)
