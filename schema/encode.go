package schema

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// The encoder writes wire.proto by hand over protowire: sizes first, then bytes, with no copy of a row between. Fields
// that have their zero value are left out, as proto3 does, so equal values have equal bytes.

func appendUint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func appendInt(b []byte, field protowire.Number, v int64) []byte {
	return appendUint(b, field, protowire.EncodeZigZag(v))
}

func appendBool(b []byte, field protowire.Number, v bool) []byte {
	return appendUint(b, field, protowire.EncodeBool(v))
}

func appendText(b []byte, field protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

// AppendMessage appends the envelope with its body.
func AppendMessage(b []byte, m *Message) []byte {
	b = appendUint(b, 1, uint64(m.Version))
	b = appendUint(b, 2, uint64(m.Kind))
	b = appendText(b, 3, string(m.Sender))
	b = appendUint(b, 4, m.Epoch)
	b = appendText(b, 5, m.Stream)
	b = appendUint(b, 6, m.Prev)
	b = appendUint(b, 7, m.Seq)
	b = appendUint(b, 8, uint64(m.Part))
	b = appendBool(b, 9, m.More)
	b = appendBool(b, 10, m.Continued)
	for _, a := range m.Acknowledged {
		var e []byte
		e = appendText(e, 1, string(a.Office))
		e = appendUint(e, 2, a.Pos.Epoch)
		e = appendUint(e, 3, a.Pos.Seq)
		b = protowire.AppendBytes(protowire.AppendTag(b, 11, protowire.BytesType), e)
	}
	b = appendUint(b, 12, uint64(m.Codec))
	b = appendBytes(b, 13, m.Body)
	b = appendText(b, 14, m.KeyID)
	return appendBytes(b, 15, m.Signature)
}

// AppendBatch appends a Batch: the definitions that its changes need, then the transactions. Pos.Epoch and Source of the
// transactions do not travel.
func AppendBatch(b []byte, txs []Transaction) []byte {
	tables := map[*Table]uint32{}
	var last *Table
	for i := range txs {
		for j := range txs[i].Changes {
			t := txs[i].Changes[j].Table
			if t == last {
				continue
			}
			last = t
			if _, known := tables[t]; !known {
				tables[t] = uint32(len(tables))
				def := appendTable(nil, t)
				b = protowire.AppendBytes(protowire.AppendTag(b, 1, protowire.BytesType), def)
			}
		}
	}
	var head []byte
	for i := range txs {
		b, head = appendTransaction(b, head[:0], &txs[i], tables)
	}
	return b
}

func appendTable(b []byte, t *Table) []byte {
	b = appendText(b, 1, t.Schema)
	b = appendText(b, 2, t.Name)
	b = appendText(b, 3, string(t.Engine))
	for i := range t.Columns {
		b = protowire.AppendBytes(protowire.AppendTag(b, 4, protowire.BytesType), appendColumn(nil, &t.Columns[i]))
	}
	if len(t.Key) > 0 {
		var key []byte
		for _, k := range t.Key {
			key = protowire.AppendVarint(key, uint64(k))
		}
		b = protowire.AppendBytes(protowire.AppendTag(b, 5, protowire.BytesType), key)
	}
	return b
}

func appendColumn(b []byte, c *Column) []byte {
	b = appendText(b, 1, c.Name)
	b = appendUint(b, 2, uint64(c.Kind))
	b = appendUint(b, 3, uint64(c.Size))
	b = appendInt(b, 4, int64(c.Scale))
	b = appendBool(b, 5, c.Unsigned)
	b = appendBool(b, 6, c.Fixed)
	b = appendBool(b, 7, c.Nullable)
	b = appendText(b, 8, c.Native)
	for _, l := range c.Labels {
		b = protowire.AppendString(protowire.AppendTag(b, 9, protowire.BytesType), l)
	}
	b = appendBool(b, 10, c.Generated)
	return appendBool(b, 11, c.Identity)
}

// appendTransaction uses head as scratch space and gives it back for the next.
func appendTransaction(b, head []byte, t *Transaction, tables map[*Table]uint32) (out, scratch []byte) {
	head = appendText(head, 1, string(t.Origin))
	head = appendUint(head, 2, t.OriginPos.Epoch)
	head = appendUint(head, 3, t.OriginPos.Seq)
	head = appendUint(head, 4, t.Pos.Seq)
	head = appendUint(head, 5, t.Seen.Epoch)
	head = appendUint(head, 6, t.Seen.Seq)
	head = appendInt(head, 7, t.Stamp.Millis)
	head = appendUint(head, 8, uint64(t.Stamp.Counter))
	if !t.Commit.IsZero() {
		head = appendInt(head, 9, t.Commit.UnixMicro())
	}
	changes := len(head)
	for i := range t.Changes {
		changes += sizeField(sizeChange(&t.Changes[i], tables[t.Changes[i].Table]))
	}
	tail := appendUint(nil, 11, uint64(t.Part))
	tail = appendBool(tail, 12, !t.Last)

	b = protowire.AppendTag(b, 2, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(changes+len(tail)))
	b = append(b, head...)
	for i := range t.Changes {
		b = appendChange(b, &t.Changes[i], tables[t.Changes[i].Table])
	}
	return append(b, tail...), head
}

// sizeField is the size of a length-delimited field with a one-byte tag.
func sizeField(n int) int { return 1 + protowire.SizeBytes(n) }

func sizeUint(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

func sizeChange(c *Change, table uint32) int {
	n := sizeUint(uint64(c.Op)) + sizeUint(uint64(table))
	if c.Before != nil {
		row, _ := sizeRow(c.Before, c.After)
		n += sizeField(row)
	}
	if c.After != nil {
		row, _ := sizeRow(c.After, nil)
		n += sizeField(row)
	}
	if c.Decided != nil {
		n += sizeField(len(appendDecision(nil, c.Decided)))
	}
	for _, is := range []bool{c.Blind, c.Claimed, c.Restored} {
		if is {
			n += sizeUint(1)
		}
	}
	if c.Definition != nil {
		n += sizeField(len(marshalChange(c.Definition)))
	}
	return n + sizeUint(c.Over)
}

func appendChange(b []byte, c *Change, table uint32) []byte {
	b = protowire.AppendTag(b, 10, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(sizeChange(c, table)))
	b = appendUint(b, 1, uint64(c.Op))
	b = appendUint(b, 2, uint64(table))
	if c.Before != nil {
		b = appendRow(b, 3, c.Before, c.After)
	}
	if c.After != nil {
		b = appendRow(b, 4, c.After, nil)
	}
	if c.Decided != nil {
		b = protowire.AppendBytes(protowire.AppendTag(b, 5, protowire.BytesType), appendDecision(nil, c.Decided))
	}
	b = appendBool(appendBool(appendBool(b, 6, c.Blind), 7, c.Claimed), 8, c.Restored)
	if c.Definition != nil {
		b = protowire.AppendBytes(protowire.AppendTag(b, 9, protowire.BytesType), marshalChange(c.Definition))
	}
	return appendUint(b, 10, c.Over)
}

func appendDecision(b []byte, d *Decision) []byte {
	b = appendText(b, 1, string(d.Origin))
	b = appendInt(b, 2, d.Stamp.Millis)
	b = appendUint(b, 3, uint64(d.Stamp.Counter))
	return appendUint(b, 4, d.Known)
}

// wireAsAfter is the state, on the wire only, of a value before an update that is the value after it: a log with full images
// has every column twice, and most are as they were.
const wireAsAfter = Present + 1

// wireState is how a value of a row travels. after is the image after an update, for the image before it; else nil.
func wireState(r, after Row, i int) State {
	if after != nil && r[i].state == Present && r[i] == after[i] {
		return wireAsAfter
	}
	return r[i].state
}

// sizeRow is the size of a row's fields; plain says that all of its values are present and written.
func sizeRow(r, after Row) (n int, plain bool) {
	plain = true
	for i := range r {
		if wireState(r, after, i) == Present {
			n += sizeField(len(r[i].text))
		} else {
			plain = false
		}
	}
	if !plain {
		n += sizeField(len(r))
	}
	return n, plain
}

func appendRow(b []byte, field protowire.Number, r, after Row) []byte {
	n, plain := sizeRow(r, after)
	b = protowire.AppendTag(b, field, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(n))
	if !plain {
		b = protowire.AppendTag(b, 1, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(len(r)))
		for i := range r {
			b = append(b, byte(wireState(r, after, i)))
		}
	}
	for i := range r {
		if wireState(r, after, i) == Present {
			b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), r[i].text)
		}
	}
	return b
}

