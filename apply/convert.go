package apply

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"cdc-sidecar/schema"
)

// A converter gives a value's text for the target's column, or says why that column cannot hold the value exactly. A nil
// converter passes every text as it is. Databases round, cut and pad what they are given, some without a word; so whatever
// a database might change is looked at here, before it is written.
type converter func(text string) (string, error)

// converterFor compares two columns once, so that the work for each value is as little as the difference between them.
func converterFor(from, to schema.Column, source, target schema.Engine) converter {
	p := pair{from: from, to: to, toMySQL: target != schema.Postgres, crossing: (source == schema.Postgres) != (target == schema.Postgres), target: target}
	byKind := map[schema.Kind]func() converter{
		schema.KindBool: p.toBool, schema.KindInt: p.toInt, schema.KindYear: p.toYear, schema.KindDecimal: p.toDecimal,
		schema.KindFloat: p.toFloat, schema.KindText: p.toText, schema.KindBytes: p.toBytes, schema.KindDate: p.toDate,
		schema.KindTime: p.toTime, schema.KindTimestamp: p.toTimestamp, schema.KindTimestampTZ: p.toTimestampTZ,
		schema.KindJSON: p.toJSON, schema.KindUUID: p.toUUID, schema.KindEnum: p.toEnum, schema.KindSet: p.toSet,
		schema.KindBit: p.toBit, schema.KindNative: p.toNative,
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
	from, to schema.Column
	target   schema.Engine
	toMySQL  bool // the target is MySQL or MariaDB
	crossing bool // one side is Postgres, the other is not
}

// intoMySQL and intoPostgres: the value comes from the other family.
func (p pair) intoMySQL() bool    { return p.crossing && p.toMySQL }
func (p pair) intoPostgres() bool { return p.crossing && !p.toMySQL }

func check(f func(text string) error) converter {
	return func(text string) (string, error) { return text, f(text) }
}

// never refuses every value: no rule says that the kinds mean the same.
func (p pair) never() converter {
	err := fmt.Errorf("a %s does not fit into a %s", describe(p.from), describe(p.to))
	return func(string) (string, error) { return "", err }
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
		return check(func(text string) error { return decimalFits(text, p.to) })
	case schema.KindDecimal:
		fits := !limited || p.from.Size > 0 && p.to.Scale >= p.from.Scale && p.to.Size-p.to.Scale >= p.from.Size-p.from.Scale
		if fits && !p.intoMySQL() {
			return nil
		}
		return check(func(text string) error { return decimalFits(text, p.to) })
	case schema.KindText:
		return check(func(text string) error {
			whole, fraction, hasFraction := strings.Cut(text, ".")
			if !canonicalInt(whole) && whole != "-0" || hasFraction && !digitsOnly(fraction) || text == "-0" {
				return errors.New("the text is not a decimal in its plain form")
			}
			if limited && len(fraction) != p.to.Scale {
				return fmt.Errorf("the text has %d digits after the point, the column %d", len(fraction), p.to.Scale)
			}
			return decimalFits(text, p.to)
		})
	}
	return p.never()
}

// decimalFits: Postgres and MySQL both round a fraction that is too long, MySQL with a note that nobody reads.
func decimalFits(text string, to schema.Column) error {
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	if !digitsOnly(whole) {
		if to.Native != "" && strings.HasPrefix(to.Native, "numeric") {
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

func (p pair) toText() converter {
	switch p.from.Kind {
	case schema.KindBytes, schema.KindTimestampTZ:
		return p.never()
	case schema.KindNative:
		if p.toMySQL && !p.crossing {
			return p.never() // a geometry is bytes
		}
	}
	same := p.from.Kind == schema.KindText && p.from.Fixed == p.to.Fixed && !p.intoPostgres()
	capacity := textCapacity(p.to)
	if same && capacity == 0 && (p.to.Size == 0 || p.from.Size != 0 && p.from.Size <= p.to.Size) {
		return nil
	}
	if same && p.from.Native == p.to.Native && p.from.Size == p.to.Size {
		return nil
	}
	return func(text string) (string, error) {
		if p.from.Fixed && p.from.Kind == schema.KindText {
			text = strings.TrimRight(text, " ") // the padding of char(n) is not part of the value
		} else if p.to.Fixed && strings.HasSuffix(text, " ") {
			return "", errors.New("char(n) loses blanks at the end")
		}
		if n := p.to.Size; n > 0 && len(text) > n && utf8.RuneCountInString(text) > n {
			return "", fmt.Errorf("%d characters, the column holds %d", utf8.RuneCountInString(text), n)
		}
		if capacity > 0 && len(text) > capacity {
			return "", fmt.Errorf("%d bytes, the column holds %d", len(text), capacity)
		}
		if !p.toMySQL && strings.IndexByte(text, 0) >= 0 {
			return "", errors.New("Postgres holds no NUL character in text")
		}
		return text, nil
	}
}

// textCapacity is the limit in bytes of MySQL's types that have one: they are cut at blanks without an error.
func textCapacity(c schema.Column) int {
	switch strings.ToLower(c.Native) {
	case "tinytext":
		return 1<<8 - 1
	case "mediumtext":
		return 1<<24 - 1
	case "text":
		if c.Size > 0 { // Postgres' text has no limit
			return 1<<16 - 1
		}
	}
	return 0
}

func (p pair) toBytes() converter {
	switch p.from.Kind {
	case schema.KindBytes:
		if p.to.Size == 0 || p.from.Size == p.to.Size && p.from.Fixed == p.to.Fixed {
			return nil
		}
		return check(func(text string) error {
			if len(text) > p.to.Size || p.to.Fixed && len(text) != p.to.Size {
				return fmt.Errorf("%d bytes, the column holds %d", len(text), p.to.Size)
			}
			return nil
		})
	case schema.KindUUID:
		if p.to.Fixed && p.to.Size != uuidBytes {
			return p.never()
		}
		return func(text string) (string, error) {
			raw, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
			if err != nil || len(raw) != uuidBytes {
				return "", errors.New("not a uuid")
			}
			return string(raw), nil
		}
	}
	return p.never()
}

const uuidBytes = 16

func (p pair) toUUID() converter {
	switch {
	case p.from.Kind == schema.KindUUID:
		return nil
	case p.from.Kind == schema.KindText:
		return check(func(text string) error {
			if !canonicalUUID(text) {
				return errors.New("the text is not a uuid in its plain form: 36 characters, lower case")
			}
			return nil
		})
	case p.from.Kind == schema.KindBytes && p.from.Fixed && p.from.Size == uuidBytes:
		return func(text string) (string, error) {
			if len(text) != uuidBytes {
				return "", fmt.Errorf("%d bytes, a uuid has 16", len(text))
			}
			h := hex.EncodeToString([]byte(text))
			return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:], nil
		}
	}
	return p.never()
}

func canonicalUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch dash := i == 8 || i == 13 || i == 18 || i == 23; {
		case dash && s[i] != '-', !dash && (s[i] < '0' || s[i] > '9' && s[i] < 'a' || s[i] > 'f'):
			return false
		}
	}
	return true
}

