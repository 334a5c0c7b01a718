package schema

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// The first byte of a JSON value's form.
const (
	jsonNull   = 'n'
	jsonTrue   = 't'
	jsonFalse  = 'f'
	jsonNumber = '#' // then four bytes of length, then the number's form
	jsonString = '"' // then four bytes of length, then UTF-8
	jsonArray  = '[' // then the values, then jsonEnd
	jsonObject = '{' // then the members by their names, each as string and value, then jsonEnd
	jsonEnd    = '.'
	notJSON    = '!' // then the text as it is
)

// jsonDepth bounds the nesting: deeper than any of the databases takes.
const jsonDepth = 10000

// jsonForm reads JSON and writes its form: white space, the order of members, escapes and the notation of numbers gone; of
// members of one name the last counts. Numbers are decimals, not doubles: 0.1 and 0.1000000000000000001 differ.
type jsonForm struct {
	in      string
	at      int
	out     []byte
	depth   int
	members []jsonMember // of the objects that are being read, the inner ones behind
	scratch []byte
}

// jsonMember is where a member of an object stands in out: from name to end, the value from value.
type jsonMember struct{ name, value, end int }

// jsonForms are kept for the next document. They have a buffer of their own, so that the caller's may stand on its stack.
var jsonForms = sync.Pool{New: func() any { return &jsonForm{} }}

// appendJSON appends the form of a JSON text. ok says that the text is JSON; if it is not, nothing is appended.
func appendJSON(b []byte, text string) (form []byte, ok bool) {
	j, _ := jsonForms.Get().(*jsonForm)
	j.in, j.at, j.out, j.depth, j.members = text, 0, j.out[:0], 0, j.members[:0]
	ok = j.value()
	if j.space(); ok && j.at == len(j.in) {
		b = append(b, j.out...)
	} else {
		ok = false
	}
	j.in = ""
	if cap(j.out) <= mostKept && cap(j.scratch) <= mostKept && cap(j.members) <= mostKept/16 {
		jsonForms.Put(j)
	}
	return b, ok
}

func (j *jsonForm) space() {
	for j.at < len(j.in) && (j.in[j.at] == ' ' || j.in[j.at] == '\n' || j.in[j.at] == '\t' || j.in[j.at] == '\r') {
		j.at++
	}
}

// take moves behind c when it is the next.
func (j *jsonForm) take(c byte) bool {
	j.space()
	if j.at < len(j.in) && j.in[j.at] == c {
		j.at++
		return true
	}
	return false
}

func (j *jsonForm) value() bool {
	j.space()
	if j.at == len(j.in) {
		return false
	}
	switch j.in[j.at] {
	case '{':
		return j.nested(jsonObject)
	case '[':
		return j.nested(jsonArray)
	case '"':
		return j.text()
	case 'n':
		return j.word("null", jsonNull)
	case 't':
		return j.word("true", jsonTrue)
	case 'f':
		return j.word("false", jsonFalse)
	}
	return j.number()
}

func (j *jsonForm) word(word string, form byte) bool {
	if !strings.HasPrefix(j.in[j.at:], word) {
		return false
	}
	j.at += len(word)
	j.out = append(j.out, form)
	return true
}

func (j *jsonForm) nested(form byte) bool {
	if j.depth++; j.depth > jsonDepth {
		return false
	}
	j.at++
	j.out = append(j.out, form)
	var ok bool
	if form == jsonObject {
		ok = j.object()
	} else {
		ok = j.array()
	}
	j.out = append(j.out, jsonEnd)
	j.depth--
	return ok
}

func (j *jsonForm) array() bool {
	if j.take(']') {
		return true
	}
	for {
		if !j.value() {
			return false
		}
		if j.take(']') {
			return true
		}
		if !j.take(',') {
			return false
		}
	}
}

func (j *jsonForm) object() bool {
	if j.take('}') {
		return true
	}
	first, from := len(j.members), len(j.out)
	for {
		m := jsonMember{name: len(j.out)}
		j.space()
		if j.at == len(j.in) || j.in[j.at] != '"' || !j.text() || !j.take(':') {
			return false
		}
		m.value = len(j.out)
		if !j.value() {
			return false
		}
		m.end = len(j.out)
		j.members = append(j.members, m)
		if j.take('}') {
			j.order(j.members[first:], from)
			j.members = j.members[:first]
			return true
		}
		if !j.take(',') {
			return false
		}
	}
}

