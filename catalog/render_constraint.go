package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"cdc-sidecar/schema"
)

// constraint is the name here of a check or foreign key that another office calls by its own; empty: it is not here.
func (r *rendering) constraint(name string) string {
	if r.Here == nil {
		return ""
	}
	d := r.source()
	same := func(here string) bool { return sameConstraintName(r.Engine, here, d.Engine, name, d.Name) }
	for _, c := range r.Here.Checks {
		if r.Check != nil && same(c.Name) {
			return c.Name
		}
	}
	for _, k := range r.Here.ForeignKeys {
		if r.ForeignKey != nil && same(k.Name) {
			return k.Name
		}
	}
	return ""
}

func (r *rendering) dropConstraint() {
	name, what := "", "DROP CONSTRAINT "
	if r.Kind == schema.DropCheck {
		name = r.constraint(r.Check.Name)
	} else {
		name = r.constraint(r.ForeignKey.Name)
		if r.Engine != schema.Postgres {
			what = "DROP FOREIGN KEY "
		}
	}
	if r.out.Done = name == ""; !r.out.Done {
		r.run(r.alter(what + r.quote(name)))
	}
}

func (r *rendering) addCheck() {
	if r.out.Done = r.constraint(r.Check.Name) != ""; r.out.Done {
		return
	}
	text, why := r.condition(r.Check.Expression)
	if why != "" {
		r.notice(fmt.Sprintf("the check %s is not here: %s", r.Check.Name, why))
		return
	}
	r.run(r.alter("ADD CONSTRAINT " + r.quote(constraintName(r.Engine, r.Is.Engine, r.Is.Name, r.Check.Name)) + " CHECK (" + text + ")"))
}

func (r *rendering) addForeignKey() {
	k := r.ForeignKey
	if name := r.constraint(k.Name); name != "" {
		at := slices.IndexFunc(r.Here.ForeignKeys, func(h schema.ForeignKey) bool { return h.Name == name })
		if h := &r.Here.ForeignKeys[at]; !slices.Equal(h.Columns, k.Columns) || h.Parent != k.Parent {
			r.conflict("another foreign key is called %s here", name)
			return
		}
		r.out.Done = true
		return
	}
	statement := r.alter("ADD CONSTRAINT " + r.quote(constraintName(r.Engine, r.Is.Engine, r.Is.Name, k.Name)) + " FOREIGN KEY (" + r.list(k.Columns) + ") REFERENCES " +
		r.named(k.Parent) + " (" + r.list(k.ParentColumns) + ")")
	for _, on := range []struct {
		word   string
		action schema.Action
	}{{"ON DELETE", k.OnDelete}, {"ON UPDATE", k.OnUpdate}} {
		switch {
		case on.action == schema.Forbid:
		case on.action == schema.SetDefault && r.Engine != schema.Postgres:
			r.notice(fmt.Sprintf("the foreign key %s forbids here what sets defaults elsewhere: InnoDB has no %s SET DEFAULT", k.Name, on.word))
		default:
			statement += " " + on.word + " " + strings.ToUpper(string(on.action))
		}
	}
	r.run(statement)
}

func (r *rendering) list(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = r.quote(n)
	}
	return strings.Join(quoted, ", ")
}

func keyNames(t *schema.Table) (names []string) {
	for _, k := range t.Key {
		names = append(names, t.Columns[k].Name)
	}
	return names
}

// changeKey replaces the primary key. Postgres calls it as it likes.
func (r *rendering) changeKey() error {
	want, have := keyNames(r.Is.Table), keyNames(r.Here.Table)
	if r.out.Done = slices.Equal(want, have); r.out.Done {
		return nil
	}
	for _, name := range want {
		if r.Here.Column(name) < 0 {
			r.conflict("column %s of the key is not here", name)
			return nil
		}
	}
	if r.Engine != schema.Postgres {
		return r.mysqlKey(want, have)
	}
	r.run("DO $cdc$ DECLARE k name; BEGIN SELECT conname INTO k FROM pg_catalog.pg_constraint WHERE conrelid = " + postgresConstant(r.table) + "::regclass AND contype = 'p'; " +
		"IF FOUND THEN EXECUTE format(" + postgresConstant("ALTER TABLE "+strings.ReplaceAll(r.table, "%", "%%")+" DROP CONSTRAINT %I") + ", k); END IF; END $cdc$")
	if len(want) > 0 {
		r.run(r.alter("ADD PRIMARY KEY (" + r.list(want) + ")"))
	}
	return nil
}

// mysqlKey does all at once: a column that gets numbers is never without a key. Long texts get a length first.
func (r *rendering) mysqlKey(want, have []string) error {
	types, err := definitionTypes(r.Engine, r.space, r.Is)
	if err != nil {
		return err
	}
	var what []string
	if len(have) > 0 {
		what = append(what, "DROP PRIMARY KEY")
	}
	for _, name := range want {
		if r.longText(name) == 0 {
			continue
		}
		c := r.present(r.Here.Column(name))
		c.typ, c.null = types[r.Is.Column(name)], false
		what = append(what, "MODIFY COLUMN "+c.ddl(r.Engine))
	}
	if len(want) > 0 {
		what = append(what, "ADD PRIMARY KEY ("+r.list(want)+")")
	}
	serial := slices.IndexFunc(r.Here.Details, func(d schema.ColumnDetail) bool { return d.Serial })
	if serial >= 0 {
		name := r.Here.Columns[serial].Name
		indexed := slices.ContainsFunc(r.Here.Indexes, func(x schema.Index) bool { return x.Method == "" && x.Parts[0].Column == name })
		if !indexed && (len(want) == 0 || want[0] != name) {
			what = append(what, "ADD KEY ("+r.quote(name)+")")
		}
	}
	r.run(r.alter(what...))
	return nil
}

