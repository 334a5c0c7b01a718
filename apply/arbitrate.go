package apply

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// Clocks are the row clocks of the head: an index over what its own log has shown so far.
type Clocks interface {
	// Epoch is the head's own: what a branch has seen is a place in this history.
	Epoch() uint64
	// Against is the last touch of the row, or of its whole table, that was not a plain apply of origin; seq 0: none.
	Against(table schema.TableName, row schema.RowID, origin schema.Office) (seq uint64, by schema.Office, stamp schema.Stamp, err error)
	// TableAgainst is the last such touch of any row of the table.
	TableAgainst(table schema.TableName, origin schema.Office) (seq uint64)
	// Writers are the offices whose touches of the table the clocks know.
	Writers(table schema.TableName) []schema.Office
	// Passed returns when the log has been read to a mark that this office wrote.
	Passed(ctx context.Context, mark uint64) error
	// Released is the last seq that the clocks may have forgotten: what they do not know may have been touched then. It only rises.
	Released() uint64
	// Last is the last seq that the clocks know.
	Last() uint64
	// Now is the head's hybrid logical clock.
	Now() schema.Stamp
}

// Hold is what a branch knows of its own changes that are under way.
type Hold interface {
	// Holding reports whether anything of this office is not acknowledged: if not, no row is held.
	Holding() bool
	// Held reports whether the row has a change of this office that the head has not acknowledged: what the head says of it
	// is older than what it will say once it has met that change. For a change that removes the row, a truncate does not count:
	// of a row that it does not find, the head will say nothing.
	Held(table schema.TableName, row schema.RowID, removes bool) (bool, error)
	// Touched reports whether this office changed the row lately, acknowledged or not.
	Touched(table schema.TableName, row schema.RowID) (bool, error)
	// HeldTable reports whether any row of the table has a change that is not acknowledged.
	HeldTable(table schema.TableName) bool
}

// barrierLimit bounds the wait for our own capture while row locks are held. Behind it, everything is rolled back and tried
// again: a capture that is away must not hold the applications up.
const barrierLimit = 10 * time.Second

// barrier returns when every change that was committed before it is known to the clocks. A mark is written to the log
// beside the open transaction; when capture has read it, it has read what was committed before. Whoever changed a row that
// is locked by now did so before.
func (w *writer) barrier(ctx context.Context) error {
	a := w.stream.applier
	if schema.Planted(schema.NoBarrier) {
		return nil
	}
	began := time.Now()
	if err := a.Barrier(ctx); err != nil {
		return err
	}
	a.mu.Lock()
	changed := w.ses != nil && w.ses.defs().since != a.defined
	a.mu.Unlock()
	if changed { // rows that were read as their table was before are not whole
		return fmt.Errorf("decide about rows: %w: a table was changed", errBusy)
	}
	w.known = a.options.Clocks.Last()
	w.stream.lives(w.known)
	w.tally.Barriers++
	w.tally.BarrierSeconds += time.Since(began).Seconds()
	return nil
}

