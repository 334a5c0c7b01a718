package broker

import (
	"context"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"cdc-sidecar/schema"
)

// deliveryLimit is how often a message may come back before the broker drops it. The default of 20 would drop whole
// windows on a flapping link, since each lost connection counts; without a limit a returned message would go to the tail.
const deliveryLimit = 1_000_000

// arguments are those of our queue. They are part of it for life: with others the broker refuses to declare it again.
func (c Config) arguments() amqp.Table {
	bytes := c.QueueBytes
	if bytes <= 0 {
		bytes = DefaultQueueBytes
	}
	return amqp.Table{
		"x-queue-type":             "quorum",
		"x-single-active-consumer": true,
		"x-max-length-bytes":       bytes,
		"x-overflow":               "drop-head",
		"x-delivery-limit":         int64(deliveryLimit),
	}
}

// Declare makes the exchanges, our queue and its bindings where they are missing. What our user may not configure has to
// be there already, made by an administrator; its arguments and bindings are then taken on trust. A queue of our name with
// other arguments is never touched: a *schema.RefusedError says how to delete it, which loses nothing.
func Declare(ctx context.Context, cfg Config) error {
	return converse(ctx, cfg, "declare", cfg.declare)
}

// renew makes our queue anew, without what was in it: the journals have that. Its arguments were ours, so it is ours.
func renew(ctx context.Context, cfg Config) error {
	if err := RemoveOffice(ctx, cfg, cfg.Office); err != nil {
		return err
	}
	return Declare(ctx, cfg)
}

// converse opens a session, has f use it and closes it. When the context ends, f fails.
func converse(ctx context.Context, cfg Config, purpose string, f func(*session) error) error {
	s, err := connect(ctx, cfg, purpose)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, s.kill)
	err = f(s)
	stop()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if closing := s.close(); err == nil {
		err = closing
	}
	return err
}

func (c Config) declare(s *session) error {
	for _, name := range []string{headExchange, branchExchange} {
		if err := s.declareExchange(name); err != nil {
			return err
		}
	}
	if err := s.declareQueue(); err != nil {
		return err
	}
	for _, key := range c.bindings() {
		err := s.ask(func(ch *amqp.Channel) error { return ch.QueueBind(Queue(c.Office), key, c.hears(), false, nil) })
		// Where we may not bind, whoever made the queue bound it: AMQP has no way to look.
		if err != nil && !replied(err, amqp.AccessRefused) {
			return c.explain("bind "+Queue(c.Office), err)
		}
	}
	return nil
}

func (s *session) declareExchange(name string) error {
	err := s.ask(func(ch *amqp.Channel) error {
		return ch.ExchangeDeclare(name, amqp.ExchangeTopic, true, false, false, false, nil)
	})
	switch {
	case replied(err, amqp.AccessRefused):
		passive := s.ask(func(ch *amqp.Channel) error {
			return ch.ExchangeDeclarePassive(name, amqp.ExchangeTopic, true, false, false, false, nil)
		})
		if replied(passive, amqp.NotFound) {
			return s.missing("exchange "+name, err)
		}
		return s.cfg.explain("look for exchange "+name, passive)
	case replied(err, amqp.PreconditionFailed):
		return &schema.RefusedError{
			What: fmt.Sprintf("exchange %s in %s is not the durable topic exchange that it has to be", name, s.cfg), Cause: err,
			Remedy: "delete that exchange, or give the sidecars a virtual host of their own",
		}
	}
	return s.cfg.explain("declare exchange "+name, err)
}

func (s *session) declareQueue() error {
	name := Queue(s.cfg.Office)
	err := s.ask(func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(name, true, false, false, false, s.cfg.arguments())
		return err
	})
	switch {
	case replied(err, amqp.AccessRefused):
		passive := s.inspect(name)
		if replied(passive, amqp.NotFound) {
			return s.missing("queue "+name, err)
		}
		return s.cfg.explain("look for queue "+name, passive)
	case replied(err, amqp.PreconditionFailed):
		return s.cfg.different(err)
	}
	return s.cfg.explain("declare queue "+name, err)
}

// different is the refusal of a queue with other arguments. We delete no queue by ourselves: a wrong name in a
// configuration would then cost a stranger's data.
func (c Config) different(cause error) error {
	return &schema.RefusedError{
		What:  fmt.Sprintf("queue %s in %s has other arguments than this configuration", Queue(c.Office), c),
		Cause: cause,
		Remedy: fmt.Sprintf("rabbitmqctl -p %s delete_queue %s; it is made anew, and nothing is lost: the journals have what was in it",
			c.vhost(), Queue(c.Office)),
	}
}

func (s *session) missing(what string, cause error) error {
	return &schema.RefusedError{
		What:  fmt.Sprintf("broker %s has no %s, and does not let us make it", s.cfg, what),
		Cause: cause, Remedy: s.cfg.grant(),
	}
}

// inspect looks whether a queue is there.
func (s *session) inspect(name string) error {
	return s.ask(func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
		return err
	})
}

// RemoveOffice deletes an office's queue with everything in it, for an office that will not come back. It is no error when
// there is none.
func RemoveOffice(ctx context.Context, cfg Config, name schema.Office) error {
	return converse(ctx, cfg, "remove", func(s *session) error { return s.deleteQueue(Queue(name)) })
}

func (s *session) deleteQueue(name string) error {
	err := s.ask(func(ch *amqp.Channel) error {
		_, err := ch.QueueDelete(name, false, false, false)
		return err
	})
	if replied(err, amqp.NotFound) {
		return nil
	}
	return s.cfg.explain("delete queue "+name, err)
}

// Teardown deletes our own queue, and the exchanges when no other office's queue is bound to them.
func Teardown(ctx context.Context, cfg Config) error {
	return converse(ctx, cfg, "teardown", func(s *session) error {
		if err := s.deleteQueue(Queue(cfg.Office)); err != nil {
			return err
		}
		for _, name := range []string{headExchange, branchExchange} {
			err := s.ask(func(ch *amqp.Channel) error { return ch.ExchangeDelete(name, true, false) })
			// In use, not there, or not ours to delete: it stays as it is.
			if err != nil && !replied(err, amqp.PreconditionFailed) && !replied(err, amqp.NotFound) && !replied(err, amqp.AccessRefused) {
				return cfg.explain("delete exchange "+name, err)
			}
		}
		return nil
	})
}
