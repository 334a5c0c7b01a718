package apply

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// A database in memory reads the statements that catalog.Render writes for it, as far as simulations need them: tables made,
// dropped and renamed, columns added, dropped, renamed and made wider. Whatever else it is told, it refuses.

// memorySpace is what the fleet's default schema is called here.
const memorySpace = "public"

// memoryDefinition is what the database says of a table that it begins with.
func memoryDefinition(t *catalog.Table) *schema.Definition {
	d := &schema.Definition{Table: t.Table, Details: make([]schema.ColumnDetail, len(t.Columns))}
	for i := range d.Details {
		d.Details[i].ID = i + 1
	}
	for _, columns := range t.Unique {
		x := schema.Index{Name: t.Name + "_unique", Unique: true}
		for _, i := range columns {
			x.Parts = append(x.Parts, schema.IndexPart{Column: t.Columns[i].Name})
		}
		d.Indexes = append(d.Indexes, x)
	}
	return d
}

func newMemoryTable(d *schema.Definition, rows map[string]schema.Row) *memoryTable {
	t := &catalog.Table{Table: d.Table, OwnSchema: memorySpace, KeyLogged: true}
	for _, x := range d.Indexes {
		var columns []int
		for _, p := range x.Parts {
			columns = append(columns, d.Column(p.Column))
		}
		if x.Unique {
			t.Unique = append(t.Unique, columns)
		}
	}
	return &memoryTable{Table: t, definition: d, rows: rows}
}

// table is a table as this transaction sees it; nil: there is none.
func (w *memoryWork) table(name schema.TableName) *memoryTable {
	if t, ok := w.tables[name]; ok {
		return t
	}
	return w.db.tables[name]
}

// used is a table whose definition stays until the transaction ends.
func (w *memoryWork) used(ctx context.Context, name schema.TableName) (*memoryTable, error) {
	err := w.await(ctx, w.wait, func() bool {
		t := w.table(name)
		return t == nil || t.changes == nil || t.changes == w
	})
	if err != nil {
		return nil, err
	}
	t := w.table(name)
	if t == nil {
		return nil, memoryRefuses("there is no table %s", name)
	}
	w.uses[t] = true
	return t, nil
}

func memoryRefuses(format string, args ...any) error {
	return &memoryError{verdict{fault: data}, fmt.Sprintf(format, args...)}
}

// alone is a table that nobody else uses until the transaction ends; nil: there is none.
func (w *memoryWork) alone(ctx context.Context, name schema.TableName) (*memoryTable, error) {
	err := w.await(ctx, ddlWait, func() bool {
		t := w.table(name)
		if t == nil {
			return true
		}
		for other := range w.db.works {
			if other != w && other.uses[t] {
				return false
			}
		}
		return t.changes == nil || t.changes == w
	})
	t := w.table(name)
	if err == nil && t != nil {
		t.changes, w.uses[t] = w, true
	}
	return t, err
}

// memoryColumns says for each column of a changed table which column it was; -1: it is new.
type memoryColumns []int

// evolve runs a statement that changes a table; text is all of it, as the log will have it.
func (w *memoryWork) evolve(ctx context.Context, text string) error {
	st, err := parseMemoryDDL(w.db.options.Engine, text)
	if err != nil {
		return err
	}
	was, err := w.alone(ctx, st.table)
	if err != nil {
		return err
	}
	change := &schema.DefinitionChange{Statement: text}
	var from memoryColumns
	if was != nil {
		change.Was = was.definition
	}
	if change.Is, from, err = st.apply(change.Was); err != nil {
		return err
	}
	if len(schema.Diff(change.Was, change.Is)) == 0 {
		return nil
	}
	if w.open {
		rows, tables, undo := maps.Clone(w.rows), maps.Clone(w.tables), memoryUndo{}
		undo.restore = func() { w.rows, w.tables = rows, tables }
		w.undo = append(w.undo, undo)
	}
	w.replace(was, change, from)
	event := MemoryEvent{Op: schema.Define, Definition: change}
	if event.Table = memoryDefined(change); !w.open { // it is committed by itself
		w.db.write([]MemoryEvent{event})
		w.settle()
		return nil
	}
	w.events = append(w.events, event)
	return nil
}

