package resync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cdc-sidecar/schema"
)

// purpose is what a pass over a table is for.
type purpose struct {
	take   bool   // what differs, or is missing here, comes from the head
	claim  bool   // what differs goes up
	absent bool   // claim: what is missing here goes up as deleted
	older  bool   // claim: this database went back to an earlier state
	all    bool   // all rows come, without comparing them first
	extra  Extra  // what only this office has; empty: it is counted
	oneWay bool   // this office sends the table and does not take it: others' rows at the head are not missing here
	frozen bool   // our apply of the head's stream stands still, so the place of a chunk does not matter
	save   bool   // how far it is survives a restart
	where  string // CEL
}

// progress is how far a table is. What of it is durable is JSON in the table's joins row.
type progress struct {
	durable

	// Under Client.mu:
	report  schema.TableReport
	started time.Time
	ended   time.Time
}

// durable is what a restart does not lose of it.
type durable struct {
	Table   schema.TableName
	Cursor  []byte   `json:"cursor,omitempty"`  // the key behind which the head's rows are still to be looked at
	Looked  bool     `json:"looked,omitempty"`  // at all of the head's rows
	Filled  bool     `json:"filled,omitempty"`  // the table was empty at the begin: rows come without being compared
	Pending [][]byte `json:"pending,omitempty"` // keys that have to be looked at again
	Rows    uint64   `json:"rows"`
	Total   uint64   `json:"total"` // about
	Done    bool     `json:"done,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// pass compares one table with the head's, and does what it is for about each row that is not equal.
type pass struct {
	c      *Client
	why    purpose
	table  schema.TableName
	own    *schema.Table
	hasher *schema.Hasher
	theirs *schema.Table // the hasher is for
	where  *Filter
	keys   *keySet
	state  *progress
	report *schema.TableReport // shared with who reports: under Client.mu
	pace   pace
	share  uint64    // bytes of rows that the next request under a limit is for; 0: the first
	job    *Job      // whose it is; nil: the join's
	said   time.Time // how far it is, in the log
	// undecided rows were on their way for so long that a count goes on without them.
	undecided uint64
	from      schema.Row // our own key behind which the head's next rows are likely
}

const (
	// resolveBatch is how many keys are asked for at once: an answer stands behind all of the head's stream that is on its way,
	// so it is better asked for seldom. Where a pace is to be kept they are pacedBatch. findBatch is how many of our own rows
	// are looked up at once.
	resolveBatch = 4000
	pacedBatch   = 500
	findBatch    = 500
	// lookLater is the first wait before rows are looked at again that were being written; it doubles up to lookLaterMost.
	lookLater     = 50 * time.Millisecond
	lookLaterMost = 2 * time.Second
	// looksMost is how often a comparison that only counts looks at rows without deciding one of them, which is for about two
	// minutes: of a row whose change the head cannot take there is nothing to wait for.
	looksMost = 60
	// slack is how many own rows are read beyond as many as the head has in a stretch.
	slack = 64
)

// errChanged says that the table here is not any more as it was when the pass began.
var errChanged = fmt.Errorf("%w: it was changed meanwhile", errOfTable)

// run makes the pass. Errors that wrap errOfTable, errRefused or are *schema.RejectedError concern this table alone. When the table is
// changed meanwhile, it begins again; of a join, it goes on.
func (p *pass) run(ctx context.Context) error {
	for wait := lookLater; ; wait = min(2*wait, lookLaterMost) {
		err := p.attempt(ctx)
		if !errors.Is(err, errChanged) {
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		p.theirs, p.hasher, p.from, p.undecided = nil, nil, nil, 0
		if p.why.save {
			continue
		}
		p.note("", func(r *schema.TableReport) {
			p.state.durable = durable{Table: p.state.Table, Total: p.state.Total}
			r.Rows, r.Equal, r.Different, r.MissingHere, r.MissingThere, r.Disputed, r.InFlight, r.Keys, r.KeysLeftOut = 0, 0, 0, 0, 0, 0, 0, nil, 0
		})
	}
}

// current wants rows that were read by the definition that the pass goes by. err is what reading them gave.
func (p *pass) current(t *schema.Table, err error) error {
	if t != nil && t != p.own && t.Fingerprint() != p.own.Fingerprint() {
		return errChanged
	}
	return err
}

func (p *pass) attempt(ctx context.Context) error {
	var err error
	if p.own, err = p.c.db.Definition(ctx, p.table); err != nil {
		return err
	}
	if p.own == nil {
		return fmt.Errorf("%w: there is no table %s here", errOfTable, p.table)
	}
	if p.where, err = NewFilter(p.why.where, p.own, p.c.cfg.Office); err != nil {
		return fmt.Errorf("%w: %w", errOfTable, err)
	}
	fresh := len(p.state.Cursor) == 0 && !p.state.Looked
	if fresh && !p.state.Filled {
		if p.state.Filled, err = p.c.empty(ctx, p.table); err != nil {
			return err
		}
	}
	if key, err := p.own.DecodeKey(p.state.Cursor); err == nil { // else there is none yet
		p.from = key
	}
	if p.keys, err = openKeys(p.c.cfg.Dir, p.table, fresh); err != nil {
		return err
	}
	err = errors.Join(p.look(ctx), p.keys.flush())
	if err != nil && p.why.save { // the next life goes on with them
		return errors.Join(err, p.keys.close())
	}
	return errors.Join(err, p.keys.remove())
}

// empty reports whether this office has no row of the table.
func (c *Client) empty(ctx context.Context, table schema.TableName) (bool, error) {
	_, rows, _, err := c.db.Stretch(ctx, table, nil, 1, 1)
	return len(rows) == 0, err
}

func (p *pass) look(ctx context.Context) error {
	if err := p.there(ctx); err != nil {
		return err
	}
	if p.filling() {
		return nil
	}
	p.note("looking for rows that only this office has", nil)
	return p.here(ctx)
}

// filling: the table was empty. Whatever else is here was written meanwhile, and is on its way up: nobody need know the head's keys.
func (p *pass) filling() bool { return p.state.Filled && p.why.take }

// note tells what is done, for whoever watches.
func (p *pass) note(phase string, change func(r *schema.TableReport)) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if phase != "" {
		p.report.Phase = phase
	}
	if change != nil {
		change(p.report)
	}
	p.report.Seconds = p.c.cfg.Now().Sub(p.state.started).Seconds()
}

// tell tells whoever asked for it how far the pass is.
func (p *pass) tell() {
	if p.job != nil {
		p.c.progressed(p.job)
	}
}

// there goes through the head's rows.
func (p *pass) there(ctx context.Context) error {
	all := p.why.take && (p.why.all || p.state.Filled)
	copying, next := 0, 1 // answers that are to come as rows though the table was not empty; and how many it will be the next time
	for !p.state.Looked || len(p.state.Pending) > 0 {
		if !p.state.Looked {
			err := p.further(ctx, all || copying > 0)
			switch {
			case errors.Is(err, errUnlike):
				copying, next = next, min(2*next, copyMost)
				continue
			case err != nil:
				return err
			case copying > 0:
				copying--
			default:
				next = 1
			}
		}
		if p.state.Looked || len(p.state.Pending) >= pendingMost {
			if err := p.resolve(ctx, p.state.Looked); err != nil {
				return err
			}
		}
		p.tell()
		if p.why.save && !all {
			if err := p.save(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	// pendingMost is how many rows may wait to be looked at again before that is done: they are saved with each chunk.
	pendingMost = 100
	// copyMost bounds how many answers come as rows before it is asked again whether hashes would do.
	copyMost = 32
)

// errUnlike says that so few rows of a chunk of hashes are here that the head had better send rows. It was not taken.
var errUnlike = fmt.Errorf("%w: most rows are not here", errOfTable)

// further takes the head's next answer: rows, or hashes.
func (p *pass) further(ctx context.Context, rows bool) error {
	f, take, phase := schema.Fetch{Want: schema.WantHashes, Table: p.table, From: p.state.Cursor, Where: p.why.where}, p.hashes, "comparing"
	if rows {
		f.Want, take, phase = schema.WantRows, p.rows, "copying"
	}
	p.note(phase, nil)
	if p.pace.limited() {
		p.share = cmp.Or(p.share, firstShare)
		f.Chunks, f.Bytes = 1, p.share
	}
	before := *p.report
	if err := p.c.exchange(ctx, &f, p.why.frozen, take); err != nil {
		return err
	}
	n, bytes := int(p.report.Rows-before.Rows), int(p.report.Bytes-before.Bytes)
	p.share = p.pace.share(p.share, n, bytes)
	return p.pace.spent(ctx, n, bytes)
}

// join is the joins row of where the pass is.
func (p *pass) join(at schema.Position, state *durable) []Join {
	if !p.why.save {
		return nil
	}
	return []Join{{Table: p.table.String(), Pending: true, At: at, State: encode(state)}}
}

func (p *pass) save(ctx context.Context) error {
	if err := p.keys.flush(); err != nil {
		return err
	}
	p.c.saving.lock()
	defer p.c.saving.unlock()
	if err := ctx.Err(); err != nil { // the join is over
		return err
	}
	return p.c.db.SaveJoins(ctx, p.join(schema.Position{}, &p.state.durable))
}

// passed is the state behind a chunk of the head's rows, of which those in rest are not dealt with yet. Their keys are kept.
func (p *pass) passed(c *schema.Chunk, changes []schema.Change, rest [][]byte) (durable, error) {
	for i := range changes {
		if p.filling() {
			break
		}
		if err := p.keys.add(p.rowOf(&changes[i])); err != nil {
			return durable{}, err
		}
	}
	behind := p.state.durable
	if len(c.Next) > 0 {
		behind.Cursor = c.Next
	}
	behind.Looked = c.Done
	behind.Pending = append(slices.Clip(behind.Pending), rest...)
	behind.Rows += uint64(len(changes))
	return behind, p.keys.flush()
}

// moved takes over the state behind a chunk.
func (p *pass) moved(behind durable, c *schema.Chunk, count func(r *schema.TableReport)) {
	p.note("", func(r *schema.TableReport) {
		r.Rows += behind.Rows - p.state.Rows
		p.state.durable = behind
		r.Bytes += uint64(len(c.Rows) + 8*len(c.Hashes))
		count(r)
	})
	p.say()
}

// sayEvery is how often the log says how far a join is with a table.
const sayEvery = 10 * time.Second

func (p *pass) say() {
	now := p.c.cfg.Now()
	if p.job != nil || now.Sub(p.said) < sayEvery {
		return
	}
	if p.said.IsZero() { // a table that takes no longer is said at its end
		p.said = now
		return
	}
	p.said = now
	r := p.report
	rate := float64(r.Rows) / max(r.Seconds, 0.001)
	p.c.cfg.Log.Info("a table is compared with the head's", "table", r.Table, "phase", r.Phase, "rows", r.Rows, "of about", r.Total,
		"rows a second", int(rate), "seconds left, about", int(float64(r.Total-min(r.Total, r.Rows))/max(rate, 1)))
}

// rowOf is the row's number as this office would number it.
func (p *pass) rowOf(c *schema.Change) schema.RowID { return c.Table.RowID(c.KeyRow()) }

// rows takes a chunk of whole rows: they are written as they are.
func (p *pass) rows(ctx context.Context, at schema.Position, c *schema.Chunk, changes []schema.Change) error {
	var rest [][]byte
	still := make([]schema.Change, 0, len(changes))
	for i := range changes {
		if slices.Contains(c.Moving, uint32(i)) {
			rest = append(rest, changes[i].Table.AppendKey(nil, changes[i].After))
		} else {
			still = append(still, changes[i])
		}
	}
	behind, err := p.passed(c, changes, rest)
	if err != nil {
		return err
	}
	parked, err := p.c.db.Chunk(ctx, p.c.headName(), at, still, p.join(at, &behind))
	if err != nil {
		return err
	}
	p.waiting(parked)
	p.moved(behind, c, func(r *schema.TableReport) { r.Repaired += uint64(len(still) - min(parked, len(still))) })
	if p.filling() || len(changes) == 0 {
		return nil
	}
	p.from, err = p.ownKey(&changes[len(changes)-1])
	return err
}

// waiting counts rows that could not be written yet: another row here has their unique values.
func (p *pass) waiting(rows int) {
	if rows > 0 {
		p.note("", func(r *schema.TableReport) { r.Disputed += uint64(rows) })
	}
}

// hashes takes a chunk of hashes: what is not equal is asked for.
func (p *pass) hashes(ctx context.Context, _ schema.Position, c *schema.Chunk, changes []schema.Change) error {
	equal, rest, err := p.compare(ctx, c, changes)
	if err != nil {
		return err
	}
	behind, err := p.passed(c, changes, rest)
	if err != nil {
		return err
	}
	p.moved(behind, c, func(r *schema.TableReport) { r.Equal += equal })
	return nil
}

func (p *pass) compare(ctx context.Context, c *schema.Chunk, changes []schema.Change) (equal uint64, rest [][]byte, err error) {
	if len(changes) == 0 {
		return 0, nil, nil
	}
	if err := p.learn(changes[0].Table); err != nil {
		return 0, nil, err
	}
	keys := make([]schema.Row, len(changes))
	for i := range changes {
		if keys[i], err = p.ownKey(&changes[i]); err != nil {
			return 0, nil, err
		}
	}
	ours, err := p.lookup(ctx, keys)
	if err != nil {
		return 0, nil, err
	}
	for i := range changes {
		if ours[i] != nil && p.hasher.Hash(ours[i]) == c.Hashes[i] && !slices.Contains(c.Moving, uint32(i)) {
			equal++
		} else if ours[i] != nil || !p.why.oneWay {
			rest = append(rest, changes[i].Table.AppendKey(nil, changes[i].After))
		}
	}
	return equal, rest, nil
}

// learn makes ready for the head's definition.
func (p *pass) learn(theirs *schema.Table) error {
	if p.theirs != nil && p.theirs.Fingerprint() == theirs.Fingerprint() {
		return nil
	}
	for i := range theirs.Columns {
		if c := &theirs.Columns[i]; !c.Generated && p.own.Column(c.Name) < 0 {
			return fmt.Errorf("%w: table %s has no column %s here; add it: ALTER TABLE", errOfTable, p.table, c.Name)
		}
	}
	p.hasher, p.theirs = schema.NewHasherAs(p.own, theirs), theirs
	return nil
}

// ownKey is a key of the head's in our own columns.
func (p *pass) ownKey(c *schema.Change) (schema.Row, error) {
	key, err := p.own.DecodeKey(c.Table.AppendKey(nil, c.KeyRow()))
	if err != nil {
		return nil, fmt.Errorf("%w: %w; its key here is another one than at the head", errOfTable, err)
	}
	return key, nil
}

// lookup reads own rows of keys. They are most likely those that follow the last ones in our order, too: reading them in one go
// is much cheaper than looking up each.
func (p *pass) lookup(ctx context.Context, keys []schema.Row) ([]schema.Row, error) {
	t, near, _, err := p.c.db.Stretch(ctx, p.table, p.from, len(keys)+slack, 2*chunkBytes)
	if err := p.current(t, err); err != nil {
		return nil, err
	}
	at := make(map[schema.RowID]int, len(near))
	for i, r := range near {
		at[p.own.RowID(r)] = i
	}
	ours := make([]schema.Row, len(keys))
	var missed []int
	for i, k := range keys {
		if n, ok := at[p.own.RowID(k)]; ok {
			ours[i] = near[n]
		} else {
			missed = append(missed, i)
		}
	}
	if unlike, err := p.unlike(ctx, keys, ours, missed); unlike || err != nil {
		return nil, cmp.Or(err, errUnlike)
	}
	if err := p.find(ctx, keys, ours, missed); err != nil {
		return nil, err
	}
	p.from = keys[len(keys)-1]
	return ours, nil
}

const (
	// sampleKeys of those that did not stand where they were likely to are looked up, to know whether most are not here at all.
	sampleKeys = 50
	// fewKeys are asked for one by one, whatever is here of them.
	fewKeys = 200
)

// unlike reports whether a join had better copy the rows of these keys: most of them are not here.
func (p *pass) unlike(ctx context.Context, keys, ours []schema.Row, missed []int) (bool, error) {
	if !p.why.save || !p.why.take || len(keys) < fewKeys || len(missed) <= len(keys)/2 {
		return false, nil
	}
	sample := make([]int, sampleKeys)
	for i := range sample {
		sample[i] = missed[i*len(missed)/sampleKeys]
	}
	if err := p.find(ctx, keys, ours, sample); err != nil {
		return false, err
	}
	absent := 0
	for _, i := range sample {
		if ours[i] == nil {
			absent++
		}
	}
	return absent > sampleKeys/2, nil
}

// find looks up the rows of some keys, each by itself.
func (p *pass) find(ctx context.Context, keys, ours []schema.Row, missed []int) error {
	for batch := range slices.Chunk(missed, findBatch) {
		some := make([]schema.Row, len(batch))
		for i, n := range batch {
			some[i] = keys[n]
		}
		t, found, err := p.c.db.Find(ctx, p.table, some)
		if err := p.current(t, err); err != nil {
			return err
		}
		for i, n := range batch {
			if found[i] != nil && p.own.RowID(found[i]) == p.own.RowID(keys[n]) {
				ours[n] = found[i]
			}
		}
	}
	return nil
}

// resolve asks for the rows of all pending keys until each is dealt with; or, if not to the end, once for each: rows that are
// being written stay pending, as long as they are few, and do not keep the others waiting.
func (p *pass) resolve(ctx context.Context, toTheEnd bool) error {
	wait, looks, once := lookLater, 0, len(p.state.Pending)
	most := resolveBatch
	if p.pace.limited() {
		most = pacedBatch
	}
	for len(p.state.Pending) > 0 && (toTheEnd || once > 0 || len(p.state.Pending) > resolveBatch) {
		batch := slices.Clone(p.state.Pending[:min(len(p.state.Pending), most)])
		moving, err := p.ask(ctx, batch)
		if err != nil {
			return err
		}
		once -= len(batch)
		p.state.Pending = append(p.state.Pending[len(batch):], moving...)
		p.note("", func(r *schema.TableReport) { r.InFlight = p.undecided + uint64(len(moving)) })
		if len(moving) < len(batch) {
			wait, looks = lookLater, 0
			continue
		}
		if looks++; looks >= looksMost && !p.why.take && !p.why.claim {
			p.undecided += uint64(len(moving))
			p.state.Pending = p.state.Pending[:len(p.state.Pending)-len(moving)]
			wait, looks = lookLater, 0
			continue
		}
		if !toTheEnd && once > 0 {
			continue
		}
		if err := sleep(ctx, wait); err != nil { // all of them are being written: what they come to is on its way
			return err
		}
		wait = min(2*wait, lookLaterMost)
	}
	return nil
}

// ask asks for the rows of keys, and returns those that are not dealt with, because they are being written.
func (p *pass) ask(ctx context.Context, keys [][]byte) ([][]byte, error) {
	left := map[string]bool{}
	for _, k := range keys {
		left[string(k)] = true
	}
	dealt := func(k []byte) bool { return !left[string(k)] }
	f := schema.Fetch{Want: schema.WantRows, Table: p.table, Keys: keys}
	bytes := p.report.Bytes
	err := p.c.exchange(ctx, &f, p.why.frozen, func(ctx context.Context, at schema.Position, c *schema.Chunk, changes []schema.Change) error {
		err := p.decide(ctx, at, c, changes, left)
		f.Keys = slices.DeleteFunc(slices.Clone(keys), dealt)
		return err
	})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(keys), dealt), p.pace.spent(ctx, 0, int(p.report.Bytes-bytes))
}

// here goes through our own rows, and asks for those that the head did not have.
func (p *pass) here(ctx context.Context) error {
	shares := p.keys.shares()
	for k := range shares {
		known, err := p.keys.share(k, shares)
		if err != nil {
			return err
		}
		if err := p.unknown(ctx, known, k, shares); err != nil {
			return err
		}
	}
	return nil
}

// scanRows is how many own keys are read at once.
const scanRows = 5000

func (p *pass) unknown(ctx context.Context, known []schema.RowID, k, shares int) error {
	var from schema.Row
	for more := true; more; {
		var t *schema.Table
		var rows []schema.Row
		var err error
		if p.where == nil {
			t, rows, more, err = p.c.db.Keys(ctx, p.table, from, scanRows)
		} else {
			t, rows, more, err = p.c.db.Stretch(ctx, p.table, from, chunkRows, chunkBytes)
		}
		if err = p.current(t, err); err != nil {
			return err
		}
		if len(rows) > 0 {
			from = rows[len(rows)-1]
		}
		if rows, err = p.where.Matching(rows); err != nil {
			return fmt.Errorf("%w: %w", errOfTable, err)
		}
		for _, r := range rows {
			id := p.own.RowID(r)
			if shareOf(id, shares) != k {
				continue
			}
			if _, found := slices.BinarySearchFunc(known, id, compareIDs); !found {
				p.state.Pending = append(p.state.Pending, p.own.AppendKey(nil, r))
			}
		}
		p.tell()
		if len(p.state.Pending) >= resolveBatch || !more {
			if err := p.resolve(ctx, !more); err != nil {
				return err
			}
		}
	}
	return nil
}
