package broker

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/rs/zerolog"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// published is how publishing ended: so many are confirmed, and nothing is known of the others.
type published struct {
	confirmed int
	err       error
}

// publishOn publishes until it fails. The first channel is closed when the queues are old enough to survive the broker's
// death: RabbitMQ writes down with a delay of three seconds that it has a queue. TestDeadQueue has one that is younger.
func publishOn(ctx context.Context, p *Publisher) (<-chan struct{}, <-chan published) {
	aged, results := make(chan struct{}), make(chan published, 1)
	timer := time.AfterFunc(6*time.Second, func() { close(aged) })
	go func() {
		defer timer.Stop()
		var sum published
		for sum.err == nil {
			var n int
			n, sum.err = p.Publish(ctx, numbered(sum.confirmed, sum.confirmed+3*windowMessages))
			sum.confirmed += n
		}
		results <- sum
	}()
	return aged, results
}

func TestBrokerKilledWhilePublishing(t *testing.T) {
	ctx, url := bench(t)
	broker := shared.Set(t).RabbitMQ[0]
	head, north := declared(ctx, t, url)
	p := openPublisher(ctx, t, head)
	aged, results := publishOn(ctx, p)
	outcome(ctx, t, aged)
	if err := broker.Kill(); errors.Is(err, servers.ErrExternal) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	r := outcome(ctx, t, results)
	if r.err == nil || errors.Is(r.err, ErrUnroutable) || p.Err() == nil {
		t.Fatalf("%d messages published to a dead broker: %v", r.confirmed, r.err)
	}
	if n, err := p.Publish(ctx, numbered(0, 1)); n != 0 || err == nil {
		t.Fatalf("a session that is over published %d: %v", n, err)
	}
	if err := broker.Start(ctx); err != nil {
		t.Fatal(err)
	}

	// From where the count stands, as the journal does it.
	publish(ctx, t, openPublisher(ctx, t, head), numbered(r.confirmed, r.confirmed+10))
	next, last := 0, r.confirmed+9
	err := openConsumer(ctx, t, north).Run(ctx, func(_ context.Context, batch []*Delivery) error {
		for _, d := range batch {
			switch i := number(t, d); {
			case i > next:
				t.Errorf("gap: got %d, want %d: a confirmed message is lost", i, next)
				return errDone
			case i == next:
				next++
			}
			d.Settle()
		}
		if next > last {
			return errDone
		}
		return nil
	})
	if !errors.Is(err, errDone) {
		t.Fatalf("after %d of %d: %v", next, last+1, err)
	}
}

