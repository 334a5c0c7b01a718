package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/schema"
)

// postgresFacts is an expression that says as jsonb what the catalog has of one table, the row c of pg_class with its schema n. It is
// one text for whoever reads the catalog and for the function cdc_sidecar.describe, so that what the two say can be compared. Names
// of types and functions that are not the server's own have their schemas: it is to run with postgresFactsPath.
//
// usable is whether the log can tell its rows: what Table.complete and KeyLogged say.
const postgresFacts = `jsonb_strip_nulls(jsonb_build_object(
	'oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname, 'identity', c.relreplident,
	'comment', obj_description(c.oid, 'pg_class'),
	'usable', c.relpersistence = 'p' AND EXISTS (SELECT FROM pg_index i
		WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND
			CASE c.relreplident WHEN 'f' THEN i.indisprimary OR i.indimmediate AND NOT EXISTS (
					SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
					JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum WHERE place <= i.indnkeyatts AND NOT a.attnotnull)
				WHEN 'd' THEN i.indisprimary AND i.indimmediate WHEN 'i' THEN i.indisreplident AND i.indimmediate ELSE false END),
	'partitions', (SELECT jsonb_agg(p.relid::oid::bigint ORDER BY p.relid::oid) FROM pg_partition_tree(c.oid) p WHERE c.relkind = 'p' AND p.relid <> c.oid),
	'columns', (SELECT jsonb_agg(jsonb_build_object(
			'id', a.attnum, 'name', a.attname, 'type', a.atttypid::bigint, 'modifier', a.atttypmod, 'native', format_type(a.atttypid, a.atttypmod),
			'not_null', a.attnotnull, 'generated', a.attgenerated, 'identity', a.attidentity, 'default', pg_get_expr(d.adbin, d.adrelid),
			'serial', EXISTS (SELECT FROM pg_depend o JOIN pg_depend u ON u.refclassid = o.classid AND u.refobjid = o.objid
				WHERE o.classid = 'pg_class'::regclass AND o.refclassid = 'pg_class'::regclass AND o.refobjid = c.oid AND o.refobjsubid = a.attnum
				  AND o.deptype = 'a' AND u.classid = 'pg_attrdef'::regclass AND u.objid = d.oid),
			'comment', col_description(c.oid, a.attnum),
			'base', CASE WHEN t.typtype = 'd' OR t.oid >= 16384 THEN (
				WITH RECURSIVE chain (oid, modifier) AS (
					SELECT t.oid, -1 UNION SELECT y.typbasetype, y.typtypmod FROM chain JOIN pg_type y ON y.oid = chain.oid WHERE y.typtype = 'd')
				SELECT jsonb_build_object('oid', y.oid::bigint, 'modifier', chain.modifier, 'enum', y.typtype = 'e', 'name', y.typname,
					'native', format_type(y.oid, -1),
					'labels', (SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = y.oid))
				FROM chain JOIN pg_type y ON y.oid = chain.oid WHERE y.typtype <> 'd') END) ORDER BY a.attnum)
		FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
		WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
	'indexes', (SELECT jsonb_agg(jsonb_build_object(
			'index_oid', x.oid::bigint, 'name', x.relname, 'primary', i.indisprimary, 'unique', i.indisunique, 'immediate', i.indimmediate,
			'identity', i.indisreplident, 'method', m.amname, 'where', pg_get_expr(i.indpred, i.indrelid),
			'exclusion', CASE WHEN k.contype = 'x' THEN pg_get_constraintdef(k.oid) END,
			'clause', substr(pg_get_indexdef(x.oid), length(format('CREATE %sINDEX %I ON %s%I.%I ', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END,
				x.relname, CASE WHEN x.relkind = 'I' THEN 'ONLY ' ELSE '' END, n.nspname, c.relname)) + 1),
			'plain', i.indnatts = i.indnkeyatts AND i.indimmediate AND NOT coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
			'parts', (SELECT jsonb_agg(jsonb_build_object('column', a.attname,
					'expression', CASE WHEN u.attnum = 0 THEN pg_get_indexdef(x.oid, u.place::int, false) END, 'descending', i.indoption[u.place - 1] & 1 = 1,
					'plain', (SELECT opcdefault FROM pg_opclass WHERE pg_opclass.oid = i.indclass[u.place - 1]) AND
						i.indoption[u.place - 1] IN (0, 3) AND i.indcollation[u.place - 1] IN (0, coalesce(a.attcollation, 100))) ORDER BY u.place)
				FROM unnest(i.indkey::int2[]) WITH ORDINALITY u (attnum, place) LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.attnum AND u.attnum > 0
				WHERE u.place <= i.indnkeyatts)) ORDER BY x.oid)
		FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
		LEFT JOIN pg_constraint k ON k.conindid = x.oid AND k.conrelid = c.oid AND k.contype = 'x'
		WHERE i.indrelid = c.oid AND i.indisvalid),
	'foreign_keys', (SELECT jsonb_agg(jsonb_build_object('name', k.conname, 'schema', pn.nspname, 'table', p.relname,
			'on_delete', k.confdeltype, 'on_update', k.confupdtype,
			'columns', (SELECT jsonb_agg(a.attname ORDER BY u.place) FROM unnest(k.conkey) WITH ORDINALITY u (attnum, place)
				JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum),
			'parents', (SELECT jsonb_agg(a.attname ORDER BY u.place) FROM unnest(k.confkey) WITH ORDINALITY u (attnum, place)
				JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum)) ORDER BY k.conname)
		FROM pg_constraint k JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
		WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.conparentid = 0),
	'checks', (SELECT jsonb_agg(jsonb_build_object('name', k.conname, 'text', pg_get_expr(k.conbin, k.conrelid)) ORDER BY k.conname)
		FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c')))`

