package apply

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// What a form does besides what a change may say.
const (
	opProgress schema.Op = 0   // moves the progress row
	opOwn      schema.Op = 100 // writes another table of ours
)

// form is one statement without its values: the text around them, and the columns that they go into. Rows that touch the
// same columns of a table in the same way share a form.
type form struct {
	op     schema.Op // of a change, or one of those above
	own    string    // which of the statements on tables of ours; see definitions.own
	prefix string    // of an insert, the text before the first tuple
	pieces []string  // the text around the values: one more than there are columns
	suffix string
	// columns are the target's, one for each value: their kinds decide how a value is written.
	columns []schema.Column
	plain   map[int]string // of values that are to be in the plain form of their type: the type (see plainForm)
	// single says that the statement means one row, told by a key that stays: of many such, one statement can be made.
	single bool

	// For Postgres: the whole statement with $1, $2 …, how each value is sent, and the name under which the session that
	// the form belongs to has prepared it.
	sql     string
	formats []int16
	name    string
	many    *many   // made when it is first needed
	copied  *copied // the same
}

// step is a form with its values: one statement to run, and what to say when it fails.
type step struct {
	form   *form
	args   []schema.Value
	change *schema.Change // nil for what is ours
	plan   *plan
	at     schema.Position
	tx     *schema.Transaction // that the change belongs to; nil for what is ours

	// Where rows are compared with clocks, or with what this office has under way:
	rows      [2]schema.RowID // that the change touches; the second when it moves the row to another key (two)
	row       schema.RowID    // see writer.rowOf
	keys      [2]schema.Row   // images, as the change has them, that hold their keys
	two       bool
	contested bool // other offices write the table, too
	alone     bool // to be written by itself: its row, or its table, needs more than one statement
	partly    bool // some of its rows, or one of its two keys, are held
	joins     bool // has the form of the step before it and touches other rows than those it joins: one statement may write all of them (an insert of a row that it joins would fail)
	absent    bool // a delete that is to find nothing: what it deletes was never written
	policy    schema.Policy
	blind     blindness  // as of the last look at the clocks
	older     bool       // see writer.older
	misfit    error      // the table here has no place for it yet: it waits; plan may be nil
	lacks     []lacking  // what its row refers to and is not there; see findParents
	lost      *reference // that of them which was removed unseen
}

// touched are the rows that the step touches.
func (st *step) touched() []schema.RowID {
	if st.change == nil || st.rows[0] == (schema.RowID{}) {
		return nil
	}
	if st.two {
		return st.rows[:2]
	}
	return st.rows[:1]
}

// plan is how rows of one definition, as some office had it, enter the table here. Pure: it knows no connection.
type plan struct {
	source  *schema.Table
	target  *catalog.Table
	engine  schema.Engine
	columns []mapping          // one for each source column
	formers []schema.TableName // what the target was called before
	forms   map[string]*form
	shape   []byte // scratch
	sameKey bool   // the table here is keyed by the very columns that identify a row there
	fires   bool   // triggers here follow each row that we write
	drops   bool   // there are columns whose values are left out
	// added are columns here that rows of source were written without, because they were added later; whole is source with them.
	added []addition
	whole *schema.Table
	// unexplained are the columns here that rows of source lack and nobody knows why; see writer.ask.
	unexplained []string

	replaced uint64 // values for which others were bound: see Unmapped
}

// mapping is one source column's way.
type mapping struct {
	to       int // the target's column; -1: it has none, or computes it
	convert  converter
	missing  bool // the target lacks the column
	dropped  bool // the target lacks the column, and that was done on purpose: its values are left out
	identity bool // GENERATED ALWAYS on both sides: inserted, never updated
	plain    bool // the server reads the value, and it must be as it would write it: see plainForm

	instead schema.Value // see Unmapped
}

// newPlan compares the definitions. Its error says that no row of this table can be applied.
func newPlan(source *schema.Table, target *catalog.Table, engine schema.Engine) (*plan, error) {
	return newPlanSince(source, target, engine, nil)
}

