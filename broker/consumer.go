package broker

import (
	"context"
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
	// lookEvery is how many idle ticks pass between two looks whether another consumer has the queue.
	lookEvery = 5
)

// Consumer is one session that consumes our office's queue.
type Consumer struct {
	session   *session
	inbox     chan amqp.Delivery
	cancelled chan string
	pending   unsettled
	active    bool // a delivery has come, so that the queue is ours
	idle      int  // ticks without one
	elsewhere atomic.Bool
}

// OpenConsumer subscribes to our queue, which Declare has made. The context bounds the opening only.
func OpenConsumer(ctx context.Context, cfg Config) (*Consumer, error) {
	s, err := connect(ctx, cfg, "consume")
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, s.kill)()
	c := &Consumer{session: s, inbox: make(chan amqp.Delivery, Prefetch), cancelled: make(chan string, 1)}
	s.channel.NotifyCancel(c.cancelled)
	// First the limit, then the subscription: the client library queues without bound whatever the broker sends.
	err = s.channel.Qos(Prefetch, 0, false)
	var deliveries <-chan amqp.Delivery
	if err == nil {
		deliveries, err = s.channel.Consume(Queue(cfg.Office), "", false, false, false, false, nil)
	}
	if err != nil {
		_ = s.close()
		return nil, cfg.explain("subscribe to "+Queue(cfg.Office), err)
	}
	go c.forward(deliveries)
	return c, nil
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
	c.active, c.idle = true, 0
	c.elsewhere.Store(false)
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

// look, while nothing arrives, asks the broker for what it does not tell by itself.
func (c *Consumer) look() error {
	if reason, blocked := c.session.gate.state(); blocked {
		return c.session.end(fmt.Errorf("%w: %s", ErrBlocked, reason))
	}
	if c.idle++; c.active || c.idle%lookEvery != 0 {
		return nil
	}
	var queue amqp.Queue
	if err := c.session.inspect(Queue(c.session.cfg.Office), &queue); err != nil {
		return c.session.end(c.session.because("look at the queue", err))
	}
	c.elsewhere.Store(queue.Consumers > 1)
	return nil
}

// ActiveElsewhere says that another consumer is subscribed to our queue and nothing has come to this one: most likely a
// second sidecar of this office, or a session of our own that the broker has not yet found dead. It is a hint, some
// seconds old.
func (c *Consumer) ActiveElsewhere() bool { return c.elsewhere.Load() }

// Closed returns a channel that is closed when the session is over; Err then says why.
func (c *Consumer) Closed() <-chan struct{} { return c.session.over }

// Err is why the session is over, nil while it is not.
func (c *Consumer) Err() error { return c.session.reason() }

// Close ends the session within a few seconds, whatever the link does. Only a goodbye that failed is an error.
func (c *Consumer) Close() error { return c.session.close() }
