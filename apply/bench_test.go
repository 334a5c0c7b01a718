package apply

import (
	"fmt"
	"strconv"
	"strings"
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

var line = define("lines", order.Columns...)

// mixed is change i of an endless row of transactions of five.
func mixed(i int, state string) schema.Change {
	const far = 1000000 // from the rows that are updated
	switch id := far + i/5; i % 5 {
	case 0:
		return insert(order, orderRow(id, "new")...)
	case 1:
		return insert(line, orderRow(id, "new")...)
	case 2:
		return update(order, orderRow(id, state)...)
	case 3:
		return update(order, orderRow(id%100, state+strconv.Itoa(i))...)
	default:
		return remove(line, strconv.Itoa(max(id-500, far)))
	}
}

// BenchmarkApply measures rows per second, at a branch and at the head: insert100 are inserts in transactions of 100, update1
// single-row transactions, both grouped as a backlog is; bigtxn is an update of many rows in parts; mixed are transactions
// that insert a row and change it, update another of a hundred, insert a row elsewhere, and delete one inserted long before.
func BenchmarkApply(b *testing.B) {
	for _, engine := range []string{"postgres", "mariadb"} {
		for _, kind := range []string{"insert100", "update1", "bigtxn", "mixed"} {
			for _, role := range []schema.Role{schema.Branch, schema.Head} {
				b.Run(engine+"/"+kind+"/"+string(role), func(b *testing.B) { benchmarkApply(b, engine, kind, role) })
			}
		}
	}
}

// perCall is how many changes one call of Apply brings: as many as one group takes.
const perCall = maxGroupChanges

func benchmarkApply(b *testing.B, engine, kind string, role schema.Role) {
	var w *world
	if engine == "postgres" {
		w = postgresWorld(b, role)
	} else {
		w = mysqlWorld(b, role)
	}
	w.exec(fmt.Sprintf(orderDDL, w.pick("timestamp", "datetime(6)")))
	seq := uint64(0)
	call := func(perTransaction int, change func(i int) schema.Change) []schema.Transaction {
		var txs []schema.Transaction
		for i := 0; i < perCall; i += perTransaction {
			seq++
			changes := make([]schema.Change, perTransaction)
			for j := range changes {
				changes[j] = change(i + j)
			}
			txs = append(txs, tx(seq, changes...))
		}
		return txs
	}
	w.exec(fmt.Sprintf(strings.Replace(orderDDL, "orders", "lines", 1), w.pick("timestamp", "datetime(6)")))
	const parts = 5 // of bigtxn
	if kind != "insert100" {
		for n := range parts {
			w.apply(call(perCall, func(i int) schema.Change { return insert(order, orderRow(n*perCall+i, "new")...) })...)
		}
	}
	b.ReportAllocs()
	rows := 0
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		var txs []schema.Transaction
		state := "s" + strconv.Itoa(n)
		switch kind {
		case "insert100":
			txs = call(100, func(i int) schema.Change { return insert(order, orderRow(n*perCall+i, "new")...) })
		case "update1":
			txs = call(1, func(i int) schema.Change { return update(order, orderRow(i, state)...) })
		case "mixed":
			txs = call(5, func(i int) schema.Change { return mixed(n*perCall+i, state) })
		default:
			for j := range parts {
				one := call(perCall, func(i int) schema.Change { return update(order, orderRow(j*perCall+i, state)...) })[0]
				one.Pos.Seq, one.Part, one.Last = seq-uint64(j), j, j == parts-1
				txs = append(txs, one)
			}
			seq -= parts - 1
		}
		for i := range txs {
			rows += len(txs[i].Changes)
		}
		b.StartTimer()
		w.apply(txs...)
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkChunk measures rows per second of chunks of 2,000: new ones, or of others in place of what stands.
func BenchmarkChunk(b *testing.B) {
	for _, engine := range []string{"postgres", "mariadb"} {
		for _, kind := range []string{"new", "other"} {
			b.Run(engine+"/"+kind, func(b *testing.B) { benchmarkChunk(b, engine, kind == "other") })
		}
	}
}

func benchmarkChunk(b *testing.B, engine string, other bool) {
	var w *world
	if engine == "postgres" {
		w = postgresWorld(b, schema.Branch)
	} else {
		w = mysqlWorld(b, schema.Branch)
	}
	w.exec(fmt.Sprintf(orderDDL, w.pick("timestamp", "datetime(6)")))
	const perChunk = 2000
	chunk := func(n int, state string) (changes []schema.Change) {
		for i := range perChunk {
			changes = append(changes, insert(order, orderRow(n*perChunk+i, state)...))
		}
		return changes
	}
	if other {
		w.chunk(0, chunk(0, "new")...)
	}
	n := 0
	for b.Loop() {
		b.StopTimer()
		changes := chunk(n, "new")
		if other {
			changes = chunk(0, "s"+strconv.Itoa(n))
		}
		n++
		b.StartTimer()
		w.chunk(0, changes...)
	}
	b.ReportMetric(float64(n*perChunk)/b.Elapsed().Seconds(), "rows/s")
}
