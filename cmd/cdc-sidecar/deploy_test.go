package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cdc-sidecar/schema"
)

// What we ship must be what we read: every configuration in deploy, with the secrets that the manifests mount.
func TestShippedConfigurationsLoad(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../../deploy/kubernetes/*/cdc-sidecar.yaml", "../../deploy/compose/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) < 3 {
			t.Fatalf("%s: %q, %v", pattern, found, err)
		}
		files = append(files, found...)
	}
	secrets := variables(map[string]string{
		"CDC_DATABASE_FILE":    write(t, "database", "postgres://cdc:topsecret@127.0.0.1:5432/shop\n"),
		"CDC_BROKER_FILE":      write(t, "broker", "amqp://cdc:topsecret@rabbitmq:5672/offices\n"),
		"CDC_ADMIN_TOKEN_FILE": write(t, "token", "0123456789abcdef\n"),
	})
	for _, file := range files {
		c, err := loadConfig(file, secrets)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if head := c.Office == "head"; head != (c.Role == schema.Head) {
			t.Errorf("%s: office %s is the %s", file, c.Office, c.Role)
		}
	}
}

// The README's configuration is the first that a newcomer copies.
func TestReadmeConfigurationLoads(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, begins := strings.Cut(string(readme), "```yaml\n")
	text, _, ends := strings.Cut(rest, "```")
	if !begins || !ends {
		t.Fatal("the README has no configuration")
	}
	c, err := loadConfig(write(t, "cdc-sidecar.yaml", text), variables(nil))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Tables) == 0 {
		t.Error("the README's configuration has no tables")
	}
}