func (p pair) toDate() converter {
	if p.from.Kind != schema.KindDate {
		return p.never()
	}
	if !p.crossing {
		return nil
	}
	return check(plainDate)
}

// plainDate is a date that both families have: the years 1 to 9999, no infinity, no zero month or day.
func plainDate(text string) error {
	if len(text) == 10 && text[4] == '-' && text[7] == '-' && digitsOnly(text[:4]) && digitsOnly(text[5:7]) && digitsOnly(text[8:]) &&
		text[:4] != "0000" && text[5:7] != "00" && text[8:] != "00" {
		return nil
	}
	return errors.New("only a day of the years 0001 to 9999 exists in both databases")
}

// fraction checks the digits of a second's fraction: both families round what is too long.
func (p pair) fraction(text string) error {
	if p.to.Scale < 0 {
		return nil
	}
	if _, digits, ok := strings.Cut(text, "."); ok && len(digits) > p.to.Scale {
		return fmt.Errorf("%d digits of the second's fraction, the column holds %d", len(digits), p.to.Scale)
	}
	return nil
}

func (p pair) sameFraction() bool {
	return p.to.Scale < 0 || p.to.Scale >= 6 || p.from.Scale >= 0 && p.from.Scale <= p.to.Scale
}

func (p pair) toTime() converter {
	if p.from.Kind != schema.KindTime {
		return p.never()
	}
	if p.sameFraction() && !p.intoPostgres() {
		return nil
	}
	return check(func(text string) error {
		day := len(text) >= 8 && text[2] == ':' && (text[:2] < "24" || strings.Trim(text, "0:.") == "24")
		if !p.toMySQL && !day {
			return errors.New("Postgres' time ends at 24:00:00 and is never negative")
		}
		return p.fraction(text)
	})
}

// toTimestamp: an instant is not the same value as a wall clock's reading, so the kinds do not mix; except that between
// Postgres' timestamptz and MySQL's DATETIME, the only type there that reaches beyond 2038, instants stand in UTC.
func (p pair) toTimestamp() converter {
	instant := p.from.Kind == schema.KindTimestampTZ && p.intoMySQL()
	if p.from.Kind != schema.KindTimestamp && !instant {
		return p.never()
	}
	return p.datetime(nil)
}

func (p pair) toTimestampTZ() converter {
	instant := p.from.Kind == schema.KindTimestamp && p.intoPostgres() && !strings.HasPrefix(strings.ToLower(p.from.Native), "timestamp")
	if p.from.Kind != schema.KindTimestampTZ && !instant {
		return p.never()
	}
	if p.intoMySQL() {
		return p.datetime(func(text string) error {
			if text < "1970-01-01 00:00:01" { // MariaDB would take the epoch itself for its zero date
				return errors.New("MySQL's TIMESTAMP begins at 1970-01-01 00:00:01; a DATETIME(6) holds it")
			}
			return nil
		})
	}
	return p.datetime(nil)
}

