package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"cdc-sidecar/admin"
)

// newHealthcheckCommand is for containers whose image has no shell and no curl.
func (p *program) newHealthcheckCommand() *cobra.Command {
	var ready bool
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the running sidecar whether it is alive (exit 0) or not (exit 1)",
		Example: "  cdc-sidecar healthcheck\n" +
			"  cdc-sidecar healthcheck --ready   # whether local changes are captured",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := LoadConfig(p.configPath)
			if err != nil {
				return err
			}
			path := "/livez"
			if ready {
				path = "/readyz"
			}
			var r admin.Readiness
			err = newClient(c).call(cmd.Context(), http.MethodGet, path, &r)
			var environment *environmentError
			if errors.As(err, &environment) {
				return environment.cause // a container's health check knows 0 and 1 only
			}
			if err != nil {
				return err
			}
			text := fmt.Sprintf("ok=%t %s\n", r.OK, strings.Join(r.Reasons, "; "))
			a := answer{Text: text, Summary: map[string]bool{"ok": r.OK}, Result: r}
			if !r.OK {
				return &failedAnswer{answer: a, code: exitRuntime}
			}
			return p.report(cmd, a)
		},
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether local changes are captured")
	return cmd
}
