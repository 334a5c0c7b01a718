package capture

import (
	"context"
	"crypto/rand"
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

var update = flag.Bool("update", false, "write the expected events of testdata/changes anew, as the first engine gives them")

// A scenario is a file of testdata/changes: SQL, then the events that every engine has to give for it.
//
//	# what it shows
//	create table t (id int primary key, a text);   -- a statement ends with ; at the end of a line
//	-- postgres:                                   -- from here on for this engine only
//	-- mariadb:
//	-- both:
//	-- changes:                                    -- tables above, changes below; everything for both again
//	insert into t values (1, 'x');
//	-> transaction
//	->   insert t id=1 a="x"
//	->   update t[id=1] id=1 a="y"
//	->   delete t[id=1]
//	->   truncate t
//
// What engines may differ in is made equal: of the row before, only its key is shown, in brackets; the row after is always
// shown whole, unchanged columns filled in from the events before; generated columns are left out; numbers and booleans
// stand bare, everything else quoted.
type scenario struct {
	sql            string // the part before the events, as the file has it
	tables, change map[string][]string
	events         []string
}

// scenarioOffice is one engine's database for one scenario.
type scenarioOffice interface {
	// exec runs one statement, always in the same session.
	exec(t *testing.T, statement string)
	// source sets capture up and opens it, after the tables and before the changes.
	source(t *testing.T) Source
}

// scenarioEngines are the engines to run; the first is the one that -update believes.
var scenarioEngines = []struct {
	name string
	open func(*testing.T) scenarioOffice
}{
	{"postgres", openPostgresScenario},
	{"mariadb", openMariaDBScenario},
}

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("../testdata/changes/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		s := readScenario(t, file)
		for i, engine := range scenarioEngines {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+"/"+engine.name, func(t *testing.T) {
				if engine.name == "mariadb" && (strings.Contains(s.sql, " uuid") || strings.Contains(s.sql, " json")) {
					onlyMariaDB(t)
				}
				got := s.run(t, engine.name, engine.open(t))
				if *update && i == 0 {
					s.events = got
					s.write(t, file)
				}
				if diff := cmp.Diff(s.events, got); diff != "" {
					t.Errorf("%s (-file +%s):\n%s", file, engine.name, diff)
				}
			})
		}
	}
}

func readScenario(t *testing.T, file string) *scenario {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &scenario{tables: map[string][]string{}, change: map[string][]string{}}
	into, engine, statement := s.tables, "both", ""
	for line := range strings.Lines(string(text)) {
		trimmed := strings.TrimSpace(line)
		if event, ok := strings.CutPrefix(trimmed, "->"); ok {
			s.events = append(s.events, strings.TrimPrefix(event, " "))
			continue
		}
		s.sql += line
		section, ok := strings.CutPrefix(trimmed, "-- ")
		switch {
		case trimmed == "" || strings.HasPrefix(trimmed, "#"):
		case ok && section == "changes:":
			into, engine = s.change, "both"
		case ok && strings.HasSuffix(section, ":"):
			engine = strings.TrimSuffix(section, ":")
		default:
			statement += line
			if strings.HasSuffix(trimmed, ";") {
				for _, e := range []string{"postgres", "mariadb"} {
					if engine == "both" || engine == e {
						into[e] = append(into[e], statement)
					}
				}
				statement = ""
			}
		}
	}
	if statement != "" {
		t.Fatalf("%s: the last statement has no end", file)
	}
	return s
}

