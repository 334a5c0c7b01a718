package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cdc-sidecar/journal"
	"cdc-sidecar/schema"
)

const (
	// lostPrefix begins the name of the folder, inside data, that the journal of an office that lost its way is moved to.
	lostPrefix = "lost-"
	// keptLost is how many of those are kept: the last one, and the one before in case both were one accident.
	keptLost = 2
	// soonLost: who loses its way again so soon waits before the next life: somebody is at work there.
	soonLost = time.Minute
	// belongsEvery is how often a running sidecar looks whether database and journal still belong together. A loss costs
	// the more to mend the longer nobody sees it, and the look is a connection and two queries.
	belongsEvery = time.Minute
)

// loss is why a life of the sidecar ended, when the office lost its way.
type loss struct {
	cause *schema.LostError
	epoch uint64 // of the journal here
	fresh bool   // it was new: nothing in it is to be put aside
}

// after is the epoch that the next journal's is greater than.
func (l *loss) after() uint64 { return max(l.epoch, l.cause.Known) }

// runSidecar captures, ships and applies until ctx ends, and then returns nil. It returns an error only when something was
// refused for good before it was ever ready. An office that lost its way lives on with another journal.
func runSidecar(ctx context.Context, cfg Config, log *slog.Logger) error {
	var after uint64
	var before time.Time
	for {
		lost, err := live(ctx, cfg, log, after)
		if err != nil || lost == nil || ctx.Err() != nil {
			return err
		}
		if err := putAside(cfg.Data, lost, log); err != nil {
			return err
		}
		after = lost.after()
		if time.Since(before) < soonLost {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(mostWait):
			}
		}
		before = time.Now()
	}
}

// noticed looks at the error that a session ended with. When it says that the office lost its way, that is written to the
// database first, with what a comparison has to do, and then this life ends. A crash before the write finds the loss again; a
// crash behind it finds the word.
func (s *sidecar) noticed(ctx context.Context, err error) error {
	var cause *schema.LostError
	if !errors.As(err, &cause) {
		return err
	}
	state := s.journal.State()
	lost := &loss{cause: cause, epoch: state.Epoch, fresh: state.Source == ""}
	known := state.Epoch
	if lost.fresh { // its epoch is not one of a life that anybody has seen
		known = 0
	}
	if err := s.db.lose(ctx, known, cause); err != nil {
		return fmt.Errorf("the office lost its way (%s): %w", cause.Error(), err)
	}
	s.log.Error("the office lost its way", "kind", cause.Kind.String(), "cause", cause.Error(), "remedy", remedyOf(s.cfg.Role, cause.Kind),
		"journal", state.Epoch, "last", state.Last)
	s.lost = lost
	s.end()
	return err
}

// remedyOf says what is done about a loss, without anybody's help.
func remedyOf(role schema.Role, kind schema.Lost) string {
	const next = "the journal is put aside and a new one begins"
	switch {
	case kind == schema.Stranger:
		return next + ", as an office's first. If this is the wrong database, stop the sidecar at once and set database:"
	case role == schema.Branch:
		return next + "; then all tables are compared with the head's: what only this office has goes up to the head"
	case kind == schema.Restored:
		return next + "; each branch sends what this database lacks, and then takes what it lacks itself"
	default:
		return next + "; each branch compares its tables with this database"
	}
}

// appliedBefore is what a head's database has of the branches' streams when another journal begins, which at is empty for:
// it tells the branches so, as the former one would have. It is read before there is a place to begin from, and so true there.
func (s *sidecar) appliedBefore(ctx context.Context, at string) (map[schema.Office]schema.Position, error) {
	if at != "" || s.cfg.Role != schema.Head {
		return nil, nil
	}
	if began, err := s.db.began(ctx); err != nil || began == "" { // a first life: there may be no tables of ours yet
		return nil, err
	}
	return s.applier.Senders(ctx)
}

// setBack looks for transactions of other offices that the journal has seen applied and the database does not have: it went
// back without a trace in its log, as a machine does that is set back to a snapshot.
func (s *sidecar) setBack(ctx context.Context) error {
	applied, err := s.applier.Senders(ctx)
	if err != nil {
		return err
	}
	return setBack(s.cfg.Role, s.journal.State(), applied)
}

func setBack(role schema.Role, state journal.State, applied map[schema.Office]schema.Position) error {
	for office, have := range applied {
		seen := state.Seen
		if role == schema.Head {
			seen = schema.Position{}
			if i := slices.IndexFunc(state.Acknowledged, func(a schema.Acknowledgement) bool { return a.Office == office }); i >= 0 {
				seen = state.Acknowledged[i].Pos
			}
		}
		if have.Epoch == seen.Epoch && have.Seq < seen.Seq {
			return &schema.LostError{
				Kind: schema.Restored, Known: state.Epoch,
				What: fmt.Sprintf("the database has applied the stream of office %s to %s, the journal has seen it at %s: it went back to an earlier state", office, have, seen),
			}
		}
	}
	return nil
}

// belongs looks again and again whether database and journal are still of one life, until ctx ends. Not every loss ends the
// reading of the log: a binlog that is reset, or a schema that is dropped, just brings nothing more.
func (s *sidecar) belongs(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		state := s.journal.State()
		if state.Source == "" {
			continue
		}
		err := s.db.belongs(ctx, state.Epoch, state.Source)
		var lost *schema.LostError
		if errors.As(err, &lost) {
			return err
		}
	}
}

// putAside moves what a lost life leaves in its folder out of the way of the next, and deletes what earlier ones left.
func putAside(data string, lost *loss, log *slog.Logger) error {
	if lost.fresh && lost.epoch > lost.cause.Known {
		return nil
	}
	held, err := journal.Hold(data)
	if errors.Is(err, schema.ErrHeld) || errors.Is(err, fs.ErrNotExist) { // another process was faster, and sees what we saw
		return nil
	}
	if err != nil {
		return err
	}
	aside, err := retire(data, lostPrefix, time.Now())
	if err == nil {
		err = prune(data)
	}
	if err = errors.Join(err, held.Close()); err != nil {
		return err
	}
	log.Info("the journal was put aside", "folder", aside)
	return nil
}

// prune deletes the oldest of the folders that lost lives left.
func prune(data string) error {
	folders, err := filepath.Glob(filepath.Join(globEscape.Replace(data), lostPrefix+"*"))
	if err != nil {
		return fmt.Errorf("look for old journals: %w", err)
	}
	slices.Sort(folders) // by time: it is in the name
	for len(folders) > keptLost {
		if err := os.RemoveAll(folders[0]); err != nil {
			return fmt.Errorf("delete an old journal: %w", err)
		}
		folders = folders[1:]
	}
	return nil
}

// globEscape makes a path a pattern of itself.
var globEscape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// beganAs is how the journal's life began (schema.BeganLost …), as the database said when this session began; an empty
// word for a first life, and before the database was asked.
func (s *sidecar) beganAs() string {
	if word := s.began.Load(); word != nil {
		return *word
	}
	return ""
}
