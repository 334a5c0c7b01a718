package sim_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"cdc-sidecar/apply"
	"cdc-sidecar/capture"
	"cdc-sidecar/clock"
	"cdc-sidecar/journal"
	"cdc-sidecar/peer"
	"cdc-sidecar/resync"
	"cdc-sidecar/schema"
)

// office is what lasts of an office: its database, its volume, its queue; and the process that runs at the moment.
type office struct {
	w    *world
	n    int
	name schema.Office
	role schema.Role
	db   *apply.Memory
	disk journal.MemoryDisk

	queue queue
	cut   atomic.Bool // the line to the broker
	lost  bool        // its journal was lost at least once

	mu       sync.Mutex
	skew     time.Duration
	latest   time.Time                     // that its clock ever showed
	epoch    uint64                        // of the journal that the database belongs to
	journals []stretch                     // that it had, the present one last
	blind    map[string]bool               // its own transactions that had a blind change, by their place in the log
	members  map[schema.Office]peer.Member // at the head
	down     chan struct{}                 // closed when the database crashes
	stamps   map[string]schema.Stamp       // of the office's own transactions, by their place in the log
	errs     []string                      // of corridors that ended
	life     *life
}

// officeNames are in no order that means something: of equal stamps the name decides.
var officeNames = []schema.Office{"hq", "north", "east", "west", "south"}

func (w *world) newOffice(i int) *office {
	o := &office{
		w: w, n: i, name: officeNames[i], role: schema.Branch, skew: w.plan.skews[i],
		members: map[schema.Office]peer.Member{}, down: make(chan struct{}), stamps: map[string]schema.Stamp{}, blind: map[string]bool{},
	}
	if i == 0 {
		o.role = schema.Head
	}
	o.queue = newQueue(w.seed, i, w.plan)
	var values atomic.Int64
	o.db = apply.NewMemory(apply.MemoryOptions{
		Random: func() string { return fmt.Sprintf("random %d of %s", values.Add(1), o.name) },
		Engine: w.plan.engines[i], Tables: tables(w.plan.engines[i], w.plan.unique, w.plan.filled), Now: o.now, OldRows: w.plan.oldRows, Large: w.plan.large,
	})
	o.disk.SyncLies(schema.Planted(schema.ConfirmedBeforeDurable))
	rows := w.plan.first
	if w.plan.comes(i) {
		rows = w.plan.found
	}
	for _, row := range rows {
		o.db.Load(items, row)
	}
	return o
}

// now is the office's wall clock.
func (o *office) now() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now().Add(o.skew).Truncate(o.w.plan.coarse)
	if now.After(o.latest) {
		o.latest = now
	}
	return now
}

// sends and receives are what the tables' flow says.
func (o *office) sends(t schema.TableName) bool {
	return ours(t) || (t == prices) == (o.role == schema.Head)
}

func (o *office) receives(t schema.TableName) bool {
	return ours(t) || (t == visits) == (o.role == schema.Head)
}

// life is one process of an office's sidecar, from its start to its end or crash.
type life struct {
	o     *office
	gone  chan struct{} // closed when it was killed: nothing outside can be reached any more
	kill  func()
	ended chan struct{}
	stop  context.CancelFunc

	session context.CancelFunc // ends the session with the database, which then begins again
	target  apply.Target
	journal *journal.Journal
	clocks  *clock.Follower
	applier *apply.Applier
	peers   *peer.Peers
	server  *resync.Server // at the head
	client  *resync.Client // at a branch
	opened  atomic.Bool
	read    atomic.Int64 // the place in the log behind what is durable
}

// start begins a process.
func (o *office) start() {
	ctx, stop := context.WithCancel(context.Background())
	l := &life{o: o, gone: make(chan struct{}), ended: make(chan struct{}), stop: stop}
	l.kill = sync.OnceFunc(func() { close(l.gone) })
	l.target = o.db.Target(l.step("receive"))
	o.mu.Lock()
	o.life = l
	o.mu.Unlock()
	go l.run(ctx)
}

// end ends the process: with a crash, in the middle of whatever it does.
func (o *office) end(crash bool) {
	l := o.life
	if crash {
		l.crash()
	}
	l.stop()
	<-l.ended
}

// crash is the end of the process, without its having a say. What its volume keeps is the caller's to settle.
func (l *life) crash() {
	l.kill()
	l.o.disk.Kill()
	l.o.db.Kill(l.target)
}

func (l *life) dead() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

func (l *life) step(corridor string) apply.MemoryStep {
	who := string(l.o.name) + " " + corridor
	return func(ctx context.Context, _ string) error { return l.o.w.gate(ctx, l.gone, who) }
}

