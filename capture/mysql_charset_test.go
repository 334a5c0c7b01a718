package capture

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// TestMySQLCharsets sends every character that a character set has through a column of it.
func TestMySQLCharsets(t *testing.T) {
	testCharsets(t, mariaDBServers.Set(t).MariaDB[0])
}

func TestMySQLCharsetsOracle(t *testing.T) { testCharsets(t, oracle(t)) }

func testCharsets(t *testing.T, server servers.Database) {
	o := onMySQL(t, server)
	names := charsetNames(t, o)
	var text strings.Builder
	for r := rune(1); r < 0xfffd; r++ {
		if r != '?' && (r < 0xd800 || r > 0xdfff) {
			text.WriteRune(r)
		}
	}
	text.WriteRune(0x1f600)
	for _, name := range names {
		o.exec(fmt.Sprintf("CREATE TABLE c_%[1]s (id int PRIMARY KEY, c char(20) CHARACTER SET %[1]s, t longtext CHARACTER SET %[1]s, e enum('ab','zz') CHARACTER SET %[1]s)", name))
	}
	src := o.open()
	want := map[string]string{}
	if _, err := o.conn.ExecContext(t.Context(), "SET @text = ?", text.String()); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		var has string // all that the character set can hold: the rest became question marks
		err := o.conn.QueryRowContext(t.Context(), fmt.Sprintf("SELECT REPLACE(CONVERT(CONVERT(@text USING %s) USING utf8mb4), '?', '')", name)).Scan(&has)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want["c_"+name] = has
		if _, err := o.conn.ExecContext(t.Context(), "INSERT INTO c_"+name+" VALUES (1, 'xy', ?, 'zz')", has); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	o.exec("CREATE TABLE "+scenarioEnd+" (id int PRIMARY KEY)", "INSERT INTO "+scenarioEnd+" VALUES (1)")
	seen := 0
	collect(t, src, func(tx *schema.Transaction) bool {
		c := tx.Changes[0]
		if c.Table.Name == scenarioEnd {
			return true
		}
		seen++
		if got := c.After[2].Text(); got != want[c.Table.Name] {
			t.Errorf("%s: %d bytes, want %d", c.Table, len(got), len(want[c.Table.Name]))
		}
		if c.After[1].Text() != "xy" || c.After[3].Text() != "zz" || c.Table.Columns[1].Native != "char(20)" {
			t.Errorf("%s: %v, column %v", c.Table, c.After[1:], c.Table.Columns[1])
		}
		return false
	})
	if seen != len(names) {
		t.Errorf("%d of %d rows came", seen, len(names))
	}
}

// charsetNames are the server's, without gb18030, whose four-byte characters are not known.
func charsetNames(t *testing.T, o *mysqlOffice) []string {
	t.Helper()
	rows, err := o.conn.QueryContext(t.Context(), "SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "binary" || name == "gb18030" })
}
