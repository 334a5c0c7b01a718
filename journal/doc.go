// Package journal is the office's outbox: every transaction that the database's log gave, in order, numbered, durable and
// ready to publish, until every office that it is for has applied it.
//
// Underneath is hashicorp/raft-wal: preallocated segments, one fsync for a batch, recovery of a torn tail. A record in it is
// one message as the broker will carry it, with what the journal has to remember at that place (record.go); so the last
// record says all there is to know, and there is no second file to disagree with.
package journal
