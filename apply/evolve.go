package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// A schema change is written between the rows before it and those behind it, each of its steps as the table here needs it: what
// is so already is passed over, so that a change that was done halfway is done to its end by doing it again.
//
// Postgres takes all of a transaction back when anything fails. MySQL and MariaDB commit before and behind every statement that
// changes a table: there a transaction is committed in pieces, and the progress row counts how many of its changes are
// (schema.ProgressPart). What a crash left of a piece is a statement that was executed or not: its row in DDLTable is pending,
// and has the fingerprint of the table before it.

// defines reports whether a transaction, or a part of one, changes tables.
func defines(tx *schema.Transaction) bool {
	for i := range tx.Changes {
		if tx.Changes[i].Op == schema.Define {
			return true
		}
	}
	return false
}

// piecemeal says that statements that change tables commit by themselves.
func (d *definitions) piecemeal() bool { return d.engine != schema.Postgres }

// evolve writes a transaction, or a part of one, that changes tables.
func (w *writer) evolve(ctx context.Context, tx *schema.Transaction) error {
	if w.stream.applier.options.DDL.Apply == "" {
		c := &tx.Changes[firstDefine(tx, 0)]
		return locate(&schema.RejectedError{
			Table: c.Table.TableName, Cause: errors.New("a schema change, and this office takes none"), Remedy: "ddl: {apply: additive}",
		}, c, tx.Pos)
	}
	if w.ses.defs().piecemeal() {
		return w.evolveInPieces(ctx, tx)
	}
	if err := w.labelsFirst(ctx, tx); err != nil {
		return err
	}
	for from := 0; ; {
		to := firstDefine(tx, from)
		if err := w.writeRows(ctx, []schema.Transaction{pieceOf(tx, from, to)}); err != nil {
			return err
		}
		if to == len(tx.Changes) {
			return nil
		}
		if err := w.define(ctx, tx, to); err != nil {
			return err
		}
		if err := w.saveOrders(ctx); err != nil {
			return err
		}
		from = to + 1
	}
}

// firstDefine is the first schema change from a change on; the number of changes: there is none.
func firstDefine(tx *schema.Transaction, from int) int {
	for from < len(tx.Changes) && tx.Changes[from].Op != schema.Define {
		from++
	}
	return from
}

// pieceOf are some changes of a transaction as a part of it. The first one moves the progress row, the last one counts.
func pieceOf(tx *schema.Transaction, from, to int) schema.Transaction {
	piece := *tx
	piece.Changes, piece.Last = tx.Changes[from:to], tx.Last && to == len(tx.Changes)
	if from > 0 {
		piece.Part = max(piece.Part, 1)
	}
	return piece
}

// resume finds out how much of a transaction is committed already, which changes tables or comes in parts.
func (w *writer) resume(ctx context.Context, evolves bool) error {
	if !w.parts || !w.ses.defs().piecemeal() || w.stream.applier.options.DDL.Apply == "" {
		return nil
	}
	var err error
	if schema.Planted(schema.PiecesForgotten) {
		w.inPieces = evolves
		return nil
	}
	if w.committed, err = w.ses.piece(ctx, w.stream.applier.options.Office, w.stream.sender); err != nil {
		return fmt.Errorf("read progress of %s: %w", w.stream.sender, err)
	}
	w.inPieces = evolves || w.committed > 0
	return nil
}

// tooLate reports that a part would commit what was written of the transaction before, with the progress row behind all of it.
func (w *writer) tooLate(tx *schema.Transaction) bool {
	return tx.Part > 0 && !w.inPieces && w.ses.defs().piecemeal() && w.stream.applier.options.DDL.Apply != "" && defines(tx)
}

// evolveInPieces is evolve where a statement commits what precedes it.
func (w *writer) evolveInPieces(ctx context.Context, tx *schema.Transaction) error {
	if w.stream.applier.options.Role == schema.Head && tx.Part == 0 {
		w.stamp(tx)
	}
	for from := 0; ; {
		to := firstDefine(tx, from)
		piece := pieceOf(tx, from, to)
		piece.Part = max(piece.Part, 1) // the progress row is moved by count
		if start := w.before + from; start < w.committed {
			skip := min(w.committed-start, to-from)
			piece.Changes = piece.Changes[skip:]
		}
		if err := w.writePiece(ctx, tx, &piece, w.before+to); err != nil {
			return err
		}
		if piece.Last {
			return w.retell(ctx)
		}
		if err := w.overruled(ctx, tx, from, to); err != nil {
			return err
		}
		if to == len(tx.Changes) {
			return nil
		}
		if w.before+to >= w.committed {
			if err := w.define(ctx, tx, to); err != nil {
				return err
			}
			if err := w.between(ctx, tx, w.before+to+1); err != nil {
				return err
			}
		}
		from = to + 1
	}
}

