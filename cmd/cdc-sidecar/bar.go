package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"cdc-sidecar/admin"
)

// progress shows a person how far a job is, and what it waits for.
type progress interface {
	// look is called every now and then with the job as it is; note is what it waits for, empty: nothing.
	look(j admin.Job, note string, now time.Time)
	// end leaves the screen as it was, for what comes after.
	end()
}

// newProgress is a bar on a terminal, else a line now and then; nothing where one object is wanted and nothing else.
func (p *program) newProgress() progress {
	switch {
	case p.json:
		return silence{}
	case isTerminal(p.Err):
		return &barProgress{notes: notes{w: p.Err}}
	default:
		return &lineProgress{notes: notes{w: p.Err}}
	}
}

type silence struct{}

func (silence) look(admin.Job, string, time.Time) {}
func (silence) end()                              {}

// notes says what a job waits for, once, and that it goes on.
type notes struct {
	w    io.Writer
	last string
}

// changed writes a line when there is something new to say; before is called first.
func (n *notes) changed(note string, before func()) {
	if note == n.last {
		return
	}
	before()
	if note == "" {
		fmt.Fprintln(n.w, "going on")
	} else {
		fmt.Fprintf(n.w, "waiting: %s\n", printable(note))
	}
	n.last = note
}

// lineEvery is how often a log has a line of progress: often enough to see that it moves, too seldom to fill a disk.
const lineEvery = 10 * time.Second

// lineProgress is for logs.
type lineProgress struct {
	notes
	said time.Time
}

func (l *lineProgress) look(j admin.Job, note string, now time.Time) {
	l.changed(note, func() {})
	if l.said.IsZero() {
		l.said = now // a job that is over at once needs no line
	}
	if now.Sub(l.said) >= lineEvery && !j.State.Ended() {
		l.said = now
		fmt.Fprintln(l.w, progressText(j, now))
	}
}

func (l *lineProgress) end() {}

// barProgress is for people.
type barProgress struct {
	notes
	bar   *progressbar.ProgressBar
	limit int64
	doing string
}

const barWidth = 30

func (b *barProgress) look(j admin.Job, note string, _ time.Time) {
	clear := func() {
		if b.bar != nil {
			_ = b.bar.Clear()
		}
	}
	b.changed(note, clear)
	rows, total := jobRows(j)
	if rows == 0 && total == 0 || j.State.Ended() {
		return
	}
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(1, progressbar.OptionSetWriter(b.w), progressbar.OptionSetWidth(barWidth), progressbar.OptionShowCount(),
			progressbar.OptionShowIts(), progressbar.OptionSetItsString("rows"), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())
	}
	// Each of these draws it. A full bar ends itself, and an estimate is often too low: so it is never full.
	if limit := int64(max(total, rows+1)); limit != b.limit {
		b.limit = limit
		b.bar.ChangeMax64(limit)
	}
	if doing := nowDoing(j); doing != b.doing {
		b.doing = doing
		b.bar.Describe(doing)
	}
	_ = b.bar.Set64(int64(rows))
}

func (b *barProgress) end() {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}

// jobRows adds up how many rows were looked at, of about how many; 0: not known.
func jobRows(j admin.Job) (rows, total uint64) {
	known := true
	for _, o := range j.Offices {
		for _, t := range o.Tables {
			rows += t.Rows
			total += max(t.Rows, t.Total)
			known = known && (t.Total > 0 || t.Phase == phaseDone)
		}
	}
	if !known {
		total = 0
	}
	return rows, total
}

// phaseDone is the phase of a table with which nothing more is done.
const phaseDone = "done"

// nowDoing names the tables at work, one for each office.
func nowDoing(j admin.Job) string {
	var parts []string
	for _, o := range j.Offices {
		for _, t := range o.Tables {
			if t.Phase != phaseDone && t.Phase != "" && (t.Rows > 0 || t.Seconds > 0) {
				parts = append(parts, string(o.Office)+" "+printable(t.Table)+" ("+printable(t.Phase)+")")
				break
			}
		}
	}
	if len(parts) == 0 {
		return string(j.Spec.Kind)
	}
	return strings.Join(parts, ", ")
}

// progressText is a job's progress in a line.
func progressText(j admin.Job, now time.Time) string {
	kind := string(j.Spec.Kind)
	if j.Spec.Kind == admin.JobSync {
		return kind + ": " + movedText(j.Moved)
	}
	rows, total := jobRows(j)
	line := fmt.Sprintf("%s: %d rows", kind, rows)
	if total > 0 {
		line = fmt.Sprintf("%s: %d of about %d rows (%d %%)", kind, rows, total, 100*rows/total)
	}
	if passed := now.Sub(j.Started).Seconds(); !j.Started.IsZero() && passed >= 1 && rows > 0 {
		rate := float64(rows) / passed
		line += fmt.Sprintf(", %.0f/s", rate)
		if total > rows {
			line += ", about " + span(time.Duration(float64(total-rows)/rate*float64(time.Second))) + " left"
		}
	}
	if doing := nowDoing(j); doing != kind {
		line += "; " + doing
	}
	return line
}

func movedText(m admin.Moved) string {
	return fmt.Sprintf("sent %s, received %s", countText(m.Sent), countText(m.Received))
}

func countText(c admin.MovedCount) string {
	if c.Changes == 0 { // of what is sent they are not counted
		return fmt.Sprintf("%d transactions", c.Transactions)
	}
	return fmt.Sprintf("%d transactions (%d changes)", c.Transactions, c.Changes)
}

// bar is a fraction drawn in a line of text.
func bar(part, whole uint64) string {
	full := 0
	if whole > 0 {
		full = int(min(barWidth, part*barWidth/whole))
	}
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", barWidth-full) + "]"
}
