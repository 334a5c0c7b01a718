package catalog

import (
	"slices"
	"strings"

	"cdc-sidecar/schema"
)

// Mend is a statement that makes a table here more like another office's.
type Mend struct {
	Statement string
	Takes     string // what it takes away, or may be refused for; empty: nothing
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
		if takes == "" && (s.Kind == schema.DropIndex || s.Kind == schema.DropCheck || s.Kind == schema.DropForeignKey) {
			takes = "it drops what is here alone"
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
