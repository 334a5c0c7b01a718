package fleet

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // database/sql's way to Postgres

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

// Office is one office: its database, its sidecar process, its link.
type Office struct {
	Spec
	Index int
	Dir   string
	URL   string // of its database
	Link  *Link

	database string
	binary   string
	db       *sql.DB

	mu   sync.Mutex
	proc *process
}

type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Postgres reports which engine's SQL the office speaks.
func (o *Office) Postgres() bool { return isPostgres(o.URL) }

func isPostgres(address string) bool { return strings.HasPrefix(address, "postgres") }

// Config is the path of its configuration.
func (o *Office) Config() string { return filepath.Join(o.Dir, "cdc-sidecar.yaml") }

// Log is the path of its sidecar's log.
func (o *Office) Log() string { return filepath.Join(o.Dir, "log") }

// Socket is the path of its admin socket.
func (o *Office) Socket() string { return filepath.Join(o.Dir, "admin.sock") }

// Data is its journal's folder.
func (o *Office) Data() string { return filepath.Join(o.Dir, "data") }

// Configuration is the file's text; tests change what they want to see refused.
func (o *Office) Configuration() string {
	return fmt.Sprintf("office: %s\nrole: %s\ndatabase: %s\nbroker: %s\ndata: %s\nadmin: %s\n%s",
		o.Name, o.Role, o.URL, o.Link.URL, o.Data(), o.admin(), o.Extra)
}

// admin is the admin address as the configuration has it.
func (o *Office) admin() string {
	if o.Admin != "" {
		return o.Admin
	}
	return "unix:" + o.Socket()
}

func (o *Office) configure() error {
	return os.WriteFile(o.Config(), []byte(o.Configuration()), 0o600)
}

// Start starts the sidecar process. It dies with this process.
func (o *Office) Start() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.proc != nil {
		return fmt.Errorf("the sidecar of %s runs already", o.Name)
	}
	log, err := os.OpenFile(o.Log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(o.binary, "run", "--config", o.Config()) //nolint:noctx // its life is the fleet's, not a call's
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(Environment(), o.Env...)
	// Its own process group: the terminal's Ctrl-C is for us, and the offices go on until we end them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p := &process{cmd: cmd, done: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the sidecar of %s: %w", o.Name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	o.proc = p
	return nil
}

// Environment is what a program of ours is started with: our own environment without its overrides of configurations, which
// would make one office of all. A sidecar that is built with the race detector ends at the first race; by itself it would
// also sleep a second at every orderly end, to hear of races of goroutines that are left, where a tenth is as good.
func Environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "CDC_") })
	return append(env, "GORACE=halt_on_error=1 atexit_sleep_ms=100")
}

// Kill is kill -9. It returns when the process is gone.
func (o *Office) Kill() {
	if p := o.take(); p != nil {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// Stop is SIGTERM. It returns the exit error, nil for exit code 0.
func (o *Office) Stop(ctx context.Context) error {
	p := o.take()
	if p == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("the sidecar of %s did not end: %w", o.Name, ctx.Err())
	}
}

func (o *Office) take() *process {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.proc
	o.proc = nil
	return p
}

// Exited waits until the process ends by itself and returns its exit error.
func (o *Office) Exited(ctx context.Context) error {
	o.mu.Lock()
	p := o.proc
	o.mu.Unlock()
	if p == nil {
		return errors.New("no sidecar runs")
	}
	select {
	case <-p.done:
		o.take()
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("the sidecar of %s still runs: %w", o.Name, ctx.Err())
	}
}

// Pid is the sidecar's process id, 0 when it does not run.
func (o *Office) Pid() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.proc == nil {
		return 0
	}
	return o.proc.cmd.Process.Pid
}

// Alive reports whether the sidecar that was started still runs.
func (o *Office) Alive() bool {
	o.mu.Lock()
	p := o.proc
	o.mu.Unlock()
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// statusTimeout: an answer comes from memory.
const statusTimeout = 10 * time.Second

// Status asks the running sidecar.
func (o *Office) Status(ctx context.Context) (admin.Status, error) {
	var s admin.Status
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			if o.Admin != "" {
				return d.DialContext(ctx, "tcp", o.Admin)
			}
			return d.DialContext(ctx, "unix", o.Socket())
		},
	}}
	host := "sidecar"
	if o.Admin != "" {
		host = o.Admin // over TCP, a sidecar answers only to the names of loopback
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/api/v1/status", http.NoBody)
	if err != nil {
		return s, err
	}
	res, err := client.Do(req)
	if err != nil {
		return s, fmt.Errorf("status of %s: %w", o.Name, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return s, fmt.Errorf("status of %s: %s", o.Name, res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(&s); err != nil {
		return s, fmt.Errorf("status of %s: %w", o.Name, err)
	}
	return s, nil
}

// DB is a pool of connections to the office's database, as its applications have.
func (o *Office) DB() (*sql.DB, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.db != nil {
		return o.db, nil
	}
	db, err := OpenDB(o.URL)
	if err != nil {
		return nil, err
	}
	o.db = db
	return db, nil
}

// OpenDB opens a pool of connections to the database of a URL, Postgres' or MySQL's, whose sessions live in UTC at MySQL.
func OpenDB(address string) (*sql.DB, error) {
	if isPostgres(address) {
		return sql.Open("pgx", address)
	}
	dsn, err := schema.ParseDSN(address)
	if err != nil {
		return nil, err
	}
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.Passwd, cfg.DBName = "tcp", dsn.Address(), dsn.User, dsn.Password, dsn.Database
	cfg.Params = map[string]string{"time_zone": "'+00:00'"}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

func (o *Office) closeDatabase() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.db == nil {
		return nil
	}
	err := o.db.Close()
	o.db = nil
	return err
}

// Exec runs statements one after another, as an application would.
func (o *Office) Exec(ctx context.Context, statements ...string) error {
	db, err := o.DB()
	if err != nil {
		return err
	}
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %s: %w", o.Name, s, err)
		}
	}
	return nil
}

// forget removes what an earlier fleet's office of the same name left on a MySQL server, where our tables are the server's
// and not a database's.
func (o *Office) forget(ctx context.Context) error {
	if o.Postgres() {
		return nil
	}
	db, err := o.DB()
	if err != nil {
		return err
	}
	for _, table := range schema.OwnTables {
		_, err := db.ExecContext(ctx, "DELETE FROM "+schema.OwnSchema+"."+table+" WHERE office = ?", o.Name)
		var missing *mysql.MySQLError
		if err != nil && (!errors.As(err, &missing) || missing.Number != 1049 && missing.Number != 1146) { // no such database, no such table
			return fmt.Errorf("forget an earlier %s: %w", o.Name, err)
		}
	}
	return nil
}
