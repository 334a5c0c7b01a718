package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"cdc-sidecar/admin"
)

// The widest that a table shows of one value; --json has all of it.
const (
	widestKey   = 40
	widestValue = 48
)

// conflictsText is a line for each entry.
func conflictsText(list admin.ConflictList) string {
	if len(list.Conflicts) == 0 {
		return "the conflict log has no such entry\n"
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tWHEN\tTABLE\tKEY\tKIND\tBETWEEN\tPOLICY\tWINNER\tSTATE")
	for _, c := range list.Conflicts {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s ⇄ %s\t%s\t%s\t%s\n", c.ID, moment(c.DecidedAt), cut(printable(c.Table), widestKey), cut(printable(c.Key), widestKey),
			printable(c.Kind), dash(string(c.Local.Office)), dash(string(c.Remote.Office)), cut(printable(c.Policy), widestKey), c.Winner, stateText(c))
	}
	_ = w.Flush() // into memory
	if list.More {
		b.WriteString("older ones follow: --limit N, or --all\n")
	}
	return b.String()
}

func stateText(c admin.Conflict) string {
	if c.State == admin.ConflictResolved && c.Taken != "" {
		return c.State + ", " + c.Taken
	}
	return c.State
}

// conflictText is one entry: what met, both rows side by side, what was taken, and how to take the other. The commands in
// it begin with program.
func conflictText(c admin.Conflict, program string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "conflict %d: %s %s, %s\n", c.ID, printable(c.Table), printable(c.Key), printable(c.Kind))
	fmt.Fprintf(&b, "%s, policy %s: %s\n", moment(c.DecidedAt), printable(c.Policy), outcome(c))
	switch c.State {
	case admin.ConflictOpen:
		b.WriteString("it waits for a person\n")
	case admin.ConflictParked:
		b.WriteString("the change is parked: another row has its unique key; it is applied as soon as one of the two is changed or deleted\n")
	case admin.ConflictResolved:
		b.WriteString(resolution(c) + "\n")
	}
	b.WriteString("\n")
	if err := sideBySide(&b, c); err != nil {
		return "", fmt.Errorf("conflict %d: %w", c.ID, err)
	}
	if c.State != admin.ConflictResolved {
		b.WriteString("\n")
		for _, take := range []string{admin.TakeLocal, admin.TakeRemote} {
			if take != c.Winner && (c.State != admin.ConflictParked || take == admin.TakeLocal) { // a parked row has no place to be taken to
				fmt.Fprintf(&b, "to take %s: %s conflicts resolve %d --take %s\n", sideText(c, take), program, c.ID, take)
			}
		}
	}
	return b.String(), nil
}

// resolution is what became of an entry after it was written. A parked change may have found its place by itself.
func resolution(c admin.Conflict) string {
	if c.Taken == "" {
		return moment(c.ResolvedAt) + ", the unique key was free again: the parked change was applied"
	}
	return moment(c.ResolvedAt) + ", resolved by a person: " + sideText(c, c.Taken) + " was taken"
}

func outcome(c admin.Conflict) string {
	switch c.Winner {
	case admin.TakeLocal:
		return sideText(c, c.Winner) + " stayed"
	case admin.TakeRemote:
		return sideText(c, c.Winner) + " was taken"
	case "merged":
		return "both were merged"
	default:
		return "not decided; the head's row stays as it is"
	}
}

// sideText names one side of the conflict.
func sideText(c admin.Conflict, take string) string {
	remote, none := take == admin.TakeRemote, []byte("null")
	switch {
	case remote && bytes.Equal(c.Remote.Row, none):
		return "the delete of " + dash(string(c.Remote.Office))
	case remote:
		return "the row of " + dash(string(c.Remote.Office))
	case bytes.Equal(c.Local.Row, none):
		return "the head's side (no row)"
	default:
		return "the head's row"
	}
}

// image is a row with its columns in their order.
type image struct {
	names  []string
	values map[string]string
}

