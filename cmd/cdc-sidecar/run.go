package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"cdc-sidecar/admin"
	"cdc-sidecar/apply"
	"cdc-sidecar/broker"
	"cdc-sidecar/capture"
	"cdc-sidecar/clock"
	"cdc-sidecar/journal"
	"cdc-sidecar/peer"
	"cdc-sidecar/schema"
)

// firstWord is how long a start waits for the broker to accept or refuse us. A broker that cannot be reached does not
// hold anything up.
const firstWord = 3 * time.Second

// sidecar is the running program: the rooms, and the corridors between them.
type sidecar struct {
	cfg     Config
	log     *slog.Logger
	db      office
	journal *journal.Journal
	clocks  *clock.Follower
	applier *apply.Applier
	peers   *peer.Peers
	keeper  *supervisor
	state   watch
	gate    *gate
	jobs    *jobs
	equal   equality
	drift   *drift          // at a branch
	tellers *tellers        // at the head
	ending  <-chan struct{} // closed when the sidecar is to end

	after uint64                 // a new journal's epoch is greater
	began atomic.Pointer[string] // see beganAs
	lost  *loss                  // why the life ends; set by the session before it calls end
	end   context.CancelFunc
}

// live runs a sidecar until ctx ends, or until the office has lost its way and needs another journal, one younger than after.
func live(ctx context.Context, cfg Config, log *slog.Logger, after uint64) (*loss, error) {
	s := &sidecar{cfg: cfg, log: log, db: newOffice(cfg, log), after: after}
	ctx, s.end = context.WithCancel(ctx)
	defer s.end()
	s.ending, s.gate, s.jobs = ctx.Done(), newGate(cfg.Sync), newJobs(s)
	s.drift, s.tellers = newDrift(s), newTellers(s)
	s.keeper = newSupervisor(log, admin.CaptureCorridor, admin.ShipCorridor, admin.ReceiveCorridor)
	s.state.started = time.Now()

	serving, stopServing := context.WithCancel(ctx)
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.serve(serving)
	}()
	defer func() {
		stopServing()
		<-served
	}()
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	if s.journal == nil { // told to stop while another process held it
		return nil, nil
	}
	defer s.close()
	if err := s.introduce(ctx); err != nil { // before anything else declares: two who make a quorum queue at once disturb each other
		return nil, err
	}
	log.Info("the sidecar runs", "office", cfg.Office, "role", cfg.Role, "database", cfg.Database.String(),
		"broker", brokerConfig(cfg).String(), "journal", s.journal.Epoch(), "version", version)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.keeper.keep(ctx, admin.CaptureCorridor, s.session) })
	g.Go(func() error { return s.gate.keep(ctx, s.keeper, admin.ShipCorridor, s.ship) })
	g.Go(func() error { return ended(s.gate.schedule(ctx, log, s.synchronise)) })
	g.Go(func() error { return ended(s.jobs.background(ctx)) })
	err := g.Wait()
	return s.lost, err
}

// serve keeps the admin address answering; a port that somebody else has is waited for like everything else.
func (s *sidecar) serve(ctx context.Context) {
	_ = s.keeper.keep(ctx, "admin", func(ctx context.Context, up func()) error {
		l, err := admin.Listen(ctx, s.cfg.Admin)
		if err != nil {
			return err
		}
		up()
		return admin.Serve(ctx, l, admin.Options{Source: s, Conflicts: s.conflicts(), Jobs: s.jobs, Token: s.cfg.AdminToken, Version: version})
	})
}

// open takes the journal's folder. Another sidecar of this office on this machine has it: wait until it ends.
func (s *sidecar) open(ctx context.Context) error {
	var fatal error
	ctx, opened := context.WithCancel(ctx)
	defer opened()
	err := s.keeper.keep(ctx, admin.CaptureCorridor, func(context.Context, func()) error {
		err := retireOn(s.cfg.Data)
		var j *journal.Journal
		if err == nil {
			j, err = journal.Open(s.cfg.Data, journal.Options{Office: s.cfg.Office, Budget: s.cfg.JournalBudget, After: s.after, Log: s.log})
		}
		if err != nil {
			if !errors.Is(err, schema.ErrHeld) {
				fatal = fmt.Errorf("open the journal: %w", err)
				opened()
			}
			return err
		}
		s.journal = j
		opened()
		return nil
	})
	if fatal != nil {
		return fatal
	}
	if err != nil || s.journal == nil {
		return err
	}
	build := thisBuild()
	s.clocks, err = clock.Follow(filepath.Join(s.cfg.Data, clocksFolder), clock.Options{Program: build.Version + " " + build.Revision},
		s.journal, s.cfg.Office, s.cfg.Role, func(rows []schema.Change) { s.applier.Again(rows) })
	if err != nil {
		return err
	}
	if err := s.clocks.Refused(); err != nil {
		s.log.Info("the row clocks are built again from the journal", "cause", err)
	}
	s.applier = apply.New(s.db.target, s.applyOptions())
	peers := peer.New(s.peerConfig(), outbox{s.journal, s.clocks, s.applier}, noticing{s.applier, s.drift.defined}, register{s.db, s.applier})
	s.state.mu.Lock()
	s.peers = peers
	s.state.mu.Unlock()
	return nil
}

