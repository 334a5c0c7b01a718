package capture

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	parsed "github.com/pingcap/tidb/pkg/parser/mysql"

	"cdc-sidecar/schema"
)

// ddlDecoder is testDecoder behind its transaction, with schema changes, two tables that are known, and a catalog that is either
// where the log is or ahead of it.
func ddlDecoder(t testing.TB, exact bool) *mysqlDecoder {
	t.Helper()
	d := testDecoder(t)
	if err := d.commit(); err != nil {
		t.Fatal(err)
	}
	d.take()
	table := func(name string) *schema.Definition {
		return &schema.Definition{
			Table: schema.NewTable(schema.Table{TableName: schema.TableName{Name: name}, Engine: schema.MariaDB, Key: []int{0}, Columns: []schema.Column{
				{Name: "id", Kind: schema.KindInt, Size: 32, Native: "int(11)"}, {Name: "a", Kind: schema.KindInt, Size: 32, Native: "int(11)", Nullable: true},
			}}),
			Details: []schema.ColumnDetail{{ID: 1}, {ID: 2}},
			Indexes: []schema.Index{{Name: "x", Parts: []schema.IndexPart{{Column: "a"}}}},
		}
	}
	known := map[schema.TableName]*schema.Definition{{Schema: "d", Name: "t"}: table("t"), {Schema: "d", Name: "u"}: table("u")}
	d.ddl = &mysqlDefinitions{
		engine: schema.MariaDB, log: slog.New(slog.DiscardHandler), known: known,
		ahead: map[schema.TableName]mysqlSight{}, aside: map[schema.TableName]*schema.Definition{},
		read: func(own schema.TableName) (*schema.Definition, *mysqlPosition, error) {
			at, err := d.position.copy()
			if !exact && err == nil {
				at.domains[0].SequenceNumber += 100
			}
			return known[own], at, err
		},
		noted: func(*mysqlPosition, []mysqlNote) {},
	}
	return d
}

// FuzzMySQLSchemaChange: no statement stops capture or makes it believe in a table that cannot be.
func FuzzMySQLSchemaChange(f *testing.F) {
	files, err := filepath.Glob("../testdata/ddl/mariadb/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if statement, ok := strings.CutSuffix(strings.TrimSpace(line), ";"); ok && !strings.HasPrefix(line, "->") {
				f.Add(statement, false)
				f.Add(statement, true)
			}
		}
	}
	for _, statement := range []string{
		"ALTER TABLE t DROP PRIMARY KEY, DROP COLUMN id, DROP COLUMN a", "ALTER TABLE t CHANGE id a int, CHANGE a id int", "ALTER TABLE t ADD PRIMARY KEY ((a + 1))",
		"ALTER TABLE t ADD FOREIGN KEY (nothing) REFERENCES u (nothing)", "ALTER TABLE t MODIFY a int AFTER a", "RENAME TABLE t TO u, u TO t, t TO v", "RENAME TABLE t TO u, v TO t",
		"ALTER TABLE t RENAME d.t", "CREATE TABLE t LIKE t", "CREATE TABLE `` (a int)", "DROP TABLE t, t, u", "ALTER TABLE t ADD a enum('') DEFAULT ''", "DROP DATABASE d", "ALTER TABLE t COLLATE", "CREATE OR REPLACE INDEX ON t",
		schema.DDLTag("north", "south", schema.Position{Epoch: 1, Seq: 2}, schema.Stamp{Millis: 3}) + "ALTER TABLE t ADD b int",
	} {
		f.Add(statement, false)
	}
	f.Fuzz(func(t *testing.T, statement string, exact bool) {
		d := ddlDecoder(t, exact)
		gtid := d.position.domains[0]
		gtid.SequenceNumber++
		if err := d.begin(mysqlGTID{domain: gtid}, false, d.assembler.commit); err != nil {
			t.Fatal(err)
		}
		var broken *schema.BrokenError
		err := d.query("d", statement)
		if err != nil && !errors.As(err, &broken) {
			t.Errorf("got %v", err)
		}
		for own, known := range d.ddl.known {
			if err := known.Validate(); err != nil {
				t.Errorf("%s: %v", own, err)
			}
		}
		for _, tx := range d.take() {
			for i := range tx.Changes {
				if err := tx.Changes[i].Validate(); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

func TestMySQLSQLMode(t *testing.T) {
	for _, test := range []struct {
		status string
		want   parsed.SQLMode
	}{
		{"", 0},
		{"\x00\x01\x02\x03\x04", 0},
		{"\x00\x00\x00\x00\x00\x01\x04\x00\x00\x00\x00\x00\x00\x00\x06\x03std", parsed.ModeANSIQuotes},
		{"\x01\x06\x00\x30\x00\x00\x00\x00\x00", parsed.ModeANSIQuotes | parsed.ModePipesAsConcat | parsed.ModeNoBackslashEscapes},
		{"\x01\x04", 0},
		{"\x04\x01\x04\x00\x00\x00\x00\x00\x00\x00", 0},
	} {
		if got := mysqlSQLMode([]byte(test.status)); got != test.want {
			t.Errorf("%q: got %d, want %d", test.status, got, test.want)
		}
	}
}
