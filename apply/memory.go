package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// Memory is a database in memory: tables with keys and unique keys, row locks until the end of a transaction, read committed,
// savepoints, and a log of what was committed. It is there for simulations, which run thousands of lives of the real Applier
// on it; nothing else makes one. It behaves as Postgres or as MySQL and MariaDB do where the two differ and it matters: in
// Postgres a statement that changes a table is part of its transaction, in the others it is one by itself.
type Memory struct {
	options MemoryOptions

	mu     sync.Mutex
	tables map[schema.TableName]*memoryTable
	locks  map[memoryCell]*memoryWork
	freed  chan struct{} // closed when a lock is
	works  map[*memoryWork]bool
	log    []MemoryCommit
	grown  chan struct{} // closed when the log does
	kept   int           // commits before it are gone from the log
}

// MemoryOptions say what a database in memory is like.
type MemoryOptions struct {
	Engine schema.Engine
	Tables []catalog.Table
	Now    func() time.Time // the server's clock
	// OldRows says that the log has whole old rows (REPLICA IDENTITY FULL, binlog_row_image = FULL); else it has their keys.
	OldRows bool
	// Random is what gen_random_uuid() and uuid() give.
	Random func() string
	// Large columns, by name: a new row in the log lacks those that an update did not change.
	Large []string
}

// MemoryStep is asked before each round trip to the database. It may wait; its error ends the connection.
type MemoryStep func(ctx context.Context, what string) error

// MemoryEvent is one row changed, one table emptied, or one definition changed, as a log has it.
type MemoryEvent struct {
	Table         *schema.Table // of OwnSchema: one of ours; as it was when the event took place
	Op            schema.Op
	Before, After schema.Row
	Definition    *schema.DefinitionChange // of a Define, with the whole statement
}

// MemoryCommit is one transaction in the log.
type MemoryCommit struct {
	Commit time.Time
	Events []MemoryEvent
}

// memoryTable is a table's committed rows by the text of their keys. Its definition does not change: a changed table is another
// one, which takes its place.
type memoryTable struct {
	*catalog.Table
	definition *schema.Definition // nil of ours
	rows       map[string]schema.Row
	next       int64       // the last number given, of ours that have one
	changes    *memoryWork // who changes the definition at the moment
}

// memoryCell is what can be locked: a row, a value of a unique key, or with neither the whole table.
type memoryCell struct {
	table  *memoryTable
	unique int // 1 for the first of Table.Unique …; 0: key is a row's
	key    string
}

// The limits of waiting for a lock; the apply is the polite party.
const (
	memoryApplyWait = 300 * time.Millisecond
	memoryWriteWait = time.Second
)

// NewMemory makes a database.
func NewMemory(o MemoryOptions) *Memory {
	m := &Memory{
		options: o, tables: map[schema.TableName]*memoryTable{}, locks: map[memoryCell]*memoryWork{},
		freed: make(chan struct{}), works: map[*memoryWork]bool{}, grown: make(chan struct{}),
	}
	for i := range o.Tables {
		m.tables[o.Tables[i].TableName] = newMemoryTable(memoryDefinition(&o.Tables[i]), map[string]schema.Row{})
	}
	for _, t := range memoryOwn(o.Engine) {
		m.tables[t.TableName] = &memoryTable{Table: &catalog.Table{Table: t, OwnSchema: schema.OwnSchema}, rows: map[string]schema.Row{}}
	}
	return m
}

