package servers

import (
	"context"
	"path/filepath"
	"strconv"
)

// oracle is how an Oracle MySQL differs from a MariaDB: it makes its system tables by itself, and some options have other names.
type oracle struct{ *MariaDB }

func (o oracle) prepare(ctx context.Context) error {
	// As it initializes, it reads one statement a line.
	init := "CREATE USER root@'127.0.0.1' IDENTIFIED BY 'secret';\n" +
		"GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n"
	file := filepath.Join(o.dir(), "init.sql")
	if err := o.host.write(file, init); err != nil {
		return err
	}
	args := append(o.base(), "--initialize-insecure", "--skip-log-bin", "--init-file="+file)
	return o.host.runToEnd(ctx, program{dir: o.dir(), log: o.Log(), args: append(args, redoLog)})
}

const redoLog = "--innodb-redo-log-capacity=64M"

func (o oracle) launch(ctx context.Context) ([]*process, error) {
	number := strconv.Itoa(o.Port())
	args := append(o.base(), redoLog,
		"--bind-address=127.0.0.1", "--port="+number, "--pid-file="+filepath.Join(o.dir(), "pid"),
		"--socket=socket", "--mysqlx=OFF", "--secure-file-priv=NULL",
		"--skip-name-resolve", "--tls-version=", "--max-connections=200",
		"--character-set-server=utf8mb4", "--server-id="+number, "--log-bin=binlog", "--binlog-row-image=FULL",
		"--binlog-row-metadata=FULL", "--gtid-mode=ON", "--enforce-gtid-consistency=ON",
		"--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2")
	proc, err := o.host.run(ctx, program{dir: o.dir(), log: o.Log(), env: o.clock(), args: append(args, o.options...)})
	if err != nil {
		return nil, err
	}
	return []*process{proc}, nil
}
