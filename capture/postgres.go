package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

const (
	// statusEvery is how often the server hears of us without asking; it gives up on us after 60 s.
	statusEvery = 10 * time.Second
	// askAfter is how long the server may be silent before we ask whether it is there: it must answer.
	askAfter = 20 * time.Second
	// deadAfter is how long we wait for any word of it. A half-open connection shows in no other way.
	deadAfter = 60 * time.Second
	// pulse is how often a reader that waits looks at the clock for the three above.
	pulse = 5 * time.Second
	// writeLimit bounds the sending of a status of 34 bytes to a server that does not take it.
	writeLimit = 30 * time.Second
	// inspectEvery is how often the publication is looked at. From Postgres 18 on, changes are silently skipped when
	// it is missing.
	inspectEvery = time.Minute
)

// Postgres reads a Postgres' log through a replication slot and pgoutput. It is a Source; Read's goroutine owns both
// connections.
type Postgres struct {
	config   PostgresConfig
	stream   *pgconn.PgConn
	reader   *gatherer // stream's
	sql      *pgx.Conn // for definitions, and to inspect the publication
	decoder  *postgresDecoder
	setup    *postgresSetup
	position postgresPosition // its system and timeline are those of the server; lsn is where we started

	durable  atomic.Uint64 // LSN: confirmed by the journal
	reported uint64        // LSN: what the server knows of durable
	asked    bool          // the server waits for a status
	heard    bool          // something came since the last look at the clock
	expired  bool          // the read deadline passed: look at the clock before the next read

	lastStatus, lastHeard, lastInspection time.Time
}

// OpenPostgres starts to read at start, a place that Prepare gave or that a Transaction had as its Source. Errors are those
// of Prepare.
func OpenPostgres(ctx context.Context, config PostgresConfig, start string) (*Postgres, error) {
	at, err := parsePostgresPosition(start)
	if err != nil {
		return nil, err
	}
	p := &Postgres{config: config}
	if err := p.open(ctx, at); err != nil {
		return nil, errors.Join(err, p.Close(ctx))
	}
	return p, nil
}

func (p *Postgres) open(ctx context.Context, at postgresPosition) error {
	var err error
	if p.sql, err = p.config.connect(ctx); err != nil {
		return err
	}
	if p.stream, p.reader, err = p.config.connectReplication(ctx); err != nil {
		return err
	}
	p.setup = &postgresSetup{config: p.config, conn: p.sql}
	if err := p.setup.verify(ctx, p.stream, at); err != nil {
		return err
	}
	if err := p.setup.inspect(ctx); err != nil {
		return err
	}
	server, err := identify(ctx, p.stream)
	if err != nil {
		return err
	}
	p.position = postgresPosition{at.lsn, server.system, server.timeline}
	p.decoder = p.newDecoder()
	if err := p.define(ctx); err != nil {
		return err
	}
	p.durable.Store(uint64(at.lsn))
	now := time.Now()
	p.lastHeard, p.lastInspection = now, now
	err = pglogrepl.StartReplication(ctx, p.stream, p.config.slot(), at.lsn, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", fmt.Sprintf("publication_names '%s'", quoted(p.config.slot()))},
	})
	if err != nil {
		return p.config.refused("read the replication slot "+p.config.slot(), err)
	}
	return p.report(now, false)
}

// newDecoder makes the decoder of this session; Read gives it the means to read definitions.
func (p *Postgres) newDecoder() *postgresDecoder {
	suffix := strings.TrimPrefix(p.position.String(), p.position.lsn.String())
	return &postgresDecoder{
		assembler: newAssembler(p.config.Office, p.config.Role, p.config.Joining),
		send:      p.config.sends, own: p.config.sendsOwn,
		source:    func(lsn uint64) string { return string(append(appendLSN(make([]byte, 0, 48), lsn), suffix...)) },
		relations: map[uint32]*postgresRelation{},

		definitions: p.config.Definitions, defaultSchema: p.config.DSN.DefaultSchema(),
	}
}

