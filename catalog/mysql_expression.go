package catalog

import (
	"database/sql"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"cdc-sidecar/schema"
)

// mysqlDefault makes an expression of a column's default. MariaDB tells an expression's text, MySQL a value, unless EXTRA says
// that it is an expression.
//
// ON UPDATE CURRENT_TIMESTAMP has no place of its own in a definition: it stands in the Text of a default that needs none (now,
// or no default at all), in the words that may follow the default in a statement; behind any other default, the two together
// are native text.
type mysqlDefault struct {
	engine schema.Engine
	column *schema.Column
	extra  string // in small letters
}

func (m mysqlDefault) expression(text sql.NullString) schema.Expression {
	e := m.plain(text)
	_, follows, ok := strings.Cut(m.extra, "on update ")
	if !ok {
		return e
	}
	note := "ON UPDATE " + strings.ToUpper(strings.TrimSuffix(follows, "()")) // which MariaDB says and MySQL does not
	switch e.Kind {
	case schema.NoExpression, schema.CurrentTime:
		e.Text = note
		return e
	}
	word := text.String
	if m.engine == schema.MySQL {
		word = "'" + strings.ReplaceAll(strings.ReplaceAll(word, `\`, `\\`), "'", "''") + "'"
	}
	return schema.Expression{Kind: schema.NativeText, Text: word + " " + note}
}

// MySQLDefault makes an expression of a default that a statement gives to the column, as MariaDB would write it; onUpdate is what
// follows ON UPDATE, in small letters, or empty.
func MySQLDefault(c *schema.Column, text, onUpdate string) schema.Expression {
	m := mysqlDefault{engine: schema.MariaDB, column: c}
	if onUpdate != "" {
		m.extra = "on update " + onUpdate
	}
	return m.expression(sql.NullString{String: text, Valid: text != ""})
}

// MySQLExpression makes an expression of what a check or a generated column says in a statement.
func MySQLExpression(text string) schema.Expression { return mysqlExpression(schema.MariaDB, text) }

func (m mysqlDefault) plain(text sql.NullString) schema.Expression {
	switch {
	case !text.Valid, m.engine == schema.MariaDB && text.String == "NULL": // which is what no default means as well
		return schema.Expression{}
	case m.isNow(text.String):
		return schema.Expression{Kind: schema.CurrentTime}
	case m.engine == schema.MySQL && !strings.Contains(m.extra, "default_generated"):
		return m.literal(text.String, text.String)
	}
	return m.said(text.String)
}

// said is of a default that is an expression's text.
func (m mysqlDefault) said(text string) schema.Expression {
	if m.engine == schema.MySQL {
		text = mysqlUnescaped(text)
	}
	if strings.EqualFold(text, "uuid()") {
		return schema.Expression{Kind: schema.RandomUUID}
	}
	tokens, ok := mysqlTokens(text)
	if !ok {
		return m.literal("", text) // of bits or bytes, or native
	}
	switch tokens = withoutBrackets(tokens); {
	case len(tokens) == 1 && tokens[0].kind == mysqlString, len(tokens) == 1 && tokens[0].kind == mysqlNumber:
		return m.literal(tokens[0].text, text)
	case len(tokens) == 2 && tokens[0].text == "-" && tokens[1].kind == mysqlNumber:
		return m.literal("-"+tokens[1].text, text)
	}
	return schema.Expression{Kind: schema.PortableText, Text: portable(simplified(tokens))}
}

// isNow: in a column of a date or a time of the day, the day or the time is meant.
func (m mysqlDefault) isNow(text string) bool {
	name, _, _ := strings.Cut(strings.ToLower(text), "(")
	switch m.column.Kind {
	case schema.KindTimestamp, schema.KindTimestampTZ:
		return name == "current_timestamp" || name == "now"
	case schema.KindDate:
		return name == "current_date" || name == "curdate" || name == "current_timestamp" || name == "now"
	case schema.KindTime:
		return name == "current_time" || name == "curtime" || name == "current_timestamp" || name == "now"
	}
	return false
}

// literal is a constant in the canonical text of its column's kind; native when it has none.
// Without a value, only bits and bytes have one.
func (m mysqlDefault) literal(value, native string) schema.Expression {
	c := m.column
	bits, isBits := bitLiteral(native)
	raw, isHex := hexLiteral(native)
	switch {
	case isBits && c.Kind == schema.KindBit && len(bits) <= c.Size:
		return schema.Expression{Kind: schema.LiteralValue, Text: strings.Repeat("0", c.Size-len(bits)) + bits}
	case isHex && c.Kind == schema.KindBytes && utf8.ValidString(raw): // a definition travels as text
		return schema.Expression{Kind: schema.LiteralValue, Text: raw}
	case isHex && c.Kind == schema.KindBytes:
		return schema.Expression{Kind: schema.NativeText, Text: fmt.Sprintf("0x%x", raw)}
	case c.Kind == schema.KindBytes && !utf8.ValidString(value):
		return schema.Expression{Kind: schema.NativeText, Text: fmt.Sprintf("0x%x", value)}
	case c.Kind == schema.KindBit, value == "" && native != "" && native != "''":
		return schema.Expression{Kind: schema.NativeText, Text: native}
	}
	if (c.Kind == schema.KindTimestamp || c.Kind == schema.KindTimestampTZ) && len(value) == len("2006-01-02") {
		value += " 00:00:00"
	}
	if c.Kind == schema.KindDecimal && c.Scale > 0 {
		whole, fraction, _ := strings.Cut(value, ".")
		value = whole + "." + fraction + strings.Repeat("0", max(c.Scale-len(fraction), 0))
	}
	if canonical := MySQLCanonical(c); canonical != nil {
		text, err := canonical(value)
		if err != nil {
			return schema.Expression{Kind: schema.NativeText, Text: native}
		}
		value = text
	}
	return schema.Expression{Kind: schema.LiteralValue, Text: value}
}

// bitLiteral reads b'101'.
func bitLiteral(text string) (string, bool) {
	inside, ok := strings.CutPrefix(text, "b'")
	inside, closed := strings.CutSuffix(inside, "'")
	digits := strings.TrimLeft(inside, "0")
	return digits, ok && closed && strings.Trim(inside, "01") == ""
}

// hexLiteral reads 0x61 and x'61'.
func hexLiteral(text string) (string, bool) {
	digits, ok := strings.CutPrefix(text, "0x")
	if !ok {
		digits, ok = strings.CutPrefix(strings.ToLower(text), "x'")
		digits = strings.TrimSuffix(digits, "'")
	}
	raw, err := hex.DecodeString(digits)
	return string(raw), ok && err == nil && len(raw) > 0
}

// mysqlExpression makes an expression of what a check or a generated column says.
func mysqlExpression(engine schema.Engine, text string) schema.Expression {
	if engine == schema.MySQL {
		text = mysqlUnescaped(text)
	}
	tokens, ok := mysqlTokens(text)
	if !ok {
		return schema.Expression{Kind: schema.NativeText, Text: text}
	}
	return schema.Expression{Kind: schema.PortableText, Text: portable(simplified(withoutBrackets(tokens)))}
}

// mysqlUnescaped undoes what MySQL's catalog does to the text of expressions: quotes and backslashes stand behind a backslash.
func mysqlUnescaped(text string) string {
	return strings.NewReplacer(`\\`, `\`, `\'`, `'`, `\n`, "\n").Replace(text)
}

type mysqlTokenKind uint8

const (
	mysqlSymbol mysqlTokenKind = iota
	mysqlName
	mysqlString
	mysqlNumber
	mysqlKeyword
	mysqlFunction
)

// mysqlToken is one word of an expression in the small language that every engine has.
type mysqlToken struct {
	kind mysqlTokenKind
	text string // of a name or a string: what is meant
}

// The words that an expression may have. Everything else makes it native.
var (
	portableKeywords  = map[string]bool{"AND": true, "OR": true, "NOT": true, "IN": true, "BETWEEN": true, "IS": true, "NULL": true}
	portableFunctions = map[string]string{
		"LOWER": "LOWER", "LCASE": "LOWER", "UPPER": "UPPER", "UCASE": "UPPER", "CHAR_LENGTH": "CHAR_LENGTH", "CHARACTER_LENGTH": "CHAR_LENGTH",
		"ABS": "ABS", "COALESCE": "COALESCE",
	}
	mysqlIntroducers = map[string]bool{"_UTF8MB4": true, "_UTF8MB3": true, "_UTF8": true, "_LATIN1": true, "_ASCII": true}
	mysqlSymbols     = []string{"<=", ">=", "<>", "!=", "(", ")", ",", "+", "-", "*", "/", "<", "=", ">"}
)

// mysqlTokens takes an expression apart as the servers write it; false when it has something that other engines may not.
func mysqlTokens(text string) ([]mysqlToken, bool) {
	var tokens []mysqlToken
	for i := 0; i < len(text); {
		c := text[i]
		next := mysqlToken{}
		end := i
		switch {
		case c == ' ' || c == '\n' || c == '\t':
			i++
			continue
		case c == '`':
			next.kind = mysqlName
			next.text, end = mysqlQuoted(text, i)
		case c == '\'':
			next.kind = mysqlString
			next.text, end = mysqlQuoted(text, i)
		case c >= '0' && c <= '9':
			next.kind = mysqlNumber
			next.text, end = mysqlDigits(text, i)
		case wordByte(c):
			for end < len(text) && wordByte(text[end]) {
				end++
			}
			word := strings.ToUpper(text[i:end])
			if mysqlIntroducers[word] && end < len(text) && text[end] == '\'' {
				i = end
				continue
			}
			next = portableWord(word, text[end:])
		default:
			for _, symbol := range mysqlSymbols {
				if strings.HasPrefix(text[i:], symbol) {
					next.text, end = symbol, i+len(symbol)
					break
				}
			}
		}
		if end <= i || next.text == "" && next.kind != mysqlString {
			return nil, false
		}
		tokens, i = append(tokens, next), end
	}
	return tokens, len(tokens) > 0
}

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

// portableWord is a keyword or a function; without text it is neither.
func portableWord(word, rest string) mysqlToken {
	if portableKeywords[word] {
		return mysqlToken{mysqlKeyword, word}
	}
	if strings.HasPrefix(rest, "(") {
		return mysqlToken{mysqlFunction, portableFunctions[word]}
	}
	return mysqlToken{}
}

// mysqlDigits reads 12, 1.5; not 1e3 nor 0x10, whose types differ from engine to engine.
func mysqlDigits(text string, at int) (string, int) {
	end := at
	for end < len(text) && (text[end] >= '0' && text[end] <= '9' || text[end] == '.') {
		end++
	}
	if end < len(text) && wordByte(text[end]) || strings.Count(text[at:end], ".") > 1 {
		return "", at
	}
	return text[at:end], end
}

// mysqlQuoted reads a quoted name or string, without an end: nothing. A backslash has a meaning in strings alone.
func mysqlQuoted(text string, at int) (string, int) {
	quote := text[at]
	var b strings.Builder
	for i := at + 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && quote == '\'' && i+1 < len(text):
			i++
			b.WriteByte(mysqlEscaped(text[i]))
		case c != quote:
			b.WriteByte(c)
		case i+1 < len(text) && text[i+1] == quote:
			i++
			b.WriteByte(quote)
		default:
			return b.String(), i + 1
		}
	}
	return "", at
}