// TestDeadQueue kills a broker right after it made a queue, which then comes back without its messages and without a leader.
func TestDeadQueue(t *testing.T) {
	ctx, url := bench(t)
	broker := shared.Set(t).RabbitMQ[0]
	head, north := declared(ctx, t, url)
	north.leaderless = 5 * time.Second // the election after a restart takes one
	publish(ctx, t, openPublisher(ctx, t, head), numbered(0, 10))
	if err := broker.Kill(); errors.Is(err, servers.ErrExternal) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	if err := broker.Start(ctx); err != nil {
		t.Fatal(err)
	}
	c, err := OpenConsumer(ctx, north)
	if errors.Is(err, ErrUnanswered) {
		c, err = OpenConsumer(ctx, north)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	publish(ctx, t, openPublisher(ctx, t, head), numbered(10, 20))
	err = c.Run(ctx, func(_ context.Context, batch []*Delivery) error {
		for _, d := range batch {
			d.Settle()
			if number(t, d) == 19 {
				return errDone
			}
		}
		return nil
	})
	if !errors.Is(err, errDone) {
		t.Fatal(err)
	}
}

func TestQueueDeletedWhileConsuming(t *testing.T) {
	ctx, url := bench(t)
	head, north := declared(ctx, t, url)
	c := openConsumer(ctx, t, north)
	begun := make(chan struct{}, 1)
	ended := run(ctx, c, func(_ context.Context, batch []*Delivery) error {
		for range batch {
			begun <- struct{}{} // and never settled
		}
		return nil
	})
	publish(ctx, t, openPublisher(ctx, t, head), numbered(0, 1))
	outcome(ctx, t, begun)
	if err := shared.Set(t).RabbitMQ[0].DeleteQueue(ctx, vhost(url), "cdc.office.north"); err != nil {
		t.Fatal(err)
	}
	if err := outcome(ctx, t, ended); !errors.Is(err, ErrCancelled) || !strings.Contains(err.Error(), "cdc.office.north") {
		t.Fatalf("Run ended with %v", err)
	}
	if _, err := OpenConsumer(ctx, north); !replied(err, amqp.NotFound) {
		t.Fatalf("without a queue: %v", err)
	}
	if err := Declare(ctx, north); err != nil {
		t.Fatal(err)
	}
	publish(ctx, t, openPublisher(ctx, t, head), numbered(1, 2))
	if got := fmt.Sprint(receive(ctx, t, openConsumer(ctx, t, north), 1, everything)); got != "[1]" {
		t.Fatalf("got %s", got)
	}
}

func TestQueuePurged(t *testing.T) {
	ctx, url := bench(t)
	head, north := declared(ctx, t, url)
	p := openPublisher(ctx, t, head)
	publish(ctx, t, p, numbered(0, 50))
	if err := shared.Set(t).RabbitMQ[0].PurgeQueue(ctx, vhost(url), "cdc.office.north"); err != nil {
		t.Fatal(err)
	}
	publish(ctx, t, p, numbered(50, 53))
	if got := fmt.Sprint(receive(ctx, t, openConsumer(ctx, t, north), 3, everything)); got != "[50 51 52]" {
		t.Fatalf("got %s", got)
	}
}

func TestExchangeDeletedUnderPublisher(t *testing.T) {
	ctx, url := bench(t)
	head, _ := declared(ctx, t, url)
	p := openPublisher(ctx, t, head)
	err := converse(ctx, head, "test", func(s *session) error { return s.channel.ExchangeDelete(headExchange, false, false) })
	if err != nil {
		t.Fatal(err)
	}
	if n, err := p.Publish(ctx, numbered(0, 3)); n != 0 || !replied(err, amqp.NotFound) {
		t.Fatalf("published %d: %v", n, err)
	}
	outcome(ctx, t, p.Closed())
	if !replied(p.Err(), amqp.NotFound) {
		t.Fatalf("the session is over because of %v", p.Err())
	}
}

func TestBlocked(t *testing.T) {
	ctx, url := bench(t)
	head, north := declared(ctx, t, url)
	m, through := meddle(t, url, 0)
	head.URL = through
	p := openPublisher(ctx, t, head)
	publish(ctx, t, p, numbered(0, 1))

	m.block(t, "low on disk")
	eventually(ctx, t, "the publisher is blocked", func() bool { _, b := p.Blocked(); return b })
	if reason, _ := p.Blocked(); reason != "low on disk" {
		t.Errorf("blocked for %q", reason)
	}
	published := make(chan error, 1)
	go func() { _, err := p.Publish(ctx, numbered(1, 3)); published <- err }()
	eventually(ctx, t, "a caller holds the turn", func() bool { return len(p.turn) == 0 })
	// The next caller waits for his turn; his context ends the wait, and nothing else.
	second, cancel := context.WithCancel(ctx)
	waits := make(chan error, 1)
	go func() { _, err := p.Publish(second, numbered(9, 10)); waits <- err }()
	cancel()
	if err := outcome(ctx, t, waits); !errors.Is(err, context.Canceled) {
		t.Fatalf("a caller that gave up: %v", err)
	}
	if n := waiting(ctx, t, north); n != 1 {
		t.Fatalf("%d messages in the queue while blocked, want 1", n)
	}
	m.unblock(t)
	if err := outcome(ctx, t, published); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(receive(ctx, t, openConsumer(ctx, t, north), 3, everything)); got != "[0 1 2]" {
		t.Fatalf("got %s", got)
	}

	// Blocked for good: the context ends the wait, and the session.
	m.block(t, "low on memory")
	eventually(ctx, t, "the publisher is blocked", func() bool { _, b := p.Blocked(); return b })
	third, cancel := context.WithCancel(ctx)
	go func() { _, err := p.Publish(third, numbered(3, 4)); published <- err }()
	eventually(ctx, t, "a caller holds the turn", func() bool { return len(p.turn) == 0 })
	cancel()
	if err := outcome(ctx, t, published); !errors.Is(err, context.Canceled) {
		t.Fatalf("a blocked caller that gave up: %v", err)
	}
	outcome(ctx, t, p.Closed())
}

func TestConsumerMustNotBeBlocked(t *testing.T) {
	ctx, url := bench(t)
	_, north := declared(ctx, t, url)
	m, through := meddle(t, url, 0)
	north.URL = through
	c := openConsumer(ctx, t, north)
	m.block(t, "low on disk")
	err := c.Run(ctx, func(context.Context, []*Delivery) error { return nil })
	if !errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "low on disk") {
		t.Fatalf("Run ended with %v", err)
	}
}

