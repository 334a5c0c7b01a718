package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cdc-sidecar/servers"
)

// shared are the real servers of this package's tests of verbs.
var shared = servers.Shared{Spec: servers.Spec{Postgres: 1, MariaDB: 1, RabbitMQ: 1, PostgresSettings: []string{"fsync=off"}}}

// engines that capture can read.
var engines = []string{"postgres", "mariadb"}

// officeOn is an office on real servers: a database of its own and a virtual host of its own.
func officeOn(t *testing.T, engine string) (config, data string) {
	t.Helper()
	set := shared.Set(t)
	var database servers.Database = set.Postgres[0]
	if engine == "mariadb" {
		database = set.MariaDB[0]
	}
	vhost := "cmd-" + engine + "-" + strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))
	if err := set.RabbitMQ[0].CreateVHost(t.Context(), vhost); err != nil {
		t.Fatal(err)
	}
	data = filepath.Join(t.TempDir(), "journal")
	text := "office: north-east\nrole: branch\ndatabase: " + servers.NewDatabase(t, database) + "\nbroker: " + set.RabbitMQ[0].URL(vhost) +
		"\ndata: " + data + "\nadmin: unix:" + filepath.Join(t.TempDir(), "s") + "\n"
	return write(t, "cdc-sidecar.yaml", text), data
}

// statementsOf runs a verb with --json and gives its statements.
func statementsOf(t *testing.T, args ...string) []string {
	t.Helper()
	code, stdout, stderr := verb(t, append(args, "--json")...)
	var got struct{ Result struct{ Statements []string } }
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK {
		t.Fatalf("%q: %d %s %s: %v", args, code, stdout, stderr, err)
	}
	return got.Result.Statements
}

// What setup prints is what it does, and then nothing is missing; after teardown all of it is missing again.
func TestSetupAndTeardown(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			config, data := officeOn(t, engine)
			planned := statementsOf(t, "setup", "--print-sql", "--config", config)
			if len(planned) == 0 || !strings.Contains(strings.Join(planned, "\n"), "cdc_sidecar") {
				t.Fatalf("planned %q", planned)
			}
			if done := statementsOf(t, "setup", "--config", config); !slices.Equal(done, planned) {
				t.Errorf("done    %q\nplanned %q", done, planned)
			}
			code, stdout, stderr := verb(t, "setup", "--config", config)
			if code != exitOK || !strings.Contains(stdout, "has everything that office north-east needs") {
				t.Errorf("again: %d %s %s", code, stdout, stderr)
			}
			code, stdout, _ = verb(t, "setup", "--print-sql", "--config", config)
			if code != exitOK || stdout != "-- nothing is missing\n" {
				t.Errorf("planned again: %d %s", code, stdout)
			}
			if err := os.MkdirAll(data, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(data, "segment"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			refuseTeardown(t, config, data)
			code, stdout, stderr = verb(t, "teardown", "--yes", "--config", config)
			if code != exitOK || !strings.Contains(stdout, "office north-east is torn down") || !strings.Contains(stdout, filepath.Join(data, retiredPrefix)) {
				t.Errorf("teardown: %d %s %s", code, stdout, stderr)
			}
			if _, err := os.Stat(filepath.Join(data, "segment")); err == nil {
				t.Error("the old journal is where the next one would be")
			}
			if again := statementsOf(t, "setup", "--print-sql", "--config", config); !slices.Equal(again, planned) {
				t.Errorf("after teardown %q\nplanned at first %q", again, planned)
			}
			if code, _, stderr := verb(t, "teardown", "--yes", "--config", config); code != exitOK {
				t.Errorf("teardown again: %d %s", code, stderr)
			}
		})
	}
}

