package apply

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// A converter gives a value's text for the target's column, or says why that column cannot hold the value exactly. A nil
// converter passes every text as it is. Databases round, cut and pad what they are given, some without a word; so whatever
// a database might change is looked at here, before it is written.
type converter func(text string) (string, error)

// converterFor compares two columns once, so that the work for each value is as little as the difference between them.
func converterFor(from, to schema.Column, source, target schema.Engine) converter {
	p := pair{from: from, to: to, toMySQL: target != schema.Postgres, crossing: (source == schema.Postgres) != (target == schema.Postgres), source: source, target: target}
	if !catalog.Mix(&from, &to, source, target) {
		return p.never()
	}
	byKind := map[schema.Kind]func() converter{
		schema.KindBool: p.toBool, schema.KindInt: p.toInt, schema.KindYear: p.toYear, schema.KindDecimal: p.toDecimal,
		schema.KindFloat: p.toFloat, schema.KindText: p.toText, schema.KindBytes: p.toBytes, schema.KindDate: p.toDate,
		schema.KindTime: p.toTime, schema.KindTimestamp: p.toTimestamp, schema.KindTimestampTZ: p.toTimestampTZ,
		schema.KindJSON: p.toJSON, schema.KindUUID: p.toUUID, schema.KindEnum: p.toEnum, schema.KindSet: p.toSet,
		schema.KindBit: p.toBit, schema.KindNative: p.toNative, schema.KindInterval: p.toServer, schema.KindTimeTZ: p.toServer,
	}
	if f := byKind[to.Kind]; f != nil {
		return f()
	}
	if from.Kind == to.Kind && !p.crossing {
		return nil
	}
	return p.never()
}

// pair is a column there and the column of the same name here.
type pair struct {
	from, to       schema.Column
	source, target schema.Engine
	toMySQL        bool // the target is MySQL or MariaDB
	crossing       bool // one side is Postgres, the other is not
}

// intoMySQL and intoPostgres: the value comes from the other family.
func (p pair) intoMySQL() bool    { return p.crossing && p.toMySQL }
func (p pair) intoPostgres() bool { return p.crossing && !p.toMySQL }

func check(f func(text string) error) converter {
	return func(text string) (string, error) { return text, f(text) }
}

// never refuses every value: no rule says that the kinds mean the same.
func (p pair) never() converter {
	err := &misfitError{p.from, p.to}
	return func(string) (string, error) { return "", err }
}

// misfitError says that no value of one column fits into another.
type misfitError struct{ from, to schema.Column }

func (e *misfitError) Error() string {
	return fmt.Sprintf("a %s does not fit into a %s", describe(e.from), describe(e.to))
}

func describe(c schema.Column) string {
	if c.Native != "" {
		return c.Native + " (" + c.Kind.String() + ")"
	}
	return c.Kind.String()
}

func (p pair) toBool() converter {
	switch {
	case p.from.Kind == schema.KindBool:
		return nil
	case p.from.Kind == schema.KindInt, p.from.Kind == schema.KindDecimal, p.from.Kind == schema.KindBit && p.from.Size == 1:
		return func(text string) (string, error) {
			if whole, ok := wholeNumber(text); ok && (whole == "0" || whole == "1") {
				return whole, nil
			}
			return "", errors.New("a boolean holds 0 and 1 only")
		}
	}
	return p.never()
}

// wholeNumber cuts a fraction of zeros off.
func wholeNumber(text string) (string, bool) {
	whole, fraction, _ := strings.Cut(text, ".")
	if !digitsOnly(strings.TrimPrefix(whole, "-")) || strings.Trim(fraction, "0") != "" {
		return "", false
	}
	if whole == "-0" {
		whole = "0"
	}
	return whole, true
}

