package apply

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// mysqlSettings make a session strict about values (an error, where the default would store something else), take what an
// equal server may hold (zero dates, ids of 0), and make the session the polite party. They hold for MySQL and MariaDB.
const mysqlSettings = catalog.MySQLSession +
	", SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,ALLOW_INVALID_DATES', " +
	"SESSION innodb_lock_wait_timeout = 1, SESSION lock_wait_timeout = 5, " +
	"SESSION foreign_key_checks = 1, SESSION unique_checks = 1, SESSION autocommit = 1, " +
	"@cdc_sidecar_apply = 1" + // for triggers, which are not to do again what another office's did
	// For MariaDB alone, a comment elsewhere. A transaction in parts waits for its next part; a sidecar that is gone must
	// not hold row locks.
	" /*M!100300 , SESSION idle_write_transaction_timeout = 120 */; " +
	"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"

// mysqlSilence bounds the wait for one answer of the server: longer than emptying a large table takes, shorter than a night.
const mysqlSilence = 30 * time.Minute

const (
	// mysqlQuery is where a query is cut and sent: far below the smallest max_allowed_packet in use (4 MiB), and large
	// enough that round trips do not count. A single larger row makes a larger query.
	mysqlQuery = 256 << 10
	// mysqlTuples bounds one multi-row INSERT: beyond some hundreds of rows there is nothing left to gain.
	mysqlTuples = 1000
	// mysqlAsk is where a query for rows is cut: it takes hundreds of keys of a usual table to get there.
	mysqlAsk = 1 << 20
)

type mysqlTarget struct{ dsn schema.DSN }

// MySQL is a MySQL or MariaDB database as a target.
func MySQL(dsn schema.DSN) Target { return mysqlTarget{dsn} }

type mysqlSession struct {
	db         *sql.DB
	conn       *sql.Conn
	account    string // as a GRANT names it
	definition definitions
	queued     []string
	hushed     bool // foreign keys do nothing
	query      []byte
	tuples     []int               // rows of each statement in query; 0 for a queued one
	rowWord    []byte              // see mysqlRowWord
	sets       map[*form]*mysqlSet // nil: steps of the form go one by one
	joined     []*form             // of the sets in query
}

func (t mysqlTarget) config() *mysql.Config {
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd, c.DBName = "tcp", t.dsn.Address(), t.dsn.User, t.dsn.Password, t.dsn.Database
	c.TLSConfig = t.dsn.Params.Get("tls")
	c.Timeout, c.ReadTimeout, c.WriteTimeout = connectLimit, mysqlSilence, mysqlSilence
	c.ClientFoundRows, c.MultiStatements = true, true
	c.MaxAllowedPacket = 0 // the server's own
	c.Logger = &mysql.NopLogger{}
	return c
}

func (t mysqlTarget) connect(ctx context.Context) (session, error) {
	connector, err := mysql.NewConnector(t.config())
	if err != nil {
		return nil, &schema.RefusedError{What: "database URL of " + t.dsn.String(), Cause: err}
	}
	s := &mysqlSession{db: sql.OpenDB(connector)}
	if s.conn, err = s.db.Conn(ctx); err != nil {
		_ = s.db.Close()
		return nil, mysqlConnectError(t.dsn, err)
	}
	var version string
	if _, err = s.conn.ExecContext(ctx, mysqlSettings); err == nil {
		err = s.conn.QueryRowContext(ctx, "SELECT VERSION(), "+mysqlGrantee).Scan(&version, &s.account)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("prepare a session on %s: %w", t.dsn, err)
	}
	engine := schema.MySQL
	if strings.Contains(version, "MariaDB") {
		engine = schema.MariaDB
	}
	s.rowWord = mysqlRowWord(version)
	s.definition = definitions{engine: engine, space: t.dsn.DefaultSchema(), read: func(ctx context.Context) ([]catalog.Table, error) {
		return catalog.ReadMySQL(ctx, s.conn, t.dsn.DefaultSchema())
	}}
	return s, nil
}

func mysqlConnectError(dsn schema.DSN, err error) error {
	var server *mysql.MySQLError
	if errors.As(err, &server) {
		switch server.Number {
		case 1044, 1045, 1049, 1698:
			return &schema.RefusedError{What: "connect to " + dsn.String(), Cause: server, Remedy: "check user, password and database"}
		}
	}
	return fmt.Errorf("connect to %s: %w", dsn, err)
}

func (s *mysqlSession) defs() *definitions { return &s.definition }
func (s *mysqlSession) user() string       { return s.account }

