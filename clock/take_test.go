package clock

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cdc-sidecar/schema"
)

// drawChange draws a change, and tells the touches that it must leave, with the key of the row that it decides to be absent.
func drawChange(t *rapid.T, own schema.Office, tx *schema.Transaction) (c schema.Change, touches []modelTouch, absent schema.RowID) {
	table := rapid.SampledFrom(someTables).Draw(t, "table")
	key := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
	a, b := key.Draw(t, "key"), key.Draw(t, "other key")
	rows := []schema.RowID{rowID(table, a)}
	c.Table = table
	switch rapid.SampledFrom([]string{"insert", "update", "key", "delete", "delete", "truncate"}).Draw(t, "operation") {
	case "insert":
		c.Op, c.After = schema.Insert, image(a)
	case "update":
		c.Op, c.After = schema.Update, image(a)
	case "key":
		c.Op, c.Before, c.After = schema.Update, image(a), image(b)
		if b != a {
			rows = append(rows, rowID(table, b))
		}
	case "delete":
		c.Op, c.Before = schema.Delete, image(a)
	case "truncate":
		c.Op, rows[0] = schema.Truncate, table.TableID()
	}
	touch := modelTouch{Touch: Touch{Seq: tx.Pos.Seq, Stamp: tx.Stamp, Origin: tx.Origin}, table: table.TableName, plain: tx.Origin != own, by: tx.Origin}
	if tx.Origin != own && rapid.Bool().Draw(t, "decided") {
		c.Decided = &schema.Decision{
			Origin: rapid.SampledFrom(someOffices).Draw(t, "winner"), Stamp: stamps().Draw(t, "decided stamp"),
			Known: rapid.Uint64Range(max(tx.Pos.Seq, 6)-6, tx.Pos.Seq).Draw(t, "known"),
		}
		touch.Stamp, touch.Origin, touch.plain, touch.decided = c.Decided.Stamp, c.Decided.Origin, false, true
		if c.Op == schema.Delete {
			absent = rows[0]
		}
	}
	for i, r := range rows {
		touch.row, touch.gone = r, c.Op == schema.Delete || i < len(rows)-1
		touches = append(touches, touch)
	}
	return c, touches, absent
}

// stale reports whether a decision that a row is absent contradicts its last touch; mine are those of the same transaction.
func (m *model) stale(c *schema.Change, row schema.RowID, mine []modelTouch) bool {
	touch, truncate := m.last(row), m.last(c.Table.TableID())
	if max(touch.Seq, truncate.Seq) <= m.released {
		return m.released > c.Decided.Known
	}
	deleted := slices.ContainsFunc(mine, func(t modelTouch) bool { return t.row == row && t.gone && !t.decided })
	return !touch.gone && !deleted && touch.Seq > max(truncate.Seq, m.released)
}

// last is a row's last touch before the transaction at hand.
func (m *model) last(row schema.RowID) (last modelTouch) {
	for _, t := range m.touches {
		if t.row == row {
			last = t
		}
	}
	return last
}

// drawTransaction draws one, and takes it into the model. It tells the decisions that must be stale.
func (m *model) drawTransaction(t *rapid.T, own schema.Office, role schema.Role, seq uint64) (tx schema.Transaction, stale []schema.Change) {
	tx = schema.Transaction{Pos: schema.Position{Seq: seq}, Stamp: stamps().Draw(t, "stamp"), Origin: rapid.SampledFrom(append([]schema.Office{""}, someOffices...)).Draw(t, "origin"), Last: true}
	var all []modelTouch
	for range rapid.IntRange(0, 3).Draw(t, "changes") {
		if tx.Silent() {
			break
		}
		c, touches, absent := drawChange(t, own, &tx)
		if absent != (schema.RowID{}) && m.stale(&c, absent, all) {
			stale = append(stale, c)
			if last := m.last(absent); last.Seq > max(m.released, m.last(c.Table.TableID()).Seq) {
				touches[0].Stamp, touches[0].Origin, touches[0].gone = last.Stamp, last.Origin, false
			}
		}
		tx.Changes, all = append(tx.Changes, c), append(all, touches...)
	}
	if role == schema.Branch {
		stale = nil
		if tx.Origin != own {
			all = nil
		}
	}
	m.touches = append(m.touches, all...)
	return tx, stale
}

