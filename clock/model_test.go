package clock

import (
	"cmp"
	"fmt"
	"slices"

	"pgregory.net/rapid"

	"cdc-sidecar/schema"
)

// model is the index as one would write it without a thought of memory: it has every touch.
type model struct {
	touches  []modelTouch
	released uint64
}

type modelTouch struct {
	Touch
	table schema.TableName
	row   schema.RowID // TableID of a truncate
	plain bool
	by    schema.Office // whose transaction it was
	gone  bool          // it left no row
	// decided: it is a resolution's
	decided bool
}

// against is the last of the touches that are wanted and no plain applies of origin.
func (m *model) against(origin schema.Office, want func(modelTouch) bool) Touch {
	for _, t := range slices.Backward(m.touches) {
		if want(t) && (!t.plain || t.Origin != origin) {
			return t.Touch
		}
	}
	return Touch{}
}

// agree says whether an answer is right: exact when the truth is retained, else anything that is not newer than what is released.
// Two touches of one transaction are equally late.
func (m *model) agree(got, want Touch) error {
	switch {
	case got.Seq <= m.released && want.Seq <= m.released:
		return nil
	case got.Seq != want.Seq:
		return fmt.Errorf("got %+v, want %+v (released to %d)", got, want, m.released)
	case got != want && !slices.ContainsFunc(m.touches, func(t modelTouch) bool { return t.Touch == got }):
		return fmt.Errorf("got %+v, which never was; want %+v", got, want)
	default:
		return nil
	}
}

var (
	someOffices = []schema.Office{"head", "north", "south"}
	askers      = append([]schema.Office{"nobody"}, someOffices...)
	someTables  = []*schema.Table{table("orders"), table("items")}
)

func table(name string) *schema.Table {
	return schema.NewTable(schema.Table{
		TableName: schema.TableName{Name: name}, Columns: []schema.Column{{Name: "id", Kind: schema.KindText}, {Name: "x", Kind: schema.KindText}}, Key: []int{0},
	})
}

func image(key string) schema.Row { return schema.Row{schema.Of(key), schema.Of("x")} }

// rowID is what Table.RowID gives for image(key), found without it.
func rowID(table *schema.Table, key string) schema.RowID {
	return schema.RowIDOf(table.TableName, []schema.Value{schema.Of(key)})
}

func stamps() *rapid.Generator[schema.Stamp] {
	return rapid.Custom(func(t *rapid.T) schema.Stamp {
		return schema.Stamp{Millis: rapid.Int64Range(0, 20).Draw(t, "millis"), Counter: rapid.Uint32Range(0, schema.MaxCounter).Draw(t, "counter")}
	})
}

// checkRow compares all that is known of one row with the model.
func (m *model) checkRow(t *rapid.T, x *Index, table schema.TableName, row schema.RowID) {
	ofRow := func(touch modelTouch) bool { return touch.row == row }
	clock, ok, err := x.Row(row)
	if err != nil {
		t.Fatal(err)
	}
	last := modelTouch{}
	for _, touch := range m.touches {
		if ofRow(touch) {
			last = touch
		}
	}
	if last.Seq > m.released && (!ok || clock.Last != last.Touch || clock.Plain != last.plain) || ok != (clock.Last.Seq != 0) {
		t.Fatalf("%t, %+v; the last touch is %+v", ok, clock, last)
	}
	for _, origin := range askers {
		// Within one row the order of one transaction's touches is known, so this is exact.
		if got, want := clock.Against(origin), m.against(origin, ofRow); got != want && max(got.Seq, want.Seq) > m.released {
			t.Fatalf("row against %s: got %+v, want %+v (released to %d)", origin, got, want, m.released)
		}
		got, err := x.Against(table, row, origin)
		if err != nil {
			t.Fatal(err)
		}
		want := m.against(origin, func(touch modelTouch) bool { return touch.row == row || touch.row == table.TableID() })
		if err := m.agree(got, want); err != nil {
			t.Fatalf("row and truncates against %s: %v", origin, err)
		}
	}
}

// checkTable compares all that is known of one table with the model.
func (m *model) checkTable(t *rapid.T, x *Index, table schema.TableName) {
	for _, origin := range askers {
		got := x.TableAgainst(table, origin)
		if err := m.agree(got, m.against(origin, func(touch modelTouch) bool { return touch.table == table })); err != nil {
			t.Fatalf("table against %s: %v", origin, err)
		}
	}
	var want []schema.Office
	for _, touch := range m.touches {
		if touch.table == table && touch.Seq > m.released {
			want = append(want, touch.Origin, touch.by)
		}
	}
	slices.SortFunc(want, cmp.Compare)
	if got := x.Writers(table); !slices.Equal(got, slices.Compact(want)) {
		t.Fatalf("writers: got %v, want %v", got, slices.Compact(want))
	}
}
