package apply

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"cdc-sidecar/schema"
)

const (
	// maxGroupChanges and maxGroupBytes bound what one commit takes together: enough that a commit's cost is spread over
	// thousands of rows, little enough that row locks are held for a moment only and memory stays small.
	maxGroupChanges = 5000
	maxGroupBytes   = 2 << 20
	// maxGroupMarks bounds the transactions of a group at the head, where each moves the progress row: within one database
	// transaction Postgres finds a row by way of all the versions that it had in it.
	maxGroupMarks = 512
)

// stream is one sender's stream as it is applied here.
type stream struct {
	applier *Applier
	sender  schema.Office

	mu    turn // of everything below but published
	known bool // have is what the database has; after an error it is read again
	have  schema.Position
	open  *opened
	// pieces is a transaction in parts of which it turned out late that it changes tables, where that commits by itself: when it
	// comes again, it is committed in pieces from its first part on.
	pieces schema.Position
	// since is what the clocks knew when they first had all that was applied before the epoch life of the stream; see writer.mine.
	life, since uint64

	work  writer
	stats Stats

	published atomic.Pointer[Stats]
}

// turn is a mutex that is held while the database is waited for. Being a channel, it lets a simulation's time go on meanwhile
// (testing/synctest), as a sync.Mutex would not.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) lock()   { t <- struct{}{} }
func (t turn) unlock() { <-t }

// opened is a transaction whose last part has not come.
type opened struct {
	ses  session
	pos  schema.Position
	next int // the part to come
}

func (s *stream) snapshot() Stats {
	if p := s.published.Load(); p != nil {
		return *p
	}
	return Stats{}
}

// load reads the progress row unless it is known.
func (s *stream) load(ctx context.Context) error {
	if s.known {
		return nil
	}
	s.work.sequences.forget()
	ses, err := s.applier.take(ctx)
	if err != nil {
		return err
	}
	have, _, err := ses.progress(ctx, s.applier.options.Office, s.sender)
	if err != nil {
		s.applier.spoiled(ses)
		return fmt.Errorf("read progress of %s: %w", s.sender, err)
	}
	s.applier.release(ses)
	s.have, s.known = have, true
	return nil
}

// lives notes at a barrier, behind which the clocks know everything to known, that the stream is in a life of its own since then.
func (s *stream) lives(known uint64) {
	if s.life != s.have.Epoch {
		s.life, s.since = s.have.Epoch, known
	}
}

func (s *stream) apply(ctx context.Context, txs []schema.Transaction) error {
	defer func() {
		snapshot := s.stats
		s.published.Store(&snapshot)
	}()
	if err := s.load(ctx); err != nil {
		return err
	}
	for len(txs) > 0 {
		tx := &txs[0]
		switch {
		case tx.Pos.Epoch != s.have.Epoch:
			s.discard()
			return &EpochError{Sender: s.sender, Have: s.have, Got: tx.Pos}
		case tx.Pos.Seq <= s.have.Seq && !schema.Planted(schema.DuplicateApplied):
			if tx.Last {
				s.stats.Duplicates++
			}
			txs = txs[1:]
		case tx.Pos.Seq != s.have.Seq+1 && !schema.Planted(schema.DuplicateApplied):
			s.discard()
			return &GapError{Sender: s.sender, Have: s.have, Got: tx.Pos}
		case tx.Part > 0 || !tx.Last:
			if err := s.part(ctx, tx); err != nil {
				return err
			}
			txs = txs[1:]
		default:
			n := s.groupSize(txs)
			if err := s.group(ctx, txs[:n]); err != nil {
				return err
			}
			txs = txs[n:]
		}
	}
	return nil
}

