package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// ErrElsewhere says that a sender's stream is not applied to the place of a chunk, or is in the middle of the transaction
// behind it. Nothing was written; its rows are to be asked for again.
var ErrElsewhere = errors.New("the stream is not at the place of the chunk")

// Taken says what became of the rows of a chunk.
type Taken struct {
	Inserted, Updated, Deleted int
	Same                       int // stood here as they are
	Missing                    int // are not to be here, and were not
	Held                       int // passed by: this office has changes of them under way, which the head will meet
	Parked                     int // of those inserted or updated: they wait, because another row here has their unique key
	Filtered                   int // of a table that this office does not receive
}

// Chunk writes rows of one table as they are at a place of a sender's stream, in one database transaction with how far the
// joins are. It is for branches. An Insert is a row that is to stand here, with all its columns, whatever stood here before; a
// Delete says that there is no such row. The stream itself does not move. ErrElsewhere and the errors of Apply: nothing was
// written, save that after any other error nobody knows (the rows may be written again).
func (a *Applier) Chunk(ctx context.Context, sender schema.Office, at schema.Position, stamp schema.Stamp, changes []schema.Change, save []Join) (Taken, error) {
	if err := a.checkChunk(changes); err != nil {
		return Taken{}, err
	}
	s := a.stream(sender)
	s.mu.lock()
	defer s.mu.unlock()
	began := time.Now()
	tx := schema.Transaction{Origin: sender, OriginPos: at, Pos: at, Stamp: stamp, Changes: changes, Last: true}
	taken, err := s.chunk(ctx, &tx, save)
	s.stats.Seconds += time.Since(began).Seconds()
	if err != nil && !errors.Is(err, ErrElsewhere) {
		s.stats.Errors++
	}
	snapshot := s.stats
	s.published.Store(&snapshot)
	return taken, err
}

func (a *Applier) checkChunk(changes []schema.Change) error {
	if a.options.Role != schema.Branch {
		return errors.New("a chunk of rows came to an office that is no branch")
	}
	for i := range changes {
		c := &changes[i]
		if err := c.Validate(); err != nil {
			return fmt.Errorf("a chunk of rows: %w", err)
		}
		if c.Op != schema.Insert && c.Op != schema.Delete || c.Table != changes[0].Table {
			return fmt.Errorf("a chunk of rows of table %s has something else: %s in table %s", changes[0].Table.TableName, c.Op, c.Table.TableName)
		}
	}
	return nil
}

// Joining tells which tables are being joined here: an update of a row that is missing, and that does not hold all of its
// columns, is passed by there (Stats.Joining), because a chunk will bring the row. Before it is called, none is.
func (a *Applier) Joining(tables func(schema.TableName) bool) { a.joining.Store(&tables) }

func (a *Applier) isJoining(table schema.TableName) bool {
	tables := a.joining.Load()
	return tables != nil && (*tables)(table)
}

func (s *stream) chunk(ctx context.Context, tx *schema.Transaction, save []Join) (taken Taken, err error) {
	if err := s.load(ctx); err != nil {
		return taken, err
	}
	in := func() error {
		if s.open != nil || s.have != tx.Pos {
			return fmt.Errorf("chunk of %s at %s (applied: %s): %w", s.sender, tx.Pos, s.have, ErrElsewhere)
		}
		return nil
	}
	if err := in(); err != nil {
		return taken, err
	}
	err = s.persist(ctx, false, func() error {
		return s.afresh(ctx, func() (stale bool, err error) {
			taken, stale, err = s.attemptChunk(ctx, tx, save)
			return stale, err
		}, in)
	})
	return taken, err
}

func (s *stream) attemptChunk(ctx context.Context, tx *schema.Transaction, save []Join) (taken Taken, stale bool, err error) {
	began := time.Now()
	ses, err := s.applier.take(ctx)
	if err == nil {
		err = s.applier.recall(ctx, ses)
	}
	if err != nil {
		s.known = false
		if ses != nil {
			s.applier.spoiled(ses)
		}
		return taken, false, err
	}
	ses.begin()
	w := &s.work
	w.start(s, ses, true)
	w.chunks = true
	taken, err = w.chunk(ctx, tx)
	if err == nil {
		err = w.ours(saveJoins(ctx, ses, s.applier.options.Office, save))
	}
	if err == nil {
		err = w.commit(ctx)
	}
	if err != nil {
		stale = ses.defs().staleSince(began)
		s.known = false
		s.ended(ctx, ses, err)
		return Taken{}, stale, err
	}
	s.applier.release(ses)
	s.stats.add(&w.tally)
	s.applier.concluded(w)
	return taken, false, nil
}

