package capture

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// testDecoder is a decoder that has no server, in the middle of a transaction that has described table t as number 1.
func testDecoder(t testing.TB) *mysqlDecoder {
	t.Helper()
	json, err := newMySQLJSON()
	if err != nil {
		t.Fatal(err)
	}
	d := &mysqlDecoder{
		assembler:     assembler{office: "here", role: schema.Head},
		send:          func(schema.TableName) bool { return true },
		defaultSchema: "d",
		definitions: mysqlTableReader{engine: schema.MySQL, json: json, charsets: map[uint64]*mysqlCharset{
			45: {name: "utf8mb4", width: 4, decode: appendUTF8}, 63: {name: "binary", width: 1},
		}},
		hint:     func(string, string) (*catalog.Table, error) { return nil, nil },
		position: &mysqlPosition{domains: []mysql.MariadbGTID{{ServerID: 1, SequenceNumber: 7}}},
		schemas:  map[string]bool{"d": true},
		tables:   map[string]*mysqlTable{},
		current:  map[uint64]*mysqlTable{},
	}
	m := &replication.TableMapEvent{
		TableID: 1, Schema: []byte("d"), Table: []byte("t"), ColumnCount: 11,
		ColumnType: []byte{
			mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_NEWDECIMAL, mysql.MYSQL_TYPE_DATETIME2,
			mysql.MYSQL_TYPE_TIMESTAMP2, mysql.MYSQL_TYPE_TIME2, mysql.MYSQL_TYPE_BIT, mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_JSON,
		},
		ColumnMeta:       []uint16{0, 80, 2, 20<<8 | 5, 6, 3, 2, 1<<8 | 4, uint16(mysql.MYSQL_TYPE_ENUM)<<8 | 1, uint16(mysql.MYSQL_TYPE_STRING)<<8 | 16, 4},
		NullBitmap:       []byte{0xfe, 0x07},
		SignednessBitmap: []byte{0}, DefaultCharset: []uint64{45, 1, 63, 2, 63}, EnumSetDefaultCharset: []uint64{45},
		EnumStrValue: [][][]byte{{[]byte("a"), []byte("b")}}, PrimaryKey: []uint64{0},
		ColumnName: [][]byte{[]byte("id"), []byte("text"), []byte("blob"), []byte("price"), []byte("at"), []byte("instant"), []byte("time"), []byte("bits"), []byte("label"), []byte("fixed"), []byte("document")},
	}
	if err := d.begin(mysqlGTID{domain: mysql.MariadbGTID{ServerID: 1, SequenceNumber: 8}}, true, d.assembler.commit); err != nil {
		t.Fatal(err)
	}
	if err := d.tableMap(m, []byte("\x01\x00\x00\x00\x00\x00\x00\x00t")); err != nil {
		t.Fatal(err)
	}
	return d
}

// rowsBody is the body of an event with rows of table 1; rows begin with their null bitmap.
func rowsBody(number uint64, images int, rows string) []byte {
	b := binary.LittleEndian.AppendUint64(nil, number)
	binary.LittleEndian.PutUint16(b[6:], 1) // the statement ends
	b = append(b, 2, 0, 11)
	for range images {
		b = append(b, 0xff, 0x07)
	}
	return append(b, rows...)
}

// aRow is one with id and text, all else NULL.
func aRow(id byte, text string) string {
	return "\xfc\x07" + string([]byte{id, 0, 0, 0, byte(len(text))}) + text
}

func TestMySQLDecodeRows(t *testing.T) {
	d := testDecoder(t)
	if err := d.rowsEvent(replication.UPDATE_ROWS_EVENTv2, rowsBody(1, 2, aRow(1, "a")+aRow(2, "é"))); err != nil {
		t.Fatal(err)
	}
	if err := d.rowsEvent(replication.DELETE_ROWS_EVENTv2, rowsBody(1, 1, aRow(3, "")+aRow(4, "x"))); err != nil {
		t.Fatal(err)
	}
	if err := d.rowsEvent(replication.WRITE_ROWS_EVENTv2, rowsBody(0xffffff, 1, "")); err != nil {
		t.Errorf("an event that only ends a statement: %v", err)
	}
	if err := d.commit(); err != nil {
		t.Fatal(err)
	}
	txs := d.take()
	if len(txs) != 1 || len(txs[0].Changes) != 3 || txs[0].Source != "0-1-8" || !txs[0].Last {
		t.Fatalf("got %+v", txs)
	}
	c := txs[0].Changes
	if c[0].Before[1].Text() != "a" || c[0].After[1].Text() != "é" || c[0].KeyString() != "id=1" || !c[0].After[2].IsNull() || c[2].KeyString() != "id=4" || c[2].After != nil {
		t.Errorf("got %v", c)
	}
	for i := range c {
		if err := c[i].Validate(); err != nil {
			t.Error(err)
		}
	}
}

