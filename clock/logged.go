package clock

import "cdc-sidecar/schema"

// loggedKept is how many transactions' numbers are kept: of those that commit while one waits for a slow standby, and far more
// than there are connections, each of which waits with one.
const loggedKept = 1 << 16

// logged are the numbers that Postgres gave the last transactions of the log, a ring. Their places in it tell apart what a
// transaction that nobody sees yet is: one that is open, or one that is in the log already and waits for a standby.
type logged struct {
	ring []loggedXID
	next int
	// before is the greatest seq of which a number may be missing: it was let go, or a former life had it.
	before uint64
}

type loggedXID struct {
	seq uint64 // of its first part
	xid uint32
}

func (l *logged) add(seq uint64, xid uint32) {
	switch n := len(l.ring); {
	case n == 0:
		l.ring = append(l.ring, loggedXID{seq, xid})
	case l.ring[(l.next+n-1)%n].xid == xid: // a further part
	case n < loggedKept:
		l.ring = append(l.ring, loggedXID{seq, xid})
	default:
		l.before = max(l.before, l.ring[l.next].seq)
		l.ring[l.next] = loggedXID{seq, xid}
		l.next = (l.next + 1) % n
	}
}

// noteLogged takes the numbers of what was appended to the journal, before anybody can know by Last that they are there.
func (f *Follower) noteLogged(txs []schema.Transaction) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range txs {
		if tx := &txs[i]; tx.XID != 0 && !tx.Silent() {
			f.logged.add(tx.Pos.Seq, tx.XID)
		}
	}
}

// Logged are the numbers that Postgres gave the transactions behind from, to and with the seq to, in any order; whole: there are
// no others. It is not whole where a former life took some of them, or where there are too many.
func (f *Follower) Logged(from, to uint64) (xids []uint32, whole bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.logged.ring {
		if l.seq > from && l.seq <= to {
			xids = append(xids, l.xid)
		}
	}
	return xids, from >= f.logged.before
}
