package catalog

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/schema"
)

// Size is about how large a table is, by the server's own estimate.
type Size struct {
	Rows  uint64
	Bytes uint64 // on its disk, without indexes
}

// postgresRowBytes stands in for a row's length in a table of which the server has counted nothing yet.
const postgresRowBytes = 100

const postgresSizes = `
	SELECT t.root, sum(pg_table_size(c.oid))::int8, sum(CASE
	         WHEN c.reltuples > 0 AND c.relpages > 0 THEN c.reltuples::float8 / c.relpages * size.pages
	         WHEN pg_stat_get_live_tuples(c.oid) > 0 THEN pg_stat_get_live_tuples(c.oid)
	         ELSE size.pages * current_setting('block_size')::float8 / $2 END)::int8
	FROM (SELECT r.oid AS root, r.oid AS part FROM pg_class r WHERE r.oid = ANY($1) AND r.relkind = 'r'
	      UNION ALL
	      SELECT r.oid, p.relid FROM pg_class r CROSS JOIN LATERAL pg_partition_tree(r.oid) p
	      WHERE r.oid = ANY($1) AND r.relkind = 'p' AND p.isleaf) t
	JOIN pg_class c ON c.oid = t.part AND c.relkind = 'r'
	CROSS JOIN LATERAL (SELECT pg_relation_size(c.oid)::float8 / current_setting('block_size')::float8 AS pages) size
	GROUP BY 1`

// PostgresSizes are the sizes of tables that ReadPostgres gave, in their order; zero where one is gone. The rows are those that
// the server counted last, for as many pages as there are now; of a table that it never counted, those that were written since
// it began. Partitions are added up.
func PostgresSizes(ctx context.Context, q PostgresQuerier, tables []Table) ([]Size, error) {
	oids, places := make([]uint32, len(tables)), make(map[uint32]int, len(tables))
	for i := range tables {
		oids[i], places[tables[i].OID] = tables[i].OID, i
	}
	rows, err := q.Query(ctx, postgresSizes, oids, postgresRowBytes) //nolint:rowserrcheck // ForEachRow returns it
	if err != nil {
		return nil, fmt.Errorf("read the sizes of the tables: %w", err)
	}
	sizes := make([]Size, len(tables))
	var oid uint32
	var bytes, count *int64 // a table that is dropped meanwhile has none
	_, err = pgx.ForEachRow(rows, []any{&oid, &bytes, &count}, func() error {
		if bytes != nil && count != nil {
			sizes[places[oid]] = Size{Rows: uint64(max(*count, 0)), Bytes: uint64(max(*bytes, 0))}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the sizes of the tables: %w", err)
	}
	return sizes, nil
}

// MySQLSizes are the sizes of tables that ReadMySQL gave, in their order; zero where one is gone. InnoDB's number of rows may be
// off by half. The hint, which MariaDB takes for a comment, is against MySQL's answer of yesterday.
func MySQLSizes(ctx context.Context, q MySQLQuerier, tables []Table) ([]Size, error) {
	places := make(map[schema.TableName]int, len(tables))
	for i := range tables {
		places[schema.TableName{Schema: tables[i].OwnSchema, Name: tables[i].Name}] = i
	}
	rows, err := q.QueryContext(ctx, `SELECT /*+ SET_VAR(information_schema_stats_expiry = 0) */ TABLE_SCHEMA, TABLE_NAME, TABLE_ROWS, DATA_LENGTH
		FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE'
		AND TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys', '`+schema.OwnSchema+"')")
	if err != nil {
		return nil, fmt.Errorf("read the sizes of the tables: %w", err)
	}
	sizes := make([]Size, len(tables))
	err = eachRow(rows, func(scan func(...any) error) error {
		var name schema.TableName
		var count, bytes sql.Null[uint64]
		if err := scan(&name.Schema, &name.Name, &count, &bytes); err != nil {
			return err
		}
		if i, ok := places[name]; ok {
			sizes[i] = Size{Rows: count.V, Bytes: bytes.V}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the sizes of the tables: %w", err)
	}
	return sizes, nil
}
