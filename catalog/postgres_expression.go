package catalog

import (
	"errors"
	"regexp"
	"strings"

	"cdc-sidecar/schema"
)

// portable is the expression in the language that every engine has, where it says there what it says here; else in Postgres'
// own words.
func (e *postgresExpressions) portable(text string) schema.Expression {
	p := postgresParser{table: e.table, words: postgresWords.FindAllString(text, -1)}
	if p.covers(text) {
		if node, err := p.or(); err == nil && len(p.words) == 0 {
			return schema.Expression{Kind: schema.PortableText, Text: node.text}
		}
	}
	return schema.Expression{Kind: schema.NativeText, Text: text}
}

var postgresWords = regexp.MustCompile(`'(?:[^']|'')*'|"(?:[^"]|"")*"|[A-Za-z_][\w$]*|\d+(?:\.\d+)?|::|<>|<=|>=|[-+*/%^|&~!@#?]+|[^\s]`)

// covers reports that the words are all of the text but for its blanks.
func (p *postgresParser) covers(text string) bool {
	for _, w := range p.words {
		text = strings.TrimLeft(text, " \t\n")
		var ok bool
		if text, ok = strings.CutPrefix(text, w); !ok {
			return false
		}
	}
	return strings.TrimSpace(text) == ""
}

// errNative is of an expression that means something else, or nothing, in other engines.
var errNative = errors.New("not in the language that every engine has")

// postgresNode is a part of an expression, as portable text.
type postgresNode struct {
	text     string
	kind     schema.Kind // of its value; KindInvalid: a condition
	compound bool        // an operator's: in another's operand it stands in parentheses
	literal  bool
}

func (n postgresNode) operand() string {
	if n.compound {
		return "(" + n.text + ")"
	}
	return n.text
}

// numeric: numbers that the engines reckon with alike.
func (n postgresNode) numeric() bool {
	return n.kind == schema.KindInt || n.kind == schema.KindDecimal || n.kind == schema.KindFloat
}

// postgresParser reads an expression word by word.
type postgresParser struct {
	table *schema.Table
	words []string
}

func (p *postgresParser) peek() string {
	if len(p.words) == 0 {
		return ""
	}
	return p.words[0]
}

func (p *postgresParser) next() string {
	w := p.peek()
	if w != "" {
		p.words = p.words[1:]
	}
	return w
}

// is takes the words if they come next.
func (p *postgresParser) is(words ...string) bool {
	if len(p.words) < len(words) {
		return false
	}
	for i, w := range words {
		if p.words[i] != w {
			return false
		}
	}
	p.words = p.words[len(words):]
	return true
}

func (p *postgresParser) or() (postgresNode, error)  { return p.chain("OR", p.and) }
func (p *postgresParser) and() (postgresNode, error) { return p.chain("AND", p.not) }

func (p *postgresParser) chain(word string, part func() (postgresNode, error)) (postgresNode, error) {
	first, err := part()
	if err != nil || p.peek() != word {
		return first, err
	}
	text := first.operand()
	for p.is(word) {
		n, err := part()
		if err != nil {
			return n, err
		}
		text += " " + word + " " + n.operand()
	}
	return postgresNode{text: text, compound: true}, nil
}

func (p *postgresParser) not() (postgresNode, error) {
	if !p.is("NOT") {
		return p.comparison()
	}
	n, err := p.not()
	return postgresNode{text: "NOT " + n.operand(), compound: true}, err
}

func (p *postgresParser) comparison() (postgresNode, error) {
	left, err := p.sum()
	if err != nil {
		return left, err
	}
	switch word := p.peek(); {
	case p.is("IS", "NOT", "NULL"):
		return postgresNode{text: left.operand() + " IS NOT NULL", compound: true}, nil
	case p.is("IS", "NULL"):
		return postgresNode{text: left.operand() + " IS NULL", compound: true}, nil
	case p.is("=", "ANY"):
		return p.list(left, " IN ")
	case p.is("<>", "ALL"):
		return p.list(left, " NOT IN ")
	case p.is("="), p.is("<>"), p.is("<"), p.is("<="), p.is(">"), p.is(">="):
		right, err := p.sum()
		return postgresNode{text: left.operand() + " " + word + " " + right.operand(), compound: true}, err
	}
	return left, nil
}

// list reads (ARRAY[a, b]), with casts of the elements and of the whole.
func (p *postgresParser) list(left postgresNode, in string) (postgresNode, error) {
	open := 0
	for p.is("(") {
		open++
	}
	if open == 0 || !p.is("ARRAY", "[") {
		return left, errNative
	}
	var items []string
	for {
		n, err := p.sum()
		if err != nil {
			return n, err
		}
		items = append(items, n.text)
		if !p.is(",") {
			break
		}
	}
	if !p.is("]") {
		return left, errNative
	}
	for ; open > 0; open-- {
		for p.is("::") {
			if name := p.typeName(); !textTypes[strings.TrimSuffix(name, "[]")] {
				return left, errNative
			}
		}
		if !p.is(")") {
			return left, errNative
		}
	}
	return postgresNode{text: left.operand() + in + "(" + strings.Join(items, ", ") + ")", compound: true}, nil
}

func (p *postgresParser) sum() (postgresNode, error)     { return p.reckon("+-", p.product) }
func (p *postgresParser) product() (postgresNode, error) { return p.reckon("*/", p.cast) }

