package broker

import (
	"context"
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// windowMessages bounds the messages under way at once. One window costs one round trip and one fsync at the broker:
	// enough to hide both, few enough to send again after a lost link.
	windowMessages = 256
	// windowBytes bounds their size: what a slow link carries within seconds, and what a session may hold in memory.
	windowBytes = 8 << 20
	// confirmLimit bounds the wait for the next confirm. A broker that is up answers within an fsync of a quorum; this is
	// far beyond it, and the heartbeat has noticed a dead link before.
	confirmLimit = 60 * time.Second
	// contentType is of our envelope, for people who look into a queue.
	contentType = "application/x-protobuf"
)

// Outgoing is a message to be published.
type Outgoing struct {
	Key       string // routing key: StreamKey or OfficeKey
	Body      []byte // not to be changed until Publish returns
	Mandatory bool   // it is an error when no queue is bound for it
}

// Publisher is one publishing session. Its methods may be called from several goroutines.
type Publisher struct {
	session  *session
	user     string
	exchange string
	returns  chan amqp.Return
	turn     chan struct{} // holds one token: whoever takes it publishes
	sent     uint64        // messages published on the channel, which are their confirm's tags
}

// OpenPublisher connects for publishing to our side's exchange, which Declare has made. The context bounds the opening only.
func OpenPublisher(ctx context.Context, cfg Config) (*Publisher, error) {
	s, err := connect(ctx, cfg, "publish")
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, s.kill)()
	if err := s.answer(answerLimit, func() error { return s.channel.Confirm(false) }); err != nil {
		_ = s.close()
		return nil, cfg.explain("ask for confirms", err)
	}
	p := &Publisher{session: s, user: cfg.User(), exchange: cfg.sends(), turn: make(chan struct{}, 1)}
	// The client library drops a return that nobody takes: the buffer holds those of a whole window.
	p.returns = s.channel.NotifyReturn(make(chan amqp.Return, windowMessages))
	p.turn <- struct{}{}
	return p, nil
}

// Publish publishes messages in order and waits for the broker's confirms, window by window. It returns how many, from the
// first on, are durable in every queue that they were routed to; of the others nothing is known, and they are to be
// published again: a message twice is for the receiver to skip.
//
// The error wraps ErrUnroutable when the first one not counted was mandatory and found no queue; the session then goes on.
// After any other error it is over. While the broker blocks publishers, Publish waits. When the context ends, so does the
// session.
func (p *Publisher) Publish(ctx context.Context, out []Outgoing) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx) // before the turn: a caller who comes too late ends no session
	}
	select {
	case <-p.turn:
		defer func() { p.turn <- struct{}{} }()
	case <-p.session.over:
		return 0, p.session.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	// A write under way can only be stopped by closing the socket under it.
	defer context.AfterFunc(ctx, func() { _ = p.session.end(context.Cause(ctx)) })()
	confirmed := 0
	for confirmed < len(out) {
		n, err := p.window(window(out[confirmed:]))
		confirmed += n
		if err != nil {
			return confirmed, err
		}
	}
	return confirmed, nil
}

// window is as many messages as may be under way at once; at least one.
func window(out []Outgoing) []Outgoing {
	bytes := 0
	for i := range out {
		bytes += len(out[i].Body)
		if i > 0 && (i == windowMessages || bytes > windowBytes) {
			return out[:i]
		}
	}
	return out
}

func (p *Publisher) window(out []Outgoing) (int, error) {
	if err := p.admitted(); err != nil {
		return 0, err
	}
	first := p.sent + 1
	confirms, failed := p.send(out)
	confirmed, err := p.collect(confirms)
	if err == nil {
		err = failed
	}
	if err != nil {
		err = p.session.end(err)
	}
	if at, reason, ok := p.returned(first, confirmed); ok {
		confirmed = at
		if err == nil {
			err = fmt.Errorf("publish to %s with key %s: %w (%s)", p.exchange, out[at].Key, ErrUnroutable, reason)
		}
	}
	return confirmed, err
}

