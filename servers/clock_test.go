package servers_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"cdc-sidecar/servers"

	"github.com/jackc/pgx/v5"
)

// Each database server goes by its own clock, which jumps while it runs and stays over a restart.
func TestClocks(t *testing.T) {
	set := servers.ForTest(t, servers.Spec{Postgres: 1, MariaDB: 1, Clocks: true})
	postgres := func(t *testing.T) func() float64 {
		conn := must(pgx.Connect(t.Context(), set.Postgres[0].URL("postgres")))
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
		return func() (at float64) {
			if err := conn.QueryRow(t.Context(), "SELECT extract(epoch FROM now())::float8").Scan(&at); err != nil {
				t.Fatal(err)
			}
			return at
		}
	}
	mariadb := func(t *testing.T) func() float64 {
		db := openMySQL(t, set.MariaDB[0].URL("mysql"))
		db.SetMaxOpenConns(1)
		return func() (at float64) {
			if err := db.QueryRowContext(t.Context(), "SELECT unix_timestamp(now(6))").Scan(&at); err != nil {
				t.Fatal(err)
			}
			return at
		}
	}
	t.Run("postgres", func(t *testing.T) { clocks(t, set.Postgres[0], postgres) })
	t.Run("mariadb", func(t *testing.T) { clocks(t, set.MariaDB[0], mariadb) })
}

// clocks takes a server through jumps; connect makes a connection and returns what asks the server for the time through it.
func clocks(t *testing.T, server interface {
	SetClock(context.Context, time.Duration) error
	Start(context.Context) error
	Stop(context.Context) error
	Kill() error
	Pid() int
}, connect func(*testing.T) func() float64,
) {
	is := func(offset time.Duration, ask func() float64) {
		t.Helper()
		ahead := time.Duration((ask() - float64(time.Now().UnixNano())/1e9) * float64(time.Second))
		if (ahead - offset).Abs() > stuck {
			t.Errorf("the server's clock is off by %s, want %s", ahead, offset)
		}
	}
	set := func(offset time.Duration) {
		t.Helper()
		if err := server.SetClock(t.Context(), offset); err != nil {
			t.Fatal(err)
		}
	}
	before := connect(t)
	is(0, before)
	for _, offset := range []time.Duration{time.Hour, -time.Hour, 90 * time.Minute} {
		set(offset)
		is(offset, before) // by a process or thread that runs
		is(offset, connect(t))
	}
	pids := []int{server.Pid()}
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	is(90*time.Minute, connect(t))
	pids = append(pids, server.Pid())
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	set(-time.Hour) // while it does not run
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	is(-time.Hour, connect(t))
	for _, pid := range append(pids, server.Pid()) {
		if left := must(filepath.Glob(fmt.Sprintf("/dev/shm/*faketime*_%d", pid))); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestClockIsTheMachines(t *testing.T) {
	for _, server := range []interface {
		SetClock(context.Context, time.Duration) error
	}{shared.Set(t).Postgres[0], shared.Set(t).MariaDB[0]} {
		if err := server.SetClock(t.Context(), time.Hour); !errors.Is(err, servers.ErrNoClock) {
			t.Errorf("got %v, want ErrNoClock", err)
		}
	}
}
