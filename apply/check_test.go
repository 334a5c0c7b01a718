package apply

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"cdc-sidecar/schema"
)

func findingsText(findings []schema.Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%s %s %s | %s | %s\n", f.Severity, f.Check, f.Message, f.Cause, f.Fix)
	}
	return b.String()
}

func wantFindings(t *testing.T, findings []schema.Finding, want ...string) {
	t.Helper()
	text := findingsText(findings)
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no finding has %q:\n%s", w, text)
		}
	}
	if len(findings) != len(want) {
		t.Errorf("%d findings, want %d:\n%s", len(findings), len(want), text)
	}
}

func TestCheckPostgres(t *testing.T) {
	w := postgresWorld(t, schema.Branch)
	w.createItem()
	wantFindings(t, CheckPostgres(t.Context(), w.dsn, nil), "ok apply.tables 1 of 1", "ok apply.triggers")
	clerk := "clerk_" + string(w.office)
	w.exec(`CREATE TABLE keyless (n int)`, `CREATE TABLE secret (id int PRIMARY KEY)`, `ALTER TABLE secret ENABLE ROW LEVEL SECURITY`,
		`CREATE ROLE `+clerk+` LOGIN PASSWORD 'clerk'`, `GRANT ALL ON secret TO `+clerk,
		`CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$`,
		`CREATE TRIGGER audit BEFORE INSERT ON secret FOR EACH ROW EXECUTE FUNCTION f()`, `ALTER TABLE secret ENABLE ALWAYS TRIGGER audit`)
	t.Cleanup(func() {
		for _, sql := range []string{`REASSIGN OWNED BY ` + clerk + ` TO postgres`, `DROP OWNED BY ` + clerk, `DROP ROLE ` + clerk} {
			if err := w.db.exec(context.Background(), sql); err != nil {
				t.Error(err)
			}
		}
	})
	login := w.as(clerk, "clerk")
	wantFindings(t, CheckPostgres(t.Context(), login, nil),
		"ok apply.tables 2 of 3", "warning apply.key table keyless has no key", "GRANT SET ON PARAMETER session_replication_role",
		"table item: user "+clerk+" lacks SELECT, INSERT, UPDATE, DELETE, TRUNCATE", "table keyless: user", "row security hides rows", "table secret has triggers: audit")
	w.exec(`GRANT SET ON PARAMETER session_replication_role TO `+clerk, `GRANT ALL ON item TO `+clerk)
	wantFindings(t, CheckPostgres(t.Context(), login, func(n schema.TableName) bool { return n.Name == "item" }), "ok apply.tables 1 of 1", "ok apply.triggers")
	wantFindings(t, CheckPostgres(t.Context(), w.as(clerk, "wrong"), nil), "failure apply.connect")
	// A sequence that may be used is not one that may be moved on.
	w.exec(`CREATE TABLE numbered (id serial PRIMARY KEY)`, `GRANT ALL ON numbered TO `+clerk, `GRANT USAGE ON SEQUENCE numbered_id_seq TO `+clerk)
	numbered := func(n schema.TableName) bool { return n.Name == "numbered" }
	grant := `GRANT SELECT, UPDATE ON SEQUENCE public.numbered_id_seq TO "` + clerk + `"`
	wantFindings(t, CheckPostgres(t.Context(), login, numbered), "ok apply.tables", "ok apply.triggers", "warning apply.sequences table numbered: user "+clerk+" may not move on")
	w.exec(grant)
	wantFindings(t, CheckPostgres(t.Context(), login, numbered), "ok apply.tables 1 of 1", "ok apply.triggers")
}

// as is the world's database for another user.
func (w *world) as(user, password string) schema.DSN {
	w.Helper()
	u, err := url.Parse(w.dsn.URL())
	if err != nil {
		w.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	dsn, err := schema.ParseDSN(u.String())
	if err != nil {
		w.Fatal(err)
	}
	return dsn
}

func TestCheckMySQL(t *testing.T) {
	w := mysqlWorld(t, schema.Branch)
	w.createItem()
	packet := w.rows("SELECT @@global.max_allowed_packet")
	w.exec("SET GLOBAL max_allowed_packet = 67108864")
	t.Cleanup(func() {
		if err := w.db.exec(context.Background(), "SET GLOBAL max_allowed_packet = "+packet); err != nil {
			t.Error(err)
		}
	})
	wantFindings(t, CheckMySQL(t.Context(), w.dsn, nil), "ok apply.tables 1 of 1")
	clerk := "clerk_" + string(w.office)
	w.exec(`CREATE TABLE keyless (n int)`, `CREATE TABLE old (id int PRIMARY KEY) ENGINE=MyISAM`,
		`CREATE TRIGGER audit BEFORE INSERT ON item FOR EACH ROW SET NEW.stock = 1`,
		`CREATE TRIGGER guarded AFTER INSERT ON item FOR EACH ROW BEGIN IF @cdc_sidecar_apply IS NULL THEN SET @wrote = 1; END IF; END`, `SET GLOBAL max_allowed_packet = 16777216`,
		`CREATE USER `+clerk+`@'%' IDENTIFIED BY 'clerk'`, `GRANT SELECT, INSERT, TRIGGER ON `+w.dsn.Database+`.* TO `+clerk+`@'%'`)
	t.Cleanup(func() {
		if err := w.db.exec(context.Background(), `DROP USER `+clerk+`@'%'`); err != nil {
			t.Error(err)
		}
	})
	wantFindings(t, CheckMySQL(t.Context(), w.as(clerk, "clerk"), nil),
		"ok apply.tables 2 of 3", "warning apply.key table keyless", "warning apply.packet max_allowed_packet is 16 MiB",
		"warning apply.privileges the account has not been given UPDATE, DELETE", "failure apply.engine table old is MyISAM", "table item has triggers: audit | they cannot be switched off")
	wantFindings(t, CheckMySQL(t.Context(), w.as(clerk, "wrong"), nil), "failure apply.connect")
}