// withoutBrackets takes off the ones around the whole.
func withoutBrackets(tokens []mysqlToken) []mysqlToken {
	symbol := func(i int, text string) bool { return tokens[i].kind == mysqlSymbol && tokens[i].text == text }
	for len(tokens) > 2 && symbol(0, "(") {
		depth, end := 0, 0
		for end = range tokens {
			if symbol(end, "(") {
				depth++
			} else if symbol(end, ")") {
				depth--
			}
			if depth == 0 {
				break
			}
		}
		if end != len(tokens)-1 {
			return tokens
		}
		tokens = tokens[1:end]
	}
	return tokens
}

// How strongly operators bind. What is no operator binds strongest.
const (
	bindsOr = iota + 1
	bindsAnd
	bindsNot
	bindsCompare
	bindsAdd
	bindsMultiply
	bindsSign
	bindsWhole
)

func binds(tokens []mysqlToken, at int) int {
	switch t := tokens[at]; {
	case t.kind != mysqlSymbol && t.kind != mysqlKeyword, t.text == "NULL":
		return bindsWhole
	case t.text == "OR":
		return bindsOr
	case t.text == "AND":
		return bindsAnd
	case t.text == "NOT":
		return bindsNot
	case t.text == "-" && isUnary(tokens, at):
		return bindsSign
	case t.text == "+", t.text == "-":
		return bindsAdd
	case t.text == "*", t.text == "/":
		return bindsMultiply
	}
	return bindsCompare
}

