// Package deploy_test holds the manifests of this folder to their promises; the folder has no code of its own.
package deploy_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/goccy/go-yaml"
)

// journalDir is where every manifest mounts the journal: the folder that the image has for it.
const journalDir = "/var/lib/cdc-sidecar"

// config has the keys of the configuration file that the manifests may use.
type config struct {
	Office, Role, Database, Broker, Data, Admin, Sync string
	AdminToken                                        string `yaml:"admin_token"`
	Tables                                            []struct {
		Name, Flow, Where string
		Conflict          any
	}
}

// checkConfig fails for a configuration that the sidecar would refuse or that keeps its journal off the volume.
func checkConfig(t *testing.T, name string, text []byte) config {
	t.Helper()
	var c config
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(&c); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if !regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`).MatchString(c.Office) {
		t.Errorf("%s: office %q is no office name", name, c.Office)
	}
	if c.Role != "head" && c.Role != "branch" {
		t.Errorf("%s: role %q is neither head nor branch", name, c.Role)
	}
	if c.Data != journalDir {
		t.Errorf("%s: data is %q, not the journal's volume %s", name, c.Data, journalDir)
	}
	return c
}

// environment are the variables that the sidecar reads, as the manifests may set them.
var environment = regexp.MustCompile(`^CDC_(CONFIG|(OFFICE|DATABASE|BROKER|DATA|ADMIN|ADMIN_TOKEN)(_FILE)?)$`)

// checkEnvironment fails for a CDC_ variable that the sidecar does not know.
func checkEnvironment(t *testing.T, where string, names ...string) {
	t.Helper()
	for _, name := range names {
		if len(name) > 4 && name[:4] == "CDC_" && !environment.MatchString(name) {
			t.Errorf("%s: the sidecar knows no %s", where, name)
		}
	}
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestImageRunsAsNobodyInParticular(t *testing.T) {
	users := regexp.MustCompile(`(?m)^USER (\S+)$`).FindAllSubmatch(read(t, "Dockerfile"), -1)
	if len(users) != 1 || string(users[0][1]) != "65532:65532" {
		t.Errorf("USER is %q, want exactly one, 65532:65532, by number so that runAsNonRoot can tell", users)
	}
}