// memoryOwn are the tables of ours, as catalog makes them in real databases.
func memoryOwn(engine schema.Engine) []*schema.Table {
	texts := func(names ...string) (all []schema.Column) {
		for _, n := range names {
			all = append(all, schema.Column{Name: n, Kind: schema.KindText})
		}
		return all
	}
	numbers := func(names ...string) (all []schema.Column) {
		for _, n := range names {
			all = append(all, schema.Column{Name: n, Kind: schema.KindInt, Size: 64})
		}
		return all
	}
	own := func(name string, key int, columns ...[]schema.Column) *schema.Table {
		t := schema.Table{TableName: schema.TableName{Schema: schema.OwnSchema, Name: name}, Engine: engine, Columns: slices.Concat(columns...)}
		for k := range key {
			t.Key = append(t.Key, k)
		}
		return schema.NewTable(t)
	}
	return []*schema.Table{
		own(schema.ProgressTable, 2, texts(schema.ProgressOffice, schema.ProgressOrigin),
			numbers(schema.ProgressEpoch, schema.ProgressSeq, schema.ProgressStampMillis, schema.ProgressStampCounter, schema.ProgressCommitted, schema.ProgressWaits, schema.ProgressChunks, schema.ProgressPart)),
		own(schema.BarrierTable, 1, texts(schema.BarrierOffice), numbers(schema.BarrierMark)),
		own(schema.ConflictsTable, 1, numbers(schema.ConflictID), entryColumns, numbers(schema.ConflictResolvedAt), texts(schema.ConflictTaken)),
		own(schema.ParkedTable, 1, numbers(schema.ParkedID), parkColumns, numbers(schema.ParkedEntry)),
		own(schema.JoinsTable, 2, texts(schema.JoinOffice, schema.JoinName), numbers(schema.JoinPending, schema.JoinEpoch, schema.JoinSeq, schema.JoinTouched),
			texts(schema.JoinState)),
		own(schema.ClaimsTable, 1, numbers(schema.ClaimID), texts(schema.ClaimOffice, schema.ClaimBody)),
		own(schema.DDLTable, 1, numbers(schema.DDLID), ddlColumns),
	}
}

// Target is this database for one Applier. Each round trip of its connections asks step first.
func (m *Memory) Target(step MemoryStep) Target { return &memoryTarget{m, step} }

type memoryTarget struct {
	db   *Memory
	step MemoryStep
}

func (t *memoryTarget) connect(ctx context.Context) (session, error) {
	if err := t.step(ctx, "connect"); err != nil {
		return nil, fmt.Errorf("connect to the database in memory: %w", err)
	}
	s := &memorySession{memoryWork: t.db.work(t, t.step, memoryApplyWait)}
	s.definition = definitions{engine: t.db.options.Engine, space: memorySpace, read: func(context.Context) ([]catalog.Table, error) { return s.catalog(), nil }}
	return s, nil
}

// Kill ends all connections of a Target, as when its process is gone: what is open is rolled back, a commit that is in the
// log already took place.
func (m *Memory) Kill(t Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for w := range m.works {
		if w.target == t {
			w.die()
		}
	}
}

// Crash ends the database and starts it again: all connections are gone.
func (m *Memory) Crash() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for w := range m.works {
		w.die()
	}
}

// Load puts a row into a table before anybody uses the database. The log does not have it.
func (m *Memory) Load(table schema.TableName, row schema.Row) {
	t := m.tables[table]
	t.rows[t.keyOf(row)] = slices.Clone(row)
}

// Rows are a table's committed rows in the order of the text of their keys; of a table of ours by schema.OwnSchema.
func (m *Memory) Rows(table schema.TableName) []schema.Row {
	m.mu.Lock()
	defer m.mu.Unlock()
	var rows []schema.Row
	t := m.tables[table]
	if t == nil {
		return nil
	}
	for _, key := range t.keys() {
		rows = append(rows, t.rows[key])
	}
	return rows
}

// Table is a table's definition; nil: there is none.
func (m *Memory) Table(table schema.TableName) *schema.Table {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.tables[table]; t != nil {
		return t.Table.Table
	}
	return nil
}

// Definitions are the committed definitions of the applications' tables, by their names.
func (m *Memory) Definitions() map[schema.TableName]*schema.Definition {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[schema.TableName]*schema.Definition{}
	for name, t := range m.tables {
		if t.definition != nil {
			all[name] = t.definition
		}
	}
	return all
}

// Log is what was committed from a place on, at most limit transactions, as the log has them, with a channel that is closed
// when there is more. What was let go of is an error.
func (m *Memory) Log(from, limit int) ([]MemoryCommit, <-chan struct{}, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if from < m.kept || from > len(m.log) {
		return nil, nil, fmt.Errorf("the log begins at %d and ends at %d: %d is not there", m.kept, len(m.log), from)
	}
	var commits []MemoryCommit
	for _, c := range m.log[from:min(len(m.log), from+limit)] {
		written := MemoryCommit{Commit: c.Commit}
		for _, e := range c.Events {
			written.Events = append(written.Events, m.written(e))
		}
		commits = append(commits, written)
	}
	return commits, m.grown, nil
}

