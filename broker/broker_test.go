package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

var shared = servers.Shared{Spec: servers.Spec{RabbitMQ: 1}}

func TestMain(m *testing.M) { os.Exit(shared.Main(m).Run()) }

// stuck bounds whatever would otherwise hang a test.
const stuck = 60 * time.Second

// bench is a virtual host of the test's own, a context that ends a hang, and a check that no goroutine stays: a session
// that left one behind would leave one at every reconnect of a link that is bad for days.
func bench(t *testing.T) (context.Context, string) {
	t.Helper()
	url := servers.NewVHost(t, shared.Set(t).RabbitMQ[0])
	before := goleak.IgnoreCurrent()
	restarted := goleak.IgnoreAnyFunction("cdc-sidecar/servers.(*process).wait") // a broker that the test started again
	t.Cleanup(func() { goleak.VerifyNone(t, before, restarted) })
	ctx, cancel := context.WithTimeout(t.Context(), stuck)
	t.Cleanup(cancel)
	return ctx, url
}

func vhost(url string) string { return url[strings.LastIndex(url, "/")+1:] }

func headOffice(url string) Config {
	return Config{URL: url, Office: "center", Role: schema.Head, Program: "test"}
}

func branchOffice(url string, name schema.Office) Config {
	return Config{URL: url, Office: name, Role: schema.Branch, Program: "test"}
}

// declared is a head and a branch, north, whose queues are there.
func declared(ctx context.Context, t *testing.T, url string) (head, north Config) {
	t.Helper()
	head, north = headOffice(url), branchOffice(url, "north")
	for _, c := range []Config{head, north} {
		if err := Declare(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	return head, north
}

func openPublisher(ctx context.Context, t *testing.T, cfg Config) *Publisher {
	t.Helper()
	p, err := OpenPublisher(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func openConsumer(ctx context.Context, t *testing.T, cfg Config) *Consumer {
	t.Helper()
	c, err := OpenConsumer(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// numbered are messages from..to-1 for every branch; a body begins with its number.
func numbered(from, to int) []Outgoing {
	var out []Outgoing
	for i := from; i < to; i++ {
		out = append(out, Outgoing{Key: StreamKey(schema.StreamAll), Body: strconv.AppendInt(nil, int64(i), 10), Mandatory: true})
	}
	return out
}

func publish(ctx context.Context, t *testing.T, p *Publisher, out []Outgoing) {
	t.Helper()
	if n, err := p.Publish(ctx, out); err != nil || n != len(out) {
		t.Fatalf("published %d of %d: %v", n, len(out), err)
	}
}

func number(t *testing.T, d *Delivery) int {
	t.Helper()
	text, _, _ := strings.Cut(string(d.Body), " ")
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// errDone ends a Run that has what the test wants.
var errDone = errors.New("the test has what it wants")

// receive runs the consumer until it has had n deliveries, settles those that settle wants, and returns their numbers.
func receive(ctx context.Context, t *testing.T, c *Consumer, n int, settle func(d *Delivery, number int) bool) []int {
	t.Helper()
	var got []int
	err := c.Run(ctx, func(_ context.Context, batch []*Delivery) error {
		for _, d := range batch {
			i := number(t, d)
			got = append(got, i)
			if settle(d, i) {
				d.Settle()
			}
		}
		if len(got) >= n {
			return errDone
		}
		return nil
	})
	if !errors.Is(err, errDone) {
		t.Fatalf("after %d of %d deliveries: %v", len(got), n, err)
	}
	return got
}

func everything(*Delivery, int) bool { return true }

// waiting is how many messages are ready in a queue.
func waiting(ctx context.Context, t *testing.T, cfg Config) int {
	t.Helper()
	var queue amqp.Queue
	err := converse(ctx, cfg, "count", func(s *session) (err error) {
		queue, err = s.channel.QueueDeclarePassive(Queue(cfg.Office), true, false, false, false, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return queue.Messages
}

// eventually polls, for what the broker does after it has answered.
func eventually(ctx context.Context, t *testing.T, what string, holds func() bool) {
	t.Helper()
	every := time.NewTicker(50 * time.Millisecond)
	defer every.Stop()
	for !holds() {
		select {
		case <-every.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

// run runs a consumer beside the test and returns its outcome.
func run(ctx context.Context, c *Consumer, handle func(context.Context, []*Delivery) error) <-chan error {
	outcome := make(chan error, 1)
	go func() { outcome <- c.Run(ctx, handle) }()
	return outcome
}

// outcome waits for a result that a hang would never give.
func outcome[T any](ctx context.Context, t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-ctx.Done():
		t.Fatal("no outcome")
		panic("unreachable")
	}
}

func sequence(from, to int) string {
	var all []int
	for i := from; i < to; i++ {
		all = append(all, i)
	}
	return fmt.Sprint(all)
}
