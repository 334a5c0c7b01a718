package apply

import (
	"strings"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// appendLiteral writes a value into MySQL text. The connection's charset is utf8mb4, in which no byte of a longer character
// looks like a quote or a backslash, so escaping byte by byte is safe.
func appendLiteral(b []byte, v schema.Value, c *schema.Column) []byte {
	text := v.Text()
	switch {
	case v.IsNull():
		return append(b, "NULL"...)
	case c.Kind == schema.KindBytes, catalog.BytesNative(c):
		return appendQuoted(append(b, "_binary"...), text)
	case !plainNumber(text):
		return appendQuoted(b, text) // whatever the kind: only digits ever stand bare
	}
	switch c.Kind {
	case schema.KindBool, schema.KindInt, schema.KindDecimal, schema.KindYear:
		return append(b, text...)
	case schema.KindFloat:
		if b = append(b, floatText(c, text)...); strings.IndexByte(text, 'e') < 0 {
			b = append(b, "e0"...) // a double, not a decimal; keeps the sign of zero too
		}
		return b
	case schema.KindBit:
		return append(append(append(b, "b'"...), text...), '\'')
	default:
		return appendQuoted(b, text)
	}
}

// appendCell writes a value as one of a column of values, whose type the server derives from all of them. A type that holds
// them all exactly is there for text, for bytes and for integers; other numbers are written as text, which becomes the
// target's number as exactly as the number itself.
func appendCell(b []byte, v schema.Value, c *schema.Column) []byte {
	if (c.Kind == schema.KindDecimal || c.Kind == schema.KindFloat) && !v.IsNull() {
		return appendQuoted(b, floatText(c, v.Text()))
	}
	return appendLiteral(b, v, c)
}

// greatestFloat is the shortest text of the greatest float of 32 bits, and greatestAsDouble what it is exactly: the server takes
// the short one for a number beyond the column's range.
const greatestFloat, greatestAsDouble = "3.4028235e+38", "3.4028234663852886e+38"

func floatText(c *schema.Column, text string) string {
	if c.Kind == schema.KindFloat && c.Size == 32 && strings.HasSuffix(text, greatestFloat) {
		return strings.TrimSuffix(text, greatestFloat) + greatestAsDouble
	}
	return text
}

// plainNumber: digits, a sign, a point, an exponent; enough to be harmless in a statement.
func plainNumber(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c == '.', c == 'e' && i > 0, c == '+' && i > 0 && s[i-1] == 'e', c == '-' && (i == 0 || s[i-1] == 'e'):
		default:
			return false
		}
	}
	return s != "" && s != "-"
}

// escapes are the letters by which MySQL text names what must not stand in it as it is; 0: it may.
var escapes = [256]byte{0: '0', '\n': 'n', '\r': 'r', '\x1a': 'Z', '\'': '\'', '\\': '\\'}

func appendQuoted(b []byte, s string) []byte {
	b = append(b, '\'')
	from := 0
	for i := range len(s) {
		if letter := escapes[s[i]]; letter != 0 {
			b = append(append(b, s[from:i]...), '\\', letter)
			from = i + 1
		}
	}
	return append(append(b, s[from:]...), '\'')
}
