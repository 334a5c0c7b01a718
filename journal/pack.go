package journal

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"cdc-sidecar/schema"
)

const (
	// groupBytes is how much of small transactions shares a message: enough for zstd and for the broker's round trip to be
	// worth it, small enough that a receiver holds a few dozen of them.
	groupBytes = 256 << 10
	// maxMessage is the protocol's bound of a message.
	maxMessage = 1 << 20
	// messageRoom is kept for the envelope beside the body: its acknowledgements take some 60 bytes an office.
	messageRoom = 64 << 10
)

// packer turns transactions into records. It does no I/O.
type packer struct {
	head    head
	now     func() time.Time
	piece   uint32 // the next piece of the transaction under way
	part    int    // the next part of it
	inside  bool   // between two parts of one transaction
	records []record
	body    []byte
}

// pack numbers txs and makes their records. The head moves along; the caller keeps it when the records are durable.
func (p *packer) pack(txs []schema.Transaction) error {
	var group []schema.Transaction // whole and closed, to share a message
	size := 0
	moved := false // only the place did, since the last record
	flush := func() error {
		if moved && len(group) == 0 {
			p.add(record{closed: true})
		}
		err := p.message(group, true)
		group, size, moved = nil, 0, false
		return err
	}
	for len(txs) > 0 {
		if txs[0].Silent() {
			if p.inside {
				return fmt.Errorf("journal: a transaction ends without its last part, at %s", txs[0].Source)
			}
			p.silent(&txs[0])
			moved, txs = moved || txs[0].Source != "", txs[1:]
			continue
		}
		unit, closed := unit(txs)
		txs = txs[len(unit):]
		bytes, whole := measure(unit)
		small := closed && whole && !p.inside && bytes <= groupBytes
		if !small || size+bytes > groupBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		if !small {
			if err := p.large(unit, closed); err != nil {
				return err
			}
			continue
		}
		if err := p.number(unit); err != nil {
			return err
		}
		group, size, moved = append(group, unit...), size+bytes, false
	}
	return flush()
}

// unit is what one database transaction gave: up to the first that names a place to start again from.
func unit(txs []schema.Transaction) ([]schema.Transaction, bool) {
	for i := range txs {
		if txs[i].Source != "" {
			return txs[:i+1], true
		}
	}
	return txs, false
}

func measure(txs []schema.Transaction) (bytes int, whole bool) {
	whole = true
	for i := range txs {
		bytes += txs[i].Bytes()
		whole = whole && txs[i].Part == 0 && txs[i].Last && !txs[i].Silent()
	}
	return bytes, whole
}

// large packs a unit that does not fit into one message, or is not whole: its records are open but for the last. Each is
// made before the head moves on to the next transaction.
func (p *packer) large(unit []schema.Transaction, closed bool) error {
	var group []schema.Transaction
	size := 0
	flush := func(closed bool) error {
		err := p.message(group, closed)
		group, size = nil, 0
		return err
	}
	for i := range unit {
		t := &unit[i]
		whole := t.Part == 0 && t.Last
		if len(group) > 0 && (!whole || t.Silent() || size+t.Bytes() > groupBytes) {
			if err := flush(false); err != nil {
				return err
			}
		}
		if t.Silent() { // at the end of a unit whose transactions did not know that they were its last
			if p.inside {
				return fmt.Errorf("journal: a transaction ends without its last part, at %s", t.Source)
			}
			p.silent(t)
			continue
		}
		if err := p.number(unit[i : i+1]); err != nil {
			return err
		}
		group, size = append(group, *t), size+t.Bytes()
		if !whole {
			if err := flush(closed && i == len(unit)-1); err != nil {
				return err
			}
		}
	}
	if closed && unit[len(unit)-1].Silent() {
		p.add(record{closed: true})
	}
	return flush(closed)
}

// number gives each transaction its place, its stamp and, when it is our own, its origin's place. Parts share them.
func (p *packer) number(txs []schema.Transaction) error {
	for i := range txs {
		t := &txs[i]
		if p.inside != (t.Part > 0) || t.Part != p.part {
			return fmt.Errorf("journal: part %d of a transaction of %s follows part %d", t.Part, t.Origin, p.part-1)
		}
		p.move(t)
		if t.Part == 0 {
			p.begin(t)
		}
		p.inside, p.part = !t.Last, t.Part+1
		if t.Last {
			p.part = 0
		}
		t.Pos = schema.Position{Epoch: p.head.epoch, Seq: p.head.seq}
		if t.Origin == p.head.office {
			t.OriginPos, t.Stamp, t.Seen = t.Pos, p.head.stamp, p.head.seen // a capture that started anew does not know it
		}
	}
	return nil
}