// reckon reads operators of one rank. Quotients of whole numbers and of decimals differ between engines.
func (p *postgresParser) reckon(operators string, part func() (postgresNode, error)) (postgresNode, error) {
	left, err := part()
	for err == nil && len(p.peek()) == 1 && strings.Contains(operators, p.peek()) {
		operator := p.next()
		var right postgresNode
		if right, err = part(); err != nil {
			break
		}
		kind := max(left.kind, right.kind) // int, decimal, float: the wider one
		if !left.numeric() || !right.numeric() || operator == "/" && kind != schema.KindFloat {
			return left, errNative
		}
		left = postgresNode{text: left.operand() + " " + operator + " " + right.operand(), kind: kind, compound: true}
	}
	return left, err
}

func (p *postgresParser) cast() (postgresNode, error) {
	n, err := p.atom()
	for err == nil && p.is("::") {
		n, err = p.asType(n, p.typeName())
	}
	return n, err
}

// asType leaves a cast out that changes nothing which another engine would not do by itself.
func (p *postgresParser) asType(n postgresNode, name string) (postgresNode, error) {
	base := baseName(name)
	value := strings.Trim(n.text, "'")
	number := map[string]schema.Kind{
		"smallint": schema.KindInt, "integer": schema.KindInt, "bigint": schema.KindInt, "numeric": schema.KindDecimal,
		"real": schema.KindFloat, "double precision": schema.KindFloat,
	}[base]
	switch {
	case textTypes[base]:
		if n.kind == schema.KindText || n.kind == schema.KindEnum {
			return n, nil
		}
	case number != 0 && n.literal && bareNumber.MatchString(value):
		return postgresNode{text: value, kind: number, literal: true}, nil
	case number != 0 && name == base && n.numeric() && n.kind <= number:
		n.kind = number
		return n, nil
	case base == "date", base == "timestamp without time zone":
		if n.literal && n.kind == schema.KindText {
			return n, nil
		}
	case !postgresBuiltIn[base] && !strings.Contains(name, "[") && n.literal && n.kind == schema.KindText && strings.Contains(name, "."):
		n.kind = schema.KindEnum
		return n, nil
	}
	return n, errNative
}

// typeName reads a type behind ::, as format_type writes it.
func (p *postgresParser) typeName() string {
	name := p.next()
	for p.is(".") {
		name += "." + p.next()
	}
	for _, more := range []string{"varying", "precision", "(", "with", "without", "["} {
		switch {
		case p.peek() != more:
		case more == "(":
			for w := ""; w != ")" && p.peek() != ""; {
				w = p.next()
				name += w
			}
		case more == "[":
			for p.is("[", "]") {
				name += "[]"
			}
		case more == "with" || more == "without":
			p.next()
			if p.is("time", "zone") {
				name += " " + more + " time zone"
			}
		default:
			name += " " + p.next()
		}
	}
	return strings.ReplaceAll(name, `"`, "")
}

func (p *postgresParser) atom() (postgresNode, error) {
	word := p.next()
	switch {
	case word == "":
		return postgresNode{}, errNative
	case word == "(":
		n, err := p.or()
		if err == nil && !p.is(")") {
			err = errNative
		}
		return n, err
	case word == "-" && bareNumber.MatchString(p.peek()):
		return postgresNode{text: "-" + p.next(), kind: schema.KindDecimal, literal: true}, nil
	case word[0] == '\'':
		return postgresNode{text: word, kind: schema.KindText, literal: true}, nil
	case bareNumber.MatchString(word):
		kind := schema.KindInt
		if strings.Contains(word, ".") {
			kind = schema.KindDecimal
		}
		return postgresNode{text: word, kind: kind, literal: true}, nil
	case p.peek() == "(":
		return p.call(word)
	}
	return p.column(word)
}

func (p *postgresParser) column(word string) (postgresNode, error) {
	if inner, ok := strings.CutPrefix(word, `"`); ok {
		word = strings.ReplaceAll(strings.TrimSuffix(inner, `"`), `""`, `"`)
	}
	i := p.table.Column(word)
	if i < 0 || p.peek() == "." {
		return postgresNode{}, errNative
	}
	return postgresNode{text: quotePostgres(word), kind: p.table.Columns[i].Kind}, nil
}

// call reads the functions that every engine has.
func (p *postgresParser) call(name string) (postgresNode, error) {
	name = strings.ToUpper(name)
	if name == "LENGTH" || name == "CHARACTER_LENGTH" {
		name = "CHAR_LENGTH"
	}
	p.next() // (
	var args []string
	var of schema.Kind
	for {
		n, err := p.sum()
		if err != nil {
			return n, err
		}
		of = max(of, n.kind)
		args = append(args, n.text)
		if !p.is(",") {
			break
		}
	}
	if !p.is(")") {
		return postgresNode{}, errNative
	}
	node := postgresNode{text: name + "(" + strings.Join(args, ", ") + ")", kind: of}
	switch {
	case name == "COALESCE":
		return node, nil
	case len(args) != 1:
		return node, errNative
	case name == "ABS" && node.numeric(), (name == "LOWER" || name == "UPPER") && of == schema.KindText:
		return node, nil
	case name == "CHAR_LENGTH" && of == schema.KindText:
		node.kind = schema.KindInt
		return node, nil
	}
	return node, errNative
}
