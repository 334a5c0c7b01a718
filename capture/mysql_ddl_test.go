package capture

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// A file of testdata/ddl/mariadb is SQL, then what it gives:
//
//	create table t (id int primary key);   -- before capture begins
//	-- changes:
//	alter table t add a int;
//	-> define t: add column a int(11) null
//	-> insert t id=1 a=NULL
//
// It is played twice: read along with the statements, and read when all of them are through, when the catalog does not help any
// more. Both have to give the same, unless the file says "# along only": of what the parser does not know, the late reader takes
// the tables as they are then.
type ddlScenario struct {
	sql            string
	tables, change []string
	events         []string
}

func readDDLScenario(t *testing.T, file string) *ddlScenario {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &ddlScenario{}
	into, statement := &s.tables, ""
	for line := range strings.Lines(string(text)) {
		trimmed := strings.TrimSpace(line)
		if event, ok := strings.CutPrefix(trimmed, "-> "); ok {
			s.events = append(s.events, event)
			continue
		}
		s.sql += line
		switch {
		case trimmed == "" || strings.HasPrefix(trimmed, "#"):
		case trimmed == "-- changes:":
			into = &s.change
		default:
			statement += line
			if strings.HasSuffix(trimmed, ";") {
				*into, statement = append(*into, strings.TrimSuffix(strings.TrimSpace(statement), ";")), ""
			}
		}
	}
	return s
}

// ddlEvents writes what a transaction says, a line for each row and each step.
func ddlEvents(tx *schema.Transaction) []string {
	var lines []string
	for i := range tx.Changes {
		c := &tx.Changes[i]
		switch c.Op {
		case schema.Define:
			if c.Definition.Rows {
				lines = append(lines, fmt.Sprintf("rows of %s changed", c.Definition.Name()))
			}
			steps := schema.Diff(c.Definition.Was, c.Definition.Is)
			for j := range steps {
				lines = append(lines, strings.TrimRight(fmt.Sprintf("define %s: %s", c.Definition.Name(), mysqlStepText(&steps[j])), " "))
			}
		case schema.Insert, schema.Update:
			lines = append(lines, fmt.Sprintf("%s %s %s", c.Op, c.Table.TableName, rowText(c.Table, c.After)))
		default:
			lines = append(lines, fmt.Sprintf("%s %s", c.Op, c.Table.TableName))
		}
	}
	return lines
}

func mysqlStepText(s *schema.Step) string {
	text := string(s.Kind)
	switch {
	case s.Kind == schema.CreateTable:
		for i := range s.Is.Columns {
			text += "; " + mysqlColumnText(s.Is, i)
		}
		for _, k := range s.Is.Key {
			text += "; key " + s.Is.Columns[k].Name
		}
		for i := range s.Is.Indexes {
			text += "; " + mysqlIndexText(&s.Is.Indexes[i])
		}
		for i := range s.Is.ForeignKeys {
			text += "; " + mysqlForeignKeyText(&s.Is.ForeignKeys[i])
		}
		for _, c := range s.Is.Checks {
			text += "; check " + c.Name + " " + c.Expression.Text
		}
		if s.Is.Comment != "" {
			text += "; comment " + s.Is.Comment
		}
	case s.Kind == schema.RenameTable:
		text += " from " + s.Was.String()
	case s.Kind == schema.DropColumn:
		text += " " + s.Was.Columns[s.WasColumn].Name
	case s.Kind == schema.RenameColumn:
		text += " " + s.Was.Columns[s.WasColumn].Name + " to " + s.Is.Columns[s.Column].Name
	case s.Column >= 0:
		text += " " + mysqlColumnText(s.Is, s.Column)
	case s.Index != nil:
		text += " " + mysqlIndexText(s.Index)
	case s.ForeignKey != nil:
		text += " " + mysqlForeignKeyText(s.ForeignKey)
	case s.Check != nil:
		text += " " + s.Check.Name + " " + s.Check.Expression.Text
	case s.Kind == schema.ChangeComment:
		text += " " + s.Is.Comment
	case s.Kind == schema.ChangeKey:
		for _, k := range s.Is.Key {
			text += " " + s.Is.Columns[k].Name
		}
	}
	return text
}

