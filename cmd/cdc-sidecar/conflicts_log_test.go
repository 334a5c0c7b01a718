package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

// fakeDecider notes what it is told, and does what the test wants.
type fakeDecider struct {
	told []string
	do   func(id int64, take string) error
}

func (d *fakeDecider) Decide(_ context.Context, id int64, take string) error {
	d.told = append(d.told, fmt.Sprintf("%d %s", id, take))
	return d.do(id, take)
}

// conflictsOn is the conflict log of an office whose database was just set up.
func conflictsOn(t *testing.T, engine string) conflictLog {
	t.Helper()
	config, _ := officeOn(t, engine)
	if code, _, stderr := verb(t, "setup", "--config", config); code != exitOK {
		t.Fatal(stderr)
	}
	t.Cleanup(func() { // the test's own context has ended by then
		var said strings.Builder
		if execute(context.WithoutCancel(t.Context()), []string{"teardown", "--yes", "--config", config}, output{Out: &said, Err: &said}) != exitOK {
			t.Error(said.String())
		}
	})
	c, err := LoadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return conflictLog{db: newOffice(c, slog.New(slog.DiscardHandler))}
}

var logTime = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// note writes an entry, with what differs from an ordinary one, and gives its number.
func (l conflictLog) note(t *testing.T, differs map[string]any) int64 {
	t.Helper()
	entry := map[string]any{
		schema.ConflictOffice: l.db.name, schema.ConflictDecidedAt: logTime.UnixMicro(), schema.ConflictTable: "orders", schema.ConflictKey: "id=7",
		schema.ConflictKind: "update/update", schema.ConflictPolicy: "latest", schema.ConflictWinner: "remote", schema.ConflictState: "decided",
		schema.ConflictLocalBy: "hq", schema.ConflictLocalMs: logTime.UnixMilli(), schema.ConflictLocalCount: 1<<20 - 1,
		schema.ConflictBy: "north", schema.ConflictMs: logTime.UnixMilli() + 1, schema.ConflictCount: 0, schema.ConflictEpoch: 1770000000000, schema.ConflictSeq: 9,
	}
	maps.Copy(entry, differs)
	columns := slices.Sorted(maps.Keys(entry))
	var args []any
	for _, c := range columns {
		args = append(args, entry[c])
	}
	l.exec(t, fmt.Sprintf("INSERT INTO %s (%s) VALUES (?%s)", conflictsTable, strings.Join(columns, ", "), strings.Repeat(", ?", len(columns)-1)), args...)
	var id int64
	err := l.query(t.Context(), "SELECT MAX(id) FROM "+conflictsTable, nil, func(rows *sql.Rows) error { return rows.Scan(&id) })
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (l conflictLog) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	r := register{db: l.db}
	if err := r.with(func(db *sql.DB) error { _, err := db.ExecContext(t.Context(), r.bind(statement), args...); return err }); err != nil {
		t.Fatal(err)
	}
}

