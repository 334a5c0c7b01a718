package resync

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"cdc-sidecar/schema"
)

// recorded is a database that knows its joins.
type recorded struct {
	office
	all     []Join
	dropped []string
}

func (r *recorded) Joins(context.Context) ([]Join, error) { return r.all, nil }
func (r *recorded) SaveJoins(_ context.Context, joins []Join) error {
	r.all = append(r.all, joins...)
	return nil
}

func (r *recorded) DropJoins(_ context.Context, tables []string) error {
	r.dropped = append(r.dropped, tables...)
	return nil
}

// ordering is a client whose clock stands at *now.
func ordering(db Database, now *time.Time) *Client {
	return NewClient(Config{Office: "north", Mode: None, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return *now }}, db, nil)
}

func (c *Client) due() *Job {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dueLocked()
}

// What has not begun does further orders of the table, too; an order that comes again meanwhile is done again. What goes up waits for
// what comes down.
func TestOrders(t *testing.T) {
	db, now := &recorded{}, time.Now()
	c := ordering(db, &now)
	var told []*Job
	c.cfg.Ordered = func(j *Job, _ schema.RowsOrder) { told = append(told, j) }
	down, up := schema.RowsOrder{Table: seat.TableName}, schema.RowsOrder{Table: seat.TableName, Up: true}
	other := schema.RowsOrder{Table: schema.TableName{Name: "other"}, Up: true, Gone: true}
	c.Ordered("rows:u", up)
	c.Ordered("rows:1", down)
	c.Ordered("rows:2", down)
	c.Ordered("rows:1", down)
	c.Ordered("rows:o", other)
	if len(told) != 3 || c.Ordering() != "seat" {
		t.Fatalf("%d jobs, %q is compared", len(told), c.Ordering())
	}
	first := told[1]
	if c.due() != first {
		t.Fatal("what goes up does not wait for what comes down")
	}
	first.state = Running
	c.Ordered("rows:2", down)
	c.Ordered("rows:3", down)
	if len(told) != 4 {
		t.Fatalf("%d jobs", len(told))
	}
	if err := c.obeyed(t.Context(), first, nil); err != nil || !slices.Equal(db.dropped, []string{"rows:1"}) {
		t.Fatal(err, db.dropped)
	}
	if c.due() != first || !slices.Equal(first.order.names, []string{"rows:2"}) {
		t.Fatalf("what came again is not done again: %+v", first.order)
	}
	for _, j := range []*Job{first, told[3]} {
		if err := c.obeyed(t.Context(), j, nil); err != nil || c.Result(j).State != Done || !isClosed(j.Done()) {
			t.Fatal(err, c.Result(j))
		}
	}
	if !slices.Equal(db.dropped, []string{"rows:1", "rows:2", "rows:3"}) || c.due() != told[0] {
		t.Fatal(db.dropped, c.due())
	}
}

// An order that fails stays, and is tried again, less and less often; others go on meanwhile. It goes when somebody gives it up.
func TestOrderIsTriedAgain(t *testing.T) {
	db, now := &recorded{}, time.Now()
	c := ordering(db, &now)
	c.Ordered("rows:1", schema.RowsOrder{Table: seat.TableName})
	j := c.due()
	for range 10 {
		if err := c.obeyed(t.Context(), j, errors.New("not now")); err != nil || len(db.dropped) > 0 || c.Ordering() != "" {
			t.Fatal(err, db.dropped, c.Ordering())
		}
		if r := c.Result(j); r.State != Waiting || r.Error != "not now" || c.due() != nil {
			t.Fatalf("%+v, due %v", r, c.due())
		}
		now = now.Add(retryOrderMost)
		if c.due() != j {
			t.Fatal("it is not tried again")
		}
	}
	if err := c.obeyed(t.Context(), j, errors.New("not now")); err != nil {
		t.Fatal(err)
	}
	c.Cancel(j)
	if c.due() != j {
		t.Fatal("to be given up, it waits")
	}
	if err := c.obeyed(t.Context(), j, context.Canceled); err != nil || c.Result(j).State != Cancelled || len(db.dropped) != 1 {
		t.Fatal(err, c.Result(j), db.dropped)
	}
}

// What goes up stops when the head tells that its rows changed, too: what only the head has is then not what has left the branch.
func TestOrderOvertaken(t *testing.T) {
	branch, head := disputed()
	now := time.Now()
	c := ordering(branch, &now)
	c.Ordered("rows:1", schema.RowsOrder{Table: seat.TableName, Up: true, Gone: true})
	p := c.pass(seat.TableName, purpose{claim: true, absent: true, extra: Delete}, &progress{})
	p.own, p.job = seat, c.due()
	answer := answered(t, head, "5", "7")
	changes, err := answer.Changes()
	if err != nil {
		t.Fatal(err)
	}
	c.Ordered("rows:2", schema.RowsOrder{Table: seat.TableName})
	if err := p.decide(t.Context(), schema.Position{}, answer, changes, map[string]bool{}); !ofTable(err) || len(branch.claimed) > 0 {
		t.Fatal(err, branch.claimed)
	}
	c.end(c.due(), nil)
	if err := p.decide(t.Context(), schema.Position{}, answer, changes, map[string]bool{}); err != nil || !slices.Equal(branch.claimed, []string{"5", "7"}) {
		t.Fatal(err, branch.claimed)
	}
}

// Orders outlive the process, and are no joins: an office that has nothing else is still a new one.
func TestOrdersAreTakenUp(t *testing.T) {
	o := schema.RowsOrder{Table: seat.TableName, Up: true}
	name, state := o.Encode()
	db, now := &recorded{all: []Join{{Table: name, State: state}}}, time.Now()
	c := ordering(db, &now)
	if err := c.load(t.Context()); err != nil || len(db.dropped) > 0 || c.Ordering() != "seat" {
		t.Fatal(err, db.dropped, c.Ordering())
	}
	if err := c.load(t.Context()); err != nil || len(c.jobs) != 1 {
		t.Fatal(err, len(c.jobs))
	}
	c.cfg.Mode = Diff
	pending, err := c.Resume(t.Context(), schema.Position{}, true, false)
	if err != nil || !slices.Equal(pending, []string{schema.JoinAll}) {
		t.Fatal(err, pending)
	}
	db.all = []Join{{Table: name, State: []byte("no")}}
	if err := ordering(db, &now).load(t.Context()); err == nil {
		t.Error("what is no order is taken up")
	}
}

// widened is an office whose table has got a column since.
type widened struct{ office }

func (w *widened) Find(_ context.Context, _ schema.TableName, keys []schema.Row) (*schema.Table, []schema.Row, error) {
	t := *seat
	t.Columns = append(slices.Clone(seat.Columns), schema.Column{Name: "more", Kind: schema.KindText, Nullable: true})
	return schema.NewTable(t), nil, errors.New("keys of another width")
}

// A table that is changed under a pass is no reason to fail: the pass begins again.
func TestTableIsChangedUnderAPass(t *testing.T) {
	branch, head := disputed()
	answer := answered(t, head, "5")
	changes, err := answer.Changes()
	if err != nil {
		t.Fatal(err)
	}
	p := (&Client{cfg: Config{Now: time.Now}, db: &widened{*branch}}).pass(seat.TableName, purpose{take: true}, &progress{})
	p.own = seat
	if err := p.decide(t.Context(), schema.Position{}, answer, changes, map[string]bool{}); !errors.Is(err, errChanged) || !ofTable(err) {
		t.Fatal(err)
	}
}
