package e2e

import (
	"context"
	"crypto/md5"
	"database/sql"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"cdc-sidecar/fleet"
)

// ware is a table beside the company's orders and their lines, which have a number and a pair of numbers as keys: these six
// have the keys and values that a reader of whole tables finds hard.
type ware struct {
	name  string
	share int // of the rows of a company: this many of 100
	// columns are CREATE TABLE's, in Postgres' words and MariaDB's.
	postgres, mysql string
	// values are the SELECT list of a row from seq, a number from 1; in Postgres' words and, where they differ, MariaDB's.
	values, mysqlValues string
	// key is what a digest is sorted by, text a row as both engines write it.
	key, text string
}

var wares = []ware{
	{ // a text key, which MariaDB sorts and compares without regard to case and accents
		name: "names", share: 15,
		postgres: "name varchar(80) PRIMARY KEY, greeting text, seen integer NOT NULL",
		mysql:    "name varchar(80) COLLATE utf8mb4_general_ci PRIMARY KEY, greeting text, seen int NOT NULL",
		values: `concat(CASE seq % 5 WHEN 0 THEN 'Ärger ' WHEN 1 THEN 'zebra-' WHEN 2 THEN 'Zoo ' WHEN 3 THEN 'aal_' ELSE 'œuvre/' END, seq),
			CASE WHEN seq % 7 = 0 THEN NULL ELSE concat('Grüß Gott, ', seq) END, 0`,
		key: "name", text: "name, coalesce(greeting, '~'), seen",
	},
	{ // a uuid, which each engine sorts in its own way
		name: "tokens", share: 15,
		postgres:    "id uuid PRIMARY KEY, holder varchar(60) NOT NULL, valid boolean NOT NULL",
		mysql:       "id uuid PRIMARY KEY, holder varchar(60) NOT NULL, valid tinyint(1) NOT NULL",
		values:      "overlay(overlay(md5(concat('token ', seq)) placing '4' from 13) placing '8' from 17)::uuid, concat('holder ', seq), seq % 3 = 0",
		mysqlValues: "insert(insert(md5(concat('token ', seq)), 13, 1, '4'), 17, 1, '8'), concat('holder ', seq), seq % 3 = 0",
		key:         "id::text", text: "id, holder, valid::int",
	},
	{ // a large value, which stands beside its row at Postgres and is not in the log when another column changes
		name: "documents", share: 2,
		postgres:    "id bigint PRIMARY KEY, title varchar(100) NOT NULL, body text NOT NULL, hits integer NOT NULL",
		mysql:       "id bigint PRIMARY KEY, title varchar(100) NOT NULL, body mediumtext NOT NULL, hits int NOT NULL",
		values:      `seq, concat('title ', seq), (SELECT string_agg(md5(concat(seq, '/', i)), '') FROM generate_series(1, 120) i), 0`,
		mysqlValues: `seq, concat('title ', seq), (SELECT group_concat(md5(concat(s.seq, '/', i.seq)) ORDER BY i.seq SEPARATOR '') FROM seq_1_to_120 i), 0`,
		key:         "id", text: "id, title, body, hits",
	},
	{ // values that rows exchange, and that are unique at each moment
		name: "seats", share: 8,
		postgres: "id bigint PRIMARY KEY, guest varchar(40) NOT NULL UNIQUE",
		mysql:    "id bigint PRIMARY KEY, guest varchar(40) NOT NULL UNIQUE",
		values:   "seq, concat('guest ', seq)",
		key:      "id", text: "id, guest",
	},
	{ // a key of text and a date
		name: "prices", share: 15,
		postgres: "sku varchar(40) NOT NULL, valid date NOT NULL, price numeric(10,3) NOT NULL, PRIMARY KEY (sku, valid)",
		mysql:    "sku varchar(40) NOT NULL, valid date NOT NULL, price decimal(10,3) NOT NULL, PRIMARY KEY (sku, valid)",
		values:   "concat('sku-', seq % 1000), date '2026-01-01' + (seq / 1000), seq * 0.125", mysqlValues: "concat('sku-', seq % 1000), date '2026-01-01' + INTERVAL (seq DIV 1000) DAY, seq * 0.125",
		key: "concat(sku, valid)", text: "sku, valid, price",
	},
	{ // floats and instants; row 1 is written all the time
		name: "readings", share: 15,
		postgres: "id bigint PRIMARY KEY, taken timestamptz(6) NOT NULL, value double precision NOT NULL",
		mysql:    "id bigint PRIMARY KEY, taken timestamp(6) NOT NULL, value double NOT NULL",
		values:   "seq, timestamptz '2026-01-02 03:04:05.25Z' + seq * interval '1 second', seq * 0.125", mysqlValues: "seq, timestamp '2026-01-02 03:04:05.25' + INTERVAL seq SECOND, seq * 0.125",
		key: "id", text: "id, date_format(taken, '%Y-%m-%d %H:%i:%s.%f'), value",
	},
}

