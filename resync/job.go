package resync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"cdc-sidecar/schema"
)

// Spec is what a person, or the head, wants compared.
type Spec struct {
	Table  string `json:"table,omitempty"` // a glob; empty: all
	Where  string `json:"where,omitempty"` // CEL
	Resync bool   `json:"resync,omitempty"`
	Repair bool   `json:"repair,omitempty"`
	// Prefer is whose row stays where the two differ: the head's, or (ours true) this branch's.
	Ours  bool   `json:"ours,omitempty"`
	Extra Extra  `json:"extra,omitempty"`
	All   bool   `json:"all,omitempty"`  // of a resync: all rows come
	Rows  uint64 `json:"rows,omitempty"` // a second; 0: as configured
	// Place compares nothing: the job, behind those that came before it, finds where the two offices' streams end.
	Place bool `json:"place,omitempty"`
}

// JobState says how far a job is.
type JobState string

// The states, the words of the API.
const (
	Waiting   JobState = "waiting"
	Running   JobState = "running"
	Done      JobState = "done"
	Failed    JobState = "failed"
	Cancelled JobState = "cancelled"
)

// Result is a job as it stands.
type Result struct {
	State  JobState             `json:"state"`
	Error  string               `json:"error,omitempty"`
	Note   string               `json:"note,omitempty"`
	Tables []schema.TableReport `json:"tables"`
	// Own and Head are where this office's stream and the head's ended while a job of Spec.Place was done: everything committed
	// before it was asked for is in them.
	Own  schema.Position `json:"own,omitzero"`
	Head schema.Position `json:"head,omitzero"`
}

// Job is one comparison that somebody asked for.
type Job struct {
	spec   Spec
	report func(Result)  // told of progress and of the end; may be nil
	quit   chan struct{} // closed by Cancel
	cancel func()
	order  *ordered // a schema change asked for it; under Client.mu, as what follows

	// Under Client.mu:
	state  JobState
	err    error
	tables []*progress
	own    schema.Position // see Result
	head   schema.Position
	told   time.Time
	done   chan struct{}

	notBefore time.Time // it is tried again then
}

// Start begins a job behind those that were given before.
func (c *Client) Start(spec Spec, report func(Result)) *Job {
	j := c.newJob(spec, report)
	c.mu.Lock()
	c.jobs = append(c.jobs, j)
	c.mu.Unlock()
	c.rouse()
	return j
}

func (c *Client) newJob(spec Spec, report func(Result)) *Job {
	j := &Job{spec: spec, report: report, quit: make(chan struct{}), state: Waiting, done: make(chan struct{})}
	j.cancel = sync.OnceFunc(func() { close(j.quit) })
	return j
}

// Cancel ends a job; what is done stays done. One that waits, for whatever it may be, has ended at once.
func (c *Client) Cancel(j *Job) {
	j.cancel()
	c.mu.Lock()
	waits := j.state == Waiting
	if j.order != nil { // its row goes, too
		j.notBefore, waits = time.Time{}, false
	}
	c.mu.Unlock()
	if waits {
		c.end(j, nil)
	}
	c.rouse()
}

// Result is how far a job is.
func (c *Client) Result(j *Job) Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resultLocked(j)
}

// Done is closed when the job has ended.
func (j *Job) Done() <-chan struct{} { return j.done }

func (c *Client) resultLocked(j *Job) Result {
	r := Result{State: j.state, Tables: []schema.TableReport{}, Own: j.own, Head: j.head}
	if j.err != nil {
		r.Error = j.err.Error()
	}
	if c.star.Phase != joined && c.star.Phase != "" && j.state == Waiting {
		r.Note = "this office is joining: " + c.star.Why
	}
	for _, t := range j.tables {
		report := t.report
		report.Keys = append([]schema.KeyReport(nil), report.Keys...)
		r.Tables = append(r.Tables, report)
	}
	return r
}