// postgresFactsOf are the tables that facts are read of: those of ReadPostgres.
const postgresFactsOf = `pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
	  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> '` + schema.OwnSchema + `'
	  AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.deptype = 'e')`

// postgresFactsPath is the search_path under which facts are written.
const postgresFactsPath = "pg_catalog, pg_temp"

// readPostgresFacts sets search_path for itself alone, in a transaction of whoever asks, too: a trigger of an application that fires
// there later must not find it changed. The sets are in the order of their data: pinned before any fact is looked for, restored
// behind the last.
const readPostgresFacts = `
	WITH was AS MATERIALIZED (SELECT current_setting('search_path') AS path),
	pinned AS MATERIALIZED (SELECT path, set_config('search_path', '` + postgresFactsPath + `', true) FROM was),
	facts AS MATERIALIZED (
		SELECT c.oid, n.nspname::text, c.relname::text, (` + postgresFacts + `)::text AS facts
		FROM pinned CROSS JOIN ` + postgresFactsOf + ` AND ($1::oid[] IS NULL OR c.oid = ANY($1))),
	restored AS MATERIALIZED (SELECT set_config('search_path', (SELECT path FROM pinned), true) FROM (SELECT count(*) FROM facts) all_of_them)
	SELECT facts.* FROM restored CROSS JOIN facts ORDER BY 2, 3`

// PostgresFacts is what a Postgres' catalog says of a table, as the table of definitions keeps it.
type PostgresFacts struct {
	OID          uint32
	Schema, Name string // as the database calls it
	Text         string // see ParsePostgresDefinition
}

// ReadPostgresFacts reads the facts of those of the tables that are there and that an application may write; of all when oids is
// nil. The session has the settings of PostgresSession.
func ReadPostgresFacts(ctx context.Context, q PostgresQuerier, oids []uint32) ([]PostgresFacts, error) {
	rows, err := q.Query(ctx, readPostgresFacts, oids)
	if err != nil {
		return nil, fmt.Errorf("read definitions: %w", err)
	}
	facts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[PostgresFacts])
	if err != nil {
		return nil, fmt.Errorf("read definitions: %w", err)
	}
	return facts, nil
}

