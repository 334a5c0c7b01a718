package capture

import (
	"context"
	"database/sql"
	"fmt"

	"cdc-sidecar/schema"
)

// charsets asks the server what its collations mean, for the binlog names a column's collation by a number.
func (s *mysqlSetup) charsets(ctx context.Context) (map[uint64]*mysqlCharset, error) {
	from := "COLLATIONS"
	if s.engine == schema.MariaDB { // from 10.10 on, one collation serves several character sets and has a number with each
		var columns int
		err := s.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM information_schema.COLUMNS
			WHERE TABLE_SCHEMA = 'information_schema' AND TABLE_NAME = 'COLLATION_CHARACTER_SET_APPLICABILITY' AND COLUMN_NAME = 'ID'`).Scan(&columns)
		if err != nil {
			return nil, err
		}
		if columns > 0 {
			from = "COLLATION_CHARACTER_SET_APPLICABILITY"
		}
	}
	rows, err := s.db.QueryContext(ctx, `SELECT c.ID, s.CHARACTER_SET_NAME, s.MAXLEN
		FROM information_schema.`+from+` c JOIN information_schema.CHARACTER_SETS s USING (CHARACTER_SET_NAME) WHERE c.ID IS NOT NULL`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	charsets, byName := map[uint64]*mysqlCharset{}, map[string]*mysqlCharset{}
	for rows.Next() {
		var id uint64
		var c mysqlCharset
		if err := rows.Scan(&id, &c.name, &c.width); err != nil {
			return nil, err
		}
		if byName[c.name] == nil {
			c.decode = mysqlUnicode[c.name]
			byName[c.name] = &c
		}
		charsets[id] = byName[c.name]
	}
	return charsets, rows.Err()
}

// mysqlNibbles are the numbers 0 to 15: two of them joined make all bytes.
const mysqlNibbles = `(SELECT 0 n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7
	UNION SELECT 8 UNION SELECT 9 UNION SELECT 10 UNION SELECT 11 UNION SELECT 12 UNION SELECT 13 UNION SELECT 14 UNION SELECT 15)`

// readCharacters asks the server for every character of a character set: some tenths of a second for the large ones. Of
// four-byte characters (gb18030) there are too many to ask for.
func readCharacters(ctx context.Context, db *sql.DB, c *mysqlCharset) error {
	one := mysqlNibbles + " a JOIN " + mysqlNibbles + " b"
	two := one + " JOIN " + mysqlNibbles + " c JOIN " + mysqlNibbles + " d"
	queries := []struct{ number, from string }{{"16*a.n+b.n", one}}
	if c.width >= 2 {
		queries = append(queries, struct{ number, from string }{"4096*a.n+256*b.n+16*c.n+d.n", two + " WHERE 16*a.n+b.n > 0"})
	}
	if c.width == 3 { // ujis and eucjpms have one byte that begins a character of three
		queries = append(queries, struct{ number, from string }{"0x8f0000+4096*a.n+256*b.n+16*c.n+d.n", two})
	}
	var characters mysqlCharacters
	for _, query := range queries {
		text := fmt.Sprintf("SELECT raw, CONVERT(CONVERT(raw USING %s) USING utf8mb4) FROM (SELECT CAST(CHAR(%s) AS BINARY) raw FROM %s) strings", c.name, query.number, query.from)
		if err := readSomeCharacters(ctx, db, text, &characters); err != nil {
			return fmt.Errorf("read the character set %s: %w", c.name, err)
		}
	}
	if c.width <= 3 {
		c.decode = characters.append
	}
	return nil
}

func readSomeCharacters(ctx context.Context, db *sql.DB, query string, into *mysqlCharacters) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var raw, text sql.RawBytes
		if err := rows.Scan(&raw, &text); err != nil {
			return err
		}
		into.put(raw, string(text))
	}
	return rows.Err()
}
