package apply

import (
	"context"

	"cdc-sidecar/schema"
)

// A blind change is one whose office may not have had what the head has of the row, so that the clocks alone do not tell whether
// it is in conflict: the row is looked at, too. Such a change is never hoped for.

// blindness is why a change is blind.
type blindness uint8

const (
	sighted   blindness = iota
	forgotten           // its office had seen less than the clocks reach back to
	foreign             // its office had seen another history of the head, or nothing of it
	joining             // its table was being joined (Change.Blind)
)

// blindness is asked behind all that was asked of the clocks, with what they had released by then: it only rises, so what they
// did not find then had been released, or never was.
func (w *writer) blindness(st *step, released uint64) blindness {
	seen := st.tx.Seen
	switch {
	case st.change.Blind && !schema.Planted(schema.BlindNotSeen):
		return joining
	case seen.Epoch != 0 && seen.Epoch != w.stream.applier.options.Clocks.Epoch():
		return foreign
	case seen.Seq >= released:
		return sighted
	case seen.Epoch == 0:
		return foreign
	default:
		return forgotten
	}
}

// meeting is what a change meets.
type meeting struct {
	conflict bool
	by       version // whose the row here is
	settled  bool    // the row stands already as the change leaves it: nothing is to be written, nor to be said
	partial  bool    // there is no such row, and the change does not hold all of it: nothing can be written
}

// meet finds out what a contested change meets; its rows are locked.
func (w *writer) meet(ctx context.Context, st *step) (m meeting, err error) {
	if m.conflict, m.by, err = w.meets(st); err != nil {
		return m, err
	}
	var by version
	if st.lost, by, err = w.bereavedNow(ctx, st, m.conflict); err != nil {
		return m, err
	}
	if st.lost != nil {
		m.conflict, m.by = true, m.by.later(by)
	}
	st.blind = w.blindness(st, w.stream.applier.options.Clocks.Released())
	if st.older, err = w.older(st, m); err != nil {
		return m, err
	}
	if st.blind == sighted && !st.change.Claimed || len(w.queue(st)) > 0 {
		return m, nil
	}
	return w.meetBlind(ctx, st, m)
}

// older reports whether a claim counts as older than what it meets, whatever the policy says: somebody touched the row knowingly, while
// of what a comparison found nobody knows whether anybody did, and it may be no more than what the row was before. m is what the
// clocks say. For an office that had lost rows itself even its own earlier touch is such a one.
func (w *writer) older(st *step, m meeting) (bool, error) {
	if !st.change.Claimed || schema.Planted(schema.ClaimsAreNews) {
		return false, nil
	}
	if m.conflict || st.blind != joining {
		return m.conflict, nil
	}
	seq, _, _, err := w.stream.applier.options.Clocks.Against(st.plan.target.TableName, st.rows[0], "")
	return seq > 0, err
}

// meetBlind looks at the rows that a blind change touches, or a claim; m is what the clocks said.
func (w *writer) meetBlind(ctx context.Context, st *step, m meeting) (meeting, error) {
	var rows [2]schema.Row
	for i, row := range st.touched() {
		s, err := w.now(ctx, st, row, st.keys[i])
		if err != nil {
			return m, err
		}
		rows[i] = s.row
	}
	c, err := w.contest(st, rows[0], version{})
	if err != nil {
		return m, err
	}
	stands := rows[0]
	if st.two {
		stands = rows[1]
	}
	complete := st.change.Op == schema.Delete || st.change.After.Complete(st.change.Table)
	switch {
	case complete && sameRow(c.table, stands, c.remote) && (!st.two || rows[0] == nil):
		return meeting{settled: true}, nil
	case m.conflict, st.blind == sighted:
		return m, nil
	}
	if m, err = w.strange(st, rows[:len(st.touched())], &c); err != nil || m.conflict {
		return m, err
	}
	if rows[0] == nil && st.change.Op == schema.Update {
		change := whole(st.change)
		m.partial = !change.After.Complete(change.Table)
	}
	return m, nil
}

