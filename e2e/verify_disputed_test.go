package e2e

import (
	"context"
	"fmt"
	"testing"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
)

// Two offices give different rows the same unique value while the line between them is down. The head's row waits at the branch,
// and the branch's at the head: verify says so of both, no repair takes either away, and when a person makes room all are equal.
func TestVerifyDisputedRows(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := companyOf(t, fleet.Options{
		Broker: set.RabbitMQ[0], Binary: bin,
		Offices: []fleet.Spec{
			{Name: "head", Role: schema.Head, Database: set.Postgres[0]},
			{Name: "north", Role: schema.Branch, Database: set.MariaDB[0]},
		},
		Schema: func(ctx context.Context, o *fleet.Office) error {
			if err := fleet.CreateTables(ctx, o); err != nil {
				return err
			}
			return o.Exec(ctx, "CREATE TABLE lockers (id int PRIMARY KEY, owner varchar(40) NOT NULL, UNIQUE (owner))",
				"INSERT INTO lockers VALUES (1, 'ann'), (2, 'bob')")
		},
	})
	must(t, f.Start(within(t, stuck)))
	hq, north := f.Head(), f.Offices[1]
	found(t, north, bin, nil)

	north.Link.Cut()
	must(t, hq.Exec(within(t, stuck), "INSERT INTO lockers VALUES (60, 'dan'), (61, 'eve')"))
	must(t, north.Exec(within(t, stuck), "INSERT INTO lockers VALUES (4, 'dan'), (5, 'fay')"))
	must(t, north.Link.Restore())
	for _, o := range f.Offices {
		must(t, fleet.Until(within(t, stuck), "a row waits at "+string(o.Name), func(ctx context.Context) error {
			d, err := o.DigestOf(ctx, "SELECT id, row_key FROM cdc_sidecar.parked WHERE table_name = 'lockers' AND office = '"+string(o.Name)+"'")
			if err == nil && d.Rows != 1 {
				err = fmt.Errorf("%d changes wait", d.Rows)
			}
			return err
		}))
	}
	waiting := []string{"lockers\tdisputed\tid=4\t-\tnorth", "lockers\tdisputed\tid=60\t-\tnorth"}
	found(t, north, bin, waiting)
	for _, extra := range []string{"delete", "send", "keep"} {
		found(t, north, bin, waiting, "--repair", "--extra", extra)
	}
	found(t, hq, bin, waiting, "--repair", "--prefer", "branch")
	a := asked(t, north, bin, 4, "verify", "--repair", "--table", "lockers")
	if r := a.Result.Offices[0].Tables[0]; r.Disputed != 2 || r.Equal != 4 || r.Found() != 2 || r.Repaired+r.Sent+r.Removed != 0 {
		t.Errorf("%+v", r)
	}

	must(t, hq.Exec(within(t, stuck), "UPDATE lockers SET owner = 'dora' WHERE id = 60"))
	must(t, fleet.Until(within(t, stuck), "both rows are at both offices", func(ctx context.Context) error {
		for _, o := range f.Offices {
			d, err := o.DigestOf(ctx, "SELECT id, owner FROM lockers WHERE id = 4 AND owner = 'dan' OR id = 60 AND owner = 'dora'")
			if err == nil && d.Rows != 2 {
				err = fmt.Errorf("%s has %d of them", o.Name, d.Rows)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}))
	found(t, north, bin, nil)
}
