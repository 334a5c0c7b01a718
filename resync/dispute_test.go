package resync

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cdc-sidecar/schema"
)

var seat = schema.NewTable(schema.Table{TableName: schema.TableName{Name: "seat"}, Engine: schema.Postgres, Key: []int{0}, Columns: []schema.Column{
	{Name: "id", Kind: schema.KindInt, Size: 32}, {Name: "guest", Kind: schema.KindText, Nullable: true},
}})

func guest(id, name string) schema.Row { return schema.Row{schema.Of(id), schema.Of(name)} }

// office is a database with seats: a branch's, or the head's.
type office struct {
	Database // what a test does not need
	rows     map[string]string
	taken    map[string]bool // names that another row has, which is not here to be seen
	waits    map[schema.RowID]bool
	claimed  []string
}

func (o *office) Find(_ context.Context, _ schema.TableName, keys []schema.Row) (*schema.Table, []schema.Row, error) {
	found := make([]schema.Row, len(keys))
	for i, k := range keys {
		if name, ok := o.rows[k[0].Text()]; ok {
			found[i] = guest(k[0].Text(), name)
		}
	}
	return seat, found, nil
}

func (o *office) Chunk(_ context.Context, _ schema.Office, _ schema.Position, changes []schema.Change, _ []Join) (parked int, err error) {
	for i := range changes {
		c := &changes[i]
		id := c.KeyRow()[0].Text()
		switch {
		case c.Op == schema.Delete:
			delete(o.rows, id)
		case o.taken[c.After[1].Text()]:
			o.waits[seat.RowID(c.After)] = true
			parked++
		default:
			o.rows[id] = c.After[1].Text()
			delete(o.waits, seat.RowID(c.After))
		}
	}
	return parked, nil
}

func (o *office) Claim(_ context.Context, _ schema.TableName, keys []schema.Row, _, _ bool) error {
	for _, k := range keys {
		o.claimed = append(o.claimed, k[0].Text())
	}
	return nil
}

func (o *office) Disputed(_ context.Context, row schema.RowID) (bool, error) {
	return o.waits[row], nil
}
func (o *office) Held(schema.TableName, schema.RowID) (bool, error) { return false, nil }
func (o *office) Overtake(context.Context) error                    { return nil }
func (o *office) Mark(context.Context) (uint64, error)              { return 1, nil }
func (o *office) Settle(context.Context) (uint64, error)            { return 1, nil }
func (o *office) Definition(context.Context, schema.TableName) (*schema.Table, error) {
	return seat, nil
}

// still are the head's clocks while nobody writes.
type still struct{}

func (still) Reached(context.Context, uint64) error                          { return nil }
func (still) Passed(context.Context, uint64) error                           { return nil }
func (still) Last() uint64                                                   { return 1 }
func (still) Released() uint64                                               { return 0 }
func (still) TableTouched(schema.TableName) uint64                           { return 0 }
func (still) Touched(schema.TableName, schema.RowID) (seq uint64, err error) { return 0, nil }

// answered is what the head answers to keys.
func answered(t *testing.T, head *office, ids ...string) *schema.Chunk {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}, 10), make(chan struct{})
	s := NewServer(ServerConfig{Sends: func(schema.TableName) bool { return true }, Nudge: func() { ready <- struct{}{} }, Log: slog.New(slog.DiscardHandler)}, head, still{})
	go func() {
		defer close(ended)
		_ = s.Run(ctx)
	}()
	defer func() { cancel(); <-ended }()
	f := schema.Fetch{ID: 1, Want: schema.WantRows, Table: seat.TableName}
	for _, id := range ids {
		f.Keys = append(f.Keys, seat.AppendKey(nil, guest(id, "")))
	}
	s.Asked("north", &f)
	<-ready
	answers, err := s.Ready(ctx, 1)
	if err != nil || len(answers) != 1 {
		t.Fatal(len(answers), err)
	}
	c, err := schema.DecodeChunk(answers[0].Chunk)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// disputed is a branch and a head: 1 waits at the branch and differs, 2 waits there and is equal, 3 waits at the head, which has no
