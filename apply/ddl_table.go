package apply

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"cdc-sidecar/schema"
)

// The names of the statements on DDLTable, and on the progress row of a transaction that is written in pieces.
const (
	ownDDL       = "ddl"        // a step
	ownDDLPassed = "ddl passed" // statement, state, reason, after, when | office, table, step, subject, was, state
	ownPiece     = "piece"      // position, stamp, commit, waits, part | office, origin, position, part
)

// ddlColumns in the order in which remember writes them.
var ddlColumns = []schema.Column{
	textOf(schema.DDLOffice), textOf(schema.DDLOrigin), numberOf(schema.DDLEpoch), numberOf(schema.DDLSeq), textOf(schema.DDLName),
	textOf(schema.DDLStep), textOf(schema.DDLSubject), textOf(schema.DDLWas), textOf(schema.DDLStatement), textOf(schema.DDLState),
	textOf(schema.DDLReason), numberOf(schema.DDLBefore), numberOf(schema.DDLAfter), numberOf(schema.DDLAt),
	{Name: schema.DDLBody, Kind: schema.KindBytes},
}

// ddlQuery reads what scanDDL reads.
const ddlQuery = "SELECT id, origin, epoch, seq, table_name, step, subject, was_name, statement, state, reason, before_fp, after_fp, at, body FROM cdc_sidecar.ddl"

// readDDL reads the rows of ddlQuery, whichever driver's they are.
func readDDL(rows interface {
	Next() bool
	Scan(into ...any) error
	Err() error
},
) ([]ddlStep, error) {
	var all []ddlStep
	for rows.Next() {
		var r ddlStep
		var epoch, seq, before, after, at int64
		var origin, kind string
		err := rows.Scan(&r.id, &origin, &epoch, &seq, &r.Table, &kind, &r.Subject, &r.Was, &r.Statement, &r.State, &r.Reason, &before, &after, &at, &r.body)
		if err != nil {
			return nil, err
		}
		r.Origin, r.Step, r.At = schema.Office(origin), schema.StepKind(kind), schema.Position{Epoch: uint64(epoch), Seq: uint64(seq)}
		r.before, r.after, r.Time = uint64(before), uint64(after), time.UnixMicro(at).UTC()
		all = append(all, r)
	}
	return all, rows.Err()
}

func (d *definitions) ddlForm() *form {
	return d.own(ownDDL, func() *form { return ownInsert(d.engine, schema.DDLTable, ddlColumns) })
}

func (d *definitions) ddlPassedForm() *form {
	return d.own(ownDDLPassed, func() *form {
		return ownUpdate(d.engine, opOwn, schema.DDLTable,
			[]schema.Column{textOf(schema.DDLStatement), textOf(schema.DDLState), textOf(schema.DDLReason), numberOf(schema.DDLAfter), numberOf(schema.DDLAt)},
			[]schema.Column{
				textOf(schema.DDLOffice), textOf(schema.DDLName), textOf(schema.DDLStep), textOf(schema.DDLSubject), textOf(schema.DDLWas), textOf(schema.DDLState),
			})
	})
}

// pieceForm is progressForm for a transaction that is committed in pieces.
func (d *definitions) pieceForm() *form {
	return d.own(ownPiece, func() *form {
		return ownUpdate(d.engine, opProgress, schema.ProgressTable,
			[]schema.Column{
				numberOf(schema.ProgressEpoch), numberOf(schema.ProgressSeq), numberOf(schema.ProgressStampMillis), numberOf(schema.ProgressStampCounter),
				numberOf(schema.ProgressCommitted), numberOf(schema.ProgressWaits), numberOf(schema.ProgressPart),
			},
			[]schema.Column{
				textOf(schema.ProgressOffice), textOf(schema.ProgressOrigin), numberOf(schema.ProgressEpoch), numberOf(schema.ProgressSeq), numberOf(schema.ProgressPart),
			})
	})
}

func numeral[T ~int | ~int64 | ~uint64](n T) schema.Value {
	return schema.Of(strconv.FormatInt(int64(n), 10))
}

// remember writes a row about a step.
func (w *writer) remember(ctx context.Context, r *ddlStep) error {
	r.Time = w.stream.applier.options.Now()
	_, err := w.one(ctx, &step{form: w.ses.defs().ddlForm(), at: r.At, args: []schema.Value{
		schema.Of(string(w.stream.applier.options.Office)), schema.Of(string(r.Origin)), numeral(r.At.Epoch), numeral(r.At.Seq), schema.Of(r.Table),
		schema.Of(string(r.Step)), schema.Of(r.Subject), schema.Of(r.Was), schema.Of(r.Statement), schema.Of(r.State), schema.Of(r.Reason),
		numeral(r.before), numeral(r.after), numeral(r.Time.UnixMicro()), schema.Of(string(r.body)),
	}})
	if err != nil {
		return fmt.Errorf("note a step of a schema change: %w", err)
	}
	w.defined = true
	return nil
}

// passed gives the rows about a step that are in a state another one.
func (w *writer) passed(ctx context.Context, was string, r *ddlStep) error {
	o := &w.stream.applier.options
	_, err := w.one(ctx, &step{form: w.ses.defs().ddlPassedForm(), at: r.At, args: []schema.Value{
		schema.Of(r.Statement), schema.Of(r.State), schema.Of(r.Reason), numeral(r.after), numeral(o.Now().UnixMicro()),
		schema.Of(string(o.Office)), schema.Of(r.Table), schema.Of(string(r.Step)), schema.Of(r.Subject), schema.Of(r.Was), schema.Of(was),
	}})
	if err != nil {
		return fmt.Errorf("note a step of a schema change: %w", err)
	}
	w.defined = true
	return nil
}

// evolution is what the database says of schema changes, as of the last look. It does not change once it is made.
type evolution struct {
	rows []ddlStep
	past *past
}

// evolved reads what the database knows of schema changes, unless that is known.
func (a *Applier) evolved(ctx context.Context, ses session) error {
	a.mu.Lock()
	known, since := a.evolution, a.defined
	a.mu.Unlock()
	if known == nil && a.options.DDL.Apply != "" {
		rows, err := ses.ddl(ctx, a.options.Office)
		if err != nil {
			return fmt.Errorf("read what became of schema changes: %w", err)
		}
		known = &evolution{rows: rows}
		if known.past, err = newPast(rows); err != nil {
			return err
		}
		a.mu.Lock()
		if a.defined == since { // else there may be more by now
			a.evolution = known
		}
		a.mu.Unlock()
	}
	if known != nil && ses.defs().past != known.past {
		ses.defs().past, ses.defs().plans = known.past, map[uint64]*plan{}
	}
	return nil
}

// SchemaSteps are the steps of other offices' schema changes that somebody should look at, or that mean nothing here, the
// oldest first: those that are neither done nor being done. false: nobody has looked yet.
func (a *Applier) SchemaSteps() ([]SchemaStep, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.evolution == nil {
		return nil, false
	}
	var all []SchemaStep
	for _, r := range a.evolution.rows {
		if !slices.Contains([]string{schema.DDLDone, schema.DDLPending}, r.State) {
			all = append(all, r.SchemaStep)
		}
	}
	return all, true
}
