package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// Prefetch is how many deliveries may be unacknowledged, and so how many bodies a consumer may hold in memory: 64 MiB of
	// half-MiB parts that do not compress. When a handler leaves this many unsettled, nothing more arrives: what needs more
	// messages before it can be settled must settle earlier ones from half of this on.
	Prefetch = 128
	// batchBytes bounds what one call of the handler gets, as one message may exceed it; the rest comes with the next call.
	batchBytes = 8 << 20
	// tick is how often the handler is called when nothing arrives.
	tick = time.Second
	// leaderLimit is how long our queue may be without a leader before we take it for dead. A cluster that lost a node elects
	// another within seconds; making a queue anew too early costs no more than a resend.
	leaderLimit = 30 * time.Second
	// claimEvery is how many ticks pass between two attempts to become the office's one session.
	claimEvery = 5
)

// Consumer is one session that consumes our office's queue.
type Consumer struct {
	session   *session
	inbox     chan amqp.Delivery
	cancelled chan string
	pending   unsettled
	ticks     int
	claimed   bool // the mark is ours, or we may not make one
	elsewhere atomic.Bool
}

// OpenConsumer subscribes to our queue, which Declare has made. The context bounds the opening only.
//
// A queue that does not answer for leaderLimit is dead and is made anew; the error then says so, and the next OpenConsumer
// finds it. A quorum queue dies when its node is cut off within seconds of the queue's making: what the broker had
// confirmed is gone, and no leader comes any more.
func OpenConsumer(ctx context.Context, cfg Config) (*Consumer, error) {
	s, err := connect(ctx, cfg, "consume")
	if err != nil {
		return nil, err
	}
	c := &Consumer{session: s, inbox: make(chan amqp.Delivery, Prefetch), cancelled: make(chan string, 1)}
	stop := context.AfterFunc(ctx, s.kill)
	err = c.subscribe()
	stop()
	if err == nil {
		return c, nil
	}
	_ = s.close()
	if ctx.Err() == nil && errors.Is(err, errLeaderless) {
		return nil, errors.Join(err, renew(ctx, cfg))
	}
	return nil, err
}

// errLeaderless says that our queue is dead.
var errLeaderless = errors.New("the queue has no leader and is made anew")

func (c *Consumer) subscribe() error {
	s, name := c.session, Queue(c.session.cfg.Office)
	if err := c.claim(); err != nil {
		return s.cfg.explain("mark the session", err)
	}
	s.channel.NotifyCancel(c.cancelled)
	// First the limit, then the subscription: the client library queues without bound whatever the broker sends.
	if err := s.answer(answerLimit, func() error { return s.channel.Qos(Prefetch, 0, false) }); err != nil {
		return s.cfg.explain("limit deliveries", err)
	}
	var deliveries <-chan amqp.Delivery
	err := s.answer(cmp.Or(s.cfg.leaderless, leaderLimit), func() (err error) {
		deliveries, err = s.channel.Consume(name, "", false, false, false, false, nil)
		return err
	})
	if errors.Is(err, ErrUnanswered) {
		return fmt.Errorf("%s: %w: %w", name, errLeaderless, err)
	}
	if err != nil {
		return s.cfg.explain("subscribe to "+name, err)
	}
	go c.forward(deliveries)
	return nil
}

// forward empties the client library's queue into the inbox, where one look tells what is there. The inbox is never full:
// all in it is unacknowledged. It ends with the subscription.
func (c *Consumer) forward(deliveries <-chan amqp.Delivery) {
	defer close(c.inbox)
	for d := range deliveries {
		c.inbox <- d
	}
}

