package main

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"cdc-sidecar/schema"
)

// Flow says which way a table's changes go, seen from this office.
type Flow string

// The flows.
const (
	FlowBoth    Flow = "both"
	FlowSend    Flow = "send"
	FlowReceive Flow = "receive"
	FlowNone    Flow = "none"
)

// Rule is what is decided for one table.
type Rule struct {
	Flow     Flow
	Conflict schema.Policy // as this office's file has it; only the head's counts
}

// TableEntry is one entry of tables, as written.
type TableEntry struct {
	Line     int
	Name     string         // schema.table with * and ?, as the office's own database writes it
	Flow     Flow           // "": not said
	Conflict *schema.Policy // nil: not said
	// Unmapped is, by the column's name, what is written for a value that the column cannot hold; Unchanged: the change is refused.
	Unmapped map[string]schema.Value

	schema, table string // Name, split at the dot
}

// matches compares schema and table each with its own half, so that no name is put together for each change that asks.
func (e *TableEntry) matches(schemaName, table string) bool {
	return glob(e.schema, schemaName) && glob(e.table, table)
}

// glob matches * (any bytes, also none) and ? (one byte), and nothing else: [ is a letter of a table's name here.
func glob(pattern, name string) bool {
	star, resume, p, n := -1, 0, 0, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			resume++
			p, n = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

func (d *document) readTables(n ast.Node) {
	for _, element := range d.sequence(n, "tables") {
		e := TableEntry{Line: lineOf(element)}
		named, before := false, len(d.problems)
		d.mapping(element, "an entry of tables", map[string]func(ast.Node){
			"name":     func(n ast.Node) { named = true; d.readTableName(n, &e) },
			"flow":     func(n ast.Node) { d.readFlow(n, &e) },
			"where":    d.readWhere,
			"conflict": func(n ast.Node) { e.Conflict = d.readConflict(n) },
			"columns":  func(n ast.Node) { d.readColumns(n, &e) },
		})
		if !named && len(d.problems) == before {
			d.fail(e.Line, "an entry of tables has no name")
		}
		d.tables = append(d.tables, e)
	}
}

func (d *document) readTableName(n ast.Node, e *TableEntry) {
	name, ok := d.text(n, "name")
	if !ok {
		return
	}
	e.Name, e.Line = name, lineOf(n)
	if name == "*" {
		name = "*.*"
	}
	e.schema, e.table, ok = strings.Cut(name, ".")
	if !ok || e.schema == "" || e.table == "" {
		d.fail(lineOf(n), "name: %s: want schema.table as the database has it, like public.orders or public.* (MySQL: database.table)", shown(name))
	}
}

func (d *document) readFlow(n ast.Node, e *TableEntry) {
	text, ok := d.text(n, "flow")
	if !ok {
		return
	}
	switch f := Flow(text); f {
	case FlowBoth, FlowSend, FlowReceive, FlowNone:
		e.Flow = f
	default:
		d.fail(lineOf(n), "flow: %s: want both, send, receive or none", shown(text))
	}
}

// readWhere refuses what it cannot do: an office must not get rows that its configuration says it does not get.
func (d *document) readWhere(n ast.Node) {
	d.fail(lineOf(n), "where is not in this version yet; leave it out (all rows of the table come) or say flow: none")
}

// policyWords are the policies that are one word.
var policyWords = map[string]schema.PolicyKind{
	"latest": schema.Latest, "head": schema.HeadWins, "branch": schema.BranchWins, "merge": schema.Merge, "manual": schema.Manual,
}

// readConflict gives nil for a key without a value: it says nothing.
func (d *document) readConflict(n ast.Node) *schema.Policy {
	switch n := n.(type) {
	case *ast.SequenceNode:
		return d.readOrder(n)
	case ast.MapNode:
		return d.readAdd(n.(ast.Node))
	}
	text, ok := d.text(n, "conflict")
	if !ok || text == "" {
		return nil
	}
	kind, known := policyWords[text]
	if !known {
		d.fail(lineOf(n), "conflict: %s: want latest, head, branch, merge, manual, a list of offices, or {add: [column]}", shown(text))
	}
	return &schema.Policy{Kind: kind}
}

func (d *document) readOrder(n *ast.SequenceNode) *schema.Policy {
	p := &schema.Policy{Kind: schema.Ordered}
	d.distinct(n.Values, "conflict", func(text string) error {
		office, err := parseOffice(text)
		p.Order = append(p.Order, office)
		return err
	})
	if len(n.Values) == 0 {
		d.fail(lineOf(n), "conflict: an empty list; name the offices, the one that wins first")
	}
	return p
}

func (d *document) readAdd(n ast.Node) *schema.Policy {
	p, before := &schema.Policy{Kind: schema.Add}, len(d.problems)
	d.mapping(n, "conflict", map[string]func(ast.Node){"add": func(n ast.Node) {
		d.distinct(d.sequence(n, "add"), "add", func(text string) error {
			p.Add = append(p.Add, text)
			return nil
		})
	}})
	if len(p.Add) == 0 && len(d.problems) == before {
		d.fail(lineOf(n), "conflict: add names no column")
	}
	return p
}

// distinct reads the texts of a list in which none may be empty or stand twice.
func (d *document) distinct(list []ast.Node, what string, take func(text string) error) {
	seen := map[string]bool{}
	for _, element := range list {
		text, ok := d.text(element, what)
		switch {
		case !ok:
		case text == "":
			d.fail(lineOf(element), "%s: an empty name in the list", what)
		case seen[text]:
			d.fail(lineOf(element), "%s: %s stands in the list twice", what, shown(text))
		default:
			seen[text] = true
			if err := take(text); err != nil {
				d.fail(lineOf(element), "%s: %v", what, err)
			}
		}
	}
}

// readColumns reads keys that are columns' names, as the office's own database writes them.
func (d *document) readColumns(n ast.Node, e *TableEntry) {
	if _, empty := n.(*ast.NullNode); empty {
		return
	}
	m, ok := n.(ast.MapNode)
	if !ok {
		d.fail(lineOf(n), "columns: want names of columns, each with what is said of it, like {price: {unmapped: null}}")
		return
	}
	e.Unmapped = map[string]schema.Value{}
	seen := map[string]bool{}
	for i := m.MapRange(); i.Next(); {
		name := keyText(i.Key())
		if seen[name] || name == "" {
			d.fail(lineOf(i.Key()), "columns: a column stands there twice, or without a name: %s", shown(name))
		}
		seen[name] = true
		d.mapping(i.Value(), "an entry of columns", map[string]func(ast.Node){
			"unmapped": func(n ast.Node) { e.Unmapped[name] = d.readUnmapped(n) },
		})
	}
}

func (d *document) readUnmapped(n ast.Node) schema.Value {
	switch n := n.(type) {
	case *ast.NullNode:
		return schema.NullValue()
	case ast.MapNode:
		var value schema.Value
		before := len(d.problems)
		d.mapping(n.(ast.Node), "unmapped", map[string]func(ast.Node){"value": func(n ast.Node) {
			if text, ok := d.text(n, "value"); ok {
				value = schema.Of(text)
			}
		}})
		if value.IsUnchanged() && len(d.problems) == before {
			d.fail(lineOf(n.(ast.Node)), "unmapped: want error, null, or {value: …}")
		}
		return value
	}
	if text, ok := d.text(n, "unmapped"); ok && text != "error" {
		d.fail(lineOf(n), "unmapped: %s: want error, null, or {value: …}", shown(text))
	}
	return schema.Value{}
}

// conflictNotices says of a branch's keys about conflicts that they have no effect.
func conflictNotices(c *Config) []string {
	if c.Role != schema.Branch {
		return nil
	}
	var notices []string
	for _, e := range c.Tables {
		if e.Conflict != nil {
			notices = append(notices, fmt.Sprintf("%s:%d: conflict of %s has no effect at a branch: the head decides", c.Path, e.Line, e.Name))
		}
	}
	return notices
}
