package apply

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

func (p pair) toText() converter {
	switch p.from.Kind {
	case schema.KindBytes, schema.KindTimestampTZ:
		return p.never()
	case schema.KindNative:
		if p.source != schema.Postgres && catalog.BytesNative(&p.from) {
			return p.never()
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
		if !p.toMySQL {
			return text, noNUL(text)
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
	case schema.KindNative: // a geometry, a vector: Postgres keeps what MySQL stores
		if p.intoPostgres() && catalog.BytesNative(&p.from) {
			return nil
		}
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
		if !labels[text] && !labels[p.catalogText(text)] {
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
			if text != "" && !labels[label] && !labels[p.catalogText(label)] {
				return fmt.Errorf("no label %s here: the column has %s", shorten(label), shorten(strings.Join(p.to.Labels, ", ")))
			}
		}
		return nil
	})
}

// catalogText is a label as MySQL's and MariaDB's catalog has it, which knows no character beyond the first 65,536. The server itself
// knows its labels, and refuses what is none.
func (p pair) catalogText(label string) string {
	if !p.toMySQL {
		return label
	}
	return strings.Map(func(r rune) rune {
		if r > 0xffff {
			return '?'
		}
		return r
	}, label)
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
	switch {
	case p.from.Kind == schema.KindBool && p.to.Size == 1, p.from.Kind == schema.KindBit:
	case p.from.Kind == schema.KindText:
		return check(func(text string) error {
			if strings.Trim(text, "01") != "" {
				return errors.New("the text is not made of 0 and 1")
			}
			return p.bits(text)
		})
	default:
		return p.never()
	}
	if p.from.Size == p.to.Size && p.from.Fixed == p.to.Fixed {
		return nil
	}
	return check(p.bits)
}

func (p pair) bits(text string) error {
	if p.to.Fixed && len(text) != p.to.Size || p.to.Size > 0 && len(text) > p.to.Size {
		return fmt.Errorf("%d bits, the column holds %d", len(text), p.to.Size)
	}
	return nil
}

// toNative: a type that only one engine has, in that engine's words. MySQL's log says geometry of every spatial type; the
// column says which it takes, and the server checks.
func (p pair) toNative() converter {
	from, to := baseType(p.from.Native), baseType(p.to.Native)
	switch {
	case p.from.Kind == schema.KindBytes && p.intoMySQL() && catalog.BytesNative(&p.to):
		return nil // the server takes no bytes that are none of its own
	case readByServer(&p.from, &p.to, p.source, p.target):
		return p.toServer()
	case p.toMySQL && addresses[to] && (p.from.Kind == schema.KindText || p.crossing && from == "inet"):
		return p.toAddress()
	case p.from.Kind != schema.KindNative || p.crossing:
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
