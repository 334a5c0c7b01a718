package apply

import (
	"strings"

	"cdc-sidecar/schema"
)

// appendLiteral writes a value into MySQL text. The connection's charset is utf8mb4, in which no byte of a longer character
// looks like a quote or a backslash, so escaping byte by byte is safe.
func appendLiteral(b []byte, v schema.Value, c *schema.Column) []byte {
	text := v.Text()
	switch {
	case v.IsNull():
		return append(b, "NULL"...)
	case c.Kind == schema.KindBytes, c.Kind == schema.KindNative && (spatial[baseType(c.Native)] || baseType(c.Native) == "vector"):
		return appendQuoted(append(b, "_binary"...), text)
	case !plainNumber(text):
		return appendQuoted(b, text) // whatever the kind: only digits ever stand bare
	}
	switch c.Kind {
	case schema.KindBool, schema.KindInt, schema.KindDecimal, schema.KindYear:
		return append(b, text...)
	case schema.KindFloat:
		if b = append(b, text...); strings.IndexByte(text, 'e') < 0 {
			b = append(b, "e0"...) // a double, not a decimal; keeps the sign of zero too
		}
		return b
	case schema.KindBit:
		return append(append(append(b, "b'"...), text...), '\'')
	default:
		return appendQuoted(b, text)
	}
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

func appendQuoted(b []byte, s string) []byte {
	b = append(b, '\'')
	for i := range len(s) {
		switch c := s[i]; c {
		case 0:
			b = append(b, '\\', '0')
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\x1a':
			b = append(b, '\\', 'Z')
		case '\'', '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '\'')
}