// ordersShare is how many of 100 rows are orders; each has two lines.
const ordersShare = 10

// in puts words of Postgres' into MariaDB's, or the other way round, where an office needs it.
func in(o *fleet.Office, text string) string {
	if o.Postgres() {
		return strings.ReplaceAll(text, "date_format(taken, '%Y-%m-%d %H:%i:%s.%f')", "to_char(taken AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')")
	}
	return strings.NewReplacer("id::text", "cast(id AS char)", "valid::int", "valid").Replace(text)
}

// createWares makes the eight tables.
func createWares(ctx context.Context, o *fleet.Office) error {
	if err := fleet.CreateTables(ctx, o); err != nil {
		return err
	}
	for i := range wares {
		if err := createWare(ctx, o, wares[i].name); err != nil {
			return err
		}
	}
	return nil
}

func createWare(ctx context.Context, o *fleet.Office, name string) error {
	for i := range wares {
		w := &wares[i]
		switch {
		case w.name != name:
		case o.Postgres():
			return o.Exec(ctx, "CREATE TABLE "+name+" ("+w.postgres+")")
		default:
			return o.Exec(ctx, "CREATE TABLE "+name+" ("+w.mysql+") DEFAULT CHARSET=utf8mb4")
		}
	}
	return fmt.Errorf("no ware %s", name)
}

// fillWares writes about so many rows in all.
func fillWares(ctx context.Context, o *fleet.Office, rows int) error {
	if err := fill(ctx, o, rows*ordersShare/100); err != nil {
		return err
	}
	for i := range wares {
		w := &wares[i]
		from, values := "generate_series(1, %d) seq", w.values
		if !o.Postgres() {
			from = "seq_1_to_%d s"
			if w.mysqlValues != "" {
				values = w.mysqlValues
			}
		}
		if err := o.Exec(ctx, "INSERT INTO "+w.name+" SELECT "+values+" FROM "+fmt.Sprintf(from, rows*w.share/100)); err != nil {
			return err
		}
	}
	return nil
}

// wareText is a query for a digest of the table.
func wareText(o *fleet.Office, w *ware) string {
	order := "hex(concat(" + w.key + "))"
	if o.Postgres() {
		order = "encode(convert_to(concat(" + w.key + "), 'UTF8'), 'hex')"
	}
	return in(o, "SELECT "+w.key+", concat_ws('|', "+w.text+") FROM "+w.name+" ORDER BY "+order)
}

// sameWares waits until nothing is under way and all offices hold the same in all eight tables. It returns how many rows.
func sameWares(ctx context.Context, f *fleet.Fleet) (rows int, err error) {
	if err := f.Settled(ctx); err != nil {
		return 0, err
	}
	err = fleet.Until(ctx, "every office holds the same", func(ctx context.Context) error {
		rows, err = compareWares(ctx, f)
		return err
	})
	return rows, err
}

func compareWares(ctx context.Context, f *fleet.Fleet) (rows int, err error) {
	digests, err := f.Compare(ctx)
	if err != nil {
		return 0, err
	}
	for _, d := range digests {
		rows += d.Rows
	}
	for i := range wares {
		var first fleet.Digest
		for _, o := range f.Offices {
			d, err := o.DigestOf(ctx, wareText(o, &wares[i]))
			switch {
			case err != nil:
				return 0, err
			case o == f.Offices[0]:
				first = d
				rows += d.Rows
			case d != first:
				return 0, fmt.Errorf("%s: %s has %d rows (%s), %s %d (%s); parked: %s",
					wares[i].name, f.Offices[0].Name, first.Rows, first.Hash, o.Name, d.Rows, d.Hash, parkedAt(ctx, o))
			}
		}
	}
	return rows, nil
}

// parkedAt is what waits at an office for a person, or another row, for who wonders why it differs.
func parkedAt(ctx context.Context, o *fleet.Office) string {
	db, err := o.DB()
	if err != nil {
		return err.Error()
	}
	rows, err := db.QueryContext(ctx, "SELECT concat(table_name, ' ', row_key, ': ', reason) FROM cdc_sidecar.parked ORDER BY id")
	if err != nil {
		return err.Error()
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			return err.Error()
		}
		all = append(all, one)
	}
	if rows.Err() != nil {
		return rows.Err().Error()
	}
	return fmt.Sprintf("%q", all)
}

