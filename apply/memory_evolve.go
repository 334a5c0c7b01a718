package apply

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// catalog are the definitions of the applications' tables as this session sees them.
func (s *memorySession) catalog() (all []catalog.Table) {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	names := map[schema.TableName]bool{}
	for name := range s.db.tables {
		names[name] = true
	}
	for name := range s.tables {
		names[name] = true
	}
	for name := range names {
		if t := s.table(name); t != nil && t.definition != nil {
			all = append(all, *t.Table)
		}
	}
	slices.SortFunc(all, func(a, b catalog.Table) int { return strings.Compare(a.String(), b.String()) })
	return all
}

func (s *memorySession) describe(ctx context.Context, name schema.TableName) (d *schema.Definition, err error) {
	err = s.round(ctx, "describe", func() error {
		if t := s.table(name); t != nil {
			d = t.definition
		}
		return nil
	})
	return d, err
}

// define, where a statement commits by itself, has a word before and behind each, so that a crash may fall between any two.
func (s *memorySession) define(ctx context.Context, tag string, statements []string) error {
	for _, text := range statements {
		if err := s.round(ctx, "define", func() error { return s.evolve(ctx, tagged(tag, text)) }); err != nil {
			return err
		}
		if err := s.round(ctx, "defined", func() error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// lasting: what the database itself says of a statement, but of others' locks.
func (s *memorySession) lasting(err error) bool {
	var e *memoryError
	return errors.As(err, &e) && e.fault != busy
}

func (s *memorySession) piece(ctx context.Context, office, origin schema.Office) (n int, err error) {
	t := s.own(schema.ProgressTable)
	err = s.round(ctx, "piece", func() error {
		if row := s.row(memoryCell{t, 0, t.keyOf(schema.Row{schema.Of(string(office)), schema.Of(string(origin))})}); row != nil && !s.db.postgres() {
			n = int(memoryNumber(row[9]))
		}
		return nil
	})
	return n, err
}

func (s *memorySession) ddl(ctx context.Context, office schema.Office) (all []ddlStep, err error) {
	err = s.round(ctx, "ddl", func() error {
		t := s.own(schema.DDLTable)
		for _, key := range s.all(t) {
			if row := s.row(memoryCell{t, 0, key}); row[1].Text() == string(office) {
				all = append(all, memoryDDLStep(row))
			}
		}
		return nil
	})
	return all, err
}

func memoryDDLStep(row schema.Row) ddlStep {
	text := func(i int) string { return row[i].Text() }
	r := ddlStep{id: int64(memoryNumber(row[0])), before: memoryBits(row[12]), after: memoryBits(row[13]), body: []byte(text(15))}
	r.SchemaStep = SchemaStep{
		Origin: schema.Office(text(2)), At: schema.Position{Epoch: memoryNumber(row[3]), Seq: memoryNumber(row[4])},
		Table: text(5), Step: schema.StepKind(text(6)), Subject: text(7), Was: text(8), Statement: text(9), State: text(10), Reason: text(11),
		Time: time.UnixMicro(int64(memoryNumber(row[14]))).UTC(),
	}
	return r
}

// MemorySteps is what the office's database says of schema changes, oldest first.
func (m *Memory) MemorySteps() (all []SchemaStep) {
	for _, row := range m.Rows(schema.TableName{Schema: schema.OwnSchema, Name: schema.DDLTable}) {
		all = append(all, memoryDDLStep(row).SchemaStep)
	}
	return all
}

// executeDDL is the statements on DDLTable, and the one that counts the pieces of a transaction.
func (s *memorySession) executeDDL(ctx context.Context, st *step) (int64, error) {
	steps, args := s.own(schema.DDLTable), st.args
	switch st.form.own {
	case ownDDL:
		return s.append(ctx, steps, args)
	case ownDDLPassed:
		where := func(r schema.Row) bool {
			return r[1] == args[5] && r[5] == args[6] && r[6] == args[7] && r[7] == args[8] && r[8] == args[9] && r[10] == args[10]
		}
		return s.each(steps, where, func(key string) error {
			_, err := s.update(ctx, steps, key, func(r schema.Row) { r[9], r[10], r[11], r[13], r[14] = args[0], args[1], args[2], args[3], args[4] })
			return err
		})
	}
	progress := s.own(schema.ProgressTable) // ownPiece
	key := progress.keyOf(args[7:9])
	row, err := s.find(ctx, memoryCell{progress, 0, key})
	if err != nil || row == nil || row[2] != args[9] || row[3] != args[10] || row[9] != args[11] {
		return 0, err
	}
	ok, err := s.update(ctx, progress, key, func(r schema.Row) {
		copy(r[2:], args[:6])
		r[9] = args[6]
	})
	return memoryHits(ok), err
}

// memoryShape brings rows of a table as it is into the shape in which a session knows it.
type memoryShape struct {
	in   *memoryTable
	from []int // nil: it is the same
}

// shape uses a table that a session knows as t.
func (s *memorySession) shape(ctx context.Context, t *schema.Table) (x memoryShape, err error) {
	if x.in, err = s.used(ctx, t.TableName); err != nil || x.in.Table.Table == t {
		return x, err
	}
	for i := range t.Columns {
		at := x.in.Column(t.Columns[i].Name)
		if at < 0 {
			return x, memoryRefuses("table %s has no column %s", t.TableName, t.Columns[i].Name)
		}
		x.from = append(x.from, at)
	}
	return x, nil
}

// row is a row as the session knows the table.
func (x memoryShape) row(row schema.Row) schema.Row {
	if row == nil || x.from == nil {
		return slices.Clone(row)
	}
	out := make(schema.Row, len(x.from))
	for i, at := range x.from {
		out[i] = row[at]
	}
	return out
}

// key is the key of an image of the table as the session knows it.
func (x memoryShape) key(image schema.Row) string {
	if x.from == nil {
		return x.in.keyOf(image)
	}
	row := make(schema.Row, len(x.in.Columns))
	for i, at := range x.from {
		row[at] = image[i]
	}
	return x.in.keyOf(row)
}

// memoryBits reads what numeral writes of a number of 64 bits.
func memoryBits(v schema.Value) uint64 {
	n, _ := strconv.ParseInt(v.Text(), 10, 64)
	return uint64(n)
}
