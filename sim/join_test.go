package sim_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"

	"cdc-sidecar/apply"
	"cdc-sidecar/clock"
	"cdc-sidecar/peer"
	"cdc-sidecar/resync"
	"cdc-sidecar/schema"
)

// equality makes the office's side of joining, as the program does.
func (l *life) equality(c *peer.Config) {
	o := l.o
	log := slog.New(slog.DiscardHandler)
	if o.role == schema.Head {
		l.server = resync.NewServer(resync.ServerConfig{Sends: o.sends, Nudge: func() { l.peers.Nudge() }, Log: log}, database{l}, touches{l.clocks})
		c.Server = answering{l.server}
		return
	}
	l.client = resync.NewClient(resync.Config{
		Office: o.name, Dir: filepath.Join(o.w.dir, string(o.name)+"-keys"), Mode: o.mode(), Extra: o.w.plan.extra, Receives: o.receives, Sends: o.sends, Log: log,
		Matches: func(glob string, t schema.TableName) bool { return glob == "" || glob == t.Name },
	}, database{l}, speech{l})
	c.Joiner = joining{l.client}
	l.applier.Joining(l.client.Pending)
}

// mode is how the office joins when it is new.
func (o *office) mode() resync.Mode {
	if o.w.plan.comes(o.n) || o.w.plan.allJoin {
		return o.w.plan.mode
	}
	return resync.None
}

func (l *life) compare(ctx context.Context, up func()) error {
	if err := l.clocks.Ready(ctx); err != nil {
		return err
	}
	up()
	if l.server != nil {
		return l.server.Run(ctx)
	}
	return l.client.Run(ctx)
}

// database is the office's, as room resync wants it.
type database struct{ l *life }

func (d database) Tables(ctx context.Context) ([]schema.TableSize, error) {
	return d.l.applier.Tables(ctx)
}

func (d database) Stretch(ctx context.Context, table schema.TableName, from schema.Row, limit, bytes int) (*schema.Table, []schema.Row, bool, error) {
	return d.l.applier.Stretch(ctx, table, from, min(limit, d.l.o.w.plan.chunk), bytes)
}

func (d database) Keys(ctx context.Context, table schema.TableName, from schema.Row, limit int) (*schema.Table, []schema.Row, bool, error) {
	return d.l.applier.Keys(ctx, table, from, limit)
}

func (d database) Find(ctx context.Context, table schema.TableName, keys []schema.Row) (*schema.Table, []schema.Row, error) {
	return d.l.applier.Find(ctx, table, keys)
}

func (d database) Definition(ctx context.Context, table schema.TableName) (*schema.Table, error) {
	t, err := d.l.applier.Definition(ctx, table)
	if errors.Is(err, apply.ErrNoTable) {
		return nil, nil
	}
	return t, err
}

func (d database) Settle(ctx context.Context) (uint64, error) { return d.l.applier.Settle(ctx) }

func (d database) Mark(ctx context.Context) (uint64, error) { return d.l.applier.Mark(ctx) }

func (d database) Create(_ context.Context, t *schema.Table) error {
	return fmt.Errorf("table %s is there already", t.TableName)
}

func (d database) Chunk(ctx context.Context, head schema.Office, at schema.Position, changes []schema.Change, save []resync.Join) (parked int, err error) {
	taken, err := d.l.applier.Chunk(ctx, head, at, schema.Stamp{}, changes, joinsOf(save))
	if errors.Is(err, apply.ErrElsewhere) {
		return 0, errors.Join(resync.ErrElsewhere, err)
	}
	return taken.Parked, err
}

func (d database) Claim(ctx context.Context, table schema.TableName, keys []schema.Row, absent, old bool) error {
	_, err := d.l.applier.Claim(ctx, table, keys, absent, old)
	return err
}

func (d database) Joins(ctx context.Context) (out []resync.Join, err error) {
	all, err := d.l.applier.Joins(ctx)
	for _, j := range all {
		out = append(out, resync.Join(j))
	}
	return out, err
}

func (d database) SaveJoins(ctx context.Context, joins []resync.Join) error {
	return d.l.applier.SaveJoins(ctx, joinsOf(joins))
}

func (d database) DropJoins(ctx context.Context, names []string) error {
	return d.l.applier.DropJoins(ctx, names)
}

func joinsOf(all []resync.Join) (out []apply.Join) {
	for _, j := range all {
		out = append(out, apply.Join(j))
	}
	return out
}

func (d database) Overtake(ctx context.Context) error {
	mark, err := d.l.applier.Mark(ctx)
	if err != nil {
		return err
	}
	return d.l.clocks.Passed(ctx, mark)
}

func (d database) Held(table schema.TableName, row schema.RowID) (bool, error) {
	return d.l.clocks.Held(table, row, false)
}

func (d database) Disputed(ctx context.Context, row schema.RowID) (bool, error) {
	return d.l.applier.Disputed(ctx, row)
}

func (d database) Arrived(ctx context.Context) error {
	last, err := d.Last(ctx)
	if err != nil {
		return err
	}
	return d.l.clocks.Arrived(ctx, last.Seq)
}

func (d database) Last(ctx context.Context) (schema.Position, error) {
	if err := d.Overtake(ctx); err != nil {
		return schema.Position{}, err
	}
	_, last := d.l.journal.Bounds()
	return schema.Position{Epoch: d.l.journal.Epoch(), Seq: last}, nil
}

// touches are the head's row clocks.
type touches struct{ *clock.Follower }