// admitted waits while the broker blocks publishers; the session's end, and so the context's, ends the wait.
func (p *Publisher) admitted() error {
	select {
	case <-p.session.gate.opened():
	case <-p.session.over:
	}
	select {
	case <-p.session.over:
		return p.session.err
	default:
		return nil
	}
}

func (p *Publisher) send(out []Outgoing) ([]*amqp.DeferredConfirmation, error) {
	confirms := make([]*amqp.DeferredConfirmation, 0, len(out))
	for i := range out {
		message := amqp.Publishing{
			ContentType:  contentType,
			DeliveryMode: amqp.Persistent,
			MessageId:    strconv.FormatUint(p.sent+1, 10), // a return brings it back and so says which it is
			UserId:       p.user,
			Body:         out[i].Body,
		}
		confirm, err := p.session.channel.PublishWithDeferredConfirm(p.exchange, out[i].Key, out[i].Mandatory, false, message)
		if err != nil {
			return confirms, p.session.because("publish", err)
		}
		p.sent++
		confirms = append(confirms, confirm)
	}
	return confirms, nil
}

// collect waits for the confirms, in order, and returns how many came before the first that did not.
func (p *Publisher) collect(confirms []*amqp.DeferredConfirmation) (int, error) {
	patience := time.NewTimer(confirmLimit)
	defer patience.Stop()
	for i, confirm := range confirms {
		if err := p.await(confirm, patience); err != nil {
			return i, err
		}
	}
	return len(confirms), nil
}

func (p *Publisher) await(confirm *amqp.DeferredConfirmation, patience *time.Timer) error {
	patience.Reset(confirmLimit)
	for {
		select {
		case <-confirm.Done():
			if confirm.Acked() {
				return nil
			}
			return p.refused()
		case <-p.session.over:
			if confirm.Acked() { // it came before the end
				return nil
			}
			return p.session.err
		case <-patience.C:
			if _, blocked := p.session.gate.state(); !blocked {
				return fmt.Errorf("%w within %s", ErrUnconfirmed, confirmLimit)
			}
			// A blocked broker has not read what we sent; its heartbeat still tells it from a dead one.
			if err := p.admitted(); err != nil {
				return err
			}
			patience.Reset(confirmLimit)
		}
	}
}

// refused is why a confirm was negative: the client library also says so of all that are open when a channel closes.
func (p *Publisher) refused() error {
	if p.session.channel.IsClosed() {
		<-p.session.over
		return p.session.err
	}
	return fmt.Errorf("%w: it refused the message", ErrUnconfirmed)
}

// returned takes what the broker returned, which precedes the confirm of the same message, and says which of the messages
// counted so far was the first of them, with the broker's words.
func (p *Publisher) returned(first uint64, counted int) (at int, reason string, ok bool) {
	at = counted
	for {
		select {
		case r, open := <-p.returns:
			if !open {
				return at, reason, ok
			}
			tag, err := strconv.ParseUint(r.MessageId, 10, 64)
			if i := int(tag - first); err == nil && tag >= first && i < at {
				at, reason, ok = i, r.ReplyText, true
			}
		default:
			return at, reason, ok
		}
	}
}

// Blocked says whether the broker takes no messages at present, and its reason. It is known from the first message on.
func (p *Publisher) Blocked() (reason string, blocked bool) { return p.session.gate.state() }

// Closed returns a channel that is closed when the session is over; Err then says why.
func (p *Publisher) Closed() <-chan struct{} { return p.session.over }

// Err is why the session is over, nil while it is not.
func (p *Publisher) Err() error { return p.session.reason() }

// Close ends the session within a few seconds, whatever the link does. Only a goodbye that failed is an error.
func (p *Publisher) Close() error { return p.session.close() }
