package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"cdc-sidecar/schema"
)

// What is done beside the streams: rows that have to be told once more, changes that wait, what a person decides.

// loggedQuery reads what resolve needs of an entry of the conflict log.
const loggedQuery = "SELECT table_name, row_key, state, taken, local_image, remote_before, remote_image FROM cdc_sidecar.conflicts"

// loggedEntry is an entry of the conflict log as the database has it.
type loggedEntry struct {
	table, key, state, taken string
	local, before, remote    *string // JSON; nil: there was none
}

// into is where a row of loggedQuery goes.
func (e *loggedEntry) into() []any {
	return []any{&e.table, &e.key, &e.state, &e.taken, &e.local, &e.before, &e.remote}
}

// Again has rows told to every office as they stand: the decisions about them did not know their last touch. They are told
// by the next Tend.
func (a *Applier) Again(changes []schema.Change) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if schema.Planted(schema.StaleAbsenceUntold) {
		return
	}
	a.again = append(a.again, changes...)
}

// Owed is how many rows are still to be told again. While there are any, the journal must not let go of what shows it.
func (a *Applier) Owed() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.again)
}

// retryParked is how often changes that wait are tried again by themselves.
const retryParked = time.Second

// Tend does what is due beside the streams; sender is one whose progress row a transaction of ours may begin with.
func (a *Applier) Tend(ctx context.Context, sender schema.Office) error {
	a.mu.Lock()
	again := a.again
	since := a.options.Now().Sub(a.triedAt)
	due := (a.parked == nil || len(a.parked) > 0) && (since >= retryParked || since < 0) // the clock may be set back
	if due {
		a.triedAt = a.options.Now()
	}
	a.mu.Unlock()
	if len(again) > 0 {
		err := a.aside(ctx, sender, func(w *writer) error { return w.tellAgain(ctx, again) })
		if errors.Is(err, errBusy) {
			return nil // the next time
		}
		if err != nil {
			return fmt.Errorf("tell rows again: %w", err)
		}
		a.mu.Lock()
		a.again = slices.Delete(a.again, 0, len(again))
		a.mu.Unlock()
	}
	if err := a.lookAtHeld(ctx, sender); err != nil {
		return err
	}
	if due {
		return a.retryParked(ctx, sender)
	}
	return nil
}

// aside runs f in a transaction of its own. What it writes at the head is the head's own; at a branch it is an apply.
func (a *Applier) aside(ctx context.Context, sender schema.Office, f func(w *writer) error) error {
	ses, err := a.take(ctx)
	if err == nil {
		err = a.recall(ctx, ses)
	}
	if err != nil {
		if ses != nil {
			a.spoiled(ses)
		}
		return err
	}
	s := &stream{applier: a, sender: sender}
	w := &s.work
	ses.begin()
	w.start(s, ses, false)
	w.standing = map[schema.RowID]*standingRow{}
	if a.options.Role == schema.Branch {
		err = w.touch(ctx)
	}
	if err == nil {
		err = f(w)
	}
	if err == nil {
		err = w.commit(ctx)
	}
	if err != nil {
		s.ended(ctx, ses, err)
		return err
	}
	a.release(ses)
	a.concluded(w)
	return nil
}

// touch begins a transaction at a branch that is no application's.
func (w *writer) touch(ctx context.Context) error {
	office, sender := w.stream.applier.options.Office, w.stream.sender
	n, err := w.one(ctx, &step{form: w.ses.defs().touchForm(), args: []schema.Value{schema.Of(strconv.FormatUint(w.oldestWaiting(), 10)), schema.Of(string(office)), schema.Of(string(sender))}})
	if err == nil && n == 0 {
		err = fmt.Errorf("no progress of %s is recorded here", sender)
	}
	return err
}

// tellAgain publishes rows as they stand.
func (w *writer) tellAgain(ctx context.Context, changes []schema.Change) error {
	type told struct {
		st *step
		s  *standingRow
	}
	var rows []told
	for i := range changes {
		tx := schema.Transaction{Origin: changes[i].Decided.Origin, Stamp: changes[i].Decided.Stamp, Changes: changes[i : i+1]}
		st, err := w.stepOf(ctx, &tx)
		if err != nil {
			return err
		}
		if st == nil {
			continue
		}
		s, err := w.now(ctx, st, st.rows[0], st.keys[0])
		if err != nil {
			return err
		}
		rows = append(rows, told{st, s})
	}
	if err := w.barrier(ctx); err != nil {
		return err
	}
	for _, r := range rows {
		if err := w.tell(ctx, r.st, r.st.rows[0], r.s); err != nil {
			return err
		}
	}
	return nil
}

