package sim_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"cdc-sidecar/apply"
	"cdc-sidecar/catalog"
	"cdc-sidecar/resync"
	"cdc-sidecar/schema"
)

// The tables: items is written by all offices, prices by the head alone, and visits by the branches, whose rows the head
// collects and does not send on.
var (
	items  = schema.TableName{Name: "items"}
	prices = schema.TableName{Name: "prices"}
	visits = schema.TableName{Name: "visits"}
)

// The columns of items. Each statement writes its own name into who, and where it sets a or b, there too.
const (
	colID = iota
	colWho
	colA
	colB
	colN    // a counter
	colCode // unique in some runs
	colNote // large in some runs
)

func tables(engine schema.Engine, unique, filled bool) []catalog.Table {
	native := map[bool]string{true: "text", false: "longtext"}[engine == schema.Postgres]
	text := func(name string) schema.Column {
		return schema.Column{Name: name, Kind: schema.KindText, Nullable: true, Native: native}
	}
	number := func(name string) schema.Column {
		return schema.Column{Name: name, Kind: schema.KindInt, Size: 64, Nullable: name != "id", Native: "bigint"}
	}
	table := func(name schema.TableName, columns ...schema.Column) catalog.Table {
		return catalog.Table{Table: schema.NewTable(schema.Table{TableName: name, Engine: engine, Key: []int{0}, Columns: columns}), OwnSchema: "public", KeyLogged: true}
	}
	code := text("code")
	code.Nullable = !filled
	all := []catalog.Table{
		table(items, number("id"), text("who"), text("a"), text("b"), number("n"), code, text("note")),
		table(prices, number("id"), text("who")),
		table(visits, number("id"), text("who")),
	}
	if unique {
		all[0].Unique = [][]int{{colCode}}
	}
	return all
}

