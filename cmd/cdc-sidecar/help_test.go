package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Every verb explains itself with an example that begins with the program's name, and takes --config and --json.
func TestEveryVerbHasAnExample(t *testing.T) {
	var verbs []*cobra.Command
	var collect func(*cobra.Command)
	collect = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			verbs = append(verbs, sub)
			collect(sub)
		}
	}
	collect((&program{}).newRootCommand())
	if len(verbs) < 8 {
		t.Fatalf("only %d verbs", len(verbs))
	}
	for _, v := range verbs {
		if v.Short == "" || !strings.HasPrefix(v.Example, "  cdc-sidecar ") {
			t.Errorf("%s: short %q, example %q", v.CommandPath(), v.Short, v.Example)
		}
		words := strings.Fields(v.CommandPath())[1:]
		code, stdout, _ := verb(t, append(words, "--help")...)
		for _, want := range []string{"Examples:\n", "--config", "--json"} {
			if code != exitOK || !strings.Contains(stdout, want) {
				t.Errorf("%s --help: exit code %d, %q is missing", v.CommandPath(), code, want)
			}
		}
	}
}

// The help of the verbs that have most to say.
func TestHelpTexts(t *testing.T) {
	t.Setenv("CDC_CONFIG", "")
	for _, name := range []string{"sync", "verify"} {
		code, stdout, stderr := verb(t, name, "--help")
		if code != exitOK || stderr != "" {
			t.Errorf("%s: exit code %d, %s", name, code, stderr)
		}
		golden(t, "testdata/help_"+name+".golden", stdout)
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		var out bytes.Buffer
		if code := execute(t.Context(), []string{"completion", shell}, output{Out: &out, Err: &out}); code != exitOK || !strings.Contains(out.String(), "cdc-sidecar") {
			t.Errorf("%s: exit code %d", shell, code)
		}
	}
}
