package sim_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cdc-sidecar/apply"
	"cdc-sidecar/schema"
)

// failure is what a validator says of a row, so that its story can be told.
type failure struct {
	key string // of items; empty: of no one row
	why string
}

func (f *failure) Error() string { return f.why }

func failed(key, format string, args ...any) error {
	return &failure{key, fmt.Sprintf(format, args...)}
}

// check looks at a company at rest.
func (w *world) check() error {
	for _, look := range []func() error{w.checkEqual, w.checkDefined, w.checkPlaces, w.checkCompared, w.checkNumbers, w.checkHistory, w.checkSolo, w.checkSums, w.checkVisits} {
		if err := look(); err != nil {
			return err
		}
	}
	return nil
}

// checkEqual: all offices have the same rows.
func (w *world) checkEqual() error {
	for _, o := range w.offices[1:] {
		for _, table := range []schema.TableName{items, prices} {
			if table == items && w.plan.schema.rate > 0 {
				continue // see checkDefined
			}
			want, got := byKey(w.head().db.Rows(table)), byKey(o.db.Rows(table))
			for _, key := range keysOf(want, got) {
				if !slices.Equal(want[key], got[key]) {
					return failed(key, "table %s row %s is %v at %s, and %v at %s", table, key, want[key], w.head().name, got[key], o.name)
				}
			}
		}
	}
	return nil
}

func byKey(rows []schema.Row) map[string]schema.Row {
	m := map[string]schema.Row{}
	for _, r := range rows {
		m[r[colID].Text()] = r
	}
	return m
}

