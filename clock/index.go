package clock

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"cdc-sidecar/schema"
)

const (
	// DefaultRows is how many rows are in memory before they go to disk: as many as fit into 15 MB of slots, a power of two.
	DefaultRows = 3 << 16
	// maxOffices is what two bytes name, less the zero.
	maxOffices = math.MaxUint16

	extension = ".run"
)

// Options say what the index may take.
type Options struct {
	Rows    int    // rows in memory before they go to disk; 0: DefaultRows
	Program string // and its version: what one kept no other takes over
}

// Index is an open index. One goroutine at a time touches (others wait), any number read. Readers do not wait for a file to be
// written or merged; they share with the writer only a lock that is held for one touch, or for one look-up.
type Index struct {
	dir   string
	limit int

	released atomic.Uint64

	// writing is held by whoever changes what the index has: whoever has it may read all below without mu.
	writing sync.Mutex
	files   int    // made so far
	newest  uint64 // the greatest seq of a touch
	taken   uint64 // seq of the last transaction
	closed  uint64 // the last that cannot come again

	mu      sync.RWMutex
	dead    error // why the index is of no use any more
	rows    rows
	runs    []*run // newest first
	tables  map[schema.TableName]tableClock
	offices []schema.Office // by number; number 0 is nobody
	numbers map[schema.Office]uint16
}

// Stats is what the index takes.
type Stats struct {
	Rows      int   // at most so many; a row that is in memory and on disk counts twice
	Bytes     int64 // in memory, about
	DiskBytes int64
	Runs      int // files
}

// Open makes an empty index in dir, which it makes when it is missing. Files that a former life left there are removed.
func Open(dir string, o Options) (*Index, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the row clocks: %w", err)
	}
	if err := sweep(dir, nil); err != nil {
		return nil, err
	}
	return empty(dir, o), nil
}

func empty(dir string, o Options) *Index {
	if o.Rows == 0 {
		o.Rows = DefaultRows
	}
	return &Index{
		dir: dir, limit: o.Rows,
		rows: newRows(0), tables: map[schema.TableName]tableClock{},
		offices: []schema.Office{""}, numbers: map[schema.Office]uint16{"": 0},
	}
}

// sweep removes what a former life left in dir, but for some files; what is not ours stays.
func sweep(dir string, but []string) error {
	left, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for old row clocks: %w", err)
	}
	for _, f := range left {
		ours := f.Name() == manifest || filepath.Ext(f.Name()) == extension
		if !ours || slices.Contains(but, f.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
			return fmt.Errorf("remove old row clocks: %w", err)
		}
	}
	return nil
}

// Touch records a touch of a row (of Table.RowID, or TableName.TableID for a truncate), in the order of the journal. After an
// error the index answers nothing but errors: open it anew.
func (x *Index) Touch(row schema.RowID, t Touch, plain bool) error {
	x.writing.Lock()
	defer x.writing.Unlock()
	return x.touch(row, t, plain, false)
}

func (x *Index) touch(row schema.RowID, t Touch, plain, gone bool) error {
	if x.dead != nil {
		return x.dead
	}
	if t.Seq <= x.closed {
		return x.fail(fmt.Errorf("row clocks: a touch at %d comes behind what ended at %d; take the journal in its order, from its first seq", t.Seq, x.closed))
	}
	origin, err := x.number(t.Origin)
	if err != nil {
		return x.fail(err)
	}
	x.newest = max(x.newest, t.Seq)
	x.mu.Lock()
	s := x.rows.claim(row) // what files have of the row is looked up when somebody asks for it
	s.entry = s.touched(t.Seq, t.Stamp.Packed(), origin, plain, gone)
	x.mu.Unlock()
	if x.rows.used >= min(x.limit, x.rows.room()) {
		return x.fail(x.makeRoom())
	}
	return nil
}

