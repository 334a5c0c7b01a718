package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cdc-sidecar/schema"
)

var update = flag.Bool("update", false, "write the golden files anew")

// variables is an environment that the test has under control.
func variables(pairs map[string]string) environment {
	return func(name string) (string, bool) {
		value, set := pairs[name]
		return value, set
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s (run with -update when this is right)\n--- got\n%s--- want\n%s", path, got, want)
	}
}

// describe is a configuration for a golden file; secrets are written out, to see that they arrive whole.
func describe(c Config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "office %s\nrole %s\ndatabase %s\nbroker %s\ndata %s\nadmin %s\ntoken %q\nbudget %d\nkeep %s\ndrift %s\nlog %s %s\n",
		c.Office, c.Role, c.Database.URL(), c.Broker, c.Data, c.Admin, c.AdminToken, c.JournalBudget, c.ConflictKeep, c.ClockDrift, c.LogLevel, c.LogFormat)
	fmt.Fprintf(&b, "sync %s %q join %s extra %s rows %d bytes %d verify %q rows %d\n",
		c.Sync.Kind, c.Sync.Text, c.Join.Mode, c.Join.Extra, c.Join.Rows, c.Join.Bytes, c.Verify.Text, c.Verify.Rows)
	fmt.Fprintf(&b, "ddl apply %s destructive %s publish %t\n", c.DDL.Apply, c.DDL.Destructive, c.DDL.Publish)
	for _, e := range c.Tables {
		conflict := "not said"
		if e.Conflict != nil {
			conflict = e.Conflict.String()
		}
		fmt.Fprintf(&b, "table %s line %d flow %q conflict %s\n", e.Name, e.Line, e.Flow, conflict)
	}
	for _, n := range c.Notices {
		fmt.Fprintf(&b, "notice %s\n", n)
	}
	return b.String()
}

// Each file of testdata/config is loaded; beside it stands what it means, or what is wrong with it.
func TestConfigFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/config/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	env := variables(map[string]string{"DB_PASSWORD": "p%40ss", "EMPTY": ""})
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			c, err := loadConfig(file, env)
			if err == nil {
				golden(t, strings.TrimSuffix(file, ".yaml")+".golden", describe(c))
				return
			}
			var problem *configError
			if !errors.As(err, &problem) || exitCode(err) != exitConfig {
				t.Errorf("%T is no configuration error", err)
			}
			if strings.Contains(err.Error(), "topsecret") {
				t.Errorf("the password is in %q", err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".golden", err.Error()+"\n")
		})
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMissingConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yaml")
	_, err := LoadConfig(path)
	if err == nil || exitCode(err) != exitConfig || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if _, err := LoadConfig(t.TempDir()); err == nil || exitCode(err) != exitConfig {
		t.Errorf("a folder: got %v", err)
	}
}

// The file must be there, and that is all: everything that has a variable may come from one.
func TestVariablesOverride(t *testing.T) {
	secret := write(t, "secret", "mysql://cdc:topsecret@127.0.0.1/shop\r\n\n")
	empty := write(t, "empty", "\n")
	all := map[string]string{
		"CDC_OFFICE": "south", "CDC_DATABASE_FILE": secret, "CDC_BROKER": "amqp://south:x@127.0.0.1/", "CDC_DATA": "d",
		"CDC_ADMIN": ":8350", "CDC_ADMIN_TOKEN": "t",
	}
	with := func(name, value string) environment {
		changed := map[string]string{name: value}
		for n, v := range all {
			if n != name {
				changed[n] = v
			}
		}
		return variables(changed)
	}
	for _, c := range []struct {
		name string
		file string
		env  environment
		want string // in the description, or in the error
	}{
		{"all from variables", "role: head\n", variables(all), "office south\nrole head\ndatabase mysql://cdc:topsecret@127.0.0.1/shop\nbroker amqp://south:x@127.0.0.1/\ndata d\nadmin :8350\ntoken \"t\"\n"},
		{"they win over the file", "role: head\noffice: north\n", variables(all), "office south\n"},
		{"an empty one counts as not set", "role: head\noffice: north\n", with("CDC_OFFICE", ""), "office north\n"},
		{"wrong value", "role: head\n", with("CDC_OFFICE", "South"), "CDC_OFFICE: office name \"South\""},
		{"both forms", "role: head\n", with("CDC_DATABASE", "x"), "CDC_DATABASE and CDC_DATABASE_FILE are both set"},
		{"no such secret", "role: head\n", with("CDC_DATABASE_FILE", secret+"x"), "CDC_DATABASE_FILE: open "},
		{"empty secret", "role: head\n", with("CDC_DATABASE_FILE", empty), "is empty"},
		{"without a token", "role: head\n", with("CDC_ADMIN_TOKEN", ""), "CDC_ADMIN: \":8350\" is reachable from other machines"},
		{"unfit token", "role: head\n", with("CDC_ADMIN_TOKEN", "a b"), "CDC_ADMIN_TOKEN: want printable ASCII"},
		{"role has none", "", variables(all), "role is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, err := loadConfig(write(t, "c.yaml", c.file), c.env)
			got := describe(config)
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
			if err != nil && strings.Contains(got, "topsecret") {
				t.Errorf("the secret is in %q", got)
			}
		})
	}
}

