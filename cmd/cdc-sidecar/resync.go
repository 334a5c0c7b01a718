package main

import (
	"context"
	"errors"
	"path/filepath"

	"cdc-sidecar/apply"
	"cdc-sidecar/peer"
	"cdc-sidecar/resync"
	"cdc-sidecar/schema"
)

// resyncFolder has the keys of tables that are being compared, under the journal's folder.
const resyncFolder = "resync"

// equality is what makes this office equal to the others: at the head the server, at a branch the client. The other is nil.
type equality struct {
	server *resync.Server
	client *resync.Client
}

// comparer makes the side of this office's role. The peers that it speaks through are made behind it, from it.
func (s *sidecar) comparer() equality {
	db := tables{s}
	if s.cfg.Role == schema.Head {
		cfg := resync.ServerConfig{
			Sends: func(t schema.TableName) bool { return s.cfg.Sends(t) || s.cfg.Forwards(t) }, Log: s.log,
			Nudge:    func() { s.peers.Nudge() },
			Reported: func(from schema.Office, r *schema.Report) { s.jobs.reported(from, r) },
		}
		return equality{server: resync.NewServer(cfg, db, touches{hurried{s.clocks, s.db.hurry}})}
	}
	cfg := resync.Config{
		Office: s.cfg.Office, Dir: filepath.Join(s.cfg.Data, resyncFolder), Mode: resync.Mode(s.cfg.Join.Mode), Extra: resync.Extra(s.cfg.Join.Extra),
		Rows: uint64(s.cfg.Join.Rows), Bytes: uint64(s.cfg.Join.Bytes), Receives: s.cfg.Receives, Sends: s.cfg.Sends, Log: s.log,
		Matches: s.cfg.matches, Ordered: s.jobs.adopt,
		Called: func(ctx context.Context, t schema.TableName) (schema.TableName, error) {
			return s.applier.Called(ctx, t)
		},
	}
	return equality{client: resync.NewClient(cfg, db, speech{s})}
}

// tables are the office's tables, as room resync wants them.
type tables struct{ s *sidecar }

func (t tables) Tables(ctx context.Context) ([]schema.TableSize, error) {
	return t.s.applier.Tables(ctx)
}

func (t tables) Stretch(ctx context.Context, table schema.TableName, from schema.Row, limit, bytes int) (*schema.Table, []schema.Row, bool, error) {
	return t.s.applier.Stretch(ctx, table, from, limit, bytes)
}

func (t tables) Keys(ctx context.Context, table schema.TableName, from schema.Row, limit int) (*schema.Table, []schema.Row, bool, error) {
	return t.s.applier.Keys(ctx, table, from, limit)
}

func (t tables) Find(ctx context.Context, table schema.TableName, keys []schema.Row) (*schema.Table, []schema.Row, error) {
	return t.s.applier.Find(ctx, table, keys)
}

// Definition is nil where there is no such table.
func (t tables) Definition(ctx context.Context, table schema.TableName) (*schema.Table, error) {
	def, err := t.s.applier.Definition(ctx, table)
	if errors.Is(err, apply.ErrNoTable) {
		return nil, nil
	}
	return def, err
}

func (t tables) Settle(ctx context.Context) (uint64, error) { return t.s.applier.Settle(ctx) }
func (t tables) Mark(ctx context.Context) (uint64, error)   { return t.s.applier.Mark(ctx) }

// Create makes a table, and has it captured before anybody can write to it unseen.
func (t tables) Create(ctx context.Context, def *schema.Table) error {
	if err := t.s.applier.Create(ctx, def); err != nil {
		return err
	}
	_, err := toolsFor(t.s.cfg).Setup(ctx)
	return err
}

func (t tables) Chunk(ctx context.Context, head schema.Office, at schema.Position, changes []schema.Change, save []resync.Join) (parked int, err error) {
	taken, err := t.s.applier.Chunk(ctx, head, at, schema.Stamp{}, changes, joinsOf(save))
	if errors.Is(err, apply.ErrElsewhere) {
		return 0, errors.Join(resync.ErrElsewhere, err)
	}
	return taken.Parked, err
}

func (t tables) Claim(ctx context.Context, table schema.TableName, keys []schema.Row, absent, restored bool) error {
	_, err := t.s.applier.Claim(ctx, table, keys, absent, restored)
	return err
}

func (t tables) Joins(ctx context.Context) ([]resync.Join, error) {
	all, err := t.s.applier.Joins(ctx)
	out := make([]resync.Join, len(all))
	for i, j := range all {
		out[i] = resync.Join(j)
	}
	return out, err
}

func (t tables) SaveJoins(ctx context.Context, joins []resync.Join) error {
	return t.s.applier.SaveJoins(ctx, joinsOf(joins))
}

func (t tables) DropJoins(ctx context.Context, names []string) error {
	return t.s.applier.DropJoins(ctx, names)
}

func joinsOf(all []resync.Join) []apply.Join {
	out := make([]apply.Join, len(all))
	for i, j := range all {
		out[i] = apply.Join(j)
	}
	return out
}

func (t tables) Overtake(ctx context.Context) error {
	mark, err := t.s.applier.Mark(ctx)
	if err != nil {
		return err
	}
	return hurried{t.s.clocks, t.s.db.hurry}.Passed(ctx, mark)
}

func (t tables) Held(table schema.TableName, row schema.RowID) (bool, error) {
	return t.s.clocks.Held(table, row, false)
}

func (t tables) Disputed(ctx context.Context, row schema.RowID) (bool, error) {
	return t.s.applier.Disputed(ctx, row)
}

func (t tables) Arrived(ctx context.Context) error {
	last, err := t.Last(ctx)
	if err != nil {
		return err
	}
	return t.s.clocks.Arrived(ctx, last.Seq)
}

func (t tables) Last(ctx context.Context) (schema.Position, error) {
	if err := t.Overtake(ctx); err != nil {
		return schema.Position{}, err
	}
	_, last := t.s.journal.Bounds()
	return schema.Position{Epoch: t.s.journal.Epoch(), Seq: last}, nil
}

// touches are the row clocks, as the server wants them.
type touches struct{ hurried }

func (t touches) Touched(table schema.TableName, row schema.RowID) (uint64, error) {
	seq, _, _, err := t.Against(table, row, "")
	return seq, err
}

func (t touches) TableTouched(table schema.TableName) uint64 { return t.TableAgainst(table, "") }

// speech is the way to the head.
type speech struct{ s *sidecar }

func (p speech) Say(to schema.Office, c schema.Control) { p.s.peers.Say(to, c) }
func (p speech) Greet()                                 { p.s.peers.Greet() }

// The rooms do not know one another: what peer asks and what resync answers are the same words in two types.

type answering struct{ *resync.Server }

func (a answering) Ready(ctx context.Context, seq uint64) ([]peer.Answer, error) {
	all, err := a.Server.Ready(ctx, seq)
	out := make([]peer.Answer, len(all))
	for i, x := range all {
		out[i] = peer.Answer(x)
	}
	return out, err
}

type joining struct{ *resync.Client }

func (j joining) Welcomed(ctx context.Context, s peer.Standing) (peer.Verdict, error) {
	v, err := j.Client.Welcomed(ctx, resync.Standing(s))
	return peer.Verdict(v), err
}
