// Package clock knows of each row of the retained journal who touched it last: at the head these are the row clocks that a
// branch's change is compared with, at a branch they are the hold set.
//
// All of it is an index over the journal and can be built by reading it, so nothing here is synced to the disk. An orderly end
// keeps the index for the next start, which takes it over when it fits the journal and reads as it was written; else it is built
// again. It is bounded: Options.Rows rows are in memory, the others in files.
package clock
