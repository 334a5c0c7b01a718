package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"cdc-sidecar/schema"
)

// The oldest RabbitMQ that we vouch for: before it, a quorum queue keeps all of a backlog in memory.
const (
	oldestMajor = 3
	oldestMinor = 10
)

// Check is doctor's look at the broker. It changes nothing there, moves no message and disturbs no sidecar that runs:
// where only trying tells, it tries what the broker must refuse after it has looked at our permissions.
func Check(ctx context.Context, cfg Config) []schema.Finding {
	s, err := connect(ctx, cfg, "doctor")
	if err != nil {
		return []schema.Finding{failed("broker.login", err)}
	}
	defer func() { _ = s.close() }()
	defer context.AfterFunc(ctx, s.kill)()
	findings := []schema.Finding{
		{Check: "broker.login", Severity: schema.Fine, Message: "logged in as " + cfg.String()},
		s.checkVersion(),
		cfg.checkIdentity(),
		s.checkPublish(),
	}
	return append(findings, s.checkQueue()...)
}

// failed is the finding of an error, taken apart where it knows its remedy.
func failed(check string, err error) schema.Finding {
	f := schema.Finding{Check: check, Severity: schema.Failure, Message: err.Error()}
	var refused *schema.RefusedError
	if errors.As(err, &refused) {
		f.Message, f.Fix = refused.What, refused.Remedy
		if refused.Cause != nil {
			f.Cause = refused.Cause.Error()
		}
	}
	return f
}

func (s *session) checkVersion() schema.Finding {
	product, _ := s.conn.Properties["product"].(string)
	version, _ := s.conn.Properties["version"].(string)
	f := schema.Finding{Check: "broker.version", Severity: schema.Fine, Message: product + " " + version}
	numbers := strings.SplitN(version, ".", 3)
	if product != "RabbitMQ" || len(numbers) < 2 {
		f.Severity, f.Cause = schema.Warning, "only RabbitMQ is tested"
		return f
	}
	major, errMajor := strconv.Atoi(numbers[0])
	minor, errMinor := strconv.Atoi(numbers[1])
	if err := errors.Join(errMajor, errMinor); err != nil || major < oldestMajor || major == oldestMajor && minor < oldestMinor {
		f.Severity = schema.Failure
		f.Cause = "its quorum queues keep a backlog in memory, or are missing"
		f.Fix = fmt.Sprintf("upgrade RabbitMQ to %d.%d or later", oldestMajor, oldestMinor)
	}
	return f
}

func (c Config) checkIdentity() schema.Finding {
	if Strict(c) {
		return schema.Finding{Check: "broker.identity", Severity: schema.Fine, Message: "the broker user is the office's name: no other office can speak for it"}
	}
	return schema.Finding{
		Check: "broker.identity", Severity: schema.Warning,
		Message: fmt.Sprintf("the broker user of office %s is %q", c.Office, c.User()),
		Cause:   "offices that share a broker user can speak for one another",
		Fix:     fmt.Sprintf("rabbitmqctl add_user %s ... && %s", c.Office, c.grantTo(string(c.Office))),
	}
}

// checkPublish publishes what cannot be: the broker looks at permission, exchange and user first, and then refuses the
// expiration, so that nothing reaches a queue.
func (s *session) checkPublish() schema.Finding {
	const check = "broker.publish"
	exchange := s.cfg.sends()
	err := s.ask(func(ch *amqp.Channel) error {
		closed := ch.NotifyClose(make(chan *amqp.Error, 1))
		err := ch.Publish(exchange, OfficeKey(s.cfg.Office), false, false, amqp.Publishing{UserId: s.cfg.User(), Expiration: "doctor"})
		if err != nil {
			return err
		}
		if reply := <-closed; reply != nil { // or the session's end, which closes it too
			return reply
		}
		return ErrClosed
	})
	switch {
	case replied(err, amqp.PreconditionFailed) && strings.Contains(err.Error(), "expiration"):
		return schema.Finding{Check: check, Severity: schema.Fine, Message: "may publish to exchange " + exchange}
	case replied(err, amqp.NotFound):
		return s.absent(check, "exchange "+exchange, func() error {
			return s.ask(func(ch *amqp.Channel) error {
				wrong := amqp.Table{"alternate-exchange": true} // a name is wanted
				return ch.ExchangeDeclare(exchange, amqp.ExchangeTopic, true, false, false, false, wrong)
			})
		})
	}
	return failed(check, s.cfg.explain("publish to exchange "+exchange, err))
}

