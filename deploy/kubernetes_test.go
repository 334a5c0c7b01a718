package deploy_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/goccy/go-yaml"
)

// object is as much of a Kubernetes object as the tests look at.
type object struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		ServiceName          string `yaml:"serviceName"`
		Template             struct{ Spec podSpec }
		VolumeClaimTemplates []struct {
			Metadata struct{ Name string }
		} `yaml:"volumeClaimTemplates"`
	}
}

type podSpec struct {
	InitContainers  []container `yaml:"initContainers"`
	Containers      []container
	SecurityContext struct {
		RunAsNonRoot   bool                  `yaml:"runAsNonRoot"`
		SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
}

type container struct {
	Name, Image     string
	RestartPolicy   string `yaml:"restartPolicy"`
	Env             []struct{ Name string }
	LivenessProbe   *probe       `yaml:"livenessProbe"`
	ReadinessProbe  *probe       `yaml:"readinessProbe"`
	StartupProbe    *probe       `yaml:"startupProbe"`
	VolumeMounts    []mount      `yaml:"volumeMounts"`
	SecurityContext restrictions `yaml:"securityContext"`
}

type probe struct {
	HTTPGet struct{ Path string } `yaml:"httpGet"`
}

type mount struct {
	Name      string
	MountPath string `yaml:"mountPath"`
}

type restrictions struct {
	RunAsUser                int   `yaml:"runAsUser"`
	AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
	ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
	Capabilities             struct{ Drop []string }
}

// render builds a kustomization as `kubectl kustomize` would, and returns its objects by kind. Each has one of a kind.
func render(t *testing.T, name string) map[string]object {
	t.Helper()
	// Copied by this process, so that go test knows what a cached result depends on.
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("kubernetes")); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	build := exec.CommandContext(t.Context(), "../scripts/kustomize", "build", filepath.Join(dir, name))
	build.Stderr = &stderr
	text, err := build.Output()
	if err != nil {
		t.Fatalf("kustomize build %s: %v\n%s", name, err, &stderr)
	}
	objects := map[string]object{}
	for documents := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o object
		if err := documents.Decode(&o); errors.Is(err, io.EOF) {
			return objects
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, double := objects[o.Kind]; double {
			t.Fatalf("%s: more than one %s", name, o.Kind)
		}
		objects[o.Kind] = o
	}
}

func TestKubernetes(t *testing.T) {
	tests := []struct{ kustomization, object, role, office string }{
		{"head-office", "head-office", "head", "head"},
		{"branch-office", "branch-office", "branch", "branch"},
		{"north", "north-branch-office", "branch", "north"},
	}
	for _, test := range tests {
		t.Run(test.kustomization, func(t *testing.T) {
			objects := render(t, test.kustomization)
			set := objects["StatefulSet"]
			if set.Metadata.Name != test.object || set.Spec.ServiceName != objects["Service"].Metadata.Name {
				t.Errorf("StatefulSet %q with service %q, want %q with the service that is there, %q",
					set.Metadata.Name, set.Spec.ServiceName, test.object, objects["Service"].Metadata.Name)
			}
			c := checkConfig(t, test.kustomization, []byte(objects["ConfigMap"].Data["cdc-sidecar.yaml"]))
			if c.Role != test.role || c.Office != test.office {
				t.Errorf("configured as %s %q, want %s %q", c.Role, c.Office, test.role, test.office)
			}
			checkSidecar(t, set)
			checkRestricted(t, set.Spec.Template.Spec)
		})
	}
}

// checkSidecar holds the pod to what keeps the sidecar from harming the database beside it.
func checkSidecar(t *testing.T, set object) {
	t.Helper()
	inits := set.Spec.Template.Spec.InitContainers
	if len(inits) != 1 || inits[0].Name != "cdc-sidecar" {
		t.Fatalf("init containers are %v, want the sidecar alone", inits)
	}
	sidecar := inits[0]
	if sidecar.RestartPolicy != "Always" {
		t.Errorf("restartPolicy is %q: without Always the database waits for the sidecar to end", sidecar.RestartPolicy)
	}
	if sidecar.ReadinessProbe != nil || sidecar.StartupProbe != nil {
		t.Error("a readiness or start-up probe on the sidecar can take the office's database out of service")
	}
	if sidecar.LivenessProbe == nil || sidecar.LivenessProbe.HTTPGet.Path != "/livez" {
		t.Errorf("liveness probe is %+v, want /livez", sidecar.LivenessProbe)
	}
	for _, variable := range sidecar.Env {
		checkEnvironment(t, set.Metadata.Name, variable.Name)
	}
	for _, m := range sidecar.VolumeMounts {
		if m.MountPath != journalDir {
			continue
		}
		for _, claim := range set.Spec.VolumeClaimTemplates {
			if claim.Metadata.Name == m.Name {
				return
			}
		}
		t.Errorf("the journal is on volume %q, which no claim template makes durable", m.Name)
		return
	}
	t.Errorf("nothing is mounted at %s: the journal would be lost with the container", journalDir)
}

// checkRestricted fails for what Kubernetes' pod security standard "restricted" would refuse.
func checkRestricted(t *testing.T, pod podSpec) {
	t.Helper()
	if !pod.SecurityContext.RunAsNonRoot || pod.SecurityContext.SeccompProfile.Type != "RuntimeDefault" {
		t.Errorf("pod security context is %+v, want runAsNonRoot and seccomp's RuntimeDefault", pod.SecurityContext)
	}
	for _, c := range append(pod.InitContainers, pod.Containers...) {
		s := c.SecurityContext
		if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !s.ReadOnlyRootFilesystem ||
			len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" {
			t.Errorf("container %s is not restricted: %+v", c.Name, s)
		}
	}
}
