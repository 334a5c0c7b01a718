package capture

import (
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// mysqlCharset is how a column's characters are written: the binlog has a string's bytes as the column stores them.
type mysqlCharset struct {
	name   string // as the server calls it; binary: no characters at all
	width  int    // the most bytes of a character
	decode func(dst, src []byte) ([]byte, error)
}

// append appends src in UTF-8, or says that it is no text: a character that is replaced is a changed value.
func (c mysqlCharset) append(dst, src []byte) ([]byte, error) {
	if c.decode == nil {
		return dst, fmt.Errorf("character set %s is not known to this program", c.name)
	}
	return c.decode(dst, src)
}

// mysqlUnicode are the character sets that are Unicode in one of its forms.
var mysqlUnicode = map[string]func(dst, src []byte) ([]byte, error){
	"utf8mb4": appendUTF8, "utf8mb3": appendUTF8, "utf8": appendUTF8, "ascii": appendUTF8,
	"ucs2": appendUTF16(0, 1), "utf16": appendUTF16(0, 1), "utf16le": appendUTF16(1, 0), "utf32": appendUTF32,
}

var errNotText = errors.New("the bytes are not valid in the column's character set")

func appendUTF8(dst, src []byte) ([]byte, error) {
	if !utf8.Valid(src) {
		return dst, errNotText
	}
	return append(dst, src...), nil
}

// appendUTF16 is told where a unit's high and low byte stand.
func appendUTF16(high, low int) func(dst, src []byte) ([]byte, error) {
	return func(dst, src []byte) ([]byte, error) {
		for ; len(src) >= 2; src = src[2:] {
			r := rune(src[high])<<8 | rune(src[low])
			if utf16.IsSurrogate(r) && len(src) >= 4 {
				r = utf16.DecodeRune(r, rune(src[2+high])<<8|rune(src[2+low]))
				src = src[2:]
			}
			if !utf8.ValidRune(r) || r == utf8.RuneError {
				return dst, errNotText
			}
			dst = utf8.AppendRune(dst, r)
		}
		if len(src) > 0 {
			return dst, errNotText
		}
		return dst, nil
	}
}

func appendUTF32(dst, src []byte) ([]byte, error) {
	for ; len(src) >= 4; src = src[4:] {
		r := rune(src[0])<<24 | rune(src[1])<<16 | rune(src[2])<<8 | rune(src[3])
		if !utf8.ValidRune(r) {
			return dst, errNotText
		}
		dst = utf8.AppendRune(dst, r)
	}
	if len(src) > 0 {
		return dst, errNotText
	}
	return dst, nil
}

// mysqlCharacters is a character set as the server itself converts it to Unicode. A library's tables of the same name differ
// in single characters (MySQL's latin1, cp866, koi8u, sjis …), which would be changed values.
type mysqlCharacters struct {
	single [256]rune       // 0: not a character by itself, except the byte 0
	longer map[uint32]rune // of two bytes and more, which never begin with a zero: by their bytes as a number
}

// put takes a character from the server: text is what it makes of raw. What is no character it turns into a question mark,
// or into nothing.
func (m *mysqlCharacters) put(raw []byte, text string) {
	r, n := utf8.DecodeRuneInString(text)
	if n == 0 || n != len(text) || r == utf8.RuneError || r == '?' && string(raw) != "?" {
		return
	}
	if len(raw) == 1 {
		m.single[raw[0]] = r
		return
	}
	if m.longer == nil {
		m.longer = map[uint32]rune{}
	}
	m.longer[characterCode(raw)] = r
}

func characterCode(raw []byte) uint32 {
	var code uint32
	for _, b := range raw {
		code = code<<8 | uint32(b)
	}
	return code
}

func (m *mysqlCharacters) append(dst, src []byte) ([]byte, error) {
	for len(src) > 0 {
		r, n := m.character(src)
		if n == 0 {
			return dst, errNotText
		}
		dst, src = utf8.AppendRune(dst, r), src[n:]
	}
	return dst, nil
}

// character reads the first one; no byte that is a character by itself begins a longer one.
func (m *mysqlCharacters) character(src []byte) (rune, int) {
	if r := m.single[src[0]]; r != 0 || src[0] == 0 {
		return r, 1
	}
	for n := 2; n <= min(len(src), 4); n++ {
		if r, ok := m.longer[characterCode(src[:n])]; ok {
			return r, n
		}
	}
	return 0, 0
}
