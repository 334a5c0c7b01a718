package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"cdc-sidecar/fleet"
)

// Branches that are torn down leave nothing behind that anybody waits for, and can come back as new ones.
func TestBranchesThatLeave(t *testing.T) {
	set := shared.Set(t)
	bin := binary(t, "CDC_PLAIN_BINARY")
	f := company(t, set, binary(t, "CDC_RACE_BINARY"), three(set)...)
	must(t, f.Start(within(t, stuck)))
	order := opens(t, f, 1000)
	order.update(t, f.Head())
	arrive(t, f, order)
	for _, o := range f.Offices[1:] {
		must(t, o.Stop(within(t, stuck)))
		if _, stderr, code := ask(t, o, bin, "teardown", "--yes"); code != 0 {
			t.Fatalf("teardown at %s: exit %d: %s", o.Name, code, stderr)
		}
	}
	must(t, fleet.Until(within(t, stuck), "the head forgets them", func(ctx context.Context) error {
		s, err := f.Head().Status(ctx)
		if err == nil && len(s.Peers) > 0 {
			err = fmt.Errorf("it knows %+v", s.Peers)
		}
		return err
	}))
	var queues []struct {
		Name string `json:"name"`
	}
	must(t, set.RabbitMQ[0].API(within(t, stuck), http.MethodGet, "queues/"+f.VHost(), nil, &queues))
	for _, o := range f.Offices[1:] {
		if slices.ContainsFunc(queues, func(q struct {
			Name string `json:"name"`
		},
		) bool {
			return q.Name == "cdc.office."+string(o.Name)
		}) {
			t.Errorf("the queue of %s is still there", o.Name)
		}
	}
	north := f.Offices[atNorth]
	if n := ask1[int](t, north.URL, `SELECT count(*) FROM pg_replication_slots WHERE database = current_database()`); n > 0 {
		t.Errorf("%d slots are left at %s", n, north.Name)
	}
	for _, o := range f.Offices { // while they are strangers
		order.insert(t, o)
	}
	order.remove(t, f.Head())
	for _, o := range f.Offices[1:] {
		must(t, o.Start())
	}
	must(t, f.Met(within(t, stuck)))
	arrive(t, f, order)
	order.update(t, f.Offices[atSouth])
	order.remove(t, north)
	arrive(t, f, order)
	end(t, f, order)
}
