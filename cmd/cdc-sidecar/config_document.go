package main

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// setting is a scalar of the configuration and the place it came from, for error messages.
type setting struct {
	text string
	line int    // in the file; 0: not from the file
	from string // the variable, when line is 0
}

// problem is one thing wrong, at a line of the file (0: no line).
type problem struct {
	line int
	text string
}

// document is the YAML file being read. Values stay text until config checks them, so that every error can name its line;
// a decoder into structs would name only the first, and print the line with its password.
type document struct {
	path     string
	env      environment
	settings map[string]setting // by dotted key: office, journal.budget
	tables   []TableEntry
	problems []problem
	blamed   map[string]bool // keys that a problem is about: they are not missing as well
	garbled  bool            // the file as a whole is not understood: nothing is missing
}

func parseDocument(path string, text []byte, env environment) *document {
	d := &document{path: path, env: env, settings: map[string]setting{}, blamed: map[string]bool{}}
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	var syntax *yaml.SyntaxError
	switch {
	case errors.As(err, &syntax) && syntax.Token != nil:
		// What the parser quotes from the file may be a password.
		message, _, _ := strings.Cut(syntax.Message, `"`)
		line := syntax.Token.Position.Line
		d.garble(line, "not YAML: "+strings.TrimRight(message, " :")+unquoted(text, line))
	case err != nil:
		d.garble(0, "not YAML")
	case len(file.Docs) > 1:
		d.garble(0, "two YAML documents; want one")
	case len(file.Docs) == 1 && file.Docs[0].Body != nil:
		d.root(file.Docs[0].Body)
	}
	return d
}

// unquoted is a hint where a value begins with a star, as schedules do: to YAML that is an alias.
func unquoted(text []byte, line int) string {
	lines := strings.Split(string(text), "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	if _, value, found := strings.Cut(lines[line-1], ":"); !found || !strings.HasPrefix(strings.TrimSpace(value), "*") {
		return ""
	}
	return "; a value that begins with * stands in quotes"
}

// fail notes a problem; it goes on, so that one run shows them all.
func (d *document) fail(line int, format string, args ...any) {
	d.problems = append(d.problems, problem{line, fmt.Sprintf(format, args...)})
}

func (d *document) garble(line int, text string) {
	d.garbled = true
	d.fail(line, "%s", text)
}

// sorted gives the problems in the order of the file, those without a line last.
func (d *document) sorted() []string {
	sort.SliceStable(d.problems, func(i, j int) bool {
		a, b := d.problems[i].line, d.problems[j].line
		return a != 0 && (b == 0 || a < b)
	})
	var all []string
	for _, p := range d.problems {
		text := d.path + ": " + p.text
		if p.line > 0 {
			text = fmt.Sprintf("%s:%d: %s", d.path, p.line, p.text)
		}
		all = append(all, text)
	}
	return all
}

// rootName is what errors call the file's outermost mapping.
const rootName = "the configuration"

func (d *document) root(n ast.Node) {
	scalar := func(key string) func(ast.Node) { return func(n ast.Node) { d.scalar(key, n) } }
	d.mapping(n, rootName, map[string]func(ast.Node){
		"office": scalar("office"), "role": scalar("role"), "database": scalar("database"), "broker": scalar("broker"),
		"data": scalar("data"), "admin": scalar("admin"), "admin_token": scalar("admin_token"), "sync": scalar("sync"),
		"tables": d.readTables,
		"journal": func(n ast.Node) {
			d.mapping(n, "journal", map[string]func(ast.Node){"budget": scalar("journal.budget")})
		},
		"conflicts": func(n ast.Node) {
			d.mapping(n, "conflicts", map[string]func(ast.Node){"keep": scalar("conflicts.keep")})
		},
		"clock": func(n ast.Node) {
			d.mapping(n, "clock", map[string]func(ast.Node){"drift": scalar("clock.drift")})
		},
		"join": d.readJoin,
		"ddl": func(n ast.Node) {
			d.mapping(n, "ddl", map[string]func(ast.Node){
				"apply": scalar("ddl.apply"), "publish": scalar("ddl.publish"), "destructive": scalar("ddl.destructive"),
			})
		},
		"verify": func(n ast.Node) {
			d.mapping(n, "verify", map[string]func(ast.Node){"every": scalar("verify.every"), "rows": scalar("verify.rows")})
		},
		"log": func(n ast.Node) {
			d.mapping(n, "log", map[string]func(ast.Node){"level": scalar("log.level"), "format": scalar("log.format")})
		},
	})
}