// tell publishes one row as it stands, as that of whoever touched it last.
func (w *writer) tell(ctx context.Context, st *step, row schema.RowID, s *standingRow) error {
	var by version
	var err error
	if _, by.origin, by.stamp, err = w.stream.applier.options.Clocks.Against(s.table.TableName, row, ""); err != nil {
		return err
	}
	e := w.entry(st, contest{policy: st.policy, table: s.table.Table, op: st.change.Op, local: s.row, localBy: by}, decision{winner: localWins, result: s.row, by: by})
	e.kind, e.state = "again", stateAgain
	e.change = &schema.Change{Table: s.table.Table, Op: schema.Delete, Before: s.key}
	e.rows = []standing{{table: s.table.Table, key: s.key, row: s.row, by: by}}
	return w.log(ctx, st, &e)
}

// retryParked tries each disputed row again, in a transaction of its own.
func (a *Applier) retryParked(ctx context.Context, sender schema.Office) error {
	rows := a.disputed()
	if rows == nil {
		ses, err := a.take(ctx)
		if err != nil {
			return err
		}
		if err := a.recall(ctx, ses); err != nil {
			a.spoiled(ses)
			return err
		}
		a.release(ses)
		rows = a.disputed()
	}
	var left []*dispute
	needs := map[schema.TableName]string{}
	for _, d := range rows.all() {
		unfit := false // it waits for its table, and has nothing to exchange with others
		err := a.aside(ctx, sender, func(w *writer) error {
			st, err := w.stepOf(ctx, &d.queue[len(d.queue)-1])
			if unfit = errors.As(err, new(*unfitError)); unfit {
				needs[tableWaiting(d)] = need(err)
				return errStillWaits
			}
			if err == nil && st == nil {
				return w.dropWaiting(ctx, d)
			}
			if err != nil {
				return err
			}
			written, err := w.writeWaiting(ctx, st, d.queue)
			if err == nil && !written {
				if unfit, err = errors.As(w.collision, new(*unfitError)), errStillWaits; unfit {
					needs[tableWaiting(d)] = need(w.collision)
				}
			}
			return err
		})
		if err != nil && !errors.Is(err, errStillWaits) && !errors.Is(err, errBusy) {
			return fmt.Errorf("try a parked change again: %w", err)
		}
		if errors.Is(err, errStillWaits) && !unfit {
			left = append(left, d)
		}
	}
	a.lacking(needs)
	if len(left) < 2 {
		return nil
	}
	err := a.aside(ctx, sender, func(w *writer) error { return w.exchangeSome(ctx, left) })
	if err != nil && !errors.Is(err, errStillWaits) && !errors.Is(err, errBusy) {
		return fmt.Errorf("try parked changes again together: %w", err)
	}
	return nil
}

// dropWaiting lets go of what waits of a table that was dropped here. Where the table is only not received any more, it stays.
func (w *writer) dropWaiting(ctx context.Context, d *dispute) error {
	last := &d.queue[len(d.queue)-1]
	if _, err := w.ses.defs().plan(ctx, last.Changes[0].Table); !errors.Is(err, errDropped) {
		return nil
	}
	return w.unpark(ctx, &step{change: &last.Changes[0], at: last.Pos, tx: last}, d.rows, d.queue)
}

// errStillWaits rolls an attempt back that changed nothing.
var errStillWaits = errors.New("another row still has its unique key")

// Resolve makes the image that a person chose (local or remote) of an entry of the conflict log the head's row, and so
// everyone's. Its errors say what stands in the way.
func (a *Applier) Resolve(ctx context.Context, id int64, take string) error {
	return a.aside(ctx, "", func(w *writer) error {
		e, err := w.ses.logged(ctx, a.options.Office, id)
		switch {
		case err != nil:
			return err
		case e == nil, e.state == stateAgain:
			return fmt.Errorf("the conflict log has no entry %d", id)
		case e.taken != "":
			return fmt.Errorf("entry %d was resolved already: %s was taken", id, e.taken)
		case e.state == stateResolved:
			return fmt.Errorf("entry %d was resolved already: its change was applied, or dropped", id)
		case take != string(localWins) && take != string(remoteWins):
			return fmt.Errorf("take %q: want local or remote", take)
		}
		if e.state == stateParked {
			err = w.resolveParked(ctx, e, take)
		} else {
			err = w.resolve(ctx, e, take)
		}
		if err != nil {
			return fmt.Errorf("resolve entry %d (table %s, %s): %w", id, e.table, e.key, err)
		}
		_, err = w.one(ctx, &step{form: w.ses.defs().takenForm(), args: []schema.Value{
			schema.Of(stateResolved), schema.Of(strconv.FormatInt(a.options.Now().UnixMicro(), 10)), schema.Of(take),
			schema.Of(string(a.options.Office)), schema.Of(strconv.FormatInt(id, 10)),
		}})
		return err
	})
}

