package servers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Set is a group of servers with one folder and one end.
type Set struct {
	Postgres []*Postgres
	MariaDB  []*MariaDB
	RabbitMQ []*RabbitMQ

	host *host // nil when every server is external
	all  []*server
}

// Start starts the servers of a spec, in parallel, and returns when all of them serve. An error leaves nothing behind; one
// about a missing program says how to install it. The context bounds the start, not the servers' lives: Close ends them, or
// the end of this process.
func Start(ctx context.Context, spec Spec) (*Set, error) {
	s := &Set{}
	kinds, err := s.addExternal(spec)
	if err != nil {
		return nil, fmt.Errorf("start servers: %w", err)
	}
	if len(kinds) == 0 {
		return s, nil
	}
	if err := missing(spec, kinds); err != nil {
		return nil, fmt.Errorf("start servers: %w", err)
	}
	faketime := ""
	if needsFaketime(spec, kinds) {
		if faketime, err = findFaketime(); err != nil {
			return nil, fmt.Errorf("start servers: %w", err)
		}
	}
	if s.host, err = newHost(ctx, spec); err != nil {
		return nil, fmt.Errorf("start servers: %w", err)
	}
	s.host.faketime = faketime
	if err := s.add(spec, kinds); err != nil {
		return nil, fmt.Errorf("start servers: %w", errors.Join(err, s.Close()))
	}
	if err := s.startAll(ctx); err != nil {
		return nil, fmt.Errorf("start servers: %w", errors.Join(err, s.Close()))
	}
	return s, nil
}

// startAll starts every server, and gives up on all as soon as one fails.
func (s *Set) startAll(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(s.all))
	var group sync.WaitGroup
	for i, server := range s.all {
		group.Go(func() {
			if errs[i] = server.first(ctx); errs[i] != nil {
				cancel()
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// add makes the servers of the kinds that are to be started.
func (s *Set) add(spec Spec, kinds []Kind) error {
	for _, kind := range kinds {
		var err error
		switch kind {
		case KindPostgres:
			err = s.addPostgres(spec)
		case KindMariaDB:
			err = s.addMariaDB(spec)
		case KindRabbitMQ:
			err = s.addRabbitMQ(spec)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Set) addPostgres(spec Spec) error {
	programs, err := findPostgres(spec.version(KindPostgres))
	if err != nil {
		return err
	}
	for i := range spec.Postgres {
		p := &Postgres{s.newServer(KindPostgres, i), programs, spec.PostgresSettings}
		p.engine = p
		s.Postgres = append(s.Postgres, p)
	}
	return nil
}

func (s *Set) addMariaDB(spec Spec) error {
	programs, err := findMySQL(spec.version(KindMariaDB))
	if err != nil {
		return err
	}
	for i := range spec.MariaDB {
		m := &MariaDB{s.newServer(KindMariaDB, i), programs, spec.MariaDBOptions}
		if m.engine = m; programs.oracle {
			m.engine = oracle{m}
		}
		s.MariaDB = append(s.MariaDB, m)
	}
	return nil
}

func (s *Set) addRabbitMQ(spec Spec) error {
	programs, err := findRabbitMQ()
	if err != nil {
		return err
	}
	for i := range spec.RabbitMQ {
		r := &RabbitMQ{s.newServer(KindRabbitMQ, i), programs, spec.RabbitMQSettings}
		r.engine = r
		s.RabbitMQ = append(s.RabbitMQ, r)
	}
	return nil
}

func (s *Set) newServer(kind Kind, i int) *server {
	srv := &server{host: s.host, name: string(kind) + strconv.Itoa(i+1)}
	s.all = append(s.all, srv)
	return srv
}

// closeLimit is how long Close waits for servers to end by themselves; what then still runs is killed.
const closeLimit = 10 * time.Second

// Close ends every server that is not external and removes the folder with all data. It may be called again.
func (s *Set) Close() error {
	if s.host == nil {
		return nil
	}
	errs := make([]error, len(s.all))
	var group sync.WaitGroup
	for i, server := range s.all {
		group.Go(func() { errs[i] = server.finish() })
	}
	group.Wait()
	err := errors.Join(append(errs, s.host.watcher.close())...) // the watcher removes the folder
	s.host, s.all = nil, nil
	return err
}

// finish ends a server whose data nobody needs any more: at once, but not by SIGKILL, after which Postgres would leave its
// shared memory segment behind.
func (s *server) finish() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	err := s.stop(ctx, syscall.SIGQUIT)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.end()
	}
	return errors.Join(err, releasePorts(s.ports))
}

// newHost makes the folder and its watcher.
func newHost(ctx context.Context, spec Spec) (*host, error) {
	h := &host{log: spec.Log}
	if h.log == nil {
		h.log = io.Discard
	}
	if os.Geteuid() == 0 {
		var err error
		if h.user, err = unprivileged(); err != nil {
			return nil, err
		}
	}
	parent := spec.Dir
	if parent == "" {
		parent = os.TempDir()
	}
	var err error
	if h.dir, err = filepath.Abs(filepath.Join(parent, "cdc-servers-"+rand.Text()[:nameRandom])); err != nil {
		return nil, err
	}
	// The watcher first: it removes a folder that is not there as gladly as one that we died too early to tell about.
	if h.watcher, err = startWatcher(ctx, h.dir); err != nil {
		return nil, err
	}
	if err := h.open(); err != nil {
		return nil, errors.Join(err, h.watcher.close())
	}
	return h, nil
}

// nameRandom is how much of a folder's name is random: ten letters of base 32 are not guessed, and keep paths short.
const nameRandom = 10

// open makes the folder, the servers' user's own, and makes sure that this user can get there.
func (h *host) open() error {
	if err := os.Mkdir(h.dir, 0o700); err != nil {
		return err
	}
	if h.user == nil {
		return nil
	}
	if err := h.chown(h.dir); err != nil {
		return err
	}
	return passable(filepath.Dir(h.dir), "choose another TMPDIR")
}

// passable says whether the user that the servers run as, when we are root, can get into a folder.
func passable(dir, otherwise string) error {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if info.Mode()&0o001 == 0 {
			return fmt.Errorf("%s is closed to the user that the servers run as: chmod o+x it, or %s", dir, otherwise)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// unprivileged is whom the servers run as when we are root.
func unprivileged() (*syscall.Credential, error) {
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return nil, fmt.Errorf("find an unprivileged user: %w", err)
	}
	uid, err := strconv.ParseUint(nobody.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("find an unprivileged user: %w", err)
	}
	gid, err := strconv.ParseUint(nobody.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("find an unprivileged user: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
