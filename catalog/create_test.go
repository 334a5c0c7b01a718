package catalog

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"cdc-sidecar/schema"
)

// made is the statement for a table with these columns and the first so many of them as its key, in one line.
func made(engine schema.Engine, from schema.Engine, key int, columns ...schema.Column) (string, error) {
	t := schema.Table{TableName: schema.TableName{Name: "t"}, Engine: from, Columns: columns}
	for k := range key {
		t.Key = append(t.Key, k)
	}
	statement, err := CreateTable(engine, "s", schema.NewTable(t))
	return strings.Join(strings.Fields(statement), " "), err
}

func TestCreateTableOfAnotherFamily(t *testing.T) {
	column := func(name string, kind schema.Kind, size, scale int) schema.Column {
		return schema.Column{Name: name, Kind: kind, Size: size, Scale: scale, Nullable: true, Native: "as it is there"}
	}
	fixed, native, computed := column("f", schema.KindText, 5, 0), column("n", schema.KindNative, 0, 0), column("g", schema.KindInt, 64, 0)
	fixed.Fixed, native.Native, computed.Generated, computed.Nullable = true, "inet", true, false
	id := schema.Column{Name: `the "id"`, Kind: schema.KindText}
	got, err := made(schema.MariaDB, schema.Postgres, 1, id, column("t", schema.KindText, 0, 0), column("v", schema.KindText, 20, 0), column("d", schema.KindDecimal, 12, 2),
		column("any", schema.KindDecimal, 0, -1), column("hundreds", schema.KindDecimal, 3, -2), column("far", schema.KindDecimal, 80, 2), column("i", schema.KindInterval, 0, 0),
		column("at", schema.KindTimestampTZ, 0, 3), column("b", schema.KindBytes, 0, 0), column("j", schema.KindJSON, 0, 0), column("e", schema.KindEnum, 0, 0), fixed, native, computed)
	const mariadb = "CREATE TABLE IF NOT EXISTS `s`.`t` ( `the \"id\"` varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL, `t` longtext CHARACTER SET utf8mb4, " +
		"`v` varchar(20) CHARACTER SET utf8mb4, `d` decimal(12,2), `any` decimal(65,30), `hundreds` decimal(5,0), `far` longtext CHARACTER SET utf8mb4, `i` varchar(120) CHARACTER SET utf8mb4, " +
		"`at` datetime(3), `b` longblob, `j` json, `e` varchar(255) CHARACTER SET utf8mb4, `f` char(5) CHARACTER SET utf8mb4, `n` longtext CHARACTER SET utf8mb4, `g` bigint, " +
		"PRIMARY KEY (`the \"id\"`) ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4"
	if got != mariadb || err != nil {
		t.Errorf("%v\n%s\nwant\n%s", err, got, mariadb)
	}
	unsigned, label := column("u", schema.KindInt, 64, 0), column("e", schema.KindEnum, 0, 0)
	unsigned.Unsigned, unsigned.Nullable, fixed.Native, native.Native = true, false, "char(5)", "inet6"
	text, computedThere := column("x", schema.KindText, 65535, 0), computed
	text.Native = "text"
	got, err = made(schema.Postgres, schema.MariaDB, 1, unsigned, fixed, label, native, text, computedThere, column("at", schema.KindTimestamp, 0, 0), column("y", schema.KindYear, 0, 0))
	const postgres = `CREATE TABLE IF NOT EXISTS "s"."t" ( "u" numeric(20,0) NOT NULL, "f" char(5), "e" text, "n" text, "x" text, "g" bigint NOT NULL, "at" timestamp(0), "y" smallint, PRIMARY KEY ("u") )`
	if got != postgres || err != nil {
		t.Errorf("%v\n%s\nwant\n%s", err, got, postgres)
	}
}

