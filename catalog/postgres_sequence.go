package catalog

import (
	"context"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/schema"
)

// columnSequences finds the sequences of columns: an identity owns its sequence, a default depends on the one that it
// names. A default that is more than nextval('…') gives other values than the sequence has, and is left out. What the
// sequence gives next is not in the catalog; its class is that of the last value given, or else of its start.
const columnSequences = `
	WITH given (tab, attnum, sequence) AS (
		SELECT d.refobjid, d.refobjsubid, d.objid FROM pg_depend d
		WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'i'
		  AND d.refobjsubid > 0 AND d.refobjid = ANY($1)
		UNION ALL
		SELECT f.adrelid, f.adnum, d.refobjid
		FROM pg_attrdef f JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
		WHERE d.refclassid = 'pg_class'::regclass AND d.deptype = 'n' AND f.adrelid = ANY($1)
		  AND pg_get_expr(f.adbin, f.adrelid) ~ '^\(?nextval\(''([^'']|'''')+''::regclass\)\)?(::[a-z]+)?$')
	SELECT g.tab, a.attname::text, format('%I.%I', n.nspname, c.relname), s.seqincrement, s.seqmin, s.seqmax, s.seqcycle, s.seqcache > 1,
	       coalesce(CASE WHEN has_sequence_privilege(c.oid, 'SELECT, USAGE') THEN pg_sequence_last_value(c.oid) END, s.seqstart),
	       has_schema_privilege(n.oid, 'USAGE') AND has_sequence_privilege(c.oid, 'SELECT') AND has_sequence_privilege(c.oid, 'UPDATE')
	FROM given g JOIN pg_sequence s ON s.seqrelid = g.sequence
	JOIN pg_class c ON c.oid = g.sequence JOIN pg_namespace n ON n.oid = c.relnamespace
	JOIN pg_attribute a ON a.attrelid = g.tab AND a.attnum = g.attnum
	ORDER BY g.tab, g.attnum`

func readPostgresSequences(ctx context.Context, q PostgresQuerier, oids []uint32, tables map[uint32]*postgresTable) error {
	rows, err := q.Query(ctx, columnSequences, oids) //nolint:rowserrcheck // ForEachRow returns it
	if err != nil {
		return err
	}
	var table uint32
	var column string
	var s Sequence
	var last int64
	into := []any{&table, &column, &s.Name, &s.Increment, &s.Min, &s.Max, &s.Cycle, &s.Cached, &last, &s.Settable}
	_, err = pgx.ForEachRow(rows, into, func() error {
		t := tables[table]
		if t == nil {
			return nil
		}
		if s.Column = t.Column(column); s.Column < 0 {
			return nil
		}
		c := &t.Columns[s.Column]
		if c.Kind != schema.KindInt && c.Kind != schema.KindDecimal {
			return nil
		}
		given := s
		given.Max, given.Class = min(s.Max, greatest(c)), Remainder(last, s.Increment)
		t.Sequences = append(t.Sequences, given)
		return nil
	})
	return err
}
