package apply

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"cdc-sidecar/schema"
)

// Join is how far a branch is with making a table equal to the head's.
type Join struct {
	Table   string          // as the fleet calls it, or schema.JoinAll
	Pending bool            // what the office's own applications write to it is blind (schema.Change.Blind)
	At      schema.Position // of the last chunk that was applied, in the head's stream
	State   []byte          // JSON of the room that joins
}

// Joins are all that is recorded of joins here, by the names of the tables.
func (a *Applier) Joins(ctx context.Context) ([]Join, error) {
	ses, err := a.take(ctx)
	if err != nil {
		return nil, err
	}
	all, err := ses.joins(ctx, a.options.Office)
	if err != nil {
		a.spoiled(ses)
		return nil, fmt.Errorf("read how far joins are: %w", err)
	}
	a.release(ses)
	return all, nil
}

// SaveJoins records how far joins are, all in one transaction. From its place in this office's own log on, capture takes the
// tables for pending or not.
func (a *Applier) SaveJoins(ctx context.Context, joins []Join) error {
	return a.ours(ctx, "record how far joins are", func(ses session) error {
		return saveJoins(ctx, ses, a.options.Office, joins)
	})
}

// DropJoins forgets what is recorded of tables.
func (a *Applier) DropJoins(ctx context.Context, tables []string) error {
	return a.ours(ctx, "forget joins", func(ses session) error {
		form := ses.defs().dropJoinForm()
		steps := make([]step, len(tables))
		for i, name := range tables {
			steps[i] = step{form: form, args: []schema.Value{schema.Of(string(a.options.Office)), schema.Of(name)}}
		}
		_, _, err := ses.run(ctx, steps, nil)
		return err
	})
}

// saveJoins writes the rows of the joins table. It always changes them: a log has no row that stays as it is.
func saveJoins(ctx context.Context, ses session, office schema.Office, joins []Join) error {
	if len(joins) == 0 {
		return nil
	}
	form := ses.defs().joinForm()
	steps := make([]step, len(joins))
	for i := range joins {
		j := &joins[i]
		pending := "0"
		if j.Pending {
			pending = "1"
		}
		steps[i] = step{form: form, at: j.At, args: []schema.Value{
			schema.Of(string(office)), schema.Of(j.Table), schema.Of(pending), schema.Of(strconv.FormatUint(j.At.Epoch, 10)),
			schema.Of(strconv.FormatUint(j.At.Seq, 10)), schema.Of(string(j.State)),
		}}
	}
	_, _, err := ses.run(ctx, steps, nil)
	return err
}

// ours runs f in a database transaction that writes tables of ours alone: neither an apply nor an application's. f returns the
// server's errors as they are; what others' locks stopped is tried again.
func (a *Applier) ours(ctx context.Context, what string, f func(ses session) error) error {
	s := &stream{applier: a, known: true}
	return s.persist(ctx, false, func() error {
		ses, err := a.take(ctx)
		if err != nil {
			return err
		}
		ses.begin()
		if err = f(ses); err == nil {
			err = ses.commit(ctx)
		}
		if err == nil {
			a.release(ses)
			return nil
		}
		v := ses.judge(err)
		err = fmt.Errorf("%s: %w", what, err)
		if v.fault == busy {
			err = errors.Join(errBusy, err)
		}
		s.ended(ctx, ses, err)
		return err
	})
}

// The names of the statements on the tables of joins and claims, and on the progress row of a chunk.
const (
	ownChunk    = "chunk"     // stamp, office, origin, position: one more chunk was applied there
	ownJoin     = "join"      // office, table, pending, position, state
	ownDropJoin = "drop join" // office, table
	ownClaim    = "claim"     // office, body
	ownUnclaim  = "unclaim"   // office
)

// joinColumns in the order in which saveJoins writes them.
var joinColumns = []schema.Column{
	textOf(schema.JoinOffice), textOf(schema.JoinName), numberOf(schema.JoinPending), numberOf(schema.JoinEpoch), numberOf(schema.JoinSeq), textOf(schema.JoinState),
}

// joinForm inserts a row, or gives the one that is there other values.
func (d *definitions) joinForm() *form {
	return d.own(ownJoin, func() *form {
		f := ownInsert(d.engine, schema.JoinsTable, joinColumns)
		kept := func(column string) string {
			if d.engine == schema.Postgres {
				return "excluded." + quote(d.engine, column)
			}
			return "VALUES(" + quote(d.engine, column) + ")"
		}
		if d.engine == schema.Postgres {
			f.text(" ON CONFLICT (" + quote(d.engine, schema.JoinOffice) + ", " + quote(d.engine, schema.JoinName) + ") DO UPDATE SET ")
		} else {
			f.text(" ON DUPLICATE KEY UPDATE ") // the table has one unique key, so this form is safe here
		}
		for _, c := range joinColumns[2:] {
			f.text(quote(d.engine, c.Name) + " = " + kept(c.Name) + ", ")
		}
		touched := quote(d.engine, schema.JoinTouched)
		f.text(touched + " = " + tableName(d.engine, schema.OwnSchema, schema.JoinsTable) + "." + touched + " + 1")
		f.formats = nil // ownInsert has finished it without what follows
		f.finish()
		return f
	})
}

func (d *definitions) dropJoinForm() *form {
	return d.own(ownDropJoin, func() *form {
		f := &form{op: opOwn}
		f.text("DELETE FROM " + tableName(d.engine, schema.OwnSchema, schema.JoinsTable))
		f.where(d.engine, []schema.Column{textOf(schema.JoinOffice), textOf(schema.JoinName)})
		f.finish()
		return f
	})
}

// joinsQuery reads the joins of an office.
const joinsQuery = "SELECT table_name, pending, epoch, seq, state FROM cdc_sidecar.joins"

// readJoins reads the rows of joinsQuery, whichever driver's they are.
func readJoins(rows interface {
	Next() bool
	Scan(into ...any) error
	Err() error
},
) ([]Join, error) {
	var all []Join
	for rows.Next() {
		var j Join
		var pending, epoch, seq int64
		var state string
		if err := rows.Scan(&j.Table, &pending, &epoch, &seq, &state); err != nil {
			return nil, err
		}
		j.Pending, j.At, j.State = pending != 0, schema.Position{Epoch: uint64(epoch), Seq: uint64(seq)}, []byte(state)
		all = append(all, j)
	}
	return all, rows.Err()
}
