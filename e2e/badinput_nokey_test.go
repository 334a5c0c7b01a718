package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"cdc-sidecar/fleet"
)

// A table without a key is named everywhere and left alone: the application goes on with it as before, the other tables
// flow. With a key it takes part.
func TestATableWithoutKey(t *testing.T) {
	set := shared.Set(t)
	f := companyWith(t, set, func(ctx context.Context, o *fleet.Office) error {
		if err := o.Exec(ctx, `CREATE TABLE logbook (id int NOT NULL, note varchar(40))`); err != nil {
			return err
		}
		return fleet.CreateTables(ctx, o)
	}, three(set)...)
	var l ledger
	must(t, f.Start(within(t, stuck)))
	for _, o := range f.Offices {
		diagnosed(t, o, "logbook", "key", "ADD PRIMARY KEY")
		noticed(t, o, "logbook", "key")
		must(t, o.Exec(within(t, stuck),
			`INSERT INTO logbook VALUES (1, 'mine')`, `UPDATE logbook SET note = 'still mine'`,
			`INSERT INTO logbook VALUES (2, 'gone')`, `DELETE FROM logbook WHERE id = 2`))
	}
	l.goesOn(t, f)
	for _, o := range f.Offices {
		must(t, o.Stop(within(t, stuck)))
		must(t, o.Exec(within(t, stuck), `DELETE FROM logbook`, `ALTER TABLE logbook ADD PRIMARY KEY (id)`))
	}
	l.returns(t, f, f.Offices...)
	for i, o := range f.Offices {
		must(t, o.Exec(within(t, stuck), fmt.Sprintf(`INSERT INTO logbook VALUES (%d, 'of %s')`, i, o.Name)))
	}
	must(t, fleet.Until(within(t, stuck), "the table with a key arrives", func(ctx context.Context) error {
		want, err := f.Head().DigestOf(ctx, `SELECT id, concat(id, note) FROM logbook ORDER BY id`)
		for _, o := range f.Offices {
			got, err2 := o.DigestOf(ctx, `SELECT id, concat(id, note) FROM logbook ORDER BY id`)
			if err != nil || err2 != nil || got != want || got.Rows != len(f.Offices) {
				return fmt.Errorf("%s: %+v, want %+v; %v", o.Name, got, want, errors.Join(err, err2)) //nolint:errorlint // nil as a rule
			}
		}
		return nil
	}))
	l.settles(t, f)
}

// noticed wants the running sidecar to tell of it by itself: in its log, and to whoever asks it for its status.
func noticed(t *testing.T, o *fleet.Office, want ...string) {
	t.Helper()
	log, err := os.ReadFile(o.Log())
	must(t, err)
	names(t, "the log of "+string(o.Name), string(log), want...)
	must(t, fleet.Until(within(t, stuck), "the status of "+string(o.Name)+" tells of it", func(ctx context.Context) error {
		s, err := o.Status(ctx)
		for _, f := range s.Findings {
			text, told := f.Message+f.Cause+f.Fix, true
			for _, w := range want {
				told = told && strings.Contains(text, w)
			}
			if told {
				return nil
			}
		}
		return fmt.Errorf("findings %+v, %v", s.Findings, err) //nolint:errorlint // nil as a rule
	}))
}
