package apply

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"cdc-sidecar/schema"
)

// fewest is how many rows are worth a statement for many; below it, single ones cost the server no more. Those that look
// rows up are planned anew each time (see replan), for as long as ten rows take.
func fewest(f *form) int {
	if f.op == schema.Insert {
		return 4
	}
	return 16
}

const (
	// manyRows and manyBytes bound one statement: beyond there is nothing left to gain.
	manyRows  = 2000
	manyBytes = 1 << 20
)

// many is a form for many rows at once: one array of values for each column. Only the server's memory and time are saved by
// it, never a check: each value becomes of its column's type as the single statement's would.
type many struct {
	form   form // its sql, its name, and how the arrays are sent; no sql: rows of this form are written one by one
	arrays []array
}

// array is how one column's values are sent.
type array struct {
	oid    uint32 // of the elements
	append func(b []byte, text string) ([]byte, bool)
}

// binaryArrays are the types whose values are short and soon made. Values of all others go as text.
var binaryArrays = map[uint32]struct {
	name string
	array
}{
	pgtype.BoolOID:        {"bool", array{pgtype.BoolOID, appendBool}},
	pgtype.Int2OID:        {"int2", array{pgtype.Int2OID, appendInt2}},
	pgtype.Int4OID:        {"int4", array{pgtype.Int4OID, appendInt4}},
	pgtype.Int8OID:        {"int8", array{pgtype.Int8OID, appendInt8}},
	pgtype.Float4OID:      {"float4", array{pgtype.Float4OID, appendFloat4}},
	pgtype.Float8OID:      {"float8", array{pgtype.Float8OID, appendFloat8}},
	pgtype.TextOID:        {"text", array{pgtype.TextOID, appendBytes}},
	pgtype.ByteaOID:       {"bytea", array{pgtype.ByteaOID, appendBytes}},
	pgtype.DateOID:        {"date", array{pgtype.DateOID, appendDate}},
	pgtype.TimestampOID:   {"timestamp", array{pgtype.TimestampOID, appendTimestamp}},
	pgtype.TimestamptzOID: {"timestamptz", array{pgtype.TimestamptzOID, appendTimestamp}},
	pgtype.UUIDOID:        {"uuid", array{pgtype.UUIDOID, appendUUID}},
}

// newMany makes the form for many rows out of the one for a single row.
func newMany(p *plan, f *form) *many {
	m := &many{}
	t := p.target
	if len(t.Types) != len(t.Columns) || f.plain != nil || f.op != schema.Insert && t.Inherited { // of heirs, a key may mean two rows
		return m
	}
	values, arrays, names := make([]string, len(f.columns)), make([]string, len(f.columns)), make([]string, len(f.columns))
	for i := range f.columns {
		kind := t.Types[t.Column(f.columns[i].Name)]
		names[i] = "v" + strconv.Itoa(i)
		values[i] = "v." + names[i]
		b, ok := binaryArrays[kind.OID]
		if !ok {
			if kind.Cast == "" {
				return m
			}
			b = binaryArrays[pgtype.TextOID]
			values[i] += "::" + kind.Cast
		}
		m.arrays = append(m.arrays, b.array)
		arrays[i] = "pg_catalog.unnest($" + strconv.Itoa(i+1) + "::pg_catalog." + b.name + "[])"
	}
	from := "ROWS FROM (" + strings.Join(arrays, ", ") + ") AS v (" + strings.Join(names, ", ") + ")"
	m.form = form{op: f.op, sql: p.manySQL(f, values, from), formats: slices.Repeat([]int16{binaryFormat}, len(f.columns))}
	return m
}

func (p *plan) manySQL(f *form, values []string, from string) string {
	set := values[:max(len(values)-len(p.source.Key), 0)]
	if f.op == schema.Insert { // without ON CONFLICT, which takes twice the time: a row that is here is a failure, and all is done again
		return strings.TrimSuffix(f.prefix, "VALUES ") + "SELECT " + strings.Join(values, ", ") + " FROM " + from
	}
	var b strings.Builder
	if f.op == schema.Delete {
		b.WriteString("DELETE FROM " + p.name() + " AS t USING " + from)
	} else {
		b.WriteString("UPDATE " + p.name() + " AS t")
		separator := " SET "
		for i := range set {
			b.WriteString(separator + quote(schema.Postgres, f.columns[i].Name) + " = " + values[i])
			separator = ", "
		}
		b.WriteString(" FROM " + from)
	}
	separator := " WHERE "
	for i := len(set); i < len(values); i++ {
		b.WriteString(separator + "t." + quote(schema.Postgres, f.columns[i].Name) + " = " + values[i])
		separator = " AND "
	}
	return b.String()
}

