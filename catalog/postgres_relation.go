package catalog

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/schema"
)

// Relation is a table as Postgres' log announces it: the columns it will send, by type number and modifier. The catalog
// may have moved on since.
type Relation struct {
	OID     uint32
	Schema  string
	Name    string
	Full    bool // the log has whole old rows (REPLICA IDENTITY FULL)
	Columns []RelationColumn
}

// RelationColumn is one of a Relation's columns.
type RelationColumn struct {
	Name     string
	Type     uint32
	Modifier int32
	Identity bool // the log's old rows have it
}

// PostgresRelation completes an announced table with what the catalog knows: names of types, enum labels, the key. Where the
// catalog does not agree any more with a column, the announcement counts.
func PostgresRelation(ctx context.Context, q PostgresQuerier, defaultSchema string, rel Relation) (*schema.Table, error) {
	columns, err := relationColumns(ctx, q, rel)
	if err != nil {
		return nil, fmt.Errorf("read columns of %s.%s: %w", rel.Schema, rel.Name, err)
	}
	t := schema.Table{TableName: PostgresName(rel.Schema, rel.Name, defaultSchema), Engine: schema.Postgres, Columns: columns}
	if t.Key, err = relationKey(ctx, q, rel, &t); err != nil {
		return nil, fmt.Errorf("read key of %s.%s: %w", rel.Schema, rel.Name, err)
	}
	return schema.NewTable(t), nil
}

func relationColumns(ctx context.Context, q PostgresQuerier, rel Relation) ([]schema.Column, error) {
	names, oids, modifiers := make([]string, len(rel.Columns)), make([]uint32, len(rel.Columns)), make([]int32, len(rel.Columns))
	for i, c := range rel.Columns {
		names[i], oids[i], modifiers[i] = c.Name, c.Type, c.Modifier
	}
	types, err := readPostgresTypes(ctx, q, oids)
	if err != nil {
		return nil, err
	}
	rows, err := q.Query(ctx, `
		SELECT r.name, format_type(r.type, r.modifier), NOT coalesce(a.attnotnull, false),
		       coalesce(a.attgenerated, '') <> '', coalesce(a.attidentity, '') = 'a'
		FROM unnest($1::text[], $2::oid[], $3::int4[]) WITH ORDINALITY r (name, type, modifier, place)
		LEFT JOIN pg_attribute a ON a.attrelid = $4 AND a.attname = r.name AND a.atttypid = r.type AND NOT a.attisdropped
		ORDER BY r.place`, names, oids, modifiers, rel.OID)
	if err != nil {
		return nil, err
	}
	columns, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c schema.Column, err error) {
		err = row.Scan(&c.Name, &c.Native, &c.Nullable, &c.Generated, &c.Identity)
		return c, err
	})
	if err != nil {
		return nil, err
	}
	for i := range columns {
		types.describe(&columns[i], oids[i], modifiers[i])
	}
	return columns, nil
}

// relationKey is the same choice that ReadPostgres makes, as far as the announced columns allow it: the order of the
// columns comes from the catalog, what identifies a row from the log.
func relationKey(ctx context.Context, q PostgresQuerier, rel Relation, t *schema.Table) ([]int, error) {
	now := postgresTable{Table: Table{Table: &schema.Table{Columns: t.Columns}, ReplicaIdentity: "default"}}
	if err := readPostgresIndexes(ctx, q, []uint32{rel.OID}, map[uint32]*postgresTable{rel.OID: &now}); err != nil {
		return nil, err
	}
	var announced []int
	for i, c := range rel.Columns {
		if c.Identity {
			announced = append(announced, i)
		}
	}
	if rel.Full || len(announced) == 0 { // announced before the table got its key
		return now.complete().Key, nil
	}
	for _, x := range now.indexes {
		if sorted := slices.Sorted(slices.Values(x.columns)); slices.Equal(sorted, announced) {
			return x.columns, nil
		}
	}
	return announced, nil
}
