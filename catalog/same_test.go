package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// sameColumn is a column of the two families that holds the same values: in the first row it does, in the second it almost does.
type sameColumn struct {
	postgres, mariadb string    // types
	same              [2]string // the value in the first row, as a literal of each
	differ            [2]string // and in the second
	oneWay            string    // which side's value becomes the other's, when not both do
}

var sameColumns = []sameColumn{
	{"boolean", "tinyint(1)", [2]string{"true", "1"}, [2]string{"true", "0"}, ""},
	{"smallint", "smallint", [2]string{"-32768", "-32768"}, [2]string{"1", "-1"}, ""},
	{"bigint", "int(9) unsigned zerofill", [2]string{"4200", "4200"}, [2]string{"4200", "420"}, ""},
	{"numeric(20,0)", "bigint unsigned", [2]string{"18446744073709551615", "18446744073709551615"}, [2]string{"18446744073709551615", "18446744073709551614"}, ""},
	{"numeric", "decimal(12,4)", [2]string{"1.50", "1.5"}, [2]string{"1.50", "1.5001"}, ""},
	{"numeric", "decimal(65,30)", [2]string{"-0.000000000000000000000000000001", "-0.000000000000000000000000000001"}, [2]string{"0", "0.000000000000000000000000000001"}, ""},
	{"numeric", "decimal(5,2) unsigned zerofill", [2]string{"-0.0", "0"}, [2]string{"1", "1.01"}, ""},
	{"numeric", "decimal(20,10)", [2]string{"12e3", "12000"}, [2]string{"'NaN'", "0"}, ""},
	{"real", "float", [2]string{"'0.1'", "0.1"}, [2]string{"'0.1'", "0.2"}, ""},
	{"real", "float", [2]string{"'1.1754944e-38'", "1.1754944e-38"}, [2]string{"'16777216'", "16777218"}, ""},
	{"real", "float(7,2)", [2]string{"'12345.68'", "12345.678"}, [2]string{"'12345.68'", "12345.67"}, ""},
	{"double precision", "double", [2]string{"'0.1'", "0.1"}, [2]string{"'0.1'", "0.10000000000000002"}, ""},
	{"double precision", "double", [2]string{"'1e300'", "1e300"}, [2]string{"'Infinity'", "1.7976931348623157e308"}, ""},
	{"double precision", "double", [2]string{"'-0'", "-0e0"}, [2]string{"'NaN'", "0"}, ""},
	{"double precision", "float", [2]string{"'0.10000000149011612'", "0.1"}, [2]string{"'0.1'", "0.1"}, ""},
	{"double precision", "bigint", [2]string{"'1e6'", "1000000"}, [2]string{"'1e6'", "1000001"}, "mariadb"},
	{"text", "longtext", [2]string{"'äöü😀 '", "'äöü😀 '"}, [2]string{"'a'", "'A'"}, ""},
	{"text", "varchar(20) CHARACTER SET latin1", [2]string{"'äé'", "'äé'"}, [2]string{"'ä'", "'a'"}, ""},
	{"text", "varchar(20)", [2]string{"''", "''"}, [2]string{"''", "NULL"}, ""},
	{"varchar(20)", "varchar(20)", [2]string{"NULL", "NULL"}, [2]string{"'NULL'", "NULL"}, ""},
	{"char(5)", "char(5)", [2]string{"'ab '", "'ab'"}, [2]string{"'ab'", "'aB'"}, ""},
	{"char(5)", "varchar(5)", [2]string{"'ab '", "'ab'"}, [2]string{"'ab'", "'ab '"}, ""},
	{"bytea", "varbinary(10)", [2]string{`'\x00ff20'`, "0x00ff20"}, [2]string{`'\x00ff20'`, "0x00ff"}, ""},
	{"bytea", "binary(4)", [2]string{`'\x61620000'`, "'ab'"}, [2]string{`'\x6162'`, "'ab'"}, ""},
	{"bytea", "longblob", [2]string{"''", "''"}, [2]string{"''", "0x00"}, ""},
	{"date", "date", [2]string{"'2024-02-29'", "'2024-02-29'"}, [2]string{"'infinity'", "'0000-00-00'"}, ""},
	{"time", "time(6)", [2]string{"'10:11:12.5'", "'10:11:12.500'"}, [2]string{"'10:11:12'", "'-10:11:12'"}, ""},
	{"time(0)", "time", [2]string{"'24:00:00'", "'24:00:00'"}, [2]string{"'00:00:00'", "'24:00:00'"}, ""},
	{"timestamp", "datetime(6)", [2]string{"'2024-01-02 03:04:05.1'", "'2024-01-02 03:04:05.100'"}, [2]string{"'2024-01-02 03:04:05.1'", "'2024-01-02 03:04:05.100001'"}, ""},
	{"timestamp", "datetime", [2]string{"'0001-01-01 00:00:00'", "'0001-01-01 00:00:00'"}, [2]string{"'0001-01-01 00:00:00 BC'", "'0001-01-01 00:00:00'"}, ""},
	{"timestamptz", "timestamp(6) NULL", [2]string{"'2024-07-01 12:00:00.25+02'", "'2024-07-01 10:00:00.25'"}, [2]string{"'2024-07-01 12:00:00+02'", "'2024-07-01 12:00:00'"}, ""},
	{"timestamptz", "datetime(6)", [2]string{"'2100-07-01 12:00:00+02'", "'2100-07-01 10:00:00'"}, [2]string{"'2100-07-01 12:00:00+02'", "'2100-07-01 12:00:00'"}, ""},
	{"smallint", "year", [2]string{"0", "0000"}, [2]string{"2024", "2023"}, ""},
	{"jsonb", "json", [2]string{`'{"b":1.50,"a":[null,"\u0061",1e2]}'`, `'{"a": [null,"a",100], "b": 1.5}'`}, [2]string{`'{"a":0.1}'`, `'{"a":0.1000000000000000000001}'`}, ""},
	{"jsonb", "longtext", [2]string{`'{"b":1,"a":2}'`, `'{"b" : 1, "a":2}'`}, [2]string{`'{"a":1}'`, `'{"a":"1"}'`}, ""},
	{"text", "json", [2]string{`'{"a":1}'`, `'{"a":1}'`}, [2]string{`'{"a":1}'`, `'{"a":2}'`}, ""},
	{"uuid", "uuid", [2]string{"'0A1B2C3D-0000-4000-8000-00000000000F'", "'0a1b2c3d-0000-4000-8000-00000000000f'"}, [2]string{"'0a1b2c3d-0000-4000-8000-00000000000f'", "'0a1b2c3d-0000-4000-8000-00000000000e'"}, ""},
	{"uuid", "char(36)", [2]string{"'0A1B2C3D-0000-4000-8000-00000000000F'", "'0a1b2c3d-0000-4000-8000-00000000000f'"}, [2]string{"'0a1b2c3d-0000-4000-8000-00000000000f'", "'0a1b2c3d-0000-4000-8000-00000000000e'"}, ""},
	{"uuid", "char(36)", [2]string{"'0a1b2c3d-0000-4000-8000-00000000000f'", "'0A1B2C3D-0000-4000-8000-00000000000F'"}, [2]string{"'0a1b2c3d-0000-4000-8000-00000000000f'", "''"}, "postgres"},
	{"uuid", "binary(16)", [2]string{"'0a1b2c3d-0000-4000-8000-00000000000f'", "0x0a1b2c3d00004000800000000000000f"}, [2]string{"'0a1b2c3d-0000-4000-8000-000000000000'", "0x0a1b2c3d0000400080000000000000ff"}, ""},
	{"colour", "enum('green','red')", [2]string{"'red'", "'red'"}, [2]string{"'red'", "'green'"}, ""},
	{"colour", "varchar(10)", [2]string{"'red'", "'red'"}, [2]string{"'red'", "'Red'"}, ""},
	{"text", "set('red','green')", [2]string{"'red,green'", "'green,red'"}, [2]string{"'red,green'", "'red'"}, ""},
	{"bit(9)", "bit(9)", [2]string{"B'100000010'", "b'100000010'"}, [2]string{"B'100000010'", "b'000000010'"}, ""},
	{"boolean", "bit(1)", [2]string{"true", "b'1'"}, [2]string{"true", "b'0'"}, ""},
	{"inet", "varchar(20)", [2]string{"'10.0.0.1'", "'10.0.0.1'"}, [2]string{"'10.0.0.1'", "'10.0.0.2'"}, ""},
}

