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
	if schema.Planted(schema.ClockOfTheWrongSide) {
		return c.Other
	}
	if c.Plain && c.Last.Origin == origin && !schema.Planted(schema.OwnChangesConflict) {
		return c.Other
	}
	return c.Last
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
}

// touched is e after one more touch. The zero entry is that of a row nobody touched.
func (e entry) touched(seq, stamp uint64, origin uint16, plain, gone bool) entry {
	if !plain || !e.plain || e.lastOrigin != origin {
		e.other, e.otherStamp, e.otherOrigin = e.last, e.lastStamp, e.lastOrigin
	}
	e.last, e.lastStamp, e.lastOrigin, e.plain, e.gone = seq, stamp, origin, plain, gone
	return e
}