// Read returns what has arrived: at least one transaction, part or position, at most about partBytes. It also keeps the
// server content, so it has to be called again within stallLimit.
func (p *Postgres) Read(ctx context.Context) ([]schema.Transaction, error) {
	conn := p.stream.Conn()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	d := p.decoder
	d.define = func(rel catalog.Relation) (*schema.Table, error) {
		return catalog.PostgresRelation(ctx, p.sql, p.config.DSN.DefaultSchema(), rel)
	}
	d.facts = func(oid uint32) (string, error) { return p.setup.factsOf(ctx, oid) }
	for {
		waiting := p.stream.Frontend().ReadBufferLen() == 0 && p.reader.waiting()
		if n := len(d.out); n > 0 && (waiting || n >= batchTransactions || d.outBytes >= partBytes) {
			return d.take(), nil
		}
		if waiting || p.expired {
			if err := p.attend(ctx); err != nil {
				return nil, err
			}
		}
		if err := p.receive(); err != nil {
			return nil, err
		}
	}
}

// attend looks at the clock: reports what is due, notices a server that is gone, and sets the next deadline.
func (p *Postgres) attend(ctx context.Context) error {
	now := time.Now()
	if p.heard {
		p.lastHeard, p.heard = now, false
	}
	silence := now.Sub(p.lastHeard)
	if silence >= deadAfter {
		return fmt.Errorf("the database has not answered for %s", deadAfter)
	}
	if now.Sub(p.lastInspection) >= inspectEvery {
		p.lastInspection = now
		if err := p.inspect(ctx); err != nil {
			return err
		}
	}
	if told := p.decoder.blind.durable(p.durable.Load()); len(told) > 0 {
		if err := p.setup.keep(ctx, told); err != nil {
			return err
		}
	}
	// The deadline stands before durable is read: a Confirm in between moves the deadline into the past, and the read
	// returns at once.
	p.expired = false
	if err := p.stream.Conn().SetReadDeadline(now.Add(pulse)); err != nil {
		return fmt.Errorf("read the database's log: %w", err)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	due := now.Sub(p.lastStatus)
	if p.asked || p.durable.Load() > p.reported || due >= statusEvery || silence >= askAfter && due >= pulse {
		return p.report(now, silence >= askAfter)
	}
	return nil
}

// inspect looks at what somebody may have changed in the database.
func (p *Postgres) inspect(ctx context.Context) error {
	if err := p.setup.inspect(ctx); err != nil || !p.config.Definitions {
		return err
	}
	if err := p.define(ctx); err != nil {
		return err
	}
	var told []toldDefinition
	if p.decoder.blind != nil {
		told = p.decoder.blind.unkept
	}
	return p.setup.reconcile(ctx, told)
}

// define finds out who notes schema changes: event triggers, or nobody but us.
func (p *Postgres) define(ctx context.Context) error {
	if !p.config.Definitions {
		return nil
	}
	if _, err := p.setup.planTriggers(ctx); err != nil {
		return err
	}
	if p.setup.triggers || p.decoder.blind != nil { // triggers that come meanwhile say nothing that a comparison would say twice
		return nil
	}
	known, err := p.setup.knownDefinitions(ctx)
	p.decoder.blind = &blindDefiner{known: known, here: map[uint32]string{}}
	return err
}

// report tells the server how far we are. All three places are the durable one: a flush place of 0 would be taken for the
// written one, and the server's own shutdown waits for the flush place.
func (p *Postgres) report(now time.Time, answer bool) error {
	durable := p.durable.Load()
	if err := p.stream.Conn().SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return fmt.Errorf("report to the database: %w", err)
	}
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), p.stream, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: pglogrepl.LSN(durable),
		WALFlushPosition: pglogrepl.LSN(durable),
		WALApplyPosition: pglogrepl.LSN(durable),
		ReplyRequested:   answer,
	})
	if err != nil {
		return fmt.Errorf("report to the database: %w", err)
	}
	p.reported, p.lastStatus, p.asked = durable, now, false
	return nil
}