// ReadPostgresDefinitions reads the definitions of all tables that an application may write, by the database's number of each.
func ReadPostgresDefinitions(ctx context.Context, q PostgresQuerier, defaultSchema string) (map[uint32]*schema.Definition, error) {
	facts, err := ReadPostgresFacts(ctx, q, nil)
	if err != nil {
		return nil, err
	}
	all := make(map[uint32]*schema.Definition, len(facts))
	for _, f := range facts {
		if all[f.OID], err = ParsePostgresDefinition(f.Text, defaultSchema); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// ReadPostgresDefinition reads the definition of one table; nil when there is none of that name.
func ReadPostgresDefinition(ctx context.Context, q PostgresQuerier, defaultSchema string, name schema.TableName) (*schema.Definition, error) {
	own := name.Schema
	if own == "" {
		own = defaultSchema
	}
	rows, err := q.Query(ctx, `SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`, own, name.Name)
	if err != nil {
		return nil, fmt.Errorf("look for table %s: %w", name, err)
	}
	oids, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	if err != nil || len(oids) == 0 {
		return nil, err
	}
	facts, err := ReadPostgresFacts(ctx, q, oids)
	if err != nil || len(facts) == 0 {
		return nil, err
	}
	return ParsePostgresDefinition(facts[0].Text, defaultSchema)
}

type (
	factsTable struct {
		Schema, Name, Identity, Comment string
		Usable                          bool
		Columns                         []factsColumn
		Indexes                         []factsIndex
		ForeignKeys                     []factsForeignKey `json:"foreign_keys"`
		Checks                          []struct{ Name, Text string }
	}
	factsColumn struct {
		ID                                                  int
		Name, Native, Default, Generated, Identity, Comment string
		Type                                                uint32
		Modifier                                            int32
		NotNull                                             bool `json:"not_null"`
		Serial                                              bool
		Base                                                *factsBase
	}
	factsBase struct {
		OID          uint32
		Modifier     int32
		Enum         bool
		Name, Native string
		Labels       []string
	}
	factsIndex struct {
		Name, Method, Where, Exclusion, Clause      string
		Primary, Unique, Immediate, Identity, Plain bool
		Parts                                       []struct {
			Column, Expression string
			Descending, Plain  bool
		}
	}
	factsForeignKey struct {
		Name, Schema, Table string
		OnDelete            string `json:"on_delete"`
		OnUpdate            string `json:"on_update"`
		Columns, Parents    []string
	}
)

// recomputes is the same as in defineBody.
var recomputes = regexp.MustCompile(`(?is)alter[^;]*type[^;]*using`)

// PostgresRowsMoved reports whether rows came to a table, or left it, without a word in the log, between two of its facts: with a
// partition, of which one that a plain CREATE TABLE made is empty; or whether all that it did was to compute values anew. The
// statement may be empty: then nobody knows it.
func PostgresRowsMoved(was, is, statement string) bool {
	if was == is {
		return recomputes.MatchString(statement)
	}
	before, now := postgresPartitions(was), postgresPartitions(is)
	lacks := func(parts []uint32) func(uint32) bool {
		return func(oid uint32) bool { return !slices.Contains(parts, oid) }
	}
	return slices.ContainsFunc(before, lacks(now)) || !schema.PlainCreate(statement) && slices.ContainsFunc(now, lacks(before))
}

func postgresPartitions(facts string) []uint32 {
	var f struct{ Partitions []uint32 }
	if json.Unmarshal([]byte(facts), &f) != nil { // of a table without any
		return nil
	}
	return f.Partitions
}

// ParsePostgresDefinition makes a definition of a table's facts. Its Table is what capture announces for the table's rows, generated
// columns apart, which the log may not have.
func ParsePostgresDefinition(text, defaultSchema string) (*schema.Definition, error) {
	var f factsTable
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return nil, fmt.Errorf("a table's definition: %w", err)
	}
	t := postgresTable{Table: Table{Table: &schema.Table{TableName: PostgresName(f.Schema, f.Name, defaultSchema), Engine: schema.Postgres}, OwnSchema: f.Schema}}
	t.ReplicaIdentity = map[string]string{"d": "default", "n": "nothing", "f": "full"}[f.Identity]
	if t.ReplicaIdentity == "" {
		t.ReplicaIdentity = "index"
	}
	for i := range f.Columns {
		t.Columns = append(t.Columns, f.Columns[i].column(defaultSchema))
	}
	chosen := f.chooseKey(&t)
	d := &schema.Definition{Table: t.complete().Table, Comment: f.Comment}
	e := postgresExpressions{table: d.Table, defaultSchema: defaultSchema}
	for i := range f.Columns {
		d.Details = append(d.Details, f.Columns[i].detail(&e, &d.Columns[i]))
	}
	for i := range f.Indexes {
		if x := &f.Indexes[i]; x.Name != chosen {
			d.Indexes = append(d.Indexes, x.index(&e))
		}
	}
	for i := range f.ForeignKeys {
		d.ForeignKeys = append(d.ForeignKeys, f.ForeignKeys[i].key(defaultSchema))
	}
	for _, c := range f.Checks {
		d.Checks = append(d.Checks, schema.Check{Name: c.Name, Expression: e.portable(c.Text)})
	}
	if err := d.Validate(); err != nil {
		return nil, err
	}
	return d, nil
}

// PostgresUsable reports whether a table with those facts can be captured: whether the log tells its rows apart.
func PostgresUsable(text string) bool {
	var f struct{ Usable bool }
	return json.Unmarshal([]byte(text), &f) == nil && f.Usable
}

// PostgresAnnounced reports whether the log announced a table as it is with those facts. Without publish_generated_columns the log does
// not have what is computed.
func PostgresAnnounced(text string, rel Relation) bool {
	var f factsTable
	if json.Unmarshal([]byte(text), &f) != nil || f.Schema != rel.Schema || f.Name != rel.Name {
		return false
	}
	same := func(c factsColumn, r RelationColumn) bool {
		return c.Name == r.Name && c.Type == r.Type && c.Modifier == r.Modifier
	}
	given := slices.DeleteFunc(slices.Clone(f.Columns), func(c factsColumn) bool { return c.Generated != "" })
	return slices.EqualFunc(f.Columns, rel.Columns, same) || slices.EqualFunc(given, rel.Columns, same)
}

func (c *factsColumn) column(defaultSchema string) schema.Column {
	column := schema.Column{
		Name: c.Name, Native: unqualified(c.Native, defaultSchema), Nullable: !c.NotNull, Generated: c.Generated != "", Identity: c.Identity == "a",
	}
	types := postgresTypes{}
	if _, builtIn := postgresKinds[c.Type]; !builtIn && c.Base != nil {
		types[c.Type] = postgresType{base: c.Base.OID, modifier: c.Base.Modifier, enum: c.Base.Enum, name: c.Base.Name, labels: c.Base.Labels}
	}
	types.describe(&column, c.Type, c.Modifier)
	return column
}

// unqualified is a name without the schema that every session of an ordinary database finds it in.
func unqualified(name, defaultSchema string) string {
	for _, s := range []string{defaultSchema, quotePostgres(defaultSchema)} {
		if rest, ok := strings.CutPrefix(name, s+"."); ok {
			return rest
		}
	}
	return name
}

func (c *factsColumn) detail(e *postgresExpressions, column *schema.Column) schema.ColumnDetail {
	d := schema.ColumnDetail{ID: c.ID, Comment: c.Comment, Serial: c.Serial && plainNextval(c.Default) || c.Identity != ""}
	switch {
	case c.Generated != "":
		d.Computed, d.Stored = e.portable(c.Default), c.Generated == "s"
	case !d.Serial && c.Default != "":
		native := baseName(c.Native)
		if c.Base != nil {
			native = c.Base.Native
		}
		d.Default = e.defaultOf(c.Default, column, native)
	}
	return d
}

// chooseKey hands the indexes that may be the key to t.complete, and returns the name of the one that it will choose: the table's key is
// no index of its own in a definition.
func (f *factsTable) chooseKey(t *postgresTable) string {
	var names []string
	for i := range f.Indexes {
		x := &f.Indexes[i]
		p := postgresIndex{primary: x.Primary, identity: x.Identity, immediate: x.Immediate, notNull: true}
		for _, part := range x.Parts {
			at := t.Column(part.Column)
			p.columns = append(p.columns, at)
			if at >= 0 && t.Columns[at].Nullable {
				p.notNull = false
			}
			if part.Expression != "" {
				p.columns = nil
				break
			}
		}
		if x.Unique && x.Where == "" && p.columns != nil {
			t.indexes, names = append(t.indexes, p), append(names, x.Name)
		}
	}
	if choice := t.choose(); choice >= 0 {
		return names[choice]
	}
	return ""
}

func (x *factsIndex) index(e *postgresExpressions) schema.Index {
	index := schema.Index{Name: x.Name, Unique: x.Unique}
	plain := x.Plain && x.Method == "btree" && x.Exclusion == ""
	for _, p := range x.Parts {
		part := schema.IndexPart{Column: p.Column, Descending: p.Descending}
		if p.Expression != "" {
			part.Expression = e.portable(p.Expression)
		}
		plain = plain && p.Plain
		index.Parts = append(index.Parts, part)
	}
	if x.Where != "" {
		index.Where = e.portable(x.Where)
	}
	switch {
	case x.Exclusion != "":
		index.Method, index.Native = "exclude", x.Exclusion
	case !plain:
		index.Native = x.Clause
	}
	if x.Method != "btree" && index.Method == "" {
		index.Method = x.Method
	}
	return index
}

func (k *factsForeignKey) key(defaultSchema string) schema.ForeignKey {
	actions := map[string]schema.Action{"c": schema.Cascade, "n": schema.SetNull, "d": schema.SetDefault}
	return schema.ForeignKey{
		Name: k.Name, Columns: k.Columns, Parent: PostgresName(k.Schema, k.Table, defaultSchema), ParentColumns: k.Parents,
		OnDelete: actions[k.OnDelete], OnUpdate: actions[k.OnUpdate],
	}
}
