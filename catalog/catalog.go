// Package catalog reads table definitions from a live database: what capture and apply need to know of a table besides
// what the log says of it. It lies under both, so that the two agree on kinds, keys and names.
package catalog

import "cdc-sidecar/schema"

// Table is a table as the database defines it at this moment.
type Table struct {
	*schema.Table
	// OwnSchema is the schema as the database calls it (MySQL: the database), where TableName may have none.
	OwnSchema string
	// Unique are the unique keys besides Table.Key, as column indexes. Those over expressions or with a predicate are left
	// out: they cannot be told by columns.
	Unique [][]int
	// ReplicaIdentity is Postgres' word for what its log has of an old row: default, nothing, full or index. Empty elsewhere.
	ReplicaIdentity string
	// KeyLogged says that Postgres' log identifies updated and deleted rows by Key. Where it does not, publishing the table
	// would make the application's updates and deletes fail. False elsewhere.
	KeyLogged bool
	// Unlogged says that the table never reaches Postgres' log at all.
	Unlogged bool
	// StorageEngine is MySQL's InnoDB, MyISAM …; empty elsewhere.
	StorageEngine string
	Partitioned   bool
	// PartialOld are the tables, quoted and with their schema, that Postgres' log does not have whole old rows of: this one
	// and its partitions, as far as REPLICA IDENTITY FULL has not been said of them. Empty elsewhere.
	PartialOld []string
	// Sequences are the columns whose values the database gives by itself, in the order of the columns.
	Sequences []Sequence
	// Triggers are the names of the triggers that an application put on the table and that are switched on.
	Triggers []string
	// Guarded are those of them, in MySQL and MariaDB, that ask @cdc_sidecar_apply, which is 1 where rows of other offices are written.
	Guarded []string
	// Fires says that one of them fires for Postgres' replica role, too. False elsewhere.
	Fires bool
	// Referrers are the foreign keys that refer to this table. Of a table that is read alone, a MySQL's are not read.
	Referrers []Referrer
	// OID is Postgres' number of the table; zero elsewhere.
	OID uint32
	// Types are Postgres' types of the columns, one for each; nil elsewhere.
	Types []PostgresType
	// Inherited says that other Postgres tables hold rows of this one: partitions, or heirs by INHERITS. It may say so for a
	// while after the last of them went. False elsewhere.
	Inherited bool
}

// PostgresType is a column's type as the server knows it.
type PostgresType struct {
	OID uint32
	// Cast is the type's name without a length, quoted, where a text cast to it becomes what the type's own input makes of
	// that text, neither cut nor padded: empty for domains, and for types with a cast from text of their own.
	Cast string
}
