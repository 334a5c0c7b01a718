package clock

import "cdc-sidecar/schema"

// Take takes journaled transactions, in the order of the journal; parts of one transaction may come in several calls. At the
// head every change touches its rows; at a branch only those of its own transactions do, for the hold set.
//
// What one database transaction gave may be several transactions, of which the last names a Source. When capture ends before
// that, the journal cuts them off and numbers them again alike: then they are taken again, and the index is as if they had
// been taken once. What comes again behind its Source is an error.
//
// At the head it returns the stale decisions: a row decided to be absent cannot be locked, so it may have been written between
// the decision and its commit. Then the row may not stand as the decision tells, and must be looked at again.
//
// After an error it is not known which touches are in, and the index answers nothing but errors: open it anew.
func (x *Index) Take(own schema.Office, role schema.Role, txs []schema.Transaction) (stale []schema.Change, err error) {
	x.writing.Lock()
	defer x.writing.Unlock()
	for i := range txs {
		tx := &txs[i]
		if !tx.Silent() && (role == schema.Head || tx.Origin == own) {
			if stale, err = x.take(own, role, tx, stale); err != nil {
				return nil, err
			}
		}
		if !tx.Silent() {
			x.taken = tx.Pos.Seq
		}
		if tx.Source != "" {
			x.closed = x.taken
		}
	}
	return stale, nil
}

func (x *Index) take(own schema.Office, role schema.Role, tx *schema.Transaction, stale []schema.Change) ([]schema.Change, error) {
	var missed map[*schema.Decision]Touch
	if role == schema.Head {
		// Before the transaction's own touches: these are not what the decision has missed.
		var err error
		if missed, err = x.overtaken(tx); err != nil {
			return nil, err
		}
	}
	for i := range tx.Changes {
		c := &tx.Changes[i]
		last, late := missed[c.Decided]
		if late {
			stale = append(stale, *c)
		}
		if err := x.takeChange(own, tx, c, last); err != nil {
			return nil, err
		}
	}
	return stale, nil
}

// takeChange touches what a change touches. A decision that missed the row's last touch leaves the row that touch's version,
// and standing: so it is until it is told again. If it is told to be absent even then, the log cannot be right (a foreign key's
// cascade is not in every log), and that counts.
func (x *Index) takeChange(own schema.Office, tx *schema.Transaction, c *schema.Change, missed Touch) error {
	if c.Op == schema.Define { // no row
		return nil
	}
	t, plain := Touch{Seq: tx.Pos.Seq, Stamp: tx.Stamp, Origin: tx.Origin}, tx.Origin != own
	if c.Decided != nil {
		t.Stamp, t.Origin, plain = c.Decided.Stamp, c.Decided.Origin, false
	}
	gone := c.Op == schema.Delete
	if missed.Seq != 0 {
		t.Stamp, t.Origin, gone = missed.Stamp, missed.Origin, tx.Origin == own
	}
	if schema.Planted(schema.TombstoneForgotten) && c.Op == schema.Delete {
		return nil
	}
	first, second, two := c.Rows()
	if err := x.touch(first, t, plain, gone || two); err != nil {
		return err
	}
	if two && !schema.Planted(schema.SecondKeyForgotten) {
		if err := x.touch(second, t, plain, false); err != nil {
			return err
		}
	}
	x.touchTable(c.Table.TableName, tx.Origin, t, plain)
	return nil
}

// overtaken finds the stale decisions of tx: those that say that a row is absent which stood behind its last touch, and which
// tx itself did not delete. What the decision knew of the log does not tell: Postgres lets a commit be seen later than it
// logs it, so a row may have been read as absent that the log already had. Where the last touch may be forgotten, what came
// behind the decision's knowledge may be, too: then it counts as overtaken, for to look again does no harm, and the touch is zero.
func (x *Index) overtaken(tx *schema.Transaction) (map[*schema.Decision]Touch, error) {
	missed := map[*schema.Decision]Touch{}
	for i := range tx.Changes {
		c := &tx.Changes[i]
		if c.Decided == nil || c.Op != schema.Delete {
			continue
		}
		row, _, _ := c.Rows()
		clock, err := x.last(row)
		if err != nil {
			return nil, x.fail(err)
		}
		truncate, err := x.last(c.Table.TableID())
		if err != nil {
			return nil, x.fail(err)
		}
		switch released := x.released.Load(); {
		case clock.Last.Seq == tx.Pos.Seq: // an earlier part wrote the row, and so held its key
		case clock.Last.Seq <= released && truncate.Last.Seq <= released:
			if released > c.Decided.Known {
				missed[c.Decided] = Touch{}
			}
		case !clock.Gone && clock.Last.Seq > max(released, truncate.Last.Seq) && !deletes(tx.Changes[:i], row):
			missed[c.Decided] = clock.Last
		}
	}
	return missed, nil
}

// deletes reports whether changes, undecided, take a row away.
func deletes(changes []schema.Change, row schema.RowID) bool {
	for i := range changes {
		c := &changes[i]
		if c.Decided != nil || c.Op != schema.Delete && c.Op != schema.Update {
			continue
		}
		if first, _, two := c.Rows(); first == row && (two || c.Op == schema.Delete) {
			return true
		}
	}
	return false
}
