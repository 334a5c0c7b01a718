package capture

import (
	"cmp"
	"slices"
	"time"

	"cdc-sidecar/schema"
)

// assembler makes transactions of what one database transaction did: it tells an application's work from an apply's, cuts
// what is large into parts, and one group of applies into the transactions that were applied. It is pure, and knows nothing
// of the log that it all came from.
type assembler struct {
	office schema.Office
	role   schema.Role

	out      []schema.Transaction // complete ones and parts
	outBytes int

	mode    assembly
	tx      schema.Transaction // being built
	size    int                // of tx's changes, schema.Change.Bytes
	commit  time.Time          // of the open database transaction
	seen    schema.Position    // of the open database transaction
	stamp   schema.Stamp       // the greatest that the open database transaction applied
	barrier uint64             // the mark that the open database transaction set
	xid     uint32             // of the open database transaction; 0: it has none
	joins   joining            // as the log has told it so far
	changes []schema.Change    // slab: tx.Changes is the tail of it that is in use
}

// assembly says whose work the open database transaction is. Its first change decides.
type assembly uint8

const (
	nobodys        assembly = iota // nothing came yet
	applications                   // to be sent as the office's own
	anotherOrigins                 // ours, at the head: a branch's transaction applied here, to be sent on as its origin's
	headsOwn                       // ours, at a branch: an apply, which only moves Seen
	anotherOffices                 // of another office that keeps its progress on this server: none of ours
)

// newAssembler begins with the tables that are being joined.
func newAssembler(office schema.Office, role schema.Role, joins []string) assembler {
	a := assembler{office: office, role: role}
	if role == schema.Branch {
		a.joins = newJoining(joins)
	}
	return a
}

// begin opens a database transaction.
func (a *assembler) begin(commit time.Time) {
	a.mode, a.commit, a.tx = nobodys, commit, schema.Transaction{}
	a.seen, a.stamp, a.barrier, a.xid = schema.Position{}, schema.Stamp{}, 0, 0
	a.joins.before = nil
}

// abandon forgets the open database transaction: it did not happen.
func (a *assembler) abandon() {
	a.joins.undo()
	a.tx = schema.Transaction{}
}

// wants settles whose work this is when a row comes that is not a progress row, and reports whether such rows are to be
// sent at all.
func (a *assembler) wants() bool {
	if a.mode == nobodys {
		a.mode = applications
		a.start(schema.Transaction{Origin: a.office, Commit: a.commit})
	}
	return a.mode == applications || a.mode == anotherOrigins
}

// whose does the same for a statement that changes a table where it is a transaction by itself: an apply says so in a comment.
func (a *assembler) whose(statement string) bool {
	office, origin, pos, stamp, ok := schema.ParseDDLTag(statement)
	if ok && a.mode == nobodys && !schema.Planted(schema.DefinitionIsOurs) {
		switch {
		case office != a.office:
			a.mode = anotherOffices
		case a.role == schema.Head:
			a.mode = anotherOrigins
			a.start(schema.Transaction{Origin: origin, OriginPos: pos, Stamp: stamp, Commit: a.commit})
		default:
			a.mode = headsOwn
		}
	}
	return a.wants()
}

// applied takes a row of the progress table in. As the first change of a transaction it says that the transaction is an
// apply: at a branch nothing of it is sent, at the head it is sent on as its origin's. Each further progress row of ours
// begins the next source transaction of the group that was committed together.
//
// A row of another office means that this database or server is, or was copied from, another office's, too: its apply is
// none of our application's doing, so it is not ours to send. Rows with seq 0 are administration: no apply, unless chunks were
// applied there, which a branch may have begun with, or a piece of the first transaction.
func (a *assembler) applied(p progressRow) {
	switch {
	case a.mode == applications, a.mode == anotherOffices, p.pos.Seq == 0 && p.part == 0 && (p.chunks == 0 || a.role == schema.Head):
	case p.office != a.office:
		if a.mode == nobodys {
			a.mode = anotherOffices
		}
	case a.role == schema.Head:
		if a.mode == anotherOrigins {
			a.finish("")
		}
		a.mode = anotherOrigins
		a.start(schema.Transaction{Origin: p.origin, OriginPos: p.pos, Stamp: p.stamp, Commit: p.commit})
	default:
		a.mode, a.seen, a.stamp = headsOwn, p.pos, a.stamp.Max(p.stamp)
		if p.waits > 0 { // what waits here has not been seen
			a.seen.Seq = min(a.seen.Seq, p.waits-1)
		}
		if schema.Planted(schema.SeenOffByOne) {
			a.seen.Seq++
		}
		if schema.Planted(schema.StampNotRaised) {
			a.stamp = schema.Stamp{}
		}
	}
}

// add appends a change, after wants.
func (a *assembler) add(c schema.Change) {
	if a.mode == applications && c.Op != schema.Define && a.joins.blind(c.Table.TableName) {
		c.Blind = true
	}
	n := c.Bytes()
	if a.size > 0 && a.size+n > partBytes {
		next := a.tx
		next.Part++
		a.give(a.tx)
		a.start(next)
	}
	if len(a.tx.Changes) == cap(a.tx.Changes) {
		a.tx.Changes = append(make([]schema.Change, 0, max(slabChanges, 2*len(a.tx.Changes))), a.tx.Changes...)
		a.changes = a.tx.Changes[:0]
	}
	a.tx.Changes = append(a.tx.Changes, c)
	a.size += n
}

// empty reports that nothing of the open database transaction has been given out or waits to be.
func (a *assembler) empty() bool {
	return a.mode == nobodys || a.mode == applications && a.tx.Part == 0 && len(a.tx.Changes) == 0
}

// end closes the database transaction; source is the place behind it.
func (a *assembler) end(source string) {
	if a.mode == anotherOrigins || a.mode == applications && !a.empty() {
		a.finish(source)
	} else {
		a.emit(schema.Transaction{Last: true, Seen: a.seen, Stamp: a.stamp, Barrier: a.barrier, Source: source})
	}
	a.xid, a.joins.before = 0, nil
}

// take hands out what is there.
func (a *assembler) take() []schema.Transaction {
	out := a.out
	a.out, a.outBytes = nil, 0
	return out
}

func (a *assembler) start(tx schema.Transaction) {
	a.tx, a.size = tx, 0
	a.tx.Changes = a.changes[:0]
}

// finish gives the last part out. Source is empty for all but the last transaction of a database transaction.
func (a *assembler) finish(source string) {
	if schema.Planted(schema.DefinitionBehindRows) {
		slices.SortStableFunc(a.tx.Changes, func(x, y schema.Change) int { return cmp.Compare(x.Op/schema.Define, y.Op/schema.Define) })
	}
	a.tx.Last, a.tx.Source = true, source
	a.give(a.tx)
	a.tx = schema.Transaction{}
}

func (a *assembler) give(tx schema.Transaction) {
	n := len(tx.Changes)
	tx.Changes = tx.Changes[:n:n]
	a.changes = a.changes[n:n] // the same slab goes on behind it
	a.emit(tx)
}

func (a *assembler) emit(tx schema.Transaction) {
	tx.XID = a.xid
	a.out = append(a.out, tx)
	a.outBytes += tx.Bytes()
}