// replace has this transaction see the changed table in the place of the former one.
func (w *memoryWork) replace(was *memoryTable, change *schema.DefinitionChange, from memoryColumns) {
	if was != nil {
		w.tables[was.TableName] = nil
	}
	if change.Is == nil {
		maps.DeleteFunc(w.rows, func(c memoryCell, _ schema.Row) bool { return c.table == was })
		return
	}
	is := newMemoryTable(change.Is, map[string]schema.Row{})
	w.tables[is.TableName] = is
	is.changes, w.uses[is] = w, true
	if was == nil {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(was.rows)) {
		is.rows[key] = from.row(change.Is, was.rows[key], w.db.options.Random)
	}
	for c, row := range maps.Clone(w.rows) {
		if c.table != was {
			continue
		}
		delete(w.rows, c)
		w.rows[memoryCell{is, c.unique, c.key}] = from.row(change.Is, row, w.db.options.Random)
	}
}

// row is a row of the former table in the changed one.
func (from memoryColumns) row(is *schema.Definition, row schema.Row, random func() string) schema.Row {
	if row == nil {
		return nil
	}
	out := make(schema.Row, len(from))
	for i, at := range from {
		if out[i] = memoryDefault(is, i, random); at >= 0 {
			out[i] = row[at]
		}
	}
	return out
}

// memoryDefault is what a row gets in a column of which nothing is said.
func memoryDefault(d *schema.Definition, column int, random func() string) schema.Value {
	if d.Details[column].Default.Kind == schema.RandomUUID {
		return schema.Of(random())
	}
	if def := d.Details[column].Default; def.Kind == schema.LiteralValue {
		return schema.Of(def.Text)
	}
	return schema.NullValue()
}

// memoryDDL is a statement that was understood.
type memoryDDL struct {
	engine schema.Engine
	table  schema.TableName
	verb   string   // CREATE TABLE …
	args   []string // by the verb
}

const (
	memoryName  = `"([^"]+)"`
	memoryPlace = `(?:"[^"]+"\.)?` + memoryName
)

var memoryVerbs = []struct {
	verb string
	form *regexp.Regexp
}{
	{"create", regexp.MustCompile(`(?s)^CREATE TABLE (?:IF NOT EXISTS )?` + memoryPlace + ` \((.*)\)[^)]*$`)},
	{"drop", regexp.MustCompile(`^DROP TABLE ` + memoryPlace + `$`)},
	{"rename", regexp.MustCompile(`^RENAME TABLE ` + memoryPlace + ` TO ` + memoryPlace + `$`)},
	{"rename", regexp.MustCompile(`^ALTER TABLE ` + memoryPlace + ` RENAME TO ` + memoryName + `$`)},
	{"add column", regexp.MustCompile(`^ALTER TABLE ` + memoryPlace + ` ADD COLUMN (.*)$`)},
	{"drop column", regexp.MustCompile(`^ALTER TABLE ` + memoryPlace + ` DROP COLUMN ` + memoryName + `$`)},
	{"rename column", regexp.MustCompile(`^ALTER TABLE ` + memoryPlace + ` RENAME COLUMN ` + memoryName + ` TO ` + memoryName + `$`)},
	{"type", regexp.MustCompile(`^ALTER TABLE ` + memoryPlace + ` ALTER COLUMN ` + memoryName + ` TYPE (.*)$`)},
	{"modify", regexp.MustCompile(`^ALTER TABLE ` + memoryPlace + ` MODIFY COLUMN (.*)$`)},
}

var memoryTag = regexp.MustCompile(`/\*.*?\*/ *`)

