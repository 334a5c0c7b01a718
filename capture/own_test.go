package capture

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cdc-sidecar/schema"
)

// resolutionSQL writes what the conflict log says of a row of table t, as apply does.
func resolutionSQL(office schema.Office, blob func(string) string) string {
	t := schema.NewTable(schema.Table{TableName: schema.TableName{Name: "t"}, Engine: schema.Postgres, Key: []int{0}, Columns: []schema.Column{{Name: "id", Kind: schema.KindInt, Size: 32}}})
	tx := schema.Transaction{Origin: office, Last: true, Changes: []schema.Change{{
		Table: t, Op: schema.Delete, Before: schema.Row{schema.Of("8")},
		Decided: &schema.Decision{Origin: "north", Stamp: schema.Stamp{Millis: 77}, Known: 5},
	}}}
	body := schema.AppendBatch(nil, []schema.Transaction{tx})
	return fmt.Sprintf(`INSERT INTO cdc_sidecar.conflicts (office, decided_at, table_name, row_key, kind, policy, winner, state, local_origin, local_millis,
		local_counter, remote_origin, remote_millis, remote_counter, remote_epoch, remote_seq, resolution)
		VALUES ('%s', 0, 't', 'id=8', 'delete/update', 'latest', 'local', 'decided', 'north', 77, 0, 'south', 9, 0, 5, 41, %s)`, office, blob(hex.EncodeToString(body)))
}

// ownRows are statements that write our own tables, and an application's among them.
func ownRows(office schema.Office, blob func(string) string) []string {
	progress := fmt.Sprintf("UPDATE cdc_sidecar.progress SET epoch = 5, seq = 41, stamp_millis = 9, committed = 7 WHERE office = '%s'", office)
	return []string{
		fmt.Sprintf("INSERT INTO cdc_sidecar.progress VALUES ('%s', 'south', 5, 0, 0, 0, 0, 0, 0, 0)", office),
		fmt.Sprintf("INSERT INTO cdc_sidecar.barrier VALUES ('%s', 1)", office),
		"INSERT INTO passing VALUES (1)", // an application's: it stays at home
		"BEGIN", progress, "INSERT INTO passing VALUES (2)", resolutionSQL(office, blob), "INSERT INTO t VALUES (3)", "COMMIT",
		fmt.Sprintf("UPDATE cdc_sidecar.barrier SET mark = 2 WHERE office = '%s'", office),
		resolutionSQL(office, blob), // told once more, by nobody's transaction
		fmt.Sprintf("UPDATE cdc_sidecar.conflicts SET state = 'resolved' WHERE office = '%s'", office),
		fmt.Sprintf("INSERT INTO cdc_sidecar.barrier VALUES ('of-%s', 9)", office),
		"INSERT INTO t VALUES (4)",
	}
}

// said is what the transactions of a head, or of a branch, are to be.
var said = map[schema.Role][]string{
	schema.Head: {
		"mark 1",
		"south 5/41: passing insert 2, t delete 8 (north's), t insert 3",
		"mark 2",
		"own 0/0: t delete 8 (north's)",
		"own 0/0: t insert 4",
	},
	schema.Branch: {"mark 1", "mark 2", "own 0/0: t insert 4 (had seen 9)"},
}

// telling puts a transaction into words; empty when it says nothing.
func telling(office schema.Office, tx *schema.Transaction) string {
	if tx.Silent() {
		if tx.Barrier != 0 {
			return fmt.Sprintf("mark %d", tx.Barrier)
		}
		return ""
	}
	var changes []string
	for i := range tx.Changes {
		c := &tx.Changes[i]
		text := fmt.Sprintf("%s %s %s", c.Table.Name, c.Op, c.KeyRow()[0].Text())
		if c.Decided != nil {
			text += fmt.Sprintf(" (%s's)", c.Decided.Origin)
		}
		if c.Blind {
			text += " (blind)"
		}
		changes = append(changes, text)
	}
	origin := tx.Origin
	if origin == office {
		origin = "own"
	}
	return fmt.Sprintf("%s %s: %s", origin, tx.OriginPos, strings.Join(changes, ", "))
}

// Rows of our own tables tell of marks and of decisions; of a table that a head only passes on, what its applications
// write stays at home.
func TestPostgresOwnRows(t *testing.T) {
	for role, want := range said {
		t.Run(string(role), func(t *testing.T) {
			o := newPostgresOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`, `CREATE TABLE passing (id int PRIMARY KEY)`)
			o.Role = role
			o.Send = func(n schema.TableName) bool { return n.Name != "passing" }
			if role == schema.Head {
				o.Forward = func(n schema.TableName) bool { return n.Name == "passing" }
			}
			p := o.open()
			o.exec(ownRows(o.Office, func(hex string) string { return `'\x` + hex + `'` })...)
			told(t, o.Office, p, want)
		})
	}
}

func TestMariaDBOwnRows(t *testing.T) {
	for role, want := range said {
		t.Run(string(role), func(t *testing.T) {
			o := newMariaDBOffice(t, `CREATE TABLE t (id int PRIMARY KEY)`, `CREATE TABLE passing (id int PRIMARY KEY)`)
			o.Role = role
			o.Send = func(n schema.TableName) bool { return n.Name == "t" }
			if role == schema.Head {
				o.Forward = func(n schema.TableName) bool { return n.Name == "passing" }
			}
			src := o.open()
			o.exec(ownRows(o.Office, func(hex string) string { return "x'" + hex + "'" })...)
			told(t, o.Office, src, want)
		})
	}
}

// told reads until the last row and compares.
func told(t *testing.T, office schema.Office, src Source, want []string) {
	t.Helper()
	var got []string
	var seen schema.Stamp
	readTo(t, src, func(tx *schema.Transaction) bool {
		seen = seen.Max(tx.Stamp)
		text := telling(office, tx)
		if text != "" {
			got = append(got, text)
		}
		return strings.HasSuffix(text, "t insert 4")
	})
	if strings.HasSuffix(want[len(want)-1], "(had seen 9)") && seen == (schema.Stamp{Millis: 9}) {
		got[len(got)-1] += " (had seen 9)"
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
