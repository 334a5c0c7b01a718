package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cdc-sidecar/fleet"
	"cdc-sidecar/servers"
)

// adrift is a company of three offices, each with a database whose clock the test sets. Stamps come from the databases'
// commit times. The sidecars go by the machine's clock, which no library can set for them: a head's decides what is too far
// ahead, and an office with MariaDB finds the millisecond within its database's second by its own.
type adrift struct {
	*fleet.Fleet
	head, north, south *fleet.Office
}

// set sets the databases' clocks, all at once.
func (a *adrift) set(t *testing.T, offsets map[*fleet.Office]time.Duration) {
	t.Helper()
	var wg sync.WaitGroup
	for o, offset := range offsets {
		wg.Go(func() {
			if err := setClock(t, o.Spec, offset); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func setClock(t *testing.T, o fleet.Spec, offset time.Duration) error {
	return o.Database.(interface {
		SetClock(ctx context.Context, offset time.Duration) error
	}).SetClock(within(t, stuck), offset)
}

// write is one transaction of an application: it updates a row in two tables, and another is inserted or deleted in turn.
func (a *adrift) write(t *testing.T, o *fleet.Office, id, turn int) {
	t.Helper()
	other := fmt.Sprintf("INSERT INTO latest VALUES (%d, 'turn %d', 1, 1, '%s')", id+1, turn, o.Name)
	if turn%2 == 1 {
		other = fmt.Sprintf("DELETE FROM latest WHERE id = %d", id+1)
	}
	captured(t, o, other,
		fmt.Sprintf("UPDATE adding SET stock = stock + 1, by_office = '%s' WHERE id = %d", o.Name, id),
		fmt.Sprintf("UPDATE latest SET name = 'turn %d', by_office = '%s' WHERE id = %d", turn, o.Name, id))
}

// sees waits until an office has the row of another.
func (a *adrift) sees(t *testing.T, o *fleet.Office, id int, name string, by *fleet.Office) {
	t.Helper()
	err := fleet.Until(within(t, stuck), fmt.Sprintf("%s sees what %s wrote to row %d", o.Name, by.Name, id), func(context.Context) error {
		if i := items(t, o, "latest")[int64(id)]; i.Name != name || i.By != string(by.Name) {
			return fmt.Errorf("it has %+v", i)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// relay lets an office write, the next one as soon as it sees that, and so on, once from each office to each other one.
// Each write must stay, at every office, and none may be taken for a conflict. Before each, jump may set the clocks.
func (a *adrift) relay(t *testing.T, id int, jump func(turn int, writer *fleet.Office)) {
	t.Helper()
	captured(t, a.head, // in one transaction: whoever sees the one row has the other
		fmt.Sprintf("INSERT INTO adding VALUES (%d, 'start', 0, 0, 'head')", id),
		fmt.Sprintf("INSERT INTO latest VALUES (%d, 'start', 0, 0, 'head')", id))
	name, last := "start", a.head
	way := []*fleet.Office{a.north, a.south, a.head, a.south, a.north, a.head, a.north}
	for turn, o := range way {
		jump(turn, o)
		a.sees(t, o, id, name, last)
		a.write(t, o, id, turn)
		name, last = fmt.Sprintf("turn %d", turn), o
	}
	sameItems(t, a.Fleet, "latest", "adding")
	rows := items(t, a.head, "latest")
	if got := rows[int64(id)]; got.Name != name || got.By != string(last.Name) {
		t.Errorf("the last to write, having seen all before, was %s in %s; the row is %+v", last.Name, name, got)
	}
	if got, there := rows[int64(id+1)]; !there || got.Name != name { // the last turn is an even one
		t.Errorf("the row that %s inserted in %s is %+v (there: %v)", last.Name, name, got, there)
	}
	if got := items(t, a.head, "adding")[int64(id)].Stock; got != int64(len(way)) {
		t.Errorf("%d increments are %d", len(way), got)
	}
	for _, table := range []string{"latest", "adding"} {
		entries := logged(t, a.head, table)
		for _, row := range []int{id, id + 1} {
			if e := entries[fmt.Sprintf("id=%d", row)]; len(e) > 0 {
				t.Errorf("table %s: writes of row %d, each of which had seen the one before, are conflicts: %+v", table, row, e)
			}
		}
	}
}

// claims is an office's write of a row of its own accord.
func claims(t *testing.T, o *fleet.Office, id int, name string) {
	t.Helper()
	captured(t, o, fmt.Sprintf("UPDATE latest SET name = '%s', by_office = '%s' WHERE id = %d", name, o.Name, id))
}

// apart inserts rows, lets offices write while one has no link, and brings them together again.
func (a *adrift) apart(t *testing.T, away *fleet.Office, rows []int, write func()) {
	t.Helper()
	for _, id := range rows {
		captured(t, a.head, fmt.Sprintf("INSERT INTO latest VALUES (%d, 'start', 0, 0, 'head')", id))
	}
	sameItems(t, a.Fleet, "latest")
	away.Link.Cut()
	write()
	if err := away.Link.Restore(); err != nil {
		t.Fatal(err)
	}
	sameItems(t, a.Fleet, "latest")
}

// stands checks that a row is what the winner wrote last, and that what the loser wrote is in the conflict log.
func (a *adrift) stands(t *testing.T, id int, name string, winner, loser *fleet.Office) {
	t.Helper()
	if got := items(t, a.head, "latest")[int64(id)]; got.Name != name || got.By != string(winner.Name) {
		t.Errorf("row %d is %+v, want %s of %s", id, got, name, winner.Name)
	}
	entries := logged(t, a.head, "latest")[fmt.Sprintf("id=%d", id)]
	mark := fmt.Sprintf(`"by_office":"%s"`, loser.Name)
	if !slices.ContainsFunc(entries, func(e logEntry) bool { return strings.Contains(e.local.String+e.remote.String, mark) }) {
		t.Errorf("row %d: what %s lost is not in the conflict log: %+v", id, loser.Name, entries)
	}
}

// claimsAgain lets an office that knows the outcome of a conflict write the row: that stays, and is no conflict.
func (a *adrift) claimsAgain(t *testing.T, o *fleet.Office, id int) {
	t.Helper()
	key := fmt.Sprintf("id=%d", id)
	before := len(logged(t, a.head, "latest")[key])
	claims(t, o, id, "again")
	sameItems(t, a.Fleet, "latest")
	a.sees(t, a.head, id, "again", o)
	if e := logged(t, a.head, "latest")[key]; len(e) != before {
		t.Errorf("what %s wrote to row %d when it knew the outcome is a conflict: %+v", o.Name, id, e)
	}
}

// Offices whose clocks are an hour ahead or behind, and jump: they converge, a write that comes causally later wins over all
// that its author had seen, a clock that is ahead does not win for ever, and what loses is in the conflict log.
func TestClocksThatAreWrong(t *testing.T) {
	ownServers(t)
	a := newAdrift(t, 0, time.Hour, -time.Hour)
	step := func(name string, test func(t *testing.T)) {
		if !t.Run(name, test) {
			t.FailNow()
		}
	}
	step("causally later wins", func(t *testing.T) { a.relay(t, 101, func(int, *fleet.Office) {}) })
	step("ahead against behind and right", a.aheadAgainst)
	step("ahead and late", a.aheadAndLate)
	step("stamps", func(t *testing.T) { a.judgeStamps(t, time.Minute) })
	step("causally later wins with its clock set back", func(t *testing.T) {
		a.relay(t, 103, func(turn int, writer *fleet.Office) {
			if turn%3 == 1 || turn == 2 { // each office once
				offsets := map[*fleet.Office]time.Duration{a.head: time.Hour, a.north: time.Hour, a.south: time.Hour}
				offsets[writer] = -time.Hour
				a.set(t, offsets)
			}
		})
	})
	step("all write while clocks jump", a.storm)
	step("causally later wins in the end", func(t *testing.T) { a.relay(t, 105, func(int, *fleet.Office) {}) })
}

// newAdrift starts the company and sets its databases' clocks off by so much.
func newAdrift(t *testing.T, head, north, south time.Duration) *adrift {
	t.Helper()
	bin := binary(t, "CDC_PLAIN_BINARY")
	set := servers.ForTest(t, servers.Spec{Postgres: 2, MariaDB: 1, RabbitMQ: 1, Clocks: true, PostgresSettings: []string{"fsync=off"}})
	offices := three(set)
	if errors.Is(setClock(t, offices[0], 0), servers.ErrExternal) {
		t.Skip("the clocks of external servers cannot be set")
	}
	f := contested(t, set, bin, "public", offices)
	a := &adrift{Fleet: f, head: f.Offices[0], north: f.Offices[1], south: f.Offices[2]}
	a.set(t, map[*fleet.Office]time.Duration{a.head: head, a.north: north, a.south: south})
	return a
}

// aheadAgainst: north's clock is an hour ahead, which counts as the time of its arrival at the head. It wins over an office
// that is an hour behind and has not heard of it, but not over one that is right and wrote after that.
func (a *adrift) aheadAgainst(t *testing.T) {
	a.apart(t, a.south, []int{110, 111}, func() {
		claims(t, a.north, 110, "first")
		a.sees(t, a.head, 110, "first", a.north)
		claims(t, a.south, 110, "second")
		a.set(t, map[*fleet.Office]time.Duration{a.south: 0})
		claims(t, a.north, 111, "first")
		a.sees(t, a.head, 111, "first", a.north)
		claims(t, a.south, 111, "second")
	})
	a.stands(t, 110, "first", a.north, a.south)
	a.stands(t, 111, "second", a.south, a.north)
	a.set(t, map[*fleet.Office]time.Duration{a.south: -time.Hour})
	a.claimsAgain(t, a.south, 110) // behind, but it has seen what it writes over
}

// aheadAndLate: north's clock is an hour ahead, and its writes arrive last. Its own second write wins over its first,
// although its clock was set back between them.
func (a *adrift) aheadAndLate(t *testing.T) {
	a.apart(t, a.north, []int{120, 121, 122}, func() {
		claims(t, a.head, 120, "first")
		claims(t, a.south, 121, "first")
		a.sees(t, a.head, 121, "first", a.south)
		claims(t, a.head, 122, "first")
		for id := 120; id <= 122; id++ {
			claims(t, a.north, id, "second")
		}
		a.set(t, map[*fleet.Office]time.Duration{a.north: -time.Hour})
		claims(t, a.north, 122, "third")
	})
	a.stands(t, 120, "second", a.north, a.head)
	a.stands(t, 121, "second", a.north, a.south)
	a.stands(t, 122, "third", a.north, a.head)
	a.set(t, map[*fleet.Office]time.Duration{a.north: time.Hour})
	a.claimsAgain(t, a.head, 120) // north is ahead, but what it wrote has been seen
}

// judgeStamps checks that the later stamp won each decision by stamps, and that none is further ahead than the head may be.
func (a *adrift) judgeStamps(t *testing.T, ahead time.Duration) {
	t.Helper()
	limit := time.Now().Add(ahead)
	db, err := a.head.DB()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := db.QueryContext(within(t, stuck), `SELECT row_key, winner, local_origin, local_millis, remote_origin, remote_millis,
		(local_millis, local_counter, local_origin COLLATE "C") < (remote_millis, remote_counter, remote_origin COLLATE "C")
		FROM cdc_sidecar.conflicts WHERE table_name = 'latest' AND state = 'decided' ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var key, winner, local, remote string
		var localMillis, remoteMillis int64
		var later bool
		if err := rows.Scan(&key, &winner, &local, &localMillis, &remote, &remoteMillis, &later); err != nil {
			t.Fatal(err)
		}
		n++
		if later != (winner == "remote") {
			t.Errorf("row %s: the winner between %s at %d and %s at %d is %s", key, local, localMillis, remote, remoteMillis, winner)
		}
		if max(localMillis, remoteMillis) > limit.UnixMilli() {
			t.Errorf("row %s: a stamp is ahead of %s: %s at %d, %s at %d", key, limit, local, localMillis, remote, remoteMillis)
		}
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	if n == 0 {
		t.Error("no conflict was decided by stamps")
	}
}

// storm lets everybody write at random while clocks jump and a link is cut.
func (a *adrift) storm(t *testing.T) {
	const counters = 10
	for id := 1001; id <= 1000+counters; id++ {
		captured(t, a.head, fmt.Sprintf("INSERT INTO adding VALUES (%d, 'counter', 0, 0, 'head')", id))
	}
	sameItems(t, a.Fleet, "adding")
	writing, stop := context.WithCancel(within(t, stuck))
	defer stop()
	var wg sync.WaitGroup
	made := make([]int64, len(a.Offices))
	for i, o := range a.Offices {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 11))
			for writing.Err() == nil {
				err := o.Exec(within(t, stuck),
					fmt.Sprintf("UPDATE adding SET stock = stock + 1, by_office = '%s' WHERE id = %d", o.Name, 1001+rnd.IntN(counters)), disturb(o, rnd))
				if err != nil {
					t.Error(err)
					return
				}
				made[i]++
				pause(writing, 20*time.Millisecond)
			}
		})
	}
	rnd := rand.New(rand.NewPCG(3, 11))
	offsets := []time.Duration{-time.Hour, 0, time.Hour}
	jumps := sized(6, 40)
	for jump := range jumps {
		if jump == jumps/3 {
			a.north.Link.Cut()
		}
		if jump == 2*jumps/3 {
			if err := a.north.Link.Restore(); err != nil {
				t.Error(err)
			}
		}
		a.set(t, map[*fleet.Office]time.Duration{a.Offices[rnd.IntN(len(a.Offices))]: offsets[rnd.IntN(len(offsets))]})
	}
	stop()
	wg.Wait()
	sameItems(t, a.Fleet, "latest", "adding")
	var sum, want int64
	for id, i := range items(t, a.head, "adding") {
		if id > 1000 {
			sum += i.Stock
		}
	}
	for _, n := range made {
		want += n
	}
	if sum != want || want == 0 {
		t.Errorf("%d increments are %d", want, sum)
	}
	a.judgeStamps(t, time.Hour+time.Minute) // the head's own clock was ahead, too
	t.Logf("%v increments", made)
}
