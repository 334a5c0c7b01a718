// Present prints the versions of database servers that tests can choose here, one a line: postgres-17, mariadb-11, mysql-9.
// scripts/versions asks it.
package main

import (
	"context"
	"fmt"
	"os"

	"cdc-sidecar/servers"
)

func main() {
	for _, kind := range []servers.Kind{servers.KindPostgres, servers.KindMariaDB} {
		for _, name := range servers.Installed(context.Background(), kind) {
			fmt.Fprintln(os.Stdout, name)
		}
	}
}