// joined is how many steps, from the first on, go into one statement.
func joined(steps []step) int {
	n, bytes := 1, 0
	for n < len(steps) && n < manyRows && steps[n].joins && bytes < manyBytes {
		for _, v := range steps[n].args {
			bytes += len(v.Text())
		}
		n++
	}
	return n
}

// sendMany sends one statement for all steps, and reports false where they have to be sent one by one.
func (s *postgresSession) sendMany(p *pgconn.Pipeline, first int, steps []step) bool {
	f := steps[0].form
	if f.many == nil {
		f.many = newMany(steps[0].plan, f)
	}
	if f.many.form.sql == "" || !s.encode(f.many.arrays, steps) {
		return false
	}
	s.replan(p, f.op != schema.Insert)
	s.sent = append(s.sent, statement{first: first, steps: len(steps), form: &f.many.form, fresh: s.prepare(p, &f.many.form)})
	p.SendQueryPrepared(f.many.form.name, s.params, f.many.form.formats, nil)
	return true
}

// replan says whether statements are planned anew each time from here on. Those that look many rows up have to be: planned while
// the table had one row, they would go through the whole of it for each value when it has grown. The server forgets the
// setting with the transaction when that is undone, and otherwise no pipeline ends before it is taken back.
func (s *postgresSession) replan(p *pgconn.Pipeline, anew bool) {
	if anew == s.replans {
		return
	}
	mode := "auto"
	if s.replans = anew; anew {
		mode = "force_custom_plan"
	}
	p.SendQueryParams("SET plan_cache_mode = "+mode, nil, nil, nil, nil)
	s.sent = append(s.sent, statement{})
}

// encode makes the arrays, as Postgres' binary format has them, in the session's scratch. It reports false when one of the
// values is unusual (a date before Christ): the server itself shall read it.
func (s *postgresSession) encode(arrays []array, steps []step) bool {
	const oneDimension, mayHaveNulls, lowest, null = 1, 1, 1, 0xffffffff
	b := s.scratch[:0]
	ends := s.ends[:0]
	for i := range arrays {
		for _, n := range [...]uint32{oneDimension, mayHaveNulls, arrays[i].oid, uint32(len(steps)), lowest} {
			b = binary.BigEndian.AppendUint32(b, n)
		}
		for j := range steps {
			v := steps[j].args[i]
			if v.IsNull() {
				b = binary.BigEndian.AppendUint32(b, null)
				continue
			}
			from := len(b)
			b = append(b, 0, 0, 0, 0)
			var ok bool
			if b, ok = arrays[i].append(b, v.Text()); !ok {
				s.scratch = b
				return false
			}
			binary.BigEndian.PutUint32(b[from:], uint32(len(b)-from-4))
		}
		ends = append(ends, len(b))
	}
	s.scratch, s.ends, s.params = b, ends, s.params[:0]
	from := 0
	for _, to := range ends {
		s.params = append(s.params, b[from:to])
		from = to
	}
	return true
}

// The values. Each of these writes exactly what the server would make of the text, or reports false.

func appendBytes(b []byte, text string) ([]byte, bool) { return append(b, text...), true }

func appendBool(b []byte, text string) ([]byte, bool) {
	switch text {
	case "1":
		return append(b, 1), true
	case "0":
		return append(b, 0), true
	}
	return b, false
}

func appendInt2(b []byte, text string) ([]byte, bool) {
	n, err := strconv.ParseInt(text, 10, 16)
	return binary.BigEndian.AppendUint16(b, uint16(n)), err == nil
}

func appendInt4(b []byte, text string) ([]byte, bool) {
	n, err := strconv.ParseInt(text, 10, 32)
	return binary.BigEndian.AppendUint32(b, uint32(n)), err == nil
}