// TestBrokerShortOfDisk has the real thing, a broker that never has enough, and then stops it.
func TestBrokerShortOfDisk(t *testing.T) {
	if os.Getenv("CDC_TEST_AMQP") != "" {
		t.Skip("needs a broker with settings of its own")
	}
	set := servers.ForTest(t, servers.Spec{RabbitMQ: 1, RabbitMQSettings: []string{"disk_free_limit.relative = 100000.0"}})
	broker := set.RabbitMQ[0]
	ctx, cancel := context.WithTimeout(t.Context(), stuck)
	defer cancel()
	head, north := declared(ctx, t, broker.URL("/"))
	p := openPublisher(ctx, t, head)
	stopped, stop := context.WithCancel(ctx)
	published := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = p.Publish(stopped, numbered(0, 1))
		}
		published <- err
	}()
	eventually(ctx, t, "the publisher is blocked", func() bool { _, b := p.Blocked(); return b })
	if reason, _ := p.Blocked(); !strings.Contains(reason, "disk") {
		t.Errorf("blocked for %q", reason)
	}
	stop()
	if err := outcome(ctx, t, published); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}

	begun := make(chan struct{}, 1)
	ended := run(ctx, openConsumer(ctx, t, north), func(inner context.Context, _ []*Delivery) error {
		begun <- struct{}{}
		<-inner.Done() // the session's end ends the handler's context
		return context.Cause(inner)
	})
	outcome(ctx, t, begun)
	if err := broker.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	var refused *schema.RefusedError
	if err := outcome(ctx, t, ended); err == nil || errors.As(err, &refused) || ctx.Err() != nil {
		t.Fatalf("Run ended with %v", err)
	}
	if _, err := OpenConsumer(ctx, north); err == nil || errors.As(err, &refused) {
		t.Fatalf("a broker that is down: %v", err)
	}
}

// link is a link that can be made to swallow everything, and the broker's URL through it, with a heartbeat that the tests
// have time for.
func link(t *testing.T, broker string) (*toxiproxy.Proxy, string) {
	t.Helper()
	u, err := url.Parse(broker)
	if err != nil {
		t.Fatal(err)
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "broker", "127.0.0.1:0", u.Host)
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	u.Host = proxy.Listen
	u.RawQuery = "heartbeat=2"
	return proxy, u.String()
}

