package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// rawStream sums up a pgoutput stream (version 1 of its protocol) as Postgres sends it, and what the same changes are as the
// JSON of Debezium's Postgres connector.
type rawStream struct {
	database string // as Debezium's source block names it

	Changes      int // inserts and updates
	Messages     int
	Bytes        int // of the messages, without what the replication protocol wraps around each
	Debezium     int // bytes of the JSON of the changes, values only: no keys, no record headers
	relations    map[uint32]relation
	commit       time.Time
	transaction  uint32
	commitBefore uint64 // where the transaction before ended
	commitHere   uint64
	event        []byte // scratch space
}

// wrapped is what streaming replication puts around each message: XLogData's header and CopyData's.
const wrapped = 25 + 5

// relation is a table as the stream introduces it.
type relation struct {
	schema, table string
	columns       []relationColumn
}

type relationColumn struct {
	name     string
	oid      uint32
	modifier int32
}

var errShort = errors.New("pgoutput: the message is shorter than it says")

// cursor reads a message; the first short read is kept as its error, and everything after it is zero.
type cursor struct {
	rest []byte
	err  error
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.rest) {
		c.rest, c.err = nil, errShort
		return make([]byte, max(0, min(n, 8)))
	}
	out := c.rest[:n]
	c.rest = c.rest[n:]
	return out
}

func (c *cursor) byte() byte     { return c.take(1)[0] }
func (c *cursor) uint16() uint16 { return binary.BigEndian.Uint16(c.take(2)) }
func (c *cursor) uint32() uint32 { return binary.BigEndian.Uint32(c.take(4)) }
func (c *cursor) uint64() uint64 { return binary.BigEndian.Uint64(c.take(8)) }

func (c *cursor) text() string {
	for i, b := range c.rest {
		if b == 0 {
			return string(c.take(i + 1)[:i])
		}
	}
	c.rest, c.err = nil, errShort
	return ""
}

// postgresEpoch is what Postgres counts its microseconds from.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// add takes the next message and its place in the log.
func (s *rawStream) add(lsn uint64, message []byte) error {
	s.Messages++
	s.Bytes += len(message)
	c := &cursor{rest: message}
	switch kind := c.byte(); kind {
	case 'B':
		s.commitBefore, s.commitHere = s.commitHere, c.uint64()
		s.commit = postgresEpoch.Add(time.Duration(c.uint64()) * time.Microsecond)
		s.transaction = c.uint32()
	case 'R':
		s.introduce(c)
	case 'I', 'U':
		return s.change(c, lsn, kind)
	}
	return c.err
}

func (s *rawStream) introduce(c *cursor) {
	id := c.uint32()
	r := relation{schema: c.text(), table: c.text()}
	c.byte() // the replica identity
	for range c.uint16() {
		c.byte() // whether it is of the key
		r.columns = append(r.columns, relationColumn{name: c.text(), oid: c.uint32(), modifier: int32(c.uint32())})
	}
	if s.relations == nil {
		s.relations = map[uint32]relation{}
	}
	s.relations[id] = r
}

func (s *rawStream) change(c *cursor, lsn uint64, kind byte) error {
	r, known := s.relations[c.uint32()]
	if !known {
		return errors.New("pgoutput: a change of a table that was not introduced")
	}
	image := c.byte()
	if image != 'N' {
		return fmt.Errorf("pgoutput: the change begins with image %q: only keys that stay and REPLICA IDENTITY DEFAULT are expected here", image)
	}
	b, err := s.appendEvent(s.event[:0], &r, c, lsn, kind)
	if err != nil {
		return err
	}
	s.event = b
	s.Changes++
	s.Debezium += len(b)
	return c.err
}

