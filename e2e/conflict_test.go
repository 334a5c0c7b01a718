package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// Each policy has a table of its own, called after it.
var policies = []struct{ table, conflict string }{
	{"latest", "latest"},
	{"head", "head"},
	{"branch", "branch"},
	{"ordered", "[south, head, north]"},
	{"merge", "merge"},
	{"adding", "{add: [stock]}"},
	{"manual", "manual"},
}

// byPolicy is the configuration of them at a head whose tables are in that schema, or database. Offices may share a server:
// a database is named, not all.
func byPolicy(space string) string {
	var b strings.Builder
	b.WriteString("tables:\n")
	for _, p := range policies {
		fmt.Fprintf(&b, "  - {name: \"%s.%s\", conflict: %s}\n", space, p.table, p.conflict)
	}
	return b.String()
}

// company of three offices that have the policies' tables; space is that of the head's tables.
func contested(t *testing.T, set *servers.Set, bin, space string, offices []fleet.Spec) *fleet.Fleet {
	t.Helper()
	offices[0].Extra = byPolicy(space)
	f := companyOf(t, fleet.Options{Broker: set.RabbitMQ[0], Binary: bin, Offices: offices, Schema: createByPolicy})
	if err := f.Start(within(t, stuck)); err != nil {
		t.Fatal(err)
	}
	return f
}

func createByPolicy(ctx context.Context, o *fleet.Office) error {
	for _, p := range policies {
		columns := "(id bigint PRIMARY KEY, name varchar(100) NOT NULL, price numeric(12,2) NOT NULL, stock bigint NOT NULL, by_office varchar(40) NOT NULL)"
		if err := o.Exec(ctx, "CREATE TABLE "+p.table+" "+columns); err != nil {
			return err
		}
		if o.Postgres() && (p.table == "merge" || p.table == "adding") {
			if err := o.Exec(ctx, "ALTER TABLE "+p.table+" REPLICA IDENTITY FULL"); err != nil {
				return err
			}
		}
	}
	return nil
}

// item is one row of such a table.
type item struct {
	Name, Price, By string
	Stock           int64
}

