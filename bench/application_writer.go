package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"cdc-sidecar/fleet"
	"cdc-sidecar/servers"
)

// pgbenchWriter is the application at Postgres.
type pgbenchWriter struct {
	url string
	dir string // for pgbench's log of transactions
}

func (w *pgbenchWriter) write(ctx context.Context, length time.Duration, rate float64) (t appTurn, err error) {
	dir, err := os.MkdirTemp(w.dir, "pgbench-")
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	args := []string{
		"-n", "-b", "tpcb-like", "-M", "prepared", "-c", strconv.Itoa(clients), "-j", "2", "-T", fmt.Sprintf("%.0f", length.Seconds()),
		"--log", "--log-prefix=" + filepath.Join(dir, "log"),
	}
	if rate > 0 {
		args = append(args, "-R", fmt.Sprintf("%.1f", rate))
	}
	cmd := exec.CommandContext(ctx, "pgbench", append(args, w.url)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return t, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	if t.rate, err = pgbenchRate(string(out)); err != nil {
		return t, err
	}
	logs, err := filepath.Glob(filepath.Join(dir, "log*")) // one a thread
	if err != nil {
		return t, err
	}
	for _, name := range logs {
		file, err := os.Open(name)
		if err != nil {
			return t, err
		}
		ms, err := pgbenchTimes(file)
		_ = file.Close()
		if err != nil {
			return t, fmt.Errorf("%s: %w", name, err)
		}
		t.ms = append(t.ms, ms...)
	}
	return t, nil
}

// pgbenchRate finds the transactions a second in what pgbench says at its end.
func pgbenchRate(out string) (float64, error) {
	for line := range strings.Lines(out) {
		if after, found := strings.CutPrefix(line, "tps = "); found {
			number, _, _ := strings.Cut(after, " ")
			return strconv.ParseFloat(number, 64)
		}
	}
	return 0, fmt.Errorf("pgbench does not say how many transactions a second it made: %s", out)
}

// pgbenchTimes reads a log of transactions: the third word of a line is how long one took, in microseconds, from when it was due.
func pgbenchTimes(r io.Reader) (samples, error) {
	var ms samples
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 6 {
			return nil, fmt.Errorf("not a line of pgbench's log: %q", lines.Text())
		}
		us, err := strconv.ParseFloat(words[2], 64)
		if err != nil {
			return nil, err
		}
		ms = append(ms, us/1000)
	}
	return ms, lines.Err()
}

