package servers_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cdc-sidecar/servers"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"
)

var shared = servers.Shared{Spec: servers.Spec{Postgres: 1, MariaDB: 1, RabbitMQ: 1, Log: os.Stderr}}

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	goleak.VerifyTestMain(shared.Main(m))
}

// stuck is no measure of speed: what takes longer will never come.
const stuck = time.Minute

func TestPostgresKeepsData(t *testing.T) {
	p := shared.Set(t).Postgres[0]
	address := servers.NewDatabase(t, p)
	run := func(statement string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	run("CREATE TABLE kept (id int PRIMARY KEY)")
	// A slot in the way of the database's removal at the end.
	run("SELECT pg_create_logical_replication_slot('kept_' || floor(random() * 1e9)::text, 'pgoutput')")
	restarts(t, p, func(round int) {
		run(fmt.Sprintf("INSERT INTO kept VALUES (%d)", round))
		run(fmt.Sprintf("DO $$ BEGIN ASSERT (SELECT count(*) FROM kept) = %d; END $$", round))
	})
}

func TestPostgresAsksOthersForPassword(t *testing.T) {
	address := servers.NewDatabase(t, shared.Set(t).Postgres[0])
	admin := must(pgx.Connect(t.Context(), address))
	defer func() { _ = admin.Close(t.Context()) }()
	if _, err := admin.Exec(t.Context(), "CREATE ROLE guest LOGIN REPLICATION PASSWORD 'right'"); err != nil {
		t.Fatal(err)
	}
	for password, welcome := range map[string]bool{"right": true, "wrong": false} {
		u := must(url.Parse(address))
		u.User = url.UserPassword("guest", password)
		conn, err := pgx.Connect(t.Context(), u.String())
		if (err == nil) != welcome {
			t.Errorf("password %s: %v", password, err)
		}
		if err == nil {
			_ = conn.Close(t.Context())
		}
	}
	if _, err := admin.Exec(t.Context(), "DROP ROLE guest"); err != nil {
		t.Error(err)
	}
}

func TestMariaDBKeepsData(t *testing.T) {
	m := shared.Set(t).MariaDB[0]
	address := servers.NewDatabase(t, m)
	db := openMySQL(t, address)
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE kept (id int PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	restarts(t, m, func(round int) {
		db := openMySQL(t, address)
		if _, err := db.ExecContext(t.Context(), "INSERT INTO kept VALUES (?)", round); err != nil {
			t.Fatal(err)
		}
		var count int
		if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM kept").Scan(&count); err != nil {
			t.Fatal(err)
		}
		if count != round {
			t.Errorf("%d rows after round %d", count, round)
		}
	})
}

func TestRabbitMQKeepsData(t *testing.T) {
	r := shared.Set(t).RabbitMQ[0]
	address := servers.NewVHost(t, r)
	args := amqp.Table{"x-queue-type": "quorum"}
	vhost := strings.TrimPrefix(must(url.Parse(address)).Path, "/")
	restarts(t, r, func(round int) {
		conn := must(amqp.Dial(address))
		defer func() { _ = conn.Close() }()
		channel := must(conn.Channel())
		must(channel.QueueDeclare("kept", true, false, false, false, args))
		if err := channel.Confirm(false); err != nil {
			t.Fatal(err)
		}
		confirmation := must(channel.PublishWithDeferredConfirm("", "kept", true, false,
			amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte{byte(round)}}))
		if acked, err := confirmation.WaitContext(t.Context()); err != nil || !acked {
			t.Fatalf("round %d: not confirmed: %v", round, err)
		}
		for want := 1; want <= round; want++ {
			message, ok, err := channel.Get("kept", false) // unacknowledged, so it comes back for the next round
			if err != nil || !ok || int(message.Body[0]) != want {
				t.Fatalf("round %d: got %v, %t, %v, want message %d", round, message.Body, ok, err, want)
			}
		}
	})
	if err := r.PurgeQueue(t.Context(), vhost, "kept"); err != nil {
		t.Error(err)
	}
	conn := must(amqp.Dial(address))
	if _, ok, err := must(conn.Channel()).Get("kept", true); ok || err != nil {
		t.Errorf("purged, but got a message: %t, %v", ok, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := r.DeleteQueue(t.Context(), vhost, "kept"); err != nil {
		t.Error(err)
	}
	if err := r.PurgeQueue(t.Context(), vhost, "kept"); err == nil {
		t.Error("purged a queue that was deleted")
	}
}

// restarts calls use, stops and starts the server, calls use, kills and starts it, and calls use for the third time.
//
// The orderly stop comes first because RabbitMQ writes the registration of a new quorum queue some seconds after it is
// declared: killed before that, the queue comes back empty and without a leader, and never confirms anything again.
func restarts(t *testing.T, server interface {
	Start(context.Context) error
	Stop(context.Context) error
	Kill() error
	Port() int
	Pid() int
}, use func(round int),
) {
	t.Helper()
	port, pid := server.Port(), server.Pid()
	use(1)
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if server.Pid() != 0 || alive(pid) {
		t.Fatal("runs after Stop")
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	use(2)
	if pid = server.Pid(); pid == 0 {
		t.Fatal("runs without a process")
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if server.Pid() != 0 || alive(pid) {
		t.Fatal("runs after Kill")
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	use(3)
	if server.Port() != port {
		t.Errorf("port %d became %d", port, server.Port())
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	set, err := servers.Start(t.Context(), servers.Spec{Postgres: 2})
	if err != nil {
		t.Fatal(err)
	}
	log, pid := set.Postgres[0].Log(), set.Postgres[0].Pid()
	if _, err := os.Stat(log); err != nil {
		t.Error(err)
	}
	if err := set.Postgres[1].Kill(); err != nil {
		t.Error(err)
	}
	if err := set.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(log); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the log is still there: %v", err)
	}
	if alive(pid) {
		t.Error("the server still runs")
	}
	if err := set.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestFailedStartSaysWhy(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	set, err := servers.Start(t.Context(), servers.Spec{Postgres: 1, Dir: dir, PostgresSettings: []string{"no_such_setting=1"}})
	if err == nil {
		_ = set.Close()
		t.Fatal("started")
	}
	if !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("the cause is missing: %v", err)
	}
	if left := must(os.ReadDir(dir)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestExternal(t *testing.T) {
	t.Setenv("CDC_TEST_POSTGRES", "postgres://me:pw@db.example:5433/x?sslmode=disable,postgres://you@db2.example/")
	t.Setenv("CDC_TEST_MYSQL", "mysql://me:p%40w@db.example:3307/x")
	t.Setenv("CDC_TEST_AMQP", "amqp://me:pw@mq.example:5673/x")
	set, err := servers.Start(t.Context(), servers.Spec{Postgres: 3, MariaDB: 1, RabbitMQ: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]string{
		{set.Postgres[0].URL("d"), "postgres://me:pw@db.example:5433/d?sslmode=disable"},
		{set.Postgres[1].URL("d"), "postgres://you@db2.example/d"},
		{set.Postgres[2].URL("e"), "postgres://me:pw@db.example:5433/e?sslmode=disable"},
		{set.MariaDB[0].URL("d"), "mysql://me:p%40w@db.example:3307/d"},
		{set.RabbitMQ[0].URL("/"), "amqp://me:pw@mq.example:5673/%2F"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("got %s, want %s", pair[0], pair[1])
		}
	}
	for _, err := range []error{
		set.Postgres[0].Start(t.Context()), set.MariaDB[0].Stop(t.Context()), set.RabbitMQ[0].Kill(),
		set.Postgres[0].SetClock(t.Context(), time.Hour), set.MariaDB[0].SetClock(t.Context(), time.Hour),
	} {
		if !errors.Is(err, servers.ErrExternal) {
			t.Errorf("got %v, want ErrExternal", err)
		}
	}
	if err := set.Close(); err != nil {
		t.Error(err)
	}
}

func TestExternalAddressIsChecked(t *testing.T) {
	for _, address := range []string{"mysql://db.example/", "db.example:5432", "postgres://me:secret@db.example:x/"} {
		t.Setenv("CDC_TEST_POSTGRES", address)
		_, err := servers.Start(t.Context(), servers.Spec{Postgres: 1})
		if err == nil || !strings.Contains(err.Error(), "CDC_TEST_POSTGRES") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", address, err)
		}
	}
}

// childVariable turns the test binary into the child of TestDeathEndsServers.
const childVariable = "CDC_SERVERS_TEST_CHILD"

// report is what the child says of its servers.
type report struct {
	Folder string
	Pids   []int
}

// child starts servers, says where, and waits to be killed.
func child() error {
	set, err := servers.Start(context.Background(), servers.Spec{Postgres: 1, MariaDB: 1, RabbitMQ: 1, Dir: os.Getenv(childVariable)})
	if err != nil {
		return err
	}
	r := report{
		Folder: strings.TrimSuffix(set.Postgres[0].Log(), "/postgres1/log"),
		Pids:   []int{set.Postgres[0].Pid(), set.MariaDB[0].Pid(), set.RabbitMQ[0].Pid()},
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	select {}
}

func TestDeathEndsServers(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	cmd, out := startChild(t, dir)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(line, &r); err != nil {
		t.Fatal(err)
	}
	if all := users(dir); len(all) < len(r.Pids)+2 { // Postgres has children, and there is epmd
		t.Errorf("only %v run in %s", all, r.Folder)
	}
	for _, pid := range r.Pids {
		if !alive(pid) {
			t.Errorf("server %d does not run", pid)
		}
	}
	kill(t, cmd)
	vanishes(t, dir)
	for _, pid := range r.Pids {
		if alive(pid) {
			t.Errorf("server %d still runs", pid)
		}
	}
}

// Death in mid-start, at moments that come in this order.
func TestDeathAtStartLeavesNothing(t *testing.T) {
	for _, moment := range []string{"", "/postgres1/log", "/mariadb1/data/ibdata1", "/rabbitmq1/log", "/rabbitmq1/mnesia"} {
		t.Run("folder"+moment, func(t *testing.T) {
			dir := t.TempDir()
			open(t, dir)
			cmd, _ := startChild(t, dir)
			eventually(t, func() bool {
				return len(must(filepath.Glob(dir+"/cdc-servers-*"+moment))) > 0
			}, "never came")
			kill(t, cmd)
			vanishes(t, dir)
		})
	}
}

func startChild(t *testing.T, dir string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), must(os.Executable()))
	cmd.Env = append(os.Environ(), childVariable+"="+dir)
	cmd.Stderr = os.Stderr
	out := must(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // "killed", as we know
}

// vanishes waits until the folder is empty and no process has to do with it any more.
func vanishes(t *testing.T, dir string) {
	t.Helper()
	eventually(t, func() bool { return len(must(os.ReadDir(dir))) == 0 }, "the folder is still there")
	eventually(t, func() bool { return len(users(dir)) == 0 }, "processes still run")
}

// users lists the processes, but this one, that a folder is mentioned by, in their arguments or their environment.
func users(folder string) []int {
	var all []int
	for _, entry := range must(os.ReadDir("/proc")) {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		for _, name := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(filepath.Join("/proc", entry.Name(), name))
			if err == nil && strings.Contains(string(text), folder) {
				all = append(all, pid)
				break
			}
		}
	}
	return all
}

func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}

func eventually(t *testing.T, condition func() bool, otherwise string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), stuck)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatal(otherwise)
		case <-tick.C:
		}
	}
}

// open lets the servers' user into a test's folder, whose parent the testing package closes.
func open(t *testing.T, dir string) {
	t.Helper()
	for _, d := range []string{dir, dir + "/.."} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func openMySQL(t *testing.T, address string) *sql.DB {
	t.Helper()
	u := must(url.Parse(address))
	config := mysql.NewConfig()
	config.Net, config.Addr, config.User, config.DBName = "tcp", u.Host, u.User.Username(), strings.TrimPrefix(u.Path, "/")
	config.Passwd, _ = u.User.Password()
	db := sql.OpenDB(must(mysql.NewConnector(config)))
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// must is for what cannot fail unless the test's own machinery is broken.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
