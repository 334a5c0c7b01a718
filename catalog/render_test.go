package catalog

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cdc-sidecar/schema"
)

var update = flag.Bool("update", false, "write testdata/render anew")

const rendered = "../testdata/render"

var engines = []schema.Engine{schema.Postgres, schema.MySQL, schema.MariaDB}

// define makes a definition of an engine from columns as its own statements write them: "name type", with the words null, serial,
// default:…, now, uuid, computed:…, native:…, comment:… behind, apart by |.
func define(engine schema.Engine, name string, key []string, columns ...string) *schema.Definition {
	d := &schema.Definition{}
	t := schema.Table{TableName: schema.TableName{Name: name}, Engine: engine}
	for i, text := range columns {
		words := strings.Split(text, "|")
		column, typ, _ := strings.Cut(words[0], " ")
		c, detail := typed(engine, column, typ), schema.ColumnDetail{ID: i + 1}
		for _, w := range words[1:] {
			kind, rest, _ := strings.Cut(w, ":")
			switch kind {
			case "null":
				c.Nullable = true
			case "serial":
				detail.Serial = true
			case "default":
				detail.Default = schema.Expression{Kind: schema.LiteralValue, Text: rest}
			case "now":
				detail.Default = schema.Expression{Kind: schema.CurrentTime, Text: rest}
			case "uuid":
				detail.Default.Kind = schema.RandomUUID
			case "native":
				detail.Default = schema.Expression{Kind: schema.NativeText, Text: rest}
			case "computed":
				detail.Computed, detail.Stored, c.Generated = schema.Expression{Kind: schema.PortableText, Text: rest}, true, true
			case "comment":
				detail.Comment = rest
			case "collate":
				detail.Collation = rest
			case "labels":
				c.Kind, c.Labels = schema.KindEnum, strings.Split(rest, ",")
			default:
				panic("what is " + w)
			}
		}
		t.Columns, d.Details = append(t.Columns, c), append(d.Details, detail)
	}
	for _, k := range key {
		t.Key = append(t.Key, t.Column(k))
	}
	d.Table = schema.NewTable(t)
	return d
}

// changed is a copy with something done to it.
func changed(d *schema.Definition, do func(*schema.Definition)) *schema.Definition {
	text := schema.AppendDefinition(nil, d)
	n, err := schema.ParseDefinition(text)
	if err != nil {
		panic(err)
	}
	do(n)
	n.Table = schema.NewTable(*n.Table)
	return n
}

// mirror is the table as it would be read at an engine where another office's definition had been made, as far as it can be.
func mirror(engine schema.Engine, d *schema.Definition) (*schema.Definition, error) {
	if d == nil || engine == d.Engine {
		return d, nil
	}
	clauses, _, err := clausesOf(engine, "s", d)
	if err != nil {
		return nil, err
	}
	n := &schema.Definition{Comment: d.Comment}
	t := schema.Table{TableName: d.TableName, Engine: engine, Key: d.Key}
	for i := range clauses {
		c, detail := mappedColumn(engine, d, i, clauses[i].typ), schema.ColumnDetail{Comment: clauses[i].comment, Serial: clauses[i].serial, Stored: clauses[i].stored}
		c.Nullable = clauses[i].null
		if clauses[i].def != "" {
			detail.Default = d.Details[i].Default
			if clauses[i].def == mysqlUnsetTimestamp {
				detail.Default = schema.Expression{Kind: schema.LiteralValue, Text: "1970-01-02 00:00:00"}
			}
		}
		if clauses[i].computed != "" {
			detail.Computed, c.Generated = d.Details[i].Computed, true
		}
		if _, rest, ok := strings.Cut(clauses[i].typ, " COLLATE "); ok {
			detail.Collation = rest
		}
		t.Columns, n.Details = append(t.Columns, c), append(n.Details, detail)
	}
	n.Table = schema.NewTable(t)
	r := &rendering{Place: Place{Engine: engine, Default: "s"}, Step: schema.Step{Is: d}, dialect: dialect{to: engine, from: d.Table}}
	for i := range d.Indexes {
		if statement, _ := r.makeIndex(&d.Indexes[i]); statement != "" {
			x := d.Indexes[i]
			x.Name = indexName(engine, d.Engine, d.Name, &d.Indexes[i])
			n.Indexes = append(n.Indexes, x)
		}
	}
	for _, c := range d.Checks {
		if _, why := r.condition(c.Expression); why == "" {
			c.Name = constraintName(engine, d.Engine, d.Name, c.Name)
			n.Checks = append(n.Checks, c)
		}
	}
	for _, k := range d.ForeignKeys {
		k.Name = constraintName(engine, d.Engine, d.Name, k.Name)
		n.ForeignKeys = append(n.ForeignKeys, k)
	}
	return n, nil
}

// String is what was rendered, for people.
func (r Rendered) String() string {
	var b strings.Builder
	for _, s := range r.Statements {
		b.WriteString("  " + s + ";\n")
	}
	if r.Done {
		b.WriteString("  done\n")
	}
	if r.Alone {
		b.WriteString("  (alone)\n")
	}
	for _, x := range [][2]string{{"notice", r.Notice}, {"conflict", r.Conflict}} {
		if x[1] != "" {
			fmt.Fprintf(&b, "  -- %s: %s\n", x[0], x[1])
		}
	}
	return b.String()
}

// TestRender writes every step of every change for every engine, and again for the table as it is then: everything is done.
func TestRender(t *testing.T) {
	for name, c := range renderCases() {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			for _, to := range engines {
				fmt.Fprintf(&b, "%s -> %s\n", cmpOr(c.is, c.was).Engine, to)
				for _, s := range schema.Diff(c.was, c.is) {
					b.WriteString(" " + string(s.Kind) + "\n")
					b.WriteString(renderStep(t, to, s))
				}
			}
			file := filepath.Join(rendered, name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("rendered (-want +got):\n%s", diff)
			}
		})
	}
	files, err := filepath.Glob(rendered + "/*.txt")
	if err != nil || len(files) != len(renderCases()) {
		t.Errorf("%d files of %d changes: %v", len(files), len(renderCases()), err)
	}
}

func cmpOr(a, b *schema.Definition) *schema.Definition {
	if a != nil {
		return a
	}
	return b
}

func renderStep(t *testing.T, to schema.Engine, s schema.Step) string {
	t.Helper()
	before, err := mirror(to, s.Was)
	var rejected *schema.RejectedError
	if err == nil {
		var got Rendered
		if got, err = Render(Place{Engine: to, Default: "s", Here: before}, s); err == nil {
			checkDone(t, to, s, got)
			return got.String()
		}
	}
	if !errors.As(err, &rejected) {
		t.Errorf("%s at %s: %v", s.Kind, to, err)
	}
	return "  -- refused: " + err.Error() + "\n"
}

// checkDone: what was rendered is not rendered again once it is so, unless there is no such thing here.
func checkDone(t *testing.T, to schema.Engine, s schema.Step, first Rendered) {
	t.Helper()
	after, err := mirror(to, s.Is)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Render(Place{Engine: to, Default: "s", Here: after}, s)
	nothing := first.Notice != "" && len(first.Statements) == 0 && len(again.Statements) == 0
	if err != nil || !again.Done && !nothing {
		t.Errorf("%s at %s, done already: %v\n%s", s.Kind, to, err, again)
	}
	if s.Is != nil && slices.ContainsFunc(first.Statements, func(s string) bool { return strings.Contains(s, ";") && !strings.HasPrefix(s, "DO ") }) {
		t.Errorf("%s at %s: more than one statement in one: %s", s.Kind, to, first)
	}
}
