package capture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// readTo reads until done says so; unlike Run it leaves the source open.
func readTo(t *testing.T, src Source, done func(*schema.Transaction) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), stuck)
	defer cancel()
	for {
		txs, err := src.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i := range txs {
			if done(&txs[i]) {
				return
			}
		}
	}
}

// readUntil reads until a transaction of table scenarioEnd comes; it is not among what is returned.
func readUntil(t *testing.T, src Source) []schema.Transaction {
	t.Helper()
	var all []schema.Transaction
	readTo(t, src, func(tx *schema.Transaction) bool {
		if len(tx.Changes) > 0 && tx.Changes[0].Table.Name == scenarioEnd {
			return true
		}
		all = append(all, *tx)
		return false
	})
	return all
}

// readOne reads the next transaction that is not silent.
func readOne(t *testing.T, src Source) schema.Transaction {
	t.Helper()
	var one schema.Transaction
	readTo(t, src, func(tx *schema.Transaction) bool { one = *tx; return !tx.Silent() })
	return one
}

func (o *mysqlOffice) end() {
	o.t.Helper()
	o.exec("CREATE TABLE "+scenarioEnd+" (id int PRIMARY KEY)", "INSERT INTO "+scenarioEnd+" VALUES (1)")
}

// TestMySQLRestart: from the Source of any transaction, exactly what came behind it comes again.
func TestMySQLRestart(t *testing.T) { testMySQLRestart(t, mariaDBServers.Set(t).MariaDB[0]) }

func TestMySQLRestartOracle(t *testing.T) { testMySQLRestart(t, oracle(t)) }

func testMySQLRestart(t *testing.T, server servers.Database) {
	o := onMySQL(t, server, "CREATE TABLE t (id int PRIMARY KEY, a int)", "CREATE TABLE keyless (a int)")
	src := o.open()
	for i := range 5 {
		o.exec(fmt.Sprintf("BEGIN; INSERT INTO t VALUES (%d, 0); UPDATE t SET a = %[1]d WHERE id = %[1]d; COMMIT", i), "INSERT INTO keyless VALUES (1)", "ALTER TABLE t COMMENT 'x'")
	}
	o.end()
	all := readUntil(t, src)
	if len(loud(all)) != 5 {
		t.Fatalf("%d transactions, want 5", len(loud(all)))
	}
	for i := range all {
		if all[i].Source == "" {
			t.Fatalf("transaction %d has no Source", i)
		}
		again, err := OpenMySQL(t.Context(), o.MySQLConfig, all[i].Source)
		if err != nil {
			t.Fatal(err)
		}
		rest := readUntil(t, again)
		_ = again.Close(t.Context())
		if got, want := describe(rest), describe(all[i+1:]); got != want {
			t.Fatalf("from %s: got\n%s\nwant\n%s", all[i].Source, got, want)
		}
	}
}

// loud leaves the silent ones out.
func loud(txs []schema.Transaction) []schema.Transaction {
	var some []schema.Transaction
	for i := range txs {
		if !txs[i].Silent() {
			some = append(some, txs[i])
		}
	}
	return some
}

