package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
)

// counted are tables that everybody writes while branches join: one in which the later change wins, one in which the head's
// does, and one in which counters add up.
var counted = []string{"latest", "head", "adding"}

func createCounted(ctx context.Context, o *fleet.Office) error {
	for _, table := range counted {
		if err := o.Exec(ctx, "CREATE TABLE "+table+" (id bigint PRIMARY KEY, name varchar(2000) NOT NULL, stock bigint NOT NULL)"); err != nil {
			return err
		}
		if o.Postgres() && table == "adding" {
			if err := o.Exec(ctx, "ALTER TABLE adding REPLICA IDENTITY FULL"); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillCounted gives the head all rows, a branch most of them, of which some are not as they should be.
func fillCounted(ctx context.Context, o *fleet.Office, rows int) error {
	from := fmt.Sprintf("generate_series(1, %d) seq", rows)
	if !o.Postgres() {
		from = fmt.Sprintf("seq_1_to_%d s", rows)
	}
	for _, table := range counted {
		values := "seq, 'thing', 100 FROM " + from
		if o.Role == schema.Branch {
			values = "seq, CASE WHEN seq % 5 = 0 THEN 'stale' ELSE 'thing' END, CASE WHEN seq % 5 = 0 THEN 50 ELSE 100 END FROM " + from + " WHERE seq % 9 > 0"
		}
		if err := o.Exec(ctx, "INSERT INTO "+table+" SELECT "+values); err != nil {
			return err
		}
	}
	return nil
}

// contender is an office's application: in each transaction it puts a word of its own before the name of one row, and adds one
// to its stock, or makes the row where it is missing. What a name says was done to a row that its writer saw.
type contender struct {
	o    *fleet.Office
	rows int

	words map[string][]string // committed, by table
	added map[int]int         // to the stock of a row of the table adding
}

func (c *contender) run(ctx context.Context) error {
	db, err := c.o.DB()
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(7, uint64(c.o.Index)))
	c.words, c.added = map[string][]string{}, map[int]int{}
	for n := 0; ctx.Err() == nil; n++ {
		table := counted[n%len(counted)]
		word := fmt.Sprintf("%s%d;", c.o.Name, n)
		// Mostly rows that others seldom write, and some that everybody does.
		id := 1 + rnd.IntN(c.rows)
		if n%4 == 0 {
			id = 1 + rnd.IntN(200)
		}
		done, err := c.write(context.WithoutCancel(ctx), db, table, word, id)
		if err != nil {
			return fmt.Errorf("application at %s: %w", c.o.Name, err)
		}
		if done {
			c.words[table] = append(c.words[table], word)
			if table == "adding" {
				c.added[id]++
			}
		}
		pause(ctx, 25*time.Millisecond)
	}
	return nil
}

// write makes one change; false: somebody was before it.
func (c *contender) write(ctx context.Context, db *sql.DB, table, word string, id int) (bool, error) {
	result, err := db.ExecContext(ctx, fmt.Sprintf("UPDATE %s SET name = concat('%s', name), stock = stock + 1 WHERE id = %d", table, word, id))
	if err != nil {
		return false, deadlock(err)
	}
	if n, err := result.RowsAffected(); n > 0 || err != nil {
		return true, err
	}
	if table == "adding" { // of two whole rows nobody knows what one adds to the other: then the later one stays
		return false, nil
	}
	insert := fmt.Sprintf("INSERT INTO %s VALUES (%d, '%s', 1) ON CONFLICT DO NOTHING", table, id, word)
	if !c.o.Postgres() {
		insert = fmt.Sprintf("INSERT IGNORE INTO %s VALUES (%d, '%s', 1)", table, id, word)
	}
	if result, err = db.ExecContext(ctx, insert); err != nil {
		return false, deadlock(err)
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// deadlock takes a deadlock, which an application tries again after, for a change that was not made.
func deadlock(err error) error {
	if strings.Contains(strings.ToLower(err.Error()), "deadlock") {
		return nil
	}
	return err
}

// texts are the first columns of a query's rows.
func texts(t *testing.T, o *fleet.Office, query string) []string {
	t.Helper()
	db, err := o.DB()
	must(t, err)
	rows, err := db.QueryContext(within(t, stuck), query)
	must(t, err)
	defer rows.Close()
	var all []string
	for rows.Next() {
		var one sql.NullString
		must(t, rows.Scan(&one))
		all = append(all, one.String)
	}
	must(t, rows.Err())
	return all
}

// Everybody writes while branches with databases from before join: rows that the join has passed and others that it has not
// come to, rows that only the head has, and the same ones. Nothing that anybody wrote is lost: it stands in the row, or in the
// conflict log, and counters have the exact sum.
func TestEverybodyWritesDuringAJoin(t *testing.T) {
	wholeOnly(t)
	set := shared.Set(t)
	rows := sized(10_000, 200_000)
	slow := fmt.Sprintf("join: {rows: %d}\n", sized(16_000, 40_000)) // so that there is something before the cursor and behind it
	f := companyOf(t, fleet.Options{
		Broker: set.RabbitMQ[0], Binary: binary(t, "CDC_RACE_BINARY"),
		Offices: []fleet.Spec{
			{Name: "hq", Role: schema.Head, Database: set.Postgres[0], Extra: `tables:
  - {name: "public.latest", conflict: latest}
  - {name: "public.head", conflict: head}
  - {name: "public.adding", conflict: {add: [stock]}}
`},
			{Name: "north", Role: schema.Branch, Database: set.Postgres[1], Extra: slow},
			{Name: "south", Role: schema.Branch, Database: set.MariaDB[0], Extra: slow},
		},
		Schema: func(ctx context.Context, o *fleet.Office) error {
			if err := createCounted(ctx, o); err != nil {
				return err
			}
			return fillCounted(ctx, o, rows)
		},
	})
	must(t, f.Head().Start())
	captures(t, f.Head())
	var all []*contender
	var runs []func(context.Context) error
	for _, o := range f.Offices {
		c := &contender{o: o, rows: rows}
		all = append(all, c)
		runs = append(runs, c.run)
	}
	for _, o := range f.Offices[1:] {
		must(t, o.Start())
		captures(t, o) // what was written before is not on record: it is as the database was
	}
	end := background(t, runs...)
	must(t, f.Met(within(t, sized(stuck, 4*stuck))))
	end()
	sameCounted(t, f)
	notLost(t, f, all)
	exactSums(t, f.Head(), all, rows)
}

// exactSums wants each counter to be what it was and all that was added to it anywhere.
func exactSums(t *testing.T, head *fleet.Office, all []*contender, rows int) {
	t.Helper()
	added, wrong := 0, 0
	for _, text := range texts(t, head, "SELECT concat(id, ' ', stock, ' ', name) FROM adding") {
		var id, stock int
		var name string
		if _, err := fmt.Sscan(text, &id, &stock, &name); err != nil {
			t.Fatal(err)
		}
		want := 100
		for _, c := range all {
			want += c.added[id]
			added += c.added[id]
		}
		if stock == want {
			continue
		}
		if wrong++; wrong <= 5 {
			entries := texts(t, head, fmt.Sprintf(`SELECT concat(kind, ': ', winner, ', here ', local_image, ' of ', local_origin, ', there ', remote_before, ' to ', remote_image, ' of ', remote_origin, ': ', result_image)
				FROM cdc_sidecar.conflicts WHERE table_name = 'adding' AND row_key = 'id=%d' ORDER BY id`, id))
			t.Errorf("the counter of row %d is %d, want %d (%s); the conflict log says\n%s", id, stock, want, name, strings.Join(entries, "\n"))
		}
	}
	if wrong > 0 || added == 0 {
		t.Errorf("%d of %d counters are wrong; %d was added", wrong, rows, added)
	}
}

func sameCounted(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	must(t, f.Settled(within(t, stuck)))
	must(t, fleet.Until(within(t, stuck), "every office holds the same", func(ctx context.Context) error {
		for _, table := range counted {
			var first fleet.Digest
			for i, o := range f.Offices {
				d, err := o.DigestOf(ctx, "SELECT id, concat_ws('|', id, name, stock) FROM "+table+" ORDER BY id")
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
	}))
}

// notLost wants each word that was committed to stand in a row's name, or in an image of the conflict log.
func notLost(t *testing.T, f *fleet.Fleet, all []*contender) {
	t.Helper()
	for _, table := range counted {
		known := map[string]bool{}
		for _, query := range []string{
			"SELECT name FROM " + table,
			"SELECT concat(local_image, ' ', remote_image) FROM cdc_sidecar.conflicts WHERE table_name = '" + table + "'",
		} {
			for _, text := range texts(t, f.Head(), query) {
				for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ';' || r == '"' || r == ' ' }) {
					known[word+";"] = true
				}
			}
		}
		for _, c := range all {
			lost := 0
			for _, word := range c.words[table] {
				if !known[word] {
					if lost++; lost <= 5 {
						t.Errorf("table %s: what %s wrote is neither in a row nor in the conflict log: %s", table, c.o.Name, word)
					}
				}
			}
			t.Logf("table %s: %s made %d changes, %d are lost", table, c.o.Name, len(c.words[table]), lost)
		}
	}
}
