package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/sync/errgroup"

	"cdc-sidecar/broker"
	"cdc-sidecar/peer"
	"cdc-sidecar/schema"
)

// receiver is a branch without a database: a real queue, the real protocol, and behind it something that only counts. Its
// journal is empty: it reports what it has by markers.
type receiver struct {
	name  schema.Office
	url   string // of the broker, with the virtual host
	dir   string
	epoch uint64
	log   *slog.Logger
	// turn is one for all receivers: they take what came one after another, for fifty at once would hold fifty groups of
	// decoded rows in memory.
	turn *sync.Mutex

	mu   sync.Mutex
	head schema.Office
	pos  schema.Position // the last transaction of the head that is here, all before it too
	part int             // the next part of the transaction under way
	rows uint64
	news chan struct{} // closed when pos moves
}

func newReceiver(name schema.Office, url, dir string, epoch uint64, turn *sync.Mutex) *receiver {
	return &receiver{name: name, url: url, dir: dir, epoch: epoch, log: slog.New(slog.DiscardHandler), turn: turn, news: make(chan struct{})}
}

// run takes what comes until ctx ends. A session that breaks ends it with an error: nothing here cuts links.
func (r *receiver) run(ctx context.Context) error {
	cfg := broker.Config{URL: r.url, Office: r.name, Role: schema.Branch, Program: "bench"}
	if err := broker.Declare(ctx, cfg); err != nil {
		return fmt.Errorf("receiver %s: %w", r.name, err)
	}
	peers := peer.New(peer.Config{
		Office: r.name, Role: schema.Branch, Engine: schema.Postgres, Program: "bench", Dir: r.dir,
		User: cfg.User(), Unsettled: broker.Prefetch, Log: r.log,
	}, r, r, r)
	if err := peers.Start(ctx); err != nil {
		return err
	}
	publisher, err := broker.OpenPublisher(ctx, cfg)
	if err != nil {
		return fmt.Errorf("receiver %s: %w", r.name, err)
	}
	defer func() { _ = publisher.Close() }()
	consumer, err := broker.OpenConsumer(ctx, cfg)
	if err != nil {
		return fmt.Errorf("receiver %s: %w", r.name, err)
	}
	defer func() { _ = consumer.Close() }()
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error { return peers.Ship(inner, upward{publisher}) })
	g.Go(func() error {
		return consumer.Run(inner, func(ctx context.Context, batch []*broker.Delivery) error {
			in := make([]peer.Delivery, len(batch))
			for i, d := range batch {
				in[i] = downward{d}
			}
			r.turn.Lock()
			defer r.turn.Unlock()
			return peers.Receive(ctx, in)
		})
	})
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("receiver %s: %w", r.name, err)
	}
	return nil
}

// upward is the publisher as peer sees it. A branch's messages all go to the head.
type upward struct{ *broker.Publisher }

func (w upward) Publish(ctx context.Context, parcels []peer.Parcel) (int, error) {
	out := make([]broker.Outgoing, len(parcels))
	for i := range parcels {
		out[i] = broker.Outgoing{Key: broker.StreamKey(schema.StreamAll), Body: parcels[i].Body, Mandatory: true}
	}
	n, err := w.Publisher.Publish(ctx, out)
	if errors.Is(err, broker.ErrUnroutable) {
		err = errors.Join(peer.ErrNobody, err)
	}
	return n, err
}

// downward is a broker's delivery as peer sees it.
type downward struct{ *broker.Delivery }

func (d downward) Bytes() []byte { return d.Body }
func (d downward) User() string  { return d.UserID }

// has is how far the head's stream is here, how many rows it had so far, and a channel that is closed when there is more.
func (r *receiver) has() (pos schema.Position, rows uint64, more <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pos, r.rows, r.news
}

// until waits until so many rows have come.
func (r *receiver) until(ctx context.Context, want uint64) error {
	for {
		pos, rows, more := r.has()
		if rows >= want {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("receiver %s is at %s with %d of %d rows: %w", r.name, pos, rows, want, context.Cause(ctx))
		}
	}
}

// Apply counts, and insists on every transaction and every part in its place.
func (r *receiver) Apply(_ context.Context, _ schema.Office, txs []schema.Transaction) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range txs {
		t := &txs[i]
		if t.Pos.Seq != r.pos.Seq+1 || t.Part != r.part {
			return fmt.Errorf("transaction %s part %d came behind %s part %d", t.Pos, t.Part, r.pos, r.part)
		}
		r.rows += uint64(len(t.Changes))
		r.part++
		if t.Last {
			r.pos.Seq, r.part = t.Pos.Seq, 0
		}
	}
	close(r.news)
	r.news = make(chan struct{})
	return nil
}

// Begin implements peer.Applier.
func (r *receiver) Begin(_ context.Context, sender schema.Office, pos schema.Position) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.head, r.pos = sender, pos
	return nil
}

// Progress implements peer.Applier.
func (r *receiver) Progress(_ context.Context, sender schema.Office) (schema.Position, bool, error) {
	pos, _, _ := r.has()
	return pos, r.head == sender, nil
}

// Senders implements peer.Register.
func (r *receiver) Senders(context.Context) (map[schema.Office]schema.Position, error) {
	pos, _, _ := r.has()
	if pos.IsZero() {
		return nil, nil
	}
	return map[schema.Office]schema.Position{r.head: pos}, nil
}

// Forget, Discard and Tend implement peer.Applier: there is nothing to forget, roll back or tend.
func (r *receiver) Forget(context.Context, schema.Office) error { return nil }

// Discard implements peer.Applier.
func (r *receiver) Discard(context.Context) {}

// Tend implements peer.Applier.
func (r *receiver) Tend(context.Context, schema.Office) error { return nil }

// Members, Save and Remove implement peer.Register: a branch has no members.
func (r *receiver) Members(context.Context) ([]peer.Member, error) { return nil, nil }

// Save implements peer.Register.
func (r *receiver) Save(context.Context, ...peer.Member) error { return nil }

// Remove implements peer.Register.
func (r *receiver) Remove(context.Context, schema.Office) error { return nil }

// Epoch implements peer.Outbox, of a journal that stays empty.
func (r *receiver) Epoch() uint64 { return r.epoch }

// Bounds implements peer.Outbox.
func (r *receiver) Bounds() (first, last uint64) { return 1, 0 }

// Acknowledged is asked of heads only.
func (*receiver) Acknowledged(schema.Office) (schema.Position, uint64) { return schema.Position{}, 0 }

// Seen is what a marker reports.
func (r *receiver) Seen() schema.Position {
	pos, _, _ := r.has()
	return pos
}

// Seek implements peer.Outbox.
func (r *receiver) Seek(uint64) (uint64, error) { return 0, nil }

// Read implements peer.Outbox.
func (r *receiver) Read(cursor uint64, _ int) ([]peer.Entry, uint64, error) { return nil, cursor, nil }

// Grown implements peer.Outbox: a nil channel never tells of news.
func (r *receiver) Grown() <-chan struct{} { return nil }

// Release implements peer.Outbox.
func (r *receiver) Release(uint64) error { return nil }

// Pressed implements peer.Outbox.
func (r *receiver) Pressed() bool { return false }

// Published implements peer.Outbox.
func (r *receiver) Published() uint64 { return 0 }

// SetPublished implements peer.Outbox.
func (r *receiver) SetPublished(uint64) {}
