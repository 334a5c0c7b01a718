package catalog

import (
	"fmt"
	"slices"
	"strings"

	"cdc-sidecar/schema"
)

// column is what the steps on one column look at.
type column struct {
	wanted clause         // as it shall be
	mapped schema.Column  // the same, as the catalog here would describe it
	here   *schema.Column // as it is
	have   clause         // the same, as a statement would make it
	at     int            // its place here
}

// wants is the column of Is that the step is about, as it would be here.
func (r *rendering) wants() (c column, err error) {
	if err = namesFit(r.Engine, r.Is.Table, r.Is.Columns[r.Column].Name); err != nil {
		return c, err
	}
	types, err := definitionTypes(r.Engine, r.space, r.Is)
	if err != nil {
		return c, err
	}
	var whys []string
	c.wanted, whys = clauseOf(r.Engine, r.Is, r.Column, types[r.Column])
	r.notice(whys...)
	c.mapped = mappedColumn(r.Engine, r.Is, r.Column, types[r.Column])
	if c.at = r.Here.Column(c.wanted.name); c.at >= 0 {
		c.here = &r.Here.Columns[c.at]
		c.have = r.present(c.at)
	}
	return c, nil
}

// present is a column that is here as a statement would make it again.
func (r *rendering) present(at int) clause {
	c, detail := &r.Here.Columns[at], &r.Here.Details[at]
	typ := c.Native
	switch {
	case r.Engine == schema.MariaDB && c.Kind == schema.KindJSON:
		typ = "json"
	case r.Engine != schema.Postgres && collates(c.Kind):
		typ = collated(typ, detail.Collation)
	}
	x := dialect{to: r.Engine, from: r.Here.Table}
	have := clause{
		name: c.Name, typ: typ, null: c.Nullable, comment: detail.Comment, serial: detail.Serial || c.Identity, always: c.Identity, stored: detail.Stored,
	}
	have.computed, _ = x.computed(detail.Computed)
	have.def, _ = x.columnDefault(c, c, detail.Default)
	if r.Engine != schema.Postgres && have.def == "" && !have.null && strings.HasPrefix(typ, "timestamp") {
		have.def = mysqlUnsetTimestamp
	}
	return have
}

func (r *rendering) addColumn() error {
	c, err := r.wants()
	if err != nil {
		return err
	}
	if c.here != nil {
		r.columnThere(&c)
		return nil
	}
	if r.Engine != schema.Postgres {
		r.roomInRow(&c)
	}
	if from := &r.Is.Columns[r.Column]; r.Engine == schema.Postgres && isEnumType(r.Is, from) && len(from.Labels) > 0 {
		r.run(makeEnum(enumType(r.space, from), from.Labels)...)
	}
	r.addClause(&c)
	if c.wanted.comment != "" && r.Engine == schema.Postgres {
		r.run("COMMENT ON COLUMN " + r.table + "." + r.quote(c.wanted.name) + " IS " + postgresConstant(c.wanted.comment))
	}
	return nil
}

// addClause adds the column. Rows that are there need a value where the column has no default and must not be NULL.
func (r *rendering) addClause(c *column) {
	w := c.wanted
	needs := !w.null && w.def == "" && w.computed == "" && !w.serial
	if needs {
		w.def = r.zero(&c.mapped)
	}
	add := []string{"ADD COLUMN " + w.ddl(r.Engine)}
	if w.serial && r.Engine != schema.Postgres {
		if slices.ContainsFunc(r.Here.Details, func(d schema.ColumnDetail) bool { return d.Serial }) {
			w.serial = false
			r.notice(fmt.Sprintf("column %s gets no numbers here: another column of the table has them", w.name))
			add[0] = "ADD COLUMN " + w.ddl(r.Engine)
		} else {
			add = append(add, "ADD KEY ("+r.quote(w.name)+")")
		}
	}
	r.run(r.alter(add...))
	if needs && w.def != "" {
		r.run(r.alter("ALTER COLUMN " + r.quote(w.name) + " DROP DEFAULT"))
	}
}

