// Package apply writes the transactions of other offices into this office's database: the progress row first, then the
// rows, in one database transaction, so that each takes effect exactly once whatever crashes when.
//
// The progress row is the position, the fence against a second sidecar, the answer to a COMMIT whose outcome is unknown,
// and the tag by which capture knows an apply from an application's own write. What a change is, is state: an insert of a
// row that exists becomes an update, a delete of one that does not is done already.
//
// The room does not reconnect by itself: an error leaves nothing half done, and the next call begins with a new connection
// and the progress row as the database has it.
package apply

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// Target is the database that changes are applied to. Postgres and MySQL make one.
type Target interface {
	connect(ctx context.Context) (session, error)
}

// session is one connection, and at most one transaction on it. Any error but a verdict on a statement ends its use.
type session interface {
	// defs are the definitions as this session has read them.
	defs() *definitions
	// progress reads the progress row of an origin.
	progress(ctx context.Context, office, origin schema.Office) (schema.Position, bool, error)
	// senders reads all progress rows of an office.
	senders(ctx context.Context, office schema.Office) (map[schema.Office]schema.Position, error)
	// record writes a progress row anew; a zero position deletes it.
	record(ctx context.Context, office, origin schema.Office, at schema.Position) error
	// begin, save and rollback to what save kept go out with the next run: they cost no round trip.
	begin()
	save()
	restore()
	restart() // the transaction is rolled back and begins again
	// hush has foreign keys neither check nor follow what is written from now on, until it is told off, or until an undo. It goes
	// out with the next run. It reports false where the session's user may not do that; then nothing changes.
	hush(on bool) bool
	// run executes steps in order and returns how many rows each hit; of steps that were joined only the sum of their hits is
	// meant. When one fails, those behind it are not executed; failed is its index (of joined steps the first one's), or -1
	// when only a run of single steps could tell.
	run(ctx context.Context, steps []step, hits []int64) (_ []int64, failed int, err error)
	// fetch reads the rows of keys (images of t's own columns with those of t.Key) as capture would read them: one entry for
	// each key, in order, nil where there is no such row.
	fetch(ctx context.Context, t *catalog.Table, keys []schema.Row, lock bool) ([]schema.Row, error)
	// fetchKeys reads the next keys in the key's order behind from (nil: the first), and locks their rows; fewer than limit:
	// there are no more.
	fetchKeys(ctx context.Context, t *catalog.Table, from schema.Row, limit int) ([]schema.Row, error)
	// fetchStretch reads the next rows by a lookup of newStretch; see there.
	fetchStretch(ctx context.Context, q *lookup, from schema.Row, limit, most int) (stretch, error)
	// sizes are the server's estimates of the tables, in their order.
	sizes(ctx context.Context, tables []catalog.Table) ([]catalog.Size, error)
	// queue sends a statement that returns no rows of interest before the next run's steps.
	queue(statement string)
	commit(ctx context.Context) error
	// rollback ends a transaction whose last statement may have failed; the session can be used again.
	rollback(ctx context.Context) error
	// mark writes the office's next mark in a transaction of its own.
	mark(ctx context.Context, office schema.Office) (uint64, error)
	// settle returns when every read from then on sees all that was in the log when it was called. xids are the numbers of the
	// transactions of which it may not be so yet, as far as they are known; whole: there are no others.
	settle(ctx context.Context, office schema.Office, xids []uint32, whole bool) error
	// parked reads the changes that wait here, oldest first.
	parked(ctx context.Context, office schema.Office) ([]parkedBody, error)
	// joins reads what is recorded of joins, by the names of the tables.
	joins(ctx context.Context, office schema.Office) ([]Join, error)
	// logged reads an entry of the conflict log and locks it; nil: there is none of that number.
	logged(ctx context.Context, office schema.Office, id int64) (*loggedEntry, error)
	// ddl reads what became of other offices' schema changes, oldest first.
	ddl(ctx context.Context, office schema.Office) ([]ddlStep, error)
	// piece is how many changes of the transaction behind the progress row are committed.
	piece(ctx context.Context, office, origin schema.Office) (int, error)
	// describe reads a table as it is at this moment, by the open transaction; nil: there is none.
	describe(ctx context.Context, name schema.TableName) (*schema.Definition, error)
	// define runs statements that change tables; it waits for locks as long as ddlWait. A tag goes before each. Where the engine
	// commits them by themselves, no transaction may be open.
	define(ctx context.Context, tag string, statements []string) error
	// lasting reports that what define returned is about the statement: it would be refused the next time, too.
	lasting(err error) bool
	// judge grades an error that run, fetch, fetchKeys or commit returned.
	judge(err error) verdict
	user() string
	// worn says that the session has gathered so much that it is better replaced.
	worn() bool
	close()
}