func (l *life) run(ctx context.Context) {
	defer close(l.ended)
	defer l.stop()
	if err := l.open(); err != nil {
		l.o.failedWith("open", err)
		return
	}
	defer l.close()
	l.opened.Store(true)
	var both sync.WaitGroup
	both.Go(func() { l.keep(ctx, "session", l.converse) })
	both.Go(func() { l.keep(ctx, "ship", l.ship) })
	both.Wait()
}

// open joins the rooms as the program does.
func (l *life) open() error {
	o := l.o
	o.mu.Lock()
	after := o.epoch
	o.mu.Unlock()
	j, err := journal.Open("journal", journal.Options{Office: o.name, Budget: o.w.plan.budget, After: after, Now: o.now, Disk: &o.disk})
	if err != nil {
		return err
	}
	l.journal = j
	l.clocks, err = clock.Follow(filepath.Join(o.w.dir, string(o.name)), clock.Options{Rows: o.w.plan.clockRows}, j, o.name, o.role,
		func(rows []schema.Change) { l.applier.Again(rows) })
	if err != nil {
		return err
	}
	options := apply.Options{Office: o.name, Role: o.role, Receive: o.receives, Now: o.now}
	if o.role == schema.Branch {
		options.Hold, options.Passed = l.clocks, l.clocks.Passed
		options.Ordered = func(name string, r schema.RowsOrder) { l.client.Ordered(name, r) }
	} else {
		options.Clocks, options.Written = l.clocks, o.sends
		options.Policy = func(t schema.TableName) schema.Policy { return o.w.plan.policy }
	}
	if o.w.plan.schema.rate > 0 {
		options.DDL = apply.DDL{Apply: apply.ApplyAll}
	}
	l.applier = apply.New(l.target, options)
	config := peer.Config{
		Office: o.name, Role: o.role, Engine: o.w.plan.engines[o.n], Dir: o.w.dir, User: "shared", Unsettled: unsettled,
		Acknowledged: l.clocks.Acknowledge, Log: slog.New(slog.DiscardHandler),
	}
	l.equality(&config)
	l.peers = peer.New(config, outbox{j, l.clocks, l.applier}, l.applier, register{l})
	return nil
}

// close is an orderly end, and for a process that was killed no more than tidying up: it keeps nothing.
func (l *life) close() {
	l.applier.Close()
	select {
	case <-l.gone:
		_ = l.clocks.Close()
	default:
		_ = l.clocks.Keep()
	}
	_ = l.journal.Close() // of a crashed one it says so
}

// The waits of the supervisor.
const (
	firstWait = 200 * time.Millisecond
	mostWait  = 4 * time.Second
)

// keep runs a corridor again and again, as the supervisor does. A volume that failed ends the process.
func (l *life) keep(ctx context.Context, name string, f func(ctx context.Context, up func()) error) {
	wait := firstWait
	for ctx.Err() == nil {
		err := f(ctx, func() { wait = firstWait })
		if ctx.Err() != nil {
			return
		}
		l.o.failedWith(name, err)
		if errors.Is(err, journal.ErrCrashed) {
			l.crash()
			l.stop()
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, mostWait)
	}
}

// failedWith notes how a corridor ended.
func (o *office) failedWith(corridor string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.errs = append(o.errs, fmt.Sprintf("%s %s: %v", time.Now().UTC().Format("04:05.000"), corridor, err))
}

func (o *office) failed() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.errs)
}

