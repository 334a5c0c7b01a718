package servers

import (
	"context"
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
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// Postgres is one Postgres server with logical decoding; its superuser postgres needs no password,
// every other role does.
type Postgres struct {
	*server
	programs postgresPrograms
	settings []string
}

// URL is the address of a database on the server, for the superuser.
func (p *Postgres) URL(database string) string {
	u := &url.URL{Scheme: "postgres", User: url.User("postgres"), RawQuery: "sslmode=disable"}
	if p.external != nil {
		copied := *p.external
		u = &copied
	} else {
		u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port()))
	}
	u.Path = "/" + database
	return u.String()
}

// CreateDatabase creates an empty database.
func (p *Postgres) CreateDatabase(ctx context.Context, name string) error {
	err := p.exec(ctx, "postgres", "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// DropDatabase drops a database together with its connections and replication slots.
func (p *Postgres) DropDatabase(ctx context.Context, name string) error {
	if err := p.dropSlots(ctx, name); err != nil {
		return fmt.Errorf("drop replication slots of %s: %w", name, err)
	}
	if err := p.exec(ctx, "postgres", "DROP DATABASE "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

// slotLimit bounds the wait for a slot's user to end after it was told to.
const slotLimit = 30 * time.Second

// dropSlots drops a database's slots, because no force drops a database that has one. A slot is in use until its walsender
// has ended, and a reader may come back in between, so it repeats.
func (p *Postgres) dropSlots(ctx context.Context, database string) error {
	ctx, cancel := context.WithTimeout(ctx, slotLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.URL(database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if _, err := conn.Exec(ctx, `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
			WHERE database = current_database() AND active`); err != nil {
			return err
		}
		_, dropErr := conn.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
			WHERE database = current_database() AND NOT active`)
		var left int
		if err := conn.QueryRow(ctx, `SELECT count(*) FROM pg_replication_slots
			WHERE database = current_database()`).Scan(&left); err != nil {
			return errors.Join(err, dropErr)
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), dropErr)
		case <-tick.C:
		}
	}
}

// Kill is a crash: SIGKILL for every process of the server. It returns when all of them are gone.
func (p *Postgres) Kill() error {
	if err := p.server.Kill(); err != nil {
		return err
	}
	if err := p.removeSegment(); err != nil {
		return fmt.Errorf("kill %s: remove its shared memory: %w", p.name, err)
	}
	return nil
}

// removeSegment removes the System V segment that a killed Postgres leaves behind. The next start would do so, but there
// may be none, and the machine has a limited number of them. Its id is in the seventh line of the lock file: "key id".
func (p *Postgres) removeSegment() error {
	text, err := os.ReadFile(filepath.Join(p.dir(), "data/postmaster.pid"))
	if errors.Is(err, os.ErrNotExist) {
		return nil // it did not run
	}
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 7 {
		return nil // killed before it had a segment
	}
	var key uint64 // a signed 32-bit number, printed as an unsigned long
	var id int
	if _, err := fmt.Sscan(lines[6], &key, &id); err != nil {
		return nil // the same: the line is filled last
	}
	var segment unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &segment); err != nil || segment.Perm.Key != int32(key) || segment.Nattch > 0 {
		return nil // it is gone, or the id is another's by now
	}
	if _, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil); err != nil {
		return err
	}
	return nil
}

func (p *Postgres) exec(ctx context.Context, database, statement string) error {
	conn, err := pgx.Connect(ctx, p.URL(database))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// Adjust gives the server further settings, such as "wal_level=replica", from its next start on; they win over all before.
func (p *Postgres) Adjust(settings ...string) { p.settings = slices.Concat(p.settings, settings) }

// access lets the superuser in as it is, and everybody else with a password, so that tests can have it wrong.
const access = `host all,replication postgres 127.0.0.1/32 trust
host all,replication all 127.0.0.1/32 scram-sha-256
`

func (p *Postgres) prepare(ctx context.Context) error {
	data := filepath.Join(p.dir(), "data")
	if err := p.host.runToEnd(ctx, program{
		dir: p.dir(), log: p.Log(),
		args: []string{
			p.programs.initdb, "-D", data, "-U", "postgres", "-A", "trust",
			"-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions",
		},
	}); err != nil {
		return err
	}
	return p.host.write(filepath.Join(p.dir(), "pg_hba.conf"), access)
}

func (p *Postgres) launch(ctx context.Context) ([]*process, error) {
	args := []string{p.programs.postgres, "-D", filepath.Join(p.dir(), "data")}
	settings := []string{
		"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(p.Port()),
		"hba_file=" + filepath.Join(p.dir(), "pg_hba.conf"),
		"unix_socket_directories=", // nobody asks for one, and its path might be too long
		"wal_level=logical", "max_wal_senders=30", "max_replication_slots=30", "max_connections=200",
		"shared_buffers=64MB",
		"dynamic_shared_memory_type=mmap", // in the folder, so that a kill leaves nothing in /dev/shm
	}
	for _, s := range append(settings, p.settings...) {
		args = append(args, "-c", s)
	}
	proc, err := p.host.run(ctx, program{dir: p.dir(), log: p.Log(), env: p.clock(), args: args})
	if err != nil {
		return nil, err
	}
	return []*process{proc}, nil
}

func (p *Postgres) probe(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.URL("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// stopSignal is Postgres's fast shutdown: roll back what is open, disconnect everybody, write a checkpoint.
func (p *Postgres) stopSignal() syscall.Signal { return syscall.SIGINT }

func (p *Postgres) portCount() int { return 1 }