// Options say for whom an Applier works.
type Options struct {
	Office schema.Office
	Role   schema.Role
	// Receive says which tables this office takes (flow both or receive); nil: all.
	Receive func(schema.TableName) bool
	// Unmapped says what is written where a column cannot hold a value; nil: the change is refused.
	Unmapped Unmapped
	Log      *slog.Logger

	// At the head: the row clocks, which tables its own applications write, too (nil: all; one that they do not is contested
	// when a second branch writes it), and how conflicts are decided. Without Clocks nothing is contested.
	Clocks  Clocks
	Written func(schema.TableName) bool
	Policy  func(schema.TableName) schema.Policy
	// Drift is how far ahead of this office's clock a stamp may be before it counts as the time of its arrival.
	Drift time.Duration
	// At a branch: its own changes under way. Without it nothing is held.
	Hold Hold
	// Passed returns, at a branch, when its own log has been read to a mark that it wrote, and Hold knows what was read. Without it
	// chunks trust that Hold knows everything.
	Passed func(ctx context.Context, mark uint64) error
	// DDL says what is done with other offices' schema changes.
	DDL DDL
	// Ordered is told, at a branch, of a table that is to be compared with the head's: its order is durable among the joins.
	Ordered func(name string, o schema.RowsOrder)
	// Now is the wall clock; nil: time.Now.
	Now func() time.Time
}

// DefaultDrift is far above what offices with NTP are apart, and far below what a person takes for the same time.
const DefaultDrift = time.Minute

// Applier applies the streams of any number of senders; each stream in its own order, one transaction at a time.
// Its methods may be called from any goroutine.
type Applier struct {
	target   Target
	options  Options
	patience time.Duration // with others' locks; busyLimit but in tests

	mu        sync.Mutex
	streams   map[schema.Office]*stream
	idle      []session
	notified  map[schema.TableName]time.Time
	parked    disputes                    // see disputed; nil: to be read
	needs     map[schema.TableName]string // see WaitingTable.Needs; not to be changed
	counts    map[Conflict]uint64
	again     []schema.Change
	evolution *evolution                                  // nil: to be read
	defined   uint64                                      // counts what changed tables: who has read definitions before reads them again
	writers   map[schema.TableName]map[schema.Office]bool // branches that wrote a table which this office itself does not
	asked     map[columnOf]bool                           // columns of which this office's log says no more than is known; see writer.ask
	caughtUp  bool                                        // the clocks know what was applied in the life before
	triedAt   time.Time
	lookedAt  time.Time
	settled   schema.Position          // what is known to be visible of this office's stream; see Settle
	widths    map[schema.TableName]int // bytes of a row, on the average of the last stretch read

	joining atomic.Pointer[func(schema.TableName) bool] // see Joining
}

// maxIdle bounds the connections kept between transactions: one for the stream that runs, one for a second beside it.
const maxIdle = 2

