package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// postgresManners make a session the polite party: it is the apply that waits and tries again, not the application.
var postgresManners = map[string]string{
	"application_name":              "cdc-sidecar apply",
	"default_transaction_isolation": "read committed",
	"row_security":                  "off", // a policy is then an error; it would hide rows
	// Far below deadlock_timeout (1s): where we and an application wait for each other, it is we who let go.
	"lock_timeout":      "300ms",
	"statement_timeout": "30min", // longer than emptying a large table takes, shorter than a night
	// Many rows of a table are looked up by their keys one after the other, in the order in which they came: the planner must
	// not choose to read a table of millions for some thousand of them. See also replan.
	"enable_hashjoin": "off", "enable_mergejoin": "off", "enable_seqscan": "off", "jit": "off",
	// A stretch of a table is read along its key's index, to where it ends, and not gathered from all that follows and sorted;
	// and it takes no more than one of the server's cores.
	"enable_bitmapscan": "off", "enable_sort": "off", "max_parallel_workers_per_gather": "0",
	// A transaction in parts waits for its next part; a sidecar that is gone must not hold row locks.
	"idle_in_transaction_session_timeout": "120s",
}

const (
	// connectLimit bounds dialling and logging in.
	connectLimit = 10 * time.Second
	// closeLimit bounds the good-bye to a server that may not answer.
	closeLimit = time.Second
	// maxStatements bounds a session's prepared statements, some tens of kilobytes each in the server: one for each table
	// and set of columns. A session beyond it is replaced.
	maxStatements = 1000
)

type postgresTarget struct{ dsn schema.DSN }

// Postgres is a Postgres database as a target. Each connection of an Applier is a direct one: a pooler in transaction
// mode would lose its settings.
func Postgres(dsn schema.DSN) Target { return postgresTarget{dsn} }

type postgresSession struct {
	conn       *pgx.Conn
	definition definitions
	fires      bool              // all triggers fire for us: the replica role is not ours to take
	queued     []string          // sent before the next run's steps
	saved      bool              // the open transaction has a savepoint
	statements map[string]string // SQL → name of the prepared statement
	sent       []statement       // in the pipeline under way, behind those queued
	replans    bool              // what is sent now is planned anew each time
	prepared   int               // names given
	params     [][]byte
	ends       []int // of the arrays in scratch
	scratch    []byte
}

func (t postgresTarget) connect(ctx context.Context) (session, error) {
	config, err := pgx.ParseConfig(t.dsn.URL())
	if err != nil {
		return nil, &schema.RefusedError{What: "database URL of " + t.dsn.String(), Cause: errors.New("not understood by the Postgres driver")}
	}
	maps.Copy(config.RuntimeParams, catalog.PostgresSession())
	maps.Copy(config.RuntimeParams, postgresManners)
	config.ConnectTimeout = connectLimit
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, connectError(t.dsn, err)
	}
	s := &postgresSession{conn: conn, statements: map[string]string{}}
	s.definition = definitions{engine: schema.Postgres, space: t.dsn.DefaultSchema(), read: func(ctx context.Context) ([]catalog.Table, error) {
		tables, err := catalog.ReadPostgres(ctx, conn, t.dsn.DefaultSchema())
		for i := range tables {
			tables[i].Fires = tables[i].Fires || s.fires && len(tables[i].Triggers) > 0
		}
		return tables, err
	}}
	if err := s.replicaRole(ctx); err != nil {
		s.close()
		return nil, fmt.Errorf("prepare a session on %s: %w", t.dsn, err)
	}
	return s, nil
}

// connectError tells what waiting will not mend (password, database) from what it may.
func connectError(dsn schema.DSN, err error) error {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		switch server.Code {
		case "28000", "28P01", "3D000", "42501":
			return &schema.RefusedError{What: "connect to " + dsn.String(), Cause: server, Remedy: "check user, password, database and pg_hba.conf"}
		}
	}
	return fmt.Errorf("connect to %s: %w", dsn, err)
}

