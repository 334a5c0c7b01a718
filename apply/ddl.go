package apply

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"cdc-sidecar/schema"
)

// Schema changes of other offices come in the stream, each at its place between the rows. Here is what an office does with
// them; see writer.evolve for how they are done.

// DDL says what an office does with other offices' schema changes. The zero value takes none: they stop the stream.
type DDL struct {
	Apply       DDLApply
	Destructive DDLDestructive // with ApplyAdditive
}

// DDLApply says which schema changes of other offices are done here.
type DDLApply string

// What is not done is held: it is kept with its statement, for a person, and the stream goes on.
const (
	ApplyAdditive DDLApply = "additive" // those that take nothing away, see schema.Step.Destroys
	ApplyAll      DDLApply = "all"
	ApplyNone     DDLApply = "none"
)

// DDLDestructive says what becomes of the others where additive ones are done.
type DDLDestructive string

// What there is to do with them.
const (
	HoldDestructive  DDLDestructive = "ignore" // held
	ApplyDestructive DDLDestructive = "apply"
	HaltDestructive  DDLDestructive = "halt" // the stream stops before it until a person has done it
)

// ddlDo is what is done about one step.
type ddlDo uint8

const (
	doStep ddlDo = iota
	holdStep
	haltStep
)

// decide is what becomes of a step, and why.
func (d DDL) decide(s *schema.Step) (do ddlDo, why string) {
	destroys := s.Destroys()
	switch {
	case d.Apply == ApplyNone:
		return holdStep, "ddl: {apply: none}"
	case d.Apply == ApplyAll, destroys == "", d.Destructive == ApplyDestructive:
		return doStep, ""
	case d.Destructive == HaltDestructive:
		return haltStep, destroys
	}
	return holdStep, destroys
}

// ddlWait bounds the wait for the locks of one statement: applications queue behind it meanwhile. Then it lets go, and they
// have as long before the next try.
const ddlWait = 2 * time.Second

// errQueued: a statement that changes a table did not get its locks.
var errQueued = fmt.Errorf("%w: the table is in use", errBusy)

// SchemaStep is one step of another office's schema change as it stands here.
type SchemaStep struct {
	Origin    schema.Office
	At        schema.Position // in the origin's stream
	Table     string          // as the fleet calls it
	Step      schema.StepKind
	Subject   string // the column's, index's or constraint's name; may be empty
	Was       string // of a rename: the former name
	Statement string // as it is written for this database
	State     string // schema.DDLHeld …
	Reason    string
	Time      time.Time
}

// ddlStep is a row of schema.DDLTable.
type ddlStep struct {
	SchemaStep
	id            int64
	before, after uint64
	body          []byte
}

// subjectOf names what a step is about, and what that was called before.
func subjectOf(s *schema.Step) (subject, was string) {
	switch {
	case s.Index != nil:
		return s.Index.Name, ""
	case s.ForeignKey != nil:
		return s.ForeignKey.Name, ""
	case s.Check != nil:
		return s.Check.Name, ""
	case s.Kind == schema.RenameTable:
		return s.Is.String(), s.Was.String()
	case s.Kind == schema.DropColumn:
		return s.Was.Columns[s.WasColumn].Name, ""
	case s.Column >= 0:
		subject = s.Is.Columns[s.Column].Name
		if s.Kind == schema.RenameColumn {
			was = s.Was.Columns[s.WasColumn].Name
		}
	}
	return subject, was
}

// tableOf is the table of a step as it is called behind it.
func tableOf(s *schema.Step) schema.TableName {
	if s.Is != nil {
		return s.Is.TableName
	}
	return s.Was.TableName
}

// means reports whether a row is about that step of that change.
func (r *ddlStep) means(s *schema.Step, body []byte) bool {
	subject, was := subjectOf(s)
	return r.Step == s.Kind && r.Subject == subject && r.Was == was && string(r.body) == string(body)
}

// change reads the schema change that a row is about.
func (r *ddlStep) change() (*schema.DefinitionChange, error) {
	batch, err := schema.DecodeBatch(r.body, 0)
	if err == nil && (len(batch.Transactions) != 1 || len(batch.Transactions[0].Changes) != 1 || batch.Transactions[0].Changes[0].Definition == nil) {
		err = errors.New("it has no schema change")
	}
	if err != nil {
		return nil, &schema.BrokenError{What: "a row of " + schema.OwnSchema + "." + schema.DDLTable + " cannot be read", Cause: err, Remedy: "upgrade cdc-sidecar"}
	}
	return batch.Transactions[0].Changes[0].Definition, nil
}

// step finds the row's step in its change; nil: it is not there any more.
func (r *ddlStep) step() (*schema.Step, error) {
	c, err := r.change()
	if err != nil {
		return nil, err
	}
	steps := schema.Diff(c.Was, c.Is)
	i := slices.IndexFunc(steps, func(s schema.Step) bool { return r.means(&s, r.body) })
	if i < 0 {
		return nil, nil
	}
	return &steps[i], nil
}

