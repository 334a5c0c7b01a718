package catalog

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
)

// PostgresTriggerNames are the event triggers of PostgresTriggers.
var PostgresTriggerNames = []string{"cdc_sidecar_ddl", "cdc_sidecar_drop"}

// PostgresFunctions make the functions that the event triggers of PostgresTriggers call, and say in a comment which they are. Each
// statement may run again.
//
// The triggers keep the table of definitions, in the transaction that changes a table, and add a new table with a usable key to the
// publications of the database's offices, so that its first row is sent. Their functions run with the rights of who made them, which
// should be whoever makes the triggers; nothing that fails in them makes an application's statement fail, and they wait for no
// lock for long. What they could not note they leave a row without a number for, and capture looks for itself.
func PostgresFunctions() []string {
	statements := []string{
		functionSQL("describe(tab oid) RETURNS jsonb LANGUAGE sql STABLE", false,
			"SELECT "+postgresFacts+" FROM "+postgresFactsOf+" AND c.oid = tab"),
		functionSQL("define(tabs oid[], said text) RETURNS void LANGUAGE plpgsql", false, defineBody),
		functionSQL("publish(space text, name text) RETURNS void LANGUAGE plpgsql", false, publishBody),
		functionSQL("missed(why text) RETURNS void LANGUAGE plpgsql", false, missedBody),
		functionSQL("on_ddl() RETURNS event_trigger LANGUAGE plpgsql", true, onDDLBody),
		functionSQL("on_drop() RETURNS event_trigger LANGUAGE plpgsql", true, onDropBody),
	}
	return append(statements, "COMMENT ON FUNCTION cdc_sidecar.on_ddl() IS '"+PostgresFunctionsMark()+"'")
}

// PostgresFunctionsMark tells these functions from those of other versions.
func PostgresFunctionsMark() string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(strings.Join([]string{postgresFacts, postgresFactsOf, defineBody, publishBody, missedBody, onDDLBody, onDropBody, functionSettings()}, "\n")))
	return fmt.Sprintf("cdc-sidecar %016x", h.Sum64())
}

// PostgresTriggers make the event triggers, which take a superuser. They fire in sessions of an apply, too, whose replica role
// switches others off.
func PostgresTriggers() []string {
	return []string{
		"DROP EVENT TRIGGER IF EXISTS cdc_sidecar_ddl",
		"CREATE EVENT TRIGGER cdc_sidecar_ddl ON ddl_command_end WHEN TAG IN (" + ddlTags + ") EXECUTE FUNCTION cdc_sidecar.on_ddl()",
		"ALTER EVENT TRIGGER cdc_sidecar_ddl ENABLE ALWAYS",
		"DROP EVENT TRIGGER IF EXISTS cdc_sidecar_drop",
		"CREATE EVENT TRIGGER cdc_sidecar_drop ON sql_drop EXECUTE FUNCTION cdc_sidecar.on_drop()",
		"ALTER EVENT TRIGGER cdc_sidecar_drop ENABLE ALWAYS",
	}
}

// ddlTags are the statements that may change a table. Our own ALTER PUBLICATION must not be among them.
const ddlTags = `'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE', 'CREATE INDEX', 'ALTER INDEX', 'COMMENT', 'ALTER TYPE',
	'ALTER DOMAIN', 'CREATE SCHEMA', 'ALTER SCHEMA', 'CREATE SEQUENCE', 'ALTER SEQUENCE', 'ALTER EXTENSION'`

// functionSettings pin whatever changes how the catalog's expressions are written, and what names mean.
func functionSettings() string {
	settings := PostgresSession()
	delete(settings, "client_encoding") // it changes nothing on the server
	settings["standard_conforming_strings"], settings["quote_all_identifiers"], settings["lock_timeout"] = "on", "off", "2s"
	text := " SET search_path = " + postgresFactsPath
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		text += fmt.Sprintf(" SET %q = '%s'", strings.ToLower(name), settings[name])
	}
	return text
}

func functionSQL(head string, definer bool, body string) string {
	if definer {
		head += " SECURITY DEFINER"
	}
	return "CREATE OR REPLACE FUNCTION cdc_sidecar." + head + functionSettings() + " AS $cdc$" + body + "$cdc$"
}

