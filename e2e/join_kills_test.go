package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// slowJoin is a company whose branches have nothing and join so slowly that something can happen meanwhile.
func slowJoin(t *testing.T, set *servers.Set, bin string, rows, pace int, branches ...fleet.Spec) *fleet.Fleet {
	t.Helper()
	offices := []fleet.Spec{{Name: "hq", Role: schema.Head, Database: set.Postgres[0]}}
	for _, b := range branches {
		b.Role, b.Extra = schema.Branch, fmt.Sprintf("join: {rows: %d}\n", pace)
		offices = append(offices, b)
	}
	return companyOf(t, fleet.Options{
		Broker: set.RabbitMQ[0], Binary: bin, Offices: offices,
		Schema: func(ctx context.Context, o *fleet.Office) error {
			if o.Role == schema.Branch {
				return nil
			}
			if err := createWares(ctx, o); err != nil {
				return err
			}
			return fillWares(ctx, o, rows)
		},
	})
}

// errJoined says that an office has joined.
var errJoined = errors.New("it has joined")

// copied is how many rows of each table a joining office has by its own word.
func copied(ctx context.Context, o *fleet.Office) (map[string]uint64, error) {
	s, err := o.Status(ctx)
	switch {
	case err != nil:
		return nil, err
	case s.Joining == nil && s.Ready && len(s.Peers) > 0:
		return nil, errJoined
	case s.Joining == nil || len(s.Joining.Tables) == 0:
		return nil, errors.New("it has not begun to join")
	}
	all := map[string]uint64{}
	for _, t := range s.Joining.Tables {
		all[t.Table] = t.Rows
	}
	return all, nil
}

func sumOf(rows map[string]uint64) (n uint64) {
	for _, r := range rows {
		n += r
	}
	return n
}

// advances waits until a joining office has more rows than it had, and returns them. No table may have fewer than before. It
// reports false when the office has joined.
func advances(t *testing.T, o *fleet.Office, before map[string]uint64) (now map[string]uint64, joining bool) {
	t.Helper()
	joined := false
	must(t, fleet.Until(within(t, stuck), string(o.Name)+" goes on joining", func(ctx context.Context) (err error) {
		if now, err = copied(ctx, o); errors.Is(err, errJoined) {
			joined = true
			return nil
		}
		if err == nil && sumOf(now) <= sumOf(before) {
			err = fmt.Errorf("%d rows, as many as before", sumOf(now))
		}
		return err
	}))
	if joined {
		return nil, false
	}
	for table, n := range before {
		if now[table] < n {
			t.Errorf("%s had %d rows of table %s, and has %d", o.Name, n, table, now[table])
		}
	}
	return now, true
}

// Either side is killed again and again while a branch joins: it goes on where it was, and ends equal.
func TestJoiningSidesAreKilled(t *testing.T) {
	set := shared.Set(t)
	rows, kills := sized(30_000, 200_000), sized(4, 10)
	f := slowJoin(t, set, binary(t, "CDC_RACE_BINARY"), rows, sized(4000, 10_000), fleet.Spec{Name: "south", Database: set.MariaDB[0]})
	hq, south := f.Head(), f.Offices[1]
	must(t, hq.Start())
	captures(t, hq)
	end := background(t, ordersOf(&fleet.Workload{Writers: 1, Pause: 50 * time.Millisecond}, hq), func(ctx context.Context) error {
		_, err := stir(ctx, hq, rows, 100*time.Millisecond)
		return err
	})
	must(t, south.Start())
	killed := 0
	now, joining := advances(t, south, nil)
	for ; joining && killed < kills; killed++ {
		o := f.Offices[killed%2]
		o.Kill()
		must(t, o.Start())
		now, joining = advances(t, south, now)
	}
	if killed < kills {
		t.Errorf("it had joined after %d kills: too fast for this test", killed)
	}
	must(t, f.Met(within(t, 2*stuck)))
	end()
	n, err := sameWares(within(t, stuck), f)
	must(t, err)
	t.Logf("%d rows, %d kills", n, killed)
}

// The line is cut and the queue purged while branches join.
func TestLinksAreCutDuringAJoin(t *testing.T) {
	wholeOnly(t)
	set := shared.Set(t)
	rows := sized(20_000, 200_000)
	f := slowJoin(t, set, binary(t, "CDC_RACE_BINARY"), rows, sized(5000, 20_000),
		fleet.Spec{Name: "north", Database: set.Postgres[1]}, fleet.Spec{Name: "south", Database: set.MariaDB[0]})
	hq := f.Head()
	must(t, hq.Start())
	captures(t, hq)
	end := background(t, ordersOf(&fleet.Workload{Writers: 1, Pause: 50 * time.Millisecond}, hq), func(ctx context.Context) error {
		_, err := stir(ctx, hq, rows, 100*time.Millisecond)
		return err
	})
	had := map[*fleet.Office]map[string]uint64{}
	for _, o := range f.Offices[1:] {
		must(t, o.Start())
	}
	for _, o := range f.Offices[1:] {
		had[o], _ = advances(t, o, nil)
	}
	for i := range sized(3, 9) {
		o := f.Offices[i%len(f.Offices)]
		o.Link.Cut()
		pause(t.Context(), sized(500*time.Millisecond, 5*time.Second))
		must(t, o.Link.Restore())
		for _, queue := range []string{"north", "south", "hq"}[:2+i%2] {
			must(t, set.RabbitMQ[0].PurgeQueue(within(t, stuck), f.VHost(), "cdc.office."+queue))
		}
		for _, o := range f.Offices[1:] {
			if before := had[o]; before != nil {
				had[o], _ = advances(t, o, before)
			}
		}
	}
	must(t, f.Met(within(t, 2*stuck)))
	end()
	_, err := sameWares(within(t, stuck), f)
	must(t, err)
}

// A join keeps the pace that its configuration sets, so that it leaves the line to others.
func TestAJoinKeepsItsPace(t *testing.T) {
	wholeOnly(t)
	set := shared.Set(t)
	const pace = 4000
	f := slowJoin(t, set, binary(t, "CDC_RACE_BINARY"), 30_000, pace, fleet.Spec{Name: "north", Database: set.Postgres[1]})
	must(t, f.Head().Start())
	captures(t, f.Head())
	north := f.Offices[1]
	must(t, north.Start())
	type sample struct {
		at   time.Time
		rows uint64
	}
	var samples []sample
	must(t, fleet.Until(within(t, stuck), "it joins", func(ctx context.Context) error {
		asked := time.Now()
		now, err := copied(ctx, north)
		if errors.Is(err, errJoined) {
			return nil
		}
		if err == nil {
			samples = append(samples, sample{asked, sumOf(now)})
		}
		return errors.New("it joins")
	}))
	compared := 0
	for i, a := range samples {
		for _, b := range samples[i:] {
			if took := b.at.Sub(a.at); took >= 3*time.Second {
				compared++
				if rate := float64(b.rows-a.rows) / took.Seconds(); rate > 2*pace {
					t.Fatalf("%d rows in %v: %.0f rows a second, %d are allowed", b.rows-a.rows, took, rate, pace)
				}
			}
		}
	}
	if compared == 0 {
		t.Error("it joined in less than three seconds")
	}
	verifies(t, binary(t, "CDC_RACE_BINARY"), north)
}