func (s *sidecar) peerConfig() peer.Config {
	c := peer.Config{
		Office: s.cfg.Office, Role: s.cfg.Role, Engine: s.db.engine, Program: version, Dir: s.cfg.Data,
		User: brokerConfig(s.cfg).User(), Unsettled: broker.Prefetch, Acknowledged: s.clocks.Acknowledge, Log: s.log,
		Restored: func() bool { return s.beganAs() == schema.BeganRestored },
	}
	s.equal = s.comparer()
	if s.equal.server != nil {
		c.Server, c.Definitions = answering{s.equal.server}, s.tellers.heard
		return c
	}
	c.Definitions = s.drift.heard
	c.Joiner = joining{s.equal.client}
	s.applier.Joining(s.equal.client.Pending)
	return c
}

// compare serves, at the head, or joins and compares, at a branch.
func (s *sidecar) compare(ctx context.Context, up func()) error {
	if err := s.clocks.Ready(ctx); err != nil {
		return err
	}
	up()
	if s.equal.server != nil {
		return s.equal.server.Run(ctx)
	}
	return s.equal.client.Run(ctx)
}

// synchronise is a sync by schedule.
func (s *sidecar) synchronise(ctx context.Context) (admin.Moved, error) {
	said := ""
	return s.gate.sync(ctx, s.drain, func(note string, _ admin.Moved) {
		if note == said {
			return
		}
		if said = note; note != "" {
			s.log.Info("the sync waits", "for", note)
		}
	})
}

// ended is nil for a task that ended because it was told to.
func ended(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// clocksFolder is where row clocks go that are too many for memory, under the journal's folder. An
// orderly end leaves all of them there for the next process; what another end leaves is of no use.
const clocksFolder = "clocks"

// applyOptions: the head decides, by what its clocks say; a branch holds back what the head will decide.
func (s *sidecar) applyOptions() apply.Options {
	o := apply.Options{Office: s.cfg.Office, Role: s.cfg.Role, Receive: s.cfg.Receives, Unmapped: s.cfg.Unmapped, DDL: s.cfg.DDL.DDL, Log: s.log}
	if s.cfg.Role == schema.Branch {
		o.Hold, o.Passed = s.clocks, hurried{s.clocks, s.db.hurry}.Passed
		o.Ordered = func(name string, r schema.RowsOrder) { s.equal.client.Ordered(name, r) }
		return o
	}
	o.Clocks, o.Drift = hurried{s.clocks, s.db.hurry}, s.cfg.ClockDrift
	o.Written, o.Policy = remembered(s.cfg.Sends), remembered(s.cfg.Policy)
	return o
}

// remembered asks once for each table: the answer is asked for with every row, and matching names against globs is not free.
func remembered[T any](ask func(schema.TableName) T) func(schema.TableName) T {
	var known sync.Map
	return func(n schema.TableName) T {
		if answer, ok := known.Load(n); ok {
			return answer.(T)
		}
		answer := ask(n)
		known.Store(n, answer)
		return answer
	}
}

func (s *sidecar) close() {
	s.applier.Close()
	if err := s.clocks.Keep(); err != nil {
		s.log.Warn("keep the row clocks", "cause", err)
	}
	if err := s.journal.Close(); err != nil {
		s.log.Warn("close the journal", "cause", err)
	}
}

// introduce asks the broker once whether it takes us at all: a wrong password is told at the start, with exit code 3, and
// not found in a log a week later. A broker that is away is no reason not to start.
func (s *sidecar) introduce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, firstWord)
	defer cancel()
	err := broker.Declare(ctx, brokerConfig(s.cfg))
	var refused *schema.RefusedError
	if errors.As(err, &refused) {
		return err
	}
	return nil
}

// session is everything that needs the office's database: hold the office, prepare the database, then capture, and apply
// beside it. When one of them loses the database, all of it starts again.
func (s *sidecar) session(ctx context.Context, up func()) error {
	release, gone, err := s.db.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	return s.noticed(ctx, s.attend(ctx, gone, up))
}

