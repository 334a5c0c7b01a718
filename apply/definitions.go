package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

const (
	// definitionsAge bounds how long a session believes what it has read of the tables: after somebody narrows a column,
	// a value might be rounded for at most so long. (A changed table that makes a statement fail is noticed at once.)
	definitionsAge = time.Minute
	// maxPlans bounds the definitions that a session keeps of what other offices send: far above the tables of a fleet.
	maxPlans = 4096
)

// definitions is what a session knows of the tables here, and the plans made from it.
type definitions struct {
	engine schema.Engine
	space  string // this database's own name of the fleet's default schema
	read   func(context.Context) ([]catalog.Table, error)
	// unmapped is nil where every value that a column cannot hold is refused.
	unmapped Unmapped

	readAt time.Time
	since  uint64 // of Applier.defined, as of which the definitions are
	tables map[schema.TableName]*catalog.Table
	plans  map[uint64]*plan
	marks  *form // see progressForm
	ours   map[string]*form
	past   *past // nil: nothing is known

	relations  map[schema.TableName]*relation   // see related
	references map[schema.TableName][]reference // see refer
	covered    map[string]bool                  // the names of their foreign keys
	relatedAt  time.Time
}

// refresh forgets definitions that are too old, or from before a schema change. Only between transactions.
func (d *definitions) refresh(since uint64) {
	if d.since != since || d.tables != nil && time.Since(d.readAt) > definitionsAge {
		d.forget()
	}
	d.since = since
}

func (d *definitions) forget() { d.tables, d.plans = nil, nil }

// plan finds the way of a definition's rows into the table of that name here.
func (d *definitions) plan(ctx context.Context, source *schema.Table) (*plan, error) {
	if p := d.plans[source.Fingerprint()]; p != nil && p.source.TableName == source.TableName && len(p.source.Columns) == len(source.Columns) {
		return p, nil
	}
	if d.tables == nil {
		if err := d.load(ctx); err != nil {
			return nil, err
		}
	}
	target := d.tables[source.TableName]
	if target == nil {
		now, gone := d.past.table(source.TableName)
		if target = d.tables[now]; target == nil && gone {
			return nil, errDropped
		}
	}
	if target == nil {
		return nil, &unfitError{&schema.RejectedError{
			Table: source.TableName, Cause: errors.New("there is no such table here"),
			Remedy: d.creating(source) + ", or flow: none (or send) for the table",
		}}
	}
	p, err := newPlanSince(source, target, d.engine, d.past)
	if err != nil {
		return nil, err
	}
	if d.unmapped != nil {
		p.replace(d.unmapped)
	}
	if len(d.plans) >= maxPlans {
		clear(d.plans)
	}
	d.plans[source.Fingerprint()] = p
	return p, nil
}

// creating is the statement that makes a table that is not here, as far as its rows tell what it is.
func (d *definitions) creating(source *schema.Table) string {
	statement, err := catalog.CreateTable(d.engine, cmp.Or(source.Schema, d.space), source)
	if err != nil {
		return "create it as it is at its origin"
	}
	return strings.NewReplacer("\n\t", " ", "\n", " ").Replace(statement)
}

// named is the way of this office's own rows into a table of its own, named as the fleet calls it.
func (d *definitions) named(ctx context.Context, name string) (*plan, error) {
	if d.tables == nil {
		if err := d.load(ctx); err != nil {
			return nil, err
		}
	}
	for n, t := range d.tables {
		if n.String() == name {
			return d.plan(ctx, t.Table)
		}
	}
	return nil, fmt.Errorf("there is no table %s here any more", name)
}

func (d *definitions) load(ctx context.Context) error {
	tables, err := d.read(ctx)
	if err != nil {
		return fmt.Errorf("read the definitions of the tables: %w", err)
	}
	d.readAt = time.Now()
	d.tables, d.plans = make(map[schema.TableName]*catalog.Table, len(tables)), map[uint64]*plan{}
	for i := range tables {
		d.tables[tables[i].TableName] = &tables[i]
	}
	return nil
}

// staleSince reports whether what is known was read before t: a failure may then come from a table that was changed.
func (d *definitions) staleSince(t time.Time) bool { return d.tables != nil && d.readAt.Before(t) }

// progressForm is the session's form of the progress row's update.
func (d *definitions) progressForm() *form {
	if d.marks == nil {
		d.marks = progressForm(d.engine)
	}
	return d.marks
}
