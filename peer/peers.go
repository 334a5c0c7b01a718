package peer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"cdc-sidecar/schema"
)

// Entry is one message of the journal, ready to publish.
type Entry struct {
	Prev, Seq uint64
	Part      uint32
	More      bool // the transaction goes on in the next entry
	Message   []byte
	Next      uint64 // the cursor behind it
}

// Outbox is the office's journal as its peers need it.
type Outbox interface {
	Epoch() uint64
	// Bounds are the first seq still held and the last that may be sent; last = first-1 when nothing is held.
	Bounds() (first, last uint64)
	// Acknowledged is how far an office's stream had been applied here at the place of last, the last that may be sent.
	Acknowledged(office schema.Office) (pos schema.Position, last uint64)
	// Seen is the head position applied before Last in the office's own log.
	Seen() schema.Position
	// Seek finds the entry that reaches seq; its error wraps ErrReleased when that is gone.
	Seek(seq uint64) (cursor uint64, err error)
	// Read returns entries from the cursor on, at least one where there is one, and the cursor behind them.
	Read(cursor uint64, maxBytes int) ([]Entry, uint64, error)
	// Grown is closed when more than the last call's Bounds may be sent.
	Grown() <-chan struct{}
	// Release lets everything to seq go.
	Release(seq uint64) error
	// Pressed reports that the journal nears its budget.
	Pressed() bool
	Published() uint64
	SetPublished(seq uint64)
}

// ErrReleased says that the journal no longer holds what was asked for.
var ErrReleased = errors.New("no longer in the journal")

// Parcel is one message on its way to the broker. To is empty for everybody who listens to our stream.
type Parcel struct {
	To   schema.Office
	Body []byte
}

// Wire carries parcels, in order. It returns how many of them, from the first on, are confirmed; an error that wraps
// ErrNobody says that nobody listens yet to the one behind those.
type Wire interface {
	Publish(ctx context.Context, parcels []Parcel) (confirmed int, err error)
}

// ErrNobody says that a message reached no queue: it waits.
var ErrNobody = errors.New("nobody listens yet")

// Delivery is one message from the broker. Settle says that the broker may forget it.
type Delivery interface {
	Bytes() []byte
	User() string
	Settle()
}

// Applier applies streams to the office's database.
type Applier interface {
	Progress(ctx context.Context, sender schema.Office) (schema.Position, bool, error)
	Apply(ctx context.Context, sender schema.Office, txs []schema.Transaction) error
	// Begin records that sender's stream will be applied from behind pos on.
	Begin(ctx context.Context, sender schema.Office, pos schema.Position) error
	// Forget removes what is recorded of a stream.
	Forget(ctx context.Context, sender schema.Office) error
	// Discard rolls back a transaction whose last part has not come.
	Discard(ctx context.Context)
	// Tend does what is due beside the streams; at a branch, head is the one that it follows.
	Tend(ctx context.Context, head schema.Office) error
}

// Register keeps what must survive: at the head its members, at every office whose streams it applies.
type Register interface {
	Members(ctx context.Context) ([]Member, error)
	// Save writes members down.
	Save(ctx context.Context, members ...Member) error
	Remove(ctx context.Context, office schema.Office) error
	// Senders are the streams that this office has begun to apply.
	Senders(ctx context.Context) (map[schema.Office]schema.Position, error)
}

// Member is a branch as the head remembers it.
type Member struct {
	Office   schema.Office
	Engine   schema.Engine
	Epoch    uint64
	Reported schema.Position // our stream, as far as the member's own stream has said that it applied it
	Expired  bool
	Heard    time.Time
}

// Config is what the room needs to know of its office.
type Config struct {
	Office  schema.Office
	Role    schema.Role
	Engine  schema.Engine
	Program string // version, for people at the other end
	Dir     string // for spools and quarantined messages
	// User is our own broker user; where it is the office's name, identity is strict.
	User string
	// Unsettled is how many deliveries the broker lets us keep before it stops sending (its prefetch).
	Unsettled int
	// Acknowledged is told, at a branch, how far the head had processed our stream at the place of what is applied next. It
	// comes before that is applied. Nil: nobody wants to know.
	Acknowledged func(seq uint64)
	// Restored says of a head whether its database had gone back to an earlier state when its journal's epoch began; nil: it
	// had not.
	Restored func() bool
	// Definitions is told what another office asks about tables, or answers this one; nil: nobody wants to know. It returns at once.
	Definitions func(from schema.Office, d *schema.Definitions)
	Server      Server // at the head; nil: branches' requests for rows are passed by
	Joiner      Joiner // at a branch; nil: it takes the head's stream from its first transaction on, while the head holds that
	Log         *slog.Logger
}

// Peers is the office's side of the protocol. It outlives the corridors: they come and go with their connections.
type Peers struct {
	cfg      Config
	outbox   Outbox
	applier  Applier
	register Register

	wake chan struct{} // Ship has something to say

	mu      sync.Mutex
	members map[schema.Office]*member
	started bool
	say     []saying                        // control messages to send
	asked   map[schema.Office]schema.Resend // resends that others asked for
	counts  Counts

	saved time.Time // owned by Receive: when the members' reports were last written down

	// Owned by Ship.
	cursor  uint64
	next    uint64 // the seq at which cursor stands; 0: not placed yet
	within  bool   // the cursor stands inside a transaction
	window  []sent
	nobody  bool
	said    time.Time
	greeted time.Time
	// greetNow asks for a hello before its time.
	greetNow atomic.Bool
	marked   schema.Position
}

