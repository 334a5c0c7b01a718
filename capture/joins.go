package capture

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	"cdc-sidecar/schema"
)

// joining is what a branch's log has said so far of the tables that are being made equal to the head's. The zero value says
// that none is.
type joining struct {
	pending map[string]bool // by JoinName; JoinAll stands for all that are not named
	any     bool            // some value of pending is true
	before  map[string]bool // as pending was when the open database transaction began; nil: it has changed nothing
}

// newJoining begins with tables that are pending until the log says otherwise.
func newJoining(tables []string) (j joining) {
	for _, name := range tables {
		j.set(name, true)
	}
	j.before = nil
	return j
}

// set takes a row of the joins table in. What comes behind it in the same transaction is told by it already.
func (j *joining) set(name string, pending bool) {
	j.change()
	j.pending[name] = pending
	j.look()
}

// drop takes in that such a row was deleted.
func (j *joining) drop(name string) {
	j.change()
	delete(j.pending, name)
	j.look()
}

func (j *joining) change() {
	if j.before == nil {
		j.before = map[string]bool{}
		maps.Copy(j.before, j.pending)
	}
	if j.pending == nil {
		j.pending = map[string]bool{}
	}
}

func (j *joining) look() {
	j.any = false
	for _, pending := range j.pending {
		j.any = j.any || pending
	}
}

// undo takes back what the open database transaction said: it did not happen.
func (j *joining) undo() {
	if j.before != nil {
		j.pending, j.before = j.before, nil
		j.look()
	}
}

// blind reports whether the office may have changed a row of the table without having what the head has of it.
func (j *joining) blind(table schema.TableName) bool {
	if !j.any {
		return false
	}
	if pending, named := j.pending[table.String()]; named {
		return pending
	}
	return j.pending[schema.JoinAll]
}

// takeJoin reads from where on a table is pending, or until where. At the head nothing is.
func takeJoin(a *assembler, op schema.Op, row []schema.Value) error {
	if a.role != schema.Branch || schema.Office(row[0].Text()) != a.office {
		return nil
	}
	name := row[1].Text()
	if strings.HasPrefix(name, schema.OrderPrefix) {
		return nil
	}
	if op == schema.Delete {
		a.joins.drop(name)
		return nil
	}
	pending, err := strconv.ParseInt(row[2].Text(), 10, 64)
	if err == nil {
		a.joins.set(name, pending != 0)
	}
	return err
}

// takeClaim reads rows that are to go out as they stand, as if the application had just written them. That its row is deleted
// again says nothing.
func takeClaim(a *assembler, op schema.Op, row []schema.Value) error {
	if op != schema.Insert || schema.Office(row[0].Text()) != a.office {
		return nil
	}
	batch, err := schema.DecodeBatch([]byte(row[1].Text()), 0)
	if err != nil {
		return fmt.Errorf("column %s: %w", schema.ClaimBody, err)
	}
	if len(batch.Transactions) != 1 {
		return fmt.Errorf("column %s: %d transactions", schema.ClaimBody, len(batch.Transactions))
	}
	if !a.wants() {
		return nil
	}
	for _, c := range batch.Transactions[0].Changes {
		c.Claimed = true
		a.add(c)
	}
	return nil
}
