package apply

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// fetchLimit is when a test gives up on a fetch: far beyond the time that any session waits for a lock.
const fetchLimit = time.Minute

// reading is a session of a world that rows are fetched with.
type reading struct {
	*world
	session
}

func newReading(w *world) *reading {
	w.Helper()
	ses, err := w.target.connect(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(ses.close)
	return &reading{w, ses}
}

func (r *reading) table(name string) *catalog.Table {
	r.Helper()
	tables, err := r.defs().read(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	i := slices.IndexFunc(tables, func(t catalog.Table) bool { return t.TableName == schema.TableName{Name: name} })
	if i < 0 {
		r.Fatalf("no table %s", name)
	}
	return &tables[i]
}

func (r *reading) get(t *catalog.Table, lock bool, keys ...schema.Row) []schema.Row {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), fetchLimit)
	defer cancel()
	rows, err := r.fetch(ctx, t, keys, lock)
	if err != nil {
		r.Fatal(err)
	}
	if len(rows) != len(keys) {
		r.Fatalf("%d rows of %d keys", len(rows), len(keys))
	}
	return rows
}

// all reads the keys of a whole table, so many at a time, in a transaction of its own.
func (r *reading) all(t *catalog.Table, limit int) []schema.Row {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), fetchLimit)
	defer cancel()
	r.begin2()
	var all []schema.Row
	for {
		var from schema.Row
		if len(all) > 0 {
			from = all[len(all)-1]
		}
		keys, err := r.fetchKeys(ctx, t, from, limit)
		if err != nil {
			r.Fatal(err)
		}
		if all = append(all, keys...); len(keys) < limit {
			break
		}
	}
	if err := r.commit(ctx); err != nil {
		r.Fatal(err)
	}
	return all
}

// begin2 is the session's begin; the world has one too.
func (r *reading) begin2() { r.session.begin() }

// keysOf cuts rows down to what fetchKeys gives of them.
func keysOf(t *catalog.Table, rows []schema.Row) []schema.Row {
	keys := make([]schema.Row, len(rows))
	for i, row := range rows {
		keys[i] = make(schema.Row, len(row))
		for _, k := range t.Key {
			keys[i][k] = row[k]
		}
	}
	return keys
}

// Whatever is written of any type is what is fetched.
func TestFetchAnyValue(t *testing.T) {
	for _, engine := range []struct {
		types []string
		world *world
	}{{postgresTypes, postgresWorld(t, schema.Branch)}, {mariadbTypes, mysqlWorld(t, schema.Branch)}} {
		t.Run(string(engine.world.engine), func(t *testing.T) {
			w := newTyped(engine.world, engine.types)
			r := newReading(w.world)
			rapid.Check(t, func(t *rapid.T) {
				for range 10 {
					i := rapid.IntRange(0, len(w.tables)-1).Draw(t, "type")
					table := &w.tables[i]
					c := &table.Columns[1]
					text := draw(t, w.engine, c)
					if _, refused := w.receive(t, table.Table, i, text); refused != nil {
						t.Fatal(refused)
					}
					got := r.get(table, false, row("1", gone))[0]
					if text == "-0" && c.Native == "float(7,2)" {
						text = "0" // it is what such a column stores
					}
					same := got[1] == schema.Of(text)
					if c.Kind == schema.KindJSON {
						same = reflect.DeepEqual(document(got[1].Text()), document(text))
					}
					if !same || got[0] != schema.Of("1") {
						t.Fatalf("%s %q is fetched as %v", w.types[i], text, got)
					}
				}
			})
		})
	}
}

// notKeys are types that no index takes, or only in part.
var notKeys = []string{
	"json", "text", "tinytext", "longtext", "longblob", "point", // of MariaDB
}

