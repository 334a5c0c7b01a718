package capture

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"
	"slices"

	"github.com/go-mysql-org/go-mysql/replication"

	"cdc-sidecar/schema"
)

// mysqlRows reads the row images of an event. Its buffers live on from event to event, so that a row costs no allocation:
// an event costs one string, of which all its values are pieces, and one slab of values.
type mysqlRows struct {
	text   []byte
	values []mysqlSpan
	images int // of each row: 1, or 2 for an update
}

// mysqlSpan is where a value's text ends.
type mysqlSpan struct {
	end  int
	null bool
}

// keepText bounds the buffer that is kept: one huge row shall not hold its memory for ever.
const keepText = 1 << 20

// begin reads what stands before the rows: the operation, and that the images are complete.
func (m *mysqlRows) begin(t *mysqlTable, kind replication.EventType, r *mysqlBytes) (schema.Op, error) {
	op, extra, compressed := rowsKind(kind)
	if op == 0 {
		return 0, brokenMySQL("SET GLOBAL binlog_row_value_options = ''; the office needs to join again",
			"table %s: the binlog has rows in a form that this program does not know (event type %d)", t.table.TableName, byte(kind))
	}
	if extra {
		r.take(int(r.little(2)) - 2)
	}
	columns := int(r.packed())
	m.images = 1
	if op == schema.Update {
		m.images = 2
	}
	if columns != len(t.readers) {
		return 0, brokenMySQL("upgrade cdc-sidecar", "table %s: the binlog describes %d columns and has rows of %d", t.table.TableName, len(t.readers), columns)
	}
	for range m.images {
		if !allSet(r.take((columns+7)/8), columns) {
			return 0, brokenMySQL("SET GLOBAL binlog_row_image = 'FULL', and let no session change it; the office needs to join again",
				"table %s: the binlog has rows without all of their columns (binlog_row_image is not FULL)", t.table.TableName)
		}
	}
	if compressed {
		if err := decompressRows(r); err != nil {
			return 0, &schema.BrokenError{What: fmt.Sprintf("table %s: compressed rows in the binlog cannot be unpacked", t.table.TableName), Cause: err, Remedy: "upgrade cdc-sidecar"}
		}
	}
	return op, nil
}

// decompressRows undoes MariaDB's log_bin_compress: a byte that says how (0 in its upper half is zlib) and how many bytes
// the length takes that follows, then the packed rows.
func decompressRows(r *mysqlBytes) error {
	head := r.little(1)
	length := r.big(int(head & 7))
	if r.short || head>>4&7 != 0 || length > schema.MaxBody {
		return fmt.Errorf("head %#x, length %d", head, length)
	}
	z, err := zlib.NewReader(bytes.NewReader(r.b))
	if err != nil {
		return err
	}
	// One byte more than there should be, so that neither what lacks nor what is left over goes unseen.
	unpacked, err := io.ReadAll(io.LimitReader(z, int64(length)+1))
	if err != nil {
		return err
	}
	if uint64(len(unpacked)) != length {
		return fmt.Errorf("it should give %d bytes", length)
	}
	r.b = unpacked
	return z.Close()
}

// rowsKind tells the events apart; op is 0 for one that is not understood. extra: with a block of more data before the rows.
func rowsKind(kind replication.EventType) (op schema.Op, extra, compressed bool) {
	switch kind {
	case replication.WRITE_ROWS_EVENTv1:
		return schema.Insert, false, false
	case replication.UPDATE_ROWS_EVENTv1:
		return schema.Update, false, false
	case replication.DELETE_ROWS_EVENTv1:
		return schema.Delete, false, false
	case replication.WRITE_ROWS_EVENTv2:
		return schema.Insert, true, false
	case replication.UPDATE_ROWS_EVENTv2:
		return schema.Update, true, false
	case replication.DELETE_ROWS_EVENTv2:
		return schema.Delete, true, false
	case replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1:
		return schema.Insert, false, true
	case replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1:
		return schema.Update, false, true
	case replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1:
		return schema.Delete, false, true
	}
	return 0, false, false
}

func allSet(bitmap []byte, n int) bool {
	if len(bitmap) < (n+7)/8 {
		return false
	}
	for i := range n {
		if bitmap[i/8]>>(i%8)&1 == 0 {
			return false
		}
	}
	return true
}

// read reads all images to the event's end.
func (m *mysqlRows) read(t *mysqlTable, r *mysqlBytes) ([]schema.Row, error) {
	m.text, m.values = m.text[:0], m.values[:0]
	for len(r.b) > 0 || len(m.values)%(m.images*len(t.readers)) != 0 {
		if err := m.image(t, r); err != nil {
			return nil, err
		}
	}
	rows := m.rows(len(t.readers))
	if cap(m.text) > keepText {
		m.text = nil
	}
	return rows, nil
}

// image reads one.
func (m *mysqlRows) image(t *mysqlTable, r *mysqlBytes) error {
	nulls := r.take((len(t.readers) + 7) / 8)
	for i, read := range t.readers {
		if r.short {
			break
		}
		if nulls[i/8]>>(i%8)&1 != 0 {
			m.values = append(m.values, mysqlSpan{end: len(m.text), null: true})
			continue
		}
		var err error
		if m.text, err = read(m.text, r); err != nil {
			return m.valueError(t, i, err)
		}
		m.values = append(m.values, mysqlSpan{end: len(m.text)})
	}
	if r.short {
		return brokenMySQL("upgrade cdc-sidecar", "table %s: a row in the binlog is cut short", t.table.TableName)
	}
	return nil
}

// valueError names the row by what was read of its key.
func (m *mysqlRows) valueError(t *mysqlTable, column int, cause error) error {
	first := len(m.values) - column
	images := m.rows(1)
	row := make(schema.Row, len(t.readers))
	for i := range column {
		row[i] = images[first+i][0]
	}
	key := ""
	if !slices.ContainsFunc(t.table.Key, func(k int) bool { return k >= column }) {
		key = " row " + (&schema.Change{Table: t.table, Before: row}).KeyString()
	}
	return &schema.BrokenError{
		What:   fmt.Sprintf("table %s column %s%s: a value in the binlog cannot be read as %s", t.table.TableName, t.table.Columns[column].Name, key, t.table.Columns[column].Native),
		Cause:  cause,
		Remedy: "mend the row or the column's type and let the office join again, or give the table flow: none",
	}
}

// rows cuts what was read into rows of so many columns.
func (m *mysqlRows) rows(columns int) []schema.Row {
	text := string(m.text)
	values := make([]schema.Value, len(m.values))
	start := 0
	for i, v := range m.values {
		if v.null {
			values[i] = schema.NullValue()
		} else {
			values[i] = schema.Of(text[start:v.end])
		}
		start = v.end
	}
	rows := make([]schema.Row, 0, len(values)/columns)
	for ; len(values) > 0; values = values[columns:] {
		rows = append(rows, values[:columns:columns])
	}
	return rows
}
