package broker

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cdc-sidecar/schema"
)

// DefaultQueueBytes bounds an office's queue in the broker where Config says nothing: enough for hours of an office's
// absence, and forty offices fit on a small disk. What is dropped beyond it comes again from the journal.
const DefaultQueueBytes = 512 << 20

// Config says where the broker is and who we are.
type Config struct {
	URL     string        // amqp://user:password@host:port/vhost, or amqps://; RabbitMQ's own query parameters work
	Office  schema.Office // ours
	Role    schema.Role   // ours
	Program string        // the program's version, shown in the broker's list of connections

	// QueueBytes bounds our queue at the broker; zero means DefaultQueueBytes. Changing it later means deleting the queue.
	QueueBytes int64

	leaderless time.Duration // for tests: instead of leaderLimit
}

// User is the broker user that we log in as; the broker vouches for it in every message that we send. It is empty when
// a client certificate logs us in and the URL does not repeat its user.
func (c Config) User() string {
	u, err := url.Parse(c.URL)
	if err != nil {
		return ""
	}
	if u.User.Username() == "" && !external(u) {
		return "guest" // the client's default
	}
	return u.User.Username()
}

// Strict says whether the broker tells offices apart: our user is our office's name, so every office is taken to have its
// own, and a message whose user is not its sender is refused. Otherwise offices share one user, and can speak for another.
func Strict(c Config) bool { return c.User() == string(c.Office) }

// String names the broker for people: user@host:port/vhost, without the password.
func (c Config) String() string {
	u, err := amqp.ParseURI(c.URL)
	if err != nil {
		return "the broker"
	}
	return c.User() + "@" + net.JoinHostPort(u.Host, strconv.Itoa(u.Port)) + "/" + strings.TrimPrefix(u.Vhost, "/")
}

// check refuses what could never work. The URL is not repeated in an error: it holds a password.
func (c Config) check() error {
	refuse := func(what, remedy string) error {
		return &schema.RefusedError{What: "broker URL: " + what, Remedy: remedy}
	}
	u, err := amqp.ParseURI(c.URL)
	if err != nil {
		return refuse("not an AMQP URL", "write amqp://user:password@host:5672/vhost, special characters of the password percent-encoded")
	}
	if q, err := url.Parse(c.URL); err == nil && q.Query().Get("heartbeat") == "0" {
		return refuse("heartbeat=0 would leave a dead link unnoticed", "remove heartbeat=0")
	}
	if u.Vhost == "" || c.Office == "" || (c.Role != schema.Head && c.Role != schema.Branch) {
		return errors.New("broker: the configuration wants a URL, an office and a role")
	}
	return nil
}

func external(u *url.URL) bool {
	for _, mechanism := range u.Query()["auth_mechanism"] {
		if strings.EqualFold(mechanism, "EXTERNAL") {
			return true
		}
	}
	return false
}

// The exchanges, by who publishes to them.
const (
	headExchange   = "cdc.head"
	branchExchange = "cdc.branch"
)

// sends is the exchange that we publish to; hears the one that our queue is bound to.
func (c Config) sends() string {
	if c.Role == schema.Head {
		return headExchange
	}
	return branchExchange
}

func (c Config) hears() string {
	if c.Role == schema.Head {
		return branchExchange
	}
	return headExchange
}

// StreamKey is the routing key of a stream's messages.
func StreamKey(stream string) string { return "stream." + stream }

// OfficeKey is the routing key of messages to one office.
func OfficeKey(office schema.Office) string { return "office." + string(office) }

// Queue is the name of an office's queue.
func Queue(office schema.Office) string { return "cdc.office." + string(office) }

// bindings are the routing keys that our queue wants.
func (c Config) bindings() []string {
	if c.Role == schema.Head {
		return []string{"#"}
	}
	return []string{StreamKey(schema.StreamAll), OfficeKey(c.Office)}
}
