package clock

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"cdc-sidecar/schema"
)

// rowIDs are n rows as hashes are: any of all.
func rowIDs(n int) []schema.RowID {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	ids := make([]schema.RowID, n)
	for i := range ids {
		binary.BigEndian.PutUint64(ids[i][:8], random.Uint64())
		binary.BigEndian.PutUint64(ids[i][8:], random.Uint64())
	}
	return ids
}

func touchAll(tb testing.TB, x *Index, ids []schema.RowID) {
	for i, id := range ids {
		if err := x.Touch(id, Touch{Seq: x.newest + 1, Stamp: schema.Stamp{Millis: int64(i)}, Origin: "north"}, true); err != nil {
			tb.Fatal(err)
		}
	}
}

func BenchmarkTouch(b *testing.B) {
	for name, rows := range map[string]int{"memory": 1 << 17, "disk": 1 << 21} {
		b.Run(name, func(b *testing.B) {
			x, ids := open(b, Options{}), rowIDs(rows)
			touchAll(b, x, ids)
			b.ReportAllocs()
			var n int
			for b.Loop() {
				if err := x.Touch(ids[n%rows], Touch{Seq: x.newest + 1, Origin: "north"}, true); err != nil {
					b.Fatal(err)
				}
				n++
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "touches/s")
		})
	}
}

// Rows that nobody has touched: a start, or a bulk load.
func BenchmarkTouchNew(b *testing.B) {
	const rows = 1 << 20
	ids := rowIDs(rows)
	b.ReportAllocs()
	for b.Loop() {
		x := open(b, Options{})
		touchAll(b, x, ids)
		if err := x.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "touches/s")
}

func BenchmarkRow(b *testing.B) {
	const rows = 1 << 17
	all := rowIDs(11 * rows)
	for name, o := range map[string]Options{"memory": {Rows: 20 * rows}, "disk": {Rows: rows}} {
		x := open(b, o)
		touchAll(b, x, all[:10*rows])
		for hit, ids := range map[string][]schema.RowID{"hit": all[:8*rows], "miss": all[10*rows:]} {
			b.Run(name+"/"+hit, func(b *testing.B) {
				b.ReportAllocs()
				var n int
				for b.Loop() {
					if _, ok, err := x.Row(ids[n%len(ids)]); err != nil || ok != (hit == "hit") {
						b.Fatal(ok, err)
					}
					n++
				}
			})
		}
	}
}

// A restart with a million rows in the journal: rebuilt from it, and taken over.
func BenchmarkRestart(b *testing.B) {
	const rows, together = 1_000_000, 500
	dir, j := b.TempDir(), &journalOf{epoch: 1}
	for n := 0; n < rows; n += together {
		tx := closed(uint64(n/together+1), "north")
		for i := range together {
			tx.Changes = append(tx.Changes, change(fmt.Sprint(n+i)))
		}
		if err := j.append(b.Context(), []schema.Transaction{tx}); err != nil {
			b.Fatal(err)
		}
	}
	for _, kept := range []bool{false, true} {
		b.Run(fmt.Sprintf("kept=%t", kept), func(b *testing.B) {
			ended := time.Duration(0)
			f := follow(b, dir, j, 0)
			catchUp(b, f)
			for b.Loop() {
				b.StopTimer()
				began, end := time.Now(), f.Close
				if kept {
					end = f.Keep
				}
				if err := end(); err != nil {
					b.Fatal(err)
				}
				ended += time.Since(began)
				b.StartTimer()
				f = follow(b, dir, j, 0)
				if f.InStep() != kept {
					b.Fatal(f.refused)
				}
				catchUp(b, f)
			}
			b.ReportMetric(ended.Seconds()*1000/float64(b.N), "ms/end")
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
