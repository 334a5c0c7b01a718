package capture

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/go-mysql-org/go-mysql/replication"

	"cdc-sidecar/schema"
)

// aTableMap is the body of a table map with the optional parts of FULL metadata, and table number 2.
func aTableMap(types, meta string, optional ...string) []byte {
	b := []byte("\x02\x00\x00\x00\x00\x00\x01\x00\x01d\x00\x01u\x00")
	b = append(append(append(b, byte(len(types))), types...), byte(len(meta)))
	b = append(append(b, meta...), make([]byte, (len(types)+7)/8)...)
	for i := 0; i < len(optional); i += 2 {
		b = append(append(append(b, optional[i]...), byte(len(optional[i+1]))), optional[i+1]...)
	}
	return b
}

const (
	metaSignedness, metaCharset, metaNames, metaSetLabels, metaEnumLabels, metaKey, metaEnumCharset = "\x01", "\x02", "\x04", "\x05", "\x06", "\x08", "\x0a"
)

// FuzzMySQLTable: whatever a table map says, the rows behind it are read whole, or it is an error that stops the office.
func FuzzMySQLTable(f *testing.F) {
	write := func(rows string) []byte {
		return append([]byte("\x02\x00\x00\x00\x00\x00\x01\x00\x02\x00"), rows...)
	}
	f.Add(aTableMap("\x03\x0f", "\x50\x00", metaSignedness, "\x80", metaCharset, "\x2d", metaNames, "\x01a\x01b", metaKey, "\x00"), byte(replication.WRITE_ROWS_EVENTv2), write("\x02\x03\x00\x01\x00\x00\x00\x02hi"))
	f.Add(aTableMap("\xf6\x10\xfe", "\x0a\x02\x04\x01\xf7\x01", metaEnumCharset, "\x2d", metaEnumLabels, "\x02\x01x\x01y", metaNames, "\x01a\x01b\x01c", metaKey, "\x00"),
		byte(replication.WRITE_ROWS_EVENTv2), write("\x03\x07\x00\x80\x00\x00\x01\x02\x01\x05\x02"))
	f.Add(aTableMap("\xf6", "\x02\x0a", metaNames, "\x01a", metaKey, "\x00"), byte(replication.WRITE_ROWS_EVENTv2), write("\x01\x01\x00\x80\x00\x00"))
	f.Add(aTableMap("\xfe\x12\x13\x11\xf5", "\xf8\x01\x06\x02\x00\x04", metaEnumCharset, "\x2d", metaSetLabels, "\x02\x01x\x01y", metaNames, "\x01a\x01b\x01c\x01d\x01e", metaKey, "\x09"),
		byte(replication.WRITE_ROWS_EVENTv2), write("\x05\x1f\x00\x03"))
	f.Fuzz(func(t *testing.T, tableMap []byte, kind byte, rows []byte) {
		d := testDecoder(t)
		m, err := readTableMap(tableMap)
		if err != nil {
			return
		}
		var broken *schema.BrokenError
		if err := d.tableMap(m, tableMap); err != nil {
			if !errors.As(err, &broken) {
				t.Errorf("an error that trying again would mend: %v", err)
			}
			return
		}
		if err := d.rowsEvent(replication.EventType(kind), rows); err != nil && !errors.As(err, &broken) {
			t.Errorf("an error that trying again would mend: %v", err)
		}
		checkChanges(t, d, len(tableMap)+len(rows))
	})
}

// readTableMap takes a table map apart as the library does; it makes an error of its own panics, as its reader of the stream does.
func readTableMap(body []byte) (_ *replication.TableMapEvent, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("the library panicked")
		}
	}()
	format := replication.FormatDescriptionEvent{EventTypeHeaderLengths: slices.Repeat([]byte{8}, 40)}
	p := replication.NewBinlogParser()
	event := make([]byte, replication.EventHeaderSize, replication.EventHeaderSize+len(body))
	event[4] = byte(replication.FORMAT_DESCRIPTION_EVENT)
	event = binary.LittleEndian.AppendUint16(event, 4)
	event = append(event, make([]byte, 50+4)...)
	copy(event[replication.EventHeaderSize+2:], "8.0.0-log")
	event = append(append(event, replication.EventHeaderSize), format.EventTypeHeaderLengths...)
	event = append(event, 0, 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(event[9:], uint32(len(event)))
	if _, err := p.Parse(event); err != nil {
		return nil, err
	}
	event = append(make([]byte, replication.EventHeaderSize), body...)
	event[4] = byte(replication.TABLE_MAP_EVENT)
	binary.LittleEndian.PutUint32(event[9:], uint32(len(event)))
	e, err := p.Parse(event)
	if err != nil {
		return nil, err
	}
	m, ok := e.Event.(*replication.TableMapEvent)
	if !ok {
		return nil, errors.New("no table map")
	}
	return m, nil
}