// plan is what a run is like; all of it comes from the seed.
type plan struct {
	branches int
	joiner   int          // the office that comes late; 0: none
	joinsAt  int          // behind so many writes
	found    []schema.Row // that it has then
	allJoin  bool         // the others join from the start, too
	mode     resync.Mode
	extra    resync.Extra
	chunk    int // rows in a stretch
	away     int // the office that stays away until all is healed; 0: none
	policy   schema.Policy
	engines  [5]schema.Engine
	skews    [5]time.Duration
	coarse   time.Duration // clocks show whole ones of it
	oldRows  bool
	large    []string
	unique   bool
	filled   bool // and codes are NOT NULL
	moves    bool
	truncate bool
	deletes  bool
	seesaw   bool // the head deletes rows and inserts them again, which the branches update
	solo     int  // the one office that writes; -1: all do
	first    []schema.Row
	keys     int
	writes   int
	rate     float64 // of writes, at each turn

	faults     []func(*world)
	faultRate  float64
	pause      float64 // how often a moment passes although somebody could go on
	stall      float64 // how often some seconds do
	speeds     []float64
	shift      float64 // how often they change
	slow       string  // who takes slowness for each step
	late       float64 // the speed at which what an application committed is seen, when the log has it
	budget     int64
	clockRows  int
	queueLimit int
	repeat     float64 // of deliveries
	logBatch   int

	schema   schemaPlan
	patience time.Duration // with a run that does not come to rest; 0: patience
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func newPlan(r *rand.Rand) plan {
	p := plan{
		branches: pick(r, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 4),
		coarse:   pick(r, time.Microsecond, time.Microsecond, time.Microsecond, time.Second, 10*time.Second),
		large:    pick(r, nil, nil, nil, []string{"note"}),
		unique:   r.IntN(5) == 0, moves: r.IntN(3) == 0, truncate: r.IntN(12) == 0, deletes: r.IntN(4) > 0,
		solo: -1, keys: 1 + r.IntN(6), writes: 15 + r.IntN(45), rate: pick(r, 0.02, 0.05, 0.2),
		pause: pick(r, 0.05, 0.2, 0.5), stall: pick(r, 0, 0.001, 0.003),
		speeds:   pick(r, []float64{1}, []float64{1, 1, 0.2}, []float64{1, 0.1, 0.01}),
		budget:   pick[int64](r, 64<<10, 128<<10, 1<<20),
		late:     1,
		shift:    pick(r, 0.003, 0.01, 0.01),
		logBatch: 1 + r.IntN(5), repeat: pick(r, 0, 0, 0.05, 0.3),
	}

	p.policy = policies[r.IntN(len(policies))]
	p.oldRows = p.policy.NeedsOld() || r.IntN(3) > 0
	if p.moves && !p.oldRows { // where a row moves, what it does not hold must stand in the image before
		p.large = nil
	}
	if r.IntN(8) == 0 {
		p.queueLimit = 3 + r.IntN(8)
	}
	if r.IntN(12) == 0 {
		p.solo = r.IntN(p.branches + 1)
	}
	if r.IntN(30) == 0 {
		p.clockRows = 4
	}
	for i := range p.engines {
		p.engines[i] = pick(r, schema.Postgres, schema.MariaDB)
		p.skews[i] = pick(r, 0, 0, 0, time.Hour, -time.Hour, 20*time.Second, -3*time.Second)
	}
	if r.IntN(3) > 0 {
		p.faultRate = pick(r, 0.001, 0.003, 0.01)
		for _, f := range allFaults {
			if r.IntN(2) == 0 {
				p.faults = append(p.faults, f)
			}
		}
	}
	p.filled = p.unique && p.keys%2 == 0
	for id := range p.keys {
		if r.IntN(2) == 0 {
			p.first = append(p.first, item(id+1, "first", p.none(id+1)))
		}
	}
	p.joins(r)
	return p
}

// joins adds a branch that comes late, one that stays away for long, or branches that begin with a comparison.
func (p *plan) joins(r *rand.Rand) {
	p.mode, p.extra, p.chunk = pick(r, resync.Diff, resync.Diff, resync.Replace), pick(r, resync.Send, resync.Send, resync.Delete), 1+r.IntN(4)
	p.allJoin = r.IntN(6) == 0
	if p.branches > 0 && r.IntN(3) == 0 {
		p.comesLate(r)
	}
	if p.branches > 1 && r.IntN(12) == 0 {
		p.away, p.budget, p.writes = 1, 32<<10, 250
	}
}

// comes reports whether an office comes late.
func (p *plan) comes(office int) bool { return p.joiner > 0 && office == p.joiner }

// comesLate plans the last branch to come late: with nothing, or with rows of which some are as the head has them.
func (p *plan) comesLate(r *rand.Rand) {
	p.joiner, p.joinsAt = p.branches, r.IntN(p.writes)
	if r.IntN(2) == 0 {
		return
	}
	for _, row := range p.first {
		switch r.IntN(4) {
		case 0:
		case 1:
			other := slices.Clone(row)
			other[colWho], other[colA] = schema.Of("found"), schema.Of("found")
			p.found = append(p.found, other)
		default:
			p.found = append(p.found, row)
		}
	}
	if p.filled { // rows have exchanged their codes meanwhile
		was := slices.Clone(p.found)
		for i := range was {
			p.found[i] = slices.Clone(was[i])
			p.found[i][colCode] = was[(i+1)%len(was)][colCode]
		}
	}
	for id := p.keys + 1; id < p.keys+1+r.IntN(4); id++ { // nobody else knows of
		p.found = append(p.found, item(id, "found", p.none(id)))
	}
}

// none is the code of a row that has none: where it may not be NULL, one that no other row has.
func (p *plan) none(n int) schema.Value {
	if p.filled {
		return schema.Of("none " + strconv.Itoa(n))
	}
	return schema.NullValue()
}

var policies = []schema.Policy{
	{Kind: schema.Latest},
	{Kind: schema.Latest},
	{Kind: schema.HeadWins},
	{Kind: schema.BranchWins},
	{Kind: schema.Ordered, Order: []schema.Office{"north", "hq"}},
	{Kind: schema.Merge},
	{Kind: schema.Add, Add: []string{"n"}},
	{Kind: schema.Manual},
}

func item(id int, who string, code schema.Value) schema.Row {
	return schema.Row{schema.Of(strconv.Itoa(id)), schema.Of(who), schema.Of(who), schema.Of(who), schema.Of("0"), code, schema.Of("note")}
}

// live is what happens to the company between two turns.
func (w *world) live(idle bool) {
	w.mu.Lock()
	writing := w.writing
	w.mu.Unlock()
	if w.writes < w.plan.writes && writing < 4 && (w.r.Float64() < w.plan.rate || idle && w.r.IntN(4) == 0) {
		w.write()
		if w.plan.schema.rate > 0 && w.definer.r.Float64() < w.plan.schema.rate {
			w.define()
		}
	}
	if len(w.plan.faults) > 0 && w.r.Float64() < w.plan.faultRate {
		w.plan.faults[w.r.IntN(len(w.plan.faults))](w)
	}
	for _, o := range w.offices {
		if o.life == nil && w.writes < w.plan.joinsAt {
			continue
		}
		if o.life == nil || o.life.dead() && w.r.IntN(30) == 0 {
			w.did("%s starts", o.name)
			o.start()
		}
	}
	if w.plan.away > 0 && w.writes > 5 {
		w.offices[w.plan.away].cut.Store(true)
	}
}

// wanted reports whether the applications have not finished yet.
func (w *world) wanted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writes < w.plan.writes || w.writing > 0
}

