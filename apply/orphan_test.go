package apply

import (
	"fmt"
	"strings"
	"testing"

	"cdc-sidecar/schema"
)

var (
	shop = define("shop", integer("id"), text("name"))
	sold = define("sold", integer("id"), integer("shop"), text("name"))
)

// shops is what a head has: nobody has changed shop 1, somebody has removed shop 2 and come back with shop 3; the touch is 10.
func (h *headOffice) shops(onDelete string) {
	h.Helper()
	h.exec("DROP TABLE IF EXISTS sold", "DROP TABLE IF EXISTS shop", "CREATE TABLE shop (id int PRIMARY KEY, name varchar(100))",
		"CREATE TABLE sold (id int PRIMARY KEY, shop int, name varchar(100), FOREIGN KEY (shop) REFERENCES shop (id) "+onDelete+")",
		"INSERT INTO shop VALUES (1, 'one'), (3, 'three')", "INSERT INTO sold VALUES (7, 1, 'of one')")
	h.restart()
	h.clocks.writers[shop.TableName] = []schema.Office{hq}
	for _, id := range []string{"2", "3"} {
		h.clocks.rows[shop.RowID(row(id, gone))] = []touch{{seq: 10, origin: hq, stamp: schema.Stamp{Millis: 500, Counter: 1}}}
	}
}

// A row does not stay, or come, without what it refers to when somebody removed that without the row's office having seen it.
func TestOrphans(t *testing.T) {
	for _, c := range []struct {
		name     string
		onDelete string
		seen     uint64
		changes  []schema.Change
		want     string
		log      []string
		told     []string
	}{
		{
			name: "a child that comes", onDelete: "ON DELETE CASCADE", seen: 5, changes: []schema.Change{insert(sold, "8", "2", "x"), insert(sold, "9", "3", "y")},
			want: "7 1 of one\n9 3 y", log: []string{"delete/insert local none {8,shop:2,x} none"}, told: []string{"delete id=8 of north 600.2"},
		},
		{
			name: "a child whose removal would have been refused", seen: 5, changes: []schema.Change{insert(sold, "8", "2", "x")},
			want: "7 1 of one", log: []string{"delete/insert local none {8,shop:2,x} none"}, told: []string{"delete id=8 of north 600.2"},
		},
		{
			name: "a child whose reference is cleared", onDelete: "ON DELETE SET NULL", seen: 5, changes: []schema.Change{insert(sold, "8", "2", "x")},
			want: "7 1 of one\n8 NULL x", log: []string{"delete/insert merged none {8,shop:2,x} {8,shop:null,x}"}, told: []string{"insert 8 NULL x of north 600.2"},
		},
		{
			name: "a child that is moved", onDelete: "ON DELETE CASCADE", seen: 5, changes: []schema.Change{rekey(sold, row("7", "1", "of one"), "7", "2", "of two")},
			want: "", log: []string{"update/update merged {7,shop:1,of one} {7,shop:2,of two} none"}, told: []string{"delete id=7 of north 600.2"},
		},
		{
			name: "a child that had gone with it", onDelete: "ON DELETE CASCADE", seen: 5, changes: []schema.Change{rekey(sold, row("6", "2", "x"), "6", "2", "z")},
			want: "7 1 of one", log: []string{"delete/update local none {6,shop:2,z} none"}, told: []string{"delete id=6 of north 600.2"},
		},
		{
			name: "a parent that comes with it", onDelete: "ON DELETE CASCADE", seen: 10, changes: []schema.Change{insert(shop, "2", "new"), insert(sold, "8", "2", "x")},
			want: "7 1 of one\n8 2 x",
		},
		{
			name: "a parent that comes again with it", onDelete: "ON DELETE CASCADE", seen: 5, changes: []schema.Change{insert(shop, "2", "new"), insert(sold, "8", "2", "x")},
			want: "7 1 of one\n8 2 x", log: []string{"delete/insert remote none {2,new} {2,new}"}, told: []string{"insert 2 new of north 600.2"},
		},
		{
			name: "an office that has no such foreign key", onDelete: "ON DELETE CASCADE", seen: 5, changes: []schema.Change{insert(sold, "8", "4", "x")},
			want: "7 1 of one\n8 4 x",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachHead(t, func(h *headOffice) {
				h.shops(c.onDelete)
				h.clocks.rows[sold.RowID(row("6", gone, gone))] = []touch{{seq: 10, origin: hq, stamp: schema.Stamp{Millis: 500, Counter: 1}}}
				h.apply(h.tx(north, c.seen, 600, c.changes...))
				h.want("SELECT id, shop, name FROM sold ORDER BY id", c.want)
				got := h.rows(fmt.Sprintf(`SELECT kind, winner, coalesce(local_image, 'none'), coalesce(remote_image, 'none'), coalesce(result_image, 'none')
					FROM cdc_sidecar.conflicts WHERE office = '%s' ORDER BY id`, h.office))
				if got := brief(got); got != strings.Join(c.log, "\n") {
					t.Errorf("the conflict log has %q, want %q", got, c.log)
				}
				h.wantTold(c.told...)
			})
		})
	}
}

// At a branch a foreign key does not get in the way of what the head says: a row may be without what it refers to until
// the head has met what this office did.
func TestOrphansAtABranch(t *testing.T) {
	each(t, schema.Branch, func(w *world) {
		w.exec("CREATE TABLE shop (id int PRIMARY KEY, name varchar(100))",
			"CREATE TABLE sold (id int PRIMARY KEY, shop int, name varchar(100), FOREIGN KEY (shop) REFERENCES shop (id))",
			"INSERT INTO shop VALUES (1, 'one')", "INSERT INTO sold VALUES (7, 1, 'of one')")
		w.apply(tx(1, insert(sold, "8", "2", "x")), tx(2, remove(shop, "1")), tx(3, update(sold, "8", "3", "y")))
		w.want("SELECT id, shop, name FROM sold ORDER BY id", "7 1 of one\n8 3 y")
		w.want("SELECT count(*) FROM shop", "0")
		decided := remove(sold, "8")
		decided.Decided = &schema.Decision{Origin: w.office, Known: known}
		w.apply(tx(4, decided))
		w.want("SELECT id, shop FROM sold", "7 1")
	})
}
