package catalog

import (
	"fmt"
	"slices"
	"strings"

	"cdc-sidecar/schema"
)

// dialect writes an expression of one engine for another.
type dialect struct {
	to   schema.Engine
	from *schema.Table // whose columns the names are
}

// related reports whether both are of the family of MySQL, or both a Postgres.
func related(a, b schema.Engine) bool { return (a == schema.Postgres) == (b == schema.Postgres) }

func (d dialect) quote(name string) string {
	if d.to == schema.Postgres {
		return quotePostgres(name)
	}
	return QuoteMySQL(name)
}

func (d dialect) text(s string) string {
	if d.to == schema.Postgres {
		return postgresConstant(s)
	}
	return mysqlConstant(s)
}

// condition is an expression that is true or not, as the other engine writes it; why says what it has no words for.
func (d dialect) condition(x schema.Expression) (text, why string) { return d.expression(x, true) }

// computed is an expression that gives a value.
func (d dialect) computed(x schema.Expression) (text, why string) { return d.expression(x, false) }

func (d dialect) expression(x schema.Expression, condition bool) (text, why string) {
	switch x.Kind {
	case schema.NativeText:
		if d.to == d.from.Engine {
			return x.Text, ""
		}
		return "", fmt.Sprintf("%s does not know what %s means by %s", d.to, d.from.Engine, x.Text)
	case schema.PortableText, schema.LiteralValue:
	default:
		return "", fmt.Sprintf("an expression of kind %q stands for nothing there", x.Kind)
	}
	p := translation{dialect: d, words: words(x.Text)}
	p.or(condition)
	if p.why == "" && p.at < len(p.words) {
		p.fail("%q is unexpected", p.words[p.at])
	}
	if p.why != "" {
		return "", fmt.Sprintf("of %s: %s", x.Text, p.why)
	}
	return strings.TrimSpace(p.out.String()), ""
}

// translation reads the small language of schema.PortableText and writes it in the words of an engine. What it does not know, it
// does not guess: why is then not empty.
type translation struct {
	dialect
	words []string
	at    int
	out   strings.Builder
	why   string
}

// words are the words of an expression: names and strings with their quotes, numbers, words, signs.
func words(text string) (all []string) {
	const signs = "<=>!"
	for i := 0; i < len(text); {
		c, from := text[i], i
		switch {
		case c == ' ' || c == '\n' || c == '\t':
			i++
			continue
		case c == '"' || c == '\'':
			for i++; i < len(text); i++ {
				if text[i] != c {
					continue
				}
				if i++; i >= len(text) || text[i] != c {
					break
				}
			}
		case strings.IndexByte(signs, c) >= 0:
			for i < len(text) && strings.IndexByte(signs, text[i]) >= 0 {
				i++
			}
		case wordPart(c):
			for i < len(text) && (wordPart(text[i]) || (text[i] == '-' || text[i] == '+') && numberBegins(text[from:i])) {
				i++
			}
		default:
			i++
		}
		all = append(all, text[from:i])
	}
	return all
}

func wordPart(c byte) bool {
	return c == '.' || c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c >= 0x80
}

// numberBegins: 1e, of 1e-5.
func numberBegins(s string) bool {
	return s[0] >= '0' && s[0] <= '9' && s[len(s)-1]|0x20 == 'e'
}

func (p *translation) fail(format string, args ...any) {
	if p.why == "" {
		p.why = fmt.Sprintf(format, args...)
	}
	p.at = len(p.words)
}

func (p *translation) peek() string {
	if p.at < len(p.words) {
		return p.words[p.at]
	}
	return ""
}

// is reports whether the next words are these, and takes them.
func (p *translation) is(words ...string) bool {
	if p.at+len(words) > len(p.words) {
		return false
	}
	for i, w := range words {
		if !strings.EqualFold(p.words[p.at+i], w) {
			return false
		}
	}
	p.at += len(words)
	return true
}

func (p *translation) want(word string) {
	if !p.is(word) {
		p.fail("there is no %s where it should be", word)
	}
}

func (p *translation) write(words ...string) {
	for _, w := range words {
		if s := p.out.String(); s != "" && w != ")" && w != "," && !strings.HasSuffix(s, "(") {
			p.out.WriteByte(' ')
		}
		p.out.WriteString(w)
	}
}

// Each of the functions below reads one level of the grammar; condition says that it is to be true or false, not a value.

func (p *translation) or(condition bool) {
	p.and(condition)
	for condition && p.is("OR") {
		p.write("OR")
		p.and(condition)
	}
}

func (p *translation) and(condition bool) {
	p.not(condition)
	for condition && p.is("AND") {
		p.write("AND")
		p.not(condition)
	}
}

func (p *translation) not(condition bool) {
	if condition && p.is("NOT") {
		p.write("NOT")
		p.not(condition)
		return
	}
	if !condition {
		p.sum()
		return
	}
	p.comparison()
}

// comparison is one, or a condition in brackets, or a column that is true or false by itself.
func (p *translation) comparison() {
	if p.peek() == "(" && p.bracketIsCondition() {
		p.is("(")
		p.write("(")
		p.or(true)
		p.want(")")
		p.write(")")
		return
	}
	from := p.at
	p.sum()
	not := ""
	if p.at+1 < len(p.words) && p.is("NOT") {
		not = "NOT"
		p.write(not)
	}
	switch op := p.peek(); {
	case p.is("IN"):
		p.write("IN")
		p.list()
	case p.is("BETWEEN"):
		p.write("BETWEEN")
		p.sum()
		p.want("AND")
		p.write("AND")
		p.sum()
	case not != "":
		p.fail("there is nothing that NOT belongs to")
	case p.is("IS", "NOT", "NULL"):
		p.write("IS NOT NULL")
	case p.is("IS", "NULL"):
		p.write("IS NULL")
	case slices.Contains([]string{"<", "<=", "=", ">=", ">", "<>"}, op):
		p.at++
		p.write(op)
		p.sum()
	default:
		p.bare(from)
	}
}

