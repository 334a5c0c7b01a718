package capture

import (
	"database/sql"
	"fmt"
	"math"
	"strings"
	"testing"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// What catalog.Reader selects of a row is what capture read of it from the log: of every type, in every test here.

// images are the rows that a log left behind, by table and first column.
func images(txs []schema.Transaction) (map[string]schema.Row, map[string]*schema.Table) {
	rows, tables := map[string]schema.Row{}, map[string]*schema.Table{}
	for i := range txs {
		for _, c := range txs[i].Changes {
			if c.After != nil {
				rows[c.Table.Name+" "+c.After[0].Text()] = c.After
				tables[c.Table.Name] = c.Table
			}
		}
	}
	return rows, tables
}

// compareReader compares every captured row with the one that is read; rows returns a query's values as text.
func compareReader(t *testing.T, txs []schema.Transaction, tables []catalog.Table, rows func(query string, width int) [][][]byte) {
	t.Helper()
	captured, definitions := images(txs)
	compared := 0
	for i := range tables {
		table := &tables[i]
		logged := definitions[table.Name]
		if logged == nil {
			continue
		}
		from := `"` + table.OwnSchema + `"."` + table.Name + `"`
		if table.Engine != schema.Postgres {
			from = strings.ReplaceAll(from, `"`, "`")
		}
		reader := catalog.NewReader(table)
		for _, values := range rows("SELECT "+reader.Select()+" FROM "+from, reader.Width()) {
			row, err := reader.Row(values)
			if err != nil {
				t.Fatal(err)
			}
			want := captured[table.Name+" "+row[0].Text()]
			if want == nil {
				t.Fatalf("table %s: a row that was not captured: %.200s", table.Name, fmt.Sprint(row))
			}
			compared++
			for i := range table.Columns {
				c := &table.Columns[i]
				value := schema.Value{} // Postgres' log has no generated columns
				if at := logged.Column(c.Name); at >= 0 {
					value = want[at]
				}
				if row[i] != value {
					t.Errorf("table %s row %s column %s %s: read %.100v, captured %.100v", table.Name, row[0], c.Name, c.Native, row[i], value)
				}
			}
		}
	}
	if compared != len(captured) {
		t.Errorf("%d of %d captured rows were compared", compared, len(captured))
	}
}

func (o *postgresOffice) compareReader(txs []schema.Transaction) {
	o.t.Helper()
	for name, value := range catalog.PostgresSession() {
		if _, err := o.conn.Exec(o.t.Context(), "SELECT set_config($1, $2, false)", name, value); err != nil {
			o.t.Fatal(err)
		}
	}
	tables, err := catalog.ReadPostgres(o.t.Context(), o.conn, "public")
	if err != nil {
		o.t.Fatal(err)
	}
	compareReader(o.t, txs, tables, func(query string, _ int) [][][]byte {
		result := o.conn.PgConn().ExecParams(o.t.Context(), query, nil, nil, nil, nil).Read()
		if result.Err != nil {
			o.t.Fatalf("%s: %v", query, result.Err)
		}
		return result.Rows
	})
}

func TestPostgresReader(t *testing.T) {
	columns, literals := []string{"id int PRIMARY KEY"}, []string{"1"}
	for i, c := range postgresTypeCases {
		columns = append(columns, fmt.Sprintf("c%d %s", i, c.native))
		literals = append(literals, c.literal)
	}
	o := newPostgresOffice(t, `CREATE TYPE mood AS ENUM ('sad', 'it''s')`, `CREATE DOMAIN positive AS int CHECK (VALUE > 0)`,
		`CREATE DOMAIN price0 AS numeric(8, 2)`, `CREATE DOMAIN price AS price0`, `CREATE DOMAIN moods AS mood`,
		`CREATE TYPE pair AS (a int, b text)`,
		`CREATE TABLE t (`+strings.Join(columns, ", ")+`)`,
		`CREATE TABLE g (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED, "or""der" text, f real, big text)`)
	p := o.open()
	o.exec(`INSERT INTO t VALUES (`+strings.Join(literals, ", ")+`)`, `INSERT INTO t VALUES (2)`,
		`INSERT INTO g VALUES (1, DEFAULT, '', '-0', repeat(md5('x'), 100000)), (2, DEFAULT, E'a\\\n''ü🙂', 'NaN', NULL), (3, DEFAULT, NULL, 1e-45, '')`)
	o.compareReader(o.read(p, 3))
}

func (o *mysqlOffice) compareReader(src Source) {
	o.t.Helper()
	t, ok := o.t.(*testing.T)
	if !ok {
		o.t.Fatalf("%T is no test", o.t)
	}
	o.end()
	txs := readUntil(t, src)
	conn := connectMySQL(t, o.DSN)
	// Any mode, but with the settings that the reader asks for.
	if _, err := conn.ExecContext(t.Context(), catalog.MySQLSession+", SESSION sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'"); err != nil {
		t.Fatal(err)
	}
	all, err := catalog.ReadMySQL(t.Context(), conn, o.DSN.Database)
	if err != nil {
		t.Fatal(err)
	}
	var tables []catalog.Table
	for _, table := range all { // the server is shared
		if table.OwnSchema == o.DSN.Database {
			tables = append(tables, table)
		}
	}
	compareReader(t, txs, tables, func(query string, width int) [][][]byte { return mysqlTexts(t, conn, query, width) })
}

func mysqlTexts(t *testing.T, conn *sql.Conn, query string, width int) [][][]byte {
	t.Helper()
	rows, err := conn.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var all [][][]byte
	for rows.Next() {
		values, into := make([][]byte, width), make([]any, width)
		for i := range into {
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

func TestMySQLReader(t *testing.T) { testMySQLReader(t, mariaDBServers.Set(t).MariaDB[0]) }

func TestMySQLReaderOracle(t *testing.T) { testMySQLReader(t, oracle(t)) }

func testMySQLReader(t *testing.T, server servers.Database) {
	o := onMySQL(t, server, "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION'", mysqlValueTable(),
		`CREATE TABLE z (id int PRIMARY KEY, i int(9) zerofill, b bigint(20) unsigned zerofill, d decimal(10,3) zerofill, f float(7,2), ff float zerofill,
			g double(14,3), r real, fl float, u float unsigned, s int AS (id * 2) STORED, vb bit(13), l longtext CHARACTER SET latin1, n int NOT NULL)`,
		`CREATE TABLE geo (id int PRIMARY KEY, p point, g geometry)`)
	src := o.open()
	for i, v := range mysqlValues {
		o.exec(fmt.Sprintf("INSERT INTO v (id, %s) VALUES (%d, %s)", v.column, i, v.sql))
	}
	o.exec("INSERT INTO v (id, e) VALUES (-1, 'no label')",
		"INSERT INTO geo VALUES (1, ST_GeomFromText('POINT(1 2)'), ST_GeomFromText('LINESTRING(0 0, 1.5 -2)', 4326)), (2, NULL, NULL)")
	const z = "INSERT INTO z (id, i, b, d, f, ff, g, r, fl, u, vb, l, n) VALUES "
	o.exec(z+"(1, 7, 0, 0.5, 1.1, 1.5, 0.1, 0.1, 0.1, 0.3, b'1000000000001', 'äÿ€', 0)", z+"(2, 0, 18446744073709551615, 12.25, -99999.99, 0, 12345678901.125, -1e0*0, -1e0*0, 1e-45, 0, '', -1)",
		z+"(3, 123456789, 5, 0, 0.07, 123456.7, -0.001, 1e300, 16777217, 3e38, 8191, NULL, 1)",
		"INSERT INTO z (id, f, g, r, fl, n) VALUES (4, -0e0, -0e0, -0e0, -0e0, 0), (5, -0.001e0, -0.0001e0, -5e-324, -1e-45, 0)")
	for i := range 300 { // every float needs other digits
		f := math.Float32frombits(uint32(i)*14316557%0x7f800000) * float32(1-2*(i%2))
		o.exec(fmt.Sprintf("INSERT INTO z (id, fl, r, n) VALUES (%d, %.20e, %.20e, 0)", 100+i, f, math.Sqrt(float64(i))/7))
	}
	o.compareReader(src)
}

func TestMariaDBReader(t *testing.T) {
	onlyMariaDB(t)
	o := newMariaDBOffice(t, `CREATE TABLE t (id int PRIMARY KEY, u uuid, four inet4, six inet6, j json, stored int AS (id + 1) STORED)`)
	src := o.open()
	for i, v := range [][3]string{
		{"00112233-4455-1677-8899-aabbccddeeff", "1.2.3.0", "::1"},
		{"f47ac10b-58cc-4372-a567-0e02b2c3d479", "0.0.0.0", "::"},
		{"01890a5d-ac96-774b-bcce-b302099a8057", "255.255.255.255", "::ffff:1.2.3.4"},
		{"00000000-0000-0000-0000-000000000000", "1.0.0.0", "::1.2.3.4"},
		{"ffffffff-ffff-ffff-ffff-ffffffffffff", "10.0.0.1", "2001:db8::"},
		{"2f1a8d2e-0000-5000-8000-000000000000", "10.0.0.1", "fe80::1:0:0:0"},
	} {
		o.exec(fmt.Sprintf(`INSERT INTO t (id, u, four, six, j) VALUES (%d, '%s', '%s', '%s', '{"b": 1, "a": [1.50, "ü"]}')`, i, v[0], v[1], v[2]))
	}
	o.compareReader(src)
}

func TestMySQLReaderCharsets(t *testing.T) {
	o := newMariaDBOffice(t)
	names := charsetNames(t, o)
	var text strings.Builder
	for r := rune(1); r < 0xfffd; r++ {
		if r != '?' && (r < 0xd800 || r > 0xdfff) {
			text.WriteRune(r)
		}
	}
	for _, name := range names {
		o.exec(fmt.Sprintf("CREATE TABLE c_%[1]s (id int PRIMARY KEY, c char(20) CHARACTER SET %[1]s, t longtext CHARACTER SET %[1]s, e enum('ab','zz') CHARACTER SET %[1]s, s set('ab','zz') CHARACTER SET %[1]s)", name))
	}
	src := o.open()
	if _, err := o.conn.ExecContext(t.Context(), "SET @text = ?", text.String()); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		var has string // all that the character set can hold: the rest became question marks
		o.scan(fmt.Sprintf("SELECT REPLACE(CONVERT(CONVERT(@text USING %s) USING utf8mb4), '?', '')", name), &has)
		if _, err := o.conn.ExecContext(t.Context(), "INSERT INTO c_"+name+" VALUES (1, 'xy', ?, 'zz', 'ab,zz')", has); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	o.compareReader(src)
}
