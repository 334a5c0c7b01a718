package apply

import (
	"context"
	"errors"
	"testing"
	"time"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// stall is a database in memory with a table that all offices write, and an Applier that takes all schema changes.
type stall struct {
	*testing.T
	db      *Memory
	applier *Applier
}

func newStall(t *testing.T, engine schema.Engine, o Options) *stall {
	table := *is("goods", integer("id"), text("name")).Table
	table.Engine = engine
	db := NewMemory(MemoryOptions{Engine: engine, Tables: []catalog.Table{{Table: schema.NewTable(table), OwnSchema: memorySpace}}, Now: time.Now, OldRows: true})
	o.DDL = DDL{Apply: ApplyAll}
	s := &stall{t, db, New(db.Target(func(context.Context, string) error { return nil }), o)}
	t.Cleanup(s.applier.Close)
	if err := s.applier.Begin(t.Context(), "elsewhere", schema.Position{Epoch: epoch}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stall) runs(statement string) {
	s.Helper()
	if err := s.db.Define(s.Context(), func(context.Context, string) error { return nil }, statement); err != nil {
		s.Fatal(err)
	}
}

// A branch drops a table that the head still writes: rows wait, until the head has dropped it, too.
func TestRowsOfADroppedTable(t *testing.T) {
	for _, engine := range []schema.Engine{schema.Postgres, schema.MariaDB} {
		s := newStall(t, engine, Options{Office: "branch", Role: schema.Branch})
		goods := is("goods", integer("id"), text("name"))
		s.runs(`DROP TABLE "goods"`)
		if err := s.applier.Apply(t.Context(), "elsewhere", []schema.Transaction{tx(1, insert(goods.Table, "1", "a"))}); err != nil {
			t.Fatal(err)
		}
		if n := len(s.db.Parked()); n != 1 {
			t.Fatalf("%s: %d changes wait, not one", engine, n)
		}
		dropped := tx(2, became(goods, nil))
		dropped.Origin = "branch"
		if err := s.applier.Apply(t.Context(), "elsewhere", []schema.Transaction{dropped}); err != nil {
			t.Fatal(err)
		}
		if err := s.applier.Tend(t.Context(), "elsewhere"); err != nil {
			t.Fatal(err)
		}
		if n := len(s.db.Parked()); n != 0 {
			t.Errorf("%s: %d changes still wait for a table that nobody has", engine, n)
		}
	}
}

// What was read of rows before a table was changed is not decided about.
func TestDecisionsKnowTheTable(t *testing.T) {
	c := &clocks{}
	c.forget()
	s := newStall(t, schema.Postgres, Options{Office: "head", Role: schema.Head, Clocks: c})
	ses, err := s.applier.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{}
	w.start(&stream{applier: s.applier, sender: "elsewhere"}, ses, false)
	if err := w.barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.applier.unsure() // as Noting does when the own log tells of a changed table
	if err := w.barrier(t.Context()); !errors.Is(err, errBusy) {
		t.Errorf("rows in the columns of before are decided about: %v", err)
	}
	s.applier.release(ses)
	if ses, err = s.applier.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.start(&stream{applier: s.applier, sender: "elsewhere"}, ses, false)
	if err := w.barrier(t.Context()); err != nil {
		t.Errorf("with the table as it is: %v", err)
	}
}

// A row of an older definition that is made here has what rows got when columns were added.
func TestCompleteImage(t *testing.T) {
	was, now := is("goods", integer("id"), text("name")), is("goods", integer("id"), text("name"), integer("stock"), text("note"))
	now.Details[2].Default = schema.Expression{Kind: schema.LiteralValue, Text: "7"}
	var rows []ddlStep
	for _, name := range []string{"stock", "note"} {
		c := became(was, now)
		rows = append(rows, ddlStep{SchemaStep: SchemaStep{Step: schema.AddColumn, Subject: name, State: schema.DDLDone, Table: "goods"}, body: bodyOf(new(tx(1, c)), 0, &c)})
	}
	past, err := newPast(rows)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPlanSince(was.Table, &catalog.Table{Table: now.Table}, schema.Postgres, past)
	if err != nil {
		t.Fatal(err)
	}
	image, err := p.image(row("1", "a"))
	if err != nil {
		t.Fatal(err)
	}
	if p.completeImage(image); !image.Complete(now.Table) || image[2].Text() != "7" || !image[3].IsNull() {
		t.Errorf("the row is %v", image)
	}
}

// A key by which a reader goes on is one of the table as it is.
func TestReadingOnInAChangedTable(t *testing.T) {
	s := newStall(t, schema.MariaDB, Options{Office: "branch", Role: schema.Branch})
	name := schema.TableName{Name: "goods"}
	s.db.Load(name, row("1", "a"))
	_, rows, _, err := s.applier.Stretch(t.Context(), name, nil, 1, 1000)
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	s.runs(`ALTER TABLE "goods" ADD COLUMN "more" int`)
	s.applier.unsure()
	for _, read := range []func(context.Context, schema.TableName, schema.Row) error{
		func(ctx context.Context, n schema.TableName, from schema.Row) error {
			_, _, _, err := s.applier.Stretch(ctx, n, from, 1, 1000)
			return err
		},
		func(ctx context.Context, n schema.TableName, from schema.Row) error {
			_, _, _, err := s.applier.Keys(ctx, n, from, 1)
			return err
		},
	} {
		if read(t.Context(), name, rows[0]) == nil {
			t.Error("a key of the table as it was is taken for one of the table as it is")
		}
	}
}