// Counts are totals since the start, for metrics.
type Counts struct {
	Published, PublishedBytes, Resent           uint64
	Received, Duplicates, Gaps, Dropped         uint64
	Quarantined, ResendsAsked, ResendsServed    uint64
	Unroutable, Spooled, Halts, ControlReceived uint64
	Chunks, ChunkBytes                          uint64 // sent by a head, received by a branch
}

type saying struct {
	to schema.Office
	c  schema.Control
}

// New makes an office's peers. Nothing happens before Start, Ship and Receive.
func New(cfg Config, outbox Outbox, applier Applier, register Register) *Peers {
	if cfg.Joiner == nil {
		cfg.Joiner = fromTheFirst{}
	}
	return &Peers{
		cfg: cfg, outbox: outbox, applier: applier, register: register,
		wake:    make(chan struct{}, 1),
		members: map[schema.Office]*member{},
		asked:   map[schema.Office]schema.Resend{},
	}
}

// Start reads what the database remembers; it comes before Receive, each time a connection is new.
func (p *Peers) Start(ctx context.Context) error {
	members, err := p.register.Members(ctx)
	if err != nil {
		return err
	}
	senders, err := p.register.Senders(ctx)
	if err != nil {
		return err
	}
	p.applier.Discard(ctx)
	p.recall(members, senders)
	if p.cfg.Role == schema.Branch {
		if err := p.freeze(ctx); err != nil {
			return err
		}
		p.hello() // Ship may have come up before there was anything to say
	}
	return nil
}

// freeze keeps what the broker has here of the head's stream from being applied when the joiner needs the tables as they are.
func (p *Peers) freeze(ctx context.Context) error {
	frozen, why, err := p.cfg.Joiner.Frozen(ctx)
	if err != nil || !frozen {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.members {
		m.join, m.held = true, why
	}
	return nil
}

// recall takes over what the database remembers, and forgets what belonged to the session before.
func (p *Peers) recall(members []Member, senders map[schema.Office]schema.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range members {
		p.member(m.Office).remember(m)
	}
	for office := range senders {
		p.member(office)
	}
	for _, m := range p.members {
		m.reset()
		m.progress = senders[m.office] // the zero position where nothing was begun
	}
	p.started = true
}

// member finds or makes the record of an office. The caller holds mu.
func (p *Peers) member(office schema.Office) *member {
	m := p.members[office]
	if m == nil {
		m = &member{office: office}
		p.members[office] = m
	}
	return m
}

// tell queues a control message and wakes Ship. A newer one of the same kind to the same office replaces the older:
// all of them are idempotent, so the queue is bounded by kinds and offices.
func (p *Peers) tell(to schema.Office, c schema.Control) {
	p.mu.Lock()
	replaced := false
	for i := range p.say {
		if p.say[i].to == to && sameKind(&p.say[i].c, &c) {
			p.say[i].c, replaced = c, true
			break
		}
	}
	if !replaced {
		p.say = append(p.say, saying{to, c})
	}
	p.mu.Unlock()
	p.nudge()
}

func (p *Peers) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func sameKind(a, b *schema.Control) bool {
	switch {
	case a.Tail != nil && b.Tail != nil:
		return (a.Tail.Answers == 0) == (b.Tail.Answers == 0)
	case a.Hello != nil:
		return b.Hello != nil
	case a.Welcome != nil:
		return b.Welcome != nil
	case a.Marker != nil:
		return b.Marker != nil
	case a.Resend != nil:
		return b.Resend != nil
	case a.Fetch != nil:
		return b.Fetch != nil
	case a.Compare != nil:
		return b.Compare != nil && a.Compare.ID == b.Compare.ID
	case a.Report != nil:
		return b.Report != nil && a.Report.ID == b.Report.ID
	case a.Definitions != nil:
		return b.Definitions != nil && sameDefinitions(a.Definitions, b.Definitions)
	}
	return false
}

// encode wraps a control message.
func (p *Peers) encode(c *schema.Control) []byte {
	return schema.AppendMessage(nil, &schema.Message{
		Version: schema.WireVersion, Kind: schema.MessageControl, Sender: p.cfg.Office, Epoch: p.outbox.Epoch(),
		Stream: schema.StreamAll, Body: schema.AppendControl(nil, c),
	})
}

// Remove forgets a branch at the head: nothing waits for it any longer. Its queue is the broker's to delete.
func (p *Peers) Remove(ctx context.Context, office schema.Office) error {
	if err := p.register.Remove(ctx, office); err != nil {
		return err
	}
	if err := p.applier.Forget(ctx, office); err != nil {
		return err
	}
	p.mu.Lock()
	delete(p.members, office)
	delete(p.asked, office)
	p.mu.Unlock()
	return p.release()
}
