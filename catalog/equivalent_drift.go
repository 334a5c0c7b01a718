package catalog

import (
	"cmp"
	"slices"
	"strings"

	"cdc-sidecar/schema"
)

// Drift is Equivalent but for what stems from here: where a table of this office was made at the other, whose engine is not this one,
// the other's types are what ours became there, and its constraints those of ours that it has words for. Held against ours they
// look wider, or fewer, and nothing of it is a difference.
func Drift(source, here *schema.Definition) []string {
	differs := Equivalent(source, here)
	if len(differs) == 0 || (source.Engine == schema.Postgres) == (here.Engine == schema.Postgres) {
		return differs
	}
	back := Equivalent(here, source)
	differs = slices.DeleteFunc(differs, func(line string) bool { return wordless(line, back) || becameThere(line, back, source, here) })
	if len(differs) == 0 {
		return nil
	}
	return differs
}

// wordless reports whether a line is about a constraint here of which the other's engine has no equal: held against ours, it lacks none.
func wordless(line string, back []string) bool {
	what, alone := strings.CutSuffix(line, " is here alone")
	return alone && !strings.HasPrefix(what, "column ") && !slices.Contains(back, strings.TrimPrefix(what, "unique ")+" is not here")
}

// becameThere reports whether a line is about a type which is there what ours becomes there.
func becameThere(line string, back []string, source, here *schema.Definition) bool {
	if !strings.Contains(line, " here, and would be ") {
		return false
	}
	for i := range here.Columns {
		name := here.Columns[i].Name
		at := source.Column(name)
		if at < 0 || !strings.HasPrefix(line, "column "+name+": it is ") || slices.ContainsFunc(back, func(b string) bool { return strings.HasPrefix(b, "column "+name+":") }) {
			continue
		}
		types, err := definitionTypes(source.Engine, cmp.Or(source.Schema, "public"), here)
		if err != nil {
			return false
		}
		mapped, there := mappedColumn(source.Engine, here, i, types[i]), &source.Columns[at]
		return mapped.Kind == there.Kind && schema.Widens(&mapped, there) && schema.Widens(there, &mapped) ||
			mapped.Kind == schema.KindNative && there.Kind == schema.KindNative && sameNative(mapped.Native, there.Native)
	}
	return false
}

// Mend is a statement that makes a table here more like another office's.
type Mend struct {
	Statement string
	Takes     string // what it takes away; empty: nothing, though rows that are here may refuse it
}

// Mends are the statements for what Equivalent says, in an order in which they can be run: for all of it, or for some lines of it.
// here is nil where the table is not here; then it is made. Nobody runs them but a person: which of two tables is right, no program
// can know. What a statement needs that another one makes may be left out; it comes when that was run.
func Mends(source, here *schema.Definition, engine schema.Engine, space string, differs []string) (mends []Mend) {
	var was *schema.Definition
	if here != nil {
		was = nameless(here)
	}
	for _, s := range schema.Diff(was, nameless(source)) {
		if here != nil && !slices.ContainsFunc(differs, func(line string) bool { return tells(line, &s) }) {
			continue
		}
		got, err := Render(Place{Engine: engine, Default: space, Here: here}, s)
		if err != nil || got.Done || got.Conflict != "" || len(got.Statements) == 0 {
			continue
		}
		takes := s.Destroys()
		switch s.Kind {
		case schema.DropIndex, schema.DropCheck, schema.DropForeignKey:
			takes = "it drops what is here alone"
		case schema.AddIndex, schema.AddCheck, schema.AddForeignKey, schema.ChangeNullable:
			takes = ""
		}
		for _, statement := range got.Statements {
			mends = append(mends, Mend{Statement: statement, Takes: takes})
		}
	}
	return mends
}

// nameless is a definition without the columns' numbers: another office's are others.
func nameless(d *schema.Definition) *schema.Definition {
	plain := *d
	plain.Details = slices.Clone(d.Details)
	for i := range plain.Details {
		plain.Details[i].ID = 0
	}
	return &plain
}

// tells reports whether a line of Equivalent is about what a step changes.
func tells(line string, s *schema.Step) bool {
	about := func(what, name string) bool {
		rest, ok := strings.CutPrefix(line, what+" "+name)
		return ok && (strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, ":"))
	}
	switch {
	case s.Index != nil:
		return about("index", s.Index.Name) || about("unique index", s.Index.Name)
	case s.Check != nil:
		return about("check", s.Check.Name)
	case s.ForeignKey != nil:
		return about("foreign key", s.ForeignKey.Name)
	case s.Kind == schema.ChangeKey:
		return strings.HasPrefix(line, "its key ")
	case s.Kind == schema.DropColumn:
		return about("column", s.Was.Columns[s.WasColumn].Name)
	case s.Kind == schema.ChangeColComment:
		return false
	case s.Column >= 0:
		return about("column", s.Is.Columns[s.Column].Name)
	}
	return false
}
