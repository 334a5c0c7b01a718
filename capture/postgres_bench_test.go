package capture

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// BenchmarkPostgresCapture reads a backlog of rows through a slot, in transactions of 1 and of 100 rows and in one.
func BenchmarkPostgresCapture(b *testing.B) {
	for _, size := range []int{1, 100, 0} {
		b.Run(fmt.Sprintf("rows-per-transaction-%d", size), func(b *testing.B) {
			set := servers.ForTest(b, servers.Spec{Postgres: 1, PostgresSettings: []string{"fsync=off"}})
			d, err := schema.ParseDSN(set.Postgres[0].URL("postgres"))
			if err != nil {
				b.Fatal(err)
			}
			conn, err := pgx.Connect(b.Context(), d.URL())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close(context.Background())
			exec := func(sql string) {
				if _, err := conn.Exec(b.Context(), sql); err != nil {
					b.Fatal(err)
				}
			}
			exec(`CREATE TABLE t (id bigint PRIMARY KEY, a text, n numeric, at timestamptz)`)
			c := PostgresConfig{DSN: d, Office: "bench", Role: schema.Head}
			start, err := c.Prepare(b.Context(), 1, "")
			if err != nil {
				b.Fatal(err)
			}
			each := size
			if size == 0 {
				each = b.N
			}
			exec(fmt.Sprintf(`DO $$ BEGIN FOR k IN 1..%[1]d BY %[2]d LOOP
				INSERT INTO t SELECT i, repeat('x', 80), i * 1.25, now() FROM generate_series(k, least(k + %[2]d - 1, %[1]d)) i;
				COMMIT; END LOOP; END $$`, b.N, each))
			p, err := OpenPostgres(b.Context(), c, start)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; {
				txs, err := p.Read(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				for i := range txs {
					n += len(txs[i].Changes)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			_ = p.Close(b.Context())
		})
	}
}
