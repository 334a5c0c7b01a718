// Package servers runs real, private servers: Postgres, MariaDB and RabbitMQ for the tests, the demo and the benchmarks.
//
// A Set is started in parallel on free loopback ports in a temporary folder and is gone when its process is gone, however
// that process ended. Servers already running on the machine are never touched. The environment variables
// CDC_TEST_POSTGRES, CDC_TEST_MYSQL and CDC_TEST_AMQP (URLs, comma separated) name servers to use instead.
//
// Where a Spec asks for Clocks, each database server has a wall clock of its own, which a test sets wrong and lets jump
// (SetClock).
//
// Nothing here executes a file of the temporary folder, so it may be mounted noexec. As root, every server runs as the
// user nobody, because Postgres refuses root and the others have no need of it.
package servers
