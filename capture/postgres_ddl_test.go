package capture

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cdc-sidecar/schema"
)

// A file of testdata/ddl/postgres is a scenario (see there) whose events say also how definitions changed: what somebody typed, then
// the steps from the table as it was to the table as it is.
func TestPostgresSchemaChanges(t *testing.T) {
	files, err := filepath.Glob("../testdata/ddl/postgres/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			s := readScenario(t, file)
			o := newPostgresOffice(t)
			o.Definitions = true
			got := o.schemaChanges(s)
			if *update {
				s.events = got
				s.write(t, file)
			}
			if diff := cmp.Diff(s.events, got); diff != "" {
				t.Errorf("%s (-file +postgres):\n%s", file, diff)
			}
		})
	}
}

// schemaChanges runs a scenario and returns its events.
func (o *postgresOffice) schemaChanges(s *scenario) []string {
	o.exec("CREATE TABLE " + scenarioEnd + " (id int PRIMARY KEY)")
	o.exec(s.tables["postgres"]...)
	src := o.open()
	o.exec(s.change["postgres"]...)
	o.exec("INSERT INTO " + scenarioEnd + " VALUES (1)")
	w := eventWriter{rows: map[string]schema.Row{}}
	var events []string
	collect(o.t, src, func(tx *schema.Transaction) bool {
		if tx.Changes[0].Table.Name == scenarioEnd {
			return true
		}
		events = append(events, "transaction")
		for i := range tx.Changes {
			if c := &tx.Changes[i]; c.Op == schema.Define {
				events = append(events, defineText(c)...)
			} else {
				events = append(events, "  "+w.change(o.t, c))
			}
		}
		return false
	})
	return events
}

// defineText is a schema change in words, a line for each step.
func defineText(c *schema.Change) []string {
	d := c.Definition
	lines := []string{"  define " + c.Table.String() + ": " + strings.Join(strings.Fields(d.Statement), " ")}
	if d.Rows {
		lines = append(lines, "    rows changed")
	}
	for _, s := range schema.Diff(d.Was, d.Is) {
		line := "    " + string(s.Kind)
		switch s.Kind {
		case schema.CreateTable:
			line += keyNames(s.Is)
			for i := range s.Is.Columns {
				line += ", " + columnText(s.Is, i)
			}
		case schema.RenameTable:
			line += fmt.Sprintf(" from %s", s.Was.TableName)
		case schema.DropTable:
			line += " " + s.Was.String()
		case schema.RenameColumn:
			line += " " + s.Was.Columns[s.WasColumn].Name + " to " + s.Is.Columns[s.Column].Name
		case schema.DropColumn:
			line += " " + s.Was.Columns[s.WasColumn].Name
		case schema.ChangeKey:
			line += keyNames(s.Was) + " to" + keyNames(s.Is)
		default:
			line += stepText(&s)
		}
		lines = append(lines, line)
	}
	return lines
}

func stepText(s *schema.Step) string {
	switch {
	case s.Index != nil:
		return fmt.Sprintf(" %+v", *s.Index)
	case s.ForeignKey != nil:
		return fmt.Sprintf(" %+v", *s.ForeignKey)
	case s.Check != nil:
		return fmt.Sprintf(" %+v", *s.Check)
	case s.Column >= 0:
		return " " + columnText(s.Is, s.Column)
	}
	return " " + s.Is.Comment
}

func keyNames(d *schema.Definition) string {
	text := ""
	for _, k := range d.Key {
		text += " " + d.Columns[k].Name
	}
	return " (" + strings.TrimSpace(text) + ")"
}

func columnText(d *schema.Definition, i int) string {
	c, x := &d.Columns[i], &d.Details[i]
	text := fmt.Sprintf("%d %s %s", x.ID, c.Name, c.Native)
	if !c.Nullable {
		text += " not null"
	}
	if x.Default.Kind != "" {
		text += fmt.Sprintf(" default %s %q", x.Default.Kind, x.Default.Text)
	}
	if x.Computed.Kind != "" {
		text += fmt.Sprintf(" computed %s %q", x.Computed.Kind, x.Computed.Text)
	}
	if x.Serial {
		text += " serial"
	}
	if len(c.Labels) > 0 {
		text += fmt.Sprint(" ", c.Labels)
	}
	if x.Comment != "" {
		text += fmt.Sprintf(" %q", x.Comment)
	}
	return text
}