// appendEvent writes the change as Debezium's Postgres connector does with Kafka Connect's JSON converter, schemas.enable=false
// and everything else as it comes: decimals as base64 of their unscaled value, times with zone as ISO text, before = null
// without REPLICA IDENTITY FULL. Releases from 2.6 on have the time twice more (ts_us, ts_ns), in the event and in its source: the
// shorter form counts here.
func (s *rawStream) appendEvent(b []byte, r *relation, c *cursor, lsn uint64, kind byte) ([]byte, error) {
	b = append(b, `{"before":null,"after":{`...)
	for i := range int(c.uint16()) {
		if i >= len(r.columns) {
			return nil, errShort
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSONText(b, r.columns[i].name)
		b = append(b, ':')
		switch state := c.byte(); state {
		case 'n':
			b = append(b, "null"...)
		case 't':
			var err error
			if b, err = appendJSONValue(b, r.columns[i], string(c.take(int(c.uint32())))); err != nil {
				return nil, fmt.Errorf("column %s: %w", r.columns[i].name, err)
			}
		default:
			return nil, fmt.Errorf("column %s: unexpected state %q", r.columns[i].name, state)
		}
	}
	b = append(b, `},"source":{"version":"2.5.4.Final","connector":"postgresql","name":"head","ts_ms":`...)
	b = strconv.AppendInt(b, s.commit.UnixMilli(), 10)
	b = append(b, `,"snapshot":"false","db":`...)
	b = appendJSONText(b, s.database)
	b = append(b, `,"sequence":`...)
	b = appendJSONText(b, fmt.Sprintf(`["%d","%d"]`, s.commitBefore, lsn))
	b = append(b, `,"schema":`...)
	b = appendJSONText(b, r.schema)
	b = append(b, `,"table":`...)
	b = appendJSONText(b, r.table)
	b = append(b, `,"txId":`...)
	b = strconv.AppendUint(b, uint64(s.transaction), 10)
	b = append(b, `,"lsn":`...)
	b = strconv.AppendUint(b, lsn, 10)
	op := "c"
	if kind == 'U' {
		op = "u"
	}
	b = append(b, `,"xmin":null},"op":"`+op+`","ts_ms":`...)
	b = strconv.AppendInt(b, s.commit.UnixMilli(), 10)
	return append(b, `,"transaction":null}`...), nil
}

// The types of the bench's tables, by their numbers in pg_type.
const (
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidBpchar      = 1042
	oidVarchar     = 1043
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidNumeric     = 1700
)

func appendJSONValue(b []byte, c relationColumn, text string) ([]byte, error) {
	switch c.oid {
	case oidInt2, oidInt4, oidInt8:
		return append(b, text...), nil
	case oidText, oidBpchar, oidVarchar:
		return appendJSONText(b, text), nil
	case oidNumeric:
		return appendDecimal(b, text, int(c.modifier-4)&0xffff)
	case oidTimestamptz:
		at, err := time.Parse("2006-01-02 15:04:05.999999Z07", text)
		return appendJSONText(b, at.UTC().Format("2006-01-02T15:04:05.000000Z")), err
	case oidTimestamp:
		at, err := time.Parse("2006-01-02 15:04:05.999999", text)
		return strconv.AppendInt(b, at.UnixMicro(), 10), err
	}
	return nil, fmt.Errorf("type %d: teach the bench how Debezium writes it", c.oid)
}

// appendDecimal writes Connect's Decimal: base64 of the unscaled value in two's complement, big endian, as short as it can be.
func appendDecimal(b []byte, text string, scale int) ([]byte, error) {
	_, fraction, _ := strings.Cut(text, ".")
	if len(fraction) > scale {
		return nil, fmt.Errorf("%s has more than %d decimal places", text, scale)
	}
	n, ok := new(big.Int).SetString(strings.Replace(text, ".", "", 1)+strings.Repeat("0", scale-len(fraction)), 10)
	if !ok {
		return nil, fmt.Errorf("%s is no decimal number", text)
	}
	bits := n.BitLen()
	if n.Sign() < 0 {
		bits = new(big.Int).Not(n).BitLen()
	}
	bytes := make([]byte, bits/8+1) // one bit more, for the sign
	if n.Sign() < 0 {
		n.Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(bytes))))
	}
	n.FillBytes(bytes)
	b = append(b, '"')
	b = base64.StdEncoding.AppendEncode(b, bytes)
	return append(b, '"'), nil
}

func appendJSONText(b []byte, s string) []byte {
	text, _ := json.Marshal(s) // text never fails
	return append(b, text...)
}
