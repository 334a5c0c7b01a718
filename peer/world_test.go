package peer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cdc-sidecar/peer"
	"cdc-sidecar/schema"
)

// The world of these tests: offices with a database and a journal in memory, and a broker that loses, repeats and
// overflows. Time is testing/synctest's.

var orders = schema.NewTable(schema.Table{TableName: schema.TableName{Name: "orders"}, Key: []int{0}, Columns: []schema.Column{{Name: "id", Kind: schema.KindInt, Size: 64}}})

type office struct {
	name  schema.Office
	role  schema.Role
	peers *peer.Peers
	box   *outbox
	db    *database
	queue *queue
	away  atomic.Bool // its queue is not bound
	said  saidOf
}

type world struct {
	t       *testing.T
	r       *rand.Rand
	offices []*office // the head first
}

func newWorld(t *testing.T, seed int64, branches int) *world {
	w := &world{t: t, r: rand.New(rand.NewSource(seed))}
	for i := range branches + 1 {
		o := &office{name: schema.Office(fmt.Sprintf("branch-%d", i)), role: schema.Branch, queue: &queue{wake: make(chan struct{}, 1)}}
		if i == 0 {
			o.name, o.role = "head", schema.Head
		}
		o.box = &outbox{office: o.name, epoch: uint64(1000 + i), grown: make(chan struct{})}
		o.db = &database{office: o, progress: map[schema.Office]schema.Position{}, rows: map[string]int{}, members: map[schema.Office]peer.Member{}}
		o.peers = peer.New(peer.Config{
			Office: o.name, Role: o.role, Engine: schema.Postgres, Dir: t.TempDir(), User: "shared", Unsettled: 16,
			Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Definitions: o.said.heard,
		}, o.box, o.db, o.db)
		w.offices = append(w.offices, o)
	}
	return w
}

// live runs the two corridors of an office until ctx ends, each again and again as the supervisor would; a session breaks
// with the given chance at each step.
func (w *world) live(ctx context.Context, o *office, breaks func() bool) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			_ = o.peers.Ship(ctx, &wire{w: w, from: o, breaks: breaks})
			rest(ctx, 100*time.Millisecond)
		}
	})
	wg.Go(func() {
		for ctx.Err() == nil {
			w.receive(ctx, o, breaks)
			rest(ctx, 100*time.Millisecond)
		}
	})
	wg.Wait()
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (w *world) receive(ctx context.Context, o *office, breaks func() bool) {
	if o.peers.Start(ctx) != nil {
		return
	}
	o.queue.requeue()
	for ctx.Err() == nil {
		batch := o.queue.take(ctx, 8)
		if breaks() {
			return
		}
		if o.peers.Receive(ctx, batch) != nil {
			return
		}
	}
}

// queue is a broker's queue: unsettled deliveries come again, in order, when a session ends.
type queue struct {
	mu    sync.Mutex
	ready []*delivery
	out   []*delivery
	limit int // drop-head above this many; 0: none
	wake  chan struct{}
}

type delivery struct {
	body    []byte
	settled bool
}

func (d *delivery) Bytes() []byte { return d.body }
func (d *delivery) User() string  { return "shared" }
func (d *delivery) Settle()       { d.settled = true }