func describe(txs []schema.Transaction) string {
	var b strings.Builder
	for i := range txs {
		tx := &txs[i]
		fmt.Fprintf(&b, "%s %s seen %s part %d last %t source %s at %s", tx.Origin, tx.OriginPos, tx.Seen, tx.Part, tx.Last, tx.Source, tx.Commit.Format(time.RFC3339Nano))
		for j := range tx.Changes {
			c := &tx.Changes[j]
			fmt.Fprintf(&b, " | %s %s %s %v %v", c.Op, c.Table, c.KeyString(), c.Before, c.After)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestMySQLParts: a large transaction comes in parts, each small, only the last with a place to restart from; the parts
// before it are there before it ends in the binlog.
func TestMySQLParts(t *testing.T) { testMySQLParts(t, mariaDBServers.Set(t).MariaDB[0]) }

func TestMySQLPartsOracle(t *testing.T) { testMySQLParts(t, oracle(t)) }

func testMySQLParts(t *testing.T, server servers.Database) {
	const rows = 20000
	o := onMySQL(t, server, "CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, a varchar(200))")
	src := o.open()
	two := mysqlNibbles + " a JOIN " + mysqlNibbles + " b"
	o.exec(fmt.Sprintf("INSERT INTO t (a) SELECT repeat('x', 100) FROM %s JOIN %s c JOIN %s d LIMIT %d", two, mysqlNibbles, mysqlNibbles, rows), "DELETE FROM t ORDER BY id")
	o.end()
	changes, part := 0, 0
	for i, tx := range loud(readUntil(t, src)) {
		if tx.Bytes() > partBytes+200 || tx.Last != (tx.Source != "") || tx.Part != part {
			t.Errorf("transaction %d: %d bytes, part %d, last %t, source %q", i, tx.Bytes(), tx.Part, tx.Last, tx.Source)
		}
		for _, c := range tx.Changes {
			if id := c.KeyRow()[0].Text(); id != fmt.Sprint(changes%rows+1) || (c.Op == schema.Insert) != (changes < rows) {
				t.Fatalf("change %d: %s id %s", changes, c.Op, id)
			}
			changes++
		}
		part++
		if tx.Last {
			if changes%rows != 0 || part < 2 {
				t.Errorf("a transaction ends after %d changes, in %d parts", changes, part)
			}
			part = 0
		}
	}
	if changes != 2*rows {
		t.Errorf("%d changes, want %d", changes, 2*rows)
	}
}

// progressSQL is what an apply writes first.
func progressSQL(office, origin string, epoch, seq int) string {
	return fmt.Sprintf(`INSERT INTO cdc_sidecar.progress (office, origin, epoch, seq, stamp_millis, stamp_counter, committed)
		VALUES ('%s', '%s', %d, %d, 17, 4, 1700000000123456) ON DUPLICATE KEY UPDATE epoch = VALUES(epoch), seq = VALUES(seq)`, office, origin, epoch, seq)
}

// mysqlApplies makes a transaction of each kind and returns what capture makes of them.
func mysqlApplies(t *testing.T, role schema.Role) (*mysqlOffice, []schema.Transaction) {
	o := newMariaDBOffice(t, "CREATE TABLE t (id int PRIMARY KEY, a int)")
	o.Role = role
	src := o.open()
	own := string(o.Office)
	o.exec("INSERT INTO t VALUES (1, 0)",
		"BEGIN; "+progressSQL(own, "other", 9, 3)+"; INSERT INTO t VALUES (2, 0); "+progressSQL(own, "other", 9, 4)+"; "+progressSQL(own, "third", 8, 1)+"; UPDATE t SET a = 1 WHERE id = 2; COMMIT",
		"BEGIN; "+progressSQL("of-"+own, "other", 9, 5)+"; INSERT INTO t VALUES (3, 0); COMMIT",
		"BEGIN; "+progressSQL(own, "other", 9, 0)+"; COMMIT",
		"DELETE FROM cdc_sidecar.progress WHERE office = '"+own+"'",
		"INSERT INTO t VALUES (4, 0)")
	o.end()
	return o, readUntil(t, src)
}

// TestMySQLAppliesAtHead: who made a transaction is told by its first row, and the head sends it on.
func TestMySQLAppliesAtHead(t *testing.T) {
	o, txs := mysqlApplies(t, schema.Head)
	got := loud(txs)
	want := []struct {
		origin schema.Office
		pos    schema.Position
		keys   string
		source bool
	}{
		{o.Office, schema.Position{}, "id=1", true},
		{"other", schema.Position{Epoch: 9, Seq: 3}, "id=2", false},
		{"other", schema.Position{Epoch: 9, Seq: 4}, "", false},
		{"third", schema.Position{Epoch: 8, Seq: 1}, "id=2", true},
		{o.Office, schema.Position{}, "id=4", true},
	}
	if len(got) != len(want) {
		t.Fatalf("got\n%s", describe(got))
	}
	for i, w := range want {
		tx := got[i]
		keys := ""
		for j := range tx.Changes {
			keys += tx.Changes[j].KeyString()
		}
		if tx.Origin != w.origin || tx.OriginPos != w.pos || keys != w.keys || (tx.Source != "") != w.source || !tx.Last || tx.Part != 0 {
			t.Errorf("transaction %d: %s", i, describe(got[i:i+1]))
		}
		if forwarded := tx.Origin != o.Office; forwarded && (tx.Stamp != schema.Stamp{Millis: 17, Counter: 4} || !tx.Commit.Equal(time.UnixMicro(1700000000123456))) {
			t.Errorf("transaction %d: stamp %v, commit %v", i, tx.Stamp, tx.Commit)
		}
	}
}

// TestMySQLAppliesAtBranch: a branch sends no apply, and remembers how far it has seen the head.
func TestMySQLAppliesAtBranch(t *testing.T) {
	_, txs := mysqlApplies(t, schema.Branch)
	if got := loud(txs); len(got) != 2 || got[0].Changes[0].KeyString() != "id=1" || got[1].Changes[0].KeyString() != "id=4" {
		t.Errorf("got\n%s", describe(got))
	}
	var seen []schema.Position
	for i := range txs {
		if !txs[i].Seen.IsZero() {
			seen = append(seen, txs[i].Seen)
		}
	}
	if len(seen) != 1 || seen[0] != (schema.Position{Epoch: 8, Seq: 1}) {
		t.Errorf("seen %v", seen)
	}
}

// TestMySQLCompressed: compressed binlogs give the same.
func TestMySQLCompressed(t *testing.T) {
	t.Run("mariadb", func(t *testing.T) {
		onlyMariaDB(t)
		set := servers.ForTest(t, servers.Spec{MariaDB: 1, MariaDBOptions: []string{"--log-bin-compress=ON", "--log-bin-compress-min-len=10"}})
		testCompressed(t, onMySQL(t, set.MariaDB[0]))
	})
	t.Run("mysql", func(t *testing.T) {
		o := onMySQL(t, oracle(t))
		o.exec("SET SESSION binlog_transaction_compression = ON")
		testCompressed(t, o)
	})
}

func testCompressed(t *testing.T, o *mysqlOffice) {
	o.exec("CREATE TABLE t (id int PRIMARY KEY, a text)", "CREATE TABLE u (id int PRIMARY KEY)")
	src := o.open()
	long := strings.Repeat("long ", 1000)
	o.exec("BEGIN; INSERT INTO t VALUES (1, '"+long+"'), (2, 'x'); INSERT INTO u VALUES (7); UPDATE t SET a = '"+long+"' WHERE id = 2; DELETE FROM t WHERE id = 1; COMMIT",
		"TRUNCATE TABLE u")
	o.end()
	var got []string
	for _, tx := range loud(readUntil(t, src)) {
		for _, c := range tx.Changes {
			got = append(got, c.Op.String()+" "+c.Table.Name)
			if c.Op == schema.Update && (c.Before[1].Text() != "x" || c.After[1].Text() != long) {
				t.Errorf("update: %v", c)
			}
		}
	}
	if s := strings.Join(got, ", "); s != "insert t, insert t, insert u, update t, delete t, truncate u" {
		t.Errorf("got %s", s)
	}
}

// TestMySQLPurged: a binlog that was deleted before it was read stops capture, with what to do.
func TestMySQLPurged(t *testing.T) {
	onlyMariaDB(t)
	set := servers.ForTest(t, servers.Spec{MariaDB: 1})
	testPurged(t, onMySQL(t, set.MariaDB[0]), "SHOW MASTER STATUS")
}

func TestMySQLPurgedOracle(t *testing.T) {
	testPurged(t, onMySQL(t, oracle(t)), "SHOW BINARY LOG STATUS")
}

func testPurged(t *testing.T, o *mysqlOffice, statusQuery string) {
	o.exec("CREATE TABLE t (id int PRIMARY KEY)")
	src := o.open()
	o.exec("INSERT INTO t VALUES (1)")
	readOne(t, src)
	src.syncer.Close()
	o.exec("INSERT INTO t VALUES (2)", "FLUSH BINARY LOGS", "INSERT INTO t VALUES (3)", "FLUSH BINARY LOGS")
	setup := mysqlSetup{config: o.MySQLConfig, db: src.db}
	status, err := setup.table(t.Context(), statusQuery)
	if err != nil {
		t.Fatal(err)
	}
	o.purge(&setup, status[0][0])
	_ = src.Close(t.Context())
	again, err := OpenMySQL(t.Context(), o.MySQLConfig, o.start)
	if err == nil {
		_, err = readToError(t, again)
		_ = again.Close(t.Context())
	}
	var lost *schema.LostError
	if !errors.As(err, &lost) || lost.Kind != schema.LostLog || !strings.Contains(lost.What, "purged") {
		t.Errorf("got %v", err)
	}
}

// purge deletes the binlog in front of a file. The server keeps what a reader that has just left might still want, so it
// may take a while.
func (o *mysqlOffice) purge(setup *mysqlSetup, file string) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), stuck)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		o.exec("PURGE BINARY LOGS TO '" + file + "'")
		logs, err := setup.table(ctx, "SHOW BINARY LOGS")
		if err != nil {
			o.t.Fatal(err)
		}
		if logs[0][0] == file {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			o.t.Fatalf("the server keeps %s", logs[0][0])
		}
	}
}

