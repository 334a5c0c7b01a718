package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

// watchEvery is how often status --watch looks: a person's eye follows no faster, and one look costs next to nothing.
const watchEvery = 2 * time.Second

func (p *program) newStatusCommand() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Every office at a glance, as the running sidecar sees it",
		Example: "  cdc-sidecar status\n" +
			"  cdc-sidecar status --watch\n" +
			"  cdc-sidecar status --json | jq .result.peers",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch && p.json {
				return &usageError{fmt.Errorf("--json prints one object and --watch has no end: want one of them")}
			}
			c, err := LoadConfig(p.configPath)
			if err != nil {
				return err
			}
			if watch {
				return p.watchStatus(cmd, newClient(c))
			}
			return p.showStatus(cmd, newClient(c), "")
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again every 2 seconds, until interrupted")
	return cmd
}

func (p *program) showStatus(cmd *cobra.Command, c *client, before string) error {
	var s admin.Status
	if err := c.call(cmd.Context(), http.MethodGet, "/api/v1/status", &s); err != nil {
		return err
	}
	return p.report(cmd, answer{
		Text: before + statusText(s, time.Now()),
		Summary: map[string]any{
			"state": s.State, "unsent": s.Journal.Unsent(), "conflicts": s.Conflicts.Total, "open": s.Conflicts.Open, "parked": s.Parked, "held_ddl": s.DDL.Held, "failed_ddl": s.DDL.Failed,
			"drift": driftCount(&s), "reasons": s.Reasons(),
		},
		Result: s,
	})
}

// watchStatus goes on while the sidecar is away too: that is when one looks.
func (p *program) watchStatus(cmd *cobra.Command, c *client) error {
	clear := ""
	if isTerminal(p.Out) {
		clear = "\x1b[H\x1b[2J"
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if err := p.showStatus(cmd, c, clear); err != nil && cmd.Context().Err() == nil {
			fmt.Fprintf(p.Out, "%s%v\n", clear, err)
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-tick.C:
		}
	}
}

// statusText is the table of this office and its peers, then one line for each thing that is not as it should be.
func statusText(s admin.Status, now time.Time) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "OFFICE\tROLE\tSTATE\tCAPTURE LAG\tUNSENT\tLAST APPLIED\tLAST HEARD\tCONFLICTS\tPARKED\tTIME LEFT")
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\n", s.Office, roleAndEngine(string(s.Role), string(s.Engine)), s.State,
		captureLag(s.Capture), s.Journal.Unsent(), ago(s.Apply.LastApplied, now), "(this one)", conflictCounts(s.Role, s.Conflicts), s.Parked, left(s.RetentionDeadline, now))
	for _, p := range s.Peers {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\n", p.Office, roleAndEngine(string(p.Role), string(p.Engine)), p.State,
			"-", p.Unacknowledged, ago(p.LastApplied, now), ago(p.LastHeard, now), conflictCounts(s.Role, p.Conflicts), p.Parked, "-")
	}
	_ = w.Flush() // into memory
	fmt.Fprintf(&b, "journal %s of %s, transactions %d to %d, sent to %d, applied everywhere to %d; program %s\n",
		size(s.Journal.Bytes), size(s.Journal.Budget), s.Journal.First, s.Journal.Last, s.Journal.Published, s.Journal.Released, s.Version)
	b.WriteString(syncStateText(s.Sync, now))
	for _, reason := range s.Reasons() {
		fmt.Fprintf(&b, "! %s\n", reason)
	}
	if s.Joining != nil {
		b.WriteString(joiningText(s.Joining))
	}
	if n := s.Conflicts.Open; n > 0 {
		fmt.Fprintf(&b, "! conflicts that wait for a person: %d (cdc-sidecar conflicts list --state open)\n", n)
	}
	if n := s.Parked; n > 0 {
		fmt.Fprintf(&b, "! parked changes: %d (another row has their unique key, their table is not here as they need it, or they stand behind one that is parked)\n", n)
	}
	for _, w := range s.Waiting {
		needs := w.Needs
		if needs == "" {
			needs = "another row has their unique key"
		}
		fmt.Fprintf(&b, "  %s: %d: %s\n", printable(w.Table), w.Changes, printable(needs))
	}
	b.WriteString(schemaChangesText(s.DDL))
	b.WriteString(driftText(&s))
	for _, f := range s.Findings {
		fmt.Fprintf(&b, "! %s\n", f.Message)
	}
	for _, notice := range s.Notices {
		fmt.Fprintf(&b, "note: %s\n", notice)
	}
	return b.String()
}

// syncStateText is the line about manual and scheduled synchronisation; empty in realtime.
func syncStateText(s admin.Sync, now time.Time) string {
	if s.Mode == "" || s.Mode == admin.SyncRealtime {
		return ""
	}
	line := "sync: " + s.Mode
	switch {
	case s.Open:
		line += ", open now"
	case s.Next.IsZero():
		line += ", closed until the next one (cdc-sidecar sync --wait)"
	default:
		line += fmt.Sprintf(" (%s), closed until the next one in %s", s.Schedule, span(max(0, s.Next.Sub(now))))
	}
	last := "never"
	if !s.Last.IsZero() {
		last = ago(s.Last, now)
	}
	return line + ", last " + last + "\n"
}

// joiningText is a line with a bar for each table that is not done, and one for all that are.
func joiningText(j *admin.Joining) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	done := 0
	for _, t := range j.Tables {
		if t.State == admin.JoinDone {
			done++
			continue
		}
		about, rate, remaining := "?", "-", "-"
		if t.Total > 0 {
			about = strconv.FormatUint(max(t.Total, t.Rows), 10)
		}
		if t.RowsPerSecond > 0 {
			rate = fmt.Sprintf("%.0f/s", t.RowsPerSecond)
		}
		if t.Remaining > 0 {
			remaining = span(time.Duration(t.Remaining*float64(time.Second))) + " left"
		}
		fmt.Fprintf(w, "  %s\t%s\t%d of about %s rows\t%s\t%s\n", printable(t.Table), bar(t.Rows, max(t.Total, t.Rows)), t.Rows, about, rate, remaining)
	}
	_ = w.Flush() // into memory
	fmt.Fprintf(&b, "  tables done: %d of %d\n", done, len(j.Tables))
	return b.String()
}

// conflictCounts is a dash at a branch: the head counts them.
func conflictCounts(here schema.Role, c admin.ConflictCounts) string {
	switch {
	case here != schema.Head:
		return "-"
	case c.Open > 0:
		return fmt.Sprintf("%d, %d open", c.Total, c.Open)
	default:
		return strconv.FormatUint(c.Total, 10)
	}
}

func roleAndEngine(role, engine string) string {
	if engine == "" {
		return role
	}
	return role + " " + engine
}

func captureLag(c admin.Capture) string {
	if c.LastCommit.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%.1f s", c.LagSeconds)
}

// left is how long it takes until the database's log loses our place; a dash while nothing threatens.
func left(deadline, now time.Time) string {
	switch {
	case deadline.IsZero():
		return "-"
	case deadline.Before(now):
		return "over"
	default:
		return span(deadline.Sub(now))
	}
}