// defineBody makes the rows of tables what the catalog says, of statements that are under way. A table that cannot be captured keeps
// the row that it had when it could. A row that is right is not even locked: two statements on partitions of one table may be under
// way. Nothing said: it is no news, for instance because another table's name is part of it. A deleted row says who deleted it by
// what it was last.
const defineBody = `
DECLARE tab oid; facts jsonb; was record;
BEGIN
	FOR tab IN SELECT DISTINCT t FROM unnest(tabs) t ORDER BY t LOOP
		facts := cdc_sidecar.describe(tab);
		SELECT d.definition, d.schema_name, d.table_name INTO was FROM cdc_sidecar.definitions d WHERE d.office = '' AND d.table_id = tab::text;
		IF facts IS NULL THEN
			IF FOUND THEN
				UPDATE cdc_sidecar.definitions d SET statement = said WHERE d.office = '' AND d.table_id = tab::text AND d.statement <> said;
				DELETE FROM cdc_sidecar.definitions d WHERE d.office = '' AND d.table_id = tab::text;
			END IF;
		ELSIF NOT (facts ->> 'usable')::boolean THEN
			CONTINUE;
		ELSIF NOT FOUND THEN
			IF said <> '' THEN
				INSERT INTO cdc_sidecar.definitions (office, table_id, schema_name, table_name, definition, statement)
				VALUES ('', tab::text, facts ->> 'schema', facts ->> 'name', facts::text, said);
				PERFORM cdc_sidecar.publish(facts ->> 'schema', facts ->> 'name');
			END IF;
		ELSIF was.definition <> facts::text OR said ~* 'alter[^;]*type[^;]*using' THEN
			UPDATE cdc_sidecar.definitions d SET schema_name = facts ->> 'schema', table_name = facts ->> 'name', definition = facts::text, statement = said
			WHERE d.office = '' AND d.table_id = tab::text;
		END IF;
	END LOOP;
END`

// publishBody adds a table to the publications of all offices here. Capture takes it out again where it is not to be sent.
const publishBody = `
DECLARE publication name;
BEGIN
	FOR publication IN SELECT pubname FROM pg_publication WHERE pubname LIKE 'cdc\_sidecar\_%' AND NOT puballtables LOOP
		BEGIN
			EXECUTE format('ALTER PUBLICATION %I ADD TABLE %I.%I', publication, space, name);
		EXCEPTION WHEN duplicate_object THEN
			NULL;
		WHEN OTHERS THEN
			RAISE LOG 'cdc_sidecar: table %.% is not published yet: %', space, name, SQLERRM;
		END;
	END LOOP;
END`

const missedBody = `
BEGIN
	RAISE LOG 'cdc_sidecar: a schema change was not noted: %', why;
	INSERT INTO cdc_sidecar.definitions (office, table_id, schema_name, table_name, definition, statement)
	VALUES ('', '', '', '', '', why) ON CONFLICT DO NOTHING;
EXCEPTION WHEN OTHERS THEN
	NULL;
END`

