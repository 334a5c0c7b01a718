package fleet

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strings"
)

// The tables of the company: an order with every everyday type, and its lines with a key of two columns.
var postgresTables = []string{
	`CREATE TABLE orders (id bigint PRIMARY KEY, office varchar(40) NOT NULL, customer text NOT NULL, amount numeric(12,2) NOT NULL,
		qty integer, paid boolean NOT NULL, note text, placed timestamp(6) NOT NULL, changed timestamptz(6) NOT NULL)`,
	`CREATE TABLE order_lines (order_id bigint NOT NULL, line integer NOT NULL, sku varchar(40) NOT NULL, price numeric(10,3), photo bytea,
		PRIMARY KEY (order_id, line))`,
}

var mysqlTables = []string{
	`CREATE TABLE orders (id bigint PRIMARY KEY, office varchar(40) NOT NULL, customer text NOT NULL, amount decimal(12,2) NOT NULL,
		qty int, paid tinyint(1) NOT NULL, note text, placed datetime(6) NOT NULL, changed timestamp(6) NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`,
	`CREATE TABLE order_lines (order_id bigint NOT NULL, line int NOT NULL, sku varchar(40) NOT NULL, price decimal(10,3), photo blob,
		PRIMARY KEY (order_id, line)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`,
}

// Tables are the names, in an order that foreign keys would allow.
var Tables = []string{"orders", "order_lines"}

// CreateTables creates the company's tables at an office.
func CreateTables(ctx context.Context, o *Office) error {
	if o.Postgres() {
		return o.Exec(ctx, postgresTables...)
	}
	return o.Exec(ctx, mysqlTables...)
}

// One text for a row, equal on both engines when the row is.
var postgresText = map[string]string{
	"orders": `SELECT id, concat_ws('|', id, office, customer, amount, coalesce(qty::text,'~'), paid::int, coalesce(note,'~'),
		to_char(placed,'YYYY-MM-DD HH24:MI:SS.US'), to_char(changed AT TIME ZONE 'UTC','YYYY-MM-DD HH24:MI:SS.US')) FROM orders ORDER BY id`,
	"order_lines": `SELECT order_id, concat_ws('|', order_id, line, sku, coalesce(price::text,'~'), coalesce(upper(encode(photo,'hex')),'~'))
		FROM order_lines ORDER BY order_id, line`,
}

var mysqlText = map[string]string{
	"orders": `SELECT id, concat_ws('|', id, office, customer, amount, coalesce(qty,'~'), paid, coalesce(note,'~'),
		date_format(placed,'%Y-%m-%d %H:%i:%s.%f'), date_format(changed,'%Y-%m-%d %H:%i:%s.%f')) FROM orders ORDER BY id`,
	"order_lines": `SELECT order_id, concat_ws('|', order_id, line, sku, coalesce(price,'~'), coalesce(hex(photo),'~'))
		FROM order_lines ORDER BY order_id, line`,
}

// Digest is what an office holds of a table: the number of rows, and a hash over all of them in key order.
type Digest struct {
	Rows int
	Hash string
}

// Digest reads a whole table.
func (o *Office) Digest(ctx context.Context, table string) (Digest, error) {
	query := mysqlText[table]
	if o.Postgres() {
		query = postgresText[table]
	}
	return o.DigestOf(ctx, query)
}

// DigestOf hashes the second column of a query's rows.
func (o *Office) DigestOf(ctx context.Context, query string) (Digest, error) {
	db, err := o.DB()
	if err != nil {
		return Digest{}, err
	}
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return Digest{}, fmt.Errorf("read %s: %w", o.Name, err)
	}
	defer rows.Close()
	h := sha256.New()
	d := Digest{}
	for rows.Next() {
		var id string
		var text sql.RawBytes
		if err := rows.Scan(&id, &text); err != nil {
			return d, err
		}
		d.Rows++
		h.Write(text)
		h.Write([]byte{'\n'})
	}
	d.Hash = hex.EncodeToString(h.Sum(nil))[:16]
	return d, rows.Err()
}

// Compare reads every table at every office; the error names what differs.
func (f *Fleet) Compare(ctx context.Context) (map[string]Digest, error) {
	out := map[string]Digest{}
	var differ []string
	for _, t := range Tables {
		for i, o := range f.Offices {
			d, err := o.Digest(ctx, t)
			if err != nil {
				return nil, err
			}
			if i == 0 {
				out[t] = d
			} else if d != out[t] {
				differ = append(differ, fmt.Sprintf("%s: %s has %d rows (%s), %s %d (%s)", t, f.Offices[0].Name, out[t].Rows, out[t].Hash, o.Name, d.Rows, d.Hash))
			}
		}
	}
	if len(differ) > 0 {
		return out, fmt.Errorf("the offices differ: %s", strings.Join(differ, "; "))
	}
	return out, nil
}

// Equal waits until everything has arrived and every office holds the same.
func (f *Fleet) Equal(ctx context.Context) (map[string]Digest, error) {
	if err := f.Settled(ctx); err != nil {
		return nil, err
	}
	var out map[string]Digest
	err := Until(ctx, "every office holds the same", func(ctx context.Context) error {
		var err error
		out, err = f.Compare(ctx)
		return err
	})
	return out, err
}