func digitsOnly(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func (p pair) toInt() converter {
	bits := p.to.Size
	if bits == 0 {
		bits = 64
	}
	inRange := func(text string) (string, error) {
		if err := intRange(text, bits, p.to.Unsigned); err != nil {
			return "", err
		}
		return text, nil
	}
	switch p.from.Kind {
	case schema.KindBool:
		return nil
	case schema.KindInt:
		wider := p.from.Size != 0 && (bits > p.from.Size || bits == p.from.Size && p.from.Unsigned == p.to.Unsigned)
		if wider && (p.from.Unsigned || !p.to.Unsigned) {
			return nil
		}
		return inRange
	case schema.KindDecimal, schema.KindYear:
		return func(text string) (string, error) {
			whole, ok := wholeNumber(text)
			if !ok {
				return "", errors.New("not a whole number")
			}
			if p.from.Kind == schema.KindYear {
				whole = cmp.Or(strings.TrimLeft(whole, "0"), "0")
			}
			return inRange(whole)
		}
	case schema.KindText:
		return func(text string) (string, error) {
			if !canonicalInt(text) {
				return "", errors.New("the text is not an integer in its plain form")
			}
			return inRange(text)
		}
	}
	return p.never()
}

// canonicalInt: no sign but a minus, no leading zeros, no blanks: what comes back as the same text.
func canonicalInt(s string) bool {
	digits := strings.TrimPrefix(s, "-")
	return digitsOnly(digits) && (digits[0] != '0' || s == "0")
}

func intRange(text string, bits int, unsigned bool) error {
	var err error
	if unsigned {
		_, err = strconv.ParseUint(text, 10, bits)
	} else {
		_, err = strconv.ParseInt(text, 10, bits)
	}
	switch {
	case err == nil:
		return nil
	case unsigned:
		return fmt.Errorf("out of the range of an unsigned integer of %d bits", bits)
	default:
		return fmt.Errorf("out of the range of an integer of %d bits", bits)
	}
}

// toYear: MySQL takes 1 to 99 for years of two digits, so anything outside its own range is refused.
func (p pair) toYear() converter {
	switch p.from.Kind {
	case schema.KindYear:
		return nil
	case schema.KindInt:
		return check(func(text string) error {
			if n, err := strconv.Atoi(text); err != nil || n != 0 && (n < 1901 || n > 2155) {
				return errors.New("a year holds 0 and 1901 to 2155")
			}
			return nil
		})
	}
	return p.never()
}

func (p pair) toDecimal() converter {
	limited := p.to.Size > 0
	switch p.from.Kind {
	case schema.KindBool, schema.KindInt:
		if !limited {
			return nil
		}
		return check(func(text string) error { return p.decimalFits(text) })
	case schema.KindDecimal:
		if !limited && p.intoPostgres() && p.from.Scale == widestScale {
			return func(text string) (string, error) { return strings.TrimSuffix(strings.TrimRight(text, "0"), "."), nil }
		}
		fits := !limited || p.from.Size > 0 && p.to.Scale >= p.from.Scale && p.to.Size-p.to.Scale >= p.from.Size-p.from.Scale
		if fits && !p.intoMySQL() {
			return nil
		}
		return check(func(text string) error { return p.decimalFits(text) })
	case schema.KindText:
		return check(func(text string) error {
			if !p.toMySQL && (text == "NaN" || text == "Infinity" || text == "-Infinity") {
				return nil
			}
			whole, fraction, hasFraction := strings.Cut(text, ".")
			negativeZero := strings.HasPrefix(text, "-") && strings.Trim(text, "-0.") == ""
			if !canonicalInt(whole) && whole != "-0" || hasFraction && !digitsOnly(fraction) || negativeZero {
				return errors.New("the text is not a decimal in its plain form")
			}
			if limited && len(fraction) != p.to.Scale {
				return fmt.Errorf("the text has %d digits after the point, the column %d", len(fraction), p.to.Scale)
			}
			return p.decimalFits(text)
		})
	}
	return p.never()
}

// widestScale is the scale of MySQL's decimals that stand for a numeric without limits: their last zeros are nobody's.
const widestScale = 30

// decimalFits: Postgres and MySQL both round a fraction that is too long, MySQL with a note that nobody reads.
func (p pair) decimalFits(text string) error {
	to := p.to
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	if !digitsOnly(whole) {
		if !p.toMySQL {
			return nil // NaN, Infinity: Postgres knows which of its numerics hold them, and says so
		}
		return fmt.Errorf("a %s holds no %s", describe(to), text)
	}
	if to.Size == 0 {
		return nil
	}
	if n := len(strings.TrimRight(fraction, "0")); n > max(to.Scale, 0) {
		return fmt.Errorf("%d digits after the point, the column holds %d", n, max(to.Scale, 0))
	}
	whole = strings.TrimLeft(whole, "0")
	if to.Scale < 0 && len(whole)-len(strings.TrimRight(whole, "0")) < min(-to.Scale, len(whole)) {
		return fmt.Errorf("the column holds multiples of 1e%d", -to.Scale)
	}
	if n := len(whole); n > to.Size-to.Scale && to.Scale <= to.Size { // a scale above the precision: Postgres says what does not fit
		return fmt.Errorf("%d digits before the point, the column holds %d", n, to.Size-to.Scale)
	}
	return nil
}

func (p pair) toFloat() converter {
	bits := p.to.Size
	switch p.from.Kind {
	case schema.KindFloat:
		digits, rounds := p.floatDigits()
		if p.from.Size == bits && !rounds && !p.intoMySQL() {
			return nil
		}
		return func(text string) (string, error) {
			v, err := strconv.ParseFloat(text, p.from.Size)
			if err != nil {
				return "", errors.New("not a number")
			}
			if p.toMySQL && (math.IsNaN(v) || math.IsInf(v, 0)) {
				return "", fmt.Errorf("MySQL has no %s", text)
			}
			if bits == 32 && p.from.Size != 32 && !math.IsNaN(v) && float64(float32(v)) != v {
				return "", errors.New("the column holds fewer digits")
			}
			if rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'f', digits, bits), bits); rounds && rounded != v {
				return "", fmt.Errorf("the column rounds to %d digits after the point", digits)
			}
			return strconv.FormatFloat(v, 'g', -1, bits), nil
		}
	case schema.KindInt:
		limit := int64(1) << 53 // whole numbers up to here are exact in the mantissa
		if bits == 32 {
			limit = 1 << 24
		}
		return check(func(text string) error {
			if n, err := strconv.ParseInt(text, 10, 64); err != nil || n > limit || n < -limit {
				return errors.New("the column holds whole numbers of this size only roughly")
			}
			return nil
		})
	}
	return p.never()
}

// floatDigits: MySQL's float(7,2) rounds to two digits.
func (p pair) floatDigits() (digits int, rounds bool) {
	_, list, _ := strings.Cut(p.to.Native, ",")
	list, _, rounds = strings.Cut(list, ")")
	digits, err := strconv.Atoi(list)
	return digits, rounds && err == nil && p.toMySQL
}

// shownValue is how much of a value an error shows: enough to find it, not so much that a log fills with a document.
const shownValue = 64

func shorten(s string) string {
	if len(s) <= shownValue {
		return s
	}
	cut := shownValue
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