// side is the table of sameColumns in one of the two databases: the definition and its two rows.
type side struct {
	table *schema.Table
	rows  []schema.Row
}

// ddl are the statements that make the table; which of a pair is this side's says of.
func ddl(of func(postgres, mariadb string) string) []string {
	columns, same, differ := []string{"id int PRIMARY KEY"}, []string{"1"}, []string{"2"}
	for i, c := range sameColumns {
		columns = append(columns, fmt.Sprintf("v%02d %s", i, of(c.postgres, c.mariadb)))
		same = append(same, of(c.same[0], c.same[1]))
		differ = append(differ, of(c.differ[0], c.differ[1]))
	}
	return []string{
		"CREATE TABLE t (" + strings.Join(columns, ", ") + ")",
		"INSERT INTO t VALUES (" + strings.Join(same, ", ") + "), (" + strings.Join(differ, ", ") + ")",
	}
}

// read reads the two rows through a Reader, as a sidecar does.
func (s *side) read(t *testing.T, table *Table, query func(sql string) [][][]byte) {
	t.Helper()
	reader := NewReader(table)
	s.table = table.Table
	for _, values := range query("SELECT " + reader.Select() + " FROM t ORDER BY id") {
		row, err := reader.Row(values)
		if err != nil {
			t.Fatal(err)
		}
		s.rows = append(s.rows, row)
	}
	if len(s.rows) != 2 {
		t.Fatalf("%d rows", len(s.rows))
	}
}

