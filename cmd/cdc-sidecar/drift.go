package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/apply"
	"cdc-sidecar/schema"
)

const (
	// driftEvery is how often a branch asks the head what its tables are, when nobody is known to have changed any: tables are
	// changed seldom, and either office reads its whole catalog for it.
	driftEvery = 5 * time.Minute
	// driftSoon is how long it waits behind a schema change: others come with it.
	driftSoon = time.Second
	// driftAgain is the first wait before a difference is looked at again that a schema change on its way may explain; each look
	// doubles it, up to driftEvery.
	driftAgain = 5 * time.Second
	// driftStanding is how often it looks while tables differ: what somebody mends is told soon.
	driftStanding = 30 * time.Second
	// driftUnanswered is when a question is asked again.
	driftUnanswered = 30 * time.Second
	// driftReport bounds what a branch tells the head, in bytes of JSON.
	driftReport = 256 << 10
)

// inquiry is what a branch says to the head of its tables.
type inquiry struct {
	Quiet bool               `json:"quiet,omitempty"` // it only tells
	Have  uint64             `json:"have,omitempty"`  // the mark of the head's definitions that it has
	Alone []schema.TableName `json:"alone,omitempty"` // the tables that it sends and the head does not have
	Found *admin.Drift       `json:"found,omitempty"` // by its last look; nil: it has not looked
}

// reply is the head's answer.
type reply struct {
	Error    string             `json:"error,omitempty"`
	Mark     uint64             `json:"mark"`               // of the definitions
	Tables   []json.RawMessage  `json:"tables,omitempty"`   // the definitions; none when the branch has those with the mark
	Unwanted []schema.TableName `json:"unwanted,omitempty"` // of the tables that the branch has alone, those that the head does not take
	At       schema.Position    `json:"at"`                 // see look
	Applied  schema.Position    `json:"applied"`
}

// drift is a branch's knowledge of where its tables differ from the head's. The branch asks; nothing of it is kept on disk.
type drift struct {
	s     *sidecar
	due   chan struct{} // a schema change was applied, or made here
	ready chan struct{} // an answer is whole

	mu     sync.Mutex
	id     uint64 // of the question
	pieces []byte // of the answer, so far
	parts  uint32
	answer *answered
	now    *admin.Drift

	// Owned by run.
	mark   uint64 // of theirs; 0: they are not known
	theirs definitions
	alone  []schema.TableName
	seen   sightings
}

// answered is a whole answer, not opened yet.
type answered struct {
	head  schema.Office
	codec schema.Codec
	body  []byte
}

func newDrift(s *sidecar) *drift {
	return &drift{s: s, due: make(chan struct{}, 1), ready: make(chan struct{}, 1), id: uint64(time.Now().UnixMicro())}
}

// defined notes that tables have changed, here or at the head.
func (d *drift) defined() { rouse(d.due) }

// rouse wakes who waits at a channel for one.
func rouse(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// noticing is an applier that tells of other offices' schema changes.
type noticing struct {
	*apply.Applier
	defined func()
}

func (n noticing) Apply(ctx context.Context, sender schema.Office, txs []schema.Transaction) error {
	changed := define(txs)
	err := n.Applier.Apply(ctx, sender, txs)
	if changed {
		n.defined()
	}
	return err
}

// noticing is a sink that tells of this office's own.
func (s *sidecar) noticing(sink schema.Sink) schema.Sink {
	return func(ctx context.Context, txs []schema.Transaction) error {
		changed := define(txs)
		err := sink(ctx, txs)
		if changed {
			s.drift.defined()
		}
		return err
	}
}

// define reports whether there is a schema change among the changes.
func define(txs []schema.Transaction) bool {
	for i := range txs {
		for j := range txs[i].Changes {
			if txs[i].Changes[j].Op == schema.Define {
				return true
			}
		}
	}
	return false
}

// compareTables answers, at the head, or asks and compares, at a branch.
func (s *sidecar) compareTables(ctx context.Context) error {
	if s.cfg.Role == schema.Head {
		return s.tellers.run(ctx)
	}
	return s.drift.run(ctx)
}

// found is what the last look has found; nil: there was none.
func (d *drift) found() *admin.Drift {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

// heard takes a piece of the head's answer.
func (d *drift) heard(from schema.Office, m *schema.Definitions) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.Part == 0 {
		d.pieces, d.parts = nil, 0
	}
	if m.ID != d.id || m.Part != d.parts || len(d.pieces)+len(m.Body) > schema.MaxBody {
		return // of another question, or one before it was lost: it is asked for again
	}
	d.pieces, d.parts = append(d.pieces, m.Body...), d.parts+1
	if !m.More {
		d.answer = &answered{head: from, codec: m.Codec, body: d.pieces}
		d.pieces, d.parts = nil, 0
		rouse(d.ready)
	}
}

// run asks and looks until ctx ends. It returns nil: what it finds is for people and stops nothing.
func (d *drift) run(ctx context.Context) error {
	wait := driftAgain
	timer := time.NewTimer(driftSoon)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.due:
			wait = driftAgain
			timer.Reset(driftSoon)
		case <-timer.C:
			timer.Reset(d.ask())
		case <-d.ready:
			unsure, err := d.look(ctx)
			if ctx.Err() != nil {
				return nil
			}
			next := driftEvery
			if found := d.found(); found != nil && found.Different > 0 {
				next = driftStanding
			}
			switch {
			case err != nil:
				d.s.log.Warn("the tables cannot be held against the head's", "cause", err)
			case unsure:
				next = min(next, wait)
				wait = min(2*wait, driftEvery)
			}
			timer.Reset(next)
		}
	}
}