// simplified leaves out the brackets that change nothing: MySQL writes many, MariaDB none. Around BETWEEN, whose AND is another
// one, all stay.
func simplified(tokens []mysqlToken) []mysqlToken {
	if slices.ContainsFunc(tokens, func(t mysqlToken) bool { return t.kind == mysqlKeyword && t.text == "BETWEEN" }) {
		return tokens
	}
	for open := 0; open < len(tokens); open++ {
		if tokens[open].kind != mysqlSymbol || tokens[open].text != "(" {
			continue
		}
		left, right := 0, 0 // what stands around binds less than anything when there is nothing
		if open > 0 {
			before := tokens[open-1]
			if before.kind == mysqlFunction || before.kind == mysqlKeyword && before.text == "IN" {
				continue
			}
			if before.text != "(" && before.text != "," {
				left = binds(tokens, open-1)
			}
		}
		end, weakest := inside(tokens, open)
		if end < 0 {
			return tokens
		}
		if end+1 < len(tokens) && tokens[end+1].text != ")" && tokens[end+1].text != "," {
			right = binds(tokens, end+1)
		}
		if weakest > left && weakest >= right && weakest != bindsSign && (weakest != bindsCompare || right != bindsCompare) {
			tokens = slices.Delete(slices.Delete(slices.Clone(tokens), end, end+1), open, open+1)
			open--
		}
	}
	return tokens
}

