package catalog

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// shown is what a definition says besides its Table, a line for each thing.
func shown(d *schema.Definition) string {
	var b strings.Builder
	expression := func(e schema.Expression) string { return strings.TrimSpace(string(e.Kind) + " " + e.Text) }
	for i, x := range d.Details {
		fmt.Fprintf(&b, "%s:", d.Columns[i].Name)
		for _, part := range []struct {
			say  bool
			text string
		}{
			{x.Default != schema.Expression{}, " default " + expression(x.Default)},
			{x.Computed != schema.Expression{}, " as " + expression(x.Computed)},
			{x.Stored, " stored"},
			{x.Serial, " serial"},
			{x.Comment != "", " -- " + x.Comment},
		} {
			if part.say {
				b.WriteString(part.text)
			}
		}
		b.WriteByte('\n')
	}
	for _, x := range d.Indexes {
		fmt.Fprintf(&b, "index %s unique %t %s:", x.Name, x.Unique, x.Method)
		for _, p := range x.Parts {
			fmt.Fprintf(&b, " %s%s prefix %d descending %t", p.Column, expression(p.Expression), p.Prefix, p.Descending)
		}
		b.WriteByte('\n')
	}
	for _, k := range d.ForeignKeys {
		fmt.Fprintf(&b, "foreign key %s %v of %s %v delete %q update %q\n", k.Name, k.Columns, k.Parent, k.ParentColumns, k.OnDelete, k.OnUpdate)
	}
	for _, c := range d.Checks {
		fmt.Fprintf(&b, "check %s %s\n", c.Name, expression(c.Expression))
	}
	return b.String() + "comment " + d.Comment
}

// inMySQL are a MariaDB's statements, and what a definition says of them, as MySQL has them.
func inMySQL(pairs ...string) func(string) string {
	if !servers.Oracle() {
		return func(text string) string { return text }
	}
	return strings.NewReplacer(pairs...).Replace
}

