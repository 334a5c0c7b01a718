package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// The demonstration ends by itself, with every office equal after a cut link and a killed sidecar, and leaves nothing behind.
func TestDemoEndsEqual(t *testing.T) {
	ownServers(t)
	cmd, folder := demo(t, "--seconds", sized("8", "40"))
	var out, failures bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failures
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, &out, &failures)
	}
	text := out.String()
	story := []string{
		"north's link to the broker is cut", "north's link is restored", "north has caught up",
		"kill -9 of south's sidecar", "south's sidecar is started again", "the applications have stopped",
	}
	for _, part := range story {
		if !strings.Contains(text, part) {
			t.Errorf("%q was not told", part)
		}
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	verdict := regexp.MustCompile(`^equal: 3 offices, [1-9]\d* transactions, 0 lost, 0 doubled, converged in [0-9.]+ s$`)
	if last := lines[len(lines)-1]; !verdict.MatchString(last) {
		t.Errorf("the last line is %q", last)
	}
	if t.Failed() {
		t.Log(text)
	}
	isEmpty(t, folder)
}

// A demonstration that is interrupted is no success, and leaves nothing behind either.
func TestInterruptedDemoLeavesNothing(t *testing.T) {
	ownServers(t)
	cmd, folder := demo(t)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var failures bytes.Buffer
	cmd.Stderr = &failures
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := false
	for lines := bufio.NewScanner(stdout); !seen && lines.Scan(); {
		seen = strings.Contains(lines.Text(), "writes")
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, stdout); err != nil { // before Wait, which closes it
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(failures.String(), "interrupted") {
		t.Errorf("want exit code 1 and the word interrupted, got %v: %s", err, &failures)
	}
	if !seen {
		t.Error("it ended before the applications wrote")
	}
	isEmpty(t, folder)
}

// demo is the verb in a temporary folder of its own, headless as all that is not on a terminal.
func demo(t *testing.T, args ...string) (cmd *exec.Cmd, folder string) {
	bin := binary(t, "CDC_PLAIN_BINARY")
	folder, err := os.MkdirTemp("", "demo-") // t.TempDir's paths are too long for the servers' sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o711); err != nil { // the servers run as somebody else when we are root
		t.Fatal(err)
	}
	cmd = exec.CommandContext(within(t, stuck), bin, append([]string{"demo"}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+folder)
	return cmd, folder
}

func isEmpty(t *testing.T, folder string) {
	t.Helper()
	left, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("%s is left behind", entry.Name())
	}
}
