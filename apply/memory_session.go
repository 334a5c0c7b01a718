package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// memorySession is a connection of an Applier to a database in memory.
type memorySession struct {
	*memoryWork
	definition definitions
}

func (s *memorySession) defs() *definitions { return &s.definition }
func (s *memorySession) user() string       { return "sidecar" }
func (s *memorySession) worn() bool         { return false }
func (s *memorySession) queue(string)       {}              // the tables have no sequences
func (s *memorySession) hush(bool) bool     { return true } // nor foreign keys

func (s *memorySession) judge(err error) verdict {
	var e *memoryError
	if errors.As(err, &e) {
		return e.verdict
	}
	return verdict{}
}

// own is a table of ours.
func (s *memorySession) own(name string) *memoryTable {
	return s.db.tables[schema.TableName{Schema: schema.OwnSchema, Name: name}]
}

// The transaction.

func (s *memorySession) begin() {
	s.quiet(func() {
		s.reset()
		s.open = true
	})
}
func (s *memorySession) restart() { s.begin() }
func (s *memorySession) save() {
	s.quiet(func() { s.saved = memorySave{len(s.undo), len(s.events), len(s.held)} })
}
func (s *memorySession) restore() { s.quiet(func() { s.back(s.saved) }) }
func (s *memorySession) close()   { s.quiet(s.die) }

// quiet does what goes out with the next statement.
func (s *memorySession) quiet(f func()) {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	if !s.dead {
		f()
	}
}

func (s *memorySession) rollback(ctx context.Context) error {
	s.quiet(s.reset)
	return s.round(ctx, "rollback", func() error { return nil })
}

func (s *memorySession) commit(ctx context.Context) error { return s.end(ctx) }

// What is read and written outside of a transaction.

func (s *memorySession) progress(ctx context.Context, office, origin schema.Office) (at schema.Position, ok bool, err error) {
	all, err := s.senders(ctx, office)
	at, ok = all[origin]
	return at, ok, err
}

func (s *memorySession) senders(ctx context.Context, office schema.Office) (map[schema.Office]schema.Position, error) {
	all := map[schema.Office]schema.Position{}
	err := s.round(ctx, "progress", func() error {
		for _, row := range s.own(schema.ProgressTable).rows {
			if row[0].Text() == string(office) {
				all[schema.Office(row[1].Text())] = schema.Position{Epoch: memoryNumber(row[2]), Seq: memoryNumber(row[3])}
			}
		}
		return nil
	})
	return all, err
}

func memoryNumber(v schema.Value) uint64 {
	n, _ := strconv.ParseUint(v.Text(), 10, 64) // only this program writes it
	return n
}

func memoryValue[T ~int | ~int64 | ~uint64](n T) schema.Value {
	return schema.Of(strconv.FormatInt(int64(n), 10))
}

