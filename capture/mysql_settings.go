package capture

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"cdc-sidecar/schema"
)

// mysqlSetting is a server variable on which it depends whether the binlog has every row whole.
type mysqlSetting struct {
	name   string
	want   string
	why    string
	remedy string
}

// mysqlSettings are needed on both engines.
var mysqlSettings = []mysqlSetting{
	{"log_bin", "ON", "there is no binlog to read", "add log_bin=binlog and a server_id to the section [mysqld], then restart the server"},
	{"binlog_format", "ROW", "the binlog would have statements where it should have rows", "SET GLOBAL binlog_format = 'ROW'; and in [mysqld]: binlog_format=ROW"},
	{"binlog_row_image", "FULL", "the binlog would have rows without all of their columns", "SET GLOBAL binlog_row_image = 'FULL'; and in [mysqld]: binlog_row_image=FULL"},
	{"binlog_row_metadata", "FULL", "the binlog would not say what its columns are", "SET GLOBAL binlog_row_metadata = 'FULL'; and in [mysqld]: binlog_row_metadata=FULL"},
}

// oracleSettings are needed on MySQL only.
var oracleSettings = []mysqlSetting{
	{"gtid_mode", "ON", "there would be no place in the binlog to start again from", "SET GLOBAL enforce_gtid_consistency = ON; SET GLOBAL gtid_mode = OFF_PERMISSIVE; SET GLOBAL gtid_mode = ON_PERMISSIVE; SET GLOBAL gtid_mode = ON; and in [mysqld]: gtid_mode=ON, enforce_gtid_consistency=ON"},
	{"binlog_row_value_options", "", "the binlog would have JSON documents in part", "SET GLOBAL binlog_row_value_options = ''; and in [mysqld]: binlog_row_value_options="},
}

// settings checks what only an administrator can change.
func (s *mysqlSetup) settings(ctx context.Context) error {
	variables, err := s.variables(ctx)
	if err != nil {
		return err
	}
	wanted := mysqlSettings
	if s.engine == schema.MySQL {
		wanted = append(wanted[:len(wanted):len(wanted)], oracleSettings...)
	}
	for _, w := range wanted {
		value, known := variables[w.name]
		switch {
		case !known && w.name == "binlog_row_metadata":
			return &schema.RefusedError{
				What: "the server is too old: it has no binlog_row_metadata", Remedy: "upgrade to MariaDB 10.5, MySQL 8.0 or later",
			}
		case known && !strings.EqualFold(value, w.want): // what a newer server no longer has, it has no choice in
			return &schema.RefusedError{What: fmt.Sprintf("%s is %s: %s", w.name, or(value, "empty"), w.why), Remedy: w.remedy}
		}
	}
	if engine := variables["binlog_storage_engine"]; engine != "" {
		return &schema.RefusedError{
			What:   fmt.Sprintf("binlog_storage_engine is %s: not supported in this version", engine),
			Remedy: "remove binlog_storage_engine from [mysqld], then restart the server",
		}
	}
	return s.replica(ctx, variables)
}

// replica refuses a server that replicates from another one without writing that to its own binlog.
func (s *mysqlSetup) replica(ctx context.Context, variables map[string]string) error {
	logs := or(variables["log_replica_updates"], variables["log_slave_updates"])
	if strings.EqualFold(logs, "ON") || logs == "" {
		return nil
	}
	query := "SELECT COUNT(*) FROM performance_schema.replication_connection_configuration"
	if s.engine == schema.MariaDB {
		query = "SELECT @@GLOBAL.gtid_slave_pos <> ''"
	}
	var replica bool
	if err := s.db.QueryRowContext(ctx, query).Scan(&replica); err != nil {
		s.config.log().Debug("cannot tell whether the server is a replica", "error", err)
		return nil
	}
	if !replica {
		return nil
	}
	return &schema.RefusedError{
		What:   "the server is a replica with log_slave_updates OFF: what it replicates does not reach its binlog",
		Remedy: "add log_slave_updates=ON (MySQL: log_replica_updates=ON) to [mysqld], then restart the server",
	}
}

func (s *mysqlSetup) variables(ctx context.Context) (map[string]string, error) {
	all, err := s.table(ctx, `SHOW GLOBAL VARIABLES WHERE Variable_name LIKE '%log%' OR Variable_name LIKE 'gtid%'
		OR Variable_name IN ('version', 'innodb_flush_log_at_trx_commit')`)
	if err != nil {
		return nil, s.config.refused("read the server's settings", err)
	}
	variables := map[string]string{}
	for _, v := range all {
		variables[strings.ToLower(v[0])] = v[1]
	}
	return variables, nil
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// mayReplicate reports whether the user may read the binlog, and the user's name for a GRANT. A privilege that comes by a
// role counts as there: only the attempt can tell.
func (s *mysqlSetup) mayReplicate(ctx context.Context) (may bool, user string, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM information_schema.USER_PRIVILEGES
			WHERE PRIVILEGE_TYPE = 'REPLICATION SLAVE' AND GRANTEE = account.quoted), account.quoted
		FROM (SELECT CONCAT("'", REPLACE(CURRENT_USER(), '@', "'@'"), "'") quoted) account`).Scan(&may, &user)
	if err != nil {
		return false, "", s.config.refused("read the user's privileges", err)
	}
	if may {
		return true, user, nil
	}
	var role string
	if err := s.db.QueryRowContext(ctx, "SELECT COALESCE(CURRENT_ROLE(), 'NONE')").Scan(&role); err == nil && role != "NONE" {
		return true, user, nil
	}
	return false, user, nil
}

func replicationGrant(user string) string {
	return "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO " + user
}

// unread explains why we do not get the binlog. The same password is good for statements, so an access that is denied here
// wants a privilege, although the server's words are those of a wrong password.
func (s *mysqlSetup) unread(ctx context.Context, err error) error {
	number, words := mysqlErrorNumber(err)
	if number != mysql.ER_ACCESS_DENIED_ERROR && number != mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR {
		return s.config.refused("read the binlog", err)
	}
	_, user, err := s.mayReplicate(ctx)
	if err != nil {
		return err
	}
	return &schema.RefusedError{What: "the user may not read the binlog", Cause: words, Remedy: replicationGrant(user)}
}
