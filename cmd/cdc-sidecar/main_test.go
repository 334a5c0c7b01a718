package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"cdc-sidecar/servers"
)

// stuck ends a test that would hang; no test measures by it.
const stuck = 60 * time.Second

// leakChecked fails a run of tests that leaves goroutines behind.
type leakChecked struct{ servers.Runner }

func (m leakChecked) Run() int {
	code := m.Runner.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// TestMain also makes this test's binary the program: cdc-sidecar on the scripts' PATH is main itself.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{shared.Main(m)}, map[string]func(){
		"cdc-sidecar": main,
		"stubborn":    stubborn,
	})
}

// stubborn is a program that does not end when it is told to.
func stubborn() {
	ctx, stop := untilSignal(context.Background())
	defer stop()
	fmt.Fprintln(os.Stdout, "started")
	<-ctx.Done()
	fmt.Fprintln(os.Stdout, "told")
	time.Sleep(stuck)
	os.Exit(exitRuntime)
}

// The scripts are what a user types and what comes back.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			for _, o := range overrides {
				e.Setenv(o.variable, "")
				e.Setenv(o.variable+"_FILE", "")
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    scriptExits,
			"envelope": scriptEnvelope,
		},
	})
}

// scriptExits: exits CODE PROGRAM ARGUMENT… runs the program and wants exactly this exit code.
func scriptExits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits code program arguments")
	}
	code := exitOK
	err := ts.Exec(args[1], args[2:]...)
	var ended *exec.ExitError
	switch {
	case errors.As(err, &ended):
		code = ended.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// scriptEnvelope: envelope COMMAND OK wants standard output to be one JSON object of the promised form and nothing else.
func scriptEnvelope(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: envelope command ok")
	}
	decoder := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	var object map[string]any
	ts.Check(decoder.Decode(&object))
	if decoder.More() {
		ts.Fatalf("there is more than one object on standard output")
	}
	if got := slices.Sorted(maps.Keys(object)); !slices.Equal(got, []string{"command", "error", "ok", "result", "summary"}) {
		ts.Fatalf("the keys are %q", got)
	}
	if object["command"] != args[0] || fmt.Sprint(object["ok"]) != args[1] {
		ts.Fatalf("command %v, ok %v", object["command"], object["ok"])
	}
	if _, isObject := object["summary"].(map[string]any); !isObject {
		ts.Fatalf("summary is no object: %v", object["summary"])
	}
	if object["ok"] == true && object["error"] != nil {
		ts.Fatalf("ok, and the error %v", object["error"])
	}
}

// The first signal is an invitation, the second an order.
func TestSecondSignalEndsTheProcess(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), stuck)
			defer cancel()
			cmd := exec.CommandContext(ctx, "stubborn")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			for _, want := range []string{"started", "told"} {
				if !lines.Scan() || lines.Text() != want {
					t.Fatalf("got %q, want %q", lines.Text(), want)
				}
				if err := cmd.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
			}
			var ended *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &ended) || ended.ExitCode() != 128+int(s) {
				t.Errorf("got %v, want exit code %d", err, 128+int(s))
			}
		})
	}
}

// verb runs the program in this process.
func verb(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = execute(t.Context(), args, output{Out: &out, Err: &err})
	return code, out.String(), err.String()
}

// configAt is a right configuration whose admin address is the given one.
func configAt(t *testing.T, address string, more ...string) string {
	t.Helper()
	text := "office: head\nrole: head\ndatabase: postgres://cdc:topsecret@127.0.0.1:1/shop\nbroker: amqp://head:topsecret@127.0.0.1:1/offices\n" +
		"data: " + filepath.Join(t.TempDir(), "journal") + "\nadmin: " + address + "\n" + strings.Join(more, "\n")
	return write(t, "cdc-sidecar.yaml", text)
}