func parseMemoryDDL(engine schema.Engine, text string) (*memoryDDL, error) {
	text = strings.ReplaceAll(memoryTag.ReplaceAllString(text, ""), "`", `"`)
	for _, v := range memoryVerbs {
		if found := v.form.FindStringSubmatch(text); found != nil {
			return &memoryDDL{engine, schema.TableName{Name: found[1]}, v.verb, found[2:]}, nil
		}
	}
	return nil, memoryRefuses("the database in memory does not understand: %s", text)
}

// apply is the table behind the statement; nil: it is gone.
func (st *memoryDDL) apply(was *schema.Definition) (is *schema.Definition, from memoryColumns, err error) {
	switch {
	case st.verb == "create" && was != nil:
		return was, nil, nil
	case st.verb == "create":
		is, err = st.create()
		return is, nil, err
	case was == nil:
		return nil, nil, memoryRefuses("there is no table %s", st.table)
	case st.verb == "drop":
		return nil, nil, nil
	}
	is, from = memoryCopy(was)
	if st.verb == "rename" {
		is.Name = st.args[0]
	} else if from, err = st.alter(is, from); err != nil {
		return nil, nil, err
	}
	is.Table = schema.NewTable(*is.Table)
	return is, from, nil
}

// memoryCopy is a copy that can be changed.
func memoryCopy(was *schema.Definition) (*schema.Definition, memoryColumns) {
	is, table := *was, *was.Table
	table.Columns, is.Details, is.Table = slices.Clone(was.Columns), slices.Clone(was.Details), &table
	from := make(memoryColumns, len(was.Columns))
	for i := range from {
		from[i] = i
	}
	return &is, from
}

// alter changes a column.
func (st *memoryDDL) alter(is *schema.Definition, from memoryColumns) (memoryColumns, error) {
	column := func(name string) (int, error) {
		if i := is.Column(name); i >= 0 {
			return i, nil
		}
		return -1, memoryRefuses("table %s has no column %s", st.table, name)
	}
	switch st.verb {
	case "add column":
		c, detail, err := st.column(st.args[0])
		if err != nil {
			return nil, err
		}
		if is.Column(c.Name) >= 0 {
			return nil, memoryRefuses("table %s has a column %s", st.table, c.Name)
		}
		for _, d := range is.Details {
			detail.ID = max(detail.ID, d.ID+1)
		}
		is.Columns, is.Details = append(is.Columns, c), append(is.Details, detail)
		return append(from, -1), nil
	case "drop column":
		i, err := column(st.args[0])
		if err != nil {
			return nil, err
		}
		is.Columns, is.Details = slices.Delete(is.Columns, i, i+1), slices.Delete(is.Details, i, i+1)
		return slices.Delete(from, i, i+1), nil
	case "rename column":
		i, err := column(st.args[0])
		if err == nil && is.Column(st.args[1]) >= 0 {
			err = memoryRefuses("table %s has a column %s", st.table, st.args[1])
		}
		if err == nil {
			is.Columns[i].Name = st.args[1]
		}
		return from, err
	}
	text := st.args[0] // MODIFY
	if st.verb == "type" {
		text = `"` + st.args[0] + `" ` + st.args[1]
	}
	c, detail, err := st.column(text)
	if err != nil {
		return nil, err
	}
	i, err := column(c.Name)
	if err != nil {
		return nil, err
	}
	if detail.ID = is.Details[i].ID; st.verb == "type" {
		c.Nullable, detail = is.Columns[i].Nullable, is.Details[i]
	}
	is.Columns[i], is.Details[i] = c, detail
	return from, nil
}

