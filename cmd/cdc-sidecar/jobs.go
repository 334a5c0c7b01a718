package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/resync"
	"cdc-sidecar/schema"
)

const (
	// keptJobs is how many ended jobs are remembered for whoever asks.
	keptJobs = 32
	// remindEvery is how often the head repeats what it asks of a branch until the branch has reported the end.
	remindEvery = 5 * time.Second
)

// jobs are what people ask of the running sidecar, and what the configuration's schedule does.
type jobs struct {
	s *sidecar

	mu     sync.Mutex
	last   uint64   // the ID given last
	all    []*asked // the oldest first
	places []*places
	verify admin.Verify
	tables map[string]bool // whether a table was equal when it was last compared, by office and name
}

type asked struct {
	admin.Job
	number uint64
	cancel context.CancelFunc
	parts  []*part
	ended  chan struct{}
}

// part is one branch's share of a comparison.
type part struct {
	office schema.Office
	result resync.Result
	done   chan struct{} // closed when result is the end
	order  *resync.Job   // this branch's own, which a schema change asked for; nil: people asked
}

func newJobs(s *sidecar) *jobs {
	return &jobs{s: s, last: uint64(time.Now().UnixMicro()), tables: map[string]bool{}}
}

// Start begins a job.
func (j *jobs) Start(spec admin.Spec) (string, error) {
	offices, err := j.offices(spec)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(context.Background())
	j.mu.Lock()
	n := j.add(spec, offices, cancel)
	j.mu.Unlock()
	go func() {
		select {
		case <-j.s.ending:
			cancel()
		case <-ctx.Done():
		}
	}()
	go j.run(ctx, n)
	return n.ID, nil
}

// add notes a job. The caller holds mu.
func (j *jobs) add(spec admin.Spec, offices []schema.Office, cancel context.CancelFunc) *asked {
	j.last++
	n := &asked{number: j.last, cancel: cancel, ended: make(chan struct{}), Job: admin.Job{
		ID: strconv.FormatUint(j.last, 36), Spec: spec, State: admin.JobRunning, Asked: time.Now(), Started: time.Now(),
	}}
	for _, o := range offices {
		n.parts = append(n.parts, &part{office: o, result: resync.Result{State: resync.Waiting}, done: make(chan struct{})})
	}
	j.all = append(j.all, n)
	if len(j.all) > keptJobs {
		j.all = slices.DeleteFunc(j.all, func(o *asked) bool { return o.State.Ended() && len(j.all) > keptJobs })
	}
	return n
}

// offices are the branches that a comparison is about.
func (j *jobs) offices(spec admin.Spec) ([]schema.Office, error) {
	switch {
	case spec.Kind == admin.JobSync:
		return nil, nil
	case j.s.cfg.Role == schema.Branch && spec.Office != "" && spec.Office != j.s.cfg.Office:
		return nil, &admin.SpecError{Problem: "office: a branch compares its own tables with the head's; ask at the head for another one"}
	case j.s.cfg.Role == schema.Branch:
		return []schema.Office{j.s.cfg.Office}, nil
	}
	peers := j.s.meet()
	if peers == nil {
		return nil, &admin.SpecError{Problem: "the sidecar is still starting"}
	}
	var offices []schema.Office
	members, _ := peers.Status()
	for _, m := range members {
		if spec.Office == "" || spec.Office == m.Office {
			offices = append(offices, m.Office)
		}
	}
	if spec.Office != "" && len(offices) == 0 {
		return nil, admin.ErrUnknownOffice
	}
	if len(offices) == 0 {
		return nil, &admin.SpecError{Problem: "there is no branch to compare with yet"}
	}
	return offices, nil
}

func (j *jobs) run(ctx context.Context, n *asked) {
	defer close(n.ended)
	defer n.cancel()
	defer j.s.gate.open()()
	var err error
	switch {
	case n.Spec.Kind == admin.JobSync:
		var moved admin.Moved
		moved, err = j.s.gate.sync(ctx, j.s.drain, func(note string, moved admin.Moved) {
			j.update(n, func() { n.Note, n.Moved = note, moved })
		})
		j.update(n, func() { n.Moved = moved })
	case j.s.cfg.Role == schema.Branch:
		err = j.compare(ctx, n)
	default:
		err = j.ask(ctx, n)
	}
	j.update(n, func() {
		n.Ended, n.State, n.Note = time.Now(), admin.JobDone, ""
		switch {
		case ctx.Err() != nil:
			n.State = admin.JobCancelled
		case err != nil:
			n.State, n.Error = admin.JobFailed, err.Error()
		}
	})
	j.tally(n)
}

