package schema

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrNotOurs says that bytes are no message of ours at all: quarantined, counted and passed by. One of ours that got
// damaged shows as a gap.
var ErrNotOurs = errors.New("not a message of ours")

// ErrUnknown says that a message is ours, of a version, kind or codec that this program does not know: its sender's
// stream is held until this side is upgraded.
var ErrUnknown = errors.New("unknown version or kind")

// fields calls f for each field of a message; f gets the number, the varint value or the bytes.
func fields(b []byte, f func(n protowire.Number, v uint64, body []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var v uint64
		var body []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			body, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := f(num, v, body); err != nil {
			return err
		}
	}
	return nil
}

// narrow keeps a number that is too large for T from looking like a small one: it becomes T's largest, which nobody knows.
func narrow[T ~uint8 | ~uint32](v uint64) T { return T(min(v, uint64(^T(0)))) }

// DecodeMessage reads an envelope. Body and Signature point into b. The error wraps ErrNotOurs for garbage and ErrUnknown
// for what a newer program may have sent; of the latter, Sender is set.
func DecodeMessage(b []byte) (Message, error) {
	var m Message
	err := fields(b, func(n protowire.Number, v uint64, body []byte) error {
		switch n {
		case 1:
			m.Version = narrow[uint32](v)
		case 2:
			m.Kind = narrow[MessageKind](v)
		case 3:
			m.Sender = Office(body)
		case 4:
			m.Epoch = v
		case 5:
			m.Stream = string(body)
		case 6:
			m.Prev = v
		case 7:
			m.Seq = v
		case 8:
			m.Part = narrow[uint32](v)
		case 9:
			m.More = v != 0
		case 10:
			m.Continued = v != 0
		case 11:
			a, err := decodeAcknowledgement(body)
			m.Acknowledged = append(m.Acknowledged, a)
			return err
		case 12:
			m.Codec = narrow[Codec](v)
		case 13:
			m.Body = body
		case 14:
			m.KeyID = string(body)
		case 15:
			m.Signature = body
		}
		return nil
	})
	if err != nil {
		return m, fmt.Errorf("%w: %w", ErrNotOurs, err)
	}
	return m, m.check()
}

func (m *Message) check() error {
	if m.Version == 0 {
		return fmt.Errorf("%w: no version", ErrNotOurs)
	}
	if _, err := ParseOffice(string(m.Sender)); err != nil {
		return fmt.Errorf("%w: %w", ErrNotOurs, err)
	}
	if m.Version != WireVersion {
		return fmt.Errorf("%w: %s sends version %d, this program reads %d: upgrade it", ErrUnknown, m.Sender, m.Version, WireVersion)
	}
	if m.Kind < MessageTransaction || m.Kind > MessageControl {
		return fmt.Errorf("%w: %s sends message kind %d, which this program does not know: upgrade it", ErrUnknown, m.Sender, m.Kind)
	}
	numbered := m.Kind != MessageControl && m.Kind != MessageChunk
	if numbered && (m.Prev >= m.Seq || m.Epoch == 0) {
		return fmt.Errorf("%w: %s sends a chain %d → %d", ErrNotOurs, m.Sender, m.Prev, m.Seq)
	}
	if m.Kind != MessageControl && len(m.Body) == 0 { // its end was cut off: the body comes last
		return fmt.Errorf("%w: message %d of %s has no body", ErrNotOurs, m.Seq, m.Sender)
	}
	return nil
}

func decodeAcknowledgement(b []byte) (Acknowledgement, error) {
	var a Acknowledgement
	err := fields(b, func(n protowire.Number, v uint64, body []byte) error {
		switch n {
		case 1:
			a.Office = Office(body)
		case 2:
			a.Pos.Epoch = v
		case 3:
			a.Pos.Seq = v
		}
		return nil
	})
	return a, err
}

// UnpackBatch reads a body as a message has it, and says how large it is unpacked, in bytes. See DecodeBatch.
func UnpackBatch(body []byte, codec Codec, epoch uint64) (Batch, int, error) {
	unpacked, err := Unpack(body, codec)
	if err != nil {
		return Batch{}, 0, err
	}
	batch, err := DecodeBatch(unpacked, epoch)
	return batch, len(unpacked), err
}

