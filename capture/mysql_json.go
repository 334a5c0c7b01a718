package capture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
)

// mysqlJSON turns MySQL's binary JSON into the text that MySQL itself would write. The library can do that, but opens it
// to no one: its door is a whole binlog event. So each document goes in as a row of a table with this one column.
type mysqlJSON struct {
	parser *replication.BinlogParser
	event  []byte
}

const mysqlJSONTable = 1

func newMySQLJSON() (*mysqlJSON, error) {
	j := &mysqlJSON{parser: replication.NewBinlogParser()}
	j.parser.SetRenderJSONAsMySQLText(true)
	format := binary.LittleEndian.AppendUint16(nil, 4)
	format = append(format, make([]byte, 50+4)...) // version, no checksums; time of creation
	copy(format[2:], "8.0.0-log")
	format = append(format, replication.EventHeaderSize)
	for range 40 {
		format = append(format, 8) // every event has a table number of six bytes
	}
	format = append(format, 0, 0, 0, 0, 0)
	table := binary.LittleEndian.AppendUint64(nil, mysqlJSONTable) // and two bytes of flags
	table = append(table, 1, 'j', 0, 1, 'j', 0, 1, mysql.MYSQL_TYPE_JSON, 1, 4, 1)
	if _, err := j.parse(replication.FORMAT_DESCRIPTION_EVENT, format); err != nil {
		return nil, fmt.Errorf("prepare the reader of JSON: %w", err)
	}
	if _, err := j.parse(replication.TABLE_MAP_EVENT, table); err != nil {
		return nil, fmt.Errorf("prepare the reader of JSON: %w", err)
	}
	j.event = nil // the parser goes on pointing at the table map
	return j, nil
}

func (j *mysqlJSON) parse(kind replication.EventType, body []byte) (replication.Event, error) {
	j.event = append(j.event[:0], make([]byte, replication.EventHeaderSize)...)
	j.event = append(j.event, body...)
	j.event[4] = byte(kind)
	binary.LittleEndian.PutUint32(j.event[9:], uint32(len(j.event)))
	e, err := j.parser.Parse(j.event)
	if err != nil {
		return nil, err
	}
	return e.Event, nil
}

// reader reads documents behind their length, which takes so many bytes.
func (j *mysqlJSON) reader(lengthBytes int) mysqlReader {
	return func(dst []byte, r *mysqlBytes) ([]byte, error) {
		document := r.prefixed(lengthBytes)
		if len(document) == 0 { // what INSERT IGNORE leaves of NULL in a NOT NULL column; the server reads it as null
			return append(dst, "null"...), nil
		}
		if err := checkMySQLJSON(document); err != nil {
			return dst, fmt.Errorf("binary JSON: %w", err)
		}
		row := binary.LittleEndian.AppendUint64(nil, mysqlJSONTable)
		row = append(row, 2, 0, 1, 1, 0) // no extra data, one column, which is there and not NULL
		row = binary.LittleEndian.AppendUint32(row, uint32(len(document)))
		e, err := j.parse(replication.WRITE_ROWS_EVENTv2, append(row, document...))
		if err != nil {
			return dst, fmt.Errorf("binary JSON: %w", err)
		}
		rows, ok := e.(*replication.RowsEvent)
		if !ok || len(rows.Rows) != 1 || len(rows.Rows[0]) != 1 {
			return dst, fmt.Errorf("binary JSON of %d bytes gives no value", len(document))
		}
		text, ok := rows.Rows[0][0].(string)
		if !ok {
			return dst, fmt.Errorf("binary JSON of %d bytes gives no text", len(document))
		}
		return appendSpaced(dst, text), nil
	}
}

// appendSpaced puts a space behind each colon and comma, and writes doubles, as MySQL itself does and the library does not.
func appendSpaced(dst []byte, text string) []byte {
	inString := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		if !inString && (c == '-' || c >= '0' && c <= '9') {
			rest := strings.TrimLeft(text[i:], "+-.0123456789eE")
			dst = appendJSONNumber(dst, text[i:len(text)-len(rest)])
			i = len(text) - len(rest) - 1
			continue
		}
		dst = append(dst, c)
		switch {
		case inString && c == '\\' && i+1 < len(text):
			i++
			dst = append(dst, text[i])
		case c == '"':
			inString = !inString
		case !inString && (c == ':' || c == ','):
			dst = append(dst, ' ')
		}
	}
	return dst
}

// appendJSONNumber writes a double with an exponent where MySQL does. The library gives a large whole one all the digits of its
// binary value, which is another number to whoever keeps numbers as they are written.
func appendJSONNumber(dst []byte, number string) []byte {
	const mostDigits = 15 // in front of the point, and zeros behind it, until MySQL writes an exponent
	exponent := strings.Contains(number, "e")
	if !exponent && (len(number) <= mostDigits || !strings.HasSuffix(number, ".0")) {
		return append(dst, number...)
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || !exponent && strconv.FormatFloat(f, 'f', 1, 64) != number { // a decimal
		return append(dst, number...)
	}
	digits, power, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	n, err := strconv.Atoi(power)
	switch point := n + 1; {
	case err != nil:
		return append(dst, number...)
	case point > mostDigits || point <= -mostDigits:
		return fmt.Appendf(dst, "%se%d", digits, n)
	default:
		start := len(dst)
		if dst = strconv.AppendFloat(dst, f, 'f', -1, 64); !bytes.ContainsRune(dst[start:], '.') {
			dst = append(dst, ".0"...)
		}
		return dst
	}
}