func (j *jobs) update(_ *asked, change func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change()
}

// adopt keeps a comparison among the jobs that a schema change asked this branch for. Whoever cancels it gives it up for good; when
// the sidecar ends before it, the next one goes on.
func (j *jobs) adopt(work *resync.Job, o schema.RowsOrder) {
	ctx, cancel := context.WithCancel(context.Background())
	spec := admin.Spec{Kind: admin.JobResync, Table: o.Table.String(), Prefer: admin.PreferHead}
	if o.Up {
		spec.Prefer = admin.PreferBranch
	}
	j.mu.Lock()
	n := j.add(spec, []schema.Office{j.s.cfg.Office}, cancel)
	n.Why, n.parts[0].order = o.Why, work
	j.mu.Unlock()
	go func() {
		defer cancel()
		defer close(n.ended)
		select {
		case <-work.Done():
		case <-j.s.ending:
			return
		case <-ctx.Done():
			j.s.equal.client.Cancel(work)
			<-work.Done()
		}
		r := j.s.equal.client.Result(work)
		j.update(n, func() { n.Ended, n.State, n.parts[0].result = time.Now(), admin.JobState(r.State), r })
	}()
}

// specOf is a job in the words of room resync.
func specOf(spec *admin.Spec) resync.Spec {
	return resync.Spec{
		Table: spec.Table, Where: spec.Where, Resync: spec.Kind == admin.JobResync, Repair: spec.Repair, Ours: spec.Prefer == admin.PreferBranch,
		Extra: resync.Extra(spec.Extra), All: spec.Mode == admin.ModeReplace, Rows: spec.Rows,
	}
}

// compare has this branch compare itself.
func (j *jobs) compare(ctx context.Context, n *asked) error {
	client := j.s.equal.client
	p := n.parts[0]
	work := client.Start(specOf(&n.Spec), func(r resync.Result) { j.update(n, func() { p.result = r }) })
	select {
	case <-work.Done():
	case <-ctx.Done():
		client.Cancel(work)
		<-work.Done()
	}
	r := client.Result(work)
	j.update(n, func() { p.result = r })
	if r.State == resync.Failed {
		return fmt.Errorf("%s", r.Error)
	}
	return nil
}

// ask has branches compare themselves, and waits for what they say.
func (j *jobs) ask(ctx context.Context, n *asked) error {
	spec, err := json.Marshal(specOf(&n.Spec))
	if err != nil {
		return err
	}
	tick := time.NewTicker(remindEvery)
	defer tick.Stop()
	for _, p := range n.parts {
		for waiting := true; waiting; {
			for _, q := range n.parts {
				if !isClosed(q.done) {
					j.s.peers.Say(q.office, schema.Control{Compare: &schema.Compare{To: q.office, ID: n.number, Spec: spec}})
				}
			}
			select {
			case <-p.done:
				waiting = false
			case <-tick.C:
			case <-ctx.Done():
				for _, q := range n.parts {
					j.s.peers.Say(q.office, schema.Control{Compare: &schema.Compare{To: q.office, ID: n.number}})
				}
				return ctx.Err()
			}
		}
	}
	for _, p := range n.parts {
		if p.result.State == resync.Failed {
			return fmt.Errorf("office %s: %s", p.office, p.result.Error)
		}
	}
	return nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// reported takes what a branch says of its share.
func (j *jobs) reported(from schema.Office, r *schema.Report) {
	var result resync.Result
	if err := json.Unmarshal(r.Body, &result); err != nil {
		result = resync.Result{State: resync.Failed, Error: "the branch's report cannot be read: " + err.Error()}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.placed(from, r.ID, &result) {
		return
	}
	for _, n := range j.all {
		for _, p := range n.parts {
			if n.number != r.ID || p.office != from || isClosed(p.done) {
				continue
			}
			if p.result = result; r.Done {
				close(p.done)
			}
		}
	}
}

// Job is a job's state now.
func (j *jobs) Job(id string) (admin.Job, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, n := range j.all {
		if n.ID == id {
			return j.snapshot(n, true), nil
		}
	}
	return admin.Job{}, admin.ErrUnknownJob
}

// snapshot is a job for whoever asks. The caller holds mu.
func (j *jobs) snapshot(n *asked, keys bool) admin.Job {
	out := n.Job
	waiting := len(n.parts) > 0 && !n.State.Ended()
	for _, p := range n.parts {
		r := p.result
		if p.order != nil && !n.State.Ended() {
			r = j.s.equal.client.Result(p.order)
		}
		if j.s.cfg.Role == schema.Branch && !n.State.Ended() { // as it is at this moment
			waiting = waiting && r.State == resync.Waiting
		}
		o := admin.OfficeReport{Office: p.office, State: admin.JobState(r.State), Error: r.Error, Note: r.Note, Tables: slices.Clone(r.Tables)}
		if !keys {
			for i := range o.Tables {
				o.Tables[i].Keys = nil
			}
		}
		if o.State == admin.JobWaiting && o.Note == "" && !n.State.Ended() {
			o.Note = j.s.silence(p.office)
		}
		waiting = waiting && o.State == admin.JobWaiting
		out.Offices = append(out.Offices, o)
		if out.Note == "" {
			out.Note = o.Note
		}
	}
	if waiting {
		out.State = admin.JobWaiting
	}
	return out
}

// List is all jobs that are remembered, the newest first.
func (j *jobs) List() []admin.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]admin.Job, 0, len(j.all))
	for _, n := range slices.Backward(j.all) {
		out = append(out, j.snapshot(n, false))
	}
	return out
}