// such row, 4 waits there and differs; 5 and 6 differ, and 6 cannot be written; 7 the branch has not, and it cannot be written; 8
// it alone has.
func disputed() (branch, head *office) {
	waits := func(ids ...string) map[schema.RowID]bool {
		all := map[schema.RowID]bool{}
		for _, id := range ids {
			all[seat.RowID(guest(id, ""))] = true
		}
		return all
	}
	branch = &office{
		rows:  map[string]string{"1": "old", "2": "two", "3": "three", "4": "new", "5": "old", "6": "old", "8": "eight"},
		taken: map[string]bool{"six": true, "seven": true}, waits: waits("1", "2"),
	}
	head = &office{rows: map[string]string{"1": "one", "2": "two", "4": "old", "5": "five", "6": "six", "7": "seven"}, waits: waits("3", "4")}
	return branch, head
}

var alwaysDisputed = []string{"id=1", "id=3", "id=4"}

var disputeTests = map[string]struct {
	why     purpose
	join    bool
	report  schema.TableReport
	keys    []string // that are disputed
	rows    map[string]string
	claimed []string
	outcome string
}{
	"compared": {
		report: schema.TableReport{Equal: 1, Different: 2, MissingHere: 1, MissingThere: 1, Disputed: 3}, keys: alwaysDisputed,
		rows:    map[string]string{"1": "old", "2": "two", "3": "three", "4": "new", "5": "old", "6": "old", "8": "eight"},
		outcome: schema.OutcomeDifferent,
	},
	"repaired, and what only the branch has is deleted": {
		why:    purpose{take: true, extra: Delete},
		report: schema.TableReport{Equal: 1, Different: 1, MissingThere: 1, Disputed: 5, Repaired: 1, Removed: 1}, keys: append(slices.Clone(alwaysDisputed), "id=6", "id=7"),
		rows:    map[string]string{"1": "old", "2": "two", "3": "three", "4": "new", "5": "five", "6": "old"},
		outcome: schema.OutcomeDifferent,
	},
	"repaired, and what only the branch has goes up": {
		why:    purpose{take: true, extra: Send, claim: true},
		report: schema.TableReport{Equal: 1, Different: 2, MissingThere: 1, Disputed: 4, Sent: 3}, keys: append(slices.Clone(alwaysDisputed), "id=7"),
		rows:    map[string]string{"1": "old", "2": "two", "3": "three", "4": "new", "5": "old", "6": "old", "8": "eight"},
		claimed: []string{"5", "6", "8"}, outcome: schema.OutcomeDifferent,
	},
	"joined": { // it takes the head's rows over what waits here, but deletes nothing that waits there
		why: purpose{take: true, extra: Delete}, join: true,
		report: schema.TableReport{Equal: 1, Different: 1, MissingThere: 1, Disputed: 5, Repaired: 3, Removed: 1}, keys: append(slices.Clone(alwaysDisputed), "id=6", "id=7"),
		rows:    map[string]string{"1": "one", "2": "two", "3": "three", "4": "old", "5": "five", "6": "old"},
		outcome: schema.OutcomeDifferent,
	},
}

// Rows of which a change waits, at either side, are told as disputed where they differ, and no repair touches them.
func TestDisputedRows(t *testing.T) {
	for name, test := range disputeTests {
		t.Run(name, func(t *testing.T) {
			branch, head := disputed()
			c := answered(t, head, "1", "2", "3", "4", "5", "6", "7", "8")
			changes, err := c.Changes()
			if err != nil {
				t.Fatal(err)
			}
			p := (&Client{cfg: Config{Now: time.Now}, db: branch}).pass(seat.TableName, test.why, &progress{})
			if p.own = seat; !test.join {
				p.job = &Job{}
			}
			if err := p.decide(t.Context(), schema.Position{}, c, changes, map[string]bool{}); err != nil {
				t.Fatal(err)
			}
			got := *p.report
			var keys []string
			for _, k := range got.Keys {
				if k.Kind == schema.KeyDisputed {
					keys = append(keys, k.Key)
				}
			}
			got.Keys, got.Seconds, got.Bytes = nil, 0, 0
			if diff := cmp.Diff(test.report, got); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.keys, keys); diff != "" {
				t.Errorf("disputed (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.rows, branch.rows); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.claimed, branch.claimed); diff != "" {
				t.Errorf("claimed (-want +got):\n%s", diff)
			}
			if got.Outcome() != test.outcome {
				t.Errorf("outcome %s, want %s", got.Outcome(), test.outcome)
			}
		})
	}
}