// replicaRole keeps triggers and foreign keys of this database from acting on rows that carry their effects already.
// A user that may not do so applies with them (doctor says what to grant).
func (s *postgresSession) replicaRole(ctx context.Context) error {
	_, err := s.conn.Exec(ctx, "SET session_replication_role = replica")
	var server *pgconn.PgError
	if errors.As(err, &server) && server.Code == "42501" {
		s.fires = true
		return nil
	}
	return err
}

func (s *postgresSession) defs() *definitions { return &s.definition }
func (s *postgresSession) user() string       { return s.conn.Config().User }

var postgresProgress = tableName(schema.Postgres, schema.OwnSchema, schema.ProgressTable)

func (s *postgresSession) progress(ctx context.Context, office, origin schema.Office) (schema.Position, bool, error) {
	var epoch, seq int64
	err := s.conn.QueryRow(ctx, "SELECT epoch, seq FROM "+postgresProgress+" WHERE office = $1 AND origin = $2",
		string(office), string(origin)).Scan(&epoch, &seq)
	if errors.Is(err, pgx.ErrNoRows) {
		return schema.Position{}, false, nil
	}
	return schema.Position{Epoch: uint64(epoch), Seq: uint64(seq)}, err == nil, err
}

func (s *postgresSession) senders(ctx context.Context, office schema.Office) (map[schema.Office]schema.Position, error) {
	rows, err := s.conn.Query(ctx, "SELECT origin, epoch, seq FROM "+postgresProgress+" WHERE office = $1", string(office))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[schema.Office]schema.Position{}
	for rows.Next() {
		var origin string
		var epoch, seq int64
		if err := rows.Scan(&origin, &epoch, &seq); err != nil {
			return nil, err
		}
		all[schema.Office(origin)] = schema.Position{Epoch: uint64(epoch), Seq: uint64(seq)}
	}
	return all, rows.Err()
}

func (s *postgresSession) record(ctx context.Context, office, origin schema.Office, at schema.Position) error {
	if at.IsZero() {
		_, err := s.conn.Exec(ctx, "DELETE FROM "+postgresProgress+" WHERE office = $1 AND origin = $2", string(office), string(origin))
		return err
	}
	_, err := s.conn.Exec(ctx, "INSERT INTO "+postgresProgress+
		" (office, origin, epoch, seq, stamp_millis, stamp_counter, committed) VALUES ($1, $2, $3, $4, 0, 0, 0)"+
		" ON CONFLICT (office, origin) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq, stamp_millis = 0, stamp_counter = 0, committed = 0, part = 0",
		string(office), string(origin), int64(at.Epoch), int64(at.Seq))
	return err
}

func (s *postgresSession) begin()   { s.queued, s.saved = append(s.queued[:0], "BEGIN"), false }
func (s *postgresSession) restore() { s.queued = append(s.queued[:0], "ROLLBACK TO SAVEPOINT cdc") }
func (s *postgresSession) restart() {
	s.queued, s.saved = append(s.queued[:0], "ROLLBACK", "BEGIN"), false
}

// hush has nothing to do: the replica role does it all the time.
func (s *postgresSession) hush(bool) bool { return !s.fires }

func (s *postgresSession) rollback(ctx context.Context) error {
	s.queued, s.saved = s.queued[:0], false
	_, err := s.conn.Exec(ctx, "ROLLBACK", pgx.QueryExecModeSimpleProtocol)
	return err
}

