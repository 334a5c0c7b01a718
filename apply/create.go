package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// Create makes another office's table here where it is missing (see catalog.CreateTable), and its schema. Of a table that is
// here, made now or before, it checks that rows of that definition find a place: a *schema.RejectedError says why they do not,
// a *schema.RefusedError which privilege is missing. Single values may still not fit.
func (a *Applier) Create(ctx context.Context, t *schema.Table) error {
	ses, err := a.take(ctx)
	if err != nil {
		return err
	}
	d := ses.defs()
	d.forget()
	have, err := d.table(ctx, t.TableName)
	if err == nil && have == nil {
		if err = create(ctx, ses, t); err == nil {
			a.dropIdle() // what other sessions know of the tables is old
			d.forget()
		}
	}
	var p *plan
	if err == nil {
		p, err = d.plan(ctx, t)
	}
	if err == nil {
		err = p.fits()
	}
	if err != nil {
		a.spoiled(ses)
		return err
	}
	a.release(ses)
	return nil
}

// create makes a table, and its schema only where the table cannot be made without: who may make tables need not be allowed more.
func create(ctx context.Context, ses session, t *schema.Table) error {
	d := ses.defs()
	space := cmp.Or(t.Schema, d.space)
	statement, err := catalog.CreateTable(d.engine, space, t)
	if err != nil {
		return err
	}
	run := func(statements ...string) error {
		ses.begin()
		for _, s := range statements {
			ses.queue(s)
		}
		return ses.commit(ctx)
	}
	if err = run(statement); err != nil && t.Schema != "" {
		if undone := ses.rollback(ctx); undone != nil {
			return errors.Join(err, undone)
		}
		makes := "CREATE SCHEMA IF NOT EXISTS "
		if d.engine != schema.Postgres {
			makes = "CREATE DATABASE IF NOT EXISTS "
		}
		err = run(makes+quote(d.engine, space), statement)
	}
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("create table %s", t.TableName)
	switch v := ses.judge(err); v.fault {
	case privilege:
		return &schema.RefusedError{What: "the database refuses to " + what, Cause: err, Remedy: mayCreate(d.engine, space, ses.user())}
	case transient, busy:
		return fmt.Errorf("%s: %w", what, err)
	default:
		return &schema.RejectedError{Table: t.TableName, Column: v.column, Cause: fmt.Errorf("%s: %w", statement, err), Remedy: cmp.Or(v.remedy, "create it here by hand, or flow: none for the table")}
	}
}

func mayCreate(engine schema.Engine, space, user string) string {
	if engine == schema.Postgres {
		return fmt.Sprintf("GRANT CREATE ON SCHEMA %s TO %s, or create the table by hand", quote(engine, space), quote(engine, user))
	}
	return fmt.Sprintf("GRANT CREATE ON %s.* TO %s, or create the table by hand", quote(engine, space), user)
}

// fits reports what rows of the plan's source cannot enter the table here at all.
func (p *plan) fits() error {
	for i, m := range p.columns {
		var never *misfitError
		switch {
		case m.missing:
			return p.missingColumn(i)
		case m.convert == nil || !m.instead.IsUnchanged():
		default:
			if _, err := m.convert(""); errors.As(err, &never) {
				return &schema.RejectedError{
					Table: p.source.TableName, Column: p.source.Columns[i].Name, Cause: never,
					Remedy: "give the column here a type that holds it, or flow: none for the table",
				}
			}
		}
	}
	return nil
}
