package servers

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-sql-driver/mysql"
)

// MariaDB is one MariaDB server, or an Oracle MySQL of a chosen version, with a row binlog; its user root has the password secret and every privilege, by TCP.
type MariaDB struct {
	*server
	programs mysqlPrograms
	options  []string
}

// URL is the address of a database on the server, for its user root.
func (m *MariaDB) URL(database string) string {
	u := &url.URL{Scheme: "mysql", User: url.UserPassword("root", "secret")}
	if m.external != nil {
		copied := *m.external
		u = &copied
	} else {
		u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(m.Port()))
	}
	u.Path = "/" + database
	return u.String()
}

// CreateDatabase creates an empty database.
func (m *MariaDB) CreateDatabase(ctx context.Context, name string) error {
	err := m.with(ctx, func(conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, "CREATE DATABASE "+quoteMySQL(name))
		return err
	})
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// DropDatabase drops a database together with its connections.
func (m *MariaDB) DropDatabase(ctx context.Context, name string) error {
	err := m.with(ctx, func(conn *sql.Conn) error {
		// A connection with an open transaction would make the drop wait for its metadata lock.
		if err := killConnections(ctx, conn, name); err != nil {
			return err
		}
		_, err := conn.ExecContext(ctx, "DROP DATABASE "+quoteMySQL(name))
		return err
	})
	if err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

func killConnections(ctx context.Context, conn *sql.Conn, database string) error {
	rows, err := conn.QueryContext(ctx, "SELECT id FROM information_schema.processlist WHERE db = ?", database)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return err
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, id := range ids {
		const noSuchThread = 1094 // it has ended by itself
		var refused *mysql.MySQLError
		if _, err := conn.ExecContext(ctx, "KILL "+strconv.FormatInt(id, 10)); err != nil &&
			(!errors.As(err, &refused) || refused.Number != noSuchThread) {
			return err
		}
	}
	return nil
}

// with lends a connection to the server, to no database.
func (m *MariaDB) with(ctx context.Context, use func(*sql.Conn) error) error {
	u, err := url.Parse(m.URL(""))
	if err != nil {
		return err
	}
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", u.Host
	if u.Port() == "" {
		config.Addr = net.JoinHostPort(u.Hostname(), "3306")
	}
	config.User = u.User.Username()
	config.Passwd, _ = u.User.Password()
	config.Logger = &mysql.NopLogger{} // a refused attempt is an error that we return, not a line on standard error
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	conn, err := db.Conn(ctx)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	return errors.Join(use(conn), conn.Close(), db.Close())
}

func quoteMySQL(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// base are the options that the server and its bootstrap need alike.
func (m *MariaDB) base() []string {
	args := append(slices.Clone(m.programs.daemon),
		"--no-defaults", "--datadir="+filepath.Join(m.dir(), "data"), "--tmpdir="+m.dir(),
		"--lc-messages-dir="+m.programs.share, "--character-sets-dir="+filepath.Join(m.programs.share, "charsets"),
		"--innodb-buffer-pool-size=64M", "--innodb-fast-shutdown=1")
	if m.programs.base != "" {
		args = append(args, "--basedir="+m.programs.base, "--plugin-dir="+m.programs.plugins)
	}
	return args
}

// innodbLog is the size of MariaDB's redo log, which its bootstrap makes.
const innodbLog = "--innodb-log-file-size=32M"

// prepare makes the system tables as mariadb-install-db does, but without its help texts, which take most of its time,
// and without its change of the owner of a folder of the system's, which it makes when we are root.
func (m *MariaDB) prepare(ctx context.Context) error {
	if err := m.host.mkdir(filepath.Join(m.dir(), "data")); err != nil {
		return err
	}
	if err := m.writeBootstrap(); err != nil {
		return err
	}
	// Not written to the binlog: the first transaction in it shall be a test's. The bootstrap has made this user, without
	// a password; a root@'%' beside it would never be asked, because the more exact host is taken first.
	init := `SET SESSION sql_log_bin=0;
CREATE OR REPLACE USER root@'127.0.0.1' IDENTIFIED BY 'secret';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
`
	if err := m.host.write(filepath.Join(m.dir(), "init.sql"), init); err != nil {
		return err
	}
	args := append(m.base(), innodbLog, "--bootstrap", "--log-warnings=0", "--enforce-storage-engine=",
		"--max-allowed-packet=8M", "--net-buffer-length=16K")
	return m.host.runToEnd(ctx, program{
		dir: m.dir(), log: m.Log(), input: filepath.Join(m.dir(), "bootstrap.sql"), args: args,
	})
}

func (m *MariaDB) writeBootstrap() error {
	// The variable is read by the file of system accounts; NULL is its default, an account without a socket login.
	text := bytes.NewBufferString("CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n")
	for _, name := range []string{
		m.programs.prefix + "_system_tables.sql", m.programs.prefix + "_performance_tables.sql",
		m.programs.prefix + "_system_tables_data.sql", "maria_add_gis_sp_bootstrap.sql", m.programs.prefix + "_sys_schema.sql",
	} {
		part, err := os.ReadFile(filepath.Join(m.programs.share, name))
		if err != nil {
			return err
		}
		text.Write(part)
	}
	return m.host.write(filepath.Join(m.dir(), "bootstrap.sql"), text.String())
}

func (m *MariaDB) launch(ctx context.Context) ([]*process, error) {
	number := strconv.Itoa(m.Port())
	args := append(m.base(), innodbLog,
		"--bind-address=127.0.0.1", "--port="+number, "--pid-file="+filepath.Join(m.dir(), "pid"),
		"--socket=socket", // in the data folder; the full path might be too long
		"--skip-name-resolve", "--skip-ssl", "--max-connections=200",
		"--character-set-server=utf8mb4", "--collation-server=utf8mb4_general_ci",
		"--server-id="+number, "--log-bin=binlog", "--binlog-format=ROW", "--binlog-row-image=FULL",
		"--binlog-row-metadata=FULL", "--gtid-strict-mode=ON",
		// Enough for kill -9, which loses nothing that the kernel has; only a power cut would need more.
		"--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2",
		"--init-file="+filepath.Join(m.dir(), "init.sql"))
	proc, err := m.host.run(ctx, program{dir: m.dir(), log: m.Log(), env: m.clock(), args: append(args, m.options...)})
	if err != nil {
		return nil, err
	}
	return []*process{proc}, nil
}

// Adjust gives the server further options, such as "--skip-log-bin", from its next start on; they win over all before.
func (m *MariaDB) Adjust(options ...string) { m.options = slices.Concat(m.options, options) }

// probe logs in. The init file has been run by the time the TCP port accepts.
func (m *MariaDB) probe(ctx context.Context) error {
	return m.with(ctx, func(*sql.Conn) error { return nil })
}

func (m *MariaDB) stopSignal() syscall.Signal { return syscall.SIGTERM }

func (m *MariaDB) portCount() int { return 1 }