// ids lists what f asks for.
func (l conflictLog) ids(t *testing.T, f admin.ConflictFilter) []int64 {
	t.Helper()
	if f.Limit == 0 {
		f.Limit = 100
	}
	list, err := l.List(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	var ids []int64
	for _, c := range list {
		if c.Local.Row != nil || c.Remote.Row != nil || c.Result != nil {
			t.Errorf("a list has the images of %d", c.ID)
		}
		ids = append(ids, c.ID)
	}
	return ids
}

func TestConflictLog(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			l := conflictsOn(t, engine)
			first := l.note(t, map[string]any{
				schema.ConflictLocal: `{"id":"7","name":"Ädä 🙂"}`, schema.ConflictRemote: `{"id":"7","name":null}`, schema.ConflictResult: `{"id":"7","name":null}`,
			})
			open := l.note(t, map[string]any{schema.ConflictState: "open", schema.ConflictTable: "stock.prices", schema.ConflictWinner: "none"})
			parked := l.note(t, map[string]any{schema.ConflictState: "parked", schema.ConflictLocalBy: "", schema.ConflictLocalMs: 0})
			foreign := l.note(t, map[string]any{schema.ConflictOffice: "another", schema.ConflictState: "open"})
			again := l.note(t, map[string]any{schema.ConflictState: conflictAgain})
			defer l.exec(t, "DELETE FROM "+conflictsTable+" WHERE office = 'another'")
			for _, c := range []struct {
				f    admin.ConflictFilter
				want []int64
			}{
				{admin.ConflictFilter{}, []int64{parked, open, first}},
				{admin.ConflictFilter{Limit: 2}, []int64{parked, open}},
				{admin.ConflictFilter{Before: open}, []int64{first}},
				{admin.ConflictFilter{State: "open"}, []int64{open}},
				{admin.ConflictFilter{Table: "orders"}, []int64{parked, first}},
				{admin.ConflictFilter{Table: l.db.dsn.DefaultSchema() + ".orders", State: "decided"}, []int64{first}},
				{admin.ConflictFilter{Table: "stock.prices"}, []int64{open}},
				{admin.ConflictFilter{Table: "nothing' OR '1'='1"}, nil},
			} {
				if got := l.ids(t, c.f); !slices.Equal(got, c.want) {
					t.Errorf("%+v: got %v, want %v", c.f, got, c.want)
				}
			}
			c, err := l.Show(t.Context(), first)
			if err != nil {
				t.Fatal(err)
			}
			if !c.DecidedAt.Equal(logTime) || !c.Local.At.Equal(logTime.Truncate(time.Millisecond)) || c.Local.Counter != 1<<20-1 || !c.ResolvedAt.IsZero() ||
				c.Remote.Position != (admin.Position{Epoch: 1770000000000, Seq: 9}) || c.Remote.Office != "north" {
				t.Errorf("got %+v", c)
			}
			if string(c.Local.Row) != `{"id":"7","name":"Ädä 🙂"}` || string(c.Remote.Row) != `{"id":"7","name":null}` || string(c.Remote.Before) != "null" {
				t.Errorf("local %s, remote %s, before %s", c.Local.Row, c.Remote.Row, c.Remote.Before)
			}
			if c, err := l.Show(t.Context(), parked); err != nil || !c.Local.At.IsZero() || string(c.Local.Row) != "null" {
				t.Errorf("%+v, %v", c, err)
			}
			for _, id := range []int64{again + 1, foreign, again} {
				if _, err := l.Show(t.Context(), id); !errors.Is(err, admin.ErrUnknownConflict) || !strings.Contains(err.Error(), fmt.Sprint(id)) {
					t.Errorf("show %d: %v", id, err)
				}
			}
			if waiting, err := l.waiting(t.Context()); err != nil || !maps.Equal(waiting, map[schema.Office]uint64{"north": 1}) {
				t.Errorf("waiting %v, %v", waiting, err)
			}
		})
	}
}

func TestConflictLogResolve(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			l := conflictsOn(t, engine)
			id := l.note(t, map[string]any{schema.ConflictState: "open"})
			d := &fakeDecider{do: func(int64, string) error { return errors.New("the row is locked") }}
			l.decider = func() decider { return nil }
			if _, err := l.Resolve(t.Context(), id, "remote"); err == nil || !strings.Contains(err.Error(), "still starting") {
				t.Errorf("while it starts: %v", err)
			}
			l.decider = func() decider { return d }
			if _, err := l.Resolve(t.Context(), id, "remote"); err == nil || err.Error() != "the row is locked" {
				t.Errorf("got %v", err)
			}
			d.do = func(id int64, take string) error {
				l.exec(t, "UPDATE "+conflictsTable+" SET state = 'resolved', taken = ?, resolved_at = ? WHERE id = ?", take, logTime.UnixMicro(), id)
				return nil
			}
			c, err := l.Resolve(t.Context(), id, "remote")
			if err != nil || c.State != admin.ConflictResolved || c.Taken != "remote" || !c.ResolvedAt.Equal(logTime) {
				t.Errorf("%+v, %v", c, err)
			}
			_, err = l.Resolve(t.Context(), id, "local")
			if !errors.Is(err, admin.ErrResolved) || !strings.Contains(err.Error(), "2026-03-01 12:00:00Z, resolved by a person: the delete of north was taken") {
				t.Errorf("again: %v", err)
			}
			if _, err := l.Resolve(t.Context(), id+1, "local"); !errors.Is(err, admin.ErrUnknownConflict) {
				t.Errorf("unknown: %v", err)
			}
			applied := l.note(t, map[string]any{schema.ConflictState: "resolved", schema.ConflictResolvedAt: logTime.UnixMicro()})
			if _, err := l.Resolve(t.Context(), applied, "local"); !errors.Is(err, admin.ErrResolved) || !strings.Contains(err.Error(), "the parked change was applied") {
				t.Errorf("applied by itself: %v", err)
			}
			if want := fmt.Sprintf("%d remote", id); !slices.Equal(d.told, []string{want, want}) {
				t.Errorf("told %q", d.told)
			}
		})
	}
}

