package schema

import "testing"

// A row is the same row in whatever order its key's columns are written, and no other row.
func TestRowID(t *testing.T) {
	column := func(name string) Column { return Column{Name: name, Kind: KindText} }
	one := NewTable(Table{TableName: TableName{Name: "t"}, Columns: []Column{column("a"), column("b"), column("x")}, Key: []int{0, 1}})
	other := NewTable(Table{TableName: TableName{Name: "t"}, Columns: []Column{column("b"), column("a")}, Key: []int{0, 1}})
	if one.RowID(Row{Of("1"), Of("2"), Of("z")}) != other.RowID(Row{Of("2"), Of("1")}) {
		t.Error("the order of the key's columns matters")
	}
	seen := map[RowID]string{}
	for _, r := range []Row{{Of("1"), Of("2"), {}}, {Of("2"), Of("1"), {}}, {Of("12"), Of(""), {}}, {Of(""), Of("12"), {}}, {NullValue(), Of("12"), {}}} {
		id := one.RowID(r)
		if was := seen[id]; was != "" {
			t.Errorf("%v and %s are one row", r, was)
		}
		seen[id] = r[0].String() + r[1].String()
	}
	if seen[one.TableID()] != "" || one.TableID() == (TableName{Schema: "t"}).TableID() {
		t.Error("a table is not told from its rows, or from another table")
	}
}

func TestRowsOfChange(t *testing.T) {
	table := NewTable(Table{TableName: TableName{Name: "t"}, Columns: []Column{{Name: "id", Kind: KindInt}, {Name: "x", Kind: KindText}}, Key: []int{0}})
	id := func(n string) RowID { return table.RowID(Row{Of(n), {}}) }
	for _, c := range []struct {
		name          string
		change        Change
		first, second RowID
	}{
		{"insert", Change{Table: table, Op: Insert, After: Row{Of("1"), Of("x")}}, id("1"), RowID{}},
		{"update without an old image", Change{Table: table, Op: Update, After: Row{Of("1"), Of("x")}}, id("1"), RowID{}},
		{"update", Change{Table: table, Op: Update, Before: Row{Of("1"), Of("w")}, After: Row{Of("1"), Of("x")}}, id("1"), RowID{}},
		{"another key", Change{Table: table, Op: Update, Before: Row{Of("1"), {}}, After: Row{Of("2"), Of("x")}}, id("1"), id("2")},
		{"delete", Change{Table: table, Op: Delete, Before: Row{Of("1"), {}}}, id("1"), RowID{}},
		{"truncate", Change{Table: table, Op: Truncate}, table.TableID(), RowID{}},
	} {
		first, second, two := c.change.Rows()
		if first != c.first || second != c.second || two != (c.second != RowID{}) {
			t.Errorf("%s: %x, %x, %t", c.name, first, second, two)
		}
	}
}