func postgresSide(t *testing.T) (s side) {
	config, err := pgx.ParseConfig(servers.NewDatabase(t, postgresServers.Set(t).Postgres[0]))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range PostgresSession() {
		config.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	for _, statement := range append([]string{"CREATE TYPE colour AS ENUM ('red', 'green')"}, ddl(func(postgres, _ string) string { return postgres })...) {
		if _, err := conn.PgConn().Exec(t.Context(), statement).ReadAll(); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	tables, err := ReadPostgres(t.Context(), conn, "public")
	if err != nil || len(tables) != 1 {
		t.Fatalf("%d tables: %v", len(tables), err)
	}
	s.read(t, &tables[0], func(sql string) [][][]byte {
		results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		return results[0].Rows
	})
	return s
}

func mariadbSide(t *testing.T) (s side) {
	db, name := openMariaDB(t)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	for _, statement := range append([]string{MySQLSession + ", sql_mode = ''"}, ddl(func(_, mariadb string) string { return mariadb })...) {
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	table, err := ReadMySQLTable(t.Context(), conn, name, "t", name)
	if err != nil || table == nil {
		t.Fatalf("table %v: %v", table, err)
	}
	s.read(t, table, func(query string) [][][]byte { return queryMariaDB(t, conn, query) })
	return s
}

func queryMariaDB(t *testing.T, conn *sql.Conn, query string) (all [][][]byte) {
	rows, err := conn.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values, into := make([][]byte, len(names)), make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		all = append(all, values)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// column is a table of column i alone, and its value in a row.
func (s *side) column(i, row int) (*schema.Table, schema.Row) {
	at := s.table.Column(fmt.Sprintf("v%02d", i))
	return schema.NewTable(schema.Table{Engine: s.table.Engine, Columns: s.table.Columns[at : at+1]}), s.rows[row][at : at+1]
}

// The same values in a Postgres and in a MariaDB, as a sidecar reads them, are the same rows with the same hashes, whichever of
// them is the head; values that differ a little are not.
func TestSameAcrossEngines(t *testing.T) {
	if servers.Oracle() { // it has no uuid, and keeps of JSON what it means: not how it was written, and of its numbers what a double has
		sameColumns = slices.DeleteFunc(sameColumns, func(c sameColumn) bool { return c.mariadb == "uuid" || c.postgres == "text" && c.mariadb == "json" })
		for i := range sameColumns {
			if c := &sameColumns[i]; c.mariadb == "json" {
				c.differ[1] = `'{"a":0.10000000000000002}'`
			}
		}
	}
	postgres, mariadb := postgresSide(t), mariadbSide(t)
	for i, c := range sameColumns {
		for _, heads := range []struct {
			name       string
			head, here *side
		}{{"postgres", &postgres, &mariadb}, {"mariadb", &mariadb, &postgres}} {
			for row, values := range [][2]string{c.same, c.differ} {
				there, ra := heads.head.column(i, row)
				here, rb := heads.here.column(i, row)
				same, _ := schema.SameRow(there, ra, here, rb)
				equal := schema.NewHasherAs(here, there).Hash(rb) == there.HashRow(ra)
				want := row == 0 && (c.oneWay == "" || c.oneWay == heads.name)
				// What a text of JSON says is seen only when both sides are known.
				seen := want && (c.postgres != "jsonb" || c.mariadb != "longtext" || heads.name == "postgres")
				if same != want || equal != seen {
					t.Errorf("%s %s and %s %s: same %t, hashes equal %t with %s as the head; want %t, %t\nread %v and %v",
						c.postgres, values[0], c.mariadb, values[1], same, equal, heads.name, want, seen, ra, rb)
				}
			}
		}
	}
}
