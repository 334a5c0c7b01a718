package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sync/errgroup"

	"cdc-sidecar/fleet"
	"cdc-sidecar/servers"
)

// catchupSection asks how fast a target gets what was changed while nobody was looking.
var catchupSection = section{
	name:  "catchup",
	title: "Catch-up",
	about: "Each phase's changes are made once, at one source, while our sidecars and the databases' own replication are stopped. Then each is started by itself, timed until " +
		"the phase's last row is visible at its own target, and stopped, in turns. Commits are durable everywhere (fsync, synchronous_commit; MariaDB: sync_binlog and " +
		"innodb_flush_log_at_trx_commit 1). Tables are compared after every phase. CPU seconds are those of whole servers and sidecars until everything was acknowledged (in a quick run: until it was there).\n\n" +
		"insert100: inserts of 100 rows a transaction; update1: updates of one random row, each a transaction; bigtxn: one update of many rows; mixed: pgbench's tpcb-like, " +
		"four changes a transaction.\n\n" +
		"Native is Postgres' publication and subscription, or MariaDB's replication by GTID with four optimistic threads, and beside it, in the first round of a full run, with one. Between two engines there is none. " +
		"They have their defaults: a subscription's worker does not wait for the disk at each commit, and a replica writes no binlog of its own, " +
		"which our target, an office like every other, does. " +
		"In pg-pg-oneway the branch only receives (flow: receive), as a native subscriber does; elsewhere both offices may write, the default. " +
		"In pg-pg-back the branch is the source and the head, which decides conflicts, the target.",
	needs: func(o options) servers.Spec {
		var spec servers.Spec
		for _, p := range pairs {
			if !slices.Contains(o.pairs, p.name) {
				continue
			}
			spec.RabbitMQ = 1
			if p.source == postgres || p.target == postgres {
				spec.Postgres = 3
			}
			if p.source == maria || p.target == maria {
				spec.MariaDB = 4
			}
		}
		return spec
	},
	run: catchup,
}

func catchup(ctx context.Context, b *bench) error {
	if b.profile != "" {
		if err := os.MkdirAll(b.profile, 0o755); err != nil {
			return err
		}
	}
	for _, p := range pairs {
		if !slices.Contains(b.pairs, p.name) {
			continue
		}
		r := &rivalry{bench: b, pair: p, sizes: b.sizes(), outcomes: map[string]map[string][]outcome{}}
		if !slices.Contains(b.phases, mixed) {
			r.sizes.scale = 0
		}
		for round := range b.times(p.rounds) {
			if err := r.round(ctx, round); err != nil {
				return fmt.Errorf("%s, round %d: %w", p.name, round+1, err)
			}
		}
		r.report()
	}
	return nil
}

// rivalry is all rounds of a pair.
type rivalry struct {
	*bench
	pair     pair
	sizes    sizes
	names    []string                        // of the contestants
	outcomes map[string]map[string][]outcome // by phase and contestant, one a round
}

// round makes everything anew, so that no round works on what another left.
func (r *rivalry) round(ctx context.Context, round int) (err error) {
	source, target := r.offices()
	head, branch := source, target
	if r.pair.back {
		head, branch = target, source
	}
	var extra further
	if r.pair.oneWay {
		extra.branch = "tables:\n  - {name: '*', flow: receive}\n"
	}
	f, err := r.found(ctx, fleet.Options{Direct: true}, head, branch, extra, func(ctx context.Context, o *fleet.Office) error {
		db, err := o.DB()
		if err != nil {
			return err
		}
		return workloadOf(kindOf(o)).create(ctx, db, r.sizes.scale)
	})
	if err != nil {
		return err
	}
	defer func() { err = r.leave(f, err) }()
	setup, cancel := context.WithTimeout(ctx, stuck)
	defer cancel()
	contestants, from, err := r.contestants(setup, f, round)
	defer func() {
		for _, c := range contestants {
			err = errors.Join(err, c.close())
		}
	}()
	if err != nil {
		return err
	}
	for _, phase := range r.phases {
		if err := r.phase(ctx, round, phase, from, contestants); err != nil {
			return fmt.Errorf("%s: %w", phase, err)
		}
	}
	return nil
}

func kindOf(o *fleet.Office) kind {
	if o.Postgres() {
		return postgres
	}
	return maria
}

// offices are the servers of our source and target.
func (r *rivalry) offices() (source, target servers.Database) {
	of := func(k kind, i int) servers.Database {
		if k == postgres {
			return r.servers.Postgres[i]
		}
		return r.servers.MariaDB[i]
	}
	return of(r.pair.source, 0), of(r.pair.target, 1)
}

