package capture

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	driver "github.com/go-sql-driver/mysql"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// MySQLConfig says which MySQL or MariaDB database to capture, and for whom.
type MySQLConfig struct {
	DSN    schema.DSN
	Office schema.Office
	Role   schema.Role
	// Send says which tables go out (flow both or send); nil: all.
	Send func(schema.TableName) bool
	// Forward says of which other tables a head sends on what it has applied of the branches, though not what its own
	// applications write (flow receive); nil: none.
	Forward func(schema.TableName) bool
	// Joining are the tables that a branch is joining at the place where reading begins; see PostgresConfig.
	Joining []string
	// Definitions says that schema changes are captured, too.
	Definitions bool
	Hurry       *Hurry       // of those who wait for marks; nil: nobody does
	Log         *slog.Logger // nil: none
}

// mysqlSilence bounds the wait for the answer to one of our statements; a large catalog takes seconds.
const mysqlSilence = 2 * time.Minute

// sends reports whether the table is captured at all.
func (c MySQLConfig) sends(name schema.TableName) bool {
	return c.sendsOwn(name) || c.Forward != nil && c.Forward(name)
}

// sendsOwn reports whether what the office's applications write to the table goes out.
func (c MySQLConfig) sendsOwn(name schema.TableName) bool { return c.Send == nil || c.Send(name) }

func (c MySQLConfig) log() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}

// connect opens the door for statements, one connection wide, and walks through it once.
func (c MySQLConfig) connect(ctx context.Context) (*sql.DB, schema.Engine, error) {
	config := driver.NewConfig()
	config.Net, config.Addr, config.User, config.Passwd, config.DBName = "tcp", c.DSN.Address(), c.DSN.User, c.DSN.Password, c.DSN.Database
	config.TLSConfig = c.DSN.Params.Get("tls")
	config.Timeout, config.ReadTimeout, config.WriteTimeout = connectLimit, mysqlSilence, mysqlSilence
	config.Params = map[string]string{"sql_mode": "'STRICT_ALL_TABLES'", "time_zone": "'+00:00'"}
	config.Logger = &driver.NopLogger{} // what goes wrong is an error that we return
	connector, err := driver.NewConnector(config)
	if err != nil {
		return nil, "", &schema.RefusedError{What: "the database URL cannot be used", Cause: err, Remedy: "database: mysql://user:password@host:3306/database"}
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	engine, err := catalog.MySQLEngine(ctx, db)
	if err != nil {
		_ = db.Close()
		return nil, "", c.refused("connect to the database", err)
	}
	return db, engine, nil
}

// tls is how the binlog's connection is encrypted: as db's own.
func (c MySQLConfig) tls(ctx context.Context, db *sql.DB) (*tls.Config, error) {
	config := &tls.Config{ServerName: c.DSN.Host, InsecureSkipVerify: true} //nolint:gosec // as the driver does for these words
	switch c.DSN.Params.Get("tls") {
	case "", "false":
		return nil, nil
	case "true":
		config.InsecureSkipVerify = false
	case "preferred": // encrypted if the server can
		var name, cipher string
		if err := db.QueryRowContext(ctx, "SHOW SESSION STATUS LIKE 'Ssl_cipher'").Scan(&name, &cipher); err != nil {
			return nil, c.refused("read the connection's encryption", err)
		}
		if cipher == "" {
			return nil, nil
		}
	}
	return config, nil
}

// refused sorts a server's error: what waiting does not mend becomes a *schema.RefusedError, all else stays as it is.
func (c MySQLConfig) refused(what string, err error) error {
	number, words := mysqlErrorNumber(err)
	remedy := ""
	switch number {
	case mysql.ER_ACCESS_DENIED_ERROR, 1698, 1862:
		remedy = "correct user and password in database: (or CDC_DATABASE)"
	case mysql.ER_BAD_DB_ERROR:
		remedy = "create the database, or correct its name in database:"
	case mysql.ER_DBACCESS_DENIED_ERROR, mysql.ER_TABLEACCESS_DENIED_ERROR, mysql.ER_COLUMNACCESS_DENIED_ERROR, mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR:
		remedy = c.grants()
	case mysql.ER_HOST_NOT_PRIVILEGED:
		remedy = "allow the user's host: CREATE USER … @'<host>'"
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
	return &schema.RefusedError{What: what, Cause: words, Remedy: remedy}
}

// grants are the privileges that capture and apply need.
func (c MySQLConfig) grants() string {
	return fmt.Sprintf("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO %[1]s; GRANT ALL ON cdc_sidecar.* TO %[1]s; GRANT SELECT, INSERT, UPDATE, DELETE ON %[2]s.* TO %[1]s",
		"'"+c.DSN.User+"'@'%'", catalog.QuoteMySQL(c.DSN.Database))
}

// mysqlErrorNumber finds the server's own error in what either library made of it; 0: none.
func mysqlErrorNumber(err error) (uint16, error) {
	var statement *driver.MySQLError
	if errors.As(err, &statement) {
		return statement.Number, statement
	}
	var stream *mysql.MyError
	if errors.As(err, &stream) {
		return stream.Code, stream
	}
	return 0, err
}
