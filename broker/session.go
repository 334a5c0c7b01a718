package broker

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// closeLimit bounds a polite goodbye; then the socket is closed under the client library. It leaves room within the
	// ten seconds in which a stopped sidecar has to be gone.
	closeLimit = 3 * time.Second
	// answerLimit bounds the wait for the answer to a request. A broker that is up answers within milliseconds, but a queue
	// without a leader leaves a request unanswered for ever, on a link that is well.
	answerLimit = 60 * time.Second
	// notices is how many of the broker's notices may wait for our watcher, which only ever moves them on: the client
	// library drops one that nobody takes for five seconds.
	notices = 16
)

// session is one connection with one channel, until the first thing that goes wrong.
type session struct {
	cfg     Config
	conn    *amqp.Connection
	channel *amqp.Channel
	socket  net.Conn
	gate    *gate

	over chan struct{} // closed at the end
	once sync.Once
	err  error // why it ended; read after over
}

// connect opens a session. The context bounds the opening only.
func connect(ctx context.Context, cfg Config, purpose string) (*session, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &session{cfg: cfg, gate: newGate(), over: make(chan struct{})}
	config, err := cfg.client(purpose)
	if err != nil {
		return nil, err
	}
	// When the context ends during the handshake, the socket is closed under it.
	stop := func() bool { return true }
	defer func() { stop() }()
	config.Dial = func(network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil {
			s.socket = conn
			stop = context.AfterFunc(ctx, s.kill)
		}
		return conn, err
	}
	if s.conn, err = amqp.DialConfig(cfg.URL, config); err == nil {
		s.channel, err = s.conn.Channel()
	}
	if err != nil {
		s.kill() // a failed handshake leaves it open
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, cfg.explain("connect", err)
	}
	s.watch()
	return s, nil
}

// client is how we present ourselves. Recovery stays off: it reuses channels, so that a late acknowledgement would hit
// another message, and it gives up.
func (c Config) client(purpose string) (amqp.Config, error) {
	properties := amqp.Table{
		"product":         "cdc-sidecar",
		"version":         c.Program,
		"connection_name": fmt.Sprintf("cdc-sidecar %s %s", c.Office, purpose),
	}
	u, err := amqp.ParseURI(c.URL)
	if err != nil {
		return amqp.Config{}, c.check()
	}
	config := amqp.Config{Properties: properties, ChannelMax: 16}
	if len(u.AuthMechanism) == 0 {
		config.SASL = []amqp.Authentication{&login{*u.PlainAuth(), properties}}
	}
	return config, nil
}

// login is PLAIN, and asks the broker to say so when it refuses. Otherwise it would just close the socket, and a wrong
// password would look like a link that broke during the handshake. The client library writes the capabilities itself, and
// asks for the response only then.
type login struct {
	amqp.PlainAuth
	properties amqp.Table
}

func (l *login) Response() string {
	if capabilities, ok := l.properties["capabilities"].(amqp.Table); ok {
		capabilities["authentication_failure_close"] = true
	}
	return l.PlainAuth.Response()
}

// watch moves the broker's notices on until the client library closes its channels, which it does at the session's end.
func (s *session) watch() {
	connection := s.conn.NotifyClose(make(chan *amqp.Error, 1))
	channel := s.channel.NotifyClose(make(chan *amqp.Error, 1))
	blocked := s.conn.NotifyBlocked(make(chan amqp.Blocking, notices))
	go func() {
		for blocked != nil {
			select {
			case reason := <-connection:
				s.closed(reason)
				return
			case reason := <-channel:
				s.closed(reason)
				return
			case b, ok := <-blocked:
				if !ok {
					blocked = nil
					break
				}
				s.gate.set(b.Active, b.Reason)
			}
		}
		// The connection is gone; its reason was announced before.
		s.closed(<-connection)
	}()
}

func (s *session) closed(reason *amqp.Error) {
	if reason == nil {
		_ = s.end(ErrClosed)
		return
	}
	_ = s.end(s.cfg.explain("session ended", reason))
}

// end ends the session for this reason, unless it had ended before, and returns the reason that counts.
func (s *session) end(err error) error {
	s.once.Do(func() {
		s.err = err
		close(s.over)
		s.kill()
	})
	<-s.over
	return s.err
}

// reason is why the session is over, nil while it is not.
func (s *session) reason() error {
	select {
	case <-s.over:
		return s.err
	default:
		return nil
	}
}

// because is the reason of a failed operation: of a channel that is closed, the client library knows nothing more, but its
// notice does, which always comes.
func (s *session) because(operation string, err error) error {
	if s.channel.IsClosed() {
		<-s.over
		return s.err
	}
	return s.cfg.explain(operation, err)
}

// kill closes the socket, which frees everything that the client library may hang in.
func (s *session) kill() {
	if s.socket != nil {
		_ = s.socket.Close()
	}
}

// hurry lets what is under way take closeLimit longer.
func (s *session) hurry() { time.AfterFunc(closeLimit, s.kill) }

// close says goodbye within closeLimit and never hangs: a sick link's socket is closed under the goodbye.
func (s *session) close() error {
	late := time.AfterFunc(closeLimit, s.kill)
	defer late.Stop()
	var err error
	select {
	case <-s.over: // nobody to say goodbye to
	default:
		err = s.conn.CloseDeadline(time.Now().Add(closeLimit))
	}
	_ = s.end(ErrClosed)
	// Also after a broken link: it waits for the client library's own goroutines to let go of their locks.
	_ = s.conn.CloseDeadline(time.Now())
	if err != nil {
		return s.cfg.explain("close", err)
	}
	return nil
}

// ask runs requests on a channel of their own: the broker closes a channel on the first thing that it refuses.
func (s *session) ask(f func(*amqp.Channel) error) error {
	return s.answer(answerLimit, func() error {
		channel, err := s.conn.Channel()
		if err != nil {
			return err
		}
		if err := f(channel); err != nil {
			return err // when the channel still lives, the session's end ends it
		}
		return channel.Close()
	})
}

// answer runs requests, and ends the session when they are not answered in time: the client library waits without limit.
func (s *session) answer(limit time.Duration, f func() error) error {
	late := time.AfterFunc(limit, func() { _ = s.end(fmt.Errorf("%w for %s", ErrUnanswered, limit)) })
	defer late.Stop()
	err := f()
	if over := s.reason(); err != nil && over != nil {
		return over
	}
	return err
}
