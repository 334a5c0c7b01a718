package apply

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
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
	err = f()
	if !errors.Is(err, errCollides) {
		return err == nil, err
	}
	w.collision = err
	w.ses.restore()
	return false, ctx.Err()
}

// parkable writes one step carefully, or lets it wait.
func (w *writer) parkable(ctx context.Context, st *step) error {
	if st.change == nil {
		return w.careful(ctx, st)
	}
	if queue := w.queue(st); len(queue) > 0 {
		written, err := w.writeWaiting(ctx, st, append(slices.Clone(queue), single(st)))
		if err != nil || written {
			return err
		}
		return w.park(ctx, st, nil)
	}
	if st.partly {
		return w.beside(ctx, st)
	}
	written, err := w.guarded(ctx, func() error { return w.careful(ctx, st) })
	if err != nil || written {
		return err
	}
	if len(st.touched()) == 0 { // nobody else writes the table: it is to be mended, not to be decided
		if err := st.plan.identify(st.change, st); err != nil {
			return locate(err, st.change, st.at)
		}
	}
	return w.park(ctx, st, nil)
}

// beside writes what is left of a change when the rest of it is held: of a row that moved, the key that is not held; of a
// truncate, all rows that are not.
func (w *writer) beside(ctx context.Context, st *step) error {
	hold := w.stream.applier.options.Hold
	if st.change.Op == schema.Truncate {
		return w.sweep(ctx, st, func(keys, images []schema.Row) error {
			for i := range keys {
				held, err := hold.Held(st.plan.target.TableName, st.plan.target.RowID(keys[i]))
				if err != nil {
					return err
				}
				if held {
					w.tally.Held++
					continue
				}
				if err := w.become(ctx, st, &standingRow{table: st.plan.target, key: keys[i], row: images[i]}, nil); err != nil {
					return err
				}
			}
			return nil
		})
	}
	left := *st.change // the row is gone from its old key
	left.Op, left.Before, left.After = schema.Delete, st.change.KeyRow(), nil
	if held, err := hold.Held(st.plan.target.TableName, st.rows[0]); err != nil {
		return err
	} else if held { // the row is at its new key
		left.Op, left.Before, left.After = schema.Insert, nil, st.change.After
	}
	w.tally.Held++
	part, _, err := st.plan.bind(left.Op, &left, left.KeyRow(), nil)
	if err == nil {
		err = st.plan.identify(&left, &part)
	}
	if err != nil {
		return locate(err, st.change, st.at)
	}
	part.at, part.tx = st.at, st.tx
	written, err := w.guarded(ctx, func() error { return w.careful(ctx, &part) })
	if err != nil || written {
		return err
	}
	return w.park(ctx, &part, nil)
}

// queue is what waits of the rows that the step touches, oldest first.
func (w *writer) queue(st *step) []schema.Transaction {
	var queue []schema.Transaction
	for _, row := range st.touched() {
		if !w.unparked[row] {
			queue = append(queue, w.stream.applier.disputed()[row]...)
		}
		queue = append(queue, w.waiting[row]...)
	}
	return queue
}