// Cancel tells a job to end.
func (j *jobs) Cancel(id string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, n := range j.all {
		if n.ID == id {
			n.cancel()
			return nil
		}
	}
	return admin.ErrUnknownJob
}

// tally adds to the totals what a comparison found.
func (j *jobs) tally(n *asked) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if n.Spec.Kind != admin.JobVerify || n.State != admin.JobDone {
		return
	}
	v := &j.verify
	v.LastSuccess = n.Ended
	for _, p := range n.parts {
		for i := range p.result.Tables {
			t := &p.result.Tables[i]
			v.Equal += t.Equal
			v.Different += t.Different
			v.MissingHere += t.MissingHere
			v.MissingThere += t.MissingThere
			v.Disputed += t.Disputed
			if equal := t.Left() == 0; !equal || n.Spec.Where == "" { // of the other rows, equal ones say nothing
				j.tables[string(p.office)+" "+t.Table] = equal
			}
		}
	}
	v.Diverged = 0
	for _, equal := range j.tables {
		if !equal {
			v.Diverged++
		}
	}
}

// verified is the totals for status.
func (j *jobs) verified() admin.Verify {
	j.mu.Lock()
	v := j.verify
	j.mu.Unlock()
	if s := j.s.cfg.Verify.Schedule; s != nil {
		v.Next = s.Next(time.Now())
	}
	return v
}

// background compares this branch's tables at each time of the configuration's schedule, until ctx ends.
func (j *jobs) background(ctx context.Context) error {
	cfg := j.s.cfg.Verify
	for cfg.Schedule != nil && j.s.cfg.Role == schema.Branch {
		if !sleepUntil(ctx, cfg.Schedule.Next(time.Now())) {
			break
		}
		id, err := j.Start(admin.Spec{Kind: admin.JobVerify, Rows: uint64(cfg.Rows)})
		if err != nil {
			j.s.log.Warn("the scheduled comparison cannot begin", "cause", err)
			continue
		}
		j.await(ctx, id)
	}
	<-ctx.Done()
	return ctx.Err()
}

// await returns when a job has ended, and logs what it found.
func (j *jobs) await(ctx context.Context, id string) {
	j.mu.Lock()
	i := slices.IndexFunc(j.all, func(n *asked) bool { return n.ID == id })
	ended := j.all[i].ended
	j.mu.Unlock()
	select {
	case <-ended:
	case <-ctx.Done():
		return
	}
	n, err := j.Job(id)
	if err != nil {
		return
	}
	for _, o := range n.Offices {
		for i := range o.Tables {
			t := &o.Tables[i]
			if t.Left() > 0 {
				j.s.log.Warn("a table differs from the head's", "table", t.Table, "different", t.Different, "missing here", t.MissingHere,
					"missing there", t.MissingThere, "disputed", t.Disputed, "remedy", "cdc-sidecar verify --repair --table "+t.Table)
			}
		}
	}
	if n.Error != "" {
		j.s.log.Warn("the scheduled comparison failed", "cause", n.Error)
	}
}