// bare is a condition that is a column alone: every engine takes one of its booleans, MySQL any number.
func (p *translation) bare(from int) {
	if p.why != "" {
		return
	}
	mysql := p.to != schema.Postgres && p.from.Engine != schema.Postgres
	if p.at-from != 1 || p.words[from][0] != '"' || !mysql && p.column(p.words[from]).Kind != schema.KindBool {
		p.fail("%q is not true or false by itself", strings.Join(p.words[from:p.at], " "))
	}
}

// bracketIsCondition looks into the bracket that begins here for what only conditions have, or behind it for what goes on with
// a value.
func (p *translation) bracketIsCondition() bool {
	depth := 0
	for i := p.at; i < len(p.words); i++ {
		switch w := strings.ToUpper(p.words[i]); w {
		case "(":
			depth++
		case ")":
			if depth--; depth == 0 {
				return i == p.at+2 && p.words[p.at+1][0] == '"' && (i+1 == len(p.words) || slices.Contains([]string{"AND", "OR", ")"}, strings.ToUpper(p.words[i+1])))
			}
		case "AND", "OR", "NOT", "IN", "BETWEEN", "IS", "<", "<=", "=", ">=", ">", "<>":
			return true
		}
	}
	return false
}

func (p *translation) list() {
	p.want("(")
	p.write("(")
	p.sum()
	for p.is(",") {
		p.write(",")
		p.sum()
	}
	p.want(")")
	p.write(")")
}

func (p *translation) sum() {
	p.factor()
	for {
		op := p.peek()
		switch op {
		case "+", "-", "*":
		case "/": // of whole numbers a Postgres gives a whole number, and MySQL a decimal
			if !related(p.to, p.from.Engine) {
				p.fail("/ of whole numbers is not the same in %s and %s", p.from.Engine, p.to)
			}
		default:
			return
		}
		p.at++
		p.write(op)
		p.factor()
	}
}

func (p *translation) factor() {
	word := p.peek()
	if word == "" {
		p.fail("something is missing at the end")
		return
	}
	p.at++
	switch {
	case word == "-":
		p.write("-")
		p.factor()
	case word == "(":
		p.write("(")
		p.sum()
		p.want(")")
		p.write(")")
	case len(word) > 1 && word[0] == '\'' && word[len(word)-1] == '\'':
		p.write(p.text(strings.ReplaceAll(word[1:len(word)-1], "''", "'")))
	case len(word) > 1 && word[0] == '"':
		c := p.column(word)
		if p.why == "" {
			p.write(p.quote(c.Name))
		}
	case word[0] >= '0' && word[0] <= '9' || word[0] == '.' && len(word) > 1:
		p.write(word)
	case strings.EqualFold(word, "NULL"):
		p.write("NULL")
	case p.peek() == "(":
		p.function(strings.ToUpper(word))
	default:
		p.fail("%q is not known", word)
	}
}

// column is the one that a name in quotes means.
func (p *translation) column(word string) *schema.Column {
	name := strings.ReplaceAll(strings.Trim(word, `"`), `""`, `"`)
	i := p.from.Column(name)
	if i < 0 {
		p.fail("there is no column %s", name)
		return &schema.Column{}
	}
	c := &p.from.Columns[i]
	switch c.Kind {
	case schema.KindBool, schema.KindInt, schema.KindDecimal, schema.KindFloat, schema.KindText, schema.KindDate, schema.KindTime,
		schema.KindTimestamp, schema.KindTimestampTZ, schema.KindYear, schema.KindEnum, schema.KindUUID:
	default:
		if !related(p.to, p.from.Engine) {
			p.fail("values of column %s, which is %s, are not compared in the same way by %s and %s", name, c.Kind, p.from.Engine, p.to)
		}
	}
	return c
}

func (p *translation) function(name string) {
	switch name {
	case "LOWER", "UPPER", "CHAR_LENGTH":
		if !p.textFollows() {
			p.fail("%s of what is no text", name)
			return
		}
	case "ABS", "COALESCE":
	default:
		p.fail("the function %s is not known", name)
		return
	}
	p.write(name + "(")
	p.want("(")
	p.sum()
	for p.is(",") {
		p.write(",")
		p.sum()
	}
	p.want(")")
	p.write(")")
}

// textFollows reports whether the first argument is a text, or a function, which will see for itself.
func (p *translation) textFollows() bool {
	if p.at+1 >= len(p.words) {
		return false
	}
	word := p.words[p.at+1]
	if word[0] == '"' {
		return p.column(word).Kind == schema.KindText
	}
	return word[0] == '\'' || slices.Contains([]string{"LOWER", "UPPER", "COALESCE"}, strings.ToUpper(word))
}

// postgresConstant is a string constant, whatever standard_conforming_strings says of one without a backslash.
func postgresConstant(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return "E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

var mysqlConstants = strings.NewReplacer("\x00", `\0`, "\n", `\n`, "\r", `\r`, "\x1a", `\Z`, "'", `\'`, `\`, `\\`)

// mysqlConstant is a string constant in a session without NO_BACKSLASH_ESCAPES.
func mysqlConstant(s string) string { return "'" + mysqlConstants.Replace(s) + "'" }
