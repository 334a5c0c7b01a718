package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// joinSection asks how fast an empty branch joins, and what the head's applications notice of it.
var joinSection = section{
	name:  "join",
	title: "Joining",
	about: "The head has rows in eight tables (five of orders, three of order lines with a key of two columns); the branches have the tables, and no rows.\n\n" +
		"Alone: a Postgres branch joins a Postgres head at which nothing else happens. Timed is from the start of the branch's sidecar until it says that it has joined (“from the first row on”: without what " +
		"goes before). Beside it, before any sidecar runs, the same rows go between the same two databases by `COPY … TO STDOUT` and `COPY … FROM STDIN`, one table after the other.\n\n" +
		"Two at once: a Postgres and a MariaDB branch join together, while applications at the head make 100 transactions a second over 4 connections, an insert or an update of one row of any of the eight tables each. " +
		"A transaction's time is from its begin to the return of its commit; before is the same load in the same run, until the branches' sidecars start, and after is it when both have joined and follow. Once as fast as it goes, and (not in a quick run) once " +
		"with a limit in the branches' configuration, join: {rows: 10000}, which is for offices whose applications shall not notice. Everything shares the machine: the head's database has the branches' databases, " +
		"their sidecars and the broker for neighbours, on two cores and one disk, which it has not where offices are machines.\n\n" +
		"After each round all tables of all offices are compared.",
	needs: func(o options) servers.Spec {
		spec := servers.Spec{Postgres: 2, RabbitMQ: 1}
		if slices.Contains(o.pairs, "pg-maria") {
			spec.MariaDB = 1
		}
		return spec
	},
	run: join,
}

func join(ctx context.Context, b *bench) error {
	j := &joinRun{bench: b, rows: b.scaled(1_000_000), cpu: map[string]samples{}, copyCPU: map[string]samples{}}
	if b.quick && b.rows == quickRows {
		j.rows = 100_000
	}
	if b.profile != "" {
		if err := os.MkdirAll(b.profile, 0o755); err != nil {
			return err
		}
	}
	if slices.Contains(b.pairs, "pg-pg") {
		for round := range b.times(3) {
			if err := j.alone(ctx, round); err != nil {
				return fmt.Errorf("alone, round %d: %w", round+1, err)
			}
		}
		j.reportAlone()
	}
	if slices.Contains(b.pairs, "pg-maria") {
		for _, pace := range joinPaces {
			if pace.rows > 0 && b.quick {
				continue
			}
			for round := range b.times(2) {
				if err := j.together(ctx, round, pace); err != nil {
					return fmt.Errorf("two at once, %s, round %d: %w", pace.name, round+1, err)
				}
			}
			j.reportTogether(pace)
		}
	}
	return nil
}

// joinRun is all rounds of both questions.
type joinRun struct {
	*bench
	rows int // of all tables

	// Of a branch alone, one a round:
	copied, joined, copying samples            // rows a second: of COPY, of the join from the sidecar's start, and from its first row on
	cpu, copyCPU            map[string]samples // seconds per million rows
	headPeak, branchPeak    samples
	equal                   int

	// Of two at once at one pace, one a round:
	commits [stretches][]stretch
	both    samples // rows a second of both together
}

// joinPace is how fast branches may join.
type joinPace struct {
	name string
	rows int // a second; 0: as fast as it goes
}

var joinPaces = []joinPace{{"as fast as it goes", 0}, {"10,000 rows/s each", 10_000}}