// ours explains an error of a statement on a table of ours.
func (w *writer) ours(err error) error {
	if err == nil {
		return nil
	}
	return w.explain(err, &step{at: w.stream.have})
}

// chunk writes a chunk's rows, behind its progress row.
func (w *writer) chunk(ctx context.Context, tx *schema.Transaction) (taken Taken, err error) {
	defer w.forget()
	if err := w.fence(ctx, tx); err != nil {
		return taken, err
	}
	if err := w.planChanges(ctx, tx); err != nil {
		return taken, err
	}
	if len(w.steps) > 0 {
		for _, statement := range w.sequences.statements() {
			w.ses.queue(statement)
		}
		if err := w.rows(ctx, &taken); err != nil {
			return taken, err
		}
	}
	for _, d := range w.waiting.all() { // what is left of the parked ones
		taken.Parked += len(d.queue)
	}
	taken.Held, taken.Filtered = int(w.tally.Held), int(w.tally.Filtered)
	w.tally.Inserts, w.tally.Updates, w.tally.Deletes = uint64(taken.Inserted), uint64(taken.Updated), uint64(taken.Deleted)
	return taken, nil
}

// fence writes the progress row, which capture knows an apply by, if the stream stands where the chunk does.
func (w *writer) fence(ctx context.Context, tx *schema.Transaction) error {
	args := []schema.Value{
		schema.Of(strconv.FormatInt(tx.Stamp.Millis, 10)), schema.Of(strconv.FormatUint(uint64(tx.Stamp.Counter), 10)),
		schema.Of(string(w.stream.applier.options.Office)), schema.Of(string(w.stream.sender)),
		schema.Of(strconv.FormatUint(tx.Pos.Epoch, 10)), schema.Of(strconv.FormatUint(tx.Pos.Seq, 10)),
	}
	n, err := w.one(ctx, &step{form: w.ses.defs().chunkForm(), args: args, at: tx.Pos})
	if err == nil && n == 0 {
		return fmt.Errorf("chunk of %s at %s: %w", w.stream.sender, tx.Pos, ErrElsewhere)
	}
	return w.ours(err)
}

// chunkForm counts a chunk at a place of a stream, and sees that the row's stamp is not behind the chunk's: the office's clock
// is never behind what it has seen.
func (d *definitions) chunkForm() *form {
	return d.own(ownChunk, func() *form {
		f := &form{op: opOwn}
		chunks := quote(d.engine, schema.ProgressChunks)
		f.text("UPDATE " + tableName(d.engine, schema.OwnSchema, schema.ProgressTable) + " SET " + chunks + " = " + chunks + " + 1")
		for _, column := range []string{schema.ProgressStampMillis, schema.ProgressStampCounter} {
			name := quote(d.engine, column)
			f.text(", " + name + " = GREATEST(" + name + ", ")
			f.value(numberOf(column))
			f.text(")")
		}
		f.where(d.engine, []schema.Column{textOf(schema.ProgressOffice), textOf(schema.ProgressOrigin), numberOf(schema.ProgressEpoch), numberOf(schema.ProgressSeq)})
		f.finish()
		return f
	})
}

// rows writes the steps of a chunk. It first hopes that none of the rows is here, as when a join begins with nothing; or that
// few are, which a look at the keys tells, as when the head's stream has brought some of them meanwhile.
func (w *writer) rows(ctx context.Context, taken *Taken) error {
	all := w.steps
	if slices.ContainsFunc(all, func(st step) bool { return st.form.op != schema.Insert || st.alone }) {
		return w.differing(ctx, taken)
	}
	if !w.met {
		if done, err := w.mostly(ctx, all, nil, taken); done || err != nil {
			return err
		}
	}
	fresh, known, err := w.guess(ctx, all)
	if err != nil {
		return err
	}
	if len(known) > 0 || w.met {
		if done, err := w.mostly(ctx, fresh, known, taken); done || err != nil {
			return err
		}
	}
	w.steps = all
	return w.differing(ctx, taken)
}

// guess tells the steps whose rows are not here from those whose rows are, most likely: it reads the keys here behind that of the
// first step without a lock, and the order of keys here may be another one than the head's.
func (w *writer) guess(ctx context.Context, steps []step) (fresh, known []step, err error) {
	p := steps[0].plan
	if !p.sameKey {
		return steps, nil, nil
	}
	for i := range steps {
		if err := p.identify(steps[i].change, &steps[i]); err != nil {
			return nil, nil, locate(err, steps[i].change, steps[i].at)
		}
	}
	from, err := p.image(steps[0].keys[0])
	if err != nil {
		return nil, nil, locate(err, steps[0].change, steps[0].at)
	}
	t := p.target
	got, err := w.ses.fetchStretch(ctx, newStretch(t, catalog.NewKeyReader(t), true, false), from, len(steps), allBytes)
	if err != nil {
		return nil, nil, w.unread(err, t)
	}
	here := map[schema.RowID]bool{steps[0].rows[0]: true} // behind itself it is not looked for
	for _, key := range got.rows {
		here[t.RowID(key)] = true
	}
	for _, st := range steps {
		if here[st.rows[0]] {
			known = append(known, st)
		} else {
			fresh = append(fresh, st)
		}
	}
	w.met = len(got.rows) > 0
	return fresh, known, nil
}

