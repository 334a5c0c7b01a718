package apply

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// An application inserts a row after its key was found to be free, and before that is claimed: in the log the row has the last
// word.
func TestClaimOfAbsentRowThatComes(t *testing.T) {
	ctx := t.Context()
	m := NewMemory(MemoryOptions{Engine: schema.Postgres, Now: time.Now, Tables: []catalog.Table{{Table: item, OwnSchema: "public"}}})
	quiet := func(context.Context, string) error { return nil }
	came := false
	a := New(m.Target(func(ctx context.Context, what string) error {
		if what != "commit" || came {
			return nil
		}
		came = true
		return m.Write(ctx, quiet, func(w *MemoryWrite) error { return w.Insert(ctx, item.TableName, row("8", "here", "1")) })
	}), Options{Office: "o", Role: schema.Branch})
	defer a.Close()
	if n, err := a.Claim(ctx, item.TableName, []schema.Row{row("8", gone, gone), row("9", gone, gone)}, true, false); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	var said []string
	for _, commit := range m.History() {
		for _, e := range commit.Events {
			switch {
			case e.Table.Name == item.Name:
				said = append(said, "written "+e.After[0].Text())
			case e.Table.Name == schema.ClaimsTable && e.Op == schema.Insert:
				batch, err := schema.DecodeBatch([]byte(e.After[2].Text()), 0)
				if err != nil || len(batch.Transactions) != 1 {
					t.Fatal(batch, err)
				}
				for _, c := range batch.Transactions[0].Changes {
					said = append(said, c.Op.String()+" "+c.KeyRow()[0].Text())
				}
			}
		}
	}
	if want := []string{"written 8", "delete 8", "delete 9", "insert 8"}; !slices.Equal(said, want) {
		t.Errorf("the log says %q, want %q", said, want)
	}
}

// Large rows are claimed, too: no statement holds all of them.
func TestClaimOfLargeRows(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.exec("CREATE TABLE item (id int PRIMARY KEY, name " + w.pick("text", "longtext") + ", stock int)")
		const n = 40
		var keys []schema.Row
		for i := range n {
			w.exec(fmt.Sprintf("INSERT INTO item VALUES (%d, repeat('%s', 30000), 1)", i, "0123456789"))
			keys = append(keys, row(strconv.Itoa(i), gone, gone))
		}
		if got, err := w.applier.Claim(w.Context(), item.TableName, keys, false, false); got != n || err != nil {
			w.Fatal(got, err)
		}
		w.want(fmt.Sprintf("SELECT count(*) FROM cdc_sidecar.claims WHERE office = '%s'", w.office), "0")
		if got, err := w.applier.Claim(w.Context(), item.TableName, []schema.Row{row("1")}, false, false); err == nil {
			w.Errorf("claimed %d by a key of other columns", got)
		}
	})
}
