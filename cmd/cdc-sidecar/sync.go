package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

// slice is which rows of which tables and offices a job is about, as the flags say.
type slice struct {
	table, where, office string
}

func (s *slice) flags(cmd *cobra.Command, verb string) {
	flags := cmd.Flags()
	flags.StringVar(&s.table, "table", "", verb+" tables of this name, like public.orders or 'public.*'")
	flags.StringVar(&s.where, "where", "", "of those only rows that meet this expression, like \"row.branch == 'north'\"")
	flags.StringVar(&s.office, "office", "", "at the head: only this branch (default: every member)")
}

// check finds what cannot be meant at this office.
func (s *slice) check(c Config) error {
	switch {
	case s.where != "" && s.table == "":
		return errors.New("--where is about the rows of a table: want --table, too")
	case s.office == "":
		return nil
	}
	office, err := schema.ParseOffice(s.office)
	switch {
	case err != nil:
		return fmt.Errorf("--office: %w", err)
	case c.Role == schema.Branch && office != c.Office:
		return fmt.Errorf("--office %s: this is branch %s, which deals with the head only; ask at the head", office, c.Office)
	case c.Role == schema.Head && office == c.Office:
		return fmt.Errorf("--office %s: this is the head itself; name a branch", office)
	}
	return nil
}

type syncFlags struct {
	slice
	wait                bool
	mode, prefer, extra string
	timeout             time.Duration
}

func (p *program) newSyncCommand() *cobra.Command {
	var f syncFlags
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "Synchronise now, or send a table again",
		Long: "Synchronise now: what waits here is sent, what waits for this office is taken, and with sync: manual or a schedule the\n" +
			"line is closed again. With --table the rows of a table are compared with the head's instead, and the head's are sent to the\n" +
			"branch where the two differ; that waits until it is done, unless --wait=false is given.\n" +
			"The running sidecar does it. An outage is waited out; an interrupt ends it.",
		Example: "  cdc-sidecar sync --wait\n" +
			"  cdc-sidecar sync --table public.orders\n" +
			"  cdc-sidecar sync --table public.orders --where \"row.branch == 'north'\" --office north\n" +
			"  cdc-sidecar sync --table 'public.*' --mode replace --json",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.runSync(cmd, &f) },
	}
	f.flags(cmd, "send again")
	flags := cmd.Flags()
	flags.BoolVar(&f.wait, "wait", false, "wait until everything has moved, and say what did")
	flags.StringVar(&f.mode, "mode", "", "with --table: diff (only what differs is sent; default) or replace (every row)")
	flags.StringVar(&f.prefer, "prefer", "", "with --table: whose row stays where the two differ: head (default) or branch")
	flags.StringVar(&f.extra, "extra", "", "with --table: rows that only the branch has: send, delete or keep (default: as its join says)")
	flags.DurationVar(&f.timeout, "timeout", 0, "give up after this time, like 30m (default: never)")
	return cmd
}

// spec is what the flags ask for.
func (f *syncFlags) spec() (admin.Spec, error) {
	if f.table == "" {
		if f.where != "" || f.office != "" || f.mode != "" || f.prefer != "" || f.extra != "" {
			return admin.Spec{}, errors.New("--where, --office, --mode, --prefer and --extra say how to send a table again: want --table, too")
		}
		return admin.Spec{Kind: admin.JobSync}, nil
	}
	spec := admin.Spec{
		Kind: admin.JobResync, Table: f.table, Where: f.where, Office: schema.Office(f.office), Mode: f.mode, Prefer: f.prefer, Extra: f.extra,
	}
	return spec, spec.Check()
}