// keptAsked is how many of the head's wishes are remembered, in case the head did not hear how they ended.
const keptAsked = 16

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Asked takes the head's wish for a comparison; what comes of it is reported to the head.
func (c *Client) Asked(a *schema.Compare) {
	if len(a.Spec) == 0 {
		c.forget(a.ID)
		return
	}
	var spec Spec
	if err := json.Unmarshal(a.Spec, &spec); err != nil {
		c.head.Say("", schema.Control{Report: &schema.Report{ID: a.ID, Done: true, Body: encode(Result{State: Failed, Error: "the branch cannot read what is asked: " + err.Error()})}})
		return
	}
	c.mu.Lock()
	known := c.asked[a.ID]
	if c.asked == nil {
		c.asked = map[uint64]*Job{}
	}
	for id, j := range c.asked {
		if len(c.asked) > keptAsked && id != a.ID && isClosed(j.done) {
			delete(c.asked, id)
		}
	}
	c.mu.Unlock()
	if known != nil { // the head repeats what it has no report of
		c.tell(a.ID, c.Result(known))
		return
	}
	j := c.Start(spec, func(r Result) { c.tell(a.ID, r) })
	c.mu.Lock()
	c.asked[a.ID] = j
	c.mu.Unlock()
}

// forget lets go of a job that the head asked for and has given up.
func (c *Client) forget(id uint64) {
	c.mu.Lock()
	j := c.asked[id]
	delete(c.asked, id)
	c.mu.Unlock()
	if j != nil {
		c.Cancel(j)
	}
}

func (c *Client) tell(id uint64, r Result) {
	done := r.State == Done || r.State == Failed || r.State == Cancelled
	if !done { // names come with the end
		for i := range r.Tables {
			r.Tables[i].Keys = nil
		}
	}
	c.head.Say("", schema.Control{Report: &schema.Report{ID: id, Done: done, Body: encode(r)}})
}

// job does the oldest job that waits.
func (c *Client) job(ctx context.Context) (bool, error) {
	c.mu.Lock()
	var j *Job
	if len(c.jobs) > 0 && c.standing.Head != "" && c.standing.Lost == "" && (c.star.Phase == joined || c.star.Phase == "") {
		j = c.dueLocked()
	}
	if j != nil {
		j.state, j.err = Running, nil
	}
	c.mu.Unlock()
	if j == nil {
		return false, nil
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	c.mu.Lock()
	c.pause = stop
	c.mu.Unlock()
	go func() {
		select {
		case <-j.quit:
			stop()
		case <-working.Done():
		}
	}()
	err := c.do(working, j)
	c.mu.Lock()
	c.pause = nil
	paused := err != nil && working.Err() != nil && ctx.Err() == nil && !j.cancelled()
	if paused {
		j.state = Waiting
	}
	c.mu.Unlock()
	if paused {
		return true, nil
	}
	if err != nil && !j.cancelled() && (ctx.Err() != nil || !ofTable(err)) {
		c.mu.Lock()
		j.state = Waiting
		c.mu.Unlock()
		return true, err // the connections': the job is begun again with the next session
	}
	if j.order != nil {
		return true, c.obeyed(ctx, j, err)
	}
	c.end(j, err)
	return true, nil
}

func (j *Job) cancelled() bool { return isClosed(j.quit) }

func (c *Client) end(j *Job, err error) {
	c.mu.Lock()
	at := slices.Index(c.jobs, j)
	if at < 0 { // it has ended
		c.mu.Unlock()
		return
	}
	c.jobs = slices.Delete(c.jobs, at, at+1)
	switch {
	case j.cancelled():
		j.state = Cancelled
	case err != nil:
		j.state, j.err = Failed, err
	default:
		j.state = Done
	}
	r := c.resultLocked(j)
	c.mu.Unlock()
	close(j.done)
	if j.report != nil {
		j.report(r)
	}
}

// tellEvery is how often whoever asked hears how far a job is.
const tellEvery = time.Second

func (c *Client) progressed(j *Job) {
	c.mu.Lock()
	if j.report == nil || c.cfg.Now().Sub(j.told) < tellEvery {
		c.mu.Unlock()
		return
	}
	j.told = c.cfg.Now()
	r := c.resultLocked(j)
	c.mu.Unlock()
	j.report(r)
}

func (c *Client) do(ctx context.Context, j *Job) error {
	if j.spec.Place {
		return c.places(ctx, j)
	}
	c.mu.Lock()
	j.tables = nil // a former try's
	c.mu.Unlock()
	if j.order != nil {
		return c.obey(ctx, j)
	}
	tables, err := c.list(ctx, func(t schema.TableName) bool {
		return (c.cfg.Receives(t) || c.cfg.Sends(t)) && (c.cfg.Matches == nil || c.cfg.Matches(j.spec.Table, t))
	})
	if err != nil {
		return err
	}
	var failed error
	found := false
	for _, t := range tables {
		found = true
		if err := c.compareTable(ctx, j, t); err != nil {
			if !ofTable(err) || ctx.Err() != nil {
				return err
			}
			failed = errors.Join(failed, fmt.Errorf("table %s: %w", t.Table.TableName, err))
		}
	}
	if !found && failed == nil {
		return fmt.Errorf("%w: no table that this office shares with the head matches %q", errOfTable, j.spec.Table)
	}
	if failed == nil && (j.spec.Repair || j.spec.Resync) {
		failed = c.db.Arrived(ctx)
	}
	return failed
}

// places finds where the streams end. The head's answer stands in its stream: what it has sent before is here before.
func (c *Client) places(ctx context.Context, j *Job) error {
	own, err := c.db.Last(ctx)
	if err != nil {
		return err
	}
	return c.exchange(ctx, &schema.Fetch{Want: schema.WantTables}, true, func(_ context.Context, at schema.Position, _ *schema.Chunk, _ []schema.Change) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		j.own, j.head = own, at
		return nil
	})
}