// Of a Postgres, only those types are taken by their name that every Postgres has.
func TestCreateTableWithoutUsersTypes(t *testing.T) {
	column := func(native string, kind schema.Kind) schema.Column {
		return schema.Column{Name: "c", Kind: kind, Native: native, Scale: -1}
	}
	for _, c := range []struct {
		from schema.Column
		want string
	}{
		{column("timestamp(3) with time zone", schema.KindTimestampTZ), "timestamp(3) with time zone"},
		{column("interval day to second(2)", schema.KindInterval), "interval day to second(2)"},
		{column("integer[]", schema.KindNative), "integer[]"},
		{column("inet", schema.KindNative), "inet"},
		{column("price", schema.KindDecimal), "numeric"}, // a domain
		{column("colour", schema.KindEnum), "text"},
		{column("shop.text", schema.KindText), "text"},
		{column("citext", schema.KindText), "text"},
	} {
		want := `CREATE TABLE IF NOT EXISTS "s"."t" ( "c" ` + c.want + ` NOT NULL, PRIMARY KEY ("c") )`
		if got, err := made(schema.Postgres, schema.Postgres, 1, c.from); got != want || err != nil {
			t.Errorf("%s: %s, %v", c.from.Native, got, err)
		}
	}
	_, err := made(schema.Postgres, schema.Postgres, 1, column("hstore", schema.KindNative))
	rejects(t, err, "c", "hstore")
}

func rejects(t *testing.T, err error, column, word string) {
	t.Helper()
	var rejected *schema.RejectedError
	if !errors.As(err, &rejected) || rejected.Column != column || rejected.Remedy == "" || !strings.Contains(err.Error(), word) {
		t.Errorf("%v; want a rejection of column %q that names %s", err, column, word)
	}
}

func TestCreateTableRefused(t *testing.T) {
	id := schema.Column{Name: "id", Kind: schema.KindInt, Size: 32, Native: "integer"}
	native := func(name string) schema.Column {
		return schema.Column{Name: "c", Kind: schema.KindNative, Native: name}
	}
	_, err := made(schema.Postgres, schema.MariaDB, 1, id, native("new_type"))
	rejects(t, err, "c", "new_type")
	_, err = made(schema.MySQL, schema.MariaDB, 1, id, native("vector(3)"))
	rejects(t, err, "c", "vector")
	_, err = made(schema.MariaDB, schema.Postgres, 0, id)
	rejects(t, err, "", "key")
	computed := id
	computed.Generated = true
	for _, engine := range []schema.Engine{schema.Postgres, schema.MariaDB} {
		_, err = made(engine, schema.Postgres, 1, computed)
		rejects(t, err, "id", "computed")
		_, err = made(engine, schema.MySQL, 1, id, schema.Column{Name: "c", Native: "new"})
		if engine == schema.Postgres {
			rejects(t, err, "c", "new")
		}
	}
	long := id
	long.Name = strings.Repeat("ä", 32)
	_, err = made(schema.Postgres, schema.MySQL, 1, long)
	rejects(t, err, "", long.Name)
	if got, err := made(schema.MySQL, schema.MariaDB, 1, id, native("point")); err != nil || !strings.Contains(got, "`c` point") {
		t.Errorf("%s, %v", got, err)
	}
}

// Whatever lengths the columns have elsewhere, one key and one row of InnoDB take them.
func TestCreateTableFits(t *testing.T) {
	text := func(i, length int) schema.Column {
		return schema.Column{Name: fmt.Sprintf("c%d", i), Kind: schema.KindText, Size: length, Native: "varchar"}
	}
	for _, c := range []struct {
		key, rest []int
		want      string // lengths of varchars in order; 0: longtext
	}{
		{[]int{0}, nil, "255"},
		{[]int{10, 0, 0, 0, 0}, nil, "10 189 189 190 190"},
		{[]int{1000}, []int{100}, "768 100"},
		{[]int{700, 20}, nil, "700 20"},
		{[]int{5}, []int{16000, 300, 9000, 9000, 0, 20000, 100}, "5 0 300 0 9000 0 0 100"},
	} {
		var columns []schema.Column
		for i, n := range append(append([]int{}, c.key...), c.rest...) {
			columns = append(columns, text(i, n))
		}
		statement, err := made(schema.MySQL, schema.Postgres, len(c.key), columns...)
		if err != nil {
			t.Fatal(err)
		}
		var lengths []string
		for _, part := range strings.Split(statement, "`c")[1:] {
			_, kind, ok := strings.Cut(part, "` ")
			if !ok || strings.HasPrefix(kind, ")") {
				continue
			}
			n := 0
			_, _ = fmt.Sscanf(kind, "varchar(%d)", &n)
			if n > 0 || strings.HasPrefix(kind, "longtext") {
				lengths = append(lengths, fmt.Sprint(n))
			}
		}
		if got := strings.Join(lengths, " "); got != c.want {
			t.Errorf("key %v, rest %v: %s, want %s in %s", c.key, c.rest, got, c.want, statement)
		}
	}
}
