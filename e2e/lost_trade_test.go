package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"cdc-sidecar/fleet"
)

// trade is one order whose lines the applications of several offices write around a loss. Each office has lines of its own: one
// that it changes, one that it deletes, one that it adds. Line 0 is changed by more than one.
type trade struct {
	order  int
	want   map[int]string // the line's sku; empty: there is no such line
	either map[int]bool   // lines of which nobody can know whether they were deleted: all offices have the same, whatever it is
	kept   map[int]string // what stands in a line, or else in the conflict log
	rivals []string       // what was written to line 0: one stands, the others are in the conflict log
}

// changes, deletes, adds are an office's lines.
func changes(o *fleet.Office) int { return 10*o.Index + 11 }
func deletes(o *fleet.Office) int { return 10*o.Index + 12 }
func adds(o *fleet.Office) int    { return 10*o.Index + 13 }

// opens makes an order at the head, before anything is lost.
func opens(t *testing.T, f *fleet.Fleet, order int) *trade {
	t.Helper()
	tr := &trade{order: order, want: map[int]string{0: "old"}, either: map[int]bool{}, kept: map[int]string{}}
	for _, o := range f.Offices {
		tr.want[changes(o)], tr.want[deletes(o)] = "old", "old"
	}
	for _, line := range slices.Sorted(maps.Keys(tr.want)) {
		must(t, f.Head().Exec(within(t, stuck), fmt.Sprintf(`INSERT INTO order_lines VALUES (%d, %d, 'old', 2.5, NULL)`, order, line)))
	}
	return tr
}

func (tr *trade) insert(t *testing.T, o *fleet.Office) {
	t.Helper()
	tr.want[adds(o)] = "new of " + string(o.Name)
	must(t, o.Exec(within(t, stuck), fmt.Sprintf(`INSERT INTO order_lines VALUES (%d, %d, 'new of %s', 3.5, NULL)`, tr.order, adds(o), o.Name)))
}

func (tr *trade) update(t *testing.T, o *fleet.Office) {
	t.Helper()
	tr.want[changes(o)] = "changed by " + string(o.Name)
	must(t, o.Exec(within(t, stuck), fmt.Sprintf(`UPDATE order_lines SET sku = 'changed by %s' WHERE order_id = %d AND line = %d`, o.Name, tr.order, changes(o))))
}

func (tr *trade) remove(t *testing.T, o *fleet.Office) {
	t.Helper()
	tr.want[deletes(o)] = ""
	must(t, o.Exec(within(t, stuck), fmt.Sprintf(`DELETE FROM order_lines WHERE order_id = %d AND line = %d`, tr.order, deletes(o))))
}

// contest changes line 0, as another office does, too.
func (tr *trade) contest(t *testing.T, offices ...*fleet.Office) {
	t.Helper()
	delete(tr.want, 0)
	for _, o := range offices {
		tr.rivals = append(tr.rivals, "contested by "+string(o.Name))
		must(t, o.Exec(within(t, stuck), fmt.Sprintf(`UPDATE order_lines SET sku = 'contested by %s' WHERE order_id = %d AND line = 0`, o.Name, tr.order)))
	}
}

// trades does everything at each office that only it does.
func (tr *trade) trades(t *testing.T, offices ...*fleet.Office) {
	t.Helper()
	for _, o := range offices {
		tr.insert(t, o)
		tr.update(t, o)
		tr.remove(t, o)
	}
}

// forgives lets a line be there or not.
func (tr *trade) forgives(lines ...int) {
	for _, l := range lines {
		delete(tr.want, l)
		tr.either[l] = true
	}
}

// doubts lets what stands in a line lose against what stood there before, if that is told in the conflict log.
func (tr *trade) doubts(lines ...int) {
	for _, l := range lines {
		tr.kept[l] = tr.want[l]
		delete(tr.want, l)
	}
}

// lines are the order's lines at an office.
func (tr *trade) lines(ctx context.Context, o *fleet.Office) (map[int]string, error) {
	db, err := o.DB()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, fmt.Sprintf(`SELECT line, sku FROM order_lines WHERE order_id = %d`, tr.order))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	lines := map[int]string{}
	for rows.Next() {
		var line int
		var sku string
		if err := rows.Scan(&line, &sku); err != nil {
			return nil, err
		}
		lines[line] = sku
	}
	return lines, rows.Err()
}

