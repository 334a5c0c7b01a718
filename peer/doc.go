// Package peer is what this office and the others know of one another: membership, the chain of each stream, gaps and
// resends, acknowledgements, and what the journal may therefore let go.
//
// The head's peers are its branches, a branch's only peer is the head. Two corridors run through here: Ship takes the
// journal's entries, the resends that others asked for and our control messages to the broker, all in one order; Receive
// takes what the broker delivers, keeps each sender's chain, and hands whole transactions to apply. Nothing in here knows
// AMQP or SQL; what it needs of other rooms it declares as small interfaces, so that a simulation can run it whole.
package peer
