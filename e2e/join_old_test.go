package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// oldRows is how many rows the offices' databases have from before, about.
const oldRows = 1200

// onlyHere are the rows that age leaves at an office alone, as verify names them: table and key.
func onlyHere(o *fleet.Office) []string {
	name, id := o.Name, 1_000_000+o.Index
	keys := []string{
		fmt.Sprintf("names\tname=%q", "only "+name), fmt.Sprintf("documents\tid=%d", id), fmt.Sprintf("seats\tid=%d", id),
		fmt.Sprintf("prices\tsku=%q, valid=\"2020-02-02\"", "only "+name), fmt.Sprintf("readings\tid=%d", id),
		fmt.Sprintf("order_lines\torder_id=%d, line=1", id),
	}
	slices.Sort(keys)
	return keys
}

// age makes of a database that is filled as the others are an old one: some rows differ, some are missing, others are there.
func age(ctx context.Context, o *fleet.Office) error {
	name, id := o.Name, 1_000_000+o.Index
	return o.Exec(ctx,
		"UPDATE names SET seen = 99 WHERE name LIKE '%7'", "DELETE FROM names WHERE name LIKE '%3'",
		fmt.Sprintf("INSERT INTO names VALUES ('only %s', NULL, 5)", name),
		"UPDATE tokens SET valid = NOT valid WHERE holder LIKE '%5'", "DELETE FROM tokens WHERE holder LIKE '%9'",
		"UPDATE documents SET body = 'stale' WHERE id % 5 = 0", "DELETE FROM documents WHERE id % 7 = 3",
		fmt.Sprintf("INSERT INTO documents VALUES (%d, 'only', 'here', 1)", id),
		// Everybody sits on the next one's seat: no row can have the head's value before another has given it up.
		"UPDATE seats SET guest = concat('x', guest)", fmt.Sprintf("UPDATE seats SET guest = concat('guest ', id %% %d + 1)", oldRows*8/100),
		"DELETE FROM seats WHERE id % 10 = 4", fmt.Sprintf("INSERT INTO seats VALUES (%d, 'only %s')", id, name),
		"UPDATE prices SET price = price + 1 WHERE sku LIKE '%4'", "DELETE FROM prices WHERE sku LIKE '%6'",
		fmt.Sprintf("INSERT INTO prices VALUES ('only %s', '2020-02-02', 1.5)", name),
		"UPDATE readings SET value = -value WHERE id % 6 = 0", "DELETE FROM readings WHERE id % 8 = 5",
		fmt.Sprintf("INSERT INTO readings VALUES (%d, '2020-01-01 00:00:00', 0.5)", id),
		"UPDATE orders SET note = 'stale' WHERE id % 4 = 0", "DELETE FROM order_lines WHERE line = 2 AND order_id % 3 = 0",
		fmt.Sprintf("INSERT INTO order_lines VALUES (%d, 1, 'only', 1.5, NULL)", id))
}

// old is a company whose branches have databases from before, and join as their configurations say.
func old(t *testing.T, set *servers.Set, bin, north, south string) *fleet.Fleet {
	t.Helper()
	f := companyOf(t, fleet.Options{
		Broker: set.RabbitMQ[0], Binary: bin,
		Offices: []fleet.Spec{
			{Name: "hq", Role: schema.Head, Database: set.Postgres[0]},
			{Name: "north", Role: schema.Branch, Database: set.Postgres[1], Extra: north},
			{Name: "south", Role: schema.Branch, Database: set.MariaDB[0], Extra: south},
		},
		Schema: func(ctx context.Context, o *fleet.Office) error {
			if err := createWares(ctx, o); err != nil {
				return err
			}
			if err := fillWares(ctx, o, oldRows); err != nil || o.Role == schema.Head {
				return err
			}
			return age(ctx, o)
		},
	})
	must(t, f.Start(within(t, stuck)))
	return f
}

// differs asks a branch to compare itself, wants it to find something, and returns kind, table and key of each row.
func differs(t *testing.T, bin string, o *fleet.Office) map[string][]string {
	t.Helper()
	stdout, stderr, code := ask(t, o, bin, "verify")
	if code != 4 {
		t.Errorf("verify at %s: exit %d, want 4\n%s\n%s", o.Name, code, stdout, stderr)
	}
	found := map[string][]string{}
	for line := range strings.Lines(stdout) {
		if part := strings.Split(line, "\t"); len(part) > 2 {
			found[part[1]] = append(found[part[1]], part[0]+"\t"+part[2])
		}
	}
	for _, keys := range found {
		slices.Sort(keys)
	}
	return found
}

// has counts which of the rows that age leaves at the branch alone are at an office.
func has(t *testing.T, o, branch *fleet.Office) int {
	t.Helper()
	name, id := branch.Name, 1_000_000+branch.Index
	db, err := o.DB()
	must(t, err)
	n := 0
	must(t, db.QueryRowContext(within(t, stuck), fmt.Sprintf(`SELECT (SELECT count(*) FROM names WHERE name = 'only %[1]s') + (SELECT count(*) FROM documents WHERE id = %[2]d) +
		(SELECT count(*) FROM seats WHERE id = %[2]d) + (SELECT count(*) FROM prices WHERE sku = 'only %[1]s') + (SELECT count(*) FROM readings WHERE id = %[2]d) +
		(SELECT count(*) FROM order_lines WHERE order_id = %[2]d)`, name, id)).Scan(&n))
	return n
}