// mostly writes fresh rows, which are not here, and known ones, which are. It reports false where it is otherwise; then nothing
// is written.
func (w *writer) mostly(ctx context.Context, fresh, known []step, taken *Taken) (done bool, err error) {
	var here, rows []schema.Row
	if len(known) > 0 {
		w.steps = known
		if here, err = w.lookUp(ctx, known[0].plan); err != nil {
			return false, err
		}
	}
	met := known[:0:0]
	for i, row := range here {
		if row == nil {
			fresh = append(slices.Clip(fresh), known[i])
		} else {
			met, rows = append(met, known[i]), append(rows, row)
		}
	}
	if len(fresh) > 0 {
		if surprise, err := w.asSets(ctx, fresh); surprise || err != nil {
			return false, err
		}
	}
	if err := w.ownLog(ctx); err != nil { // behind the locks of the rows that are here, and of those that are new by now
		return false, err
	}
	if late, err := w.anyHeld(fresh); late || err != nil {
		w.ses.restore()
		return false, err
	}
	taken.Inserted = len(fresh)
	left, err := w.unlike(met, rows, taken)
	if err != nil {
		return false, err
	}
	return true, w.writeLeft(ctx, left, taken)
}

// asSets writes steps of other rows each, as few statements. It reports whether that turned out to be wrong; then it is undone.
func (w *writer) asSets(ctx context.Context, steps []step) (surprise bool, err error) {
	w.steps = steps
	w.join()
	w.hoped, w.collapsed = w.steps, false
	return w.together(ctx)
}

// differing looks at what is here of a chunk's rows and writes those that are otherwise. The rows are locked from then on, so
// behind a barrier it is known of each whether an application here has changed it: no head's row may go over that, because the
// head that has met the change need not speak of the row again.
func (w *writer) differing(ctx context.Context, taken *Taken) error {
	p := w.steps[0].plan
	if !p.sameKey { // nobody can say which row here is which
		taken.Inserted = len(w.steps)
		return w.apart(ctx)
	}
	here, err := w.lookUp(ctx, p)
	if err != nil {
		return err
	}
	if err := w.ownLog(ctx); err != nil {
		return err
	}
	w.met = slices.ContainsFunc(here, func(row schema.Row) bool { return row != nil })
	left, err := w.unlike(w.steps, here, taken)
	if err != nil {
		return err
	}
	return w.writeLeft(ctx, left, taken)
}

// unlike are the steps that are needed where the rows stand here so (nil: there is none).
func (w *writer) unlike(steps []step, here []schema.Row, taken *Taken) ([]step, error) {
	left := make([]step, 0, len(steps))
	for i := range steps {
		st := &steps[i]
		held, err := w.heldNow(st)
		if err != nil {
			return nil, err
		}
		if held {
			w.tally.Held++
			continue
		}
		different, err := w.toWrite(st, here[i], taken)
		if err != nil {
			return nil, locate(err, st.change, st.at)
		}
		if different {
			left = append(left, *st)
		}
	}
	return left, nil
}

// lookUp locks and reads the rows of the steps; nil where there is none.
func (w *writer) lookUp(ctx context.Context, p *plan) ([]schema.Row, error) {
	keys, rows := make([]schema.Row, len(w.steps)), make([]schema.Row, 0, len(w.steps))
	for i := range w.steps {
		st := &w.steps[i]
		err := p.identify(st.change, st)
		if err == nil {
			keys[i], err = p.image(st.keys[0])
		}
		if err != nil {
			return nil, locate(err, st.change, st.at)
		}
	}
	for batch := range slices.Chunk(keys, lockBatch) {
		images, err := w.ses.fetch(ctx, p.target, batch, true)
		if err != nil {
			return nil, w.unread(err, p.target)
		}
		rows = append(rows, images...)
	}
	return rows, nil
}

