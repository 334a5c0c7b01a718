package deploy_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// composition is as much of a compose file as the tests look at.
type composition struct {
	Services map[string]service
	Configs  map[string]struct{ File string }
	Secrets  map[string]struct{ File string }
	Volumes  map[string]any
}

type service struct {
	Image       string
	Healthcheck *struct{ Test []string }
	Environment map[string]string
	Ports       []string
	Configs     []struct{ Source, Target string }
	Secrets     []any
	Volumes     []string
}

func TestCompose(t *testing.T) {
	var c composition
	if err := yaml.Unmarshal(read(t, "compose.yaml"), &c); err != nil {
		t.Fatal(err)
	}
	offices := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		s := c.Services[name]
		c.checkDeclared(t, name, s)
		if s.Healthcheck == nil || len(s.Healthcheck.Test) == 0 {
			t.Errorf("%s: no health check", name)
		} else if strings.HasPrefix(s.Image, "cdc-sidecar:") {
			office, role := c.checkSidecar(t, name, s)
			offices[office] = role
		}
	}
	want := map[string]string{"head": "head", "north": "branch", "south": "branch"}
	if !maps.Equal(offices, want) {
		t.Errorf("offices and roles are %v, want %v", offices, want)
	}
}

// checkSidecar holds one sidecar to its promises and returns the office it is for.
func (c composition) checkSidecar(t *testing.T, name string, s service) (office, role string) {
	t.Helper()
	if want := []string{"CMD", "/cdc-sidecar", "healthcheck"}; !slices.Equal(s.Healthcheck.Test, want) {
		t.Errorf("%s: health check is %q, want %q: the image has no shell", name, s.Healthcheck.Test, want)
	}
	if want := name + "-journal:" + journalDir; !slices.Contains(s.Volumes, want) {
		t.Errorf("%s: volumes are %q, want the journal on %q", name, s.Volumes, want)
	}
	checkEnvironment(t, name, slices.Collect(maps.Keys(s.Environment))...)
	mounted := secretTargets(s)
	for variable, path := range s.Environment {
		if strings.HasSuffix(variable, "_FILE") && !slices.Contains(mounted, path) {
			t.Errorf("%s: %s is %s, but the mounted secrets are %q", name, variable, path, mounted)
		}
	}
	if len(s.Configs) != 1 {
		t.Fatalf("%s: configs are %v, want one", name, s.Configs)
	}
	file := c.Configs[s.Configs[0].Source].File
	found := checkConfig(t, file, read(t, file))
	return found.Office, found.Role
}

// checkDeclared fails for a volume, secret or config that the file does not declare, and for a port open to the network.
func (c composition) checkDeclared(t *testing.T, name string, s service) {
	t.Helper()
	for _, v := range s.Volumes {
		source, _, _ := strings.Cut(v, ":")
		if strings.HasPrefix(source, "./") {
			read(t, source)
		} else if _, ok := c.Volumes[source]; !ok {
			t.Errorf("%s: volume %q is not declared", name, source)
		}
	}
	for _, secret := range s.Secrets {
		if source, _ := secretSource(secret); c.Secrets[source].File == "" {
			t.Errorf("%s: secret %q is not declared as a file", name, source)
		}
	}
	for _, config := range s.Configs {
		read(t, c.Configs[config.Source].File)
	}
	for _, port := range s.Ports {
		if !strings.HasPrefix(port, "127.0.0.1:") {
			t.Errorf("%s: port %q is open to the network", name, port)
		}
	}
}

// secretSource is a secret's name and the name of the file it is mounted as, of either way to write it.
func secretSource(secret any) (source, target string) {
	long, ok := secret.(map[string]any)
	if !ok {
		short, _ := secret.(string)
		return short, short
	}
	source, _ = long["source"].(string)
	target, _ = long["target"].(string)
	return source, target
}

func secretTargets(s service) []string {
	var paths []string
	for _, secret := range s.Secrets {
		_, target := secretSource(secret)
		paths = append(paths, "/run/secrets/"+target)
	}
	return paths
}