func keysOf(maps ...map[string]schema.Row) []string {
	var keys []string
	for _, m := range maps {
		for k := range m {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// written are the transactions of an office's own, by the journals that had them, in order, with what it sends of them: those of
// its applications, and what it claimed.
func (o *office) written() map[uint64][]group {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := map[uint64][]group{}
	for i, c := range o.db.History() {
		j := slices.IndexFunc(o.journals, func(s stretch) bool { return s.from > i })
		if j < 0 {
			j = len(o.journals)
		}
		if j == 0 || len(c.Events) == 0 { // before its first
			continue
		}
		g := group{origin: o.name, source: strconv.Itoa(i + 1)}
		for _, e := range unclaimed(c.Events) {
			if o.sends(e.Table.TableName) {
				e.MemoryEvent = narrow(e.MemoryEvent)
				e.blind = o.blind[g.source] || o.w.plan.away > 0 && o.n == o.w.plan.away // the head has forgotten what it had not seen
				g.events = append(g.events, e)
			}
		}
		if epoch := o.journals[j-1].epoch; len(g.events) > 0 {
			all[epoch] = append(all[epoch], g)
		}
	}
	return all
}

// event is a change, as its office made it.
type event struct {
	apply.MemoryEvent
	blind   bool // its table was being joined
	claimed bool // a comparison found it so
}

// unclaimed are the changes of a transaction of the office's own: none of an apply, and of a claim what it claims.
func unclaimed(events []apply.MemoryEvent) (all []event) {
	for _, e := range events {
		switch {
		case e.Table.TableName == own(schema.ClaimsTable) && e.Op == schema.Insert:
			batch, err := schema.DecodeBatch([]byte(e.After[2].Text()), 0)
			if err != nil || len(batch.Transactions) != 1 {
				continue
			}
			for _, c := range batch.Transactions[0].Changes {
				all = append(all, event{MemoryEvent: apply.MemoryEvent{Table: c.Table, Op: c.Op, Before: c.Before, After: c.After}, claimed: true})
			}
		case e.Table.TableName == own(schema.ProgressTable):
			return nil
		case e.Op == schema.Define:
			if _, _, ok := tagged(&e); ok {
				return nil
			}
			all = append(all, event{MemoryEvent: e})
		case e.Table.Schema != schema.OwnSchema:
			all = append(all, event{MemoryEvent: e})
		}
	}
	return all
}

// group is one transaction in the head's history: its own, or one that it applied.
type group struct {
	origin  schema.Office
	epoch   uint64 // of the origin's journal
	seq     uint64 // at the origin; 0: the head's own
	stamp   schema.Stamp
	source  string  // the place in the log behind it
	events  []event // of the applications' tables
	entries []entry
	part    bool // of the transaction behind seq, not all
}

// entry is what the conflict log got.
type entry map[string]schema.Value

// history is the head's, as its stream has it.
func (w *world) history() (all []group) {
	head := w.head()
	for i, c := range head.db.History() {
		g := group{origin: head.name, source: strconv.Itoa(i + 1)}
		applies := false
		for _, e := range c.Events {
			switch e.Table.TableName {
			case own(schema.ProgressTable):
				if e.After == nil || number(e.After[3]) == 0 && number(e.After[9]) == 0 {
					continue
				}
				if applies {
					all = append(all, g)
				}
				applies = true
				g = group{
					origin: schema.Office(e.After[1].Text()), epoch: number(e.After[2]), seq: number(e.After[3]), source: g.source,
					stamp: schema.Stamp{Millis: int64(number(e.After[4])), Counter: uint32(number(e.After[5]))}, part: number(e.After[9]) > 0,
				}
			case own(schema.ConflictsTable):
				if e.Op == schema.Insert {
					g.entries = append(g.entries, entryOf(e))
				}
			case own(schema.BarrierTable):
			default:
				if origin, at, ok := tagged(&e); ok {
					applies = true
					g.origin, g.epoch, g.seq, g.part = origin, at.Epoch, at.Seq, true
				}
				g.events = append(g.events, event{MemoryEvent: narrow(e)})
			}
		}
		sent := slices.ContainsFunc(g.events, func(e event) bool { return head.sends(e.Table.TableName) }) ||
			slices.ContainsFunc(g.entries, func(e entry) bool { return !e[schema.ConflictResolution].IsNull() })
		if applies || sent {
			all = append(all, g)
		}
	}
	return all
}

func entryOf(e apply.MemoryEvent) entry {
	row := entry{}
	for i, v := range e.After {
		row[e.Table.Columns[i].Name] = v
	}
	return row
}

func (e entry) image(column string) (map[string]*string, bool) {
	var image map[string]*string
	return image, !e[column].IsNull() && json.Unmarshal([]byte(e[column].Text()), &image) == nil
}

// checkNumbers: each transaction has one number in its office's journal, and in the head's: nothing went round.
func (w *world) checkNumbers() error {
	for _, o := range w.offices[1:] {
		if n := uint64(len(o.written()[o.life.last().Epoch])); o.life.last().Seq != n {
			return failed("", "%s has %d transactions of its own to send, its journal counts %d", o.name, n, o.life.last().Seq)
		}
	}
	if n := uint64(len(w.history())); w.head().life.last().Seq != n {
		return failed("", "%s has %d transactions to send, its journal counts %d", w.head().name, n, w.head().life.last().Seq)
	}
	return nil
}

// version is a change as `latest` compares it.
type version struct {
	stamp  schema.Stamp
	origin schema.Office
	row    schema.Row
}

func (v version) compare(u version) int {
	return cmp.Or(cmp.Compare(v.stamp.Packed(), u.stamp.Packed()), cmp.Compare(v.origin, u.origin))
}

// replay goes through the head's history.
type replay struct {
	w       *world
	rows    map[string]schema.Row
	written map[schema.Office]map[uint64][]group
	applied map[schema.Office]schema.Position
	arrived map[schema.Position][]schema.Office // whose transactions of these numbers were applied
	best    map[string]version                  // the latest version of each row that anybody ever made
	lost    map[schema.Office]bool
	parts   map[schema.Office]*group // what is there of transactions that come in pieces
	last    map[string]schema.Office // whose the last change of each row is
	waits   map[string]bool          // rows of which changes waited for their table; they are written as what they come to, whoever's they are
	tangled map[string]bool          // rows that moved, waited, or were swept away with others: their versions are not compared
}

// checkHistory: each change of a branch is in the head's history once, in order, either as it was written, on the very row that
// its author had seen, or with an entry in the conflict log that has what was lost. With `latest` the row is the latest version.
func (w *world) checkHistory() error {
	p := replay{
		w: w, parts: map[schema.Office]*group{}, rows: map[string]schema.Row{}, written: map[schema.Office]map[uint64][]group{}, applied: map[schema.Office]schema.Position{},
		arrived: map[schema.Position][]schema.Office{},
		waits:   map[string]bool{},
		best:    map[string]version{}, tangled: map[string]bool{}, last: map[string]schema.Office{}, lost: map[schema.Office]bool{},
	}
	for _, row := range w.plan.first {
		p.rows[row[colID].Text()] = row
	}
	for _, o := range w.offices[1:] {
		p.written[o.name] = o.written()
		p.lost[o.name] = o.lost
	}
	history := w.history()
	for _, g := range history {
		p.waited(&g)
	}
	for _, g := range history {
		if err := p.take(&g); err != nil {
			return err
		}
		for _, e := range g.events {
			p.apply(e.MemoryEvent)
			for _, key := range rowsOf(e.MemoryEvent) {
				p.last[key] = g.origin
			}
		}
	}
	for _, o := range w.offices[1:] {
		last := o.life.last()
		if n := len(p.written[o.name][last.Epoch]); n > 0 && p.applied[o.name] != last {
			return failed("", "%s of %s was applied, %d transactions were written", p.applied[o.name], o.name, n)
		}
		p.entangle(o)
	}
	return p.checkLatest()
}

func (p *replay) apply(e apply.MemoryEvent) {
	if e.Table.TableName != items {
		return
	}
	if e.Op == schema.Truncate {
		clear(p.rows)
		return
	}
	if e.Before != nil {
		delete(p.rows, e.Before[colID].Text())
	}
	if e.After != nil {
		p.rows[e.After[colID].Text()] = e.After
	}
}

// take looks at one transaction of the head's history; the rows are as they were before it.
func (p *replay) take(g *group) error {
	if g.part {
		p.piece(g)
		return nil
	}
	o := p.w.head()
	o.mu.Lock()
	if g.seq == 0 {
		g.stamp = o.stamps[g.source]
	}
	latest := o.latest.Add(apply.DefaultDrift).UnixMilli()
	o.mu.Unlock()
	if g.stamp.Millis > latest {
		return failed("", "transaction %d of %s has the stamp %v, farther ahead than clocks may be: %d", g.seq, g.origin, g.stamp, latest)
	}
	if g.seq == 0 {
		for _, e := range g.events {
			p.version(g, e)
		}
		return nil
	}
	pieces := p.parts[g.origin]
	if pieces != nil {
		delete(p.parts, g.origin)
		whole := *g
		whole.events, whole.entries = slices.Concat(pieces.events, g.events), slices.Concat(pieces.entries, g.entries)
		g = &whole
	}
	was := p.applied[g.origin]
	if was.Epoch != g.epoch {
		was.Seq = 0
	}
	if g.epoch < was.Epoch || g.seq != was.Seq+1 {
		return failed("", "transaction %d/%d of %s stands behind %s in the head's history", g.epoch, g.seq, g.origin, was)
	}
	p.applied[g.origin] = schema.Position{Epoch: g.epoch, Seq: g.seq}
	p.arrived[p.applied[g.origin]] = append(p.arrived[p.applied[g.origin]], g.origin)
	if int(g.seq) > len(p.written[g.origin][g.epoch]) {
		return failed("", "transaction %d of %s is in the head's history, and was never written", g.seq, g.origin)
	}
	for _, e := range g.entries {
		if image, ok := e.image(schema.ConflictRemote); ok && e[schema.ConflictState].Text() == "parked" {
			p.tangled[*image["id"]] = true
		}
		if e[schema.ConflictState].Text() == "parked" {
			p.tangled[strings.TrimPrefix(e[schema.ConflictKey].Text(), "id=")] = true
		}
	}
	return p.changes(g, p.written[g.origin][g.epoch][g.seq-1].events, pieces != nil)
}

// changes looks at those that a transaction had where it was written.
func (p *replay) changes(g *group, changes []event, pieces bool) error {
	times := map[string]int{}
	for _, c := range changes {
		for _, key := range rowsOf(c.MemoryEvent) {
			times[key]++
		}
	}
	for _, c := range changes {
		if c.Table.TableName != items || c.Op == schema.Define {
			continue
		}
		p.version(g, c)
		keys := rowsOf(c.MemoryEvent)
		if c.Op == schema.Truncate || len(keys) > 1 || times[keys[0]] > 1 || pieces || p.tangled[keys[0]] && (p.w.plan.unique || p.w.plan.schema.rate > 0) {
			if err := p.accounted(g, c); err != nil {
				return err
			}
			continue
		}
		if err := p.exact(g, c, keys[0]); err != nil {
			return err
		}
	}
	return nil
}

// waited notes, where tables change, what the head tells of changes that had waited: behind others, or together with them.
func (p *replay) waited(g *group) {
	for _, e := range g.entries {
		by, seq := schema.Office(e[schema.ConflictBy].Text()), number(e[schema.ConflictSeq])
		if p.w.plan.schema.rate > 0 && (by != g.origin || seq != g.seq || e[schema.ConflictState].Text() == "again") {
			key := strings.TrimPrefix(e[schema.ConflictKey].Text(), "id=")
			p.tangled[key] = true
			p.waits[key] = true
		}
	}
}

// piece keeps what a database that cannot do it at once has committed of a transaction.
func (p *replay) piece(g *group) {
	all := p.parts[g.origin]
	if all == nil {
		all = &group{}
		p.parts[g.origin] = all
	}
	all.events, all.entries = append(all.events, g.events...), append(all.entries, g.entries...)
}

// rowsOf are the keys that an event of items touches; of a truncate none.
func rowsOf(e apply.MemoryEvent) (keys []string) {
	if e.Table.TableName != items {
		return nil
	}
	for _, image := range []schema.Row{e.Before, e.After} {
		if image != nil {
			keys = append(keys, image[colID].Text())
		}
	}
	return slices.Compact(keys)
}

func (p *replay) version(g *group, e event) {
	keys := rowsOf(e.MemoryEvent)
	if e.claimed {
		return // nobody made it
	}
	for _, key := range keys {
		p.tangled[key] = p.tangled[key] || e.blind
	}
	if e.Table.TableName == items && e.Op == schema.Truncate {
		for key := range p.w.plan.keys {
			p.tangled[strconv.Itoa(key+1)] = true
		}
	}
	for _, key := range keys {
		if len(keys) > 1 {
			p.tangled[key] = true
		}
		if v := (version{g.stamp, g.origin, e.After}); v.compare(p.best[key]) >= 0 {
			p.best[key] = v
		}
	}
}

// entryOf is the entry about a row.
func (g *group) entryOf(key string) entry {
	for _, e := range g.entries {
		if e[schema.ConflictKey].Text() == "id="+key && number(e[schema.ConflictSeq]) == g.seq && e[schema.ConflictBy].Text() == string(g.origin) {
			return e
		}
	}
	return nil
}

// exact is for a row that a transaction touches once.
func (p *replay) exact(g *group, c event, key string) error {
	before := p.rows[key]
	e := g.entryOf(key)
	if e == nil {
		if c.blind || c.claimed {
			return p.blind(g, c, key, before)
		}
		if !slices.Equal(before, c.Before) && !p.lost[g.origin] { // what it lost is in its next change
			return failed(key, "row %s: %d of %s was applied without conflict; its author had seen %v, the head had %v", key, g.seq, g.origin, c.Before, before)
		}
		for _, done := range g.events {
			if slices.Contains(rowsOf(done.MemoryEvent), key) && slices.Equal(done.After, c.After) {
				return nil
			}
		}
		if slices.Equal(c.Before, c.After) || before == nil && c.After == nil {
			return nil
		}
		return failed(key, "row %s: %d of %s is neither in the head's row nor in the conflict log", key, g.seq, g.origin)
	}
	if e[schema.ConflictLocal].IsNull() && e[schema.ConflictResult].IsNull() {
		before = nil // a row that is not there cannot be locked: it may have come meanwhile, and is told again then
	}
	if err := sameImage(e, schema.ConflictLocal, before, c.Table); err != nil {
		return failed(key, "row %s: entry of %d of %s: local image: %v", key, g.seq, g.origin, err)
	}
	if err := sameImage(e, schema.ConflictRemote, c.After, c.Table); err != nil {
		return failed(key, "row %s: entry of %d of %s: remote image: %v", key, g.seq, g.origin, err)
	}
	return nil
}

// blind is for a change without an entry, of an office that may not have had the row, or of one that a comparison found: the row
// was as its author had it, or is so already, or nobody had it; or it was the author's own.
func (p *replay) blind(g *group, c event, key string, before schema.Row) error {
	if slices.Equal(before, c.After) || before == nil && c.After == nil {
		return nil
	}
	if c.After == nil && p.last[key] == p.w.head().name {
		return nil // what the head had put there may not have been seen yet when it was looked for
	}
	whose := before == nil || slices.Equal(before, c.Before) || p.last[key] == g.origin || c.claimed && !c.blind || p.lost[g.origin]
	if !whose {
		return failed(key, "row %s: %d of %s was applied blindly without conflict; its author had %v, the head had %v", key, g.seq, g.origin, c.Before, before)
	}
	for _, done := range g.events {
		if !slices.Contains(rowsOf(done.MemoryEvent), key) || (done.After == nil) != (c.After == nil) {
			continue
		}
		if c.After == nil || done.After[colWho] == c.After[colWho] {
			return nil
		}
	}
	return failed(key, "row %s: %d of %s (%s, claimed %v) is neither in the head's row (%v) nor in the conflict log", key, g.seq, g.origin, describe(c.Before, c.After), c.claimed, before)
}

// sameImage compares an image of the conflict log, which may lack columns, with a row.
func sameImage(e entry, column string, row schema.Row, t *schema.Table) error {
	image, ok := e.image(column)
	if ok != (row != nil) {
		return fmt.Errorf("it is %v, the row %v", e[column], row)
	}
	for name, value := range image {
		if t.Column(name) < 0 {
			continue // it came later, or is gone
		}
		v := row[t.Column(name)]
		if (value == nil) != v.IsNull() || value != nil && *value != v.Text() {
			return fmt.Errorf("column %s: it is %v, the row %v", name, e[column], row)
		}
	}
	if ok && len(image) == 0 {
		return errors.New("it is empty")
	}
	return nil
}

// accounted is for a change whose row the transaction touches again, that moves it, or that sweeps many away: it took place,
// or the conflict log tells of it.
func (p *replay) accounted(g *group, c event) error {
	if c.Op == schema.Truncate {
		return nil
	}
	for _, key := range rowsOf(c.MemoryEvent) {
		if g.entryOf(key) != nil || p.waits[key] {
			return nil
		}
	}
	for _, done := range g.events {
		if c.After == nil && done.After == nil && slices.Equal(rowsOf(done.MemoryEvent), rowsOf(c.MemoryEvent)) {
			return nil
		}
		if c.After != nil && done.After != nil && done.After[colWho] == c.After[colWho] {
			return nil
		}
	}
	key := rowsOf(c.MemoryEvent)[0]
	if c.After == nil && p.rows[key] == nil || c.After != nil && c.blind && slices.Equal(p.rows[c.After[colID].Text()], c.After) {
		return nil
	}
	for _, e := range g.entries { // a row that waited may have come in together with this one
		if e[schema.ConflictState].Text() == "again" {
			return nil
		}
	}
	return failed(key, "row %s: %d of %s (%v) is neither in the head's history nor in the conflict log", key, g.seq, g.origin, c.After)
}

// checkLatest: where the latest wins, the row is the latest version that anybody made.
func (p *replay) checkLatest() error {
	if p.w.plan.policy.Kind != schema.Latest || len(p.w.plan.large) > 0 || p.w.plan.joiner > 0 || p.w.plan.allJoin {
		return nil // rows that a comparison brings have no stamp: whoever changes them next may have an earlier one
	}
	for key, v := range p.best {
		if p.tangled[key] {
			continue
		}
		if !slices.Equal(v.row, p.rows[key]) {
			return failed(key, "row %s is %v, the latest version is %v of %s at %v", key, p.rows[key], v.row, v.origin, v.stamp)
		}
	}
	return nil
}

// checkSolo: one office that writes alone has no conflict.
func (w *world) checkSolo() error {
	if w.plan.solo < 0 || w.joined() {
		return nil
	}
	entries := w.head().db.Conflicts()
	if w.plan.schema.rate > 0 && slices.ContainsFunc(entries, func(e apply.MemoryConflict) bool { return e[schema.ConflictState] == "again" }) {
		return nil // what waited for its table was told of, and is not its author's own any more
	}
	for _, e := range entries {
		return failed(strings.TrimPrefix(e[schema.ConflictKey], "id="), "%s writes alone, and there is a conflict: %v", w.offices[w.plan.solo].name, e)
	}
	return nil
}

// checkSums: under `add` each counter is the sum of all that was added anywhere.
func (w *world) checkSums() error {
	if w.plan.policy.Kind != schema.Add || w.joined() {
		return nil
	}
	sums, odd := map[string]int{}, map[string]bool{}
	for _, row := range w.plan.first {
		sums[row[colID].Text()] = count(row)
	}
	for _, o := range w.offices {
		for _, g := range o.written()[o.life.last().Epoch] {
			for _, e := range g.events {
				keys := rowsOf(e.MemoryEvent)
				if e.Op == schema.Truncate && e.Table.TableName == items {
					return nil
				}
				for _, key := range keys {
					odd[key] = odd[key] || len(keys) > 1 || e.Op == schema.Delete
					sums[key] += count(e.After) - count(e.Before)
				}
			}
		}
	}
	if w.plan.schema.rate > 0 {
		for _, e := range w.head().db.Conflicts() { // what had waited was written by the head
			odd[strings.TrimPrefix(e[schema.ConflictKey], "id=")] = e[schema.ConflictState] == "again" || odd[strings.TrimPrefix(e[schema.ConflictKey], "id=")]
		}
	}
	for key, row := range byKey(w.head().db.Rows(w.head().items())) {
		if !odd[key] && sums[key] != count(row) && !w.plan.unique {
			return failed(key, "row %s counts %d, %d were added", key, count(row), sums[key])
		}
	}
	return nil
}

// checkVisits: the head has collected all visits.
func (w *world) checkVisits() error {
	got := byKey(w.head().db.Rows(visits))
	for _, o := range w.offices[1:] {
		for key, row := range byKey(o.db.Rows(visits)) {
			if !o.lost && !w.plan.comes(o.n) && !slices.Equal(row, got[key]) { // tables that only go up are not compared
				return failed("", "visit %s of %s is %v at the head", key, o.name, got[key])
			}
		}
	}
	return nil
}

// joined reports whether any office has had to be made equal.
func (w *world) joined() bool {
	return w.plan.joiner > 0 || w.plan.allJoin || w.plan.away > 0 || slices.ContainsFunc(w.offices, func(o *office) bool { return o.lost })
}

// entangle leaves out rows that an office wrote when nobody counted: before its first journal, or shortly before it lost one. Such
// versions have no stamp. What a new office finds in its tables may be of any age.
func (p *replay) entangle(o *office) {
	counted := map[string]bool{}
	for epoch, groups := range p.written[o.name] {
		for i, g := range groups {
			counted[g.source] = slices.Contains(p.arrived[schema.Position{Epoch: epoch, Seq: uint64(i + 1)}], o.name)
		}
	}
	for i, c := range o.db.History() {
		for _, e := range unclaimed(c.Events) {
			if !counted[strconv.Itoa(i+1)] {
				for _, key := range rowsOf(e.MemoryEvent) {
					p.tangled[key] = true
				}
			}
		}
	}
	if p.w.plan.comes(o.n) {
		for _, row := range p.w.plan.found {
			p.tangled[row[colID].Text()] = true
		}
	}
}

func (w *world) parked() (n int) {
	for _, o := range w.offices {
		n += len(o.parked())
	}
	return n
}

// parked is what waits at an office; what waits at one that must join does not count.
func (o *office) parked() []schema.Transaction {
	return o.db.Parked()
}

func (w *world) whatIsParked() string {
	var b strings.Builder
	for _, o := range w.offices {
		for _, tx := range o.parked() {
			c := &tx.Changes[0]
			fmt.Fprintf(&b, "%s: %s of %s at %s, table %s", o.name, describe(c.Before, c.After), tx.Origin, tx.Pos, c.Table.TableName)
			for i := range c.Table.Columns {
				fmt.Fprintf(&b, " %s", c.Table.Columns[i].Name)
			}
			fmt.Fprintln(&b)
		}
		for _, s := range o.db.MemorySteps() {
			if s.State != schema.DDLDone {
				fmt.Fprintf(&b, "%s: %+v\n", o.name, s)
			}
		}
	}
	return b.String()
}

// explained: whatever waits does so because another row has its unique value.
func (w *world) explained() error {
	for _, o := range w.offices {
		last := map[string]schema.Row{}
		for _, tx := range o.parked() {
			c := &tx.Changes[0]
			if !isItems(c.Table.TableName) {
				return failed("", "at %s rows of table %s wait:\n%s", o.name, c.Table.TableName, w.whatIsParked())
			}
			key := c.KeyRow()[colID].Text()
			if c.After != nil {
				key = c.After[colID].Text()
			}
			last[key] = c.After
		}
		blocked := len(last) == 0
		for key, row := range last { // others wait with the one that cannot go on
			blocked = blocked || row != nil && o.holder(key, row[colCode]) != nil
		}
		for key, row := range last {
			if !blocked {
				return failed(key, "at %s row %s waits although no other row has its value %v:\n%s", o.name, key, row, w.whatIsParked())
			}
		}
	}
	return nil
}

// holder is the other row that has a code.
func (o *office) holder(key string, code schema.Value) schema.Row {
	for _, row := range o.db.Rows(o.items()) {
		if row[colID].Text() != key && row[colCode] == code && !code.IsNull() {
			return row
		}
	}
	return nil
}

// unblock does what a person does about a change that waits: at the head, where nothing else helps, decides about the entry;
// else makes room.
func (w *world) unblock(round int) {
	for _, o := range w.offices {
		for _, tx := range o.parked() {
			c := &tx.Changes[0]
			w.writes++
			who := fmt.Sprintf("w%d", w.writes)
			if c.After == nil {
				continue
			}
			if o.role == schema.Head && (round+int(w.seed))%3 == 0 {
				w.resolve(c.KeyString())
				return
			}
			row := o.holder(c.After[colID].Text(), c.After[colCode])
			if row == nil {
				continue
			}
			free := w.plan.none(1000 + w.writes)
			w.did("%s makes room: row %s gives up %v", o.name, row[colID], row[colCode])
			w.begin(o, []statementOf{update(o, row, func(r schema.Row) { r[colWho], r[colCode] = schema.Of(who), free })})
			return
		}
	}
}

// resolve drops what waits of a row at the head.
func (w *world) resolve(key string) {
	for _, e := range w.head().db.Conflicts() {
		if e[schema.ConflictState] != "parked" || e[schema.ConflictKey] != key {
			continue
		}
		id, _ := strconv.ParseInt(e[schema.ConflictID], 10, 64)
		w.did("entry %d is resolved: local", id)
		w.mu.Lock()
		w.writing++
		w.mu.Unlock()
		w.apps.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := w.head().life.applier.Resolve(ctx, id, "local"); err != nil {
				w.did("resolve: %v", err)
			}
			w.mu.Lock()
			w.writing--
			w.mu.Unlock()
		})
		return
	}
}

// story tells what befell a row, office by office.
func (w *world) story(key string) string {
	var b strings.Builder
	for _, e := range w.events {
		fmt.Fprintln(&b, "  ", e)
	}
	for _, o := range w.offices {
		fmt.Fprintf(&b, "%s, %s, %s:\n", o.name, w.plan.engines[o.n], o.skew)
		for i, c := range o.db.History() {
			whose := "writes"
			for _, e := range c.Events {
				at := func() string { return fmt.Sprintf("  %4d %s %s", i+1, c.Commit.Format("04:05.000000"), whose) }
				switch {
				case e.Table.TableName == own(schema.ProgressTable) && e.After != nil:
					whose = fmt.Sprintf("applies %s of %s, %s.%s", e.After[3].Text(), e.After[1].Text(), e.After[4].Text(), e.After[5].Text())
				case e.Table.TableName == own(schema.ConflictsTable) && (key == "" || e.After[4].Text() == "id="+key):
					x := entryOf(e)
					fmt.Fprintln(&b, at(), "ENTRY", x[schema.ConflictKey].Text(), x[schema.ConflictKind].Text(), x[schema.ConflictWinner].Text(), x[schema.ConflictState].Text(),
						"local", x[schema.ConflictLocalBy].Text(), x[schema.ConflictLocalMs].Text(), x[schema.ConflictLocal].Text(),
						"remote", x[schema.ConflictBy].Text(), x[schema.ConflictSeq].Text(), x[schema.ConflictMs].Text(), x[schema.ConflictRemote].Text(), "told", told(x))
				case e.Op == schema.Define:
					fmt.Fprintln(&b, at(), e.Definition.Statement)
				case isItems(e.Table.TableName) && (key == "" || e.Op == schema.Truncate || slices.Contains(rowsOf(narrow(e)), key)):
					stamp := ""
					if s, ok := o.stamps[strconv.Itoa(i+1)]; ok && whose == "writes" {
						stamp = fmt.Sprintf(" stamp %d.%d", s.Millis, s.Counter)
					}
					fmt.Fprintln(&b, at(), e.Op, describe(e.Before, e.After), stamp)
				}
			}
		}
	}
	return b.String()
}

// told is what an entry tells every office.
func told(e entry) (all []string) {
	if batch, err := schema.DecodeBatch([]byte(e[schema.ConflictResolution].Text()), 0); err == nil {
		for _, tx := range batch.Transactions {
			for _, c := range tx.Changes {
				all = append(all, c.Op.String()+" "+describe(c.Before, c.After))
			}
		}
	}
	return all
}

func describe(before, after schema.Row) string {
	text := func(r schema.Row) string {
		if r == nil {
			return "nothing"
		}
		var parts []string
		for _, v := range r {
			parts = append(parts, strings.Trim(v.String(), `"`))
		}
		return strings.Join(parts, ",")
	}
	return text(before) + " -> " + text(after)
}