// A key of any type finds its row again, and all keys come one after the other, each once.
func TestFetchAnyKey(t *testing.T) {
	asksServers(t)
	for _, engine := range []struct {
		types []string
		world *world
	}{{postgresTypes, postgresWorld(t, schema.Branch)}, {mariadbTypes, mysqlWorld(t, schema.Branch)}} {
		t.Run(string(engine.world.engine), func(t *testing.T) {
			w := newTyped(engine.world, engine.types)
			r := newReading(w.world)
			for i, ddl := range w.types {
				if ddl == "json" || w.engine != schema.Postgres && slices.Contains(notKeys, ddl) {
					continue
				}
				w.exec(fmt.Sprintf("CREATE TABLE k%02d (id int, v %s NOT NULL, more int, PRIMARY KEY (v, id))", i, strings.TrimSuffix(ddl, " NULL")))
				name := fmt.Sprintf("k%02d", i)
				table := r.table(name)
				id := 0
				rapid.Check(t, func(t *rapid.T) {
					id++
					if id > 40 {
						return
					}
					change := insert(table.Table, strconv.Itoa(id), draw(t, w.engine, &table.Columns[1]), "7")
					w.seq++
					if err := w.applier.Apply(context.WithoutCancel(w.Context()), head, []schema.Transaction{tx(w.seq, change)}); err != nil {
						t.Fatal(err)
					}
				})
				for _, limit := range []int{1, 7} {
					keys := r.all(table, limit)
					if len(keys) != min(id, 40) {
						t.Errorf("%s: %d keys by %d of %d rows", ddl, len(keys), limit, min(id, 40))
					}
					var rows []schema.Row
					if n := r.reads(func() { rows = r.get(table, false, keys...) }); n != 0 && w.engine != schema.Postgres { // which may choose to in a small table
						t.Errorf("%s: not found by the index: %d rows were read", ddl, n)
					}
					for i, row := range rows {
						if row == nil || row[2] != schema.Of("7") || row[0] != keys[i][0] || row[1] != keys[i][1] {
							t.Errorf("%s: key %v finds %v", ddl, keys[i], row)
						}
					}
					if want := w.rows("SELECT id FROM " + name + " ORDER BY v, id"); want != ids(keys) {
						t.Errorf("%s: keys in the order\n%s\nwant\n%s", ddl, ids(keys), want)
					}
				}
			}
		})
	}
}

func ids(rows []schema.Row) string {
	var lines []string
	for _, row := range rows {
		lines = append(lines, row[0].Text())
	}
	return strings.Join(lines, "\n")
}

// awkward are texts that break statements that are put together carelessly, and some that compare as equal in some collation.
var awkward = []string{"", "it's", `"`, `\`, `\'`, "`", "a", "ü", "🙂", "%", "x y", "x;y", "-- ", "$1", "?", "\n", "\t", "NULL", "0", "00"}

func TestFetchCompositeKeys(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.exec(w.pick(`CREATE TABLE p (n bigint, "the ""key""" varchar(50), at timestamptz(3), note text, twice bigint GENERATED ALWAYS AS (n * 2) STORED, PRIMARY KEY ("the ""key""", n, at))`,
			"CREATE TABLE p (n bigint, `the \"key\"` varchar(50) COLLATE utf8mb4_bin, at timestamp(3) DEFAULT '2000-01-01', note text, twice bigint AS (n * 2) STORED, PRIMARY KEY (`the \"key\"`, n, at))"))
		r := newReading(w)
		table := r.table("p")
		const at = "2024-02-29 12:00:00.25"
		var changes []schema.Change
		var keys, want []schema.Row
		for i, text := range awkward {
			for n := range 2 {
				change := insert(table.Table, strconv.Itoa(n), text, at, fmt.Sprintf("note %d.%d", i, n), gone)
				changes = append(changes, change)
				keys = append(keys, row(strconv.Itoa(n), text, at, gone, gone), row("5", text, at, gone, gone), row(strconv.Itoa(n), text, "2024-02-29 12:00:00", gone, gone))
				row := slices.Clone(change.After)
				if w.engine != schema.Postgres { // Postgres' log does not have what is computed
					row[4] = schema.Of(strconv.Itoa(2 * n))
				}
				want = append(want, row, nil, nil)
			}
		}
		w.apply(tx(1, changes...))
		keys, want = append(keys, keys[0], keys[1], keys[0]), append(want, want[0], nil, want[0]) // some again
		for _, lock := range []bool{false, true} {
			r.begin2()
			if got := r.get(table, lock, keys...); !reflect.DeepEqual(got, want) {
				w.Errorf("lock %t: fetched\n%v\nwant\n%v", lock, got, want)
			}
			if err := r.commit(w.Context()); err != nil {
				w.Fatal(err)
			}
		}
		if got := r.get(table, true); len(got) != 0 {
			w.Errorf("%d rows of no keys", len(got))
		}
		for _, limit := range []int{3, 1000} {
			all := r.all(table, limit)
			if len(all) != len(changes) {
				w.Errorf("%d keys by %d, want %d", len(all), limit, len(changes))
			}
			if whole := r.get(table, false, all...); slices.ContainsFunc(whole, func(row schema.Row) bool { return row == nil }) || !reflect.DeepEqual(keysOf(table, whole), all) {
				w.Errorf("by %d: the keys %v find %v", limit, all, whole)
			}
		}
	})
}

