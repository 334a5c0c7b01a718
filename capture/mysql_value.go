package capture

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"cdc-sidecar/catalog"
)

// mysqlBytes is read field by field; behind its end it gives nothing and is short.
type mysqlBytes struct {
	b     []byte
	short bool
}

func (r *mysqlBytes) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.short = nil, true
		return nil
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

// little reads an unsigned number of n bytes, the lowest first.
func (r *mysqlBytes) little(n int) uint64 {
	var v uint64
	for i, b := range r.take(n) {
		v |= uint64(b) << (8 * i)
	}
	return v
}

// big reads an unsigned number of n bytes, the highest first.
func (r *mysqlBytes) big(n int) uint64 {
	var v uint64
	for _, b := range r.take(n) {
		v = v<<8 | uint64(b)
	}
	return v
}

// packed reads a number whose first byte says how long it is.
func (r *mysqlBytes) packed() uint64 {
	switch n := r.little(1); n {
	case 252:
		return r.little(2)
	case 253:
		return r.little(3)
	case 254:
		return r.little(8)
	default:
		return n
	}
}

// prefixed reads bytes behind their length, which takes n bytes.
func (r *mysqlBytes) prefixed(n int) []byte {
	length := r.little(n)
	if length > math.MaxInt32 {
		r.b, r.short = nil, true
		return nil
	}
	return r.take(int(length))
}

// A mysqlReader reads one value as the binlog has it and appends its canonical text (see schema.Kind) to dst.
type mysqlReader func(dst []byte, r *mysqlBytes) ([]byte, error)

func readMySQLInt(bytes int, unsigned bool) mysqlReader {
	if unsigned {
		return func(dst []byte, r *mysqlBytes) ([]byte, error) {
			return strconv.AppendUint(dst, r.little(bytes), 10), nil
		}
	}
	unused := 64 - 8*bytes
	return func(dst []byte, r *mysqlBytes) ([]byte, error) {
		return strconv.AppendInt(dst, int64(r.little(bytes))<<unused>>unused, 10), nil
	}
}

func readMySQLFloat(dst []byte, r *mysqlBytes) ([]byte, error) {
	return strconv.AppendFloat(dst, float64(math.Float32frombits(uint32(r.little(4)))), 'g', -1, 32), nil
}

func readMySQLDouble(dst []byte, r *mysqlBytes) ([]byte, error) {
	return strconv.AppendFloat(dst, math.Float64frombits(r.little(8)), 'g', -1, 64), nil
}

// decimalBytes is how many bytes a group of so many decimal digits takes.
var decimalBytes = [10]int{0, 1, 1, 2, 2, 3, 3, 4, 4, 4}

// readMySQLDecimal: groups of nine digits, the odd ones at the outer ends; the first bit is set unless it is negative, and a
// negative number has all bits turned over.
func readMySQLDecimal(precision, scale int) mysqlReader {
	whole := precision - scale
	size := whole/9*4 + decimalBytes[whole%9] + scale/9*4 + decimalBytes[scale%9]
	return func(dst []byte, r *mysqlBytes) ([]byte, error) {
		var digits [40]byte // 65 digits take 30 bytes
		b := append(digits[:0], r.take(size)...)
		if len(b) == 0 {
			return dst, nil
		}
		negative := b[0]&0x80 == 0
		b[0] ^= 0x80
		if negative {
			for i := range b {
				b[i] = ^b[i]
			}
			if slices.IndexFunc(b, func(x byte) bool { return x != 0 }) >= 0 {
				dst = append(dst, '-')
			}
		}
		in := mysqlBytes{b: b}
		dst = appendWhole(dst, &in, whole)
		if scale == 0 {
			return dst, nil
		}
		dst = append(dst, '.')
		for range scale / 9 {
			dst = appendDigits(dst, in.big(4), 9)
		}
		if odd := scale % 9; odd > 0 {
			dst = appendDigits(dst, in.big(decimalBytes[odd]), odd)
		}
		return dst, nil
	}
}

// appendWhole appends so many digits without leading zeros, a single 0 when there is nothing else.
func appendWhole(dst []byte, in *mysqlBytes, digits int) []byte {
	start := len(dst)
	if v := in.big(decimalBytes[digits%9]); v != 0 {
		dst = strconv.AppendUint(dst, v, 10)
	}
	for range digits / 9 {
		if v := in.big(4); len(dst) > start {
			dst = appendDigits(dst, v, 9)
		} else if v != 0 {
			dst = strconv.AppendUint(dst, v, 10)
		}
	}
	if len(dst) == start {
		dst = append(dst, '0')
	}
	return dst
}

