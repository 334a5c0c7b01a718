package capture

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"
	parsed "github.com/pingcap/tidb/pkg/parser/mysql"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// mysqlDecoder turns binlog events into transactions. Its only I/O is hint. Whatever it does not understand, and might
// concern a captured table, is a *schema.BrokenError: never skipped.
type mysqlDecoder struct {
	assembler
	send          func(schema.TableName) bool
	own           func(schema.TableName) bool // those of send of which what this office's applications write goes out; nil: all
	defaultSchema string
	definitions   mysqlTableReader
	// hint reads a table's definition as it is now; nil when there is none.
	hint func(ownSchema, name string) (*catalog.Table, error)

	position *mysqlPosition // behind the last transaction that ended
	schemas  map[string]bool
	tables   map[string]*mysqlTable // by table map
	current  map[uint64]*mysqlTable // by the number that the open transaction's rows name them by
	trailer  int                    // bytes of checksum behind each event

	group mysqlGroup
	rows  mysqlRows
	// ddl is what the tables are; nil: schema changes are not captured.
	ddl     *mysqlDefinitions
	sqlMode parsed.SQLMode // of the statement at hand
	// xas are transactions prepared without a captured row. They may commit.
	xas map[string]bool
}

// mysqlGroup is the transaction that the binlog is in.
type mysqlGroup struct {
	open  bool
	gtid  mysqlGTID
	begun bool   // rows may come, until it commits; else the next statement is all of it
	xa    bool   // it is an XA transaction that is prepared
	xid   string // whose identifier, as the log writes it, this is; known at its end
	row   bool   // a row of a captured table came
}

const (
	// maxMySQLTables bounds the table maps that are remembered: far above the tables of a database.
	maxMySQLTables = 4096
	// maxXAs bounds the XA transactions of other applications that are prepared and not yet committed.
	maxXAs = 1024
)

const (
	// What the library has no names for, or no good ones.
	mariadbStandalone = 1
	mariadbPrepared   = 64 // what begins is an XA transaction that is prepared

	eventChecksum = 4
)

func brokenMySQL(remedy, format string, args ...any) error {
	return &schema.BrokenError{What: fmt.Sprintf(format, args...), Remedy: remedy}
}

func (d *mysqlDecoder) isCaptured(ownSchema string) bool { return d.schemas[ownSchema] }

// event takes one event in.
func (d *mysqlDecoder) event(ev *replication.BinlogEvent) error {
	switch e := ev.Event.(type) {
	case *replication.TableMapEvent:
		return d.tableMap(e, d.body(ev))
	case *replication.RowsEvent:
		return d.rowsEvent(ev.Header.EventType, d.body(ev))
	case *replication.MariadbGTIDEvent:
		return d.mariadbGTID(ev.Header, e)
	case *replication.GTIDEvent:
		return d.mysqlGTID(ev.Header, e)
	case *replication.GtidTaggedLogEvent:
		return d.mysqlGTID(ev.Header, &e.GTIDEvent)
	case *replication.XIDEvent:
		return d.commit()
	case *replication.QueryEvent:
		d.sqlMode = mysqlSQLMode(e.StatusVars)
		return d.query(string(e.Schema), string(e.Query))
	case *replication.TransactionPayloadEvent:
		return d.payload(e)
	case *replication.ExecuteLoadQueryEvent:
		return d.loadData(d.body(ev))
	case *replication.FormatDescriptionEvent:
		return d.format(ev, e)
	case *replication.GenericEvent:
		return d.generic(ev.Header, e.Data)
	default: // rotation, heartbeats, lists of transactions, a statement's text beside its rows, parts of a statement's text
		return nil
	}
}

// body is an event without header and checksum.
func (d *mysqlDecoder) body(ev *replication.BinlogEvent) []byte {
	end := max(len(ev.RawData)-d.trailer, replication.EventHeaderSize)
	return ev.RawData[min(replication.EventHeaderSize, len(ev.RawData)):min(end, len(ev.RawData))]
}

// format begins a binlog file. A transaction never goes on in the next file: one that a crash of the server cut off did
// not happen.
func (d *mysqlDecoder) format(ev *replication.BinlogEvent, e *replication.FormatDescriptionEvent) error {
	d.trailer = 0
	if e.ChecksumAlgorithm == replication.BINLOG_CHECKSUM_ALG_CRC32 {
		d.trailer = eventChecksum
	}
	if d.group.open && ev.Header.LogPos != 0 {
		if d.tx.Part > 0 {
			return brokenMySQL("let the office join again", "the binlog has a transaction without an end (%s)", d.gtidText())
		}
		d.group = mysqlGroup{}
		d.abandon()
	}
	return nil
}