// columnThere is for a column that is here before it was added: it may have come by hand, or by this step, which was cut off.
func (r *rendering) columnThere(c *column) {
	switch why := r.differs(c, r.Column, r.Is); {
	case why != "":
		r.conflict("column %s is here, and is not the same: %s", c.wanted.name, why)
	case sameDefault(c.have.def, c.wanted.def) || c.have.computed != "":
		r.out.Done = true
	default:
		r.setDefault(c)
	}
}

// differs says why rows with the other office's column would find no place in the one here; empty: they do.
func (r *rendering) differs(c *column, i int, d *schema.Definition) string {
	switch {
	case !holds(&d.Columns[i], &c.mapped, c.here):
		return fmt.Sprintf("it is %s here, and would be %s", c.here.Native, c.wanted.typ)
	case c.wanted.null && !c.have.null && c.have.computed == "" && !c.have.serial:
		return "it must not be NULL here"
	case c.wanted.computed == "" && c.have.computed != "":
		return "it is computed here"
	}
	return ""
}

// roomInRow makes a column a text or a blob of its own where InnoDB's row has no room for it.
func (r *rendering) roomInRow(c *column) {
	here, err := mysqlSpecs(r.Engine, r.Here.Table)
	if err != nil || (c.mapped.Kind != schema.KindText && c.mapped.Kind != schema.KindBytes) || c.mapped.Size == 0 {
		return
	}
	unit := map[bool]int{true: mysqlCharBytes, false: 1}[c.mapped.Kind == schema.KindText]
	sum := len(here)/8 + 1 + c.mapped.Size*unit
	for i := range here {
		sum += here[i].bytes()
	}
	if sum <= mysqlRowBytes || slices.Contains(r.Is.Key, r.Column) {
		return
	}
	long := map[bool]string{true: "longtext", false: "longblob"}[c.mapped.Kind == schema.KindText]
	name, rest, _ := strings.Cut(c.wanted.typ, ")")
	if strings.Contains(name, "(") {
		c.wanted.typ = long + rest
		c.mapped = typed(r.Engine, c.wanted.name, c.wanted.typ)
		c.wanted.def, _ = r.columnDefault(&r.Is.Columns[r.Column], &c.mapped, r.Is.Details[r.Column].Default)
	}
}

// changeColumn does what is about a column that stays.
func (r *rendering) changeColumn() error {
	c, err := r.wants()
	if err != nil {
		return err
	}
	if c.here == nil {
		r.out.Notice = ""
		r.conflict("column %s is not here", c.wanted.name)
		return nil
	}
	switch r.Kind {
	case schema.AddLabels:
		r.addLabels(&c)
	case schema.ChangeType:
		return r.changeType(&c)
	case schema.ChangeComputed:
		r.changeComputed(&c)
	case schema.ChangeDefault:
		if r.out.Done = sameDefault(c.have.def, c.wanted.def) || c.have.computed != "" || c.have.serial; !r.out.Done {
			r.setDefault(&c)
		}
	case schema.ChangeNullable:
		r.out.Notice = ""
		r.changeNullable(&c)
	case schema.ChangeSerial:
		r.changeSerial(&c)
	case schema.ChangeColComment:
		r.out.Notice = ""
		r.changeColumnComment(&c)
	}
	return nil
}

// modify makes a MySQL's column anew: whatever MODIFY does not repeat is lost.
func (r *rendering) modify(c *clause, more ...string) {
	r.run(r.alter(append([]string{"MODIFY COLUMN " + c.ddl(r.Engine)}, more...)...))
}

func (r *rendering) column(name string) string { return "ALTER COLUMN " + r.quote(name) + " " }

func (r *rendering) setDefault(c *column) {
	def, before := c.wanted.def, c.have.def
	upper := strings.ToUpper(def + before)
	switch {
	case r.Engine != schema.Postgres && (strings.HasPrefix(def, "(") || strings.Contains(upper, "CURRENT_") || strings.Contains(upper, "ON UPDATE")):
		c.have.def = def
		r.modify(&c.have)
	case def == "":
		r.run(r.alter(r.column(c.wanted.name) + "DROP DEFAULT"))
	default:
		r.run(r.alter(r.column(c.wanted.name) + "SET DEFAULT " + def))
	}
}

