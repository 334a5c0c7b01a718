package main

import (
	"fmt"
	"slices"
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

// Conflict says how two offices' changes of one row are settled; it is the head's to say.
type Conflict struct {
	Policy  string          // latest, head, branch, merge, manual, offices or add; "": not said
	Offices []schema.Office // of policy offices: whose change wins, first to last
	Add     []string        // of policy add: the columns that are counters
}

// Rule is what is decided for one table.
type Rule struct {
	Flow     Flow
	Conflict Conflict
}

// TableEntry is one entry of tables, as written.
type TableEntry struct {
	Line     int
	Name     string   // schema.table with * and ?, as the office's own database writes it
	Flow     Flow     // "": not said
	Conflict Conflict // zero: not said

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

func (d *document) readConflict(n ast.Node) Conflict {
	switch n := n.(type) {
	case *ast.SequenceNode:
		c := Conflict{Policy: "offices"}
		for _, element := range n.Values {
			if text, ok := d.text(element, "conflict"); ok {
				office, err := parseOffice(text)
				if err != nil {
					d.fail(lineOf(element), "conflict: %v", err)
				}
				c.Offices = append(c.Offices, office)
			}
		}
		if len(c.Offices) == 0 {
			d.fail(lineOf(n), "conflict: an empty list; name the offices, the one that wins first")
		}
		return c
	case ast.MapNode:
		return d.readAdd(n.(ast.Node))
	}
	text, ok := d.text(n, "conflict")
	if ok && !slices.Contains([]string{"latest", "head", "branch", "merge", "manual"}, text) {
		d.fail(lineOf(n), "conflict: %s: want latest, head, branch, merge, manual, a list of offices, or {add: [column]}", shown(text))
	}
	return Conflict{Policy: text}
}

func (d *document) readAdd(n ast.Node) Conflict {
	c := Conflict{Policy: "add"}
	d.mapping(n, "conflict", map[string]func(ast.Node){"add": func(n ast.Node) {
		for _, element := range d.sequence(n, "add") {
			if text, ok := d.text(element, "add"); ok && text != "" {
				c.Add = append(c.Add, text)
			}
		}
	}})
	if len(c.Add) == 0 {
		d.fail(lineOf(n), "conflict: add names no column")
	}
	return c
}

// conflictNotices says of conflict keys that they have no effect, and why.
func conflictNotices(c *Config) []string {
	var notices []string
	for _, e := range c.Tables {
		switch {
		case e.Conflict.Policy == "":
		case c.Role == schema.Branch:
			notices = append(notices, fmt.Sprintf("%s:%d: conflict of %s has no effect at a branch: the head decides", c.Path, e.Line, e.Name))
		default:
			notices = append(notices, fmt.Sprintf("%s:%d: conflict of %s has no effect yet: conflicts are not settled in this version", c.Path, e.Line, e.Name))
		}
	}
	return notices
}