// ask asks the head what its tables are, and returns when to do it again if there is no answer. An office that joins has other
// tables than the head, and everybody knows.
func (d *drift) ask() time.Duration {
	if d.s.equal.client.Progress() != nil {
		return driftAgain
	}
	d.say(false)
	return driftUnanswered
}

func (d *drift) say(quiet bool) {
	d.mu.Lock()
	q := inquiry{Quiet: quiet, Have: d.mark, Alone: d.alone, Found: d.now}
	id := d.id
	d.mu.Unlock()
	body, codec, err := packed(q)
	if err != nil {
		d.s.log.Warn("the head cannot be asked for its tables", "cause", err)
		return
	}
	d.s.peers.Say("", schema.Control{Definitions: &schema.Definitions{ID: id, Codec: codec, Body: body}})
}

// packed is a value as it travels.
func packed(v any) ([]byte, schema.Codec, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, 0, err
	}
	return schema.Pack(text)
}

// opened is the other way.
func opened(body []byte, codec schema.Codec, v any) error {
	text, err := schema.Unpack(body, codec)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// take is the answer that has come, which ends the question.
func (d *drift) take() *answered {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.answer
	d.answer = nil
	d.id++
	return a
}

// look holds this office's tables against the answer. unsure: some of what differs may be on its way.
func (d *drift) look(ctx context.Context) (unsure bool, err error) {
	a := d.take()
	if a == nil {
		return true, nil
	}
	var r reply
	if err := opened(a.body, a.codec, &r); err != nil {
		return false, fmt.Errorf("the head's answer: %w", err)
	}
	if r.Error != "" {
		return false, fmt.Errorf("the head: %s", r.Error)
	}
	if err := d.learn(&r); err != nil {
		return false, err
	}
	now, ours, err := d.here(ctx, a.head, &r)
	if err != nil || d.s.equal.client.Progress() != nil {
		return true, err
	}
	sure, unsure := d.seen.sure(differences(&d.s.cfg, d.theirs, ours, r.Unwanted), now)
	more := alone(&d.s.cfg, d.theirs, ours)
	unsure = unsure || !slices.Equal(more, d.alone) // the head was not asked whether it takes them
	d.mu.Lock()
	d.alone = more
	d.mu.Unlock()
	d.tell(sure, ours)
	return unsure, nil
}

// learn takes over the head's definitions, unless they are as they were.
func (d *drift) learn(r *reply) error {
	if r.Mark == d.mark && d.theirs != nil {
		return nil
	}
	theirs := definitions{}
	for _, text := range r.Tables {
		one, err := schema.ParseDefinition(text)
		if err != nil {
			return fmt.Errorf("the head's answer: %w", err)
		}
		if d.s.cfg.shares(one.TableName) {
			theirs[one.TableName] = one
		}
	}
	d.theirs = theirs
	d.mu.Lock()
	d.mark = r.Mark
	d.mu.Unlock()
	return nil
}

// here reads this office's tables, and where the streams stand.
func (d *drift) here(ctx context.Context, head schema.Office, r *reply) (look, definitions, error) {
	now := look{at: r.At, applied: r.Applied}
	progress, err := d.s.applier.Senders(ctx)
	if err != nil {
		return now, nil, err
	}
	now.progress = progress[head]
	ours, err := readDefinitions(ctx, d.s.cfg)
	if err != nil {
		return now, nil, err
	}
	now.last, err = tables{d.s}.Last(ctx)
	return now, ours, err
}

// tell keeps what was found for whoever asks, and tells the head when it is news.
func (d *drift) tell(sure []difference, ours definitions) {
	steps, _ := d.s.applier.SchemaSteps()
	engine := ours.engine(d.s.db.engine)
	now := &admin.Drift{Checked: time.Now().UTC(), Different: uint64(len(sure)), Tables: []admin.DriftTable{}}
	for i := range sure {
		one := &sure[i]
		if len(now.Tables) < admin.MaxDriftTables {
			now.Tables = append(now.Tables, one.describe(d.theirs[one.table], ours[one.table], engine, &d.s.cfg, steps))
		}
	}
	text := fit(now)
	d.mu.Lock()
	was := d.now
	d.now = now
	d.mu.Unlock()
	if was == nil || string(fit(was)) != string(text) {
		d.s.log.Info("the tables were held against the head's", "different", now.Different)
		d.say(true)
	}
}

// fit leaves out of a report what is too much for one message, and returns the JSON of the rest's tables.
func fit(f *admin.Drift) []byte {
	for {
		text, err := json.Marshal(f.Tables)
		if err != nil || len(text) <= driftReport {
			return text
		}
		f.Tables = f.Tables[:len(f.Tables)-1]
	}
}
