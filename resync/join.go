package resync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cdc-sidecar/schema"
)

// phase is where a join stands. It is kept in the joins row of schema.JoinAll.
type phase string

const (
	// claiming: this office may have changes that nobody knows of. Its rows are compared with the head's, and what differs goes
	// up, before anything of the head's stream is taken.
	claiming phase = schema.PhaseClaim
	// preparing: the head's tables are made where they are missing. Nothing of its stream is taken.
	preparing phase = "prepare"
	// beginning: the head's stream is to be taken from where it is at the next welcome.
	beginning phase = "begin"
	// copying: it is taken, and meanwhile the tables are made equal, one after the other.
	copying phase = "copy"
	joined  phase = "joined"
)

// state is what is durable of a join.
type state struct {
	Phase phase  `json:"phase,omitempty"`
	Why   string `json:"why,omitempty"` // for people
	// Returned: this office had been joined, and nothing here is unknown to its own journal; what only it has was deleted at
	// the head.
	Returned bool      `json:"returned,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	// Before is the state that a loss interrupted; see schema.JoinOrder.
	Before *state `json:"before,omitempty"`
}

// halfway reports whether a join had not come to its end.
func (s *state) halfway() bool {
	return s != nil && s.Phase != "" && s.Phase != joined && (s.Phase != claiming || s.Before.halfway())
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return []byte("{}") // of plain fields: cannot be
	}
	return b
}

// load reads what a former life has left.
func (c *Client) load(ctx context.Context) error {
	joins, err := c.db.Joins(ctx)
	if err != nil {
		return err
	}
	star, tables, err := recall(joins)
	if err == nil {
		err = c.takeOrders(joins)
	}
	if err != nil {
		return err
	}
	if star.Phase != beginning && star.Phase != copying {
		var stale []string // a comparison was under way
		for name := range tables {
			stale = append(stale, name)
		}
		clear(tables)
		if err := c.db.DropJoins(ctx, stale); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, p := range tables {
		if old := c.tables[name]; old != nil {
			p.report, p.started, p.ended = old.report, old.started, old.ended
		}
	}
	c.star, c.tables, c.known = star, tables, true
	return nil
}

// recall reads what stands in the joins table.
func recall(joins []Join) (star state, tables map[string]*progress, err error) {
	tables = map[string]*progress{}
	for _, j := range joins {
		if strings.HasPrefix(j.Table, schema.OrderPrefix) {
			continue
		}
		if j.Table == schema.JoinAll {
			if err := json.Unmarshal(j.State, &star); err != nil {
				return star, nil, fmt.Errorf("read how far the join is: %w", err)
			}
			continue
		}
		p := &progress{}
		if err := json.Unmarshal(j.State, &p.durable); err != nil {
			return star, nil, fmt.Errorf("read how far the join of table %s is: %w", j.Table, err)
		}
		p.report = schema.TableReport{Table: j.Table, Rows: p.Rows, Total: p.Total}
		tables[j.Table] = p
	}
	return star, tables, nil
}

// place is where in the head's stream the last chunk stood.
func (c *Client) place() schema.Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *Client) headName() schema.Office {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.standing.Head
}

func (c *Client) stands() (Standing, state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.standing, c.star
}

// Welcomed decides what becomes of the head's stream.
func (c *Client) Welcomed(ctx context.Context, s Standing) (Verdict, error) {
	c.mu.Lock()
	c.standing = s
	known := c.known
	c.mu.Unlock()
	if !known {
		if err := c.load(ctx); err != nil {
			return Verdict{}, err
		}
	}
	defer c.rouse()
	_, star := c.stands()
	fresh, astray := s.Progress.Epoch == 0, s.Progress.Epoch == 0 || s.Lost != ""
	switch star.Phase {
	case claiming, preparing:
		return Verdict{Why: star.Why}, nil
	case beginning:
		return c.begin(ctx, s, star)
	case copying:
		if astray { // the life before did not come to begin it, or was away for too long
			return c.begin(ctx, s, star)
		}
		return Verdict{Follow: true}, nil
	}
	switch {
	case fresh && c.cfg.Mode == None:
		return c.trust(s)
	case fresh:
		star = state{Phase: preparing, Why: "this office is new to the head"}
	case s.Lost != "" && s.Restored:
		star = state{Phase: claiming, Why: "the head's database was restored: what it lacks goes up (" + s.Lost + ")"}
	case s.Lost != "":
		star = state{Phase: preparing, Why: s.Lost, Returned: true}
	default:
		return Verdict{Follow: true}, nil
	}
	c.cfg.Log.Warn("this office joins", "head", s.Head, "cause", star.Why)
	err := c.turn(ctx, star, fresh)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pause != nil { // while nothing of the head's is taken, no comparison comes to its end
		c.pause()
	}
	return Verdict{Why: star.Why}, err
}

// Verdict is what becomes of the head's stream here.
type Verdict struct {
	Begin  schema.Position // from behind here it is taken; zero: from where it was
	Follow bool
	Why    string
}

// trust takes the operator's word that the tables are equal.
func (c *Client) trust(s Standing) (Verdict, error) {
	if s.First <= 1 {
		return Verdict{Begin: schema.Position{Epoch: s.At.Epoch}, Follow: true}, nil
	}
	return Verdict{Begin: s.At, Follow: true}, nil
}

// stillEmpty are the tables that were empty, and are so now that the head has said where its stream begins. What the head says of
// a row that was written here before that may stand in what does not come any more: such a table is looked through to the end.
func (c *Client) stillEmpty(ctx context.Context) (map[string]bool, error) {
	c.mu.Lock()
	were := map[string]schema.TableName{}
	for name, p := range c.tables {
		if p.Filled {
			were[name] = p.Table
		}
	}
	c.mu.Unlock()
	are := map[string]bool{}
	for name, table := range were {
		empty, err := c.empty(ctx, table)
		if err != nil {
			return nil, err
		}
		are[name] = empty
	}
	return are, nil
}

// begin takes the head's stream from where it is. What is older comes with the tables.
func (c *Client) begin(ctx context.Context, s Standing, star state) (Verdict, error) {
	c.saving.lock()
	defer c.saving.unlock()
	filled, err := c.stillEmpty(ctx)
	if err != nil {
		return Verdict{}, err
	}
	c.mu.Lock()
	c.life++
	if c.stop != nil {
		c.stop()
	}
	tables := map[string]*progress{}
	var joins []Join
	for name, p := range c.tables {
		tables[name] = &progress{durable: durable{Table: p.Table, Total: p.Total}, report: schema.TableReport{Table: name, Total: p.Total}}
		tables[name].Filled = filled[name] && star.Phase == beginning // a stream that was begun before has brought rows
		joins = append(joins, Join{Table: name, Pending: true, State: encode(&tables[name].durable)})
	}
	c.tables = tables
	c.mu.Unlock()
	slices.SortFunc(joins, func(a, b Join) int { return strings.Compare(a.Table, b.Table) })
	star.Phase = copying
	return Verdict{Begin: s.At, Follow: true}, c.turnSaving(ctx, star, true, joins...)
}

// turn makes another phase durable, and what is to be saved with it.
func (c *Client) turn(ctx context.Context, to state, pending bool, with ...Join) error {
	c.saving.lock()
	defer c.saving.unlock()
	if err := ctx.Err(); err != nil { // what led here is over
		return err
	}
	return c.turnSaving(ctx, to, pending, with...)
}

// turnSaving is turn for who holds saving.
func (c *Client) turnSaving(ctx context.Context, to state, pending bool, with ...Join) error {
	if to.Since.IsZero() {
		to.Since = c.cfg.Now().UTC()
	}
	c.mu.Lock()
	all := append([]Join{{Table: schema.JoinAll, Pending: pending, At: c.at, State: encode(to)}}, with...)
	c.mu.Unlock()
	if err := c.db.SaveJoins(ctx, all); err != nil {
		return err
	}
	c.mu.Lock()
	c.star = to
	c.mu.Unlock()
	return nil
}

// join does what is due of a join.
func (c *Client) join(ctx context.Context) (bool, error) {
	s, star := c.stands()
	if s.Head == "" {
		return false, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	c.stop = cancel
	life := c.life
	c.mu.Unlock()
	err := c.advance(ctx, s, star)
	c.mu.Lock()
	c.stop = nil
	over := c.life != life
	c.mu.Unlock()
	switch {
	case over: // another has begun meanwhile
		return true, nil
	case ofTable(err): // nothing goes on before somebody mends it
		c.cfg.Log.Error("joining stands still", "cause", err)
		return true, sleep(ctx, retryTable)
	case errors.Is(err, errIdle):
		return false, nil
	}
	return true, err
}

// errIdle says that nothing is to be done.
var errIdle = errors.New("nothing to be done")

func (c *Client) advance(ctx context.Context, s Standing, star state) error {
	switch star.Phase {
	case claiming:
		return c.claim(ctx, s, star)
	case preparing:
		return c.prepare(ctx, star)
	case copying:
		return c.copyAll(ctx, star)
	default:
		return errIdle
	}
}

// retryTable is how soon a table is tried again that could not be compared.
const retryTable = 10 * time.Second

// ofTable reports whether an error concerns a table, not the connections.
func ofTable(err error) bool {
	var rejected *schema.RejectedError
	return errors.Is(err, errOfTable) || errors.Is(err, errRefused) || errors.As(err, &rejected) || errors.Is(err, schema.ErrUnknown)
}

// list asks the head for its tables, and returns those that are meant, the small ones first.
func (c *Client) list(ctx context.Context, meant func(schema.TableName) bool) ([]schema.TableSize, error) {
	var all []schema.TableSize
	err := c.exchange(ctx, &schema.Fetch{Want: schema.WantTables}, true, func(_ context.Context, _ schema.Position, chunk *schema.Chunk, _ []schema.Change) error {
		all = chunk.Tables
		return nil
	})
	all = slices.DeleteFunc(all, func(t schema.TableSize) bool { return !meant(t.Table.TableName) })
	slices.SortFunc(all, func(a, b schema.TableSize) int { return int(min(a.Rows, 1<<40)) - int(min(b.Rows, 1<<40)) })
	return all, err
}

// prepare makes the tables that are missing, and notes all that are to be made equal.
func (c *Client) prepare(ctx context.Context, star state) error {
	tables, err := c.list(ctx, c.cfg.Receives)
	if err != nil {
		return err
	}
	noted := map[string]*progress{}
	var joins []Join
	for _, t := range tables {
		own, err := c.db.Definition(ctx, t.Table.TableName)
		if err != nil {
			return err
		}
		if own == nil {
			if err := c.db.Create(ctx, t.Table); err != nil {
				return err
			}
			c.cfg.Log.Info("a table was made as the head has it", "table", t.Table.String())
		}
		empty, err := c.empty(ctx, t.Table.TableName) // before the head's stream brings the first row
		if err != nil {
			return err
		}
		name := t.Table.String()
		noted[name] = &progress{durable: durable{Table: t.Table.TableName, Total: t.Rows, Filled: empty}, report: schema.TableReport{Table: name, Total: t.Rows, Phase: "waiting"}}
		joins = append(joins, Join{Table: name, Pending: true, State: encode(&noted[name].durable)})
	}
	c.mu.Lock()
	c.tables = noted
	c.mu.Unlock()
	star.Phase = beginning
	if err := c.turn(ctx, star, true, joins...); err != nil {
		return err
	}
	c.head.Greet()
	return nil
}

// claim compares all tables while nothing of the head's stream is taken; what differs goes up.
func (c *Client) claim(ctx context.Context, s Standing, star state) error {
	goesOn := s.Lost == "" && s.Progress.Epoch != 0 && !star.Before.halfway()
	if s.Progress.Epoch != 0 { // so that a new log says what this office had of the head before what it now finds
		if _, err := c.db.Chunk(ctx, s.Head, s.Progress, nil, nil); err != nil {
			return err
		}
	}
	tables, err := c.list(ctx, c.cfg.Sends)
	if err != nil {
		return err
	}
	for _, t := range tables {
		own, err := c.db.Definition(ctx, t.Table.TableName)
		if err != nil {
			return err
		}
		if own == nil {
			continue
		}
		state := &progress{durable: durable{Table: t.Table.TableName, Total: t.Rows}, started: c.cfg.Now(), report: schema.TableReport{Table: t.Table.String(), Total: t.Rows}}
		c.track(state)
		why := purpose{claim: true, absent: goesOn, older: star.Why == schema.Restored.String(), oneWay: !c.cfg.Receives(t.Table.TableName), extra: Send, frozen: true}
		p := c.pass(t.Table.TableName, why, state)
		if err := p.run(ctx); err != nil {
			return fmt.Errorf("compare table %s: %w", t.Table.TableName, err)
		}
		r := state.report
		c.cfg.Log.Info("a table was compared with the head's", "table", r.Table, "rows", r.Rows, "equal", r.Equal, "sent up", r.Sent, "missing here", r.MissingHere)
	}
	if err := c.db.Overtake(ctx); err != nil { // what went up is held before the head's stream goes on
		return err
	}
	star.Phase, star.Returned, star.Before = joined, false, nil
	if !goesOn {
		star.Phase = preparing
	}
	c.forgetPlace()
	if err := c.turn(ctx, star, !goesOn); err != nil {
		return err
	}
	c.head.Greet()
	return nil
}

func (c *Client) track(p *progress) {
	c.mu.Lock()
	c.tables[p.report.Table] = p
	c.mu.Unlock()
}

func (c *Client) pass(table schema.TableName, why purpose, state *progress) *pass {
	return &pass{c: c, why: why, table: table, state: state, report: &state.report, pace: c.pace}
}

// copyAll makes all tables equal that are not yet, while the head's stream is taken.
func (c *Client) copyAll(ctx context.Context, star state) error {
	if err := c.db.Overtake(ctx); err != nil { // from here on every own change of these tables is marked in the log
		return err
	}
	why := purpose{take: true, save: true, extra: c.cfg.Extra, all: c.cfg.Mode == Replace && !star.Returned}
	switch {
	case c.cfg.Mode == Replace:
		why.extra = Delete
	case star.Returned && c.cfg.Extra == Send:
		why.extra = Delete
	}
	var failed error
	for {
		name, p := c.next()
		if p == nil {
			break
		}
		if err := c.copyTable(ctx, name, p, why); err != nil {
			if !ofTable(err) {
				return err
			}
			c.cfg.Log.Error("a table cannot be joined; the others go on", "table", name, "cause", err)
			c.mu.Lock()
			p.Error = err.Error()
			c.mu.Unlock()
			failed = err
		}
	}
	if failed != nil {
		c.forgive()
		return failed
	}
	return c.finish(ctx, star)
}

// next is a table that is still to be made equal, in the order of their sizes.
func (c *Client) next() (string, *progress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for name, p := range c.tables {
		if !p.Done && p.Error == "" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", nil
	}
	first := slices.MinFunc(names, func(a, b string) int {
		if d := int(min(c.tables[a].Total, 1<<40)) - int(min(c.tables[b].Total, 1<<40)); d != 0 {
			return d
		}
		return slices.Compare([]string{a}, []string{b})
	})
	return first, c.tables[first]
}

// forgive lets tables be tried again that could not be compared.
func (c *Client) forgive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.tables {
		p.Error = ""
	}
}

func (c *Client) copyTable(ctx context.Context, name string, state *progress, why purpose) error {
	table := state.Table
	if !c.cfg.Sends(table) && why.extra == Send {
		why.extra = Keep
	}
	c.mu.Lock()
	state.started = c.cfg.Now()
	state.report.Table, state.report.Total = name, state.Total
	c.mu.Unlock()
	if err := c.pass(table, why, state).run(ctx); err != nil {
		return err
	}
	behind := state.durable
	behind.Done, behind.Cursor, behind.Pending = true, nil, nil
	if err := c.saveDone(ctx, Join{Table: name, At: c.place(), State: encode(&behind)}); err != nil {
		return err
	}
	c.mu.Lock()
	state.Done, state.ended, state.report.Phase = true, c.cfg.Now(), "done"
	r := state.report
	c.mu.Unlock()
	if r.Disputed > 0 {
		c.cfg.Log.Warn("rows of a table that was joined waited for their unique values: another row here had them", "table", name, "rows", r.Disputed,
			"remedy", "they are tried again by themselves; `cdc-sidecar status` tells how many still wait")
	}
	c.cfg.Log.Info("a table is equal to the head's", "table", name, "rows", r.Rows, "equal", r.Equal, "written", r.Repaired, "sent up", r.Sent,
		"deleted", r.Removed, "only here", r.MissingThere, "disputed", r.Disputed, "seconds", int(r.Seconds))
	return nil
}

func (c *Client) saveDone(ctx context.Context, j Join) error {
	c.saving.lock()
	defer c.saving.unlock()
	if err := ctx.Err(); err != nil { // the join is over
		return err
	}
	return c.db.SaveJoins(ctx, []Join{j})
}

// finish ends a join: all tables are equal.
func (c *Client) finish(ctx context.Context, star state) error {
	c.mu.Lock()
	var names []string
	for name := range c.tables {
		names = append(names, name)
	}
	c.mu.Unlock()
	star.Phase, star.Returned = joined, false
	if err := c.turn(ctx, star, false); err != nil {
		return err
	}
	if err := c.db.DropJoins(ctx, names); err != nil {
		return err
	}
	c.cfg.Log.Info("this office has joined", "tables", len(names), "since", star.Since)
	return c.settle(ctx, star)
}

// settle notes that the office's own log has been read beyond the end of the join: from then on a restart need not ask whether
// that end is still to come in the log.
func (c *Client) settle(ctx context.Context, star state) error {
	if err := c.db.Overtake(ctx); err != nil {
		return err
	}
	c.forgetPlace()
	return c.turn(ctx, star, false)
}

// forgetPlace: what is saved from here on does not depend on how far the log has been read.
func (c *Client) forgetPlace() {
	c.mu.Lock()
	c.at = schema.Position{}
	c.mu.Unlock()
}
