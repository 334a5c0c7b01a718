package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"cdc-sidecar/fleet"
)

// epoch is that of the office's journal now.
func epoch(t *testing.T, o *fleet.Office) uint64 {
	t.Helper()
	s, err := o.Status(within(t, stuck))
	must(t, err)
	return s.Journal.Epoch
}

// finds waits until the office has another journal, later than before, captures, and has said in its log why.
func finds(t *testing.T, o *fleet.Office, before uint64, why string) {
	t.Helper()
	must(t, fleet.Until(within(t, stuck), string(o.Name)+" begins a new journal", func(ctx context.Context) error {
		s, err := o.Status(ctx)
		if err == nil && (s.Journal.Epoch <= before || !s.Ready) {
			err = fmt.Errorf("ready %v, epoch %d; it was %d", s.Ready, s.Journal.Epoch, before)
		}
		return err
	}))
	text, err := os.ReadFile(o.Log())
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "the office lost its way") && strings.Contains(line, why) {
			return
		}
	}
	t.Errorf("%s does not say %q", o.Name, why)
}

// An office that loses its journal while it has changes that were never sent ends equal to the others, with those changes, and
// with what they wrote meanwhile.
func TestALostJournal(t *testing.T) {
	wholeOnly(t)
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := company(t, set, bin, three(set)...)
	var l ledger
	must(t, f.Start(within(t, stuck)))
	l.goesOn(t, f)
	for _, o := range []*fleet.Office{f.Offices[atNorth], f.Offices[atSouth], f.Head()} {
		before := epoch(t, o)
		must(t, o.Stop(within(t, stuck)))
		l.write(t, f.Offices...)
		must(t, os.RemoveAll(o.Data()))
		must(t, o.Start())
		finds(t, o, before, "journal lost")
		l.goesOn(t, f)
	}
	l.settles(t, f)
}

// The slot, or the binlog, is gone with what it would still have delivered: the tables have it.
func TestALostLog(t *testing.T) {
	wholeOnly(t)
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := company(t, set, bin, three(set)...)
	var l ledger
	must(t, f.Start(within(t, stuck)))
	l.goesOn(t, f)
	for _, c := range []struct {
		office *fleet.Office
		lose   func(context.Context, *fleet.Office) error
		why    string
	}{
		{f.Offices[atNorth], dropSlot, "is gone"},
		{f.Offices[atSouth], purgeBinlog, "purged its binlog"},
		{f.Head(), dropSlot, "is gone"},
	} {
		before := epoch(t, c.office)
		must(t, c.office.Stop(within(t, stuck)))
		l.write(t, f.Offices...)
		must(t, c.lose(within(t, stuck), c.office))
		must(t, c.office.Start())
		finds(t, c.office, before, c.why)
		l.goesOn(t, f)
	}
	l.settles(t, f)
}

// Two sidecars for one office, each with a journal: the second waits for the database, says who has it, and when the first
// dies it finds that the database belongs to another journal, and begins one behind it. So does the first when it is back.
func TestASecondSidecarWithAnotherJournal(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := company(t, set, bin, three(set)...)
	var l ledger
	must(t, f.Start(within(t, stuck)))
	for _, first := range f.Offices[1:] {
		s, err := first.Status(within(t, stuck))
		must(t, err)
		waits := startSecond(t, first, first.Data()+"2")
		says(t, waits.office, "capture is waiting", "held by another process", "server ", "127.0.0.1")
		l.goesOn(t, f)
		first.Kill()
		l.write(t, f.Offices...)
		finds(t, waits.office, s.Journal.Epoch, "journal lost")
		l.arrives(t, f)
		next := epoch(t, waits.office)
		waits.stop(t)
		must(t, first.Start())
		finds(t, first, next, "journal lost")
		l.goesOn(t, f)
	}
	l.settles(t, f)
}

func dropSlot(ctx context.Context, o *fleet.Office) error {
	return o.Exec(ctx, `SELECT pg_drop_replication_slot('cdc_sidecar_`+string(o.Name)+`')`)
}

// purgeBinlog leaves the server the file that it writes now. Of the others, it keeps what a reader has open, and a reader
// that is gone counts until the server notices.
func purgeBinlog(ctx context.Context, o *fleet.Office) error {
	return fleet.Until(ctx, "the binlog is purged", func(ctx context.Context) error {
		if err := o.Exec(ctx, `FLUSH BINARY LOGS`, `PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 HOUR`); err != nil {
			return err
		}
		d, err := o.DigestOf(ctx, `SHOW BINARY LOGS`)
		if err == nil && d.Rows != 1 {
			err = fmt.Errorf("%d files are left", d.Rows)
		}
		return err
	})
}
