package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (p *program) newSetupCommand() *cobra.Command {
	var printSQL bool
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Create what is ours in the office's database (run does it too, where it may)",
		Long: "Create what is ours in the office's database (run does it too, where it may).\n" +
			"It may be repeated. With --print-sql nothing is created, and a DBA gets the statements that are missing.",
		Example: "  cdc-sidecar setup\n" +
			"  cdc-sidecar setup --print-sql > setup.sql",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := LoadConfig(p.configPath)
			if err != nil {
				return err
			}
			act := toolsFor(c).Setup
			if printSQL {
				act = toolsFor(c).Plan
			}
			statements, err := act(cmd.Context())
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
	return cmd
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
