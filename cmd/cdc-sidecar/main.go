// Command cdc-sidecar keeps an office's database in step with the other offices' through RabbitMQ. One file here is one
// verb; run.go and supervise.go are the sidecar itself.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := untilSignal(context.Background())
	code := execute(ctx, os.Args[1:], output{Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}

// untilSignal is a context that the first SIGTERM or SIGINT ends, cleanly; the second ends the process where it stands,
// with the exit code that a shell gives for the signal.
func untilSignal(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
			return
		}
		if s, ok := (<-signals).(syscall.Signal); ok {
			os.Exit(128 + int(s))
		}
	}()
	return ctx, cancel
}

// program is what all verbs share: where to write, and the flags of the root.
type program struct {
	output
	json       bool
	configPath string
	started    bool // the command line was understood and its verb began
}

// execute runs the verb that args name and returns the exit code.
func execute(ctx context.Context, args []string, o output) int {
	p := &program{output: o, json: wantsJSON(args)}
	root := p.newRootCommand()
	root.SetArgs(args)
	root.SetOut(o.Out)
	root.SetErr(o.Err)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if !p.started {
		err = &usageError{err}
	}
	return p.fail(command, err)
}

// wantsJSON looks for --json by itself, because a flag that cannot be parsed must be answered in JSON too.
func wantsJSON(args []string) bool {
	for _, a := range args {
		switch a {
		case "--":
			return false
		case "--json", "--json=true":
			return true
		}
	}
	return false
}

func (p *program) newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "cdc-sidecar",
		Short:         "Keeps an office's database in step with the other offices' through RabbitMQ",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          verbOnly,
		RunE:          p.helpOrError,

		PersistentPreRun: func(*cobra.Command, []string) { p.started = true },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&p.configPath, "config", configPath(os.LookupEnv), "the configuration file (also CDC_CONFIG)")
	flags.BoolVar(&p.json, "json", p.json, "print one JSON object {command, ok, summary, result, error} on standard output")
	root.AddCommand(
		p.newRunCommand(), p.newDoctorCommand(), p.newSetupCommand(), p.newTeardownCommand(), p.newStatusCommand(),
		p.newSyncCommand(), p.newVerifyCommand(), p.newOfficesCommand(), p.newConflictsCommand(), p.newHealthcheckCommand(), p.newDemoCommand(), p.newVersionCommand(),
	)
	return root
}

func configPath(env environment) string {
	if path, _ := env("CDC_CONFIG"); path != "" {
		return path
	}
	return defaultConfigPath
}

func (p *program) newRunCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "run",
		Short:   "Capture, ship and apply, until told to stop",
		Example: "  cdc-sidecar run --config /etc/cdc-sidecar/north.yaml",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := LoadConfig(p.configPath)
			if err != nil {
				return err
			}
			limitMemory()
			stop, err := profile()
			if err != nil {
				return err
			}
			defer stop()
			log := newLogger(p.Err, c)
			for _, notice := range c.Notices {
				log.Warn(notice)
			}
			if err := runSidecar(cmd.Context(), c, log); err != nil && cmd.Context().Err() == nil {
				return err
			}
			return p.report(cmd, answer{})
		},
	}
}