// company makes the offices: the head with rows, the others without, with further configuration. No sidecar runs.
func (j *joinRun) company(ctx context.Context, extra string, branches ...servers.Database) (*fleet.Fleet, error) {
	j.fleets++
	name := fmt.Sprintf("bench%d", j.fleets)
	offices := []fleet.Spec{{Name: "head", Role: schema.Head, Database: j.servers.Postgres[0]}}
	for i, db := range branches {
		offices = append(offices, fleet.Spec{Name: schema.Office([]string{"branch", "other"}[i]), Role: schema.Branch, Database: db, Extra: extra})
	}
	return fleet.New(ctx, fleet.Options{
		Broker: j.servers.RabbitMQ[0], Binary: j.binary, Dir: filepath.Join(j.temp, name), Name: name, Direct: true, Offices: offices,
		Schema: func(ctx context.Context, o *fleet.Office) error {
			if o.Role == schema.Head {
				return createJoined(ctx, o, j.rows)
			}
			return createJoined(ctx, o, 0)
		},
	})
}

// alone is a round of one branch, and of COPY before it.
func (j *joinRun) alone(ctx context.Context, round int) (err error) {
	ctx, cancel := context.WithTimeout(ctx, stuck)
	defer cancel()
	f, err := j.company(ctx, "", j.servers.Postgres[1])
	if err != nil {
		return err
	}
	defer func() { err = j.leave(f, err) }()
	head, branch := f.Offices[0], f.Offices[1]
	if err := calm(ctx, f.Offices...); err != nil {
		return err
	}
	copied, err := j.copies(ctx, head, branch)
	if err != nil {
		return err
	}
	if _, err := equalJoined(ctx, head, branch); err != nil {
		return fmt.Errorf("after COPY: %w", err)
	}
	for _, t := range joinTables {
		if err := branch.Exec(ctx, "TRUNCATE "+t.name); err != nil {
			return err
		}
	}
	j.profiles(f, fmt.Sprintf("join-%d", round+1))
	if err := startHead(ctx, head); err != nil {
		return err
	}
	if err := calm(ctx, f.Offices...); err != nil {
		return err
	}
	return j.joins(ctx, round, f, copied)
}

// copies times COPY.
func (j *joinRun) copies(ctx context.Context, head, branch *fleet.Office) (float64, error) {
	processes := map[string]int{sourceServer: pidOf(head.Database), targetServer: pidOf(branch.Database)}
	before, err := cpuOf(processes)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := copyJoined(ctx, head, branch); err != nil {
		return 0, err
	}
	took := time.Since(began).Seconds()
	after, err := cpuOf(processes)
	for role := range after {
		j.copyCPU[role] = append(j.copyCPU[role], (after[role]-before[role])/float64(j.rows)*1e6)
	}
	return float64(j.rows) / took, err
}

// joins times the branch's join.
func (j *joinRun) joins(ctx context.Context, round int, f *fleet.Fleet, copied float64) error {
	head, branch := f.Offices[0], f.Offices[1]
	processes := map[string]int{
		headSidecar: head.Pid(), sourceServer: pidOf(head.Database), targetServer: pidOf(branch.Database), brokerServer: j.servers.RabbitMQ[0].Pid(),
	}
	before, err := cpuOf(processes)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := branch.Start(); err != nil {
		return err
	}
	first, err := joined(ctx, branch)
	if err != nil {
		return err
	}
	ended := time.Now()
	processes[branchSidecar] = branch.Pid()
	after, err := cpuOf(processes)
	if err != nil {
		return err
	}
	peaks := map[*fleet.Office]*samples{head: &j.headPeak, branch: &j.branchPeak}
	for o, peak := range peaks {
		m, err := memoryOf(o.Pid())
		if err != nil {
			return err
		}
		*peak = append(*peak, m.peak)
	}
	if j.equal, err = equalJoined(ctx, head, branch); err != nil {
		return err
	}
	rate, copying := float64(j.rows)/ended.Sub(began).Seconds(), float64(j.rows)/ended.Sub(first).Seconds()
	j.copied, j.joined, j.copying = append(j.copied, copied), append(j.joined, rate), append(j.copying, copying)
	line := fmt.Sprintf("  round %d: %s rows/s joined in %.2f s (%.2f s to the first row), COPY %s rows/s; CPU s per million rows:", round+1, number(rate), ended.Sub(began).Seconds(), first.Sub(began).Seconds(), number(copied))
	for _, role := range []string{headSidecar, branchSidecar, sourceServer, targetServer, brokerServer} {
		used := (after[role] - before[role]) / float64(j.rows) * 1e6
		j.cpu[role] = append(j.cpu[role], used)
		line += fmt.Sprintf(" %s %.1f", role, used)
	}
	j.logf("%s; peak %.0f and %.0f MB", line, j.headPeak[len(j.headPeak)-1], j.branchPeak[len(j.branchPeak)-1])
	return stop(ctx, f.Offices...)
}