func (c *Client) compareTable(ctx context.Context, j *Job, t schema.TableSize) error {
	name := t.Table.String()
	state := &progress{durable: durable{Table: t.Table.TableName, Total: t.Rows}, started: c.cfg.Now(), report: schema.TableReport{Table: name, Total: t.Rows}}
	c.mu.Lock()
	j.tables = append(j.tables, state)
	c.mu.Unlock()
	why := purpose{where: j.spec.Where, oneWay: !c.cfg.Receives(t.Table.TableName)}
	if j.spec.Repair || j.spec.Resync {
		why.take, why.all, why.claim = true, j.spec.All, j.spec.Ours && c.cfg.Sends(t.Table.TableName)
		if why.extra = j.spec.Extra; why.extra == "" {
			why.extra = c.cfg.Extra
		}
		if j.order != nil && j.order.gone {
			why.extra, why.absent, why.take = Delete, why.claim, !why.claim
		}
		if !c.cfg.Sends(t.Table.TableName) && why.extra == Send {
			why.extra = Keep
		}
		if !c.cfg.Receives(t.Table.TableName) {
			why.take, why.all, why.claim, why.extra = false, false, true, Send
		}
	}
	p := c.pass(t.Table.TableName, why, state)
	p.job = j
	if j.spec.Rows > 0 {
		p.pace = newPace(j.spec.Rows, 0)
	}
	err := p.run(ctx)
	p.note("done", nil)
	return err
}

// Progress is what a join, or a comparison under way, looks like.
type Progress struct {
	Phase  string
	Why    string
	Since  time.Time
	Tables []TableProgress
}

// TableProgress is one table of it.
type TableProgress struct {
	schema.TableReport
	Done  bool
	Error string
}

// Progress is how far the join is; nil when there is none.
func (c *Client) Progress() *Progress {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.star.Phase == "" || c.star.Phase == joined {
		return nil
	}
	out := &Progress{Phase: string(c.star.Phase), Why: c.star.Why, Since: c.star.Since}
	for _, p := range c.tables {
		t := TableProgress{TableReport: p.report, Done: p.Done, Error: p.Error}
		t.Keys = nil
		out.Tables = append(out.Tables, t)
	}
	return out
}
