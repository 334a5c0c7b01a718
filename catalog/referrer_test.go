package catalog

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// followTables are the same on each engine.
var followTables = []string{
	"CREATE TABLE a (id int PRIMARY KEY, x int, y int, UNIQUE (x, y))",
	"CREATE TABLE b (id int PRIMARY KEY, a int, y int, x int, CONSTRAINT b_a FOREIGN KEY (a) REFERENCES a (id) ON DELETE CASCADE, CONSTRAINT b_xy FOREIGN KEY (x, y) REFERENCES a (x, y) ON DELETE SET NULL ON UPDATE CASCADE)",
	"CREATE TABLE c (id int PRIMARY KEY, up int, forbids int, CONSTRAINT c_up FOREIGN KEY (up) REFERENCES c (id) ON DELETE CASCADE, CONSTRAINT c_no FOREIGN KEY (forbids) REFERENCES a (id))",
}

// referrerLines are all referrers, one a line.
func referrerLines(tables []Table) (lines []string) {
	for i := range tables {
		for j := range tables[i].Referrers {
			r := &tables[i].Referrers[j]
			lines = append(lines, fmt.Sprintf("%s: %s: %v → %v; clears %v; %q", tables[i].TableName, r, r.Columns, r.ParentColumns, r.Sets(true), r.Defaults))
		}
	}
	return lines
}

var followLines = []string{
	"a: b.b_a → a, on delete cascade: [a] → [id]; clears [a]; []",
	"a: b.b_xy → a, on delete set null, on update cascade: [x y] → [x y]; clears [x y]; []",
	"a: c.c_no → a: [forbids] → [id]; clears [forbids]; []",
	"c: c.c_up → c, on delete cascade: [up] → [id]; clears [up]; []",
}

func TestReferrersOfMySQL(t *testing.T) {
	db, name := openMariaDB(t)
	for _, statement := range followTables {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	tables, err := ReadMySQL(t.Context(), db, name)
	if err != nil {
		t.Fatal(err)
	}
	var own []Table
	for i := range tables {
		if tables[i].Schema == "" {
			own = append(own, tables[i])
		}
	}
	if diff := cmp.Diff(followLines, referrerLines(own)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReferrersOfPostgres(t *testing.T) {
	conn := newPostgres(t, "SELECT 1")
	for _, statement := range append(followTables,
		"CREATE TABLE d (id int PRIMARY KEY, x int DEFAULT 1 + 1, y int, CONSTRAINT d_xy FOREIGN KEY (x, y) REFERENCES a (x, y) ON DELETE SET DEFAULT (x) ON UPDATE SET NULL)",
		"CREATE TABLE e (id int, a int REFERENCES a ON DELETE CASCADE, PRIMARY KEY (id)) PARTITION BY RANGE (id)", "CREATE TABLE e_1 PARTITION OF e DEFAULT",
	) {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	tables, err := ReadPostgres(t.Context(), conn, "public")
	if err != nil {
		t.Fatal(err)
	}
	want := append(followLines[:3:3], "a: d.d_xy → a, on delete set default, on update set null: [x y] → [x y]; clears [x]; [\"(1 + 1)\" \"\"]",
		"a: e.e_a_fkey → a, on delete cascade: [a] → [id]; clears [a]; []", followLines[3])
	if diff := cmp.Diff(want, referrerLines(tables)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