// joined returns when a branch has joined, and when it began to copy rows.
func joined(ctx context.Context, o *fleet.Office) (first time.Time, err error) {
	tick := time.NewTicker(joinPoll)
	defer tick.Stop()
	for {
		s, err := o.Status(ctx)
		var rows uint64
		if s.Joining != nil {
			rows, _ = s.Joining.Progress()
		}
		met := err == nil && s.Ready && len(s.Peers) == 1 && s.Peers[0].Progress.Epoch != 0 && s.Joining == nil
		if first.IsZero() && (rows > 0 || met) {
			first = time.Now()
		}
		if met {
			return first, nil
		}
		if err == nil {
			err = fmt.Errorf("%d rows are there; %v", rows, s.Reasons())
		}
		select {
		case <-ctx.Done():
			return first, fmt.Errorf("wait until %s has joined: %w (%w)", o.Name, err, ctx.Err())
		case <-tick.C:
		}
	}
}

// joinPoll is how often a branch is asked how far it is.
const joinPoll = 50 * time.Millisecond

// startHead starts the head and waits until it ships.
func startHead(ctx context.Context, head *fleet.Office) error {
	if err := head.Start(); err != nil {
		return err
	}
	return fleet.Until(ctx, "the head is ready", func(ctx context.Context) error {
		s, err := head.Status(ctx)
		if err == nil && !s.Ready {
			err = errors.New(reasons(ctx, head))
		}
		return err
	})
}

// profiles makes each sidecar write a CPU profile from its next start to its end.
func (j *joinRun) profiles(f *fleet.Fleet, what string) {
	for _, o := range f.Offices {
		if o.Env = nil; j.profile != "" {
			o.Env = []string{"CDC_CPUPROFILE=" + filepath.Join(j.profile, what+"-"+string(o.Name)+".pprof")}
		}
	}
}

// calm has all databases do what they have put off.
func calm(ctx context.Context, offices ...*fleet.Office) error {
	for _, o := range offices {
		d, err := at(o)
		if err != nil {
			return err
		}
		if o.Postgres() { // what MariaDB would do has to do with the other sections' tables
			if err := d.calm(ctx, d.DB); err != nil {
				return err
			}
		}
	}
	syscall.Sync()
	return nil
}

const joinSpeed = "Rows a second, one branch alone"

func (j *joinRun) reportAlone() {
	const row = "pg-pg"
	j.report.add(
		median(joinSpeed, row, "join", j.joined, nil), median(joinSpeed, row, "COPY", j.copied, nil),
		ratio(joinSpeed, row, "join to COPY", j.joined, j.copied, atLeast(0.5, 0)), ratio(joinSpeed, row, "from the first row on", j.copying, j.copied, nil))
	const cpu = "CPU seconds per million rows, and MB at the peak"
	for _, role := range []string{headSidecar, branchSidecar, sourceServer, targetServer, brokerServer} {
		j.report.add(median(cpu, row, role, j.cpu[role], nil))
	}
	for role, used := range j.copyCPU {
		j.report.add(median(cpu, row+" COPY", role, used, nil))
	}
	j.report.add(median(cpu, row, "MB of the head", j.headPeak, atMost(mostUnderLoad, 0)), median(cpu, row, "MB of the branch", j.branchPeak, atMost(mostUnderLoad, 0)))
	j.report.note("equal: %s rows in %d tables after COPY and after the join", number(float64(j.equal)), len(joinTables))
}
