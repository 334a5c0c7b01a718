package catalog

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"cdc-sidecar/schema"
)

// postgresRows are the types of a Postgres in docs/types.md, by what the catalog has of them.
var postgresRows = []struct {
	name     string
	oid      uint32
	modifier int32
}{
	{"boolean", pgtype.BoolOID, -1},
	{"smallint", pgtype.Int2OID, -1},
	{"integer", pgtype.Int4OID, -1},
	{"bigint", pgtype.Int8OID, -1},
	{"oid", pgtype.OIDOID, -1},
	{"numeric", pgtype.NumericOID, -1},
	{"numeric(12,2)", pgtype.NumericOID, 12<<16 + 2 + lengthHeader},
	{"numeric(3,-2)", pgtype.NumericOID, 3<<16 + (-2 & 0x7ff) + lengthHeader},
	{"numeric(1000)", pgtype.NumericOID, 1000<<16 + lengthHeader},
	{"real", pgtype.Float4OID, -1},
	{"double precision", pgtype.Float8OID, -1},
	{"money", 790, -1},
	{"text", pgtype.TextOID, -1},
	{"varchar(10)", pgtype.VarcharOID, 10 + lengthHeader},
	{"char(5)", pgtype.BPCharOID, 5 + lengthHeader},
	{"char(300)", pgtype.BPCharOID, 300 + lengthHeader},
	{"name", pgtype.NameOID, -1},
	{"bytea", pgtype.ByteaOID, -1},
	{"bit(8)", pgtype.BitOID, 8},
	{"bit(100)", pgtype.BitOID, 100},
	{"bit varying", pgtype.VarbitOID, -1},
	{"date", pgtype.DateOID, -1},
	{"time", pgtype.TimeOID, -1},
	{"time with time zone", pgtype.TimetzOID, -1},
	{"timestamp", pgtype.TimestampOID, -1},
	{"timestamp(3)", pgtype.TimestampOID, 3},
	{"timestamp with time zone", pgtype.TimestamptzOID, -1},
	{"interval", pgtype.IntervalOID, -1},
	{"json", pgtype.JSONOID, -1},
	{"jsonb", pgtype.JSONBOID, -1},
	{"uuid", pgtype.UUIDOID, -1},
	{"inet, cidr, macaddr, macaddr8", pgtype.InetOID, -1},
	{"point, line, lseg, box, path, polygon, circle", pgtype.PointOID, -1},
	{"xml, jsonpath, tsvector, tsquery, pg_lsn", pgtype.XMLOID, -1},
	{"arrays", pgtype.Int4ArrayOID, -1},
	{"ranges, multiranges", pgtype.Int4rangeOID, -1},
	{"composite types; types of extensions: hstore, ltree, vector, geometry, geography …", 0, -1},
}

// usersRows are types that somebody has made.
var usersRows = []struct {
	name  string
	types postgresTypes
}{
	{"enum types", postgresTypes{1: {enum: true, labels: []string{"a"}}}},
	{"citext", postgresTypes{1: {base: 1, name: "citext"}}},
	{"a domain over numeric(8,2)", postgresTypes{1: {base: pgtype.NumericOID, modifier: 8<<16 + 2 + lengthHeader}}},
}

// mysqlRows are the types of MySQL and MariaDB.
var mysqlRows = []struct {
	name    string
	engines []schema.Engine // nil: both
	MySQLType
}{
	{"tinyint, tinyint(1)", nil, MySQLType{Name: "tinyint", Full: "tinyint"}},
	{"tinyint unsigned", nil, MySQLType{Name: "tinyint", Full: "tinyint unsigned"}},
	{"smallint", nil, MySQLType{Name: "smallint", Full: "smallint"}},
	{"smallint unsigned", nil, MySQLType{Name: "smallint", Full: "smallint unsigned"}},
	{"mediumint, also unsigned", nil, MySQLType{Name: "mediumint", Full: "mediumint unsigned"}},
	{"int", nil, MySQLType{Name: "int", Full: "int"}},
	{"int unsigned", nil, MySQLType{Name: "int", Full: "int unsigned"}},
	{"bigint", nil, MySQLType{Name: "bigint", Full: "bigint"}},
	{"bigint unsigned", nil, MySQLType{Name: "bigint", Full: "bigint unsigned"}},
	{"decimal(12,2), also unsigned", nil, MySQLType{Name: "decimal", Full: "decimal(12,2)", Precision: 12, Scale: 2}},
	{"float", nil, MySQLType{Name: "float", Full: "float"}},
	{"double", nil, MySQLType{Name: "double", Full: "double"}},
	{"bit(8)", nil, MySQLType{Name: "bit", Full: "bit(8)", Precision: 8}},
	{"char(5), of any character set", nil, MySQLType{Name: "char", Full: "char(5)", Length: 5}},
	{"varchar(10), of any character set", nil, MySQLType{Name: "varchar", Full: "varchar(10)", Length: 10}},
	{"tinytext, text, mediumtext, longtext", nil, MySQLType{Name: "text", Full: "text", Length: 65535}},
	{"binary(4)", nil, MySQLType{Name: "binary", Full: "binary(4)", Length: 4}},
	{"varbinary(8)", nil, MySQLType{Name: "varbinary", Full: "varbinary(8)", Length: 8}},
	{"tinyblob, blob, mediumblob, longblob", nil, MySQLType{Name: "blob", Full: "blob", Length: 65535}},
	{"enum('a')", nil, MySQLType{Name: "enum", Full: "enum('a')"}},
	{"set('a')", nil, MySQLType{Name: "set", Full: "set('a')"}},
	{"date", nil, MySQLType{Name: "date", Full: "date"}},
	{"time(6)", nil, MySQLType{Name: "time", Full: "time(6)", Fraction: 6}},
	{"datetime(6)", nil, MySQLType{Name: "datetime", Full: "datetime(6)", Fraction: 6}},
	{"timestamp(6)", nil, MySQLType{Name: "timestamp", Full: "timestamp(6)", Fraction: 6}},
	{"year", nil, MySQLType{Name: "year", Full: "year"}},
	{"json", []schema.Engine{schema.MySQL}, MySQLType{Name: "json", Full: "json"}},
	{"json", []schema.Engine{schema.MariaDB}, MySQLType{Name: "json", Full: "longtext"}},
	{"uuid", []schema.Engine{schema.MariaDB}, MySQLType{Name: "uuid", Full: "uuid"}},
	{"inet4, inet6", []schema.Engine{schema.MariaDB}, MySQLType{Name: "inet6", Full: "inet6"}},
	{"vector(3)", nil, MySQLType{Name: "vector", Full: "vector(3)"}},
	{"geometry, point, linestring, polygon, multi…, geometrycollection", nil, MySQLType{Name: "geometry", Full: "geometry"}},
}