func (s *scenario) write(t *testing.T, file string) {
	t.Helper()
	text := s.sql
	for _, e := range s.events {
		text += "-> " + e + "\n"
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// scenarioEnd is the table whose first row ends a scenario.
const scenarioEnd = "scenario_end"

// run returns the events that the scenario gives.
func (s *scenario) run(t *testing.T, engine string, o scenarioOffice) []string {
	t.Helper()
	o.exec(t, "CREATE TABLE "+scenarioEnd+" (id int PRIMARY KEY)")
	for _, statement := range s.tables[engine] {
		o.exec(t, statement)
	}
	src := o.source(t)
	for _, statement := range s.change[engine] {
		o.exec(t, statement)
	}
	o.exec(t, "INSERT INTO "+scenarioEnd+" VALUES (1)")
	w := eventWriter{rows: map[string]schema.Row{}}
	collect(t, src, func(tx *schema.Transaction) bool {
		if len(tx.Changes) > 0 && tx.Changes[0].Table.Name == scenarioEnd {
			return true
		}
		w.transaction(t, tx)
		return false
	})
	return w.events
}

// collect runs src until done says so, and calls it with every transaction that is not silent.
func collect(t *testing.T, src Source, done func(*schema.Transaction) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), stuck)
	defer cancel()
	finished := errors.New("finished")
	err := Run(ctx, src, func(_ context.Context, txs []schema.Transaction) error {
		for i := range txs {
			for j := range txs[i].Changes {
				if err := txs[i].Changes[j].Validate(); err != nil {
					return err
				}
			}
			if !txs[i].Silent() && done(&txs[i]) {
				return finished
			}
		}
		return nil
	}, nil)
	if !errors.Is(err, finished) {
		t.Fatalf("capture ended before the last change came: %v", err)
	}
}

// eventWriter writes events as scenarios have them, see scenario.
type eventWriter struct {
	events []string
	rows   map[string]schema.Row // by table and key, as the events so far left them
}

func (w *eventWriter) transaction(t *testing.T, tx *schema.Transaction) {
	t.Helper()
	if tx.Part == 0 {
		w.events = append(w.events, "transaction")
	}
	for i := range tx.Changes {
		w.events = append(w.events, "  "+w.change(t, &tx.Changes[i]))
	}
}

func (w *eventWriter) change(t *testing.T, c *schema.Change) string {
	t.Helper()
	name := c.Table.Name
	if c.Op == schema.Truncate {
		for key := range w.rows {
			if strings.HasPrefix(key, name+"[") {
				delete(w.rows, key)
			}
		}
		return "truncate " + name
	}
	before := name + "[" + keyText(c.Table, c.KeyRow()) + "]"
	switch c.Op {
	case schema.Delete:
		delete(w.rows, before)
		return "delete " + before
	case schema.Insert:
		w.rows[before] = c.After
		return "insert " + name + " " + rowText(c.Table, c.After)
	}
	after := slices.Clone(c.After)
	for i := range after {
		if after[i].IsUnchanged() && w.rows[before] != nil {
			after[i] = w.rows[before][i]
		}
	}
	delete(w.rows, before)
	w.rows[name+"["+keyText(c.Table, after)+"]"] = after
	return "update " + before + " " + rowText(c.Table, after)
}

func keyText(t *schema.Table, row schema.Row) string {
	var parts []string
	for _, k := range t.Key {
		parts = append(parts, t.Columns[k].Name+"="+valueText(&t.Columns[k], row[k]))
	}
	return strings.Join(parts, " ")
}

func rowText(t *schema.Table, row schema.Row) string {
	var parts []string
	for i := range t.Columns {
		if !t.Columns[i].Generated {
			parts = append(parts, t.Columns[i].Name+"="+valueText(&t.Columns[i], row[i]))
		}
	}
	return strings.Join(parts, " ")
}

func valueText(c *schema.Column, v schema.Value) string {
	if v.State() != schema.Present {
		return v.String()
	}
	switch c.Kind {
	case schema.KindInt, schema.KindBool, schema.KindDecimal, schema.KindFloat, schema.KindYear:
		return v.Text()
	}
	if len(v.Text()) > 100 {
		return fmt.Sprintf("%d bytes %.20q…", len(v.Text()), v.Text())
	}
	return v.String()
}

// unique is a short name that no other test has.
func unique() string { return strings.ToLower(rand.Text()[:10]) }

type postgresScenario struct{ *postgresOffice }

func openPostgresScenario(t *testing.T) scenarioOffice { return postgresScenario{newPostgresOffice(t)} }

func (o postgresScenario) exec(t *testing.T, statement string) {
	t.Helper()
	o.postgresOffice.exec(statement)
}

func (o postgresScenario) source(*testing.T) Source { return o.open() }