func (p pair) datetime(more func(string) error) converter {
	if !p.crossing && p.sameFraction() {
		return nil
	}
	return check(func(text string) error {
		if p.crossing {
			if err := plainDate(text[:min(len(text), 10)]); err != nil || strings.HasSuffix(text, "BC") {
				return cmp.Or(err, errors.New("only a day of the years 0001 to 9999 exists in both databases"))
			}
		}
		if more != nil {
			if err := more(text); err != nil {
				return err
			}
		}
		return p.fraction(text)
	})
}

func (p pair) toJSON() converter {
	switch p.from.Kind {
	case schema.KindJSON:
		if p.target != schema.MySQL || !p.crossing && p.from.Native == p.to.Native {
			return nil
		}
		return check(exactNumbers)
	case schema.KindText:
		return check(func(text string) error {
			if !json.Valid([]byte(text)) {
				return errors.New("the text is not JSON")
			}
			if p.target == schema.MySQL {
				return exactNumbers(text)
			}
			return nil
		})
	}
	return p.never()
}

// exactNumbers refuses JSON whose numbers MySQL's own JSON type would round: it has 64-bit integers and doubles.
func exactNumbers(text string) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err != nil {
			return nil // the end; or not JSON at all, which the database says better
		}
		if n, ok := token.(json.Number); ok && !exactNumber(n.String()) {
			return fmt.Errorf("MySQL's JSON would round the number %s", shorten(n.String()))
		}
	}
}

// exactNumberDigits bounds the text of a JSON number that is looked at: no double has more digits than this in the
// shortest text that reads back.
const exactNumberDigits = 40

func exactNumber(n string) bool {
	if _, err := strconv.ParseInt(n, 10, 64); err == nil {
		return true
	}
	if _, err := strconv.ParseUint(n, 10, 64); err == nil {
		return true
	}
	v, err := strconv.ParseFloat(n, 64)
	if err != nil || len(n) > exactNumberDigits {
		return false
	}
	here, ok1 := new(big.Rat).SetString(n)
	there, ok2 := new(big.Rat).SetString(strconv.FormatFloat(v, 'g', -1, 64))
	return ok1 && ok2 && here.Cmp(there) == 0
}

func (p pair) toEnum() converter {
	if p.from.Kind != schema.KindEnum && p.from.Kind != schema.KindText {
		return p.never()
	}
	if p.from.Kind == schema.KindEnum && containsAll(p.to.Labels, p.from.Labels) && !p.toMySQL && !p.crossing {
		return nil // MySQL has an empty value besides its labels, for what was none of them
	}
	labels := labelSet(p.to.Labels)
	return check(func(text string) error {
		if !labels[text] {
			return fmt.Errorf("no such label here: the column has %s", shorten(strings.Join(p.to.Labels, ", ")))
		}
		return nil
	})
}

func (p pair) toSet() converter {
	if p.from.Kind != schema.KindSet && p.from.Kind != schema.KindText {
		return p.never()
	}
	if p.from.Kind == schema.KindSet && slices.Equal(p.to.Labels, p.from.Labels) {
		return nil
	}
	labels := labelSet(p.to.Labels)
	return check(func(text string) error {
		for label := range strings.SplitSeq(text, ",") {
			if text != "" && !labels[label] {
				return fmt.Errorf("no label %s here: the column has %s", shorten(label), shorten(strings.Join(p.to.Labels, ", ")))
			}
		}
		return nil
	})
}

func labelSet(labels []string) map[string]bool {
	set := make(map[string]bool, len(labels))
	for _, l := range labels {
		set[l] = true
	}
	return set
}

func containsAll(all, some []string) bool {
	set := labelSet(all)
	for _, l := range some {
		if !set[l] {
			return false
		}
	}
	return true
}

func (p pair) toBit() converter {
	if bool1 := p.from.Kind == schema.KindBool && p.to.Size == 1; p.from.Kind != schema.KindBit && !bool1 {
		return p.never()
	}
	if p.from.Size == p.to.Size && p.from.Fixed == p.to.Fixed {
		return nil
	}
	return check(func(text string) error {
		if p.to.Fixed && len(text) != p.to.Size || p.to.Size > 0 && len(text) > p.to.Size {
			return fmt.Errorf("%d bits, the column holds %d", len(text), p.to.Size)
		}
		return nil
	})
}

// toNative: a type that only one engine has, in that engine's words. MySQL's log says geometry of every spatial type; the
// column says which it takes, and the server checks.
func (p pair) toNative() converter {
	from, to := baseType(p.from.Native), baseType(p.to.Native)
	if p.from.Kind != schema.KindNative || p.crossing {
		return p.never()
	}
	if p.from.Native == p.to.Native || p.toMySQL && (from == to || from == "geometry" && spatial[to]) {
		return nil
	}
	return p.never()
}

// baseType is a native type without its parameters.
func baseType(native string) string {
	base, _, _ := strings.Cut(strings.ToLower(native), "(")
	return base
}

// spatial are MySQL's types whose canonical text is bytes.
var spatial = map[string]bool{
	"geometry": true, "point": true, "linestring": true, "polygon": true, "multipoint": true, "multilinestring": true, "multipolygon": true,
	"geometrycollection": true, "geomcollection": true,
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