// TestMySQLServerGone: a server that is killed ends Read with an error, and the next session goes on without loss.
func TestMySQLServerGone(t *testing.T) {
	set := servers.ForTest(t, servers.Spec{MariaDB: 1})
	server := set.MariaDB[0]
	o := onMySQL(t, server, "CREATE TABLE t (id int PRIMARY KEY)")
	src := o.open()
	o.exec("INSERT INTO t VALUES (1)")
	o.start = readOne(t, src).Source
	o.exec("INSERT INTO t VALUES (2)")
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := readToError(t, src); errors.As(err, new(*schema.BrokenError)) || errors.As(err, new(*schema.RefusedError)) {
		t.Errorf("not an error that trying again mends: %v", err)
	}
	if err := src.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.conn = connectMySQL(t, o.DSN)
	src = o.open()
	if got := readOne(t, src).Changes[0].KeyString(); got != "id=2" {
		t.Errorf("got %s, want id=2", got)
	}
	var id int
	o.scan("SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'", &id)
	o.exec(fmt.Sprintf("KILL %d", id))
	if _, err := readToError(t, src); err == nil {
		t.Error("no error")
	}
}

// TestMySQLIdentity: which journal belongs to which database.
func TestMySQLIdentity(t *testing.T) {
	set := servers.ForTest(t, servers.Spec{MariaDB: 1})
	o := onMySQL(t, set.MariaDB[0], "CREATE TABLE t (id int PRIMARY KEY)")
	first := o.prepare(1, "")
	o.exec("INSERT INTO t VALUES (1)")
	second := o.prepare(1, "")
	if first == second {
		t.Errorf("a set-up that was not finished is not done again: %s", first)
	}
	if at := o.prepare(1, second); at != second {
		t.Errorf("prepared at %s, want %s", at, second)
	}
	broken := func(name string, epoch uint64, at string, words ...string) {
		t.Helper()
		_, err := o.Prepare(t.Context(), epoch, at)
		if !errors.As(err, new(*schema.LostError)) && !errors.As(err, new(*schema.BrokenError)) {
			t.Fatalf("%s: got %v", name, err)
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: no %q in %v", name, word, err)
			}
		}
	}
	broken("another journal", 2, "", "was lost or belongs to another database")
	broken("a later journal", 2, second, "journal of an earlier life")
	broken("another engine's place", 1, "0/16B3748@7/1", "none of this server's kind")
	another := ",7-7-7"
	if servers.Oracle() {
		another = ",11111111-2222-3333-4444-555555555555:1-7"
	}
	broken("another domain", 1, second+another, "history does not have")
	o.exec(resetBinlog())
	broken("reset", 1, second, "history does not have")
	o.exec("DROP DATABASE cdc_sidecar")
	broken("restored to before the set-up", 1, second, "does not know the journal")
	o.prepare(3, "")
	plan, err := o.Plan(t.Context())
	if err != nil || len(plan) != 0 {
		t.Errorf("set up, and still planned: %v, %v", plan, err)
	}
	if err := o.Teardown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if plan, err = o.Setup(t.Context()); err != nil || len(plan) != len(catalog.OwnMySQLTables) {
		t.Errorf("after teardown: %v, %v", plan, err)
	}
	o.exec(o.TeardownSQL()...)
}

