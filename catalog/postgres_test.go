package catalog

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

func newPostgres(t *testing.T, ddl string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), servers.NewDatabase(t, postgresServers.Set(t).Postgres[0]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if _, err := conn.PgConn().Exec(t.Context(), ddl).ReadAll(); err != nil {
		t.Fatal(err)
	}
	return conn
}

// tableText is one line of what a test wants to see of a table.
func tableText(t *Table) string {
	names := func(columns []int) string {
		var names []string
		for _, c := range columns {
			names = append(names, t.Columns[c].Name)
		}
		return "(" + strings.Join(names, " ") + ")"
	}
	s := fmt.Sprintf("%s own %s key %s", t.TableName, t.OwnSchema, names(t.Key))
	for _, u := range t.Unique {
		s += " unique " + names(u)
	}
	s += " identity " + t.ReplicaIdentity
	if t.KeyLogged {
		s += " logged"
	}
	if t.Partitioned {
		s += " partitioned"
	}
	if t.Unlogged {
		s += " unlogged"
	}
	if len(t.Triggers) > 0 {
		s += fmt.Sprint(" triggers ", t.Triggers)
	}
	return s
}

func TestReadPostgres(t *testing.T) {
	conn := newPostgres(t, `
		CREATE TABLE a_plain (id int PRIMARY KEY, email text UNIQUE, a int, b int, UNIQUE (b, a));
		CREATE TABLE b_order (z int, y int, x int, PRIMARY KEY (y, z));
		CREATE TABLE c_keyless (a int, b int UNIQUE);
		CREATE TABLE d_unique (a int, b int NOT NULL UNIQUE, c int NOT NULL);
		CREATE TABLE e_full (a int NOT NULL, UNIQUE (a)); ALTER TABLE e_full REPLICA IDENTITY FULL;
		CREATE TABLE f_index (id int PRIMARY KEY, code text NOT NULL);
		CREATE UNIQUE INDEX f_code ON f_index (code); ALTER TABLE f_index REPLICA IDENTITY USING INDEX f_code;
		CREATE TABLE g_nothing (id int PRIMARY KEY); ALTER TABLE g_nothing REPLICA IDENTITY NOTHING;
		CREATE TABLE h_deferrable (id int PRIMARY KEY DEFERRABLE);
		CREATE TABLE i_partial (id int PRIMARY KEY, a int, b text); CREATE UNIQUE INDEX ON i_partial (a) WHERE a > 0;
		CREATE UNIQUE INDEX ON i_partial (lower(b)); CREATE UNIQUE INDEX ON i_partial (b) INCLUDE (a);
		CREATE TABLE j_parts (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
		CREATE TABLE j_part_1 PARTITION OF j_parts FOR VALUES IN (1);
		CREATE UNLOGGED TABLE k_unlogged (id int PRIMARY KEY);
		CREATE TABLE l_triggers (id int PRIMARY KEY REFERENCES a_plain);
		CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
		CREATE TRIGGER on_it BEFORE INSERT ON l_triggers FOR EACH ROW EXECUTE FUNCTION nothing();
		CREATE TRIGGER switched_off BEFORE INSERT ON l_triggers FOR EACH ROW EXECUTE FUNCTION nothing();
		ALTER TABLE l_triggers DISABLE TRIGGER switched_off;
		CREATE SCHEMA "Other"; CREATE TABLE "Other"."T.1" ("Id" int PRIMARY KEY, gone int, kept int); ALTER TABLE "Other"."T.1" DROP gone;
		CREATE TEMPORARY TABLE m_temporary (id int PRIMARY KEY);
		CREATE VIEW n_view AS SELECT 1; CREATE MATERIALIZED VIEW o_view AS SELECT 1;
		CREATE SCHEMA cdc_sidecar; CREATE TABLE cdc_sidecar.progress (id int PRIMARY KEY)`)
	tables, err := ReadPostgres(t.Context(), conn, "public")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range tables {
		got = append(got, tableText(&tables[i]))
	}
	want := []string{
		"Other.T.1 own Other key (Id) identity default logged",
		"a_plain own public key (id) unique (email) unique (b a) identity default logged",
		"b_order own public key (y z) identity default logged",
		"c_keyless own public key () unique (b) identity default",
		"d_unique own public key (b) identity default",
		"e_full own public key (a) identity full logged",
		"f_index own public key (code) unique (id) identity index logged",
		"g_nothing own public key (id) identity nothing",
		"h_deferrable own public key (id) identity default",
		"i_partial own public key (id) unique (b) identity default logged",
		"j_parts own public key (id k) identity default logged partitioned",
		"k_unlogged own public key (id) identity default logged unlogged",
		"l_triggers own public key (id) identity default logged triggers [on_it]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if other := tables[0]; len(other.Columns) != 2 || other.Columns[1].Name != "kept" || other.OID == 0 {
		t.Errorf("after a dropped column: %+v", other.Columns)
	}
	sameDefinitions(t, conn, tables)
	if tables, err = ReadPostgres(t.Context(), conn, "Other"); err != nil || tables[0].String() != "T.1" || tables[1].String() != "public.a_plain" {
		t.Errorf("with another default schema: %v, %v", tables[0].TableName, err)
	}
}

