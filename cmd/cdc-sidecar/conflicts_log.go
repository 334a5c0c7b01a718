package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

// decider makes what a person chose the row of all offices: it writes the row and the entry in one transaction.
type decider interface {
	// Decide takes local or remote, for the entry of the conflict log with this number. Its error says why it could not.
	Decide(ctx context.Context, id int64, take string) error
}

// conflictLog is cdc_sidecar.conflicts at the head, as people read it. It is asked rarely, so it opens a connection each
// time and holds none.
type conflictLog struct {
	db office
	// decider gives nil while the sidecar is still starting.
	decider func() decider
}

var _ admin.Conflicts = conflictLog{}

// conflictColumns are those of a list; images can be large, and are read only for one entry.
var (
	conflictColumns = []string{
		schema.ConflictID, schema.ConflictDecidedAt, schema.ConflictTable, schema.ConflictKey, schema.ConflictKind, schema.ConflictPolicy,
		schema.ConflictWinner, schema.ConflictState, schema.ConflictLocalBy, schema.ConflictLocalMs, schema.ConflictLocalCount,
		schema.ConflictBy, schema.ConflictMs, schema.ConflictCount, schema.ConflictEpoch, schema.ConflictSeq, schema.ConflictResolvedAt, schema.ConflictTaken,
	}
	conflictImages = []string{schema.ConflictLocal, schema.ConflictBefore, schema.ConflictRemote, schema.ConflictResult}
)

// conflictAgain is the state of an entry that is no conflict: it carries a row to all offices once more. People do not see it.
const conflictAgain = "again"

const conflictsTable = schema.OwnSchema + "." + schema.ConflictsTable