// inside finds the bracket that closes, and what binds least between the two; -1 and a list: there is more than one value.
func inside(tokens []mysqlToken, open int) (end, weakest int) {
	weakest = bindsWhole
	depth := 0
	for i := open; i < len(tokens); i++ {
		symbol := tokens[i].kind == mysqlSymbol
		switch {
		case symbol && tokens[i].text == "(":
			depth++
		case symbol && tokens[i].text == ")":
			if depth--; depth == 0 {
				return i, weakest
			}
		case symbol && tokens[i].text == "," && depth == 1:
			weakest = 0
		case depth == 1:
			weakest = min(weakest, binds(tokens, i))
		}
	}
	return -1, 0
}

// portable writes tokens as schema.Expression has them.
func portable(tokens []mysqlToken) string {
	var b strings.Builder
	tight := true // no blank comes before the next
	for i, t := range tokens {
		closes := t.kind == mysqlSymbol && (t.text == ")" || t.text == ",")
		if !tight && !closes {
			b.WriteByte(' ')
		}
		switch t.kind {
		case mysqlName:
			b.WriteString(`"` + strings.ReplaceAll(t.text, `"`, `""`) + `"`)
		case mysqlString:
			b.WriteString("'" + strings.ReplaceAll(t.text, "'", "''") + "'")
		default:
			if t.text == "!=" {
				t.text = "<>"
			}
			b.WriteString(t.text)
		}
		tight = t.kind == mysqlFunction || t.kind == mysqlSymbol && (t.text == "(" || t.text == "-" && isUnary(tokens, i))
	}
	return b.String()
}

// isUnary says of a minus that it has nothing on its left.
func isUnary(tokens []mysqlToken, at int) bool {
	if at == 0 {
		return true
	}
	before := tokens[at-1]
	return before.kind == mysqlKeyword || before.kind == mysqlSymbol && before.text != ")"
}
