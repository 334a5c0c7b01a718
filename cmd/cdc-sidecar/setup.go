package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (p *program) newSetupCommand() *cobra.Command {
	var printSQL bool
	var every, offset int64
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Create what is ours in the office's database (run does it too, where it may); interleave generated keys",
		Long: "Create what is ours in the office's database (run does it too, where it may).\n" +
			"It may be repeated. With --print-sql nothing is created, and a DBA gets the statements that are missing.\n\n" +
			"With --interleave N, keys that the database makes up (serial, identity, AUTO_INCREMENT) of tables with flow: both\n" +
			"become this office's own: every Nth number, beginning with its --offset, so that no two offices give one key to two\n" +
			"rows. N is the same at every office and more than there will ever be offices; no two have the same offset. Of MySQL\n" +
			"and MariaDB it is a setting of the whole server. Only this changes what is the application's, and only when asked.",
		Example: "  cdc-sidecar setup\n" +
			"  cdc-sidecar setup --print-sql > setup.sql\n" +
			"  cdc-sidecar setup --interleave 16 --offset 3",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := LoadConfig(p.configPath)
			if err != nil {
				return err
			}
			share, err := interleavingFor(c, cmd.Flags().Changed("interleave"), every, offset)
			if err != nil {
				return err
			}
			statements, err := setUp(cmd.Context(), c, share, printSQL)
			if err != nil {
				return outside(fmt.Errorf("set up %s: %w", c.Database, err))
			}
			if printSQL {
				return p.printStatements(cmd, statements)
			}
			return p.report(cmd, answer{
				Text:    setupDone(c, statements),
				Summary: map[string]int{"statements": len(statements)},
				Result:  map[string][]string{"statements": statements},
			})
		},
	}
	cmd.Flags().BoolVar(&printSQL, "print-sql", false, "print the statements and change nothing")
	cmd.Flags().Int64Var(&every, "interleave", 0, "make generated keys this office's own: one of every `N` numbers")
	cmd.Flags().Int64Var(&offset, "offset", 0, "this office's number, 1 to N, for --interleave (default: the head is 1; a branch must say it)")
	return cmd
}

// setUp creates what is ours, and interleaves the generated keys if share says so; with plan it only looks what is
// missing. It returns the statements. What must be refused is refused before anything is changed.
func setUp(ctx context.Context, c Config, share interleaving, plan bool) ([]string, error) {
	var keys []string
	act := toolsFor(c).Setup
	if plan {
		act = toolsFor(c).Plan
	}
	if share.every == 0 {
		return act(ctx)
	}
	database, err := openInterleaver(ctx, c)
	if err != nil {
		return nil, err
	}
	defer database.close()
	if keys, err = database.plan(ctx, share); err != nil {
		return nil, err
	}
	ours, err := act(ctx)
	if err == nil && !plan {
		err = database.execute(ctx, keys)
	}
	return append(ours, keys...), err
}

func setupDone(c Config, statements []string) string {
	if len(statements) == 0 {
		return fmt.Sprintf("%s has everything that office %s needs\n", c.Database, c.Office)
	}
	return fmt.Sprintf("%s\n%s is set up for office %s\n", script(statements), c.Database, c.Office)
}

func (p *program) printStatements(cmd *cobra.Command, statements []string) error {
	return p.report(cmd, answer{
		Text:    script(statements),
		Summary: map[string]int{"statements": len(statements)},
		Result:  map[string][]string{"statements": statements},
	})
}

// script is the statements as a file for the database's own client; one that ends in a comment has its semicolon.
func script(statements []string) string {
	if len(statements) == 0 {
		return "-- nothing is missing\n"
	}
	var b strings.Builder
	for _, s := range statements {
		s = strings.TrimSpace(s)
		last := s[strings.LastIndexByte(s, '\n')+1:]
		if !strings.HasSuffix(s, ";") && !strings.Contains(last, "--") {
			s += ";"
		}
		fmt.Fprintln(&b, s)
	}
	return b.String()
}