// newPlanSince takes into account what became of columns here.
func newPlanSince(source *schema.Table, target *catalog.Table, engine schema.Engine, past *past) (*plan, error) {
	p := &plan{source: source, target: target, engine: engine, forms: map[string]*form{}}
	p.fires = len(target.Triggers) > 0 && (engine != schema.Postgres || target.Fires)
	for i := range source.Columns {
		from := &source.Columns[i]
		m := mapping{to: target.Column(from.Name)}
		if m.to < 0 {
			now, gone := past.column(target.TableName, from.Name)
			m.to, m.dropped = target.Column(now), gone
		}
		switch {
		case m.to < 0 && m.dropped:
			p.drops = true
		case m.to < 0:
			m.missing = !from.Generated
		case target.Columns[m.to].Generated:
			m.to = -1
		default:
			to := target.Columns[m.to]
			m.convert = converterFor(*from, to, source.Engine, engine)
			m.identity = from.Identity && to.Identity
			m.plain = readByServer(from, &to, source.Engine, engine)
		}
		p.columns = append(p.columns, m)
	}
	p.formers = past.formers(target.TableName)
	p.complete(past)
	return p, p.checkKey()
}

// complete finds the columns here that were added since the source's definition.
func (p *plan) complete(past *past) {
	for i := range p.target.Columns {
		if slices.ContainsFunc(p.columns, func(m mapping) bool { return m.to == i }) {
			continue
		}
		name := p.target.Columns[i].Name
		if a, ok := past.addition(p.target.TableName, name); ok {
			a.column.Name = name
			p.added = append(p.added, a)
		} else if !p.target.Columns[i].Generated {
			p.unexplained = append(p.unexplained, name)
		}
	}
	if len(p.added) == 0 {
		return
	}
	whole := *p.source
	whole.Columns = slices.Clone(whole.Columns)
	for _, a := range p.added {
		whole.Columns = append(whole.Columns, a.column)
	}
	p.whole = schema.NewTable(whole)
}

// completed is an insert of a row as it would be had it been there when the columns were added.
func (p *plan) completed(c *schema.Change) *schema.Change {
	whole := *c
	whole.Table, whole.After = p.whole, slices.Clone(c.After)
	for _, a := range p.added {
		whole.After = append(whole.After, a.value)
	}
	return &whole
}

// completeImage is the same for an image in the columns of the table here, of a row that is to be made.
func (p *plan) completeImage(image schema.Row) {
	if schema.Planted(schema.LaterColumnsForgotten) {
		return
	}
	for i := range p.added {
		a := &p.added[i]
		to := &p.target.Columns[p.target.Column(a.column.Name)]
		v := a.value
		if convert := converterFor(a.column, *to, p.source.Engine, p.engine); convert != nil && v.State() == schema.Present {
			text, err := convert(v.Text())
			if err != nil {
				continue
			}
			v = schema.Of(text)
		}
		if v.IsNull() && !to.Nullable {
			continue
		}
		image[p.target.Column(a.column.Name)] = v
	}
}

// checkKey: the row that the origin means must be the row that is found here, so both must tell rows apart by the same
// columns.
func (p *plan) checkKey() error {
	if len(p.source.Key) == 0 {
		return &schema.RejectedError{Table: p.source.TableName, Cause: errors.New("the table has no key at its origin"), Remedy: "give it a primary key there"}
	}
	key := make([]int, 0, len(p.source.Key))
	for _, k := range p.source.Key {
		if p.columns[k].to < 0 {
			return p.missingColumn(k)
		}
		key = append(key, p.columns[k].to)
	}
	slices.Sort(key)
	own := slices.Clone(p.target.Key)
	slices.Sort(own)
	p.sameKey = slices.Equal(own, key)
	for _, own := range append([][]int{p.target.Key}, p.target.Unique...) {
		if own = slices.Clone(own); len(own) == len(key) {
			if slices.Sort(own); slices.Equal(own, key) {
				return nil
			}
		}
	}
	names := make([]string, 0, len(key))
	for _, k := range p.source.Key {
		names = append(names, quote(p.engine, p.target.Columns[p.columns[k].to].Name))
	}
	list := strings.Join(names, ", ")
	return &schema.RejectedError{
		Table:  p.source.TableName,
		Cause:  fmt.Errorf("rows are identified by (%s), and no primary or unique key here has exactly these columns", list),
		Remedy: fmt.Sprintf("ALTER TABLE %s ADD UNIQUE (%s)", p.name(), list),
	}
}

