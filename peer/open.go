package peer

import (
	"fmt"
	"iter"
	"sync"

	"cdc-sidecar/schema"
)

// openedAhead bounds the messages that are read while earlier ones are applied.
const openedAhead = 4

// opened is a delivery that has been read: its envelope, and the body of a message of whole transactions.
type opened struct {
	Delivery
	message schema.Message
	err     error // of the envelope, or of who speaks
	txs     []schema.Transaction
	bytes   int           // of the body
	damage  error         // of the body
	chunk   *schema.Chunk // in one message, with its rows; nil: it is read later
}

// opened reads the deliveries of a batch, in order, the next ones while one is dealt with: the database works on a group
// while the group behind it is unpacked.
func (p *Peers) opened(batch []Delivery) iter.Seq[*opened] {
	return func(yield func(*opened) bool) {
		if len(batch) == 1 {
			yield(p.open(batch[0]))
			return
		}
		ready, quit := make(chan *opened, openedAhead), make(chan struct{})
		var reader sync.WaitGroup
		reader.Go(func() {
			defer close(ready)
			for _, d := range batch {
				select {
				case ready <- p.open(d):
				case <-quit:
					return
				}
			}
		})
		defer reader.Wait()
		defer close(quit)
		for o := range ready {
			if !yield(o) {
				return
			}
		}
	}
}

func (p *Peers) open(d Delivery) *opened {
	o := &opened{Delivery: d}
	if o.message, o.err = p.envelope(d); o.err != nil {
		return o
	}
	m := &o.message
	if m.Kind == schema.MessageChunk && m.Part == 0 && !m.Continued {
		if c, err := schema.DecodeChunk(m.Body); err == nil && c.To == p.cfg.Office {
			_, _ = c.Changes() // who takes it asks again, and is told what is wrong
			o.chunk = c
		}
		return o
	}
	if m.Kind == schema.MessageControl || m.Kind == schema.MessageChunk || m.Part > 0 || m.More || m.Continued { // pieces are spooled as they are
		return o
	}
	var batch schema.Batch
	batch, o.bytes, o.damage = schema.UnpackBatch(m.Body, m.Codec, m.Epoch)
	o.txs = batch.Transactions
	return o
}

// envelope reads an envelope and checks who speaks.
func (p *Peers) envelope(d Delivery) (schema.Message, error) {
	m, err := schema.DecodeMessage(d.Bytes())
	if err != nil {
		return m, err
	}
	strict := p.cfg.User == string(p.cfg.Office)
	switch user := d.User(); {
	case m.Sender == p.cfg.Office:
		return m, fmt.Errorf("%w: it names this office as its sender; do two offices have the name %s?", schema.ErrNotOurs, m.Sender)
	case strict && user != string(m.Sender):
		return m, fmt.Errorf("%w: broker user %q speaks for office %s", schema.ErrNotOurs, user, m.Sender)
	case !strict && user != p.cfg.User:
		return m, fmt.Errorf("%w: broker user %q, want %q", schema.ErrNotOurs, user, p.cfg.User)
	}
	return m, nil
}
