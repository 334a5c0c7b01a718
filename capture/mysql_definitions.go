package capture

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// definitionsBegun is the table_id of the row which says that the office's definitions are kept: a table without a row was not
// there then.
const definitionsBegun = "*"

// mysqlKeeper keeps cdc_sidecar.definitions: what the tables were at the place where the log will be read again. A row is
// written when its change is durable with us; a crash in between makes the change come again. One goroutine writes.
type mysqlKeeper struct {
	db     *sql.DB
	office schema.Office
	engine schema.Engine
	log    *slog.Logger

	mu     sync.Mutex
	waits  []mysqlWaiting // until they are durable, in the order of the log
	ready  []mysqlNote
	wake   chan struct{}
	cancel context.CancelFunc
	ended  chan struct{}
}

type mysqlWaiting struct {
	at    *mysqlPosition
	notes []mysqlNote
}

func newMySQLKeeper(db *sql.DB, config MySQLConfig, engine schema.Engine) *mysqlKeeper {
	ctx, cancel := context.WithCancel(context.Background())
	k := &mysqlKeeper{db: db, office: config.Office, engine: engine, log: config.log(), wake: make(chan struct{}, 1), cancel: cancel, ended: make(chan struct{})}
	go k.run(ctx)
	return k
}

// add takes notes that are to be written when everything to the place is durable.
func (k *mysqlKeeper) add(at *mysqlPosition, notes []mysqlNote) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waits = append(k.waits, mysqlWaiting{at, notes})
}

// confirm says that everything to the place is durable.
func (k *mysqlKeeper) confirm(source string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.waits) > 0 {
		durable, err := parseMySQLPosition(k.engine, source)
		if err != nil { // it is one of our own
			k.log.Warn("cannot read a place of the binlog", "error", err)
			return
		}
		for len(k.waits) > 0 && durable.reached(k.waits[0].at) {
			k.ready = append(k.ready, k.waits[0].notes...)
			k.waits = k.waits[1:]
		}
	}
	if len(k.ready) == 0 {
		return
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *mysqlKeeper) run(ctx context.Context) {
	defer close(k.ended)
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		}
		k.mu.Lock()
		notes := k.ready
		k.ready = nil
		k.mu.Unlock()
		if err := writeDefinitions(ctx, k.db, k.office, notes); err != nil && ctx.Err() == nil {
			k.log.Warn("cannot keep the tables' definitions; it is tried again", "error", err)
			k.mu.Lock()
			k.ready = append(notes, k.ready...)
			k.mu.Unlock()
		}
	}
}

func (k *mysqlKeeper) close() {
	k.cancel()
	<-k.ended
}

// definitionID is a table's table_id.
func definitionID(own schema.TableName) string { return own.Schema + "." + own.Name }

func writeDefinitions(ctx context.Context, db *sql.DB, office schema.Office, notes []mysqlNote) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, n := range notes {
		if n.is == nil {
			_, err = tx.ExecContext(ctx, "DELETE FROM cdc_sidecar.definitions WHERE office = ? AND table_id = ?", string(office), definitionID(n.own))
		} else {
			_, err = tx.ExecContext(ctx, `REPLACE INTO cdc_sidecar.definitions (office, table_id, schema_name, table_name, definition, statement) VALUES (?, ?, ?, ?, ?, ?)`,
				string(office), definitionID(n.own), n.own.Schema, n.own.Name, string(schema.AppendDefinition(nil, n.is)), n.statement)
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", definitionID(n.own), err)
		}
	}
	return tx.Commit()
}

// keptDefinitions reads what is kept; begun: whether anything ever was.
func (s *mysqlSetup) keptDefinitions(ctx context.Context) (known map[schema.TableName]*schema.Definition, begun bool, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT table_id, schema_name, table_name, definition FROM cdc_sidecar.definitions WHERE office = ?", string(s.config.Office))
	if err != nil {
		return nil, false, s.config.refused("read cdc_sidecar.definitions", err)
	}
	defer rows.Close()
	known = map[schema.TableName]*schema.Definition{}
	for rows.Next() {
		var id, text string
		var own schema.TableName
		if err := rows.Scan(&id, &own.Schema, &own.Name, &text); err != nil {
			return nil, false, err
		}
		if begun = true; id == definitionsBegun {
			continue
		}
		d, err := schema.ParseDefinition([]byte(text))
		if err != nil { // of another version: the catalog says it anew
			s.config.log().Warn("a kept definition cannot be read", "table", id, "error", err)
			continue
		}
		known[own] = d
	}
	return known, begun, rows.Err()
}

// ownDefinitions are the catalog's definitions of the tables that are sent, by the database's own names.
func (s *mysqlSetup) ownDefinitions(ctx context.Context) (map[schema.TableName]*schema.Definition, error) {
	all, err := catalog.ReadMySQLDefinitions(ctx, s.db, s.config.DSN.DefaultSchema())
	if err != nil {
		return nil, s.config.refused("read the catalog", err)
	}
	now := map[schema.TableName]*schema.Definition{}
	for _, d := range all {
		own := d.TableName
		if own.Schema == "" {
			own.Schema = s.config.DSN.DefaultSchema()
		}
		if len(d.Key) > 0 && s.config.sends(d.TableName) {
			next := 0
			now[own] = numbered(nil, d, mysqlMoves{}, &next)
		}
	}
	return now, nil
}