func (o *mysqlOffice) prepare(epoch uint64, at string) string {
	o.t.Helper()
	start, err := o.Prepare(o.t.Context(), epoch, at)
	if err != nil {
		o.t.Fatal(err)
	}
	return start
}

// TestMySQLHold: one sidecar an office, until its connection goes.
func TestMySQLHold(t *testing.T) {
	o := newMariaDBOffice(t)
	release, lost, err := o.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.Hold(t.Context()); !errors.Is(err, schema.ErrHeld) || !strings.Contains(err.Error(), "connection") {
		t.Errorf("a second one: %v", err)
	}
	select {
	case <-lost:
		t.Error("lost while held")
	default:
	}
	release()
	release, lost, err = o.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	var id int
	o.scan("SELECT IS_USED_LOCK('cdc_sidecar_"+string(o.Office)+"')", &id)
	o.exec(fmt.Sprintf("KILL %d", id))
	select {
	case <-lost:
	case <-time.After(stuck):
		t.Error("the lock's connection is gone, and nobody says so")
	}
}

// TestMariaDBTypes: what only MariaDB has, and the binlog does not tell.
func TestMariaDBTypes(t *testing.T) {
	onlyMariaDB(t)
	o := newMariaDBOffice(t, `CREATE TABLE t (id int PRIMARY KEY, u uuid, four inet4, six inet6, j json, g point,
		stored int AS (id + 1) STORED, computed varchar(20) AS (CONCAT('v', id)) VIRTUAL)`)
	src := o.open()
	values := [][5]string{
		{"'00112233-4455-1677-8899-aabbccddeeff'", "00112233-4455-1677-8899-aabbccddeeff", "'1.2.3.0'", "'::1'", `'{"b": 1, "a": [1.50, "ü"]}'`},
		{"'f47ac10b-58cc-4372-a567-0e02b2c3d479'", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "'0.0.0.0'", "'::'", "'null'"},
		{"'01890a5d-ac96-774b-bcce-b302099a8057'", "01890a5d-ac96-774b-bcce-b302099a8057", "'255.255.255.255'", "'::ffff:1.2.3.4'", "'[]'"},
		{"'00000000-0000-0000-0000-000000000000'", "00000000-0000-0000-0000-000000000000", "'1.0.0.0'", "'::1.2.3.4'", "'1'"},
		{"'ffffffff-ffff-ffff-ffff-ffffffffffff'", "ffffffff-ffff-ffff-ffff-ffffffffffff", "'10.0.0.1'", "'2001:db8::'", "'true'"},
		{"'1ef21d2f-1207-6660-8c4f-419efbd44d00'", "1ef21d2f-1207-6660-8c4f-419efbd44d00", "'10.0.0.1'", "'fe80::1:0:0:0'", "'true'"},
		{"'2f1a8d2e-0000-5000-8000-000000000000'", "2f1a8d2e-0000-5000-8000-000000000000", "'10.0.0.1'", "'::ffff:0:0'", "'true'"},
	}
	for i, v := range values {
		o.exec(fmt.Sprintf("INSERT INTO t (id, u, four, six, j, g) VALUES (%d, %s, %s, %s, %s, ST_GeomFromText('POINT(1 2)'))", i, v[0], v[2], v[3], v[4]))
	}
	o.end()
	got := loud(readUntil(t, src))
	if len(got) != len(values) {
		t.Fatalf("%d rows, want %d", len(got), len(values))
	}
	for i, v := range values {
		c := got[i].Changes[0]
		var six, four string
		o.scan(fmt.Sprintf("SELECT six, four FROM t WHERE id = %d", i), &six, &four)
		if c.After[1].Text() != v[1] || c.After[2].Text() != four || c.After[3].Text() != six || c.After[4].Text() != strings.Trim(v[4], "'") {
			t.Errorf("row %d: %v, want %v", i, c.After, v)
		}
		if c.After[6].Text() != fmt.Sprint(i+1) || c.After[7].State() == schema.Present && c.After[7].Text() != fmt.Sprintf("v%d", i) {
			t.Errorf("row %d: generated %v", i, c.After[6:])
		}
	}
	kinds := []schema.Kind{schema.KindInt, schema.KindUUID, schema.KindNative, schema.KindNative, schema.KindJSON, schema.KindNative, schema.KindInt, schema.KindText}
	natives := []string{"int(11)", "uuid", "inet4", "inet6", "longtext", "point", "int(11)", "varchar(20)"}
	for i, column := range got[0].Changes[0].Table.Columns {
		if column.Kind != kinds[i] || column.Native != natives[i] || column.Generated != (i >= 6) {
			t.Errorf("column %+v", column)
		}
	}
}