// write begins a transaction of an application at some office.
func (w *world) write() {
	n := w.r.IntN(len(w.offices))
	if w.plan.solo >= 0 {
		n = w.plan.solo
	}
	var statements []statementOf
	for range pick(w.r, 1, 1, 1, 2, 3) {
		w.writes++
		statements = append(statements, w.statement(w.offices[n], fmt.Sprintf("w%d", w.writes)))
		if w.plan.truncate && w.r.IntN(25) == 0 {
			o := w.offices[n]
			statements = []statementOf{func(ctx context.Context, t *apply.MemoryWrite) error { return t.Truncate(ctx, o.items()) }}
			break
		}
	}
	w.begin(w.offices[n], statements)
}

type statementOf func(ctx context.Context, t *apply.MemoryWrite) error

// appStep is an application at its database.
func (w *world) appStep(who string) apply.MemoryStep {
	return func(ctx context.Context, what string) error {
		if what == "committed" {
			return w.gate(ctx, nil, "late "+who)
		}
		return w.gate(ctx, nil, who)
	}
}

// began lets an application work.
func (w *world) began(f func()) {
	w.mu.Lock()
	w.writing++
	w.mu.Unlock()
	w.apps.Go(func() {
		f()
		w.mu.Lock()
		w.writing--
		w.mu.Unlock()
	})
}