// Run calls handle with what arrives, in order, one call at a time, until the session is over, the context ends or handle
// fails; it returns the reason and may be called once. A batch is what is there, up to Prefetch deliveries; it is empty
// about once a second when nothing comes. The slice is handle's own only during the call, the deliveries are for good.
//
// After each call everything settled is acknowledged. What stays unsettled may be settled in a later call; when the session
// ends first, the broker delivers it again, in order, to the next one. The context of handle ends with the session.
func (c *Consumer) Run(ctx context.Context, handle func(ctx context.Context, batch []*Delivery) error) error {
	defer context.AfterFunc(ctx, c.session.hurry)()
	inner, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-c.session.over:
			cancel(c.session.err)
		case <-inner.Done():
		}
	}()
	err := c.loop(inner, handle)
	cancel(nil)
	<-watched
	if over := c.session.reason(); over != nil {
		return over // whatever handle or an acknowledgement made of it
	}
	return err
}

func (c *Consumer) loop(ctx context.Context, handle func(context.Context, []*Delivery) error) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	batch := make([]*Delivery, 0, Prefetch)
	for {
		select {
		case d, open := <-c.inbox:
			if !open {
				return c.end()
			}
			batch = c.gather(d, batch[:0])
		case <-ticker.C:
			batch = batch[:0]
			if err := c.look(); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		err := handle(ctx, batch)
		clear(batch)
		if acknowledged := c.pending.acknowledge(c.session.channel); err == nil && acknowledged != nil {
			err = c.session.because("acknowledge", acknowledged)
		}
		if err != nil {
			return err
		}
	}
}

// gather takes what is there, from this delivery on.
func (c *Consumer) gather(d amqp.Delivery, batch []*Delivery) []*Delivery {
	for bytes := 0; ; {
		next := &Delivery{Body: d.Body, Key: d.RoutingKey, UserID: d.UserId, Redelivered: d.Redelivered, tag: d.DeliveryTag}
		batch = append(batch, next)
		c.pending = append(c.pending, next)
		if bytes += len(d.Body); bytes >= batchBytes || len(batch) == Prefetch {
			return batch
		}
		var open bool
		select {
		case d, open = <-c.inbox:
			if !open {
				return batch // the next look at the inbox ends the loop
			}
		default:
			return batch
		}
	}
}

// end is why the subscription ended: cancelled by the broker, or the session is over.
func (c *Consumer) end() error {
	select {
	case _, ok := <-c.cancelled:
		if ok {
			return c.session.end(fmt.Errorf("%s: %w", Queue(c.session.cfg.Office), ErrCancelled))
		}
	default:
	}
	<-c.session.over
	return c.session.err
}

// look sees to what the broker does not send by itself.
func (c *Consumer) look() error {
	if reason, blocked := c.session.gate.state(); blocked {
		return c.session.end(fmt.Errorf("%w: %s", ErrBlocked, reason))
	}
	if c.ticks++; c.claimed || c.ticks%claimEvery != 0 {
		return nil
	}
	if err := c.claim(); err != nil {
		return c.session.end(c.session.because("mark the session", err))
	}
	return nil
}

// claim makes the mark of an office's one consuming session: an empty queue that belongs to its connection and goes with
// it. The broker does not tell a waiting consumer that it waits, nor how many there are, but it tells whose mark that is.
func (c *Consumer) claim() error {
	name := Queue(c.session.cfg.Office) + ".session"
	err := c.session.ask(func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(name, false, false, true, false, amqp.Table{"x-queue-type": "classic"})
		return err
	})
	if replied(err, amqp.ResourceLocked) {
		c.elsewhere.Store(true)
		return nil
	}
	c.elsewhere.Store(false)
	c.claimed = err == nil || replied(err, amqp.AccessRefused)
	if c.claimed {
		return nil
	}
	return err
}

// ActiveElsewhere says that another session of our office is connected, so that nothing may come to this one: a second
// sidecar, or a session of our own that the broker has not yet found dead. It is some seconds old, and always false where
// our user may not make the mark by which it is known.
func (c *Consumer) ActiveElsewhere() bool { return c.elsewhere.Load() }

// Closed returns a channel that is closed when the session is over; Err then says why.
func (c *Consumer) Closed() <-chan struct{} { return c.session.over }

// Err is why the session is over, nil while it is not.
func (c *Consumer) Err() error { return c.session.reason() }

// Close ends the session within a few seconds, whatever the link does. Only a goodbye that failed is an error.
func (c *Consumer) Close() error { return c.session.close() }
