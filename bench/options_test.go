package main

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	self, err := os.Executable() // a file that is there
	if err != nil {
		t.Fatal(err)
	}
	get := func(args ...string) options {
		t.Helper()
		o, err := parse(append([]string{"-binary", self}, args...), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	if o := get(); o.rows != fullRows || !strings.HasSuffix(o.out, "-full.md") || !slices.Equal(o.pairs, pairNames) || o.times(3) != 3 || o.scaled(200_000) != 200_000 {
		t.Errorf("a whole run: %+v", o)
	}
	if o := get("-quick"); o.rows != quickRows || !strings.HasSuffix(o.out, "-quick.md") || o.times(3) != 1 || o.scaled(200_000) != 12_000 {
		t.Errorf("a quick run: %+v", o)
	}
	// Part of a run must not take the place of a whole one's report.
	if o := get("-rounds", "2"); o.out != "" || o.times(3) != 2 {
		t.Errorf("with a number of rounds: %+v", o)
	}
	// The phases come in their order, and with the one that makes what they change.
	if o := get("-phases", "bigtxn,update1"); !slices.Equal(o.phases, []string{insert100, update1, bigtxn}) || o.out != "" {
		t.Errorf("with phases: %+v", o)
	}
	if o := get("-phases", "mixed"); !slices.Equal(o.phases, []string{mixed}) {
		t.Errorf("mixed alone: %+v", o)
	}
	for _, bad := range [][]string{{"-pairs", "pg-oracle"}, {"-rows", "1"}, {"-rounds", "-1"}, {"more"}, {"-binary", "/nowhere/at/all"}} {
		if o, err := parse(append([]string{"-binary", self}, bad...), io.Discard); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, o)
		}
	}
}