func TestAdminAddresses(t *testing.T) {
	for _, c := range []struct {
		address string
		token   bool
		ok      bool
	}{
		{"127.0.0.1:8350", false, true},
		{"127.8.0.1:8350", false, true},
		{"[::1]:8350", false, true},
		{"localhost:8350", false, true},
		{"unix:/run/x", false, true},
		{"0.0.0.0:8350", true, true},
		{"10.0.0.1:8350", true, true},
		{"0.0.0.0:8350", false, false},
		{"[::]:8350", false, false},
		{":8350", false, false},
		{"example.org:8350", false, false},
		{"127.0.0.1", false, false},
		{"127.0.0.1:0", false, false},
		{"127.0.0.1:http", false, false},
		{"127.0.0.1:70000", true, false},
		{"unix:run/x", true, false},
		{"unix:/" + strings.Repeat("x", maxSocketPath), true, false},
	} {
		if err := checkAdmin(c.address, c.token); (err == nil) != c.ok {
			t.Errorf("%s, token %t: %v", c.address, c.token, err)
		}
	}
}

func TestBudgets(t *testing.T) {
	for text, want := range map[string]int64{
		"16MiB": 16 << 20, "10GiB": 10 << 30, "2 TiB": 2 << 40, "100MB": 1e8, "1GB": 1e9, "1TB": 1e12,
		"15MiB": 0, "10": 0, "10 kB": 0, "-1GiB": 0, "1.5GiB": 0, "999999999999TiB": 0, "": 0,
	} {
		got, err := parseBudget(text)
		if (err == nil) != (want != 0) || (err == nil && got != want) {
			t.Errorf("%q: got %d, %v; want %d", text, got, err, want)
		}
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "1s": time.Second, "5 m": 5 * time.Minute, "36h": 36 * time.Hour, "90d": 90 * 24 * time.Hour, "36500d": 36500 * 24 * time.Hour,
		"0d": -1, "90": -1, "36501d": -1, "999999999d": -1, "1h30m": -1, "-1d": -1, "1.5d": -1, "90D": -1, "1w": -1, "": -1,
	} {
		got, err := parseKeep(text)
		if (err == nil) != (want >= 0) || (err == nil && got != want) {
			t.Errorf("keep %q: got %s, %v; want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]time.Duration{"1s": time.Second, "90s": 90 * time.Second, "24h": 24 * time.Hour, "1d": 24 * time.Hour, "0": 0, "0s": 0, "25h": 0, "2d": 0, "1ms": 0} {
		got, err := parseDrift(text)
		if (err == nil) != (want != 0) || (err == nil && got != want) {
			t.Errorf("drift %q: got %s, %v; want %s", text, got, err, want)
		}
	}
}

// Whatever somebody does to the file, loading ends, blames the configuration, and keeps the passwords to itself.
func TestBrokenFilesKeepTheirSecrets(t *testing.T) {
	const file = "office: north\nrole: branch\ndatabase: postgres://cdc:topsecret@127.0.0.1/shop\n" +
		"broker: amqp://north:topsecret@127.0.0.1/offices\ntables:\n  - name: public.*\n    flow: send\n    conflict: {add: [stock]}\n"
	path := write(t, "c.yaml", "")
	pieces := []string{"", " ", "\n", "\t", ":", ": ", "- ", "[", "]", "{", "}", "\"", "'", "&a ", "*a", "!!x ", "|", ">", "%", "#", "${", "${X}", "---\n", "\x00", "\xff", "?"}
	rapid.Check(t, func(t *rapid.T) {
		text := file
		for range rapid.IntRange(1, 4).Draw(t, "edits") {
			from := rapid.IntRange(0, len(text)).Draw(t, "from")
			to := min(len(text), from+rapid.IntRange(0, 3).Draw(t, "cut"))
			if inside := text[max(0, from-9):min(len(text), to+9)]; strings.Contains("topsecret", inside) || strings.Contains(inside, "topsecret") {
				continue // an edited password would no longer be found
			}
			text = text[:from] + rapid.SampledFrom(pieces).Draw(t, "piece") + text[to:]
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := loadConfig(path, variables(nil))
		if err == nil {
			return
		}
		if exitCode(err) != exitConfig || strings.Contains(err.Error(), "topsecret") {
			t.Fatalf("%q gives %q", text, err)
		}
	})
}

func TestDefaults(t *testing.T) {
	c, err := loadConfig("testdata/config/minimal.yaml", variables(nil))
	if err != nil {
		t.Fatal(err)
	}
	any := schema.TableName{Name: "any"}
	if got := c.Rule(any); got.Flow != FlowBoth || c.Policy(any).Kind != schema.Latest {
		t.Errorf("got %+v", got)
	}
	if c.Data != defaultData || c.Admin != defaultAdmin || c.JournalBudget != defaultJournalBudget ||
		c.ConflictKeep != 90*24*time.Hour || c.ClockDrift != time.Minute {
		t.Errorf("got %+v", c)
	}
}

func TestSchedules(t *testing.T) {
	after := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"30 2 * * *":                    time.Date(2026, 3, 2, 2, 30, 0, 0, time.UTC),
		"*/5 * * * *":                   after.Add(5 * time.Minute),
		"0 3 * * 0":                     time.Date(2026, 3, 8, 3, 0, 0, 0, time.UTC),
		"TZ=America/New_York 0 0 * * *": time.Date(2026, 3, 2, 5, 0, 0, 0, time.UTC),
		"@daily":                        time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC),
		"@every 90m":                    after.Add(90 * time.Minute),
		"@every 1s":                     {},
		"@yesterday":                    {},
		"0 0 30 2 *":                    {},
		"0 0 * *":                       {},
		"0 0 * * * *":                   {},
		"TZ=UTC":                        {},
		"TZ=Nowhere/Land 0 0 * * *":     {},
		"realtme":                       {},
		"":                              {},
	} {
		mode, err := parseSync(text)
		if (err == nil) == want.IsZero() {
			t.Errorf("%q: %v", text, err)
		} else if err == nil && (mode.Kind != SyncScheduled || mode.Text != text || !mode.Schedule.Next(after).Equal(want)) {
			t.Errorf("%q: %+v, next %s, want %s", text, mode, mode.Schedule.Next(after), want)
		}
	}
	for text, want := range map[string]time.Time{
		"24h": after.Add(24 * time.Hour), "1m": after.Add(time.Minute), "7d": after.Add(7 * 24 * time.Hour), "@hourly": after.Add(time.Hour),
		"59s": {}, "0": {}, "367d": {}, "often": {},
	} {
		schedule, err := parseEvery(text)
		if (err == nil) == want.IsZero() || (err == nil && !schedule.Next(after).Equal(want)) {
			t.Errorf("every %q: %v, %v; want %s", text, schedule, err, want)
		}
	}
}

func TestRates(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "2MiB": 2 << 20, "64 KiB": 64 << 10, "1GB": 1e9, "100kB": 1e5, "2": -1, "2TiB": -1, "-1MiB": -1, "999999999GiB": -1, "": -1,
	} {
		got, err := parseRate(text)
		if (err == nil) != (want >= 0) || (err == nil && got != want) {
			t.Errorf("%q: got %d, %v; want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]int64{"0": 0, "5000": 5000, "-1": -1, "5k": -1, "9999999999999999999": -1, "1.5": -1} {
		got, err := parseRows(text)
		if (err == nil) != (want >= 0) || (err == nil && got != want) {
			t.Errorf("rows %q: got %d, %v; want %d", text, got, err, want)
		}
	}
}
