package main

import (
	"slices"
	"strings"
	"testing"
)

func TestWhatPgbenchSays(t *testing.T) {
	out := "transaction type: <builtin: TPC-B (sort of)>\nlatency average = 0.831 ms\ntps = 4812.310457 (without initial connection time)\n"
	if rate, err := pgbenchRate(out); err != nil || rate != 4812.310457 {
		t.Errorf("%v, %v", rate, err)
	}
	if _, err := pgbenchRate("pgbench: error: connection refused"); err == nil {
		t.Error("no rate and no error")
	}
	// The second line has the seventh word that comes with a rate: how late the transaction began.
	ms, err := pgbenchTimes(strings.NewReader("0 1 831 0 1795256430 123456\n3 7 12500 0 1795256430 223456 4200\n"))
	if want := (samples{0.831, 12.5}); err != nil || !slices.Equal(ms, want) {
		t.Errorf("%v, %v; want %v", ms, err, want)
	}
	for _, bad := range []string{"0 1 831\n", "0 1 skipped 0 1795256430 123456\n"} {
		if _, err := pgbenchTimes(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
