package main

import (
	"context"
	"os"
	"os/exec"
	"testing"
)

func TestParseStat(t *testing.T) {
	const line = "4242 (a (strange) name) S 1 4242 4242 0 -1 4194560 100 200 0 0 150 50 1000 300 20 0 1 0 12345 1000000 500 18446744073709551615\n"
	if got, err := parseStat([]byte(line)); err != nil || got != 15 {
		t.Errorf("got %v, %v, want 15 seconds", got, err)
	}
	for _, bad := range []string{"", "4242 (name) S 1 2 3", "no name at all 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17"} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: got %v, want an error", bad, got)
		}
	}
}

func TestParseStatus(t *testing.T) {
	got, err := parseStatus("Name:\tx\nVmHWM:\t    2000 kB\nVmRSS:\t    1000 kB\n")
	if err != nil || got.now != 1.024 || got.peak != 2.048 {
		t.Errorf("got %+v, %v, want 1.024 and 2.048 MB", got, err)
	}
	if _, err := parseStatus("Name:\tx\n"); err == nil {
		t.Error("no error for a status without memory")
	}
}

// What a child used counts while it runs, and when it has ended and was waited for.
func TestCPUSecondsOfChildren(t *testing.T) {
	const work = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
	before := must1(cpuSeconds(os.Getpid()))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "/bin/sh", "-c", work+"; read -r end")
	cmd.Stdin = r
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for must1(cpuSeconds(cmd.Process.Pid)) < 5.0/ticks { // go test's own time-out ends a hang
	}
	if got := must1(cpuSeconds(os.Getpid())) - before; got < 5.0/ticks {
		t.Errorf("with a child that runs: %v seconds, want what it used", got)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // read fails at the end of its input
	if got := must1(cpuSeconds(os.Getpid())) - before; got < 5.0/ticks {
		t.Errorf("with a child that has ended: %v seconds, want what it used", got)
	}
}

func TestMemoryOf(t *testing.T) {
	if got := must1(memoryOf(os.Getpid())); got.now <= 0 || got.peak < got.now/2 {
		t.Errorf("got %+v of this process", got)
	}
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