// writePiece writes the rows up to a schema change, or to the end of a part, and commits them. With the last of them the progress
// row moves on, and whoever commits the transaction commits them.
func (w *writer) writePiece(ctx context.Context, tx, piece *schema.Transaction, to int) error {
	if piece.Last {
		w.first = w.moves(tx, tx.Pos, 0)
		return w.writeRows(ctx, []schema.Transaction{*piece})
	}
	if len(piece.Changes) == 0 {
		return nil
	}
	w.first = w.moves(tx, w.stream.have, to)
	if err := w.writeRows(ctx, []schema.Transaction{*piece}); err != nil {
		return err
	}
	return w.commitPiece(ctx, to)
}

// between commits that changes to that number are done, with nothing beside.
func (w *writer) between(ctx context.Context, tx *schema.Transaction, to int) error {
	st := w.moves(tx, w.stream.have, to)
	n, err := w.one(ctx, st)
	switch {
	case err != nil:
		return w.explain(err, st)
	case n == 0:
		return w.fenced(st)
	}
	if err := w.saveOrders(ctx); err != nil {
		return err
	}
	return w.commitPiece(ctx, to)
}

// commitPiece commits, and begins the next piece.
func (w *writer) commitPiece(ctx context.Context, to int) error {
	if err := w.commit(ctx); err != nil {
		return err
	}
	w.committed = to
	w.ses.defs().refresh(w.stream.applier.unsure())
	w.stream.applier.ordered(w)
	w.ses.begin()
	return nil
}

// unsure has what is known of parked changes and of schema changes read again. It returns how often tables were changed so far.
func (a *Applier) unsure() (defined uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.parked, a.evolution = nil, nil
	a.defined++
	clear(a.asked)
	return a.defined
}

// moves is the step that moves the progress row to a place, with so many changes of the transaction behind that committed.
func (w *writer) moves(tx *schema.Transaction, to schema.Position, part int) *step {
	have, stamp := w.stream.have, w.stampOf(tx)
	waits := uint64(0)
	if w.stream.applier.options.Role == schema.Branch {
		waits = w.oldestWaiting()
	}
	return &step{form: w.ses.defs().pieceForm(), at: tx.Pos, args: []schema.Value{
		numeral(to.Epoch), numeral(to.Seq), numeral(stamp.Millis), numeral(int64(stamp.Counter)), numeral(tx.Commit.UnixMicro()), numeral(waits), numeral(part),
		schema.Of(string(w.stream.applier.options.Office)), schema.Of(string(w.stream.sender)), numeral(have.Epoch), numeral(have.Seq), numeral(w.committed),
	}}
}

// stampOf is a transaction's stamp as it counts here.
func (w *writer) stampOf(tx *schema.Transaction) schema.Stamp {
	if counted, ok := w.stamps[tx.Pos]; ok {
		return counted
	}
	return latestStamp([]schema.Transaction{*tx})
}

