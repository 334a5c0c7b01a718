package apply

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cdc-sidecar/schema"
)

// model is what the table has to be: state, as a map.
type model map[int][2]string

func (m model) String() string {
	lines := make([]string, 0, len(m))
	for _, id := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, fmt.Sprintf("%d %s %s", id, m[id][0], m[id][1]))
	}
	return strings.Join(lines, "\n")
}

// change draws one change of the table and makes it in the model too. It does not care whether the row is there.
func (m model) change(t *rapid.T) schema.Change {
	id := rapid.IntRange(1, 12).Draw(t, "id")
	values := [2]string{rapid.SampledFrom([]string{"a", "b", "it's", `back\slash`, "ü😀", ""}).Draw(t, "name"), strconv.Itoa(rapid.IntRange(-9, 9).Draw(t, "stock"))}
	key := strconv.Itoa(id)
	switch rapid.SampledFrom([]string{"insert", "insert", "update", "update", "partial", "delete", "rekey", "truncate"}).Draw(t, "operation") {
	case "insert":
		m[id] = values
		return insert(item, key, values[0], values[1])
	case "partial": // only of a row that is there: nobody could complete another
		if old, ok := m[id]; ok {
			m[id] = [2]string{old[0], values[1]}
			return update(item, key, gone, values[1])
		}
	case "delete":
		delete(m, id)
		return remove(item, key)
	case "rekey": // onto a free key: on a taken one it would be a collision
		if to := rapid.IntRange(1, 12).Draw(t, "to"); to != id && m[to] == [2]string{} {
			delete(m, id)
			m[to] = values
			return rekey(item, row(key, gone, gone), strconv.Itoa(to), values[0], values[1])
		}
	case "truncate":
		clear(m)
		return schema.Change{Table: item, Op: schema.Truncate}
	}
	m[id] = values
	return update(item, key, values[0], values[1])
}

// Whatever the changes, however they are grouped, cut into parts, delivered twice, and interrupted: the table becomes what
// the changes say, in order, each once.
func TestAnyStream(t *testing.T) {
	asksServers(t)
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		sender := 0
		rapid.Check(w.TB, func(t *rapid.T) {
			sender++
			name := schema.Office(fmt.Sprintf("s%d", sender))
			w.exec("DELETE FROM item")
			w.begin(name)
			var sent []schema.Transaction
			m := model{}
			for call := range rapid.IntRange(1, 6).Draw(t, "calls") {
				for range rapid.IntRange(1, 4).Draw(t, "transactions") {
					sent = append(sent, m.transaction(t, seqAfter(sent))...)
				}
				from := rapid.IntRange(0, len(sent)-1).Draw(t, "from") // some of it was delivered before
				from = wholeFrom(sent, min(from, firstOf(sent, w.progress(t, name))))
				if rapid.IntRange(0, 3).Draw(t, "interrupted") == 0 {
					_ = w.applier.Apply(w.Context(), name, sent[from:rapid.IntRange(from, len(sent)).Draw(t, "to")])
					w.applier.Discard(w.Context())
					from = wholeFrom(sent, firstOf(sent, w.progress(t, name)))
				}
				if err := w.applier.Apply(w.Context(), name, sent[from:]); err != nil {
					t.Fatalf("call %d: %v", call, err)
				}
				if got := w.rows(items); got != m.String() {
					t.Fatalf("call %d: the table is\n%s\nwant\n%s", call, got, m)
				}
			}
			if got, want := w.progress(t, name), seqAfter(sent)-1; got != want {
				t.Fatalf("progress %d, want %d", got, want)
			}
		})
	})
}

// transaction draws the next one, in one part or several.
func (m model) transaction(t *rapid.T, seq uint64) []schema.Transaction {
	var parts []schema.Transaction
	n := rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(t, "parts")
	for i := range n {
		var changes []schema.Change
		for range rapid.IntRange(0, 4).Draw(t, "changes") {
			changes = append(changes, m.change(t))
		}
		parts = append(parts, part(seq, i, i == n-1, changes...))
	}
	return parts
}

func seqAfter(sent []schema.Transaction) uint64 {
	if len(sent) == 0 {
		return 1
	}
	return sent[len(sent)-1].Pos.Seq + 1
}

// firstOf is the index of the first transaction behind seq.
func firstOf(sent []schema.Transaction, seq uint64) int {
	return slices.IndexFunc(sent, func(tx schema.Transaction) bool { return tx.Pos.Seq > seq })
}

// wholeFrom goes back to a transaction's first part.
func wholeFrom(sent []schema.Transaction, i int) int {
	for i > 0 && sent[i].Part > 0 {
		i--
	}
	return max(i, 0)
}

func (w *world) progress(t *rapid.T, sender schema.Office) uint64 {
	pos, _, err := w.applier.Progress(w.Context(), sender)
	if err != nil {
		t.Fatal(err)
	}
	return pos.Seq
}