// column is one image of the table that sideBySide writes.
type column struct {
	title string
	image *image
}

// sideBySide writes the two rows, the one that the change was made from where the log has it, and the outcome, a line for
// each column of the row.
func sideBySide(b *strings.Builder, c admin.Conflict) error {
	columns := []column{{title: "LOCAL: head"}, {title: "REMOTE: " + dash(string(c.Remote.Office))}, {title: "REMOTE BEFORE"}, {title: "RESULT"}}
	var names []string
	for i, raw := range []json.RawMessage{c.Local.Row, c.Remote.Row, c.Remote.Before, c.Result} {
		var err error
		if columns[i].image, err = imageOf(raw); err != nil {
			return fmt.Errorf("%s: %w", columns[i].title, err)
		}
		if columns[i].image == nil {
			columns[i].title += " (no row)"
			continue
		}
		for _, name := range columns[i].image.names {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	local, remote := columns[0].image, columns[1].image
	columns = slices.DeleteFunc(columns, func(c column) bool { return c.title == "REMOTE BEFORE (no row)" })
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 3, ' ', 0)
	fmt.Fprint(w, "  COLUMN")
	for _, column := range columns {
		fmt.Fprint(w, "\t", column.title)
	}
	rest := strings.Repeat("\t", len(columns)-2)
	fmt.Fprintf(w, "\n  (changed by)\t%s\t%s%s\n", dash(string(c.Local.Office)), dash(string(c.Remote.Office)), rest)
	fmt.Fprintf(w, "  (stamp)\t%s\t%s%s\n", stampText(c.Local), stampText(c.Remote), rest)
	differ, wide := false, false
	for _, name := range names {
		mark := " "
		if differs(local, remote, name) {
			mark, differ = "*", true
		}
		fmt.Fprintf(w, "%s %s", mark, cut(printable(name), widestKey))
		for _, column := range columns {
			value := column.image.cell(name)
			wide = wide || cut(value, widestValue) != value
			fmt.Fprint(w, "\t", cut(value, widestValue))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // into memory
	for line := range strings.Lines(table.String()) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	if differ {
		b.WriteString("* differs between local and remote\n")
	}
	if wide {
		b.WriteString("long values are cut here; --json has all of them\n")
	}
	return nil
}

// imageOf reads the JSON object of a row; nil when there is none.
func imageOf(raw json.RawMessage) (*image, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, fmt.Errorf("not a JSON object")
	}
	row := &image{values: map[string]string{}}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		text := fmt.Sprint(name)
		row.names = append(row.names, text)
		row.values[text] = string(value)
	}
	return row, nil
}

// differs reports two values that are known and not the same.
func differs(a, b *image, name string) bool {
	if a == nil || b == nil {
		return false
	}
	left, known := a.values[name]
	right, alsoKnown := b.values[name]
	return known && alsoKnown && left != right
}

// cell is a value for people: text without its quotes, unless it could be taken for something else.
func (i *image) cell(name string) string {
	if i == nil {
		return ""
	}
	value, known := i.values[name]
	var text string
	switch {
	case !known:
		return "(not in the log)"
	case value == "null":
		return "NULL"
	case json.Unmarshal([]byte(value), &text) != nil:
		return printable(value)
	case text == "" || text == "NULL" || strings.TrimSpace(text) != text:
		return strconv.Quote(text)
	default:
		return printable(text)
	}
}

// printable keeps what came out of a database from moving the cursor of whoever looks at it.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}

// cut shortens s to at most n characters.
func cut(s string, n int) string {
	if runes := []rune(s); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return s
}

// moment is a time to the second, in UTC: offices may lie in several zones.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// stampText is a stamp: its time, and its counter where that matters.
func stampText(s admin.ConflictSide) string {
	if s.At.IsZero() {
		return "-"
	}
	text := s.At.UTC().Format("2006-01-02 15:04:05.000Z")
	if s.Counter > 0 {
		text += fmt.Sprintf(" +%d", s.Counter)
	}
	return text
}