// strange reports whether rows are otherwise than the office of a blind change may have had them, and whose they are; rows are as
// they stand here, and of what the clocks know of them, the office has not said that it had not seen it.
func (w *writer) strange(st *step, rows []schema.Row, c *contest) (m meeting, err error) {
	known := false
	for i, local := range rows {
		odd, by, retained, err := w.odd(st, i, local, c)
		if err != nil {
			return m, err
		}
		m.conflict = m.conflict || odd
		if retained {
			known, m.by = true, m.by.later(by)
		}
	}
	if !known || st.blind == forgotten {
		m.by = w.stranger(st)
	}
	return m, nil
}

// odd is strange for one row, the one of st.rows[i], and whose the clocks say that it is, if they know.
func (w *writer) odd(st *step, i int, local schema.Row, c *contest) (odd bool, by version, known bool, err error) {
	row := st.rows[i]
	seq, by, err := w.against(st, row)
	if err != nil {
		return false, by, false, err
	}
	mine, err := w.mine(st, row)
	switch {
	case i == 1 && local != nil:
		odd = true // in the way
	case mine, local != nil && c.expects(st, local):
	case local != nil:
		odd = true
	case st.blind == joining && seq > 0: // it was deleted, and the office may have had it from before
		odd = true
	case st.blind == forgotten && st.change.Op == schema.Update && i == 0: // its office had the row
		odd = true
	}
	return odd, by, seq > 0, err
}

// expects reports whether the row here is as the change's log has it before, or as the change leaves it.
func (c *contest) expects(st *step, local schema.Row) bool {
	if before := st.change.Before; before != nil && before.Complete(st.change.Table) && sameRow(c.table, local, c.before) {
		return true
	}
	return !st.two && c.remote != nil && sameRow(c.table, local, c.remote)
}

// mine reports whether the last touch of the row was for the change's own office, in this life of its journal: then the office has
// the row as the head has it, whatever else it lacks. Without that each change of a row without old values would be a conflict
// as long as its table is joined.
func (w *writer) mine(st *step, row schema.RowID) (bool, error) {
	if _, ok := w.decided[row]; ok || w.plainly[row] {
		return !ok, nil
	}
	s := w.stream
	seq, by, _, err := s.applier.options.Clocks.Against(st.plan.target.TableName, row, "")
	return err == nil && s.life != 0 && seq > s.since && by == st.tx.Origin, err
}

// stranger is whose a row is of which the clocks know nothing. What its office had seen in this history, before what is released,
// may have been touched since: then the row here counts as the later. What it never had seen it cannot have missed: the change is.
func (w *writer) stranger(st *step) version {
	o := &w.stream.applier.options
	v := version{origin: o.Office}
	if st.blind == forgotten {
		v.stamp = w.author(st.tx).stamp.Max(o.Clocks.Now()).Next(o.Now())
	}
	return v
}

// abstain notes a change in the conflict log that cannot be written, because it does not hold the whole row and there is none here. Nothing
// is told: the row stays with its office until the tables are compared. To halt the stream would keep that from ever being done.
func (w *writer) abstain(ctx context.Context, st *step) error {
	c, err := w.contest(st, nil, w.stranger(st))
	if err != nil {
		return err
	}
	e := w.entry(st, c, c.keep(localWins))
	if st.two {
		e.kind = "key " + e.kind
	}
	return w.log(ctx, st, &e)
}

// wrote remembers rows that were written as a change has them, in the transaction that is open.
func (w *writer) wrote(st *step) {
	if w.decided == nil || !st.contested || len(w.queue(st)) > 0 {
		return
	}
	for _, row := range st.touched() {
		if w.plainly == nil {
			w.plainly = map[schema.RowID]bool{}
		}
		w.plainly[row] = true
	}
}

// oddWaiting is odd for a change that waited. What the clocks have released while it waited does not count.
func (w *writer) oddWaiting(st *step, i int, local schema.Row) (bool, error) {
	if st.blind = w.blindness(st, 0); st.blind != joining {
		return false, nil
	}
	c, err := w.contest(st, local, version{})
	if err != nil {
		return false, err
	}
	odd, _, _, err := w.odd(st, i, local, &c)
	return odd, err
}
