package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
)

// stranger is somebody else on the offices' virtual host.
type stranger struct{ ch *amqp.Channel }

func newStranger(t *testing.T, address string) stranger {
	t.Helper()
	conn, err := amqp.Dial(address)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	must(t, err)
	must(t, ch.Confirm(false))
	return stranger{ch}
}

// send publishes bodies and waits until the broker has them. user is whom the broker vouches for.
func (s stranger) send(t *testing.T, exchange, key, user string, bodies ...[]byte) {
	t.Helper()
	for _, body := range bodies {
		c, err := s.ch.PublishWithDeferredConfirm(exchange, key, false, false, amqp.Publishing{Body: body, UserId: user, DeliveryMode: amqp.Persistent})
		must(t, err)
		if ok, err := c.WaitContext(within(t, stuck)); err != nil || !ok {
			t.Fatalf("publish to %s: confirmed %v, %v", exchange, ok, err)
		}
	}
}

// take consumes an office's queue, while its sidecar is away, until want has accepted a message; all of them are gone then.
func (s stranger) take(t *testing.T, queue string, want func([]byte) bool) {
	t.Helper()
	deliveries, err := s.ch.Consume(queue, "stranger", false, false, false, false, nil)
	must(t, err)
	for end := time.After(stuck); ; {
		select {
		case <-end:
			t.Fatalf("the message did not come to %s", queue)
		case d, ok := <-deliveries:
			if !ok {
				t.Fatalf("%s was taken from us", queue)
			}
			must(t, d.Ack(false))
			if want(d.Body) {
				must(t, s.ch.Cancel("stranger", false))
				return
			}
		}
	}
}

// numbered accepts a transaction of the sender.
func numbered(sender schema.Office) func([]byte) bool {
	return func(b []byte) bool {
		m, err := schema.DecodeMessage(b)
		return err == nil && m.Kind == schema.MessageTransaction && m.Sender == sender
	}
}

// prefixes are all the ways to cut a message's end off.
func prefixes(message []byte) [][]byte {
	var all [][]byte
	for n := range message {
		all = append(all, message[:n])
	}
	return all
}

// Messages that are not ours, in the exchanges that every office hears: they are counted, kept for a person to look at, and
// passed by.
func TestForeignMessages(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := company(t, set, bin, three(set)...)
	var l ledger
	must(t, f.Start(within(t, stuck)))
	s := newStranger(t, set.RabbitMQ[0].URL(f.VHost()))
	foreign := [][]byte{nil, []byte("{\"event\": \"order.created\"}"), []byte("\x08\x01"), make([]byte, 100_000)}
	for _, exchange := range []string{"cdc.head", "cdc.branch"} {
		s.send(t, exchange, "stream.all", "", foreign...)
		l.write(t, f.Offices...)
		s.send(t, exchange, "stream.all", "guest", foreign...)
	}
	for _, o := range f.Offices {
		quarantined(t, o, 2*len(foreign))
	}
	l.goesOn(t, f)
	l.settles(t, f)
}

// quarantined waits until the office has put so many messages aside, at least.
func quarantined(t *testing.T, o *fleet.Office, n int) {
	t.Helper()
	must(t, fleet.Until(within(t, stuck), fmt.Sprintf("%s has quarantined %d messages", o.Name, n), func(ctx context.Context) error {
		s, err := o.Status(ctx)
		if err == nil && s.Broker.Quarantined < uint64(n) {
			err = fmt.Errorf("%d so far; %v", s.Broker.Quarantined, s.Reasons())
		}
		return err
	}))
}

// A message of ours whose end was cut off, at any byte, stands in the queue in place of the whole one: whatever can still
// be read of it, it is not taken for a transaction, and what it held comes again.
func TestTruncatedMessages(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := company(t, set, bin, three(set)...)
	var l ledger
	must(t, f.Start(within(t, stuck)))
	l.write(t, f.Offices...)
	l.goesOn(t, f)
	s := newStranger(t, set.RabbitMQ[0].URL(f.VHost()))
	for _, victim := range []struct{ reader, writer *fleet.Office }{
		{f.Offices[1], f.Head()}, {f.Head(), f.Offices[1]},
	} {
		l.settles(t, f) // so that the queue is empty, and what comes to it next is the victim
		victim.reader.Kill()
		l.write(t, victim.writer)
		var message []byte
		s.take(t, "cdc.office."+string(victim.reader.Name), func(b []byte) bool {
			message = b
			return numbered(victim.writer.Name)(b)
		})
		cut := prefixes(message)
		s.send(t, "", "cdc.office."+string(victim.reader.Name), "guest", cut...)
		must(t, victim.reader.Start())
		quarantined(t, victim.reader, len(cut)/2)
		l.settles(t, f) // without a new change to push it
		l.goesOn(t, f)
	}
	l.settles(t, f)
}