// contestants makes our sidecars known to one another, and the native replication beside them.
func (r *rivalry) contestants(ctx context.Context, f *fleet.Fleet, round int) ([]contestant, database, error) {
	source, target := f.Offices[0], f.Offices[1]
	if r.pair.back {
		source, target = target, source
	}
	from, err := r.officeDatabase(source)
	if err != nil {
		return nil, from, err
	}
	to, err := r.officeDatabase(target)
	if err != nil {
		return nil, from, err
	}
	us := &ours{fleet: f, source: source, branch: target, to: to, profile: r.profile, servers: map[string]int{
		sourceServer: pidOf(source.Database), targetServer: pidOf(target.Database), brokerServer: r.servers.RabbitMQ[0].Pid(),
	}}
	all := []contestant{us}
	if err := f.Start(ctx); err != nil {
		return all, from, err
	}
	if err := errors.Join(f.Settled(ctx), us.stop(ctx)); err != nil {
		return all, from, err
	}
	names := []string{"marks"}
	for _, phase := range r.phases {
		for _, t := range tables(phase) {
			names = appendNew(names, t)
		}
	}
	if r.pair.source == postgres && r.pair.target == postgres {
		native, err := subscribe(ctx, from, pidOf(source.Database), r.servers.Postgres[2], f.VHost()+"_native", r.sizes.scale, names)
		if err != nil {
			return all, from, err
		}
		all = append(all, native)
	}
	if r.pair.source == maria && r.pair.target == maria {
		threads := []int{4}
		if round == 0 && !r.quick {
			threads = append(threads, 0) // takes minutes
		}
		natives, err := r.replicas(ctx, f, source, from, threads)
		all = append(all, natives...)
		if err != nil {
			return all, from, err
		}
	}
	for _, c := range all {
		r.names = appendNew(r.names, c.name())
	}
	return all, from, nil
}

func (r *rivalry) officeDatabase(o *fleet.Office) (database, error) {
	db, err := o.DB()
	return database{DB: db, workload: workloadOf(kindOf(o)), url: o.URL}, err
}

// pidOf is 0 for a server that is not ours.
func pidOf(db servers.Database) int {
	if own, ok := db.(interface{ Pid() int }); ok {
		return own.Pid()
	}
	return 0
}

// phase lets one after another have what was changed, beginning with another in each round.
func (r *rivalry) phase(ctx context.Context, round int, phase string, from database, contestants []contestant) error {
	want, err := r.made(ctx, phase, from, contestants)
	if err != nil {
		return err
	}
	rows := r.sizes.rows(phase)
	for i := range contestants {
		c := contestants[(i+round)%len(contestants)]
		if us, ok := c.(*ours); ok {
			us.profiles(fmt.Sprintf("%s-%s-%d", r.pair.name, phase, round+1))
		}
		syscall.Sync()                                // what others wrote is not written in this one's time
		o, err := race(ctx, c, phase, rows, !r.quick) // acknowledgements come every two seconds: too long for a quick run
		if err != nil {
			return err
		}
		got, err := c.target().contents(ctx, phase)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("the tables differ: the source has %d rows (%s), the target of %s %d (%s)", want.rows, want.hash, c.name(), got.rows, got.hash)
		}
		r.told(round, phase, c, rows, o)
		r.logf("    equal: %s rows", number(float64(got.rows)))
		if r.outcomes[phase] == nil {
			r.outcomes[phase] = map[string][]outcome{}
		}
		r.outcomes[phase][c.name()] = append(r.outcomes[phase][c.name()], o)
	}
	return nil
}

// made makes a phase's changes, then has all databases do what they have put off, and returns what the source holds. A
// target that is not raced stays calm.
func (r *rivalry) made(ctx context.Context, phase string, from database, contestants []contestant) (want contents, err error) {
	ctx, cancel := context.WithTimeout(ctx, stuck)
	defer cancel()
	if err := from.change(ctx, phase, r.sizes); err != nil {
		return want, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := from.calm(ctx, from.DB); err != nil {
			return err
		}
		var err error
		want, err = from.contents(ctx, phase)
		return err
	})
	for _, c := range contestants {
		group.Go(func() error { return c.target().calm(ctx, c.target().DB) })
	}
	err = group.Wait()
	return want, err
}

// told shows an outcome to whoever waits.
func (r *rivalry) told(round int, phase string, c contestant, rows int, o outcome) {
	line := fmt.Sprintf("  %s round %d %s %s: %s rows/s (%.2f s, of which %.2f s to the first); CPU s per million rows:", r.pair.name, round+1, phase, c.name(), number(float64(rows)/o.seconds), o.seconds, o.starting)
	for _, role := range []string{headSidecar, branchSidecar, sourceServer, targetServer, brokerServer} {
		if used, ok := o.cpu[role]; ok {
			line += fmt.Sprintf(" %s %.1f", role, used/float64(rows)*1e6)
		}
	}
	if o.bytesPerRow > 0 {
		line += fmt.Sprintf("; %.0f bytes a row; peak %.0f and %.0f MB", o.bytesPerRow, o.peak[headSidecar], o.peak[branchSidecar])
	}
	r.logf("%s", line)
}