// single is a step's change as a transaction of its own.
func single(st *step) schema.Transaction {
	tx := *st.tx
	tx.Changes, tx.Part, tx.Last, tx.Source = []schema.Change{*st.change}, 0, true, ""
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
	tx := single(st)
	reason := ""
	if w.collision != nil {
		reason = w.collision.Error()
	}
	args := []schema.Value{
		schema.Of(string(o.Office)), schema.Of(hex.EncodeToString(row[:])), schema.Of(st.plan.target.String()), schema.Of(st.change.KeyString()),
		schema.Of(reason), schema.Of(strconv.FormatInt(o.Now().UnixMicro(), 10)),
		schema.Of(string(schema.AppendBatch(nil, []schema.Transaction{tx}))),
	}
	if _, err := w.one(ctx, &step{form: w.ses.defs().parkForm(), args: args, at: st.at}); err != nil {
		return fmt.Errorf("park a change: %w", err)
	}
	if w.waiting == nil {
		w.waiting = map[schema.RowID][]schema.Transaction{}
	}
	w.waiting[row] = append(w.waiting[row], tx)
	w.tally.Parked++
	if o.Clocks == nil {
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

// retryWaiting tries once more what was parked in this transaction: its other changes may have made room, as when two rows
// exchange their unique values.
func (w *writer) retryWaiting(ctx context.Context) error {
	for row, queue := range w.waiting {
		st, err := w.stepOf(ctx, &queue[len(queue)-1])
		if err != nil {
			return err
		}
		if st == nil || w.stream.applier.disputed()[row] != nil && !w.unparked[row] {
			continue
		}
		if _, err := w.writeWaiting(ctx, st, queue); err != nil {
			return err
		}
	}
	return nil
}

// stepOf makes a step of a transaction that has one change; nil when the table is not received any more.
func (w *writer) stepOf(ctx context.Context, tx *schema.Transaction) (*step, error) {
	c := &tx.Changes[0]
	p, err := w.planTable(ctx, c.Table)
	if err != nil || p == nil {
		return nil, err
	}
	st := &step{form: nil, change: c, plan: p, at: tx.Pos, tx: tx}
	if o := &w.stream.applier.options; o.Policy != nil {
		st.policy = o.Policy(p.source.TableName)
	}
	return st, p.identify(c, st)
}

// writeWaiting writes a row as it is behind all that waits of it. It reports false when another row still has the unique key.
func (w *writer) writeWaiting(ctx context.Context, st *step, queue []schema.Transaction) (bool, error) {
	if w.standing == nil {
		w.standing = map[schema.RowID]*standingRow{}
	}
	rows, order, err := w.compose(ctx, queue)
	if err != nil {
		return false, err
	}
	entries, err := w.overrule(ctx, queue, rows)
	if err != nil {
		return false, err
	}
	written, err := w.guarded(ctx, func() error {
		for _, row := range order {
			if err := w.become(ctx, st, w.standing[row], rows[row]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || !written {
		return false, err
	}
	was := w.standing[order[0]].row
	for _, row := range order {
		if err := w.unpark(ctx, st, row); err != nil {
			return false, err
		}
		w.standing[row].row = rows[row]
	}
	for i := range entries {
		if err := w.log(ctx, st, &entries[i]); err != nil {
			return false, err
		}
	}
	return true, w.told(ctx, st, order, was)
}

// overrule decides, at the head, where a row was touched by others while changes of it waited. It puts what was decided in
// the place of what they would have made of the row.
func (w *writer) overrule(ctx context.Context, queue []schema.Transaction, rows map[schema.RowID]schema.Row) ([]entry, error) {
	if w.stream.applier.options.Clocks == nil {
		return nil, nil
	}
	looked := map[schema.RowID]bool{}
	var entries []entry
	for i := range queue {
		st, err := w.stepOf(ctx, &queue[i])
		if err != nil || st == nil {
			return nil, err
		}
		for _, row := range st.touched() {
			if looked[row] {
				continue
			}
			looked[row] = true
			local := w.standing[row].row
			seq, by, err := w.against(st, row)
			if err != nil {
				return nil, err
			}
			if seq <= w.seen(st.tx) && (local == nil || st.change.Op != schema.Insert) {
				continue
			}
			c := contest{policy: st.policy, table: st.plan.target.Table, op: st.change.Op, local: local, localBy: by, remote: rows[row], by: w.author(&queue[len(queue)-1])}
			if st.change.Before != nil {
				c.before = st.plan.imageIfFits(st.change.Before)
			}
			d, err := c.decide()
			if err != nil {
				return nil, w.undecided(st, err)
			}
			rows[row] = d.result
			entries = append(entries, w.entry(st, c, d))
		}
	}
	return entries, nil
}

// compose is how the rows shall be that a queue of changes touches; those that go away first.
func (w *writer) compose(ctx context.Context, queue []schema.Transaction) (rows map[schema.RowID]schema.Row, order []schema.RowID, err error) {
	rows = map[schema.RowID]schema.Row{}
	for i := range queue {
		st, err := w.stepOf(ctx, &queue[i])
		if err != nil || st == nil {
			return nil, nil, err
		}
		for j, row := range st.touched() {
			s, err := w.now(ctx, st, row, st.keys[j])
			if err != nil {
				return nil, nil, err
			}
			if _, known := rows[row]; !known {
				rows[row] = s.row
				order = append(order, row)
			}
		}
		after := rows[st.rows[0]]
		if st.change.Op == schema.Delete {
			rows[st.rows[0]] = nil
			continue
		}
		image, err := st.plan.image(st.change.After)
		if err != nil {
			return nil, nil, locate(err, st.change, st.at)
		}
		for k := range image {
			if image[k].IsUnchanged() && after != nil {
				image[k] = after[k]
			}
		}
		if st.two {
			rows[st.rows[0]] = nil
		}
		rows[produced(st)] = image
	}
	slices.SortStableFunc(order, func(a, b schema.RowID) int {
		if (rows[a] == nil) == (rows[b] == nil) {
			return 0
		}
		return map[bool]int{true: -1, false: 1}[rows[a] == nil]
	})
	return rows, order, nil
}

// unpark removes what waited of a row.
func (w *writer) unpark(ctx context.Context, st *step, row schema.RowID) error {
	if w.stream.applier.disputed()[row] == nil && w.waiting[row] == nil {
		return nil
	}
	d, office := w.ses.defs(), schema.Of(string(w.stream.applier.options.Office))
	if _, err := w.one(ctx, &step{form: d.unparkForm(), args: []schema.Value{office, schema.Of(hex.EncodeToString(row[:]))}, at: st.at}); err != nil {
		return fmt.Errorf("take a change out of the parked ones: %w", err)
	}
	delete(w.waiting, row)
	if w.unparked == nil {
		w.unparked = map[schema.RowID]bool{}
	}
	w.unparked[row] = true
	if w.stream.applier.options.Clocks == nil {
		return nil
	}
	args := []schema.Value{
		schema.Of(stateResolved), schema.Of(strconv.FormatInt(w.stream.applier.options.Now().UnixMicro(), 10)), office,
		schema.Of(st.plan.target.String()), schema.Of(st.change.KeyString()), schema.Of(stateParked),
	}
	if _, err := w.one(ctx, &step{form: d.resolvedForm(), args: args, at: st.at}); err != nil {
		return fmt.Errorf("mark an entry of the conflict log as resolved: %w", err)
	}
	return nil
}

// told lets every office have rows that had waited, as they stand: their origins, too, which may each have another.
func (w *writer) told(ctx context.Context, st *step, rows []schema.RowID, was schema.Row) error {
	if w.stream.applier.options.Clocks == nil {
		return nil
	}
	first := w.standing[rows[0]]
	c, err := w.contest(st, was, version{})
	if err != nil {
		return err
	}
	by := version{origin: st.tx.Origin, stamp: c.by.stamp.Max(st.tx.Stamp)}
	e := w.entry(st, c, decision{winner: remoteWins, result: first.row, by: by})
	e.kind, e.state = "unique", stateAgain
	for _, row := range rows {
		s := w.standing[row]
		e.rows = append(e.rows, standing{table: s.table.Table, key: s.key, row: s.row, by: by})
		if w.decided != nil {
			w.decided[row] = by
		}
	}
	return w.log(ctx, st, &e)
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
	ownTouch    = "touch"    // office, origin: the progress row is written again as it is
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
		f.where(d.engine, schema.ParkedOffice, schema.ParkedRow)
		f.finish()
		return f
	})
}

// resolvedForm marks what the conflict log says of a parked change.
func (d *definitions) resolvedForm() *form {
	return d.own(ownResolved, func() *form {
		f := &form{op: opOwn}
		f.text("UPDATE " + tableName(d.engine, schema.OwnSchema, schema.ConflictsTable) + " SET " + quote(d.engine, schema.ConflictState) + " = ")
		f.value(schema.Column{Kind: schema.KindText})
		f.text(", " + quote(d.engine, schema.ConflictResolvedAt) + " = ")
		f.value(schema.Column{Kind: schema.KindInt})
		f.where(d.engine, schema.ConflictOffice, schema.ConflictTable, schema.ConflictKey, schema.ConflictState)
		f.finish()
		return f
	})
}

// takenForm notes what a person decided.
func (d *definitions) takenForm() *form {
	return d.own(ownDecided, func() *form {
		f := &form{op: opOwn}
		f.text("UPDATE " + tableName(d.engine, schema.OwnSchema, schema.ConflictsTable) + " SET " + quote(d.engine, schema.ConflictState) + " = ")
		f.value(schema.Column{Kind: schema.KindText})
		f.text(", " + quote(d.engine, schema.ConflictResolvedAt) + " = ")
		f.value(schema.Column{Kind: schema.KindInt})
		f.text(", " + quote(d.engine, schema.ConflictTaken) + " = ")
		f.value(schema.Column{Kind: schema.KindText})
		f.where(d.engine, schema.ConflictOffice)
		f.text(" AND " + quote(d.engine, schema.ConflictID) + " = ")
		f.value(schema.Column{Kind: schema.KindInt})
		f.finish()
		return f
	})
}

// touchForm makes a transaction of ours one that capture knows as an apply: its progress row changes, but not its position.
func (d *definitions) touchForm() *form {
	return d.own(ownTouch, func() *form {
		f := &form{op: opOwn}
		committed := quote(d.engine, schema.ProgressCommitted)
		f.text("UPDATE " + tableName(d.engine, schema.OwnSchema, schema.ProgressTable) + " SET " + committed + " = " + committed + " + 1")
		f.where(d.engine, schema.ProgressOffice, schema.ProgressOrigin)
		f.finish()
		return f
	})
}

// where compares text columns of a table of ours.
func (f *form) where(engine schema.Engine, columns ...string) {
	separator := " WHERE "
	for _, name := range columns {
		f.text(separator + quote(engine, name) + " = ")
		f.value(schema.Column{Kind: schema.KindText})
		separator = " AND "
	}
}

// disputed are the changes that wait, by row. Not to be changed.
func (a *Applier) disputed() map[schema.RowID][]schema.Transaction {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.parked
}

// disputes reports whether a step touches a row of which something waits.
func (a *Applier) disputes(st *step) bool {
	parked := a.disputed()
	return len(parked) > 0 && slices.ContainsFunc(st.touched(), func(row schema.RowID) bool { return parked[row] != nil })
}

// recall reads what waits in the database. A change that this program cannot read stops everything: nothing is guessed.
func (a *Applier) recall(ctx context.Context, ses session) error {
	a.mu.Lock()
	known := a.parked != nil
	a.mu.Unlock()
	if known {
		return nil
	}
	bodies, err := ses.parked(ctx, a.options.Office)
	if err != nil {
		return fmt.Errorf("read the parked changes: %w", err)
	}
	parked := map[schema.RowID][]schema.Transaction{}
	for _, b := range bodies {
		batch, err := schema.DecodeBatch(b.body, 0)
		if err != nil || len(batch.Transactions) != 1 || len(batch.Transactions[0].Changes) != 1 {
			return &schema.BrokenError{What: "a row of " + schema.OwnSchema + "." + schema.ParkedTable + " cannot be read", Cause: err, Remedy: "upgrade cdc-sidecar"}
		}
		parked[b.row] = append(parked[b.row], batch.Transactions[0])
	}
	a.mu.Lock()
	a.parked = parked
	a.mu.Unlock()
	return nil
}

// parkedBody is a parked change as the database has it.
type parkedBody struct {
	row  schema.RowID
	body []byte
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