// labelsFirst adds labels to Postgres' enums in transactions of their own: a new label cannot be used in the one that adds it. That
// there are labels too early harms nobody.
func (w *writer) labelsFirst(ctx context.Context, tx *schema.Transaction) error {
	for i := range tx.Changes {
		c := &tx.Changes[i]
		if c.Op != schema.Define || !w.takes(tx, c) {
			continue
		}
		for _, s := range schema.Diff(c.Definition.Was, c.Definition.Is) {
			if s.Kind != schema.AddLabels {
				continue
			}
			if do, _ := w.stream.applier.options.DDL.decide(&s); do != doStep {
				continue
			}
			if err := w.stream.addLabels(ctx, &s, tx.Part == 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// addLabels runs a step in a transaction of its own, that capture knows as an apply if it may touch the progress
// row, which the open transaction may hold. What the database refuses is left to the
// transaction that it belongs to.
func (s *stream) addLabels(ctx context.Context, st *schema.Step, touch bool) error {
	ses, err := s.applier.take(ctx)
	if err != nil {
		return err
	}
	w := &writer{}
	ses.begin()
	w.start(s, ses, false)
	if touch {
		err = w.touch(ctx)
	}
	if err == nil {
		var r catalog.Rendered
		if r, _, err = w.render(ctx, st); err == nil && len(r.Statements) > 0 {
			err = ses.define(ctx, "", r.Statements)
		}
	}
	if err == nil {
		err = w.commit(ctx)
	}
	if err == nil {
		s.applier.spoiled(ses) // all sessions read the definitions anew
		return nil
	}
	s.applier.spoiled(ses)
	if ses.lasting(err) {
		return nil
	}
	if v := ses.judge(err); v.fault == busy {
		err = errors.Join(errQueued, err)
	}
	return fmt.Errorf("add labels to table %s: %w", st.Is.TableName, err)
}

// takes reports whether a schema change is for this office: not its own, and of a table that it receives.
func (w *writer) takes(tx *schema.Transaction, c *schema.Change) bool {
	o := &w.stream.applier.options
	if tx.Origin == o.Office {
		return false
	}
	for _, d := range []*schema.Definition{c.Definition.Was, c.Definition.Is} {
		if d != nil && o.Receive(d.TableName) {
			return true
		}
	}
	return false
}

// define does one schema change, step by step.
func (w *writer) define(ctx context.Context, tx *schema.Transaction, index int) error {
	c := &tx.Changes[index]
	if tx.Origin == w.stream.applier.options.Office { // here already
		return w.dropped(ctx, tx, w.before+index, c)
	}
	if !w.takes(tx, c) {
		w.tally.Filtered++
		return nil
	}
	body := bodyOf(tx, w.before+index, c)
	var earlier []ddlStep
	if w.ses.defs().piecemeal() {
		var err error
		if earlier, err = w.ses.ddl(ctx, w.stream.applier.options.Office); err != nil {
			return fmt.Errorf("read what became of schema changes: %w", err)
		}
	}
	steps, done := schema.Diff(c.Definition.Was, c.Definition.Is), true
	for i := range steps {
		s := &steps[i]
		row := ddlStep{SchemaStep: SchemaStep{Origin: tx.Origin, At: tx.OriginPos, Table: tableOf(s).String(), Step: s.Kind}, body: body}
		row.Subject, row.Was = subjectOf(s)
		var before *ddlStep
		for j := range earlier {
			if earlier[j].means(s, body) {
				before = &earlier[j]
			}
		}
		if before != nil && (before.State != schema.DDLPending || schema.Planted(schema.PendingBelieved)) {
			done = done && settled(s, before.State)
			continue
		}
		if err := w.defineStep(ctx, tx, s, &row, before); err != nil {
			return w.undefined(err, c, tx)
		}
		done = done && settled(s, row.State)
	}
	if done {
		w.order(c.Definition, false, fmt.Sprintf("%s %s %d", tx.Origin, tx.OriginPos, w.before+index))
	}
	w.tally.Defines++
	w.ses.defs().forget()
	return nil
}

// undefined names what a failure was about.
func (w *writer) undefined(err error, c *schema.Change, tx *schema.Transaction) error {
	var rejected *schema.RejectedError
	if errors.As(err, &rejected) {
		return locate(err, &schema.Change{Table: c.Table, Op: c.Op}, tx.Pos)
	}
	return fmt.Errorf("change table %s at %s: %w", c.Table.TableName, tx.Pos, err)
}

// render is a step for the table as it is here, and that.
func (w *writer) render(ctx context.Context, s *schema.Step) (catalog.Rendered, *schema.Definition, error) {
	d := w.ses.defs()
	var here *schema.Definition
	names := []schema.TableName{tableOf(s)}
	if s.Is != nil && s.Was != nil && s.Was.TableName != s.Is.TableName { // not renamed yet, or not to be
		names = append(names, s.Was.TableName)
	}
	for _, name := range names {
		var err error
		if here, err = w.ses.describe(ctx, name); err != nil {
			return catalog.Rendered{}, nil, fmt.Errorf("read the definition of table %s: %w", name, err)
		}
		if here != nil {
			break
		}
	}
	r, err := catalog.Render(catalog.Place{Engine: d.engine, Default: d.space, Here: here, LockWait: ddlWait}, *s)
	return r, here, err
}

// defineStep does one step, or notes why it is not done. before is what an attempt left that did not come to its end.
func (w *writer) defineStep(ctx context.Context, tx *schema.Transaction, s *schema.Step, row, before *ddlStep) error {
	r, here, err := w.render(ctx, s)
	var untyped *schema.RejectedError
	if errors.As(err, &untyped) {
		return w.note(ctx, row, before, schema.DDLFailed, untyped.Error())
	}
	if err != nil {
		return err
	}
	row.before, row.Statement = fingerprint(here), strings.Join(r.Statements, ";\n")
	do, why := w.stream.applier.options.DDL.decide(s)
	switch {
	case r.Done:
		row.after = row.before
		return w.note(ctx, row, before, schema.DDLDone, "it was so already")
	case r.Conflict != "":
		if before != nil && before.before != row.before {
			return w.halfDone(s, before, r.Conflict)
		}
		return w.note(ctx, row, before, schema.DDLFailed, r.Conflict)
	case len(r.Statements) == 0:
		return w.note(ctx, row, before, schema.DDLNotice, r.Notice)
	case do == holdStep:
		return w.note(ctx, row, before, schema.DDLHeld, why)
	case do == haltStep:
		return &schema.RejectedError{
			Table: tableOf(s), Cause: fmt.Errorf("%s, and ddl: {destructive: halt}: %s", why, s.Kind), Remedy: "run it, and the stream goes on by itself: " + row.Statement,
		}
	}
	row.Reason = r.Notice
	return w.execute(ctx, tx, row, before, r.Statements, s)
}

func fingerprint(d *schema.Definition) uint64 {
	if d == nil {
		return 0
	}
	return d.Fingerprint()
}

// halfDone: the table was changed since a statement was sent whose outcome nobody knows, and it is neither as before nor as behind
// it. Nothing is guessed.
func (w *writer) halfDone(s *schema.Step, before *ddlStep, conflict string) error {
	return &schema.RejectedError{
		Table: tableOf(s), Cause: fmt.Errorf("nobody knows what became of %q when the connection was lost: %s", before.Statement, conflict),
		Remedy: "look at the table, run the statement if it is still to be run, and the stream goes on by itself",
	}
}

// failed notes why a statement was refused; unless it is because an earlier try, of which nobody knew the outcome, came to its end.
func (w *writer) failed(ctx context.Context, s *schema.Step, row *ddlStep, refused error) error {
	r, here, err := w.render(ctx, s)
	switch {
	case err != nil:
		return err
	case r.Done:
		row.after = fingerprint(here)
		return nil
	}
	row.State, row.Reason = schema.DDLFailed, refused.Error()
	w.stream.applier.options.Log.Warn("a schema change failed here", "table", row.Table, "step", string(row.Step), "statement", row.Statement, "cause", refused)
	return nil
}

// remembered are the steps by which rows of former definitions find where they belong; see past.
var remembered = []schema.StepKind{
	schema.CreateTable, schema.DropTable, schema.RenameTable, schema.AddColumn, schema.DropColumn, schema.RenameColumn,
}

// note keeps a row about a step with which nothing is to be done. What was so already, and what has no meaning here, needs none,
// unless rows may still come that go by it.
func (w *writer) note(ctx context.Context, row, before *ddlStep, state, reason string) error {
	row.State, row.Reason = state, reason
	switch {
	case state == schema.DDLDone && before == nil && !slices.Contains(remembered, row.Step):
		return nil
	case state != schema.DDLDone:
		w.stream.applier.options.Log.Warn("a step of a schema change is not done here", "table", row.Table, "step", string(row.Step), "subject", row.Subject,
			"state", state, "reason", reason, "statement", row.Statement)
	}
	if before != nil {
		if row.Statement == "" {
			row.Statement = before.Statement
		}
		return w.passed(ctx, schema.DDLPending, row)
	}
	return w.remember(ctx, row)
}

// execute runs the statements of a step.
func (w *writer) execute(ctx context.Context, tx *schema.Transaction, row, before *ddlStep, statements []string, s *schema.Step) error {
	pending, tag := w.ses.defs().piecemeal(), ""
	if pending {
		// To whoever reads the log the statement is part of what was applied before: of the transaction it belongs to, more may come.
		tag = schema.DDLTag(w.stream.applier.options.Office, tx.Origin, w.stream.have, w.stampOf(tx))
		if before == nil {
			row.State = schema.DDLPending
			if err := w.remember(ctx, row); err != nil {
				return err
			}
			if err := w.commitPiece(ctx, w.committed); err != nil {
				return err
			}
		}
		if err := w.ses.rollback(ctx); err != nil { // of what a piece begins with: it must not stand behind a statement that commits
			return err
		}
	} else {
		w.ses.save()
	}
	began := w.stream.applier.options.Now()
	err := w.ses.define(ctx, tag, statements)
	if w.ses.defs().forget(); pending {
		w.ses.begin()
	}
	row.State = schema.DDLDone
	switch {
	case err == nil:
		w.stream.applier.options.Log.Info("changed a table", "table", row.Table, "step", string(row.Step), "origin", string(row.Origin),
			"position", row.At.String(), "statement", row.Statement, "seconds", w.stream.applier.options.Now().Sub(began).Seconds())
		here, err := w.ses.describe(ctx, tableOf(s))
		if err != nil {
			return err
		}
		row.after = fingerprint(here)
	case w.ses.judge(err).fault == busy:
		return fmt.Errorf("%s: %w: %w", row.Statement, errQueued, err)
	case !w.ses.lasting(err):
		return fmt.Errorf("%s: %w", row.Statement, err)
	default:
		if !pending {
			w.ses.restore()
		}
		if err := w.failed(ctx, s, row, err); err != nil {
			return err
		}
	}
	if !pending {
		return w.remember(ctx, row)
	}
	return w.passed(ctx, schema.DDLPending, row)
}
