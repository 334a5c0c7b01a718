package catalog

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/schema"
)

// PostgresSession are the settings under which Postgres writes values as the canonical form has them (see schema.Kind).
// Whoever reads values from a Postgres, or writes them to one, sets these for its session.
func PostgresSession() map[string]string {
	return map[string]string{
		"client_encoding":    "UTF8",
		"DateStyle":          "ISO, MDY",
		"IntervalStyle":      "postgres",
		"TimeZone":           "UTC",
		"extra_float_digits": "3",
		"bytea_output":       "hex",
		"lc_monetary":        "C",
	}
}

// PostgresQuerier is a connection, a pool or a transaction.
type PostgresQuerier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// ReadPostgres reads the definitions of all tables that an application may write: ordinary tables and the roots of
// partitioned ones, in the order of their names. Left out are system schemas, our own, temporary tables, partitions (their
// rows belong to the root) and what an extension brought along.
func ReadPostgres(ctx context.Context, q PostgresQuerier, defaultSchema string) ([]Table, error) {
	tables, err := readPostgresTables(ctx, q, defaultSchema)
	if err != nil {
		return nil, fmt.Errorf("read tables: %w", err)
	}
	byOID := make(map[uint32]*postgresTable, len(tables))
	oids := make([]uint32, len(tables))
	for i := range tables {
		byOID[tables[i].OID], oids[i] = &tables[i], tables[i].OID
	}
	if err := readPostgresColumns(ctx, q, oids, byOID); err != nil {
		return nil, fmt.Errorf("read columns: %w", err)
	}
	if err := readPostgresIndexes(ctx, q, oids, byOID); err != nil {
		return nil, fmt.Errorf("read indexes: %w", err)
	}
	if err := readPostgresSequences(ctx, q, oids, byOID); err != nil {
		return nil, fmt.Errorf("read sequences: %w", err)
	}
	if err := readPostgresReferrers(ctx, q, defaultSchema, oids, byOID); err != nil {
		return nil, fmt.Errorf("read foreign keys: %w", err)
	}
	done := make([]Table, len(tables))
	for i := range tables {
		done[i] = tables[i].complete()
	}
	return done, nil
}

// postgresTable is a table while it is being read.
type postgresTable struct {
	Table
	indexes []postgresIndex
}

// postgresIndex is a unique index over plain columns.
type postgresIndex struct {
	columns   []int
	primary   bool
	identity  bool // REPLICA IDENTITY USING INDEX names it
	immediate bool // a deferrable one identifies no row in the log
	notNull   bool // all of its columns are
}

func readPostgresTables(ctx context.Context, q PostgresQuerier, defaultSchema string) ([]postgresTable, error) {
	rows, err := q.Query(ctx, `
		SELECT c.oid, n.nspname::text, c.relname::text, c.relkind = 'p', c.relhassubclass, c.relpersistence = 'u',
		       CASE c.relreplident WHEN 'd' THEN 'default' WHEN 'n' THEN 'nothing' WHEN 'f' THEN 'full' ELSE 'index' END,
		       ARRAY(SELECT t.tgname::text FROM pg_trigger t
		             WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D' ORDER BY 1),
		       EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled IN ('A', 'R')),
		       ARRAY(SELECT format('%I.%I', m.nspname, r.relname) FROM pg_class r JOIN pg_namespace m ON m.oid = r.relnamespace
		             WHERE r.relreplident <> 'f' AND (r.oid = c.oid OR c.relkind = 'p' AND r.oid IN (SELECT relid FROM pg_partition_tree(c.oid)))
		             ORDER BY r.oid <> c.oid, 1)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
		  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> $1
		  AND NOT EXISTS (SELECT FROM pg_depend d
		                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
		ORDER BY 2, 3`, schema.OwnSchema)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (postgresTable, error) {
		t := postgresTable{Table: Table{Table: &schema.Table{Engine: schema.Postgres}}}
		err := row.Scan(&t.OID, &t.OwnSchema, &t.Name, &t.Partitioned, &t.Inherited, &t.Unlogged, &t.ReplicaIdentity, &t.Triggers, &t.Fires, &t.PartialOld)
		t.TableName = PostgresName(t.OwnSchema, t.Name, defaultSchema)
		return t, err
	})
}

// PostgresName is a table of this database as the fleet calls it.
func PostgresName(ownSchema, name, defaultSchema string) schema.TableName {
	if ownSchema == defaultSchema {
		ownSchema = ""
	}
	return schema.TableName{Schema: ownSchema, Name: name}
}

