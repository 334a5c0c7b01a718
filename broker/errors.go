package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"cdc-sidecar/schema"
)

var (
	// ErrUnroutable says that nobody's queue is bound to where a mandatory message went: it is nowhere. The session goes
	// on; the message is for a later call.
	ErrUnroutable = errors.New("no queue is bound for it")
	// ErrUnconfirmed says that the broker refused to confirm a message, or did not in time: it may or may not be there.
	ErrUnconfirmed = errors.New("not confirmed by the broker")
	// ErrCancelled says that the broker ended our subscription: the queue was deleted, or failed over.
	ErrCancelled = errors.New("the broker cancelled the subscription: its queue was deleted or moved")
	// ErrBlocked says that the broker, short of memory or disk, stopped reading from a connection that must not be stopped.
	ErrBlocked = errors.New("the broker blocks this connection")
	// ErrUnanswered says that the broker, on a link that is well, does not answer a request.
	ErrUnanswered = errors.New("the broker does not answer")
	// ErrClosed says that the session is over.
	ErrClosed = errors.New("the session is over")
)

// explain gives an error of the client library its operation, and makes what the broker refuses for good a
// *schema.RefusedError with its remedy. Everything else stays as it is, to be tried again.
func (c Config) explain(operation string, err error) error {
	if err == nil {
		return nil
	}
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		return &schema.RefusedError{
			What: "broker " + c.String() + " shows a certificate that we do not trust", Cause: err,
			Remedy: "name its authority in the broker URL: ?cacertfile=/path/to/ca.pem",
		}
	}
	var reply *amqp.Error
	if errors.As(err, &reply) && reply.Server {
		if what, remedy := c.refusal(reply); what != "" {
			return &schema.RefusedError{What: what, Cause: err, Remedy: remedy}
		}
	}
	if errors.Is(err, amqp.ErrCredentials) || errors.Is(err, amqp.ErrVhost) {
		// The client library's guess, when the other side says nothing: ours does say when it refuses.
		err = errors.New("the connection was closed during the login")
	}
	return fmt.Errorf("broker %s: %s: %w", c, operation, err)
}

// refusal says what a reply of the broker refuses, and the remedy; "" when trying again may help. The broker has one code
// for several things and tells them apart in words that have not changed since its first releases.
func (c Config) refusal(reply *amqp.Error) (what, remedy string) {
	switch {
	case reply.Code == amqp.AccessRefused && strings.Contains(reply.Reason, "Login was refused"):
		return "broker refuses the login of " + c.String(),
			fmt.Sprintf("correct the user or the password in the broker URL, or: rabbitmqctl change_password %s ...", c.User())
	case reply.Code == amqp.AccessRefused:
		return "broker refuses a permission to " + c.String(), c.grant()
	case reply.Code == amqp.NotAllowed && strings.Contains(reply.Reason, "not found"):
		return "broker has no virtual host " + c.vhost() + " for " + c.String(),
			fmt.Sprintf("rabbitmqctl add_vhost %s && %s", c.vhost(), c.grant())
	case reply.Code == amqp.NotAllowed && strings.Contains(reply.Reason, "refused for user") && !strings.Contains(reply.Reason, "down"):
		return "broker refuses virtual host " + c.vhost() + " to " + c.String(), c.grant()
	}
	return "", ""
}

// grant is the command that gives our user what this office needs, and nothing else. Binding a queue is writing to it and
// reading from the exchange. The head may also delete the queues of offices that it removes.
func (c Config) grant() string { return c.grantTo(c.User()) }

func (c Config) grantTo(user string) string {
	queue := strings.ReplaceAll(Queue(c.Office), ".", `\.`)
	configure := `^(cdc\.(head|branch)|` + queue + `(\.session)?)$`
	if c.Role == schema.Head {
		configure = `^cdc\.`
	}
	exchange := func(name string) string { return "^(" + strings.ReplaceAll(name, ".", `\.`) + "|" + queue + ")$" }
	return fmt.Sprintf("rabbitmqctl set_permissions -p %s %s '%s' '%s' '%s'",
		c.vhost(), user, configure, exchange(c.sends()), exchange(c.hears()))
}

func (c Config) vhost() string {
	u, err := amqp.ParseURI(c.URL)
	if err != nil {
		return ""
	}
	return u.Vhost
}

// replied says whether the broker answered with this code.
func replied(err error, code int) bool {
	var reply *amqp.Error
	return errors.As(err, &reply) && reply.Server && reply.Code == code
}