func mysqlColumnText(d *schema.Definition, i int) string {
	c, x := &d.Columns[i], &d.Details[i]
	text := c.Name + " " + c.Native
	if c.Kind == schema.KindJSON {
		text = c.Name + " json"
	}
	if c.Nullable {
		text += " null"
	}
	if x.Default != (schema.Expression{}) {
		text += strings.TrimRight(fmt.Sprintf(" default %s %s", x.Default.Kind, x.Default.Text), " ")
	}
	if x.Computed != (schema.Expression{}) {
		text += fmt.Sprintf(" as %s stored %t", x.Computed.Text, x.Stored)
	}
	if x.Serial {
		text += " serial"
	}
	if x.Comment != "" {
		text += " -- " + x.Comment
	}
	return text
}

func mysqlIndexText(x *schema.Index) string {
	text := strings.TrimSpace(map[bool]string{true: "unique "}[x.Unique]+x.Method) + " index " + x.Name + " ("
	for i, p := range x.Parts {
		if i > 0 {
			text += ", "
		}
		text += p.Column + p.Expression.Text
		if p.Prefix > 0 {
			text += fmt.Sprintf("(%d)", p.Prefix)
		}
		if p.Descending {
			text += " desc"
		}
	}
	return strings.TrimSpace(text + ")")
}

func mysqlForeignKeyText(k *schema.ForeignKey) string {
	return strings.TrimRight(fmt.Sprintf("foreign key %s %v of %s %v delete %s update %s", k.Name, k.Columns, k.Parent, k.ParentColumns, k.OnDelete, k.OnUpdate), " ")
}

func TestMySQLSchemaChanges(t *testing.T) {
	onMariaDB(t)
	testMySQLSchemaChanges(t, "mariadb", mariaDBServers.Set(t).MariaDB[0])
}

func TestMySQLSchemaChangesOracle(t *testing.T) { testMySQLSchemaChanges(t, "mysql", oracle(t)) }

// onMariaDB skips where the environment chooses a MySQL.
func onMariaDB(t *testing.T) {
	t.Helper()
	if servers.Oracle() {
		t.Skip("the server is a MySQL")
	}
}

func testMySQLSchemaChanges(t *testing.T, engine string, server servers.Database) {
	files, err := filepath.Glob("../testdata/ddl/" + engine + "/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		s := readDDLScenario(t, file)
		for i, along := range []bool{true, false} {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+map[bool]string{true: "/along", false: "/late"}[along], func(t *testing.T) {
				got := s.run(t, server, along)
				if *update && i == 0 {
					s.events = got
					text := s.sql
					for _, e := range got {
						text += "-> " + e + "\n"
					}
					if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if !along && strings.Contains(s.sql, "# along only") {
					return
				}
				if diff := cmp.Diff(s.events, got); diff != "" {
					t.Errorf("%s (-file +got):\n%s", file, diff)
				}
			})
		}
	}
}

// newDDLOffice captures schema changes, too.
func newDDLOffice(t testing.TB, server servers.Database, ddl ...string) *mysqlOffice {
	t.Helper()
	o := onMySQL(t, server, ddl...)
	o.Definitions = true
	return o
}

func (s *ddlScenario) run(t *testing.T, server servers.Database, along bool) []string {
	t.Helper()
	o := newDDLOffice(t, server, "CREATE TABLE "+scenarioEnd+" (id int AUTO_INCREMENT PRIMARY KEY)")
	o.exec(s.tables...)
	src := o.open()
	var events []string
	for _, statement := range s.change {
		o.exec(statement)
		if along {
			events = append(events, ddlEvents(&schema.Transaction{Changes: readToEnd(t, o, src)})...)
		}
	}
	events = append(events, ddlEvents(&schema.Transaction{Changes: readToEnd(t, o, src)})...)
	sameAsCatalog(t, o, src)
	return events
}

