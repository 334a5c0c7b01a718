package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
)

// The tests of bad input (badinput_*_test.go) each show a mistake that people make, and want three things: the program says
// what is wrong and what mends it; what it names does mend it; and afterwards every office holds the same, nothing was lost.

// outcome is what a verb left behind.
type outcome struct {
	code           int
	stdout, stderr string
}

// verb runs the program to its end.
func verb(t *testing.T, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(within(t, stuck), binary(t, "CDC_RACE_BINARY"), args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = fleet.Environment(), &stdout, &stderr
	code, err := exitCode(cmd.Run())
	if err != nil {
		t.Fatal(err)
	}
	return outcome{code, stdout.String(), stderr.String()}
}

// exitCode is the exit code that an error of os/exec stands for.
func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	default:
		return 0, fmt.Errorf("run the program: %w", err)
	}
}

// names checks that a text for people names all of these things.
func names(t *testing.T, what, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%s does not name %q:\n%s", what, w, text)
		}
	}
}

// written notes how much of an office's log there is; the function it returns gives what came after.
func written(t *testing.T, o *fleet.Office) func() string {
	t.Helper()
	before, err := os.ReadFile(o.Log())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return func() string {
		text, err := os.ReadFile(o.Log())
		if err != nil {
			t.Fatal(err)
		}
		return string(text[len(before):])
	}
}

// refused starts the office's sidecar, which must end by itself with exit code 3 and name these things on standard error.
func refused(t *testing.T, o *fleet.Office, want ...string) {
	t.Helper()
	said := written(t, o)
	if err := o.Start(); err != nil {
		t.Fatal(err)
	}
	err := o.Exited(within(t, stuck))
	if o.Alive() {
		t.Fatal(err)
	}
	code, err := exitCode(err)
	if err != nil {
		t.Fatal(err)
	}
	if code != 3 {
		t.Errorf("%s ended with exit code %d, want 3:\n%s", o.Name, code, said())
	}
	_, last, _ := strings.Cut("\n"+said(), "\ncdc-sidecar: ")
	names(t, "the error of "+string(o.Name), last, want...)
}

// doctor runs the verb for an office; exit code 3 has to go with failures, 0 with none.
func doctor(t *testing.T, o *fleet.Office) []schema.Finding {
	t.Helper()
	out := verb(t, "doctor", "--config", o.Config(), "--json")
	var answer struct {
		Command string
		OK      bool
		Result  struct{ Findings []schema.Finding }
	}
	if err := json.Unmarshal([]byte(out.stdout), &answer); err != nil || answer.Command != "doctor" {
		t.Fatalf("doctor --json printed %v\n%s%s", err, out.stdout, out.stderr)
	}
	want := 0
	for _, f := range answer.Result.Findings {
		if f.Severity == schema.Failure {
			want = 3
		}
	}
	if out.code != want || answer.OK != (want == 0) {
		t.Errorf("doctor for %s: exit code %d, ok %v, want exit code %d:\n%s", o.Name, out.code, answer.OK, want, out.stdout)
	}
	return answer.Result.Findings
}

// diagnosed wants a finding of doctor's, not a fine one, that names these things and has a fix. It returns the first.
func diagnosed(t *testing.T, o *fleet.Office, want ...string) schema.Finding {
	t.Helper()
	var all strings.Builder
	for _, f := range doctor(t, o) {
		text := strings.Join([]string{f.Check, f.Message, f.Cause, f.Fix}, " | ")
		fmt.Fprintln(&all, f.Severity, text)
		found := f.Severity != schema.Fine && f.Fix != ""
		for _, w := range want {
			found = found && strings.Contains(text, w)
		}
		if found {
			return f
		}
	}
	t.Fatalf("doctor for %s has no finding with a fix that names %q:\n%s", o.Name, want, &all)
	return schema.Finding{}
}

// healthy wants doctor to find no failure.
func healthy(t *testing.T, o *fleet.Office) {
	t.Helper()
	for _, f := range doctor(t, o) {
		if f.Severity == schema.Failure {
			t.Errorf("doctor for %s: %+v", o.Name, f)
		}
	}
}

// says waits until the running sidecar's status gives a reason that names all of these things.
func says(t *testing.T, o *fleet.Office, want ...string) {
	t.Helper()
	err := fleet.Until(within(t, stuck), string(o.Name)+" says why it waits", func(ctx context.Context) error {
		s, err := o.Status(ctx)
		if err != nil {
			return err
		}
		for _, reason := range s.Reasons() {
			found := true
			for _, w := range want {
				found = found && strings.Contains(reason, w)
			}
			if found {
				return nil
			}
		}
		return fmt.Errorf("%s: no reason names %q: %q", s.State, want, s.Reasons())
	})
	if err != nil {
		t.Fatal(err)
	}
}

// configure writes the office's configuration with replacements, old and new in turn; none: as it should be.
func configure(t *testing.T, o *fleet.Office, oldnew ...string) {
	t.Helper()
	text := strings.NewReplacer(oldnew...).Replace(o.Configuration())
	if len(oldnew) > 0 && text == o.Configuration() {
		t.Fatalf("nothing to replace in\n%s", text)
	}
	if err := os.WriteFile(o.Config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// must ends the test at an error of what only prepares it.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ledger counts what a test's applications have written, wherever and whenever.
type ledger struct{ rows int }

// write makes an order line at each of the offices, as its application would.
func (l *ledger) write(t *testing.T, offices ...*fleet.Office) {
	t.Helper()
	for _, o := range offices {
		l.rows++
		must(t, o.Exec(within(t, stuck), fmt.Sprintf(`INSERT INTO order_lines VALUES (%d, %d, 'of %s', 2.5, NULL)`, l.rows, o.Index, o.Name)))
	}
}

// goesOn wants the offices to be well, to take new changes, and to hold everything that was ever written, in bad times too.
func (l *ledger) goesOn(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	must(t, f.Met(within(t, stuck)))
	l.write(t, f.Offices...)
	l.arrives(t, f)
}

// returns starts the sidecars of offices that were away or refused, and wants everything to go on.
func (l *ledger) returns(t *testing.T, f *fleet.Fleet, offices ...*fleet.Office) {
	t.Helper()
	for _, o := range offices {
		must(t, o.Start())
	}
	l.goesOn(t, f)
}

// arrives waits until every office holds everything that was ever written, without a new change to push it. It does not wait
// for the acknowledgements, which take seconds: settles does, once for all that went before.
func (l *ledger) arrives(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	must(t, fleet.Until(within(t, stuck), "every office holds what was written", func(ctx context.Context) error {
		digests, err := f.Compare(ctx)
		if n := digests["order_lines"].Rows; err == nil && n != l.rows {
			err = fmt.Errorf("every office holds %d order lines, %d were written", n, l.rows)
		}
		return err
	}))
}

// settles wants everything acknowledged, too: nothing is on its way any more, so whatever the offices hold now, they keep.
// Every test that ends with all offices well ends with it.
func (l *ledger) settles(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	digests, err := f.Equal(within(t, stuck))
	must(t, err)
	if n := digests["order_lines"].Rows; n != l.rows {
		t.Errorf("every office holds %d order lines, %d were written", n, l.rows)
	}
}
