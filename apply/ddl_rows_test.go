package apply

import (
	"context"
	"strings"
	"testing"

	"cdc-sidecar/schema"
)

// ordersHere are the rows among the joins that order a comparison.
func (w *world) ordersHere() string {
	w.Helper()
	return w.rows("SELECT state FROM cdc_sidecar.joins WHERE office = '" + string(w.office) + "' AND table_name LIKE 'rows:%' AND pending = 0 ORDER BY state")
}

// takesOrders makes the world's Applier one that tells of orders, and returns what it has told, as their rows say it.
func (w *world) takesOrders(d DDL) *[]string {
	w.Helper()
	w.evolves(d)
	told := new([]string)
	o := w.applier.options
	o.Ordered = func(name string, order schema.RowsOrder) {
		same, state := order.Encode()
		if same != name {
			w.Errorf("order %s is called %s", same, name)
		}
		*told = append(*told, string(state))
	}
	w.applier.Close()
	w.applier = New(w.target, o)
	w.Cleanup(w.applier.Close)
	return told
}

// sameOrders wants what was told to be durable, and each of it to have those words.
func (w *world) sameOrders(told []string, words ...string) {
	w.Helper()
	if got := w.ordersHere(); got != strings.Join(told, "\n") || len(told) != len(words) {
		w.Fatalf("told:\n%s\ndurable:\n%s", strings.Join(told, "\n"), got)
	}
	for i, o := range told {
		if !strings.Contains(o, words[i]) {
			w.Errorf("order %s does not say %s", o, words[i])
		}
	}
}

// A branch that does a change which changes rows is to compare the table: that is durable with the change. What is held is not done, so
// it is to be compared when somebody has done it.
func TestChangedRowsAreOrdered(t *testing.T) {
	was, more := is("item", integer("id"), text("name"), integer("stock")), is("item", integer("id"), text("name"), integer("stock"), text("u"))
	rows := func(c schema.Change) schema.Change {
		c.Definition.Rows = true
		return c
	}
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		told := w.takesOrders(DDL{Apply: ApplyAdditive})
		w.apply(tx(1, insert(item, "1", "a", "1"), rows(became(was, more)), insert(more.Table, "2", "b", "2", "u")), tx(2, became(more, more)))
		w.sameOrders(*told, `"at":"elsewhere 7/1 1"`)
		if again := w.applier.Apply(w.Context(), head, []schema.Transaction{tx(1)}); again != nil { // it comes again
			w.Fatal(again)
		}
		w.sameOrders(*told, "7/1 1")
		w.exec("DELETE FROM cdc_sidecar.joins")
		told = w.takesOrders(DDL{Apply: ApplyNone})
		late := is("item", integer("id"), text("name"), integer("stock"), text("u"), text("v"))
		w.apply(tx(3, rows(became(more, late)), insert(item, "3", "c", "3")))
		w.sameOrders(*told)
		if err := w.applier.Tend(w.Context(), head); err != nil {
			w.Fatal(err)
		}
		steps, _ := w.applier.SchemaSteps()
		if len(steps) != 1 {
			w.Fatalf("held: %+v", steps)
		}
		w.exec(steps[0].Statement)
		w.tended("SELECT count(*) FROM cdc_sidecar.ddl WHERE state = 'held'", "0")
		w.sameOrders(*told, "7/3 v")
	})
	each(t, schema.Head, func(w *world) {
		w.createItem()
		told := w.takesOrders(DDL{Apply: ApplyAdditive})
		w.apply(tx(1, rows(became(was, more))))
		w.sameOrders(*told)
	})
}

// What an application of a branch did to rows is to go up, and is ordered before the change goes on.
func TestOwnChangedRowsAreOrdered(t *testing.T) {
	d := is("item", integer("id"), text("name"), integer("stock"))
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		told := w.takesOrders(DDL{Apply: ApplyAdditive})
		own := tx(0, became(d, d))
		own.Origin, own.Changes[0].Definition.Rows = w.office, true
		sink := w.applier.Noting(func(context.Context, []schema.Transaction) error {
			w.sameOrders(*told, `"up":true,"gone":true`)
			return nil
		})
		if err := sink(w.Context(), []schema.Transaction{own}); err != nil {
			w.Fatal(err)
		}
	})
}