func (st *memoryDDL) create() (*schema.Definition, error) {
	d := &schema.Definition{}
	t := schema.Table{TableName: st.table, Engine: st.engine}
	for line := range strings.SplitSeq(st.args[0], ",\n") {
		if key, ok := strings.CutPrefix(strings.TrimSpace(line), "PRIMARY KEY ("); ok {
			for i := range t.Columns {
				if strings.Contains(key, `"`+t.Columns[i].Name+`"`) {
					t.Key, t.Columns[i].Nullable = append(t.Key, i), false
				}
			}
			continue
		}
		c, detail, err := st.column(strings.TrimSpace(line))
		if err != nil {
			return nil, err
		}
		detail.ID = len(t.Columns) + 1
		t.Columns, d.Details = append(t.Columns, c), append(d.Details, detail)
	}
	d.Table = schema.NewTable(t)
	return d, nil
}

var (
	memoryColumn = regexp.MustCompile(`^"([^"]+)" ([a-z ]+?)(?:\((\d+)\))?(?: CHARACTER SET \w+)?(?: COLLATE \w+)?((?: DEFAULT (?:gen_random_uuid\(\)|\(uuid\(\)\)|\(?'[^']*'\)?|-?\d+|NULL)| NOT NULL| NULL)*)$`)
	memoryValued = regexp.MustCompile(` DEFAULT (?:\(?'([^']*)'\)?|(-?\d+))`)
)

// column reads a column as CREATE TABLE and ALTER TABLE have it.
func (st *memoryDDL) column(text string) (c schema.Column, detail schema.ColumnDetail, err error) {
	found := memoryColumn.FindStringSubmatch(text)
	if found == nil {
		return c, detail, memoryRefuses("the database in memory does not understand the column: %s", text)
	}
	c = schema.Column{Name: found[1], Native: found[2], Nullable: !strings.Contains(found[4], " NOT NULL")}
	switch found[2] {
	case "bigint", "integer", "int":
		c.Kind, c.Size = schema.KindInt, map[bool]int{true: 64, false: 32}[found[2] == "bigint"]
	case "text", "longtext":
		c.Kind = schema.KindText
	case "varchar", "character varying":
		c.Kind, c.Native = schema.KindText, found[2]+"("+found[3]+")"
		c.Size, _ = strconv.Atoi(found[3])
	default:
		return c, detail, memoryRefuses("the database in memory has no type %s", found[2])
	}
	if strings.Contains(found[4], "uuid()") {
		detail.Default = schema.Expression{Kind: schema.RandomUUID}
	}
	if def := memoryValued.FindStringSubmatch(found[4]); def != nil {
		detail.Default = schema.Expression{Kind: schema.LiteralValue, Text: def[1] + def[2]}
	}
	return c, detail, nil
}

// Define changes a table within the transaction. Where the database does not do that, it fails; see Memory.Define.
func (t *MemoryWrite) Define(ctx context.Context, statement string) error {
	if !t.work.db.postgres() {
		return memoryRefuses("the statement would commit what precedes it: %s", statement)
	}
	return t.work.round(ctx, "define", func() error { return t.work.evolve(ctx, statement) })
}

// Define runs a statement of an application that changes a table, by itself. With ErrMemoryGone in its error nobody knows whether
// it took place.
func (m *Memory) Define(ctx context.Context, step MemoryStep, statement string) error {
	if m.postgres() {
		return m.Write(ctx, step, func(t *MemoryWrite) error { return t.Define(ctx, statement) })
	}
	w := m.work(nil, step, memoryWriteWait)
	err := w.round(ctx, "define", func() error { return w.evolve(ctx, statement) })
	if err == nil {
		err = w.round(ctx, "defined", func() error { return nil })
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	w.die()
	return err
}

// Table is a table's definition, which stays until the transaction ends; an error: there is none.
func (t *MemoryWrite) Table(ctx context.Context, table schema.TableName) (d *schema.Table, err error) {
	err = t.work.round(ctx, "table", func() error {
		used, err := t.work.used(ctx, table)
		if err == nil {
			d = used.Table.Table
		}
		return err
	})
	return d, err
}

func memoryDefined(c *schema.DefinitionChange) *schema.Table {
	if c.Is != nil {
		return c.Is.Table
	}
	return c.Was.Table
}
