package clock

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
	"os"
	"slices"
	"sort"
	"sync"

	"cdc-sidecar/schema"
)

const (
	recordBytes = 16 + 4*8 + 2*2 + 1
	// bucketRows is about how many rows one look-up reads: 3.4 KB, one read.
	bucketRows = 64
	// bucketBits bounds the buckets of a run, at 12 bytes in memory each. Beyond 8 million rows the buckets grow instead.
	bucketBits = 17
	// bufferBytes is how much goes to a file in one write.
	bufferBytes = 256 << 10
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errDamaged = errors.New("the file is damaged")
)

// run is a file of records sorted by RowID, which does not change. RowIDs are hashes, so their first bits divide them evenly:
// all rows that begin alike are a bucket, and are read and checked as one. What is known of the buckets is in memory only:
// whoever takes a run over reads it once.
type run struct {
	file   *os.File
	rows   int
	newest uint64   // the greatest seq in it
	bits   int      // of a RowID that name its bucket
	starts []uint64 // record at which bucket i begins; one more for the end
	sums   []uint32 // CRC-32C of each bucket
	filter filter
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// find looks for a row; the zero entry: it is not there. A bucket that cannot be read, or reads otherwise than it was
// written, is an error and never "not there": a clock forgotten is a conflict lost.
func (r *run) find(row schema.RowID) (entry, error) {
	if !r.filter.has(row) {
		return entry{}, nil
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	if err := r.read(bucketOf(row, r.bits), buffer); err != nil {
		return entry{}, err
	}
	records := *buffer
	n := len(records) / recordBytes
	i := sort.Search(n, func(i int) bool { return bytes.Compare(records[i*recordBytes:][:16], row[:]) >= 0 })
	if i == n {
		return entry{}, nil
	}
	id, e := decode(records[i*recordBytes:])
	if id != row {
		return entry{}, nil
	}
	return e, nil
}

// read reads bucket b into the buffer.
func (r *run) read(b int, buffer *[]byte) error {
	from, to := r.starts[b]*recordBytes, r.starts[b+1]*recordBytes
	*buffer = slices.Grow((*buffer)[:0], int(to-from))[:to-from]
	_, err := r.file.ReadAt(*buffer, int64(from))
	if err == nil && crc32.Checksum(*buffer, castagnoli) != r.sums[b] {
		err = errDamaged
	}
	if err != nil {
		return fmt.Errorf("read row clocks, bytes %d to %d of %s: %w; a restart builds them again from the journal", from, to, r.file.Name(), err)
	}
	return nil
}

func (r *run) memory() int { return len(r.starts)*8 + len(r.sums)*4 + len(r.filter)*8 }

func (r *run) remove() error { return errors.Join(r.file.Close(), os.Remove(r.file.Name())) }

func bucketOf(row schema.RowID, bits int) int {
	return int(binary.BigEndian.Uint64(row[:8]) >> (64 - bits))
}

// runWriter writes a run. It must be ended by finish or abandon.
type runWriter struct {
	run
	out    *bufio.Writer
	bucket int
	record [recordBytes]byte
}

// newRun begins a run of at most so many rows.
func newRun(path string, rows int) (*runWriter, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a file of row clocks: %w", err)
	}
	width := min(bits.Len(uint(rows/bucketRows)), bucketBits)
	return &runWriter{run: emptyRun(file, rows, width), out: bufio.NewWriterSize(file, bufferBytes)}, nil
}

func emptyRun(file *os.File, rows, width int) run {
	return run{file: file, bits: width, starts: make([]uint64, 1<<width+1), sums: make([]uint32, 1<<width), filter: newFilter(rows)}
}

// add takes the next row; they come in order. An error of the disk shows in finish at the latest.
func (w *runWriter) add(row schema.RowID, e entry) error {
	encode(&w.record, row, e)
	w.note(row, e.last)
	_, err := w.out.Write(w.record[:])
	return err
}

// note takes the record into what is known of the buckets.
func (w *runWriter) note(row schema.RowID, last uint64) {
	w.endBuckets(bucketOf(row, w.bits))
	w.sums[w.bucket] = crc32.Update(w.sums[w.bucket], castagnoli, w.record[:])
	w.filter.add(row)
	w.rows++
	w.newest = max(w.newest, last)
}

func (w *runWriter) endBuckets(until int) {
	for ; w.bucket < until; w.bucket++ {
		w.starts[w.bucket+1] = uint64(w.rows)
	}
}

// finish ends what add began, whose outcome it is given: without an error there is a run, else there is no file.
func (w *runWriter) finish(err error) (*run, error) {
	w.endBuckets(len(w.sums))
	if err == nil {
		err = w.out.Flush()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write row clocks: %w", err), w.remove())
	}
	return &w.run, nil
}

func encode(b *[recordBytes]byte, row schema.RowID, e entry) {
	copy(b[:16], row[:])
	for i, v := range [...]uint64{e.last, e.lastStamp, e.other, e.otherStamp} {
		binary.LittleEndian.PutUint64(b[16+8*i:], v)
	}
	binary.LittleEndian.PutUint16(b[48:], e.lastOrigin)
	binary.LittleEndian.PutUint16(b[50:], e.otherOrigin)
	b[52] = 0
	if e.plain {
		b[52] |= 1
	}
	if e.gone {
		b[52] |= 2
	}
	if e.partial {
		b[52] |= 4
	}
}

func decode(b []byte) (schema.RowID, entry) {
	number := func(i int) uint64 { return binary.LittleEndian.Uint64(b[16+8*i:]) }
	return schema.RowID(b[:16]), entry{
		last: number(0), lastStamp: number(1), other: number(2), otherStamp: number(3),
		lastOrigin: binary.LittleEndian.Uint16(b[48:]), otherOrigin: binary.LittleEndian.Uint16(b[50:]), plain: b[52]&1 != 0, gone: b[52]&2 != 0, partial: b[52]&4 != 0,
	}
}
