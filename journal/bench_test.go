package journal

import (
	"fmt"
	"testing"

	"cdc-sidecar/schema"
)

// BenchmarkAppend is what a capture sees: numbering, encoding, compression, a write and an fsync for each call.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name  string
		txs   int
		bytes int // of a row
	}{
		{"one of 100 B", 1, 100}, {"100 of 100 B", 100, 100}, {"1000 of 100 B", 1000, 100}, {"one of 64 KiB", 1, 64 << 10}, {"16 of 64 KiB", 16, 64 << 10},
	} {
		b.Run(c.name, func(b *testing.B) {
			j := open(b, b.TempDir(), options())
			txs := make([]schema.Transaction, c.txs)
			for i := range txs {
				txs[i] = local(fmt.Sprint(i), row(i, c.bytes))
			}
			b.SetBytes(int64(c.txs * c.bytes))
			b.ReportAllocs()
			for b.Loop() {
				put(b, j, txs...)
				b.StopTimer()
				if err := j.Release(j.State().Last); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(c.txs)*float64(b.N)/b.Elapsed().Seconds(), "tx/s")
		})
	}
}

func BenchmarkRead(b *testing.B) {
	j := open(b, b.TempDir(), options())
	for i := range 64 {
		put(b, j, local(fmt.Sprint(i), row(i, 64<<10)))
	}
	c, err := j.Seek(1)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(64 << 16)
	b.ReportAllocs()
	for b.Loop() {
		if entries, _, err := j.Read(c, 64<<20); err != nil || len(entries) != 64 {
			b.Fatal(len(entries), err)
		}
	}
}

func BenchmarkSeek(b *testing.B) {
	j := open(b, b.TempDir(), options())
	for i := range 1000 {
		put(b, j, local(fmt.Sprint(i), row(i, 100)))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := j.Seek(700); err != nil {
			b.Fatal(err)
		}
	}
}
