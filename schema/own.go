package schema

// What is ours in an office's database: everything stands in the schema (MySQL: database) OwnSchema.
const (
	OwnSchema = "cdc_sidecar"
	// ProgressTable has one row for each (office, origin): how far the office has applied the origin's stream. Its row is
	// the first write of every apply transaction, and so the position, the fence against a second sidecar, the answer to
	// an unknown COMMIT, and the tag by which capture knows an apply from an application's write.
	ProgressTable = "progress"
	// OfficesTable, at the head, has one row for each member.
	OfficesTable = "offices"
)

// The columns of ProgressTable, in order. The key is (office, origin): offices may share a MySQL server.
const (
	ProgressOffice       = "office"        // text(40): whose database this is
	ProgressOrigin       = "origin"        // text(40): whose stream was applied
	ProgressEpoch        = "epoch"         // bigint: the stream's epoch
	ProgressSeq          = "seq"           // bigint: the last seq applied, in that stream
	ProgressStampMillis  = "stamp_millis"  // bigint: the stamp of the transaction applied
	ProgressStampCounter = "stamp_counter" // bigint
	ProgressCommitted    = "committed"     // bigint: its commit time at the origin, microseconds since the Unix epoch
	ProgressWaits        = "waits"         // bigint: at a branch, the oldest seq of which a change is parked; 0: none
	ProgressChunks       = "chunks"        // bigint: counts the chunks applied; their transactions move nothing else
	ProgressPart         = "part"          // bigint: changes of the transaction behind seq that are committed, where it is in pieces
)

// JournalTable has one row for each office: the epoch of the journal that this database belongs to. Another journal
// (its volume lost, a copied configuration) is noticed by it before anything moves.
const JournalTable = "journal" // office text(40) primary key, epoch bigint, began text(20)

// How a journal's life began, in JournalTable: an empty word for the first.
const (
	BeganLost     = "lost"     // the former log or journal could not be followed; the database is the same
	BeganRestored = "restored" // the database had gone back to an earlier state
)

// BarrierTable has one row for each office: a number that only rises. Its change in the office's own log marks the place
// that a decision waits for.
const (
	BarrierTable  = "barrier" // office text(40) primary key, mark bigint
	BarrierOffice = "office"
	BarrierMark   = "mark"
)

// ConflictsTable, at the head, is the conflict log. A row that is inserted together with an apply carries in
// ConflictResolution the rows as they stand: a Batch of one transaction whose changes are Decided.
const (
	ConflictsTable     = "conflicts"
	ConflictID         = "id"             // bigint, given by the database
	ConflictOffice     = "office"         // text(40): whose log this is, the head
	ConflictDecidedAt  = "decided_at"     // bigint: microseconds since the Unix epoch
	ConflictTable      = "table_name"     // text: as the fleet calls it
	ConflictKey        = "row_key"        // text: id=7
	ConflictKind       = "kind"           // text(40): update/update …, head first; unique
	ConflictPolicy     = "policy"         // text(200): as it was decided
	ConflictWinner     = "winner"         // text(10): local, remote, merged, none (it waits)
	ConflictState      = "state"          // text(10): decided, open (waits for a person), parked, resolved
	ConflictLocal      = "local_image"    // JSON object of the head's row before; null when there was none
	ConflictBefore     = "remote_before"  // JSON object of what the other office's log had of its row before; may be null
	ConflictRemote     = "remote_image"   // JSON object of the other office's row; null when it was deleted
	ConflictResult     = "result_image"   // JSON object of the row as it stands; null when there is none
	ConflictLocalBy    = "local_origin"   // text(40)
	ConflictLocalMs    = "local_millis"   // bigint: its stamp
	ConflictLocalCount = "local_counter"  // bigint
	ConflictBy         = "remote_origin"  // text(40)
	ConflictMs         = "remote_millis"  // bigint
	ConflictCount      = "remote_counter" // bigint
	ConflictEpoch      = "remote_epoch"   // bigint: the other office's transaction
	ConflictSeq        = "remote_seq"     // bigint
	ConflictResolution = "resolution"     // bytes; null when nothing is to be said
	ConflictResolvedAt = "resolved_at"    // bigint: microseconds; 0: not
	ConflictTaken      = "taken"          // text(10): local or remote, by a person
)