// seedAttempts is how often the catalog is read until it stands still while the place in the log is.
const seedAttempts = 5

// seed keeps what the tables are at a place of the log, and gives the place. Without definitions to capture, it gives the place.
func (s *mysqlSetup) seed(ctx context.Context) (string, error) {
	if !s.config.Definitions {
		return s.end(ctx)
	}
	now, err := s.ownDefinitions(ctx)
	if err != nil {
		return "", err
	}
	for attempt := 1; ; attempt++ {
		if err := s.keepAll(ctx, now); err != nil {
			return "", err
		}
		at, err := s.end(ctx)
		if err != nil {
			return "", err
		}
		again, err := s.ownDefinitions(ctx)
		if err != nil {
			return "", err
		}
		if sameDefinitions(now, again) || attempt == seedAttempts {
			return at, nil
		}
		now = again
	}
}

func (s *mysqlSetup) keepAll(ctx context.Context, now map[schema.TableName]*schema.Definition) error {
	office := s.config.Office
	_, err := s.db.ExecContext(ctx, "DELETE FROM cdc_sidecar.definitions WHERE office = ?", string(office))
	if err == nil {
		_, err = s.db.ExecContext(ctx, "INSERT INTO cdc_sidecar.definitions (office, table_id, schema_name, table_name, definition, statement) VALUES (?, ?, '', '', '', '')", string(office), definitionsBegun)
	}
	notes := make([]mysqlNote, 0, len(now))
	for own, d := range now {
		notes = append(notes, mysqlNote{own: own, is: d})
	}
	if err == nil {
		err = writeDefinitions(ctx, s.db, office, notes)
	}
	if err != nil {
		return s.config.refused("write cdc_sidecar.definitions", err)
	}
	return nil
}

func sameDefinitions(a, b map[schema.TableName]*schema.Definition) bool {
	if len(a) != len(b) {
		return false
	}
	for own, d := range a {
		if other := b[own]; other == nil || d.Fingerprint() != other.Fingerprint() {
			return false
		}
	}
	return true
}

// definitions makes what the decoder needs for schema changes. What the catalog says otherwise than what is kept is compared
// when the log has been read to where the catalog is.
func (s *mysqlSetup) definitions(ctx context.Context) (*mysqlDefinitions, error) {
	d := &mysqlDefinitions{engine: s.engine, log: s.config.log(), ahead: map[schema.TableName]mysqlSight{}, aside: map[schema.TableName]*schema.Definition{}}
	var caseMode int
	if err := s.db.QueryRowContext(ctx, "SELECT @@lower_case_table_names").Scan(&caseMode); err != nil {
		return nil, s.config.refused("read lower_case_table_names", err)
	}
	d.lower = caseMode != 0
	known, begun, err := s.keptDefinitions(ctx)
	if err != nil {
		return nil, err
	}
	now, err := s.ownDefinitions(ctx)
	if err != nil {
		return nil, err
	}
	at, err := s.place(ctx)
	if err != nil {
		return nil, err
	}
	if !begun {
		s.config.log().Info("schema changes are captured from here on", "tables", len(now))
		d.known = now
		return d, s.keepAll(ctx, now)
	}
	d.known = known
	for own, kept := range known {
		name := catalog.MySQLName(own.Schema, own.Name, s.config.DSN.DefaultSchema())
		if !s.config.sends(name) || kept.TableName != name { // it is not sent any more, or database: names another schema
			delete(known, own)
			continue
		}
		for i := range kept.Details {
			d.next = max(d.next, kept.Details[i].ID+1)
		}
	}
	for own, is := range now {
		if was := known[own]; was == nil || was.Fingerprint() != is.Fingerprint() {
			d.ahead[own] = mysqlSight{is, at}
		}
	}
	return d, nil
}

// place is where the log ends now.
func (s *mysqlSetup) place(ctx context.Context) (*mysqlPosition, error) {
	query := "SELECT @@GLOBAL.gtid_executed"
	if s.engine == schema.MariaDB {
		query = "SELECT @@GLOBAL.gtid_binlog_pos"
	}
	var text string
	if err := s.db.QueryRowContext(ctx, query).Scan(&text); err != nil {
		return nil, s.config.refused("read the binlog's place", err)
	}
	return parseMySQLPosition(s.engine, strings.ReplaceAll(text, "\n", ""))
}

// definition reads a table for the decoder.
func (s *mysqlSetup) definition(ctx context.Context, own schema.TableName) (*schema.Definition, *mysqlPosition, error) {
	d, err := catalog.ReadMySQLDefinition(ctx, s.db, own.Schema, own.Name, s.config.DSN.DefaultSchema())
	if err != nil {
		return nil, nil, s.config.refused("read a table's definition", err)
	}
	at, err := s.place(ctx)
	return d, at, err
}
