package catalog

import (
	"testing"

	"go.uber.org/goleak"

	"cdc-sidecar/servers"
)

// Each engine is started by the first test that asks for it.
var (
	postgresServers = servers.Shared{Spec: servers.Spec{Postgres: 1, PostgresSettings: []string{"fsync=off"}}}
	mariaDBServers  = servers.Shared{Spec: servers.Spec{MariaDB: 1}}
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(postgresServers.Main(mariaDBServers.Main(m)))
}