// swallow keeps the link open and lets nothing through.
func swallow(t *testing.T, proxy *toxiproxy.Proxy) {
	t.Helper()
	for _, direction := range []string{"upstream", "downstream"} {
		toxic := fmt.Sprintf(`{"name": %q, "type": "timeout", "stream": %q, "attributes": {"timeout": 0}}`, direction, direction)
		if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHalfOpenLink(t *testing.T) {
	for _, test := range []struct {
		name string
		body int
	}{
		{"waiting for confirms", 1},
		{"stuck in a write", 1 << 20}, // more than the kernel's buffers take
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, url := bench(t)
			head, _ := declared(ctx, t, url)
			proxy, through := link(t, url)
			head.URL = through
			p := openPublisher(ctx, t, head)
			publish(ctx, t, p, numbered(0, 1))
			swallow(t, proxy)
			var out []Outgoing
			for range 32 {
				out = append(out, Outgoing{Key: StreamKey(schema.StreamAll), Body: make([]byte, test.body), Mandatory: true})
			}
			published := make(chan error, 1)
			go func() {
				n, err := p.Publish(ctx, out)
				if n > 0 {
					err = fmt.Errorf("%d confirmed: %w", n, err)
				}
				published <- err
			}()
			if err := outcome(ctx, t, published); err == nil || ctx.Err() != nil || strings.Contains(err.Error(), "confirmed:") {
				t.Fatalf("through a dead link: %v", err)
			}
			closed := make(chan error, 1)
			go func() { closed <- p.Close() }()
			_ = outcome(ctx, t, closed)
		})
	}
}

func TestCloseOnHalfOpenLink(t *testing.T) {
	ctx, url := bench(t)
	_, north := declared(ctx, t, url)
	proxy, through := link(t, url)
	north.URL = strings.Replace(through, "heartbeat=2", "heartbeat=120", 1) // only Close's own patience ends it in time
	c := openConsumer(ctx, t, north)
	swallow(t, proxy)
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	if err := outcome(ctx, t, closed); err == nil {
		t.Error("a goodbye that nobody heard was no error")
	}
}

func TestConsumeOnHalfOpenLink(t *testing.T) {
	ctx, url := bench(t)
	_, north := declared(ctx, t, url)
	proxy, through := link(t, url)
	north.URL = through
	c := openConsumer(ctx, t, north)
	begun := make(chan struct{}, 1)
	ended := run(ctx, c, func(context.Context, []*Delivery) error {
		select {
		case begun <- struct{}{}:
		default:
		}
		return nil
	})
	outcome(ctx, t, begun)
	swallow(t, proxy)
	if err := outcome(ctx, t, ended); err == nil || ctx.Err() != nil {
		t.Fatalf("through a dead link: %v", err)
	}
}

func TestStopOnHalfOpenLink(t *testing.T) {
	ctx, url := bench(t)
	head, _ := declared(ctx, t, url)
	proxy, through := link(t, url)
	head.URL = strings.Replace(through, "heartbeat=2", "heartbeat=120", 1)
	p := openPublisher(ctx, t, head)
	swallow(t, proxy)
	stopped, stop := context.WithCancel(ctx)
	published := make(chan error, 1)
	go func() { _, err := p.Publish(stopped, numbered(0, 1)); published <- err }()
	eventually(ctx, t, "a caller holds the turn", func() bool { return len(p.turn) == 0 })
	stop()
	if err := outcome(ctx, t, published); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// And one who opens through it.
	opening, give := context.WithCancel(ctx)
	opened := make(chan error, 1)
	go func() { _, err := OpenPublisher(opening, head); opened <- err }()
	give()
	if err := outcome(ctx, t, opened); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// A link that breaks during the login must not look like a wrong password, which would end a sidecar that starts.
func TestLinkBreaksDuringLogin(t *testing.T) {
	ctx, url := bench(t)
	for frames := 1; frames <= 2; frames++ { // connection.start, connection.tune
		_, through := meddle(t, url, frames)
		_, err := OpenPublisher(ctx, headOffice(through))
		var refused *schema.RefusedError
		if err == nil || errors.As(err, &refused) || strings.Contains(err.Error(), "password") {
			t.Errorf("cut after %d frames: %v", frames, err)
		}
	}
}
