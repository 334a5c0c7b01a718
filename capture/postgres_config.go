package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// PostgresConfig says which database to capture, and for whom.
type PostgresConfig struct {
	DSN    schema.DSN
	Office schema.Office
	Role   schema.Role
	// Send says which tables go out (flow both or send); nil: all.
	Send func(schema.TableName) bool
	// Forward says of which other tables a head sends on what it has applied of the branches, though not what its own
	// applications write (flow receive); nil: none.
	Forward func(schema.TableName) bool
	// Joining are the tables (their names, or schema.JoinAll) that a branch is joining at the place where reading begins, as far
	// as the log does not say otherwise behind it: what the office's own applications write to them is blind.
	Joining []string
	// Definitions says that changes of the tables' definitions are captured, too.
	Definitions bool
	Hurry       *Hurry       // of those who wait for marks; nil: nobody does
	Log         *slog.Logger // nil: none
}

// connectLimit bounds a dial: longer than a slow link takes, shorter than anybody's patience with a host that is gone.
const connectLimit = 15 * time.Second

// slot is the name of the replication slot and of the publication.
func (c PostgresConfig) slot() string {
	return "cdc_sidecar_" + strings.ReplaceAll(string(c.Office), "-", "_")
}

// sends reports whether the table is captured at all.
func (c PostgresConfig) sends(name schema.TableName) bool {
	return c.sendsOwn(name) || c.Forward != nil && c.Forward(name)
}

// sendsOwn reports whether what the office's applications write to the table goes out.
func (c PostgresConfig) sendsOwn(name schema.TableName) bool { return c.Send == nil || c.Send(name) }

func (c PostgresConfig) log() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}

// connect opens a connection for statements.
func (c PostgresConfig) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(c.DSN.URL())
	if err != nil {
		return nil, badURL(err)
	}
	c.session(&config.Config)
	// Cached statements would outlive the DDL that they name.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, c.refused("connect to the database", err)
	}
	return conn, nil
}

// decodingMemory is what the server may use for transactions that it decodes for us, where 64 MB are its default: enough for
// one of half a million ordinary rows.
const decodingMemory = "256MB"

// connectReplication opens a connection that speaks the replication protocol.
// It returns what reads for it, too.
func (c PostgresConfig) connectReplication(ctx context.Context) (*pgconn.PgConn, *gatherer, error) {
	config, err := pgconn.ParseConfig(c.DSN.URL())
	if err != nil {
		return nil, nil, badURL(err)
	}
	var reader *gatherer
	config.DialFunc = gathering(config.DialFunc, func(g *gatherer) { reader, g.hurry = g, c.Hurry })
	c.session(config)
	config.RuntimeParams["replication"] = "database"
	// Whatever the server's own setting is: we report every statusEvery, and may be away for stallLimit.
	config.RuntimeParams["wal_sender_timeout"] = "60s"
	// What a larger transaction changes goes to the server's disk and back before any of it is sent.
	config.RuntimeParams["logical_decoding_work_mem"] = decodingMemory
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, nil, c.refused("connect to the database for replication", err)
	}
	return conn, reader, nil
}

func (c PostgresConfig) session(config *pgconn.Config) {
	for name, value := range catalog.PostgresSession() {
		config.RuntimeParams[name] = value
	}
	config.RuntimeParams["application_name"] = c.slot()
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectLimit
	}
}

// badURL takes over the library's words only where they are sure not to have the password in them.
func badURL(err error) error {
	var parse *pgconn.ParseConfigError // redacts
	if !errors.As(err, &parse) {
		err = nil
	}
	return &schema.RefusedError{What: "the database URL cannot be read", Cause: err, Remedy: "database: postgres://user:password@host:5432/database"}
}

// refused sorts a server's error: what waiting does not mend becomes a *schema.RefusedError, a place taken by somebody else
// schema.ErrHeld, all else stays as it is.
func (c PostgresConfig) refused(what string, err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return fmt.Errorf("%s: %w", what, err)
	}
	remedy := ""
	switch pg.Code {
	case "28P01":
		remedy = "correct the password in database: (or CDC_DATABASE)"
	case "28000":
		remedy = "allow the user in pg_hba.conf: host <database> <user> <address> scram-sha-256; then SELECT pg_reload_conf()"
	case "3D000":
		remedy = "create the database, or correct its name in database:"
	case "42501":
		remedy = c.privilegeRemedy(pg)
	case "53400": // configuration_limit_exceeded: slots
		remedy = "ALTER SYSTEM SET max_replication_slots = 10; then restart Postgres"
	case "55000": // object_not_in_prerequisite_state: wal_level
		if !strings.Contains(pg.Message, "wal_level") {
			return fmt.Errorf("%s: %w", what, err)
		}
		remedy = walLevelRemedy
	case "55006": // object_in_use: a slot that another walsender reads
		return fmt.Errorf("%s: %w: %w", what, schema.ErrHeld, pg)
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
	return &schema.RefusedError{What: what, Cause: pg, Remedy: remedy}
}

const walLevelRemedy = "ALTER SYSTEM SET wal_level = 'logical'; then restart Postgres"

func (c PostgresConfig) privilegeRemedy(pg *pgconn.PgError) string {
	user := quoted(c.DSN.User)
	if strings.Contains(strings.ToLower(pg.Message), "replication") || strings.Contains(pg.Message, "WAL sender") {
		return fmt.Sprintf("ALTER ROLE %s REPLICATION", user)
	}
	return fmt.Sprintf("run `cdc-sidecar setup --print-sql` and have its statements executed by a superuser, or make %s the tables' owner", user)
}

// quoted is a qualified name as a statement has it.
func quoted(names ...string) string { return pgx.Identifier(names).Sanitize() }

// postgresPosition is a place in one cluster's log. Its text is LSN@system/timeline: the number of the cluster and its
// timeline make another cluster, a restored one or a promoted standby known.
type postgresPosition struct {
	lsn      pglogrepl.LSN
	system   string
	timeline int32
}

func (p postgresPosition) String() string {
	return fmt.Sprintf("%s@%s/%d", p.lsn, p.system, p.timeline)
}

// appendLSN writes a place as Postgres does, for every transaction: pglogrepl's own is made for messages to people.
func appendLSN(b []byte, lsn uint64) []byte {
	from := len(b)
	b = append(strconv.AppendUint(b, lsn>>32, 16), '/')
	b = strconv.AppendUint(b, lsn&math.MaxUint32, 16)
	for i := from; i < len(b); i++ {
		if b[i] >= 'a' {
			b[i] -= 'a' - 'A'
		}
	}
	return b
}

func parsePostgresPosition(s string) (postgresPosition, error) {
	var p postgresPosition
	lsn, rest, _ := strings.Cut(s, "@")
	system, timeline, ok := strings.Cut(rest, "/")
	_, scanErr := fmt.Sscanf(timeline, "%d", &p.timeline)
	var err error
	if p.lsn, err = pglogrepl.ParseLSN(lsn); err != nil || scanErr != nil || !ok {
		return p, &schema.BrokenError{
			What:   fmt.Sprintf("the journal's place in the database's log, %q, is none of Postgres'", s),
			Remedy: "is database: another server than before? " + rejoinRemedy,
		}
	}
	p.system = system
	return p, nil
}

// rejoinRemedy is what is left when the log cannot be read on.
const rejoinRemedy = "cdc-sidecar teardown --yes, remove the journal's folder, start again; the office then needs to join"
