package apply

import (
	"context"
	"strings"
	"testing"

	"cdc-sidecar/schema"
)

// What doctor says is missing for schema changes is missing, and what it says mends that does.
func TestCheckPostgresDDL(t *testing.T) {
	w := postgresWorld(t, schema.Branch)
	w.createItem()
	wantFindings(t, CheckPostgresDDL(t.Context(), w.dsn, nil), "ok ddl.privileges")
	clerk, shop := "clerk_"+string(w.office), "shop_"+string(w.office)
	w.exec(`CREATE ROLE `+clerk+` LOGIN PASSWORD 'clerk'`, `CREATE ROLE `+shop, `CREATE TABLE sold (id int PRIMARY KEY)`, `ALTER TABLE sold OWNER TO `+shop,
		`CREATE TABLE mine (id int PRIMARY KEY)`, `ALTER TABLE mine OWNER TO `+clerk, `REVOKE CREATE ON SCHEMA public FROM public`)
	t.Cleanup(func() {
		for _, sql := range []string{
			`REASSIGN OWNED BY ` + clerk + `, ` + shop + ` TO postgres`, `DROP OWNED BY ` + clerk + `, ` + shop, `DROP ROLE ` + clerk, `DROP ROLE ` + shop,
		} {
			if err := w.db.exec(context.Background(), sql); err != nil {
				t.Error(err)
			}
		}
	})
	login := w.as(clerk, "clerk")
	mine := func(n schema.TableName) bool { return n.Name == "mine" }
	wantFindings(t, CheckPostgresDDL(t.Context(), login, mine), "may not make tables in public")
	found := CheckPostgresDDL(t.Context(), login, nil)
	wantFindings(t, found, "may not change tables that others own: public.item, public.sold", "may not make tables in public")
	for _, f := range found {
		w.exec(strings.Split(f.Fix, ";\n")...)
	}
	wantFindings(t, CheckPostgresDDL(t.Context(), login, nil), "ok ddl.privileges")
	their := openPostgres(t, login)
	defer func() { _ = their.close() }()
	for _, sql := range []string{`ALTER TABLE item ADD COLUMN a int`, `ALTER TABLE sold ADD COLUMN a int`, `CREATE TABLE more (id int)`} {
		if err := their.exec(t.Context(), sql); err != nil {
			t.Error(err)
		}
	}
}

func TestCheckMySQLDDL(t *testing.T) {
	w := mysqlWorld(t, schema.Branch)
	w.createItem()
	wantFindings(t, CheckMySQLDDL(t.Context(), w.dsn), "ok ddl.privileges")
	clerk := "clerk_" + string(w.office)
	w.exec(`CREATE USER `+clerk+`@'%' IDENTIFIED BY 'clerk'`, `GRANT SELECT, INSERT, UPDATE, DELETE, DROP ON `+w.dsn.Database+`.* TO `+clerk+`@'%'`)
	t.Cleanup(func() {
		if err := w.db.exec(context.Background(), `DROP USER `+clerk+`@'%'`); err != nil {
			t.Error(err)
		}
	})
	login := w.as(clerk, "clerk")
	found := CheckMySQLDDL(t.Context(), login)
	wantFindings(t, found, "has not been given CREATE, ALTER, INDEX, REFERENCES")
	w.exec(found[0].Fix)
	wantFindings(t, CheckMySQLDDL(t.Context(), login), "ok ddl.privileges")
	their := openMySQL(t, login)
	defer func() { _ = their.close() }()
	for _, sql := range []string{`ALTER TABLE item ADD COLUMN a int`, `CREATE TABLE more (id int PRIMARY KEY, item int, INDEX (item))`, `DROP TABLE more`} {
		if err := their.exec(t.Context(), sql); err != nil {
			t.Error(err)
		}
	}
}
