package apply

import (
	"errors"
	"fmt"
	"testing"

	"cdc-sidecar/schema"
)

// seat is a table whose guests are unique and cannot be NULL, as its office knows it.
var seat = define("seat", integer("id"), text("guest"), integer("row_no"))

const seats = "SELECT id, guest, row_no, own, twice FROM seat ORDER BY id"

// seated makes the table, with columns that only this office has, with rows that refer to it, and a branch that applies to it.
func seated(w *world, guest string) {
	w.exec(
		"CREATE TABLE seat (id int "+w.pick("GENERATED ALWAYS AS IDENTITY", "AUTO_INCREMENT")+" PRIMARY KEY, guest "+guest+", row_no int, "+
			"own varchar(9) NOT NULL DEFAULT '-', twice int GENERATED ALWAYS AS (row_no * 2) "+w.pick("STORED", "VIRTUAL")+", UNIQUE (guest))",
		"CREATE TABLE meal (id int PRIMARY KEY, seat int REFERENCES seat (id) ON DELETE CASCADE, guest varchar(20))",
		"INSERT INTO seat (id, guest, row_no, own) "+w.pick("OVERRIDING SYSTEM VALUE ", "")+"VALUES (1, 'a', 1, 'x'), (3, 'c', 3, 'y'), (5, 'e', 5, 'z'), (7, 'g', 7, 'w')",
		"INSERT INTO meal VALUES (10, 1, 'a'), (30, 3, 'c'), (50, 5, 'e')",
	)
}

// meals are still those of the same seats, and of the same guests.
func (w *world) wantMeals() {
	w.Helper()
	w.want("SELECT id, seat, guest FROM meal ORDER BY id", "10 1 a\n30 3 c\n50 5 e")
}

// guests are types of a unique column: one in which another value can stand for a moment, and others in which none can.
func guests(w *world) []string {
	return []string{"varchar(20) NOT NULL", "varchar(20) NOT NULL CHECK (guest IN ('a', 'c', 'e', 'g'))", w.pick("letter", "ENUM('a', 'c', 'e', 'g') NOT NULL")}
}

// Rows exchange values that are unique and cannot be NULL: two, and three that pass them on; in a transaction, and in a chunk. A
// foreign key does not follow, what only this office has stays, and what is computed is.
func TestExchangedForGood(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		if w.engine == schema.Postgres {
			w.exec("CREATE DOMAIN letter AS varchar(20) NOT NULL CHECK (value IN ('a', 'c', 'e', 'g'))")
		}
		for _, guest := range guests(w) {
			seated(w, guest)
			p := &parking{headOffice: &headOffice{world: w, last: map[schema.Office]uint64{}}, sender: head, now: noon}
			w.begin(head)
			p.next(update(seat, "1", "c", "11"), update(seat, "3", "a", gone))
			w.want(seats, "1 c 11 x 22\n3 a 3 y 6\n5 e 5 z 10\n7 g 7 w 14")
			p.next(update(seat, "1", "a", "1"), update(seat, "3", "e", "3"), update(seat, "5", "c", "5"))
			w.want(seats, "1 a 1 x 2\n3 e 3 y 6\n5 c 5 z 10\n7 g 7 w 14")
			w.wantMeals()
			taken := w.chunk(p.last[head], insert(seat, "1", "e", "1"), insert(seat, "3", "c", "3"), insert(seat, "5", "a", "55"), insert(seat, "7", "g", "7"))
			w.wantTaken(taken, Taken{Updated: 3, Same: 1})
			w.want(seats, "1 e 1 x 2\n3 c 3 y 6\n5 a 55 z 110\n7 g 7 w 14")
			w.wantMeals()
			p.wantParked()
			if w.engine != schema.Postgres { // foreign keys work behind it as before: one to a table that is not taken forbids
				w.applier.options.Receive = func(n schema.TableName) bool { return n.Name != "seat" }
				w.applier.unsure()
				err := w.applier.Apply(w.Context(), head, []schema.Transaction{p.tx(head, 5, 400, insert(define("meal", integer("id"), integer("seat"), text("guest")), "60", "6", null))})
				var rejected *schema.RejectedError
				if !errors.As(err, &rejected) {
					t.Errorf("a meal of no seat: %v", err)
				}
			}
			w.exec("DROP TABLE meal", "DROP TABLE seat")
			w.applier.Close()
			w.applier = New(w.target, Options{Office: w.office, Role: schema.Branch})
			w.Cleanup(w.applier.Close)
		}
	})
}

// A child that refers to the very values follows nothing: its rows keep the guests that they name.
func TestExchangedUnderAForeignKey(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.exec(
			"CREATE TABLE seat (id int PRIMARY KEY, guest varchar(20) NOT NULL, row_no int, UNIQUE (guest))",
			"CREATE TABLE meal (id int PRIMARY KEY, guest varchar(20), FOREIGN KEY (guest) REFERENCES seat (guest) ON DELETE CASCADE ON UPDATE CASCADE)",
			"INSERT INTO seat VALUES (1, 'a', 1), (3, 'c', 3)", "INSERT INTO meal VALUES (10, 'a'), (30, 'c')",
		)
		w.apply(tx(1, update(seat, "1", "c", "1"), update(seat, "3", "a", "3")))
		w.want("SELECT id, guest FROM seat ORDER BY id", "1 c\n3 a")
		w.want("SELECT id, guest FROM meal ORDER BY id", "10 a\n30 c")
	})
}

