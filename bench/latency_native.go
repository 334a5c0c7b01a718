package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"cdc-sidecar/fleet"
	"cdc-sidecar/servers"
)

// nativeTarget is a database that follows an office's by means of its server: an office without a sidecar.
type nativeTarget struct {
	*fleet.Office
	source *fleet.Office
	server servers.Database
	name   string // of its database; MariaDB's has the source's, for a replica knows no other
	from   string // MariaDB: the source's place when both were equal
}

// newNative makes the database as create makes an office's. It follows from here on, once follow was called. Our own tables are
// not there, so only the source's database counts.
func newNative(ctx context.Context, source *fleet.Office, server servers.Database, create func(context.Context, *fleet.Office) error) (*nativeTarget, error) {
	address, err := url.Parse(source.URL)
	if err != nil {
		return nil, err
	}
	n := &nativeTarget{source: source, server: server, name: address.Path[1:]}
	if source.Postgres() {
		n.name += "_native"
	}
	if err := server.CreateDatabase(ctx, n.name); err != nil {
		return nil, err
	}
	n.Office = &fleet.Office{Spec: fleet.Spec{Name: "native"}, URL: server.URL(n.name)}
	if err := create(ctx, n.Office); err != nil {
		return nil, errors.Join(err, n.close())
	}
	db, err := source.DB()
	if err != nil {
		return nil, errors.Join(err, n.close())
	}
	if source.Postgres() {
		_, err = db.ExecContext(ctx, "CREATE PUBLICATION native FOR TABLE pulses")
	} else {
		err = db.QueryRowContext(ctx, "SELECT @@gtid_binlog_pos").Scan(&n.from)
	}
	if err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// follow begins, and returns when everything that the source has is there.
func (n *nativeTarget) follow(ctx context.Context) error {
	statements := n.mariadb()
	if n.Postgres() {
		// The first copy is the subscription's own: what was made meanwhile is in it.
		statements = []string{"TRUNCATE pulses", fmt.Sprintf("CREATE SUBSCRIPTION %s CONNECTION '%s' PUBLICATION native", n.name, n.source.URL)}
	}
	if err := n.Exec(ctx, statements...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, followLimit)
	defer cancel()
	return fleet.Until(ctx, "the native target has caught up", func(ctx context.Context) error {
		_, err := equalPulses(ctx, n.source, n.Office)
		if err != nil && !n.Postgres() {
			err = fmt.Errorf("%w; %s", err, n.replica(ctx))
		}
		return err
	})
}

// followLimit bounds the wait for a native target that has some thousand rows to catch up with.
const followLimit = time.Minute

// replica is what a MariaDB replica says of itself.
func (n *nativeTarget) replica(ctx context.Context) string {
	db, err := n.DB()
	if err != nil {
		return err.Error()
	}
	rows, err := db.QueryContext(ctx, "SHOW SLAVE STATUS")
	if err != nil {
		return err.Error()
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil || !rows.Next() {
		return fmt.Sprintf("no replica status: %v, %v", err, rows.Err())
	}
	values := make([]sql.RawBytes, len(names))
	targets := make([]any, len(names))
	for i := range values {
		targets[i] = &values[i]
	}
	if err := rows.Scan(targets...); err != nil {
		return err.Error()
	}
	var said []string
	for i, name := range names {
		switch name {
		case "Slave_IO_State", "Slave_IO_Running", "Slave_SQL_Running", "Last_IO_Error", "Last_SQL_Error", "Gtid_IO_Pos":
			said = append(said, name+"="+string(values[i]))
		}
	}
	return strings.Join(said, ", ")
}

func (n *nativeTarget) mariadb() []string {
	source, err := url.Parse(n.source.URL)
	if err != nil { // it was parsed before
		return nil
	}
	password, _ := source.User.Password()
	return []string{
		"RESET MASTER", // what made the database here is no history to be kept beside the source's
		fmt.Sprintf("SET GLOBAL gtid_slave_pos = '%s'", n.from),
		fmt.Sprintf("SET GLOBAL replicate_wild_do_table = '%s.%%'", n.name), // not our own tables
		fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%s, MASTER_USER='%s', MASTER_PASSWORD='%s', MASTER_USE_GTID=slave_pos",
			source.Hostname(), source.Port(), source.User.Username(), password),
		"START SLAVE",
	}
}

// close ends the following and drops the database.
func (n *nativeTarget) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveLimit)
	defer cancel()
	statements := []string{"STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL replicate_wild_do_table = ''"}
	if n.Postgres() {
		statements = []string{"DROP SUBSCRIPTION IF EXISTS " + n.name}
	}
	err := n.Exec(ctx, statements...)
	if db, opened := n.DB(); opened == nil {
		err = errors.Join(err, db.Close())
	}
	return errors.Join(err, n.server.DropDatabase(ctx, n.name))
}
