package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"cdc-sidecar/broker"
	"cdc-sidecar/journal"
	"cdc-sidecar/schema"
)

// checkGroups are doctor's checks, in the order of the report. Each room checks what it needs itself.
func checkGroups(c Config) []checkGroup {
	groups := []checkGroup{{name: "Configuration", run: func(context.Context) []schema.Finding { return checkConfig(c) }}}
	return append(append(groups, databaseChecks(c)...), []checkGroup{
		{name: "Schema changes", run: func(ctx context.Context) []schema.Finding { return checkSchemaChanges(ctx, c) }},
		{name: "Broker", run: func(ctx context.Context) []schema.Finding { return broker.Check(ctx, brokerConfig(c)) }},
		{name: "Disk", run: func(context.Context) []schema.Finding { return checkDisk(c.Data, c.JournalBudget) }},
	}...)
}

// databaseChecks are those that the running sidecar makes, too.
func databaseChecks(c Config) []checkGroup {
	return []checkGroup{
		{name: "Database: capture", run: func(ctx context.Context) []schema.Finding { return checkCapture(ctx, c) }},
		{name: "Database: apply", run: func(ctx context.Context) []schema.Finding {
			return append(checkApply(ctx, c), checkApplyDDL(ctx, c)...)
		}},
		{name: "Tables", run: func(ctx context.Context) []schema.Finding { return checkTables(ctx, c) }},
	}
}

// brokerConfig is the configuration as the broker room wants it.
func brokerConfig(c Config) broker.Config {
	return broker.Config{URL: c.Broker, Office: c.Office, Role: c.Role, Program: version}
}

// checkConfig has only what is accepted and without effect: what is wrong ends the verb before this.
func checkConfig(c Config) []schema.Finding {
	findings := []schema.Finding{{Check: "config.file", Severity: schema.Fine, Message: c.Path + " is right"}}
	for _, notice := range c.Notices {
		findings = append(findings, schema.Finding{Check: "config.notice", Severity: schema.Warning, Message: notice})
	}
	return findings
}

func checkDisk(data string, budget int64) []schema.Finding {
	folder, err := existing(data)
	if err != nil {
		return []schema.Finding{{Check: "disk.folder", Severity: schema.Failure, Message: fmt.Sprintf("data: %v", err), Fix: "set data to a folder"}}
	}
	return []schema.Finding{checkWritable(data, folder), checkFree(folder, budget)}
}

// existing is data itself, or the folder in which run would make it.
func existing(data string) (string, error) {
	folder, err := filepath.Abs(data)
	if err != nil {
		return "", err
	}
	for {
		info, err := os.Stat(folder)
		switch {
		case err == nil && info.IsDir():
			return folder, nil
		case err == nil:
			return "", fmt.Errorf("%s is not a folder", folder)
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR):
			return "", err
		case folder == filepath.Dir(folder):
			return "", err
		}
		folder = filepath.Dir(folder)
	}
}

func checkWritable(data, folder string) schema.Finding {
	f := schema.Finding{Check: "disk.folder", Severity: schema.Fine, Message: "the journal's folder " + data + " can be written"}
	if err := unix.Access(folder, unix.W_OK|unix.X_OK); err != nil {
		f.Severity, f.Message = schema.Failure, fmt.Sprintf("the journal's folder %s cannot be written: %s: %v", data, folder, err)
		f.Cause = "without its journal the sidecar does not start"
		f.Fix = fmt.Sprintf("mkdir -p %s && chown %d %s", data, os.Getuid(), data)
	}
	return f
}

func checkFree(folder string, budget int64) schema.Finding {
	f := schema.Finding{Check: "disk.free", Severity: schema.Fine}
	var s unix.Statfs_t
	if err := unix.Statfs(folder, &s); err != nil {
		f.Severity, f.Message = schema.Warning, fmt.Sprintf("free space of %s is not known: %v", folder, err)
		return f
	}
	free := int64(min(s.Bavail*uint64(s.Bsize), 1<<62)) //nolint:unconvert // signed or not, by platform
	f.Message = fmt.Sprintf("%s free at %s, the journal may take %s", size(free), folder, size(budget))
	switch {
	case free < journal.LeastFree:
		f.Severity, f.Cause = schema.Failure, "the journal stops taking changes when the disk is nearly full, and the database's log grows instead"
		f.Fix = "make room on the volume of " + folder
	case free < budget:
		f.Severity, f.Cause = schema.Warning, "in a long outage the disk is full before the journal's budget is used"
		f.Fix = "make room on the volume of " + folder + ", or set journal: {budget: …} below what is free"
	}
	return f
}