// onDDLBody finds the tables that a statement touched: those named, their heirs, the roots of partitions, those of indexes and of
// owned sequences, all with columns of a type that was changed, all in a schema that was renamed, and what was attached as a partition
// or is none any more. Tables whose foreign keys
// name one of them have the new name, too, and nobody needs to hear of that.
const onDDLBody = `
DECLARE touched oid[]; others oid[];
BEGIN
	WITH RECURSIVE named AS (
		SELECT c.classid, c.objid FROM pg_event_trigger_ddl_commands() c WHERE NOT c.in_extension AND c.schema_name IS DISTINCT FROM 'pg_temp'),
	types (oid) AS (
		SELECT objid FROM named WHERE classid = 'pg_type'::regclass
		UNION SELECT y.oid FROM pg_type y JOIN types ON y.typtype = 'd' AND y.typbasetype = types.oid OR y.typcategory = 'A' AND y.typelem = types.oid),
	direct (oid) AS (
		SELECT c.oid FROM named JOIN pg_class c ON c.oid = objid WHERE classid = 'pg_class'::regclass AND c.relkind IN ('r', 'p')
		UNION SELECT i.indrelid FROM named JOIN pg_index i ON i.indexrelid = objid WHERE classid = 'pg_class'::regclass
		UNION SELECT d.refobjid FROM named JOIN pg_depend d ON d.classid = named.classid AND d.objid = named.objid AND d.deptype IN ('a', 'i')
			AND d.refclassid = 'pg_class'::regclass WHERE named.classid = 'pg_class'::regclass
		UNION SELECT k.conrelid FROM named JOIN pg_constraint k ON k.oid = objid WHERE classid = 'pg_constraint'::regclass AND k.conrelid <> 0
		UNION SELECT a.attrelid FROM types JOIN pg_attribute a ON a.atttypid = types.oid AND NOT a.attisdropped
		UNION SELECT c.oid FROM named JOIN pg_class c ON c.relnamespace = objid WHERE classid = 'pg_namespace'::regclass AND c.relkind IN ('r', 'p')),
	heirs (oid) AS (
		SELECT oid FROM direct UNION SELECT i.inhrelid FROM pg_inherits i JOIN heirs ON i.inhparent = heirs.oid)
	SELECT array_agg(DISTINCT CASE WHEN c.relispartition THEN pg_partition_root(c.oid)::oid ELSE c.oid END) INTO touched
	FROM heirs JOIN pg_class c ON c.oid = heirs.oid WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't';
	IF touched IS NULL THEN
		RETURN;
	END IF;
	WITH before (part) AS (
		SELECT jsonb_path_query(d.definition::jsonb, '$.partitions[*]')::text::oid FROM cdc_sidecar.definitions d
		WHERE d.office = '' AND d.table_id = ANY (touched::text[])),
	now (part) AS (
		SELECT p.relid::oid FROM pg_class c CROSS JOIN pg_partition_tree(c.oid) p WHERE c.oid = ANY (touched) AND c.relkind = 'p' AND p.relid <> c.oid)
	SELECT touched || coalesce(array_agg(part), '{}') INTO touched
	FROM ((TABLE before EXCEPT TABLE now) UNION ALL (TABLE now EXCEPT TABLE before)) moved;
	PERFORM cdc_sidecar.define(touched, coalesce(nullif(left(current_query(), 2000), ''), tg_tag));
	SELECT array_agg(k.conrelid) INTO others FROM pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confrelid = ANY (touched)
		AND NOT k.conrelid = ANY (touched);
	PERFORM cdc_sidecar.define(others, '');
EXCEPTION WHEN OTHERS THEN
	PERFORM cdc_sidecar.missed(SQLERRM);
END`

// onDropBody finds the tables that a statement dropped or took something away from. What is gone cannot be looked up: the table of a
// dropped index or partition is the one whose definition has its number, which is looked for only where the statement named it,
// for it takes a look at every definition. A type can only go with its columns, which are named.
const onDropBody = `
DECLARE touched oid[]; lost text[];
BEGIN
	WITH gone AS (
		SELECT o.classid, o.objid, o.objsubid, o.object_type, o.address_names, o.original OR o.normal AS named FROM pg_event_trigger_dropped_objects() o
		WHERE NOT o.is_temporary AND o.object_type IN ('table', 'index', 'table column', 'table constraint', 'default value')),
	tabs (tab) AS (
		SELECT objid FROM gone WHERE object_type IN ('table', 'table column')
		UNION SELECT to_regclass(format('%I.%I', address_names[1], address_names[2]))::oid FROM gone WHERE object_type IN ('table constraint', 'default value'))
	SELECT (SELECT array_agg(tab) FROM tabs WHERE tab IS NOT NULL),
		(SELECT array_agg(objid::text) FROM gone WHERE named AND (object_type = 'index' OR object_type = 'table' AND NOT EXISTS (
			SELECT FROM cdc_sidecar.definitions d WHERE d.office = '' AND d.table_id = objid::text)))
	INTO touched, lost;
	IF lost IS NOT NULL THEN
		SELECT touched || array_agg(d.table_id::oid) INTO touched FROM cdc_sidecar.definitions d
		WHERE d.office = '' AND d.table_id <> '' AND EXISTS (
			SELECT FROM (
				SELECT jsonb_path_query(d.definition::jsonb, '$.indexes[*].index_oid') UNION ALL SELECT jsonb_path_query(d.definition::jsonb, '$.partitions[*]')) of (number)
			WHERE number::text = ANY (lost));
	END IF;
	IF touched IS NOT NULL THEN
		PERFORM cdc_sidecar.define(touched, coalesce(nullif(left(current_query(), 2000), ''), tg_tag));
	END IF;
EXCEPTION WHEN OTHERS THEN
	PERFORM cdc_sidecar.missed(SQLERRM);
END`
