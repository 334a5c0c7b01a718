package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cdc-sidecar/schema"
)

// writer writes into one open database transaction. It first hopes: all steps go to the database at once. When a row turns
// out to be otherwise than the change expects it (inserted but there, updated but not there), or a change meets a touch that
// its office had not seen, everything of the call is undone and done again carefully, one step after the other, each
// followed by what repairs or decides it.
type writer struct {
	stream *stream
	ses    session
	parts  bool // the transaction comes in parts: what precedes this call must survive an undo
	tally  Stats
	last   *step // of the last write, for an error at commit

	// Of the open database transaction:
	stamps    map[schema.Position]schema.Stamp // by place of the transactions in hand, where rows are contested
	arrival   schema.Stamp                     // the latest of the stream: what is given to one from too far ahead is behind it
	decided   map[schema.RowID]version
	plainly   map[schema.RowID]bool // written as their changes have them; see mine
	conflicts []Conflict
	disputed  disputes              // parked before
	waiting   disputes              // parked in it
	unparked  map[schema.RowID]bool // what had been parked before was written in it
	collision error                 // the last
	chunks    bool                  // what is written is a chunk
	refused   schema.RowID          // the row that could not be written as it shall be, of the last that were written together
	misfits   bool                  // some change of the call waits for its table
	began     time.Time             // definitions from before may be older than a change of the table
	known     uint64
	released  uint64                        // by the clocks, when the call began
	standing  map[schema.RowID]*standingRow // of the call

	sequences sequences
	cascade   cascading

	// Of a transaction that changes tables:
	defined   bool  // DDLTable was written to
	inPieces  bool  // it is committed in pieces, though this part of it may change none
	before    int   // how many changes of it came in its earlier parts
	committed int   // how many are committed
	first     *step // moves the progress row
	owed      []owed
	orders    []schema.RowsOrder

	met bool // rows are likely to be here where the next chunk is

	written  map[schema.RowID]int // by row, the last step that updates or deletes it; see join
	collapse collapse
	hoped    []step // what is written together: steps, or, collapsed, what they come to
	// collapsed says that hoped is not steps.
	collapsed bool

	steps []step // as they were sent
	args  []schema.Value
	hits  []int64
}

func (w *writer) start(s *stream, ses session, parts bool) {
	w.stream, w.ses, w.parts, w.tally, w.last = s, ses, parts, Stats{}, nil
	w.sequences.log, w.cascade = s.applier.options.Log, cascading{}
	w.plainly, w.chunks = nil, false
	w.defined, w.inPieces, w.before, w.committed, w.first, w.orders, w.owed = false, false, 0, 0, nil, nil, nil
	w.stamps, w.decided, w.conflicts, w.unparked, w.collision, w.known = nil, nil, nil, nil, nil, 0
	w.disputed, w.waiting, w.began = s.applier.disputed(), disputes{}, time.Now()
	if s.applier.options.Clocks != nil {
		w.stamps, w.decided = map[schema.Position]schema.Stamp{}, map[schema.RowID]version{}
	}
}

// write writes transactions, or one part of one. One that changes tables comes alone.
func (w *writer) write(ctx context.Context, txs []schema.Transaction) error {
	if len(txs) == 1 && (w.inPieces || defines(&txs[0])) {
		return w.evolve(ctx, &txs[0])
	}
	return w.writeRows(ctx, txs)
}

func (w *writer) writeRows(ctx context.Context, txs []schema.Transaction) error {
	if done, err := w.cut(ctx, txs); done || err != nil {
		return err
	}
	defer w.forget()
	if err := w.plan(ctx, txs); err != nil {
		return err
	}
	if len(w.steps) == 0 {
		return nil
	}
	if schema.Planted(schema.ProgressBehind) {
		slices.Reverse(w.steps)
	}
	for _, statement := range w.sequences.statements() {
		w.ses.queue(statement)
	}
	if !slices.ContainsFunc(w.steps, func(st step) bool { return st.alone }) {
		w.hoped, w.collapsed = w.hopeful()
		if surprise, err := w.together(ctx); err != nil || !surprise {
			return err
		}
	}
	return w.apart(ctx)
}