func readMySQLBit(digits int) mysqlReader {
	return func(dst []byte, r *mysqlBytes) ([]byte, error) {
		v := r.big((digits + 7) / 8)
		for i := digits - 1; i >= 0; i-- {
			dst = append(dst, '0'+byte(v>>i&1))
		}
		return dst, nil
	}
}

func readMySQLYear(dst []byte, r *mysqlBytes) ([]byte, error) {
	v := r.little(1)
	if v != 0 {
		v += 1900
	}
	return appendDigits(dst, v, 4), nil
}

// appendDigits appends v with at least so many digits.
func appendDigits(dst []byte, v uint64, digits int) []byte {
	var text [20]byte
	at := len(text)
	for ; v > 0 || digits > 0; digits-- {
		at--
		text[at] = '0' + byte(v%10)
		v /= 10
	}
	return append(dst, text[at:]...)
}

// appendFraction appends microseconds without trailing zeros.
func appendFraction(dst []byte, micros uint64) []byte {
	if micros == 0 {
		return dst
	}
	dst = appendDigits(append(dst, '.'), micros, 6)
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

func appendDate(dst []byte, year, month, day uint64) []byte {
	dst = append(appendDigits(dst, year, 4), '-')
	dst = append(appendDigits(dst, month, 2), '-')
	return appendDigits(dst, day, 2)
}

func appendClock(dst []byte, hour, minute, second uint64) []byte {
	dst = append(appendDigits(dst, hour, 2), ':')
	dst = append(appendDigits(dst, minute, 2), ':')
	return appendDigits(dst, second, 2)
}

func readMySQLDate(dst []byte, r *mysqlBytes) ([]byte, error) {
	v := r.little(3)
	return appendDate(dst, v>>9, v>>5&15, v&31), nil
}

// fraction reads the fraction behind a value with so many digits of it, in microseconds.
func (r *mysqlBytes) fraction(digits int) uint64 {
	v := r.big((digits + 1) / 2)
	for n := (digits + 1) / 2; n < 3; n++ {
		v *= 100
	}
	return v
}

func readMySQLDatetime(digits int) mysqlReader {
	return func(dst []byte, r *mysqlBytes) ([]byte, error) {
		v := r.big(5) - 1<<39
		date, clock := v>>17, v&(1<<17-1)
		dst = append(appendDate(dst, date>>5/13, date>>5%13, date&31), ' ')
		dst = appendClock(dst, clock>>12, clock>>6&63, clock&63)
		return appendFraction(dst, r.fraction(digits)), nil
	}
}

// readMySQLOldDatetime: before MySQL 5.6 and MariaDB 10.1 a number like 20060102150405; such columns live on until rebuilt.
func readMySQLOldDatetime(dst []byte, r *mysqlBytes) ([]byte, error) {
	v := r.little(8)
	date, clock := v/1_000_000, v%1_000_000
	dst = append(appendDate(dst, date/10_000, date/100%100, date%100), ' ')
	return appendClock(dst, clock/10_000, clock/100%100, clock%100), nil
}

func appendInstant(dst []byte, seconds, micros uint64) []byte {
	if seconds == 0 && micros == 0 { // no instant: MySQL's zero date
		return append(dst, "0000-00-00 00:00:00"...)
	}
	dst = time.Unix(int64(seconds), 0).UTC().AppendFormat(dst, time.DateTime)
	return appendFraction(dst, micros)
}

func readMySQLTimestamp(digits int) mysqlReader {
	return func(dst []byte, r *mysqlBytes) ([]byte, error) {
		seconds := r.big(4)
		return appendInstant(dst, seconds, r.fraction(digits)), nil
	}
}

func readMySQLOldTimestamp(dst []byte, r *mysqlBytes) ([]byte, error) {
	return appendInstant(dst, r.little(4), 0), nil
}

// readMySQLTime: one number of hours, minutes, seconds and fraction, moved up by half its range, so that a negative time
// is below the middle.
func readMySQLTime(digits int) mysqlReader {
	places := (digits + 1) / 2
	return func(dst []byte, r *mysqlBytes) ([]byte, error) {
		v := int64(r.big(3+places)) - 1<<(23+8*places)
		if v < 0 {
			dst, v = append(dst, '-'), -v
		}
		clock, micros := uint64(v)>>(8*places), uint64(v)&(1<<(8*places)-1)
		for n := places; n < 3; n++ {
			micros *= 100
		}
		return appendFraction(appendClock(dst, clock>>12&1023, clock>>6&63, clock&63), micros), nil
	}
}

func readMySQLOldTime(dst []byte, r *mysqlBytes) ([]byte, error) {
	v := int64(r.little(3)<<40) >> 40
	if v < 0 {
		dst, v = append(dst, '-'), -v
	}
	return appendClock(dst, uint64(v)/10_000, uint64(v)/100%100, uint64(v)%100), nil
}

// readMySQLText reads a string behind its length, which takes so many bytes.
func readMySQLText(lengthBytes int, charset mysqlCharset) mysqlReader {
	return func(dst []byte, r *mysqlBytes) ([]byte, error) { return charset.append(dst, r.prefixed(lengthBytes)) }
}

// readMySQLBinary reads bytes. The log leaves out the zeros at the end of a binary(n): pad is n, or 0 for other types.
func readMySQLBinary(lengthBytes, pad int) mysqlReader {
	return func(dst []byte, r *mysqlBytes) ([]byte, error) {
		b := r.prefixed(lengthBytes)
		dst = append(dst, b...)
		for n := len(b); n < pad; n++ {
			dst = append(dst, 0)
		}
		return dst, nil
	}
}

// readMySQLEnum: ordinal 0 is the empty string that MySQL stores for a value that is none of the labels.
func readMySQLEnum(bytes int, labels []string) mysqlReader {
	return func(dst []byte, r *mysqlBytes) ([]byte, error) {
		n := r.little(bytes)
		if n > uint64(len(labels)) {
			return dst, fmt.Errorf("label number %d of an enum with %d labels", n, len(labels))
		}
		if n == 0 {
			return dst, nil
		}
		return append(dst, labels[n-1]...), nil
	}
}

func readMySQLSet(bytes int, labels []string) mysqlReader {
	return func(dst []byte, r *mysqlBytes) ([]byte, error) {
		v := r.little(bytes)
		if v>>len(labels) != 0 {
			return dst, fmt.Errorf("bits %b of a set with %d labels", v, len(labels))
		}
		start := len(dst)
		for i, label := range labels[:min(len(labels), 64)] {
			if v>>i&1 == 0 {
				continue
			}
			if len(dst) > start {
				dst = append(dst, ',')
			}
			dst = append(dst, label...)
		}
		return dst, nil
	}
}

// fixedBytes reads a value of so many bytes that the log has as a string without the zeros at its end.
func fixedBytes(r *mysqlBytes, b []byte) error {
	got := r.prefixed(1)
	if len(got) > len(b) {
		return fmt.Errorf("%d bytes of a type that has %d", len(got), len(b))
	}
	copy(b, got)
	return nil
}

// readMariaDBUUID: versions 1 to 5 are stored with their five groups in the opposite order, so that the time comes first.
func readMariaDBUUID(dst []byte, r *mysqlBytes) ([]byte, error) {
	var b [16]byte
	if err := fixedBytes(r, b[:]); err != nil {
		return dst, err
	}
	groups := [5][]byte{b[0:4], b[4:6], b[6:8], b[8:10], b[10:16]}
	if b[6]&0x80 != 0 && b[8] < 0x60 {
		groups = [5][]byte{b[12:16], b[10:12], b[8:10], b[6:8], b[0:6]}
	}
	for i, group := range groups {
		if i > 0 {
			dst = append(dst, '-')
		}
		for _, x := range group {
			dst = append(dst, hexDigits[x>>4], hexDigits[x&15])
		}
	}
	return dst, nil
}

const hexDigits = "0123456789abcdef"

func readMariaDBInet4(dst []byte, r *mysqlBytes) ([]byte, error) {
	var b [4]byte
	err := fixedBytes(r, b[:])
	return netip.AddrFrom4(b).AppendTo(dst), err
}

func readMariaDBInet6(dst []byte, r *mysqlBytes) ([]byte, error) {
	var b [16]byte
	if err := fixedBytes(r, b[:]); err != nil {
		return dst, err
	}
	return append(dst, catalog.MariaDBAddress(netip.AddrFrom16(b))...), nil
}
