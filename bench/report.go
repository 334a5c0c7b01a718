package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// report is what a run found out.
type report struct {
	command  string
	size     string // quick or full
	date     time.Time
	took     time.Duration
	machine  string
	commit   string
	versions []string
	chapters []*chapter
}

// chapter is a section's part.
type chapter struct {
	section section
	figures []figure
	notes   []string
}

func newReport(ctx context.Context, o options) *report {
	return &report{
		command: strings.TrimSpace("bin/bench " + strings.Join(o.args, " ")), size: o.size(), date: time.Now(),
		machine: machine(), commit: commit(ctx), versions: []string{"Go: " + runtime.Version()},
	}
}

func (r *report) begin(s section) { r.chapters = append(r.chapters, &chapter{section: s}) }

// add puts figures into the present section.
func (r *report) add(figures ...figure) {
	c := r.chapters[len(r.chapters)-1]
	c.figures = append(c.figures, figures...)
}

// note puts a line into the present section: what was compared and found equal, what a reader must know.
func (r *report) note(format string, args ...any) {
	c := r.chapters[len(r.chapters)-1]
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

// deliver writes the tables to out, and everything to the file if one is named.
func (r *report) deliver(out io.Writer, file string) error {
	if _, err := out.Write(r.text()); err != nil {
		return err
	}
	if file == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, r.markdown(), 0o644); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nwritten to %s\n", file)
	return err
}

// quickWarning goes with every quick report.
const quickWarning = "A quick run: sizes are small and rounds few, and the figures carry the time that sidecars and subscriptions take to start. Judge by a full one."

// text is the report for a terminal.
func (r *report) text() []byte {
	var w bytes.Buffer
	for _, c := range r.chapters {
		fmt.Fprintf(&w, "\n%s\n", strings.ToUpper(c.section.title))
		for _, t := range c.tables() {
			fmt.Fprintf(&w, "\n%s\n", t.heading)
			w.WriteString(t.aligned())
		}
		for _, n := range c.notes {
			fmt.Fprintf(&w, "  %s\n", n)
		}
	}
	if r.size == "quick" {
		fmt.Fprintf(&w, "\n%s\n", quickWarning)
	}
	fmt.Fprintf(&w, "\n%s\n", strings.Join(r.verdict(), "\n"))
	return w.Bytes()
}

// markdown is the report for docs/benchmarks.
func (r *report) markdown() []byte {
	var w bytes.Buffer
	fmt.Fprintf(&w, "# Benchmark of %s, %s\n\n", r.date.Format(time.DateOnly), r.size)
	fmt.Fprintf(&w, "- Command: `%s`, %s\n- Machine: %s\n- Commit: %s\n", r.command, r.took.Round(time.Second), r.machine, r.commit)
	for _, v := range r.versions {
		fmt.Fprintf(&w, "- %s\n", v)
	}
	if r.size == "quick" {
		fmt.Fprintf(&w, "\n%s\n", quickWarning)
	}
	fmt.Fprintf(&w, "\n%s\n", howToRead)
	for _, c := range r.chapters {
		fmt.Fprintf(&w, "\n## %s\n\n%s\n", c.section.title, c.section.about)
		for _, t := range c.tables() {
			fmt.Fprintf(&w, "\n### %s\n\n%s", t.heading, t.markdown())
		}
		if len(c.notes) > 0 {
			w.WriteString("\n")
		}
		for _, n := range c.notes {
			fmt.Fprintf(&w, "- %s\n", n)
		}
	}
	w.WriteString("\n## Musts\n\n")
	for _, line := range r.verdict() {
		fmt.Fprintf(&w, "- %s\n", strings.TrimSpace(line))
	}
	return w.Bytes()
}

const howToRead = "Figures are medians, with the lowest and the highest round in parentheses. A ratio is the median of ours divided by the median of the other, " +
	"so above 1 ours is faster; its spread is that of the rounds' own ratios, of which each compares two measurements made one after the other. " +
	"“≥ 0.5 [0.8] met” is a must of 0.5 with an aim of 0.8."

// verdict says which musts are not met.
func (r *report) verdict() []string {
	musts, failed := 0, []string{}
	for _, c := range r.chapters {
		for _, f := range c.figures {
			if f.must == nil {
				continue
			}
			if musts++; !f.met() {
				failed = append(failed, "  "+f.failure())
			}
		}
	}
	if musts == 0 {
		return []string{"No musts were measured."}
	}
	return append([]string{fmt.Sprintf("%d of %d musts are met.", musts-len(failed), musts)}, failed...)
}

// table is one of a chapter's tables as text.
type table struct {
	heading string
	cells   [][]string // the first row is the head
}

func (c *chapter) tables() []table {
	var headings []string
	for _, f := range c.figures {
		headings = appendNew(headings, f.table)
	}
	var out []table
	for _, heading := range headings {
		var rows, columns []string
		for _, f := range c.figures {
			if f.table == heading {
				rows, columns = appendNew(rows, f.row), appendNew(columns, f.column)
			}
		}
		t := table{heading: heading, cells: [][]string{append([]string{""}, columns...)}}
		for _, row := range rows {
			t.cells = append(t.cells, append([]string{row}, make([]string, len(columns))...))
		}
		for _, f := range c.figures {
			if f.table == heading {
				t.cells[1+slices.Index(rows, f.row)][1+slices.Index(columns, f.column)] = f.String()
			}
		}
		out = append(out, t)
	}
	return out
}

func appendNew(all []string, s string) []string {
	if slices.Contains(all, s) {
		return all
	}
	return append(all, s)
}

func (t table) aligned() string {
	widths := make([]int, len(t.cells[0]))
	for _, row := range t.cells {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var w strings.Builder
	for _, row := range t.cells {
		line := ""
		for i, cell := range row {
			line += cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2)
		}
		w.WriteString("  " + strings.TrimRight(line, " ") + "\n")
	}
	return w.String()
}

func (t table) markdown() string {
	var w strings.Builder
	for i, row := range t.cells {
		w.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			w.WriteString("|" + strings.Repeat(" --- |", len(row)) + "\n")
		}
	}
	return w.String()
}