func (p *plan) missingColumn(i int) error {
	c := p.source.Columns[i]
	return &unfitError{&schema.RejectedError{
		Table: p.source.TableName, Column: c.Name, Cause: errors.New("the table here has no such column"),
		Remedy: fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s, or flow: none for the table", p.name(), quote(p.engine, c.Name), columnType(c, p.source.Engine, p.engine)),
	}}
}

func (p *plan) name() string { return tableName(p.engine, p.target.OwnSchema, p.target.Name) }

func tableName(engine schema.Engine, space, name string) string {
	return quote(engine, space) + "." + quote(engine, name)
}

func quote(engine schema.Engine, name string) string {
	mark := "`"
	if engine == schema.Postgres {
		mark = `"`
	}
	return mark + strings.ReplaceAll(name, mark, mark+mark) + mark
}

// bind turns a change into a step. key is the image that identifies the row (of an update and a delete). The step's
// values are appended to args.
func (p *plan) bind(op schema.Op, c *schema.Change, key schema.Row, args []schema.Value) (step, []schema.Value, error) {
	var set schema.Row
	moves := false
	if op == schema.Insert || op == schema.Update {
		set = c.After
		moves = op == schema.Update && p.keyMoves(key, c.After)
	}
	f, err := p.form(op, set, moves)
	if err != nil {
		return step{}, args, err
	}
	from := len(args)
	for i := range set {
		if p.writes(op, i, set, moves) {
			if args, err = p.value(i, set[i], args); err != nil {
				return step{}, args, err
			}
		}
	}
	if op == schema.Update || op == schema.Delete {
		for _, k := range p.source.Key {
			if key == nil || key[k].State() != schema.Present {
				return step{}, args, &schema.RejectedError{Table: p.source.TableName, Column: p.source.Columns[k].Name, Cause: errors.New("the change does not say which row it means")}
			}
			if args, err = p.value(k, key[k], args); err != nil {
				return step{}, args, err
			}
			p.compared(k, args)
		}
	}
	return step{form: f, args: args[from:len(args):len(args)], change: c, plan: p}, args, nil
}

// compared makes the last value one that a row can be found by: MySQL compares a FLOAT as a double, and 0.1 as a double is
// another number.
func (p *plan) compared(i int, args []schema.Value) {
	c := &p.target.Columns[p.columns[i].to]
	last := &args[len(args)-1]
	if c.Kind != schema.KindFloat || c.Size != 32 || p.engine == schema.Postgres || last.IsNull() {
		return
	}
	if f, err := strconv.ParseFloat(last.Text(), 32); err == nil {
		*last = schema.Of(strconv.FormatFloat(f, 'g', -1, 64))
	}
}

func (p *plan) keyMoves(key, after schema.Row) bool {
	for _, k := range p.source.Key {
		if key != nil && !after[k].IsUnchanged() && after[k] != key[k] {
			return true
		}
	}
	return false
}

// writes says whether a column of the image is written: not when the log left it out, when the database computes it, or,
// in an update, when it is a key that stays.
func (p *plan) writes(op schema.Op, i int, set schema.Row, moves bool) bool {
	m := &p.columns[i]
	if set[i].IsUnchanged() || m.to < 0 && !m.missing {
		return false
	}
	return op != schema.Update || !m.identity && (moves || !slices.Contains(p.source.Key, i))
}

