package capture

import (
	"encoding/binary"
	"fmt"
	"time"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// postgresDecoder turns pgoutput messages (protocol 1, text) into transactions. It does no I/O but through define.
type postgresDecoder struct {
	assembler
	send   func(schema.TableName) bool
	own    func(schema.TableName) bool // those of send of which what this office's applications write goes out; nil: all
	source func(lsn uint64) string
	// define completes a relation the first time that a change of it comes: partitions are announced beside their root,
	// and never used.
	define func(catalog.Relation) (*schema.Table, error)

	definitions   bool // schema changes are sent, too
	defaultSchema string
	blind         *blindDefiner // nil: event triggers note them
	// facts asks the catalog for a table's definition; empty when the table is gone or cannot be captured.
	facts func(oid uint32) (string, error)

	relations map[uint32]*postgresRelation // of this session, as the protocol wants it
	open      bool                         // between begin and commit

	values []schema.Value // slab: a row costs no allocation of its own
	reader postgresReader // of the message at hand
}

const (
	slabValues  = 1024 // some 24 KiB
	slabChanges = 256  // some 16 KiB
)

// postgresRelation is a table as the log announced it.
type postgresRelation struct {
	announced catalog.Relation
	table     *schema.Table // nil before the first change
	captured  bool
	passing   bool                                // only what was applied of other offices is sent on
	canonical []func(text string) (string, error) // of each column; nil: as written
	own       *ownTable                           // nil: an application's table, or one of ours that says nothing
	rows      *definitionRows                     // of the table of definitions; nil: another
	compared  bool                                // with what is known of it
}

// decode takes one message in. Its error is a *schema.BrokenError where the message is not understood.
func (d *postgresDecoder) decode(message []byte) error {
	if len(message) == 0 {
		return brokenMessage(0, "it is empty")
	}
	d.reader = postgresReader{b: message, at: 1}
	r := &d.reader
	var err error
	switch message[0] {
	case 'B':
		err = d.begin(r)
	case 'C':
		err = d.commit(r)
	case 'R':
		d.relation(r)
	case 'I', 'U', 'D':
		err = d.row(r, message[0])
	case 'T':
		err = d.truncate(r)
	case 'O', 'Y', 'M': // origin, type name, logical message: nothing that we need
	default:
		return brokenMessage(message[0], "its kind is unknown")
	}
	switch {
	case err != nil:
		return err
	case r.short:
		return brokenMessage(message[0], "it is cut short")
	case r.at > unread && r.at < len(message):
		return brokenMessage(message[0], fmt.Sprintf("it has %d bytes more than its kind", len(message)-r.at))
	}
	return nil
}

// unread is where the reading of a row ends that nobody wants: behind the kind and the relation's number. Kinds that say
// nothing to us are not read so far.
const unread = 1 + 4

func brokenMessage(kind byte, why string) error {
	return &schema.BrokenError{
		What:   fmt.Sprintf("Postgres' log has a message %q that cannot be read: %s", kind, why),
		Remedy: "upgrade cdc-sidecar",
	}
}

func (d *postgresDecoder) begin(r *postgresReader) error {
	if d.open {
		return brokenMessage('B', "the transaction before it has no end")
	}
	r.uint64() // the commit record's place
	d.assembler.begin(postgresTime(int64(r.uint64())))
	d.xid = r.uint32()
	d.open = true
	return nil
}

// commit closes the database transaction. Its place to restart from is behind the commit record: the record's own place
// would send it again.
func (d *postgresDecoder) commit(r *postgresReader) error {
	r.byte()
	r.uint64()
	lsn := r.uint64()
	r.uint64() // the time, which the beginning has said
	if !d.open {
		return brokenMessage('C', "no transaction is open")
	}
	d.open = false
	if !r.short {
		d.blind.ended(lsn)
		d.end(d.source(lsn))
	}
	return nil
}

// idle notes that the log has come to lsn with nothing to send. In the middle of a transaction that means nothing.
func (d *postgresDecoder) idle(lsn uint64) {
	if !d.open {
		d.emit(schema.Transaction{Last: true, Source: d.source(lsn)})
	}
}

// wanted reports whether rel's changes are to be decoded, and settles whose transaction this is.
func (d *postgresDecoder) wanted(rel *postgresRelation) bool {
	return rel.own != nil || rel.rows != nil || d.wants() && rel.captured && (!rel.passing || d.mode == anotherOrigins)
}

func (d *postgresDecoder) row(r *postgresReader, kind byte) error {
	rel, err := d.announced(r.uint32(), kind)
	if err == nil {
		err = d.compare(rel)
	}
	if err != nil || !d.wanted(rel) {
		return err
	}
	c := schema.Change{Table: rel.table}
	// One copy of the message holds all values of the row; a value is a piece of it.
	t := tupleReader{postgresReader: r, text: string(r.b), rel: rel}
	which := r.byte()
	if which == 'K' || which == 'O' {
		if c.Before, err = d.tuple(&t, which); err != nil {
			return err
		}
		if kind != 'D' {
			which = r.byte()
		}
	}
	switch {
	case kind == 'I' && which == 'N' && c.Before == nil:
		c.Op = schema.Insert
	case kind == 'U' && which == 'N':
		c.Op = schema.Update
	case kind == 'D' && c.Before != nil:
		c.Op = schema.Delete
	default:
		r.short = true
		return nil
	}
	if kind != 'D' {
		if c.After, err = d.tuple(&t, which); err != nil {
			return err
		}
	}
	if r.short {
		return nil
	}
	switch {
	case rel.own != nil:
		return rel.own.read(&d.assembler, &c)
	case rel.rows != nil:
		return d.definitionRow(rel.rows, &c)
	}
	d.add(c)
	return nil
}

// tuple reads a row image. In a key image ('K') the other columns are written as NULL, which they need not be.
func (d *postgresDecoder) tuple(t *tupleReader, which byte) (schema.Row, error) {
	n := int(t.uint16())
	if n != len(t.rel.canonical) {
		return nil, brokenMessage(which, fmt.Sprintf("table %s has %d columns, the row %d", t.rel.table.TableName, len(t.rel.canonical), n))
	}
	row := d.newRow(n)
	for i := range row {
		if err := t.value(&row[i], i, which == 'K'); err != nil {
			return nil, &schema.BrokenError{
				What:   fmt.Sprintf("table %s column %s: Postgres' log has a value that cannot be read", t.rel.table.TableName, t.rel.table.Columns[i].Name),
				Cause:  err,
				Remedy: "upgrade cdc-sidecar",
			}
		}
	}
	return row, nil
}

func (d *postgresDecoder) newRow(n int) schema.Row {
	if n > len(d.values) {
		d.values = make([]schema.Value, max(n, slabValues))
	}
	row := d.values[:n:n]
	d.values = d.values[n:]
	return schema.Row(row)
}

// truncate makes one change of each table named, in the order of the statement. What CASCADE reached is named, too.
func (d *postgresDecoder) truncate(r *postgresReader) error {
	n := r.uint32()
	r.byte() // CASCADE and RESTART IDENTITY: the list is complete without them
	for i := uint32(0); i < n && !r.short; i++ {
		rel, err := d.announced(r.uint32(), 'T')
		if err != nil {
			return err
		}
		if rel.captured && d.wanted(rel) {
			d.add(schema.Change{Table: rel.table, Op: schema.Truncate})
		}
	}
	return nil
}

func (d *postgresDecoder) relation(r *postgresReader) {
	rel := catalog.Relation{OID: r.uint32(), Schema: r.cstring(), Name: r.cstring()}
	rel.Full = r.byte() == 'f'
	for n := r.uint16(); n > 0 && !r.short; n-- {
		identity := r.byte()&1 != 0
		rel.Columns = append(rel.Columns, catalog.RelationColumn{
			Name: r.cstring(), Type: r.uint32(), Modifier: int32(r.uint32()), Identity: identity,
		})
	}
	if !r.short {
		d.relations[rel.OID] = &postgresRelation{announced: rel}
	}
}

// announced is the relation of that number, with its definition.
func (d *postgresDecoder) announced(oid uint32, kind byte) (*postgresRelation, error) {
	rel := d.relations[oid]
	if rel == nil || !d.open {
		return nil, brokenMessage(kind, fmt.Sprintf("relation %d was not announced, or no transaction is open", oid))
	}
	if rel.table != nil {
		return rel, nil
	}
	table, err := d.define(rel.announced)
	if err != nil {
		return nil, err
	}
	if len(table.Columns) != len(rel.announced.Columns) {
		return nil, fmt.Errorf("table %s: the definition has %d columns, the log %d", table.TableName, len(table.Columns), len(rel.announced.Columns))
	}
	rel.canonical = make([]func(string) (string, error), len(table.Columns))
	for i := range table.Columns {
		rel.canonical[i] = catalog.PostgresCanonical(&table.Columns[i])
	}
	if rel.announced.Schema == schema.OwnSchema && rel.announced.Name == schema.DefinitionsTable {
		rel.rows, err = definitionRowsOf(table)
	} else if rel.announced.Schema == schema.OwnSchema {
		rel.own, err = ownTableOf(table, rel.announced.Name)
	} else if rel.captured = d.send(table.TableName); rel.captured && len(table.Key) == 0 {
		err = keylessError(table.TableName, rel.announced)
	}
	rel.passing = rel.captured && d.own != nil && !d.own(table.TableName)
	if err == nil {
		rel.table = table
	}
	return rel, err
}

func keylessError(name schema.TableName, rel catalog.Relation) error {
	return &schema.BrokenError{
		What:   fmt.Sprintf("table %s has no key any more: its changes cannot be told apart", name),
		Remedy: fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (…), or give it flow: none", quoted(rel.Schema, rel.Name)),
	}
}

// postgresTime reads microseconds since 2000.
func postgresTime(micros int64) time.Time {
	const y2000 = 946684800 * 1_000_000
	return time.UnixMicro(y2000 + micros).UTC()
}

// tupleReader reads the values of one message.
type tupleReader struct {
	*postgresReader
	text string // the whole message
	rel  *postgresRelation
}

func (t *tupleReader) value(v *schema.Value, column int, keyOnly bool) error {
	if keyOnly && !t.rel.announced.Columns[column].Identity {
		switch kind := t.byte(); kind {
		case 'n', 'u':
		case 't':
			t.skip(int(t.uint32()))
		default:
			return fmt.Errorf("value of kind %q", kind)
		}
		return nil
	}
	switch kind := t.byte(); kind {
	case 'n':
		*v = schema.NullValue()
	case 'u': // a large value that the statement did not touch: the slot stays Unchanged
	case 't':
		from := t.at + 4
		t.skip(int(t.uint32()))
		if t.short {
			return nil
		}
		text := t.text[from:t.at]
		if canonical := t.rel.canonical[column]; canonical != nil {
			var err error
			if text, err = canonical(text); err != nil {
				return err
			}
		}
		*v = schema.Of(text)
	default:
		return fmt.Errorf("value of kind %q", kind)
	}
	return nil
}

// postgresReader reads a message field by field; behind its end it reads zeros and is short.
type postgresReader struct {
	b     []byte
	at    int
	short bool
}

func (r *postgresReader) skip(n int) []byte {
	if n < 0 || n > len(r.b)-r.at {
		r.short, r.at = true, len(r.b)
		return nil
	}
	r.at += n
	return r.b[r.at-n : r.at]
}

func (r *postgresReader) byte() byte {
	if b := r.skip(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *postgresReader) uint16() uint16 {
	if b := r.skip(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *postgresReader) uint32() uint32 {
	if b := r.skip(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *postgresReader) uint64() uint64 {
	if b := r.skip(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *postgresReader) cstring() string {
	for i := r.at; i < len(r.b); i++ {
		if r.b[i] == 0 {
			s := string(r.b[r.at:i])
			r.at = i + 1
			return s
		}
	}
	r.short, r.at = true, len(r.b)
	return ""
}