// A label's place in its type is not its place in the alphabet.
func TestFetchKeysByLabels(t *testing.T) {
	w := mysqlWorld(t, schema.Branch)
	w.exec("CREATE TABLE l (id int, e enum('z','m','a'), s set('z','m','a'), f float, PRIMARY KEY (e, s, f))",
		"INSERT INTO l VALUES (1,'z','',0.1),(2,'z','z',0.1),(3,'z','z',0.2),(4,'z','m',0.1),(5,'z','z,m',0.1),(6,'z','a',0.1),(7,'m','a',-0.7),(8,'m','a',0.7),(9,'a','z',1e10)")
	r := newReading(w)
	table := r.table("l")
	for _, limit := range []int{1, 2, 4, 100} {
		keys := r.all(table, limit)
		if got, want := ids(r.get(table, false, keys...)), w.rows("SELECT id FROM l ORDER BY e, s, f"); got != want {
			w.Errorf("by %d: the order\n%s\nwant\n%s", limit, got, want)
		}
	}
}

// reads is how many rows the server looks at for do, besides those that MySQL finds at once by a whole key.
func (r *reading) reads(do func()) int {
	r.Helper()
	first := r.counted()
	own := r.counted() - first // what the counter itself costs
	before := r.counted()
	do()
	return r.counted() - before - own
}

// counted is the session's counter of rows; Postgres counts within a transaction.
func (r *reading) counted() int {
	r.Helper()
	switch s := r.session.(type) {
	case *postgresSession:
		var n int
		if err := s.conn.QueryRow(r.Context(), "SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::int FROM pg_stat_xact_user_tables").Scan(&n); err != nil {
			r.Fatal(err)
		}
		return n
	case *mysqlSession:
		rows, err := s.conn.QueryContext(r.Context(), "SHOW SESSION STATUS WHERE Variable_name IN ('Handler_read_next', 'Handler_read_rnd_next')")
		if err != nil {
			r.Fatal(err)
		}
		defer rows.Close()
		sum := 0
		for rows.Next() {
			var name string
			var n int
			if err := rows.Scan(&name, &n); err != nil {
				r.Fatal(err)
			}
			sum += n
		}
		if err := rows.Err(); err != nil {
			r.Fatal(err)
		}
		return sum
	}
	r.Fatalf("rows of a %T cannot be counted", r.session)
	return 0
}

// Every row is found through the key's index, whatever the server thinks of the table's size.
func TestFetchByIndex(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.exec("CREATE TABLE big (a int, b varchar(20), c int, PRIMARY KEY (a, b))",
			w.pick("INSERT INTO big SELECT i / 100, 'b' || i % 100, i FROM generate_series(0, 4999) i",
				"INSERT INTO big SELECT seq DIV 100, CONCAT('b', seq % 100), seq FROM seq_0_to_4999"), w.pick("ANALYZE big", "ANALYZE TABLE big"))
		r := newReading(w)
		table := r.table("big")
		var keys []schema.Row
		for i := range 1000 {
			keys = append(keys, row(strconv.Itoa(i%60), "b"+strconv.Itoa(i/10), gone))
		}
		r.begin2()
		r.get(table, false, keys[0]) // the transaction begins; what the session has to prepare is prepared
		r.get(table, true, keys[0])
		for _, test := range []struct {
			what string
			do   func()
			most int
		}{
			{"fetch", func() {
				if rows := r.get(table, false, keys...); rows[0] == nil || rows[0][2].Text() != "0" {
					w.Errorf("first row %v", rows[0])
				}
			}, 2 * len(keys)},
			{"fetch and lock", func() { r.get(table, true, keys...) }, 2 * len(keys)},
			{"the last keys", func() {
				last, err := r.fetchKeys(w.Context(), table, row("49", "b95", gone), 1000)
				if err != nil || len(last) != 4 {
					w.Fatal(last, err)
				}
			}, 10},
			{"the first keys", func() {
				if first, err := r.fetchKeys(w.Context(), table, nil, 10); err != nil || len(first) != 10 {
					w.Fatal(first, err)
				}
			}, 20},
		} {
			if n := r.reads(test.do); n > test.most {
				w.Errorf("%s: %d rows of 5000 were read", test.what, n)
			}
		}
		if err := r.commit(w.Context()); err != nil {
			w.Fatal(err)
		}
	})
}

