package main

import (
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

func (p *program) newOfficesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "offices",
		Short: "At the head: list the member offices, or remove one for good",
		Example: "  cdc-sidecar offices list\n" +
			"  cdc-sidecar offices remove south",
		Args: verbOnly,
		RunE: p.helpOrError,
	}
	cmd.AddCommand(p.newOfficesListCommand(), p.newOfficesRemoveCommand())
	return cmd
}

func (p *program) newOfficesListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the offices that this one knows",
		Example: "  cdc-sidecar offices list --json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := LoadConfig(p.configPath)
			if err != nil {
				return err
			}
			var o admin.Offices
			if err := newClient(c).call(cmd.Context(), http.MethodGet, "/api/v1/offices", &o); err != nil {
				return err
			}
			return p.report(cmd, answer{
				Text:    officesText(o, time.Now()),
				Summary: map[string]int{"offices": len(o.Offices)},
				Result:  o,
			})
		},
	}
}

func officesText(o admin.Offices, now time.Time) string {
	if len(o.Offices) == 0 {
		return "no other office is known to " + string(o.Office) + " yet\n"
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "OFFICE\tROLE\tENGINE\tSTATE\tLAST HEARD\tAPPLIED HERE\tAPPLIED THERE\tUNACKNOWLEDGED")
	for _, m := range o.Offices {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\n",
			m.Office, m.Role, dash(string(m.Engine)), m.State, ago(m.LastHeard, now), m.Progress.Seq, m.Acknowledged.Seq, m.Unacknowledged)
	}
	_ = w.Flush() // into memory
	return b.String()
}

func (p *program) newOfficesRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Forget a dead branch: its queue, its hold on the journal, its record",
		Long: "Forget a dead branch: its queue, its hold on the journal, its record.\n" +
			"Changes that it had not sent stay in its own database only. If it comes back, it needs to join again.",
		Example: "  cdc-sidecar offices remove south",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s: want one office's name", verbOf(cmd))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := schema.ParseOffice(args[0])
			if err != nil {
				return &usageError{err}
			}
			c, err := LoadConfig(p.configPath)
			if err != nil {
				return err
			}
			if err := newClient(c).call(cmd.Context(), http.MethodDelete, "/api/v1/offices/"+string(name), nil); err != nil {
				return fmt.Errorf("remove office %s: %w", name, err)
			}
			return p.report(cmd, answer{
				Text:   fmt.Sprintf("office %s is removed: its queue, its hold on the journal and its record are gone\n", name),
				Result: map[string]schema.Office{"removed": name},
			})
		},
	}
}