// attend is a session while the office is held, until gone is closed.
func (s *sidecar) attend(ctx context.Context, gone <-chan struct{}, up func()) error {
	src, err := s.source(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close(context.WithoutCancel(ctx)) }()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		select {
		case <-gone:
			return errors.New("the connection that holds the office was lost")
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	sink := s.makingRoom(s.noticing(s.applier.Noting(s.clocks.Sink(s.journal.Append))))
	g.Go(func() error { return capture.Run(ctx, src, sink, &s.state.capture) })
	g.Go(func() error { return s.catchUp(ctx) })
	g.Go(func() error { return s.keepLog(ctx) })
	g.Go(func() error { return s.gate.keep(ctx, s.keeper, admin.ReceiveCorridor, s.receive) })
	g.Go(func() error { return s.keeper.keep(ctx, "comparison", s.compare) })
	g.Go(func() error { return s.examine(ctx) })
	g.Go(func() error { return s.compareTables(ctx) })
	g.Go(func() error { return s.belongs(ctx, belongsEvery) })
	up()
	s.state.readied(true)
	defer s.state.readied(false)
	return g.Wait()
}

// largeJournal is a journal whose reading takes long enough to be spoken of: some seconds.
const largeJournal = 256 << 20

// catchUp reads the row clocks from the journal, unless they were kept. Nothing is applied before; capture goes on meanwhile.
func (s *sidecar) catchUp(ctx context.Context) error {
	began := time.Now()
	large := s.journal.State().Bytes > largeJournal && !s.clocks.InStep()
	if large {
		s.log.Info("the retained journal is read for its row clocks; nothing is applied until that is done", "bytes", s.journal.State().Bytes)
	}
	if err := s.clocks.CatchUp(ctx); err != nil {
		return err
	}
	if large {
		s.log.Info("the row clocks are there", "rows", s.clocks.Stats().Rows, "seconds", int(time.Since(began).Seconds()))
	}
	return nil
}

// source prepares the database and opens its log where the journal stopped.
func (s *sidecar) source(ctx context.Context) (capture.Source, error) {
	at, err := s.journal.Resume() // what an ended session left of an incomplete transaction comes again
	if err != nil {
		return nil, err
	}
	applied, err := s.appliedBefore(ctx, at)
	if err != nil {
		return nil, err
	}
	start, err := s.db.prepare(ctx, s.journal.Epoch(), at)
	if err != nil {
		return nil, err
	}
	if err := s.setBack(ctx); err != nil {
		return nil, err
	}
	began, err := s.db.began(ctx)
	if err != nil {
		return nil, err
	}
	s.began.Store(&began)
	if start != at { // the very first: durable before the log is asked for anything behind it
		if err := s.journal.Begin(ctx, start, applied); err != nil {
			return nil, fmt.Errorf("note the start of capture: %w", err)
		}
		s.log.Info("a journal begins", "journal", s.journal.Epoch(), "after", s.beganAs(), "place", start)
	}
	blind, err := s.resume(ctx, start != at)
	if err != nil {
		return nil, err
	}
	return s.db.open(ctx, start, blind)
}

// resume is, at a branch, which tables are being joined at the place from which the log is read on.
func (s *sidecar) resume(ctx context.Context, anew bool) ([]string, error) {
	if s.equal.client == nil {
		return nil, nil
	}
	senders, err := s.applier.Senders(ctx)
	if err != nil {
		return nil, err
	}
	return s.equal.client.Resume(ctx, s.journal.State().Seen, anew, len(senders) > 0)
}

// ship takes the journal to the broker. It needs no database.
func (s *sidecar) ship(ctx context.Context, up func()) error {
	cfg := brokerConfig(s.cfg)
	if err := broker.Declare(ctx, cfg); err != nil {
		return err
	}
	publisher, err := broker.OpenPublisher(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = publisher.Close() }()
	s.state.publishes(publisher)
	defer s.state.publishes(nil)
	up()
	return s.peers.Ship(ctx, wire{publisher, s.cfg.Role})
}

// receive takes what the broker has for us to the database.
func (s *sidecar) receive(ctx context.Context, up func()) error {
	consumer, err := s.consumer(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = consumer.Close() }()
	up()
	return consumer.Run(ctx, func(ctx context.Context, batch []*broker.Delivery) error {
		return s.peers.Receive(ctx, inbound(batch))
	})
}

// consumer opens the office's queue, while the peers learn from the database how far they are.
func (s *sidecar) consumer(ctx context.Context) (*broker.Consumer, error) {
	var consumer *broker.Consumer
	g, starting := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := s.clocks.Ready(starting); err != nil {
			return err
		}
		return s.peers.Start(starting)
	})
	g.Go(func() error {
		cfg := brokerConfig(s.cfg)
		err := broker.Declare(starting, cfg)
		if err == nil {
			consumer, err = broker.OpenConsumer(starting, cfg)
		}
		return err
	})
	err := g.Wait()
	if err != nil && consumer != nil {
		_ = consumer.Close()
	}
	return consumer, err
}
