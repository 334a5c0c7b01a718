package clock

import (
	"encoding/binary"
	"math/bits"

	"cdc-sidecar/schema"
)

const (
	// filterBits per row: one look-up in a hundred reads a run that does not have the row.
	filterBits = 10
	// filterBytes is the most that the filter of one run takes. Beyond 1.6 million rows in a run it errs more often, which costs
	// reads; without a bound it would cost memory for every row on disk.
	filterBytes = 2 << 20

	filterBlock  = 8 // words; one cache line
	filterProbes = 6
)

// filter is a Bloom filter in blocks: a look-up touches one cache line. A RowID is a hash already, so its bits are taken as
// they are.
type filter []uint64

func newFilter(rows int) filter {
	blocks := min(rows*filterBits/(64*filterBlock)+1, filterBytes/(8*filterBlock))
	return make(filter, blocks*filterBlock)
}

func (f filter) add(row schema.RowID) {
	block, probes := f.block(row)
	for range filterProbes {
		block[probes>>6&(filterBlock-1)] |= 1 << (probes & 63)
		probes >>= 9
	}
}

func (f filter) has(row schema.RowID) bool {
	block, probes := f.block(row)
	for range filterProbes {
		if block[probes>>6&(filterBlock-1)]&(1<<(probes&63)) == 0 {
			return false
		}
		probes >>= 9
	}
	return true
}

// block is the row's block, and the bits that choose in it, nine for each probe.
func (f filter) block(row schema.RowID) (block []uint64, probes uint64) {
	at, _ := bits.Mul64(binary.BigEndian.Uint64(row[8:]), uint64(len(f)/filterBlock))
	return f[at*filterBlock:][:filterBlock], binary.BigEndian.Uint64(row[:8])
}
