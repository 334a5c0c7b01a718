package catalog

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/schema"
)

// Referrer is a foreign key of a table here that refers to another one: when a row of that goes, or changes what is referred to, the rows
// that refer to it forbid it, or they follow: they go or change as well.
type Referrer struct {
	// Child is the table that has the foreign key, as the fleet calls it.
	Child schema.TableName
	schema.ForeignKey
	// Clears are the columns that ON DELETE SET NULL or SET DEFAULT sets: those of the key, or of them those that Postgres was told.
	Clears []string
	// Defaults are Postgres' expressions of what SET DEFAULT gives, one for each of Columns; empty: NULL. Nil where neither action
	// sets defaults.
	Defaults []string
}

// Sets are the columns of the foreign key that an action of SET NULL or SET DEFAULT sets when the parent goes, or changes.
func (r *Referrer) Sets(gone bool) []string {
	if gone {
		return r.Clears
	}
	return r.Columns
}

const referrers = `
	SELECT k.confrelid, n.nspname::text, c.relname::text, k.conname::text, k.confdeltype::text, k.confupdtype::text, array_agg(a.attname::text ORDER BY u.place),
	       array_agg(b.attname::text ORDER BY u.place), array_agg(coalesce(pg_get_expr(d.adbin, d.adrelid), '') ORDER BY u.place),
	       coalesce(array_agg(a.attname::text ORDER BY u.place) FILTER (WHERE to_jsonb(k) -> 'confdelsetcols' @> to_jsonb(u.child)), '{}')
	FROM pg_constraint k
	JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
	CROSS JOIN unnest(k.conkey, k.confkey) WITH ORDINALITY u (child, parent, place)
	JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.child
	JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = u.parent
	LEFT JOIN pg_attrdef d ON d.adrelid = k.conrelid AND d.adnum = u.child
	WHERE k.contype = 'f' AND k.conparentid = 0 AND NOT c.relispartition AND k.confrelid = ANY($1)
	GROUP BY k.oid, 1, 2, 3, 4, 5, 6 ORDER BY 2, 3, 4`

// readPostgresReferrers reads the foreign keys. Those of partitions alone are left out: their rows are the root's.
func readPostgresReferrers(ctx context.Context, q PostgresQuerier, defaultSchema string, oids []uint32, tables map[uint32]*postgresTable) error {
	rows, err := q.Query(ctx, referrers, oids) //nolint:rowserrcheck // ForEachRow returns it
	if err != nil {
		return err
	}
	actions := map[string]schema.Action{"c": schema.Cascade, "n": schema.SetNull, "d": schema.SetDefault}
	var parent uint32
	var space, child, onDelete, onUpdate string
	var r Referrer
	into := []any{&parent, &space, &child, &r.Name, &onDelete, &onUpdate, &r.Columns, &r.ParentColumns, &r.Defaults, &r.Clears}
	_, err = pgx.ForEachRow(rows, into, func() error {
		t := tables[parent]
		if t == nil {
			return nil
		}
		n := r
		n.Child, n.Parent, n.OnDelete, n.OnUpdate = PostgresName(space, child, defaultSchema), t.TableName, actions[onDelete], actions[onUpdate]
		n.Columns, n.ParentColumns, n.Clears = slices.Clone(r.Columns), slices.Clone(r.ParentColumns), slices.Clone(r.Clears)
		if n.Defaults = nil; n.OnDelete == schema.SetDefault || n.OnUpdate == schema.SetDefault {
			n.Defaults = slices.Clone(r.Defaults)
		}
		if len(n.Clears) == 0 {
			n.Clears = n.Columns
		}
		t.Referrers = append(t.Referrers, n)
		return nil
	})
	return err
}

// readReferrers reads the foreign keys, when all tables are read.
func (r *mysqlReader) readReferrers(ctx context.Context) error {
	if r.one != nil {
		return nil
	}
	type constraint struct{ space, table, name string }
	type rule struct{ onDelete, onUpdate schema.Action }
	rules := map[constraint]rule{}
	err := r.each(ctx, "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, DELETE_RULE, UPDATE_RULE FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE ",
		[2]string{"CONSTRAINT_SCHEMA", "TABLE_NAME"}, "", func(scan func(...any) error) error {
			var c constraint
			var onDelete, onUpdate string
			if err := scan(&c.space, &c.table, &c.name, &onDelete, &onUpdate); err != nil {
				return err
			}
			rules[c] = rule{mysqlActions[onDelete], mysqlActions[onUpdate]}
			return nil
		})
	if err != nil || len(rules) == 0 {
		return err
	}
	var last constraint
	return r.each(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME
		FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_NAME IS NOT NULL AND `, inTable,
		" ORDER BY TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION", func(scan func(...any) error) error {
			var c constraint
			var column, parentColumn string
			var parent schema.TableName
			if err := scan(&c.space, &c.table, &c.name, &column, &parent.Schema, &parent.Name, &parentColumn); err != nil {
				return err
			}
			act, ok := rules[c]
			t := r.byName[parent]
			if !ok || t == nil {
				return nil
			}
			if c != last {
				t.Referrers = append(t.Referrers, Referrer{Child: MySQLName(c.space, c.table, r.defaultSchema), ForeignKey: schema.ForeignKey{
					Name: c.name, Parent: MySQLName(parent.Schema, parent.Name, r.defaultSchema), OnDelete: act.onDelete, OnUpdate: act.onUpdate,
				}})
				last = c
			}
			k := &t.Referrers[len(t.Referrers)-1]
			k.Columns, k.ParentColumns = append(k.Columns, column), append(k.ParentColumns, parentColumn)
			k.Clears = k.Columns
			return nil
		})
}

// Follows reports whether rows follow, and do not only forbid.
func (r *Referrer) Follows() bool { return r.OnDelete != schema.Forbid || r.OnUpdate != schema.Forbid }

// String names the foreign key for people: what refers to what, and what follows.
func (r *Referrer) String() string {
	text := fmt.Sprintf("%s.%s → %s", r.Child, r.Name, r.Parent)
	if r.OnDelete != schema.Forbid {
		text += ", on delete " + string(r.OnDelete)
	}
	if r.OnUpdate != schema.Forbid {
		text += ", on update " + string(r.OnUpdate)
	}
	return text
}