// written is what of an event stands in the log.
func (m *Memory) written(e MemoryEvent) MemoryEvent {
	if e.Table.Schema == schema.OwnSchema || e.Before == nil {
		return e
	}
	whole := e
	if e.After != nil {
		e.After = slices.Clone(e.After)
		for i := range e.After {
			if e.After[i] == whole.Before[i] && slices.Contains(m.options.Large, e.Table.Columns[i].Name) {
				e.After[i] = schema.Value{}
			}
		}
	}
	if m.options.OldRows {
		return e
	}
	if e.After != nil && memoryText(whole.Before, e.Table.Key) == memoryText(whole.After, e.Table.Key) {
		e.Before = nil
		return e
	}
	e.Before = make(schema.Row, len(whole.Before))
	for _, k := range e.Table.Key {
		e.Before[k] = whole.Before[k]
	}
	return e
}

// LetGo drops the log before a place.
func (m *Memory) LetGo(to int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = max(m.kept, to)
}

// History is all that was ever committed, with whole rows.
func (m *Memory) History() []MemoryCommit {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.log)
}

func (t *memoryTable) keyOf(row schema.Row) string { return memoryText(row, t.Key) }

// memoryText joins values so that it orders numbers of up to ten digits as numbers.
func memoryText(row schema.Row, columns []int) string {
	var b strings.Builder
	for _, k := range columns {
		text := row[k].Text()
		if row[k].IsNull() {
			text = "NULL"
		}
		fmt.Fprintf(&b, "%10s\x00", text)
	}
	return b.String()
}

