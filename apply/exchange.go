package apply

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// Rows that have one another's unique values cannot be written one after the other as they shall be: each has to let go first.

// letting is what a row becomes for a moment so that others get its unique values, before it becomes to. Nil: it is taken out.
// The same row: it stays.
type letting func(p *plan, id schema.RowID, row, to schema.Row) schema.Row

// exchange is writeWaiting for such rows. Unique values that may be NULL become so. Where they may not be, a branch puts in their
// place what no row has: its log tells nobody of what it applies. Where that is refused too (an enum, a check, a unique index
// that is not over columns alone), the rows are taken out and put back. The head does the first only: its log tells the other
// offices of every step, and at one of them a foreign key or a check may forbid what was harmless here.
func (w *writer) exchange(ctx context.Context, st *step, queue []schema.Transaction) (bool, error) {
	ways := []letting{withoutUnique}
	if w.stream.applier.options.Role == schema.Branch {
		ways = []letting{w.standIns, w.takeOut}
	}
	for _, let := range ways {
		written, err := w.exchangeBy(ctx, st, queue, let)
		if written || err != nil {
			return written, err
		}
	}
	return false, nil
}

// exchangeTries bounds how often fewer rows are tried together: each try writes all that are left.
const exchangeTries = 10

// exchangeSome exchanges those of the disputes that can be: what is refused although all others have let go is left out. errStillWaits:
// nothing was written.
func (w *writer) exchangeSome(ctx context.Context, all []*dispute) error {
	for range exchangeTries {
		if len(all) < 2 {
			break
		}
		var queue []schema.Transaction
		for _, d := range all {
			queue = append(queue, d.queue...)
		}
		st, err := w.stepOf(ctx, &queue[len(queue)-1])
		if err != nil || st == nil {
			return cmp.Or(err, errStillWaits)
		}
		if written, err := w.exchange(ctx, st, queue); written || err != nil {
			return err
		}
		rest := slices.DeleteFunc(slices.Clone(all), func(d *dispute) bool { return slices.Contains(d.rows, w.refused) })
		if len(rest) == len(all) {
			break
		}
		all = rest
	}
	return errStillWaits
}

func (w *writer) exchangeBy(ctx context.Context, st *step, queue []schema.Transaction, let letting) (bool, error) {
	defer func() { w.ses.hush(w.cascade.hushed) }()
	return w.writeComposed(ctx, st, queue, func(rows map[schema.RowID]schema.Row, order []schema.RowID) (map[schema.RowID]*standingRow, error) {
		if w.stream.applier.options.Role == schema.Branch { // a column may be of a foreign key, or one may refer to it
			w.ses.hush(true)
		}
		bare := map[schema.RowID]*standingRow{}
		for _, id := range order {
			s := *w.standing[id]
			bare[id] = &s
			if s.row == nil || rows[id] == nil || slices.Equal(s.row, rows[id]) {
				continue
			}
			row, err := w.letGo(ctx, st, &s, func(p *plan) schema.Row { return let(p, id, s.row, rows[id]) })
			if err != nil {
				return nil, err
			}
			bare[id] = &standingRow{table: s.table, key: s.key, row: row}
		}
		return bare, nil
	})
}

// letGo writes what a row becomes for a moment, and returns how it stands then. What the database refuses is no error of the data:
// it says that the row cannot let go in this way.
func (w *writer) letGo(ctx context.Context, st *step, s *standingRow, let func(*plan) schema.Row) (schema.Row, error) {
	p, err := w.ses.defs().plan(ctx, s.table.Table)
	if err != nil {
		return nil, err
	}
	row := let(p)
	if slices.Equal(row, s.row) {
		return s.row, nil
	}
	var rejected *schema.RejectedError
	if err = w.become(ctx, st, s, row); errors.As(err, &rejected) {
		return nil, fmt.Errorf("%w, and it cannot let go of it: %w", errCollides, err)
	}
	if row != nil { // what the database sets by itself in an updated row (ON UPDATE CURRENT_TIMESTAMP) it has set
		row = make(schema.Row, len(row))
	}
	return row, err
}

// withoutUnique is a row with NULL in all columns of unique keys that may be so, but for those of its own key.
func withoutUnique(p *plan, _ schema.RowID, row, _ schema.Row) schema.Row {
	row = slices.Clone(row)
	for _, columns := range p.target.Unique {
		for _, i := range columns {
			if p.target.Columns[i].Nullable && spare(p.target, i) {
				row[i] = schema.NullValue()
			}
		}
	}
	return row
}

// spare reports whether a column may have any value for a moment: rows are told by their key, and nobody writes what is computed.
func spare(t *catalog.Table, i int) bool {
	return !t.Columns[i].Generated && !slices.Contains(t.Key, i)
}

// standIns is withoutUnique with values that no row has where NULL may not be: in one column of each unique key that changes.
func (w *writer) standIns(p *plan, id schema.RowID, row, to schema.Row) schema.Row {
	t := p.target
	let := withoutUnique(p, id, row, to)
	for _, columns := range t.Unique {
		free := func(i int) bool { return let[i] != row[i] }
		stays := func(i int) bool { return row[i] == to[i] }
		if slices.ContainsFunc(columns, free) || !slices.ContainsFunc(columns, func(i int) bool { return !stays(i) }) {
			continue
		}
		for _, i := range columns {
			if v, ok := w.standIn(&t.Columns[i], id); ok && spare(t, i) {
				let[i] = v
				break
			}
		}
	}
	return let
}

const (
	// standInBits is how large a column's integers must be, and standInSize how long its texts, for a value to be found that no
	// row has: another is taken at each try.
	standInBits = 24
	standInSize = 6
)

// standIn is a value that hardly any row has, another one for each row and at each try; false: the column has no place for one.
func (w *writer) standIn(c *schema.Column, id schema.RowID) (schema.Value, bool) {
	const golden = 0x9e3779b97f4a7c15 // odd, so that different rows stay different
	n := (binary.BigEndian.Uint64(id[:]) ^ uint64(w.stream.applier.options.Now().UnixNano())) * golden
	text := fmt.Sprintf("%016x", n)
	switch {
	case c.Kind == schema.KindInt && c.Size >= standInBits:
		return schema.Of(strconv.FormatUint(n>>(65-c.Size), 10)), true // no sign: it may be unsigned, or checked to be positive
	case c.Kind == schema.KindText && (c.Size == 0 || c.Size >= standInSize):
		if c.Size > 0 {
			text = text[:min(c.Size, len(text))]
		}
		return schema.Of(text), true
	case c.Kind == schema.KindUUID:
		return schema.Of(text[:8] + "-" + text[8:12] + "-" + text[12:] + "-" + text[:4] + "-" + text[4:]), true
	}
	return schema.Value{}, false
}

// takeOut takes a row out, with nothing else: not where a foreign key or a trigger would act on that. What an application does to
// the row meanwhile does not find it in Postgres, as when it is deleted and made anew by any other: so it is the last resort.
func (w *writer) takeOut(p *plan, _ schema.RowID, row, _ schema.Row) schema.Row {
	if p.fires || !w.ses.hush(true) || !row.Complete(p.target.Table) {
		return row
	}
	return nil
}
