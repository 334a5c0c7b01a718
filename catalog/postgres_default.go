package catalog

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"cdc-sidecar/schema"
)

// postgresExpressions reads expressions of one table as Postgres writes them: with every operator in parentheses, and the type said
// of every constant.
type postgresExpressions struct {
	table         *schema.Table
	defaultSchema string
}

var (
	nextvalAlone = regexp.MustCompile(`^\(?nextval\('([^']|'')+'::regclass\)\)?(::[a-z]+)?$`)
	typedString  = regexp.MustCompile(`^'((?:[^']|'')*)'::(.+)$`)
	bareNumber   = regexp.MustCompile(`^-?\d+(\.\d+)?$`)
	castCall     = regexp.MustCompile(`^\(((?:'now'::text|[\w.]+(?:\(\d*\))?))\)::(.+)$`)
	timeCall     = regexp.MustCompile(`^(now|transaction_timestamp|statement_timestamp|clock_timestamp)\(\)$|^(CURRENT_TIMESTAMP|LOCALTIMESTAMP)(\(\d\))?$|^'now'::text$`)
	uuidCall     = regexp.MustCompile(`^(gen_random_uuid|(\w+\.)?uuid_generate_v4)\(\)$`)
)

func plainNextval(text string) bool { return nextvalAlone.MatchString(text) }

// defaultOf classifies a default of a column; native is the column's type behind all domains, without lengths.
func (e *postgresExpressions) defaultOf(text string, c *schema.Column, native string) schema.Expression {
	if is, known := defaultCall(text, c, native); known {
		return is
	}
	if text == "NULL" || strings.HasPrefix(text, "NULL::") {
		return schema.Expression{Kind: schema.NullValueDefault}
	}
	if value, ok := literalOf(text, c, native); ok {
		return schema.Expression{Kind: schema.LiteralValue, Text: value}
	}
	return e.portable(text)
}

// defaultCall knows the calls that mean the time and a new uuid.
func defaultCall(text string, c *schema.Column, native string) (schema.Expression, bool) {
	if m := castCall.FindStringSubmatch(text); m != nil && (baseName(m[2]) == native || c.Kind == schema.KindText && textTypes[baseName(m[2])]) {
		text = m[1]
	}
	switch c.Kind {
	case schema.KindTimestamp, schema.KindTimestampTZ:
		if timeCall.MatchString(text) {
			return schema.Expression{Kind: schema.CurrentTime}, true
		}
	case schema.KindDate:
		if timeCall.MatchString(text) || text == "CURRENT_DATE" {
			return schema.Expression{Kind: schema.CurrentTime}, true
		}
	case schema.KindUUID, schema.KindText:
		if uuidCall.MatchString(text) {
			return schema.Expression{Kind: schema.RandomUUID}, true
		}
	}
	return schema.Expression{}, false
}

var (
	textTypes   = map[string]bool{"text": true, "character varying": true, "bpchar": true, "character": true, "name": true}
	numberTypes = map[string]bool{"smallint": true, "integer": true, "bigint": true, "numeric": true, "real": true, "double precision": true}
)

// literalOf is the canonical text of a constant. A constant of another type than the column's is converted as rows are written,
// by rules of the server's: that is no literal.
func literalOf(text string, c *schema.Column, native string) (string, bool) {
	if m := typedString.FindStringSubmatch(text); m != nil {
		of := strings.ReplaceAll(baseName(m[2]), `"`, "")
		if of != strings.ReplaceAll(native, `"`, "") && (c.Kind != schema.KindText || !textTypes[of]) && !numberTypes[of] {
			return "", false
		}
		text = strings.ReplaceAll(m[1], "''", "'")
		if numberTypes[of] && !bareNumber.MatchString(text) && of != native {
			return "", false
		}
	} else if !bareNumber.MatchString(text) && text != "true" && text != "false" {
		return "", false
	}
	switch c.Kind {
	case schema.KindBool:
		return map[string]string{"true": "1", "false": "0", "t": "1", "f": "0"}[text], len(text) > 0 && strings.Contains("true false t f", text)
	case schema.KindInt:
		return text, bareNumber.MatchString(text) && !strings.Contains(text, ".")
	case schema.KindDecimal:
		return scaled(text, c.Scale)
	case schema.KindNative:
		return "", false
	}
	if canonical := PostgresCanonical(c); canonical != nil {
		var err error
		if text, err = canonical(text); err != nil {
			return "", false
		}
	}
	return text, utf8.ValidString(text)
}

// scaled is a number as a column with that scale has it. One with more digits is rounded as rows are written.
func scaled(text string, scale int) (string, bool) {
	_, fraction, _ := strings.Cut(text, ".")
	switch {
	case !bareNumber.MatchString(text):
		return text, text == "NaN" || strings.HasSuffix(text, "Infinity")
	case scale < 0:
		return text, true
	case len(fraction) > scale:
		return "", false
	case len(fraction) == 0 && scale > 0:
		text += "."
	}
	return text + strings.Repeat("0", scale-len(fraction)), true
}