// What has no columns to let go of is taken out, too: a unique index over an expression.
func TestExchangedUnderAnExpression(t *testing.T) {
	w := postgresWorld(t, schema.Branch)
	w.createItem()
	w.exec("CREATE UNIQUE INDEX ON item (lower(name))", "INSERT INTO item VALUES (1, 'a', 1), (3, 'c', 3)")
	w.apply(tx(1, update(item, "1", "C", "1"), update(item, "3", "A", "3")))
	w.want(items, "1 C 1\n3 A 3")
}

// Where a trigger would act on it, no row is taken out: it waits, and the stream goes on. A value in its place does not disturb it.
func TestExchangedBesideATrigger(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		for _, check := range []string{"", "CHECK (guest IN ('a', 'c', 'x'))"} {
			w.exec("CREATE TABLE seat (id int PRIMARY KEY, guest varchar(20) NOT NULL, row_no int, UNIQUE (guest)"+map[bool]string{true: ", "}[check != ""]+check+")",
				"CREATE TABLE left_seats (id int)", "INSERT INTO seat VALUES (1, 'a', 1), (3, 'c', 3)")
			if w.engine == schema.Postgres {
				w.exec("CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO left_seats VALUES (OLD.id); RETURN OLD; END'",
					"CREATE TRIGGER leaves BEFORE DELETE ON seat FOR EACH ROW EXECUTE FUNCTION leave()", "ALTER TABLE seat ENABLE ALWAYS TRIGGER leaves")
			} else {
				w.exec("CREATE TRIGGER leaves BEFORE DELETE ON seat FOR EACH ROW INSERT INTO left_seats VALUES (OLD.id)")
			}
			w.begin(head)
			w.apply(tx(1, update(seat, "1", "c", "1"), update(seat, "3", "a", "3")), tx(2, insert(seat, "4", "x", "4")))
			w.want("SELECT count(*) FROM left_seats", "0")
			waits := "0"
			if check == "" {
				w.want("SELECT id, guest FROM seat ORDER BY id", "1 c\n3 a\n4 x")
			} else {
				w.want("SELECT id, guest FROM seat ORDER BY id", "1 a\n3 c\n4 x")
				waits = "2"
			}
			w.want(fmt.Sprintf("SELECT count(*) FROM cdc_sidecar.parked WHERE office = '%s'", w.office), waits)
			w.exec("DROP TABLE seat", "DROP TABLE left_seats")
			if w.engine == schema.Postgres {
				w.exec("DROP FUNCTION leave")
			}
			w.applier.Close()
			w.applier = New(w.target, Options{Office: w.office, Role: schema.Branch})
			w.Cleanup(w.applier.Close)
		}
	})
}

// At the head nothing stands in a row for a moment: the rows wait, the stream goes on, and end when a person makes room.
func TestNotExchangedAtTheHead(t *testing.T) {
	each(t, schema.Head, func(w *world) {
		p := newParking(w, schema.Head)
		p.exec("ALTER TABLE item "+w.pick("ALTER name SET NOT NULL", "MODIFY name varchar(100) NOT NULL"), "INSERT INTO item VALUES (5, 'e', 5)")
		p.restart()
		p.next(update(item, "1", "c", "1"), update(item, "3", "a", "3"), update(item, "5", "f", "5"))
		p.want(items, "1 a 1\n3 c 3\n5 f 5")
		p.wantParked("id=1", "id=3")
		p.exec("UPDATE item SET name = 'z' WHERE id = 3")
		p.tend()
		p.tend()
		p.want(items, "1 c 1\n3 a 3\n5 f 5")
		p.wantParked()
	})
}

// The rows of a chain of exchanges come in chunks of their own, and another row waits beside them for one that nobody changes.
func TestExchangedAcrossChunks(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		p := newParking(w, schema.Branch)
		p.exec("ALTER TABLE item "+w.pick("ALTER name SET NOT NULL", "MODIFY name varchar(100) NOT NULL"), "INSERT INTO item VALUES (5, 'e', 5), (9, 'mine', 9)")
		p.restart()
		for _, c := range []schema.Change{insert(item, "2", "mine", "2"), insert(item, "1", "c", "1"), insert(item, "3", "e", "3"), insert(item, "5", "a", "5")} {
			w.wantTaken(w.chunk(0, c), Taken{Inserted: map[bool]int{true: 1}[c.After[0].Text() == "2"], Updated: map[bool]int{true: 1}[c.After[0].Text() != "2"], Parked: 1})
		}
		p.wantParked("id=2", "id=1", "id=3", "id=5")
		p.tend()
		p.want(items, "1 c 1\n3 e 3\n5 a 5\n9 mine 9")
		p.wantParked("id=2")
	})
}