func appendInt8(b []byte, text string) ([]byte, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return binary.BigEndian.AppendUint64(b, uint64(n)), err == nil
}

func appendFloat4(b []byte, text string) ([]byte, bool) {
	f, ok := parseFloat(text, 32)
	return binary.BigEndian.AppendUint32(b, math.Float32bits(float32(f))), ok
}

func appendFloat8(b []byte, text string) ([]byte, bool) {
	f, ok := parseFloat(text, 64)
	return binary.BigEndian.AppendUint64(b, math.Float64bits(f)), ok
}

// parseFloat leaves to the server what is no plain number, and what is too small to be one: that is an error there.
func parseFloat(text string, bits int) (float64, bool) {
	if strings.ContainsAny(text, "xXpP_iInN") {
		return 0, false
	}
	f, err := strconv.ParseFloat(text, bits)
	return f, err == nil && (f != 0 || strings.Trim(text, "-0.") == "")
}

// epoch2000 is where Postgres counts days and microseconds from.
var epoch2000 = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

const secondsOfDay = 24 * 60 * 60

func appendDate(b []byte, text string) ([]byte, bool) {
	switch text {
	case "infinity":
		return binary.BigEndian.AppendUint32(b, math.MaxInt32), true
	case "-infinity":
		return binary.BigEndian.AppendUint32(b, 1<<31), true
	}
	day, ok := parseDay(text)
	return binary.BigEndian.AppendUint32(b, uint32(day)), ok
}

// appendTimestamp is for both types: an instant's text is in UTC.
func appendTimestamp(b []byte, text string) ([]byte, bool) {
	switch text {
	case "infinity":
		return binary.BigEndian.AppendUint64(b, math.MaxInt64), true
	case "-infinity":
		return binary.BigEndian.AppendUint64(b, 1<<63), true
	}
	if len(text) < len("2006-01-02 15:04:05") || text[10] != ' ' {
		return b, false
	}
	day, known := parseDay(text[:10])
	clock, ok := parseClock(text[11:])
	return binary.BigEndian.AppendUint64(b, uint64(int64(day)*secondsOfDay*1e6+clock)), known && ok
}

// parseDay reads 2006-01-02, a day that exists, as days from 2000-01-01.
func parseDay(text string) (days int32, ok bool) {
	if len(text) != len("2006-01-02") || text[4] != '-' || text[7] != '-' {
		return 0, false
	}
	year, month, day := digits(text[:4]), digits(text[5:7]), digits(text[8:])
	if year < 1 || month < 1 || month > 12 || day < 1 {
		return 0, false
	}
	t := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	return int32((t.Unix() - epoch2000.Unix()) / secondsOfDay), t.Day() == day
}

// parseClock reads 15:04:05.999999 as microseconds.
func parseClock(text string) (micros int64, ok bool) {
	const whole = len("15:04:05")
	if len(text) < whole || text[2] != ':' || text[5] != ':' {
		return 0, false
	}
	hour, minute, second := digits(text[:2]), digits(text[3:5]), digits(text[6:whole])
	if hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 {
		return 0, false
	}
	micros = int64(hour*3600+minute*60+second) * 1e6
	if len(text) == whole {
		return micros, true
	}
	fraction := text[whole+1:]
	n := digits(fraction)
	if text[whole] != '.' || n < 0 || len(fraction) > 6 {
		return 0, false
	}
	for range 6 - len(fraction) {
		n *= 10
	}
	return micros + int64(n), true
}

// digits is a number of digits only, or -1.
func digits(text string) int {
	n := 0
	for i := range len(text) {
		d := text[i] - '0'
		if d > 9 || i > 8 {
			return -1
		}
		n = 10*n + int(d)
	}
	if text == "" {
		return -1
	}
	return n
}

func appendUUID(b []byte, text string) ([]byte, bool) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return b, false
	}
	for _, piece := range [...]string{text[:8], text[9:13], text[14:18], text[19:23], text[24:]} {
		var err error
		if b, err = hex.AppendDecode(b, []byte(piece)); err != nil {
			return b, false
		}
	}
	return b, true
}
