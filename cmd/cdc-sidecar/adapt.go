package main

import (
	"context"
	"errors"

	"cdc-sidecar/apply"
	"cdc-sidecar/broker"
	"cdc-sidecar/capture"
	"cdc-sidecar/clock"
	"cdc-sidecar/journal"
	"cdc-sidecar/peer"
	"cdc-sidecar/schema"
)

// The rooms do not know one another; here the journal becomes peer's outbox and the broker its wire.

type outbox struct {
	*journal.Journal
	clocks  *clock.Follower
	applier *apply.Applier
}

// Release lets everything to seq go, and the row clocks of it. While rows are owed to the other offices nothing goes: the
// journal is what tells of them after a crash.
func (o outbox) Release(seq uint64) error {
	if o.applier.Owed() > 0 {
		return nil
	}
	if err := o.Journal.Release(seq); err != nil {
		return err
	}
	return o.clocks.Forget()
}

func (o outbox) Seen() schema.Position { return o.State().Seen }

func (o outbox) Seek(seq uint64) (uint64, error) {
	c, err := o.Journal.Seek(seq)
	if err != nil {
		return 0, gone(err)
	}
	return uint64(c), nil
}

func (o outbox) Read(cursor uint64, maxBytes int) ([]peer.Entry, uint64, error) {
	entries, next, err := o.Journal.Read(journal.Cursor(cursor), maxBytes)
	if err != nil {
		return nil, 0, gone(err)
	}
	out := make([]peer.Entry, len(entries))
	for i, e := range entries {
		out[i] = peer.Entry{Prev: e.Prev, Seq: e.Seq, Part: e.Part, More: e.More, Message: e.Message, Next: uint64(e.Next)}
	}
	return out, uint64(next), nil
}

func gone(err error) error {
	var released *journal.ReleasedError
	if errors.As(err, &released) {
		return errors.Join(peer.ErrReleased, err)
	}
	return err
}

// pressed is the part of its budget at which the journal asks for relief, in percent.
const pressed = 90

func (o outbox) Pressed() bool {
	s := o.State()
	return s.Bytes >= s.Budget/100*pressed
}

func (o outbox) SetPublished(seq uint64) { _ = o.Journal.SetPublished(seq) } // only a remembered convenience: a loss is a resend

// wire is the publisher as peer sees it: who gets a parcel becomes a routing key.
type wire struct {
	publisher *broker.Publisher
	role      schema.Role
}

func (w wire) Publish(ctx context.Context, parcels []peer.Parcel) (int, error) {
	out := make([]broker.Outgoing, len(parcels))
	for i, p := range parcels {
		key := broker.StreamKey(schema.StreamAll)
		if p.To != "" {
			key = broker.OfficeKey(p.To)
		}
		out[i] = broker.Outgoing{Key: key, Body: p.Body, Mandatory: true}
	}
	n, err := w.publisher.Publish(ctx, out)
	if errors.Is(err, broker.ErrUnroutable) {
		err = errors.Join(peer.ErrNobody, err)
	}
	return n, err
}

// delivery is a broker's delivery as peer sees it.
type delivery struct{ *broker.Delivery }

func (d delivery) Bytes() []byte { return d.Body }
func (d delivery) User() string  { return d.UserID }

func inbound(batch []*broker.Delivery) []peer.Delivery {
	out := make([]peer.Delivery, len(batch))
	for i, d := range batch {
		out[i] = delivery{d}
	}
	return out
}

// hurried are row clocks whose marks the log's reader hurries to.
type hurried struct {
	*clock.Follower
	hurry *capture.Hurry
}

func (h hurried) Passed(ctx context.Context, mark uint64) error {
	h.hurry.Begin()
	defer h.hurry.End()
	return h.Follower.Passed(ctx, mark)
}
