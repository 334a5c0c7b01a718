package apply

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"cdc-sidecar/schema"
)

// A change that cannot be written because another row here has its unique key is parked: it is kept in the database, in the
// same transaction as the progress that passes it by, and its row is disputed. Later changes of a disputed row wait behind
// it. What waits is tried again as a whole, the row as it would be after all of it, whenever something may have changed.

// guarded runs f, and undoes it when it fails because another row has a unique key: written is false then.
func (w *writer) guarded(ctx context.Context, f func() error) (written bool, err error) {
	w.ses.save()
	tally := w.tally
	if err = f(); err != nil && w.covers(err) {
		w.tally = tally
		w.ses.restore()
		w.ses.hush(true)
		err = f()
		w.ses.hush(w.cascade.hushed)
	}
	if !errors.Is(err, errCollides) {
		return err == nil, err
	}
	w.collision = err
	w.ses.restore()
	w.ses.hush(w.cascade.hushed)
	return false, ctx.Err()
}

// parkable writes one step carefully, or lets it wait.
func (w *writer) parkable(ctx context.Context, st *step) error {
	switch {
	case st.change == nil:
		return w.careful(ctx, st)
	case st.misfit != nil:
		return w.wait(ctx, st)
	case st.change.Op == schema.Truncate:
		return w.empty(ctx, st)
	case st.partly:
		var err error
		if st, err = w.rest(st); err != nil || st == nil {
			return err
		}
	}
	if queue := w.queue(st); len(queue) > 0 {
		if err := w.pin(ctx, st); err != nil {
			return err
		}
		written, err := w.writeWaiting(ctx, st, append(queue, w.single(st)))
		if err != nil || written {
			return err
		}
		return w.park(ctx, st, nil)
	}
	written, err := w.guarded(ctx, func() error { return w.careful(ctx, st) })
	if err != nil {
		return err
	}
	if written {
		for _, row := range st.touched() {
			delete(w.standing, row) // as it is now is for the next to read
		}
		return nil
	}
	if len(st.touched()) == 0 { // nobody else writes the table
		if !st.plan.sameKey {
			return w.collision
		}
		if err := st.plan.identify(st.change, st); err != nil {
			return locate(err, st.change, st.at)
		}
	}
	if err := w.pin(ctx, st); err != nil {
		return err
	}
	return w.park(ctx, st, nil)
}

// pin notes of a chunk's row how the row is here as it begins to wait. What an application here makes of it until then the head
// takes for made with its own row in sight, since nothing of the stream is missing here: so it must not be written over later.
func (w *writer) pin(ctx context.Context, st *step) error {
	if !w.chunks {
		return nil
	}
	s, err := w.now(ctx, st, st.rows[0], st.keys[0])
	if err == nil {
		st.change.Over = pinned(s)
	}
	return err
}

// pinned is a hash of a row as it is, never 0; of none, 1.
func pinned(s *standingRow) uint64 {
	if s.row == nil {
		return 1
	}
	var columns []string
	for i := range s.table.Columns {
		columns = append(columns, s.table.Columns[i].Name)
	}
	return max(schema.NewHasher(s.table.Table, columns).Hash(s.row), 2)
}

