package capture

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cdc-sidecar/schema"
)

// claimSQL claims that table t has row 8 and none of key 9, as apply does.
func claimSQL(office schema.Office, blob func(string) string) string {
	t := schema.NewTable(schema.Table{TableName: schema.TableName{Name: "t"}, Engine: schema.Postgres, Key: []int{0}, Columns: []schema.Column{{Name: "id", Kind: schema.KindInt, Size: 32}}})
	tx := schema.Transaction{Origin: office, Last: true, Changes: []schema.Change{
		{Table: t, Op: schema.Insert, After: schema.Row{schema.Of("8")}}, {Table: t, Op: schema.Delete, Before: schema.Row{schema.Of("9")}},
	}}
	return fmt.Sprintf("INSERT INTO cdc_sidecar.claims (office, body) VALUES ('%s', %s)", office, blob(hex.EncodeToString(schema.AppendBatch(nil, []schema.Transaction{tx}))))
}

// joinRows are statements of an office that joins: of its sidecar, and of its applications.
func joinRows(office schema.Office, blob func(string) string) []string {
	join := func(office schema.Office, table string, pending int) string {
		return fmt.Sprintf("INSERT INTO cdc_sidecar.joins (office, table_name, pending, state) VALUES ('%s', '%s', %d, '')", office, table, pending)
	}
	where := func(table string) string {
		return fmt.Sprintf(" WHERE office = '%s' AND table_name = '%s'", office, table)
	}
	return []string{
		"INSERT INTO t VALUES (1)", "INSERT INTO u VALUES (1)",
		"UPDATE cdc_sidecar.joins SET pending = 0" + where("t"), // there is no such row
		join("of-"+office, "*", 1),                              // another's
		fmt.Sprintf("INSERT INTO cdc_sidecar.progress (office, origin, epoch, seq) VALUES ('%s', 'head', 5, 0)", office),
		"INSERT INTO t VALUES (2)",
		"BEGIN", fmt.Sprintf("UPDATE cdc_sidecar.progress SET chunks = chunks + 1 WHERE office = '%s'", office), "INSERT INTO t VALUES (102)", join(office, "t", 0), "COMMIT",
		"INSERT INTO t VALUES (3)",
		"BEGIN", "INSERT INTO u VALUES (4)", join(office, "*", 1), "INSERT INTO t VALUES (4)", "INSERT INTO u VALUES (5)", "UPDATE cdc_sidecar.joins SET pending = 1" + where("t"), "INSERT INTO t VALUES (5)", "COMMIT",
		"BEGIN", "DELETE FROM cdc_sidecar.joins" + where("*"), "INSERT INTO t VALUES (6)", "ROLLBACK",
		"BEGIN", "UPDATE cdc_sidecar.joins SET pending = 0, touched = touched + 1" + where("t"), "INSERT INTO t VALUES (7)", "DELETE FROM cdc_sidecar.joins" + where("t"), claimSQL(office, blob), "DELETE FROM cdc_sidecar.claims", "COMMIT",
		"DELETE FROM cdc_sidecar.joins" + where("*"),
		claimSQL(office, blob), claimSQL("of-"+office, blob),
		"INSERT INTO t VALUES (99)",
	}
}

// joined is what capture makes of them at a branch that began with table t pending, and at a head.
var joined = map[schema.Role][]string{
	schema.Branch: {
		"own: t insert 1 (blind) had seen 0/0", "own: u insert 1 had seen 0/0",
		"own: t insert 2 (blind) had seen 0/0",
		"own: t insert 3 had seen 5/0",
		"own: u insert 4, t insert 4, u insert 5 (blind), t insert 5 (blind) had seen 5/0",
		"own: t insert 7, t insert 8 (blind), t delete 9 (blind) had seen 5/0",
		"own: t insert 8, t delete 9 had seen 5/0",
		"own: t insert 99 had seen 5/0",
	},
	schema.Head: {
		"own: t insert 1 had seen 0/0", "own: u insert 1 had seen 0/0", "own: t insert 2 had seen 0/0",
		"own: t insert 102 had seen 0/0", // no head takes chunks
		"own: t insert 3 had seen 0/0", "own: u insert 4, t insert 4, u insert 5, t insert 5 had seen 0/0",
		"own: t insert 7, t insert 8, t delete 9 had seen 0/0", "own: t insert 8, t delete 9 had seen 0/0", "own: t insert 99 had seen 0/0",
	},
}

// joinsTold reads to the last row and compares.
func joinsTold(t *testing.T, office schema.Office, src Source, xids bool, want []string) {
	t.Helper()
	var got []string
	var seen schema.Position
	readTo(t, src, func(tx *schema.Transaction) bool {
		if !tx.Seen.IsZero() {
			seen = tx.Seen
		}
		if tx.Silent() {
			return false
		}
		if (tx.XID != 0) != xids {
			t.Errorf("the transaction's number is %d", tx.XID)
		}
		text := strings.Replace(telling(office, tx), "own 0/0", "own", 1) + " had seen " + seen.String()
		got = append(got, text)
		return strings.Contains(text, "t insert 99")
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPostgresJoins(t *testing.T) {
	for role, want := range joined {
		t.Run(string(role), func(t *testing.T) {
			o := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`, `CREATE TABLE u (id int PRIMARY KEY)`)
			o.Role, o.Joining = role, []string{"t"}
			p := o.open()
			o.exec(joinRows(o.Office, func(hex string) string { return `'\x` + hex + `'` })...)
			joinsTold(t, o.Office, p, true, want)
		})
	}
}

func TestMariaDBJoins(t *testing.T) {
	for role, want := range joined {
		t.Run(string(role), func(t *testing.T) {
			o := newMariaDBOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`, `CREATE TABLE u (id int PRIMARY KEY)`)
			o.Role, o.Joining = role, []string{"t"}
			src := o.open()
			o.exec(joinRows(o.Office, func(hex string) string { return "x'" + hex + "'" })...)
			joinsTold(t, o.Office, src, false, want)
		})
	}
}

// A table is blind by its own row or by that for all, until the transaction that says otherwise is known to have happened.
func TestJoining(t *testing.T) {
	a, b := schema.TableName{Name: "a"}, schema.TableName{Schema: "s", Name: "b"}
	j := newJoining([]string{schema.JoinAll})
	expect := func(when string, wantA, wantB bool) {
		t.Helper()
		if gotA, gotB := j.blind(a), j.blind(b); gotA != wantA || gotB != wantB {
			t.Errorf("%s: %v, %v; want %v, %v", when, gotA, gotB, wantA, wantB)
		}
	}
	expect("all", true, true)
	j.set(b.String(), false)
	expect("all but one", true, false)
	j.drop(b.String())
	j.set(a.String(), false)
	expect("all but the other", false, true)
	j.undo()
	expect("what did not happen", true, true)
	j.drop(schema.JoinAll)
	expect("none", false, false)
	var none joining
	none.drop("a")
	if none.undo(); none.blind(a) {
		t.Error("blind without a word")
	}
}
