package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const wellConfigured = `office: north
role: branch
database: postgres://cdc:secret@127.0.0.1:1/shop
broker: amqp://north:secret@127.0.0.1:1/offices
`

// Every verb that reads the configuration says what is wrong with it, with file and line, before it touches anything: exit
// code 2, and with --json one object on standard output and nothing else.
func TestBadConfiguration(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		text string // empty: there is no file
		want []string
	}{
		"unknown key":          {strings.Replace(wellConfigured, "broker:", "brokr:", 1), []string{"x.yaml:4:", `"brokr"`, `"broker"`}},
		"unknown key in table": {wellConfigured + "tables:\n  - name: public.orders\n    flw: send\n", []string{"x.yaml:7:", `"flw"`, `"flow"`}},
		"unknown value":        {strings.Replace(wellConfigured, "role: branch", "role: bramch", 1), []string{"x.yaml:2:", "role", "bramch", "branch"}},
		"unknown direction":    {wellConfigured + "tables:\n  - name: public.orders\n    flow: sned\n", []string{"x.yaml:7:", "flow", "sned", "send"}},
		"missing key":          {strings.Replace(wellConfigured, "office: north\n", "", 1), []string{"x.yaml", "office"}},
		"wrong name":           {strings.Replace(wellConfigured, "north", "North!", 1), []string{"x.yaml:1:", "office", "North!"}},
		"not YAML":             {"office: [north\n", []string{"x.yaml"}},
		"no file":              {"", []string{"x.yaml"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+"-x.yaml")
			if c.text != "" {
				must(t, os.WriteFile(path, []byte(c.text), 0o600))
			}
			for _, v := range []string{"run", "doctor", "status"} {
				out := verb(t, v, "--config", path)
				if out.code != 2 {
					t.Errorf("%s: exit code %d, want 2", v, out.code)
				}
				names(t, v, out.stderr, c.want...)
				if strings.Contains(out.stderr, "secret") {
					t.Errorf("%s tells a password: %s", v, out.stderr)
				}
				inJSON(t, v, verb(t, v, "--config", path, "--json"), c.want)
			}
		})
	}
}

func inJSON(t *testing.T, v string, out outcome, want []string) {
	t.Helper()
	var answer struct {
		Command string
		OK      *bool
		Error   *string
	}
	if err := json.Unmarshal([]byte(out.stdout), &answer); err != nil {
		t.Fatalf("%s --json printed %q: %v", v, out.stdout, err)
	}
	if out.code != 2 || answer.Command != v || answer.OK == nil || *answer.OK || answer.Error == nil {
		t.Fatalf("%s --json: exit code %d, %s", v, out.code, out.stdout)
	}
	names(t, v+" --json", *answer.Error, want...)
}
