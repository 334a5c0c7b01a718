package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cdc-sidecar/schema"
)

// Server answers, at the head, what branches ask of its tables.
type Server interface {
	// Asked takes a request; an older one of the same office is void. It returns at once: the answer is there when Ready has
	// it, and Peers.Nudge tells so.
	Asked(from schema.Office, f *schema.Fetch)
	// Ready returns the answers that may stand behind seq: our stream has been sent exactly to there, in whole transactions.
	Ready(ctx context.Context, seq uint64) ([]Answer, error)
	// Reported takes what a branch says of a comparison that it was asked for.
	Reported(from schema.Office, r *schema.Report)
}

// Answer is one Chunk for one office.
type Answer struct {
	To    schema.Office
	Chunk []byte
}

// Standing is how a branch stands to its head, by the head's own word.
type Standing struct {
	Head     schema.Office
	Progress schema.Position // of the head's stream here; zero: none
	At       schema.Position // where the head's stream ends now
	First    uint64          // the first seq that the head still holds
	Lost     string          // why the stream cannot be taken from Progress on; empty: it can
	Restored bool            // the head's database went back to an earlier state; see schema.Welcome
}

// Verdict is what becomes of the head's stream here.
type Verdict struct {
	Begin  schema.Position // from behind here it is taken; zero: from where it was
	Follow bool            // it is taken; else it passes by until the next welcome
	Why    string          // when it is not
}

// Joiner makes, at a branch, this office equal to the head.
type Joiner interface {
	// Frozen reports whether nothing of the head's stream may be taken before the next welcome, and why: messages of it may be
	// here already. It is asked at each start.
	Frozen(ctx context.Context) (frozen bool, why string, err error)
	// Welcomed decides what becomes of the head's stream. It is asked at each welcome, every few seconds.
	Welcomed(ctx context.Context, s Standing) (Verdict, error)
	// Take takes a chunk. exact says that it stands exactly where the head's stream is applied to here, which stands still
	// meanwhile; else nothing but what does not depend on it may be taken from it.
	Take(ctx context.Context, head schema.Office, at schema.Position, exact bool, c *schema.Chunk) error
	// Asked takes the head's request for a comparison.
	Asked(c *schema.Compare)
}

// Say queues a control message: a branch's to its head (to is empty), the head's to a branch.
func (p *Peers) Say(to schema.Office, c schema.Control) { p.tell(to, c) }

// Nudge makes Ship look for answers.
func (p *Peers) Nudge() { p.nudge() }

// Greet says hello now, to be welcomed soon, and how far we are.
func (p *Peers) Greet() {
	if p.cfg.Role == schema.Branch {
		p.greetNow.Store(true)
		p.nudge()
	}
}

// pieceBytes is how much of a chunk goes into one message: a single row may be larger than what brokers take.
const pieceBytes = 1 << 20

// shipAnswers sends what the server has ready for this place of the stream. A branch that does not listen asks again.
func (p *Peers) shipAnswers(ctx context.Context, wire Wire) (bool, error) {
	if p.cfg.Server == nil || p.next == 0 || p.within {
		return false, nil
	}
	answers, err := p.cfg.Server.Ready(ctx, p.next-1)
	if err != nil {
		return false, err
	}
	for _, a := range answers {
		if _, err := wire.Publish(ctx, p.pieces(a)); err != nil && !errors.Is(err, ErrNobody) {
			return false, fmt.Errorf("answer %s: %w", a.To, err)
		}
		p.count(func(c *Counts) { c.Chunks++; c.ChunkBytes += uint64(len(a.Chunk)) })
	}
	return len(answers) > 0, nil
}

func (p *Peers) pieces(a Answer) []Parcel {
	m := schema.Message{
		Version: schema.WireVersion, Kind: schema.MessageChunk, Sender: p.cfg.Office, Epoch: p.outbox.Epoch(),
		Stream: schema.StreamAll, Prev: p.next - 1, Seq: p.next - 1,
	}
	var parcels []Parcel
	for rest := a.Chunk; len(rest) > 0; m.Part++ {
		n := min(len(rest), pieceBytes)
		m.Body, rest = rest[:n], rest[n:]
		m.Continued = len(rest) > 0
		parcels = append(parcels, Parcel{To: a.To, Body: schema.AppendMessage(nil, &m)})
	}
	return parcels
}

// chunk takes a chunk, or a piece of one, at a branch.
func (p *Peers) chunk(ctx context.Context, o *opened) error {
	m := &o.message
	from := p.sender(m)
	if from == nil || p.cfg.Joiner == nil {
		return nil
	}
	if m.Part == 0 {
		from.chunk = from.chunk[:0]
	} else if len(from.chunk) != int(m.Part)*pieceBytes {
		return nil // what comes before it did not: it is asked for again
	}
	from.chunk = append(from.chunk, m.Body...)
	if m.Continued {
		return nil
	}
	body, c := from.chunk, o.chunk
	from.chunk = nil
	if c == nil {
		var err error
		if c, err = schema.DecodeChunk(body); err != nil {
			p.cfg.Log.Warn("a chunk that cannot be read is passed by", "office", m.Sender, "cause", err)
			return nil
		}
	}
	if c.To != p.cfg.Office {
		return nil
	}
	p.count(func(n *Counts) { n.Chunks++; n.ChunkBytes += uint64(len(body)) })
	at := schema.Position{Epoch: m.Epoch, Seq: m.Seq}
	exact := !from.join && at == from.progress && from.spool == nil
	return p.cfg.Joiner.Take(ctx, from.office, at, exact, c)
}

