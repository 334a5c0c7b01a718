package servers

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// The environment variables that choose versions, and the one that names a folder of further servers: each in a folder of
// its own below, named after kind and major version, either a plain installation (bin, lib, share) or the unpacked packages
// of a distribution (usr, with the C library and its loader). `scripts/versions get` fills such a folder.
const (
	envPostgresVersion = "CDC_POSTGRES"
	envMySQLVersion    = "CDC_MYSQL"
	envServers         = "CDC_SERVERS"
)

// version is what a Spec or the environment asks for; empty: the machine's own.
func (s Spec) version(kind Kind) string {
	switch kind {
	case KindPostgres:
		return cmp.Or(s.PostgresVersion, os.Getenv(envPostgresVersion))
	case KindMariaDB:
		return cmp.Or(s.MySQLVersion, os.Getenv(envMySQLVersion))
	default:
		return ""
	}
}

// Oracle reports whether the environment chooses an Oracle MySQL where a Spec asks for a MariaDB: tests of what MariaDB alone has
// are then left out.
func Oracle() bool { return strings.HasPrefix(Spec{}.version(KindMariaDB), "mysql") }

// Installed lists the versions of a kind that a Spec can ask for here, oldest first: "postgres-17" for KindPostgres, "mariadb-11" and
// "mysql-9" for KindMariaDB.
func Installed(ctx context.Context, kind Kind) []string {
	prefixes := map[Kind][]string{KindPostgres: {"postgres"}, KindMariaDB: {"mariadb", "mysql"}}[kind]
	var all []string
	for _, prefix := range prefixes {
		found, _ := filepath.Glob(filepath.Join(os.Getenv(envServers), prefix+"-*")) // the pattern is well formed
		var names []string
		for _, dir := range found {
			names = append(names, filepath.Base(dir))
		}
		names = append(names, ownVersions(ctx, prefix)...)
		slices.SortFunc(names, func(a, b string) int { return major(a) - major(b) })
		all = append(all, slices.Compact(names)...)
	}
	return slices.DeleteFunc(all, func(name string) bool { return !usable(kind, name) })
}

func usable(kind Kind, name string) bool {
	var err error
	if kind == KindPostgres {
		_, err = findPostgresVersion(name)
	} else {
		_, err = findMySQLVersion(name)
	}
	return err == nil
}

// ownVersions are those of the machine itself.
func ownVersions(ctx context.Context, prefix string) []string {
	var names []string
	switch prefix {
	case "postgres":
		for v := oldestPostgres; v <= newestPostgres; v++ {
			if postgresIn(installedPostgres(strconv.Itoa(v))).there() {
				names = append(names, prefix+"-"+strconv.Itoa(v))
			}
		}
	default:
		if daemon, err := ownDaemon(prefix); err == nil {
			if name := versionOf(ctx, daemon); strings.HasPrefix(name, prefix+"-") {
				names = append(names, name)
			}
		}
	}
	return names
}

func major(name string) int {
	_, number, _ := strings.Cut(name, "-")
	n, _ := strconv.Atoi(number) // a name without a number comes first, and is not usable
	return n
}

func findPostgresVersion(version string) (postgresPrograms, error) {
	version = strings.TrimPrefix(version, "postgres-")
	dir := filepath.Join(os.Getenv(envServers), "postgres-"+version)
	if p := postgresIn(filepath.Join(dir, "bin")); os.Getenv(envServers) != "" && p.there() {
		return p, reachable(dir)
	}
	if p := postgresIn(installedPostgres(version)); p.there() {
		return p, nil
	}
	return postgresPrograms{}, absent("postgres-" + version)
}

func findMySQLVersion(version string) (mysqlPrograms, error) {
	kind, _, _ := strings.Cut(version, "-")
	names := map[string]string{"mariadb": "mariadbd", "mysql": "mysqld"}
	if names[kind] == "" {
		return mysqlPrograms{}, fmt.Errorf("%s is %q, and must be like mariadb-11 or mysql-9", envMySQLVersion, version)
	}
	dir := filepath.Join(os.Getenv(envServers), version)
	if os.Getenv(envServers) != "" && executable(filepath.Join(dir, "usr/sbin", names[kind])) {
		if err := reachable(dir); err != nil {
			return mysqlPrograms{}, err
		}
		return unpacked(dir, names[kind])
	}
	daemon, err := ownDaemon(kind)
	if err != nil || versionOf(context.Background(), daemon) != version {
		return mysqlPrograms{}, absent(version)
	}
	if kind == "mysql" {
		return mysqlPrograms{daemon: []string{daemon}, oracle: true, share: "/usr/share/mysql"}, nil
	}
	return mysqlPrograms{daemon: []string{daemon}}.withTables("/usr/share")
}

// unpacked is a server in a folder of unpacked packages. Their C library may be newer than the machine's, and then only their own
// loader can start the program; it finds the libraries where it is told to look.
func unpacked(dir, name string) (mysqlPrograms, error) {
	arch := map[string]struct{ loader, triplet string }{
		"amd64": {"lib64/ld-linux-x86-64.so.2", "x86_64-linux-gnu"},
		"arm64": {"lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu"},
	}[runtime.GOARCH]
	p := mysqlPrograms{
		daemon: []string{filepath.Join(dir, "usr/sbin", name)}, base: filepath.Join(dir, "usr"),
		plugins: filepath.Join(dir, "usr/lib/mysql/plugin"),
	}
	if loader := filepath.Join(dir, arch.loader); arch.loader != "" && executable(loader) {
		p.daemon = append([]string{loader, "--library-path", filepath.Join(dir, "usr/lib", arch.triplet)}, p.daemon...)
	}
	if name == "mysqld" {
		p.oracle, p.share = true, filepath.Join(p.base, "share/mysql")
		return p, nil
	}
	return p.withTables(filepath.Join(p.base, "share"))
}

func ownDaemon(kind string) (string, error) {
	if kind == "mysql" {
		return lookUp("mysqld", "/usr/sbin/mysqld", "/usr/libexec/mysqld")
	}
	return lookUp("mariadbd", "/usr/sbin/mariadbd", "/usr/libexec/mariadbd")
}

var daemonVersion = regexp.MustCompile(`Ver ([0-9]+)\.`)

// versionOf asks a program which one it is: "mariadb-10", "mysql-9", or nothing. MariaDB's has both names.
func versionOf(ctx context.Context, daemon string) string {
	said, err := exec.CommandContext(ctx, daemon, "--no-defaults", "--version").Output()
	found := daemonVersion.FindSubmatch(said)
	if err != nil || found == nil {
		return ""
	}
	if strings.Contains(string(said), "MariaDB") {
		return "mariadb-" + string(found[1])
	}
	return "mysql-" + string(found[1])
}

// reachable says whether servers in a folder can be run as the user they run as.
func reachable(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return passable(dir, "let "+envServers+" name a folder elsewhere")
}

func absent(name string) error {
	return fmt.Errorf("%s is neither installed nor in the folder that %s names: run scripts/versions get %s", name, envServers, name)
}
