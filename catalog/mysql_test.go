package catalog

import (
	"database/sql"
	"fmt"
	"slices"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// openMariaDB opens a database of the test's own.
func openMariaDB(t *testing.T) (*sql.DB, string) {
	t.Helper()
	set := servers.ForTest(t, servers.Spec{MariaDB: 1})
	at, err := schema.ParseDSN(servers.NewDatabase(t, set.MariaDB[0]))
	if err != nil {
		t.Fatal(err)
	}
	config := mysql.NewConfig()
	config.Net, config.Addr, config.User, config.Passwd, config.DBName = "tcp", at.Address(), at.User, at.Password, at.Database
	connector, err := mysql.NewConnector(config)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db, at.Database
}

func TestReadMySQL(t *testing.T) {
	db, name := openMariaDB(t)
	statements := inMySQL("n inet6", "n point", "longtext CHECK (json_valid(d))", "json", "CREATE SEQUENCE s", "CREATE VIEW s AS SELECT 1", "CREATE TABLE old (id int PRIMARY KEY) WITH SYSTEM VERSIONING", "CREATE VIEW old AS SELECT 1")
	for _, statement := range []string{
		`CREATE TABLE b (b int, a int unsigned NOT NULL, c varchar(20) CHARACTER SET latin1, d longtext CHECK (json_valid(d)), e enum('a','it''s','b\\s','') NOT NULL,
			f decimal(12,2), g int AS (b + 1) STORED, h datetime(3), i blob, j char(3), k bit(9), l set('x','y'), m double, n inet6,
			PRIMARY KEY (a, b), UNIQUE u1 (c), UNIQUE u2 (c(3), b), UNIQUE u3 (f, a)) ENGINE=InnoDB`,
		"CREATE TABLE a (x int) ENGINE=MyISAM",
		"CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 2",
		"CREATE TRIGGER after_b AFTER INSERT ON b FOR EACH ROW SET @x = 1",
		"CREATE VIEW v AS SELECT 1", "CREATE SEQUENCE s", "CREATE TABLE old (id int PRIMARY KEY) WITH SYSTEM VERSIONING",
		"CREATE DATABASE cdc_sidecar", "CREATE TABLE cdc_sidecar.progress (id int)", "CREATE DATABASE elsewhere", "CREATE TABLE elsewhere.b (id int PRIMARY KEY)",
	} {
		if _, err := db.ExecContext(t.Context(), statements(statement)); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	tables, err := ReadMySQL(t.Context(), db, name)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range tables {
		x := &tables[i]
		got = append(got, fmt.Sprintf("%s of %s: %s, key %v, unique %v, triggers %v, partitioned %t, %d columns", x.TableName, x.Engine, x.StorageEngine, x.Key, x.Unique, x.Triggers, x.Partitioned, len(x.Columns)))
	}
	want := []string{
		"elsewhere.b of mariadb: InnoDB, key [0], unique [], triggers [], partitioned false, 1 columns",
		"a of mariadb: MyISAM, key [], unique [], triggers [], partitioned false, 1 columns",
		"b of mariadb: InnoDB, key [1 0], unique [[2] [5 1]], triggers [after_b], partitioned false, 14 columns",
		"parts of mariadb: InnoDB, key [0], unique [], triggers [], partitioned true, 1 columns",
	}
	golden := inMySQL("of mariadb", "of mysql", "int(11)", "int", "int(10)", "int", "inet6", "point", "longtext", "json")
	for i := range want {
		want[i] = golden(want[i])
	}
	columns := slices.Clone(mysqlColumns)
	for i := range columns {
		columns[i].Native = golden(columns[i].Native)
	}
	if name < "elsewhere" {
		want = append(want[1:], want[0])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	one, err := ReadMySQLTable(t.Context(), db, name, "b", name)
	if err != nil || one == nil {
		t.Fatalf("one table: %v, %v", one, err)
	}
	if diff := cmp.Diff(columns, one.Columns); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	if none, err := ReadMySQLTable(t.Context(), db, name, "no such", name); err != nil || none != nil {
		t.Errorf("no table: %v, %v", none, err)
	}
}

// mysqlColumns are those of table b.
var mysqlColumns = []schema.Column{
	{Name: "b", Kind: schema.KindInt, Size: 32, Native: "int(11)"},
	{Name: "a", Kind: schema.KindInt, Size: 32, Unsigned: true, Native: "int(10) unsigned"},
	{Name: "c", Kind: schema.KindText, Size: 20, Nullable: true, Native: "varchar(20)"},
	{Name: "d", Kind: schema.KindJSON, Nullable: true, Native: "longtext"},
	{Name: "e", Kind: schema.KindEnum, Native: `enum('a','it''s','b\\s','')`, Labels: []string{"a", "it's", `b\s`, ""}},
	{Name: "f", Kind: schema.KindDecimal, Size: 12, Scale: 2, Nullable: true, Native: "decimal(12,2)"},
	{Name: "g", Kind: schema.KindInt, Size: 32, Nullable: true, Native: "int(11)", Generated: true},
	{Name: "h", Kind: schema.KindTimestamp, Scale: 3, Nullable: true, Native: "datetime(3)"},
	{Name: "i", Kind: schema.KindBytes, Size: 65535, Nullable: true, Native: "blob"},
	{Name: "j", Kind: schema.KindText, Size: 3, Fixed: true, Nullable: true, Native: "char(3)"},
	{Name: "k", Kind: schema.KindBit, Size: 9, Fixed: true, Nullable: true, Native: "bit(9)"},
	{Name: "l", Kind: schema.KindSet, Nullable: true, Native: "set('x','y')", Labels: []string{"x", "y"}},
	{Name: "m", Kind: schema.KindFloat, Size: 64, Nullable: true, Native: "double"},
	{Name: "n", Kind: schema.KindNative, Nullable: true, Native: "inet6"},
}