// together writes all steps at once. It reports whether that turned out to be wrong; then it has undone it.
func (w *writer) together(ctx context.Context) (surprise bool, err error) {
	if w.parts {
		w.ses.save()
	}
	tally := w.tally
	surprise, err = w.hope(ctx)
	if w.collapsed && err == nil {
		w.collapse.learn(!surprise)
	}
	if err == nil && !surprise {
		surprise, err = w.contested(ctx)
	}
	if err != nil || !surprise {
		for i := range w.steps {
			if w.parts && err == nil {
				w.wrote(&w.steps[i])
			}
		}
		return false, err
	}
	if w.tally = tally; w.parts {
		w.ses.restore()
		w.ses.hush(w.cascade.hushed)
	} else {
		w.ses.restart()
	}
	return true, nil
}

// apart writes one step after the other.
func (w *writer) apart(ctx context.Context) (err error) {
	w.standing = map[schema.RowID]*standingRow{} // of this call: between two calls applications may write
	if err := w.identify(); err != nil {
		return err
	}
	if slices.ContainsFunc(w.steps, func(st step) bool { return st.contested }) {
		err = w.arbitrate(ctx)
	} else {
		for i := range w.steps {
			if err = w.parkable(ctx, &w.steps[i]); err != nil {
				break
			}
		}
	}
	if err == nil {
		err = w.retryWaiting(ctx)
	}
	return err
}

// identify names, at a branch, the rows of those steps that nothing is under way with: what was hoped for did not need it.
func (w *writer) identify() error {
	if w.stream.applier.options.Hold == nil {
		return nil
	}
	for i := range w.steps {
		st := &w.steps[i]
		if st.change == nil || st.misfit != nil || !st.plan.sameKey || len(st.touched()) > 0 {
			continue
		}
		if err := st.plan.identify(st.change, st); err != nil {
			return locate(err, st.change, st.at)
		}
	}
	return nil
}

// forget lets go of the values, which may be large.
func (w *writer) forget() {
	w.misfits = false
	clear(w.steps)
	clear(w.args)
	clear(w.written)
	w.collapse.forget()
	w.hoped = nil
	w.steps, w.args = w.steps[:0], w.args[:0]
}

