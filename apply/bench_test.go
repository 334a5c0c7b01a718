package apply

import (
	"fmt"
	"strconv"
	"testing"

	"cdc-sidecar/schema"
)

// Rows as wide as in the speed measurements: about 190 bytes in Postgres' log.
var order = define("orders", integer("id"), schema.Column{Name: "customer", Kind: schema.KindInt, Size: 64}, text("state"), text("note"),
	schema.Column{Name: "total", Kind: schema.KindDecimal, Size: 12, Scale: 2, Native: "numeric(12,2)"}, schema.Column{Name: "placed", Kind: schema.KindTimestamp, Scale: 6})

const orderDDL = `CREATE TABLE orders (id int PRIMARY KEY, customer bigint, state varchar(20), note varchar(200), total numeric(12,2), placed %s)`

func orderRow(id int, state string) []string {
	return []string{
		strconv.Itoa(id), strconv.Itoa(1000000 + id), state, "leave it with the neighbour at number seven, please; ring twice, wait for the dog",
		fmt.Sprintf("%d.50", id%10000), "2026-03-04 05:06:07.123456",
	}
}

// BenchmarkApply measures rows per second: insert100 are inserts in transactions of 100, update1 single-row transactions,
// both grouped as a backlog is.
func BenchmarkApply(b *testing.B) {
	for _, engine := range []string{"postgres", "mariadb"} {
		for _, kind := range []string{"insert100", "update1"} {
			b.Run(engine+"/"+kind, func(b *testing.B) { benchmarkApply(b, engine, kind) })
		}
	}
}

func benchmarkApply(b *testing.B, engine, kind string) {
	var w *world
	if engine == "postgres" {
		w = postgresWorld(b, schema.Branch)
	} else {
		w = mysqlWorld(b, schema.Branch)
	}
	w.exec(fmt.Sprintf(orderDDL, w.pick("timestamp", "datetime(6)")))
	const rows = 2000 // of one call, as many as one group takes
	seq := uint64(0)
	call := func(perTransaction int, change func(i int) schema.Change) []schema.Transaction {
		var txs []schema.Transaction
		for i := 0; i < rows; i += perTransaction {
			seq++
			changes := make([]schema.Change, perTransaction)
			for j := range changes {
				changes[j] = change(i + j)
			}
			txs = append(txs, tx(seq, changes...))
		}
		return txs
	}
	if kind == "update1" {
		w.apply(call(rows, func(i int) schema.Change { return insert(order, orderRow(i, "new")...) })...)
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		var txs []schema.Transaction
		if kind == "insert100" {
			txs = call(100, func(i int) schema.Change { return insert(order, orderRow(n*rows+i, "new")...) })
		} else {
			txs = call(1, func(i int) schema.Change { return update(order, orderRow(i, "s"+strconv.Itoa(n))...) })
		}
		b.StartTimer()
		w.apply(txs...)
	}
	b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
}