func TestReadMySQLDefinition(t *testing.T) {
	db, name := openMariaDB(t)
	statements := inMySQL(
		"DEFAULT curdate()", "DEFAULT (curdate())", "u uuid DEFAULT uuid()", "u varchar(36) DEFAULT (uuid())", "DEFAULT uuid()", "DEFAULT (uuid())", "DEFAULT '{}'", "DEFAULT ('{}')",
		"DEFAULT rand()", "DEFAULT (rand())", "DEFAULT x'6162'", "DEFAULT (x'6162')", "DEFAULT x'ff'", "DEFAULT (x'ff')", "PERSISTENT", "STORED", "UNIQUE u2 (tx)", "UNIQUE u2 (tx(100))")
	for _, statement := range []string{
		"CREATE TABLE p (a int, b varchar(10), PRIMARY KEY (a, b))",
		`CREATE TABLE d (id bigint AUTO_INCREMENT PRIMARY KEY COMMENT 'the "number"', i int DEFAULT -5, s varchar(20) DEFAULT 'it''s a \\', n varchar(20) NULL DEFAULT NULL,
			m decimal(10,2) NOT NULL DEFAULT 1.5, f double DEFAULT 0.1, g float DEFAULT 1e10, bt bit(4) DEFAULT b'101', bo bool DEFAULT TRUE, y year DEFAULT 1999, z int(4) zerofill DEFAULT 7,
			e enum('a','b') NOT NULL DEFAULT 'b', x set('x','y') DEFAULT 'x,y', da date DEFAULT '2020-02-03', dn date DEFAULT curdate(), ti time(3) DEFAULT '10:00:00.500',
			ts timestamp(3) NOT NULL DEFAULT current_timestamp(3) ON UPDATE current_timestamp(3), t0 timestamp NOT NULL DEFAULT '2000-01-01 00:00:00' ON UPDATE now(), dt datetime ON UPDATE now(), d6 datetime(6) DEFAULT '2020-01-01 10:00:00.120',
			u uuid DEFAULT uuid(), q varchar(40) DEFAULT uuid(), j json DEFAULT '{}', ex int DEFAULT (1 + 2), rn double DEFAULT rand(), bi binary(2) DEFAULT 'ab', bl blob DEFAULT x'6162', br blob DEFAULT x'ff',
			v int AS (i + 1) VIRTUAL, w varchar(30) AS (lcase(s)) STORED, c int AS (length(s)) PERSISTENT,
			pa int, pb varchar(10), pt point NOT NULL, tx text,
			KEY k1 (i, s(3)), UNIQUE u1 (n, i DESC), FULLTEXT ft (tx), SPATIAL sp (pt), KEY k2 (tx(10)), UNIQUE u2 (tx),
			CONSTRAINT fk FOREIGN KEY (pa, pb) REFERENCES p (a, b) ON DELETE CASCADE ON UPDATE SET NULL,
			CONSTRAINT c1 CHECK (i > 0 AND s IN ('a','it''s') OR NOT i BETWEEN 1 AND -3), CONSTRAINT c2 CHECK (char_length(s) <> 3 AND ucase(n) IS NOT NULL), CONSTRAINT c3 CHECK (s LIKE 'a%' OR i MOD 2 = 1)
			) COMMENT 'a table'`,
	} {
		if _, err := db.ExecContext(t.Context(), statements(statement)); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	golden := inMySQL(
		"octet_length", "length", "tx prefix 0 descending false\nforeign", "tx prefix 100 descending false\nforeign",
		`"i" > 0 AND "s" IN ('a', 'it''s') OR "i" NOT BETWEEN 1 AND -3`, `(("i" > 0) AND ("s" IN ('a', 'it''s'))) OR ("i" NOT BETWEEN 1 AND -(3))`,
		"`s` like 'a%' or `i` MOD 2 = 1", "((`s` like _utf8mb4'a%') or ((`i` % 2) = 1))")
	d, err := ReadMySQLDefinition(t.Context(), db, name, "d", name)
	if err != nil || d == nil {
		t.Fatalf("got %v, %v", d, err)
	}
	table, err := ReadMySQLTable(t.Context(), db, name, "d", name)
	if err != nil || table == nil || table.Fingerprint() != d.Table.Fingerprint() {
		t.Errorf("its table is another than ReadMySQLTable gives: %v", err)
	}
	if diff := cmp.Diff(strings.TrimSpace(golden(mysqlShown)), shown(d)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	all, err := ReadMySQLDefinitions(t.Context(), db, name)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, one := range all {
		if one.Schema == "" {
			found++
		}
		if one.Schema == "" && one.Name == "d" && one.Fingerprint() != d.Fingerprint() {
			t.Error("all at once, the table is another")
		}
	}
	if found != 2 {
		t.Errorf("%d tables of the database, want 2", found)
	}
	if none, err := ReadMySQLDefinition(t.Context(), db, name, "no such", name); err != nil || none != nil {
		t.Errorf("no table: %v, %v", none, err)
	}
}

const mysqlShown = `
id: serial -- the "number"
i: default literal -5
s: default literal it's a \
n:
m: default literal 1.50
f: default literal 0.1
g: default literal 1e+10
bt: default literal 0101
bo: default literal 1
y: default literal 1999
z: default literal 7
e: default literal b
x: default literal x,y
da: default literal 2020-02-03
dn: default now
ti: default literal 10:00:00.5
ts: default now ON UPDATE CURRENT_TIMESTAMP(3)
t0: default native '2000-01-01 00:00:00' ON UPDATE CURRENT_TIMESTAMP
dt: default ON UPDATE CURRENT_TIMESTAMP
d6: default literal 2020-01-01 10:00:00.12
u: default uuid
q: default uuid
j: default literal {}
ex: default portable 1 + 2
rn: default native rand()
bi: default literal ab
bl: default literal ab
br: default native 0xff
v: as portable "i" + 1
w: as portable LOWER("s") stored
c: as native octet_length(` + "`" + `s` + "`" + `) stored
pa:
pb:
pt:
tx:
index fk unique false : pa prefix 0 descending false pb prefix 0 descending false
index ft unique false fulltext: tx prefix 0 descending false
index k1 unique false : i prefix 0 descending false s prefix 3 descending false
index k2 unique false : tx prefix 10 descending false
index sp unique false spatial: pt prefix 0 descending false
index u1 unique true : n prefix 0 descending false i prefix 0 descending true
index u2 unique true : tx prefix 0 descending false
foreign key fk [pa pb] of p [a b] delete "cascade" update "set null"
check c1 portable "i" > 0 AND "s" IN ('a', 'it''s') OR "i" NOT BETWEEN 1 AND -3
check c2 portable CHAR_LENGTH("s") <> 3 AND UPPER("n") IS NOT NULL
check c3 native ` + "`" + `s` + "`" + ` like 'a%' or ` + "`" + `i` + "`" + ` MOD 2 = 1
comment a table
`

func TestMySQLExpressions(t *testing.T) {
	for _, test := range []struct {
		engine     schema.Engine
		text, want string // want: of portable text; empty: native
	}{
		{schema.MariaDB, "`a` > 0 and `b` in ('x','it\\'s')", `"a" > 0 AND "b" IN ('x', 'it''s')`},
		{schema.MySQL, `((` + "`a`" + ` > -1) and (` + "`b`" + ` = _utf8mb4\'x\'))`, `"a" > -1 AND "b" = 'x'`},
		{schema.MySQL, "((`a` or `b`) and ((`c` = 1) or (`d` in (1)))) ", `("a" OR "b") AND ("c" = 1 OR "d" IN (1))`},
		{schema.MySQL, "((`a` - (`b` - `c`)) * (2 + 1))", `("a" - ("b" - "c")) * (2 + 1)`},
		{schema.MySQL, "((`a` - `b`) - `c`)", `"a" - "b" - "c"`},
		{schema.MySQL, "((not((`a` = 1))) and (`b` = (`c` = 2)) and ((`a` = 1) = `b`))", `NOT "a" = 1 AND "b" = ("c" = 2) AND ("a" = 1) = "b"`},
		{schema.MySQL, "((not(`a`)) = 1)", `(NOT "a") = 1`},
		{schema.MySQL, "((`a` between 1 and 2) and (`b` = 1))", `("a" BETWEEN 1 AND 2) AND ("b" = 1)`},
		{schema.MySQL, "(lower((`a`)) = coalesce((`b`),((1 + 2))))", `LOWER("a") = COALESCE("b", 1 + 2)`},
		{schema.MySQL, "(`a` > -(9))", `"a" > -9`},
		{schema.MySQL, "(`a` - -(`b`))", `"a" - -"b"`},
		{schema.MariaDB, "lcase(`a`) <> 'x' or `b` is not null", `LOWER("a") <> 'x' OR "b" IS NOT NULL`},
		{schema.MariaDB, "`a` != 1.50", `"a" <> 1.50`},
		{schema.MariaDB, "`a``\"` between 1 and 2", "\"a`\"\"\" BETWEEN 1 AND 2"},
		{schema.MariaDB, "`s` = ')'", `"s" = ')'`},
		{schema.MariaDB, "(`a`) + (`b`)", `"a" + "b"`},
		{schema.MariaDB, "`a` like 'x%'", ""},
		{schema.MariaDB, "`t`.`a` = 1", ""},
		{schema.MariaDB, "length(`a`) = 1", ""},
		{schema.MariaDB, "`a` = _binary'x'", ""},
		{schema.MariaDB, "`a` = 1e3", ""},
		{schema.MariaDB, "`a` = 0x10", ""},
		{schema.MariaDB, "`a` = b'1'", ""},
		{schema.MariaDB, "`a` = 'open", ""},
		{schema.MariaDB, "`a` % 2 = 1", ""},
		{schema.MariaDB, "`a` & 2 = 1", ""},
		{schema.MariaDB, "lower (`a`)", ""},
		{schema.MariaDB, "true", ""},
		{schema.MariaDB, "", ""},
	} {
		got := mysqlExpression(test.engine, test.text)
		if test.want == "" {
			test.want = test.text
			if got.Kind != schema.NativeText {
				t.Errorf("%s: %s", test.text, got.Kind)
			}
		} else if got.Kind != schema.PortableText {
			t.Errorf("%s: %s", test.text, got.Kind)
		}
		if got.Text != test.want {
			t.Errorf("%s: got %s, want %s", test.text, got.Text, test.want)
		}
	}
}

// TestMySQLDefaultsOracle: MySQL tells values where MariaDB tells expressions.
func TestMySQLDefaultsOracle(t *testing.T) {
	text, number, at := schema.Column{Kind: schema.KindText}, schema.Column{Kind: schema.KindInt}, schema.Column{Kind: schema.KindTimestamp}
	for _, test := range []struct {
		column      schema.Column
		text, extra string
		want        schema.Expression
	}{
		{text, "uuid()", "", schema.Expression{Kind: schema.LiteralValue, Text: "uuid()"}},
		{text, "NULL", "", schema.Expression{Kind: schema.LiteralValue, Text: "NULL"}},
		{text, "uuid()", "default_generated", schema.Expression{Kind: schema.RandomUUID}},
		{text, `_utf8mb4\'a\'`, "default_generated", schema.Expression{Kind: schema.LiteralValue, Text: "a"}},
		{text, "'", "", schema.Expression{Kind: schema.LiteralValue, Text: "'"}},
		{number, "(1 + 2)", "default_generated", schema.Expression{Kind: schema.PortableText, Text: "1 + 2"}},
		{number, "-3", "", schema.Expression{Kind: schema.LiteralValue, Text: "-3"}},
		{at, "CURRENT_TIMESTAMP(3)", "default_generated on update current_timestamp(3)", schema.Expression{Kind: schema.CurrentTime, Text: "ON UPDATE CURRENT_TIMESTAMP(3)"}},
		{at, "2020-01-01 00:00:00", "on update current_timestamp", schema.Expression{Kind: schema.NativeText, Text: "'2020-01-01 00:00:00' ON UPDATE CURRENT_TIMESTAMP"}},
		{schema.Column{Kind: schema.KindBit, Size: 4}, "b'101'", "", schema.Expression{Kind: schema.LiteralValue, Text: "0101"}},
		{schema.Column{Kind: schema.KindJSON}, `_utf8mb4\'{}\'`, "default_generated", schema.Expression{Kind: schema.LiteralValue, Text: "{}"}},
		{schema.Column{Kind: schema.KindBytes}, "0x6162", "", schema.Expression{Kind: schema.LiteralValue, Text: "ab"}},
	} {
		m := mysqlDefault{engine: schema.MySQL, column: &test.column, extra: test.extra}
		if got := m.expression(nullable(test.text)); got != test.want {
			t.Errorf("%s %s: got %v, want %v", test.text, test.extra, got, test.want)
		}
	}
}

func nullable(text string) sql.NullString { return sql.NullString{String: text, Valid: true} }

// A default of any bytes is read whole. What is no text travels as a number.
func TestMySQLDefaultsOfBytes(t *testing.T) {
	db, name := openMariaDB(t)
	columns := []struct {
		ddl  string
		want schema.Expression
	}{
		{"varbinary(10) DEFAULT 0x0061", literalDefault("\x00a")},
		{"varbinary(10) DEFAULT 0x6100", literalDefault("a\x00")},
		{"binary(3) NOT NULL DEFAULT 'a' COMMENT ' DEFAULT ''?'''", literalDefault("a\x00\x00")},
		{"binary(3) DEFAULT 'abc'", literalDefault("abc")},
		{"varbinary(20) DEFAULT 0x0a0d095c271a223f00", literalDefault("\n\r\t\\'\x1a\"?\x00")},
		{"varbinary(10) DEFAULT ''", literalDefault("")},
		{"varbinary(10) DEFAULT 0x00FF", schema.Expression{Kind: schema.NativeText, Text: "0x00ff"}},
		{"binary(3) DEFAULT 0x81", schema.Expression{Kind: schema.NativeText, Text: "0x810000"}},
		{"blob DEFAULT (0x00ff)", schema.Expression{Kind: schema.NativeText, Text: "0x00ff"}},
		{"varbinary(10) DEFAULT NULL", schema.Expression{}},
	}
	statement := "CREATE TABLE `by``tes` (id int PRIMARY KEY"
	for i, c := range columns {
		statement += fmt.Sprintf(", `c``%d` %s", i, c.ddl)
	}
	if _, err := db.ExecContext(t.Context(), statement+")"); err != nil {
		t.Fatal(err)
	}
	d, err := ReadMySQLDefinition(t.Context(), db, name, "by`tes", name)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range columns {
		if got := d.Details[i+1].Default; got != c.want {
			t.Errorf("%s: got %q, want %q", c.ddl, got, c.want)
		}
	}
}

func literalDefault(text string) schema.Expression {
	return schema.Expression{Kind: schema.LiteralValue, Text: text}
}
