package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"

	"cdc-sidecar/schema"
)

// head is what the journal knows at one place of the log: all of it stands in every record.
type head struct {
	office schema.Office
	epoch  uint64
	seq    uint64          // the last transaction numbered
	source string          // where capture starts again
	seen   schema.Position // the head's position applied before
	stamp  schema.Stamp    // the hybrid logical clock
	acked  []schema.Acknowledgement
	total  uint64 // bytes of all records to here, since the journal's birth
	write  uint64 // the number of the write that brought the record to the disk; none begins before the last is synced
}

// record is one entry of the log. Without a message it is a mark: only the head moved.
type record struct {
	head
	prev    uint64 // of the message
	part    uint32
	more    bool // the transaction goes on in the next record
	closed  bool // capture may start again behind this record; an open one is cut off at start unless a closed one follows
	changes int
	message []byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errChecksum = errors.New("a record's checksum is wrong")

// appendRecord writes checksum, then fields. The log underneath checks its own frames only when it recovers, so a bit that
// flips later is ours to notice.
func appendRecord(b []byte, r *record) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	uints := [...]uint64{
		1: r.epoch, 2: r.seq, 3: r.seen.Epoch, 4: r.seen.Seq, 5: uint64(r.stamp.Millis), 6: uint64(r.stamp.Counter), 7: r.total,
		8: r.prev, 9: uint64(r.part), 10: protowire.EncodeBool(r.more), 11: protowire.EncodeBool(r.closed), 12: uint64(r.changes),
		17: r.write,
	}
	for field, v := range uints {
		if v != 0 {
			b = protowire.AppendVarint(protowire.AppendTag(b, protowire.Number(field), protowire.VarintType), v)
		}
	}
	b = appendBytes(b, 13, []byte(r.office))
	b = appendBytes(b, 14, []byte(r.source))
	for _, a := range r.acked {
		e := appendBytes(nil, 1, []byte(a.Office))
		e = protowire.AppendVarint(protowire.AppendTag(e, 2, protowire.VarintType), a.Pos.Epoch)
		e = protowire.AppendVarint(protowire.AppendTag(e, 3, protowire.VarintType), a.Pos.Seq)
		b = appendBytes(b, 15, e)
	}
	b = appendBytes(b, 16, r.message)
	binary.LittleEndian.PutUint32(b[at:], crc32.Checksum(b[at+4:], castagnoli))
	return b
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

// parseRecord reads a record; its message points into b.
func parseRecord(b []byte) (record, error) {
	var r record
	if len(b) < 4 || binary.LittleEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return r, errChecksum
	}
	var uints [18]uint64 // 13 to 16 are text
	for b = b[4:]; len(b) > 0; {
		field, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return r, protowire.ParseError(n)
		}
		b = b[n:]
		if typ == protowire.VarintType && int(field) < len(uints) {
			if uints[field], n = protowire.ConsumeVarint(b); n < 0 {
				return r, protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return r, protowire.ParseError(n)
		}
		b = b[n:]
		if err := r.text(field, v); err != nil {
			return r, err
		}
	}
	r.epoch, r.seq, r.total, r.prev, r.write = uints[1], uints[2], uints[7], uints[8], uints[17]
	r.seen = schema.Position{Epoch: uints[3], Seq: uints[4]}
	r.stamp = schema.Stamp{Millis: int64(uints[5]), Counter: uint32(uints[6])}
	r.part, r.more, r.closed, r.changes = uint32(uints[9]), uints[10] != 0, uints[11] != 0, int(uints[12])
	return r, nil
}

func (r *record) text(field protowire.Number, v []byte) error {
	switch field {
	case 13:
		r.office = schema.Office(v)
	case 14:
		r.source = string(v)
	case 15:
		a, err := parseAcknowledgement(v)
		r.acked = append(r.acked, a)
		return err
	case 16:
		r.message = v
	default:
		return fmt.Errorf("unknown field %d: the journal was written by a newer program", field)
	}
	return nil
}

func parseAcknowledgement(b []byte) (schema.Acknowledgement, error) {
	var a schema.Acknowledgement
	_, _, n := protowire.ConsumeTag(b)
	office, m := protowire.ConsumeBytes(b[max(n, 0):])
	if n < 0 || m < 0 {
		return a, errors.New("damaged acknowledgement")
	}
	a.Office, b = schema.Office(office), b[n+m:]
	for _, to := range []*uint64{&a.Pos.Epoch, &a.Pos.Seq} {
		_, _, n := protowire.ConsumeTag(b)
		v, m := protowire.ConsumeVarint(b[max(n, 0):])
		if n < 0 || m < 0 {
			return a, errors.New("damaged acknowledgement")
		}
		*to, b = v, b[n+m:]
	}
	return a, nil
}
