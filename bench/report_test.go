package main

import (
	"bytes"
	"flag"
	"os"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestReport(t *testing.T) {
	r := &report{
		command: "bin/bench -quick", size: "quick", date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), took: 151 * time.Second,
		machine: "2 cores", commit: "abc1234", versions: []string{"Postgres: 15"},
	}
	r.begin(section{title: "Catch-up", about: "What was done."})
	r.add(
		median("Rows a second", "pg-pg insert100", "ours", samples{40_000, 50_000, 45_000}, nil),
		median("Rows a second", "pg-pg insert100", "native", samples{100_000, 110_000, 90_000}, nil),
		ratio("Rows a second", "pg-pg insert100", "ratio", samples{40_000, 50_000, 45_000}, samples{100_000, 110_000, 90_000}, atLeast(0.5, 0.8)),
		single("Rows a second", "pg-maria insert100", "ours", 12_345, nil),
		single("CPU", "pg-pg insert100", "both sidecars", 12.34, atMost(20, 10)),
	)
	r.note("equal: %s rows", number(500_000))
	r.begin(section{title: "Nothing measured", about: "But said."})
	golden(t, "report.md", r.markdown())
	golden(t, "report.txt", r.text())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := "testdata/" + name
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s\n(go test ./bench -update accepts it)", file, got, want)
	}
}