// What is queued goes before a fetch, and the fetch is part of the transaction.
func TestFetchInTransaction(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.exec("INSERT INTO item VALUES (1, 'one', 1), (2, 'two', 2)")
		r := newReading(w)
		table := r.table("item")
		free := func() string { return w.rows("SELECT id FROM item ORDER BY id FOR UPDATE SKIP LOCKED") }
		p, err := r.defs().plan(w.Context(), table.Table)
		if err != nil {
			w.Fatal(err)
		}
		change := update(table.Table, "1", "uno", "1")
		write, _, err := p.bind(schema.Update, &change, change.After, nil)
		if err != nil {
			w.Fatal(err)
		}
		r.begin2()
		r.get(table, true, row("1", gone, gone))
		if got := free(); got != "2" {
			w.Errorf("rows that nobody has locked: %s, want 2", got)
		}
		r.save()
		if _, _, err := r.run(w.Context(), []step{write}, nil); err != nil {
			w.Fatal(err)
		}
		if got := r.get(table, false, row("1", gone, gone))[0][1].Text(); got != "uno" {
			w.Errorf("behind an update: %s", got)
		}
		r.restore()
		if got := r.get(table, false, row("1", gone, gone))[0][1].Text(); got != "one" {
			w.Errorf("behind a rollback to the savepoint: %s", got)
		}
		r.restart()
		r.get(table, false, row("2", gone, gone))
		if got := free(); got != "1\n2" {
			w.Errorf("rows that nobody has locked behind a rollback: %s", got)
		}
		if _, err := r.fetchKeys(w.Context(), table, row("1", gone, gone), 5); err != nil {
			w.Fatal(err)
		}
		if got := free(); got != "1" {
			w.Errorf("rows that nobody has locked behind fetchKeys: %s, want 1", got)
		}
		if err := r.commit(w.Context()); err != nil {
			w.Fatal(err)
		}
	})
}

// A lock that somebody else holds costs the session its patience and nothing else.
func TestFetchLockedRow(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.exec("INSERT INTO item VALUES (1, 'one', 1), (2, 'two', 2), (3, 'three', 3)")
		r := newReading(w)
		table := r.table("item")
		w.exec("BEGIN", "UPDATE item SET name = 'zwei' WHERE id = 2")
		keys := []schema.Row{row("1", gone, gone), row("2", gone, gone), row("3", gone, gone)}
		r.begin2()
		if got := r.get(table, false, keys...)[1][1].Text(); got != "two" {
			w.Errorf("without a lock: %s", got)
		}
		r.save()
		ctx, cancel := context.WithTimeout(w.Context(), fetchLimit)
		defer cancel()
		for name, do := range map[string]func() error{
			"fetch":     func() error { _, err := r.fetch(ctx, table, keys, true); return err },
			"fetchKeys": func() error { _, err := r.fetchKeys(ctx, table, nil, 10); return err },
		} {
			err := do()
			if err == nil || ctx.Err() != nil || r.judge(err).fault != busy || !strings.Contains(err.Error(), "table item") {
				w.Fatalf("%s: %v, graded %d", name, err, r.judge(err).fault)
			}
			r.restore()
		}
		w.exec("COMMIT")
		if got := r.get(table, true, keys...)[1][1].Text(); got != "zwei" {
			w.Errorf("when the lock is gone: %s", got)
		}
		if err := r.commit(w.Context()); err != nil {
			w.Fatal(err)
		}
	})
}