// converse is the session with the database: capture, the clocks, and applying beside them.
func (l *life) converse(ctx context.Context, up func()) error {
	at, err := l.journal.Resume()
	if err != nil {
		return err
	}
	var applied map[schema.Office]schema.Position
	if at == "" && l.o.role == schema.Head {
		if applied, err = l.applier.Senders(ctx); err != nil {
			return err
		}
	}
	start, err := l.prepare(ctx, l.journal.Epoch(), at)
	if err != nil {
		return err
	}
	if start != at {
		if err := l.journal.Begin(ctx, start, applied); err != nil {
			return err
		}
	}
	l.letGo(start)
	joins, err := l.resume(ctx, start != at)
	if err != nil {
		return err
	}
	src := capture.OpenMemory(capture.MemoryConfig{
		Office: l.o.name, Role: l.o.role, Send: l.o.sends, Joining: joins, Next: l.next, LetGo: l.letGo,
	}, start)
	ctx, end := context.WithCancel(ctx)
	defer end()
	l.o.mu.Lock()
	l.session = end
	down := l.o.down
	l.o.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		select {
		case <-down:
			return errors.New("the database went away")
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	g.Go(func() error { return capture.Run(ctx, src, l.applier.Noting(l.clocks.Sink(l.append)), nil) })
	g.Go(func() error { return l.clocks.CatchUp(ctx) })
	g.Go(func() error {
		l.keep(ctx, "receive", l.receive)
		return nil
	})
	g.Go(func() error {
		l.keep(ctx, "compare", l.compare)
		return nil
	})
	up()
	return g.Wait()
}

// append is the journal, seen by the validators: they want to know the stamps. What a crash left is durable or comes again.
func (l *life) append(ctx context.Context, txs []schema.Transaction) error {
	err := l.journal.Append(ctx, txs)
	l.o.mu.Lock()
	defer l.o.mu.Unlock()
	for i := range txs {
		if txs[i].Origin == l.o.name {
			l.o.stamps[txs[i].Source] = txs[i].Stamp
			if slices.ContainsFunc(txs[i].Changes, func(c schema.Change) bool { return c.Blind }) {
				l.o.blind[txs[i].Source] = true
			}
		}
	}
	return err
}

// prepare is what the office's database says of a journal: whether it belongs to it, and where its log begins.
func (l *life) prepare(ctx context.Context, epoch uint64, at string) (string, error) {
	o := l.o
	o.mu.Lock()
	known := o.epoch
	from := 0
	if n := len(o.journals); n > 0 {
		from = o.journals[n-1].from
	}
	o.mu.Unlock()
	switch {
	case at != "" && known != epoch:
		return "", &schema.BrokenError{What: fmt.Sprintf("the database belongs to the journal %d, not to %d", known, epoch)}
	case at != "":
		return at, nil
	case known == epoch:
		return strconv.Itoa(from), nil
	}
	from, err := l.begins(ctx, epoch)
	return strconv.Itoa(from), err
}

// next reads the log.
func (l *life) next(ctx context.Context, from string) ([]capture.MemoryCommit, error) {
	at, err := strconv.Atoi(from)
	if err != nil {
		return nil, err
	}
	l.o.mu.Lock()
	down := l.o.down
	l.o.mu.Unlock()
	for {
		if err := l.o.w.gate(ctx, l.gone, string(l.o.name)+" capture"); err != nil {
			return nil, err
		}
		commits, grown, err := l.o.db.Log(at, l.o.w.plan.logBatch)
		if err != nil {
			return nil, &schema.BrokenError{What: "the log cannot be read from where the journal stopped", Cause: err}
		}
		if len(commits) > 0 {
			out := make([]capture.MemoryCommit, len(commits))
			for i, c := range commits {
				out[i] = capture.MemoryCommit{Source: strconv.Itoa(at + i + 1), Commit: c.Commit}
				for _, e := range c.Events {
					out[i].Events = append(out[i].Events, capture.MemoryEvent(e))
				}
			}
			return out, nil
		}
		select {
		case <-grown:
		case <-down:
			return nil, errors.New("the log went away")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// letGo is told how far the journal has the log.
func (l *life) letGo(to string) {
	n, _ := strconv.Atoi(to)
	l.read.Store(int64(n))
	if !l.killed() {
		l.o.db.LetGo(n)
	}
}

func (l *life) killed() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

func (l *life) ship(ctx context.Context, up func()) error {
	if err := l.connect(ctx, "ship"); err != nil {
		return err
	}
	up()
	return l.peers.Ship(ctx, wire{l})
}

// connect reaches the broker and declares the office's queue there.
func (l *life) connect(ctx context.Context, corridor string) error {
	if err := l.o.w.gate(ctx, l.gone, string(l.o.name)+" "+corridor); err != nil {
		return err
	}
	if l.o.cut.Load() {
		return errCut
	}
	l.o.queue.bind()
	return nil
}

func (l *life) receive(ctx context.Context, up func()) error {
	if err := l.clocks.Ready(ctx); err != nil {
		return err
	}
	if err := l.peers.Start(ctx); err != nil {
		return err
	}
	if err := l.connect(ctx, "receive"); err != nil {
		return err
	}
	l.o.queue.requeue()
	up()
	for {
		batch, err := l.take(ctx)
		if err != nil {
			return err
		}
		if err := l.peers.Receive(ctx, batch); err != nil {
			return err
		}
	}
}

// take waits for deliveries, or a tick.
func (l *life) take(ctx context.Context) ([]peer.Delivery, error) {
	tick := time.NewTimer(time.Second)
	defer tick.Stop()
	select {
	case <-l.o.queue.wake:
	case <-tick.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := l.o.w.gate(ctx, l.gone, string(l.o.name)+" receive"); err != nil {
		return nil, err
	}
	if l.o.cut.Load() {
		return nil, errCut
	}
	return l.o.queue.take(), nil
}

// last is the last position in the journal.
func (l *life) last() schema.Position {
	s := l.journal.State()
	return schema.Position{Epoch: s.Epoch, Seq: s.Last}
}

// missing is what the office has still to do by itself.
func (o *office) missing() string {
	l := o.life
	if l.dead() || !l.opened.Load() {
		return "the process does not run"
	}
	switch n := len(o.db.History()); {
	case int(l.read.Load()) < n:
		return fmt.Sprintf("the log is read to %d of %d", l.read.Load(), n)
	case l.applier.Owed() > 0:
		return "rows are owed"
	case l.client != nil && l.client.Progress() != nil:
		return "it joins"
	case l.client != nil && l.client.Ordering() != "":
		return "it compares table " + l.client.Ordering()
	}
	status, _ := l.peers.Status()
	for _, s := range status {
		if s.State != "active" {
			return fmt.Sprintf("%s is %s: %s %+v", s.Office, s.State, s.Cause, s.Halted)
		}
	}
	return ""
}

func (o *office) progress(origin schema.Office) schema.Position {
	for _, row := range o.db.Rows(own(schema.ProgressTable)) {
		if row[1].Text() == string(origin) {
			return schema.Position{Epoch: number(row[2]), Seq: number(row[3])}
		}
	}
	return schema.Position{}
}

func (o *office) status() string {
	o.mu.Lock()
	errs := o.errs[max(0, len(o.errs)-6):]
	o.mu.Unlock()
	text := fmt.Sprintf("log %d, parked %v, errors %q", len(o.db.History()), o.db.Parked(), errs)
	if l := o.life; l.opened.Load() {
		status, counts := l.peers.Status()
		text += fmt.Sprintf("\n\tjournal %+v\n\tapplied %+v\n\tpeers %+v %+v", l.journal.State(), l.applier.Stats(), status, counts)
		for _, s := range status {
			if s.Halted != nil {
				text += fmt.Sprintf("\n\thalted %+v", *s.Halted)
			}
		}
	}
	return text
}

// register keeps the members in the office's database.
type register struct{ l *life }

func (r register) round(ctx context.Context) error { return r.l.step("receive")(ctx, "register") }

// Members are those that the database remembers.
func (r register) Members(ctx context.Context) ([]peer.Member, error) {
	if err := r.round(ctx); err != nil {
		return nil, err
	}
	r.l.o.mu.Lock()
	defer r.l.o.mu.Unlock()
	var all []peer.Member
	for _, name := range officeNames {
		if m, ok := r.l.o.members[name]; ok {
			all = append(all, m)
		}
	}
	return all, nil
}

func (r register) Save(ctx context.Context, members ...peer.Member) error {
	if err := r.round(ctx); err != nil {
		return err
	}
	r.l.o.mu.Lock()
	defer r.l.o.mu.Unlock()
	for _, m := range members {
		r.l.o.members[m.Office] = m
	}
	return nil
}

func (r register) Remove(ctx context.Context, name schema.Office) error {
	if err := r.round(ctx); err != nil {
		return err
	}
	r.l.o.mu.Lock()
	defer r.l.o.mu.Unlock()
	delete(r.l.o.members, name)
	return nil
}

func (r register) Senders(ctx context.Context) (map[schema.Office]schema.Position, error) {
	return r.l.applier.Senders(ctx)
}

// outbox and followed are the journal as peers and clocks see it; the program's own are in its package main.
type outbox struct {
	*journal.Journal
	clocks  *clock.Follower
	applier *apply.Applier
}

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
	return uint64(c), released(err)
}

func (o outbox) Read(cursor uint64, maxBytes int) ([]peer.Entry, uint64, error) {
	entries, next, err := o.Journal.Read(journal.Cursor(cursor), maxBytes)
	if err != nil {
		return nil, 0, released(err)
	}
	out := make([]peer.Entry, len(entries))
	for i, e := range entries {
		out[i] = peer.Entry{Prev: e.Prev, Seq: e.Seq, Part: e.Part, More: e.More, Message: e.Message, Next: uint64(e.Next)}
	}
	return out, uint64(next), nil
}

func released(err error) error {
	var gone *journal.ReleasedError
	if errors.As(err, &gone) {
		return errors.Join(peer.ErrReleased, err)
	}
	return err
}

func (o outbox) Pressed() bool {
	s := o.State()
	return s.Bytes >= s.Budget/100*90
}

func (o outbox) SetPublished(seq uint64) { _ = o.Journal.SetPublished(seq) }

// number reads a whole number that this program wrote.
func number(v schema.Value) uint64 {
	n, _ := strconv.ParseUint(v.Text(), 10, 64)
	return n
}

func own(table string) schema.TableName {
	return schema.TableName{Schema: schema.OwnSchema, Name: table}
}
