package main

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cdc-sidecar/journal"
	"cdc-sidecar/schema"
)

// said are the messages of a log, for a test to wait for.
type said chan slog.Record

func (s said) Enabled(context.Context, slog.Level) bool      { return true }
func (s said) Handle(_ context.Context, r slog.Record) error { s <- r.Clone(); return nil }
func (s said) WithAttrs([]slog.Attr) slog.Handler            { return s }
func (s said) WithGroup(string) slog.Handler                 { return s }
func attribute(r slog.Record, key string) (value string) {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == key {
			value = a.Value.String()
		}
		return a.Key != key
	})
	return value
}

// errand runs a sidecar until its journal has a beginning in the database's log.
type errand struct {
	t    *testing.T
	cfg  Config
	data string
	db   *sql.DB
}

// run returns what was said of losses.
func (e *errand) run() (losses []string) {
	e.t.Helper()
	ctx, stop := context.WithCancel(e.t.Context())
	defer stop()
	log := make(said, 1000)
	ended := make(chan error, 1)
	go func() { ended <- runSidecar(ctx, e.cfg, slog.New(log)) }()
	limit := time.After(stuck)
	for begun := false; !begun; {
		select {
		case r := <-log:
			switch r.Message {
			case "the office lost its way":
				losses = append(losses, attribute(r, "kind"))
			case "a journal begins":
				begun = true
			}
		case err := <-ended:
			e.t.Fatalf("the sidecar ended: %v", err)
		case <-limit:
			e.t.Fatalf("no journal began; losses %q", losses)
		}
	}
	stop()
	if err := <-ended; err != nil {
		e.t.Fatal(err)
	}
	return losses
}

func (e *errand) row() (epoch uint64, began string) {
	e.t.Helper()
	if err := e.db.QueryRowContext(e.t.Context(), `SELECT epoch, began FROM cdc_sidecar.journal WHERE office = '`+string(e.cfg.Office)+`'`).Scan(&epoch, &began); err != nil {
		e.t.Fatal(err)
	}
	return epoch, began
}

func (e *errand) exec(statement string) {
	e.t.Helper()
	if _, err := e.db.ExecContext(e.t.Context(), statement); err != nil {
		e.t.Fatal(err)
	}
}

// heals wants one loss, and a later life behind it that began so.
func (e *errand) heals(kind schema.Lost) {
	e.t.Helper()
	var before uint64
	if kind != schema.Stranger {
		before, _ = e.row()
	}
	if losses := e.run(); !slices.Equal(losses, []string{kind.String()}) {
		e.t.Fatalf("losses %q, want one: %s", losses, kind)
	}
	epoch, began := e.row()
	if epoch <= before || began != kind.Began() {
		e.t.Errorf("epoch %d after %d, began as %q; want %q", epoch, before, began, kind.Began())
	}
	if j := e.journal(); j.Epoch != epoch || j.Source == "" {
		e.t.Errorf("the journal's epoch is %d, the database's %d; it begins at %q", j.Epoch, epoch, j.Source)
	}
}

// journal is what is in the folder.
func (e *errand) journal() journal.State {
	e.t.Helper()
	j, err := journal.Open(e.data, journal.Options{Office: e.cfg.Office})
	if err != nil {
		e.t.Fatal(err)
	}
	defer j.Close()
	return j.State()
}

// aside are the folders that lost lives left.
func (e *errand) aside() []string {
	e.t.Helper()
	folders, err := filepath.Glob(filepath.Join(e.data, lostPrefix+"*"))
	if err != nil {
		e.t.Fatal(err)
	}
	return folders
}