func (s *memorySession) record(ctx context.Context, office, origin schema.Office, at schema.Position) error {
	zero := schema.Of("0")
	row := schema.Row{schema.Of(string(office)), schema.Of(string(origin)), memoryValue(at.Epoch), memoryValue(at.Seq), zero, zero, zero, zero, zero, zero}
	t := s.own(schema.ProgressTable)
	err := s.round(ctx, "record", func() error {
		s.reset()
		if at.IsZero() {
			_, err := s.remove(ctx, t, t.keyOf(row))
			return err
		}
		hit, err := s.update(ctx, t, t.keyOf(row), func(r schema.Row) { copy(r[:8], row) }) // chunks stay
		if err == nil && !hit {
			_, err = s.insert(ctx, t, row)
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.end(ctx)
}

func (s *memorySession) mark(ctx context.Context, office schema.Office) (mark uint64, err error) {
	t := s.own(schema.BarrierTable)
	row := schema.Row{schema.Of(string(office)), schema.Of("1")}
	err = s.round(ctx, "mark", func() error {
		s.reset()
		hit, err := s.update(ctx, t, t.keyOf(row), func(r schema.Row) {
			r[1] = memoryValue(memoryNumber(r[1]) + 1)
			row = r
		})
		if err == nil && !hit {
			_, err = s.insert(ctx, t, row)
		}
		return err
	})
	if err == nil {
		err = s.end(ctx)
	}
	return memoryNumber(row[1]), err
}

// settle waits for the transactions that are in the log and not seen yet, in both kinds of database.
func (s *memorySession) settle(ctx context.Context, _ schema.Office, _ []uint32, _ bool) error {
	var end int
	err := s.round(ctx, "settle", func() error {
		end = len(s.db.log)
		return nil
	})
	for err == nil {
		var hidden bool
		var freed chan struct{}
		err = s.round(ctx, "settled", func() error {
			freed = s.db.freed
			for w := range s.db.works {
				hidden = hidden || w.logged && w.place <= end && len(w.rows) > 0
			}
			return nil
		})
		if err != nil || !hidden {
			return err
		}
		select {
		case <-freed: // whoever has written holds locks until it is seen
		case <-ctx.Done():
			err = ctx.Err()
		case <-s.gone:
			err = ErrMemoryGone
		}
	}
	return err
}

func (s *memorySession) parked(ctx context.Context, office schema.Office) (all []parkedBody, err error) {
	t := s.own(schema.ParkedTable)
	err = s.round(ctx, "parked", func() error {
		for _, key := range t.keys() {
			row := t.rows[key]
			if row[1].Text() != string(office) {
				continue
			}
			id, err := parkedRow(row[2].Text())
			if err != nil {
				return err
			}
			all = append(all, parkedBody{row: id, body: []byte(row[7].Text())})
		}
		return nil
	})
	return all, err
}

func (s *memorySession) logged(ctx context.Context, office schema.Office, id int64) (e *loggedEntry, err error) {
	t := s.own(schema.ConflictsTable)
	err = s.round(ctx, "logged", func() error {
		row, err := s.find(ctx, memoryCell{t, 0, t.keyOf(schema.Row{memoryValue(id)})})
		if err != nil || row == nil || row[t.Column(schema.ConflictOffice)].Text() != string(office) {
			return err
		}
		text := func(column string) string { return row[t.Column(column)].Text() }
		image := func(column string) *string {
			if row[t.Column(column)].IsNull() {
				return nil
			}
			image := text(column)
			return &image
		}
		e = &loggedEntry{table: text(schema.ConflictTable), key: text(schema.ConflictKey), state: text(schema.ConflictState), taken: text(schema.ConflictTaken)}
		e.local, e.before, e.remote = image(schema.ConflictLocal), image(schema.ConflictBefore), image(schema.ConflictRemote)
		return nil
	})
	return e, err
}

func (s *memorySession) joins(ctx context.Context, office schema.Office) (all []Join, err error) {
	t := s.own(schema.JoinsTable)
	err = s.round(ctx, "joins", func() error {
		for _, key := range t.keys() {
			if row := t.rows[key]; row[0].Text() == string(office) {
				at := schema.Position{Epoch: memoryNumber(row[3]), Seq: memoryNumber(row[4])}
				all = append(all, Join{Table: row[1].Text(), Pending: row[2].Text() != "0", At: at, State: []byte(row[6].Text())})
			}
		}
		return nil
	})
	return all, err
}

// Statements.

func (s *memorySession) run(ctx context.Context, steps []step, hits []int64) ([]int64, int, error) {
	for i := range steps {
		var n int64
		err := s.round(ctx, "statement", func() (err error) {
			n, err = s.execute(ctx, &steps[i])
			return err
		})
		if err != nil {
			if !s.db.postgres() && len(steps) > 1 {
				i = -1 // one answer to all of them
			}
			return hits, i, err
		}
		hits = append(hits, n)
	}
	return hits, -1, nil
}

// execute runs one statement by its form and values, and returns how many rows it hit.
func (s *memorySession) execute(ctx context.Context, st *step) (int64, error) {
	switch {
	case st.form.own == ownPiece, st.form.own == ownDDL, st.form.own == ownDDLPassed:
		return s.executeDDL(ctx, st)
	case st.form.op == opProgress:
		return s.move(ctx, st.args)
	case st.form.op == opOwn:
		return s.executeOwn(ctx, st)
	}
	t, err := s.used(ctx, st.plan.target.TableName)
	if err != nil {
		return 0, err
	}
	for _, c := range st.form.columns {
		if t.Column(c.Name) < 0 {
			return 0, memoryRefuses("table %s has no column %s", t.TableName, c.Name)
		}
	}
	set, key := s.split(t, st)
	switch st.form.op {
	case schema.Insert:
		row := make(schema.Row, len(t.Columns))
		for i := range row {
			row[i] = memoryDefault(t.definition, i, s.db.options.Random)
		}
		set(row)
		ok, err := s.insert(ctx, t, row)
		if err == nil && !ok && !s.db.postgres() {
			err = s.taken(t, t.keyOf(row))
		}
		return memoryHits(ok), err
	case schema.Update:
		if len(st.args) == len(st.plan.source.Key) { // a touch
			row, err := s.find(ctx, memoryCell{t, 0, key})
			return memoryHits(row != nil), err
		}
		ok, err := s.update(ctx, t, key, set)
		return memoryHits(ok), err
	case schema.Delete:
		ok, err := s.remove(ctx, t, key)
		return memoryHits(ok), err
	case schema.Truncate:
		if strings.HasPrefix(st.form.sql, "TRUNCATE") {
			return 0, s.truncate(ctx, t)
		}
		return s.clear(ctx, t)
	}
	return 0, fmt.Errorf("the database in memory does not know the operation %d", st.form.op)
}

// split tells the values that are written from those that name the row.
func (s *memorySession) split(t *memoryTable, st *step) (set func(schema.Row), key string) {
	n := len(st.args)
	if st.form.op == schema.Update || st.form.op == schema.Delete {
		n -= len(st.plan.source.Key)
		row := make(schema.Row, len(t.Columns))
		for i := n; i < len(st.args); i++ {
			row[t.Column(st.form.columns[i].Name)] = st.args[i]
		}
		key = t.keyOf(row)
	}
	args, columns := st.args[:n], st.form.columns
	return func(row schema.Row) {
		for i, v := range args {
			row[t.Column(columns[i].Name)] = v
		}
	}, key
}

func memoryHits(ok bool) int64 {
	if ok {
		return 1
	}
	return 0
}

func (s *memorySession) clear(ctx context.Context, t *memoryTable) (n int64, err error) {
	for _, key := range s.all(t) {
		ok, err := s.remove(ctx, t, key)
		if err != nil {
			return n, err
		}
		n += memoryHits(ok)
	}
	return n, nil
}

// move is progressForm's statement.
func (s *memorySession) move(ctx context.Context, args []schema.Value) (int64, error) {
	t := s.own(schema.ProgressTable)
	key := t.keyOf(args[6:8])
	row, err := s.find(ctx, memoryCell{t, 0, key})
	if err != nil || row == nil || row[2] != args[8] || row[3] != args[9] {
		return 0, err
	}
	ok, err := s.update(ctx, t, key, func(r schema.Row) { copy(r[2:], args[:6]) })
	return memoryHits(ok), err
}

// executeOwn is the statements of definitions.own.
func (s *memorySession) executeOwn(ctx context.Context, st *step) (int64, error) {
	args := st.args
	conflicts, parked := s.own(schema.ConflictsTable), s.own(schema.ParkedTable)
	column := conflicts.Column
	switch st.form.own {
	case ownEntry:
		return s.append(ctx, conflicts, args, schema.Of("0"), schema.Of(""))
	case ownPark:
		return s.append(ctx, parked, args, schema.Of("0"))
	case ownUnpark:
		return s.each(parked, func(r schema.Row) bool { return r[1] == args[0] && r[2] == args[1] }, func(key string) error {
			_, err := s.remove(ctx, parked, key)
			return err
		})
	case ownResolved:
		where := func(r schema.Row) bool {
			return r[column(schema.ConflictOffice)] == args[2] && r[column(schema.ConflictTable)] == args[3] &&
				r[column(schema.ConflictKey)] == args[4] && r[column(schema.ConflictState)] == args[5]
		}
		return s.each(conflicts, where, func(key string) error {
			_, err := s.update(ctx, conflicts, key, func(r schema.Row) {
				r[column(schema.ConflictState)], r[column(schema.ConflictResolvedAt)] = args[0], args[1]
			})
			return err
		})
	case ownDecided:
		ok, err := s.update(ctx, conflicts, conflicts.keyOf(args[4:]), func(r schema.Row) {
			r[column(schema.ConflictState)], r[column(schema.ConflictResolvedAt)], r[column(schema.ConflictTaken)] = args[0], args[1], args[2]
		})
		return memoryHits(ok), err
	case ownTouch:
		progress := s.own(schema.ProgressTable)
		ok, err := s.update(ctx, progress, progress.keyOf(args[1:]), func(r schema.Row) { r[6], r[7] = memoryValue(memoryNumber(r[6])+1), args[0] })
		return memoryHits(ok), err
	}
	return s.executeJoin(ctx, st)
}

// executeJoin is those of joins, chunks and claims.
func (s *memorySession) executeJoin(ctx context.Context, st *step) (int64, error) {
	args := st.args
	joins, claims := s.own(schema.JoinsTable), s.own(schema.ClaimsTable)
	switch st.form.own {
	case ownChunk:
		progress := s.own(schema.ProgressTable)
		key := progress.keyOf(args[2:4])
		row, err := s.find(ctx, memoryCell{progress, 0, key})
		if err != nil || row == nil || row[2] != args[4] || row[3] != args[5] {
			return 0, err
		}
		ok, err := s.update(ctx, progress, key, func(r schema.Row) {
			for i := range 2 {
				r[4+i] = memoryValue(max(memoryNumber(r[4+i]), memoryNumber(args[i])))
			}
			r[8] = memoryValue(memoryNumber(r[8]) + 1)
		})
		return memoryHits(ok), err
	case ownJoin:
		ok, err := s.update(ctx, joins, joins.keyOf(args), func(r schema.Row) {
			copy(r[2:5], args[2:5])
			r[5], r[6] = memoryValue(memoryNumber(r[5])+1), args[5]
		})
		if err == nil && !ok {
			ok, err = s.insert(ctx, joins, slices.Concat(args[:5], schema.Row{schema.Of("0"), args[5]}))
		}
		return memoryHits(ok), err
	case ownDropJoin:
		ok, err := s.remove(ctx, joins, joins.keyOf(args))
		return memoryHits(ok), err
	case ownClaim:
		return s.append(ctx, claims, args)
	case ownUnclaim:
		return s.each(claims, func(r schema.Row) bool { return r[1] == args[0] }, func(key string) error {
			_, err := s.remove(ctx, claims, key)
			return err
		})
	}
	return 0, fmt.Errorf("the database in memory does not know the statement %q", st.form.own)
}

// append inserts a row whose number the database gives.
func (s *memorySession) append(ctx context.Context, t *memoryTable, args []schema.Value, rest ...schema.Value) (int64, error) {
	t.next++
	ok, err := s.insert(ctx, t, slices.Concat(schema.Row{memoryValue(t.next)}, args, rest))
	return memoryHits(ok), err
}

func (s *memorySession) each(t *memoryTable, where func(schema.Row) bool, do func(key string) error) (n int64, err error) {
	for _, key := range s.all(t) {
		if !where(s.row(memoryCell{t, 0, key})) {
			continue
		}
		if err := do(key); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func (s *memorySession) fetch(ctx context.Context, t *catalog.Table, keys []schema.Row, lock bool) ([]schema.Row, error) {
	rows := make([]schema.Row, len(keys))
	err := s.round(ctx, "fetch", func() error {
		x, err := s.shape(ctx, t.Table)
		if err != nil {
			return err
		}
		for i, key := range keys {
			c := memoryCell{x.in, 0, x.key(key)}
			row := s.row(c)
			if lock {
				if row, err = s.find(ctx, c); err != nil {
					return err
				}
			}
			rows[i] = x.row(row)
		}
		return nil
	})
	return rows, err
}

func (s *memorySession) fetchKeys(ctx context.Context, t *catalog.Table, from schema.Row, limit int) ([]schema.Row, error) {
	var rows []schema.Row
	err := s.round(ctx, "keys", func() error {
		x, err := s.shape(ctx, t.Table)
		if err != nil {
			return err
		}
		for _, key := range s.all(x.in) {
			if from != nil && key <= x.key(from) || len(rows) == limit {
				continue
			}
			row, err := s.find(ctx, memoryCell{x.in, 0, key})
			if err != nil {
				return err
			}
			if row == nil { // deleted meanwhile
				continue
			}
			row = x.row(row)
			image := make(schema.Row, len(row))
			for _, k := range t.Key {
				image[k] = row[k]
			}
			rows = append(rows, image)
		}
		return nil
	})
	return rows, err
}

func (s *memorySession) fetchStretch(ctx context.Context, q *lookup, from schema.Row, limit, most int) (got stretch, err error) {
	err = s.round(ctx, "stretch", func() error {
		x, err := s.shape(ctx, q.table.Table)
		if err != nil {
			return err
		}
		for _, key := range s.all(x.in) {
			row := x.row(s.row(memoryCell{x.in, 0, key}))
			if from != nil && key <= x.key(from) || len(got.rows) == limit || got.behind {
				continue
			}
			size := 0
			for _, v := range row {
				size += len(v.Text())
			}
			if got.behind = got.full(size, most); !got.behind {
				got.rows, got.bytes = append(got.rows, q.only(row)), got.bytes+size
			}
		}
		return nil
	})
	return got, err
}

// only is what a reader of the table, or of its key alone, gives of a row.
func (q *lookup) only(row schema.Row) schema.Row {
	if q.reader.Width() == len(row) {
		return slices.Clone(row)
	}
	image := make(schema.Row, len(row))
	for _, k := range q.table.Key {
		image[k] = row[k]
	}
	return image
}

func (s *memorySession) sizes(ctx context.Context, tables []catalog.Table) ([]catalog.Size, error) {
	sizes := make([]catalog.Size, len(tables))
	err := s.round(ctx, "sizes", func() error {
		for i := range tables {
			t := s.table(tables[i].TableName)
			if t == nil {
				continue
			}
			rows := t.rows
			sizes[i].Rows = uint64(len(rows))
			for _, row := range rows {
				for _, v := range row {
					sizes[i].Bytes += uint64(len(v.Text()))
				}
			}
		}
		return nil
	})
	return sizes, err
}

// MemoryConflict is an entry of the conflict log by the names of its columns.
type MemoryConflict map[string]string

// Conflicts is the conflict log, oldest first.
func (m *Memory) Conflicts() []MemoryConflict {
	table := schema.TableName{Schema: schema.OwnSchema, Name: schema.ConflictsTable}
	var all []MemoryConflict
	for _, row := range m.Rows(table) {
		e := MemoryConflict{}
		for i, c := range m.Table(table).Columns {
			if !row[i].IsNull() {
				e[c.Name] = row[i].Text()
			}
		}
		all = append(all, e)
	}
	return all
}

// Parked are the changes that wait in the database, oldest first; each transaction has one.
func (m *Memory) Parked() []schema.Transaction {
	var all []schema.Transaction
	for _, row := range m.Rows(schema.TableName{Schema: schema.OwnSchema, Name: schema.ParkedTable}) {
		batch, err := schema.DecodeBatch([]byte(row[7].Text()), 0)
		if err == nil {
			all = append(all, batch.Transactions...)
		}
	}
	return all
}
