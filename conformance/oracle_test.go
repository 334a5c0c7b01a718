package conformance

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// Where an Oracle MySQL is at hand, what it alone has is sent to another of its databases every day. `make test-versions` sends all.
func TestOracle(t *testing.T) {
	if servers.Oracle() {
		t.Skip("TestValues does it")
	}
	versions := slices.DeleteFunc(servers.Installed(t.Context(), servers.KindMariaDB), func(name string) bool { return !strings.HasPrefix(name, "mysql") })
	if len(versions) == 0 {
		t.Skip("there is no Oracle MySQL: scripts/versions get mysql-9 fetches one")
	}
	server := servers.ForTest(t, servers.Spec{MariaDB: 1, MySQLVersion: versions[len(versions)-1]}).MariaDB[0]
	if probe := openMySQLOffice(t, server); probe.engine != schema.MySQL {
		t.Skip("the environment names another server")
	}
	files := slices.DeleteFunc(readTypeFiles(t), func(f *typeFile) bool { return !strings.HasPrefix(filepath.Base(f.path), "oracle-") })
	origin := newOrigin(t, server, schema.MySQL, files)
	origin.send(t, server, schema.MySQL)
	origin.logged(t)
}