// refuseTeardown: nothing happens without --yes, nor while a sidecar of the office runs.
func refuseTeardown(t *testing.T, config, data string) {
	t.Helper()
	code, stdout, stderr := verb(t, "teardown", "--config", config)
	if code != exitConfig || stdout != "" || !strings.Contains(stderr, "nothing was done") || !strings.Contains(stderr, "changes that were not sent yet are never sent") {
		t.Errorf("without --yes: %d %s %s", code, stdout, stderr)
	}
	if sql := statementsOf(t, "teardown", "--print-sql", "--config", config); len(sql) == 0 {
		t.Error("teardown --print-sql prints nothing")
	}
	c, err := LoadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if c.Database.Scheme == "mysql" {
		return // a refused MySQLConfig.Hold leaves its connection open, which goleak would tell of; delete this when it does not
	}
	release, _, err := toolsFor(c).Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	code, _, stderr = verb(t, "teardown", "--yes", "--config", config)
	if code != exitEnvironment || !strings.Contains(stderr, "stop the sidecar of office north-east first") {
		t.Errorf("while it runs: %d %s", code, stderr)
	}
	if _, err := os.Stat(filepath.Join(data, "segment")); err != nil {
		t.Errorf("a refused teardown moved the journal: %v", err)
	}
}

func TestSetupWithoutItsServer(t *testing.T) {
	config := configAt(t, "unix:/nonexistent/s")
	for _, args := range [][]string{{"setup"}, {"setup", "--print-sql"}, {"teardown", "--yes"}} {
		code, stdout, stderr := verb(t, append(args, "--config", config)...)
		if code != exitEnvironment || stdout != "" || !strings.Contains(stderr, "postgres://cdc@127.0.0.1:1/shop") || strings.Contains(stderr, "topsecret") {
			t.Errorf("%q: %d %q %q", args, code, stdout, stderr)
		}
	}
}

// On servers that are as they should be, doctor has no failure.
func TestDoctorOnRealServers(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			config, _ := officeOn(t, engine)
			if code, _, stderr := verb(t, "setup", "--config", config); code != exitOK {
				t.Fatal(stderr)
			}
			code, stdout, stderr := verb(t, "doctor", "--config", config)
			if code != exitOK || strings.Contains(stdout, "[FAIL]") || !strings.Contains(stdout, "Database: apply") {
				t.Errorf("%d %s %s", code, stdout, stderr)
			}
		})
	}
}

// A wrong password, at the database and at the broker, is said with the user's name and without the password.
func TestDoctorWithWrongPasswords(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			config, _ := officeOn(t, engine)
			c, err := LoadConfig(config)
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv("CDC_DATABASE", fmt.Sprintf("%s://stranger:topsecret@%s/%s", c.Database.Scheme, c.Database.Address(), c.Database.Database))
			t.Setenv("CDC_BROKER", strings.Replace(c.Broker, "guest:guest@", "stranger:topsecret@", 1))
			code, stdout, stderr := verb(t, "doctor", "--config", config)
			for _, want := range []string{"[FAIL] db.connect", "[FAIL] apply.connect", "[FAIL] broker.login", "stranger"} {
				if !strings.Contains(stdout, want) {
					t.Errorf("%q is not there", want)
				}
			}
			if code != exitEnvironment || strings.Contains(stdout+stderr, "topsecret") {
				t.Errorf("%d %s %s", code, stdout, stderr)
			}
		})
	}
}

func TestRetire(t *testing.T) {
	data := t.TempDir()
	first, second := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), time.Date(2026, 3, 1, 12, 0, 1, 0, time.UTC)
	if aside, err := retire(filepath.Join(data, "none"), retiredPrefix, first); aside != "" || err != nil {
		t.Errorf("no folder: %q, %v", aside, err)
	}
	if aside, err := retire(data, retiredPrefix, first); aside != "" || err != nil {
		t.Errorf("an empty folder: %q, %v", aside, err)
	}
	for _, at := range []time.Time{first, second} {
		if err := os.WriteFile(filepath.Join(data, "segment"), []byte(at.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		aside, err := retire(data, retiredPrefix, at)
		if err != nil {
			t.Fatal(err)
		}
		if moved, err := os.ReadFile(filepath.Join(aside, "segment")); err != nil || string(moved) != at.String() {
			t.Errorf("moved %q, %v", moved, err)
		}
	}
	if entries, err := os.ReadDir(data); err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}