func (t touches) Touched(table schema.TableName, row schema.RowID) (uint64, error) {
	seq, _, _, err := t.Against(table, row, "")
	return seq, err
}

func (t touches) TableTouched(table schema.TableName) uint64 { return t.TableAgainst(table, "") }

type speech struct{ l *life }

func (p speech) Say(to schema.Office, c schema.Control) { p.l.peers.Say(to, c) }
func (p speech) Greet()                                 { p.l.peers.Greet() }

type answering struct{ *resync.Server }

func (a answering) Ready(ctx context.Context, seq uint64) (out []peer.Answer, err error) {
	all, err := a.Server.Ready(ctx, seq)
	for _, x := range all {
		out = append(out, peer.Answer(x))
	}
	return out, err
}

type joining struct{ *resync.Client }

func (j joining) Welcomed(ctx context.Context, s peer.Standing) (peer.Verdict, error) {
	v, err := j.Client.Welcomed(ctx, resync.Standing(s))
	return peer.Verdict(v), err
}

// stretch is one journal of an office: what its log has behind from, to where the next one begins.
type stretch struct {
	epoch uint64
	from  int
}

// begins is what a new journal finds in the office's database, and where it begins to read the log. A second one follows a loss:
// what the comparison has to do is written down before.
func (l *life) begins(ctx context.Context, epoch uint64) (int, error) {
	o := l.o
	o.mu.Lock()
	known := o.epoch
	o.mu.Unlock()
	if known != 0 && o.role == schema.Branch {
		joins, err := l.applier.Joins(ctx)
		if err != nil {
			return 0, err
		}
		order := apply.Join{Table: schema.JoinAll}
		before := ""
		if i := slices.IndexFunc(joins, func(j apply.Join) bool { return j.Table == schema.JoinAll }); i >= 0 {
			order, before = joins[i], string(joins[i].State)
		}
		order.State = []byte(schema.LostJournal.Order(before))
		if err := l.applier.SaveJoins(ctx, []apply.Join{order}); err != nil {
			return 0, err
		}
	}
	from := 0
	if known != 0 || o.w.plan.comes(o.n) {
		from = len(o.db.History())
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.epoch = epoch
	o.journals = append(o.journals, stretch{epoch, from})
	return from, nil
}

// lives is how many journals the office has had.
func (o *office) lives() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.journals)
}

// resume is, at a branch, which tables are being joined where the log is read on.
func (l *life) resume(ctx context.Context, anew bool) ([]string, error) {
	if l.client == nil {
		return nil, nil
	}
	senders, err := l.applier.Senders(ctx)
	if err != nil {
		return nil, err
	}
	return l.client.Resume(ctx, l.journal.State().Seen, anew, len(senders) > 0)
}

// comparison is a job that somebody gave a branch.
type comparison struct {
	o    *office
	l    *life
	spec resync.Spec
	job  *resync.Job
}

// compareSomewhere lets a branch compare itself with the head, or take all rows anew.
func compareSomewhere(w *world) {
	o := w.anybody()
	l := o.life
	if o.role == schema.Head || l.dead() || !l.opened.Load() {
		return
	}
	spec := pick(w.r, resync.Spec{}, resync.Spec{}, resync.Spec{Resync: true}, resync.Spec{Resync: true, All: true}, resync.Spec{Repair: true})
	w.did("%s compares %+v", o.name, spec)
	job := l.client.Start(spec, nil)
	if !w.plan.schema.random { // else a comparison may come before the one that a schema change asks for
		w.compared = append(w.compared, comparison{o, l, spec, job})
	}
}

// verify has every branch compared with the head, and waits for the results.
func (w *world) verify() error {
	w.mu.Lock()
	w.plan.slow = ""
	w.mu.Unlock()
	for _, o := range w.offices[1:] {
		w.compared = append(w.compared, comparison{o, o.life, resync.Spec{}, o.life.client.Start(resync.Spec{}, nil)})
	}
	return w.quiet()
}

// compares is what comparisons are still under way.
func (w *world) compares() string {
	for _, c := range w.compared {
		select {
		case <-c.job.Done():
		default:
			if c.l == c.o.life {
				return fmt.Sprintf("%s compares %+v", c.o.name, c.spec)
			}
		}
	}
	return ""
}

// toldAgain reports whether one of the rows was told to be absent, and then otherwise: the head had not seen it yet when it decided.
// For that moment it is missing at the branches.
func (w *world) toldAgain(keys []schema.KeyReport) bool {
	for _, e := range w.head().db.Conflicts() {
		if e[schema.ConflictKind] == "again" && slices.ContainsFunc(keys, func(k schema.KeyReport) bool { return k.Key == e[schema.ConflictKey] }) {
			return true
		}
	}
	return false
}

// checkCompared: what is in flight is no difference, and there was nothing else that could have been.
func (w *world) checkCompared() error {
	for _, c := range w.compared {
		r := c.l.client.Result(c.job)
		if c.l != c.o.life && r.State != resync.Done {
			continue // its process ended
		}
		if r.State != resync.Done {
			return failed("", "%s: a comparison is %s: %s", c.o.name, r.State, r.Error)
		}
		for _, t := range r.Tables {
			if n := t.Different + t.MissingHere + t.MissingThere; n > 0 && !w.plan.unique && !w.toldAgain(t.Keys) {
				return failed("", "%s: a comparison found differences: %+v", c.o.name, t)
			}
		}
	}
	return nil
}
