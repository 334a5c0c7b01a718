package catalog

import (
	"fmt"
	"slices"
	"strings"

	"cdc-sidecar/schema"
)

const (
	// mysqlKeyBytes is how long the columns of a key of InnoDB may be together.
	mysqlKeyBytes = 3072
	// mysqlKeyText is the length, in characters or bytes, of a key's column that has none elsewhere, where the key is not too long.
	mysqlKeyText = 255
	// mysqlRowBytes is what a row may hold in columns that are not of a text or blob type, but for what the server needs itself.
	mysqlRowBytes = 65535 - 512
	// mysqlCharBytes is what the server reckons for a character of utf8mb4.
	mysqlCharBytes = 4
	// mysqlOtherBytes is more than a value takes of a type that has no length; text and blobs leave a pointer in the row.
	mysqlOtherBytes = 40
	// mysqlFixedLength is the greatest length of char and binary.
	mysqlFixedLength = 255
	// The greatest precision and scale of a decimal.
	mysqlPrecision, mysqlScale = 65, 30
	// mysqlBits is the greatest length of bit.
	mysqlBits = 64
)

// The lengths that hold whatever is written of a value as text.
const (
	enumText     = 255
	timeTZText   = 40
	intervalText = 120
	addressText  = 45
	uuidText     = "char(36) CHARACTER SET ascii"
)

// mysqlAddresses are MariaDB's native types that are written as text.
var mysqlAddresses = map[string]bool{"inet4": true, "inet6": true}

// mysqlSpatial are the native types that MySQL and MariaDB both have.
var mysqlSpatial = map[string]bool{
	"geometry": true, "point": true, "linestring": true, "polygon": true, "multipoint": true, "multilinestring": true, "multipolygon": true,
	"geometrycollection": true, "geomcollection": true,
}

// mysqlSpec is a type before it is known whether all of them fit into one row and one key.
type mysqlSpec struct {
	text  string // of a type that is as long as it is
	key   bool
	exact bool // a text that is compared byte by byte though it is in no key: of a unique index, of a foreign key
	bound bool // it needs its length

	// Of one with a length: varchar, char, varbinary or binary.
	name   string
	length int // 0: not limited
	unit   int // the bytes of one character, or 1
}

// bytes is what it takes of a row at most.
func (s *mysqlSpec) bytes() int {
	if s.name == "" || s.length == 0 {
		return mysqlOtherBytes
	}
	return s.length*s.unit + 2
}

// collation is how keys are compared: by their bytes, blanks at the end not left out.
func collation(engine schema.Engine) string {
	if engine == schema.MariaDB {
		return " COLLATE utf8mb4_nopad_bin"
	}
	return " COLLATE utf8mb4_0900_bin"
}

// ddl is the type as the statement has it.
func (s *mysqlSpec) ddl(engine schema.Engine) string {
	more := ""
	if s.unit == mysqlCharBytes {
		more = " CHARACTER SET utf8mb4"
		if s.key || s.exact {
			more += collation(engine)
		}
	}
	switch {
	case s.name == "":
		return s.text
	case s.length > 0:
		return fmt.Sprintf("%s(%d)%s", s.name, s.length, more)
	case s.unit == mysqlCharBytes:
		return "longtext" + more
	}
	return "longblob"
}

// mysqlSpecs are the types of all columns, each by itself.
func mysqlSpecs(engine schema.Engine, t *schema.Table) ([]mysqlSpec, error) {
	specs := make([]mysqlSpec, len(t.Columns))
	for i := range t.Columns {
		var err error
		if specs[i], err = mysqlColumnType(engine, t, i); err != nil {
			return nil, err
		}
	}
	return specs, nil
}

func mysqlColumnTypes(engine schema.Engine, t *schema.Table) ([]string, error) {
	specs, err := mysqlSpecs(engine, t)
	if err != nil {
		return nil, err
	}
	fitKey(specs)
	fitRow(specs)
	types := make([]string, len(specs))
	for i := range specs {
		types[i] = specs[i].ddl(engine)
		if t.Engine != schema.Postgres && strings.HasPrefix(types[i], "timestamp") {
			// A timestamp of which nothing is said would follow the clock whenever its row is written.
			types[i] += map[bool]string{true: " NULL", false: " DEFAULT '1970-01-02 00:00:00'"}[mayBeNull(t, i)]
		}
	}
	return types, generatedKey(t)
}

// fitKey gives the key's columns lengths that one index takes. The shortest come first: what they do not need is left to others.
func fitKey(specs []mysqlSpec) {
	left := mysqlKeyBytes
	var limited []*mysqlSpec
	for i := range specs {
		switch s := &specs[i]; {
		case s.key && s.name == "":
			left -= mysqlOtherBytes
		case s.key:
			limited = append(limited, s)
		}
	}
	slices.SortStableFunc(limited, func(a, b *mysqlSpec) int { return a.want() - b.want() })
	for i, s := range limited {
		share := left / (len(limited) - i)
		s.length = max(min(s.want(), share)/s.unit, 1)
		left -= s.length * s.unit
	}
}

// want is how many bytes of the key a column would like to have.
func (s *mysqlSpec) want() int {
	if s.length == 0 {
		return mysqlKeyText * s.unit
	}
	return s.length * s.unit
}