// New makes an Applier. It connects when it is first used; Close ends it.
func New(target Target, o Options) *Applier {
	if o.Receive == nil {
		o.Receive = func(schema.TableName) bool { return true }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Drift == 0 {
		o.Drift = DefaultDrift
	}
	if o.Written == nil {
		o.Written = func(schema.TableName) bool { return true }
	}
	if o.Policy == nil {
		o.Policy = func(schema.TableName) schema.Policy { return schema.Policy{} }
	}
	return &Applier{
		target: target, options: o, patience: busyLimit, streams: map[schema.Office]*stream{}, notified: map[schema.TableName]time.Time{},
		asked: map[columnOf]bool{}, counts: map[Conflict]uint64{}, writers: map[schema.TableName]map[schema.Office]bool{},
		widths: map[schema.TableName]int{},
	}
}

func (a *Applier) stream(sender schema.Office) *stream {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.streams[sender]
	if s == nil {
		s = &stream{applier: a, sender: sender, mu: newTurn()}
		a.streams[sender] = s
	}
	return s
}

// Progress is the last transaction of the sender that is applied and durable here; false: none was ever recorded.
func (a *Applier) Progress(ctx context.Context, sender schema.Office) (schema.Position, bool, error) {
	s := a.stream(sender)
	s.mu.lock()
	defer s.mu.unlock()
	if err := s.load(ctx); err != nil {
		return schema.Position{}, false, err
	}
	return s.have, !s.have.IsZero(), nil
}

// Apply applies transactions of one sender's stream, in order, and returns nil when they are durable; of a transaction
// whose last part has not come yet, when everything before it is: its parts stay in one open database transaction.
// Transactions that are applied already are passed over. On an error everything since the last commit is rolled back,
// an open transaction from its first part on. The errors: *GapError and *EpochError (nothing was written, the sender has
// to send otherwise), *schema.RejectedError (this data cannot be applied), *schema.RefusedError (a privilege), ErrFenced,
// and any other to be tried again.
func (a *Applier) Apply(ctx context.Context, sender schema.Office, txs []schema.Transaction) error {
	s := a.stream(sender)
	s.mu.lock()
	defer s.mu.unlock()
	began := time.Now()
	err := s.apply(ctx, txs)
	s.stats.Seconds += time.Since(began).Seconds()
	if err != nil {
		s.stats.Errors++
	}
	return err
}

// Begin records where a sender's stream begins here: the transaction behind at is the first to be applied. A position
// recorded before is overwritten. The row's change is captured as an apply without changes.
func (a *Applier) Begin(ctx context.Context, sender schema.Office, at schema.Position) error {
	if at.Epoch == 0 {
		return fmt.Errorf("begin the stream of %s: position %s has no epoch", sender, at)
	}
	return a.record(ctx, sender, at)
}

// Forget removes what is recorded of a sender: its progress row is deleted.
func (a *Applier) Forget(ctx context.Context, sender schema.Office) error {
	return a.record(ctx, sender, schema.Position{})
}

func (a *Applier) record(ctx context.Context, sender schema.Office, at schema.Position) error {
	s := a.stream(sender)
	s.mu.lock()
	defer s.mu.unlock()
	s.discard()
	s.known = false
	ses, err := a.take(ctx)
	if err != nil {
		return err
	}
	if err := ses.record(ctx, a.options.Office, sender, at); err != nil {
		a.spoiled(ses)
		return fmt.Errorf("record progress of %s: %w", sender, err)
	}
	a.release(ses)
	s.have, s.known = at, true
	return nil
}

// Senders are the streams that this office has begun to apply, by the progress rows, and how far each is.
func (a *Applier) Senders(ctx context.Context) (map[schema.Office]schema.Position, error) {
	ses, err := a.take(ctx)
	if err != nil {
		return nil, err
	}
	all, err := ses.senders(ctx, a.options.Office)
	if err != nil {
		a.spoiled(ses)
		return nil, fmt.Errorf("read progress: %w", err)
	}
	a.release(ses)
	return all, nil
}

// Discard rolls back what is open of transactions whose last parts have not come: whoever feeds the Applier has lost its
// place and will begin them again.
func (a *Applier) Discard(context.Context) {
	for _, s := range a.all() {
		s.mu.lock()
		s.discard()
		s.mu.unlock()
	}
}

// Close discards what is open and closes all connections. The Applier may be used again; it connects anew.
func (a *Applier) Close() {
	a.Discard(context.Background())
	a.dropIdle()
}

func (a *Applier) all() []*stream {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]*stream, 0, len(a.streams))
	for _, s := range a.streams {
		all = append(all, s)
	}
	return all
}

// take lends a connection. Their number is not limited here: one for each transaction that is open, so one for each
// sender at most; a limit would let one sender's unfinished transaction stop all others.
func (a *Applier) take(ctx context.Context) (session, error) {
	a.mu.Lock()
	if n := len(a.idle); n > 0 {
		ses := a.idle[n-1]
		a.idle = a.idle[:n-1]
		since := a.defined
		a.mu.Unlock()
		ses.defs().refresh(since)
		return ses, nil
	}
	since := a.defined
	a.mu.Unlock()
	ses, err := a.target.connect(ctx)
	if err == nil {
		ses.defs().unmapped, ses.defs().since = a.options.Unmapped, since
	}
	return ses, err
}

func (a *Applier) release(ses session) {
	a.mu.Lock()
	keep := len(a.idle) < maxIdle && !ses.worn()
	if keep {
		a.idle = append(a.idle, ses)
	}
	a.mu.Unlock()
	if !keep {
		ses.close()
	}
}

// spoiled closes a session after an error, and those that wait: when the server restarted, they are dead too.
func (a *Applier) spoiled(ses session) {
	ses.close()
	a.dropIdle()
	a.mu.Lock()
	a.parked, a.evolution = nil, nil // its last commit may have been made, with what it parked
	a.mu.Unlock()
}

func (a *Applier) dropIdle() {
	a.mu.Lock()
	idle := a.idle
	a.idle = nil
	a.mu.Unlock()
	for _, ses := range idle {
		ses.close()
	}
}

// noticeEvery bounds how often the log speaks of repaired rows of one table.
const noticeEvery = time.Minute

// noticeRepair logs that a row was not as the change expected it. It is converged, but somebody may want to know why.
func (a *Applier) noticeRepair(sender schema.Office, st *step, found string) {
	table := st.change.Table.TableName
	a.mu.Lock()
	quiet := time.Since(a.notified[table]) < noticeEvery
	if !quiet {
		a.notified[table] = time.Now()
	}
	a.mu.Unlock()
	if !quiet {
		a.options.Log.Warn("repaired a row", "table", table.String(), "key", st.change.KeyString(), "operation", st.change.Op.String(),
			"found", found, "sender", string(sender), "position", st.at.String())
	}
}
