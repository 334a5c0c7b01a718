package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"cdc-sidecar/schema"
)

// The exit codes; interface.md promises them.
const (
	exitOK          = 0
	exitRuntime     = 1
	exitConfig      = 2
	exitEnvironment = 3
	exitDiffer      = 4
)

// output is where a verb writes: data on Out, everything for people beside it on Err.
type output struct{ Out, Err io.Writer }

// answer is what a verb has to say: text for people, or Summary and Result in the JSON envelope.
type answer struct {
	Text    string
	Summary any // a few numbers; nil: none
	Result  any
}

// envelope is the one object that --json prints, also on failure.
type envelope struct {
	Command string  `json:"command"`
	OK      bool    `json:"ok"`
	Summary any     `json:"summary"`
	Result  any     `json:"result"`
	Error   *string `json:"error"`
}

// usageError is a command line that is not understood; exit code 2.
type usageError struct{ cause error }

func (e *usageError) Error() string { return e.cause.Error() }
func (e *usageError) Unwrap() error { return e.cause }

// environmentError is something outside that is not there or refuses; exit code 3.
type environmentError struct{ cause error }

func (e *environmentError) Error() string { return e.cause.Error() }
func (e *environmentError) Unwrap() error { return e.cause }

// failedAnswer is a verb that did its work and has bad news: the answer is printed like a good one, ok is false. A cause is
// told beside it: then the verb did only part of its work.
type failedAnswer struct {
	answer
	code  int
	cause error // nil: none
}

func (e *failedAnswer) Error() string { return "the answer has failures" }

// report prints a verb's answer.
func (p *program) report(cmd *cobra.Command, a answer) error {
	return p.write(cmd, a, true, nil)
}

func (p *program) write(cmd *cobra.Command, a answer, ok bool, failure error) error {
	if !p.json {
		fmt.Fprint(p.Out, a.Text)
		return nil
	}
	e := envelope{Command: verbOf(cmd), OK: ok, Summary: a.Summary, Result: a.Result}
	if e.Summary == nil {
		e.Summary = struct{}{}
	}
	if failure != nil {
		text := failure.Error()
		e.Error = &text
	}
	encoder := json.NewEncoder(p.Out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(e); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// fail tells of an error, on the channel the user asked for, and returns its exit code.
func (p *program) fail(cmd *cobra.Command, err error) int {
	var bad *failedAnswer
	if errors.As(err, &bad) {
		if err = p.write(cmd, bad.answer, false, bad.cause); err == nil {
			if bad.cause != nil && !p.json {
				p.complain(bad.cause)
			}
			return bad.code
		}
	}
	if p.json && p.write(cmd, answer{}, false, err) == nil {
		return exitCode(err)
	}
	p.complain(err)
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(p.Err, "Try: %s --help\n", cmd.CommandPath())
	}
	return exitCode(err)
}

func (p *program) complain(err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(p.Err, "cdc-sidecar: %s\n", line)
	}
}

func exitCode(err error) int {
	var (
		config      *configError
		usage       *usageError
		environment *environmentError
		refused     *schema.RefusedError
	)
	switch {
	case errors.As(err, &config), errors.As(err, &usage):
		return exitConfig
	case errors.As(err, &environment), errors.As(err, &refused):
		return exitEnvironment
	case errors.Is(err, context.Canceled):
		return exitOK
	default:
		return exitRuntime
	}
}

// verbOf names the command without the program: "offices remove"; of the root itself, the program.
func verbOf(cmd *cobra.Command) string {
	_, verb, found := strings.Cut(cmd.CommandPath(), " ")
	if !found {
		return cmd.CommandPath()
	}
	return verb
}

// noArguments refuses arguments behind a verb that takes none.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no argument, got %q", verbOf(cmd), args[0])
	}
	return nil
}

// verbOnly refuses what is no verb, and names the one that was probably meant.
func verbOnly(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	hint := "; the verbs are " + strings.Join(names, ", ")
	if near := nearest(args[0], names); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	if cmd.HasParent() {
		return fmt.Errorf("%s: unknown verb %q%s", verbOf(cmd), args[0], hint)
	}
	return fmt.Errorf("unknown verb %q%s", args[0], hint)
}

// helpOrError answers a command that was called without its verb.
func (p *program) helpOrError(cmd *cobra.Command, _ []string) error {
	if p.json {
		return &usageError{errors.New("want a verb")}
	}
	return cmd.Help()
}

// isTerminal reports whether a person looks at w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