// TestMySQLDecodeStops: what the binlog should not have is an error that names it, and nothing goes out.
func TestMySQLDecodeStops(t *testing.T) {
	generic := func(kind replication.EventType, flags uint16) func(*mysqlDecoder) error {
		return func(d *mysqlDecoder) error {
			return d.event(&replication.BinlogEvent{Header: &replication.EventHeader{EventType: kind, Flags: flags}, Event: &replication.GenericEvent{}})
		}
	}
	rows := func(kind replication.EventType, body []byte) func(*mysqlDecoder) error {
		return func(d *mysqlDecoder) error { return d.rowsEvent(kind, body) }
	}
	write := replication.WRITE_ROWS_EVENTv2
	partial := rowsBody(1, 1, aRow(1, "a"))
	partial[11] = 0xfd
	tests := []struct {
		name string
		do   func(*mysqlDecoder) error
		want string // "": no error
	}{
		{"not UTF-8", rows(write, rowsBody(1, 1, aRow(5, "a\xff"))), "table t column text row id=5: a value in the binlog cannot be read as varchar(20): the bytes are not valid"},
		{"no such label", rows(write, rowsBody(1, 1, "\xfe\x06\x05\x00\x00\x00\x03")), "column label row id=5"},
		{"cut short", rows(write, rowsBody(1, 1, "\xfc\x07\x05\x00")), "table t: a row in the binlog is cut short"},
		{"partial rows", rows(write, partial), "binlog_row_image"},
		{"partial JSON", rows(replication.PARTIAL_UPDATE_ROWS_EVENT, rowsBody(1, 2, "")), "binlog_row_value_options"},
		{"rows of before 5.1", rows(replication.WRITE_ROWS_EVENTv0, rowsBody(1, 1, "")), "event type 20"},
		{"another number of columns", rows(write, append(rowsBody(1, 0, "")[:10], 3, 7)), "describes 11 columns and has rows of 3"},
		{"unknown table", rows(write, rowsBody(2, 1, "")), "did not describe (number 2"},
		{"half a row event", rows(write, []byte{1, 0, 0}), "did not describe"},
		{"incident", generic(replication.INCIDENT_EVENT, 0), "INCIDENT"},
		{"fragments of rows", generic(172, 0), "type 172"},
		{"unknown, but harmless", generic(99, replication.LOG_EVENT_IGNORABLE_F), ""},
		{"stop", generic(replication.STOP_EVENT, 0), ""},
		{"no identifier", func(d *mysqlDecoder) error {
			return d.mysqlGTID(&replication.EventHeader{EventType: replication.ANONYMOUS_GTID_EVENT}, &replication.GTIDEvent{})
		}, "gtid_mode"},
		{"begin in a transaction", func(d *mysqlDecoder) error { return d.begin(mysqlGTID{}, true, d.assembler.commit) }, "inside of 0-1-8"},
		{"end of no transaction", func(d *mysqlDecoder) error { return errors.Join(d.commit(), d.commit()) }, "did not begin"},
		{"load data", func(d *mysqlDecoder) error {
			return d.loadData([]byte("12345678\x01\x00\x00\x00\x001234567890123d\x00LOAD DATA INFILE 'x' INTO TABLE t"))
		}, "LOAD DATA INFILE"},
		{"rollback of rows", func(d *mysqlDecoder) error {
			return errors.Join(d.rowsEvent(write, rowsBody(1, 1, aRow(1, "a"))), d.query("d", "ROLLBACK"))
		}, "rolled back in part"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := testDecoder(t)
			err := test.do(d)
			var broken *schema.BrokenError
			switch {
			case test.want == "" && err != nil:
				t.Errorf("got %v", err)
			case test.want != "" && (!errors.As(err, &broken) || broken.Remedy == "" || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want a BrokenError with %q", err, test.want)
			}
			for _, tx := range d.take() {
				if !tx.Silent() {
					t.Errorf("given out: %+v", tx)
				}
			}
		})
	}
}

// TestMySQLCrashedBinlog: a transaction that a crash of the server cut off did not happen.
func TestMySQLCrashedBinlog(t *testing.T) {
	d := testDecoder(t)
	if err := d.rowsEvent(replication.WRITE_ROWS_EVENTv2, rowsBody(1, 1, aRow(1, "a"))); err != nil {
		t.Fatal(err)
	}
	next := &replication.BinlogEvent{Header: &replication.EventHeader{EventType: replication.FORMAT_DESCRIPTION_EVENT, LogPos: 120}, Event: &replication.FormatDescriptionEvent{}}
	if err := errors.Join(d.event(next), d.begin(mysqlGTID{domain: mysql.MariadbGTID{ServerID: 1, SequenceNumber: 8}}, true, d.assembler.commit), d.commit()); err != nil {
		t.Fatal(err)
	}
	if txs := d.take(); len(txs) != 1 || !txs[0].Silent() || txs[0].Source != "0-1-8" {
		t.Errorf("got %+v", txs)
	}
}