var mysqlProgress = tableName(schema.MySQL, schema.OwnSchema, schema.ProgressTable)

func (s *mysqlSession) progress(ctx context.Context, office, origin schema.Office) (schema.Position, bool, error) {
	var at schema.Position
	err := s.conn.QueryRowContext(ctx, "SELECT epoch, seq FROM "+mysqlProgress+" WHERE office = ? AND origin = ?",
		string(office), string(origin)).Scan(&at.Epoch, &at.Seq)
	if errors.Is(err, sql.ErrNoRows) {
		return schema.Position{}, false, nil
	}
	return at, err == nil, err
}

func (s *mysqlSession) senders(ctx context.Context, office schema.Office) (map[schema.Office]schema.Position, error) {
	rows, err := s.conn.QueryContext(ctx, "SELECT origin, epoch, seq FROM "+mysqlProgress+" WHERE office = ?", string(office))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[schema.Office]schema.Position{}
	for rows.Next() {
		var origin string
		var at schema.Position
		if err := rows.Scan(&origin, &at.Epoch, &at.Seq); err != nil {
			return nil, err
		}
		all[schema.Office(origin)] = at
	}
	return all, rows.Err()
}

func (s *mysqlSession) record(ctx context.Context, office, origin schema.Office, at schema.Position) error {
	if at.IsZero() {
		_, err := s.conn.ExecContext(ctx, "DELETE FROM "+mysqlProgress+" WHERE office = ? AND origin = ?", string(office), string(origin))
		return err
	}
	// Our own table has one unique key, so this form is safe here.
	_, err := s.conn.ExecContext(ctx, "INSERT INTO "+mysqlProgress+
		" (office, origin, epoch, seq, stamp_millis, stamp_counter, committed) VALUES (?, ?, ?, ?, 0, 0, 0)"+
		" ON DUPLICATE KEY UPDATE epoch = VALUES(epoch), seq = VALUES(seq), stamp_millis = 0, stamp_counter = 0, committed = 0, part = 0",
		string(office), string(origin), at.Epoch, at.Seq)
	return err
}

func (s *mysqlSession) begin()   { s.anew("START TRANSACTION") }
func (s *mysqlSession) save()    { s.queued = append(s.queued, "SAVEPOINT cdc") } // replaces the one before
func (s *mysqlSession) restore() { s.anew("ROLLBACK TO SAVEPOINT cdc") }
func (s *mysqlSession) restart() { s.anew("ROLLBACK", "START TRANSACTION") }

// anew drops what is queued. No setting outlives a try: foreign keys work again behind these statements.
func (s *mysqlSession) anew(statements ...string) {
	s.hushed = s.hushed || slices.Contains(s.queued, mysqlHush[false])
	s.queued = append(s.queued[:0], statements...)
	s.hush(false)
}

var mysqlHush = map[bool]string{true: "SET SESSION foreign_key_checks = 0", false: "SET SESSION foreign_key_checks = 1"}

func (s *mysqlSession) hush(on bool) bool {
	if on != s.hushed {
		s.hushed = on
		s.queued = append(s.queued, mysqlHush[on])
	}
	return true
}

func (s *mysqlSession) rollback(ctx context.Context) error {
	s.anew("ROLLBACK")
	_, err := s.conn.ExecContext(ctx, strings.Join(s.queued, ";"))
	s.queued = s.queued[:0]
	return err
}

func (s *mysqlSession) mark(ctx context.Context, office schema.Office) (uint64, error) {
	result, err := s.conn.ExecContext(ctx, "INSERT INTO cdc_sidecar.barrier (office, mark) VALUES (?, LAST_INSERT_ID(1)) ON DUPLICATE KEY UPDATE mark = LAST_INSERT_ID(mark + 1)", string(office))
	if err != nil {
		return 0, err
	}
	n, err := result.LastInsertId()
	return uint64(n), err
}

// settle writes a mark: commits become visible in the order of the binary log (MySQL: with binlog_order_commits, the default).
func (s *mysqlSession) settle(ctx context.Context, office schema.Office, _ []uint32, _ bool) error {
	_, err := s.mark(ctx, office)
	return err
}

