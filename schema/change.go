package schema

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Op is what happened to a row, or to all rows of a table.
type Op uint8

// The operations.
const (
	Insert Op = iota + 1
	Update
	Delete
	Truncate
	Define // the table's definition changed: Change.Definition
)

func (o Op) String() string {
	switch o {
	case Insert:
		return "insert"
	case Update:
		return "update"
	case Delete:
		return "delete"
	case Truncate:
		return "truncate"
	case Define:
		return "define"
	default:
		return fmt.Sprintf("op(%d)", uint8(o))
	}
}

// Change is one row changed (or one table truncated), in the canonical form.
type Change struct {
	Table *Table
	Op    Op
	// Before is what the log has of the row as it was: of a delete at least the key, of an update at least the key when the
	// key changed, all columns where the log has full images; nil where it has nothing.
	Before Row
	// After is the row as it became: of an insert and an update. Columns that the log leaves out are Unchanged.
	After Row
	// Decided is not nil on a resolution: the row as every office shall have it, the origin of the transaction included.
	Decided *Decision
	// Blind says that the office may have changed the row without having what the head has of it: its table was being joined.
	// Whatever the transaction says it had seen, it had not seen this row.
	Blind bool
	// Claimed says that no application made the change just now: a comparison found the row so (ClaimsTable). It says how the row
	// stands at the office, not since when.
	Claimed bool
	// Restored says of a claimed change that the office's database went back to an earlier state: even what the office itself sent
	// since what it has seen may be newer.
	Restored bool
	// Follows says of a change that apply made that it follows another by a foreign key: whatever became of the row meanwhile, it does.
	// It does not travel.
	Follows bool
	// Definition is not nil of a Define: what became of the table. Table is then the new definition's, of a dropped one the old.
	Definition *DefinitionChange
	// Over is not 0 of a change that a chunk brought and that waits: it may go over the row as it was here then, which this is a
	// hash of, and over no other. It does not travel; it is kept with what waits.
	Over uint64
}

// Decision is what a resolution tells of the image that it carries: whose it is, so that later changes are compared with it.
type Decision struct {
	Origin Office // whose change the row shows; of a merge, that of the later stamp
	Stamp  Stamp
	// Known is the last seq of the head's stream that the decision had taken into account.
	Known uint64
}

// KeyRow is the image that identifies the row to be found at the target: Before where it has the key, else After.
func (c *Change) KeyRow() Row {
	if c.Before != nil && c.hasKey(c.Before) {
		return c.Before
	}
	return c.After
}

func (c *Change) hasKey(r Row) bool {
	for _, k := range c.Table.Key {
		if r[k].state == Unchanged {
			return false
		}
	}
	return len(c.Table.Key) > 0
}

// KeyString is the key for people, logs and status: id=7, or (a=1, b='x'). Never call it on a hot path.
func (c *Change) KeyString() string {
	row := c.KeyRow()
	if row == nil || len(c.Table.Key) == 0 {
		return "(no key)"
	}
	parts := make([]string, 0, len(c.Table.Key))
	for _, k := range c.Table.Key {
		v := row[k].String()
		if row[k].state == Present && c.Table.Columns[k].Kind == KindInt {
			v = row[k].text
		}
		parts = append(parts, c.Table.Columns[k].Name+"="+v)
	}
	return strings.Join(parts, ", ")
}

// Bytes is a rough measure of the change in memory and on the wire, for batching.
func (c *Change) Bytes() int {
	n := 8
	for _, v := range c.Before {
		n += 2 + len(v.text)
	}
	for _, v := range c.After {
		n += 2 + len(v.text)
	}
	if d := c.Definition; d != nil {
		n += len(d.Statement) + d.Was.bytes() + d.Is.bytes()
	}
	return n
}

// definitionPart is about what a column, an index or a constraint takes as JSON, but for its texts.
const definitionPart = 256

// bytes is a rough measure of the definition on the wire.
func (d *Definition) bytes() int {
	if d == nil {
		return 0
	}
	n := definitionPart*(1+len(d.Columns)+len(d.Indexes)+len(d.ForeignKeys)+len(d.Checks)) + len(d.Comment)
	for i := range d.Columns {
		x := &d.Details[i]
		n += len(x.Default.Text) + len(x.Computed.Text) + len(x.Comment)
		for _, l := range d.Columns[i].Labels {
			n += len(l) + 3
		}
	}
	for i := range d.Indexes {
		n += len(d.Indexes[i].Native) + len(d.Indexes[i].Where.Text)
	}
	for i := range d.Checks {
		n += len(d.Checks[i].Expression.Text)
	}
	return n
}

// Validate checks what the type system cannot: images as long as the table is wide, and a key where one is needed.
func (c *Change) Validate() error {
	switch {
	case c.Table == nil:
		return errors.New("change without a table")
	case (c.Op == Define) != (c.Definition != nil):
		return fmt.Errorf("table %s: %s, and a definition: %t", c.Table.TableName, c.Op, c.Definition != nil)
	case c.Op == Truncate, c.Op == Define:
		return nil
	case c.Op < Insert || c.Op > Define:
		return fmt.Errorf("table %s: unknown operation %d", c.Table.TableName, c.Op)
	case c.Before != nil && len(c.Before) != len(c.Table.Columns), c.After != nil && len(c.After) != len(c.Table.Columns):
		return fmt.Errorf("table %s: an image has another number of columns than the definition (%d)", c.Table.TableName, len(c.Table.Columns))
	case (c.Op == Insert || c.Op == Update) && c.After == nil:
		return fmt.Errorf("table %s: %s without a row", c.Table.TableName, c.Op)
	case c.Op == Delete && c.Before == nil:
		return fmt.Errorf("table %s: delete without a key", c.Table.TableName)
	}
	return nil
}

// Transaction is what one commit changed, or one part of it: a large transaction travels as parts, so that nobody has to
// hold it in memory. Parts of one transaction follow one another, nothing between them.
type Transaction struct {
	// Origin is the office whose application made the transaction; OriginPos its number there.
	// For an office's own transaction OriginPos equals Pos.
	Origin    Office
	OriginPos Position
	// Pos is the place in the stream of the office that sends it. The journal gives it; zero before.
	Pos Position
	// Seen is, on a branch's own transaction, the head's position whose apply precedes it in the branch's own log.
	Seen Position
	// Stamp is the hybrid logical clock: the origin's journal gives it to local transactions; a forwarded one keeps it.
	// What capture hands over of its own office is what the office had seen by then: the journal's stamp is behind it.
	Stamp Stamp
	// Commit is the commit time by the origin's log (UTC, to the microsecond where the log has that).
	Commit  time.Time
	Changes []Change
	Part    int  // 0, 1, 2 …
	Last    bool // no more parts

	// Source is the place in the office's own log behind this transaction, in the words of the capture that wrote it
	// (an LSN, a GTID set). It does not travel. A transaction without Origin carries nothing but Source and Seen: the
	// log moved on with nothing to send (Silent).
	Source string
	// Barrier is not zero on a silent transaction that only says: the log has been read to the mark of this number.
	// It does not travel.
	Barrier uint64
	// XID is Postgres' number of the transaction in its own log; 0 elsewhere. It does not travel.
	XID uint32
}

// Silent reports that the transaction only moves the position.
func (t *Transaction) Silent() bool { return t.Origin == "" }

// Bytes is the sum of its changes' measure.
func (t *Transaction) Bytes() int {
	n := 32
	for i := range t.Changes {
		n += t.Changes[i].Bytes()
	}
	return n
}