func (p *program) runSync(cmd *cobra.Command, f *syncFlags) error {
	spec, err := f.spec()
	if err != nil {
		return &usageError{err}
	}
	c, err := LoadConfig(p.configPath)
	if err != nil {
		return err
	}
	if err := f.check(c); err != nil {
		return &usageError{err}
	}
	client, wait := newClient(c), f.wait
	if spec.Kind == admin.JobResync && !cmd.Flags().Changed("wait") {
		wait = true
	}
	if !wait {
		return p.startOnly(cmd, client, spec)
	}
	job, err := p.do(cmd.Context(), client, spec, f.timeout)
	a := answer{Text: syncText(job), Summary: jobSummary(job), Result: job}
	if err != nil {
		return withJob(a, job, err)
	}
	return p.report(cmd, a)
}

// withJob is an error together with what there is of the job.
func withJob(a answer, job admin.Job, err error) error {
	if job.ID == "" {
		return err
	}
	return &failedAnswer{answer: a, code: exitCode(err), cause: err}
}

func (p *program) startOnly(cmd *cobra.Command, c *client, spec admin.Spec) error {
	var started admin.StartedJob
	if err := c.post(cmd.Context(), "/api/v1/jobs", spec, &started); err != nil {
		return err
	}
	return p.report(cmd, answer{
		Text:    fmt.Sprintf("the sidecar does it (job %s)\n", printable(started.ID)),
		Summary: map[string]any{"job": started.ID}, Result: started,
	})
}

// syncText says what moved.
func syncText(j admin.Job) string {
	if j.Spec.Kind == admin.JobSync {
		return movedText(j.Moved) + "\n"
	}
	return tablesText(j)
}

// tablesText is a line for each table of each office.
func tablesText(j admin.Job) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "OFFICE\tTABLE\tROWS\tEQUAL\tDIFFERENT\tMISSING HERE\tMISSING THERE\tDISPUTED\tIN FLIGHT\tREPAIRED\tSENT\tREMOVED\tOUTCOME")
	for _, o := range j.Offices {
		for i := range o.Tables {
			t := &o.Tables[i]
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", o.Office, printable(t.Table), t.Rows, t.Equal, t.Different,
				t.MissingHere, t.MissingThere, t.Disputed, t.InFlight, t.Repaired, t.Sent, t.Removed, outcomeText(o, t))
		}
	}
	_ = w.Flush() // into memory
	if b.Len() == 0 || len(j.Offices) == 0 {
		return "no office was compared\n"
	}
	return b.String() + "here is the office of the line, there is the head\n"
}

// outcomeText does not call equal what was not looked at to its end.
func outcomeText(o admin.OfficeReport, t *admin.TableReport) string {
	if o.State != admin.JobDone {
		return string(o.State)
	}
	return t.Outcome()
}

// jobSummary is the job in a few numbers.
func jobSummary(j admin.Job) map[string]any {
	if j.Spec.Kind == admin.JobSync {
		return map[string]any{"state": j.State, "sent": j.Moved.Sent.Transactions, "received": j.Moved.Received.Transactions}
	}
	var sum schema.TableReport
	tables := map[string]int{schema.OutcomeEqual: 0, schema.OutcomeDifferent: 0}
	for _, o := range j.Offices {
		for i := range o.Tables {
			t := &o.Tables[i]
			tables[outcomeText(o, t)]++
			sum.Rows, sum.Equal, sum.Different = sum.Rows+t.Rows, sum.Equal+t.Equal, sum.Different+t.Different
			sum.MissingHere, sum.MissingThere, sum.Disputed = sum.MissingHere+t.MissingHere, sum.MissingThere+t.MissingThere, sum.Disputed+t.Disputed
			sum.InFlight, sum.Repaired, sum.Sent, sum.Removed = sum.InFlight+t.InFlight, sum.Repaired+t.Repaired, sum.Sent+t.Sent, sum.Removed+t.Removed
		}
	}
	return map[string]any{
		"state": j.State, "offices": len(j.Offices), "tables": tables, "rows": sum.Rows, "equal": sum.Equal, "different": sum.Different,
		"missing_here": sum.MissingHere, "missing_there": sum.MissingThere, "disputed": sum.Disputed, "in_flight": sum.InFlight,
		"repaired": sum.Repaired, "sent": sum.Sent, "removed": sum.Removed,
	}
}
