package capture

import (
	"fmt"
	"strconv"
	"time"

	"cdc-sidecar/schema"
)

// ownTable is one of our own tables whose rows say something in the log: they are read by whoever reads the log, and never
// sent as they are.
type ownTable struct {
	name    string
	columns []int // of the definition in the log, in the order in which take wants them
	take    func(a *assembler, op schema.Op, row []schema.Value) error
	key     int // how many of columns, the first ones, are its key: a deleted row is read, too, by its key alone; 0: it says nothing
}

// ownTables are all of them. The columns are found by name, so that the table may have been made by another version.
var ownTables = map[string]struct {
	columns []string
	take    func(*assembler, schema.Op, []schema.Value) error
	key     int
}{
	schema.ProgressTable: {
		[]string{
			schema.ProgressOffice, schema.ProgressOrigin, schema.ProgressEpoch, schema.ProgressSeq,
			schema.ProgressStampMillis, schema.ProgressStampCounter, schema.ProgressCommitted, schema.ProgressWaits, schema.ProgressChunks,
			schema.ProgressPart,
		}, takeProgress, 0,
	},
	schema.BarrierTable:   {[]string{schema.BarrierOffice, schema.BarrierMark}, takeBarrier, 0},
	schema.ConflictsTable: {[]string{schema.ConflictOffice, schema.ConflictResolution}, takeConflict, 0},
	schema.JoinsTable:     {[]string{schema.JoinOffice, schema.JoinName, schema.JoinPending}, takeJoin, 2},
	schema.ClaimsTable:    {[]string{schema.ClaimOffice, schema.ClaimBody}, takeClaim, 0},
}

// ownTableOf finds what a table of ours says; nil when its rows say nothing here.
func ownTableOf(t *schema.Table, name string) (*ownTable, error) {
	known, ok := ownTables[name]
	if !ok {
		return nil, nil
	}
	own := &ownTable{name: name, take: known.take, key: known.key}
	for _, column := range known.columns {
		i := t.Column(column)
		if i < 0 {
			return nil, &schema.BrokenError{
				What:   fmt.Sprintf("table %s.%s has no column %s", schema.OwnSchema, name, column),
				Remedy: "teardown, then start again",
			}
		}
		own.columns = append(own.columns, i)
	}
	return own, nil
}

// read takes a row of the table in. Deleted rows are administration and say nothing, but for those that are read by their key.
func (o *ownTable) read(a *assembler, c *schema.Change) error {
	image, columns := c.After, o.columns
	if image == nil {
		image, columns = c.Before, o.columns[:o.key]
	}
	if image == nil || len(columns) == 0 {
		return nil
	}
	var room [10]schema.Value
	row := room[:0]
	for _, i := range columns {
		row = append(row, image[i])
	}
	if err := o.take(a, c.Op, row); err != nil {
		return &schema.BrokenError{What: fmt.Sprintf("a row of table %s.%s cannot be understood", schema.OwnSchema, o.name), Cause: err, Remedy: "upgrade cdc-sidecar"}
	}
	return nil
}

// progressRow is what an apply wrote first: whose transaction it applied, and where.
type progressRow struct {
	office, origin schema.Office
	pos            schema.Position
	stamp          schema.Stamp
	commit         time.Time
	waits          uint64 // the oldest seq of which something is parked; 0: nothing is
	chunks         uint64 // how many chunks were applied
	part           uint64 // how many changes of the transaction behind pos are committed
}

func takeProgress(a *assembler, _ schema.Op, row []schema.Value) error {
	p := progressRow{office: schema.Office(row[0].Text()), origin: schema.Office(row[1].Text())}
	var n [8]int64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseInt(row[2+i].Text(), 10, 64); err != nil {
			return err
		}
	}
	p.pos = schema.Position{Epoch: uint64(n[0]), Seq: uint64(n[1])}
	p.stamp = schema.Stamp{Millis: n[2], Counter: uint32(n[3])}
	p.commit = time.UnixMicro(n[4]).UTC()
	p.waits, p.chunks, p.part = uint64(n[5]), uint64(n[6]), uint64(n[7])
	a.applied(p)
	return nil
}

func takeBarrier(a *assembler, _ schema.Op, row []schema.Value) error {
	if schema.Office(row[0].Text()) != a.office {
		return nil
	}
	n, err := strconv.ParseUint(row[1].Text(), 10, 64)
	a.barrier = n
	return err
}

// takeConflict reads the rows as they stand behind a decision. Only a new entry of the conflict log tells; what a person
// does with it later changes rows, which are captured like any others.
func takeConflict(a *assembler, op schema.Op, row []schema.Value) error {
	if op != schema.Insert || schema.Office(row[0].Text()) != a.office || row[1].State() != schema.Present || a.role != schema.Head {
		return nil
	}
	batch, err := schema.DecodeBatch([]byte(row[1].Text()), 0)
	if err != nil || len(batch.Transactions) != 1 {
		return fmt.Errorf("column %s: %d transactions, %w", schema.ConflictResolution, len(batch.Transactions), err)
	}
	if !a.wants() {
		return nil
	}
	for _, c := range batch.Transactions[0].Changes {
		if c.Decided == nil {
			return fmt.Errorf("column %s: a change that is no resolution", schema.ConflictResolution)
		}
		a.add(c)
	}
	return nil
}
