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

// asker sends steps that return rows, behind what is queued, in one round trip (a query that would be too large for the
// server goes as several), and calls answer for each row: of which step it is, and its values as text, nil for NULL, which
// are only valid during the call. All steps have one form, of width values.
type asker interface {
	ask(ctx context.Context, steps []step, width int, answer func(i int, values [][]byte) error) error
}

// lookup is a SELECT in one table.
type lookup struct {
	table  *catalog.Table
	reader *catalog.Reader
	form   *form
	// bound are the columns whose values the form takes, in its order.
	bound []bound
}

type bound struct {
	column  int
	ordinal bool // the label's number instead of the label
	label   int  // the label of this number, if it is behind the value's; otherwise NULL. 0: the value itself
}

// maxListed bounds the labels of an ENUM that are asked for one by one.
const maxListed = 64

// fetch reads the rows of some keys. Each key is looked up by a statement of its own, through the key's index: the database
// says which row a key means (by collation 'a' may mean 'A'), so the answers are told apart by place, not by comparing.
func fetch(ctx context.Context, s asker, t *catalog.Table, keys []schema.Row, lock bool) ([]schema.Row, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	if len(t.Key) == 0 {
		return nil, keyless(t)
	}
	q := newFetch(t, lock)
	steps, args := make([]step, len(keys)), make([]schema.Value, 0, len(keys)*len(q.bound))
	for i, key := range keys {
		from := len(args)
		var err error
		if args, err = q.bind(key, args); err != nil {
			return nil, err
		}
		steps[i] = step{form: q.form, args: args[from:len(args):len(args)]}
	}
	rows := make([]schema.Row, len(keys))
	err := s.ask(ctx, steps, q.reader.Width(), func(i int, values [][]byte) (err error) {
		rows[i], err = q.row(values)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("fetch rows of table %s: %w", t.TableName, err)
	}
	return rows, nil
}

// fetchKeys reads the next keys in the key's order behind from (nil: the first) and locks their rows. Fewer than limit: there
// are no more.
func fetchKeys(ctx context.Context, s asker, t *catalog.Table, from schema.Row, limit int) ([]schema.Row, error) {
	if len(t.Key) == 0 {
		return nil, keyless(t)
	}
	q := newStretch(t, catalog.NewKeyReader(t), from != nil, true)
	steps, err := q.stretch(from, limit)
	if err != nil {
		return nil, err
	}
	var rows []schema.Row
	err = s.ask(ctx, steps, q.reader.Width(), func(_ int, values [][]byte) error {
		row, err := q.row(values)
		rows = append(rows, row)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("fetch keys of table %s: %w", t.TableName, err)
	}
	return rows, nil
}

// errEnough says that a stretch was given up in the middle of its answer, and with it the session.
var errEnough = errors.New("the rest of the rows is not wanted")

// stretch is a part of a table, in the order of its key.
type stretch struct {
	rows   []schema.Row
	bytes  int  // of their values, as the server sent them
	behind bool // more came than was taken
}

// fetchStretch reads the next rows in the key's order behind from (nil: the first), at most limit and, but for the first, at
// most so many bytes of values, without a lock: one statement. When far more come, it gives the connection up (errEnough, with
// what it took): a table may have small rows and then a thousand large ones.
func fetchStretch(ctx context.Context, s asker, q *lookup, from schema.Row, limit, most int) (got stretch, err error) {
	steps, err := q.stretch(from, limit)
	if err != nil {
		return got, err
	}
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	left := 0
	err = s.ask(ctx, steps, q.reader.Width(), func(_ int, values [][]byte) error {
		size := 0
		for _, v := range values {
			size += len(v)
		}
		if got.behind = got.behind || got.full(size, most); got.behind {
			if left += size; left > most {
				giveUp()
			}
			return nil
		}
		row, err := q.row(values)
		got.rows, got.bytes = append(got.rows, row), got.bytes+size
		return err
	})
	switch {
	case left > most:
		return got, errEnough
	case err != nil:
		return stretch{}, fmt.Errorf("read rows of table %s: %w", q.table.TableName, err)
	}
	return got, nil
}

// full reports whether a row of so many bytes is too much.
func (s *stretch) full(size, most int) bool { return len(s.rows) > 0 && s.bytes+size > most }

// stretch is the statement of a form of newStretch with its values.
func (q *lookup) stretch(from schema.Row, limit int) ([]step, error) {
	var args []schema.Value
	if from != nil {
		var err error
		if args, err = q.bind(from, nil); err != nil {
			return nil, err
		}
	}
	return []step{{form: q.form, args: append(args, schema.Of(strconv.Itoa(limit)))}}, nil
}

func keyless(t *catalog.Table) error {
	return &schema.RejectedError{
		Table: t.TableName, Cause: errors.New("the table here has no key, so its rows cannot be told apart"),
		Remedy: "give it a primary key, or flow: none for the table",
	}
}

func newFetch(t *catalog.Table, lock bool) *lookup {
	return newLookup(t, catalog.NewReader(t), t.Key, map[bool]string{true: toWrite}[lock])
}

// newStretch reads rows in the order of the key: the database's own, under its collations, in which no two rows are equal.
func newStretch(t *catalog.Table, reader *catalog.Reader, behind, lock bool) *lookup {
	q := &lookup{table: t, reader: reader, form: &form{}}
	q.form.text("SELECT " + q.reader.Select() + " FROM " + only(t) + tableName(t.Engine, t.OwnSchema, t.Name))
	if t.Engine != schema.Postgres {
		q.form.text(" FORCE INDEX (PRIMARY)") // the key, whatever the server thinks of the rest of the table
	}
	order := " ORDER BY "
	if behind {
		q.form.text(" WHERE ")
		q.behind(t.Key)
	}
	for _, k := range t.Key {
		q.form.text(order + quote(t.Engine, t.Columns[k].Name))
		order = ", "
	}
	q.form.text(" LIMIT ")
	q.form.value(schema.Column{Kind: schema.KindInt})
	if lock {
		q.form.text(" FOR UPDATE")
	}
	q.form.finish()
	return q
}

// only leaves out the rows of tables that inherit from this one: each of those is a table of its own. Partitions are not.
func only(t *catalog.Table) string {
	if t.Inherited && !t.Partitioned {
		return "ONLY "
	}
	return ""
}

// behind writes the condition that a row stands behind a key. Postgres finds the place in the index when rows are compared,
// MySQL and MariaDB when single columns are.
func (q *lookup) behind(key []int) {
	if q.table.Engine == schema.Postgres {
		q.form.text("(")
		for i, k := range key {
			q.form.text(map[bool]string{true: ", "}[i > 0] + quote(schema.Postgres, q.table.Columns[k].Name))
		}
		q.form.text(") > (")
		for i, k := range key {
			q.form.text(map[bool]string{true: ", "}[i > 0])
			q.value(k, false)
		}
		q.form.text(")")
		return
	}
	q.compare("(", key[0], " > ")
	if len(key) > 1 {
		q.compare(" OR ", key[0], " = ")
		q.form.text(" AND ")
		q.behind(key[1:])
	}
	q.form.text(")")
}

// compare writes a comparison of a column with a place for its value. MySQL orders the labels of ENUM and SET by their
// numbers, but compares them with text as text. By their numbers it finds no place in an index: it does by the labels behind.
func (q *lookup) compare(before string, column int, operator string) {
	c := &q.table.Columns[column]
	ordinal := operator == " > " && (c.Kind == schema.KindEnum || c.Kind == schema.KindSet)
	name := quote(q.table.Engine, c.Name)
	if ordinal && c.Kind == schema.KindEnum && len(c.Labels) <= maxListed {
		for i := range c.Labels {
			q.form.text(before + name + " = ")
			q.take(bound{column: column, label: i + 1})
			before = " OR "
		}
		return
	}
	if ordinal {
		name += " + 0"
	}
	q.form.text(before + name + operator)
	q.value(column, ordinal)
}

func (q *lookup) value(column int, ordinal bool) { q.take(bound{column: column, ordinal: ordinal}) }

func (q *lookup) take(b bound) {
	c := q.table.Columns[b.column]
	if b.ordinal {
		c = schema.Column{Kind: schema.KindInt}
	}
	q.form.value(c)
	q.bound = append(q.bound, b)
}

// bind appends the values of a key for the form's places.
func (q *lookup) bind(key schema.Row, args []schema.Value) ([]schema.Value, error) {
	for _, b := range q.bound {
		c := &q.table.Columns[b.column]
		if b.column >= len(key) || key[b.column].IsUnchanged() {
			return nil, fmt.Errorf("fetch from table %s: a key without column %s", q.table.TableName, c.Name)
		}
		v := key[b.column]
		switch {
		case v.IsNull():
		case b.label > slices.Index(c.Labels, v.Text())+1:
			v = schema.Of(c.Labels[b.label-1])
		case b.label > 0:
			v = schema.NullValue()
		case b.ordinal:
			v = schema.Of(ordinal(c, v.Text()))
		case c.Kind == schema.KindFloat && c.Size == 32 && q.table.Engine != schema.Postgres:
			f, err := strconv.ParseFloat(v.Text(), 32)
			if err != nil {
				return nil, fmt.Errorf("fetch from table %s: column %s: %w", q.table.TableName, c.Name, err)
			}
			v = schema.Of(strconv.FormatFloat(f, 'g', -1, 64)) // it is compared as a double, and 0.1 as a double is another number
		}
		args = append(args, v)
	}
	return args, nil
}

// ordinal is the number by which MySQL orders the labels of an ENUM or a SET: the label's place, or a bit for each label.
func ordinal(c *schema.Column, text string) string {
	if c.Kind == schema.KindEnum {
		return strconv.Itoa(slices.Index(c.Labels, text) + 1)
	}
	var bits uint64
	for label := range strings.SplitSeq(text, ",") {
		if i := slices.Index(c.Labels, label); i >= 0 {
			bits |= 1 << i
		}
	}
	return strconv.FormatUint(bits, 10)
}

// row is a row as capture would have read it; one that it could not have read either is rejected.
func (q *lookup) row(values [][]byte) (schema.Row, error) {
	row, err := q.reader.Row(values)
	if err != nil {
		return nil, &schema.RejectedError{Table: q.table.TableName, Cause: err, Remedy: "mend the row here"}
	}
	return row, nil
}