// TestMySQLDefinitionChanges: rows are read with the definition that they were written with, and marked with what the
// catalog adds as soon as it changes.
func TestMySQLDefinitionChanges(t *testing.T) {
	o := newMariaDBOffice(t, "CREATE TABLE t (id int PRIMARY KEY, a longtext)")
	src := o.open()
	o.exec("INSERT INTO t VALUES (1, '1')", "ALTER TABLE t ADD b int FIRST", "INSERT INTO t VALUES (7, 2, '2')", "ALTER TABLE t DROP b, ADD CHECK (id > 0)", "INSERT INTO t VALUES (3, '3')",
		"ALTER TABLE t MODIFY a longtext CHECK (json_valid(a))", "INSERT INTO t VALUES (4, '4')")
	o.end()
	got := loud(readUntil(t, src))
	if len(got) != 4 {
		t.Fatalf("got\n%s", describe(got))
	}
	for i, tx := range got {
		c := tx.Changes[0]
		if c.KeyString() != fmt.Sprintf("id=%d", i+1) || len(c.Table.Columns) != []int{2, 3, 2, 2}[i] {
			t.Errorf("row %d: %s of %d columns", i, c.KeyString(), len(c.Table.Columns))
		}
	}
	// To MariaDB, that is what JSON is.
	if last := got[3].Changes[0].Table.Columns[1]; (last.Kind == schema.KindJSON) == servers.Oracle() {
		t.Errorf("after the check was added: %+v", last)
	}
}