// value converts one value and checks NULL: MySQL turns NULL into a default in more places than one would think.
func (p *plan) value(i int, v schema.Value, args []schema.Value) ([]schema.Value, error) {
	m := &p.columns[i]
	var refused error
	switch {
	case m.missing:
		return args, p.missingColumn(i)
	case v.IsNull():
		if to := &p.target.Columns[m.to]; !to.Nullable {
			refused = &schema.RejectedError{
				Table: p.source.TableName, Column: to.Name, Cause: errors.New("NULL, and the column here is NOT NULL"),
				Remedy: "allow NULL here: ALTER TABLE " + p.name() + " " + dropNotNull(p.engine, to),
			}
		}
	case m.convert != nil:
		text, err := m.convert(v.Text())
		if err != nil {
			refused = p.refuse(i, v, err)
		}
		v = schema.Of(text)
	}
	if refused != nil {
		var err error
		if v, err = p.instead(i, refused); err != nil {
			return args, err
		}
	}
	return append(args, v), nil
}

func (p *plan) refuse(i int, v schema.Value, cause error) error {
	from, to := p.source.Columns[i], p.target.Columns[p.columns[i].to]
	return &schema.RejectedError{
		Table: p.source.TableName, Column: from.Name,
		Cause:  fmt.Errorf("value %s: %w", strconv.Quote(shorten(v.Text())), cause),
		Remedy: fmt.Sprintf("give the column here a type that holds it (%s there, %s here), or flow: none for the table", describe(from), describe(to)),
	}
}

func dropNotNull(engine schema.Engine, c *schema.Column) string {
	if engine == schema.Postgres {
		return "ALTER COLUMN " + quote(engine, c.Name) + " DROP NOT NULL"
	}
	return "MODIFY " + quote(engine, c.Name) + " " + c.Native + " NULL"
}

// form finds or makes the statement for the columns that are written.
func (p *plan) form(op schema.Op, set schema.Row, moves bool) (*form, error) {
	p.shape = append(p.shape[:0], byte(op), 0)
	if moves {
		p.shape[1] = 1
	}
	for i := range set {
		b := byte(0)
		if p.writes(op, i, set, moves) {
			if b = 1; p.columns[i].missing {
				return nil, p.missingColumn(i)
			}
		}
		p.shape = append(p.shape, b)
	}
	if f := p.forms[string(p.shape)]; f != nil {
		return f, nil
	}
	f := p.build(op, p.shape[2:])
	f.single = op == schema.Insert || op == schema.Delete || op == schema.Update && !moves && bytes.IndexByte(p.shape[2:], 1) >= 0
	f.finish()
	p.forms[string(p.shape)] = f
	return f, nil
}

func (p *plan) build(op schema.Op, written []byte) *form {
	f := &form{op: op}
	switch op {
	case schema.Insert:
		p.buildInsert(f, written)
	case schema.Update:
		f.text("UPDATE " + p.name() + " SET ")
		separator := ""
		for i, b := range written {
			if b == 1 {
				c := p.target.Columns[p.columns[i].to]
				f.text(separator + quote(p.engine, c.Name) + " = ")
				p.place(f, i)
				separator = ", "
			}
		}
		if separator == "" {
			return p.buildTouch(f)
		}
		p.buildWhere(f)
	case schema.Delete:
		f.text("DELETE FROM " + p.name())
		p.buildWhere(f)
	case schema.Truncate:
		// MySQL's TRUNCATE would commit what precedes it.
		f.text(map[bool]string{true: "TRUNCATE TABLE ", false: "DELETE FROM "}[p.engine == schema.Postgres] + p.name())
	}
	return f
}

// buildTouch is an update that writes nothing (of a row whose changed columns the log left out): it still finds out
// whether the row is here. Postgres would refuse to set an identity even to itself.
func (p *plan) buildTouch(f *form) *form {
	if p.engine == schema.Postgres {
		f.pieces[0] = "SELECT 1 FROM " + p.name()
		p.buildWhere(f)
		f.text(" FOR UPDATE")
		return f
	}
	name := quote(p.engine, p.target.Columns[p.columns[p.source.Key[0]].to].Name)
	f.text(name + " = " + name)
	p.buildWhere(f)
	return f
}