// checkChanges: what came out can be sent, and there is no more of it than came in can say.
func checkChanges(t *testing.T, d *mysqlDecoder, read int) {
	t.Helper()
	if err := d.commit(); err != nil {
		t.Fatal(err)
	}
	for _, tx := range d.take() {
		if tx.Bytes() > 4096*read+4096 {
			t.Errorf("%d bytes of changes from %d of log", tx.Bytes(), read)
		}
		for i := range tx.Changes {
			if err := tx.Changes[i].Validate(); err != nil {
				t.Error(err)
			}
		}
	}
}

// FuzzMySQLJSON: a document is read whole, as JSON, or it is an error.
func FuzzMySQLJSON(f *testing.F) {
	j, err := newMySQLJSON()
	if err != nil {
		f.Fatal(err)
	}
	for _, document := range []string{
		"\x04\x00", "\x04\x01", "\x05\x07\x00", "\x0c\x03abc", "\x0b\x00\x00\x00\x00\x00\x00\xf0\x3f",
		"\x00\x01\x00\x0c\x00\x0b\x00\x01\x00\x05\x07\x00a",        // {"a": 7}
		"\x02\x02\x00\x0a\x00\x05\x01\x00\x05\x02\x00",             // [1, 2]
		"\x02\x01\x00\x0d\x00\x02\x07\x00\x02\x00\x04\x00\x00\x00", // an array in an array
		"\x0f\xf6\x04\x05\x02\x80\x01\x32", "\x0f\x0c\x08\x00\x00\x00\x00\x00\x00\xb2\x99",
	} {
		f.Add([]byte(document))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		r := mysqlBytes{b: append(binary.LittleEndian.AppendUint32(nil, uint32(len(document))), document...)}
		text, err := j.reader(4)(nil, &r)
		if err != nil {
			return
		}
		if len(r.b) > 0 || r.short {
			t.Fatalf("%d bytes are left of %d, short: %t", len(r.b), len(document), r.short)
		}
		if len(text) > 4096*(len(document)+1) {
			t.Fatalf("%d bytes of text from a document of %d", len(text), len(document))
		}
		if utf8.Valid(text) && !json.Valid(text) {
			t.Fatalf("%q", text)
		}
	})
}

// A message of Postgres' log, and rows of MySQL's, with a byte too many or too few are errors.
func TestNothingIsLeftOver(t *testing.T) {
	messages := []message{begin(), orders, insert(1, "1", "x", null), {'U'}, message{'D'}.u32(1).raw('K').row("1", null, null), message{'T'}.u32(1).raw(0).u32(1), commit(500)}
	messages[3] = message{'U'}.u32(1).raw('K').row("1", null, null).raw('N').row("2", "y", untouched)
	for i := range messages {
		for _, change := range []func(m message) message{
			func(m message) message { return append(slices.Clone(m), 0) },
			func(m message) message { return m[:len(m)-1] },
		} {
			d := newDecoder(schema.Head)
			for _, m := range messages[:i] {
				if err := d.decode(m); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.decode(change(messages[i])); !errors.As(err, new(*schema.BrokenError)) {
				t.Errorf("%q: %v", change(messages[i]), err)
			}
		}
	}
	row := aRow(1, "a")
	for _, rows := range []string{row + "\x00", row[:len(row)-1], row + row[:3]} {
		if err := testDecoder(t).rowsEvent(replication.WRITE_ROWS_EVENTv2, rowsBody(1, 1, rows)); !errors.As(err, new(*schema.BrokenError)) {
			t.Errorf("%q: %v", rows, err)
		}
	}
	for _, packed := range []string{row + "\x00", row[:len(row)-1]} { // what unpacks to more or less than it says
		body := append(rowsBody(1, 1, "")[:8], 11, 0xff, 0x07, 0x81, byte(len(row)))
		var b bytes.Buffer
		z := zlib.NewWriter(&b)
		if _, err := z.Write([]byte(packed)); err != nil || z.Close() != nil {
			t.Fatal(err)
		}
		if err := testDecoder(t).rowsEvent(replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1, append(body, b.Bytes()...)); !errors.As(err, new(*schema.BrokenError)) {
			t.Errorf("packed %q: %v", packed, err)
		}
	}
}