// standing puts together how we stand to the head.
func (p *Peers) standing(from *member, msg *schema.Message, w *schema.Welcome) Standing {
	s := Standing{
		Head: from.office, Progress: from.progress, At: schema.Position{Epoch: msg.Epoch, Seq: w.Last}, First: w.First, Restored: w.Restored,
	}
	switch pos := from.progress; {
	case pos.Epoch == 0:
	case pos.Epoch != msg.Epoch:
		s.Lost = fmt.Sprintf("the head's journal is a new one (epoch %d, %d was applied)", msg.Epoch, pos.Epoch)
	case w.Expired || pos.Seq+1 < w.First:
		s.Lost = fmt.Sprintf("the head's journal begins at %d, %d was applied here", w.First, pos.Seq)
	}
	return s
}

// follow asks the joiner what becomes of the head's stream, and does it.
func (p *Peers) follow(ctx context.Context, from *member, s Standing) error {
	v, err := p.cfg.Joiner.Welcomed(ctx, s)
	if err != nil {
		return fmt.Errorf("join %s: %w", from.office, err)
	}
	if v.Begin.Epoch != 0 {
		if err := p.applier.Begin(ctx, from.office, v.Begin); err != nil {
			return fmt.Errorf("begin the stream of %s: %w", from.office, err)
		}
		from.dropSpool()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.Begin.Epoch != 0 {
		from.progress, from.ask, from.halted = v.Begin, ask{}, nil
	}
	if from.join = !v.Follow; from.join {
		from.held = v.Why
		return nil
	}
	from.held = ""
	return nil
}

// anew begins to take the stream of a branch at the head, where it was not begun, or where the branch's journal is another one
// or has lost what comes next. What lies between is in the branch's tables, and it compares them with ours. An older journal
// than the one we know is refused: two sidecars use one name, or one was started with an old copy of its journal.
func (p *Peers) anew(ctx context.Context, from *member, msg *schema.Message, h *schema.Hello) error {
	have := from.progress
	begin := schema.Position{Epoch: msg.Epoch, Seq: max(h.First, 1) - 1}
	switch {
	case have.Epoch == msg.Epoch && begin.Seq <= have.Seq:
		p.mu.Lock()
		from.join, from.held = false, ""
		p.mu.Unlock()
		return nil
	case msg.Epoch < have.Epoch:
		p.mustJoin(from, fmt.Sprintf("its journal is older than the one known here (epoch %d, %d was applied here): two sidecars use the name, or one has an old copy of its journal", msg.Epoch, have.Epoch))
		return nil
	}
	if have.Epoch != 0 {
		p.cfg.Log.Warn("the stream of an office begins anew", "office", from.office, "from", begin, "applied", have)
	}
	from.dropSpool()
	p.applier.Discard(ctx)
	if err := p.applier.Begin(ctx, from.office, begin); err != nil {
		return fmt.Errorf("begin the stream of %s: %w", from.office, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	from.progress, from.ask, from.halted, from.marker = begin, ask{}, nil, nil
	from.join, from.held = false, ""
	return nil
}

// lags reports whether the branch cannot follow our stream from where it stands. One that had expired and has joined since is
// a member like the others again.
func (p *Peers) lags(ctx context.Context, from *member, h *schema.Hello, first uint64) (bool, error) {
	pos := h.Progress
	lags := pos.Epoch != 0 && (pos.Epoch != p.outbox.Epoch() || pos.Seq+1 < first)
	p.mu.Lock()
	back := from.expired && !lags && pos.Epoch != 0
	if back {
		from.expired = false
		if from.reported.Less(schema.Position{Epoch: pos.Epoch, Seq: first - 1}) {
			from.reported = schema.Position{Epoch: pos.Epoch, Seq: first - 1}
		}
	}
	p.mu.Unlock()
	if !back {
		return lags, nil
	}
	p.cfg.Log.Info("an office that had stayed away too long is back", "office", from.office, "position", pos)
	return false, p.register.Save(ctx, p.record(from))
}

// Heard is when an office was last heard of; the zero time: never.
func (p *Peers) Heard(office schema.Office) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := p.members[office]; m != nil {
		return m.heard
	}
	return time.Time{}
}

// fromTheFirst is a branch that has what the head had when its journal began.
type fromTheFirst struct{}

func (fromTheFirst) Frozen(context.Context) (bool, string, error) { return false, "", nil }

func (fromTheFirst) Welcomed(_ context.Context, s Standing) (Verdict, error) {
	switch {
	case s.Lost != "":
		return Verdict{Why: s.Lost}, nil
	case s.Progress.Epoch != 0:
		return Verdict{Follow: true}, nil
	case s.First > 1:
		return Verdict{Why: fmt.Sprintf("the head's journal begins at %d", s.First)}, nil
	}
	return Verdict{Begin: schema.Position{Epoch: s.At.Epoch}, Follow: true}, nil
}

func (fromTheFirst) Take(context.Context, schema.Office, schema.Position, bool, *schema.Chunk) error {
	return nil
}

func (fromTheFirst) Asked(*schema.Compare) {}
