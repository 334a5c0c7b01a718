package catalog

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"cdc-sidecar/schema"
)

// PostgresSelect are the expressions, one for each column, that read a row with the text that the log has of it, in a
// session with the settings of PostgresSession. A generated column's is empty: the log does not have it.
func (t *Table) PostgresSelect() []string {
	list := make([]string, len(t.Columns))
	for i := range t.Columns {
		if c := &t.Columns[i]; !c.Generated {
			list[i] = quotePostgres(c.Name)
		}
	}
	return list
}

func quotePostgres(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// PostgresCanonical converts the text that Postgres writes of a column's values, in the log and in results, to the canonical
// one (see schema.Kind). It is nil where that is the same text. Most values come back without a copy.
func PostgresCanonical(c *schema.Column) func(text string) (string, error) {
	switch c.Kind {
	case schema.KindBool:
		return postgresBool
	case schema.KindBytes:
		return postgresBytes
	case schema.KindFloat:
		if c.Size == 32 {
			return canonicalFloat32
		}
		return canonicalFloat64
	case schema.KindTimestampTZ:
		return postgresInstant
	case schema.KindText:
		if c.Fixed {
			return unpadded
		}
	}
	return nil
}

func postgresBool(text string) (string, error) {
	switch text {
	case "t":
		return "1", nil
	case "f":
		return "0", nil
	}
	return "", fmt.Errorf("%q is no boolean", text)
}

func postgresBytes(text string) (string, error) {
	digits, ok := strings.CutPrefix(text, `\x`)
	if !ok {
		return "", errors.New("bytes are not written as hex")
	}
	b, err := hex.DecodeString(digits)
	return string(b), err
}

func canonicalFloat32(text string) (string, error) { return canonicalFloat(text, 32) }
func canonicalFloat64(text string) (string, error) { return canonicalFloat(text, 64) }

func canonicalFloat(text string, bits int) (string, error) {
	switch text {
	case "NaN", "Infinity", "-Infinity":
		return text, nil
	}
	f, err := strconv.ParseFloat(text, bits)
	if err != nil {
		return "", err
	}
	var room [32]byte
	short := strconv.AppendFloat(room[:0], f, 'g', -1, bits)
	if string(short) == text {
		return text, nil
	}
	return string(short), nil
}

// postgresInstant takes the zone off, which is UTC because the session says so.
func postgresInstant(text string) (string, error) {
	if strings.HasSuffix(text, "infinity") {
		return text, nil
	}
	if inUTC, ok := strings.CutSuffix(text, "+00"); ok {
		return inUTC, nil
	}
	if inUTC, ok := strings.CutSuffix(text, "+00 BC"); ok {
		return inUTC + " BC", nil
	}
	return "", fmt.Errorf("%q is not in UTC", text)
}

// unpadded: char(n) has no trailing blanks of its own in any engine.
func unpadded(text string) (string, error) { return strings.TrimRight(text, " "), nil }
