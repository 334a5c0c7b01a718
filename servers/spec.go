package servers

import (
	"errors"
	"io"
	"time"
)

// Kind names one of the three kinds of server.
type Kind string

// The kinds of server a Set can hold.
const (
	KindPostgres Kind = "postgres"
	KindMariaDB  Kind = "mariadb"
	KindRabbitMQ Kind = "rabbitmq"
)

// Spec says which servers a Set has; the zero value is an empty Set.
type Spec struct {
	Postgres int // how many Postgres servers
	MariaDB  int // how many MariaDB servers, or Oracle MySQL where MySQLVersion or the environment say so
	RabbitMQ int // how many RabbitMQ nodes, each a broker of its own

	// The versions, among those that Installed names: "postgres-17", "mariadb-11", "mysql-9". Empty: what the environment
	// variables CDC_POSTGRES and CDC_MYSQL name, or the machine's own.
	PostgresVersion, MySQLVersion string

	// Clocks gives each database server a wall clock of its own, for SetClock. It needs the library libfaketime.
	Clocks bool

	// Dir is the folder in which the Set makes its own, temporary folder; empty means the system's. When we are root,
	// the user nobody must be able to pass through it.
	Dir string

	// PostgresSettings, such as "fsync=off", are given to each Postgres after the built-in ones, and win.
	PostgresSettings []string
	// MariaDBOptions, such as "--sync-binlog=1", are given to each MariaDB after the built-in ones, and win.
	MariaDBOptions []string
	// RabbitMQSettings, such as "heartbeat = 5", are appended to each node's rabbitmq.conf.
	RabbitMQSettings []string

	// Log receives a line per server when it is ready; nil discards them.
	Log io.Writer
}

// ErrExternal is returned by Start, Stop and Kill of a server that an environment variable named: it is not ours to stop.
var ErrExternal = errors.New("server is external, named by an environment variable")

// startLimit bounds the start of one server. The slowest, RabbitMQ, takes seconds; a loaded machine multiplies that.
const startLimit = 2 * time.Minute

// portAttempts bounds how often a first start is tried again on new ports after a stranger took the chosen ones.
const portAttempts = 3

// pollEvery is the pause between two looks at a server that starts; servers have no signal for "ready" that all share.
const pollEvery = 25 * time.Millisecond

// probeLimit bounds one look; a server that is ready answers in milliseconds.
const probeLimit = 5 * time.Second
