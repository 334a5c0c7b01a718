package main

import (
	"cmp"
	"slices"
	"strings"

	"cdc-sidecar/admin"
	"cdc-sidecar/apply"
	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// difference is a table that is not the same at two offices.
type difference struct {
	table schema.TableName
	lines []string
}

// The lines about a table as a whole.
const (
	notHere   = "the table is not here"
	hereAlone = "the table is here alone"
)

// differences holds this office's tables against the head's. A table that only one of the two has matters where its rows go to the
// other: unwanted are those that the head does not take.
func differences(c *Config, theirs, ours definitions, unwanted []schema.TableName) (all []difference) {
	for name, d := range theirs {
		here := ours[name]
		var lines []string
		switch {
		case here != nil:
			lines = catalog.Drift(d, here)
		case c.Receives(name):
			lines = []string{notHere}
		}
		if len(lines) > 0 {
			all = append(all, difference{name, lines})
		}
	}
	for _, name := range alone(c, theirs, ours) {
		if !slices.Contains(unwanted, name) {
			all = append(all, difference{name, []string{hereAlone}})
		}
	}
	slices.SortFunc(all, func(a, b difference) int { return compareNames(a.table, b.table) })
	return all
}

// alone are tables that this office sends and the head does not have.
func alone(c *Config, theirs, ours definitions) (names []schema.TableName) {
	for name := range ours {
		if theirs[name] == nil && c.Sends(name) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, compareNames)
	return names
}

func compareNames(a, b schema.TableName) int {
	return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
}

// look is where the streams stood when two offices' tables were read.
type look struct {
	at       schema.Position // the end of the head's stream: all that was in the head's tables is before it
	last     schema.Position // the same of this office's
	progress schema.Position // of the head's stream here, before this office's tables were read
	applied  schema.Position // of this office's at the head, before the head's were read
}

// sightings are the differences of former looks, with the look that saw each first. A schema change that is on its way makes a
// difference, too: what counts is one that is still there when either office has got whatever the other had when it was seen first.
type sightings map[string]look

// sure are those of the differences that count; unsure: there are others.
func (s *sightings) sure(found []difference, now look) (sure []difference, unsure bool) {
	seen := sightings{}
	for _, d := range found {
		var lines []string
		for _, line := range d.lines {
			key := d.table.String() + "\x00" + line
			first, again := (*s)[key]
			if again = again && first.at.Epoch == now.at.Epoch && first.last.Epoch == now.last.Epoch; !again { // positions of another journal say nothing
				first = now
			}
			seen[key] = first
			if again && reached(now.progress, first.at) && reached(now.applied, first.last) {
				lines = append(lines, line)
			} else {
				unsure = true
			}
		}
		if len(lines) > 0 {
			sure = append(sure, difference{d.table, lines})
		}
	}
	*s = seen
	return sure, unsure
}

func reached(is, to schema.Position) bool { return is.Epoch == to.Epoch && is.Seq >= to.Seq }

// explains reports whether a step that was not done here is why a line of Equivalent, or one about the whole table, stands there.
func explains(s *apply.SchemaStep, table schema.TableName, line string) bool {
	name := table.String()
	switch s.Step {
	case schema.CreateTable, schema.DropTable:
		return s.Table == name && (line == notHere || line == hereAlone)
	case schema.RenameTable:
		return (s.Subject == name || s.Was == name) && (line == notHere || line == hereAlone)
	case schema.ChangeKey:
		return s.Table == name && strings.HasPrefix(line, "its key ")
	}
	names := func(subject string) bool {
		return subject != "" && (strings.Contains(line, " "+subject+" ") || strings.Contains(line, " "+subject+":"))
	}
	return s.Table == name && (names(s.Subject) || names(s.Was))
}

// driftLine is the most of a statement that is repeated in the line that it explains.
const driftLine = 300

// describe is what is told of a table: its differences, and what to run. A statement that is held here is the remedy for what it
// explains.
func (d *difference) describe(theirs, here *schema.Definition, engine schema.Engine, c *Config, steps []apply.SchemaStep) admin.DriftTable {
	t := admin.DriftTable{Table: d.table.String(), Differences: []string{}, Statements: []string{}}
	var open []string
	add := func(statement string) {
		if !slices.Contains(t.Statements, statement) && len(t.Statements) < admin.MaxDriftLines && statement != "" {
			t.Statements = append(t.Statements, statement)
		}
	}
	for _, line := range d.lines {
		i := slices.IndexFunc(steps, func(s apply.SchemaStep) bool { return explains(&s, d.table, line) })
		switch {
		case i < 0:
			open = append(open, line)
		case steps[i].State == schema.DDLNotice:
			line += " (left out here: " + steps[i].Reason + ")"
		default:
			line += " (" + steps[i].State + " here: " + cut(steps[i].Statement, driftLine) + ")"
			add(careful(string(steps[i].Step), steps[i].Statement))
		}
		if len(t.Differences) < admin.MaxDriftLines {
			t.Differences = append(t.Differences, line)
		}
	}
	switch {
	case theirs == nil && len(open) > 0: // making it at the head is as good a remedy, and dropping it here the only other
		add("-- " + string(c.Office) + " has it alone: make it at the head, or take it out of what is sent (tables: flow: none)")
	case theirs != nil && len(open) > 0:
		for _, m := range catalog.Mends(theirs, here, engine, c.Database.DefaultSchema(), open) {
			if m.Takes != "" {
				m.Statement = unrun(m.Takes+"; or make it at the head as it is here", m.Statement)
			}
			add(m.Statement)
		}
	}
	return t
}

// unrun is a statement that stands in a script as a comment, below why: whoever runs the script has not decided on it yet.
func unrun(why, statement string) string {
	return "-- " + why + ":\n-- " + strings.ReplaceAll(statement, "\n", "\n-- ")
}

// careful is the statement of a step that was not done; one that takes values away is a comment.
func careful(step, statement string) string {
	switch schema.StepKind(step) {
	case schema.DropTable, schema.DropColumn, schema.ChangeType, schema.ChangeComputed, schema.ChangeKey:
		return unrun("it takes something away", statement)
	}
	return statement
}
