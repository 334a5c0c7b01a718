// Package broker carries messages between offices through RabbitMQ; nothing else in the house knows AMQP.
//
// The broker is transport, the journals are the record: a queue may be bounded, purged or deleted, the gap is noticed and
// sent again. What this package promises is smaller and strict: a message that Publish counts is on a quorum's disks in
// every queue it was routed to, and a delivery is acknowledged only after it was settled, on the session that brought it.
//
// Two durable topic exchanges, cdc.head (head → branches) and cdc.branch (branches → head), and for each office one queue,
// cdc.office.<name>: a quorum queue, because only those confirm after fsync; with a single active consumer, so that two
// sidecars never split a stream; bounded, and dropping its oldest message when full, so that an office that is away holds
// up nobody else. The head's queue gets everything on cdc.branch, a branch's queue stream.<StreamAll> and office.<name> of
// cdc.head.
//
// There is no reconnecting here. A Publisher or a Consumer is one session on one connection; whatever goes wrong ends it
// with an error, and the caller opens the next one. Publishing and consuming have a connection each, because a broker
// short of memory or disk stops reading from connections that publish.
package broker
