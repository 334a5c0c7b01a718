package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
)

func offices(hashes ...string) []demoOffice {
	var out []demoOffice
	for _, h := range hashes {
		out = append(out, demoOffice{Office: schema.Office("o" + h), Transactions: 7, Tables: []demoTable{{Table: "orders", Rows: 3, Hash: h}}})
	}
	return out
}

// What the demonstration says at the end, and with which exit code: 0 is only for equal offices and nothing lost or doubled.
func TestDemoVerdict(t *testing.T) {
	for _, c := range []struct {
		name   string
		result demoResult
		good   bool
		code   int
		wants  []string
	}{
		{
			"equal",
			demoResult{Equal: true, Offices: offices("a", "a", "a"), Transactions: 21, ConvergedSeconds: 1.5},
			true, exitOK,
			[]string{"\nequal: 3 offices, 21 transactions, 0 lost, 0 doubled, converged in 1.50 s\n", "a      ✓"},
		},
		{
			"different",
			demoResult{Offices: offices("a", "a", "b"), Transactions: 21},
			false, exitDiffer,
			[]string{"\nDIFFERENT: 3 offices, 21 transactions, 0 lost, 0 doubled\n", "b      ✗"},
		},
		{"lost", demoResult{Equal: true, Offices: offices("a", "a"), Lost: 2}, false, exitRuntime, []string{" 2 lost, 0 doubled"}},
		{"doubled", demoResult{Equal: true, Offices: offices("a", "a"), Doubled: 1}, false, exitRuntime, []string{" 0 lost, 1 doubled"}},
	} {
		if c.result.good() != c.good || !c.good && c.result.exitCode() != c.code {
			t.Errorf("%s: good %v, exit code %d", c.name, c.result.good(), c.result.exitCode())
		}
		if differ := c.result.difference() != nil; differ != (c.name == "different") {
			t.Errorf("%s: a difference is found: %v", c.name, differ)
		}
		for _, want := range c.wants {
			if text := c.result.answer().Text; !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing in\n%s", c.name, want, text)
			}
		}
	}
}

// On a terminal the table is drawn in its own place, and the story stands above it; elsewhere no control sequence is written.
func TestDemoScreen(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	sights := []demoSight{{office: &fleet.Office{Spec: fleet.Spec{Name: "head"}, URL: "postgres://x"}, state: "running", rows: "12"}}
	for _, live := range []bool{true, false} {
		var out bytes.Buffer
		s := newDemoScreen(&out, live)
		for range 2 {
			s.draw(time.Second, sights)
		}
		s.tell(2*time.Second, "the link is cut")
		s.tell(3*time.Second, "the link is restored")
		text := out.String()
		wipes := strings.Count(text, "\x1b[5A\x1b[J") // two rules, head line, one office, last line
		if want := map[bool]int{true: 2, false: 0}[live]; wipes != want {
			t.Errorf("live %v: the table was taken off %d times, want %d: %q", live, wipes, want, text)
		}
		if !live && strings.Contains(text, "\x1b") {
			t.Errorf("a control sequence, and nobody there to see it: %q", text)
		}
		if !strings.Contains(text, "head") || !strings.HasSuffix(text, "the link is restored"+map[bool]string{true: "\x1b[0m"}[live]+"\n") {
			t.Errorf("live %v: %q", live, text)
		}
	}
}

func TestDemoRefusesAnUnusefulLength(t *testing.T) {
	for _, seconds := range []string{"4", "3601", "-1"} {
		code, _, stderr := verb(t, "demo", "--seconds="+seconds)
		if code != exitConfig || !strings.Contains(stderr, "--seconds must be 5 to 3600") {
			t.Errorf("%s: exit code %d: %s", seconds, code, stderr)
		}
	}
}
