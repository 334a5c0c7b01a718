package catalog

import (
	"fmt"
	"math/big"
	"strings"

	"cdc-sidecar/schema"
)

// columnDefault is what stands behind DEFAULT for a column of the table that the dialect reads; empty: there is none. have is the
// column as it is, or will be, at the other engine. why says why it has no meaning there.
func (d dialect) columnDefault(c, have *schema.Column, x schema.Expression) (text, why string) {
	if _, update := onUpdate(x); update != "" {
		return d.updatedDefault(c, have, x)
	}
	switch x.Kind {
	case schema.NoExpression, schema.NullValueDefault:
		return "", ""
	case schema.LiteralValue:
		text, why = d.literal(c, have, x.Text)
	case schema.CurrentTime:
		text, why = d.now(have)
	case schema.RandomUUID:
		text, why = d.uuid(have)
	default:
		if text, why = d.computed(x); text != "" && d.to != schema.Postgres && !strings.HasPrefix(text, "(") {
			text = "(" + text + ")"
		}
	}
	if why != "" {
		why = fmt.Sprintf("the default of column %s: %s", c.Name, why)
	}
	return text, why
}

// onUpdate takes a default apart into what a new row gets and what a changed one gets: MySQL's ON UPDATE CURRENT_TIMESTAMP. A
// definition has it as the text of a default that needs none, or at the end of native text.
func onUpdate(x schema.Expression) (before schema.Expression, update string) {
	const word = "ON UPDATE "
	at := strings.Index(strings.ToUpper(x.Text), word)
	switch {
	case at < 0 || at > 0 && x.Text[at-1] != ' ':
		return x, ""
	case at == 0 && (x.Kind == schema.NoExpression || x.Kind == schema.CurrentTime):
		return schema.Expression{Kind: x.Kind}, x.Text
	case x.Kind != schema.NativeText:
		return x, ""
	}
	update, rest := x.Text[at:], strings.TrimSpace(x.Text[:at])
	if len(rest) > 1 && rest[0] == '\'' && rest[len(rest)-1] == '\'' && !strings.Contains(rest, `\`) {
		return schema.Expression{Kind: schema.LiteralValue, Text: strings.ReplaceAll(rest[1:len(rest)-1], "''", "'")}, update
	}
	return schema.Expression{Kind: schema.NativeText, Text: rest}, update
}

// updatedDefault: between MySQL and MariaDB the time of an update is the same.
func (d dialect) updatedDefault(c, have *schema.Column, x schema.Expression) (text, why string) {
	before, update := onUpdate(x)
	text, why = d.columnDefault(c, have, before)
	if related(d.to, d.from.Engine) {
		return strings.TrimSpace(text + " " + update), why
	}
	if why != "" {
		why += "; "
	}
	return text, why + "Postgres does not set column " + c.Name + " whenever its row changes, as " + update + " does"
}

func (d dialect) now(have *schema.Column) (text, why string) {
	postgres := d.to == schema.Postgres
	switch have.Kind {
	case schema.KindDate:
		if postgres {
			return "CURRENT_DATE", ""
		}
		return "(CURRENT_DATE)", ""
	case schema.KindTime:
		if postgres {
			return "LOCALTIME", ""
		}
		return "(CURRENT_TIME)", ""
	case schema.KindTimestamp, schema.KindTimestampTZ:
		if postgres || have.Scale <= 0 {
			return "CURRENT_TIMESTAMP", ""
		}
		return fmt.Sprintf("CURRENT_TIMESTAMP(%d)", have.Scale), ""
	case schema.KindText:
		if postgres {
			return "CURRENT_TIMESTAMP", ""
		}
		return "(CURRENT_TIMESTAMP)", ""
	}
	return "", "the time is no value of a " + have.Native
}

func (d dialect) uuid(have *schema.Column) (text, why string) {
	switch {
	case d.to == schema.Postgres && (have.Kind == schema.KindUUID || have.Kind == schema.KindText):
		return "gen_random_uuid()", ""
	case d.to == schema.Postgres:
	case have.Kind == schema.KindUUID || have.Kind == schema.KindText:
		return "(uuid())", ""
	case have.Kind == schema.KindBytes:
		return "(unhex(replace(uuid(),'-','')))", ""
	}
	return "", "a UUID is no value of a " + have.Native
}

// literal is a constant, given in the canonical text of c, for a column as it is at the other engine.
func (d dialect) literal(c, have *schema.Column, text string) (literal, why string) {
	if d.to == schema.Postgres {
		return postgresLiteral(c, have, text)
	}
	return mysqlLiteral(have, text)
}

func postgresLiteral(c, have *schema.Column, text string) (literal, why string) {
	switch have.Kind {
	case schema.KindBytes:
		return fmt.Sprintf(`'\x%x'::bytea`, text), ""
	case schema.KindBool:
		return map[bool]string{true: "true", false: "false"}[text != "0" && text != ""], ""
	case schema.KindInt, schema.KindDecimal, schema.KindFloat:
		if number(text) {
			return text, ""
		}
		return postgresConstant(text), ""
	case schema.KindDate, schema.KindTimestamp, schema.KindTimestampTZ:
		if date, _, _ := strings.Cut(text, " "); strings.HasPrefix(date, "0000-") || strings.Contains(date, "-00") {
			return "", "Postgres has no day " + date
		}
		if have.Kind == schema.KindTimestampTZ && c.Kind == schema.KindTimestampTZ && text != "infinity" && text != "-infinity" {
			text += "+00"
		}
	case schema.KindTime:
		if strings.HasPrefix(text, "-") || len(text) > 2 && (text[2] != ':' || text > "24:00:00") {
			return "", "Postgres has no time of day " + text
		}
	}
	if strings.ContainsRune(text, 0) {
		return "", "Postgres has no text with a zero byte"
	}
	return postgresConstant(text), ""
}

func mysqlLiteral(have *schema.Column, text string) (literal, why string) {
	switch have.Kind {
	case schema.KindBytes:
		if literal = "''"; text != "" {
			literal = fmt.Sprintf("0x%x", text)
		}
		if strings.HasSuffix(have.Native, "blob") {
			literal = "(" + literal + ")"
		}
		return literal, ""
	case schema.KindBool, schema.KindInt, schema.KindDecimal, schema.KindFloat, schema.KindYear:
		switch {
		case text == "true" || text == "false":
			return map[bool]string{true: "1", false: "0"}[text == "true"], ""
		case number(text):
			return text, ""
		}
		return "", "there is no number " + text
	case schema.KindDate, schema.KindTimestamp, schema.KindTimestampTZ:
		if len(text) < 10 || text[4] != '-' || strings.HasSuffix(text, "BC") {
			return "", "there is no day " + text
		}
	case schema.KindBit:
		return "b'" + text + "'", ""
	case schema.KindNative:
		return "", "a constant of type " + have.Native + " is not known"
	}
	if literal = mysqlConstant(text); have.Kind == schema.KindJSON || strings.HasSuffix(have.Native, "text") {
		literal = "(" + literal + ")"
	}
	return literal, ""
}

// number reports whether a text is a number as every engine writes it: no NaN, no Infinity, no octal.
func number(s string) bool {
	digits := false
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits = true
		case c == '.', c == 'e' && digits, c == '+' && i > 0 && s[i-1] == 'e', c == '-' && (i == 0 || s[i-1] == 'e'):
		default:
			return false
		}
	}
	return digits
}

var bare = strings.NewReplacer(" ", "", "(", "", ")", "", "`", "", `"`, "")

// sameDefault reports whether two defaults, as one engine writes them, are the same: 0 and 0.00 are, and so are expressions
// without strings that the server wrote anew, with other brackets.
func sameDefault(a, b string) bool {
	a, b = unwrapped(a), unwrapped(b)
	if a == b || !strings.Contains(a+b, "'") && strings.EqualFold(bare.Replace(a), bare.Replace(b)) {
		return true
	}
	x, ok := new(big.Rat).SetString(a)
	if !ok || !number(a) || !number(b) {
		return false
	}
	y, ok := new(big.Rat).SetString(b)
	return ok && x.Cmp(y) == 0
}

// unwrapped is an expression without the brackets around the whole of it.
func unwrapped(s string) string {
	for strings.HasPrefix(s, "(") && strings.HasSuffix(s, ")") {
		depth, whole := 0, true
		for i, w := range words(s) {
			switch w {
			case "(":
				depth++
			case ")":
				depth--
			}
			whole = whole && (depth > 0 || i == len(words(s))-1)
		}
		if !whole {
			return s
		}
		s = strings.TrimSpace(s[1 : len(s)-1])
	}
	return s
}

// zero is a constant that rows get which are there when a column is added that has no default and must not be NULL.
func (d dialect) zero(have *schema.Column) string {
	text := ""
	switch have.Kind {
	case schema.KindBool, schema.KindInt, schema.KindDecimal, schema.KindFloat:
		text = "0"
	case schema.KindYear:
		text = "2000"
	case schema.KindDate:
		text = "1970-01-01"
	case schema.KindTime:
		text = "00:00:00"
	case schema.KindTimeTZ:
		text = "00:00:00+00"
	case schema.KindTimestamp, schema.KindTimestampTZ:
		text = "1970-01-02 00:00:00"
	case schema.KindInterval:
		text = "00:00:00"
	case schema.KindJSON:
		text = "null"
	case schema.KindUUID:
		text = "00000000-0000-0000-0000-000000000000"
	case schema.KindEnum:
		if len(have.Labels) > 0 {
			text = have.Labels[0]
		}
	case schema.KindBit:
		text = strings.Repeat("0", max(have.Size, 1))
	}
	literal, _ := d.literal(have, have, text)
	return literal
}
