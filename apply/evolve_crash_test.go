package apply

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"cdc-sidecar/schema"
)

// The connection is lost before or behind each word that is said while tables are changed between rows: whatever was done, the
// next try does the rest, once.
func TestConnectionLostWhileDefining(t *testing.T) {
	for _, c := range []struct {
		name string
		fate fate
		word int64 // the first; every seventh is tried
	}{{"before", lost, 2}, {"after", answered, 5}} {
		t.Run(c.name, func(t *testing.T) {
			each(t, schema.Head, func(w *world) {
				w.evolves(DDL{Apply: ApplyAll})
				p := newWire(w)
				w.apply(tx(1)) // connected
				seq := uint64(1)
				for word := c.word; ; word += 7 {
					if seq++; !w.defineAndCut(p, seq, word, c.fate) {
						if word < 20 {
							w.Errorf("only %d words were said", word)
						}
						return
					}
				}
			})
		})
	}
}

// defineAndCut applies a transaction that changes a table between rows, and cuts the wire at one of the words. It reports whether
// so many words were said.
func (w *world) defineAndCut(p *wire, seq uint64, word int64, f fate) bool {
	w.Helper()
	name := fmt.Sprintf("t%d", word)
	first := is(name, integer("id"), text("name"), integer("stock"))
	second := is(name, integer("id"), text("title"), integer("stock"), integer("more"))
	third := is(name, integer("id"), text("title"), integer("more"))
	third.Details[2].ID = 4
	w.exec(fmt.Sprintf("CREATE TABLE %s (id int PRIMARY KEY, name varchar(100), stock int)", name))
	change := tx(seq,
		insert(first.Table, "1", "a", "1"), became(first, second), insert(second.Table, "2", "b", "2", "20"), became(second, third),
		update(third.Table, "1", "x", "10"))
	var said atomic.Int64
	cut := func(words []byte) fate {
		// What is not answered cannot be lost on its way back: a connection, or a statement, is let go of.
		if w.engine != schema.Postgres && len(words) > 4 && (words[4] == 0x01 || words[4] == 0x19) || words[0] == 'X' {
			return passes
		}
		if said.Add(1) == word+1 {
			return f
		}
		return passes
	}
	p.cut.Store(&cut)
	for try := 0; ; try++ {
		err := w.applier.Apply(w.Context(), head, []schema.Transaction{change})
		if err == nil {
			break
		}
		var rejected *schema.RejectedError
		if errors.As(err, &rejected) || try > 5 {
			w.Fatalf("word %d: %v", word, err)
		}
	}
	p.cut.Store(nil)
	w.want("SELECT * FROM "+name+" ORDER BY id", "1 x 10\n2 b 20")
	w.at(seq)
	w.want(fmt.Sprintf("SELECT step, count(*) FROM cdc_sidecar.ddl WHERE office = '%s' AND table_name = '%s' AND state = 'done' GROUP BY step ORDER BY step", w.office, name),
		"add column 1\ndrop column 1\nrename column 1")
	return said.Load() > word
}
