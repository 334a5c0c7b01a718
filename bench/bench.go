package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// section is one question that the benchmark answers.
type section struct {
	name  string // for -sections
	title string // in the report
	about string // what was done and what the figures mean: Markdown, a paragraph or more
	// needs says which servers it uses: only the numbers count. Sections share servers, and each makes databases of its own.
	needs func(o options) servers.Spec
	// run measures, checks what arrived, and puts figures into the report as it gets them.
	run func(ctx context.Context, b *bench) error
}

// sections are all, in the order in which they run and are reported.
func sections() []section {
	return []section{
		catchupSection,
		joinSection,
		latencySection,
		contestedSection,
		branchesSection,
		applicationSection,
		memorySection,
		wireSection,
	}
}

func sectionNames() []string {
	var names []string
	for _, s := range sections() {
		names = append(names, s.name)
	}
	return names
}

// bench is one run: what was asked for, the servers, and the report that the sections fill.
type bench struct {
	options
	servers  *servers.Set
	report   *report
	temp     string // a folder with a short path: sockets live there
	progress io.Writer
	began    time.Time
	fleets   int
}

// durable are the settings of all database servers alike: what is committed survives a power cut, and no checkpoint or
// clean-up of the server's own choice falls into one of two compared phases; both are done between them.
var (
	durablePostgres = []string{
		"fsync=on", "synchronous_commit=on", "full_page_writes=on", "shared_buffers=256MB", "max_wal_size=4GB", "checkpoint_timeout=1h",
		"autovacuum=off", "wal_retrieve_retry_interval=100ms", // of the subscription's worker, which would begin up to 5 s late
	}
	durableMariaDB = []string{
		"--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1", "--innodb-buffer-pool-size=256M", "--innodb-log-file-size=1G",
		"--max-binlog-size=1G",
	}
)

// run is the program.
func run(ctx context.Context, args []string, out, progress io.Writer) (err error) {
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	chosen := slices.DeleteFunc(sections(), func(s section) bool { return !slices.Contains(o.sections, s.name) })
	b := &bench{options: o, progress: progress, began: time.Now(), report: newReport(ctx, o)}
	if b.temp, err = os.MkdirTemp(o.dir, "cdc-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.temp)) }()
	var spec servers.Spec
	for _, s := range chosen {
		n := s.needs(o)
		spec.Postgres, spec.MariaDB, spec.RabbitMQ = max(spec.Postgres, n.Postgres), max(spec.MariaDB, n.MariaDB), max(spec.RabbitMQ, n.RabbitMQ)
	}
	spec.Dir, spec.PostgresSettings, spec.MariaDBOptions = o.dir, durablePostgres, durableMariaDB
	b.logf("starting %d Postgres, %d MariaDB, %d RabbitMQ", spec.Postgres, spec.MariaDB, spec.RabbitMQ)
	if b.servers, err = servers.Start(ctx, spec); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.servers.Close()) }()
	if err := b.versions(ctx); err != nil {
		return err
	}
	for _, s := range chosen {
		b.logf("%s", s.title)
		b.report.begin(s)
		if err := s.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	b.report.took = time.Since(b.began)
	return b.report.deliver(out, o.out)
}

// logf tells whoever waits how far we are.
func (b *bench) logf(format string, args ...any) {
	fmt.Fprintf(b.progress, "%6.1f  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// fleet makes a head and one branch with databases of their own; no sidecar runs yet. The caller closes it with leave.
func (b *bench) fleet(ctx context.Context, head, branch servers.Database, create func(context.Context, *fleet.Office) error) (*fleet.Fleet, error) {
	return b.found(ctx, fleet.Options{Direct: true}, head, branch, further{}, create)
}

// further is the offices' configuration beside what every office has.
type further struct{ head, branch string }

// found is fleet with options of the fleet's and further configuration.
func (b *bench) found(ctx context.Context, o fleet.Options, head, branch servers.Database, extra further, create func(context.Context, *fleet.Office) error) (*fleet.Fleet, error) {
	b.fleets++
	name := fmt.Sprintf("bench%d", b.fleets)
	return fleet.New(ctx, fleet.Options{
		Broker: b.servers.RabbitMQ[0], Binary: b.binary, Dir: filepath.Join(b.temp, name), Name: name, Direct: o.Direct,
		Offices: []fleet.Spec{
			{Name: "head", Role: schema.Head, Database: head, Extra: extra.head},
			{Name: "branch", Role: schema.Branch, Database: branch, Extra: extra.branch},
		},
		Schema: create,
	})
}

// leave ends a fleet and drops its databases: later sections shall not share the disk with them. When err says that the run
// fails, it first shows what the sidecars had to say, if -log is set.
func (b *bench) leave(f *fleet.Fleet, err error) error {
	if err != nil && b.log {
		for _, o := range f.Offices {
			text, _ := os.ReadFile(o.Log())
			fmt.Fprintf(b.progress, "--- log of %s\n%s\n", o.Name, text)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveLimit)
	defer cancel()
	return errors.Join(err, f.Close(), f.Drop(ctx))
}

// leaveLimit bounds the end of a fleet, also after Ctrl-C.
const leaveLimit = time.Minute