func cell(f Fit) string {
	f.Type, _, _ = strings.Cut(f.Type, " CHARACTER SET")
	switch {
	case f.Fate == Refused:
		_, why, _ := strings.Cut(f.Why, "its type ")
		return "refused: " + why
	case f.Not != "":
		return fmt.Sprintf("%s: `%s`; refused: %s", f.Fate, f.Type, f.Not)
	}
	return fmt.Sprintf("%s: `%s`", f.Fate, f.Type)
}

func typesDocument() string {
	var b strings.Builder
	b.WriteString(typesHead)
	b.WriteString("\n## From Postgres\n\n| Postgres | in MariaDB | in MySQL |\n| --- | --- | --- |\n")
	row := func(name string, c schema.Column) {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, cell(FitOf(schema.MariaDB, schema.Postgres, c)), cell(FitOf(schema.MySQL, schema.Postgres, c)))
	}
	for _, r := range postgresRows {
		var c schema.Column
		postgresTypes{}.describe(&c, r.oid, r.modifier)
		row(r.name, c)
	}
	for _, r := range usersRows {
		var c schema.Column
		r.types.describe(&c, 1, -1)
		row(r.name, c)
	}
	b.WriteString("\n## From MySQL and MariaDB\n\n| type | in Postgres | in the other of the two |\n| --- | --- | --- |\n")
	for _, r := range mysqlRows {
		var c schema.Column
		r.Describe(&c)
		name, other := r.name, []string{}
		for _, from := range []schema.Engine{schema.MySQL, schema.MariaDB} {
			if r.engines == nil || slices.Contains(r.engines, from) {
				to := map[schema.Engine]schema.Engine{schema.MySQL: schema.MariaDB, schema.MariaDB: schema.MySQL}[from]
				other = append(other, cell(FitOf(to, from, c)))
			}
		}
		if r.engines != nil {
			name += " of " + string(r.engines[0])
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, cell(FitOf(schema.Postgres, schema.MySQL, c)), strings.Join(slices.Compact(other), "; "))
	}
	b.WriteString(typesMixed)
	for _, r := range rules {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.from, r.to, r.only)
	}
	b.WriteString(typesTail)
	return b.String()
}

const typesHead = `# Types

This page is made of the tables in catalog/matrix.go that the program uses: ` + "`go test ./catalog -run TypesDocument -update`" + `. That they
tell the truth is proved with every value of testdata/types on real servers (conformance): Postgres 15 to 18, MariaDB 10.11 and 11.8, MySQL 9.7; the
extensions PostGIS 3.3 and pgvector 0.8 on Postgres 15. Where a server lacks an extension, its files are left out.

Between two Postgres, two MySQL and two MariaDB every type is exact, byte for byte; what the sidecar does not know travels as the server's
own text. (One value is not: the empty one, of number 0, that an ENUM of MySQL gets for what was none of its labels in a session that is not
strict; a strict session cannot write it, and the sidecar's is strict.) Columns that the database computes are computed by each for itself.

Elsewhere a column that the sidecar makes gets the type below: **exact** is one of the same kind, **mapped** one of another in which the value
is the same, and which is taken back as what it was. A single value that cannot be held is **refused**: the stream halts with table, key, column and
reason, unless the configuration says what to write instead:

    tables:
      - name: public.prices
        columns:
          listed: {unmapped: null}          # error (when it is left out) | null | {value: 0}
`

const typesMixed = `
Lengths are those of the column. In a key text and bytes get a length that an index takes.

## What else may be chosen

A column that a person has made may have any type into which the values fit: of the same kind, text for everything but bytes and instants, and

| from | into | what |
| --- | --- | --- |
`

const typesTail = `
What does not fit by its range, length, digits or fraction of a second is refused, never rounded or cut.
`

const typesPath = "../docs/types.md"

func TestTypesDocument(t *testing.T) {
	want := typesDocument()
	if *update {
		if err := os.WriteFile(typesPath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(typesPath); err != nil || string(got) != want {
		t.Errorf("docs/types.md is not what the tables say (%v): go test ./catalog -run TypesDocument -update", err)
	}
}
