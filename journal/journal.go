package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"cdc-sidecar/schema"
)

const (
	// DefaultBudget holds the changes of a branch's long outage, on a volume that people still give away readily.
	DefaultBudget = 10 << 30
	// segmentBytes is the size of one file: what is released goes in files.
	segmentBytes = 16 << 20
	// storeBytes is how much goes to the log in one write: a caller's batch may be larger than what should be in memory twice.
	storeBytes = 4 << 20
)

// Options say whose journal it is, and what it may take.
type Options struct {
	Office schema.Office
	Budget int64 // bytes; 0: DefaultBudget
	// After is an epoch of a former life: a journal that is made now has a greater one, whatever the clock says.
	After uint64
	Log   *slog.Logger
	Now   func() time.Time // tests; nil: time.Now
	Disk  *MemoryDisk      // simulations; nil: the real disk

	vfs     types.VFS // tests; nil: the system's files
	segment int       // tests; bytes of a file, 0: segmentBytes, of a MemoryDisk memorySegmentBytes
}

// Journal is an open journal. One goroutine appends; any number read and release.
type Journal struct {
	dir     string
	options Options
	volume  volume
	log     *wal.WAL

	appending sync.Mutex // held by Append and Resume
	pack      packer
	index     uint64 // of the last record
	write     uint64 // that brought it

	// reach is held by whoever reads, and wholly by whoever takes something away from under them: Release and Close.
	reach sync.RWMutex

	mu        sync.Mutex
	dead      error // after a failed write nothing is known of the disk
	closed    head  // at the last closed record: what State tells
	closedAt  uint64
	first     uint64 // index of the first record held
	firstSeq  uint64
	before    uint64 // total before the first record held
	grown     chan struct{}
	published uint64
	writtenAt time.Time
}

// State is what the journal has.
type State struct {
	Epoch        uint64
	First        uint64 // the first seq still held; Last+1 when none is
	Last         uint64 // the last that is durable, complete and may be published
	Source       string
	Seen         schema.Position
	Stamp        schema.Stamp
	Acknowledged []schema.Acknowledgement // by office; not to be changed
	Bytes        int64
	Budget       int64
}