// TestMySQLDomains: a place in MariaDB's log is one number for each replication domain.
func TestMySQLDomains(t *testing.T) {
	onlyMariaDB(t)
	set := servers.ForTest(t, servers.Spec{MariaDB: 1, MariaDBOptions: []string{"--gtid-strict-mode=OFF"}})
	o := onMySQL(t, set.MariaDB[0], "CREATE TABLE t (id int PRIMARY KEY)")
	src := o.open()
	o.exec("INSERT INTO t VALUES (1)", "SET SESSION gtid_domain_id = 5", "INSERT INTO t VALUES (2)", "SET SESSION gtid_domain_id = 0", "INSERT INTO t VALUES (3)")
	var last schema.Transaction
	readTo(t, src, func(tx *schema.Transaction) bool {
		last = *tx
		return !tx.Silent() && tx.Changes[0].KeyString() == "id=3"
	})
	if strings.Count(last.Source, "-") != 4 {
		t.Errorf("place %s", last.Source)
	}
	o.start = last.Source
	o.exec("INSERT INTO t VALUES (4)")
	src = o.open()
	if got := readOne(t, src).Changes[0].KeyString(); got != "id=4" {
		t.Errorf("from %s: %s", o.start, got)
	}
	o.exec("SET SESSION gtid_seq_no = 1", "INSERT INTO t VALUES (5)")
	_, err := readToError(t, src)
	if !errors.As(err, new(*schema.BrokenError)) || !strings.Contains(err.Error(), "goes back in replication domain 0") {
		t.Errorf("a domain that goes back: %v", err)
	}
}

// TestMySQLAnotherHistory: the numbers reach far enough, but they are another server's transactions.
func TestMySQLAnotherHistory(t *testing.T) {
	set := servers.ForTest(t, servers.Spec{MariaDB: 1})
	o := onMySQL(t, set.MariaDB[0], "CREATE TABLE t (id int PRIMARY KEY)")
	start := o.prepare(1, "")
	o.exec("INSERT INTO t VALUES (1)")
	domain, rest, _ := strings.Cut(start, "-")
	_, number, _ := strings.Cut(rest, "-")
	another := domain + "-999999-" + number
	if servers.Oracle() {
		_, numbers, _ := strings.Cut(start, ":")
		another = "11111111-2222-3333-4444-555555555555:" + numbers
	}
	src, err := OpenMySQL(t.Context(), o.MySQLConfig, another)
	if err == nil { // MySQL's place has the server's name, and is refused at once
		defer func() { _ = src.Close(context.Background()) }()
		_, err = readToError(t, src)
	}
	var lost *schema.LostError
	if !errors.As(err, &lost) || lost.Kind != schema.Restored {
		t.Errorf("got %v", err)
	}
}