// Equivalent says how a table here differs from another office's in what matters, after types and names have been mapped: rows or
// constraints of the one that would have no place in the other. Indexes and expressions that the engine here does not have are no
// difference, nor are further indexes here; comments never are. Nil: there is no difference.
func Equivalent(source, here *schema.Definition) []string {
	differs, err := columnsDiffer(source, here, cmp.Or(here.Schema, "public"), true)
	if err != nil {
		return []string{err.Error()}
	}
	r := &rendering{Place: Place{Engine: here.Engine, Default: "public", Here: here}, Step: schema.Step{Is: source}, dialect: dialect{to: here.Engine, from: source.Table}}
	r.space, r.table = cmp.Or(here.Schema, r.Default), r.named(here.TableName)
	for i := range here.Columns {
		if name := here.Columns[i].Name; source.Column(name) < 0 {
			differs = append(differs, "column "+name+" is here alone")
		}
	}
	for i := range source.Indexes {
		x := &source.Indexes[i]
		if statement, _ := r.makeIndex(x); statement != "" && r.indexHere(x) == nil && !r.servesIndex(x) {
			differs = append(differs, "index "+x.Name+" is not here")
		}
	}
	for i := range here.Indexes {
		x := &here.Indexes[i]
		if x.Unique && !slices.ContainsFunc(source.Indexes, func(y schema.Index) bool { return sameIndexName(here.Engine, x, source.Engine, &y, source.Name) }) {
			differs = append(differs, "unique index "+x.Name+" is here alone")
		}
	}
	return append(differs, r.constraintsDiffer(source, here)...)
}

// servesIndex reports whether the primary key does what an index does.
func (r *rendering) servesIndex(x *schema.Index) bool {
	var names []string
	for _, p := range x.Parts {
		names = append(names, p.Column)
	}
	return slices.Equal(names, keyNames(r.Here.Table))
}

func (r *rendering) constraintsDiffer(source, here *schema.Definition) (differs []string) {
	for i := range source.Checks {
		r.Check, r.ForeignKey = &source.Checks[i], nil
		if _, why := r.condition(r.Check.Expression); why == "" && r.constraint(r.Check.Name) == "" {
			differs = append(differs, "check "+r.Check.Name+" is not here")
		}
	}
	for i := range source.ForeignKeys {
		r.Check, r.ForeignKey = nil, &source.ForeignKeys[i]
		if r.constraint(r.ForeignKey.Name) == "" {
			differs = append(differs, "foreign key "+r.ForeignKey.Name+" is not here")
		}
	}
	same := func(a, b string) bool { return sameConstraintName(here.Engine, a, source.Engine, b, source.Name) }
	for _, c := range here.Checks {
		if !slices.ContainsFunc(source.Checks, func(o schema.Check) bool { return same(c.Name, o.Name) }) {
			differs = append(differs, "check "+c.Name+" is here alone")
		}
	}
	for _, k := range here.ForeignKeys {
		if !slices.ContainsFunc(source.ForeignKeys, func(o schema.ForeignKey) bool { return same(k.Name, o.Name) }) {
			differs = append(differs, "foreign key "+k.Name+" is here alone")
		}
	}
	return differs
}

// columnsDiffer says which of the source's columns would not be what they are here, and whether the key is another;
// with defaults also which do not do the same by themselves.
func columnsDiffer(source, here *schema.Definition, space string, defaults bool) (differs []string, err error) {
	clauses, _, err := clausesOf(here.Engine, space, source)
	if err != nil {
		return nil, err
	}
	r := &rendering{Place: Place{Engine: here.Engine, Here: here}, Step: schema.Step{Is: source}, dialect: dialect{to: here.Engine, from: source.Table}}
	for i := range clauses {
		c := column{wanted: clauses[i], mapped: mappedColumn(here.Engine, source, i, clauses[i].typ), at: here.Column(clauses[i].name)}
		if c.at < 0 {
			differs = append(differs, "column "+c.wanted.name+" is not here")
			continue
		}
		c.here, c.have = &here.Columns[c.at], r.present(c.at)
		why := r.differs(&c, i, source)
		if why == "" && defaults {
			why = r.behaves(&c)
		}
		if why != "" {
			differs = append(differs, fmt.Sprintf("column %s: %s", c.wanted.name, why))
		}
	}
	if want, have := keyNames(source.Table), keyNames(here.Table); !sameSet(want, have) {
		differs = append(differs, fmt.Sprintf("its key is (%s) here, and (%s) there", strings.Join(have, ", "), strings.Join(want, ", ")))
	}
	return differs, nil
}

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// behaves says what differs in what a column does by itself.
func (r *rendering) behaves(c *column) string {
	plain := func(s string) bool {
		return s == "" || number(s) || strings.HasPrefix(s, "'") && strings.Count(s, "'") == 2
	}
	switch {
	case c.wanted.serial && !c.have.serial:
		return "it gets no numbers here"
	case (c.wanted.computed == "") != (c.have.computed == "") && c.have.computed == "":
		return "it is not computed here"
	case c.wanted.computed != "" || c.wanted.serial:
	case !c.wanted.null && c.have.null:
		return "it may be NULL here"
	case (c.wanted.def == "") != (c.have.def == ""), plain(c.wanted.def) && plain(c.have.def) && !sameDefault(c.wanted.def, c.have.def):
		return fmt.Sprintf("its default is %s here, and would be %s", cmp.Or(c.have.def, "none"), cmp.Or(c.wanted.def, "none"))
	}
	return ""
}
