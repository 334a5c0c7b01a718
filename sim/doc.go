// Package sim runs a small company in one process, from one seed: the real journal, clocks, capture, peers and applier of every
// office, joined as the program joins them; databases, links and time are in memory. A run writes at random, breaks at random,
// comes to rest, and is then looked at by validators, which know what must hold of any run. All of it is tests.
//
// It is the second place, besides cmd, where the rooms meet.
package sim