// bodyOf is a change as DDLTable keeps it; index tells it from another of its transaction.
func bodyOf(tx *schema.Transaction, index int, c *schema.Change) []byte {
	one := *tx
	one.Changes, one.Part, one.Last, one.Source = []schema.Change{*c}, index, true, ""
	return schema.AppendBatch(nil, []schema.Transaction{one})
}

// past is what became of tables and columns here: rows of an older definition, which are still under way, find by it where
// they belong. It does not change once it is made.
type past struct {
	tables  map[schema.TableName]*pastTable
	renamed map[schema.TableName]schema.TableName
	dropped map[schema.TableName]bool
}

// pastTable is about the columns of a table, by their former names.
type pastTable struct {
	renamed map[string]string
	dropped map[string]bool
	added   map[string]addition
}

// addition is what rows got that were there when a column was added: those of an older definition that come later get it, too,
// whatever the column's default has become.
type addition struct {
	column schema.Column
	value  schema.Value
}

// additionOf is that of a step; false where each office gave values of its own.
func additionOf(c *schema.DefinitionChange, name string) (a addition, ok bool) {
	i := c.Is.Column(name)
	if i < 0 {
		return a, false
	}
	a = addition{column: c.Is.Columns[i], value: schema.NullValue()}
	switch d := &c.Is.Details[i]; {
	case a.column.Generated, a.column.Kind == schema.KindNative, d.Serial:
		return a, false
	case d.Default.Kind == schema.LiteralValue:
		a.value = schema.Of(d.Default.Text)
		return a, true
	default:
		return a, a.column.Nullable && (d.Default.Kind == schema.NoExpression || d.Default.Kind == schema.NullValueDefault)
	}
}

// newPast reads what was done, in its order.
func newPast(rows []ddlStep) (*past, error) {
	p := &past{tables: map[schema.TableName]*pastTable{}, renamed: map[schema.TableName]schema.TableName{}, dropped: map[schema.TableName]bool{}}
	for i := range rows {
		r := &rows[i]
		if r.State != schema.DDLDone || len(r.body) == 0 {
			continue
		}
		c, err := r.change()
		if err != nil {
			return nil, err
		}
		p.note(r, c)
	}
	return p, nil
}

func (p *past) note(r *ddlStep, c *schema.DefinitionChange) {
	name := c.Name()
	switch r.Step {
	case schema.CreateTable:
		delete(p.dropped, name)
		delete(p.renamed, name)
		delete(p.tables, name)
	case schema.DropTable:
		p.dropped[name] = true
	case schema.RenameTable:
		was := c.Was.TableName
		p.renamed[was] = name
		delete(p.renamed, name)
		delete(p.dropped, name)
		if p.tables[was] != nil {
			p.tables[name] = p.tables[was]
			delete(p.tables, was)
		}
	case schema.AddColumn, schema.DropColumn, schema.RenameColumn:
		t := p.tables[name]
		if t == nil {
			t = &pastTable{renamed: map[string]string{}, dropped: map[string]bool{}, added: map[string]addition{}}
			p.tables[name] = t
		}
		switch r.Step {
		case schema.DropColumn:
			t.dropped[r.Subject] = true
			delete(t.added, r.Subject)
		case schema.RenameColumn:
			t.renamed[r.Was] = r.Subject
			if a, ok := t.added[r.Was]; ok {
				delete(t.added, r.Was)
				t.added[r.Subject] = a
			}
		case schema.AddColumn:
			if a, ok := additionOf(c, r.Subject); ok {
				t.added[r.Subject] = a
			} else {
				delete(t.added, r.Subject)
			}
		}
		if r.Step != schema.DropColumn {
			delete(t.renamed, r.Subject)
			delete(t.dropped, r.Subject)
		}
	}
}

// addition is what rows of an older definition get in a column that they lack; false: nobody knows.
func (p *past) addition(table schema.TableName, column string) (a addition, ok bool) {
	if p == nil || p.tables[table] == nil {
		return a, false
	}
	a, ok = p.tables[table].added[column]
	return a, ok
}

// table is how a table is called now that had that name; gone: it was dropped.
func (p *past) table(name schema.TableName) (now schema.TableName, gone bool) {
	if p == nil {
		return name, false
	}
	for range len(p.renamed) {
		next, ok := p.renamed[name]
		if !ok {
			break
		}
		name = next
	}
	return name, p.dropped[name]
}

// formers are the names that a table had before.
func (p *past) formers(table schema.TableName) (names []schema.TableName) {
	if p == nil {
		return nil
	}
	for was := range p.renamed {
		if now, gone := p.table(was); now == table && !gone {
			names = append(names, was)
		}
	}
	return names
}

// column is the same for a column of a table, by the table's name now.
func (p *past) column(table schema.TableName, name string) (now string, gone bool) {
	if p == nil || p.tables[table] == nil {
		return name, false
	}
	t := p.tables[table]
	for range len(t.renamed) {
		next, ok := t.renamed[name]
		if !ok {
			break
		}
		name = next
	}
	return name, t.dropped[name]
}