// groupSize is how many whole transactions one commit takes: at least the first, then those that follow it without a gap.
func (s *stream) groupSize(txs []schema.Transaction) int {
	if s.applier.options.Role == schema.Head && len(txs) > maxGroupMarks {
		txs = txs[:maxGroupMarks]
	}
	changes, bytes := 0, 0
	for i := range txs {
		tx := &txs[i]
		if defines(tx) { // alone
			return max(i, 1)
		}
		changes += len(tx.Changes)
		bytes += tx.Bytes()
		follows := tx.Pos.Epoch == txs[0].Pos.Epoch && tx.Pos.Seq == txs[0].Pos.Seq+uint64(i) && tx.Part == 0 && tx.Last
		if i > 0 && (!follows || changes > maxGroupChanges || bytes > maxGroupBytes) {
			return i
		}
	}
	return len(txs)
}

// group applies whole transactions and commits. Those before one that is rejected are applied without it, so that the
// stream stands exactly before what is to be mended.
func (s *stream) group(ctx context.Context, txs []schema.Transaction) error {
	s.discard() // the sender begins anew what was open
	err := s.patient(ctx, txs)
	if errors.Is(err, errBusy) && len(txs) > 1 { // less in hand: fewer locks, for a shorter time
		if err := s.group(ctx, txs[:len(txs)/2]); err != nil {
			return err
		}
		return s.group(ctx, txs[len(txs)/2:])
	}
	var rejected *schema.RejectedError
	if !errors.As(err, &rejected) || rejected.At.Epoch != txs[0].Pos.Epoch || rejected.At.Seq <= txs[0].Pos.Seq {
		return err
	}
	if before := s.load(ctx); before != nil {
		return before
	}
	if before := s.group(ctx, txs[:rejected.At.Seq-txs[0].Pos.Seq]); before != nil {
		return before
	}
	return err
}

const (
	// busyLimit bounds how long others' locks are waited for here; then the session ends, visibly, and everything begins
	// again. The servers have limits of their own for each wait, 300 ms to 5 s.
	busyLimit = 10 * time.Second
	busyWait  = 5 * time.Millisecond
	// busyMost is where the wait stops growing.
	busyMost = 500 * time.Millisecond
)

// patient tries again what failed because of others' locks: a single transaction many times, several together only once,
// because they are better written one after the other.
func (s *stream) patient(ctx context.Context, txs []schema.Transaction) error {
	return s.persist(ctx, len(txs) > 1, func() error {
		return s.afresh(ctx, func() (bool, error) { return s.attempt(ctx, txs) }, func() error {
			if s.have.Seq+1 != txs[0].Pos.Seq {
				return ErrFenced
			}
			return nil
		})
	})
}

// persist is patient with any attempt; with once it makes only one.
func (s *stream) persist(ctx context.Context, once bool, attempt func() error) error {
	began, wait := time.Now(), busyWait
	for {
		err := attempt()
		if !errors.Is(err, errBusy) {
			return err
		}
		s.stats.Busy++
		if once || time.Since(began) > s.applier.patience {
			if load := s.load(ctx); load != nil {
				return load
			}
			return err
		}
		if errors.Is(err, errQueued) {
			wait = ddlWait // applications waited behind us as long: now it is their turn
		}
		timer := time.NewTimer(wait/2 + rand.N(wait)) // not in step with whoever has the lock
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		wait = min(2*wait, busyMost)
		if err := s.load(ctx); err != nil {
			return err
		}
	}
}

// afresh tries once more with fresh definitions when a rejection may come from a table that somebody has changed since
// its definition was read. in says whether the stream is still in the place of the attempt.
func (s *stream) afresh(ctx context.Context, attempt func() (stale bool, err error), in func() error) error {
	stale, err := attempt()
	var rejected *schema.RejectedError
	if !stale || !errors.As(err, &rejected) {
		return err
	}
	if err := s.load(ctx); err != nil {
		return err
	}
	if err := in(); err != nil {
		return err
	}
	_, err = attempt()
	return err
}