// fail makes the index useless: a touch that is missing would lose a conflict.
func (x *Index) fail(err error) error {
	if err != nil {
		x.mu.Lock()
		x.dead = err
		x.mu.Unlock()
	}
	return err
}

// number is the short name of an office.
func (x *Index) number(office schema.Office) (uint16, error) {
	if n, ok := x.numbers[office]; ok {
		return n, nil
	}
	n := len(x.offices)
	if n > maxOffices {
		return 0, fmt.Errorf("row clocks: office %s is one more than the %d that can be told apart; restart the sidecar: offices of the past are forgotten", office, maxOffices)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.offices = append(x.offices, office)
	x.numbers[office] = uint16(n)
	return uint16(n), nil
}

// find looks for a row where it is newest, in memory, then from the newest run to the oldest, and tells the runs that are older
// still; of a row that nothing retained touched it is the zero entry.
func (x *Index) find(row schema.RowID) (e entry, older []*run, err error) {
	if s := x.rows.find(row); s.last != 0 {
		return s.entry, x.runs, nil
	}
	for i, r := range x.runs {
		if e, err := r.find(row); e.last != 0 || err != nil {
			return e, x.runs[i+1:], err
		}
	}
	return entry{}, nil, nil
}

// complete adds what older runs have of the row, where its entry is partial.
func (e entry) complete(row schema.RowID, older []*run) (entry, error) {
	for _, r := range older {
		if !e.partial {
			break
		}
		was, err := r.find(row)
		if err != nil {
			return e, err
		}
		e = e.over(was)
	}
	return e, nil
}

// Row is the clock of a row, or of a table by its TableID; false when nothing retained touched it. A row's clock does not know
// of truncates: Against does.
func (x *Index) Row(row schema.RowID) (Clock, bool, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	c, err := x.clock(row, func(Clock) bool { return true })
	return c, c.Last.Seq != 0, err
}

// last is a row's clock without Other, which takes longer to find.
func (x *Index) last(row schema.RowID) (Clock, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.clock(row, func(Clock) bool { return false })
}

// clock is a row's clock; its Other is right only where it is wanted, which the rest of the clock decides.
func (x *Index) clock(row schema.RowID, other func(Clock) bool) (Clock, error) {
	if x.dead != nil {
		return Clock{}, x.dead
	}
	e, older, err := x.find(row)
	if e.last == 0 || err != nil {
		return Clock{}, err
	}
	c := x.clockOf(e)
	if !e.partial || !other(c) {
		return c, nil
	}
	e, err = e.complete(row, older)
	return x.clockOf(e), err
}

func (x *Index) clockOf(e entry) Clock {
	return Clock{
		Last:  Touch{Seq: e.last, Stamp: schema.UnpackStamp(e.lastStamp), Origin: x.offices[e.lastOrigin]},
		Plain: e.plain,
		Gone:  e.gone,
		Other: Touch{Seq: e.other, Stamp: schema.UnpackStamp(e.otherStamp), Origin: x.offices[e.otherOrigin]},
	}
}

// Against is the last touch of the row, a truncate of its table being one, that was not a plain apply of origin; zero Seq: none.
func (x *Index) Against(table schema.TableName, row schema.RowID, origin schema.Office) (Touch, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	other := func(c Clock) bool { return c.passes(origin) }
	own, err := x.clock(row, other)
	if err != nil {
		return Touch{}, err
	}
	truncate, err := x.clock(table.TableID(), other)
	return later(own.Against(origin), truncate.Against(origin)), err
}

// Release says that touches up to seq can no longer conflict with anything: rows whose last touch is one of them may be
// forgotten, at once or later. It costs next to nothing, and does not wait for a writer.
func (x *Index) Release(seq uint64) error {
	for was := x.released.Load(); was < seq; was = x.released.Load() {
		if x.released.CompareAndSwap(was, seq) {
			break
		}
	}
	if !x.writing.TryLock() {
		return nil // the writer, or the next Release, does the rest
	}
	defer x.writing.Unlock()
	if x.newest <= x.released.Load() && x.rows.used > 0 {
		x.mu.Lock()
		if len(x.rows.slots) == leastSlots {
			x.rows.clear()
		} else {
			x.rows = newRows(0)
		}
		x.mu.Unlock()
	}
	return x.dropRuns()
}

// makeRoom forgets what is released. What is left stays in memory while it is at most half of what may be there; else it goes to
// disk.
func (x *Index) makeRoom() error {
	released, left := x.released.Load(), 0
	for range x.rows.after(released) {
		left++
	}
	if left > x.limit/2 {
		return x.spill(x.rows.sortedAfter(released))
	}
	kept := newRows(2 * left)
	for s := range x.rows.after(released) {
		kept.claim(s.row).entry = s.entry
	}
	x.mu.Lock()
	x.rows = kept
	x.mu.Unlock()
	return nil
}

func (x *Index) spill(sorted []*slot) error {
	written, err := x.write(sorted)
	if err != nil {
		return err
	}
	if err := x.replace(0, written); err != nil {
		return err
	}
	if err := x.dropRuns(); err != nil || len(x.runs) <= maxRuns {
		return err
	}
	return x.merge()
}

// write makes a run of rows in memory.
func (x *Index) write(sorted []*slot) (*run, error) {
	w, err := newRun(x.path(), len(sorted))
	if err != nil {
		return nil, err
	}
	for _, s := range sorted {
		if err = w.add(s.row, s.entry); err != nil {
			break
		}
	}
	return w.finish(err)
}

// replace puts a run in the place of the n newest; of none: of what is in memory.
func (x *Index) replace(n int, r *run) error {
	old := x.runs[:n]
	x.mu.Lock()
	x.runs = append([]*run{r}, x.runs[n:]...)
	if n == 0 {
		x.rows.clear() // and not a new table: this one has room for as many again
	}
	x.mu.Unlock()
	return removeRuns(old)
}

// dropRuns removes runs of which all is released. What an older run has of the same rows is older still, and so does no harm.
func (x *Index) dropRuns() error {
	released := x.released.Load()
	over := func(r *run) bool { return r.newest <= released }
	if !slices.ContainsFunc(x.runs, over) {
		return nil
	}
	var keep, drop []*run
	for _, r := range x.runs {
		if over(r) {
			drop = append(drop, r)
		} else {
			keep = append(keep, r)
		}
	}
	x.mu.Lock()
	x.runs = keep
	x.mu.Unlock()
	return removeRuns(drop)
}

func removeRuns(runs []*run) error {
	var failed error
	for _, r := range runs {
		if err := r.remove(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("remove row clocks: %w", err))
		}
	}
	return failed
}

func (x *Index) path() string {
	x.files++
	return filepath.Join(x.dir, fmt.Sprintf("%08d%s", x.files, extension))
}

// Stats is what the index takes at this moment.
func (x *Index) Stats() Stats {
	x.mu.RLock()
	defer x.mu.RUnlock()
	s := Stats{Rows: x.rows.used, Bytes: int64(len(x.rows.slots)) * slotBytes, Runs: len(x.runs)}
	for _, r := range x.runs {
		s.Rows += r.rows
		s.Bytes += int64(r.memory())
		s.DiskBytes += int64(r.rows) * recordBytes
	}
	return s
}

// Err is why the index is of no use any more, nil while it is.
func (x *Index) Err() error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.dead
}

// Close ends the index and removes its files.
func (x *Index) Close() error {
	x.writing.Lock()
	defer x.writing.Unlock()
	return removeRuns(x.end())
}

// end makes the index answer nothing any more. Its files are the caller's.
func (x *Index) end() []*run {
	x.mu.Lock()
	defer x.mu.Unlock()
	runs := x.runs
	x.dead, x.rows, x.runs = errors.New("the row clocks are closed"), newRows(0), nil
	return runs
}
