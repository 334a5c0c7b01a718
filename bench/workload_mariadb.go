package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"cdc-sidecar/fleet"
)

type mariaWorkload struct{}

func (mariaWorkload) create(ctx context.Context, db *sql.DB, scale int) error {
	statements := []string{
		`CREATE TABLE orders (id bigint PRIMARY KEY, branch_id int NOT NULL, customer text NOT NULL, amount decimal(12,2) NOT NULL,
			note varchar(64) NOT NULL, created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL)`,
		`CREATE TABLE marks (id bigint PRIMARY KEY)`,
	}
	if scale > 0 {
		statements = append(statements,
			`CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88))`,
			`CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84))`,
			`CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84))`,
			`CREATE TABLE pgbench_history (id bigint AUTO_INCREMENT PRIMARY KEY, tid int, bid int, aid int, delta int, mtime datetime(6), filler char(22))`,
			fmt.Sprintf("INSERT INTO pgbench_branches SELECT seq, 0, NULL FROM seq_1_to_%d", scale),
			fmt.Sprintf("INSERT INTO pgbench_tellers SELECT seq, (seq-1) DIV 10 + 1, 0, NULL FROM seq_1_to_%d", 10*scale),
			fmt.Sprintf("INSERT INTO pgbench_accounts SELECT seq, (seq-1) DIV 100000 + 1, 0, '' FROM seq_1_to_%d", 100_000*scale))
	}
	return execute(ctx, db, statements...)
}

// The same rows as Postgres' workload makes.
const (
	mariaCustomer = `concat(elt(1 + floor(rand()*12), 'Ada','Bartholomew','Charlotte','Dorothea','Ed','Francesca','Guðrún','Heinz-Peter','Ivo','Jean','Konstantinos','Li'), ' ',
		elt(1 + floor(rand()*12), 'Adams','Müller','van der Berg','Oh','Papadopoulos','O''Neill','Schmidt-Rottluff','Ng','Sørensen','García Márquez','Wu','Featherstonehaugh'), ' ', floor(rand()*1000))`
	mariaAmount = `round(rand()*99999, 2)`
)

func (w mariaWorkload) insert(ctx context.Context, db *sql.DB, s sizes) error {
	return w.loops(ctx, db, s.inserts/rowsOfTransaction, "", fmt.Sprintf(`INSERT INTO orders SELECT %d + i*%d + seq, 1 + seq MOD 50, %s, %s, concat(md5(rand()), md5(rand())),
		now(6) - INTERVAL floor(rand()*2592000) SECOND, now(6) FROM seq_1_to_%d;`, s.before, rowsOfTransaction, mariaCustomer, mariaAmount, rowsOfTransaction))
}

func (w mariaWorkload) update(ctx context.Context, db *sql.DB, s sizes) error {
	return w.loops(ctx, db, s.updates, "DECLARE k BIGINT;", fmt.Sprintf(`SET k = 1 + floor(rand()*%d);
		UPDATE orders SET amount = %s, updated_at = now(6) WHERE id = k;`, s.inserts, mariaAmount))
}

func (mariaWorkload) big(ctx context.Context, db *sql.DB, s sizes) error {
	return execute(ctx, db, fmt.Sprintf("UPDATE orders SET amount = %s, updated_at = now(6) WHERE id <= %d", mariaAmount, s.big))
}

func (w mariaWorkload) tpcb(ctx context.Context, d database, s sizes) error {
	return w.loops(ctx, d.DB, s.transactions, "DECLARE a, b, t, d, x INT;", fmt.Sprintf(`SET a = 1 + floor(rand()*%d), b = 1 + floor(rand()*%d), t = 1 + floor(rand()*%d), d = floor(rand()*10001) - 5000;
		UPDATE pgbench_accounts SET abalance = abalance + d WHERE aid = a;
		SELECT abalance INTO x FROM pgbench_accounts WHERE aid = a;
		UPDATE pgbench_tellers SET tbalance = tbalance + d WHERE tid = t;
		UPDATE pgbench_branches SET bbalance = bbalance + d WHERE bid = b;
		INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (t, b, a, d, now(6));`, 100_000*s.scale, s.scale, 10*s.scale))
}

// loops runs n transactions, numbered by i, on the server. It does not wait for the disk meanwhile: what is timed is not the
// making.
func (mariaWorkload) loops(ctx context.Context, db *sql.DB, n int, declare, statements string) (err error) {
	if err := execute(ctx, db, "SET GLOBAL innodb_flush_log_at_trx_commit = 0", "SET GLOBAL sync_binlog = 0"); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, execute(context.WithoutCancel(ctx), db, "SET GLOBAL innodb_flush_log_at_trx_commit = 1", "SET GLOBAL sync_binlog = 1"))
	}()
	return inParallel(ctx, db, n, func(ctx context.Context, conn *sql.Conn, from, to int) error {
		return executeOn(ctx, conn, fmt.Sprintf("BEGIN NOT ATOMIC DECLARE i INT DEFAULT %d; %s WHILE i < %d DO START TRANSACTION; %s COMMIT; SET i = i + 1; END WHILE; END",
			from, declare, to, statements))
	})
}

// calm writes the buffer pool's changed pages and waits for the purge of old versions. A new binlog lets whoever reads on
// find its place without reading what it has had.
func (mariaWorkload) calm(ctx context.Context, db *sql.DB) error {
	if err := execute(ctx, db, "ANALYZE LOCAL TABLE orders", "FLUSH LOCAL BINARY LOGS", "SET GLOBAL innodb_max_dirty_pages_pct = 0"); err != nil {
		return err
	}
	err := fleet.Until(ctx, "MariaDB has written its pages", func(ctx context.Context) error {
		var pages, history int
		err := db.QueryRowContext(ctx, `SELECT
			(SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'INNODB_BUFFER_POOL_PAGES_DIRTY'),
			(SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'INNODB_HISTORY_LIST_LENGTH')`).Scan(&pages, &history)
		if err == nil && (pages > calmPages || history > calmHistory) {
			err = fmt.Errorf("%d pages to write, %d transactions to purge", pages, history)
		}
		return err
	})
	return errors.Join(err, execute(context.WithoutCancel(ctx), db, "SET GLOBAL innodb_max_dirty_pages_pct = 90"))
}

// What may be left to do: neither number ever stays at nothing.
const (
	calmPages   = 100
	calmHistory = 200
)

func (mariaWorkload) text(table string) string {
	return map[string]string{
		"orders": `concat_ws('|', id, branch_id, customer, amount, note, date_format(created_at, '%Y-%m-%d %H:%i:%s.%f'),
			date_format(updated_at, '%Y-%m-%d %H:%i:%s.%f'))`,
		"pgbench_branches": `concat_ws('|', bid, bbalance, coalesce(trim(filler), '~'))`,
		"pgbench_tellers":  `concat_ws('|', tid, bid, tbalance, coalesce(trim(filler), '~'))`,
		"pgbench_accounts": `concat_ws('|', aid, bid, abalance, coalesce(trim(filler), '~'))`,
		"pgbench_history":  `concat_ws('|', id, tid, bid, aid, delta, date_format(mtime, '%Y-%m-%d %H:%i:%s.%f'), coalesce(trim(filler), '~'))`,
	}[table]
}

func (mariaWorkload) digest(table, text string) string {
	return fmt.Sprintf("SELECT count(*), cast(coalesce(sum(cast(conv(left(md5(%s), 15), 16, 10) AS unsigned)), 0) AS char) FROM %s", text, table)
}

// quoted is a string as SQL has it.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