func (p *plan) buildInsert(f *form, written []byte) {
	var names []string
	overriding := ""
	for i, b := range written {
		if b == 1 {
			c := p.target.Columns[p.columns[i].to]
			names = append(names, quote(p.engine, c.Name))
			if c.Identity && p.engine == schema.Postgres {
				overriding = " OVERRIDING SYSTEM VALUE"
			}
			f.text(map[bool]string{true: "(", false: ", "}[len(names) == 1])
			p.place(f, i)
		}
	}
	f.text(")")
	f.prefix = "INSERT INTO " + p.name() + " (" + strings.Join(names, ", ") + ")" + overriding + " VALUES "
	if p.engine == schema.Postgres {
		var key []string
		for _, k := range p.source.Key {
			key = append(key, quote(p.engine, p.target.Columns[p.columns[k].to].Name))
		}
		// Only the key: a violation of another unique key is an error and must be one.
		f.suffix = " ON CONFLICT (" + strings.Join(key, ", ") + ") DO NOTHING"
	}
}

func (p *plan) buildWhere(f *form) {
	separator := " WHERE "
	for _, k := range p.source.Key {
		c := p.target.Columns[p.columns[k].to]
		f.text(separator + quote(p.engine, c.Name) + " = ")
		f.value(c)
		separator = " AND "
	}
}

// text adds text before the next value, or after the last.
func (f *form) text(s string) {
	if len(f.pieces) == len(f.columns) {
		f.pieces = append(f.pieces, "")
	}
	f.pieces[len(f.pieces)-1] += s
}

// place adds a place for the value of a source column.
func (p *plan) place(f *form, i int) {
	c := p.target.Columns[p.columns[i].to]
	if p.columns[i].plain {
		if f.plain == nil {
			f.plain = map[int]string{}
		}
		f.plain[len(f.columns)] = c.Native
	}
	f.value(c)
}

// value adds a place for a value of the column.
func (f *form) value(c schema.Column) { f.columns = append(f.columns, c) }

// textFormat and binaryFormat are Postgres' codes of how a parameter is sent: bytes go as they are, all else as text.
const (
	textFormat   int16 = 0
	binaryFormat int16 = 1
)

// finish writes the statement with Postgres' placeholders.
func (f *form) finish() {
	f.text("")
	var b strings.Builder
	b.WriteString(f.prefix)
	for i, piece := range f.pieces {
		b.WriteString(piece)
		if i < len(f.columns) {
			place := "$" + strconv.Itoa(i+1)
			if kind, ok := f.plain[i]; ok {
				place = plainForm(place, kind)
			}
			b.WriteString(place)
			format := textFormat
			if f.columns[i].Kind == schema.KindBytes {
				format = binaryFormat
			}
			f.formats = append(f.formats, format)
		}
	}
	b.WriteString(f.suffix)
	f.sql = b.String()
}

// deleteAll is what stands in for a TRUNCATE that a foreign key forbids.
func (p *plan) deleteAll() *form {
	f := &form{op: schema.Truncate}
	f.text("DELETE FROM " + p.name())
	f.finish()
	return f
}

// progressForm moves the progress row from one position to another; it hits exactly one row, or somebody else has moved
// it. The stamp and the commit time stand in the row so that the head's own capture can forward them.
func progressForm(engine schema.Engine) *form {
	return ownUpdate(engine, opProgress, schema.ProgressTable,
		[]schema.Column{
			numberOf(schema.ProgressEpoch), numberOf(schema.ProgressSeq), numberOf(schema.ProgressStampMillis), numberOf(schema.ProgressStampCounter),
			numberOf(schema.ProgressCommitted), numberOf(schema.ProgressWaits),
		},
		[]schema.Column{textOf(schema.ProgressOffice), textOf(schema.ProgressOrigin), numberOf(schema.ProgressEpoch), numberOf(schema.ProgressSeq)})
}

