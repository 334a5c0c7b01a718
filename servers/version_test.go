package servers

import (
	"database/sql"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Each version serves, and is the one that was asked for: what the environment names, with FULL=1 all that are here.
func TestVersions(t *testing.T) {
	chosen := func(kind Kind) []string {
		if version := (Spec{}).version(kind); version != "" {
			return []string{version}
		}
		if os.Getenv("CDC_FULL") == "" {
			return nil
		}
		return Installed(t.Context(), kind)
	}
	t.Setenv(envPostgres, "")
	t.Setenv(envMySQL, "")
	for _, name := range chosen(KindPostgres) {
		t.Run(name, func(t *testing.T) {
			p := ForTest(t, Spec{Postgres: 1, PostgresVersion: name}).Postgres[0]
			conn, err := pgx.Connect(t.Context(), p.URL("postgres"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			if got := conn.PgConn().ParameterStatus("server_version"); !strings.HasPrefix(got, strings.TrimPrefix(name, "postgres-")+".") {
				t.Errorf("%s says that it is %s", name, got)
			}
		})
	}
	for _, name := range chosen(KindMariaDB) {
		t.Run(name, func(t *testing.T) {
			m := ForTest(t, Spec{MariaDB: 1, MySQLVersion: name}).MariaDB[0]
			NewDatabase(t, m)
			var version string
			if err := m.with(t.Context(), func(conn *sql.Conn) error {
				return conn.QueryRowContext(t.Context(), "SELECT VERSION()").Scan(&version)
			}); err != nil {
				t.Fatal(err)
			}
			kind, number, _ := strings.Cut(name, "-")
			if !strings.HasPrefix(version, number+".") || strings.Contains(version, "MariaDB") != (kind == "mariadb") {
				t.Errorf("%s says that it is %s", name, version)
			}
		})
	}
}

func TestVersionThatIsNotHere(t *testing.T) {
	t.Setenv(envPostgres, "")
	t.Setenv(envMySQL, "")
	t.Setenv(envServers, t.TempDir())
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{Postgres: 1, PostgresVersion: "99"}, "scripts/versions get postgres-99"},
		{Spec{MariaDB: 1, MySQLVersion: "mysql-99"}, "scripts/versions get mysql-99"},
		{Spec{MariaDB: 1, MySQLVersion: "sqlite-3"}, "must be like mariadb-11 or mysql-9"},
	} {
		_, err := Start(t.Context(), c.spec)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}
