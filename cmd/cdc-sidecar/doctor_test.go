package main

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"cdc-sidecar/schema"
)

func TestDoctorReport(t *testing.T) {
	groups := runChecks(t.Context(), []checkGroup{
		{name: "Database", run: func(context.Context) []schema.Finding {
			return []schema.Finding{
				{Check: "db.reachable", Severity: schema.Fine, Message: "PostgreSQL 17", Fix: "not to be printed"},
				{Check: "db.wal_level", Severity: schema.Failure, Message: "wal_level=replica", Cause: "no change is in the log", Fix: "ALTER SYSTEM SET wal_level = logical;\n-- then restart"},
				{Check: "table.key", Severity: schema.Warning, Message: "2 tables without key:\npublic.a, public.b", Fix: "ALTER TABLE public.a ADD PRIMARY KEY (id)"},
			}
		}},
		{name: "Broker", run: func(context.Context) []schema.Finding {
			return []schema.Finding{{Check: "broker.login", Severity: schema.Failure, Message: "refused", Fix: "rabbitmqctl\nadd_user"}}
		}},
		{name: "Broken", run: func(context.Context) []schema.Finding {
			panic("out of order")
		}},
	})
	broken := &groups[2].findings[0]
	if !strings.Contains(broken.Cause, "doctor_test.go") {
		t.Errorf("where the check broke is not in %q", broken.Cause)
	}
	broken.Cause = ""
	total := count(groups)
	if want := (tally{Passed: 1, Warnings: 1, Failures: 3}); total != want {
		t.Errorf("got %+v, want %+v", total, want)
	}
	golden(t, "testdata/doctor_terminal.golden", findingsText(groups, marksFor(true))+closing(total))
	golden(t, "testdata/doctor_plain.golden", findingsText(groups, marksFor(false))+closing(total))
	golden(t, "testdata/doctor_sql.golden", fixes(groups))
	if got := fixes(nil); got != "-- nothing to fix\n" {
		t.Errorf("got %q", got)
	}
}

// A check that hangs, even one that does not look at its context, ends doctor's wait with a finding.
func TestDoctorDoesNotHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		findings := runGroup(t.Context(), checkGroup{name: "Broker", run: func(context.Context) []schema.Finding {
			<-release
			return nil
		}})
		if len(findings) != 1 || findings[0].Severity != schema.Failure || findings[0].Message != "no answer within 30 s" {
			t.Errorf("got %+v", findings)
		}
	})
}

func TestCheckFree(t *testing.T) {
	folder := t.TempDir()
	if f := checkFree(folder, 1); f.Severity != schema.Fine {
		t.Errorf("got %+v", f)
	}
	if f := checkFree(folder, 1<<62); f.Severity != schema.Warning || f.Fix == "" {
		t.Errorf("got %+v", f)
	}
	if f := checkFree(folder+"/none", 1); f.Severity != schema.Warning {
		t.Errorf("got %+v", f)
	}
}