func (s *stream) attempt(ctx context.Context, txs []schema.Transaction) (stale bool, err error) {
	began := time.Now()
	if err := s.applier.catchUp(ctx); err != nil {
		s.known = false
		return false, err
	}
	ses, err := s.applier.take(ctx)
	if err == nil {
		err = s.applier.recall(ctx, ses)
	}
	if err != nil {
		s.known = false
		if ses != nil {
			s.applier.spoiled(ses)
		}
		return false, err
	}
	ses.begin()
	s.work.start(s, ses, defines(&txs[0]))
	if err = s.work.resume(ctx, defines(&txs[0])); err == nil {
		err = s.work.write(ctx, txs)
	}
	if err == nil {
		err = s.work.commit(ctx)
	}
	if err != nil {
		stale = ses.defs().staleSince(began)
		s.known = false
		s.ended(ctx, ses, err)
		return stale, err
	}
	s.applier.release(ses)
	s.moved(txs[len(txs)-1].Pos, txs[len(txs)-1].Commit.UnixMicro())
	return false, nil
}

// ended gives a session back after an error: only one that merely met others' locks, or their unique keys, is still good.
func (s *stream) ended(ctx context.Context, ses session, err error) {
	if (errors.Is(err, errBusy) || errors.Is(err, errStillWaits) || errors.Is(err, ErrElsewhere)) && ses.rollback(ctx) == nil {
		s.applier.release(ses)
		return
	}
	s.applier.spoiled(ses)
}

// moved notes a commit.
func (s *stream) moved(to schema.Position, commit int64) {
	s.have = to
	s.stats.add(&s.work.tally)
	s.stats.Position, s.stats.Commit = to, commit
	s.applier.concluded(&s.work)
	if s.work.defined {
		s.applier.dropIdle() // what sessions know of the tables is old
	}
}

// concluded takes over what a committed transaction did besides its rows.
func (a *Applier) concluded(w *writer) {
	a.ordered(w)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range w.conflicts {
		a.counts[c]++
	}
	if len(w.waiting) > 0 || len(w.unparked) > 0 {
		a.parked = nil // read again by the next
	}
	if w.defined {
		a.evolution = nil
		a.defined++
	}
}

// part applies one part of a transaction that comes in several, and commits with the last.
func (s *stream) part(ctx context.Context, tx *schema.Transaction) error {
	if s.open == nil || tx.Part == 0 || s.open.pos != tx.Pos {
		s.discard()
		if tx.Part > 0 {
			return &GapError{Sender: s.sender, Have: s.have, Got: tx.Pos, Part: tx.Part}
		}
		if err := s.applier.catchUp(ctx); err != nil {
			return err
		}
		ses, err := s.applier.take(ctx)
		if err != nil {
			return err
		}
		if err := s.applier.recall(ctx, ses); err != nil {
			s.applier.spoiled(ses)
			return err
		}
		ses.defs().forget() // a transaction in parts cannot be tried once more with fresh definitions, so it begins with them
		ses.begin()
		s.work.start(s, ses, true)
		s.open = &opened{ses: ses, pos: tx.Pos}
		if err := s.work.resume(ctx, s.pieces == tx.Pos || defines(tx)); err != nil {
			s.discard()
			return err
		}
	}
	if tx.Part < s.open.next {
		return nil // delivered twice
	}
	if tx.Part > s.open.next {
		s.discard()
		return &GapError{Sender: s.sender, Have: s.have, Got: tx.Pos, Part: tx.Part}
	}
	if s.work.tooLate(tx) {
		s.pieces = tx.Pos
		s.discard()
		return &GapError{Sender: s.sender, Have: s.have, Got: tx.Pos, Part: tx.Part}
	}
	err := s.work.write(ctx, []schema.Transaction{*tx})
	s.work.before += len(tx.Changes)
	if err == nil && tx.Last {
		err = s.work.commit(ctx)
	}
	if err != nil {
		s.known = false
		s.applier.spoiled(s.open.ses)
		s.open = nil
		return err
	}
	s.open.next++
	if tx.Last {
		s.applier.release(s.open.ses)
		s.open = nil
		s.moved(tx.Pos, tx.Commit.UnixMicro())
	}
	return nil
}

// discard rolls back an open transaction.
func (s *stream) discard() {
	if s.open != nil {
		s.open.ses.close()
		s.open = nil
	}
}