// What was decided long ago goes, in batches; what waits stays however old it is, and so does what a person decided lately.
func TestConflictLogPrune(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			l := conflictsOn(t, engine)
			const keep = 90 * 24 * time.Hour
			now := logTime.Add(keep + time.Hour)
			recent := now.Add(-keep + time.Hour).UnixMicro()
			old := 0
			doubled := func() { // in between are those that stay
				columns := strings.Join(conflictColumns[1:], ", ") + ", office"
				l.exec(t, fmt.Sprintf("INSERT INTO %[1]s (%[2]s) SELECT %[2]s FROM %[1]s WHERE office = ? AND state IN ('decided', 'again') AND decided_at < ?", conflictsTable, columns),
					l.db.name, recent)
				old *= 2
			}
			for _, state := range []string{"decided", conflictAgain} {
				l.note(t, map[string]any{schema.ConflictState: state})
				old++
			}
			stay := []int64{
				l.note(t, map[string]any{schema.ConflictState: "open"}),
				l.note(t, map[string]any{schema.ConflictState: "parked"}),
			}
			for old <= 2*pruneBatch {
				doubled()
			}
			l.note(t, map[string]any{schema.ConflictState: "resolved", schema.ConflictResolvedAt: logTime.UnixMicro()})
			stay = append(stay,
				l.note(t, map[string]any{schema.ConflictState: "resolved", schema.ConflictResolvedAt: recent}),
				l.note(t, map[string]any{schema.ConflictDecidedAt: recent}),
			)
			foreign := l.note(t, map[string]any{schema.ConflictOffice: "another"})
			defer l.exec(t, "DELETE FROM "+conflictsTable+" WHERE office = 'another'")

			if n, err := l.prune(t.Context(), 0, now); n != 0 || err != nil {
				t.Errorf("kept for ever: %d, %v", n, err)
			}
			if n, err := l.prune(t.Context(), keep, now); n != int64(old+1) || err != nil {
				t.Errorf("%d entries went, want %d: %v", n, old+1, err)
			}
			if n, err := l.prune(t.Context(), keep, now); n != 0 || err != nil {
				t.Errorf("again: %d, %v", n, err)
			}
			slices.Reverse(stay)
			if got := l.ids(t, admin.ConflictFilter{}); !slices.Equal(got, stay) {
				t.Errorf("left are %v, want %v", got, stay)
			}
			var others int
			err := l.query(t.Context(), "SELECT COUNT(*) FROM "+conflictsTable+" WHERE id = ?", []any{foreign}, func(rows *sql.Rows) error { return rows.Scan(&others) })
			if err != nil || others != 1 {
				t.Errorf("the other office's entry: %d, %v", others, err)
			}
		})
	}
}

// A server that is away is told so, whatever is asked.
func TestConflictLogWithoutItsServer(t *testing.T) {
	c, err := LoadConfig(configAt(t, "unix:/nonexistent/s"))
	if err != nil {
		t.Fatal(err)
	}
	l := conflictLog{db: newOffice(c, slog.New(slog.DiscardHandler))}
	_, list := l.List(t.Context(), admin.ConflictFilter{Limit: 1})
	_, show := l.Show(t.Context(), 1)
	_, waiting := l.waiting(t.Context())
	_, prune := l.prune(t.Context(), time.Hour, logTime)
	for what, err := range map[string]error{"read the conflict log": list, "read conflict 1": show, "count the conflicts that wait": waiting, "prune the conflict log": prune} {
		if err == nil || !strings.HasPrefix(err.Error(), what+": ") || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s: got %v", what, err)
		}
	}
}