// receive takes one message of the server in. It goes around pgconn's own ReceiveMessage, which sets up a watch of the
// context for every row.
func (p *Postgres) receive() error {
	message, err := p.stream.Frontend().Receive()
	if err != nil {
		var network net.Error
		if errors.As(err, &network) && network.Timeout() {
			p.expired = true // attend says why
			return nil
		}
		return fmt.Errorf("read the database's log: %w", err)
	}
	p.heard = true
	switch m := message.(type) {
	case *pgproto3.CopyData:
		return p.take(m.Data)
	case *pgproto3.ErrorResponse:
		return p.config.streamError(pgconn.ErrorResponseToPgError(m))
	case *pgproto3.CopyDone, *pgproto3.CommandComplete:
		return errors.New("read the database's log: the server ended the stream (it is being stopped)")
	}
	return nil // notices and settings
}

const (
	copyHeader    = 1 + 24 // kind, start, end, time
	keepaliveSize = 1 + 17 // kind, end, time, whether to answer
)

func (p *Postgres) take(data []byte) error {
	switch {
	case len(data) >= copyHeader && data[0] == pglogrepl.XLogDataByteID:
		return p.decoder.decode(data[copyHeader:])
	case len(data) == keepaliveSize && data[0] == pglogrepl.PrimaryKeepaliveMessageByteID:
		// Everything up to here was sent before this message. Without this, a database that nobody writes to would keep
		// all of the cluster's log.
		if end := binary.BigEndian.Uint64(data[1:]); end > p.durable.Load() {
			p.decoder.idle(end)
		}
		if data[keepaliveSize-1] != 0 {
			p.asked, p.expired = true, true // answer before the next read
		}
		return nil
	}
	return brokenMessage('d', "it is neither data nor a keep-alive")
}

// streamError is an error that ends the stream.
func (c PostgresConfig) streamError(pg *pgconn.PgError) error {
	switch {
	case strings.Contains(pg.Message, "publication") && pg.Code == "42704":
		return &schema.LostError{Kind: schema.LostLog, What: "publication " + c.slot() + " is gone", Cause: pg}
	case strings.Contains(pg.Message, "invalidat"):
		return &schema.LostError{Kind: schema.LostLog, What: "replication slot " + c.slot() + " was invalidated", Cause: pg}
	}
	return fmt.Errorf("read the database's log: %w", pg)
}

// Confirm lets the server go of its log up to source. It may be called from any goroutine; a place behind the last one is
// ignored.
func (p *Postgres) Confirm(source string) {
	at, err := parsePostgresPosition(source)
	if err != nil || uint64(at.lsn) <= p.durable.Load() {
		return
	}
	p.durable.Store(uint64(at.lsn))
	_ = p.stream.Conn().SetReadDeadline(time.Unix(1, 0)) // wakes Read, which reports it
}

// closeLimit bounds the farewell to a server that may be gone.
const closeLimit = 5 * time.Second

// Close reports once more what is durable and ends both connections.
func (p *Postgres) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
	defer cancel()
	if p.stream != nil && !p.stream.IsClosed() {
		if p.durable.Load() > p.reported && p.reported > 0 {
			_ = p.report(time.Now(), false) // a courtesy: unsaid, it is read again
		}
		p.leave()
		_ = p.stream.Close(ctx)
	}
	if p.sql != nil {
		_ = p.sql.Close(ctx)
	}
	return nil
}

// leave asks the server to end the stream and waits until it has, because the slot is taken until then and whoever starts
// next would find it so.
func (p *Postgres) leave() {
	_ = p.stream.Conn().SetDeadline(time.Now().Add(closeLimit))
	p.stream.Frontend().Send(&pgproto3.Terminate{})
	if p.stream.Frontend().Flush() != nil {
		return
	}
	for {
		if _, err := p.stream.Frontend().Receive(); err != nil {
			return
		}
	}
}
