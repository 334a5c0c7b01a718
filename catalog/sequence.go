package catalog

import (
	"math"
	"slices"

	"cdc-sidecar/schema"
)

// Sequence is where a column's value comes from when an insert does not say it: a serial's or identity's sequence, a
// default of nextval('…'), MySQL's AUTO_INCREMENT.
type Sequence struct {
	Column int // index in Table.Columns
	// Name is Postgres' sequence, quoted and with its schema. Empty for AUTO_INCREMENT: that counter is the table's own, it
	// follows greater values that are inserted, and its increment is the server's.
	Name string
	// Increment is from one value to the next; negative of a sequence that counts down, 0 for AUTO_INCREMENT.
	Increment int64
	// Class is the remainder, from 0 to Increment-1, of every value that the sequence gives, divided by Increment.
	Class int64
	Min   int64
	Max   int64 // the greatest value that both the sequence and the column can have
	Cycle bool  // after Max comes Min again
	// Cached says that sessions take values in advance, which nobody can take back.
	Cached bool
	// Settable says that our user may read the sequence and move it on.
	Settable bool
}

// Sequence is the sequence of a column, nil when it has none.
func (t *Table) Sequence(column int) *Sequence {
	for i := range t.Sequences {
		if t.Sequences[i].Column == column {
			return &t.Sequences[i]
		}
	}
	return nil
}

// GeneratedKeys are the sequences of columns that are part of a key (the primary one or another unique one): two offices
// that insert may give the same key to different rows.
func (t *Table) GeneratedKeys() []*Sequence {
	var all []*Sequence
	for i := range t.Sequences {
		has := func(key []int) bool { return slices.Contains(key, t.Sequences[i].Column) }
		if has(t.Key) || slices.ContainsFunc(t.Unique, has) {
			all = append(all, &t.Sequences[i])
		}
	}
	return all
}

// Remainder is the remainder, from 0 to m-1, of n divided by m, also of a negative n; 0 where m is below 1.
func Remainder(n, m int64) int64 {
	if m < 1 {
		return 0
	}
	return (n%m + m) % m
}

// greatest is the greatest integer that a column holds, as far as 64 bits with a sign can say it.
func greatest(c *schema.Column) int64 {
	bits := c.Size
	if !c.Unsigned {
		bits--
	}
	if c.Kind != schema.KindInt || bits < 1 || bits > 62 {
		return math.MaxInt64
	}
	return int64(1)<<bits - 1
}
