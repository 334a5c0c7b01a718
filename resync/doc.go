// Package resync makes a branch's tables equal to the head's, and proves that they are: joining, healing, synchronising a
// table again, and verifying are one thing here, a pass over a table.
//
// The branch asks, the head answers (Server) with chunks that stand at a place of its stream, without locks and without
// keeping anything. The branch (Client) compares each chunk with its own rows while its apply of the stream stands at that
// place, so that nothing in flight looks like a difference. What it knows of a join is in its database, together with the
// rows: whatever crashes, it goes on where it was.
package resync
