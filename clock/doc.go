// Package clock knows of each row of the retained journal who touched it last: at the head these are the row clocks that a
// branch's change is compared with, at a branch they are the hold set.
//
// All of it is an index over the journal and is built by reading it at start, so nothing here is synced to the disk and
// nothing is kept from one life to the next. It is bounded: Options.Rows rows are in memory, the others in files.
package clock