func TestMySQLStatement(t *testing.T) {
	captured := func(s string) bool { return s == "shop" }
	tests := []struct {
		schema, query string
		rows, touches bool
		truncated     string
	}{
		{"shop", "INSERT INTO t VALUES (1)", true, true, ""},
		{"other", "INSERT INTO t SELECT * FROM shop.t", true, false, ""},
		{"other", "insert ignore into `shop`.`t` values (1)", true, true, ""},
		{"shop", "REPLACE INTO mysql.rds_heartbeat2 VALUES ('shop', 1)", true, false, ""},
		{"other", "UPDATE a JOIN shop.b USING (id) SET a.x = 1", true, true, ""},
		{"other", "UPDATE a SET x = 'shop'", true, false, ""},
		{"other", "UPDATE a SET x = 'it''s \\' shop.t'", true, false, ""},
		{"other", "DELETE FROM shop . t", true, true, ""},
		{"other", "/* shop */ DELETE FROM t -- shop\n# shop", true, false, ""},
		{"other", "/*!50100 DELETE */ FROM shop.t", true, true, ""},
		{"other", "WITH c AS (SELECT 1) DELETE FROM \"shop\".t", true, true, ""},
		{"shop", "SELECT `f`()", true, true, ""},
		{"shop", "CREATE TABLE t (id int)", false, true, ""},
		{"shop", "CREATE OR REPLACE TEMPORARY TABLE t AS SELECT 1", true, true, ""},
		{"shop", "CREATE VIEW w AS SELECT 1", false, true, ""},
		{"shop", "DROP TABLE IF EXISTS `t` /* generated by server */", false, true, ""},
		{"shop", "TRUNCATE TABLE t", false, true, "shop.t"},
		{"other", "truncate `shop`.`my``t`", false, true, "shop.my`t"},
		{"other", "TRUNCATE table", false, false, "other.table"},
		{"shop", "", false, true, ""},
		{"shop", "'unclosed", false, true, ""},
		{"shop", "/*", false, true, ""},
	}
	for _, test := range tests {
		s := parseMySQLStatement(test.query)
		name, _ := s.truncated(test.schema)
		truncated := ""
		if name.Name != "" {
			truncated = name.String()
		}
		if s.writesRows() != test.rows || s.mayTouch(test.schema, captured) != test.touches || truncated != test.truncated {
			t.Errorf("%s: writes rows %t, touches %t, truncates %q", test.query, s.writesRows(), s.mayTouch(test.schema, captured), truncated)
		}
	}
}

func FuzzMySQLRows(f *testing.F) {
	f.Add(byte(replication.WRITE_ROWS_EVENTv2), rowsBody(1, 1, aRow(1, "a")))
	f.Add(byte(replication.UPDATE_ROWS_EVENTv2), rowsBody(1, 2, aRow(1, "a")+aRow(2, "b")))
	f.Add(byte(replication.DELETE_ROWS_EVENTv1), []byte("\x01\x00\x00\x00\x00\x00\x01\x00\x0b\xff\x07"+aRow(1, "")))
	f.Add(byte(replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1), []byte("\x01\x00\x00\x00\x00\x00\x01\x00\x0b\xff\x07\x81\x10x"))
	f.Add(byte(replication.WRITE_ROWS_EVENTv2), rowsBody(1, 1, "\x00\x00\x05\x00\x00\x00\x01a\x01\x00\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x99\xb2\x42\x10\x83\x01\x02\x03\x65\x92\x00\x00\x03\xe7\x80\x10\x83\x05\x0a\xbc\x02\x03abc\x05\x00\x00\x00\x0c\x03one"))
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		d := testDecoder(t)
		err := d.rowsEvent(replication.EventType(kind), body)
		var broken *schema.BrokenError
		if err != nil && !errors.As(err, &broken) {
			t.Errorf("an error that trying again would mend: %v", err)
		}
		if err := d.commit(); err != nil {
			t.Fatal(err)
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

func FuzzMySQLStatement(f *testing.F) {
	for _, s := range []string{"INSERT INTO t VALUES ('a')", "XA START 'x'", "XA", "XA COMMIT", "/*!", "ROLLBACK TO a", "TRUNCATE a . b", "`", "COMMIT", "BEGIN", "\"\\"} {
		f.Add("d", s)
	}
	f.Fuzz(func(t *testing.T, ownSchema, query string) {
		d := testDecoder(t)
		var broken *schema.BrokenError
		if err := d.query(ownSchema, query); err != nil && !errors.As(err, &broken) {
			t.Errorf("got %v", err)
		}
		if err := d.loadData([]byte(query)); err != nil && !errors.As(err, &broken) {
			t.Errorf("got %v", err)
		}
	})
}