func items(t *testing.T, o *fleet.Office, table string) map[int64]item {
	t.Helper()
	db, err := o.DB()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := db.QueryContext(within(t, stuck), "SELECT id, name, price, stock, by_office FROM "+table)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	all := map[int64]item{}
	for rows.Next() {
		var id int64
		var i item
		if err := rows.Scan(&id, &i.Name, &i.Price, &i.Stock, &i.By); err != nil {
			t.Fatal(err)
		}
		all[id] = i
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return all
}

// sameItems waits until nothing is under way and all offices hold the same rows of the tables.
func sameItems(t *testing.T, f *fleet.Fleet, tables ...string) {
	t.Helper()
	if err := f.Settled(within(t, stuck)); err != nil {
		t.Fatal(err)
	}
	err := fleet.Until(within(t, stuck), "every office holds the same", func(ctx context.Context) error {
		for _, table := range tables {
			var first fleet.Digest
			for i, o := range f.Offices {
				d, err := o.DigestOf(ctx, "SELECT id, concat_ws('|', id, name, price, stock, by_office) FROM "+table+" ORDER BY id")
				if err != nil {
					return err
				}
				if i == 0 {
					first = d
				} else if d != first {
					return fmt.Errorf("%s: %s has %d rows (%s), %s %d (%s)", table, f.Offices[0].Name, first.Rows, first.Hash, o.Name, d.Rows, d.Hash)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// captured runs statements as one transaction at an office and waits until its journal has it: what another office does
// afterwards has a later stamp, also where the database's log knows whole seconds only.
func captured(t *testing.T, o *fleet.Office, statements ...string) {
	t.Helper()
	before, err := o.Status(within(t, stuck))
	if err != nil {
		t.Fatal(err)
	}
	db, err := o.DB()
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(within(t, stuck), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		if _, err := tx.ExecContext(within(t, stuck), s); err != nil {
			t.Fatalf("%s: %s: %v", o.Name, s, err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	err = fleet.Until(within(t, stuck), "the journal has what was written", func(ctx context.Context) error {
		now, err := o.Status(ctx)
		if err == nil && now.Journal.Last <= before.Journal.Last {
			err = fmt.Errorf("%s: the journal ends at %d", o.Name, now.Journal.Last)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// contestedRows is how many rows all three offices change: each batch with each last digit more than once.
var contestedRows = sized(60, 200)

// What each office does to the rows while the links are cut. Rows are told by the last digit of their id; the batch of a row
// (id % 3) says in which order the offices come.
func contend(o *fleet.Office, table string, batch int) []string {
	name := string(o.Name)
	in := fmt.Sprintf("id <= %d AND id %% 3 = %d", contestedRows, batch)
	set := map[string]string{
		"head":  "name = concat('head ', id), stock = stock + 1",
		"north": "price = price + 1, stock = stock + 3",
		"south": "price = price + 5, stock = stock + 5",
	}[name]
	if table != "merge" {
		set += ", by_office = '" + name + "'"
	}
	deleted := map[string]string{"head": "1, 4", "north": "2, 4", "south": "3"}[name]
	var inserted []string
	for id := contestedRows + 1; id <= contestedRows+20; id++ {
		if id%3 == batch {
			inserted = append(inserted, fmt.Sprintf("(%d, 'new of %s', 1.50, 7, '%s')", id, name, name))
		}
	}
	return []string{
		fmt.Sprintf("UPDATE %s SET %s WHERE %s AND id %% 10 NOT IN (%s)", table, set, in, deleted),
		fmt.Sprintf("DELETE FROM %s WHERE %s AND id %% 10 IN (%s)", table, in, deleted),
		"INSERT INTO " + table + " VALUES " + strings.Join(inserted, ", "),
	}
}

// The order in which the offices write a batch.
var orders = [3][3]int{{0, 1, 2}, {2, 0, 1}, {1, 2, 0}}

// Links cut, the same rows changed and deleted everywhere, links restored: all equal, each row as its policy says, and
// every image that was lost is in the conflict log.
func TestConflictsUnderEveryPolicy(t *testing.T) {
	set := shared.Set(t)
	conflicts(t, set, "public", three(set))
}

func TestConflictsWithMariaDBAsTheHead(t *testing.T) {
	set := shared.Set(t)
	conflicts(t, set, "*_head", []fleet.Spec{
		{Name: "head", Role: schema.Head, Database: set.MariaDB[0]},
		{Name: "north", Role: schema.Branch, Database: set.Postgres[0]},
		{Name: "south", Role: schema.Branch, Database: set.MariaDB[0]},
	})
}

func conflicts(t *testing.T, set *servers.Set, space string, offices []fleet.Spec) {
	bin := binary(t, "CDC_RACE_BINARY")
	f := contested(t, set, bin, space, offices)
	var tables []string
	for _, p := range policies {
		tables = append(tables, p.table)
		var rows []string
		for id := 1; id <= contestedRows; id++ {
			rows = append(rows, fmt.Sprintf("(%d, 'thing', 10.00, 100, 'nobody')", id))
		}
		captured(t, f.Head(), "INSERT INTO "+p.table+" VALUES "+strings.Join(rows, ", "))
	}
	sameItems(t, f, tables...)
	for _, o := range f.Offices[1:] {
		o.Link.Cut()
	}
	for batch, order := range orders {
		for _, i := range order {
			var all []string
			for _, table := range tables {
				all = append(all, contend(f.Offices[i], table, batch)...)
			}
			captured(t, f.Offices[i], all...)
		}
	}
	for _, o := range f.Offices[1:] {
		if err := o.Link.Restore(); err != nil {
			t.Fatal(err)
		}
	}
	sameItems(t, f, tables...)
	for _, table := range tables {
		rows := items(t, f.Head(), table)
		entries := logged(t, f.Head(), table)
		judgeRows(t, table, rows)
		judgeLog(t, table, rows, entries)
	}
	resolveOne(t, f, bin)
}

// judgeRows checks what a policy promises of the rows that nobody deleted.
func judgeRows(t *testing.T, table string, rows map[int64]item) {
	t.Helper()
	wrong := 0
	for id := int64(1); id <= int64(contestedRows)+20; id++ {
		inserted := id > int64(contestedRows)
		if digit := id % 10; !inserted && digit >= 1 && digit <= 4 {
			continue
		}
		got, there := rows[id]
		order := orders[id%3]
		last := []string{"head", "north", "south"}[order[2]]
		ok := there
		switch table {
		case "latest":
			ok = ok && got.By == last
		case "head", "manual":
			ok = ok && got.By == "head"
		case "branch":
			ok = ok && got.By != "head" && got.By != "nobody"
		case "ordered":
			ok = ok && got.By == "south"
		case "merge":
			if !inserted {
				price := map[int]string{1: "11.00", 2: "15.00"}[lastOf(order, 1, 2)]
				// A merged row has the later stamp of both sides: when the head wrote last of all, the first price to arrive stays.
				ok = ok && got.Name == fmt.Sprintf("head %d", id) && (got.Price == price || last == "head" && got.Price != "10.00")
			}
		case "adding":
			want := int64(109)
			if inserted {
				want = 21
			}
			ok = ok && got.Stock == want
		}
		if !ok && wrong < 5 {
			wrong++
			t.Errorf("table %s: row %d is %+v (there: %v); the last to write it was %s", table, id, got, there, last)
		}
	}
}

// lastOf is which of two offices comes later in an order.
func lastOf(order [3]int, a, b int) int {
	if slices.Index(order[:], a) > slices.Index(order[:], b) {
		return a
	}
	return b
}

// logEntry is what the test needs of an entry of the conflict log.
type logEntry struct {
	local, remote             sql.NullString
	localOrigin, remoteOrigin string
}

func logged(t *testing.T, head *fleet.Office, table string) map[string][]logEntry {
	t.Helper()
	db, err := head.DB()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := db.QueryContext(within(t, stuck), "SELECT row_key, local_image, remote_image, local_origin, remote_origin FROM cdc_sidecar.conflicts WHERE table_name = '"+table+"'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	all := map[string][]logEntry{}
	for rows.Next() {
		var key string
		var e logEntry
		if err := rows.Scan(&key, &e.local, &e.remote, &e.localOrigin, &e.remoteOrigin); err != nil {
			t.Fatal(err)
		}
		all[key] = append(all[key], e)
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return all
}

// judgeLog: whatever an office did to a row that does not show in it, the conflict log has.
func judgeLog(t *testing.T, table string, rows map[int64]item, entries map[string][]logEntry) {
	t.Helper()
	if table == "merge" || table == "adding" { // rows show what everybody did; deletions are looked at in the other tables
		return
	}
	wrong := 0
	for id := int64(1); id <= int64(contestedRows)+20; id++ {
		for _, office := range []string{"head", "north", "south"} {
			deleted := id <= int64(contestedRows) && slices.Contains(map[string][]int64{"head": {1, 4}, "north": {2, 4}, "south": {3}}[office], id%10)
			row, there := rows[id]
			if there && row.By == office || !there && deleted {
				continue // it shows
			}
			found := slices.ContainsFunc(entries[fmt.Sprintf("id=%d", id)], func(e logEntry) bool {
				mark := `"by_office":"` + office + `"`
				if deleted {
					return e.localOrigin == office && !e.local.Valid || e.remoteOrigin == office && !e.remote.Valid
				}
				return strings.Contains(e.local.String, mark) || strings.Contains(e.remote.String, mark)
			})
			if !found && wrong < 5 {
				wrong++
				t.Errorf("table %s: what %s did to row %d is lost (deleted: %v); the row is %+v (there: %v), the log has %+v",
					table, office, id, deleted, row, there, entries[fmt.Sprintf("id=%d", id)])
			}
		}
	}
}

// answer runs a verb of the sidecar's program at an office, with --json, and returns the result.
func answer(t *testing.T, bin string, o *fleet.Office, into any, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(within(t, stuck), bin, append(args, "--json", "--config", o.Config())...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s %s", args, err, out, stderr.String())
	}
	envelope := struct {
		OK     bool            `json:"ok"`
		Result json.RawMessage `json:"result"`
	}{}
	if err := json.Unmarshal(out, &envelope); err != nil || !envelope.OK {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	if err := json.Unmarshal(envelope.Result, into); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

// resolveOne lets a person decide one of the conflicts that wait, for the other office.
func resolveOne(t *testing.T, f *fleet.Fleet, bin string) {
	t.Helper()
	var list struct {
		Conflicts []struct {
			ID    int64  `json:"id"`
			Table string `json:"table"`
			Key   string `json:"key"`
		} `json:"conflicts"`
	}
	answer(t, bin, f.Head(), &list, "conflicts", "list", "--state", "open", "--all")
	if len(list.Conflicts) < contestedRows {
		t.Fatalf("%d conflicts wait for a person", len(list.Conflicts))
	}
	at := slices.IndexFunc(list.Conflicts, func(c struct {
		ID    int64  `json:"id"`
		Table string `json:"table"`
		Key   string `json:"key"`
	},
	) bool {
		return c.Table == "manual" && c.Key == "id=7"
	})
	if at < 0 {
		t.Fatal("nothing waits of row 7")
	}
	var one struct {
		Remote struct {
			Origin string `json:"origin"`
			Office string `json:"office"`
		} `json:"remote"`
		State string `json:"state"`
	}
	answer(t, bin, f.Head(), &one, "conflicts", "resolve", fmt.Sprint(list.Conflicts[at].ID), "--take", "remote")
	if one.State != "resolved" {
		t.Fatalf("resolved entry: %+v", one)
	}
	err := fleet.Until(within(t, stuck), "every office has the row that was chosen", func(context.Context) error {
		for _, o := range f.Offices {
			if by := items(t, o, "manual")[7].By; by != "north" && by != "south" {
				return fmt.Errorf("%s has the row of %s", o.Name, by)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sameItems(t, f, "manual")
}

// Increments from three offices at once, 2,000 of them with FULL=1, a link cut among them: the sum is exact everywhere.
func TestCountersAddUp(t *testing.T) {
	set := shared.Set(t)
	f := contested(t, set, binary(t, "CDC_RACE_BINARY"), "public", three(set))
	const counters = 10
	increments := sized(800, 2000)
	for id := 1; id <= counters; id++ {
		captured(t, f.Head(), fmt.Sprintf("INSERT INTO adding VALUES (%d, 'counter', 0, 0, 'head')", id))
	}
	sameItems(t, f, "adding")
	var wg sync.WaitGroup
	for i, o := range f.Offices {
		wg.Go(func() {
			for n := i; n < increments; n += len(f.Offices) {
				if err := o.Exec(within(t, stuck), fmt.Sprintf("UPDATE adding SET stock = stock + 1, by_office = '%s' WHERE id = %d", o.Name, n%counters+1)); err != nil {
					t.Error(err)
					return
				}
				if n/3 == increments/9 && i == 1 {
					o.Link.Cut()
				}
				if n/3 == increments/5 && i == 1 {
					if err := o.Link.Restore(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	sameItems(t, f, "adding")
	var sum int64
	for _, i := range items(t, f.Head(), "adding") {
		sum += i.Stock
	}
	if sum != int64(increments) {
		t.Errorf("%d increments are %d", increments, sum)
	}
}

// restarts is how often the offices' corridors ended so far.
func restarts(t *testing.T, f *fleet.Fleet) (n uint64) {
	t.Helper()
	for _, o := range f.Offices {
		s, err := o.Status(within(t, stuck))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range s.Corridors {
			n += uint64(c.Restarts)
		}
	}
	return n
}

// Three offices update one row 100 times a second with the links up: no application meets a dead-lock, nothing is tried
// without end, and all are equal at rest.
func TestAHotRow(t *testing.T) {
	set := shared.Set(t)
	f := contested(t, set, binary(t, "CDC_PLAIN_BINARY"), "public", three(set))
	captured(t, f.Head(), "INSERT INTO latest VALUES (1, 'hot', 0, 0, 'head')")
	sameItems(t, f, "latest")
	before := restarts(t, f)
	const every = 10 * time.Millisecond
	long := sized(8*time.Second, 20*time.Second)
	var wg sync.WaitGroup
	writing, stop := context.WithTimeout(within(t, stuck), long)
	defer stop()
	var done [3]int
	for i, o := range f.Offices {
		wg.Go(func() {
			ticker := time.NewTicker(every)
			defer ticker.Stop()
			for writing.Err() == nil {
				if err := o.Exec(within(t, stuck), fmt.Sprintf("UPDATE latest SET stock = stock + 1, by_office = '%s' WHERE id = 1", o.Name)); err != nil {
					t.Error(err)
					return
				}
				done[i]++
				select {
				case <-ticker.C:
				case <-writing.Done():
				}
			}
		})
	}
	wg.Wait()
	sameItems(t, f, "latest")
	for i, o := range f.Offices {
		s, err := o.Status(within(t, stuck))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d updates, %d conflicts, %d held, clocks %+v, row %+v", o.Name, done[i], s.Conflicts.Total, s.Clocks.Held, s.Clocks, items(t, o, "latest")[1])
		if done[i] < sized(40, 100) {
			t.Errorf("%s: only %d updates", o.Name, done[i])
		}
	}
	if after := restarts(t, f); after != before {
		t.Errorf("corridors ended %d times", after-before)
	}
}

// Sidecars are killed again and again while all offices change the same rows: what an office had seen, and the clocks of
// rows, are as they were, so all end equal, and not one increment is lost or doubled.
func TestKilledSidecarsWithConflicts(t *testing.T) {
	set := shared.Set(t)
	f := contested(t, set, binary(t, "CDC_RACE_BINARY"), "public", three(set))
	const counters = 20
	for id := 1; id <= counters; id++ {
		captured(t, f.Head(), fmt.Sprintf("INSERT INTO adding VALUES (%d, 'counter', 0, 0, 'head')", id))
	}
	sameItems(t, f, "adding")
	writing, stop := context.WithCancel(within(t, stuck))
	var wg sync.WaitGroup
	var made [3]int64
	for i, o := range f.Offices {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			for writing.Err() == nil {
				if err := o.Exec(within(t, stuck), fmt.Sprintf("UPDATE adding SET stock = stock + 1, by_office = '%s' WHERE id = %d", o.Name, 1+rnd.IntN(counters))); err != nil {
					t.Error(err)
					return
				}
				made[i]++
				if err := o.Exec(within(t, stuck), disturb(o, rnd)); err != nil {
					t.Error(err)
					return
				}
				pause(writing, sized(20*time.Millisecond, 5*time.Millisecond))
			}
		})
	}
	for range sized(6, 30) {
		o := f.Offices[rand.IntN(len(f.Offices))]
		o.Kill()
		if err := o.Start(); err != nil {
			t.Error(err)
		}
		pause(writing, time.Second)
	}
	stop()
	wg.Wait()
	sameItems(t, f, "adding", "latest")
	var sum int64
	for _, i := range items(t, f.Head(), "adding") {
		sum += i.Stock
	}
	if want := made[0] + made[1] + made[2]; sum != want {
		t.Errorf("%d increments are %d", want, sum)
	}
	head, err := f.Head().Status(within(t, stuck))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v increments; %d conflicts since the head's last start", made, head.Conflicts.Total)
}

// disturb changes one of a few rows in any way: inserts, updates, deletes it.
func disturb(o *fleet.Office, rnd *rand.Rand) string {
	id := 1 + rnd.IntN(30)
	switch rnd.IntN(4) {
	case 0:
		if o.Postgres() {
			return fmt.Sprintf("INSERT INTO latest VALUES (%d, 'of %s', 1, 1, '%s') ON CONFLICT DO NOTHING", id, o.Name, o.Name)
		}
		return fmt.Sprintf("INSERT IGNORE INTO latest VALUES (%d, 'of %s', 1, 1, '%s')", id, o.Name, o.Name)
	case 1:
		return fmt.Sprintf("DELETE FROM latest WHERE id = %d", id)
	default:
		return fmt.Sprintf("UPDATE latest SET stock = stock + 1, name = 'changed by %s', by_office = '%s' WHERE id = %d", o.Name, o.Name, id)
	}
}
