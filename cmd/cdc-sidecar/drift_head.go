package main

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"sync"

	"cdc-sidecar/admin"
	"cdc-sidecar/peer"
	"cdc-sidecar/schema"
)

// tellers are, at the head, the branches that ask what its tables are, and what they have found.
type tellers struct {
	s    *sidecar
	wake chan struct{}

	mu    sync.Mutex
	asked map[schema.Office]*asking
	found map[schema.Office]*admin.Drift
}

// asking is a question that was not answered yet.
type asking struct {
	inquiry
	id uint64
}

func newTellers(s *sidecar) *tellers {
	return &tellers{s: s, wake: make(chan struct{}, 1), asked: map[schema.Office]*asking{}, found: map[schema.Office]*admin.Drift{}}
}

// heard takes what a branch says.
func (t *tellers) heard(from schema.Office, m *schema.Definitions) {
	a := &asking{id: m.ID}
	if err := opened(m.Body, m.Codec, &a.inquiry); err != nil {
		t.s.log.Warn("what an office says of its tables cannot be read", "office", from, "cause", err)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.Found != nil {
		t.found[from] = a.Found
	}
	if !a.Quiet {
		t.asked[from] = a
		rouse(t.wake)
	}
}

// of is what a branch has found; nil: it has told nothing.
func (t *tellers) of(office schema.Office) *admin.Drift {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.found[office]
}

func (t *tellers) take() map[schema.Office]*asking {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.asked
	t.asked = map[schema.Office]*asking{}
	return all
}

// run answers until ctx ends. All who have asked meanwhile get what one look at the tables gives. It returns nil: whoever gets no
// answer asks again.
func (t *tellers) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.wake:
		}
		if all := t.take(); len(all) > 0 {
			if err := t.answer(ctx, all); err != nil && ctx.Err() == nil {
				t.s.log.Warn("branches that ask for the definitions of the tables get none", "cause", err)
			}
		}
	}
}

func (t *tellers) answer(ctx context.Context, all map[schema.Office]*asking) error {
	applied := map[schema.Office]schema.Position{}
	members, _ := t.s.peers.Status()
	for _, m := range members {
		applied[m.Office] = m.Progress
	}
	ours, err := readDefinitions(ctx, t.s.cfg)
	if err != nil {
		return err
	}
	r := reply{}
	if r.At, err = (tables{t.s}).Last(ctx); err != nil {
		return err
	}
	texts, mark := written(ours, func(n schema.TableName) bool { return t.s.cfg.Sends(n) || t.s.cfg.Forwards(n) || t.s.cfg.Receives(n) })
	r.Mark = mark
	for office, a := range all {
		mine := r
		if mine.Applied = applied[office]; a.Have != mark {
			mine.Tables = texts
		}
		for _, n := range a.Alone {
			if !t.s.cfg.Receives(n) {
				mine.Unwanted = append(mine.Unwanted, n)
			}
		}
		if err := t.send(office, a.id, &mine); err != nil {
			return err
		}
	}
	return nil
}

// written are definitions as they travel, by name, and what tells them from others. The columns' numbers are the office's own.
func written(all definitions, shared func(schema.TableName) bool) (texts []json.RawMessage, mark uint64) {
	h := fnv.New64a()
	for _, name := range all.names() {
		if !shared(name) {
			continue
		}
		text := schema.AppendDefinition(nil, all[name])
		_, _ = h.Write(text)
		texts = append(texts, text)
	}
	return texts, max(h.Sum64(), 1) // 0 says that nothing is known
}

// maxAnswer bounds the pieces of an answer: tens of thousands of tables.
const maxAnswer = 64

func (t *tellers) send(office schema.Office, id uint64, r *reply) error {
	body, codec, err := packed(r)
	if err == nil && len(body) > maxAnswer*peer.DefinitionsPiece {
		body, codec, err = packed(reply{Error: "there are too many tables to hold them against each other"})
	}
	if err != nil {
		return err
	}
	for part := uint32(0); ; part++ {
		n := min(len(body), peer.DefinitionsPiece)
		m := &schema.Definitions{To: office, ID: id, Part: part, Codec: codec, Body: body[:n]}
		body = body[n:]
		m.More = len(body) > 0
		t.s.peers.Say(office, schema.Control{Definitions: m})
		if !m.More {
			return nil
		}
	}
}