func (r *rendering) changeNullable(c *column) {
	null := r.Is.Columns[r.Column].Nullable
	switch {
	case c.have.null == null || c.have.computed != "":
		r.out.Done = true
	case null && slices.Contains(r.Here.Key, c.at):
		r.conflict("column %s is in the key here", c.wanted.name)
	case r.Engine == schema.Postgres:
		r.run(r.alter(r.column(c.wanted.name) + map[bool]string{true: "DROP", false: "SET"}[null] + " NOT NULL"))
	default:
		if c.have.null = null; c.have.def == mysqlUnsetTimestamp && null {
			c.have.def = ""
		}
		r.modify(&c.have)
	}
}

func (r *rendering) changeColumnComment(c *column) {
	switch {
	case c.have.comment == c.wanted.comment:
		r.out.Done = true
	case r.Engine == schema.Postgres:
		r.run("COMMENT ON COLUMN " + r.table + "." + r.quote(c.wanted.name) + " IS " + postgresComment(c.wanted.comment))
	default:
		c.have.comment = c.wanted.comment
		r.modify(&c.have)
	}
}

func (r *rendering) changeSerial(c *column) {
	want, name := c.wanted.serial, r.quote(c.wanted.name)
	switch {
	case r.Is.Details[r.Column].Serial && !want: // the notice says why
	case want == c.have.serial && (!want || r.Engine != schema.Postgres || c.wanted.always || !c.have.always):
		r.out.Done = true
	case r.Engine != schema.Postgres:
		c.have.serial = want
		if c.have.def = ""; !want {
			c.have.def = c.wanted.def
		}
		var key []string
		if want && !r.leadsIndex(c.wanted.name) {
			key = []string{"ADD KEY (" + name + ")"}
		}
		r.modify(&c.have, key...)
	case !want: // a sequence of its own or an identity
		r.run(r.alter("ALTER COLUMN "+name+" DROP IDENTITY IF EXISTS"), r.alter("ALTER COLUMN "+name+" DROP DEFAULT"))
	case c.have.serial:
		r.run(r.alter("ALTER COLUMN " + name + " SET GENERATED BY DEFAULT"))
	default:
		r.run(r.alter("ALTER COLUMN "+name+" DROP DEFAULT"), r.alter("ALTER COLUMN "+name+" SET NOT NULL"), r.alter("ALTER COLUMN "+name+" ADD "+identity(c.wanted.always)))
	}
}

// leadsIndex reports whether an index here begins with a column.
func (r *rendering) leadsIndex(name string) bool {
	if len(r.Here.Key) > 0 && r.Here.Columns[r.Here.Key[0]].Name == name {
		return true
	}
	return slices.ContainsFunc(r.Here.Indexes, func(x schema.Index) bool { return x.Method == "" && x.Parts[0].Column == name })
}

// changeComputed: what a column computes cannot be changed in every Postgres, nor a column be made one that computes; it is then made
// anew, with the indexes on it.
func (r *rendering) changeComputed(c *column) {
	w := &c.wanted
	switch {
	case sameDefault(c.have.computed, w.computed) && c.have.computed != "", w.computed == "" && c.have.computed == "":
		r.out.Done = r.out.Notice == ""
	case r.Engine == schema.Postgres && w.computed == "":
		r.run(r.alter(r.column(w.name) + "DROP EXPRESSION"))
	case r.Engine != schema.Postgres && c.have.computed != "" && w.computed != "" && c.have.stored && w.stored, r.Engine != schema.Postgres && c.have.stored && w.computed == "":
		r.modify(w)
	default:
		r.run(r.alter("DROP COLUMN "+r.quote(w.name), "ADD COLUMN "+w.ddl(r.Engine)))
		for i := range r.Is.Indexes {
			x := &r.Is.Indexes[i]
			if slices.ContainsFunc(x.Parts, func(p schema.IndexPart) bool { return p.Column == w.name }) && r.indexHere(x) != nil {
				statement, why := r.makeIndex(x)
				r.notice(why)
				if statement != "" {
					r.run(statement)
				}
			}
		}
	}
}