// An office that lost its way finds the next life by itself, whatever it was that it lost, and wherever it was killed.
func TestLostAndFound(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			config, data := officeOn(t, engine)
			cfg, err := LoadConfig(config)
			if err != nil {
				t.Fatal(err)
			}
			db, err := newOffice(cfg, slog.New(slog.DiscardHandler)).sql()
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			e := &errand{t: t, cfg: cfg, data: data, db: db}
			t.Cleanup(func() { _ = toolsFor(cfg).Teardown(context.WithoutCancel(t.Context())) })
			if losses := e.run(); len(losses) > 0 {
				t.Fatalf("a first life lost %q", losses)
			}
			if err := os.RemoveAll(data); err != nil {
				t.Fatal(err)
			}
			e.heals(schema.LostJournal)
			if len(e.aside()) > 0 {
				t.Errorf("nothing was there to be put aside: %q", e.aside())
			}

			e.exec(`UPDATE cdc_sidecar.journal SET epoch = 5 WHERE office = '` + string(e.cfg.Office) + `'`) // a backup of an earlier life
			former := e.journal().Epoch
			e.heals(schema.Restored)
			if epoch, _ := e.row(); epoch <= former {
				t.Errorf("epoch %d after %d", epoch, former)
			}
			if n := len(e.aside()); n != 1 {
				t.Errorf("%d folders", n)
			}

			// A process that wrote down what it had found, and was killed before it put the journal aside.
			noted := &schema.LostError{Kind: schema.Restored}
			if err := newOffice(cfg, slog.New(slog.DiscardHandler)).lose(t.Context(), e.journal().Epoch, noted); err != nil {
				t.Fatal(err)
			}
			e.heals(schema.Restored)

			e.killedHalfway()
			e.heals(schema.LostJournal) // all that is left to see: the former journal is in its folder
			e.exec(`DELETE FROM cdc_sidecar.journal WHERE office = '` + string(e.cfg.Office) + `'`)
			e.heals(schema.Stranger)
			if folders := e.aside(); len(folders) != keptLost || strings.HasSuffix(folders[0], movingSuffix) || strings.HasSuffix(folders[1], movingSuffix) {
				t.Errorf("left are %q", folders)
			}
		})
	}
}

// killedHalfway leaves what a process leaves that was killed while it put the journal aside.
func (e *errand) killedHalfway() {
	e.t.Helper()
	names, err := retirees(e.data)
	if err != nil || len(names) < 2 {
		e.t.Fatalf("%q, %v", names, err)
	}
	moving := filepath.Join(e.data, lostPrefix+"2026"+movingSuffix)
	if err := os.Mkdir(moving, 0o700); err != nil {
		e.t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(e.data, names[0]), filepath.Join(moving, names[0])); err != nil {
		e.t.Fatal(err)
	}
}

// setBack compares what the journal has seen applied with what the database has.
func TestSetBack(t *testing.T) {
	at := func(seq uint64) schema.Position { return schema.Position{Epoch: 7, Seq: seq} }
	branch := journal.State{Epoch: 9, Seen: at(5)}
	head := journal.State{Epoch: 9, Acknowledged: []schema.Acknowledgement{{Office: "north", Pos: at(5)}}}
	for name, test := range map[string]struct {
		role    schema.Role
		state   journal.State
		applied map[schema.Office]schema.Position
		lost    bool
	}{
		"branch, as seen":            {schema.Branch, branch, map[schema.Office]schema.Position{"head": at(5)}, false},
		"branch, not captured yet":   {schema.Branch, branch, map[schema.Office]schema.Position{"head": at(6)}, false},
		"branch, set back":           {schema.Branch, branch, map[schema.Office]schema.Position{"head": at(4)}, true},
		"branch, a new epoch":        {schema.Branch, branch, map[schema.Office]schema.Position{"head": {Epoch: 8, Seq: 1}}, false},
		"branch that began anew":     {schema.Branch, branch, nil, false},
		"head, as seen":              {schema.Head, head, map[schema.Office]schema.Position{"north": at(5)}, false},
		"head, set back":             {schema.Head, head, map[schema.Office]schema.Position{"north": at(4)}, true},
		"head, of another":           {schema.Head, head, map[schema.Office]schema.Position{"south": at(4)}, false},
		"head, the branch's journal": {schema.Head, head, map[schema.Office]schema.Position{"north": {Epoch: 6, Seq: 1}}, false},
	} {
		var lost *schema.LostError
		if err := setBack(test.role, test.state, test.applied); errors.As(err, &lost) != test.lost || test.lost && lost.Kind != schema.Restored {
			t.Errorf("%s: %v", name, err)
		}
	}
}
