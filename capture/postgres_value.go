package capture

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"cdc-sidecar/schema"
)

// postgresText says how Postgres' text of a value becomes the canonical one.
type postgresText uint8

const (
	asWritten postgresText = iota
	asBool
	asBytes
	asFloat32
	asFloat64
	asInstant
	asPadded
)

// postgresTextOf chooses by a column's definition.
func postgresTextOf(c *schema.Column) postgresText {
	switch c.Kind {
	case schema.KindBool:
		return asBool
	case schema.KindBytes:
		return asBytes
	case schema.KindFloat:
		if c.Size == 32 {
			return asFloat32
		}
		return asFloat64
	case schema.KindTimestampTZ:
		return asInstant
	case schema.KindText:
		if c.Fixed {
			return asPadded
		}
	}
	return asWritten
}

// canonical converts one value. Most come back as they are, without a copy.
func (p postgresText) canonical(text string) (string, error) {
	switch p {
	case asBool:
		switch text {
		case "t":
			return "1", nil
		case "f":
			return "0", nil
		}
		return "", fmt.Errorf("%q is no boolean", text)
	case asBytes:
		digits, ok := strings.CutPrefix(text, `\x`)
		if !ok {
			return "", fmt.Errorf("bytes are not written as hex")
		}
		b, err := hex.DecodeString(digits)
		return string(b), err
	case asFloat32:
		return canonicalFloat(text, 32)
	case asFloat64:
		return canonicalFloat(text, 64)
	case asInstant:
		return canonicalInstant(text)
	case asPadded:
		return strings.TrimRight(text, " "), nil // char(n) has no trailing blanks of its own in any engine
	default:
		return text, nil
	}
}

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

// canonicalInstant takes the zone off, which is UTC because the session says so.
func canonicalInstant(text string) (string, error) {
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