// scalar keeps the value of a key; an empty one counts as left out.
func (d *document) scalar(key string, n ast.Node) {
	text, ok := d.text(n, key)
	switch {
	case !ok:
		d.blamed[key] = true
	case text != "":
		d.settings[key] = setting{text: text, line: lineOf(n)}
	}
}

// hidden stands for a value in an error message.
const hidden = "something else (left out here, it may hold a password)"

// shown is a wrong value for an error message. A line that went astray in the file may have brought a URL with it.
func shown(value string) string {
	if strings.Contains(value, "@") {
		return hidden
	}
	return strconv.Quote(value)
}

// keyPattern is what a key looks like, right or misspelt.
var keyPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,40}$`)

// mapping reads the keys of a mapping, each by its reader; unknown and repeated keys are problems.
func (d *document) mapping(n ast.Node, what string, readers map[string]func(ast.Node)) {
	if _, empty := n.(*ast.NullNode); empty {
		return
	}
	m, ok := n.(ast.MapNode)
	if !ok {
		d.garbled = d.garbled || what == rootName
		d.fail(lineOf(n), "%s: want keys with values", what)
		return
	}
	seen := map[string]int{}
	for i := m.MapRange(); i.Next(); {
		key, line := keyText(i.Key()), lineOf(i.Key())
		read, known := readers[key]
		switch {
		case !known && !keyPattern.MatchString(key):
			d.fail(line, "want a key here, got %s", hidden)
		case !known:
			d.unknown(line, key, readers)
		case seen[key] > 0:
			d.fail(line, "key %q stands in line %d already", key, seen[key])
		default:
			seen[key] = line
			read(i.Value())
		}
	}
}

// sequence gives the elements of a list.
func (d *document) sequence(n ast.Node, what string) []ast.Node {
	switch n := n.(type) {
	case *ast.NullNode:
		return nil
	case *ast.SequenceNode:
		return n.Values
	default:
		d.fail(lineOf(n), "%s: want a list", what)
		return nil
	}
}

// text is a scalar's text with its variables expanded.
func (d *document) text(n ast.Node, what string) (string, bool) {
	var text string
	switch n := n.(type) {
	case *ast.NullNode:
		return "", true
	case *ast.StringNode:
		text = n.Value
	case *ast.LiteralNode:
		text = strings.TrimRight(n.Value.Value, "\n")
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	case *ast.AnchorNode, *ast.AliasNode:
		d.fail(lineOf(n), "%s: YAML anchors are not understood here; write the value out, or use ${VARIABLE}", what)
		return "", false
	default:
		d.fail(lineOf(n), "%s: want a single value", what)
		return "", false
	}
	expanded, err := expand(text, d.env)
	if err != nil {
		d.fail(lineOf(n), "%s: %v", what, err)
		return "", false
	}
	return expanded, true
}

func lineOf(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

func keyText(k ast.MapKeyNode) string {
	if s, ok := k.(*ast.StringNode); ok {
		return s.Value
	}
	return k.String()
}

// unknown notes a key that there is not, and names the one that was probably meant, else all there are.
func (d *document) unknown(line int, key string, known map[string]func(ast.Node)) {
	names := slices.Sorted(maps.Keys(known))
	if near := nearest(key, names); near != "" {
		d.blamed[near] = true
		d.fail(line, "unknown key %q; did you mean %q?", key, near)
		return
	}
	d.fail(line, "unknown key %q; the keys here are %s", key, strings.Join(names, ", "))
}
