package schema

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
)

// A form is the one text (or bytes) of all texts of a kind that mean the same value. Equal forms of one formKind are the same
// value in whichever of its columns; the other way round there are exceptions, which SameValue knows. Offices compare hashes of
// forms, so a form may change only together with WireVersion.

// formKind groups the kinds whose values have one form: whatever a value of one means, a value of the other can mean.
func formKind(k Kind) Kind {
	switch k {
	case KindBool, KindInt:
		return KindDecimal
	default:
		return k
	}
}

// oneForm says that values of the two columns are the same when their forms are.
func oneForm(a, b *Column) bool { return formKind(a.Kind) == formKind(b.Kind) }

// appendForm appends the form of a canonical text of the column.
func appendForm(b []byte, c *Column, text string) []byte {
	switch c.Kind {
	case KindBool, KindInt, KindDecimal:
		return appendNumber(b, text)
	case KindFloat:
		return appendFloat(b, text, c.Size)
	case KindText:
		if c.Fixed { // the padding of char(n) is not part of the value
			text = strings.TrimRight(text, " ")
		}
	case KindBytes:
		b = append(b, text...)
		for n := len(text); c.Fixed && n < c.Size; n++ { // that of binary(n) is
			b = append(b, 0)
		}
		return b
	case KindTime, KindTimestamp, KindTimestampTZ:
		text = shortFraction(text)
	case KindJSON:
		if form, ok := appendJSON(b, text); ok {
			return form
		}
		b = append(b, notJSON)
	case KindUUID:
		for i := range len(text) {
			b = append(b, lower(text[i]))
		}
		return b
	case KindNative: // {1} of integer[] is not {1} of text[]
		b = append(append(b, c.Native...), 0)
	}
	return append(b, text...)
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

func shortFraction(text string) string {
	if strings.IndexByte(text, '.') < 0 {
		return text
	}
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// The first byte of a number's form: its sign, or why it has none.
const (
	numberZero     = '0' // nothing follows
	numberNegative = '-' // then the exponent of the last digit as a varint, then the digits, neither first nor last a zero
	numberPositive = '+'
	numberOther    = '?' // then the text: NaN, Infinity, and exponents beyond counting
)

// appendNumber appends the form of a decimal number in any notation: 1.50, 1.5, 15e-1 and +01.5 are one.
func appendNumber(b []byte, text string) []byte {
	sign, mantissa, exponent, ok := cutNumber(text)
	if !ok {
		return append(append(b, numberOther), text...)
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	exponent -= int64(len(fraction))
	for len(fraction) > 0 && fraction[len(fraction)-1] == '0' {
		fraction = fraction[:len(fraction)-1]
		exponent++
	}
	if fraction == "" {
		for len(whole) > 0 && whole[len(whole)-1] == '0' {
			whole = whole[:len(whole)-1]
			exponent++
		}
	}
	for len(whole) > 0 && whole[0] == '0' {
		whole = whole[1:]
	}
	if whole == "" {
		fraction = strings.TrimLeft(fraction, "0")
	}
	if whole == "" && fraction == "" {
		return append(b, numberZero) // zero has no sign
	}
	b = binary.AppendVarint(append(b, sign), exponent)
	return append(append(b, whole...), fraction...)
}

// exponentDigits bounds the exponents that can be counted with.
const exponentDigits = 17

// cutNumber takes a number apart: digits with at most one point between them, and the exponent.
func cutNumber(text string) (sign byte, mantissa string, exponent int64, ok bool) {
	sign, mantissa = numberPositive, text
	if text != "" && (text[0] == '-' || text[0] == '+') {
		sign, mantissa = text[0], text[1:]
	}
	points, count := 0, 0
	for i := range len(mantissa) {
		switch c := mantissa[i]; {
		case c >= '0' && c <= '9':
			count++
		case c == '.' && points == 0:
			points++
		case (c == 'e' || c == 'E') && count > 0:
			power := mantissa[i+1:]
			mantissa = mantissa[:i]
			if strings.Trim(mantissa, "0.") == "" {
				return sign, "0", 0, digits(strings.TrimLeft(power, "+-"))
			}
			exponent, err := strconv.ParseInt(power, 10, 64)
			return sign, mantissa, exponent, err == nil && len(power) <= exponentDigits
		default:
			return 0, "", 0, false
		}
	}
	return sign, mantissa, 0, count > 0
}

// appendFloat appends the bits of a float as a double: a float of 32 bits has the same value there. Zero has no sign and NaN
// one form, as the databases compare them.
func appendFloat(b []byte, text string, size int) []byte {
	f, err := strconv.ParseFloat(text, size)
	switch {
	case err != nil:
		return append(append(b, numberOther), text...)
	case f == 0:
		f = 0 // of either sign
	case math.IsNaN(f):
		f = math.NaN()
	}
	return binary.LittleEndian.AppendUint64(append(b, numberPositive), math.Float64bits(f))
}

func shortestFloat(text string, size int) string {
	f, err := strconv.ParseFloat(text, size)
	switch {
	case err != nil:
		return ""
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return strconv.FormatFloat(f, 'g', -1, size)
}