// AppendControl appends the body of a control message.
func AppendControl(b []byte, c *Control) []byte {
	var e []byte
	var field protowire.Number
	switch {
	case c.Hello != nil:
		field, e = 1, appendHello(c.Hello)
	case c.Welcome != nil:
		field, e = 2, appendWelcome(c.Welcome)
	case c.Marker != nil:
		field = 3
		e = appendUint(appendUint(appendUint(nil, 1, c.Marker.Seen.Epoch), 2, c.Marker.Seen.Seq), 3, c.Marker.After)
	case c.Tail != nil:
		field, e = 4, appendUint(appendUint(appendUint(nil, 1, c.Tail.First), 2, c.Tail.Last), 3, c.Tail.Answers)
	case c.Resend != nil:
		field, e = 5, appendResend(c.Resend)
	case c.Fetch != nil:
		field, e = 6, appendFetch(c.Fetch)
	case c.Compare != nil:
		field, e = 7, appendCompare(c.Compare)
	case c.Report != nil:
		field, e = 8, appendReport(c.Report)
	case c.Leave != nil:
		field = 9
	case c.Definitions != nil:
		field, e = 10, appendDefinitions(c.Definitions)
	default:
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), e)
}

func appendHello(h *Hello) []byte {
	b := appendUint(nil, 1, h.Progress.Epoch)
	b = appendUint(b, 2, h.Progress.Seq)
	b = appendUint(b, 3, h.First)
	b = appendUint(b, 4, h.Last)
	b = appendText(b, 5, h.Program)
	return appendText(b, 6, string(h.Engine))
}

func appendWelcome(w *Welcome) []byte {
	b := appendText(nil, 1, string(w.To))
	b = appendUint(b, 2, w.Progress.Epoch)
	b = appendUint(b, 3, w.Progress.Seq)
	b = appendUint(b, 4, w.First)
	b = appendUint(b, 5, w.Last)
	b = appendBool(b, 6, w.Expired)
	b = appendText(b, 7, w.Program)
	b = appendBool(b, 8, w.Restored)
	b = appendUint(b, 9, w.Acknowledged.Epoch)
	return appendUint(b, 10, w.Acknowledged.Seq)
}

func appendResend(r *Resend) []byte {
	b := appendText(nil, 1, string(r.To))
	b = appendUint(b, 2, r.Epoch)
	b = appendUint(b, 3, r.From)
	b = appendUint(b, 4, uint64(r.Part))
	return appendUint(b, 5, r.Limit)
}