// List reads the entries that f asks for, the newest first.
func (l conflictLog) List(ctx context.Context, f admin.ConflictFilter) ([]admin.Conflict, error) {
	where, args := schema.ConflictOffice+" = ? AND "+schema.ConflictState+" <> ?", []any{l.db.name, conflictAgain}
	restrict := func(condition string, value any) {
		where += " AND " + condition
		args = append(args, value)
	}
	if f.Table != "" {
		restrict(schema.ConflictTable+" = ?", l.fleetName(f.Table))
	}
	if f.State != "" {
		restrict(schema.ConflictState+" = ?", f.State)
	}
	if f.Before > 0 {
		restrict(schema.ConflictID+" < ?", f.Before)
	}
	var out []admin.Conflict
	query := fmt.Sprintf("SELECT %s FROM %s WHERE %s ORDER BY %s DESC LIMIT %d",
		strings.Join(conflictColumns, ", "), conflictsTable, where, schema.ConflictID, f.Limit)
	err := l.query(ctx, query, args, func(rows *sql.Rows) error {
		c, err := scanConflict(rows, nil)
		out = append(out, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the conflict log: %w", err)
	}
	return out, nil
}

// fleetName is a table's name without the office's default schema: that is how people see it in their database.
func (l conflictLog) fleetName(name string) string {
	return strings.TrimPrefix(name, l.db.dsn.DefaultSchema()+".")
}

// Show reads one entry with its images.
func (l conflictLog) Show(ctx context.Context, id int64) (admin.Conflict, error) {
	var out admin.Conflict
	found := false
	query := fmt.Sprintf("SELECT %s FROM %s WHERE %s = ? AND %s = ? AND %s <> ?",
		strings.Join(slices.Concat(conflictColumns, conflictImages), ", "), conflictsTable, schema.ConflictOffice, schema.ConflictID, schema.ConflictState)
	err := l.query(ctx, query, []any{l.db.name, id, conflictAgain}, func(rows *sql.Rows) (err error) {
		found = true
		out, err = scanConflict(rows, make([]sql.NullString, len(conflictImages)))
		return err
	})
	switch {
	case err != nil:
		return admin.Conflict{}, fmt.Errorf("read conflict %d: %w", id, err)
	case !found:
		return admin.Conflict{}, fmt.Errorf("conflict %d: %w", id, admin.ErrUnknownConflict)
	}
	return out, nil
}

// Resolve takes one side's image for all offices. What a person has decided stays decided, and so does a parked change that
// found its place.
func (l conflictLog) Resolve(ctx context.Context, id int64, take string) (admin.Conflict, error) {
	c, err := l.Show(ctx, id)
	if err != nil {
		return admin.Conflict{}, err
	}
	if c.State == admin.ConflictResolved {
		return admin.Conflict{}, fmt.Errorf("conflict %d: %w: %s", id, admin.ErrResolved, resolution(c))
	}
	d := l.decider()
	if d == nil {
		return admin.Conflict{}, errors.New("the sidecar is still starting")
	}
	if err := d.Decide(ctx, id, take); err != nil {
		return admin.Conflict{}, err
	}
	return l.Show(ctx, id)
}

// waiting counts the entries that wait for a person, by the office whose change it was.
func (l conflictLog) waiting(ctx context.Context) (map[schema.Office]uint64, error) {
	out := map[schema.Office]uint64{}
	query := fmt.Sprintf("SELECT %[1]s, COUNT(*) FROM %[2]s WHERE %[3]s = ? AND %[4]s = ? GROUP BY %[1]s",
		schema.ConflictBy, conflictsTable, schema.ConflictOffice, schema.ConflictState)
	err := l.query(ctx, query, []any{l.db.name, admin.ConflictOpen}, func(rows *sql.Rows) error {
		var office schema.Office
		var n uint64
		err := rows.Scan(&office, &n)
		out[office] = n
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count the conflicts that wait: %w", err)
	}
	return out, nil
}

// pruneBatch is how many entries one statement deletes: a moment's work, so that nobody who writes waits behind it.
const pruneBatch = 1000

// prune deletes the entries that were decided, by policy or by a person, longer than keep before now, and returns how many.
// Those that wait are never deleted. A keep of 0 keeps all. It reads the log once, in batches by number, so it needs no index.
func (l conflictLog) prune(ctx context.Context, keep time.Duration, now time.Time) (int64, error) {
	if keep <= 0 {
		return 0, nil
	}
	limit := now.Add(-keep).UnixMicro()
	old := fmt.Sprintf("%s = ? AND %s > ? AND ((%s IN (?, ?) AND %s < ?) OR (%s = ? AND %s < ?))",
		schema.ConflictOffice, schema.ConflictID, schema.ConflictState, schema.ConflictDecidedAt, schema.ConflictState, schema.ConflictResolvedAt)
	r := register{db: l.db}
	last := r.bind(fmt.Sprintf("SELECT COALESCE(MAX(%[1]s), 0) FROM (SELECT %[1]s FROM %[2]s WHERE %[3]s ORDER BY %[1]s LIMIT %[4]d) AS batch",
		schema.ConflictID, conflictsTable, old, pruneBatch))
	remove := r.bind(fmt.Sprintf("DELETE FROM %s WHERE %s AND %s <= ?", conflictsTable, old, schema.ConflictID))
	var deleted int64
	err := r.with(func(db *sql.DB) error {
		for from := int64(0); ; {
			args := []any{l.db.name, from, admin.ConflictDecided, conflictAgain, limit, admin.ConflictResolved, limit}
			var to int64
			if err := db.QueryRowContext(ctx, last, args...).Scan(&to); err != nil || to == 0 {
				return err
			}
			res, err := db.ExecContext(ctx, remove, append(args, to)...)
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			if err != nil {
				return err
			}
			deleted, from = deleted+n, to
		}
	})
	if err != nil {
		return deleted, fmt.Errorf("prune the conflict log: %w", err)
	}
	return deleted, nil
}

// query runs a query and calls each for every row.
func (l conflictLog) query(ctx context.Context, query string, args []any, each func(*sql.Rows) error) error {
	r := register{db: l.db}
	return r.with(func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, r.bind(query), args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := each(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

// scanConflict reads conflictColumns, and conflictImages where there is room for them.
func scanConflict(rows *sql.Rows, images []sql.NullString) (admin.Conflict, error) {
	var c admin.Conflict
	var decided, localMillis, remoteMillis, resolved int64
	into := []any{
		&c.ID, &decided, &c.Table, &c.Key, &c.Kind, &c.Policy, &c.Winner, &c.State, &c.Local.Office, &localMillis, &c.Local.Counter,
		&c.Remote.Office, &remoteMillis, &c.Remote.Counter, &c.Remote.Position.Epoch, &c.Remote.Position.Seq, &resolved, &c.Taken,
	}
	for i := range images {
		into = append(into, &images[i])
	}
	if err := rows.Scan(into...); err != nil {
		return admin.Conflict{}, err
	}
	c.DecidedAt = time.UnixMicro(decided).UTC()
	if localMillis != 0 {
		c.Local.At = time.UnixMilli(localMillis).UTC()
	}
	if remoteMillis != 0 {
		c.Remote.At = time.UnixMilli(remoteMillis).UTC()
	}
	if resolved != 0 {
		c.ResolvedAt = time.UnixMicro(resolved).UTC()
	}
	if images == nil {
		return c, nil
	}
	for i, image := range []*json.RawMessage{&c.Local.Row, &c.Remote.Before, &c.Remote.Row, &c.Result} {
		*image = json.RawMessage("null")
		if images[i].Valid {
			*image = json.RawMessage(images[i].String)
		}
		if !json.Valid(*image) {
			return admin.Conflict{}, fmt.Errorf("column %s is not JSON", conflictImages[i])
		}
	}
	return c, nil
}
