package capture

import (
	"context"
	"fmt"
	"testing"
)

// BenchmarkMySQL reads transactions of so many rows that are in the binlog already.
func BenchmarkMySQL(b *testing.B) {
	for _, rows := range []int{1, 100} {
		b.Run(fmt.Sprint(rows), func(b *testing.B) { benchmarkMySQL(b, rows) })
	}
}

func benchmarkMySQL(b *testing.B, rows int) {
	o := newMariaDBOffice(b)
	o.exec("CREATE TABLE t (id bigint AUTO_INCREMENT PRIMARY KEY, a int, name varchar(100), note varchar(200), price decimal(12,2), at datetime(6))")
	o.start = o.prepare(o.epoch, "")
	two := mysqlNibbles + " a JOIN " + mysqlNibbles + " b"
	for range b.N/rows + 1 {
		o.exec(fmt.Sprintf("INSERT INTO t (a, name, note, price, at) SELECT a.n, 'some name of a customer', repeat('x', 80), 12.34 + b.n, NOW(6) FROM %s LIMIT %d", two, rows))
	}
	src, err := OpenMySQL(b.Context(), o.MySQLConfig, o.start)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = src.Close(context.Background()) }()
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		txs, err := src.Read(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		for i := range txs {
			n += len(txs[i].Changes)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
