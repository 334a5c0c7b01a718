package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"cdc-sidecar/schema"
)

// Place is where a step is to be done: one table of one database.
type Place struct {
	Engine  schema.Engine
	Default string // this database's own name of the fleet's default schema (MySQL: the database)
	// Here is the table as it is right before the step; nil: it is not here. For RenameTable it is the one with the new name, or
	// where there is none the one with the old.
	Here *schema.Definition
	// LockWait is for whoever runs the statements: how long a session waits for the table's lock. Rendered has nothing of it.
	LockWait time.Duration
}

// Rendered is a step in the words of a database. Where the table is so already, Done is set; where it is neither as it was before
// the step nor as it is behind it, Conflict says what differs; where the step has no meaning here, Statements is empty and
// Notice says why. Otherwise Statements do it, in order; a Notice beside them says what they leave out.
type Rendered struct {
	Statements []string
	Done       bool
	Notice     string
	Conflict   string
	// Alone says that the statements are to be committed before anything uses what they make: a Postgres' new enum label.
	Alone bool
}

// rendering is one step on its way.
type rendering struct {
	Place
	schema.Step
	dialect
	space string // the table's schema here
	table string // the table here, quoted
	out   Rendered
}

// Render writes a step for a database, looking at the table as it is there. It does nothing by itself. A *schema.RejectedError
// says that there is no type or no name for something here.
func Render(p Place, s schema.Step) (Rendered, error) {
	r := &rendering{Place: p, Step: s, dialect: dialect{to: p.Engine}}
	name := cmp.Or(s.Is, s.Was).TableName
	if p.Here != nil {
		name = p.Here.TableName
	}
	if s.Is != nil {
		r.from = s.Is.Table
	}
	r.space = cmp.Or(name.Schema, p.Default)
	r.table = r.named(name)
	if p.Here == nil && s.Was != nil && s.Kind != schema.DropTable {
		r.out.Conflict = "the table is not here"
		return r.out, nil
	}
	err := r.step()
	return r.out, err
}

// named is a table of the fleet as a statement names it here.
func (r *rendering) named(t schema.TableName) string {
	return r.quote(cmp.Or(t.Schema, r.Default)) + "." + r.quote(t.Name)
}

func (r *rendering) step() error {
	switch r.Kind {
	case schema.CreateTable:
		return r.createTable()
	case schema.DropTable:
		r.dropTable()
	case schema.RenameTable:
		return r.renameTable()
	case schema.DropForeignKey, schema.DropCheck:
		r.dropConstraint()
	case schema.DropIndex:
		r.dropIndex()
	case schema.RenameColumn:
		return r.renameColumn()
	case schema.DropColumn:
		return r.dropColumn()
	case schema.AddColumn:
		return r.addColumn()
	case schema.AddLabels, schema.ChangeType, schema.ChangeComputed, schema.ChangeDefault, schema.ChangeNullable, schema.ChangeSerial, schema.ChangeColComment:
		return r.changeColumn()
	case schema.ChangeKey:
		return r.changeKey()
	case schema.AddIndex:
		r.addIndex()
	case schema.AddCheck:
		r.addCheck()
	case schema.AddForeignKey:
		r.addForeignKey()
	case schema.ChangeComment:
		r.changeComment()
	default:
		r.out.Conflict = fmt.Sprintf("a step %q is not known to this version", r.Kind)
	}
	return nil
}

func (r *rendering) run(statements ...string) {
	r.out.Statements = append(r.out.Statements, statements...)
}

// alter is an ALTER TABLE of the table as it is called here.
func (r *rendering) alter(what ...string) string {
	return "ALTER TABLE " + r.table + " " + strings.Join(what, ", ")
}

// notice adds to what is said of the step.
func (r *rendering) notice(whys ...string) {
	for _, why := range whys {
		if why != "" {
			r.out.Notice = strings.TrimPrefix(r.out.Notice+"; "+why, "; ")
		}
	}
}

func (r *rendering) conflict(format string, args ...any) {
	r.out.Conflict = fmt.Sprintf(format, args...)
}

func (r *rendering) createTable() error {
	if r.Here != nil {
		differs, err := columnsDiffer(r.Is, r.Here, r.space, false)
		if len(differs) > 0 && !related(r.Engine, r.Is.Engine) { // it may have been made there as it is here, when the office joined
			back, _ := columnsDiffer(r.Here, r.Is, "public", false)
			differs = slices.DeleteFunc(differs, func(line string) bool { return becameThere(line, back, r.Is, r.Here) })
		}
		r.out.Conflict = strings.Join(differs, "; ")
		r.out.Done = len(differs) == 0
		return err
	}
	statements, notices, err := CreateDefinition(r.Engine, r.space, r.Is)
	r.run(statements...)
	r.notice(notices...)
	return err
}

func (r *rendering) dropTable() {
	if r.out.Done = r.Here == nil; !r.out.Done {
		r.run("DROP TABLE " + r.table)
	}
}