// toWrite makes the step that is needed where row stands (nil: none), and reports whether any is.
func (w *writer) toWrite(st *step, row schema.Row, taken *Taken) (bool, error) {
	p, t := st.plan, st.plan.target
	// By its collation a database may find 'a' for 'A', which are two rows to everybody else.
	other := row != nil && t.RowID(row) != st.rows[0]
	switch {
	case st.change.Op == schema.Delete:
		if row == nil || other {
			taken.Missing++
		}
		return row != nil && !other, nil
	case row == nil:
		return true, nil
	}
	image, err := p.image(st.change.After)
	if err != nil {
		return false, err
	}
	if !other && agrees(row, image) {
		taken.Same++
		return false, nil
	}
	change := *st.change
	change.Op, change.Before = schema.Update, nil
	if other {
		change.Before = make(schema.Row, len(change.After))
		for _, k := range p.source.Key {
			change.Before[k] = row[p.columns[k].to]
		}
	}
	before := p.replaced
	update, args, err := p.bind(schema.Update, &change, change.KeyRow(), w.args)
	if err != nil {
		return false, err
	}
	w.tally.Replaced += p.replaced - before
	w.args, st.form, st.args, st.change = args, update.form, update.args, &change
	return true, nil
}

// agrees reports whether a row is as an image of it says, as far as that goes.
func agrees(row, image schema.Row) bool {
	for i, v := range image {
		if !v.IsUnchanged() && v != row[i] {
			return false
		}
	}
	return true
}

// writeLeft writes the steps that are needed: what goes before what changes, and that before what is new, which may need its
// unique values.
func (w *writer) writeLeft(ctx context.Context, left []step, taken *Taken) error {
	order := map[schema.Op]int{schema.Delete: 0, schema.Update: 1, schema.Insert: 2}
	slices.SortStableFunc(left, func(a, b step) int { return order[a.form.op] - order[b.form.op] })
	var sets, alone, inserts []step
	for _, st := range left {
		switch st.form.op {
		case schema.Insert:
			taken.Inserted++
			inserts = append(inserts, st)
		case schema.Update:
			taken.Updated++
		default:
			taken.Deleted++
		}
		if st.alone {
			alone = append(alone, st)
		} else {
			sets = append(sets, st)
		}
	}
	if len(sets) > 0 {
		surprise, err := w.asSets(ctx, sets)
		if err != nil {
			return err
		}
		if surprise {
			alone = left
		}
	}
	if w.steps = alone; len(alone) > 0 {
		if err := w.apart(ctx); err != nil {
			return err
		}
	}
	late, err := w.overtaken(ctx, inserts) // nothing was there to be locked before
	if err == nil && late {
		err = fmt.Errorf("chunk of %s at %s: an application here wrote a row of it meanwhile: %w", w.stream.sender, w.stream.have, errBusy)
	}
	return err
}

// overtaken reports whether one of the rows just written, which are locked by that, had been changed by an application here
// without its change being known then.
func (w *writer) overtaken(ctx context.Context, steps []step) (bool, error) {
	if len(steps) == 0 {
		return false, nil
	}
	if err := w.ownLog(ctx); err != nil {
		return false, err
	}
	return w.anyHeld(steps)
}

// ownLog is Barrier, where it matters what this office has under way.
func (w *writer) ownLog(ctx context.Context) error {
	if w.stream.applier.options.Hold == nil {
		return nil
	}
	return w.stream.applier.Barrier(ctx)
}

func (w *writer) anyHeld(steps []step) (bool, error) {
	for i := range steps {
		if held, err := w.heldNow(&steps[i]); held || err != nil {
			return held, err
		}
	}
	return false, nil
}

// heldNow reports whether this office has a change of the step's row under way, as far as its log has been read.
func (w *writer) heldNow(st *step) (bool, error) {
	hold := w.stream.applier.options.Hold
	if hold == nil || !hold.Holding() || !st.plan.sameKey || schema.Planted(schema.NoHold) {
		return false, nil
	}
	if len(st.touched()) == 0 {
		if err := st.plan.identify(st.change, st); err != nil {
			return false, locate(err, st.change, st.at)
		}
	}
	return hold.Held(st.plan.target.TableName, st.rows[0], st.change.Op == schema.Delete)
}

// Barrier returns when this office's own log has been read behind everything that was committed before: it writes a mark and
// waits for it, at most barrierLimit. Where nobody reads the log (Options.Passed, Clocks) it returns at once.
func (a *Applier) Barrier(ctx context.Context) error {
	passed := a.options.Passed
	if passed == nil && a.options.Clocks != nil {
		passed = a.options.Clocks.Passed
	}
	if passed == nil {
		return nil
	}
	mark, err := a.Mark(ctx)
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, barrierLimit)
	defer cancel()
	if err := passed(waiting, mark); err != nil {
		return fmt.Errorf("wait until the log is read to mark %d: %w", mark, err)
	}
	return nil
}
