package journal

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cdc-sidecar/schema"
)

// TestMain makes the random tests short enough for every run; FULL=1 and rapid's own flag give them more time.
func TestMain(m *testing.M) {
	if os.Getenv("CDC_FULL") == "" {
		if err := flag.Set("rapid.checks", "15"); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

const (
	here  = schema.Office("head")
	north = schema.Office("north")
	south = schema.Office("south")
)

// born is when the journals of the tests begin; their commits have microseconds, so that stamps do not depend on now.
var born = time.Date(2026, 3, 4, 5, 6, 7, 123000, time.UTC)

var item = schema.NewTable(schema.Table{
	TableName: schema.TableName{Name: "item"}, Engine: schema.Postgres, Key: []int{0},
	Columns: []schema.Column{
		{Name: "id", Kind: schema.KindInt, Size: 64, Native: "bigint"},
		{Name: "text", Kind: schema.KindText, Nullable: true, Native: "text"},
	},
})

// row is a change with n bytes that do not compress, the same for the same id.
func row(id, n int) schema.Change {
	text := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(id), byte(id >> 8), byte(n), byte(n >> 8)}).Read(text)
	return schema.Change{Table: item, Op: schema.Insert, After: schema.Row{schema.Of(fmt.Sprint(id)), schema.Of(string(text))}}
}

// local is a whole transaction of this office; source is the place behind it.
func local(source string, changes ...schema.Change) schema.Transaction {
	return schema.Transaction{Origin: here, Commit: born, Changes: changes, Last: true, Source: source}
}

// from is another office's transaction, applied here.
func from(origin schema.Office, seq uint64, source string, changes ...schema.Change) schema.Transaction {
	return schema.Transaction{
		Origin: origin, OriginPos: schema.Position{Epoch: 9, Seq: seq}, Stamp: schema.Stamp{Millis: born.UnixMilli() + int64(seq), Counter: 7},
		Commit: born, Changes: changes, Last: true, Source: source,
	}
}

// parts makes one transaction of several.
func parts(txs ...schema.Transaction) []schema.Transaction {
	for i := range txs {
		txs[i].Part, txs[i].Last = i, i == len(txs)-1
		if !txs[i].Last {
			txs[i].Source = ""
		}
	}
	return txs
}

func silent(source string, seen uint64) schema.Transaction {
	return schema.Transaction{Last: true, Source: source, Seen: schema.Position{Epoch: 9, Seq: seen}}
}

func options() Options {
	return Options{Office: here, Now: func() time.Time { return born }}
}

// open opens a journal that is closed at the end of the test.
func open(t testing.TB, dir string, o Options) *Journal {
	t.Helper()
	j, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, j) })
	return j
}

func shut(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

func put(t testing.TB, j *Journal, txs ...schema.Transaction) {
	t.Helper()
	if err := j.Append(t.Context(), txs); err != nil {
		t.Fatal(err)
	}
}

// fataler is what testing.T and rapid.T share.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// messages reads everything from seq on and checks each message by itself and the chain that they are.
func messages(t fataler, j *Journal, seq uint64) []schema.Message {
	t.Helper()
	c, err := j.Seek(seq)
	if err != nil {
		t.Fatalf("seek %d: %v", seq, err)
	}
	var out []schema.Message
	for {
		entries, next, err := j.Read(c, 128<<10)
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		if len(entries) == 0 {
			return out
		}
		for i := range entries {
			e := &entries[i]
			m, err := schema.DecodeMessage(e.Message)
			if err != nil {
				t.Fatalf("message %d: %v", e.Seq, err)
			}
			if len(e.Message) > maxMessage {
				t.Fatalf("message %d has %d bytes", e.Seq, len(e.Message))
			}
			if m.Seq != e.Seq || m.Prev != e.Prev || m.Part != e.Part || (m.More || m.Continued) != e.More {
				t.Fatalf("entry %d→%d part %d more %v has the message %+v", e.Prev, e.Seq, e.Part, e.More, m)
			}
			if e.Next <= c {
				t.Fatalf("entry %d: the next cursor is %d behind %d", e.Seq, e.Next, c)
			}
			out = append(out, m)
		}
		c = next
	}
}

// transactions opens messages, joins what was cut, and checks that the chain has no hole and begins before seq.
func transactions(t fataler, all []schema.Message, seq uint64) []schema.Transaction {
	t.Helper()
	var out []schema.Transaction
	var body []byte
	last, part, inside := seq-1, uint32(0), false
	for _, m := range all {
		if !inside {
			if m.Prev != last && out != nil || m.Prev > last || m.Part != 0 {
				t.Fatalf("message %d→%d part %d follows %d", m.Prev, m.Seq, m.Part, last)
			}
		} else if m.Seq != last || m.Part != part+1 {
			t.Fatalf("piece %d of %d follows piece %d of %d", m.Part, m.Seq, part, last)
		}
		last, part, inside = m.Seq, m.Part, m.More || m.Continued
		if body = append(body, m.Body...); m.Continued {
			continue
		}
		plain, err := schema.Unpack(body, m.Codec)
		if err != nil {
			t.Fatalf("message %d: %v", m.Seq, err)
		}
		batch, err := schema.DecodeBatch(plain, m.Epoch)
		if err != nil {
			t.Fatalf("message %d: %v", m.Seq, err)
		}
		out, body = append(out, batch.Transactions...), nil
	}
	if inside {
		t.Fatalf("the stream ends inside of transaction %d", last)
	}
	return out
}

// same compares transactions as a reader gets them with those that were appended.
func same(t fataler, got, want []schema.Transaction) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d transactions and parts, want %d: %s; want %s", len(got), len(want), seqs(got), seqs(want))
	}
	for i := range want {
		w := want[i]
		w.Source = ""
		if !reflect.DeepEqual(got[i], w) {
			t.Fatalf("transaction %d: got %s, want %s", i, tell(&got[i]), tell(&w))
		}
	}
}

func seqs(txs []schema.Transaction) string {
	var b strings.Builder
	for i := range txs {
		fmt.Fprintf(&b, "%d.%d ", txs[i].Pos.Seq, txs[i].Part)
	}
	return b.String()
}

func tell(t *schema.Transaction) string {
	c := *t
	c.Changes = nil
	return fmt.Sprintf("%+v with %d changes, %d bytes", c, len(t.Changes), t.Bytes())
}

// all is everything that the journal holds.
func all(t fataler, j *Journal) []schema.Transaction {
	t.Helper()
	first := j.State().First
	return transactions(t, messages(t, j, first), first)
}

// copies are what a capture would read again: Append writes into what it is given.
func copies(txs []schema.Transaction) []schema.Transaction { return slices.Clone(txs) }
