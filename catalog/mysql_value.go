package catalog

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"

	"cdc-sidecar/schema"
)

// MySQLSession is the beginning of a SET statement (more assignments may follow) under which MySQL and MariaDB write values
// as MySQLCanonical expects them. Whoever reads values from one of them begins its session with it.
const MySQLSession = "SET NAMES utf8mb4, SESSION time_zone = '+00:00'"

// MySQLSelect are the expressions, one for each column, that read a row exactly, in a session with MySQLSession. The results
// are those of the text protocol: of a query, not of a prepared statement.
func (t *Table) MySQLSelect() []string {
	list := make([]string, len(t.Columns))
	for i := range t.Columns {
		c := &t.Columns[i]
		if list[i] = QuoteMySQL(c.Name); c.Kind == schema.KindFloat {
			// The server writes six digits of a FLOAT, and of FLOAT(7,2) two behind the point; of a product with a double it
			// writes all. A sum would lose the sign of zero.
			list[i] += " * 1e0"
		}
	}
	return list
}

// MySQLCanonical converts the text that MySQL and MariaDB write of a column's values in results to the canonical one (see
// schema.Kind), which is what capture makes of the log. It is nil where that is the same text.
func MySQLCanonical(c *schema.Column) func(text string) (string, error) {
	switch c.Kind {
	case schema.KindInt, schema.KindDecimal:
		if strings.HasSuffix(c.Native, " zerofill") {
			return unfilled
		}
	case schema.KindFloat:
		if c.Size == 32 {
			return mysqlFloat
		}
		return canonicalFloat64
	case schema.KindTime, schema.KindTimestamp, schema.KindTimestampTZ:
		if c.Scale > 0 {
			return shortFraction
		}
	case schema.KindYear:
		return fullYear
	case schema.KindBit:
		digits := c.Size
		return func(raw string) (string, error) { return bits(raw, digits) }
	case schema.KindText:
		if c.Fixed {
			return func(text string) (string, error) { return mysqlText(strings.TrimRight(text, " ")) }
		}
		return mysqlText
	}
	return nil
}

// unfilled takes the zeros off with which ZEROFILL shows a number.
func unfilled(text string) (string, error) {
	short := strings.TrimLeft(text, "0")
	if short == "" || short[0] == '.' {
		short = "0" + short
	}
	return short, nil
}

// mysqlFloat is of a FLOAT, which comes as a double.
func mysqlFloat(text string) (string, error) {
	double, err := canonicalFloat64(text)
	if err != nil {
		return "", err
	}
	return canonicalFloat32(double)
}

func shortFraction(text string) (string, error) {
	if strings.IndexByte(text, '.') < 0 {
		return text, nil
	}
	return strings.TrimSuffix(strings.TrimRight(text, "0"), "."), nil
}

// fullYear: drivers read a year as a number, and the year 0000 as 0.
func fullYear(text string) (string, error) {
	if len(text) > 4 {
		return "", errors.New("a year has four digits")
	}
	return "0000"[len(text):] + text, nil
}

// bits writes the bytes of a bit(n), the highest first, as digits.
func bits(raw string, digits int) (string, error) {
	if len(raw) != (digits+7)/8 {
		return "", errors.New("the value has another number of bits than its column")
	}
	text := make([]byte, digits)
	for i := range text {
		bit := digits - 1 - i
		text[i] = '0' + raw[len(raw)-1-bit/8]>>(bit%8)&1
	}
	return string(text), nil
}

// mysqlText: the server hands out what is stored in a column that is UTF-8 already, whether it is valid or not.
func mysqlText(text string) (string, error) {
	if !utf8.ValidString(text) {
		return "", errors.New("the bytes are not valid in the column's character set")
	}
	return text, nil
}

// MariaDBAddress is an inet4 or inet6 as the server writes it: of an IPv6 address that ends in an IPv4 one, that end with points.
func MariaDBAddress(a netip.Addr) string {
	b := a.As16()
	if a.Is6() && binary.BigEndian.Uint64(b[:8]) == 0 && binary.BigEndian.Uint32(b[8:12]) == 0 && binary.BigEndian.Uint16(b[12:14]) != 0 {
		return "::" + netip.AddrFrom4([4]byte(b[12:])).String()
	}
	return a.String()
}