func (s *mysqlSession) logged(ctx context.Context, office schema.Office, id int64) (*loggedEntry, error) {
	if len(s.queued) > 0 {
		if _, err := s.conn.ExecContext(ctx, strings.Join(s.queued, ";")); err != nil {
			return nil, err
		}
		s.queued = s.queued[:0]
	}
	var e loggedEntry
	err := s.conn.QueryRowContext(ctx, loggedQuery+" WHERE office = ? AND id = ? FOR UPDATE", string(office), id).Scan(e.into()...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &e, err
}

func (s *mysqlSession) parked(ctx context.Context, office schema.Office) ([]parkedBody, error) {
	rows, err := s.conn.QueryContext(ctx, "SELECT row_id, body FROM cdc_sidecar.parked WHERE office = ? ORDER BY id", string(office)) //nolint:rowserrcheck // readParked returns it
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	return readParked(rows)
}

func (s *mysqlSession) joins(ctx context.Context, office schema.Office) ([]Join, error) {
	rows, err := s.conn.QueryContext(ctx, joinsQuery+" WHERE office = ? ORDER BY table_name", string(office)) //nolint:rowserrcheck // readJoins returns it
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	return readJoins(rows)
}

// run sends the steps as queries of many statements each; consecutive inserts of the same form become one statement with
// many rows, updates and deletes that join one another become a set (see mysqlSet). Values stand in the text: preparing would
// cost a round trip for each row.
func (s *mysqlSession) run(ctx context.Context, steps []step, hits []int64) ([]int64, int, error) {
	s.query, s.tuples, s.joined = s.query[:0], s.tuples[:0], s.joined[:0]
	for _, text := range s.queued {
		s.query = append(append(s.query, text...), ';')
		s.tuples = append(s.tuples, 0)
	}
	s.queued = s.queued[:0]
	for i := 0; i < len(steps); {
		n, err := s.addSet(ctx, steps[i:])
		if err != nil {
			return hits, -1, err
		}
		if n == 0 {
			s.add(&steps[i], i > 0 && steps[i-1].form == steps[i].form)
			n = 1
		}
		if i += n; len(s.query) >= mysqlQuery || i == len(steps) {
			if hits, err = s.flush(ctx, hits); err != nil {
				return hits, map[bool]int{true: 0, false: -1}[len(steps) == 1], s.failed(err)
			}
		}
	}
	return hits, -1, nil
}

// add appends a step to the query.
func (s *mysqlSession) add(st *step, again bool) {
	f := st.form
	if last := len(s.tuples) - 1; again && f.op == schema.Insert && last >= 0 && s.tuples[last] > 0 && s.tuples[last] < mysqlTuples {
		s.tuples[last]++
		s.query[len(s.query)-1] = ','
	} else {
		s.tuples = append(s.tuples, 1)
		s.query = append(s.query, f.prefix...)
	}
	for i, v := range st.args {
		s.query = append(s.query, f.pieces[i]...)
		s.query = appendLiteral(s.query, v, &f.columns[i])
	}
	s.query = append(append(s.query, f.pieces[len(f.pieces)-1]...), ';')
}

// flush sends the query and reads how many rows each of its statements hit.
func (s *mysqlSession) flush(ctx context.Context, hits []int64) ([]int64, error) {
	query := string(s.query[:len(s.query)-1])
	var affected []int64
	err := s.conn.Raw(func(raw any) error {
		execer, ok := raw.(driver.ExecerContext)
		if !ok {
			return fmt.Errorf("driver connection %T cannot execute", raw)
		}
		res, err := execer.ExecContext(ctx, query, nil)
		if err != nil {
			return err
		}
		if all, ok := res.(mysql.Result); ok {
			affected = all.AllRowsAffected()
		}
		return nil
	})
	if err == nil && len(affected) != len(s.tuples) {
		err = fmt.Errorf("%d statements were answered with %d results", len(s.tuples), len(affected))
	}
	if err != nil {
		return hits, err
	}
	for i, n := range s.tuples {
		if n == 1 {
			hits = append(hits, affected[i])
			continue
		}
		for row := range int64(n) { // nobody knows which rows of a set were missing
			hits = append(hits, min(max(affected[i]-row, 0), 1))
		}
	}
	if s.query, s.tuples, s.joined = s.query[:0], s.tuples[:0], s.joined[:0]; cap(s.query) > 2*mysqlQuery {
		s.query = nil
	}
	return hits, nil
}

func (s *mysqlSession) fetch(ctx context.Context, t *catalog.Table, keys []schema.Row, lock bool) ([]schema.Row, error) {
	return fetch(ctx, s, t, keys, lock)
}

func (s *mysqlSession) fetchKeys(ctx context.Context, t *catalog.Table, from schema.Row, limit int) ([]schema.Row, error) {
	return fetchKeys(ctx, s, t, from, limit)
}

func (s *mysqlSession) fetchStretch(ctx context.Context, q *lookup, from schema.Row, limit, most int) (stretch, error) {
	return fetchStretch(ctx, s, q, from, limit, most)
}

func (s *mysqlSession) sizes(ctx context.Context, tables []catalog.Table) ([]catalog.Size, error) {
	return catalog.MySQLSizes(ctx, s.conn, tables)
}

// ask sends many statements as one query. One statement with a UNION or a list of keys would not do: a union makes other types
// of some columns, and for a list the server may choose to read the whole table.
func (s *mysqlSession) ask(ctx context.Context, steps []step, width int, answer func(i int, values [][]byte) error) error {
	s.query, s.tuples = s.query[:0], s.tuples[:0]
	for _, text := range s.queued {
		s.query = append(append(s.query, text...), ';')
	}
	s.queued = s.queued[:0]
	from := 0
	for i := range steps {
		s.add(&steps[i], false)
		if len(s.query) >= mysqlAsk || i == len(steps)-1 {
			base := from
			err := s.answers(ctx, i+1-from, width, func(i int, values [][]byte) error { return answer(base+i, values) })
			if err != nil {
				return err
			}
			s.query, from = s.query[:0], i+1
		}
	}
	if s.tuples = s.tuples[:0]; cap(s.query) > 2*mysqlAsk {
		s.query = nil
	}
	return nil
}

// answers sends the query and reads so many results.
func (s *mysqlSession) answers(ctx context.Context, results, width int, answer func(i int, values [][]byte) error) error {
	rows, err := s.conn.QueryContext(ctx, string(s.query[:len(s.query)-1]))
	if err != nil {
		return err
	}
	defer rows.Close()
	values, into := make([][]byte, width), make([]any, width)
	for i := range values {
		into[i] = (*sql.RawBytes)(&values[i])
	}
	for i := range results {
		if i > 0 && !rows.NextResultSet() {
			return cmp.Or(rows.Err(), fmt.Errorf("%d queries were answered with %d results", results, i))
		}
		for rows.Next() {
			if err := rows.Scan(into...); err != nil {
				return err
			}
			if err := answer(i, values); err != nil {
				return err
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
	}
	return rows.Close()
}

func (s *mysqlSession) commit(ctx context.Context) error {
	_, err := s.conn.ExecContext(ctx, strings.Join(append(s.queued, "COMMIT"), ";"))
	s.queued = s.queued[:0]
	return err
}

func (s *mysqlSession) worn() bool { return false }

func (s *mysqlSession) close() {
	// The connection, not only its place in the pool: the server rolls back what is open.
	_ = s.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = s.conn.Close()
	_ = s.db.Close()
}

// judge grades by error number. What is not known to be the data's fault is tried again.
func (s *mysqlSession) judge(err error) verdict {
	v := s.grade(err)
	if v.fault == transient && errors.As(err, new(setError)) && errors.As(err, new(*mysql.MySQLError)) {
		v.fault = unsupported // what the server has against a set it may not have against single statements
	}
	return v
}

func (s *mysqlSession) grade(err error) verdict {
	if errors.Is(err, mysql.ErrPktTooLarge) {
		return verdict{fault: data, remedy: "SET GLOBAL max_allowed_packet = 1073741824"}
	}
	var server *mysql.MySQLError
	if !errors.As(err, &server) {
		return verdict{}
	}
	switch server.Number {
	case 1044, 1142, 1143, 1227, 1370:
		return verdict{fault: privilege}
	case 1205, 1213, 3572:
		return verdict{fault: busy}
	case 1062, 1586:
		primary := strings.HasSuffix(server.Message, "PRIMARY'")
		return verdict{fault: duplicate, remedy: "the row collides with another row here: change one of the two", primary: primary}
	case 1216, 1217, 1451, 1452:
		_, key, _ := strings.Cut(server.Message, "CONSTRAINT `")
		key, _, _ = strings.Cut(key, "` FOREIGN KEY")
		return verdict{fault: unreferred, remedy: "a foreign key here forbids it: receive the table that it refers to, too", key: key}
	case 1153:
		return verdict{fault: data, remedy: "SET GLOBAL max_allowed_packet = 1073741824"}
	case 1048, 1054, 1064, 1118, 1136, 1146, 1171, 1264, 1265, 1292, 1364, 1365, 1366, 1367, 1406, 1411, 1416, 1525, 1526, 1644, 1690, 1748, 1906,
		1907, 3105, 3140, 3141, 3145, 3819, 4025, 4078:
		return verdict{fault: data}
	}
	return verdict{}
}

func (s *mysqlSession) queue(statement string) { s.queued = append(s.queued, statement) }