// empty writes a truncate. What waits of the table is emptied out, too.
func (w *writer) empty(ctx context.Context, st *step) error {
	if err := w.truncateWaiting(ctx, st); err != nil {
		return err
	}
	clear(w.standing)
	if !st.partly {
		return w.careful(ctx, st)
	}
	return w.sweep(ctx, st, func(keys, images []schema.Row) error {
		t := st.plan.target
		for i := range keys {
			held, err := w.stream.applier.options.Hold.Held(t.TableName, t.RowID(keys[i]), true)
			if err != nil {
				return err
			}
			if held {
				w.tally.Held++
				continue
			}
			if err := w.become(ctx, st, &standingRow{table: t, key: keys[i], row: images[i]}, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// truncateWaiting drops what waits of a table that its office emptied. At the head other offices' changes wait on: they had not
// heard of it.
func (w *writer) truncateWaiting(ctx context.Context, st *step) error {
	for _, d := range append(w.disputed.all(), w.waiting.all()...) {
		strange := func(tx schema.Transaction) bool { return tx.Origin != st.tx.Origin }
		switch {
		case d.queue[0].Changes[0].Table.TableName != st.change.Table.TableName:
		case w.stream.applier.options.Role == schema.Head && slices.ContainsFunc(d.queue, strange):
		default:
			if err := w.unpark(ctx, st, d.rows, d.queue); err != nil {
				return err
			}
		}
	}
	return nil
}

// rest is what is left of a change of a row that moved when one of its keys is held: the other. Nil: a chunk brings it.
func (w *writer) rest(st *step) (*step, error) {
	left := *st.change // the row is gone from its old key
	left.Op, left.Before, left.After = schema.Delete, st.change.KeyRow(), nil
	if held, err := w.stream.applier.options.Hold.Held(st.plan.target.TableName, st.rows[0], true); err != nil {
		return nil, err
	} else if held { // the row is at its new key
		left = whole(st.change)
		left.Op, left.Before = schema.Insert, nil
		if complete := left.After.Complete(left.Table); !complete && w.stream.applier.isJoining(left.Table.TableName) {
			w.tally.Joining++
			return nil, nil
		} else if !complete {
			return nil, locate(&schema.RejectedError{
				Table: left.Table.TableName, Cause: errors.New("the row moves to another key, and the change holds neither there nor before all of its columns"),
				Remedy: st.plan.oldValues(st.tx.Origin),
			}, st.change, st.at)
		}
	}
	w.tally.Held++
	part, _, err := st.plan.bind(left.Op, &left, left.KeyRow(), nil)
	if err == nil {
		err = st.plan.identify(&left, &part)
	}
	if err != nil {
		return nil, locate(err, st.change, st.at)
	}
	part.at, part.tx, part.policy = st.at, st.tx, st.policy
	return &part, nil
}

// dispute is what waits of some rows. Changes of one key into another tie the disputes of both together.
type dispute struct {
	number int
	rows   []schema.RowID
	queue  []schema.Transaction // oldest first, each with one change
}

// oldestWaiting is the first seq of the stream of which something waits; 0: nothing does. A branch has not seen what waits
// there: it tells the head only of what comes before, or its own changes of such a row would pass for later ones.
func (w *writer) oldestWaiting() (oldest uint64) {
	for _, d := range append(w.disputed.all(), w.waiting.all()...) {
		if slices.ContainsFunc(d.rows, func(row schema.RowID) bool { return w.unparked[row] && w.waiting[row] != d }) {
			continue
		}
		for i := range d.queue {
			if seq := d.queue[i].Pos.Seq; oldest == 0 || seq < oldest {
				oldest = seq
			}
		}
	}
	return oldest
}

// disputes has each under every row of it.
type disputes map[schema.RowID]*dispute

// add lets a change of these rows wait, behind all that waits of any of them.
func (d disputes) add(rows []schema.RowID, tx schema.Transaction) {
	joined := &dispute{number: len(d), rows: rows}
	for _, row := range rows {
		old := d[row]
		if old == nil || old == joined {
			d[row] = joined
			continue
		}
		joined.number = min(joined.number, old.number)
		joined.rows, joined.queue = slices.Concat(joined.rows, old.rows), slices.Concat(joined.queue, old.queue)
		for _, row := range old.rows {
			d[row] = joined
		}
	}
	joined.queue = append(joined.queue, tx)
	if schema.Planted(schema.ParkedOrderLost) {
		slices.Reverse(joined.queue)
	}
}

// all are the disputes, oldest first.
func (d disputes) all() []*dispute {
	seen := map[*dispute]bool{}
	for _, one := range d {
		seen[one] = true
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b *dispute) int { return cmp.Compare(a.number, b.number) })
}

// queue is what waits of the rows that the step touches, and of rows that wait with them, oldest first.
func (w *writer) queue(st *step) []schema.Transaction {
	queue, _ := w.tied(st.touched())
	return queue
}

// tied are the changes that have to be written together with one of these rows, and all rows that they touch.
func (w *writer) tied(rows []schema.RowID) (before []schema.Transaction, all []schema.RowID) {
	var now []schema.Transaction
	seen := map[*dispute]bool{}
	all = slices.Clone(rows)
	for i := 0; i < len(all); i++ { // all grows
		if d := w.disputed[all[i]]; d != nil && !w.unparked[all[i]] && !seen[d] {
			seen[d] = true
			before, all = append(before, d.queue...), append(all, d.rows...)
		}
		if d := w.waiting[all[i]]; d != nil && !seen[d] {
			seen[d] = true
			now, all = append(now, d.queue...), append(all, d.rows...)
		}
	}
	return append(before, now...), all
}

// single is a step's change as a transaction of its own, with its stamp as it counts here.
func (w *writer) single(st *step) schema.Transaction {
	tx := *st.tx
	tx.Changes, tx.Part, tx.Last, tx.Source = []schema.Change{*st.change}, 0, true, ""
	tx.Stamp = w.author(st.tx).stamp
	return tx
}

// produced is the row that a change leaves: where it waits.
func produced(st *step) schema.RowID {
	if st.two {
		return st.rows[1]
	}
	return st.rows[0]
}

// park keeps a change. At the head the conflict log tells of it; e is its entry where there is one already.
func (w *writer) park(ctx context.Context, st *step, e *entry) error {
	o := &w.stream.applier.options
	row := produced(st)
	tx := w.single(st)
	reason := ""
	if w.collision != nil {
		reason = w.collision.Error()
	}
	args := []schema.Value{
		schema.Of(string(o.Office)), schema.Of(hex.EncodeToString(row[:])), schema.Of(st.table()), schema.Of(st.change.KeyString()),
		schema.Of(reason), schema.Of(strconv.FormatInt(o.Now().UnixMicro(), 10)),
		schema.Of(string(schema.AppendBatch(nil, []schema.Transaction{tx}))),
	}
	if _, err := w.one(ctx, &step{form: w.ses.defs().parkForm(), args: args, at: st.at}); err != nil {
		return fmt.Errorf("park a change: %w", err)
	}
	_, rows := w.tied(st.touched())
	w.waiting.add(rows, tx)
	w.tally.Parked++
	if o.Clocks == nil || st.misfit != nil { // no other row is in its way
		return nil
	}
	if e == nil {
		s, err := w.now(ctx, st, st.rows[0], st.keys[0])
		if err != nil {
			return err
		}
		c, err := w.contest(st, s.row, version{})
		if err != nil {
			return err
		}
		made := w.entry(st, c, c.keep(nobodyYet))
		e = &made
	}
	e.kind, e.state, e.decision, e.rows = "unique", stateParked, e.keep(nobodyYet), nil
	return w.log(ctx, st, e)
}

// retryWaiting tries once more what was parked in this transaction: its other changes may have made room. What is left is then
// tried as one, as when two rows exchange their unique values.
func (w *writer) retryWaiting(ctx context.Context) error {
	var last *step
	var left []schema.Transaction
	for _, d := range w.waiting.all() {
		st, err := w.stepOf(ctx, &d.queue[len(d.queue)-1])
		if errors.As(err, new(*unfitError)) {
			continue
		}
		if err != nil {
			return err
		}
		if st == nil {
			continue
		}
		queue, _ := w.tied(d.rows)
		written, err := w.writeWaiting(ctx, st, queue)
		if err != nil {
			return err
		}
		if !written {
			last, left = st, append(left, queue...)
		}
	}
	if last == nil || len(w.waiting.all()) < 2 {
		return nil
	}
	_, err := w.exchange(ctx, last, left)
	return err
}

// stepOf makes a step of a transaction that has one change; nil when the table is not received any more.
func (w *writer) stepOf(ctx context.Context, tx *schema.Transaction) (*step, error) {
	c := &tx.Changes[0]
	p, err := w.planTable(ctx, c.Table)
	if err != nil || p == nil {
		return nil, err
	}
	st := &step{change: c, plan: p, at: tx.Pos, tx: tx, policy: w.stream.applier.options.Policy(p.source.TableName)}
	if err := p.lacks(c); err != nil {
		return nil, locate(err, c, tx.Pos)
	}
	return st, p.identify(c, st)
}

// writeWaiting writes rows as they are behind all that waits of them. It reports false when another row still has a unique key.
func (w *writer) writeWaiting(ctx context.Context, st *step, queue []schema.Transaction) (bool, error) {
	return w.writeComposed(ctx, st, queue, func(map[schema.RowID]schema.Row, []schema.RowID) (map[schema.RowID]*standingRow, error) {
		return w.standing, nil
	})
}

// writeComposed writes rows as they are behind a queue of changes; first makes them ready for that, and says how they stand then.
func (w *writer) writeComposed(ctx context.Context, st *step, queue []schema.Transaction,
	first func(map[schema.RowID]schema.Row, []schema.RowID) (map[schema.RowID]*standingRow, error),
) (bool, error) {
	rows, order, err := w.compose(ctx, queue)
	if errors.As(err, new(*unfitError)) {
		w.collision = err
		return false, nil
	}
	if err != nil {
		return false, err
	}
	write := func() error {
		vanishFirst(order, rows)
		stand, err := first(rows, order)
		for i := 0; i < len(order) && err == nil; i++ {
			if err = w.become(ctx, st, stand[order[i]], rows[order[i]]); err != nil {
				w.refused = order[i]
			}
		}
		return err
	}
	written, err := w.guarded(ctx, write)
	if err != nil || !written {
		return false, err
	}
	entries, decided, err := w.overrule(ctx, queue, rows)
	if err == nil && len(entries) > 0 { // once more, as it was decided
		w.ses.restore()
		written, err = w.guarded(ctx, write)
	}
	if err != nil || !written {
		return false, err
	}
	if err := w.unpark(ctx, st, order, queue); err != nil {
		return false, err
	}
	was := map[schema.RowID]schema.Row{}
	for _, row := range order {
		was[row], w.standing[row].row = w.standing[row].row, rows[row]
	}
	for i := range entries {
		if err := w.log(ctx, st, &entries[i]); err != nil {
			return false, err
		}
	}
	return true, w.told(ctx, st, order, was, decided)
}

// overrule decides, at the head, where a row was touched by others while changes of it waited. It puts what was decided in
// the place of what they would have made of the row.
func (w *writer) overrule(ctx context.Context, queue []schema.Transaction, rows map[schema.RowID]schema.Row) ([]entry, map[schema.RowID]version, error) {
	if w.stream.applier.options.Clocks == nil {
		return nil, nil, nil
	}
	if err := w.barrier(ctx); err != nil { // for the rows just locked
		return nil, nil, err
	}
	decided := map[schema.RowID]version{}
	looked := map[schema.RowID]bool{}
	var entries []entry
	for i := range queue {
		st, err := w.stepOf(ctx, &queue[i])
		if err != nil || st == nil {
			return nil, nil, err
		}
		for j, row := range st.touched() {
			if looked[row] {
				continue
			}
			looked[row] = true
			local := w.standing[row].row
			seq, by, err := w.against(st, row)
			if err != nil {
				return nil, nil, err
			}
			odd, err := w.oddWaiting(st, j, local)
			if err != nil {
				return nil, nil, err
			}
			if seq <= w.seen(st.tx) && (local == nil || st.change.Op != schema.Insert) && !odd {
				continue
			}
			c := contest{
				policy: st.policy, table: st.plan.target.Table, op: st.change.Op, local: local, localBy: by,
				remote: rows[row], by: w.author(&queue[len(queue)-1]), blind: odd,
				older: st.change.Claimed && seq > w.seen(st.tx),
			}
			c.before = w.baseOf(st, local)
			d, err := c.decide()
			if err != nil {
				return nil, nil, w.undecided(st, err)
			}
			rows[row], decided[row] = d.result, d.by
			entries = append(entries, w.entry(st, c, d))
		}
	}
	return entries, decided, nil
}

// baseOf is the image before the first change that waited; but for counters, which have been added already, the row here.
func (w *writer) baseOf(st *step, local schema.Row) schema.Row {
	if st.change.Before == nil {
		return nil
	}
	before := st.plan.imageIfFits(st.change.Before)
	for i := range st.plan.target.Columns {
		if st.policy.Kind == schema.Add && local != nil && slices.Contains(st.policy.Add, st.plan.target.Columns[i].Name) {
			before[i] = local[i]
		}
	}
	return before
}

// vanishFirst puts the rows that go away before the others, which may need their unique values.
func vanishFirst(order []schema.RowID, rows map[schema.RowID]schema.Row) {
	slices.SortStableFunc(order, func(a, b schema.RowID) int {
		if (rows[a] == nil) == (rows[b] == nil) {
			return 0
		}
		return map[bool]int{true: -1, false: 1}[rows[a] == nil]
	})
}

// compose is how the rows shall be that a queue of changes touches.
func (w *writer) compose(ctx context.Context, queue []schema.Transaction) (rows map[schema.RowID]schema.Row, order []schema.RowID, err error) {
	rows = map[schema.RowID]schema.Row{}
	for i := range queue {
		st, err := w.stepOf(ctx, &queue[i])
		if err != nil || st == nil {
			return nil, nil, err
		}
		overtaken := false
		for j, row := range st.touched() {
			s, err := w.now(ctx, st, row, st.keys[j])
			if err != nil {
				return nil, nil, err
			}
			overtaken = st.change.Over != 0 && st.change.Over != pinned(s)
			if _, known := rows[row]; !known {
				rows[row] = s.row
				order = append(order, row)
			}
		}
		if overtaken {
			continue
		}
		after := rows[st.rows[0]]
		if st.change.Op == schema.Delete {
			rows[st.rows[0]] = nil
			continue
		}
		image, err := w.onTop(st, after)
		if err != nil {
			return nil, nil, locate(err, st.change, st.at)
		}
		if st.two {
			rows[st.rows[0]] = nil
		}
		rows[produced(st)] = image
	}
	return rows, order, nil
}

// onTop is a row as a change leaves it: what its log left out stays, and counters get what it added.
func (w *writer) onTop(st *step, base schema.Row) (schema.Row, error) {
	image, err := st.plan.image(st.change.After)
	if err == nil && base == nil {
		st.plan.completeImage(image)
	}
	if err != nil || base == nil {
		return image, err
	}
	c := contest{policy: st.policy, table: st.plan.target.Table, local: base, remote: image}
	if st.change.Before != nil {
		c.before = st.plan.imageIfFits(st.change.Before)
	}
	sums := st.policy.Kind == schema.Add && st.change.Op == schema.Update && hasOld(st.change, st.policy)
	row := slices.Clone(image)
	for k := range image {
		if image[k].IsUnchanged() {
			row[k] = base[k]
			continue
		}
		sum, is, err := c.sum(k, sums && slices.Contains(st.policy.Add, c.table.Columns[k].Name))
		if err != nil {
			return nil, err
		}
		if is {
			row[k] = sum
		}
	}
	return row, nil
}

// unpark removes what waited of rows.
func (w *writer) unpark(ctx context.Context, st *step, rows []schema.RowID, queue []schema.Transaction) error {
	d, o := w.ses.defs(), &w.stream.applier.options
	if w.unparked == nil {
		w.unparked = map[schema.RowID]bool{}
	}
	waited := false
	for _, row := range rows {
		if w.disputed[row] == nil && w.waiting[row] == nil {
			continue
		}
		waited = true
		if _, err := w.one(ctx, &step{form: d.unparkForm(), args: []schema.Value{schema.Of(string(o.Office)), schema.Of(hex.EncodeToString(row[:]))}, at: st.at}); err != nil {
			return fmt.Errorf("take a change out of the parked ones: %w", err)
		}
		delete(w.waiting, row)
		w.unparked[row] = true
	}
	if !waited || o.Clocks == nil {
		return nil
	}
	var done []string
	for i := range queue {
		key := queue[i].Changes[0].KeyString()
		if slices.Contains(done, key) {
			continue
		}
		done = append(done, key)
		args := []schema.Value{
			schema.Of(stateResolved), schema.Of(strconv.FormatInt(o.Now().UnixMicro(), 10)), schema.Of(string(o.Office)),
			schema.Of(st.table()), schema.Of(key), schema.Of(stateParked),
		}
		if _, err := w.one(ctx, &step{form: d.resolvedForm(), args: args, at: st.at}); err != nil {
			return fmt.Errorf("mark an entry of the conflict log as resolved: %w", err)
		}
	}
	return nil
}

// told lets every office have rows that had waited, as they stand: their origins, too, which may each have another. What stood
// there before is kept: applications may have changed it since the change was parked.
func (w *writer) told(ctx context.Context, st *step, rows []schema.RowID, was map[schema.RowID]schema.Row, decided map[schema.RowID]version) error {
	if w.stream.applier.options.Clocks == nil {
		return nil
	}
	for _, row := range rows {
		s := w.standing[row]
		by, ok := decided[row]
		if !ok {
			by = w.author(st.tx)
		}
		e := w.entry(st, contest{policy: st.policy, table: s.table.Table, op: st.change.Op, local: was[row], remote: s.row, by: by},
			decision{winner: remoteWins, result: s.row, by: by})
		e.kind, e.state = "unique", stateAgain
		e.change = &schema.Change{Table: s.table.Table, Op: schema.Delete, Before: s.key}
		e.rows = []standing{{table: s.table.Table, key: s.key, row: s.row, by: by}}
		if err := w.log(ctx, st, &e); err != nil {
			return err
		}
		if w.decided != nil {
			w.decided[row] = by
		}
	}
	return nil
}

// ownForms are the statements on tables of ours, made when first needed.
func (d *definitions) own(name string, build func() *form) *form {
	if d.ours == nil {
		d.ours = map[string]*form{}
	}
	if d.ours[name] == nil {
		d.ours[name] = build()
		d.ours[name].own = name
	}
	return d.ours[name]
}

// The names of the statements on tables of ours.
const (
	ownEntry    = "entry"    // an entry of the conflict log
	ownPark     = "park"     // a change that waits
	ownUnpark   = "unpark"   // office, row: what waits of the row is gone
	ownResolved = "resolved" // state, when, office, table, key, state: entries that tell of a parked change
	ownDecided  = "taken"    // state, when, what, office, id: one entry
	ownTouch    = "touch"    // what waits, office, origin: the progress row is written again as it is
)

func (d *definitions) entryForm() *form {
	return d.own(ownEntry, func() *form { return ownInsert(d.engine, schema.ConflictsTable, entryColumns) })
}

// parkColumns in the order in which park writes them.
var parkColumns = []schema.Column{
	{Name: schema.ParkedOffice, Kind: schema.KindText},
	{Name: schema.ParkedRow, Kind: schema.KindText},
	{Name: schema.ParkedName, Kind: schema.KindText},
	{Name: schema.ParkedKey, Kind: schema.KindText},
	{Name: schema.ParkedReason, Kind: schema.KindText},
	{Name: schema.ParkedAt, Kind: schema.KindInt},
	{Name: schema.ParkedChange, Kind: schema.KindBytes},
}

func (d *definitions) parkForm() *form {
	return d.own(ownPark, func() *form { return ownInsert(d.engine, schema.ParkedTable, parkColumns) })
}

func (d *definitions) unparkForm() *form {
	return d.own(ownUnpark, func() *form {
		f := &form{op: opOwn}
		f.text("DELETE FROM " + tableName(d.engine, schema.OwnSchema, schema.ParkedTable))
		f.where(d.engine, []schema.Column{textOf(schema.ParkedOffice), textOf(schema.ParkedRow)})
		f.finish()
		return f
	})
}

// textOf and numberOf are columns of our own tables, by the kind of what is written to them.
func textOf(name string) schema.Column   { return schema.Column{Name: name, Kind: schema.KindText} }
func numberOf(name string) schema.Column { return schema.Column{Name: name, Kind: schema.KindInt} }

// resolvedForm marks what the conflict log says of a parked change.
func (d *definitions) resolvedForm() *form {
	return d.own(ownResolved, func() *form {
		return ownUpdate(d.engine, opOwn, schema.ConflictsTable,
			[]schema.Column{textOf(schema.ConflictState), numberOf(schema.ConflictResolvedAt)},
			[]schema.Column{textOf(schema.ConflictOffice), textOf(schema.ConflictTable), textOf(schema.ConflictKey), textOf(schema.ConflictState)})
	})
}

// takenForm notes what a person decided.
func (d *definitions) takenForm() *form {
	return d.own(ownDecided, func() *form {
		return ownUpdate(d.engine, opOwn, schema.ConflictsTable,
			[]schema.Column{textOf(schema.ConflictState), numberOf(schema.ConflictResolvedAt), textOf(schema.ConflictTaken)},
			[]schema.Column{textOf(schema.ConflictOffice), numberOf(schema.ConflictID)})
	})
}

// touchForm makes a transaction of ours one that capture knows as an apply: its progress row changes, but not its position.
// Its values: what waits, office, origin.
func (d *definitions) touchForm() *form {
	return d.own(ownTouch, func() *form {
		f := &form{op: opOwn}
		committed := quote(d.engine, schema.ProgressCommitted)
		f.text("UPDATE " + tableName(d.engine, schema.OwnSchema, schema.ProgressTable) + " SET " + committed + " = " + committed + " + 1, " + quote(d.engine, schema.ProgressWaits) + " = ")
		f.value(schema.Column{Kind: schema.KindInt})
		f.where(d.engine, []schema.Column{textOf(schema.ProgressOffice), textOf(schema.ProgressOrigin)})
		f.finish()
		return f
	})
}

// ownUpdate is the statement that sets columns of a table of ours in the rows that have the values of others.
func ownUpdate(engine schema.Engine, op schema.Op, table string, set, where []schema.Column) *form {
	f := &form{op: op}
	f.text("UPDATE " + tableName(engine, schema.OwnSchema, table) + " SET ")
	for i, c := range set {
		if i > 0 {
			f.text(", ")
		}
		f.text(quote(engine, c.Name) + " = ")
		f.value(c)
	}
	f.where(engine, where)
	f.finish()
	return f
}

// where compares columns of a table of ours.
func (f *form) where(engine schema.Engine, columns []schema.Column) {
	separator := " WHERE "
	for _, c := range columns {
		f.text(separator + quote(engine, c.Name) + " = ")
		f.value(c)
		separator = " AND "
	}
}

// disputed is what waits, by row. Not to be changed.
func (a *Applier) disputed() disputes {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.parked
}

// disputes reports whether a step touches a row of which something waits.
func (w *writer) disputes(st *step) bool {
	if st.change.Op == schema.Truncate {
		return len(w.disputed) > 0 || len(w.waiting) > 0
	}
	return slices.ContainsFunc(st.touched(), func(row schema.RowID) bool { return w.disputed[row] != nil || w.waiting[row] != nil })
}

// recall reads what waits in the database. A change that this program cannot read stops everything: nothing is guessed.
func (a *Applier) recall(ctx context.Context, ses session) error {
	if err := a.evolved(ctx, ses); err != nil {
		return err
	}
	if a.disputed() != nil {
		return nil
	}
	bodies, err := ses.parked(ctx, a.options.Office)
	if err != nil {
		return fmt.Errorf("read the parked changes: %w", err)
	}
	parked := disputes{}
	for _, b := range bodies {
		batch, err := schema.DecodeBatch(b.body, 0)
		if err != nil || len(batch.Transactions) != 1 || len(batch.Transactions[0].Changes) != 1 {
			return &schema.BrokenError{What: "a row of " + schema.OwnSchema + "." + schema.ParkedTable + " cannot be read", Cause: err, Remedy: "upgrade cdc-sidecar"}
		}
		tx := batch.Transactions[0]
		rows, err := rowsOf(ctx, ses, &tx.Changes[0])
		if err != nil {
			return fmt.Errorf("read the parked changes: %w", err)
		}
		parked.add(append(rows, b.row), tx)
	}
	a.mu.Lock()
	a.parked = parked
	a.mu.Unlock()
	return nil
}

// rowsOf are the rows of the table here that a change touches; none when there is no such table any more.
func rowsOf(ctx context.Context, ses session, c *schema.Change) ([]schema.RowID, error) {
	p, err := ses.defs().plan(ctx, c.Table)
	st := step{change: c, plan: p}
	if err == nil {
		err = p.identify(c, &st)
	}
	var rejected *schema.RejectedError
	if errors.As(err, &rejected) || errors.Is(err, errDropped) {
		return nil, nil
	}
	return slices.Clone(st.touched()), err
}

// parkedBody is a parked change as the database has it.
type parkedBody struct {
	row  schema.RowID
	body []byte
}

// readParked reads the rows of a query for row_id and body, whichever driver's they are.
func readParked(rows interface {
	Next() bool
	Scan(into ...any) error
	Err() error
},
) ([]parkedBody, error) {
	var all []parkedBody
	for rows.Next() {
		var row string
		var b parkedBody
		if err := rows.Scan(&row, &b.body); err != nil {
			return nil, err
		}
		var err error
		if b.row, err = parkedRow(row); err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, rows.Err()
}

// parkedRow reads a RowID as it stands in the database.
func parkedRow(text string) (row schema.RowID, err error) {
	b, err := hex.DecodeString(text)
	if err == nil && len(b) != len(row) {
		err = fmt.Errorf("%d bytes", len(b))
	}
	copy(row[:], b)
	return row, err
}
