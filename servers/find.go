package servers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// errMissing is wrapped by every error that says a server's program is not installed.
var errMissing = errors.New("not installed")

// postgresPrograms are the programs of one Postgres installation.
type postgresPrograms struct{ initdb, postgres string }

// The versions that the project is tested with.
const (
	oldestPostgres = 15
	newestPostgres = 18
)

func findPostgres() (postgresPrograms, error) {
	for v := newestPostgres; v >= oldestPostgres; v-- {
		p := postgresPrograms{
			initdb:   filepath.Join("/usr/lib/postgresql", strconv.Itoa(v), "bin/initdb"),
			postgres: filepath.Join("/usr/lib/postgresql", strconv.Itoa(v), "bin/postgres"),
		}
		if executable(p.initdb) && executable(p.postgres) {
			return p, nil
		}
	}
	initdb, err := exec.LookPath("initdb")
	if err != nil {
		return postgresPrograms{}, fmt.Errorf("postgres %d to %d: %w", oldestPostgres, newestPostgres, errMissing)
	}
	// A link in the path may point into a folder that has both.
	if initdb, err = filepath.EvalSymlinks(initdb); err != nil {
		return postgresPrograms{}, fmt.Errorf("postgres: %w", err)
	}
	p := postgresPrograms{initdb, filepath.Join(filepath.Dir(initdb), "postgres")}
	if !executable(p.postgres) {
		return postgresPrograms{}, fmt.Errorf("postgres beside %s: %w", initdb, errMissing)
	}
	return p, nil
}

// mariadbPrograms is one MariaDB installation.
type mariadbPrograms struct {
	mariadbd string
	share    string // the folder of messages, character sets and the SQL of the system tables
	prefix   string // what the names of those SQL files begin with
}

func findMariaDB() (mariadbPrograms, error) {
	daemon, err := lookUp("mariadbd", "/usr/sbin/mariadbd", "/usr/libexec/mariadbd")
	if err != nil {
		return mariadbPrograms{}, err
	}
	for _, share := range []string{"/usr/share/mariadb", "/usr/share/mysql"} {
		for _, prefix := range []string{"mariadb", "mysql"} {
			if _, err := os.Stat(filepath.Join(share, prefix+"_system_tables.sql")); err == nil {
				return mariadbPrograms{daemon, share, prefix}, nil
			}
		}
	}
	return mariadbPrograms{}, fmt.Errorf("mariadb's system tables: %w", errMissing)
}

// rabbitmqPrograms is one RabbitMQ installation.
type rabbitmqPrograms struct {
	home string // the folder that has sbin, escript and plugins
	epmd string
}

func findRabbitMQ() (rabbitmqPrograms, error) {
	epmd, err := lookUp("epmd", "/usr/bin/epmd", "/usr/lib/erlang/bin/epmd")
	if err != nil {
		return rabbitmqPrograms{}, err
	}
	// Not the rabbitmq-server of the path: Debian's is a wrapper that insists on being root or rabbitmq.
	var homes []string
	for _, pattern := range []string{"/usr/lib/rabbitmq/lib/rabbitmq_server-*", "/opt/rabbitmq*"} {
		found, _ := filepath.Glob(pattern) // the patterns are well formed
		homes = append(homes, found...)
	}
	for i := len(homes) - 1; i >= 0; i-- {
		if executable(filepath.Join(homes[i], "sbin/rabbitmq-server")) {
			return rabbitmqPrograms{homes[i], epmd}, nil
		}
	}
	return rabbitmqPrograms{}, fmt.Errorf("rabbitmq-server: %w", errMissing)
}

// lookUp finds a program in the path or, because an ordinary user's may lack the system's folders, in places it is known to be.
func lookUp(name string, places ...string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, path := range places {
		if executable(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, errMissing)
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// find says whether a kind's programs are there.
func find(kind Kind) error {
	var err error
	switch kind {
	case KindPostgres:
		_, err = findPostgres()
	case KindMariaDB:
		_, err = findMariaDB()
	case KindRabbitMQ:
		_, err = findRabbitMQ()
	default:
		err = fmt.Errorf("%q is no kind of server; there are %s", kind,
			strings.Join([]string{string(KindPostgres), string(KindMariaDB), string(KindRabbitMQ)}, ", "))
	}
	return err
}