func readPostgresColumns(ctx context.Context, q PostgresQuerier, oids []uint32, tables map[uint32]*postgresTable) error {
	rows, err := q.Query(ctx, `
		SELECT a.attrelid, a.atttypid, a.atttypmod, a.attname::text, format_type(a.atttypid, a.atttypmod),
		       NOT a.attnotnull, a.attgenerated <> '', a.attidentity = 'a',
		       CASE WHEN t.typtype = 'd' OR EXISTS (SELECT FROM pg_cast x
		                 WHERE x.castsource = 'pg_catalog.text'::regtype AND x.casttarget = t.oid AND x.castmethod <> 'b')
		            THEN '' ELSE format_type(t.oid, -1) END
		FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped
		ORDER BY a.attrelid, a.attnum`, oids)
	if err != nil {
		return err
	}
	type read struct {
		table, oid uint32
		modifier   int32
		cast       string
		schema.Column
	}
	columns, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c read, err error) {
		err = row.Scan(&c.table, &c.oid, &c.modifier, &c.Name, &c.Native, &c.Nullable, &c.Generated, &c.Identity, &c.cast)
		return c, err
	})
	if err != nil {
		return err
	}
	used := make([]uint32, len(columns))
	for i := range columns {
		used[i] = columns[i].oid
	}
	types, err := readPostgresTypes(ctx, q, used)
	if err != nil {
		return err
	}
	for i := range columns {
		c := &columns[i]
		types.describe(&c.Column, c.oid, c.modifier)
		if t := tables[c.table]; t != nil {
			t.Columns = append(t.Columns, c.Column)
			t.Types = append(t.Types, PostgresType{OID: c.oid, Cast: c.cast})
		}
	}
	return nil
}

const uniqueIndexes = `
	SELECT i.indrelid, i.indisprimary, i.indisreplident, i.indimmediate, bool_and(a.attnotnull),
	       array_agg(a.attname::text ORDER BY k.place)
	FROM pg_index i
	CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
	JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
	WHERE i.indrelid = ANY($1) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
	  AND k.place <= i.indnkeyatts
	GROUP BY i.indexrelid, 1, 2, 3, 4 ORDER BY i.indexrelid`

func readPostgresIndexes(ctx context.Context, q PostgresQuerier, oids []uint32, tables map[uint32]*postgresTable) error {
	rows, err := q.Query(ctx, uniqueIndexes, oids) //nolint:rowserrcheck // ForEachRow returns it
	if err != nil {
		return err
	}
	var table uint32
	var x postgresIndex
	var names []string
	_, err = pgx.ForEachRow(rows, []any{&table, &x.primary, &x.identity, &x.immediate, &x.notNull, &names}, func() error {
		t := tables[table]
		if t == nil {
			return nil
		}
		x.columns = make([]int, len(names))
		for i, name := range names {
			x.columns[i] = t.Column(name)
		}
		if !slices.Contains(x.columns, -1) {
			t.indexes = append(t.indexes, x)
		}
		return nil
	})
	return err
}

// complete chooses the key, see choose.
func (t *postgresTable) complete() Table {
	choice := t.choose()
	for i := range t.indexes {
		if i != choice {
			t.Unique = append(t.Unique, t.indexes[i].columns)
		}
	}
	if choice >= 0 {
		x := &t.indexes[choice]
		t.Key = x.columns
		t.KeyLogged = t.ReplicaIdentity == "full" || x.immediate &&
			(t.ReplicaIdentity == "index" && x.identity || t.ReplicaIdentity == "default" && x.primary)
	}
	t.Table.Table = schema.NewTable(*t.Table.Table)
	return t.Table
}

// choose returns which of the indexes is the key; -1: none. It is what the log says of an old row where that is one index;
// otherwise the primary key, otherwise the oldest unique index that no NULL gets around.
func (t *postgresTable) choose() int {
	choice := -1
	rank := func(x *postgresIndex) int {
		switch {
		case x.identity && t.ReplicaIdentity == "index":
			return 3
		case x.primary:
			return 2
		case x.notNull && x.immediate:
			return 1
		default:
			return 0
		}
	}
	for i := range t.indexes {
		if r := rank(&t.indexes[i]); r > 0 && (choice < 0 || r > rank(&t.indexes[choice])) {
			choice = i
		}
	}
	return choice
}
