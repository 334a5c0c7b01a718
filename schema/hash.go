package schema

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"
)

// HashRow stands for the values of a row: all columns that are not generated, in the order of their names. Two offices that
// give one hash hold the same values (SameRow), whatever engine each of them is; but for an accident of 1 in 2^64. Two hashes that
// differ say less: some values that are the same are written in two ways, and only SameRow sees it.
func (t *Table) HashRow(r Row) uint64 {
	var room [512]byte
	var places [32]int
	b := room[:0]
	for _, i := range t.byName(places[:0]) {
		c := &t.Columns[i]
		b = appendHashed(b, c.Name, c, r[i])
	}
	return xxh3.Hash(b)
}

// byName appends the columns that are hashed, in their order.
func (t *Table) byName(to []int) []int {
	for i := range t.Columns {
		if !t.Columns[i].Generated {
			to = append(to, i)
		}
	}
	slices.SortFunc(to, func(a, b int) int { return strings.Compare(t.Columns[a].Name, t.Columns[b].Name) })
	return to
}

// A Hasher hashes many rows of one table, some of its columns, so that they can be compared with another office's HashRow. It is
// for one goroutine.
type Hasher struct {
	columns []hashed
	buffer  []byte
}

// hashed is a column as a Hasher sees it.
type hashed struct {
	name string
	at   int     // in the row; -1: the table has no such column
	own  *Column // nil: there is none
	as   *Column // the other office's, when values have to be seen as its own; else nil
}

// NewHasher hashes the columns of those names. A name that the table does not have makes each hash differ from every other
// office's. The rows' own definition says what they mean, so a uuid never equals a char(36) with the same text; where the other
// office's definition is known, NewHasherAs sees more.
func NewHasher(t *Table, of []string) *Hasher {
	h := &Hasher{}
	for _, name := range of {
		h.add(t, name, nil)
	}
	return h.sorted()
}

// NewHasherAs hashes rows of t as the office whose definition is `as` hashes its own (HashRow): a value here that is what one
// of its values becomes here counts as that one.
func NewHasherAs(t, as *Table) *Hasher {
	h := &Hasher{}
	for i := range as.Columns {
		if c := &as.Columns[i]; !c.Generated {
			h.add(t, c.Name, c)
		}
	}
	return h.sorted()
}

func (h *Hasher) add(t *Table, name string, as *Column) {
	c := hashed{name: name, at: t.Column(name)}
	if c.at >= 0 {
		c.own = &t.Columns[c.at]
		if as != nil && !oneForm(as, c.own) {
			c.as = as
		}
	}
	h.columns = append(h.columns, c)
}

func (h *Hasher) sorted() *Hasher {
	slices.SortFunc(h.columns, func(a, b hashed) int { return strings.Compare(a.name, b.name) })
	return h
}

// mostKept is how large a buffer a Hasher keeps for the next row: a rare large value shall not stay in memory.
const mostKept = 1 << 20

// Hash is the hash of a row in the columns of the Hasher's table.
func (h *Hasher) Hash(r Row) uint64 {
	b := h.buffer[:0]
	for i := range h.columns {
		switch c := &h.columns[i]; {
		case c.own == nil:
			b = append(appendName(b, c.name), noForm)
		case c.as == nil || r[c.at].state != Present:
			b = appendHashed(b, c.name, c.own, r[c.at])
		default:
			if text, ok := valueBehind(c.as, c.own, r[c.at].text); ok {
				b = appendHashed(b, c.name, c.as, Of(text))
			} else {
				b = append(appendName(b, c.name), noForm)
			}
		}
	}
	if h.buffer = b; cap(b) > mostKept {
		h.buffer = nil
	}
	return xxh3.Hash(b)
}

// noForm stands where a State would, for what no other office's row can have.
const noForm = 0xff

func appendName(b []byte, name string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(name))), name...)
}

// appendHashed appends what is hashed of a column. It can be read back, which is why no two rows that differ give the same bytes.
func appendHashed(b []byte, name string, c *Column, v Value) []byte {
	b = append(appendName(b, name), byte(v.state))
	if v.state != Present {
		return b
	}
	b = append(b, byte(formKind(c.Kind)), 0, 0, 0, 0)
	at := len(b)
	b = appendForm(b, c, v.text)
	binary.LittleEndian.PutUint32(b[at-4:], uint32(len(b)-at))
	return b
}

// valueBehind finds the value of column `as` that becomes text in column own, when there is exactly one form of such.
func valueBehind(as, own *Column, text string) (string, bool) {
	candidate := text
	switch [2]Kind{as.Kind, own.Kind} {
	case [2]Kind{KindYear, KindInt}:
		candidate = "0000"[min(4, len(text)):] + text
	case [2]Kind{KindInt, KindYear}:
		candidate = withoutZeros(text)
	case [2]Kind{KindInt, KindFloat}:
		candidate = wholeFloat(text, own.Size)
	case [2]Kind{KindUUID, KindBytes}:
		candidate = uuidText(text)
	case [2]Kind{KindBytes, KindUUID}:
		candidate = uuidRaw(text)
	}
	return candidate, isCanonical(as, candidate) && sameText(as, candidate, own, text)
}

// isCanonical says of the kinds with more than one text for a form that this text is the one that the office itself has.
func isCanonical(c *Column, text string) bool {
	switch c.Kind {
	case KindBool:
		return text == "0" || text == "1"
	case KindInt:
		return plainInteger(text)
	case KindDecimal: // numeric without a scale keeps as many zeros as were written: no telling
		whole, fraction, hasFraction := strings.Cut(text, ".")
		whole, negative := strings.CutPrefix(whole, "-")
		if c.Size == 0 || !plainInteger(whole) || negative && strings.Trim(whole+fraction, "0") == "" {
			return false
		}
		return len(fraction) == max(c.Scale, 0) && hasFraction == digits(fraction)
	case KindFloat:
		return text == shortestFloat(text, c.Size) && text != "0" && text != "-0"
	case KindTime, KindTimestamp, KindTimestampTZ:
		return text == shortFraction(text)
	default:
		return true
	}
}