// absent is the finding of something that is not there yet: fine if we may make it, which an attempt to make it wrongly
// tells.
func (s *session) absent(check, what string, attempt func() error) schema.Finding {
	if err := attempt(); replied(err, amqp.AccessRefused) {
		return failed(check, s.missing(what, err))
	}
	return schema.Finding{Check: check, Severity: schema.Fine, Message: what + " is not there yet; run makes it"}
}

func (s *session) checkQueue() []schema.Finding {
	const check = "broker.queue"
	name := Queue(s.cfg.Office)
	err := s.inspect(name)
	if replied(err, amqp.NotFound) {
		return []schema.Finding{s.absent(check, "queue "+name, func() error {
			arguments := s.cfg.arguments()
			arguments["x-overflow"] = "none-such"
			return s.ask(func(ch *amqp.Channel) error {
				_, err := ch.QueueDeclare(name, true, false, false, false, arguments)
				return err
			})
		})}
	}
	if err != nil {
		return []schema.Finding{failed(check, s.cfg.explain("look for queue "+name, err))}
	}
	return []schema.Finding{s.checkArguments(name), s.checkConsume(name)}
}

// checkArguments declares the queue again as it should be, which changes nothing of one that exists.
func (s *session) checkArguments(name string) schema.Finding {
	const check = "broker.queue"
	err := s.ask(func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(name, true, false, false, false, s.cfg.arguments())
		return err
	})
	switch {
	case err == nil:
		return schema.Finding{Check: check, Severity: schema.Fine, Message: "queue " + name + " is as it should be"}
	case replied(err, amqp.AccessRefused):
		return schema.Finding{
			Check: check, Severity: schema.Warning,
			Message: "queue " + name + " is there; our user may not configure it, so its arguments and bindings cannot be checked",
			Fix:     "see that it has: " + fmt.Sprint(s.cfg.arguments()) + " and is bound to " + s.cfg.hears() + " with " + strings.Join(s.cfg.bindings(), ", "),
		}
	case replied(err, amqp.PreconditionFailed):
		return failed(check, s.cfg.different(err))
	}
	return failed(check, s.cfg.explain("declare queue "+name, err))
}

// checkConsume asks for one message, which a queue with a single active consumer refuses after it has looked at our
// permission; only its leader can answer so. From another queue the message goes back with the channel.
func (s *session) checkConsume(name string) schema.Finding {
	const check = "broker.consume"
	err := s.answer(leaderLimit, func() error {
		return s.ask(func(ch *amqp.Channel) error {
			_, _, err := ch.Get(name, false)
			return err
		})
	})
	switch {
	case errors.Is(err, ErrUnanswered):
		f := failed(check, s.cfg.different(nil))
		f.Message, f.Cause = "queue "+name+" has no leader", "nothing can be published to it or consumed from it"
		return f
	case replied(err, amqp.ResourceLocked):
		return schema.Finding{Check: check, Severity: schema.Fine, Message: "may consume queue " + name}
	case err == nil:
		f := failed(check, s.cfg.different(nil))
		f.Message, f.Cause = "queue "+name+" has no single active consumer", "two sidecars of one office would split its stream"
		return f
	}
	return failed(check, s.cfg.explain("consume queue "+name, err))
}