// readToEnd reads to where the server's log ends, and gives all changes.
func readToEnd(t *testing.T, o *mysqlOffice, src *MySQL) []schema.Change {
	t.Helper()
	end, err := (&mysqlSetup{config: o.MySQLConfig, db: src.db, engine: src.decoder.ddl.engine}).place(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []schema.Change
	for at := src.decoder.position; !at.reached(end); {
		readTo(t, src, func(tx *schema.Transaction) bool {
			all = append(all, tx.Changes...)
			if tx.Source != "" {
				if at, err = parseMySQLPosition(src.decoder.ddl.engine, tx.Source); err != nil {
					t.Fatal(err)
				}
			}
			return len(src.decoder.out) == 0 && at.reached(end)
		})
	}
	return all
}

// sameAsCatalog: what capture believes of the tables is what they are.
func sameAsCatalog(t *testing.T, o *mysqlOffice, src *MySQL) {
	t.Helper()
	all, err := catalog.ReadMySQLDefinitions(t.Context(), src.db, o.DSN.Database)
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	line := func(d *schema.Definition) string {
		step := schema.Step{Kind: schema.CreateTable, Is: d}
		return d.String() + " " + mysqlStepText(&step)
	}
	for _, d := range all {
		if d.Schema == "" && len(d.Key) > 0 && !src.decoder.shadow(schema.TableName{Schema: o.DSN.Database, Name: d.Name}) {
			want = append(want, line(d))
		}
	}
	for _, d := range src.decoder.ddl.known {
		if len(d.Key) > 0 {
			got = append(got, line(d))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("known tables (-catalog +capture):\n%s", diff)
	}
}

// confirmAll reads to the end and confirms it.
func confirmAll(t *testing.T, o *mysqlOffice, src *MySQL) []schema.Transaction {
	t.Helper()
	o.exec("INSERT INTO " + scenarioEnd + " VALUES ()")
	var last string
	o.scan("SELECT LAST_INSERT_ID()", &last)
	var all []schema.Transaction
	readTo(t, src, func(tx *schema.Transaction) bool {
		if len(tx.Changes) > 0 && tx.Changes[0].Table.Name == scenarioEnd {
			o.start = tx.Source
			return tx.Changes[0].After[0].Text() == last
		}
		all = append(all, *tx)
		return false
	})
	src.Confirm(o.start)
	return all
}

// TestMySQLDefinitionsRestart: what was read and not confirmed comes again; what was confirmed is known.
func TestMySQLDefinitionsRestart(t *testing.T) {
	onMariaDB(t)
	testMySQLDefinitionsRestart(t, mariaDBServers.Set(t).MariaDB[0])
}

func TestMySQLDefinitionsRestartOracle(t *testing.T) { testMySQLDefinitionsRestart(t, oracle(t)) }

func testMySQLDefinitionsRestart(t *testing.T, server servers.Database) {
	o := newDDLOffice(t, server, "CREATE TABLE "+scenarioEnd+" (id int AUTO_INCREMENT PRIMARY KEY)", "CREATE TABLE t (id int PRIMARY KEY, a int)", "CREATE TABLE gone (id int PRIMARY KEY)")
	src := o.open()
	o.exec("ALTER TABLE t ADD b int", "DROP TABLE gone", "CREATE TABLE made (id int PRIMARY KEY)")
	want := []string{"define t: add column b int(11) null", "define gone: drop table", "define made: create table; id int(11); key id"}
	if src.decoder.ddl.engine == schema.MySQL {
		for i := range want {
			want[i] = strings.ReplaceAll(want[i], "int(11)", "int")
		}
	}
	o.exec("INSERT INTO " + scenarioEnd + " VALUES ()")
	first := readUntil(t, src)
	if diff := cmp.Diff(want, allEvents(first)); diff != "" {
		t.Fatalf("first (-want +got):\n%s", diff)
	}
	if err := src.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Meanwhile more happens, so that the catalog is ahead of all that is not confirmed.
	o.exec("ALTER TABLE t ADD c int", "ALTER TABLE made ADD d int")
	src = o.open()
	again := confirmAll(t, o, src)
	want = append(want, "define t: add column c int", "define made: add column d int")
	got := allEvents(again)
	for i := range got {
		if i >= 3 {
			got[i] = strings.TrimSuffix(strings.TrimSuffix(got[i], " null"), "(11)")
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("again (-want +got):\n%s", diff)
	}
	awaitKept(t, o, map[string]int{"t": 4, "made": 2, scenarioEnd: 1})
	if err := src.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	src = o.open()
	if rest := allEvents(confirmAll(t, o, src)); len(rest) > 0 {
		t.Errorf("confirmed, and came again: %q", rest)
	}
	sameAsCatalog(t, o, src)
}

// A column that is new after a restart is none of those before: their numbers are kept, and a second may have had many.
func TestMySQLColumnsAfterRestart(t *testing.T) {
	onMariaDB(t)
	o := newDDLOffice(t, mariaDBServers.Set(t).MariaDB[0], "CREATE TABLE "+scenarioEnd+" (id int AUTO_INCREMENT PRIMARY KEY)", "CREATE TABLE t (id int PRIMARY KEY)")
	src := o.open()
	many := "ALTER TABLE t ADD c0 int"
	for i := range 300 {
		many += fmt.Sprintf(", ADD c%d int", i+1)
	}
	o.exec(many)
	confirmAll(t, o, src)
	awaitKept(t, o, map[string]int{"t": 302, scenarioEnd: 1})
	if err := src.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	src = o.open()
	o.exec("ALTER TABLE t DROP c0, ADD last int")
	if diff := cmp.Diff([]string{"define t: add column last int(11) null", "define t: drop column c0"}, allEvents(confirmAll(t, o, src))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	ids := map[int]string{}
	d := src.decoder.ddl.known[schema.TableName{Schema: o.DSN.Database, Name: "t"}]
	for i := range d.Columns {
		if other, is := ids[d.Details[i].ID]; is {
			t.Errorf("%s and %s are one column", other, d.Columns[i].Name)
		}
		ids[d.Details[i].ID] = d.Columns[i].Name
	}
}

func allEvents(txs []schema.Transaction) []string {
	var events []string
	for i := range txs {
		events = append(events, ddlEvents(&txs[i])...)
	}
	return events
}

// awaitKept waits until cdc_sidecar.definitions has these tables with so many columns.
func awaitKept(t *testing.T, o *mysqlOffice, want map[string]int) {
	t.Helper()
	s, err := o.setup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	deadline := time.Now().Add(stuck)
	for {
		known, _, err := s.keptDefinitions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for own, d := range known {
			got[own.Name] = len(d.Columns)
		}
		diff := cmp.Diff(want, got)
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("kept tables, and their columns (-want +got):\n%s", diff)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestMySQLDefinitionsElsewhere: what the log does not say is found by looking at the catalog, at the start and behind statements
// that were read late.
func TestMySQLDefinitionsElsewhere(t *testing.T) {
	onMariaDB(t)
	o := newDDLOffice(t, mariaDBServers.Set(t).MariaDB[0], "CREATE TABLE "+scenarioEnd+" (id int AUTO_INCREMENT PRIMARY KEY)", "CREATE TABLE t (id int PRIMARY KEY, a int)")
	src := o.open()
	confirmAll(t, o, src)
	if err := src.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.exec("SET sql_log_bin = 0", "ALTER TABLE t ADD unlogged int", "SET sql_log_bin = 1")
	src = o.open()
	want := []string{"define t: add column unlogged int(11) null"}
	o.exec("INSERT INTO t (id) VALUES (1)")
	if diff := cmp.Diff(append([]string{"insert t id=1 a=NULL unlogged=NULL"}, want...), allEvents(confirmAll(t, o, src))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestMySQLDefinitionsOfApplies: what an apply did is not the office's own; the head forwards it as its origin's.
func TestMySQLDefinitionsOfApplies(t *testing.T) {
	for _, role := range []schema.Role{schema.Head, schema.Branch} {
		t.Run(string(role), func(t *testing.T) {
			onMariaDB(t) // MySQL keeps no comment of a DROP TABLE
			o := newDDLOffice(t, mariaDBServers.Set(t).MariaDB[0], "CREATE TABLE "+scenarioEnd+" (id int AUTO_INCREMENT PRIMARY KEY)", "CREATE TABLE t (id int PRIMARY KEY, a int)", "CREATE TABLE d (id int PRIMARY KEY)")
			o.Role = role
			src := o.open()
			tag := schema.DDLTag(o.Office, "south", schema.Position{Epoch: 3, Seq: 9}, schema.Stamp{Millis: 77, Counter: 2})
			another := schema.DDLTag("another", "south", schema.Position{Epoch: 3, Seq: 9}, schema.Stamp{Millis: 77, Counter: 2})
			o.exec(tag+"ALTER TABLE t ADD b int", another+"ALTER TABLE t ADD c int", "DROP TABLE "+tag+"d", "ALTER TABLE t ADD e int")
			o.exec("INSERT INTO " + scenarioEnd + " VALUES ()")
			var got []string
			for _, tx := range loud(readUntil(t, src)) {
				got = append(got, fmt.Sprintf("%t %s %s %v %v", tx.Origin == o.Office, tx.Origin, tx.OriginPos, tx.Stamp, ddlEvents(&tx)))
			}
			own := fmt.Sprintf("true %s 0/0 {0 0} [define t: add column e int(11) null]", o.Office)
			want := []string{own}
			if role == schema.Head {
				want = []string{"false south 3/9 {77 2} [define t: add column b int(11) null]", "false south 3/9 {77 2} [define d: drop table]", own}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			sameAsCatalog(t, o, src)
		})
	}
}

// TestMySQLDefinitionsOff: without being asked for, no schema change goes out, and nothing is kept.
func TestMySQLDefinitionsOff(t *testing.T) {
	o := newMariaDBOffice(t, "CREATE TABLE "+scenarioEnd+" (id int AUTO_INCREMENT PRIMARY KEY)", "CREATE TABLE t (id int PRIMARY KEY, a int)")
	src := o.open()
	o.exec("ALTER TABLE t ADD b int", "CREATE TABLE u (id int PRIMARY KEY)")
	if got := allEvents(confirmAll(t, o, src)); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	var rows int
	o.scan("SELECT COUNT(*) FROM cdc_sidecar.definitions WHERE office = '"+string(o.Office)+"'", &rows)
	if rows > 0 {
		t.Errorf("%d rows of definitions", rows)
	}
}

// TestMySQLDefinitionIsRows: a definition's Table is what rows are announced with.
func TestMySQLDefinitionIsRows(t *testing.T) {
	onMariaDB(t)
	testMySQLDefinitionIsRows(t, mariaDBServers.Set(t).MariaDB[0], "u uuid, i4 inet4, i6 inet6, ")
}

func TestMySQLDefinitionIsRowsOracle(t *testing.T) { testMySQLDefinitionIsRows(t, oracle(t), "") }

func testMySQLDefinitionIsRows(t *testing.T, server servers.Database, more string) {
	o := newDDLOffice(t, server, "CREATE TABLE "+scenarioEnd+" (id int AUTO_INCREMENT PRIMARY KEY)", "CREATE TABLE t (b int, "+more+`a int unsigned NOT NULL, c varchar(20) CHARACTER SET latin1, d json, e enum('a','it''s','b\\s','') NOT NULL,
		f decimal(12,2), g int AS (b + 1) STORED, v int AS (b + 2) VIRTUAL, h datetime(3), i blob, j char(3), k bit(9), l set('x','y'), m double, n float, o year, p time(2), q timestamp NULL, r date, s tinytext, w longtext, x varbinary(7),
		y tinyint(1), z point, aa int(4) zerofill, bb binary(3), cc mediumint unsigned, PRIMARY KEY (a, b))`)
	src := o.open()
	o.exec("INSERT INTO t (a, b, e) VALUES (1, 1, 'a')", "INSERT INTO "+scenarioEnd+" VALUES ()")
	rows := loud(readUntil(t, src))
	if len(rows) != 1 {
		t.Fatalf("%d transactions", len(rows))
	}
	d, err := catalog.ReadMySQLDefinition(t.Context(), src.db, o.DSN.Database, "t", o.DSN.Database)
	if err != nil || d == nil {
		t.Fatalf("got %v, %v", d, err)
	}
	table := rows[0].Changes[0].Table
	if diff := cmp.Diff(table.Columns, d.Columns); diff != "" || table.Fingerprint() != d.Table.Fingerprint() {
		t.Errorf("(-rows +definition):\n%s", diff)
	}
}