// stir is an application that writes everywhere in the wares of an office that was filled with so many rows, until ctx ends.
// It returns how many rounds it made.
func stir(ctx context.Context, o *fleet.Office, rows int, pace time.Duration) (int, error) {
	db, err := o.DB()
	if err != nil {
		return 0, err
	}
	rnd := rand.New(rand.NewPCG(uint64(rows), uint64(o.Index)))
	for round := 1; ; round++ {
		for _, statements := range stirring(rnd, round, rows) {
			if err := together(context.WithoutCancel(ctx), db, statements...); err != nil {
				return round, fmt.Errorf("application at %s: %w", o.Name, err)
			}
		}
		if err := exchange(context.WithoutCancel(ctx), db, pick(rnd, rows, "seats"), pick(rnd, rows, "seats")); err != nil {
			return round, fmt.Errorf("application at %s: %w", o.Name, err)
		}
		pause(ctx, pace)
		if ctx.Err() != nil {
			return round, nil
		}
	}
}

// pick is the number of a row as it was filled.
func pick(rnd *rand.Rand, rows int, table string) int {
	for i := range wares {
		if wares[i].name == table {
			return 1 + rnd.IntN(max(1, rows*wares[i].share/100))
		}
	}
	return 1
}

// stirring is one round: the statements of some transactions.
func stirring(rnd *rand.Rand, round, rows int) [][]string {
	person, price, paper := pick(rnd, rows, "names"), pick(rnd, rows, "prices"), pick(rnd, rows, "documents")
	name := [...]string{"Ärger ", "zebra-", "Zoo ", "aal_", "œuvre/"}[person%5] + strconv.Itoa(person)
	token := token(pick(rnd, rows, "tokens"))
	day := func(year, n int) string { return time.Date(year, 1, 1+n, 0, 0, 0, 0, time.UTC).Format(time.DateOnly) }
	out := [][]string{
		{"UPDATE readings SET value = value + 1 WHERE id = 1"},
		{fmt.Sprintf("UPDATE readings SET value = value + 1 WHERE id = %d", pick(rnd, rows, "readings"))},
		{fmt.Sprintf("UPDATE documents SET hits = hits + 1 WHERE id BETWEEN %d AND %d", paper, paper+3)},
		{fmt.Sprintf("UPDATE names SET seen = seen + 1 WHERE name = '%s'", name)},
		{fmt.Sprintf("UPDATE tokens SET holder = 'holder in round %d' WHERE id = '%s'", round, token)},
		{fmt.Sprintf("UPDATE prices SET valid = '%s' WHERE sku = 'sku-%d' AND valid = '%s'", day(2040, round), price%1000, day(2026, price/1000))},
	}
	switch rnd.IntN(4) {
	case 0:
		out = append(out, []string{"DELETE FROM names WHERE name = '" + name + "'", fmt.Sprintf("INSERT INTO names VALUES ('neu %d', NULL, 1)", round)})
	case 1:
		out = append(out, []string{"DELETE FROM tokens WHERE id = '" + token + "'"})
	case 2:
		out = append(out, []string{
			fmt.Sprintf("DELETE FROM documents WHERE id = %d", paper),
			fmt.Sprintf("INSERT INTO documents VALUES (%d, 'again', repeat('new text ', 500), 0)", paper),
		})
	}
	return out
}

// token is the uuid of the nth token. MariaDB takes only those of a known version and variant.
func token(n int) string {
	h := md5.Sum([]byte("token " + strconv.Itoa(n)))
	b := []byte(hex.EncodeToString(h[:]))
	b[12], b[16] = '4', '8'
	return string(b)
}

// together makes one transaction of statements.
func together(ctx context.Context, db *sql.DB, statements ...string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, s := range statements {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return tx.Commit()
}

// exchange lets two rows exchange what no two rows may have at once.
func exchange(ctx context.Context, db *sql.DB, a, b int) error {
	var guests [2]string
	for i, id := range []int{a, b} {
		if err := db.QueryRowContext(ctx, fmt.Sprintf("SELECT guest FROM seats WHERE id = %d", id)).Scan(&guests[i]); err != nil {
			return err
		}
	}
	if a == b {
		return nil
	}
	return together(ctx, db,
		fmt.Sprintf("UPDATE seats SET guest = 'on the move' WHERE id = %d", a),
		fmt.Sprintf("UPDATE seats SET guest = '%s' WHERE id = %d", guests[0], b),
		fmt.Sprintf("UPDATE seats SET guest = '%s' WHERE id = %d", guests[1], a))
}