func (r *rendering) renameTable() error {
	from, to := r.Was.TableName, r.Is.TableName
	if err := namesFit(r.Engine, r.Is.Table, to.Name); err != nil {
		return err
	}
	switch {
	case r.Here.TableName == to:
		r.out.Done = true
		return nil
	case r.Here.TableName != from:
		r.conflict("the table is called %s here", r.Here.TableName)
		return nil
	}
	space := cmp.Or(to.Schema, r.Default)
	r.run(makeSchema(r.Engine, space, r.Is)...)
	if r.Engine != schema.Postgres {
		r.run("RENAME TABLE " + r.table + " TO " + r.named(to))
		return nil
	}
	if from.Name != to.Name {
		r.run(r.alter("RENAME TO " + r.quote(to.Name)))
		r.table = r.named(schema.TableName{Schema: from.Schema, Name: to.Name})
	}
	if from.Schema != to.Schema {
		r.run(r.alter("SET SCHEMA " + r.quote(space)))
	}
	return nil
}

// renameColumn: where columns pass their names on, a name that is there says nothing; then it is done when all new names are there
// and the old one, if nobody got it, is not.
func (r *rendering) renameColumn() error {
	from, to := r.Was.Columns[r.WasColumn].Name, r.Is.Columns[r.Column].Name
	if err := namesFit(r.Engine, r.Is.Table, to); err != nil {
		return err
	}
	hasFrom, hasTo := r.Here.Column(from) >= 0, r.Here.Column(to) >= 0
	passedOn := r.Is.Column(from) >= 0
	switch {
	case hasTo && (!hasFrom || passedOn):
		r.out.Done = true
	case hasTo:
		r.conflict("both columns %s and %s are here", from, to)
	case !hasFrom:
		r.conflict("neither column %s nor %s is here", from, to)
	case r.Engine == schema.Postgres:
		r.run(r.alter("RENAME COLUMN " + r.quote(from) + " TO " + r.quote(to)))
	default:
		r.run(r.alter(r.renameAround(from, to)...))
	}
	return nil
}

// renameAround renames a column in MySQL, which refuses that while a check names it.
func (r *rendering) renameAround(from, to string) (what []string) {
	var again []string
	for i := range r.Here.Checks {
		c := &r.Here.Checks[i]
		if !slices.Contains(words(c.Expression.Text), `"`+strings.ReplaceAll(from, `"`, `""`)+`"`) || c.Expression.Kind != schema.PortableText {
			continue
		}
		before := dialect{to: r.Engine, from: r.Here.Table}
		if text, why := before.condition(c.Expression); why == "" {
			what = append(what, "DROP CONSTRAINT "+r.quote(c.Name))
			again = append(again, "ADD CONSTRAINT "+r.quote(c.Name)+" CHECK ("+strings.ReplaceAll(text, r.quote(from), r.quote(to))+")")
		}
	}
	return append(append(what, "RENAME COLUMN "+r.quote(from)+" TO "+r.quote(to)), again...)
}

// dropColumn: a column of that name may be the new one that came in its place.
func (r *rendering) dropColumn() error {
	was := &r.Was.Columns[r.WasColumn]
	at := r.Here.Column(was.Name)
	if at < 0 {
		r.out.Done = true
		return nil
	}
	if i := r.Is.Column(was.Name); i >= 0 {
		isNew, err := fitsHere(r.Is, i, r.Here, at, r.space)
		if err != nil {
			return err
		}
		if isOld, err := fitsHere(r.Was, r.WasColumn, r.Here, at, r.space); isNew && !isOld && err == nil {
			r.out.Done = true
			return nil
		}
	}
	r.run(r.alter("DROP COLUMN " + r.quote(was.Name)))
	return nil
}

// fitsHere reports whether the column here is what another office's column would be here, or wider.
func fitsHere(d *schema.Definition, i int, here *schema.Definition, at int, space string) (bool, error) {
	types, err := definitionTypes(here.Engine, space, d)
	if err != nil {
		return false, err
	}
	mapped := mappedColumn(here.Engine, d, i, types[i])
	return holds(&d.Columns[i], &mapped, &here.Columns[at]), nil
}

// mappedColumn is a column as the catalog here would describe it if it was made for another office's.
func mappedColumn(engine schema.Engine, d *schema.Definition, i int, typ string) schema.Column {
	c := &d.Columns[i]
	m := typed(engine, c.Name, typ)
	if engine == schema.Postgres && isEnumType(d, c) {
		m.Kind, m.Labels = schema.KindEnum, c.Labels
	}
	return m
}

func (r *rendering) changeComment() {
	switch {
	case r.Here.Comment == r.Is.Comment:
		r.out.Done = true
	case r.Engine == schema.Postgres:
		r.run("COMMENT ON TABLE " + r.table + " IS " + postgresComment(r.Is.Comment))
	default:
		r.run(r.alter("COMMENT = " + mysqlConstant(r.Is.Comment)))
	}
}

// postgresComment is what stands behind IS.
func postgresComment(s string) string {
	if s == "" {
		return "NULL"
	}
	return postgresConstant(s)
}
