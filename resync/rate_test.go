package resync

import "testing"

// Under a limit, what is asked for at once comes to about a share of a second of it, whatever the rows weigh.
func TestShare(t *testing.T) {
	tests := map[string]struct {
		rows, bytes uint64 // the limits
		width       int    // bytes of a row
		pack        int    // of which one in so many is left on the line
		least, most int    // rows at once in the end
	}{
		"rows":                  {rows: 5000, width: 130, pack: 2, least: 450, most: 550},
		"bytes":                 {bytes: 200_000, width: 100, pack: 4, least: 750, most: 850},
		"the tighter":           {rows: 100_000, bytes: 100_000, width: 100, pack: 1, least: 90, most: 110},
		"no more than a chunk":  {rows: 1 << 30, width: 100, pack: 1, least: chunkBytes/100 - 1, most: chunkBytes / 100},
		"never next to nothing": {rows: 1, width: 100, pack: 1, least: leastShare/100 - 1, most: leastShare/100 + 1},
	}
	for name, test := range tests {
		p, share, rows := newPace(test.rows, test.bytes), uint64(firstShare), 0
		for range 20 {
			rows = int(share) / test.width
			share = p.share(share, rows, rows*test.width/test.pack)
		}
		if rows < test.least || rows > test.most {
			t.Errorf("%s: %d rows at once, want %d to %d", name, rows, test.least, test.most)
		}
		if p.share(share, 0, 0) < share {
			t.Errorf("%s: an empty answer makes the next request smaller", name)
		}
	}
}