// fitRow makes the longest columns text or blobs, which do not count, until a row is not too long.
func fitRow(specs []mysqlSpec) {
	for {
		sum, longest := len(specs)/8, -1
		for i := range specs {
			s := &specs[i]
			sum += s.bytes()
			if !s.key && !s.bound && s.name != "" && s.length > 0 && (longest < 0 || s.bytes() > specs[longest].bytes()) {
				longest = i
			}
		}
		if sum <= mysqlRowBytes || longest < 0 {
			return
		}
		specs[longest].length = 0
	}
}

// mysqlColumnType is a type for a column: the one of the same name in its own family, else by what its values mean.
func mysqlColumnType(engine schema.Engine, t *schema.Table, i int) (mysqlSpec, error) {
	c, key := &t.Columns[i], slices.Contains(t.Key, i)
	related := t.Engine != schema.Postgres
	plain := func(text string) (mysqlSpec, error) { return mysqlSpec{text: text, key: key}, nil }
	text := func(n int) (mysqlSpec, error) { return mysqlTextSpec(c, n, key, related), nil }
	switch c.Kind {
	case schema.KindText:
		return text(c.Size)
	case schema.KindBytes:
		return mysqlBytesSpec(c, key, related), nil
	case schema.KindJSON:
		if key {
			return text(0)
		}
		return plain("json")
	case schema.KindUUID:
		if related && engine == schema.MariaDB {
			return plain(c.Native)
		}
		return plain(uuidText)
	case schema.KindEnum, schema.KindSet:
		if related {
			return plain(c.Native + " CHARACTER SET utf8mb4" + collation(engine))
		}
		return text(enumText)
	case schema.KindTimeTZ:
		return text(timeTZText)
	case schema.KindInterval:
		return text(intervalText)
	case schema.KindBit:
		if !c.Fixed || c.Size > mysqlBits {
			return text(c.Size)
		}
	case schema.KindDecimal:
		if c.Size > mysqlPrecision || c.Scale > mysqlScale {
			return text(0)
		}
	case schema.KindNative:
		switch {
		case related && (engine == t.Engine || mysqlSpatial[baseName(c.Native)]):
			return plain(c.Native)
		case related && mysqlAddresses[baseName(c.Native)]:
			return text(addressText)
		case related:
			return mysqlSpec{}, untyped(t, c, "is unknown to "+string(engine))
		}
		return text(0)
	}
	if related && c.Native != "" {
		return plain(c.Native)
	}
	simple := mysqlSimple(c)
	if simple == "" {
		return mysqlSpec{}, untyped(t, c, "is not known")
	}
	return plain(simple)
}

// mysqlSimple is a type without a length that matters, for values of a Postgres.
func mysqlSimple(c *schema.Column) string {
	switch c.Kind {
	case schema.KindBool:
		return "tinyint(1)"
	case schema.KindInt:
		name := map[int]string{8: "tinyint", 16: "smallint", 24: "mediumint", 32: "int"}[c.Size]
		if name == "" {
			name = "bigint"
		}
		return name + map[bool]string{true: " unsigned"}[c.Unsigned]
	case schema.KindDecimal:
		switch {
		case c.Size == 0:
			return fmt.Sprintf("decimal(%d,%d)", mysqlPrecision, mysqlScale)
		case c.Scale < 0: // it counts hundreds
			return fmt.Sprintf("decimal(%d,0)", min(c.Size-c.Scale, mysqlPrecision))
		}
		return fmt.Sprintf("decimal(%d,%d)", max(c.Size, c.Scale), c.Scale)
	case schema.KindFloat:
		return map[bool]string{true: "float", false: "double"}[c.Size == 32]
	case schema.KindDate, schema.KindYear:
		return c.Kind.String()
	case schema.KindTime:
		return fmt.Sprintf("time(%d)", fraction(c))
	case schema.KindTimestamp, schema.KindTimestampTZ: // TIMESTAMP would end in 2038
		return fmt.Sprintf("datetime(%d)", fraction(c))
	case schema.KindBit:
		return fmt.Sprintf("bit(%d)", max(c.Size, 1))
	}
	return ""
}

func fraction(c *schema.Column) int {
	if c.Scale < 0 {
		return fullFraction
	}
	return min(c.Scale, fullFraction)
}

// mysqlTextSpec is a type for text of n characters at most; 0: of any length. The text types of its own family stay what they are.
func mysqlTextSpec(c *schema.Column, n int, key, related bool) mysqlSpec {
	s := mysqlSpec{name: "varchar", length: n, unit: mysqlCharBytes, key: key}
	switch {
	case related && strings.HasSuffix(c.Native, "text"):
		if s.length = 0; !key {
			return mysqlSpec{text: c.Native + " CHARACTER SET utf8mb4"}
		}
	case c.Kind == schema.KindText && c.Fixed && n <= mysqlFixedLength:
		s.name = "char"
	}
	return s
}

func mysqlBytesSpec(c *schema.Column, key, related bool) mysqlSpec {
	s := mysqlSpec{name: "varbinary", length: c.Size, unit: 1, key: key}
	switch {
	case related && strings.HasSuffix(c.Native, "blob"):
		if s.length = 0; !key {
			return mysqlSpec{text: c.Native}
		}
	case c.Fixed && c.Size <= mysqlFixedLength:
		s.name = "binary"
	}
	return s
}
