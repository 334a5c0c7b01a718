package main

import (
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"
)

// builder makes pgoutput messages.
type builder []byte

func (b builder) raw(v ...byte) builder  { return append(b, v...) }
func (b builder) u16(v int) builder      { return binary.BigEndian.AppendUint16(b, uint16(v)) }
func (b builder) u32(v int) builder      { return binary.BigEndian.AppendUint32(b, uint32(v)) }
func (b builder) u64(v int64) builder    { return binary.BigEndian.AppendUint64(b, uint64(v)) }
func (b builder) text(s string) builder  { return append(append(b, s...), 0) }
func (b builder) value(s string) builder { return append(b.raw('t').u32(len(s)), s...) }
func (b builder) column(name string, oid, modifier int) builder {
	return b.raw(0).text(name).u32(oid).u32(modifier)
}

var committed = time.Date(2026, 11, 21, 10, 20, 30, 123456000, time.UTC)

func introduced(t *testing.T) *rawStream {
	t.Helper()
	s := &rawStream{database: "shop"}
	begin := builder{'B'}.u64(0x2000).u64(committed.Sub(postgresEpoch).Microseconds()).u32(555)
	table := builder{'R'}.u32(7).text("public").text("orders").raw('d').u16(4).
		column("id", oidInt8, -1).column("customer", oidText, -1).column("amount", oidNumeric, (12<<16|2)+4).column("at", oidTimestamptz, -1)
	for _, m := range [][]byte{begin, table} {
		if err := s.add(0x1000, m); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestChangeAsDebeziumWritesIt(t *testing.T) {
	s := introduced(t)
	change := builder{'U'}.u32(7).raw('N').u16(4).value("42").value(`Ö"x`).value("-1.5").value("2026-11-21 11:00:00.5+01")
	if err := s.add(0x1100, change); err != nil {
		t.Fatal(err)
	}
	want := `{"before":null,"after":{"id":42,"customer":"Ö\"x","amount":"/2o=","at":"2026-11-21T10:00:00.500000Z"},` +
		`"source":{"version":"2.5.4.Final","connector":"postgresql","name":"head","ts_ms":1795256430123,"snapshot":"false","db":"shop",` +
		`"sequence":"[\"0\",\"4352\"]","schema":"public","table":"orders","txId":555,"lsn":4352,"xmin":null},"op":"u","ts_ms":1795256430123,"transaction":null}`
	if got := string(s.event); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if !json.Valid(s.event) {
		t.Error("it is no JSON")
	}
	if s.Changes != 1 || s.Debezium != len(want) || s.Messages != 3 {
		t.Errorf("counted %d changes, %d bytes of JSON, %d messages", s.Changes, s.Debezium, s.Messages)
	}
}

func TestStreamIsNotGuessed(t *testing.T) {
	for name, message := range map[string]builder{
		"unknown table":  builder{'I'}.u32(8).raw('N').u16(0),
		"image before":   builder{'U'}.u32(7).raw('O').u16(0),
		"cut in a value": builder{'I'}.u32(7).raw('N').u16(1).raw('t').u32(10).raw('1'),
		"unknown state":  builder{'I'}.u32(7).raw('N').u16(1).raw('u'),
		"not a decimal":  builder{'I'}.u32(7).raw('N').u16(3).value("1").value("a").value("NaN"),
		"empty":          {},
	} {
		if err := introduced(t).add(1, message); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The values are Java's BigInteger.toByteArray.
func TestDecimalIsUnscaledTwosComplement(t *testing.T) {
	for text, want := range map[string]string{
		"0": `"AA=="`, "1.27": `"fw=="`, "1.28": `"AIA="`, "-1.28": `"gA=="`, "-1.29": `"/38="`, "99999.99": `"AJiWfw=="`,
	} {
		got, err := appendDecimal(nil, text, 2)
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
}
