package main

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// while runs a sidecar until the condition, which it asks again and again.
func while(t *testing.T, cfg Config, what string, met func() bool) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- runSidecar(ctx, cfg, slog.New(slog.DiscardHandler)) }()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(stuck)
	for done := false; !done; {
		select {
		case <-tick.C:
			done = met()
		case err := <-ended:
			stop()
			t.Fatalf("%s ended: %v", cfg.Office, err)
		case <-limit:
			stop()
			t.Fatalf("waited for: %s; it ended with %v", what, <-ended)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// A branch that is torn down is forgotten by the head, even by one that was down meanwhile; its next life is a new member.
func TestTeardownTellsTheHead(t *testing.T) {
	config, _ := officeOn(t, "mariadb")
	branch, err := LoadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	head := branch
	head.Office, head.Role, head.Data, head.Admin = "head", schema.Head, filepath.Join(t.TempDir(), "head"), "unix:"+filepath.Join(t.TempDir(), "s")
	if head.Database, err = schema.ParseDSN(servers.NewDatabase(t, shared.Set(t).Postgres[0])); err != nil {
		t.Fatal(err)
	}
	db, err := newOffice(head, slog.New(slog.DiscardHandler)).sql()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	t.Cleanup(func() {
		_ = toolsFor(head).Teardown(context.WithoutCancel(t.Context()))
		_ = toolsFor(branch).Teardown(context.WithoutCancel(t.Context()))
	})
	knows := func(n int) func() bool {
		return func() bool { return members(t, db) == n }
	}
	for range 2 {
		while(t, head, "the branch to be a member", func() bool {
			while(t, branch, "the head to know the branch", knows(1))
			return true
		})
		for range 2 { // the second finds nothing to do
			if code, _, stderr := verb(t, "teardown", "--yes", "--config", config); code != exitOK {
				t.Fatalf("teardown: %d %s", code, stderr)
			}
		}
		if members(t, db) != 1 {
			t.Fatal("the head was down and forgot the branch")
		}
		while(t, head, "the head to forget the branch", knows(0))
		var progress int
		if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM cdc_sidecar.progress`).Scan(&progress); err != nil || progress > 0 {
			t.Errorf("%d progress rows of a branch that left: %v", progress, err)
		}
	}
}

// members counts the head's members; none while it has no table for them.
func members(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM cdc_sidecar.offices`).Scan(&n); err != nil {
		return 0
	}
	return n
}