// begin opens the next seq and moves the clock: up to the stamp that the transaction has, and of our own, where that is what
// the office had seen by then, past it and past its commit.
func (p *packer) begin(t *schema.Transaction) {
	p.head.seq++
	p.piece = 0
	p.head.stamp = p.head.stamp.Max(t.Stamp)
	if t.Origin == p.head.office {
		p.head.stamp = p.head.stamp.Next(p.happened(t.Commit))
		return
	}
	p.acknowledge(t.Origin, t.OriginPos)
}

// happened is the commit time; where the log has whole seconds only, the time of capture, clamped into that second.
func (p *packer) happened(commit time.Time) time.Time {
	if commit.Nanosecond() != 0 {
		return commit
	}
	now := p.now()
	if commit.IsZero() {
		return now
	}
	end := commit.Add(time.Second - time.Millisecond)
	switch {
	case now.Before(commit):
		return commit
	case now.After(end):
		return end
	default:
		return now
	}
}

// acknowledge notes how far an origin's stream had been applied here. The list is ordered and never changed in place:
// records that were made before share it.
func (p *packer) acknowledge(origin schema.Office, pos schema.Position) {
	acked := slices.Clone(p.head.acked)
	i, found := slices.BinarySearchFunc(acked, origin, func(a schema.Acknowledgement, o schema.Office) int {
		return strings.Compare(string(a.Office), string(o))
	})
	if !found {
		acked = slices.Insert(acked, i, schema.Acknowledgement{Office: origin})
	}
	acked[i].Pos = pos
	p.head.acked = acked
}

// move takes over the place in the database's log, and what the office had seen there.
func (p *packer) move(t *schema.Transaction) {
	if t.Source != "" {
		p.head.source = t.Source
	}
	if !t.Seen.IsZero() {
		p.head.seen = t.Seen
	}
}

// silent takes over a place with nothing to send. Without a place it needs no record: a capture that starts anew reads it again.
func (p *packer) silent(t *schema.Transaction) {
	p.move(t)
	p.head.stamp = p.head.stamp.Max(t.Stamp)
}

// message makes the records of transactions that share a body: one, or several when the body must be cut.
func (p *packer) message(txs []schema.Transaction, closed bool) error {
	if len(txs) == 0 {
		return nil
	}
	p.body = schema.AppendBatch(p.body[:0], txs)
	if len(p.body) > schema.MaxBody {
		return &schema.RejectedError{
			Table: txs[0].Changes[0].Table.TableName, At: txs[0].Pos,
			Cause: fmt.Errorf("a change of %d MiB; at most %d are shipped", len(p.body)>>20, schema.MaxBody>>20),
		}
	}
	body, codec, err := schema.Pack(p.body)
	if err != nil {
		return err
	}
	changes := 0
	for i := range txs {
		changes += len(txs[i].Changes)
	}
	last := &txs[len(txs)-1]
	acked := p.head.acked
	if schema.Planted(schema.AcknowledgedByEcho) {
		acked = slices.DeleteFunc(slices.Clone(acked), func(a schema.Acknowledgement) bool { return a.Office != last.Origin })
	}
	for more := true; more; {
		cut := body[:min(len(body), maxMessage-messageRoom)]
		body = body[len(cut):]
		more = len(body) > 0
		m := schema.Message{
			Version: schema.WireVersion, Kind: schema.MessageTransaction, Sender: p.head.office, Epoch: p.head.epoch,
			Stream: schema.StreamAll, Prev: txs[0].Pos.Seq - 1, Seq: last.Pos.Seq, Part: p.piece,
			More: more || !last.Last, Continued: more, Acknowledged: acked, Codec: codec, Body: cut,
		}
		r := record{prev: m.Prev, part: m.Part, more: m.More, closed: closed && !more, changes: changes}
		r.message = schema.AppendMessage(make([]byte, 0, len(cut)+messageRoom/64), &m)
		p.add(r)
		p.piece++
		changes = 0
	}
	if last.Last {
		p.piece = 0
	}
	return nil
}

// recordCost is what a record takes beside its message, roughly.
const recordCost = 128

func (p *packer) add(r record) {
	p.head.total += uint64(len(r.message) + recordCost)
	r.head = p.head
	p.records = append(p.records, r)
}
