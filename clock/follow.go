package clock

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"cdc-sidecar/schema"
)

// Journal is the office's journal, as its index reads it.
type Journal interface {
	Epoch() uint64
	// Bounds are the first seq still held and the last.
	Bounds() (first, last uint64)
	// Messages returns messages from behind the cursor on, none at the end; the zero cursor is the beginning of what is held.
	Messages(cursor uint64, maxBytes int) (messages [][]byte, next uint64, err error)
	// Stamp is the office's hybrid logical clock.
	Stamp() schema.Stamp
}

// Follower keeps an Index in step with the journal: first it reads what is retained, then it takes what is appended. It
// knows how far the office's own log has been read, and at a branch what the head has acknowledged.
type Follower struct {
	dir     string
	options Options
	journal Journal
	own     schema.Office
	role    schema.Role
	stale   func([]schema.Change)

	appending sync.Mutex // held while the journal grows, and to change over from reading to taking
	live      bool
	whole     bool // the last append ended a database transaction

	mu      sync.Mutex
	index   *Index
	refused error
	changed chan struct{} // closed when anything below changes, or live does
	ready   bool
	mark    uint64
	last    uint64
	owed    uint64 // seq up to which there are stale decisions
	acked   uint64
	logged  logged
}

// Follow opens an Index in dir and makes its Follower: one that is in step with the journal already when a former life kept it
// with Keep. Nothing may have been appended yet. stale is told of rows whose decision did not know their last touch.
func Follow(dir string, o Options, j Journal, own schema.Office, role schema.Role, stale func([]schema.Change)) (*Follower, error) {
	f := &Follower{dir: dir, options: o, journal: j, own: own, role: role, stale: stale, whole: true, changed: make(chan struct{})}
	fit := f.fit()
	f.logged.before = fit.Last
	if f.index, f.refused = takeOver(dir, o, fit); f.index != nil {
		f.live, f.ready, f.last = true, true, fit.Last
		if err := f.Forget(); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}
	var err error
	if f.index, err = Open(dir, o); err != nil {
		return nil, err
	}
	return f, nil
}

// fit is the journal as it is now.
func (f *Follower) fit() fit {
	_, last := f.journal.Bounds()
	return fit{
		Program: f.options.Program, Office: f.own, Role: f.role,
		Epoch: f.journal.Epoch(), Last: last, Stamp: f.journal.Stamp(),
	}
}

// Refused is why what a former life kept was not taken over; nil when it was, or when it kept nothing.
func (f *Follower) Refused() error {
	if f.refused == nil || errors.Is(f.refused, errNone) {
		return nil
	}
	return fmt.Errorf("row clocks of the former life: %w", f.refused)
}

func (f *Follower) current() *Index {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.index
}

// renew begins anew when the index is of no use any more, as after a full disk: all of it is in the journal.
func (f *Follower) renew() error {
	f.appending.Lock()
	defer f.appending.Unlock()
	x := f.current()
	if x.Err() == nil {
		return nil
	}
	if err := x.Close(); err != nil {
		return err
	}
	x, err := Open(f.dir, f.options)
	if err != nil {
		return err
	}
	f.live = false
	f.note(func() { f.index, f.ready, f.last = x, false, 0 })
	return nil
}

// Sink appends to the journal and then takes over what was appended.
func (f *Follower) Sink(journal schema.Sink) schema.Sink {
	return func(ctx context.Context, txs []schema.Transaction) error {
		f.appending.Lock()
		defer f.appending.Unlock()
		if err := journal(ctx, txs); err != nil {
			return err
		}
		return f.appended(txs)
	}
}

func (f *Follower) appended(txs []schema.Transaction) error {
	var mark uint64
	for i := range txs {
		if txs[i].Barrier != 0 {
			mark = txs[i].Barrier
		} else {
			f.whole = txs[i].Source != ""
		}
	}
	f.noteLogged(txs)
	if f.live {
		if err := f.take(txs); err != nil {
			return err
		}
	}
	f.note(func() { f.mark = max(f.mark, mark) })
	return nil
}

