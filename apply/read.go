package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// ErrNoTable says that this office has no table of the name that the error around it gives.
var ErrNoTable = errors.New("there is no such table here")

const (
	// firstRows is how many rows a table's first stretch asks for: it is not known yet how large they are.
	firstRows = 64
	// allBytes does not bound.
	allBytes = int(^uint(0) >> 1)
)

// Stretch reads whole rows of a table in the order of its key behind from, an image of the table's columns with those of its
// key (nil: the first), as capture would read them: about so many bytes of values at most, but one row at least, and limit
// rows at most. One statement, outside of any transaction, that locks nothing and waits for nobody. The order is the database's
// own, in which no two rows stand at one place: what the last row's key gives as the next from has neither gaps nor repeats.
// more says that rows may follow; without it, the table ends here. A table that is not here is ErrNoTable, one without a key a
// *schema.RejectedError.
//
// t is the definition by which the rows were read, or by which from is no key (then there is an error). It may be up to a minute old
// (as it is for applying).
func (a *Applier) Stretch(ctx context.Context, table schema.TableName, from schema.Row, limit, bytes int) (t *schema.Table, rows []schema.Row, more bool, err error) {
	err = a.reading(ctx, table, func(ses session, in *catalog.Table) error {
		t = in.Table
		if err := ofThis(in, from); err != nil {
			return err
		}
		asked := min(max(limit, 1), a.about(table, bytes))
		got, err := ses.fetchStretch(ctx, newStretch(in, catalog.NewReader(in), from != nil, false), from, asked, bytes)
		rows, more = got.rows, got.behind || len(got.rows) == asked
		a.measure(table, got)
		return err
	})
	return t, rows, more, err
}

// ofThis reports that an image is of the table as it was before.
func ofThis(t *catalog.Table, images ...schema.Row) error {
	for _, image := range images {
		if image != nil && len(image) != len(t.Columns) {
			return fmt.Errorf("read on in table %s: a key has %d columns, the table %d: its definition has changed", t.TableName, len(image), len(t.Columns))
		}
	}
	return nil
}

// Keys reads the keys of a table's next rows behind from, as Stretch reads rows: images with the columns of the key alone, limit
// of them at most.
func (a *Applier) Keys(ctx context.Context, table schema.TableName, from schema.Row, limit int) (t *schema.Table, rows []schema.Row, more bool, err error) {
	err = a.reading(ctx, table, func(ses session, in *catalog.Table) error {
		t = in.Table
		if err := ofThis(in, from); err != nil {
			return err
		}
		limit = max(limit, 1)
		got, err := ses.fetchStretch(ctx, newStretch(in, catalog.NewKeyReader(in), from != nil, false), from, limit, allBytes)
		rows, more = got.rows, len(got.rows) == limit
		return err
	})
	return t, rows, more, err
}

// Find reads the rows of keys: images of the table's columns with those of its key (see schema.Table.DecodeKey). There is an
// entry for each, in order; nil: there is no such row. Nothing is locked.
//
// The database says which row a key means: where it compares without regard to case (or to accents, or to blanks at the end),
// the row 'a' is found for 'A', and comes back as it is. Whoever means the very key compares the RowIDs.
//
// t is the definition by which the rows were read. Keys that were made by another one, which has its columns in another order,
// find nothing of use: whoever keeps definitions compares the fingerprints.
func (a *Applier) Find(ctx context.Context, table schema.TableName, keys []schema.Row) (t *schema.Table, rows []schema.Row, err error) {
	err = a.reading(ctx, table, func(ses session, in *catalog.Table) error {
		t = in.Table
		if err := ofThis(in, keys...); err != nil {
			return err
		}
		rows, err = ses.fetch(ctx, in, keys, false)
		return err
	})
	return t, rows, err
}

// Definition is a table as this office has it; ErrNoTable: it has none.
func (a *Applier) Definition(ctx context.Context, table schema.TableName) (*schema.Table, error) {
	ses, in, err := a.open(ctx, table)
	if err != nil {
		return nil, err
	}
	a.release(ses)
	return in.Table, nil
}

// Tables are all tables of this office whose rows its log can tell apart, without our own, with the server's estimates, as they
// are at this moment.
func (a *Applier) Tables(ctx context.Context) ([]schema.TableSize, error) {
	ses, err := a.take(ctx)
	if err != nil {
		return nil, err
	}
	all, err := ses.defs().read(ctx)
	if err != nil {
		a.spoiled(ses)
		return nil, fmt.Errorf("read the definitions of the tables: %w", err)
	}
	all = slices.DeleteFunc(all, func(t catalog.Table) bool {
		return len(t.Key) == 0 || t.Unlogged || t.Engine == schema.Postgres && !t.KeyLogged
	})
	sizes, err := ses.sizes(ctx, all)
	if err != nil {
		a.spoiled(ses)
		return nil, err
	}
	a.release(ses)
	tables := make([]schema.TableSize, len(all))
	for i := range all {
		tables[i] = schema.TableSize{Table: all[i].Table, Rows: sizes[i].Rows, Bytes: sizes[i].Bytes}
	}
	return tables, nil
}

// open lends a connection, with the definition of a table.
func (a *Applier) open(ctx context.Context, table schema.TableName) (session, *catalog.Table, error) {
	ses, err := a.take(ctx)
	if err != nil {
		return nil, nil, err
	}
	t, err := ses.defs().table(ctx, table)
	if err != nil {
		a.spoiled(ses)
		return nil, nil, err
	}
	if t == nil {
		a.release(ses)
		return nil, nil, fmt.Errorf("table %s: %w", table, ErrNoTable)
	}
	return ses, t, nil
}

// reading lends a connection to do, with the definition of a table that has a key.
func (a *Applier) reading(ctx context.Context, table schema.TableName, do func(ses session, t *catalog.Table) error) error {
	ses, t, err := a.open(ctx, table)
	if err != nil {
		return err
	}
	if len(t.Key) == 0 {
		ses.defs().forget() // it may get one
		a.release(ses)
		return keyless(t)
	}
	switch err = do(ses, t); {
	case err == nil:
		a.release(ses)
	case errors.Is(err, errEnough):
		ses.close()
		err = nil
	default: // perhaps because the table was changed: the next session reads the definitions again
		a.spoiled(ses)
	}
	return err
}

// table is a table's definition; nil: there is none, not even at this moment.
func (d *definitions) table(ctx context.Context, name schema.TableName) (*catalog.Table, error) {
	asked := time.Now()
	for {
		if d.tables == nil {
			if err := d.load(ctx); err != nil {
				return nil, err
			}
		}
		if t := d.tables[name]; t != nil || !d.staleSince(asked) {
			return t, nil
		}
		d.forget()
	}
}

// about is how many rows of a table make so many bytes.
func (a *Applier) about(table schema.TableName, bytes int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if width := a.widths[table]; width > 0 {
		return max(bytes/width, 1)
	}
	return firstRows
}

func (a *Applier) measure(table schema.TableName, got stretch) {
	if len(got.rows) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.widths[table] = max(got.bytes/len(got.rows), 1)
}
