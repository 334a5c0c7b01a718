package resync

import (
	"context"
	"slices"

	"cdc-sidecar/schema"
)

// pair is a row as both have it; nil where there is none.
type pair struct {
	key          []byte
	row          schema.RowID
	change       *schema.Change // the head's word
	ownKey       schema.Row
	theirs, ours schema.Row
	columns      []string // that differ
	waits        bool     // a change of it waits at the head
	kind         string   // see judge
}

// decide deals with rows that were asked for by key: while it runs, our apply of the head's stream stands at the chunk's place,
// so what is not equal, and not on its way, differs. Keys that are dealt with leave left.
func (p *pass) decide(ctx context.Context, at schema.Position, c *schema.Chunk, changes []schema.Change, left map[string]bool) error {
	if len(changes) == 0 {
		return nil
	}
	differ, err := p.differing(ctx, c, changes, left)
	if err != nil {
		return err
	}
	if differ, err = p.settled(ctx, differ); err != nil {
		return err
	}
	p.note("", func(r *schema.TableReport) { r.Bytes += uint64(len(c.Rows)) })
	if err := p.act(ctx, at, differ); err != nil {
		return err
	}
	for i := range differ {
		delete(left, string(differ[i].key))
	}
	return nil
}

// differing are the rows that both do not have alike. Equal ones leave left; of moving ones nothing is said.
func (p *pass) differing(ctx context.Context, c *schema.Chunk, changes []schema.Change, left map[string]bool) ([]pair, error) {
	if err := p.learn(changes[0].Table); err != nil {
		return nil, err
	}
	var pairs []pair
	var keys []schema.Row
	for i := range changes {
		if slices.Contains(c.Moving, uint32(i)) {
			continue
		}
		own, err := p.ownKey(&changes[i])
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, pair{
			key: changes[i].Table.AppendKey(nil, changes[i].KeyRow()), row: p.own.RowID(own), change: &changes[i], ownKey: own, theirs: changes[i].After,
			waits: slices.Contains(c.Disputed, uint32(i)),
		})
		keys = append(keys, own)
	}
	ours, all := make([]schema.Row, len(keys)), make([]int, len(keys))
	for i := range all {
		all[i] = i
	}
	if err := p.find(ctx, keys, ours, all); err != nil {
		return nil, err
	}
	differ, equal := pairs[:0], uint64(0)
	for i, pr := range pairs {
		pr.ours = ours[i]
		same := pr.ours == nil && (pr.theirs == nil || p.why.oneWay)
		if pr.ours != nil && pr.theirs != nil {
			same, pr.columns = schema.SameRow(pr.change.Table, pr.theirs, p.own, pr.ours)
		}
		if !same {
			differ = append(differ, pr)
			continue
		}
		if delete(left, string(pr.key)); pr.ours != nil {
			equal++
		}
	}
	p.note("", func(r *schema.TableReport) { r.Equal += equal })
	return differ, nil
}

// settled leaves out what is on its way up: what the head has not met of ours. Whether that is so is known of everything that our
// log has been read to; so it is read to here first.
func (p *pass) settled(ctx context.Context, differ []pair) ([]pair, error) {
	if len(differ) == 0 || p.why.frozen { // while nothing of the head's is taken, no word comes of what it has met; and claims go up behind all that is on its way
		return differ, nil
	}
	if err := p.c.db.Overtake(ctx); err != nil {
		return nil, err
	}
	still := differ[:0]
	for _, pr := range differ {
		held, err := p.c.db.Held(p.table, pr.row)
		if err != nil {
			return nil, err
		}
		if !held {
			still = append(still, pr)
		}
	}
	return still, nil
}

// act does about what differs what the pass is for, and counts it.
func (p *pass) act(ctx context.Context, at schema.Position, differ []pair) error {
	if err := p.overtaken(); err != nil {
		return err
	}
	var write []*pair
	var claims, absent []schema.Row
	var sent, removed, repaired uint64
	for i := range differ {
		pr := &differ[i]
		if err := p.judge(ctx, pr); err != nil {
			return err
		}
		switch {
		case pr.kind == schema.KeyDisputed && p.job != nil: // what waits would be written over what is repaired
		case pr.theirs == nil && (p.why.extra == Send || p.why.claim):
			claims, sent = append(claims, pr.ownKey), sent+1
		case pr.theirs == nil && p.why.extra == Delete && !pr.waits:
			write, removed = append(write, pr), removed+1
		case pr.theirs == nil:
		case pr.ours == nil && p.why.absent:
			absent, sent = append(absent, pr.ownKey), sent+1
		case pr.ours != nil && p.why.claim:
			claims, sent = append(claims, pr.ownKey), sent+1
		case p.why.take:
			write, repaired = append(write, pr), repaired+1
		}
	}
	parked, err := p.write(ctx, at, write)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		keys   []schema.Row
		absent bool
	}{{claims, false}, {absent, true}} {
		if len(c.keys) > 0 {
			if err := p.c.db.Claim(ctx, p.table, c.keys, c.absent, p.why.older); err != nil {
				return err
			}
		}
	}
	p.note("", func(r *schema.TableReport) {
		for i := range differ {
			differ[i].count(r)
		}
		r.Sent += sent
		r.Removed += removed
		r.Repaired += repaired - parked
	})
	return nil
}

// write takes the head's rows of pairs, and returns how many of those that come wait now: another row here has their unique values.
func (p *pass) write(ctx context.Context, at schema.Position, pairs []*pair) (parked uint64, err error) {
	if len(pairs) == 0 {
		return 0, nil
	}
	changes := make([]schema.Change, len(pairs))
	for i, pr := range pairs {
		changes[i] = *pr.change
	}
	waiting, err := p.c.db.Chunk(ctx, p.c.headName(), at, changes, nil)
	if err != nil || waiting == 0 {
		return 0, err
	}
	for _, pr := range pairs {
		if pr.theirs == nil {
			continue
		}
		waits, err := p.c.db.Disputed(ctx, pr.row)
		if err != nil {
			return 0, err
		}
		if waits {
			pr.kind = schema.KeyDisputed
			parked++
		}
	}
	return parked, nil
}

// judge says in what a row differs: that a change of it waits, here or at the head, explains it before anything else does.
func (p *pass) judge(ctx context.Context, pr *pair) error {
	disputed, err := p.c.db.Disputed(ctx, pr.row)
	switch {
	case err != nil:
		return err
	case disputed || pr.waits:
		pr.kind = schema.KeyDisputed
	case pr.ours == nil:
		pr.kind = schema.KeyMissingHere
	case pr.theirs == nil:
		pr.kind = schema.KeyMissingThere
	default:
		pr.kind = schema.KeyDifferent
	}
	return nil
}

// count adds a row that differs to the report, and names it.
func (pr *pair) count(r *schema.TableReport) {
	switch pr.kind {
	case schema.KeyDisputed:
		r.Disputed++
	case schema.KeyMissingHere:
		r.MissingHere++
	case schema.KeyMissingThere:
		r.MissingThere++
	default:
		r.Different++
	}
	if len(r.Keys) >= schema.MaxKeys {
		r.KeysLeftOut++
		return
	}
	r.Keys = append(r.Keys, schema.KeyReport{Kind: pr.kind, Key: pr.change.KeyString(), Columns: pr.columns})
}