func (d *mysqlDecoder) gtidText() string {
	if d.position.mysql == nil {
		return d.group.gtid.domain.String()
	}
	return fmt.Sprintf("%x:%d", d.group.gtid.server, d.group.gtid.number)
}

// generic is an event that the library does not take apart.
func (d *mysqlDecoder) generic(h *replication.EventHeader, data []byte) error {
	switch h.EventType {
	case replication.STOP_EVENT, replication.RAND_EVENT, replication.USER_VAR_EVENT, replication.IGNORABLE_EVENT,
		replication.APPEND_BLOCK_EVENT, replication.DELETE_FILE_EVENT, replication.TRANSACTION_CONTEXT_EVENT,
		replication.VIEW_CHANGE_EVENT, replication.MARIADB_START_ENCRYPTION_EVENT:
		return nil
	case replication.XA_PREPARE_LOG_EVENT:
		return d.prepared(len(data) > 0 && data[0] != 0)
	case replication.INCIDENT_EVENT:
		return brokenMySQL("let the office join again",
			"the server lost changes on the way to its binlog (INCIDENT event behind %s)", d.position)
	}
	if h.Flags&replication.LOG_EVENT_IGNORABLE_F != 0 {
		return nil
	}
	return brokenMySQL("upgrade cdc-sidecar", "the binlog has an event that this program does not know (type %d, behind %s)", byte(h.EventType), d.position)
}

func (d *mysqlDecoder) mariadbGTID(h *replication.EventHeader, e *replication.MariadbGTIDEvent) error {
	err := d.begin(mysqlGTID{domain: e.GTID}, e.Flags&mariadbStandalone == 0, time.Unix(int64(h.Timestamp), 0))
	d.group.xa = e.Flags&mariadbPrepared != 0
	return err
}

func (d *mysqlDecoder) mysqlGTID(h *replication.EventHeader, e *replication.GTIDEvent) error {
	if h.EventType == replication.ANONYMOUS_GTID_EVENT || len(e.SID) != 16 {
		return brokenMySQL("SET GLOBAL gtid_mode = ON (by way of OFF_PERMISSIVE and ON_PERMISSIVE); the office needs to join again",
			"the binlog has a transaction without an identifier: gtid_mode was not ON (behind %s)", d.position)
	}
	at := time.Unix(int64(h.Timestamp), 0)
	if e.ImmediateCommitTimestamp != 0 {
		at = time.UnixMicro(int64(e.ImmediateCommitTimestamp))
	}
	return d.begin(mysqlGTID{server: [16]byte(e.SID), tag: e.Tag, number: e.GNO}, false, at)
}

func (d *mysqlDecoder) begin(gtid mysqlGTID, begun bool, at time.Time) error {
	if d.group.open {
		return brokenMySQL("upgrade cdc-sidecar", "the binlog begins a transaction inside of %s", d.gtidText())
	}
	d.group = mysqlGroup{open: true, gtid: gtid, begun: begun}
	d.assembler.begin(at.UTC())
	return nil
}

// commit ends the transaction that the binlog is in. Only here the position moves.
func (d *mysqlDecoder) commit() error {
	if !d.group.open {
		return brokenMySQL("upgrade cdc-sidecar", "the binlog ends a transaction that it did not begin (behind %s)", d.position)
	}
	if err := d.position.advance(d.group.gtid); err != nil {
		return err
	}
	d.settle()
	if d.ddl != nil && len(d.ddl.notes) > 0 {
		at, err := d.position.copy()
		if err != nil {
			return err
		}
		d.ddl.noted(at, d.ddl.notes)
		d.ddl.notes = nil
	}
	d.end(d.position.String())
	d.group = mysqlGroup{}
	clear(d.current)
	return nil
}

// payload is a compressed transaction. Its events have no checksums of their own.
func (d *mysqlDecoder) payload(e *replication.TransactionPayloadEvent) error {
	trailer := d.trailer
	d.trailer = 0
	defer func() { d.trailer = trailer }()
	for _, inner := range e.Events {
		if err := d.event(inner); err != nil {
			return err
		}
	}
	return nil
}