func (f *Follower) take(txs []schema.Transaction) error {
	stale, err := f.current().Take(f.own, f.role, txs)
	if err != nil {
		return fmt.Errorf("row clocks: %w", err)
	}
	var last uint64
	for i := range txs {
		last = max(last, txs[i].Pos.Seq)
	}
	f.note(func() {
		f.last = max(f.last, last)
		if len(stale) > 0 {
			f.owed = f.last
		}
	})
	if len(stale) > 0 && f.stale != nil {
		f.stale(stale)
	}
	return nil
}

func (f *Follower) note(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

// catchUpBytes is how much of the journal is decoded at once.
const catchUpBytes = 4 << 20

// CatchUp reads what the journal retains, and returns when the index is in step with it. It comes at the begin of each
// session; an index that is in step is not read again.
func (f *Follower) CatchUp(ctx context.Context) error {
	if err := f.renew(); err != nil {
		return fmt.Errorf("row clocks: %w", err)
	}
	if f.InStep() {
		return nil
	}
	var r replay
	for cursor := uint64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		messages, next, err := f.journal.Messages(cursor, catchUpBytes)
		if err != nil {
			return fmt.Errorf("row clocks: read the journal: %w", err)
		}
		if len(messages) == 0 {
			done, changed, err := f.changeOver(&r, next)
			if err != nil || done {
				return err
			}
			cursor = next
			select { // a large transaction is being appended
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if f.InStep() {
			return nil
		}
		cursor = next
		if err := r.each(messages, f.take); err != nil {
			return err
		}
	}
}

// InStep reports whether the index is in step with the journal, so that CatchUp has nothing to do.
func (f *Follower) InStep() bool {
	f.appending.Lock()
	defer f.appending.Unlock()
	return f.live
}

// changeOver reads the last of the journal while nothing can be appended, and takes what is appended from then on.
func (f *Follower) changeOver(r *replay, cursor uint64) (done bool, changed <-chan struct{}, err error) {
	f.appending.Lock()
	defer f.appending.Unlock()
	f.mu.Lock()
	changed = f.changed
	f.mu.Unlock()
	if f.live || !f.whole {
		return f.live, changed, nil
	}
	for {
		messages, next, err := f.journal.Messages(cursor, catchUpBytes)
		if err != nil {
			return false, nil, fmt.Errorf("row clocks: read the journal: %w", err)
		}
		if len(messages) == 0 {
			f.live = true
			f.note(func() { f.ready = true })
			return true, nil, nil
		}
		if err := r.each(messages, f.take); err != nil {
			return false, nil, err
		}
		cursor = next
	}
}

// replay opens messages again; a body that was cut into several is joined first.
type replay struct{ body []byte }

func (r *replay) each(messages [][]byte, take func([]schema.Transaction) error) error {
	if schema.Planted(schema.ClocksNotRebuilt) {
		return nil
	}
	for _, b := range messages {
		m, err := schema.DecodeMessage(b)
		if err != nil {
			return fmt.Errorf("row clocks: %w", err)
		}
		if r.body = append(r.body, m.Body...); m.Continued {
			continue
		}
		batch, _, err := schema.UnpackBatch(r.body, m.Codec, m.Epoch) // its values do not point into the body
		r.body = r.body[:0]
		if err != nil {
			return fmt.Errorf("row clocks: message %d: %w", m.Seq, err)
		}
		if err := take(batch.Transactions); err != nil {
			return err
		}
	}
	return nil
}

// Ready returns when the index is in step with the journal.
func (f *Follower) Ready(ctx context.Context) error {
	return f.wait(ctx, func() bool { return f.ready })
}

// Passed returns when the office's own log has been read to a mark that it wrote, and the index knows it.
func (f *Follower) Passed(ctx context.Context, mark uint64) error {
	return f.wait(ctx, func() bool { return f.ready && f.mark >= mark })
}

// Reached returns when the index knows the office's stream to seq.
func (f *Follower) Reached(ctx context.Context, seq uint64) error {
	return f.wait(ctx, func() bool { return f.ready && f.last >= seq })
}

// Arrived returns when the head has processed this office's changes to seq.
func (f *Follower) Arrived(ctx context.Context, seq uint64) error {
	return f.wait(ctx, func() bool { return f.acked >= seq })
}

func (f *Follower) wait(ctx context.Context, met func() bool) error {
	for {
		f.mu.Lock()
		done, changed := met(), f.changed
		f.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Epoch is the journal's.
func (f *Follower) Epoch() uint64 { return f.journal.Epoch() }

// Now is the office's hybrid logical clock.
func (f *Follower) Now() schema.Stamp { return f.journal.Stamp() }

// Last is the last seq that the index knows.
func (f *Follower) Last() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// Released is the last seq that the index may have forgotten, or never had: it has what the journal holds, and the journal lets
// go first. It only rises, so whoever asks behind other questions knows what their answers may have lacked.
func (f *Follower) Released() uint64 {
	first, _ := f.journal.Bounds()
	return first - 1
}

// Against is the last touch of the row, or of its whole table, that was not a plain apply of origin; seq 0: none.
func (f *Follower) Against(table schema.TableName, row schema.RowID, origin schema.Office) (uint64, schema.Office, schema.Stamp, error) {
	t, err := f.current().Against(table, row, origin)
	return t.Seq, t.Origin, t.Stamp, err
}

// TableAgainst is the last such touch of any row of the table.
func (f *Follower) TableAgainst(table schema.TableName, origin schema.Office) uint64 {
	return f.current().TableAgainst(table, origin).Seq
}

// Writers are the offices that touched the table in what is retained.
func (f *Follower) Writers(table schema.TableName) []schema.Office { return f.current().Writers(table) }

// Stats is what the index takes.
func (f *Follower) Stats() Stats { return f.current().Stats() }

// Close ends the use of the index, and leaves nothing.
func (f *Follower) Close() error { return f.current().Close() }

// Keep ends the use of the index as Close does, but leaves it on the disk for the next life, where it is good for one: when it
// has all that the journal has, which must still be open, and nothing that the journal will cut off.
func (f *Follower) Keep() error {
	f.appending.Lock()
	defer f.appending.Unlock()
	x := f.current()
	if !f.worthKeeping() {
		return x.Close()
	}
	if err := x.keep(f.fit()); err != nil {
		return errors.Join(err, x.Close())
	}
	return nil
}

// worthKeeping: the rows that stale decisions left to be told again are known to nobody but to whoever reads the journal, until
// they are told. The journal releases nothing before.
func (f *Follower) worthKeeping() bool {
	first, last := f.journal.Bounds()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.live && f.whole && f.index.Err() == nil && f.last == last && first <= last && f.owed < first
}

// Acknowledge notes that the head has processed this office's changes to seq. They stay known as long as the journal retains
// them: see Touched.
func (f *Follower) Acknowledge(seq uint64) {
	f.note(func() { f.acked = max(f.acked, seq) })
}

// Holding reports whether this office has any change that the head has not acknowledged.
func (f *Follower) Holding() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last > f.acked // a branch journals nothing but its own
}

// Held reports whether the row, or its whole table by a truncate, has a change of this office that the head has not
// acknowledged. For a change that removes the row, the truncate does not count.
func (f *Follower) Held(table schema.TableName, row schema.RowID, removes bool) (bool, error) {
	t, err := f.current().Against(table, row, "")
	if removes {
		var own Clock
		own, err = f.current().last(row)
		t = own.Last
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return t.Seq > f.acked, err
}

// Touched reports whether what the journal retains has a change of this office to the row, or to its whole table.
func (f *Follower) Touched(table schema.TableName, row schema.RowID) (bool, error) {
	t, err := f.current().Against(table, row, "")
	return t.Seq > 0, err
}

// HeldTable reports whether any row of the table has.
func (f *Follower) HeldTable(table schema.TableName) bool {
	t := f.current().TableAgainst(table, "")
	f.mu.Lock()
	defer f.mu.Unlock()
	return t.Seq > f.acked
}

// Forget lets go of what the journal no longer holds.
func (f *Follower) Forget() error {
	first, _ := f.journal.Bounds()
	return f.current().Release(first - 1)
}