func (q *queue) push(body []byte) {
	q.mu.Lock()
	q.ready = append(q.ready, &delivery{body: body})
	if q.limit > 0 && len(q.ready) > q.limit {
		q.ready = q.ready[1:]
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) requeue() {
	q.mu.Lock()
	defer q.mu.Unlock()
	var back []*delivery
	for _, d := range q.out {
		if !d.settled {
			back = append(back, d)
		}
	}
	q.ready, q.out = append(back, q.ready...), nil
}

func (q *queue) purge() {
	q.mu.Lock()
	q.ready = nil
	q.mu.Unlock()
}

func (q *queue) take(ctx context.Context, n int) []peer.Delivery {
	select {
	case <-q.wake:
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	var kept []*delivery
	for _, d := range q.out {
		if !d.settled {
			kept = append(kept, d)
		}
	}
	q.out = kept
	var batch []peer.Delivery
	for len(q.ready) > 0 && len(batch) < n && len(q.out) < 16 {
		batch = append(batch, q.ready[0])
		q.out, q.ready = append(q.out, q.ready[0]), q.ready[1:]
	}
	if len(q.ready) > 0 && len(q.out) < 16 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return batch
}

// wire is the way to the broker: what it confirms is in the queues.
type wire struct {
	w      *world
	from   *office
	breaks func() bool
}

func (l *wire) Publish(ctx context.Context, parcels []peer.Parcel) (int, error) {
	for i, p := range parcels {
		if l.breaks() {
			return i, errors.New("the line broke")
		}
		reached := false
		for _, o := range l.w.offices {
			if o.role != l.from.role && !o.away.Load() && (p.To == "" || p.To == o.name) {
				o.queue.push(p.Body)
				reached = true
			}
		}
		if !reached {
			return i, peer.ErrNobody
		}
	}
	return len(parcels), ctx.Err()
}

// outbox is a journal in memory; it grows by what capture reads from the database's log.
type outbox struct {
	mu        sync.Mutex
	office    schema.Office
	epoch     uint64
	first     int // entries before it are released
	entries   []peer.Entry
	seq       uint64
	seen      schema.Position
	acks      map[schema.Office]schema.Position
	published uint64
	grown     chan struct{}
}

// capture appends one transaction of n pieces as the journal would.
func (b *outbox) capture(origin schema.Office, pos, seen schema.Position, id string, pieces int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	if origin == b.office {
		pos = schema.Position{Epoch: b.epoch, Seq: b.seq}
	} else {
		if b.acks == nil {
			b.acks = map[schema.Office]schema.Position{}
		}
		b.acks[origin] = pos
	}
	b.seen = seen
	for i := range pieces {
		tx := schema.Transaction{
			Origin: origin, OriginPos: pos, Pos: schema.Position{Epoch: b.epoch, Seq: b.seq}, Seen: seen, Part: i, Last: i == pieces-1,
			Changes: []schema.Change{{Table: orders, Op: schema.Insert, After: schema.Row{schema.Of(fmt.Sprintf("%s-%d", id, i))}}},
		}
		m := schema.Message{
			Version: schema.WireVersion, Kind: schema.MessageTransaction, Sender: b.office, Epoch: b.epoch, Stream: schema.StreamAll,
			Prev: b.seq - 1, Seq: b.seq, Part: uint32(i), More: !tx.Last, Body: schema.AppendBatch(nil, []schema.Transaction{tx}),
		}
		for o, p := range b.acks {
			m.Acknowledged = append(m.Acknowledged, schema.Acknowledgement{Office: o, Pos: p})
		}
		b.entries = append(b.entries, peer.Entry{Prev: m.Prev, Seq: m.Seq, Part: m.Part, More: m.More, Message: schema.AppendMessage(nil, &m), Next: uint64(len(b.entries) + 1)})
	}
	close(b.grown)
	b.grown = make(chan struct{})
}

func (b *outbox) Acknowledged(office schema.Office) (schema.Position, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.acks[office], b.seq
}

func (b *outbox) applied(seen schema.Position) {
	b.mu.Lock()
	b.seen = seen
	b.mu.Unlock()
}

func (b *outbox) Epoch() uint64 { return b.epoch }

func (b *outbox) Bounds() (uint64, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.first >= len(b.entries) {
		return b.seq + 1, b.seq
	}
	return b.entries[b.first].Seq, b.seq
}

func (b *outbox) Seen() schema.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen
}

func (b *outbox) Seek(seq uint64) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, e := range b.entries {
		if e.Seq >= seq {
			if i < b.first {
				return 0, peer.ErrReleased
			}
			return uint64(i), nil
		}
	}
	return uint64(len(b.entries)), nil
}

func (b *outbox) Read(cursor uint64, maxBytes int) ([]peer.Entry, uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []peer.Entry
	for bytes := 0; int(cursor) < len(b.entries) && (len(out) == 0 || bytes < maxBytes); cursor++ {
		if int(cursor) < b.first {
			return nil, 0, peer.ErrReleased
		}
		out = append(out, b.entries[cursor])
		bytes += len(b.entries[cursor].Message)
	}
	return out, cursor, nil
}