// resolve writes the chosen image.
func (w *writer) resolve(ctx context.Context, e *loggedEntry, take string) error {
	chosen, other := e.local, e.remote
	if take == string(remoteWins) {
		chosen, other = e.remote, e.local
	}
	p, err := w.ses.defs().named(ctx, e.table)
	if err != nil {
		return err
	}
	t := p.target
	var images []schema.Row
	for _, text := range []*string{chosen, e.before, other} {
		if text == nil {
			images = append(images, nil)
			continue
		}
		image, err := parseImage(t.Table, *text)
		if err != nil {
			return err
		}
		images = append(images, image)
	}
	row := images[0]
	key := images[0]
	for _, image := range images[1:] {
		if key == nil {
			key = image
		}
	}
	id := t.RowID(key)
	st := &step{change: &schema.Change{Table: t.Table, Op: schema.Delete, Before: key}, plan: p, rows: [2]schema.RowID{id}}
	if err := w.leave(ctx, st, id, images, take); err != nil {
		return err
	}
	s, err := w.now(ctx, st, id, key)
	if err != nil {
		return err
	}
	for i := range row {
		switch old := images[1]; {
		case !row[i].IsUnchanged():
		case s.row != nil:
			row[i] = s.row[i]
		case old != nil:
			row[i] = old[i]
		}
	}
	if row != nil && !row.Complete(t.Table) {
		return errors.New("the image does not hold all columns, and there is no row here that does")
	}
	return w.become(ctx, st, s, row)
}

// leave lets go of the other key of a row that moved: of the old one when the move is taken; of the new one when it is not, if what
// stands there is what had moved. images are the chosen one, that before, and the other.
func (w *writer) leave(ctx context.Context, st *step, id schema.RowID, images []schema.Row, take string) error {
	t, other := st.plan.target, images[2]
	if take == string(remoteWins) {
		other = images[1]
	}
	if other == nil || t.RowID(other) == id {
		return nil
	}
	s, err := w.now(ctx, st, t.RowID(other), other)
	if err != nil || s.row == nil || take != string(remoteWins) && !sameRow(t.Table, s.row, other) {
		return err
	}
	return w.become(ctx, st, s, nil)
}

// resolveParked decides on a change that waits: local drops it, and every office gets the row as it stands here; remote
// tries it once more.
func (w *writer) resolveParked(ctx context.Context, e *loggedEntry, take string) error {
	for _, d := range w.disputed.all() {
		st, err := w.stepOf(ctx, &d.queue[len(d.queue)-1])
		if errors.As(err, new(*unfitError)) {
			continue
		}
		if err != nil {
			return err
		}
		tells := func(tx schema.Transaction) bool { return tx.Changes[0].KeyString() == e.key }
		if st == nil || st.plan.target.String() != e.table || !slices.ContainsFunc(d.queue, tells) {
			continue
		}
		if take == string(localWins) {
			return w.drop(ctx, st, d)
		}
		written, err := w.writeWaiting(ctx, st, d.queue)
		if err == nil && !written {
			err = fmt.Errorf("%w: change or delete that row, and this one enters by itself (%w)", errStillWaits, w.collision)
		}
		return err
	}
	return errors.New("nothing of it waits any more")
}

// drop takes what waits of a dispute away.
func (w *writer) drop(ctx context.Context, st *step, d *dispute) error {
	if err := w.unpark(ctx, st, d.rows, d.queue); err != nil {
		return err
	}
	_, order, err := w.compose(ctx, d.queue) // reads the rows; they stay as they are
	if err != nil {
		return err
	}
	if err := w.barrier(ctx); err != nil {
		return err
	}
	for _, id := range order {
		if err := w.tell(ctx, st, id, w.standing[id]); err != nil {
			return err
		}
	}
	return nil
}