// Open opens or makes the journal in dir. When another process has it the error wraps schema.ErrHeld; damage in its middle
// is a *schema.BrokenError, a torn end is cut off: nothing behind the last place that was acknowledged to capture.
func Open(dir string, o Options) (*Journal, error) {
	if o.Budget == 0 {
		o.Budget = DefaultBudget
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	v, err := o.mount(dir)
	if err != nil {
		return nil, err
	}
	j := &Journal{dir: dir, options: o, volume: v, grown: make(chan struct{})}
	if err := j.openLog(); err != nil {
		return nil, errors.Join(j.broken(err), v.Close())
	}
	if err := j.load(); err != nil {
		return nil, errors.Join(err, j.log.Close(), v.Close())
	}
	j.recallPublished()
	return j, nil
}

// mount takes hold of the volume, and completes the options for it.
func (o *Options) mount(dir string) (volume, error) {
	if o.Disk != nil {
		o.segment = cmp.Or(o.segment, memorySegmentBytes)
		return o.Disk.open(dir)
	}
	o.segment = cmp.Or(o.segment, segmentBytes)
	return openFolder(dir, o.vfs)
}

func (j *Journal) openLog() error {
	meta := j.volume.meta()
	files := filer{segment.NewFiler(j.dir, j.volume.files())}
	err := mend(j.dir, j.volume, meta, files)
	if err == nil {
		j.log, err = wal.Open(j.dir, wal.WithMetaStore(meta), wal.WithSegmentFiler(files), wal.WithSegmentSize(j.options.segment),
			wal.WithLogger(hclog.NewNullLogger()))
	}
	if err != nil {
		return errors.Join(err, meta.Close())
	}
	return nil
}

// load finds the last closed record, cuts off what is behind it, and takes over what it says.
func (j *Journal) load() error {
	first, err := j.log.FirstIndex()
	if err != nil {
		return j.broken(err)
	}
	last, err := j.log.LastIndex()
	if err != nil {
		return j.broken(err)
	}
	if last == 0 {
		return j.birth()
	}
	at := last
	var r record
	for ; at >= first; at-- {
		if r, err = j.read(at); err != nil {
			return err
		}
		if r.closed {
			break
		}
	}
	if at < first {
		return j.broken(errors.New("it has no complete record"))
	}
	if r.office != j.options.Office {
		return &schema.BrokenError{
			What:   fmt.Sprintf("the journal in %s belongs to office %s, not %s", j.dir, r.office, j.options.Office),
			Remedy: "name the right folder (data:) or the right office",
		}
	}
	j.index, j.closedAt, j.closed = last, at, r.head
	if err := j.cut(); err != nil {
		return err
	}
	return j.begins(first)
}

// Resume is for a capture that starts again, without the process having ended: it drops what the last one left of a
// transaction that it could not complete, and returns the place in the database's log to read from.
func (j *Journal) Resume() (source string, err error) {
	j.appending.Lock()
	defer j.appending.Unlock()
	if err := j.alive(); err != nil {
		return "", err
	}
	if err := j.cut(); err != nil {
		j.die(err)
		return "", err
	}
	return j.closed.source, nil
}

// cut goes back to the last closed record.
func (j *Journal) cut() error {
	if j.index > j.closedAt {
		if err := j.log.DeleteRange(j.closedAt+1, j.index); err != nil {
			return fmt.Errorf("cut off an incomplete transaction: %w", err)
		}
	}
	j.index, j.write = j.closedAt, j.closed.write
	j.pack = packer{head: j.closed, now: j.options.Now}
	return nil
}

// birth writes the first record: the epoch is the time of birth, so that a later life is always greater. A clock that was
// set back meanwhile is not believed.
func (j *Journal) birth() error {
	epoch := max(uint64(j.options.Now().UnixMilli()), j.options.After+1)
	j.pack = packer{now: j.options.Now, head: head{office: j.options.Office, epoch: epoch}}
	j.pack.add(record{closed: true})
	if err := j.store(); err != nil {
		return err
	}
	return j.begins(1)
}

// begins notes where the log begins.
func (j *Journal) begins(index uint64) error {
	r, err := j.read(index)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.first, j.firstSeq = index, r.seq+1
	if len(r.message) > 0 && r.part == 0 { // the last piece of a transaction stays for its head alone
		j.firstSeq = r.prev + 1
	}
	j.before = r.total - min(r.total, uint64(len(r.message)+recordCost))
	return nil
}

// Epoch is the journal's own.
func (j *Journal) Epoch() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.closed.epoch
}

// State is a snapshot.
func (j *Journal) State() State {
	j.mu.Lock()
	defer j.mu.Unlock()
	return State{
		Epoch: j.closed.epoch, First: j.firstSeq, Last: j.closed.seq, Source: j.closed.source, Seen: j.closed.seen, Stamp: j.closed.stamp,
		Acknowledged: j.closed.acked, Bytes: int64(j.closed.total - j.before), Budget: j.options.Budget,
	}
}

// Bounds are the first seq still held and the last that may be published; last = first-1 when nothing is held.
func (j *Journal) Bounds() (first, last uint64) {
	s := j.State()
	return s.First, s.Last
}

// Acknowledged is how far an office's stream had been applied at the place of last, State.Last.
func (j *Journal) Acknowledged(office schema.Office) (pos schema.Position, last uint64) {
	s := j.State()
	for _, a := range s.Acknowledged {
		if a.Office == office {
			pos = a.Pos
		}
	}
	return pos, s.Last
}

// Begin notes where capture begins in the database's log, of a journal that has no place yet, and what the database had applied
// of other offices' streams before that place.
func (j *Journal) Begin(ctx context.Context, source string, applied map[schema.Office]schema.Position) error {
	j.appending.Lock()
	defer j.appending.Unlock()
	if err := j.usable(ctx); err != nil {
		return err
	}
	j.pack.head.source = source
	for office, pos := range applied {
		j.pack.acknowledge(office, pos)
	}
	j.pack.records = nil
	j.pack.add(record{closed: true})
	return j.store()
}