// sameDefinitions: a table is the same, read as a table and as a definition.
func sameDefinitions(t *testing.T, conn *pgx.Conn, tables []Table) {
	t.Helper()
	definitions, err := ReadPostgresDefinitions(t.Context(), conn, "public")
	if err != nil || len(definitions) != len(tables) {
		t.Fatalf("%d definitions of %d tables, %v", len(definitions), len(tables), err)
	}
	for i := range tables {
		facts, err := ReadPostgresFacts(t.Context(), conn, []uint32{tables[i].OID})
		if err != nil || len(facts) != 1 || PostgresUsable(facts[0].Text) != (tables[i].KeyLogged && !tables[i].Unlogged) {
			t.Errorf("table %s: usable: %v, %v", tables[i].TableName, err, facts)
		}
		if diff := cmp.Diff(*tables[i].Table, *definitions[tables[i].OID].Table, cmpopts.IgnoreUnexported(schema.Table{})); diff != "" {
			t.Errorf("the definition's table (-read as a table +read as a definition):\n%s", diff)
		}
	}
}

func TestReadPostgresColumns(t *testing.T) {
	conn := newPostgres(t, `
		CREATE TYPE mood AS ENUM ('b', 'a'); CREATE DOMAIN happy AS mood NOT NULL;
		CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, other int GENERATED BY DEFAULT AS IDENTITY,
			twice int GENERATED ALWAYS AS (id * 2) STORED, m mood NOT NULL, n happy, v varchar(7)[])`)
	tables, err := ReadPostgres(t.Context(), conn, "public")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range tables[0].Columns {
		got = append(got, fmt.Sprintf("%s %s %s null %v generated %v identity %v %v", c.Name, c.Kind, c.Native, c.Nullable, c.Generated, c.Identity, c.Labels))
	}
	want := []string{
		"id int integer null false generated false identity true []",
		"other int integer null false generated false identity false []",
		"twice int integer null true generated true identity false []",
		"m enum mood null false generated false identity false [b a]",
		"n enum happy null true generated false identity false [b a]",
		"v native character varying(7)[] null true generated false identity false []",
	}
	sameDefinitions(t, conn, tables)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What the log announced counts where the catalog has moved on since.
func TestPostgresRelation(t *testing.T) {
	conn := newPostgres(t, `CREATE TABLE t (y int, x int, a text NOT NULL, PRIMARY KEY (x, y))`)
	var oid uint32
	if err := conn.QueryRow(t.Context(), `SELECT 't'::regclass::oid`).Scan(&oid); err != nil {
		t.Fatal(err)
	}
	announced := func(full bool, columns ...string) Relation {
		rel := Relation{OID: oid, Schema: "public", Name: "old_name", Full: full}
		for _, c := range columns {
			name, kind, _ := strings.Cut(c, ":")
			plain, key := strings.CutPrefix(name, "*")
			oid := uint32(pgtype.Int4OID)
			if kind == "text" {
				oid = pgtype.TextOID
			}
			rel.Columns = append(rel.Columns, RelationColumn{Name: plain, Type: oid, Modifier: -1, Identity: key})
		}
		return rel
	}
	for _, test := range []struct {
		name string
		rel  Relation
		key  []int
		null bool // of the third column
	}{
		{"as it is: the key in its own order", announced(false, "*y", "*x", "a:text"), []int{1, 0}, false},
		{"whole rows: the primary key all the same", announced(true, "*y", "*x", "*a:text"), []int{1, 0}, false},
		{"another key then: what was announced", announced(false, "y", "*x", "a:text"), []int{1}, false},
		{"another type then", announced(false, "*y", "*x", "a:int"), []int{1, 0}, true},
		{"a column that is gone", announced(false, "*y", "*x", "gone:text"), []int{1, 0}, true},
		{"no key then, one now", announced(false, "y", "x", "a:text"), []int{1, 0}, false},
	} {
		table, err := PostgresRelation(t.Context(), conn, "public", test.rel)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.key, table.Key); diff != "" || table.Columns[2].Nullable != test.null || table.String() != "old_name" {
			t.Errorf("%s: %+v; key (-want +got):\n%s", test.name, table, diff)
		}
	}
	dropped := announced(false, "*y", "*x", "a:text")
	dropped.OID = 1
	if table, err := PostgresRelation(t.Context(), conn, "public", dropped); err != nil || len(table.Key) != 2 || len(table.Columns) != 3 {
		t.Errorf("of a table that is gone: %+v, %v", table, err)
	}
}