// DecodeBatch reads an unpacked body. epoch is the message's: it completes the transactions' positions. Values share one
// copy of the body, so b may be used again.
func DecodeBatch(b []byte, epoch uint64) (Batch, error) {
	d := batchDecoder{text: string(b), epoch: epoch}
	var batch Batch
	err := d.fields(span{0, len(b)}, func(n protowire.Number, _ uint64, body span) error {
		switch n {
		case 1:
			t, err := decodeTable(b[body.from:body.to])
			if err != nil {
				return err
			}
			d.tables = append(d.tables, t)
		case 2:
			t, err := d.transaction(body)
			if err != nil {
				return err
			}
			batch.Transactions = append(batch.Transactions, t)
		}
		return nil
	})
	if err != nil {
		return Batch{}, fmt.Errorf("decode batch: %w", err)
	}
	return batch, nil
}

func decodeTable(b []byte) (*Table, error) {
	var t Table
	err := fields(b, func(n protowire.Number, v uint64, body []byte) error {
		switch n {
		case 1:
			t.Schema = string(body)
		case 2:
			t.Name = string(body)
		case 3:
			t.Engine = Engine(body)
		case 4:
			c, err := decodeColumn(body)
			t.Columns = append(t.Columns, c)
			return err
		case 5:
			if body == nil { // not packed
				t.Key = append(t.Key, int(v))
			}
			for len(body) > 0 {
				k, n := protowire.ConsumeVarint(body)
				if n < 0 {
					return protowire.ParseError(n)
				}
				t.Key, body = append(t.Key, int(k)), body[n:]
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, k := range t.Key {
		if k < 0 || k >= len(t.Columns) {
			return nil, fmt.Errorf("table %s: key column %d of %d", t.TableName, k, len(t.Columns))
		}
	}
	return NewTable(t), nil
}

func decodeColumn(b []byte) (Column, error) {
	var c Column
	err := fields(b, func(n protowire.Number, v uint64, body []byte) error {
		switch n {
		case 1:
			c.Name = string(body)
		case 2:
			c.Kind = narrow[Kind](v)
		case 3:
			c.Size = int(narrow[uint32](v))
		case 4:
			c.Scale = int(protowire.DecodeZigZag(v))
		case 5:
			c.Unsigned = v != 0
		case 6:
			c.Fixed = v != 0
		case 7:
			c.Nullable = v != 0
		case 8:
			c.Native = string(body)
		case 9:
			c.Labels = append(c.Labels, string(body))
		case 10:
			c.Generated = v != 0
		case 11:
			c.Identity = v != 0
		}
		return nil
	})
	if err == nil && !c.Kind.Valid() {
		err = fmt.Errorf("%w: column %s has kind %d", ErrUnknown, c.Name, c.Kind)
	}
	return c, err
}

// span is a stretch of the body. The decoder keeps the body as one string, so that a value is a substring and a row costs
// no allocation but its slots, which come from a slab.
type span struct{ from, to int }

type batchDecoder struct {
	text    string
	epoch   uint64
	tables  []*Table
	slab    []Value
	changes []Change // the same for changes: the transaction at hand uses its tail
	lastOf  Office
}

const (
	// slabValues and slabChanges are how many are allocated at once: some 24 KiB.
	slabValues  = 1024
	slabChanges = 256
)

func (d *batchDecoder) row(n int) Row {
	if n > len(d.slab) {
		d.slab = make([]Value, max(n, slabValues))
	}
	r := d.slab[:n:n]
	d.slab = d.slab[n:]
	return Row(r)
}

func (d *batchDecoder) varint(at int) (uint64, int) {
	var v uint64
	for i := 0; i < 10 && at+i < len(d.text); i++ {
		c := d.text[at+i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v, i + 1
		}
	}
	return 0, -1
}

var errTruncated = errors.New("truncated field")

func (d *batchDecoder) fields(s span, f func(n protowire.Number, v uint64, body span) error) error {
	for at := s.from; at < s.to; {
		tag, n := d.varint(at)
		if n < 0 {
			return errTruncated
		}
		at += n
		v, n := d.varint(at) // both of our wire types begin with one
		if n < 0 || at+n > s.to {
			return errTruncated
		}
		at += n
		var body span
		switch protowire.Type(tag & 7) {
		case protowire.VarintType:
		case protowire.BytesType:
			if v > uint64(s.to-at) {
				return errTruncated
			}
			body = span{at, at + int(v)}
			at = body.to
		default:
			return fmt.Errorf("%w: wire type %d", ErrUnknown, tag&7)
		}
		if err := f(protowire.Number(tag>>3), v, body); err != nil {
			return err
		}
	}
	return nil
}

// office reads a name; transactions of one office come in runs.
func (d *batchDecoder) office(s span) (Office, error) {
	name := d.text[s.from:s.to]
	if name == string(d.lastOf) {
		return d.lastOf, nil
	}
	o, err := ParseOffice(name)
	if err != nil {
		return "", fmt.Errorf("transaction: %w", err)
	}
	d.lastOf = o
	return o, nil
}

func (d *batchDecoder) transaction(s span) (Transaction, error) {
	t := Transaction{Last: true, Pos: Position{Epoch: d.epoch}, Changes: d.changes}
	err := d.fields(s, func(n protowire.Number, v uint64, body span) error {
		switch n {
		case 1:
			var err error
			t.Origin, err = d.office(body)
			return err
		case 2:
			t.OriginPos.Epoch = v
		case 3:
			t.OriginPos.Seq = v
		case 4:
			t.Pos.Seq = v
		case 5:
			t.Seen.Epoch = v
		case 6:
			t.Seen.Seq = v
		case 7:
			t.Stamp.Millis = protowire.DecodeZigZag(v)
		case 8:
			t.Stamp.Counter = narrow[uint32](v)
		case 9:
			if v != 0 { // what has its zero value may be written or not
				t.Commit = time.UnixMicro(protowire.DecodeZigZag(v)).UTC()
			}
		case 10:
			c, err := d.change(body)
			if len(t.Changes) == cap(t.Changes) {
				t.Changes = append(make([]Change, 0, max(slabChanges, 2*len(t.Changes))), t.Changes...)
			}
			t.Changes = append(t.Changes, c)
			return err
		case 11:
			t.Part = int(narrow[uint32](v))
		case 12:
			t.Last = v == 0
		}
		return nil
	})
	if err != nil {
		return t, err
	}
	if t.Origin == "" {
		return t, errors.New("transaction without an origin")
	}
	n := len(t.Changes)
	d.changes = t.Changes[n:] // the next transaction's are behind them
	if t.Changes = t.Changes[:n:n]; n == 0 {
		t.Changes = nil
	}
	return t, nil
}

func (d *batchDecoder) change(s span) (Change, error) {
	var c Change
	var table uint64
	var before, after, decided, definition span
	var hasBefore, hasAfter, hasDecided, hasDefinition bool
	err := d.fields(s, func(n protowire.Number, v uint64, body span) error {
		switch n {
		case 1:
			c.Op = narrow[Op](v)
		case 2:
			table = v
		case 3:
			before, hasBefore = body, true
		case 4:
			after, hasAfter = body, true
		case 5:
			decided, hasDecided = body, true
		case 6:
			c.Blind = v != 0
		case 7:
			c.Claimed = v != 0
		case 8:
			c.Restored = v != 0
		case 9:
			definition, hasDefinition = body, true
		case 10:
			c.Over = v
		}
		return nil
	})
	if err != nil {
		return c, err
	}
	if table >= uint64(len(d.tables)) {
		return c, fmt.Errorf("change of table %d, %d are defined", table, len(d.tables))
	}
	c.Table = d.tables[table]
	if hasAfter {
		if c.After, err = d.image(after, len(c.Table.Columns), nil); err != nil {
			return c, err
		}
	}
	if hasBefore {
		if c.Before, err = d.image(before, len(c.Table.Columns), c.After); err != nil {
			return c, err
		}
	}
	if hasDecided {
		if c.Decided, err = d.decision(decided); err != nil {
			return c, err
		}
	}
	if hasDefinition {
		if c.Definition, err = ParseDefinitionChange([]byte(d.text[definition.from:definition.to])); err != nil {
			return c, err
		}
	}
	return c, c.Validate()
}

func (d *batchDecoder) decision(s span) (*Decision, error) {
	var v Decision
	return &v, d.fields(s, func(n protowire.Number, u uint64, body span) error {
		switch n {
		case 1:
			v.Origin = Office(d.text[body.from:body.to])
		case 2:
			v.Stamp.Millis = protowire.DecodeZigZag(u)
		case 3:
			v.Stamp.Counter = narrow[uint32](u)
		case 4:
			v.Known = u
		}
		return nil
	})
}

// image reads a row; after is the image after an update, which the one before may refer to.
func (d *batchDecoder) image(s span, columns int, after Row) (Row, error) {
	r := d.row(columns)
	var states span
	at := 0
	err := d.fields(s, func(n protowire.Number, _ uint64, body span) error {
		switch n {
		case 1:
			if body.to-body.from != columns {
				return fmt.Errorf("row has %d states for %d columns", body.to-body.from, columns)
			}
			states = body
		case 2:
			for states.to > 0 && at < columns && State(d.text[states.from+at]) != Present {
				at++
			}
			if at >= columns {
				return fmt.Errorf("row has more values than its %d columns", columns)
			}
			r[at] = Value{state: Present, text: d.text[body.from:body.to]}
			at++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, d.states(r, states, after)
}

// states fills in what is not present, and checks that what should be is.
func (d *batchDecoder) states(r Row, states span, after Row) error {
	for i := range r {
		want := Present
		if states.to > 0 {
			want = State(d.text[states.from+i])
		}
		switch {
		case want > wireAsAfter, want == wireAsAfter && (after == nil || after[i].state != Present):
			return fmt.Errorf("%w: column state %d", ErrUnknown, want)
		case (want == Present) != (r[i].state == Present):
			return errors.New("row has fewer values than its columns")
		case want == Null:
			r[i] = NullValue()
		case want == wireAsAfter:
			r[i] = after[i]
		}
	}
	return nil
}

// DecodeControl reads the body of a control message.
func DecodeControl(b []byte) (Control, error) {
	var c Control
	err := fields(b, func(n protowire.Number, _ uint64, body []byte) error {
		switch n {
		case 1:
			c.Hello = &Hello{}
			return c.Hello.decode(body)
		case 2:
			c.Welcome = &Welcome{}
			return c.Welcome.decode(body)
		case 3:
			c.Marker = &Marker{}
			return decodeUints(body, &c.Marker.Seen.Epoch, &c.Marker.Seen.Seq, &c.Marker.After)
		case 4:
			c.Tail = &Tail{}
			return decodeUints(body, &c.Tail.First, &c.Tail.Last, &c.Tail.Answers)
		case 5:
			c.Resend = &Resend{}
			return c.Resend.decode(body)
		case 6:
			c.Fetch = &Fetch{}
			return c.Fetch.decode(body)
		case 7:
			c.Compare = &Compare{}
			return c.Compare.decode(body)
		case 8:
			c.Report = &Report{}
			return c.Report.decode(body)
		case 9:
			c.Leave = &Leave{}
		case 10:
			c.Definitions = &Definitions{}
			return c.Definitions.decode(body)
		}
		return nil
	})
	if err != nil {
		return c, fmt.Errorf("decode control: %w", err)
	}
	return c, nil
}

// decodeUints reads fields 1, 2 … into the given places.
func decodeUints(b []byte, into ...*uint64) error {
	return fields(b, func(n protowire.Number, v uint64, _ []byte) error {
		if int(n) <= len(into) {
			*into[n-1] = v
		}
		return nil
	})
}

func (h *Hello) decode(b []byte) error {
	return fields(b, func(n protowire.Number, v uint64, body []byte) error {
		switch n {
		case 1:
			h.Progress.Epoch = v
		case 2:
			h.Progress.Seq = v
		case 3:
			h.First = v
		case 4:
			h.Last = v
		case 5:
			h.Program = string(body)
		case 6:
			h.Engine = Engine(body)
		}
		return nil
	})
}

func (w *Welcome) decode(b []byte) error {
	return fields(b, func(n protowire.Number, v uint64, body []byte) error {
		switch n {
		case 1:
			w.To = Office(body)
		case 2:
			w.Progress.Epoch = v
		case 3:
			w.Progress.Seq = v
		case 4:
			w.First = v
		case 5:
			w.Last = v
		case 6:
			w.Expired = v != 0
		case 7:
			w.Program = string(body)
		case 8:
			w.Restored = v != 0
		case 9:
			w.Acknowledged.Epoch = v
		case 10:
			w.Acknowledged.Seq = v
		}
		return nil
	})
}

func (r *Resend) decode(b []byte) error {
	return fields(b, func(n protowire.Number, v uint64, body []byte) error {
		switch n {
		case 1:
			r.To = Office(body)
		case 2:
			r.Epoch = v
		case 3:
			r.From = v
		case 4:
			r.Part = narrow[uint32](v)
		case 5:
			r.Limit = v
		}
		return nil
	})
}