// Stamp is the office's hybrid logical clock.
func (j *Journal) Stamp() schema.Stamp { return j.State().Stamp }

// Grown is closed when State.Last moves beyond what it is now.
func (j *Journal) Grown() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.grown
}

// Append is the journal's schema.Sink: it numbers txs and returns nil when all of them are on disk. An error that wraps
// ErrFull, and one that speaks of txs, left the journal as it was. After a failed write or fsync nobody knows what the disk
// has, and the journal takes nothing more until the process starts anew. Behind any error, capture begins with Resume.
func (j *Journal) Append(ctx context.Context, txs []schema.Transaction) error {
	j.appending.Lock()
	defer j.appending.Unlock()
	if err := j.alive(); err != nil {
		return err
	}
	if s := j.State(); s.First > s.Last { // an office that sends nothing is released by nobody: its marks go by themselves
		if err := j.Release(s.Last); err != nil {
			return err
		}
	}
	if err := j.usable(ctx); err != nil {
		return err
	}
	before := j.pack
	j.pack.records = nil
	if err := j.pack.pack(txs); err != nil {
		j.pack = before
		return err
	}
	return j.store()
}

func (j *Journal) usable(ctx context.Context) error {
	if err := j.alive(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return j.room()
}

func (j *Journal) alive() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.dead == nil, errors.Is(j.dead, errClosed):
		return j.dead
	default:
		return fmt.Errorf("the journal takes nothing after a failed write; start the sidecar anew: %w", j.dead)
	}
}

func (j *Journal) die(cause error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.dead == nil {
		j.dead = cause
	}
}

// store writes the packer's records, with one fsync for each write, and then shows them.
func (j *Journal) store() error {
	records := j.pack.records
	j.pack.records = nil
	for len(records) > 0 {
		n, size := 0, 0
		j.write++
		var logs []*raft.Log
		for n < len(records) && (n == 0 || size+len(records[n].message) <= storeBytes) {
			size += len(records[n].message)
			records[n].write = j.write
			logs = append(logs, &raft.Log{Index: j.index + uint64(n) + 1, Data: appendRecord(make([]byte, 0, len(records[n].message)+recordCost), &records[n])})
			n++
		}
		err := j.log.StoreLogs(logs)
		if err == nil {
			err = j.settle()
		}
		if err != nil {
			j.die(err)
			return fmt.Errorf("write the journal: %w", err)
		}
		j.show(records[:n])
		records = records[n:]
	}
	return nil
}

// settle waits, on a MemoryDisk, for the file that the log begins by itself: so the same seed takes the same steps.
func (j *Journal) settle() error {
	if j.options.Disk == nil {
		return nil
	}
	_ = j.log.DeleteRange(0, 0) // there is no such record; waiting is all it does
	_, err := j.volume.free()   // the disk may have crashed meanwhile
	return err
}

// show makes durable records visible, up to the last closed one.
func (j *Journal) show(records []record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	before := j.closed.seq
	for i := range records {
		j.index++
		if records[i].closed {
			j.closed, j.closedAt = records[i].head, j.index
		}
	}
	if j.closed.seq > before {
		close(j.grown)
		j.grown = make(chan struct{})
	}
}

var errClosed = errors.New("the journal is closed")

// Close ends the use of the journal, when what is under way with it has ended. It may be called again.
func (j *Journal) Close() error {
	j.appending.Lock()
	defer j.appending.Unlock()
	j.reach.Lock()
	defer j.reach.Unlock()
	if errors.Is(j.alive(), errClosed) {
		return nil
	}
	j.mu.Lock()
	j.dead = errClosed
	seq := j.published
	j.mu.Unlock()
	return errors.Join(j.writePublished(seq), j.log.Close(), j.volume.Close())
}

func (j *Journal) broken(cause error) error {
	return &schema.BrokenError{
		What: "the journal in " + j.dir + " is damaged", Cause: cause,
		Remedy: "restore the volume; or empty the folder and let the office join anew (its unsent changes are in its database)",
	}
}