// Branches with databases from before. By default what differs comes from the head, and what only a branch has goes to
// everybody.
func TestAnOldDatabaseJoins(t *testing.T) {
	set := shared.Set(t)
	bin := binary(t, "CDC_RACE_BINARY")
	f := old(t, set, bin, "", "join: {mode: diff}\n")
	if _, err := sameWares(within(t, stuck), f); err != nil {
		t.Error(err)
	}
	for _, branch := range f.Offices[1:] {
		for _, o := range f.Offices {
			if n := has(t, o, branch); n != len(onlyHere(branch)) {
				t.Errorf("%s has %d of the rows that only %s had, want %d", o.Name, n, branch.Name, len(onlyHere(branch)))
			}
		}
		for table, figures := range joined(t, branch) {
			if figures["equal"] == 0 && table != "seats" {
				t.Errorf("%s: nothing of table %s is said to have been equal: %v", branch.Name, table, figures)
			}
			if all := figures["equal"] + figures["written"] + figures["sent up"] + figures["disputed"]; all < figures["rows"] {
				t.Errorf("%s: table %s has %d rows, %d are accounted for: %v", branch.Name, table, figures["rows"], all, figures)
			}
		}
	}
	verifies(t, bin, f.Offices[1:]...)
}

// What only a branch has is deleted, or kept there, if its configuration says so.
func TestAnOldDatabaseJoinsWithoutSending(t *testing.T) {
	wholeOnly(t)
	set := shared.Set(t)
	bin := binary(t, "CDC_RACE_BINARY")
	const deletes, keeps = "join: {extra: delete}\n", "join: {extra: keep}\n"
	for _, c := range sized([][2]string{{deletes, keeps}}, [][2]string{{deletes, keeps}, {keeps, deletes}}) {
		f := old(t, set, bin, c[0], c[1])
		deleter, keeper := f.Offices[1], f.Offices[2]
		if c[0] == keeps {
			deleter, keeper = keeper, deleter
		}
		same := &fleet.Fleet{Offices: []*fleet.Office{f.Head(), deleter}}
		if _, err := sameWares(within(t, stuck), same); err != nil {
			t.Error(err)
		}
		for _, o := range same.Offices {
			if n := has(t, o, deleter) + has(t, o, keeper); n != 0 {
				t.Errorf("%s has %d rows that only a branch had", o.Name, n)
			}
		}
		verifies(t, bin, deleter)
		found := differs(t, bin, keeper)
		if want := onlyHere(keeper); len(found) != 1 || !slices.Equal(found[schema.KeyMissingThere], want) {
			t.Errorf("verify at %s says\n%v\nwant as missing there\n%v", keeper.Name, found, want)
		}
	}
}

// A branch that is to be replaced takes every row; one whose operator says that it is equal takes none, and what comes later.
func TestAnOldDatabaseIsReplacedOrTrusted(t *testing.T) {
	wholeOnly(t)
	set := shared.Set(t)
	bin := binary(t, "CDC_RACE_BINARY")
	const replaces, trusts = "join: replace\n", "join: none\n"
	for _, c := range sized([][2]string{{replaces, trusts}}, [][2]string{{replaces, trusts}, {trusts, replaces}}) {
		f := old(t, set, bin, c[0], c[1])
		replaced, trusted := f.Offices[1], f.Offices[2]
		if c[0] == trusts {
			replaced, trusted = trusted, replaced
		}
		before := differs(t, bin, trusted)
		if !slices.Equal(before[schema.KeyMissingThere], onlyHere(trusted)) || len(before[schema.KeyMissingHere]) == 0 || len(before[schema.KeyDifferent]) == 0 {
			t.Errorf("verify at %s, which trusts that it is equal, says\n%v", trusted.Name, before)
		}
		must(t, f.Head().Exec(within(t, stuck), "INSERT INTO prices VALUES ('later', '2026-11-21', 2.5)", "UPDATE documents SET title = 'later' WHERE id = 1"))
		must(t, trusted.Exec(within(t, stuck), "INSERT INTO prices VALUES ('from there', '2026-11-21', 2.5)"))
		must(t, f.Settled(within(t, stuck)))
		same := &fleet.Fleet{Offices: []*fleet.Office{f.Head(), replaced}}
		if _, err := sameWares(within(t, stuck), same); err != nil {
			t.Error(err)
		}
		verifies(t, bin, replaced)
		for table, figures := range joined(t, replaced) {
			if figures["written"] != figures["rows"] {
				t.Errorf("%s was to take all of table %s: %v", replaced.Name, table, figures)
			}
		}
		if after := differs(t, bin, trusted); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("verify at %s said\n%v\nand now, with two changes from elsewhere,\n%v", trusted.Name, before, after)
		}
	}
}
