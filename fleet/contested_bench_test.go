package fleet_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

var shared = servers.Shared{Spec: servers.Spec{Postgres: 2, RabbitMQ: 1}}

func TestMain(m *testing.M) { os.Exit(shared.Main(m).Run()) }

// What it costs that several offices may write a table: the same changes of one branch, applied at a Postgres head, to a
// table that its own applications do not write (one-way), and to one that they do (contested: rows are compared with their
// clocks behind a barrier). Both in one run, in turns; reported is the ratio of the medians, contested to one-way.
func BenchmarkContestedTables(b *testing.B) {
	bin := os.Getenv("CDC_PLAIN_BINARY")
	if bin == "" {
		b.Skip("CDC_PLAIN_BINARY does not name a sidecar binary: run make bench")
	}
	set := shared.Set(b)
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	dir, err := os.MkdirTemp("", "cdc-bench-")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	f, err := fleet.New(ctx, fleet.Options{
		Broker: set.RabbitMQ[0], Binary: bin, Dir: dir, Name: "bench",
		Offices: []fleet.Spec{
			{Name: "head", Role: schema.Head, Database: set.Postgres[0], Extra: "tables:\n  - {name: public.oneway, flow: receive}\n  - {name: public.contested, flow: both}\n"},
			{Name: "north", Role: schema.Branch, Database: set.Postgres[1]},
		},
		Schema: func(ctx context.Context, o *fleet.Office) error {
			columns := "(id bigint PRIMARY KEY, office int NOT NULL, customer text NOT NULL, amount numeric(12,2) NOT NULL, note text NOT NULL)"
			return o.Exec(ctx, "CREATE TABLE oneway "+columns, "CREATE TABLE contested "+columns)
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Start(ctx); err != nil {
		b.Fatal(err)
	}
	const rounds = 5
	took := map[string][]float64{}
	for b.Loop() {
		for round := range rounds {
			for _, table := range []string{"oneway", "contested"} {
				took[table] = append(took[table], backlog(ctx, b, f, table, round))
			}
		}
	}
	oneWay, contested := median(took["oneway"]), median(took["contested"])
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(rowsOfRound/oneWay, "one-way-rows/s")
	b.ReportMetric(rowsOfRound/contested, "contested-rows/s")
	b.ReportMetric(oneWay/contested, "contested/one-way")
	status, err := f.Head().Status(ctx)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("barriers: %+v", status.Clocks)
	b.Logf("seconds a round: one-way %.2f, contested %.2f", took["oneway"], took["contested"])
}

// Of a round: transactions of 100 rows, and as many rows updated one by one.
const (
	benchTransactions = 600
	benchUpdates      = 10000
	rowsOfRound       = benchTransactions*100 + benchUpdates
)

// backlog makes changes at the branch while its link is cut, and returns the seconds from its restoration until the head has
// applied them all.
func backlog(ctx context.Context, b *testing.B, f *fleet.Fleet, table string, round int) float64 {
	b.Helper()
	head, north := f.Offices[0], f.Offices[1]
	north.Link.Cut()
	for i := range benchTransactions {
		from := (round*benchTransactions+i)*100 + 1
		if err := north.Exec(ctx, fmt.Sprintf("INSERT INTO %s SELECT n, n %% 50, 'customer ' || n, n %% 1000 + 0.25, repeat('x', 64) FROM generate_series(%d, %d) n", table, from, from+99)); err != nil {
			b.Fatal(err)
		}
	}
	first := round*benchTransactions*100 + 1
	// One transaction a row: DO commits each of them.
	if err := north.Exec(ctx, fmt.Sprintf("DO $$ BEGIN FOR i IN %d..%d LOOP UPDATE %s SET amount = amount + 1 WHERE id = i; COMMIT; END LOOP; END $$", first, first+benchUpdates-1, table)); err != nil {
		b.Fatal(err)
	}
	err := fleet.Until(ctx, "the branch has captured its changes", func(ctx context.Context) error {
		s, err := north.Status(ctx)
		if err == nil && s.Capture.Changes.Insert+s.Capture.Changes.Update < written[north]+rowsOfRound {
			err = fmt.Errorf("%d captured", s.Capture.Changes.Insert+s.Capture.Changes.Update)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	written[north] += rowsOfRound
	if err := north.Link.Restore(); err != nil {
		b.Fatal(err)
	}
	arrived := func(rows uint64) {
		err := fleet.Until(ctx, "the head has applied them", func(ctx context.Context) error {
			s, err := head.Status(ctx)
			if err == nil && s.Apply.Changes.Insert+s.Apply.Changes.Update < rows {
				err = fmt.Errorf("%d applied", s.Apply.Changes.Insert+s.Apply.Changes.Update)
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	arrived(written[north] - rowsOfRound + 1) // from the first on: how soon the branch finds its broker again is not the question
	began := time.Now()
	arrived(written[north])
	took := time.Since(began).Seconds()
	query := "SELECT id, concat_ws('|', id, office, customer, amount, note) FROM " + table + " ORDER BY id"
	there, err := head.DigestOf(ctx, query)
	if err != nil {
		b.Fatal(err)
	}
	if here, err := north.DigestOf(ctx, query); err != nil || here != there {
		b.Fatalf("table %s: %+v at the head, %+v at the branch, %v", table, there, here, err)
	}
	return took
}

// written is how many rows a branch has written so far.
var written = map[*fleet.Office]uint64{}

func median(s []float64) float64 {
	s = slices.Sorted(slices.Values(s))
	return s[len(s)/2]
}