// mark is the step that moves the progress row of a sender to where tx will have brought it.
func mark(f *form, office, sender schema.Office, have schema.Position, tx *schema.Transaction, stamp schema.Stamp, waits uint64) step {
	number := func(n int64) schema.Value { return schema.Of(strconv.FormatInt(n, 10)) }
	return step{form: f, at: tx.Pos, args: []schema.Value{
		number(int64(tx.Pos.Epoch)), number(int64(tx.Pos.Seq)), number(stamp.Millis), number(int64(stamp.Counter)),
		number(tx.Commit.UnixMicro()), number(int64(waits)), schema.Of(string(office)), schema.Of(string(sender)),
		number(int64(have.Epoch)), number(int64(have.Seq)),
	}}
}

// identify names the rows that a change touches, as this office's own log would.
func (p *plan) identify(c *schema.Change, st *step) error {
	if c.Op == schema.Truncate {
		st.rows[0] = p.target.TableID()
		return nil
	}
	if !p.sameKey {
		return &schema.RejectedError{
			Table: p.source.TableName, Cause: errors.New("several offices write the table, and its primary key is not the same at all of them"),
			Remedy: "give it the same primary key everywhere, or let one office alone write it (flow)",
		}
	}
	key := c.KeyRow()
	st.keys[0] = key
	var err error
	if st.rows[0], err = p.rowID(key); err != nil || c.Op != schema.Update || !p.keyMoves(key, c.After) {
		return err
	}
	after := slices.Clone(c.After)
	for _, k := range p.source.Key {
		if after[k].IsUnchanged() {
			after[k] = key[k]
		}
	}
	st.two, st.keys[1] = true, after
	st.rows[1], err = p.rowID(after)
	return err
}

func (p *plan) rowID(image schema.Row) (schema.RowID, error) {
	return p.rowIDAs(p.target.TableName, image)
}

// rowIDAs is the number of the row while its table was called so.
func (p *plan) rowIDAs(table schema.TableName, image schema.Row) (schema.RowID, error) {
	var room [8]schema.Value
	key := room[:0]
	for _, to := range p.target.KeyByName() {
		i := slices.IndexFunc(p.columns, func(m mapping) bool { return m.to == to })
		if image == nil || image[i].State() != schema.Present {
			return schema.RowID{}, &schema.RejectedError{Table: p.source.TableName, Column: p.source.Columns[i].Name, Cause: errors.New("the change does not say which row it means")}
		}
		var err error
		if key, err = p.value(i, image[i], key); err != nil {
			return schema.RowID{}, err
		}
	}
	return schema.RowIDOf(table, key), nil
}

// image is an image of the source in the columns of the table here. Columns that only one side has are Unchanged.
func (p *plan) image(source schema.Row) (schema.Row, error) {
	return p.imageOf(source, func(err error) error { return err })
}

// imageIfFits leaves out what does not fit into the columns here.
func (p *plan) imageIfFits(source schema.Row) schema.Row {
	image, _ := p.imageOf(source, func(error) error { return nil })
	return image
}

func (p *plan) imageOf(source schema.Row, failed func(error) error) (schema.Row, error) {
	image := make(schema.Row, len(p.target.Columns))
	var room [1]schema.Value
	for i, v := range source {
		if p.columns[i].to < 0 || v.IsUnchanged() {
			continue
		}
		got, err := p.value(i, v, room[:0])
		if err == nil {
			image[p.columns[i].to] = got[0]
		} else if err := failed(err); err != nil {
			return nil, err
		}
	}
	return image, nil
}

// oldValues is what makes an office's log have the row as it was before a change.
func (p *plan) oldValues(origin schema.Office) string {
	if p.source.Engine == schema.Postgres {
		space := cmp.Or(p.source.Schema, "public")
		return fmt.Sprintf("at %s: ALTER TABLE %s REPLICA IDENTITY FULL", origin, tableName(schema.Postgres, space, p.source.Name))
	}
	return fmt.Sprintf("at %s: SET GLOBAL binlog_row_image = 'FULL'", origin)
}
