package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"cdc-sidecar/schema"
)

// checkTimeout bounds one group of checks: a server that takes longer to answer a handful of catalog queries is one that
// the sidecar could not work with either.
const checkTimeout = 30 * time.Second

// checkGroup is a heading of doctor's report and the checks below it.
type checkGroup struct {
	name string
	run  func(context.Context) []schema.Finding
}

// groupFindings is a group's outcome.
type groupFindings struct {
	checkGroup
	findings []schema.Finding
}

// groupedFinding is a finding as --json lists it.
type groupedFinding struct {
	Group string `json:"group"`
	schema.Finding
}

// tally counts findings by grade; it is the summary of --json.
type tally struct {
	Passed   int `json:"passed"`
	Warnings int `json:"warnings"`
	Failures int `json:"failures"`
}

func (p *program) newDoctorCommand() *cobra.Command {
	var printSQL bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check configuration, database, tables, privileges, broker and disk; say what fixes what is wrong",
		Long: "Check configuration, database, tables, privileges, broker and disk; say what fixes what is wrong.\n" +
			"It changes nothing. Exit code 0: no failure (warnings may be there), 2: configuration, 3: environment.",
		Example: "  cdc-sidecar doctor\n" +
			"  cdc-sidecar doctor --print-sql > fixes.sql",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := LoadConfig(p.configPath)
			if err != nil {
				return err
			}
			return p.examine(cmd, c, printSQL)
		},
	}
	cmd.Flags().BoolVar(&printSQL, "print-sql", false, "print only the statements that fix what was found")
	return cmd
}

func (p *program) examine(cmd *cobra.Command, c Config, printSQL bool) error {
	groups := runChecks(cmd.Context(), checkGroups(c))
	if err := cmd.Context().Err(); err != nil {
		return err
	}
	count := count(groups)
	a := answer{Summary: count, Result: map[string]any{"findings": flat(groups)}}
	if printSQL {
		a.Text = fixes(groups)
	} else {
		title := fmt.Sprintf("cdc-sidecar %s doctor: office %s (%s, %s)\n", version, c.Office, c.Role, c.Database)
		a.Text = title + findingsText(groups, marksFor(isTerminal(p.Out))) + closing(count)
	}
	if count.Failures > 0 {
		return &failedAnswer{answer: a, code: exitEnvironment}
	}
	return p.report(cmd, a)
}

// runChecks runs the groups side by side and gives their findings in order.
func runChecks(ctx context.Context, groups []checkGroup) []groupFindings {
	all := make([]groupFindings, len(groups))
	var wait sync.WaitGroup
	for i, g := range groups {
		wait.Go(func() { all[i] = groupFindings{g, runGroup(ctx, g)} })
	}
	wait.Wait()
	return all
}

// runGroup answers in bounded time and in any case: a check that hangs or panics is a finding like another. One that
// hangs is left behind; the process ends soon.
func runGroup(ctx context.Context, g checkGroup) []schema.Finding {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	found := make(chan []schema.Finding, 1)
	failed := func(message, cause string) []schema.Finding {
		return []schema.Finding{{Check: strings.ToLower(g.name), Severity: schema.Failure, Message: message, Cause: cause}}
	}
	go func() {
		defer func() {
			if broken := recover(); broken != nil {
				found <- failed(fmt.Sprintf("the check itself is broken: %v", broken), string(debug.Stack()))
			}
		}()
		found <- g.run(ctx)
	}()
	select {
	case f := <-found:
		return f
	case <-ctx.Done():
		return failed(fmt.Sprintf("no answer within %d s", int(checkTimeout.Seconds())), "the server or the link to it does not respond")
	}
}

func flat(groups []groupFindings) []groupedFinding {
	all := []groupedFinding{}
	for _, g := range groups {
		for _, f := range g.findings {
			all = append(all, groupedFinding{g.name, f})
		}
	}
	return all
}

func count(groups []groupFindings) tally {
	var t tally
	for _, g := range groups {
		for _, f := range g.findings {
			switch f.Severity {
			case schema.Failure:
				t.Failures++
			case schema.Warning:
				t.Warnings++
			default:
				t.Passed++
			}
		}
	}
	return t
}

// marks are the signs before a finding.
type marks struct{ fine, warning, failure, fix string }

// marksFor gives signs to terminals and letters to files, mails and old consoles.
func marksFor(terminal bool) marks {
	if terminal {
		return marks{"✓", "⚠", "✗", "→"}
	}
	return marks{"[OK]  ", "[WARN]", "[FAIL]", "fix:"}
}

func findingsText(groups []groupFindings, m marks) string {
	var b strings.Builder
	for _, g := range groups {
		fmt.Fprintf(&b, "\n%s\n", g.name)
		for _, f := range g.findings {
			mark := m.fine
			switch f.Severity {
			case schema.Warning:
				mark = m.warning
			case schema.Failure:
				mark = m.failure
			}
			fmt.Fprintf(&b, "  %s %-24s %s\n", mark, f.Check, indent(f.Message))
			if f.Cause != "" {
				fmt.Fprintf(&b, "      %s\n", indent(f.Cause))
			}
			if f.Fix != "" && f.Severity != schema.Fine {
				fmt.Fprintf(&b, "      %s %s\n", m.fix, indent(f.Fix))
			}
		}
	}
	return b.String()
}

func closing(t tally) string {
	s := fmt.Sprintf("\n%d passed, %d warnings, %d failures", t.Passed, t.Warnings, t.Failures)
	if t.Failures > 0 {
		return s + "; mend the failures, then run doctor again\n"
	}
	return s + "\n"
}

func indent(text string) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n      ")
}

// fixes is a script for the database's administrator; what is not SQL stands in it as a comment.
func fixes(groups []groupFindings) string {
	var b strings.Builder
	for _, g := range groups {
		for _, f := range g.findings {
			if f.Severity == schema.Fine || f.Fix == "" {
				continue
			}
			fmt.Fprintf(&b, "-- %s: %s\n", f.Check, comment(f.Message))
			if isSQL(f.Fix) {
				fmt.Fprintf(&b, "%s\n", script([]string{f.Fix}))
			} else {
				fmt.Fprintf(&b, "-- not SQL: %s\n\n", comment(f.Fix))
			}
		}
	}
	if b.Len() == 0 {
		return "-- nothing to fix\n"
	}
	return b.String()
}

// sqlWords begin the statements that mend something.
var sqlWords = []string{"ALTER", "CALL", "CREATE", "DELETE", "DO", "DROP", "FLUSH", "GRANT", "INSERT", "REVOKE", "SELECT", "SET", "UPDATE"}

// isSQL tells a statement from a setting or a command line. What begins with a comment counts as a statement.
func isSQL(fix string) bool {
	first, _, _ := strings.Cut(strings.TrimSpace(fix), " ")
	return slices.Contains(sqlWords, first) || strings.HasPrefix(first, "--")
}

func comment(text string) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n-- ")
}