// At both roles the index is what the transactions say.
func TestTakeIsTheModel(t *testing.T) {
	for role, own := range map[schema.Role]schema.Office{schema.Head: "head", schema.Branch: "north"} {
		t.Run(string(role), func(t *testing.T) {
			found, dir := 0, t.TempDir()
			rapid.Check(t, func(t *rapid.T) {
				x, err := Open(dir, Options{Rows: rapid.IntRange(1, 6).Draw(t, "rows in memory")})
				if err != nil {
					t.Fatal(err)
				}
				defer x.Close()
				m, seq := &model{}, uint64(0)
				for range rapid.IntRange(1, 30).Draw(t, "batches") {
					var txs []schema.Transaction
					var want []schema.Change
					for range rapid.IntRange(0, 3).Draw(t, "transactions") {
						seq++
						tx, stale := m.drawTransaction(t, own, role, seq)
						txs, want = append(txs, tx), append(want, stale...)
					}
					stale, err := x.Take(own, role, txs)
					if err != nil {
						t.Fatal(err)
					}
					if !slices.EqualFunc(stale, want, func(a, b schema.Change) bool {
						return a.Table == b.Table && a.KeyString() == b.KeyString() && a.Decided == b.Decided
					}) {
						t.Fatalf("stale are %v, want %v", stale, want)
					}
					found += len(stale)
					if rapid.IntRange(0, 5).Draw(t, "release") == 0 {
						m.released = max(m.released, rapid.Uint64Range(0, seq).Draw(t, "released"))
						if err := x.Release(m.released); err != nil {
							t.Fatal(err)
						}
					}
				}
				for _, table := range someTables {
					m.checkTable(t, x, table.TableName)
					for _, key := range []string{"a", "b", "c", "d", "e", "f", "nobody's"} {
						m.checkRow(t, x, table.TableName, rowID(table, key))
					}
				}
			})
			if (found > 0) != (role == schema.Head) {
				t.Errorf("%d stale decisions at a %s", found, role)
			}
		})
	}
}

// The decisions that a row is absent, and what may have happened to the row since.
func TestStaleDecisions(t *testing.T) {
	orders := someTables[0]
	insert := schema.Change{Table: orders, Op: schema.Insert, After: image("1")}
	remove := schema.Change{Table: orders, Op: schema.Delete, Before: image("1")}
	truncate := schema.Change{Table: orders, Op: schema.Truncate}
	move := schema.Change{Table: orders, Op: schema.Update, Before: image("1"), After: image("2")}
	decide := func(known uint64) schema.Change {
		return schema.Change{Table: orders, Op: schema.Delete, Before: image("1"), Decided: &schema.Decision{Origin: "head", Known: known}}
	}
	stands := decide(0)
	stands.Op, stands.Before, stands.After = schema.Insert, nil, image("1")
	tx := func(seq uint64, origin schema.Office, changes ...schema.Change) schema.Transaction {
		return schema.Transaction{Pos: schema.Position{Epoch: 1, Seq: seq}, Origin: origin, Changes: changes}
	}
	part := func(of schema.Transaction, n int) schema.Transaction { of.Part = n; return of }
	for name, c := range map[string]struct {
		released uint64
		txs      []schema.Transaction
		want     int
	}{
		"nothing since":                  {0, []schema.Transaction{tx(1, "head", remove), tx(2, "north", decide(1))}, 0},
		"written again since":            {0, []schema.Transaction{tx(1, "head", remove), tx(2, "head", insert), tx(3, "north", decide(1))}, 1},
		"written by another branch":      {0, []schema.Transaction{tx(1, "head", remove), tx(2, "south", insert), tx(3, "north", decide(1))}, 1},
		"never touched":                  {0, []schema.Transaction{tx(3, "north", decide(0))}, 0},
		"a truncate since":               {0, []schema.Transaction{tx(1, "head", remove), tx(2, "head", truncate), tx(3, "north", decide(1))}, 0},
		"touched by the transaction":     {0, []schema.Transaction{tx(1, "head", remove), tx(2, "north", remove, decide(1))}, 0},
		"touched by an earlier part":     {0, []schema.Transaction{tx(1, "head", remove), part(tx(2, "north", remove), 0), part(tx(2, "north", decide(1)), 1)}, 0},
		"deleted by an earlier part":     {0, []schema.Transaction{tx(1, "head", remove), tx(2, "head", insert), part(tx(3, "north", remove), 0), part(tx(3, "north", decide(1)), 1)}, 0},
		"deleted by the transaction":     {0, []schema.Transaction{tx(1, "head", remove), tx(2, "head", insert), tx(3, "north", remove, decide(1))}, 0},
		"logged, and not seen":           {0, []schema.Transaction{tx(1, "head", remove), tx(2, "head", insert), tx(3, "north", decide(2))}, 1},
		"moved away since":               {0, []schema.Transaction{tx(1, "head", insert), tx(2, "head", move), tx(3, "north", decide(1))}, 0},
		"truncated since it was written": {0, []schema.Transaction{tx(1, "head", insert), tx(2, "head", truncate), tx(3, "north", decide(1))}, 0},
		"a row decided to stand":         {0, []schema.Transaction{tx(1, "head", remove), tx(2, "head", insert), tx(3, "north", stands)}, 0},
		"it may be forgotten":            {2, []schema.Transaction{tx(3, "north", decide(1))}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			x := open(t, Options{})
			if err := x.Release(c.released); err != nil {
				t.Fatal(err)
			}
			// In one call, and each in its own, are the same.
			stale, err := x.Take("head", schema.Head, c.txs)
			if err != nil || len(stale) != c.want {
				t.Errorf("%v, %v; want %d", stale, err, c.want)
			}
			y := open(t, Options{Rows: 1})
			if err := y.Release(c.released); err != nil {
				t.Fatal(err)
			}
			stale = nil
			for i := range c.txs {
				some, err := y.Take("head", schema.Head, c.txs[i:i+1])
				if err != nil {
					t.Fatal(err)
				}
				stale = append(stale, some...)
			}
			if len(stale) != c.want {
				t.Errorf("one by one: %v; want %d", stale, c.want)
			}
		})
	}
}

