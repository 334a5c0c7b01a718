package schema

import (
	"fmt"
	"testing"
)

// thousand is a batch of 1,000 ordinary rows.
func thousand() []Transaction {
	item := item()
	txs := make([]Transaction, 100)
	for i := range txs {
		var changes []Change
		for j := range 10 {
			id := fmt.Sprint(i*10 + j)
			changes = append(changes, Change{Table: item, Op: Insert, After: Row{Of(id), Of("an ordinary name of some thing, number " + id), Of("1500")}})
		}
		txs[i] = whole(uint64(i+1), changes...)
	}
	return txs
}

func perRow(b *testing.B, bytes int) {
	b.SetBytes(int64(bytes))
	b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkEncode(b *testing.B) {
	txs := thousand()
	buffer := AppendBatch(nil, txs)
	b.ReportAllocs()
	for b.Loop() {
		buffer = AppendBatch(buffer[:0], txs)
	}
	perRow(b, len(buffer))
}

func BenchmarkDecode(b *testing.B) {
	raw := AppendBatch(nil, thousand())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeBatch(raw, 1); err != nil {
			b.Fatal(err)
		}
	}
	perRow(b, len(raw))
}

func BenchmarkPack(b *testing.B) {
	raw := AppendBatch(nil, thousand())
	packed := raw
	b.ReportAllocs()
	for b.Loop() {
		packed, _, _ = Pack(raw)
	}
	perRow(b, len(raw))
	b.ReportMetric(float64(len(raw))/float64(len(packed)), "ratio")
}

func BenchmarkUnpack(b *testing.B) {
	packed, codec, err := Pack(AppendBatch(nil, thousand()))
	if err != nil {
		b.Fatal(err)
	}
	var raw []byte
	b.ReportAllocs()
	for b.Loop() {
		if raw, err = Unpack(packed, codec); err != nil {
			b.Fatal(err)
		}
	}
	perRow(b, len(raw))
}