// query takes a statement's text in.
func (d *mysqlDecoder) query(ownSchema, query string) error {
	switch query { // nearly all there are
	case "BEGIN":
		d.group.begun = true
		return nil
	case "COMMIT":
		return d.commit()
	}
	s := parseMySQLStatement(query)
	switch s.keyword() {
	case "XA":
		return d.xa(query)
	case "ROLLBACK":
		if d.group.row {
			return brokenMySQL("keep captured tables in InnoDB, write to tables of other engines in transactions of their own; the office needs to join again",
				"the binlog has a transaction that was rolled back in part (%s)", d.gtidText())
		}
		if !s.has("TO") {
			return d.commit()
		}
		return nil
	case "SAVEPOINT", "RELEASE":
		return nil
	}
	if err := d.statement(s, ownSchema, query); err != nil {
		return err
	}
	// MySQL writes CREATE TABLE … SELECT as one transaction of definition and rows.
	if d.group.begun || strings.HasSuffix(query, "START TRANSACTION") {
		d.group.begun = true
		return nil
	}
	return d.commit()
}

// statement looks at what is neither a row nor the bounds of a transaction.
func (d *mysqlDecoder) statement(s mysqlStatement, ownSchema, query string) error {
	if s.writesRows() {
		if s.mayTouch(ownSchema, d.isCaptured) {
			return d.statementFormat(ownSchema, query)
		}
		return nil
	}
	if name, ok := s.truncated(ownSchema); ok {
		return d.truncate(name)
	}
	switch s.keyword() {
	case "ALTER", "CREATE", "DROP", "RENAME": // what the table maps do not say may have changed, too
		clear(d.tables)
	}
	return d.schemaChange(s, ownSchema, query)
}

func (d *mysqlDecoder) statementFormat(ownSchema, query string) error {
	const most = 200
	if len(query) > most {
		query = strings.ToValidUTF8(query[:most], "") + "…"
	}
	return brokenMySQL("SET GLOBAL binlog_format = 'ROW', and let no session change it (it may be what wrote this); the office needs to join again",
		"statement-format DML: the binlog has a statement in schema %s where it should have rows (%s): %s", ownSchema, d.gtidText(), query)
}

// loadData is a LOAD DATA in statement format. The library leaves its schema out.
func (d *mysqlDecoder) loadData(body []byte) error {
	r := mysqlBytes{b: body}
	r.take(8)
	schemaLength := r.little(1)
	r.take(2)
	status := r.little(2)
	r.take(13 + int(status))
	ownSchema := string(r.take(int(schemaLength)))
	r.take(1)
	query := string(r.b)
	if r.short || parseMySQLStatement(query).mayTouch(ownSchema, d.isCaptured) {
		return d.statementFormat(ownSchema, query)
	}
	if d.group.begun {
		return nil
	}
	return d.commit()
}

// truncate makes a change of a TRUNCATE TABLE, which is always a transaction of its own.
func (d *mysqlDecoder) truncate(own schema.TableName) error {
	name := catalog.MySQLName(own.Schema, own.Name, d.defaultSchema)
	if !d.sent(own.Schema, name) {
		return nil
	}
	table, err := d.truncatable(own)
	if err != nil {
		return err
	}
	if table == nil || len(table.Key) == 0 || !d.wants() || d.passing(name) && d.mode != anotherOrigins {
		return nil // gone since, or never captured
	}
	d.group.row = true
	d.add(schema.Change{Table: table, Op: schema.Truncate})
	return nil
}

// truncatable is a table as it was when it was emptied, or as it is now where nobody knows that; nil: there is none.
func (d *mysqlDecoder) truncatable(own schema.TableName) (*schema.Table, error) {
	if d.ddl != nil && d.ddl.known[own] != nil { // it may have been renamed or dropped since, and be another one
		return d.ddl.known[own].Table, nil
	}
	hint, err := d.hint(own.Schema, own.Name)
	if hint == nil || err != nil {
		return nil, err
	}
	return hint.Table, nil
}

// sent reports whether a table's changes are to be sent, if it has a key.
func (d *mysqlDecoder) sent(ownSchema string, name schema.TableName) bool {
	switch ownSchema {
	case schema.OwnSchema, "mysql", "sys", "performance_schema", "information_schema":
		return false
	}
	return d.send(name)
}

// passing reports whether only what was applied of other offices is sent on of a table.
func (d *mysqlDecoder) passing(name schema.TableName) bool { return d.own != nil && !d.own(name) }

// xa takes XA START, END, COMMIT, ROLLBACK in. The rows of an XA transaction stand in the binlog when it is prepared, and
// whether it happened only later: such rows of captured tables are not supported.
func (d *mysqlDecoder) xa(query string) error {
	text := strings.TrimPrefix(query, "XA ") // as the server writes it, whatever the application wrote
	verb, id, _ := strings.Cut(text, " ")
	switch verb {
	case "START", "BEGIN":
		d.group.begun, d.group.xa = true, true
		return nil
	case "END":
		d.group.xid = id
		return nil
	}
	if !d.xas[id] && verb != "ROLLBACK" {
		return d.xaError("the binlog commits an XA transaction whose preparation was not read: XA COMMIT " + id)
	}
	delete(d.xas, id)
	return d.commit()
}