func TestFetchRefusals(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.createItem()
		w.exec("CREATE TABLE keyless (a int)")
		r := newReading(w)
		table, keyless := r.table("item"), r.table("keyless")
		var rejected *schema.RejectedError
		if _, err := r.fetch(w.Context(), keyless, []schema.Row{row("1")}, false); !errors.As(err, &rejected) {
			w.Errorf("rows without a key: %v", err)
		}
		if _, err := r.fetchKeys(w.Context(), keyless, nil, 1); !errors.As(err, &rejected) {
			w.Errorf("keys without a key: %v", err)
		}
		if _, err := r.fetch(w.Context(), table, []schema.Row{row(gone, "one", gone)}, false); err == nil || !strings.Contains(err.Error(), "column id") {
			w.Errorf("a key that is not there: %v", err)
		}
		r.begin2()
		w.exec("ALTER TABLE item DROP COLUMN name")
		_, err := r.fetch(w.Context(), table, []schema.Row{row("1", gone, gone)}, false)
		if err == nil || r.judge(err).fault != data {
			w.Errorf("a column that is gone: %v", err)
		}
		r.restart()
		if got := r.get(newReading(w).table("item"), true, row("1", gone))[0]; got != nil {
			w.Errorf("behind an error: %v", got)
		}
	})
}

// A result too large for one packet, and a query too large for one.
func TestFetchLarge(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.exec("CREATE TABLE wide (id varchar(2000) "+w.pick("", "CHARACTER SET ascii")+" PRIMARY KEY, body "+w.pick("text", "longtext")+")",
			"INSERT INTO wide VALUES (repeat('k', 1990), repeat('b', 3000000)), ('short', NULL)")
		r := newReading(w)
		table := r.table("wide")
		keys := make([]schema.Row, 1000)
		for i := range keys {
			keys[i] = row(strings.Repeat("k", 1000+i), gone)
		}
		keys[0] = row("short", gone)
		found := 0
		for i, got := range r.get(table, true, keys...) {
			switch {
			case got == nil:
				continue
			case i == 0 && got[1].IsNull(), i == 990 && len(got[1].Text()) == 3000000:
			default:
				w.Errorf("key %d finds a row with a body of %d bytes", i, len(got[1].Text()))
			}
			found++
		}
		if found != 2 {
			w.Errorf("%d rows found, want 2", found)
		}
	})
}

// An empty text is no NULL, wherever it stands: the first value that a session sends, and the first behind a large row.
func TestEmptyText(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.exec("CREATE TABLE notes (title varchar(100), id int PRIMARY KEY, body " + w.pick("text", "longtext") + ")")
		r := newReading(w)
		table := r.table("notes")
		w.apply(tx(1, insert(table.Table, "large", "1", strings.Repeat("b", 2*maxScratch)), insert(table.Table, "", "2", "")))
		want := []schema.Row{row("", "2", ""), nil}
		if got := newReading(w).get(table, false, row(gone, "2", gone), row(gone, "3", gone)); !reflect.DeepEqual(got, want) {
			w.Errorf("got %v, want %v", got, want)
		}
	})
}

func BenchmarkFetch(b *testing.B) {
	for _, engine := range []struct {
		name string
		make func(testing.TB, schema.Role) *world
	}{{"postgres", postgresWorld}, {"mariadb", mysqlWorld}} {
		for _, n := range []int{1, 10, 1000} {
			b.Run(fmt.Sprintf("%s-%d", engine.name, n), func(b *testing.B) {
				w := engine.make(b, schema.Branch)
				w.exec("CREATE TABLE big (a int, b varchar(20), c int, d varchar(100), e decimal(12,2), f timestamp, PRIMARY KEY (a, b))",
					w.pick("INSERT INTO big SELECT i / 100, 'b' || i % 100, i, repeat('x', 80), i * 1.25, now() FROM generate_series(0, 49999) i",
						"INSERT INTO big SELECT seq DIV 100, CONCAT('b', seq % 100), seq, repeat('x', 80), seq * 1.25, now() FROM seq_0_to_49999"))
				r := newReading(w)
				table := r.table("big")
				keys := make([]schema.Row, n)
				for i := range keys {
					keys[i] = row(strconv.Itoa(i*7%500), "b"+strconv.Itoa(i%100), gone, gone, gone, gone)
				}
				r.begin2()
				b.ReportAllocs()
				for b.Loop() {
					r.get(table, true, keys...)
				}
			})
		}
	}
}