func (t *memoryTable) keys() []string {
	keys := make([]string, 0, len(t.rows))
	for key := range t.rows {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// memoryError is what the database says of a statement.
type memoryError struct {
	verdict
	text string
}

func (e *memoryError) Error() string { return e.text }

var (
	// ErrMemoryGone is what a connection gets whose process or database is gone; whether a commit under way took place is
	// unknown then.
	ErrMemoryGone = errors.New("the connection to the database in memory is gone")
	// ErrMemoryTaken says that a key is another row's.
	ErrMemoryTaken = errors.New("another row has that key")
)

// memoryWork is one connection, and at most one transaction on it.
type memoryWork struct {
	db     *Memory
	target Target
	step   MemoryStep
	wait   time.Duration
	gone   chan struct{} // closed when the connection is

	// Of the open transaction; the database's mu guards it.
	dead   bool
	failed bool                              // Postgres: nothing more until it is rolled back
	open   bool                              // it was begun; else each round trip is one by itself
	uses   map[*memoryTable]bool             // whose definitions nobody changes meanwhile
	tables map[schema.TableName]*memoryTable // that it changed; nil: dropped
	rows   map[memoryCell]schema.Row         // as written; nil: deleted
	undo   []memoryUndo
	events []MemoryEvent
	held   []memoryCell
	logged bool // it is in the log, but nobody sees it yet
	place  int  // how long the log was then
	saved  memorySave
}

// memoryUndo takes one write back, or a changed definition.
type memoryUndo struct {
	cell    memoryCell
	had     bool
	row     schema.Row
	restore func()
}

// memorySave is a savepoint.
type memorySave struct{ undo, events, held int }

func (m *Memory) work(t Target, step MemoryStep, wait time.Duration) *memoryWork {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := &memoryWork{
		db: m, target: t, step: step, wait: wait, gone: make(chan struct{}), rows: map[memoryCell]schema.Row{},
		uses: map[*memoryTable]bool{}, tables: map[schema.TableName]*memoryTable{},
	}
	m.works[w] = true
	return w
}

// round is one round trip: f runs with the database locked.
func (w *memoryWork) round(ctx context.Context, what string, f func() error) error {
	err := w.step(ctx, what)
	w.db.mu.Lock()
	defer w.db.mu.Unlock()
	if err != nil {
		w.die()
	}
	switch {
	case w.dead:
		return errors.Join(ErrMemoryGone, err)
	case w.failed:
		return errors.New("the transaction failed: nothing more is done until it is rolled back")
	}
	kept := memorySave{len(w.undo), len(w.events), len(w.held)}
	err = f()
	if !w.open && len(w.held) == 0 {
		w.leave()
	}
	if err == nil {
		return nil
	}
	if w.failed = w.db.postgres(); !w.failed && !w.dead { // the statement alone is undone
		kept.held = len(w.held)
		w.back(kept)
	}
	return err
}

func (m *Memory) postgres() bool { return m.options.Engine == schema.Postgres }

// die ends the connection. The caller holds mu, as of all that follows.
func (w *memoryWork) die() {
	if w.dead {
		return
	}
	if w.logged {
		w.settle()
	} else {
		w.reset()
	}
	w.dead = true
	delete(w.db.works, w)
	close(w.gone)
}

// reset rolls everything back.
func (w *memoryWork) reset() {
	w.rows, w.undo, w.events, w.logged, w.failed, w.saved = map[memoryCell]schema.Row{}, nil, nil, false, false, memorySave{}
	w.open = false
	clear(w.tables)
	w.release(0)
	w.leave()
}

// leave lets others change the definitions of the tables that were used.
func (w *memoryWork) leave() {
	if len(w.uses) == 0 {
		return
	}
	for t := range w.uses {
		if t.changes == w {
			t.changes = nil
		}
	}
	clear(w.uses)
	w.tell()
}

// tell has those look again who wait for a lock.
func (w *memoryWork) tell() {
	close(w.db.freed)
	w.db.freed = make(chan struct{})
}

// back rolls back to a savepoint.
func (w *memoryWork) back(to memorySave) {
	for _, u := range slices.Backward(w.undo[to.undo:]) {
		switch {
		case u.restore != nil:
			u.restore()
		case u.had:
			w.rows[u.cell] = u.row
		default:
			delete(w.rows, u.cell)
		}
	}
	w.undo, w.events = w.undo[:to.undo], w.events[:to.events]
	if w.release(to.held); w.db.postgres() {
		w.failed = false
	}
}

// release lets locks go that were taken behind the first n.
func (w *memoryWork) release(n int) {
	if len(w.held) == n {
		return
	}
	for _, c := range w.held[n:] {
		delete(w.db.locks, c)
	}
	w.held = w.held[:n]
	w.tell()
}

// settle makes what is in the log visible.
func (w *memoryWork) settle() {
	for name, t := range w.tables {
		if t == nil {
			delete(w.db.tables, name)
		} else {
			w.db.tables[name] = t
		}
	}
	for c, row := range w.rows {
		if row == nil {
			delete(c.table.rows, c.key)
		} else {
			c.table.rows[c.key] = row
		}
	}
	w.reset()
}

// end commits: first the log has it, then it is seen and its locks are free.
func (w *memoryWork) end(ctx context.Context) error {
	if err := w.round(ctx, "commit", w.enter); err != nil {
		return err
	}
	return w.round(ctx, "committed", func() error {
		w.settle()
		return nil
	})
}

func (w *memoryWork) enter() error {
	if len(w.events) > 0 {
		w.db.write(w.events)
	}
	w.logged, w.place = true, len(w.db.log)
	return nil
}

// write appends a transaction to the log.
func (m *Memory) write(events []MemoryEvent) {
	commit := m.options.Now().UTC().Truncate(time.Microsecond)
	if !m.postgres() {
		commit = commit.Truncate(time.Second)
	}
	m.log = append(m.log, MemoryCommit{Commit: commit, Events: events})
	close(m.grown)
	m.grown = make(chan struct{})
}

// lock takes a lock, or waits for it. The database is not locked meanwhile.
func (w *memoryWork) lock(ctx context.Context, c memoryCell) error {
	if w.db.locks[c] == w {
		return nil
	}
	if err := w.await(ctx, w.wait, func() bool { return w.free(c) }); err != nil {
		return err
	}
	w.db.locks[c] = w
	w.held = append(w.held, c)
	return nil
}

// await waits until ready, which only others' letting go of locks can change.
func (w *memoryWork) await(ctx context.Context, limit time.Duration, ready func() bool) error {
	var late <-chan time.Time
	for !ready() {
		if late == nil {
			timer := time.NewTimer(limit)
			defer timer.Stop()
			late = timer.C
		}
		freed := w.db.freed
		w.db.mu.Unlock()
		var err error
		select {
		case <-freed:
			err = w.step(ctx, "lock")
		case <-late:
			err = &memoryError{verdict{fault: busy}, "waited too long for a lock"}
		case <-ctx.Done():
			err = ctx.Err()
		case <-w.gone:
		}
		w.db.mu.Lock()
		if w.dead {
			return errors.Join(ErrMemoryGone, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// free reports whether nobody else holds a lock, nor one that covers it or is covered by it.
func (w *memoryWork) free(c memoryCell) bool {
	none := func(holder *memoryWork) bool { return holder == nil || holder == w }
	if c != (memoryCell{table: c.table}) {
		return none(w.db.locks[c]) && none(w.db.locks[memoryCell{table: c.table}])
	}
	for other, holder := range w.db.locks {
		if other.table == c.table && !none(holder) {
			return false
		}
	}
	return true
}

// row is a row as this transaction sees it; nil: there is none.
func (w *memoryWork) row(c memoryCell) schema.Row {
	if row, ok := w.rows[c]; ok {
		return row
	}
	return c.table.rows[c.key]
}

// find locks a row and returns it; nil: there is none, and nothing is locked. In Postgres a row that another transaction
// has inserted and not committed is not there; MySQL waits for it.
func (w *memoryWork) find(ctx context.Context, c memoryCell) (schema.Row, error) {
	if w.db.postgres() && w.row(c) == nil {
		return nil, nil
	}
	n := len(w.held)
	if err := w.lock(ctx, c); err != nil {
		return nil, err
	}
	row := w.row(c)
	if row == nil && len(w.held) > n {
		w.release(n)
	}
	return row, nil
}

// put writes a row (nil: deletes it), without an event.
func (w *memoryWork) put(c memoryCell, row schema.Row) {
	old, had := w.rows[c]
	w.undo = append(w.undo, memoryUndo{cell: c, had: had, row: old})
	w.rows[c] = row
}

// event notes what the log will have of a write.
func (w *memoryWork) event(t *memoryTable, op schema.Op, before, after schema.Row) {
	if t.Schema == schema.OwnSchema && !schema.Published(t.Name) {
		return
	}
	same := before != nil && after != nil && slices.Equal(before, after)
	if same && !w.db.postgres() {
		return
	}
	w.events = append(w.events, MemoryEvent{Table: t.Table.Table, Op: op, Before: slices.Clone(before), After: slices.Clone(after)})
}

// claim locks the unique values of a row that is to be at key, and looks whether another row has one of them.
func (w *memoryWork) claim(ctx context.Context, t *memoryTable, key string, row schema.Row) error {
	for n, columns := range t.Unique {
		if slices.ContainsFunc(columns, func(i int) bool { return row[i].IsNull() }) {
			continue
		}
		held := len(w.held)
		value := memoryText(row, columns)
		if err := w.lock(ctx, memoryCell{t, n + 1, value}); err != nil {
			return err
		}
		if other := w.has(t, columns, value, key); other != "" {
			w.release(held)
			fault := duplicate
			if w.db.postgres() {
				fault = collision
			}
			return fmt.Errorf("%w: %w", ErrMemoryTaken, &memoryError{verdict{fault: fault}, fmt.Sprintf("row %s of table %s has the unique value %s", strings.Trim(other, " \x00"), t.TableName, strings.Trim(value, " \x00"))})
		}
	}
	return nil
}

// has is the key of a row, other than key's, that has a unique value.
func (w *memoryWork) has(t *memoryTable, columns []int, value, key string) string {
	for c, row := range w.rows {
		if c.table == t && row != nil && c.key != key && memoryText(row, columns) == value {
			return c.key
		}
	}
	for _, other := range t.keys() {
		if _, mine := w.rows[memoryCell{t, 0, other}]; !mine && other != key && memoryText(t.rows[other], columns) == value {
			return other
		}
	}
	return ""
}

// taken is the error of a primary key that is another row's.
func (w *memoryWork) taken(t *memoryTable, key string) error {
	v := verdict{fault: duplicate, primary: true}
	if w.db.postgres() {
		v = verdict{fault: collision}
	}
	return fmt.Errorf("%w: %w", ErrMemoryTaken, &memoryError{v, fmt.Sprintf("table %s has a row %s", t.TableName, strings.Trim(key, " \x00"))})
}

// insert reports false, with nothing done, when the key is taken.
func (w *memoryWork) insert(ctx context.Context, t *memoryTable, row schema.Row) (bool, error) {
	c := memoryCell{t, 0, t.keyOf(row)}
	held := len(w.held)
	if err := w.lock(ctx, c); err != nil {
		return false, err
	}
	if w.row(c) != nil {
		w.release(held)
		return false, nil
	}
	if err := w.claim(ctx, t, c.key, row); err != nil {
		return false, err
	}
	w.put(c, row)
	w.event(t, schema.Insert, nil, row)
	return true, nil
}

// update changes a row; false: there is none.
func (w *memoryWork) update(ctx context.Context, t *memoryTable, key string, change func(schema.Row)) (bool, error) {
	c := memoryCell{t, 0, key}
	before, err := w.find(ctx, c)
	if err != nil || before == nil {
		return false, err
	}
	after := slices.Clone(before)
	change(after)
	for n, columns := range t.Unique {
		if memoryText(before, columns) != memoryText(after, columns) {
			if err := w.lock(ctx, memoryCell{t, n + 1, memoryText(before, columns)}); err != nil {
				return false, err
			}
		}
	}
	to := memoryCell{t, 0, t.keyOf(after)}
	if to != c {
		if err := w.lock(ctx, to); err != nil {
			return false, err
		}
		if w.row(to) != nil {
			return false, w.taken(t, to.key)
		}
		w.put(c, nil)
	}
	if err := w.claim(ctx, t, c.key, after); err != nil {
		return false, err
	}
	w.put(to, after)
	w.event(t, schema.Update, before, after)
	return true, nil
}

// remove deletes a row; false: there is none.
func (w *memoryWork) remove(ctx context.Context, t *memoryTable, key string) (bool, error) {
	c := memoryCell{t, 0, key}
	before, err := w.find(ctx, c)
	if err != nil || before == nil {
		return false, err
	}
	for n, columns := range t.Unique {
		if err := w.lock(ctx, memoryCell{t, n + 1, memoryText(before, columns)}); err != nil {
			return false, err
		}
	}
	w.put(c, nil)
	w.event(t, schema.Delete, before, nil)
	return true, nil
}

// all are the keys that this transaction sees.
func (w *memoryWork) all(t *memoryTable) []string {
	keys := t.keys()
	for c := range w.rows {
		if c.table == t && c.unique == 0 {
			keys = append(keys, c.key)
		}
	}
	slices.Sort(keys)
	return slices.DeleteFunc(slices.Compact(keys), func(key string) bool { return w.row(memoryCell{t, 0, key}) == nil })
}

// truncate empties a table with one event.
func (w *memoryWork) truncate(ctx context.Context, t *memoryTable) error {
	if err := w.lock(ctx, memoryCell{table: t}); err != nil {
		return err
	}
	for _, key := range w.all(t) {
		w.put(memoryCell{t, 0, key}, nil)
	}
	w.events = append(w.events, MemoryEvent{Table: t.Table.Table, Op: schema.Truncate})
	return nil
}

// MemoryWrite is a transaction of an application.
type MemoryWrite struct{ work *memoryWork }

// Write runs f in one transaction of an application and commits, or rolls back when f fails. With ErrMemoryGone in its error
// nobody knows whether it took place.
func (m *Memory) Write(ctx context.Context, step MemoryStep, f func(*MemoryWrite) error) error {
	w := m.work(nil, step, memoryWriteWait)
	w.open = true
	err := f(&MemoryWrite{w})
	if err == nil {
		err = w.end(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	w.die()
	return err
}

// Insert inserts a row; columns behind those that it has get their defaults. ErrMemoryTaken: there is one of its key.
func (t *MemoryWrite) Insert(ctx context.Context, table schema.TableName, row schema.Row) error {
	return t.work.round(ctx, "insert", func() error {
		into, err := t.work.used(ctx, table)
		if err != nil {
			return err
		}
		row = slices.Clone(row)
		for i := len(row); i < len(into.Columns); i++ {
			row = append(row, memoryDefault(into.definition, i, t.work.db.options.Random))
		}
		ok, err := t.work.insert(ctx, into, row)
		if err == nil && !ok {
			err = t.work.taken(into, into.keyOf(row))
		}
		return err
	})
}

// Update changes the row of a key (an image that has the key's columns), if there is one. change is given a copy to write to.
func (t *MemoryWrite) Update(ctx context.Context, table schema.TableName, key schema.Row, change func(schema.Row)) (hit bool, err error) {
	err = t.work.round(ctx, "update", func() error {
		var in *memoryTable
		if in, err = t.work.used(ctx, table); err != nil {
			return err
		}
		hit, err = t.work.update(ctx, in, in.keyOf(key), change)
		return err
	})
	return hit, err
}

// Delete deletes the row of a key, if there is one.
func (t *MemoryWrite) Delete(ctx context.Context, table schema.TableName, key schema.Row) (hit bool, err error) {
	err = t.work.round(ctx, "delete", func() error {
		var in *memoryTable
		if in, err = t.work.used(ctx, table); err != nil {
			return err
		}
		hit, err = t.work.remove(ctx, in, in.keyOf(key))
		return err
	})
	return hit, err
}

// Truncate empties a table.
func (t *MemoryWrite) Truncate(ctx context.Context, table schema.TableName) error {
	return t.work.round(ctx, "truncate", func() error {
		all, err := t.work.used(ctx, table)
		if err != nil {
			return err
		}
		return t.work.truncate(ctx, all)
	})
}
