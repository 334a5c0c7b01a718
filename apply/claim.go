package apply

import (
	"context"
	"fmt"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// claimBytes is where a claim is cut into several rows of the claims table: far below what a server takes as one statement.
const claimBytes = 1 << 20

// Claim sends rows of this office up as if an application had just written them: those of the keys (images of the table's own
// columns, as Find has them) that stand are claimed as they are; or, with absent, those that do not are claimed to be deleted.
// restored is for schema.Change. It says how many were. One call should have no more than a thousand keys: the rows stay locked until they are claimed. No
// trigger or application sees anything of it.
func (a *Applier) Claim(ctx context.Context, table schema.TableName, keys []schema.Row, absent, restored bool) (claimed int, err error) {
	gone, err := a.claim(ctx, table, keys, absent, restored)
	if err != nil || !absent || len(gone) == 0 {
		return len(gone), err
	}
	// A row that is not there cannot be locked. An application may have inserted one before its key was claimed to be free: in
	// the log the claim comes last then, and the row would be deleted everywhere but here.
	_, err = a.claim(ctx, table, gone, false, restored)
	return len(gone), err
}

// claim returns the keys that were claimed.
func (a *Applier) claim(ctx context.Context, table schema.TableName, keys []schema.Row, absent, restored bool) (claimed []schema.Row, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	what := "claim rows of table " + table.String()
	err = a.ours(ctx, what, func(ses session) error {
		p, err := ses.defs().named(ctx, table.String())
		if err != nil {
			return err
		}
		t := p.target
		for _, key := range keys {
			if len(key) != len(t.Columns) {
				ses.defs().forget()
				return fmt.Errorf("a key has %d columns, the table %d: its definition has changed", len(key), len(t.Columns))
			}
		}
		rows, err := ses.fetch(ctx, t, keys, true)
		if err != nil {
			return err
		}
		var changes []schema.Change
		changes, claimed = claimsOf(t, keys, rows, absent)
		for i := range changes {
			changes[i].Restored = restored
		}
		return a.writeClaims(ctx, ses, changes)
	})
	return claimed, err
}

// claimsOf are the changes that claim rows, and their keys. A row that the database found by a key of other letters is neither
// the row that was asked for nor does it say that there is none.
func claimsOf(t *catalog.Table, keys, rows []schema.Row, absent bool) (changes []schema.Change, claimed []schema.Row) {
	logged, columns := asLogged(t)
	cut := func(r schema.Row) schema.Row {
		image := make(schema.Row, len(columns))
		for i, from := range columns {
			image[i] = r[from]
		}
		return image
	}
	for i, row := range rows {
		switch {
		case absent && row == nil:
			changes = append(changes, schema.Change{Table: logged, Op: schema.Delete, Before: cut(keyOf(t, keys[i]))})
		case !absent && row != nil && t.RowID(row) == t.RowID(keys[i]):
			changes = append(changes, schema.Change{Table: logged, Op: schema.Insert, After: cut(row)})
		default:
			continue
		}
		claimed = append(claimed, keys[i])
	}
	return changes, claimed
}

// asLogged is a table's definition as this office's own log has it, and which columns of t it has: in Postgres' there are no
// generated ones.
func asLogged(t *catalog.Table) (*schema.Table, []int) {
	columns, place := make([]int, 0, len(t.Columns)), make([]int, len(t.Columns))
	for i := range t.Columns {
		if t.Engine != schema.Postgres || !t.Columns[i].Generated {
			place[i] = len(columns)
			columns = append(columns, i)
		}
	}
	if len(columns) == len(t.Columns) {
		return t.Table, columns
	}
	logged := schema.Table{TableName: t.TableName, Engine: t.Engine}
	for _, i := range columns {
		logged.Columns = append(logged.Columns, t.Columns[i])
	}
	for _, k := range t.Key {
		logged.Key = append(logged.Key, place[k])
	}
	return schema.NewTable(logged), columns
}

// writeClaims writes rows of the claims table, and deletes them: the log has them all the same.
func (a *Applier) writeClaims(ctx context.Context, ses session, changes []schema.Change) error {
	if len(changes) == 0 {
		return nil
	}
	office := schema.Of(string(a.options.Office))
	insert := ses.defs().claimForm()
	for len(changes) > 0 {
		n, bytes := 0, 0
		for n < len(changes) && (n == 0 || bytes+changes[n].Bytes() <= claimBytes) {
			bytes += changes[n].Bytes()
			n++
		}
		body := schema.AppendBatch(nil, []schema.Transaction{{Origin: a.options.Office, Changes: changes[:n], Last: true}})
		if _, _, err := ses.run(ctx, []step{{form: insert, args: []schema.Value{office, schema.Of(string(body))}}}, nil); err != nil {
			return err
		}
		changes = changes[n:]
	}
	_, _, err := ses.run(ctx, []step{{form: ses.defs().unclaimForm(), args: []schema.Value{office}}}, nil)
	return err
}

func (d *definitions) claimForm() *form {
	return d.own(ownClaim, func() *form {
		return ownInsert(d.engine, schema.ClaimsTable, []schema.Column{textOf(schema.ClaimOffice), {Name: schema.ClaimBody, Kind: schema.KindBytes}})
	})
}

func (d *definitions) unclaimForm() *form {
	return d.own(ownUnclaim, func() *form {
		f := &form{op: opOwn}
		f.text("DELETE FROM " + tableName(d.engine, schema.OwnSchema, schema.ClaimsTable))
		f.where(d.engine, []schema.Column{textOf(schema.ClaimOffice)})
		f.finish()
		return f
	})
}