// mark does not wait for standbys: the log has it when it is on this server's disk, and row locks are held meanwhile.
func (s *postgresSession) mark(ctx context.Context, office schema.Office) (uint64, error) {
	batch := "BEGIN; SET LOCAL synchronous_commit = local; INSERT INTO cdc_sidecar.barrier AS b (office, mark) VALUES ('" + string(office) +
		"', 1) ON CONFLICT (office) DO UPDATE SET mark = b.mark + 1 RETURNING mark; COMMIT"
	results, err := s.conn.PgConn().Exec(ctx, batch).ReadAll()
	if err != nil {
		return 0, err
	}
	for _, r := range results {
		if len(r.Rows) == 1 && len(r.Rows[0]) == 1 {
			return strconv.ParseUint(string(r.Rows[0][0]), 10, 64)
		}
	}
	return 0, errors.New("the mark was answered without a number")
}

func (s *postgresSession) logged(ctx context.Context, office schema.Office, id int64) (*loggedEntry, error) {
	if _, _, err := s.run(ctx, nil, nil); err != nil { // what is queued
		return nil, err
	}
	var e loggedEntry
	err := s.conn.QueryRow(ctx, loggedQuery+" WHERE office = $1 AND id = $2 FOR UPDATE", string(office), id).Scan(e.into()...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return &e, err
}

func (s *postgresSession) parked(ctx context.Context, office schema.Office) ([]parkedBody, error) {
	rows, err := s.conn.Query(ctx, "SELECT row_id, body FROM cdc_sidecar.parked WHERE office = $1 ORDER BY id", string(office)) //nolint:rowserrcheck // readParked returns it
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	return readParked(rows)
}

func (s *postgresSession) joins(ctx context.Context, office schema.Office) ([]Join, error) {
	rows, err := s.conn.Query(ctx, joinsQuery+" WHERE office = $1 ORDER BY table_name", string(office)) //nolint:rowserrcheck // readJoins returns it
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	return readJoins(rows)
}

// save lets the savepoint before go: they would pile up by the thousand in a large transaction.
func (s *postgresSession) save() {
	if s.saved {
		s.queued = append(s.queued, "RELEASE SAVEPOINT cdc")
	}
	s.queued, s.saved = append(s.queued, "SAVEPOINT cdc"), true
}

// statement is what was sent for one step, for a run of joined ones, or for none: a setting.
type statement struct {
	first, steps int
	form         *form
	fresh        bool // prepared in the same pipeline
}

// run sends everything in one pipeline and then reads the results: one round trip, whatever the number of rows. Many new rows of
// one table are a COPY between two pipelines.
func (s *postgresSession) run(ctx context.Context, steps []step, hits []int64) (_ []int64, failed int, err error) {
	from, first := 0, 0 // of what is not sent yet; from where on a COPY is looked for
	for {
		at, n := copies(steps[first:])
		if at += first; n == 0 {
			if from > 0 && from == len(steps) && len(s.queued) == 0 {
				return hits, -1, nil
			}
			hits, failed, err = s.pipeline(ctx, steps[from:], hits)
			return hits, behind(failed, from), err
		}
		if at > from || len(s.queued) > 0 {
			if hits, failed, err = s.pipeline(ctx, steps[from:at], hits); err != nil {
				return hits, behind(failed, from), err
			}
			from = at
		}
		sent, rows, err := s.copyIn(ctx, steps[at:at+n])
		if err != nil {
			return hits, at, err
		}
		if sent > 0 {
			hits, from = spread(hits, sent, rows), at+sent
		}
		if first = at + n; sent > 0 {
			first = from
		}
	}
}

// behind is the index of a failed step among all, where it is known.
func behind(failed, from int) int {
	if failed < 0 {
		return failed
	}
	return failed + from
}

// spread appends the hits of so many joined steps: only their sum is meant.
func spread(hits []int64, steps int, n int64) []int64 {
	for range steps - 1 {
		hits = append(hits, min(n, 1))
		n -= min(n, 1)
	}
	return append(hits, n)
}

func (s *postgresSession) pipeline(ctx context.Context, steps []step, hits []int64) ([]int64, int, error) {
	failed, err := s.exchange(ctx, steps, func(q *statement, r *pgconn.ResultReader) error {
		tag, err := r.Close()
		if err != nil {
			return err
		}
		hits = spread(hits, q.steps, tag.RowsAffected())
		return nil
	})
	return hits, failed, err
}

func (s *postgresSession) fetch(ctx context.Context, t *catalog.Table, keys []schema.Row, lock bool) ([]schema.Row, error) {
	return fetch(ctx, s, t, keys, lock)
}

func (s *postgresSession) fetchKeys(ctx context.Context, t *catalog.Table, from schema.Row, limit int) ([]schema.Row, error) {
	return fetchKeys(ctx, s, t, from, limit)
}

func (s *postgresSession) fetchStretch(ctx context.Context, q *lookup, from schema.Row, limit, most int) (stretch, error) {
	return fetchStretch(ctx, s, q, from, limit, most)
}

func (s *postgresSession) sizes(ctx context.Context, tables []catalog.Table) ([]catalog.Size, error) {
	return catalog.PostgresSizes(ctx, s.conn, tables)
}

func (s *postgresSession) ask(ctx context.Context, steps []step, _ int, answer func(i int, values [][]byte) error) error {
	var refused error // of the answer; the rest is read all the same, or the pipeline would be out of step
	_, err := s.exchange(ctx, steps, func(q *statement, r *pgconn.ResultReader) error {
		for r.NextRow() {
			if refused == nil {
				refused = answer(q.first, r.Values())
			}
		}
		_, err := r.Close()
		return err
	})
	return cmp.Or(err, refused)
}

// exchange sends what is queued and the steps in one pipeline, and gives the statements' results to read, one after the
// other. failed is the step that an error is about, or -1.
func (s *postgresSession) exchange(ctx context.Context, steps []step, read func(q *statement, r *pgconn.ResultReader) error) (failed int, err error) {
	p := s.conn.PgConn().StartPipeline(ctx)
	for _, sql := range s.queued {
		p.SendQueryParams(sql, nil, nil, nil, nil)
	}
	s.sent = s.sent[:0]
	if s.scratch == nil { // an empty piece of nothing would be nil, and nil is NULL
		s.scratch = make([]byte, 0, scratch)
	}
	for i := 0; i < len(steps); {
		n := joined(steps[i:])
		if n < fewest(steps[i].form) || !s.sendMany(p, i, steps[i:i+n]) {
			for j := i; j < i+n; j++ {
				s.send(p, j, &steps[j])
			}
		}
		i += n
	}
	s.replan(p, false)
	if cap(s.scratch) > maxScratch {
		s.scratch = nil
	}
	failed = -1
	if err = p.Sync(); err == nil {
		failed, err = s.results(p, read)
	}
	if err != nil {
		s.unprepare()
	}
	s.queued = s.queued[:0]
	if closing := p.Close(); err == nil {
		err = closing
	}
	return failed, err
}

// prepare gives a form's statement a name, and reports whether the server hears it for the first time.
func (s *postgresSession) prepare(p *pgconn.Pipeline, f *form) (fresh bool) {
	if f.name != "" {
		return false
	}
	if f.name = s.statements[f.sql]; f.name != "" {
		return false
	}
	s.prepared++
	f.name = "cdc" + strconv.Itoa(s.prepared)
	s.statements[f.sql] = f.name
	p.SendPrepare(f.name, f.sql, nil)
	return true
}

func (s *postgresSession) send(p *pgconn.Pipeline, i int, st *step) {
	s.replan(p, false)
	s.sent = append(s.sent, statement{first: i, steps: 1, form: st.form, fresh: s.prepare(p, st.form)})
	// The driver copies the values into its own buffer at once.
	s.scratch, s.params = s.scratch[:0], s.params[:0]
	for _, v := range st.args {
		if v.IsNull() {
			s.params = append(s.params, nil)
			continue
		}
		from := len(s.scratch)
		s.scratch = append(s.scratch, v.Text()...)
		s.params = append(s.params, s.scratch[from:len(s.scratch):len(s.scratch)])
	}
	p.SendQueryPrepared(st.form.name, s.params, st.form.formats, nil)
}

const (
	// scratch is the buffer that a session begins with: a row of a usual table.
	scratch = 1 << 10
	// maxScratch bounds the buffer kept for values, so that one large row is not remembered for ever. It is twice what the
	// values of one statement for many rows take.
	maxScratch = 2 * manyBytes
)

// results reads one result for each statement sent, with the description of the prepared one before it where it was new.
func (s *postgresSession) results(p *pgconn.Pipeline, read func(q *statement, r *pgconn.ResultReader) error) (int, error) {
	for range s.queued {
		if err := result(p, closeResult); err != nil {
			return -1, err
		}
	}
	for i := range s.sent {
		q := &s.sent[i]
		if q.fresh {
			if _, err := p.GetResults(); err != nil {
				return q.first, err
			}
		}
		err := result(p, func(r *pgconn.ResultReader) error {
			if q.steps == 0 {
				return closeResult(r)
			}
			return read(q, r)
		})
		if err != nil {
			return q.first, err
		}
	}
	return -1, nil
}

func result(p *pgconn.Pipeline, read func(r *pgconn.ResultReader) error) error {
	got, err := p.GetResults()
	if err != nil {
		return err
	}
	reader, ok := got.(*pgconn.ResultReader)
	if !ok {
		return fmt.Errorf("pipeline out of step: %T", got)
	}
	return read(reader)
}

func closeResult(r *pgconn.ResultReader) error {
	_, err := r.Close()
	return err
}

// unprepare forgets the names given in a pipeline that failed: the server may not have heard of them.
func (s *postgresSession) unprepare() {
	for _, q := range s.sent {
		if q.fresh {
			delete(s.statements, q.form.sql)
			q.form.name = ""
		}
	}
}

func (s *postgresSession) commit(ctx context.Context) error {
	if len(s.queued) > 0 {
		if _, _, err := s.run(ctx, nil, nil); err != nil {
			return err
		}
	}
	tag, err := s.conn.Exec(ctx, "COMMIT", pgx.QueryExecModeSimpleProtocol)
	if err == nil && tag.String() != "COMMIT" {
		err = fmt.Errorf("COMMIT was answered with %s", tag)
	}
	return err
}

func (s *postgresSession) worn() bool { return len(s.statements) > maxStatements }

func (s *postgresSession) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	_ = s.conn.Close(ctx) // an open transaction is rolled back by the server; there is nothing to lose
}

// judge grades by SQLSTATE. What is not known to be the data's fault is tried again.
func (s *postgresSession) judge(err error) verdict {
	var server *pgconn.PgError
	if !errors.As(err, &server) || len(server.Code) != 5 {
		return verdict{}
	}
	v := verdict{column: server.ColumnName}
	switch code := server.Code; {
	case code == "42501":
		v.fault = privilege
	case code == "55P03", code == "40P01", code == "40001":
		v.fault = busy
	case code == "23505":
		v.fault = collision // not the key, which ON CONFLICT takes care of
		v.remedy = "the row collides with another row here on " + server.ConstraintName + ": change one of the two"
	case code == "23503":
		v.fault = data
		v.remedy = "the row that it refers to is missing here (" + server.ConstraintName + "): receive that table too, or grant session_replication_role to the sidecar's user"
	case code == "0A000":
		v.fault = unsupported
	case code == "42P01", code == "42703", code == "42804", code == "428C9", code == "42P10", code == "54000", code == "P0001", code == "42883",
		code == "44000", code[:2] == "22", code[:2] == "23", code[:2] == "21":
		v.fault = data
	}
	return v
}

func (s *postgresSession) queue(statement string) { s.queued = append(s.queued, statement) }
