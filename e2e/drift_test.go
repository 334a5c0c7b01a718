package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
)

// unlogged runs a statement at a MariaDB so that no log says it.
func unlogged(t *testing.T, o *fleet.Office, statement string) {
	t.Helper()
	must(t, o.Exec(within(t, stuck), "SET SESSION sql_log_bin = 0", statement, "SET SESSION sql_log_bin = 1"))
}

// drifts waits until a branch and the head both say that just these tables of the branch differ from the head's, each with some words
// on it, and wants their doctors to say so, too.
func drifts(t *testing.T, head, branch *fleet.Office, bin string, want map[string]string) {
	t.Helper()
	must(t, fleet.Until(within(t, stuck), fmt.Sprintf("both %s and %s say which tables of %s differ: %v", branch.Name, head.Name, branch.Name, want), func(ctx context.Context) error {
		here, err := branch.Status(ctx)
		if err != nil {
			return err
		}
		if err := sameDrift(here.Drift, want); err != nil {
			return fmt.Errorf("%s: %w", branch.Name, err)
		}
		there, err := head.Status(ctx)
		i := slices.IndexFunc(there.Peers, func(p admin.Peer) bool { return p.Office == branch.Name })
		if err != nil || i < 0 {
			return fmt.Errorf("%s: %v, %+v", head.Name, err, there.Peers) //nolint:errorlint // for people, and nil as a rule
		}
		if err := sameDrift(there.Peers[i].Drift, want); err != nil {
			return fmt.Errorf("%s, of %s: %w", head.Name, branch.Name, err)
		}
		return nil
	}))
	for _, o := range []*fleet.Office{head, branch} {
		status, _, _ := ask(t, o, bin, "status")
		for table := range want {
			if !strings.Contains(status, "  drift: "+table+": ") {
				t.Errorf("the status of %s says nothing of table %s:\n%s", o.Name, table, status)
			}
		}
		named := 0
		for _, f := range doctor(t, o) {
			if f.Check != "db.drift" || f.Severity == schema.Fine || o == head && !strings.Contains(f.Message, string(branch.Name)) {
				continue
			}
			named++
			if f.Fix == "" || f.Severity != schema.Warning {
				t.Errorf("the doctor of %s: %+v", o.Name, f)
			}
		}
		if named != len(want) {
			t.Errorf("the doctor of %s names %d tables of %s, want %d", o.Name, named, branch.Name, len(want))
		}
	}
}

// sameEverywhere wants no office to say that its tables differ, with looks that were made behind everything before.
func (e *evolving) sameEverywhere(t *testing.T) {
	t.Helper()
	began := time.Now()
	look := fmt.Sprintf(`CREATE TABLE looked_at_%d (id bigint PRIMARY KEY)`, e.marks)
	must(t, e.Head().Exec(within(t, stuck), look)) // behind a schema change they look again
	must(t, fleet.Until(within(t, stuck), "no office has other tables than the head", func(ctx context.Context) error {
		for _, o := range e.Offices[1:] {
			s, err := o.Status(ctx)
			if err != nil {
				return err
			}
			if err := sameDrift(s.Drift, nil); err != nil {
				return fmt.Errorf("%s: %w", o.Name, err)
			}
			if s.Drift.Checked.Before(began) {
				return fmt.Errorf("%s has not looked since", o.Name)
			}
		}
		return nil
	}))
}

func sameDrift(d *admin.Drift, want map[string]string) error {
	if d == nil {
		return fmt.Errorf("nobody has looked")
	}
	if int(d.Different) != len(want) || len(d.Tables) != len(want) {
		return fmt.Errorf("%+v", *d)
	}
	for _, t := range d.Tables {
		words, ok := want[t.Table]
		if !ok || !strings.Contains(strings.Join(t.Differences, "; "), words) || len(t.Statements) == 0 {
			return fmt.Errorf("%+v", t)
		}
	}
	return nil
}
