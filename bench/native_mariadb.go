package main

import (
	"context"
	"errors"
	"fmt"

	"cdc-sidecar/fleet"
	"cdc-sidecar/servers"
)

// replica is MariaDB's own replication, by GTID, with one thread that applies or several.
type replica struct {
	title string
	to    database
	whole database // the server, whose databases come and go
	db    string
	pids  map[string]int
}

// replicate makes a server the source's replica, for the one database, which gets the same tables under the same name. It
// does not run yet.
func replicate(ctx context.Context, source database, origin, server *servers.MariaDB, name string, scale, threads int) (*replica, error) {
	r := &replica{title: "native", db: name, pids: map[string]int{sourceServer: origin.Pid(), targetServer: server.Pid()}}
	if threads == 0 {
		r.title = "native, serial"
	}
	var err error
	if r.whole, err = open(server.URL("mysql"), maria); err != nil {
		return nil, err
	}
	// Not in its own binlog: the replica must have no changes of its own.
	if err := execute(ctx, r.whole.DB, "SET sql_log_bin = 0", "CREATE DATABASE "+name, "SET sql_log_bin = 1"); err != nil {
		return nil, errors.Join(err, r.whole.Close())
	}
	if r.to, err = open(server.URL(name), maria); err != nil {
		return nil, errors.Join(err, r.whole.Close())
	}
	if err := r.connect(ctx, source, origin.Port(), scale, threads); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *replica) connect(ctx context.Context, source database, port, scale, threads int) error {
	if err := r.to.create(ctx, r.to.DB, scale); err != nil {
		return err
	}
	var at string
	if err := source.QueryRowContext(ctx, "SELECT @@gtid_binlog_pos").Scan(&at); err != nil {
		return err
	}
	return execute(ctx, r.whole.DB,
		"RESET MASTER", // the tables that were made just now are in its binlog, which nobody reads
		"SET GLOBAL gtid_slave_pos = "+quoted(at),
		"SET GLOBAL replicate_wild_do_table = "+quoted(r.db+".%"), // not our sidecar's own tables
		fmt.Sprintf("SET GLOBAL slave_parallel_threads = %d", threads),
		"SET GLOBAL slave_parallel_mode = 'optimistic'",
		fmt.Sprintf("CHANGE MASTER TO master_host = '127.0.0.1', master_port = %d, master_user = 'root', master_password = 'secret', master_use_gtid = slave_pos", port))
}

func (r *replica) name() string { return r.title }

func (r *replica) target() database { return r.to }

func (r *replica) start(ctx context.Context) error { return execute(ctx, r.whole.DB, "START SLAVE") }

// complete: also its parallel threads commit in the source's order.
func (r *replica) complete(context.Context) (bool, error) { return true, nil }

func (r *replica) settle(context.Context) error { return nil }

func (r *replica) processes() map[string]int { return r.pids }

func (r *replica) measure(context.Context, int, *outcome) error { return nil }

func (r *replica) stop(ctx context.Context) error { return execute(ctx, r.whole.DB, "STOP SLAVE") }

func (r *replica) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveLimit)
	defer cancel()
	return errors.Join(
		r.to.Close(),
		execute(ctx, r.whole.DB, "STOP SLAVE", "RESET SLAVE ALL", "SET sql_log_bin = 0", "DROP DATABASE "+r.db, "SET sql_log_bin = 1"),
		r.whole.Close())
}

// replicas have these numbers of threads, 0 being the one that is always there.
func (r *rivalry) replicas(ctx context.Context, f *fleet.Fleet, source *fleet.Office, from database, threads []int) ([]contestant, error) {
	name := f.VHost() + "_" + string(source.Name)
	var all []contestant
	for i, n := range threads {
		native, err := replicate(ctx, from, r.servers.MariaDB[0], r.servers.MariaDB[2+i], name, r.sizes.scale, n)
		if err != nil {
			return all, err
		}
		all = append(all, native)
	}
	return all, nil
}
