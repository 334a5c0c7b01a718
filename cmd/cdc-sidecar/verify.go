package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

type verifyFlags struct {
	slice
	repair, continuous bool
	prefer, extra      string
	rows               uint64
	pause, timeout     time.Duration
}

func (p *program) newVerifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare with the head, row by row; exit code 4 when something differs",
		Long: "Compare a branch with the head, or at the head every branch with it, row by row at one position of the stream, while\n" +
			"everybody goes on working. What was written meanwhile is looked at again before it is called different.\n" +
			"Standard output has a line for each row that differs: table, kind, key, columns, office, with tabs in between. Here is the\n" +
			"branch, there is the head. The table of figures is on standard error. Exit code 0: equal; 4: they differ.\n" +
			"With --repair what differs or is missing comes from the head, and what only the branch has goes up; it waits until that has\n" +
			"arrived, and the exit code is 0 when the two are equal then.",
		Example: "  cdc-sidecar verify\n" +
			"  cdc-sidecar verify --table public.orders --where \"row.branch == 'north'\"\n" +
			"  cdc-sidecar verify --office north --repair\n" +
			"  cdc-sidecar verify --continuous --rows 2000\n" +
			"  cdc-sidecar verify --json | jq .summary",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.runVerify(cmd, &f) },
	}
	f.flags(cmd, "compare")
	flags := cmd.Flags()
	flags.BoolVar(&f.repair, "repair", false, "mend what differs")
	flags.StringVar(&f.prefer, "prefer", "", "with --repair: whose row stays where the two differ: head (default) or branch")
	flags.StringVar(&f.extra, "extra", "", "with --repair: rows that only the branch has: send, delete or keep (default: as its join says)")
	flags.Uint64Var(&f.rows, "rows", 0, "compare at most so many rows a second (default: as the configuration says)")
	flags.BoolVar(&f.continuous, "continuous", false, "again and again, until interrupted")
	flags.DurationVar(&f.pause, "pause", time.Minute, "with --continuous: the time in between")
	flags.DurationVar(&f.timeout, "timeout", 0, "give up after this time, like 30m (default: never)")
	return cmd
}

// spec is what the flags ask for.
func (f *verifyFlags) spec(json bool) (admin.Spec, error) {
	switch {
	case f.continuous && json:
		return admin.Spec{}, errors.New("--json prints one object and --continuous has no end: want one of them")
	case f.pause < 0 || f.timeout < 0:
		return admin.Spec{}, errors.New("--pause and --timeout: want a time, like 10m")
	case !f.repair && (f.prefer != "" || f.extra != ""):
		return admin.Spec{}, errors.New("--prefer and --extra say how to repair: want --repair, too")
	}
	spec := admin.Spec{
		Kind: admin.JobVerify, Table: f.table, Where: f.where, Office: schema.Office(f.office),
		Repair: f.repair, Prefer: f.prefer, Extra: f.extra, Rows: f.rows,
	}
	if _, err := schema.ParseOffice(f.office); f.office != "" && err != nil {
		return spec, fmt.Errorf("--office: %w", err)
	}
	return spec, spec.Check()
}

func (p *program) runVerify(cmd *cobra.Command, f *verifyFlags) error {
	spec, err := f.spec(p.json)
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
	if f.continuous {
		return p.verifyOn(cmd, newClient(c), spec, f)
	}
	return p.verifyOnce(cmd, newClient(c), spec, f.timeout)
}

// verifyOnce prints what one comparison found; its error has the exit code.
func (p *program) verifyOnce(cmd *cobra.Command, c *client, spec admin.Spec, timeout time.Duration) error {
	job, err := p.do(cmd.Context(), c, spec, timeout)
	if job.ID != "" && !p.json {
		fmt.Fprint(p.Err, tablesText(job))
	}
	a := answer{Text: keysText(job), Summary: jobSummary(job), Result: job}
	switch {
	case err != nil:
		return withJob(a, job, err)
	case !equal(job):
		return &failedAnswer{answer: a, code: exitDiffer}
	}
	return p.report(cmd, a)
}

// verifyOn compares again and again. An interrupt is the way to end it: the outcome is the last whole comparison's.
func (p *program) verifyOn(cmd *cobra.Command, c *client, spec admin.Spec, f *verifyFlags) error {
	var last error
	for {
		err := p.verifyOnce(cmd, c, spec, f.timeout)
		var found *failedAnswer
		switch {
		case cmd.Context().Err() != nil:
			return last
		case errors.As(err, &found) && found.code == exitDiffer:
			if err := p.write(cmd, found.answer, false, nil); err != nil {
				return err
			}
			last = &failedAnswer{code: exitDiffer} // printed already
		case err != nil:
			return err
		default:
			last = nil
		}
		fmt.Fprintf(p.Err, "compared at %s; the next comparison begins in %s\n", time.Now().Format(time.DateTime), f.pause)
		if !sleepUntil(cmd.Context(), time.Now().Add(f.pause)) {
			return last
		}
	}
}

// equal reports whether the job proves all tables equal.
func equal(j admin.Job) bool {
	for _, o := range j.Offices {
		for i := range o.Tables {
			if what := o.Tables[i].Outcome(); what != schema.OutcomeEqual && what != schema.OutcomeRepaired {
				return false
			}
		}
	}
	return true
}

// keysText is a line for each row that differs: table, kind, key, columns, office.
func keysText(j admin.Job) string {
	var b strings.Builder
	for _, o := range j.Offices {
		for _, t := range o.Tables {
			for _, k := range t.Keys {
				fmt.Fprintf(&b, "%s\t%s\t%s\t%s\t%s\n", printable(t.Table), k.Kind, printable(k.Key), dash(printable(strings.Join(k.Columns, ", "))), o.Office)
			}
			if t.KeysLeftOut > 0 {
				fmt.Fprintf(&b, "%s\tmore\t%d keys are not named\t-\t%s\n", printable(t.Table), t.KeysLeftOut, o.Office)
			}
		}
	}
	return b.String()
}
