package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
)

// Both branches stay away for longer than the head's journal reaches, and everybody goes on writing. The log of the branch on
// Postgres has whole rows: by a key alone the head could not tell whether what it has let go of had touched the row.
func TestExpiredBranches(t *testing.T) {
	set := shared.Set(t)
	offices := three(set)
	offices[atHead].Extra = "journal: {budget: 16MiB}\n"
	f := company(t, set, binary(t, "CDC_RACE_BINARY"), offices...)
	must(t, f.Start(within(t, stuck)))
	must(t, f.Offices[atNorth].Exec(within(t, stuck), `ALTER TABLE order_lines REPLICA IDENTITY FULL`))
	orders := []*trade{opens(t, f, 1000), opens(t, f, 1001)}
	arrive(t, f, orders...)
	for _, o := range f.Offices[1:] {
		o.Link.Cut()
	}
	orders[0].trades(t, f.Offices...)
	orders[0].contest(t, f.Offices...)
	expire(t, f)
	orders[1].trades(t, f.Offices...) // of this the head's journal may have the end
	for _, o := range f.Offices[1:] {
		must(t, set.RabbitMQ[0].PurgeQueue(within(t, stuck), f.VHost(), "cdc.office."+string(o.Name)))
		must(t, o.Link.Restore())
	}
	arrive(t, f, orders...)
	end(t, f, orders...)
	for _, o := range f.Offices[1:] {
		logs(t, o, "this office joins", "the head's journal begins at")
	}
}

// expire writes at the head until its journal has let go of what the branches need.
func expire(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	db, err := f.Head().DB()
	must(t, err)
	photo := make([]byte, 60_000)
	bin := binary(t, "CDC_PLAIN_BINARY")
	must(t, fleet.Until(within(t, stuck), "the branches expire", func(ctx context.Context) error {
		for range 40 {
			_, _ = rand.Read(photo) // so that nothing can be packed
			if _, err := db.ExecContext(ctx, `UPDATE order_lines SET photo = $1 WHERE order_id = 1001 AND line = 0`, photo); err != nil {
				return err
			}
		}
		var list struct {
			Offices []struct {
				Office schema.Office `json:"office"`
				State  string        `json:"state"`
			} `json:"offices"`
		}
		answer(t, bin, f.Head(), &list, "offices", "list")
		for _, o := range list.Offices {
			if o.State != "expired" {
				return fmt.Errorf("%s is %s", o.Office, o.State)
			}
		}
		if len(list.Offices) != 2 {
			return fmt.Errorf("%d branches", len(list.Offices))
		}
		return nil
	}))
}

// logs wants one line in the sidecar's log that has all of these words.
func logs(t *testing.T, o *fleet.Office, words ...string) {
	t.Helper()
	text, err := os.ReadFile(o.Log())
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			return
		}
	}
	t.Errorf("no line of %s's log has all of %q", o.Name, words)
}