// A branch that lost wrote the table too: whoever asks which tables have several writers must hear of it.
func TestTheLoserIsAWriter(t *testing.T) {
	x := open(t, Options{})
	_, err := x.Take("head", schema.Head, []schema.Transaction{{
		Pos: schema.Position{Seq: 1}, Origin: "north",
		Changes: []schema.Change{{Table: someTables[0], Op: schema.Update, After: image("1"), Decided: &schema.Decision{Origin: "south"}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := x.Writers(someTables[0].TableName); !slices.Equal(got, []schema.Office{"north", "south"}) {
		t.Error(got)
	}
	if got := x.Writers(someTables[1].TableName); got != nil {
		t.Error(got)
	}
}

// Capture may end within what one database transaction gave. Then it comes again, and nothing is counted twice.
func TestTakenAgain(t *testing.T) {
	orders := someTables[0]
	update := schema.Change{Table: orders, Op: schema.Update, After: image("1")}
	decided := update
	decided.Decided = &schema.Decision{Origin: "south", Stamp: schema.Stamp{Millis: 7}}
	tx := func(seq uint64, origin schema.Office, changes ...schema.Change) schema.Transaction {
		return schema.Transaction{Pos: schema.Position{Seq: seq}, Stamp: schema.Stamp{Millis: int64(seq)}, Origin: origin, Changes: changes}
	}
	for name, unit := range map[string][]schema.Transaction{
		"plain":              {tx(2, "north", update), tx(3, "north", update)},
		"decided":            {tx(2, "north", decided), tx(3, "north", decided)},
		"plain, decided":     {tx(2, "north", update), tx(3, "north", decided)},
		"decided, plain":     {tx(2, "north", decided), tx(3, "north", update)},
		"decided, and plain": {tx(2, "north", decided, update), tx(3, "north", update)},
	} {
		for _, before := range []schema.Office{"head", "north", "south"} {
			for cut := range len(unit) + 1 {
				take := func(x *Index, txs ...schema.Transaction) {
					if _, err := x.Take("head", schema.Head, txs); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
				}
				first := tx(1, before, update)
				first.Source = "1"
				x, y := open(t, Options{}), open(t, Options{Rows: 1})
				take(x, first)
				take(x, unit...)
				take(y, first)
				take(y, unit[:cut]...)
				take(y, unit...)
				for _, more := range [][]schema.Transaction{{{Source: "2"}}, {tx(4, "north", update)}} {
					take(x, more...)
					take(y, more...)
					for _, asker := range askers {
						want, err := x.Against(orders.TableName, rowID(orders, "1"), asker)
						if err != nil {
							t.Fatal(err)
						}
						if got, err := y.Against(orders.TableName, rowID(orders, "1"), asker); err != nil || got != want {
							t.Errorf("%s behind %s, cut at %d, against %s: %+v, %v; want %+v", name, before, cut, asker, got, err, want)
						}
						if got, want := y.TableAgainst(orders.TableName, asker), x.TableAgainst(orders.TableName, asker); got != want {
							t.Errorf("%s behind %s, cut at %d, table against %s: %+v; want %+v", name, before, cut, asker, got, want)
						}
					}
				}
			}
		}
	}
}
