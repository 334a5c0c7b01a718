package schema

import "testing"

// rowsChanges are schema changes of stock, and whether they change rows without the log.
var rowsChanges = map[string]struct {
	statement    string
	change       func(d *Definition)
	rows, frees  bool
	removes, new bool // new: there was no table
}{
	"a label, a wider type, a constant": {"ALTER TABLE stock ...", func(d *Definition) {
		column(d, "colour").Labels, column(d, "name").Size = []string{"red", "green", "blue"}, 40
		d.Columns = append(d.Columns, Column{Name: "n", Kind: KindInt, Size: 32, Nullable: true})
		d.Details = append(d.Details, ColumnDetail{ID: 9, Default: Expression{Kind: LiteralValue, Text: "7"}})
	}, false, false, false, false},
	"now":              {"ALTER TABLE stock ADD at", adding(ColumnDetail{ID: 9, Default: Expression{Kind: CurrentTime}}), true, false, false, false},
	"a random value":   {"ALTER TABLE stock ADD at", adding(ColumnDetail{ID: 9, Default: Expression{Kind: RandomUUID}}), true, false, false, false},
	"of one engine":    {"ALTER TABLE stock ADD at", adding(ColumnDetail{ID: 9, Default: Expression{Kind: NativeText, Text: "f()"}}), true, false, false, false},
	"numbers":          {"ALTER TABLE stock ADD at", adding(ColumnDetail{ID: 9, Serial: true}), true, false, false, false},
	"wider, USING":     {"ALTER TABLE stock ALTER name TYPE varchar(40) USING upper(name)", func(d *Definition) { column(d, "name").Size = 40 }, true, false, false, false},
	"wider, by nobody": {"", func(d *Definition) { column(d, "name").Size = 40 }, true, false, false, false},
	"narrower":         {"ALTER TABLE stock MODIFY name varchar(5)", func(d *Definition) { column(d, "name").Size = 5 }, true, false, false, false},
	"computed": {"ALTER TABLE stock ...", func(d *Definition) {
		d.Details[2] = ColumnDetail{ID: 3, Computed: Expression{Kind: PortableText, Text: "1"}}
	}, true, false, false, false},
	"a partition": {"ALTER TABLE stock DETACH PARTITION old", func(*Definition) {}, false, false, true, false}, // capture knows it
	"a new table": {"/* made by\na tool */ -- really\ncreate table stock (id bigint) partition by list (id)", func(*Definition) {}, false, false, false, true},
	"of another":  {"CREATE TABLE stock PARTITION OF goods FOR VALUES IN (1)", func(*Definition) {}, false, false, false, true},
	"a copy":      {"CREATE TABLE stock AS SELECT * FROM goods", func(*Definition) {}, true, false, false, true},
	"a copy, too": {"create table stock as\ntable goods", func(*Definition) {}, true, false, false, true},
	"a late key":  {"ALTER TABLE stock ADD PRIMARY KEY (id)", func(*Definition) {}, true, false, false, true},
	"two at once": {"CREATE TABLE stock (id bigint); INSERT INTO stock VALUES (1); ALTER TABLE stock ADD PRIMARY KEY (id)", func(*Definition) {}, true, false, false, true},
	"by nobody":   {"", func(*Definition) {}, true, false, false, true},
}

func adding(detail ColumnDetail) func(*Definition) {
	return func(d *Definition) {
		d.Columns = append(d.Columns, Column{Name: "at", Kind: KindNative, Nullable: true})
		d.Details = append(d.Details, detail)
	}
}

// Whatever may leave offices with other rows is said; ordinary changes are not.
func TestChangesRows(t *testing.T) {
	for name, test := range rowsChanges {
		t.Run(name, func(t *testing.T) {
			c := DefinitionChange{Was: stock(), Is: stock().with(test.change), Statement: test.statement}
			if test.new {
				c.Was = nil
			}
			if got := ChangesRows(c.Was, c.Is, test.statement); got != test.rows {
				t.Errorf("rows change: %t", got)
			}
			if got := c.Frees(); got != test.frees {
				t.Errorf("it frees: %t", got)
			}
			if got := c.Removes(); got != test.removes {
				t.Errorf("it removes: %t", got)
			}
		})
	}
}

// A generated column that becomes plain is the one case in which who made the change is wrong about the rows.
func TestRowsOrder(t *testing.T) {
	was := stock().with(func(d *Definition) { d.Details[2].Computed = Expression{Kind: PortableText, Text: "1"} })
	freed := was.with(func(d *Definition) { d.Details[2].Computed = Expression{} })
	for _, test := range []struct {
		c    DefinitionChange
		made bool
		want RowsOrder
	}{
		{DefinitionChange{Was: was, Is: freed, Statement: "free"}, false, RowsOrder{Table: was.TableName, Why: "free", At: "1", Up: true}},
		{DefinitionChange{Was: was, Is: freed, Statement: "free"}, true, RowsOrder{Table: was.TableName, Why: "free", At: "1"}},
		{DefinitionChange{Was: was, Is: freed.with(adding(ColumnDetail{ID: 9, Serial: true}))}, true, RowsOrder{Table: was.TableName, At: "1", Up: true}},
		{DefinitionChange{Was: was, Is: was, Statement: "DROP TABLE part"}, false, RowsOrder{Table: was.TableName, Why: "DROP TABLE part", At: "1", Gone: true}},
		{DefinitionChange{Is: was}, true, RowsOrder{Table: was.TableName, At: "1", Up: true}},
	} {
		o := NewRowsOrder(&test.c, test.made, "1")
		if o != test.want {
			t.Errorf("%+v, want %+v", o, test.want)
		}
		name, state := o.Encode()
		again, err := ParseRowsOrder(state)
		if same, _ := again.Encode(); err != nil || again != o || same != name {
			t.Errorf("read again: %+v, %v", again, err)
		}
		o.At = "2"
		if other, _ := o.Encode(); other == name || len(other) > 200 {
			t.Errorf("two orders are called %s", other)
		}
	}
	if _, err := ParseRowsOrder([]byte("no")); err == nil {
		t.Error("nonsense is an order")
	}
}