// order puts the members of an object, which begin at from, into the order of their names: short ones first, which is how
// Postgres' jsonb and MySQL's JSON have them, so that there is nothing to do for theirs.
func (j *jsonForm) order(members []jsonMember, from int) {
	compare := func(a, b jsonMember) int {
		if d := (a.value - a.name) - (b.value - b.name); d != 0 {
			return d
		}
		return bytes.Compare(j.out[a.name:a.value], j.out[b.name:b.value])
	}
	ordered := true
	for i := 1; i < len(members) && ordered; i++ {
		ordered = compare(members[i-1], members[i]) < 0
	}
	if ordered {
		return
	}
	slices.SortStableFunc(members, compare)
	j.scratch = j.scratch[:0]
	for i, m := range members {
		if i+1 == len(members) || compare(m, members[i+1]) != 0 {
			j.scratch = append(j.scratch, j.out[m.name:m.end]...)
		}
	}
	j.out = append(j.out[:from], j.scratch...)
}

// sized begins what has its length in front; close writes the length.
func (j *jsonForm) sized(form byte) (at int) {
	j.out = append(j.out, form, 0, 0, 0, 0)
	return len(j.out)
}

func (j *jsonForm) close(at int) {
	binary.LittleEndian.PutUint32(j.out[at-4:], uint32(len(j.out)-at))
}

// number reads -?(0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)?
func (j *jsonForm) number() bool {
	from := j.at
	if j.at < len(j.in) && j.in[j.at] == '-' {
		j.at++
	}
	if j.at < len(j.in) && j.in[j.at] == '0' {
		j.at++
	} else if !j.digits() {
		return false
	}
	if j.at < len(j.in) && j.in[j.at] == '.' {
		if j.at++; !j.digits() {
			return false
		}
	}
	if j.at < len(j.in) && (j.in[j.at] == 'e' || j.in[j.at] == 'E') {
		if j.at++; j.at < len(j.in) && (j.in[j.at] == '+' || j.in[j.at] == '-') {
			j.at++
		}
		if !j.digits() {
			return false
		}
	}
	at := j.sized(jsonNumber)
	j.out = appendNumber(j.out, j.in[from:j.at])
	j.close(at)
	return true
}

func (j *jsonForm) digits() bool {
	from := j.at
	for j.at < len(j.in) && j.in[j.at] >= '0' && j.in[j.at] <= '9' {
		j.at++
	}
	return j.at > from
}

// text reads a string.
func (j *jsonForm) text() bool {
	j.at++
	at := j.sized(jsonString)
	for {
		from := j.at
		for j.at < len(j.in) && j.in[j.at] != '"' && j.in[j.at] != '\\' && j.in[j.at] >= ' ' {
			j.at++
		}
		j.out = append(j.out, j.in[from:j.at]...)
		switch {
		case j.at == len(j.in) || j.in[j.at] < ' ':
			return false
		case j.in[j.at] == '"':
			j.at++
			j.close(at)
			return true
		case !j.escape():
			return false
		}
	}
}

// escape reads \n, \u00e4 and the like. Half of a surrogate pair stands for itself, so that no two texts that differ become one.
func (j *jsonForm) escape() bool {
	const escaped, meant = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if j.at++; j.at == len(j.in) {
		return false
	}
	if i := strings.IndexByte(escaped, j.in[j.at]); i >= 0 {
		j.at++
		j.out = append(j.out, meant[i])
		return true
	}
	unit, ok := hexUnit(j.in[j.at:])
	if !ok {
		return false
	}
	j.at += 5
	if utf16.IsSurrogate(unit) {
		if strings.HasPrefix(j.in[j.at:], `\`) {
			if second, ok := hexUnit(j.in[j.at+1:]); ok {
				if r := utf16.DecodeRune(unit, second); r != utf8.RuneError {
					j.at += 6
					j.out = utf8.AppendRune(j.out, r)
					return true
				}
			}
		}
		j.out = append(j.out, 0xe0|byte(unit>>12), 0x80|byte(unit>>6)&0x3f, 0x80|byte(unit)&0x3f)
		return true
	}
	j.out = utf8.AppendRune(j.out, unit)
	return true
}

// hexUnit reads u00e4.
func hexUnit(s string) (rune, bool) {
	if len(s) < 5 || s[0] != 'u' || !isHex(s[1:5]) {
		return 0, false
	}
	unit, err := strconv.ParseUint(s[1:5], 16, 16)
	return rune(unit), err == nil
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := lower(s[i]); (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}