func (d *mysqlDecoder) xaError(what string) error {
	return brokenMySQL("XA transactions are not supported on captured tables: let the application use plain ones; the office needs to join again",
		"XA: %s (%s)", what, d.gtidText())
}

// prepared ends an XA transaction's rows. With onePhase it has happened, else that is still to come.
func (d *mysqlDecoder) prepared(onePhase bool) error {
	if onePhase {
		return d.commit()
	}
	if len(d.xas) >= maxXAs {
		return d.xaError("too many are prepared and not ended")
	}
	if d.xas == nil {
		d.xas = map[string]bool{}
	}
	d.xas[d.group.xid] = true
	return d.commit()
}

// tableMap notes what table the rows to come mean by a number. data is the event's body.
func (d *mysqlDecoder) tableMap(m *replication.TableMapEvent, data []byte) error {
	const prefix = 6 + 2 // number and flags: not part of what it describes
	if len(data) < prefix {
		return brokenMySQL("upgrade cdc-sidecar", "the binlog has a table map that is cut short (behind %s)", d.position)
	}
	t, ok := d.tables[string(data[prefix:])]
	if !ok {
		var err error
		if t, err = d.table(m); err != nil {
			return err
		}
		if len(d.tables) >= maxMySQLTables {
			clear(d.tables)
		}
		d.tables[string(bytes.Clone(data[prefix:]))] = t
	}
	d.current[m.TableID] = t
	return nil
}

// table makes a table of a table map that was not seen before.
func (d *mysqlDecoder) table(m *replication.TableMapEvent) (*mysqlTable, error) {
	t := &mysqlTable{ownSchema: string(m.Schema), ownName: string(m.Table)}
	_, ours := ownTables[t.ownName]
	ours = ours && t.ownSchema == schema.OwnSchema && t.ownName != schema.DefinitionsTable // which we write ourselves here
	name := catalog.MySQLName(t.ownSchema, t.ownName, d.defaultSchema)
	if !ours && !d.takes(schema.TableName{Schema: t.ownSchema, Name: t.ownName}) {
		return t, nil
	}
	hint, err := d.hint(t.ownSchema, t.ownName)
	if err != nil {
		return nil, err
	}
	if hint != nil && len(hint.Key) == 0 && len(m.PrimaryKey) == 0 {
		return t, nil // reported by the check, never captured
	}
	if t.table, t.readers, err = d.definitions.define(name, m, hint); err != nil {
		return nil, err
	}
	if ours {
		t.own, err = ownTableOf(t.table, t.ownName)
		return t, err
	}
	t.passing = d.passing(name)
	if t.captured = len(t.table.Key) > 0; t.captured {
		d.schemas[t.ownSchema] = true
	}
	return t, nil
}

// rowsEvent takes the rows of one event in.
func (d *mysqlDecoder) rowsEvent(kind replication.EventType, data []byte) error {
	r := mysqlBytes{b: data}
	id := r.little(6)
	const statementEnd, dummy = 1, 0xffffff
	flags := r.little(2)
	t := d.current[id]
	if t == nil {
		if id == dummy && flags&statementEnd != 0 {
			return nil // only ends a statement
		}
		return brokenMySQL("upgrade cdc-sidecar", "the binlog has rows of a table that it did not describe (number %d, in %s)", id, d.gtidText())
	}
	if !d.group.open {
		return brokenMySQL("upgrade cdc-sidecar", "the binlog has rows outside of a transaction (behind %s)", d.position)
	}
	if t.captured && d.group.xa {
		return d.xaError("it wrote to table " + t.table.String())
	}
	if t.own == nil && (t.ownSchema == schema.OwnSchema || !d.wants() || !t.captured || t.passing && d.mode != anotherOrigins) {
		return nil
	}
	op, err := d.rows.begin(t, kind, &r)
	if err != nil {
		return err
	}
	return d.changes(t, op, &r)
}

// changes reads the rows and hands them on.
func (d *mysqlDecoder) changes(t *mysqlTable, op schema.Op, r *mysqlBytes) error {
	images, err := d.rows.read(t, r)
	if err != nil {
		return err
	}
	d.group.row = d.group.row || t.captured
	for len(images) > 0 {
		c := schema.Change{Table: t.table, Op: op}
		if op != schema.Insert {
			c.Before, images = images[0], images[1:]
		}
		if op != schema.Delete {
			c.After, images = images[0], images[1:]
		}
		if t.own == nil {
			d.add(c)
			continue
		}
		if err := t.own.read(&d.assembler, &c); err != nil {
			return err
		}
	}
	return nil
}
