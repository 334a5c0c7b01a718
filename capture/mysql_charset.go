package capture

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
)

// mysqlCharset is how a column's characters are written. The binlog has a string's bytes as the column stores them.
type mysqlCharset struct {
	name   string // as the server calls it; binary: no characters at all
	width  int    // the most bytes of a character
	decode func(dst, src []byte) ([]byte, error)
}

// append appends src in UTF-8, or says that it is no text: a character that is replaced is a changed value.
func (c mysqlCharset) append(dst, src []byte) ([]byte, error) {
	if c.decode == nil {
		return dst, fmt.Errorf("character set %q is not known to this program", c.name)
	}
	return c.decode(dst, src)
}

func newMySQLCharset(name string, width int) mysqlCharset {
	c := mysqlCharset{name: name, width: width}
	switch name {
	case "utf8mb4", "utf8mb3", "utf8", "ascii":
		c.decode = appendUTF8
	default:
		if known := mysqlEncodings[name]; known != nil {
			c.decode = decodeWith(known)
		}
	}
	return c
}

// mysqlEncodings are the character sets whose every character, as the server itself converts it to utf8mb4, is the one that
// the library gives; a test asks the server. What MySQL calls latin1 is Windows-1252.
var mysqlEncodings = map[string]encoding.Encoding{
	"latin1": charmap.Windows1252, "latin2": charmap.ISO8859_2, "latin5": charmap.ISO8859_9,
	"greek": charmap.ISO8859_7, "hebrew": charmap.ISO8859_8,
	"cp1250": charmap.Windows1250, "cp1251": charmap.Windows1251, "cp1256": charmap.Windows1256, "cp1257": charmap.Windows1257,
	"cp850": charmap.CodePage850, "cp852": charmap.CodePage852, "cp866": charmap.CodePage866,
	"koi8r": charmap.KOI8R, "koi8u": charmap.KOI8U, "macroman": charmap.Macintosh, "tis620": charmap.Windows874,
	"gbk": simplifiedchinese.GBK, "gb2312": simplifiedchinese.GBK, "gb18030": simplifiedchinese.GB18030, "big5": traditionalchinese.Big5,
	"sjis": japanese.ShiftJIS, "cp932": japanese.ShiftJIS, "ujis": japanese.EUCJP, "eucjpms": japanese.EUCJP, "euckr": korean.EUCKR,
	"ucs2": unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM), "utf16": unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM),
	"utf16le": unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM), "utf32": utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM),
}

var errNotText = errors.New("the bytes are not valid in the column's character set")

func appendUTF8(dst, src []byte) ([]byte, error) {
	if !utf8.Valid(src) {
		return dst, errNotText
	}
	return append(dst, src...), nil
}

// decodeWith turns the library's replacement character into an error. None of these character sets but the Unicode ones
// has it as a character, and there it stands for something that was lost before.
func decodeWith(e encoding.Encoding) func(dst, src []byte) ([]byte, error) {
	decoder := e.NewDecoder()
	return func(dst, src []byte) ([]byte, error) {
		text, err := decoder.Bytes(src)
		if err != nil {
			return dst, err
		}
		for i := 0; i < len(text); {
			r, n := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError {
				return dst, errNotText
			}
			i += n
		}
		return append(dst, text...), nil
	}
}