// plan turns transactions into steps. At the head each transaction has its own progress row before it: the head's capture
// divides the database transaction by them again, to forward each with its origin. At a branch nothing is forwarded, and
// one row with the last position, written first, is enough.
func (w *writer) plan(ctx context.Context, txs []schema.Transaction) error {
	o := &w.stream.applier.options
	progress := w.ses.defs().progressForm()
	have, all := w.cascade.place(w.stream.have, txs)
	if o.Clocks != nil {
		w.released = o.Clocks.Released()
	}
	if w.first != nil {
		w.steps, w.first = append(w.steps, *w.first), nil
	}
	for i := range txs {
		tx := &txs[i]
		if o.Role == schema.Head && tx.Part == 0 {
			w.steps = append(w.steps, mark(progress, o.Office, w.stream.sender, have, tx, w.stamp(tx), 0))
			have = tx.Pos
		} else if i == 0 && tx.Part == 0 {
			w.steps = append(w.steps, mark(progress, o.Office, w.stream.sender, have, &all[len(all)-1], latestStamp(all), w.oldestWaiting()))
		}
		if tx.Last {
			w.tally.Transactions++
			if tx.Origin == o.Office {
				w.tally.Own++
			}
		}
		if err := w.planChanges(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

// join finds the steps that may be one statement with those before them, and returns how many statements that leaves.
func (w *writer) join() (statements int) {
	if w.written == nil {
		w.written = map[schema.RowID]int{}
	}
	from := 0 // where the run of joined steps begins
	for i := 1; i < len(w.steps); i++ {
		st, before := &w.steps[i], &w.steps[i-1]
		equal := st.form == before.form && st.form.single && st.change.Decided == nil && before.change.Decided == nil
		if equal && st.form.op != schema.Insert { // a second insert of a row would fail by itself
			if from == i-1 {
				equal = w.touches(from, from)
			}
			equal = equal && w.touches(i, from)
		}
		if st.joins = equal; !equal {
			from = i
			statements++
		}
	}
	return statements + 1
}

// touches notes which row step i touches. It reports false when a step since from touches the same row, or when the row has
// no number.
func (w *writer) touches(i, from int) bool {
	st := &w.steps[i]
	if !st.plan.sameKey {
		return false
	}
	row, err := w.rowOf(st)
	if err != nil {
		return false
	}
	last, ok := w.written[row]
	w.written[row] = i
	return !ok || last < from || last == i
}

// latestStamp is what a branch has seen when it has applied all of txs.
func latestStamp(txs []schema.Transaction) schema.Stamp {
	var latest schema.Stamp
	for i := range txs {
		latest = latest.Max(txs[i].Stamp)
		for j := range txs[i].Changes {
			if d := txs[i].Changes[j].Decided; d != nil {
				latest = latest.Max(d.Stamp)
			}
		}
	}
	return latest
}

// stamp is a transaction's stamp as it counts here. One that is further ahead than clocks may be counts as the time of its
// arrival, so that an office with a mad clock neither wins for ever nor takes the others with it.
func (w *writer) stamp(tx *schema.Transaction) schema.Stamp {
	o := &w.stream.applier.options
	if o.Clocks == nil {
		return tx.Stamp
	}
	stamp := tx.Stamp
	if now := o.Now(); stamp.Millis > now.Add(o.Drift).UnixMilli() && !schema.Planted(schema.DriftNotClamped) {
		stamp = w.arrival.Max(o.Clocks.Now()).Next(now)
		w.tally.Clamped++
	}
	w.arrival = w.arrival.Max(stamp)
	w.stamps[tx.Pos] = stamp
	return stamp
}

func (w *writer) planChanges(ctx context.Context, tx *schema.Transaction) error {
	own := tx.Origin == w.stream.applier.options.Office
	var table *schema.Table // rows of one table come in runs
	var p *plan             // nil: this office does not take the table
	for i := range tx.Changes {
		c := &tx.Changes[i]
		if own && (c.Decided == nil || schema.Planted(schema.ResolutionSuppressed)) {
			continue // here already
		}
		if c.Op == schema.Define {
			return fmt.Errorf("table %s at %s: a schema change among rows", c.Table.TableName, tx.Pos)
		}
		if c.Table != table {
			var err error
			p, err = w.planTable(ctx, c.Table)
			if errors.As(err, new(*unfitError)) {
				if err = w.misfit(nil, c, tx, err); err == nil {
					table = nil
					continue
				}
			}
			if err != nil {
				return locate(err, c, tx.Pos)
			}
			table = c.Table
		}
		if p == nil {
			w.tally.Filtered++
			continue
		}
		q := p
		if p.whole != nil && c.Op == schema.Insert && c.Decided == nil {
			var err error
			c = p.completed(c)
			if q, err = w.planTable(ctx, c.Table); err != nil {
				return locate(err, c, tx.Pos)
			}
		}
		err := w.planChange(q, c, tx)
		if errors.As(err, new(*unfitError)) {
			err = w.misfit(q, c, tx, err)
		}
		if err != nil {
			return locate(err, c, tx.Pos)
		}
	}
	return nil
}

func (w *writer) planChange(p *plan, c *schema.Change, tx *schema.Transaction) error {
	w.sequences.sawChange(p, c)
	if p.drops && p.leaves(c) {
		w.tally.Dropped++
	}
	op, key := c.Op, c.KeyRow()
	if c.Decided != nil && op == schema.Insert {
		op = schema.Update // the row is there more often than not
	}
	before := p.replaced
	st, args, err := p.bind(op, c, key, w.args)
	if err != nil {
		return err
	}
	w.tally.Replaced += p.replaced - before
	st.at, st.tx = tx.Pos, tx
	if held, err := w.follow(p, c, &st); held || err != nil {
		return err
	}
	w.args = args
	w.steps = append(w.steps, st)
	w.tally.count(c.Op)
	return nil
}

// follow finds out what else has to do with the rows of a change, and reports whether it is to be passed by: what the head
// says of a row is older than what it will say once it has met our change.
func (w *writer) follow(p *plan, c *schema.Change, st *step) (held bool, err error) {
	o := &w.stream.applier.options
	st.contested = w.stream.applier.contests(p.target.TableName, st.tx.Origin) || w.dependent(p, c, st.tx.Origin)
	holding := o.Hold != nil && o.Hold.Holding()
	if !st.contested && !holding && len(w.disputed) == 0 && len(w.waiting) == 0 && !w.misfits {
		return false, nil
	}
	if !st.contested && !p.sameKey { // rows are told apart by the key of the head's table, which this one is not keyed by
		return false, nil
	}
	if err := p.identify(c, st); err != nil {
		return false, err
	}
	if st.contested {
		st.policy = o.Policy(p.source.TableName)
		if c.Op == schema.Update && st.policy.NeedsOld() && !hasOld(c, st.policy) {
			return false, &schema.RejectedError{Table: p.source.TableName, Cause: errNoOldValues, Remedy: p.oldValues(st.tx.Origin)}
		}
	}
	st.alone = st.contested && (c.Op == schema.Truncate || w.blindness(st, w.released) != sighted) || w.disputes(st)
	if !holding {
		return false, nil
	}
	return w.holds(c, st)
}

// hasOld reports whether a change holds its row as it was, as far as the policy needs it.
func hasOld(c *schema.Change, policy schema.Policy) bool {
	if c.Before == nil {
		return false
	}
	for i := range c.Table.Columns {
		column := &c.Table.Columns[i]
		needed := policy.Kind == schema.Merge || slices.Contains(policy.Add, column.Name)
		if needed && !column.Generated && c.Before[i].IsUnchanged() {
			return false
		}
	}
	return true
}

// holds reports whether this office has changes under way of all rows that the head's change touches. Of a row that moved
// from one key to another, one may be held and the other not, and of a truncated table some rows: such a change is written
// by itself.
func (w *writer) holds(c *schema.Change, st *step) (bool, error) {
	hold := w.stream.applier.options.Hold
	if schema.Planted(schema.NoHold) {
		return false, nil
	}
	if c.Op == schema.Truncate {
		st.partly = hold.HeldTable(st.plan.target.TableName)
		st.alone = st.alone || st.partly
		return false, nil
	}
	n := 0
	for i, row := range st.touched() {
		held, err := hold.Held(st.plan.target.TableName, row, c.Op == schema.Delete || st.two && i == 0)
		if err != nil {
			return false, err
		}
		if held {
			n++
		}
	}
	if n == len(st.touched()) {
		w.tally.Held++
		return true, nil
	}
	st.partly = n > 0
	st.alone = st.alone || st.partly
	return false, nil
}

func (w *writer) planTable(ctx context.Context, t *schema.Table) (*plan, error) {
	if !w.stream.applier.options.Receive(t.TableName) {
		return nil, nil
	}
	d := w.ses.defs()
	p, err := d.plan(ctx, t)
	if d.staleSince(w.began) && (errors.As(err, new(*unfitError)) || err == nil && p.incomplete() && w.stream.applier.options.DDL.Apply != "") {
		d.forget() // somebody may have changed the table meanwhile
		p, err = d.plan(ctx, t)
	}
	if err == nil && w.unexplained(p) {
		if err = w.ask(ctx, p); err == nil {
			p, err = d.plan(ctx, t)
		}
	}
	if errors.Is(err, errDropped) {
		w.tally.Dropped++
		return nil, nil
	}
	return p, err
}

// hope runs all steps at once and reports whether a row was otherwise than expected.
func (w *writer) hope(ctx context.Context) (surprise bool, err error) {
	var failed int
	w.hits, failed, err = w.ses.run(ctx, w.hoped, w.hits[:0])
	if err != nil {
		v := w.ses.judge(err)
		unclear := failed < 0 || w.collapsed || w.hoped[failed].joins || failed+1 < len(w.hoped) && w.hoped[failed+1].joins
		if v.fault == duplicate || v.fault == collision || v.fault == unsupported || v.fault == unreferred || unclear && v.fault != transient && v.fault != busy {
			return true, nil // one by one it may be mended, or shows at least which step it was
		}
		return false, explain(err, v, &w.hoped[max(failed, 0)], w.ses.user())
	}
	missing := uint64(0)
	for i, n := range w.hits {
		switch st := &w.hoped[i]; {
		case st.absent:
			if n > 0 {
				return true, nil
			}
		case n > 0 || st.form.op == schema.Truncate:
		case st.form.op == opProgress:
			return false, w.fenced(st)
		case st.form.op == schema.Delete:
			missing += unexpected(st)
		default:
			return true, nil
		}
	}
	w.tally.Missing += missing
	w.last = &step{change: w.steps[len(w.steps)-1].change, at: w.steps[len(w.steps)-1].at, plan: w.steps[len(w.steps)-1].plan}
	return false, nil
}

// unexpected counts a row that was not there to be deleted. A resolution tells of it whether or not it is.
func unexpected(st *step) uint64 {
	if st.change.Decided != nil {
		return 0
	}
	return 1
}

func (w *writer) fenced(st *step) error {
	return fmt.Errorf("apply %s of %s: %w", st.at, w.stream.sender, ErrFenced)
}

// one runs a single step.
func (w *writer) one(ctx context.Context, st *step) (hits int64, err error) {
	var n [1]int64
	got, _, err := w.ses.run(ctx, []step{*st}, n[:0])
	if err != nil {
		return 0, err
	}
	return got[0], nil
}

// careful runs one step and what repairs it.
func (w *writer) careful(ctx context.Context, st *step) error {
	switch st.form.op {
	case schema.Insert:
		return w.insert(ctx, st)
	case schema.Truncate:
		st = &step{form: st.plan.deleteAll(), change: st.change, plan: st.plan, at: st.at}
	}
	n, err := w.one(ctx, st)
	switch {
	case err != nil:
		return w.explain(err, st)
	case n > 0 && w.came(st, 0):
		return vanished(st)
	case n > 0 || st.form.op == schema.Truncate:
		return nil
	case st.form.op == opProgress:
		return w.fenced(st)
	case st.form.op == schema.Delete:
		w.tally.Missing += unexpected(st)
		return nil
	}
	if st.form.op == opOwn {
		return nil
	}
	change := whole(st.change)
	joining := w.stream.applier.isJoining(st.change.Table.TableName)
	if !change.After.Complete(change.Table) {
		if removed, err := w.removedHere(st); removed || err != nil {
			return err
		}
		if joining { // a chunk brings the row
			w.tally.Joining++
			return nil
		}
		return locate(&schema.RejectedError{
			Table: st.change.Table.TableName, Cause: errors.New("the row to update is not here, and the change does not hold all of its columns"),
			Remedy: "copy the row from the office that has it",
		}, st.change, st.at)
	}
	if st.change.Decided == nil && !joining {
		w.repaired(st, "no row")
	}
	p := st.plan
	if p.whole != nil {
		change = *p.completed(&change)
		var err error
		if p, err = w.planTable(ctx, change.Table); err != nil {
			return locate(err, st.change, st.at)
		}
	}
	insert, _, err := p.bind(schema.Insert, &change, nil, nil)
	if err != nil {
		return locate(err, st.change, st.at)
	}
	insert.at, insert.tx, insert.rows, insert.two, insert.contested = st.at, st.tx, st.rows, st.two, st.contested
	return w.insert(ctx, &insert)
}

// came reports whether a row that was not there when it was looked for, before the barrier, is there now: somebody made it whom
// the clocks do not know.
func (w *writer) came(st *step, n int) bool {
	s := w.standing[st.rows[n]]
	return st.contested && s != nil && s.row == nil
}

func vanished(st *step) error {
	return fmt.Errorf("apply %s to table %s at %s: %w", st.change.Op, st.change.Table.TableName, st.at, errVanished)
}

// whole is an update with what the log left out of the row taken from the image before.
func whole(c *schema.Change) schema.Change {
	change := *c
	change.After = slices.Clone(c.After)
	for i := range change.After {
		if change.After[i].IsUnchanged() && c.Before != nil {
			change.After[i] = c.Before[i]
		}
	}
	return change
}

// removedHere explains at a branch why a row is missing: this office removed it, and the head had not met that when it changed
// the row. It will, and say how the row stands. The acknowledgement by which that is known may be of a later place of the
// stream than the change in hand, so it does not help here.
func (w *writer) removedHere(st *step) (bool, error) {
	hold := w.stream.applier.options.Hold
	if hold == nil || st.two || len(st.touched()) == 0 { // of a row's new key the head has nothing more to say
		return false, nil
	}
	touched, err := hold.Touched(st.plan.target.TableName, st.rows[0])
	if touched {
		w.tally.Held++
	}
	return touched, err
}

// insert inserts a row; one that exists is given all columns of the change.
func (w *writer) insert(ctx context.Context, st *step) error {
	n, inserting := w.one(ctx, st)
	switch {
	case n > 0:
		return nil
	case inserting != nil && w.ses.judge(inserting).fault != duplicate:
		return w.explain(inserting, st)
	case (inserting == nil || w.ses.judge(inserting).primary) && w.came(st, max(len(st.touched())-1, 0)):
		return vanished(st)
	}
	update, _, err := st.plan.bind(schema.Update, st.change, st.change.After, nil)
	if err != nil {
		return locate(err, st.change, st.at)
	}
	update.at = st.at
	n, err = w.one(ctx, &update)
	switch {
	case err != nil:
		return w.explain(err, st)
	case n > 0:
		if st.change.Decided == nil {
			w.repaired(st, "a row of this key")
		}
		return nil
	case inserting != nil:
		return w.explain(inserting, st) // not the key: another unique one
	default:
		return vanished(st)
	}
}

func (w *writer) explain(err error, st *step) error {
	return explain(err, w.ses.judge(err), st, w.ses.user())
}

func (w *writer) repaired(st *step, found string) {
	w.tally.Repaired++
	w.stream.applier.noticeRepair(w.stream.sender, st, found)
}

// commit makes everything durable. Constraints that are checked only now speak of the last change, which may not be the
// one to blame; the server's words name the constraint.
func (w *writer) commit(ctx context.Context) error {
	if w.stream.applier.options.Role == schema.Branch && (len(w.waiting) > 0 || len(w.unparked) > 0) {
		if err := w.touch(ctx); err != nil { // what waits has changed: so has what this office has seen
			return err
		}
	}
	err := w.ses.commit(ctx)
	if err == nil {
		return nil
	}
	w.stream.applier.ordered(w) // it may be committed all the same, and a comparison in vain costs little
	if v := w.ses.judge(err); w.last != nil && v.fault != transient {
		return explain(err, v, w.last, w.ses.user())
	}
	return fmt.Errorf("commit: %w", err)
}
