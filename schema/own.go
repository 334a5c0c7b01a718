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
)

// JournalTable has one row for each office: the epoch of the journal that this database belongs to. Another journal
// (its volume lost, a copied configuration) is noticed by it before anything moves.
const JournalTable = "journal" // office text(40) primary key, epoch bigint
