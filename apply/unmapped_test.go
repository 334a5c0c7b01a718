package apply

import (
	"errors"
	"testing"

	"cdc-sidecar/schema"
)

// What a column here cannot hold is refused, or is NULL, or a given value, as is said of the column; of a key never. It is counted.
func TestUnmapped(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.exec("CREATE TABLE price (id smallint PRIMARY KEY, strict smallint, missing smallint, other smallint NOT NULL, needed smallint NOT NULL)")
		wide := define("price", integer("id"), integer("strict"), integer("missing"), integer("other"), integer("needed"))
		said := map[string]schema.Value{"id": schema.Of("7"), "missing": schema.NullValue(), "other": schema.Of("-1"), "needed": schema.NullValue()}
		a := New(w.target, Options{Office: w.office, Role: schema.Branch, Unmapped: func(table schema.TableName, column string) schema.Value {
			if table.String() != "price" {
				t.Errorf("asked for table %s", table)
			}
			return said[column]
		}})
		w.Cleanup(a.Close)
		const far = "70000"
		apply := func(seq uint64, changes ...schema.Change) error {
			return a.Apply(w.Context(), head, []schema.Transaction{tx(seq, changes...)})
		}
		if err := apply(1, insert(wide, "1", "2", far, far, "5"), insert(wide, "2", null, "3", null, "5")); err != nil {
			t.Fatal(err)
		}
		if err := apply(2, update(wide, "2", "4", far, "6", "7")); err != nil {
			t.Fatal(err)
		}
		const want = "1 2 NULL -1 5\n2 4 NULL 6 7"
		w.want("SELECT * FROM price ORDER BY id", want)
		for column, values := range map[string][]string{"id": {far, "1", "1", "1", "1"}, "strict": {"3", far, "1", "1", "1"}, "needed": {"3", "1", "1", "1", far}} {
			var refused *schema.RejectedError
			if err := apply(3, insert(wide, values...)); !errors.As(err, &refused) || refused.Column != column || refused.Remedy == "" {
				t.Errorf("a value that column %s cannot hold: %v", column, err)
			}
		}
		w.want("SELECT * FROM price ORDER BY id", want)
		if n := a.Stats()[head].Replaced; n != 4 {
			t.Errorf("%d values replaced, want 4", n)
		}
	})
}
