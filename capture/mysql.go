package capture

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

const (
	// heartbeatEvery is how often an idle server says that it is there; silenceLimit, how long we believe it without.
	// A half-open connection shows in no other way.
	heartbeatEvery = 10 * time.Second
	silenceLimit   = 30 * time.Second
	// eventQueue is how many events may wait between the connection and the decoder. They are a few kilobytes each, but
	// one row may be very large.
	eventQueue = 64
	// serverIDs is how many numbers are tried for one that no other replica of the server has.
	serverIDs = 8
)

// MySQL reads the binlog of a MySQL or MariaDB as a replica would. It is a Source; one goroutine of the library's owns the
// connection to the binlog, Read's the other one.
type MySQL struct {
	config  MySQLConfig
	db      *sql.DB // for definitions
	syncer  *replication.BinlogSyncer
	stream  *replication.BinlogStreamer
	events  []*replication.BinlogEvent
	decoder *mysqlDecoder
	setup   *mysqlSetup
	keeper  *mysqlKeeper // nil: schema changes are not captured

	ignoreCatalog bool // for tests of what the binlog says by itself
}

// OpenMySQL starts to read at start, a place that Prepare gave or that a Transaction had as its Source. Errors are those of
// Prepare; what the binlog itself refuses (purged, another history), shows in Read.
func OpenMySQL(ctx context.Context, config MySQLConfig, start string) (*MySQL, error) {
	db, engine, err := config.connect(ctx)
	if err != nil {
		return nil, err
	}
	m := &MySQL{config: config, db: db}
	if err := m.open(ctx, engine, start); err != nil {
		return nil, errors.Join(err, m.Close(ctx))
	}
	return m, nil
}

func (m *MySQL) open(ctx context.Context, engine schema.Engine, start string) error {
	s := &mysqlSetup{config: m.config, db: m.db, engine: engine}
	if err := s.settings(ctx); err != nil {
		return err
	}
	if err := s.verify(ctx, start); err != nil {
		return err
	}
	position, err := parseMySQLPosition(engine, start)
	if err != nil {
		return err
	}
	if m.decoder, err = m.newDecoder(ctx, s, position); err != nil {
		return err
	}
	if m.config.Definitions {
		if m.decoder.ddl, err = s.definitions(ctx); err != nil {
			return err
		}
		m.setup, m.keeper = s, newMySQLKeeper(m.db, m.config, engine)
		m.decoder.ddl.noted = m.keeper.add
	}
	config, err := m.syncerConfig(ctx, s)
	if err != nil {
		return err
	}
	set, err := position.set()
	if err != nil {
		return err
	}
	m.syncer = replication.NewBinlogSyncer(config)
	if m.stream, err = m.syncer.StartSyncGTID(set); err != nil {
		return s.unread(ctx, err)
	}
	return nil
}

func (m *MySQL) newDecoder(ctx context.Context, s *mysqlSetup, position *mysqlPosition) (*mysqlDecoder, error) {
	charsets, err := s.charsets(ctx)
	if err != nil {
		return nil, m.config.refused("read the character sets", err)
	}
	json, err := newMySQLJSON()
	if err != nil {
		return nil, err
	}
	d := &mysqlDecoder{
		assembler: newAssembler(m.config.Office, m.config.Role, m.config.Joining),
		send:      m.config.sends, own: m.config.sendsOwn,
		defaultSchema: m.config.DSN.DefaultSchema(),
		definitions:   mysqlTableReader{engine: s.engine, charsets: charsets, json: json},
		position:      position,
		schemas:       map[string]bool{m.config.DSN.DefaultSchema(): true},
		tables:        map[string]*mysqlTable{},
		current:       map[uint64]*mysqlTable{},
	}
	tables, err := catalog.ReadMySQL(ctx, m.db, d.defaultSchema)
	if err != nil {
		return nil, m.config.refused("read the catalog", err)
	}
	for i := range tables {
		if t := &tables[i]; len(t.Key) > 0 && m.config.sends(t.TableName) {
			d.schemas[t.OwnSchema] = true
		}
	}
	return d, nil
}

func (m *MySQL) syncerConfig(ctx context.Context, s *mysqlSetup) (replication.BinlogSyncerConfig, error) {
	id, err := s.serverID(ctx)
	if err != nil {
		return replication.BinlogSyncerConfig{}, err
	}
	port, err := strconv.ParseUint(m.config.DSN.Port, 10, 16)
	if err != nil {
		return replication.BinlogSyncerConfig{}, fmt.Errorf("database URL: port %q: %w", m.config.DSN.Port, err)
	}
	encryption, err := m.config.tls(ctx, m.db)
	if err != nil {
		return replication.BinlogSyncerConfig{}, err
	}
	flavor := mysql.MySQLFlavor
	if s.engine == schema.MariaDB {
		flavor = mysql.MariaDBFlavor
	}
	return replication.BinlogSyncerConfig{
		Dialer:   gathering((&net.Dialer{}).DialContext, func(g *gatherer) { g.limit, g.hurry = silenceLimit, m.config.Hurry }),
		ServerID: id, Flavor: flavor, Localhost: "cdc-sidecar-" + string(m.config.Office),
		Host: m.config.DSN.Host, Port: uint16(port), User: m.config.DSN.User, Password: m.config.DSN.Password, TLSConfig: encryption,
		HeartbeatPeriod: heartbeatEvery, EventCacheCount: eventQueue,
		// Its own retry would send the first half of an interrupted transaction twice.
		DisableRetrySync: true,
		DiscardGTIDSet:   true, // we keep our own
		// Rows are read by the decoder, those of captured tables only. The library wants to see where a statement ends.
		RowsEventDecodeFunc: func(e *replication.RowsEvent, data []byte) error {
			r := mysqlBytes{b: data}
			r.take(6)
			e.Flags = uint16(r.little(2))
			return nil
		},
		PayloadDecoderConcurrency: 1,
		Logger:                    slog.New(slog.DiscardHandler), // what it would log, it also returns
	}, nil
}