// ParkedTable has the changes that wait because another row here has their unique key, and those behind them of the same
// rows. They are in order of ParkedID.
const (
	ParkedTable  = "parked"
	ParkedID     = "id"         // bigint, given by the database
	ParkedOffice = "office"     // text(40): where they wait
	ParkedRow    = "row_id"     // text(32): RowID in hexadecimal
	ParkedName   = "table_name" // text: as the fleet calls it
	ParkedKey    = "row_key"    // text: id=7
	ParkedReason = "reason"     // text: what the database said
	ParkedAt     = "parked_at"  // bigint: microseconds since the Unix epoch
	ParkedChange = "body"       // bytes: a Batch of one transaction with one change
	ParkedEntry  = "conflict"   // bigint: ConflictID of the entry that tells of it; 0: none
)

// JoinsTable has, at a branch, one row for each table that is being made equal to the head's, or was. A change of it in the
// office's own log says from where on the office's own changes of the table are blind (Change.Blind), and until where.
const (
	JoinsTable  = "joins"
	JoinOffice  = "office"     // text(40): the branch
	JoinName    = "table_name" // text(200): as the fleet calls it; JoinAll: all that have no row of their own
	JoinPending = "pending"    // bigint: 1 while the table is being joined, 0 behind it
	JoinEpoch   = "epoch"      // bigint: the head's position of the last chunk applied
	JoinSeq     = "seq"        // bigint
	JoinTouched = "touched"    // bigint: counts what would change nothing else
	JoinState   = "state"      // text: how far it is, as JSON of the room that does it
	JoinAll     = "*"
)

// ClaimsTable brings rows into the stream that no application has written just now: what a comparison found here alone. Its
// rows are deleted in the transaction that inserts them; capture turns them into a transaction of the office.
const (
	ClaimsTable = "claims"
	ClaimID     = "id"     // bigint, given by the database
	ClaimOffice = "office" // text(40)
	ClaimBody   = "body"   // bytes: a Batch of one transaction
)

// DefinitionsTable has what the office's tables were when capture last looked, one row for each table. At a Postgres its rows are
// written by event triggers, in the transaction that changes the table, and their place in the log is the change's.
const (
	DefinitionsTable     = "definitions"
	DefinitionOffice     = "office"      // text(40): empty at a Postgres, where they are the database's
	DefinitionID         = "table_id"    // text(200): Postgres: the table's oid; elsewhere schema.table
	DefinitionSchema     = "schema_name" // text(64): as the database calls it
	DefinitionName       = "table_name"  // text(64)
	DefinitionDefinition = "definition"  // JSON: at a Postgres what cdc_sidecar.describe says, elsewhere a Definition
	DefinitionStatement  = "statement"   // text: what somebody typed last; may be empty, and cut
)

// DDLTable has one row for each step of a schema change that the office did, holds, left out or could not do.
const (
	DDLTable     = "ddl"
	DDLID        = "id"         // bigint, given by the database
	DDLOffice    = "office"     // text(40): where the step was to be done
	DDLOrigin    = "origin"     // text(40): whose schema change it is
	DDLEpoch     = "epoch"      // bigint: its place in that office's stream
	DDLSeq       = "seq"        // bigint
	DDLName      = "table_name" // text: as the fleet calls it
	DDLStep      = "step"       // text(40): StepKind
	DDLSubject   = "subject"    // text(200): the column's, index's or constraint's name; may be empty
	DDLWas       = "was_name"   // text(200): of a rename, the former name
	DDLStatement = "statement"  // text: as it is written for this database
	DDLState     = "state"      // text(10): see the states
	DDLReason    = "reason"     // text: why it is in that state
	DDLBefore    = "before_fp"  // bigint: the bits of the definition's Fingerprint here before; 0: there was no table
	DDLAfter     = "after_fp"   // bigint: behind it
	DDLAt        = "at"         // bigint: microseconds since the Unix epoch
	DDLBody      = "body"       // bytes: a Batch of one transaction with the Change; null where nothing is left to do
)

// The states of a step, in DDLState.
const (
	DDLPending = "pending" // it is being done
	DDLDone    = "done"
	DDLHeld    = "held"    // it waits for a person
	DDLIgnored = "ignored" // it is not to be done here
	DDLNotice  = "notice"  // it means nothing here, or says something that a person has to know
	DDLFailed  = "failed"
)

// OwnTables are all tables of OwnSchema, as every office has them; the journal's last: its row says whether anything is left.
var OwnTables = []string{ProgressTable, OfficesTable, BarrierTable, ConflictsTable, ParkedTable, JoinsTable, ClaimsTable, DefinitionsTable, DDLTable, JournalTable}

// Published reports whether an office's own log must have what is written to that table of OwnSchema.
func Published(table string) bool {
	switch table {
	case ProgressTable, BarrierTable, ConflictsTable, JoinsTable, ClaimsTable, DefinitionsTable:
		return true
	}
	return false
}
