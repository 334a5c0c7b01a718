package clock

import (
	"cmp"

	"cdc-sidecar/schema"
)

// Touch is one touch of a row.
type Touch struct {
	Seq    uint64 // of the office's own journal; 0: no touch at all
	Stamp  schema.Stamp
	Origin schema.Office
}

// Clock is what the index knows of a row.
type Clock struct {
	Last  Touch
	Plain bool  // Last is a plain (undecided) apply of Last.Origin
	Gone  bool  // Last left no row
	Other Touch // the last touch that was not a plain apply of Last.Origin (zero Seq: none)
}

// Against is the last touch that was not a plain apply of origin: what a change of origin is compared with. An office's own
// earlier changes that it has not had back yet are no conflict with its later ones.
func (c Clock) Against(origin schema.Office) Touch {
	if c.passes(origin) {
		return c.Other
	}
	return c.Last
}

// passes reports whether origin is not compared with Last, but with Other.
func (c Clock) passes(origin schema.Office) bool {
	own := c.Plain && c.Last.Origin == origin && !schema.Planted(schema.OwnChangesConflict)
	return own || schema.Planted(schema.ClockOfTheWrongSide)
}

// later is the later of two touches in the journal. Two of one transaction have one seq: then stamp and name decide, so that
// the answer does not depend on the order of asking.
func later(a, b Touch) Touch {
	order := cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Stamp.Packed(), b.Stamp.Packed()), cmp.Compare(a.Origin, b.Origin))
	if order < 0 {
		return b
	}
	return a
}

// entry is a Clock in 40 bytes, 56 with its RowID. Stamps are packed, offices are their places in Index.offices.
type entry struct {
	last, other             uint64
	lastStamp, otherStamp   uint64
	lastOrigin, otherOrigin uint16
	plain, gone             bool
	partial                 bool // other is what an older entry says, if there is one: see over
}

// touched is e after one more touch. The zero entry is that of a row of which nothing is known here; older files may know it.
func (e entry) touched(seq, stamp uint64, origin uint16, plain, gone bool) entry {
	if !plain || !e.plain || e.lastOrigin != origin {
		e.other, e.otherStamp, e.otherOrigin, e.partial = e.last, e.lastStamp, e.lastOrigin, e.last == 0
	}
	e.last, e.lastStamp, e.lastOrigin, e.plain, e.gone = seq, stamp, origin, plain, gone
	return e
}

// over is e with what an older entry of its row adds: the same as if e's touches had been made to the older one. While e is
// partial all of them were plain applies of one office (or there was but one), so the last of them tells as much as all.
func (e entry) over(older entry) entry {
	switch {
	case e.last == 0:
		return older
	case !e.partial:
		return e
	default:
		return older.touched(e.last, e.lastStamp, e.lastOrigin, e.plain, e.gone)
	}
}