// native is pg_recvlogical to /dev/null, from a slot that is made for the turn.
func (w *pgbenchWriter) native(ctx context.Context) (stop func() error, err error) {
	db, err := fleet.OpenDB(w.url)
	if err != nil {
		return nil, err
	}
	err = execute(ctx, db, "DROP PUBLICATION IF EXISTS application", "CREATE PUBLICATION application FOR TABLE pgbench_accounts, pgbench_branches, pgbench_tellers, pgbench_history",
		"SELECT pg_create_logical_replication_slot('application', 'pgoutput')")
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	cmd := exec.CommandContext(ctx, "pg_recvlogical", "-d", w.url, "--slot", "application", "--start", "-f", "/dev/null", "-o", "proto_version=1", "-o", "publication_names=application")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	stop = func() error {
		defer db.Close()
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait() // however it ends
		ctx, cancel := context.WithTimeout(context.Background(), leaveLimit)
		defer cancel()
		return fleet.Until(ctx, "the slot of pg_recvlogical is free", func(ctx context.Context) error {
			return execute(ctx, db, "SELECT pg_drop_replication_slot('application')")
		})
	}
	err = fleet.Until(ctx, "pg_recvlogical reads", func(ctx context.Context) error {
		var active bool
		err := db.QueryRowContext(ctx, "SELECT active FROM pg_replication_slots WHERE slot_name = 'application'").Scan(&active)
		if err == nil && !active {
			err = errors.New("nobody uses the slot")
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

// mariaWriter is the application at MariaDB: pgbench's statements, prepared, on connections that stay.
type mariaWriter struct {
	scale       int
	source      *fleet.Office
	replica     *servers.MariaDB
	connections []*mariaConnection
}

type mariaConnection struct {
	conn                                       *sql.Conn
	account, balance, teller, branch, remember *sql.Stmt
}

func newMariaWriter(ctx context.Context, head *fleet.Office, replica *servers.MariaDB, scale int) (*mariaWriter, error) {
	db, err := head.DB()
	if err != nil {
		return nil, err
	}
	w := &mariaWriter{scale: scale, source: head, replica: replica}
	for range clients {
		conn, err := db.Conn(ctx)
		if err != nil {
			return nil, err
		}
		c := &mariaConnection{conn: conn}
		w.connections = append(w.connections, c)
		for _, s := range []struct {
			to   **sql.Stmt
			text string
		}{
			{&c.account, "UPDATE pgbench_accounts SET abalance = abalance + ? WHERE aid = ?"},
			{&c.balance, "SELECT abalance FROM pgbench_accounts WHERE aid = ?"},
			{&c.teller, "UPDATE pgbench_tellers SET tbalance = tbalance + ? WHERE tid = ?"},
			{&c.branch, "UPDATE pgbench_branches SET bbalance = bbalance + ? WHERE bid = ?"},
			{&c.remember, "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (?, ?, ?, ?, now(6))"},
		} {
			if *s.to, err = conn.PrepareContext(ctx, s.text); err != nil { //nolint:sqlclosecheck // the end of the connection closes them
				w.close()
				return nil, err
			}
		}
	}
	return w, nil
}

func (w *mariaWriter) close() {
	for _, c := range w.connections {
		_ = c.conn.Close()
	}
}

// transact makes one transaction. It never adds 0, of which MariaDB's log says nothing.
func (w *mariaWriter) transact(ctx context.Context, c *mariaConnection) error {
	aid, tid, bid, delta := 1+rand.IntN(100_000*w.scale), 1+rand.IntN(10*w.scale), 1+rand.IntN(w.scale), 1+rand.IntN(5000)
	if _, err := c.conn.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	if _, err := c.account.ExecContext(ctx, delta, aid); err != nil {
		return err
	}
	var balance int
	if err := c.balance.QueryRowContext(ctx, aid).Scan(&balance); err != nil {
		return err
	}
	if _, err := c.teller.ExecContext(ctx, delta, tid); err != nil {
		return err
	}
	if _, err := c.branch.ExecContext(ctx, delta, bid); err != nil {
		return err
	}
	if _, err := c.remember.ExecContext(ctx, tid, bid, aid, delta); err != nil {
		return err
	}
	_, err := c.conn.ExecContext(ctx, "COMMIT")
	return err
}

func (w *mariaWriter) write(ctx context.Context, length time.Duration, rate float64) (appTurn, error) {
	if rate > 0 {
		return w.paced(ctx, length, rate)
	}
	began := time.Now()
	var made atomic.Int64
	ms := make([]samples, len(w.connections))
	g, ctx := errgroup.WithContext(ctx)
	for i, c := range w.connections {
		g.Go(func() error {
			for last := began; last.Sub(began) < length; {
				if err := w.transact(ctx, c); err != nil {
					return err
				}
				now := time.Now()
				ms[i] = append(ms[i], now.Sub(last).Seconds()*1000)
				last = now
				made.Add(1)
			}
			return nil
		})
	}
	err := g.Wait()
	t := appTurn{rate: float64(made.Load()) / time.Since(began).Seconds()}
	for _, s := range ms {
		t.ms = append(t.ms, s...)
	}
	return t, err
}

func (w *mariaWriter) paced(ctx context.Context, length time.Duration, rate float64) (appTurn, error) {
	period := time.Duration(float64(time.Second) / rate)
	p := newPulse(int(length / period))
	var connections []func(context.Context, int) error
	for _, c := range w.connections {
		connections = append(connections, func(ctx context.Context, _ int) error { return w.transact(ctx, c) })
	}
	p.began = time.Now()
	if err := p.beat(ctx, period, connections); err != nil {
		return appTurn{}, err
	}
	t := appTurn{rate: float64(len(p.committed)) / time.Since(p.began).Seconds()}
	for i := range p.committed {
		due := time.Duration(i) * period
		t.ms = append(t.ms, (time.Duration(p.committed[i].Load())-due).Seconds()*1000)
	}
	return t, nil
}

// native is a replica that receives and does not apply.
func (w *mariaWriter) native(ctx context.Context) (stop func() error, err error) {
	source, err := url.Parse(w.source.URL)
	if err != nil {
		return nil, err
	}
	db, err := w.source.DB()
	if err != nil {
		return nil, err
	}
	var at string
	if err := db.QueryRowContext(ctx, "SELECT @@gtid_binlog_pos").Scan(&at); err != nil {
		return nil, err
	}
	replica, err := fleet.OpenDB(w.replica.URL("mysql"))
	if err != nil {
		return nil, err
	}
	stop = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), leaveLimit)
		defer cancel()
		return errors.Join(execute(ctx, replica, "STOP SLAVE", "RESET SLAVE ALL"), replica.Close())
	}
	password, _ := source.User.Password()
	err = execute(ctx, replica, "RESET MASTER", "SET GLOBAL gtid_slave_pos = "+quoted(at),
		fmt.Sprintf("CHANGE MASTER TO master_host = '%s', master_port = %s, master_user = '%s', master_password = '%s', master_use_gtid = slave_pos",
			source.Hostname(), source.Port(), source.User.Username(), password),
		"START SLAVE IO_THREAD")
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}
