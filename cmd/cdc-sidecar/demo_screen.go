package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"cdc-sidecar/admin"
)

const (
	// An eye that follows numbers wants them to stand for a second; a log wants few lines.
	demoDrawEvery, demoLineEvery = time.Second, 3 * time.Second
	// demoNoted is the width of a note's name.
	demoNoted = 10
)

// demoScreen shows a demonstration: on a terminal a table that is drawn again in its place under the story so far, else a
// line every few seconds.
type demoScreen struct {
	out    io.Writer
	live   bool
	colour bool
	lines  int // of the table that stands on the terminal now
	drawn  time.Time
}

func newDemoScreen(out io.Writer, live bool) *demoScreen {
	return &demoScreen{out: out, live: live, colour: live && os.Getenv("NO_COLOR") == ""}
}

// note is a line of what was prepared or is left.
func (s *demoScreen) note(name, text string) {
	fmt.Fprintf(s.out, "%s%s %-*s %s\n", s.wipe(), s.paint("36", "▸"), demoNoted, name, text)
}

// tell is a line of the story. The table moves down below it.
func (s *demoScreen) tell(at time.Duration, text string) {
	fmt.Fprintf(s.out, "%s%s %s\n", s.wipe(), clockTime(at), s.paint("1", text))
	if s.live {
		s.drawn = time.Time{} // the table is to be back at once
	}
}

// begin says that the show begins: a table stands at once, a line comes when there is something to tell.
func (s *demoScreen) begin() {
	if !s.live {
		s.drawn = time.Now()
	}
}

// due reports whether it is time to draw again.
func (s *demoScreen) due() bool {
	every := demoLineEvery
	if s.live {
		every = demoDrawEvery
	}
	return time.Since(s.drawn) >= every
}

func (s *demoScreen) draw(at time.Duration, sights []demoSight) {
	s.drawn = time.Now()
	if !s.live {
		parts := make([]string, len(sights))
		for i, o := range sights {
			parts[i] = fmt.Sprintf("%s writes %.0f/s applies %.0f/s unsent %d rows %s %s", o.office.Name, o.writesPerSecond, o.appliedPerSecond, o.unsent, o.rows, o.state)
		}
		fmt.Fprintf(s.out, "%s %s\n", clockTime(at), strings.Join(parts, " · "))
		return
	}
	table := s.table(at, sights)
	// Without line wrap for the moment: a narrow terminal cuts lines off, and the count of lines to go up stays right.
	fmt.Fprintf(s.out, "%s\x1b[?7l%s\x1b[?7h", s.wipe(), table)
	s.lines = strings.Count(table, "\n")
}

func (s *demoScreen) table(at time.Duration, sights []demoSight) string {
	var b strings.Builder
	rule := strings.Repeat("─", 72) + "\n"
	b.WriteString(rule)
	b.WriteString(s.paint("2", fmt.Sprintf("%-8s %-10s %9s %10s %8s %9s   %s", "OFFICE", "DATABASE", "WRITES/S", "APPLIED/S", "UNSENT", "ROWS", "STATE")) + "\n")
	for _, o := range sights {
		unsent := fmt.Sprintf("%8d", o.unsent)
		if o.unsent > demoFew {
			unsent = s.paint("33", unsent)
		}
		fmt.Fprintf(&b, "%-8s %-10s %9.0f %10.0f %s %9s   %s\n", o.office.Name, engineOf(o.office.Postgres()), o.writesPerSecond,
			o.appliedPerSecond, unsent, o.rows, s.paint(stateColour(o.state), "● "+o.state))
	}
	b.WriteString(rule)
	fmt.Fprintf(&b, "%s  Ctrl-C stops everything and removes it\n", clockTime(at))
	return b.String()
}

func engineOf(postgres bool) string {
	if postgres {
		return "Postgres"
	}
	return "MariaDB"
}

func stateColour(state string) string {
	switch state {
	case string(admin.Running):
		return "32"
	case string(admin.Degraded), string(admin.Starting):
		return "33"
	default:
		return "31"
	}
}

// wipe takes the table off the terminal, so that something can be written where it stood.
func (s *demoScreen) wipe() string {
	if s.lines == 0 {
		return ""
	}
	up := fmt.Sprintf("\r\x1b[%dA\x1b[J", s.lines)
	s.lines = 0
	return up
}

func (s *demoScreen) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func clockTime(at time.Duration) string { return fmt.Sprintf("%4.0f s", at.Seconds()) }