// contests reports whether others than origin may write the table: one-way tables need neither locks nor barriers.
func (a *Applier) contests(table schema.TableName, origin schema.Office) bool {
	o := &a.options
	if o.Clocks == nil || o.Written(table) {
		return o.Clocks != nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	writers := a.writersOf(table)
	writers[origin] = true
	return len(writers) > 1
}

// othersWrite reports whether others than an office write a table, as far as is known.
func (a *Applier) othersWrite(table schema.TableName, than schema.Office) bool {
	if a.options.Written(table) {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	writers := a.writersOf(table)
	return len(writers) > 1 || len(writers) == 1 && !writers[than]
}

// writersOf are the offices that are known to write a table. The lock is held.
func (a *Applier) writersOf(table schema.TableName) map[schema.Office]bool {
	writers := a.writers[table]
	if writers == nil {
		writers = map[schema.Office]bool{}
		for _, w := range a.options.Clocks.Writers(table) {
			writers[w] = true
		}
		a.writers[table] = writers
	}
	return writers
}

// catchUp makes sure, once, that the clocks know what was applied before this process was; where there are none, that what the
// applications here did to their tables meanwhile is noted (Noting), or a log that is not read now would keep the stream waiting.
func (a *Applier) catchUp(ctx context.Context) error {
	clocks := a.options.Clocks != nil
	a.mu.Lock()
	done := a.caughtUp || !clocks && a.options.DDL.Apply == ""
	a.mu.Unlock()
	if done {
		return nil
	}
	var err error
	if clocks {
		w := writer{stream: &stream{applier: a}}
		err = w.barrier(ctx)
	} else if err = a.Barrier(ctx); err != nil && ctx.Err() == nil {
		a.options.Log.Warn("this office's own log is not read: rows may come before what was done here to their tables is known", "cause", err)
		err = nil
	}
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.caughtUp = true
	a.mu.Unlock()
	return nil
}

// against is the last touch of a row that a change has to be compared with. What was decided in this very transaction is
// such a touch, too: its office has not seen it. An office's own earlier changes are none, unless it may have lost them itself.
func (w *writer) against(st *step, row schema.RowID) (seq uint64, v version, err error) {
	if v, ok := w.decided[row]; ok {
		return math.MaxUint64, v, nil
	}
	origin := st.tx.Origin
	if st.change.Restored {
		origin = ""
	}
	clocks := w.stream.applier.options.Clocks
	if seq, v.origin, v.stamp, err = clocks.Against(st.plan.target.TableName, row, origin); err != nil || len(st.plan.formers) == 0 {
		return seq, v, err
	}
	i := slices.Index(st.touched(), row)
	for _, name := range st.plan.formers { // what the row is known by from before its table had this name
		if i < 0 {
			break
		}
		former, err := st.plan.rowIDAs(name, st.keys[i])
		if err != nil {
			return 0, v, err
		}
		last, by, stamp, err := clocks.Against(name, former, origin)
		if err != nil {
			return 0, v, err
		}
		if last > seq {
			seq, v = last, version{origin: by, stamp: stamp}
		}
	}
	return seq, v, nil
}

// seen is the last seq of the head's that the change's office had applied before it.
func (w *writer) seen(tx *schema.Transaction) uint64 {
	if tx.Seen.Epoch != w.stream.applier.options.Clocks.Epoch() {
		return 0
	}
	return tx.Seen.Seq
}

// meets reports whether the change meets a touch that its office had not seen, and whose.
func (w *writer) meets(st *step) (met bool, by version, err error) {
	seen := w.seen(st.tx)
	if st.change.Op == schema.Truncate {
		met = w.stream.applier.options.Clocks.TableAgainst(st.plan.target.TableName, st.tx.Origin) > seen || len(w.decided) > 0
		for _, name := range st.plan.formers {
			met = met || w.stream.applier.options.Clocks.TableAgainst(name, st.tx.Origin) > seen
		}
		return met, by, nil
	}
	for _, row := range st.touched() {
		seq, v, err := w.against(st, row)
		if err != nil {
			return false, by, err
		}
		if seq > seen {
			met, by = true, by.later(v)
		}
	}
	return met, by, nil
}

// contested looks, behind a barrier, whether any change just written meets a touch that its office had not seen. The rows
// are locked by having been written.
func (w *writer) contested(ctx context.Context) (bool, error) {
	if !slices.ContainsFunc(w.steps, func(st step) bool { return st.contested }) {
		return false, nil
	}
	if w.ses.defs().engine == schema.Postgres || w.cascade.hushed { // else the server has done so itself
		if err := w.findParents(ctx, w.steps, true); err != nil {
			return false, err
		}
	}
	if err := w.barrier(ctx); err != nil {
		return false, err
	}
	for i := range w.steps {
		if st := &w.steps[i]; st.contested {
			if met, _, err := w.meets(st); met || err != nil {
				return met, err
			}
			if lost, _, err := w.bereaved(st, false); lost != nil || err != nil {
				return lost != nil, err
			}
		}
	}
	released := w.stream.applier.options.Clocks.Released()
	return slices.ContainsFunc(w.steps, func(st step) bool { return st.contested && w.blindness(&st, released) != sighted }), nil
}

// standingRow is a row of this office that is locked: as it stands in the open transaction.
type standingRow struct {
	table *catalog.Table
	key   schema.Row // in the table's columns
	row   schema.Row // nil: there is none
}

// arbitrate writes the steps one after the other, with everything that may be contested locked first, and decides.
func (w *writer) arbitrate(ctx context.Context) error {
	steps := w.steps
	if steps[0].form.op == opProgress { // first, whatever follows: capture knows an apply by it
		if err := w.careful(ctx, &steps[0]); err != nil {
			return err
		}
		steps = steps[1:]
	}
	if err := w.lock(ctx, steps); err != nil {
		return err
	}
	if err := w.findParents(ctx, steps, false); err != nil {
		return err
	}
	if err := w.barrier(ctx); err != nil {
		return err
	}
	if err := w.lookAgain(ctx); err != nil {
		return err
	}
	for i := range steps {
		st := &steps[i]
		m, err := meeting{}, error(nil)
		truncates := st.contested && st.change.Op == schema.Truncate
		if st.contested && !truncates {
			m, err = w.meet(ctx, st)
		}
		switch {
		case err != nil:
		case truncates: // row by row: a row that comes behind the barrier is not touched
			err = w.settleTruncate(ctx, st)
			clear(w.standing)
		case len(w.queue(st)) > 0: // what is disputed is decided when it is written: in order
			err = w.parkable(ctx, st)
		case m.conflict:
			err = w.settle(ctx, st, m.by)
		case m.partial:
			err = w.abstain(ctx, st)
		case !m.settled:
			if err = w.parkable(ctx, st); err == nil {
				w.wrote(st)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lookAgain makes sure that the rows which were not there when they were to be locked did not come before the barrier: the
// clocks know such a touch, and a decision would compare with a row that it does not have.
func (w *writer) lookAgain(ctx context.Context) error {
	absent := map[*catalog.Table][]schema.Row{}
	if schema.Planted(schema.AbsenceBelieved) {
		return nil
	}
	for _, s := range w.standing {
		if s.row == nil {
			absent[s.table] = append(absent[s.table], s.key)
		}
	}
	for t, keys := range absent {
		for batch := range slices.Chunk(keys, lockBatch) {
			images, err := w.ses.fetch(ctx, t, batch, true)
			if err != nil {
				return w.unread(err, t)
			}
			if slices.ContainsFunc(images, func(r schema.Row) bool { return r != nil }) {
				return fmt.Errorf("decide about table %s: %w", t.TableName, errVanished)
			}
		}
	}
	return nil
}

// keyOf is an image's key alone: of a row that is gone, nothing else is to be told.
func keyOf(t *catalog.Table, image schema.Row) schema.Row {
	key := make(schema.Row, len(image))
	for _, k := range t.Key {
		key[k] = image[k]
	}
	return key
}

// lockBatch bounds the keys of one statement.
const lockBatch = 1000

// lock locks and reads all rows that contested steps touch, in one order for everybody who does so.
func (w *writer) lock(ctx context.Context, steps []step) error {
	byTable := map[*catalog.Table][]schema.RowID{}
	for i := range steps {
		st := &steps[i]
		if !st.contested || st.change.Op == schema.Truncate {
			continue
		}
		for j, row := range st.touched() {
			if w.standing[row] != nil {
				continue
			}
			key, err := st.plan.image(st.keys[j])
			if err != nil {
				return locate(err, st.change, st.at)
			}
			w.standing[row] = &standingRow{table: st.plan.target, key: keyOf(st.plan.target, key)}
			byTable[st.plan.target] = append(byTable[st.plan.target], row)
		}
	}
	tables := make([]*catalog.Table, 0, len(byTable))
	for t := range byTable {
		tables = append(tables, t)
	}
	slices.SortFunc(tables, func(a, b *catalog.Table) int { return cmp.Compare(a.String(), b.String()) })
	for _, t := range tables {
		rows := byTable[t]
		slices.SortFunc(rows, func(a, b schema.RowID) int { return bytes.Compare(a[:], b[:]) })
		for batch := range slices.Chunk(rows, lockBatch) {
			if err := w.read(ctx, t, batch); err != nil {
				return err
			}
		}
	}
	return nil
}

// read locks and reads rows of one table.
func (w *writer) read(ctx context.Context, t *catalog.Table, rows []schema.RowID) error {
	keys := make([]schema.Row, len(rows))
	for i, row := range rows {
		keys[i] = w.standing[row].key
	}
	images, err := w.ses.fetch(ctx, t, keys, true)
	if err != nil {
		return w.unread(err, t)
	}
	for i, row := range rows {
		w.standing[row].row = images[i]
	}
	return nil
}

func (w *writer) unread(err error, t *catalog.Table) error {
	v := w.ses.judge(err)
	err = fmt.Errorf("lock rows of table %s: %w", t.TableName, err)
	if v.fault == busy {
		err = errors.Join(errBusy, err)
	}
	return err
}

// now is a row that a step touches, as it stands in the open transaction.
func (w *writer) now(ctx context.Context, st *step, row schema.RowID, key schema.Row) (*standingRow, error) {
	if s := w.standing[row]; s != nil {
		return s, nil
	}
	key, err := st.plan.image(key)
	if err != nil {
		return nil, locate(err, st.change, st.at)
	}
	w.standing[row] = &standingRow{table: st.plan.target, key: keyOf(st.plan.target, key)}
	return w.standing[row], w.read(ctx, st.plan.target, []schema.RowID{row})
}

// settle decides what becomes of a row that both sides changed, writes it, and notes it in the conflict log.
func (w *writer) settle(ctx context.Context, st *step, met version) error {
	if st.two {
		return w.settleMoved(ctx, st, met)
	}
	s, err := w.now(ctx, st, st.rows[0], st.keys[0])
	if err != nil {
		return err
	}
	c, err := w.contest(st, s.row, met)
	if err != nil {
		return err
	}
	d, err := c.decideFor(st)
	if err != nil {
		return w.undecided(st, err)
	}
	e := w.entry(st, c, d)
	e.rows = []standing{{table: s.table.Table, key: s.key, row: d.result, by: d.by}}
	return w.conclude(ctx, st, &e, map[schema.RowID]schema.Row{st.rows[0]: d.result})
}

// author is whose a transaction's images are.
func (w *writer) author(tx *schema.Transaction) version {
	stamp, ok := w.stamps[tx.Pos]
	if !ok { // one that had waited
		stamp = tx.Stamp
	}
	return version{origin: tx.Origin, stamp: stamp}
}

// contest puts together what there is to decide on.
func (w *writer) contest(st *step, local schema.Row, met version) (contest, error) {
	c := contest{
		policy: st.policy, table: st.plan.target.Table, op: st.change.Op, local: local, localBy: met,
		by: w.author(st.tx), blind: st.blind != sighted, older: st.older,
	}
	var err error
	if st.change.Op != schema.Delete {
		if c.remote, err = st.plan.image(st.change.After); err != nil {
			return c, locate(err, st.change, st.at)
		}
		if local == nil {
			st.plan.completeImage(c.remote)
		}
	}
	if st.change.Before != nil {
		c.before = st.plan.imageIfFits(st.change.Before)
	}
	return c, nil
}

func (w *writer) undecided(st *step, err error) error {
	r := &schema.RejectedError{Table: st.plan.source.TableName, Cause: err}
	if errors.Is(err, errNoOldValues) {
		r.Remedy = st.plan.oldValues(st.tx.Origin)
	}
	return locate(r, st.change, st.at)
}

// settleMoved decides on a change that moved a row from one key to another: one decision over both. Nothing of it is blended.
func (w *writer) settleMoved(ctx context.Context, st *step, met version) error {
	from, err := w.now(ctx, st, st.rows[0], st.keys[0])
	if err != nil {
		return err
	}
	to, err := w.now(ctx, st, st.rows[1], st.keys[1])
	if err != nil {
		return err
	}
	base := from.row
	if base == nil {
		base = to.row
	}
	c, err := w.contest(st, base, met)
	if err != nil {
		return err
	}
	if k := c.policy.Kind; k == schema.Merge || k == schema.Add {
		c.policy = schema.Policy{Kind: schema.Latest}
	}
	d, err := c.decideFor(st)
	if err != nil {
		return w.undecided(st, err)
	}
	became := map[schema.RowID]schema.Row{st.rows[0]: from.row, st.rows[1]: to.row}
	if d.winner == remoteWins {
		became[st.rows[0]], became[st.rows[1]] = nil, d.result
	}
	c.policy = st.policy
	var also []entry
	if d.winner == remoteWins && from.row != nil && to.row != nil { // a row here had the new key: it is lost, too
		lost := c
		lost.local = to.row
		other := w.entry(st, lost, d)
		other.kind, other.key = "key "+other.kind, to.key
		also = append(also, other)
	}
	e := w.entry(st, c, d)
	e.kind = "key " + e.kind
	e.rows = []standing{
		{table: from.table.Table, key: from.key, row: became[st.rows[0]], by: d.by},
		{table: to.table.Table, key: to.key, row: became[st.rows[1]], by: d.by},
	}
	return w.conclude(ctx, st, &e, became, also...)
}

// entry is what the conflict log says of a decision.
func (w *writer) entry(st *step, c contest, d decision) entry {
	e := entry{
		contest: c, decision: d, at: w.stream.applier.options.Now(), office: w.stream.applier.options.Office,
		state: stateDecided, position: st.tx.OriginPos, known: w.known, change: st.change,
	}
	if d.winner == nobodyYet {
		e.state = stateOpen
	}
	if schema.Planted(schema.LoserNotLogged) {
		e.remote = nil
	}
	local := "update"
	switch {
	case c.local == nil:
		local = "delete"
	case c.op == schema.Insert:
		local = "insert"
	}
	e.kind = local + "/" + c.op.String()
	return e
}

// conclude writes the rows as they were decided, the entry and others beside it, and remembers the rows for what comes in the same transaction.
func (w *writer) conclude(ctx context.Context, st *step, e *entry, became map[schema.RowID]schema.Row, also ...entry) error {
	written, err := w.guarded(ctx, func() error {
		for _, row := range st.touched() { // the key that is left first: the other may need its unique values
			if err := w.become(ctx, st, w.standing[row], became[row]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !written { // another row has the unique key: the row stays as it is, the change waits
		return w.park(ctx, st, e)
	}
	for _, e := range append([]entry{*e}, also...) {
		if err := w.log(ctx, st, &e); err != nil {
			return err
		}
	}
	for row, image := range became {
		w.decided[row] = e.decision.by
		w.standing[row].row = image
	}
	return nil
}

// log writes an entry of the conflict log.
func (w *writer) log(ctx context.Context, st *step, e *entry) error {
	if _, err := w.one(ctx, &step{form: w.ses.defs().entryForm(), args: e.args(), at: st.at}); err != nil {
		return fmt.Errorf("write the conflict log: %w", err)
	}
	if e.state != stateAgain {
		w.conflicts = append(w.conflicts, Conflict{Table: e.table.TableName, Policy: e.policy.Kind, Winner: string(e.winner)})
	}
	return nil
}

// become makes a row be what was decided. Every statement hits exactly its row: it is locked, or was not there when it was
// looked for; if an application inserts it meanwhile, everything is tried again.
func (w *writer) become(ctx context.Context, st *step, s *standingRow, row schema.Row) error {
	p, err := w.ses.defs().plan(ctx, s.table.Table)
	if err != nil {
		return err
	}
	c := &schema.Change{Table: s.table.Table, Before: s.key, After: row}
	switch {
	case s.row == nil && row == nil, s.row != nil && row != nil && slices.Equal(s.row, row):
		return nil
	case row == nil:
		c.Op = schema.Delete
	case s.row == nil:
		c.Op, c.Before = schema.Insert, nil
	default:
		c.Op, c.After = schema.Update, slices.Clone(row)
		for i := range c.After {
			if c.After[i] == s.row[i] && !slices.Contains(s.table.Key, i) {
				c.After[i] = schema.Value{}
			}
		}
	}
	write, _, err := p.bind(c.Op, c, s.key, nil)
	if err != nil {
		return locate(err, st.change, st.at)
	}
	write.at = st.at
	n, err := w.one(ctx, &write)
	switch {
	case err != nil && c.Op == schema.Insert && w.ses.judge(err).primary:
		return fmt.Errorf("%s of table %s at %s: %w: %w", c.Op, s.table.TableName, st.at, errVanished, err)
	case err != nil:
		return w.explain(err, &write)
	case n == 0:
		return fmt.Errorf("%s of table %s at %s: %w", c.Op, s.table.TableName, st.at, errVanished)
	}
	return nil
}

// settleTruncate empties a table but for the rows that somebody touched without its office having seen that.
func (w *writer) settleTruncate(ctx context.Context, st *step) error {
	if err := w.truncateWaiting(ctx, st); err != nil {
		return err
	}
	t := st.plan.target
	return w.sweep(ctx, st, func(keys, images []schema.Row) error {
		if err := w.barrier(ctx); err != nil { // for the rows just locked
			return err
		}
		for i := range keys {
			row := t.RowID(keys[i])
			kept, by, err := w.outlives(st, row)
			if err != nil {
				return err
			}
			s := &standingRow{table: t, key: keys[i], row: images[i]}
			if !kept {
				if err := w.become(ctx, st, s, nil); err != nil {
					return err
				}
				continue
			}
			c := contest{policy: st.policy, table: t.Table, op: schema.Truncate, local: images[i], localBy: by, by: w.author(st.tx)}
			e := w.entry(st, c, c.keep(localWins))
			e.change = &schema.Change{Table: t.Table, Op: schema.Delete, Before: keys[i]}
			e.rows = []standing{{table: t.Table, key: keys[i], row: images[i], by: by}}
			if err := w.log(ctx, st, &e); err != nil {
				return err
			}
			w.decided[row] = by
		}
		return nil
	})
}

// outlives reports whether a row stays when its table is emptied by an office that had not seen its last touch, or that may not have
// had the row at all, and whose it is.
func (w *writer) outlives(st *step, row schema.RowID) (bool, version, error) {
	seq, by, err := w.against(st, row)
	if err != nil || seq > w.seen(st.tx) {
		return true, by, err
	}
	if st.blind = w.blindness(st, 0); st.blind != joining {
		return false, by, nil
	}
	if seq == 0 {
		by = w.stranger(st)
	}
	mine, err := w.mine(st, row)
	return !mine, by, err
}

// sweep goes through a table in batches of locked rows.
func (w *writer) sweep(ctx context.Context, st *step, each func(keys, images []schema.Row) error) error {
	t := st.plan.target
	var from schema.Row
	for {
		keys, err := w.ses.fetchKeys(ctx, t, from, lockBatch)
		if err != nil {
			return w.unread(err, t)
		}
		if len(keys) == 0 {
			return nil
		}
		images, err := w.ses.fetch(ctx, t, keys, true)
		if err != nil {
			return w.unread(err, t)
		}
		if err := each(keys, images); err != nil {
			return err
		}
		from = keys[len(keys)-1]
	}
}