// serverID is the number by which the server tells its replicas apart: made from the office's name, so that it stays the same,
// and not one that another replica has now, which the server would throw out for us.
func (s *mysqlSetup) serverID(ctx context.Context) (uint32, error) {
	taken := map[uint32]string{}
	var own uint32
	if err := s.db.QueryRowContext(ctx, "SELECT @@GLOBAL.server_id").Scan(&own); err != nil {
		return 0, s.config.refused("read server_id", err)
	}
	taken[own] = "the server itself"
	if err := s.replicas(ctx, taken); err != nil {
		s.config.log().Debug("cannot list the server's replicas", "error", err) // needs a privilege that we do without
	}
	var id uint32
	for attempt := range serverIDs {
		h := fnv.New32a()
		_, _ = fmt.Fprintf(h, "cdc-sidecar/%s/%d", s.config.Office, attempt)
		id = h.Sum32() | 1<<30 // above what people give by hand
		host, ok := taken[id]
		if !ok || host == "cdc-sidecar-"+string(s.config.Office) { // what is left of our own last connection
			return id, nil
		}
	}
	return 0, fmt.Errorf("server_id %d and %d others: %w: replica %s", id, serverIDs-1, schema.ErrHeld, taken[id])
}

func (s *mysqlSetup) replicas(ctx context.Context, taken map[uint32]string) error {
	query := "SHOW REPLICAS"
	if s.engine == schema.MariaDB {
		query = "SHOW SLAVE HOSTS"
	}
	replicas, err := s.table(ctx, query)
	if err != nil {
		return err
	}
	for _, r := range replicas {
		id, err := strconv.ParseUint(r[0], 10, 32)
		if err != nil {
			return err
		}
		taken[uint32(id)] = r[1]
	}
	return nil
}

// Read returns what has arrived: at least one transaction, part or position, at most about partBytes.
func (m *MySQL) Read(ctx context.Context) ([]schema.Transaction, error) {
	d := m.decoder
	d.definitions.characters = func(c *mysqlCharset) error { return readCharacters(ctx, m.db, c) }
	d.hint = func(ownSchema, name string) (*catalog.Table, error) {
		if m.ignoreCatalog {
			return nil, nil
		}
		t, err := catalog.ReadMySQLTable(ctx, m.db, ownSchema, name, d.defaultSchema)
		if err != nil {
			return nil, m.config.refused("read the definition of "+ownSchema+"."+name, err)
		}
		return t, nil
	}
	if d.ddl != nil {
		d.ddl.read = func(own schema.TableName) (*schema.Definition, *mysqlPosition, error) {
			return m.setup.definition(ctx, own)
		}
	}
	for {
		if len(m.events) == 0 {
			m.events = m.stream.DumpEvents() // those that wait
		}
		if n := len(d.out); n > 0 && (len(m.events) == 0 || n >= batchTransactions || d.outBytes >= partBytes) {
			return d.take(), nil
		}
		if len(m.events) == 0 {
			ev, err := m.stream.GetEvent(ctx)
			if err != nil {
				return nil, m.streamError(err)
			}
			m.events = append(m.events, ev)
		}
		ev := m.events[0]
		m.events[0], m.events = nil, m.events[1:]
		if err := d.event(ev); err != nil {
			return nil, err
		}
	}
}

// streamError sorts what the binlog's connection ended with.
func (m *MySQL) streamError(err error) error {
	number, words := mysqlErrorNumber(err)
	if number != mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG {
		return m.config.refused("read the binlog", shortened(err))
	}
	switch text := words.Error(); {
	case strings.Contains(text, "same server_uuid/server_id"):
		return fmt.Errorf("read the binlog: %w: %w", schema.ErrHeld, words)
	case strings.Contains(text, "max_allowed_packet"):
		return &schema.RefusedError{What: "the server cannot send an event of its binlog", Cause: words, Remedy: "SET GLOBAL max_allowed_packet = 1073741824"}
	case strings.Contains(text, "Binary log is not open"):
		return &schema.RefusedError{What: "there is no binlog to read", Cause: words, Remedy: mysqlSettings[0].remedy}
	}
	if lost := lostBinlog(words); lost != nil {
		return lost
	}
	return &schema.BrokenError{What: "the server's binlog does not go on from where the journal stopped", Cause: words, Remedy: rejoinRemedy}
}

// shortened keeps the library from putting whole events, rows and all, into an error.
func shortened(err error) error {
	const most = 1000
	if text := err.Error(); len(text) > most {
		return errors.New(strings.ToValidUTF8(text[:most], "") + "…")
	}
	return err
}

// Confirm lets the tables' definitions be kept as they are there. The log itself is kept by its age, whoever has read it.
func (m *MySQL) Confirm(source string) {
	if m.keeper != nil {
		m.keeper.confirm(source)
	}
}

// Close lets go of the server.
func (m *MySQL) Close(context.Context) error {
	if m.keeper != nil {
		m.keeper.close()
	}
	if m.syncer != nil {
		m.syncer.Close() // ends its connection by a KILL from a second one, for which it waits at most 10 s
	}
	// A connection that the server has ended is closed already. The driver has a second error for that, which it keeps to itself.
	if err := m.db.Close(); err != nil && !errors.Is(err, driver.ErrBadConn) && err.Error() != "bad connection" {
		return fmt.Errorf("close the connection to the database: %w", err)
	}
	return nil
}