func (w *world) begin(o *office, statements []statementOf) {
	step := w.appStep(fmt.Sprintf("app%05d", w.writes))
	w.began(func() {
		_ = o.db.Write(context.Background(), step, func(t *apply.MemoryWrite) error { // what took place is in the log
			for _, s := range statements {
				if err := s(context.Background(), t); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// statement is what one statement of an application does; everything random is settled here.
func (w *world) statement(o *office, who string) statementOf {
	if w.plan.schema.rate > 0 {
		if extra := w.extra(o, who); extra != nil {
			return extra
		}
	}
	kind := w.r.IntN(14)
	if w.plan.seesaw {
		kind = 13
		if o.role == schema.Head {
			kind = pick(w.r, 1, 4)
		}
	}
	switch kind {
	case 0:
		if o.role == schema.Head {
			return insertInto(prices, w.writes, who)
		}
		return insertInto(visits, w.writes, who)
	case 1, 2, 3:
		row := item(1+w.r.IntN(w.plan.keys), who, w.code())
		row[colN] = schema.Of(strconv.Itoa(w.r.IntN(10)))
		return func(ctx context.Context, t *apply.MemoryWrite) error {
			err := t.Insert(ctx, o.items(), row)
			if errors.Is(err, apply.ErrMemoryTaken) && o.w.plan.engines[o.n] != schema.Postgres {
				return nil // there the statement alone fails
			}
			return err
		}
	case 4, 5:
		if w.plan.deletes {
			key := w.key()
			return func(ctx context.Context, t *apply.MemoryWrite) error {
				_, err := t.Delete(ctx, o.items(), key)
				return err
			}
		}
	case 6, 7:
		if w.plan.moves {
			key, to := w.key(), w.key()
			move := update(o, key, func(r schema.Row) { r[colID], r[colWho] = to[colID], schema.Of(who) })
			return func(ctx context.Context, t *apply.MemoryWrite) error {
				return move(ctx, t)
			}
		}
	}
	return update(o, w.key(), w.change(who))
}

// change is what an update sets.
func (w *world) change(who string) func(schema.Row) {
	set, delta, code := w.r.IntN(16), 1+w.r.IntN(9), w.code()
	if w.plan.policy.Kind == schema.Add {
		set |= 4
	}
	bits, n := w.definer.r.Uint64(), w.writes
	return func(r schema.Row) {
		r[colWho] = schema.Of(who)
		if set&1 != 0 {
			r[colA] = schema.Of(who)
		}
		if set&2 != 0 {
			r[colB] = schema.Of(who)
		}
		if set&4 != 0 {
			r[colN] = schema.Of(strconv.Itoa(count(r) + delta))
		}
		if set == 8 {
			r[colNote] = schema.Of("note " + who)
		}
		if set&9 == 9 {
			r[colCode] = code
		}
		fill(r, colNote+1, bits, n)
	}
}

func count(r schema.Row) int {
	if r == nil {
		return 0
	}
	n, _ := strconv.Atoi(r[colN].Text())
	return n
}

func (w *world) key() schema.Row {
	row := make(schema.Row, colNote+1)
	row[colID] = schema.Of(strconv.Itoa(1 + w.r.IntN(w.plan.keys)))
	return row
}

func (w *world) code() schema.Value {
	if w.r.IntN(2) == 0 {
		return w.plan.none(1000 + w.writes)
	}
	return schema.Of("code " + strconv.Itoa(w.r.IntN(4)))
}

func update(o *office, key schema.Row, change func(schema.Row)) statementOf {
	return func(ctx context.Context, t *apply.MemoryWrite) error {
		_, err := t.Update(ctx, o.items(), key, change)
		if errors.Is(err, apply.ErrMemoryTaken) {
			return errors.Join(err, errors.New("the application gives up"))
		}
		return err
	}
}

func insertInto(table schema.TableName, id int, who string) statementOf {
	return func(ctx context.Context, t *apply.MemoryWrite) error {
		return t.Insert(ctx, table, schema.Row{schema.Of(strconv.Itoa(id)), schema.Of(who)})
	}
}

// allFaults are what may befall the company.
var allFaults = []func(*world){cutLine, cutLine, purge, endSession, powerFailure, killProcess, loseJournal, crashSoon, databaseRestart, clockJump, restart, compareSomewhere}

// anybody is an office that has started.
func (w *world) anybody() *office {
	o := w.offices[w.r.IntN(len(w.offices))]
	if o.life == nil {
		return w.head()
	}
	return o
}

func cutLine(w *world) {
	o := w.anybody()
	o.cut.Store(!o.cut.Load())
	w.did("%s line cut %v", o.name, o.cut.Load())
}

// cutBranch cuts the line of a branch for a while.
func cutBranch(w *world) {
	if o := w.anybody(); o.role == schema.Branch {
		o.cut.Store(!o.cut.Load())
		w.did("%s line cut %v", o.name, o.cut.Load())
	}
}

func purge(w *world) {
	o := w.anybody()
	w.did("%s queue purged", o.name)
	o.queue.purge()
}

func endSession(w *world) {
	o := w.anybody()
	o.mu.Lock()
	end := o.life.session
	o.mu.Unlock()
	if end != nil {
		w.did("%s session ended", o.name)
		end()
	}
}

func powerFailure(w *world) {
	o := w.anybody()
	w.did("%s power failure", o.name)
	o.life.kill()
	o.disk.Crash()
	o.db.Kill(o.life.target)
	o.life.stop()
}

// loseJournal is the loss of a branch's volume: another journal begins, and what the lost one had alone is found by a comparison.
func loseJournal(w *world) {
	if w.r.IntN(3) == 0 {
		losesJournal(w)
	}
}

func losesJournal(w *world) {
	o := w.anybody()
	if o.role == schema.Head || o.lives() > 2 || o.lives() == 0 {
		return
	}
	w.did("%s loses its journal", o.name)
	o.lost = true
	o.life.kill()
	o.disk.Wipe()
	o.db.Kill(o.life.target)
	o.life.stop()
}

// restart is an orderly end.
func restart(w *world) {
	o := w.anybody()
	w.did("%s restarts", o.name)
	o.life.stop()
}

func killProcess(w *world) {
	o := w.anybody()
	w.did("%s killed", o.name)
	o.life.crash()
	o.life.stop()
}

func crashSoon(w *world) {
	o, n := w.anybody(), 1+w.r.IntN(12)
	w.did("%s volume fails after %d steps", o.name, n)
	o.disk.CrashAfter(n)
}

func databaseRestart(w *world) {
	o := w.anybody()
	w.did("%s database restarts", o.name)
	o.db.Crash()
	o.mu.Lock()
	close(o.down)
	o.down = make(chan struct{})
	o.mu.Unlock()
}

func clockJump(w *world) {
	o, by := w.anybody(), pick(w.r, time.Hour, -time.Hour, 30*time.Second, -30*time.Second)
	w.did("%s clock jumps by %s", o.name, by)
	o.mu.Lock()
	o.skew = max(min(o.skew+by, 2*time.Hour), -2*time.Hour)
	o.mu.Unlock()
}

// heal ends all faults.
func (w *world) heal() {
	for _, o := range w.offices {
		o.cut.Store(false)
		o.disk.CrashAfter(0)
	}
	w.did("healed")
	w.plan.faults = nil
}

// revive starts what is down.
func (w *world) revive() {
	for _, o := range w.offices {
		if o.life == nil || o.life.dead() {
			o.start()
		}
	}
}
