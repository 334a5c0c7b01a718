package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"cdc-sidecar/fleet"
	"cdc-sidecar/servers"
)

// machine is what a reader needs to know of the machine.
func machine() string {
	text, _ := os.ReadFile("/proc/meminfo") // not Linux: then without it
	memory := "unknown memory"
	var kib float64
	if _, err := fmt.Sscanf(string(text), "MemTotal: %f kB", &kib); err == nil {
		memory = fmt.Sprintf("%.0f GiB of memory", kib/1024/1024)
	}
	load := "unknown"
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		load, _, _ = strings.Cut(string(text), " ")
	}
	return fmt.Sprintf("%d cores, %s, %s/%s; load %s in the minute before the start", runtime.NumCPU(), memory, runtime.GOOS, runtime.GOARCH, load)
}

// commit is the checkout's, "unknown" where there is none.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// versions asks a server of each kind.
func (b *bench) versions(ctx context.Context) error {
	note := func(kind string, db servers.Database, name string) error {
		pool, err := fleet.OpenDB(db.URL(name))
		if err != nil {
			return err
		}
		defer pool.Close()
		var version string
		if err := pool.QueryRowContext(ctx, "SELECT version()").Scan(&version); err != nil {
			return fmt.Errorf("version of %s: %w", kind, err)
		}
		b.report.versions = append(b.report.versions, kind+": "+version)
		return nil
	}
	if len(b.servers.Postgres) > 0 {
		if err := note("Postgres", b.servers.Postgres[0], "postgres"); err != nil {
			return err
		}
	}
	if len(b.servers.MariaDB) > 0 {
		if err := note("MariaDB", b.servers.MariaDB[0], "mysql"); err != nil {
			return err
		}
	}
	if len(b.servers.RabbitMQ) > 0 {
		var overview struct {
			Version string `json:"rabbitmq_version"`
		}
		if err := b.servers.RabbitMQ[0].API(ctx, "GET", "overview", nil, &overview); err != nil {
			return err
		}
		b.report.versions = append(b.report.versions, "RabbitMQ: "+overview.Version)
	}
	return nil
}
