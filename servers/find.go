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

// findPostgres finds the given version, such as "17", or without one the newest that this machine has installed.
func findPostgres(version string) (postgresPrograms, error) {
	if version != "" {
		return findPostgresVersion(version)
	}
	for v := newestPostgres; v >= oldestPostgres; v-- {
		if p := postgresIn(installedPostgres(strconv.Itoa(v))); p.there() {
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
	p := postgresIn(filepath.Dir(initdb))
	if !executable(p.postgres) {
		return postgresPrograms{}, fmt.Errorf("postgres beside %s: %w", initdb, errMissing)
	}
	return p, nil
}

// installedPostgres is where Debian puts a version's programs.
func installedPostgres(version string) string {
	return filepath.Join("/usr/lib/postgresql", version, "bin")
}

func postgresIn(dir string) postgresPrograms {
	return postgresPrograms{initdb: filepath.Join(dir, "initdb"), postgres: filepath.Join(dir, "postgres")}
}

func (p postgresPrograms) there() bool { return executable(p.initdb) && executable(p.postgres) }

// mysqlPrograms is one MariaDB or Oracle MySQL installation.
type mysqlPrograms struct {
	daemon  []string // the program, after the loader that it needs where it came with a C library of its own
	oracle  bool
	base    string // its own /usr; empty: what the program was built for
	share   string // the folder of messages, character sets and the SQL of MariaDB's system tables
	prefix  string // what the names of those SQL files begin with; empty for Oracle's, which has them inside
	plugins string // empty: what the program was built for
}

// findMySQL finds a given version, such as "mariadb-11" or "mysql-9", or without one the MariaDB that this machine has installed.
func findMySQL(version string) (mysqlPrograms, error) {
	if version != "" {
		return findMySQLVersion(version)
	}
	daemon, err := lookUp("mariadbd", "/usr/sbin/mariadbd", "/usr/libexec/mariadbd")
	if err != nil {
		return mysqlPrograms{}, err
	}
	return mysqlPrograms{daemon: []string{daemon}}.withTables("/usr/share")
}

// withTables completes a MariaDB: below share is what it makes its system tables from.
func (p mysqlPrograms) withTables(share string) (mysqlPrograms, error) {
	for _, dir := range []string{"mariadb", "mysql"} {
		for _, prefix := range []string{"mariadb", "mysql"} {
			if _, err := os.Stat(filepath.Join(share, dir, prefix+"_system_tables.sql")); err == nil {
				p.share, p.prefix = filepath.Join(share, dir), prefix
				return p, nil
			}
		}
	}
	return mysqlPrograms{}, fmt.Errorf("mariadb's system tables: %w", errMissing)
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

// find says whether a kind's programs are there, in the version that a Spec asks for.
func find(spec Spec, kind Kind) error {
	var err error
	switch kind {
	case KindPostgres:
		_, err = findPostgres(spec.version(kind))
	case KindMariaDB:
		_, err = findMySQL(spec.version(kind))
	case KindRabbitMQ:
		_, err = findRabbitMQ()
	default:
		err = fmt.Errorf("%q is no kind of server; there are %s", kind,
			strings.Join([]string{string(KindPostgres), string(KindMariaDB), string(KindRabbitMQ)}, ", "))
	}
	return err
}