// stands reports what of the order is not as it must be at an office. Only the log can tell whether what may have lost is kept.
func (tr *trade) stands(ctx context.Context, o *fleet.Office) error {
	lines, err := tr.lines(ctx, o)
	if err != nil {
		return err
	}
	var errs []error
	for line, want := range tr.want {
		if got := lines[line]; got != want {
			errs = append(errs, fmt.Errorf("%s: line %d of order %d is %q, want %q", o.Name, line, tr.order, got, want))
		}
	}
	if len(tr.rivals) > 0 && !slices.Contains(tr.rivals, lines[0]) {
		errs = append(errs, fmt.Errorf("%s: line 0 of order %d is %q, want one of %q", o.Name, tr.order, lines[0], tr.rivals))
	}
	for line := range lines {
		if _, known := tr.want[line]; !known && tr.kept[line] == "" && !tr.either[line] && line != 0 {
			errs = append(errs, fmt.Errorf("%s: order %d has a line %d, which nobody wrote: %q", o.Name, tr.order, line, lines[line]))
		}
	}
	return errors.Join(errs...)
}

// arrive waits until every office has all of the orders.
func arrive(t *testing.T, f *fleet.Fleet, orders ...*trade) {
	t.Helper()
	must(t, fleet.Until(within(t, stuck), "every office has the orders", func(context.Context) error {
		var errs []error
		for _, tr := range orders {
			for _, o := range f.Offices {
				errs = append(errs, tr.stands(within(t, stuck), o))
			}
		}
		return errors.Join(errs...)
	}))
}

// end wants all offices to come to rest with the same, and with everything that was written: in the tables, or where two rows
// were against one another, in the head's conflict log.
func end(t *testing.T, f *fleet.Fleet, orders ...*trade) {
	t.Helper()
	must(t, f.Met(within(t, stuck)))
	if _, err := f.Equal(within(t, stuck)); err != nil {
		t.Fatal(err)
	}
	for _, tr := range orders {
		for _, o := range f.Offices {
			if err := tr.stands(within(t, stuck), o); err != nil {
				t.Error(err)
			}
		}
		tr.isTold(t, f.Head())
	}
}

// isTold wants in the conflict log what does not stand in the table.
func (tr *trade) isTold(t *testing.T, head *fleet.Office) {
	t.Helper()
	lines, err := tr.lines(within(t, stuck), head)
	must(t, err)
	images := tr.losers(t, head)
	for line, sku := range tr.kept {
		if lines[line] != sku && !strings.Contains(images[line], `"`+sku+`"`) {
			t.Errorf("order %d: %q stands neither in line %d (%q) nor in the conflict log: %s", tr.order, sku, line, lines[line], images[line])
		}
	}
	for _, sku := range tr.rivals {
		if lines[0] != sku && !strings.Contains(images[0], `"`+sku+`"`) {
			t.Errorf("order %d: %q lost against %q, and the conflict log has only: %s", tr.order, sku, lines[0], images[0])
		}
	}
}

// losers are the images of the order's lines in the conflict log.
func (tr *trade) losers(t *testing.T, head *fleet.Office) map[int]string {
	t.Helper()
	var list struct {
		Conflicts []struct {
			ID  int64  `json:"id"`
			Key string `json:"key"`
		} `json:"conflicts"`
	}
	bin := binary(t, "CDC_PLAIN_BINARY")
	answer(t, bin, head, &list, "conflicts", "list", "--all")
	images := map[int]string{}
	for _, c := range list.Conflicts {
		var order, line int
		if _, err := fmt.Sscanf(strings.NewReplacer(",", " ", "=", " ").Replace(c.Key), "order_id %d line %d", &order, &line); err != nil || order != tr.order {
			continue
		}
		var one struct {
			Local  struct{ Row json.RawMessage }
			Remote struct{ Row json.RawMessage }
		}
		answer(t, bin, head, &one, "conflicts", "show", fmt.Sprint(c.ID))
		images[line] += string(one.Local.Row) + string(one.Remote.Row)
	}
	return images
}