func (b *outbox) Grown() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.grown
}

func (b *outbox) Release(seq uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.first < len(b.entries) && b.entries[b.first].Seq <= seq {
		b.first++
	}
	return nil
}

func (b *outbox) Pressed() bool     { return false }
func (b *outbox) Published() uint64 { return b.published }
func (b *outbox) SetPublished(seq uint64) {
	b.mu.Lock()
	b.published = seq
	b.mu.Unlock()
}

// database applies, counts each row, and is captured at once, as the office's log would be.
type database struct {
	office   *office
	mu       sync.Mutex
	progress map[schema.Office]schema.Position
	rows     map[string]int
	open     []string
	members  map[schema.Office]peer.Member
	reject   func(schema.Transaction) error
	fail     func() bool
}

func (d *database) write(id string, pieces int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range pieces {
		d.rows[fmt.Sprintf("%s-%d", id, i)]++
	}
	var seen schema.Position
	if d.office.role == schema.Branch {
		seen = d.progress["head"]
	}
	d.office.box.capture(d.office.name, schema.Position{}, seen, id, pieces)
}

func (d *database) Progress(_ context.Context, sender schema.Office) (schema.Position, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	pos, ok := d.progress[sender]
	return pos, ok, nil
}

func (d *database) Apply(_ context.Context, sender schema.Office, txs []schema.Transaction) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil && d.fail() {
		d.open = nil
		return errors.New("the database went away")
	}
	for _, tx := range txs {
		have := d.progress[sender]
		if tx.Pos.Seq <= have.Seq {
			continue
		}
		if tx.Pos.Seq != have.Seq+1 || tx.Pos.Epoch != have.Epoch || tx.Part != len(d.open) {
			return fmt.Errorf("%s: %s part %d of %s does not follow %s", d.office.name, tx.Pos, tx.Part, sender, have)
		}
		if d.reject != nil {
			if err := d.reject(tx); err != nil {
				d.open = nil
				return err
			}
		}
		d.open = append(d.open, tx.Changes[0].After[0].Text())
		if !tx.Last {
			continue
		}
		d.commit(sender, tx)
	}
	return nil
}

func (d *database) commit(sender schema.Office, tx schema.Transaction) {
	d.progress[sender] = tx.Pos
	ids := d.open
	d.open = nil
	if tx.Origin != d.office.name {
		for _, id := range ids {
			d.rows[id]++
		}
	}
	if d.office.role == schema.Branch {
		d.office.box.applied(tx.Pos)
		return
	}
	id := ids[0][:len(ids[0])-2]
	d.office.box.capture(tx.Origin, tx.OriginPos, schema.Position{}, id, len(ids))
}

func (d *database) Begin(_ context.Context, sender schema.Office, pos schema.Position) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.progress[sender] = pos
	return nil
}

func (d *database) Forget(_ context.Context, sender schema.Office) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.progress, sender)
	return nil
}

func (d *database) Tend(context.Context, schema.Office) error { return nil }

func (d *database) Discard(context.Context) {
	d.mu.Lock()
	d.open = nil
	d.mu.Unlock()
}

func (d *database) Members(context.Context) ([]peer.Member, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []peer.Member
	for _, m := range d.members {
		out = append(out, m)
	}
	return out, nil
}

func (d *database) Save(_ context.Context, members ...peer.Member) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range members {
		d.members[m.Office] = m
	}
	return nil
}

func (d *database) Remove(_ context.Context, o schema.Office) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.members, o)
	return nil
}

func (d *database) Senders(context.Context) (map[schema.Office]schema.Position, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[schema.Office]schema.Position{}
	for o, p := range d.progress {
		out[o] = p
	}
	return out, nil
}

func (w *world) dump(t *testing.T) {
	for _, o := range w.offices {
		s, c := o.peers.Status()
		f, l := o.box.Bounds()
		t.Logf("%s box %d..%d seen %v published %d counts %+v", o.name, f, l, o.box.Seen(), o.box.Published(), c)
		for _, x := range s {
			t.Logf("   %+v", x)
			if x.Halted != nil {
				t.Logf("      %+v", *x.Halted)
			}
		}
	}
}
