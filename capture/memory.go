package capture

import (
	"context"
	"time"

	"cdc-sidecar/schema"
)

// MemoryConfig says how to read the log of a database in memory. It is there for simulations.
type MemoryConfig struct {
	Office schema.Office
	Role   schema.Role
	Send   func(schema.TableName) bool // nil: all
	// Joining are tables that are pending at the place where reading begins; see PostgresConfig.
	Joining []string
	// Next blocks until the log has something behind a place, and returns it, a bounded batch.
	Next func(ctx context.Context, from string) ([]MemoryCommit, error)
	// LetGo says that the log is not needed before a place any more.
	LetGo func(to string)
}

// MemoryCommit is one transaction of a log in memory.
type MemoryCommit struct {
	Source string // the place behind it
	Commit time.Time
	Events []MemoryEvent
}

// MemoryEvent is one row changed, one table emptied, or one definition changed; the table is one of ours when its schema is
// schema.OwnSchema.
type MemoryEvent struct {
	Table         *schema.Table
	Op            schema.Op
	Before, After schema.Row
	Definition    *schema.DefinitionChange // of a Define; the statement may have a tag (schema.DDLTag)
}

// memorySource reads the log of a database in memory; what it makes of it is what any other source would.
type memorySource struct {
	assembler
	config MemoryConfig
	at     string
}

// OpenMemory reads a log in memory from start on.
func OpenMemory(c MemoryConfig, start string) Source {
	if c.Send == nil {
		c.Send = func(schema.TableName) bool { return true }
	}
	return &memorySource{assembler: newAssembler(c.Office, c.Role, c.Joining), config: c, at: start}
}

// Read returns what the log has behind what it returned before.
func (s *memorySource) Read(ctx context.Context) ([]schema.Transaction, error) {
	commits, err := s.config.Next(ctx, s.at)
	if err != nil {
		return nil, err
	}
	for i := range commits {
		c := &commits[i]
		s.begin(c.Commit)
		for j := range c.Events {
			if err := s.event(&c.Events[j]); err != nil {
				return nil, err
			}
		}
		s.end(c.Source)
		s.at = c.Source
	}
	return s.take(), nil
}

func (s *memorySource) event(e *MemoryEvent) error {
	if e.Table.Schema == schema.OwnSchema {
		own, err := ownTableOf(e.Table, e.Table.Name)
		if err != nil || own == nil {
			return err
		}
		return own.read(&s.assembler, &schema.Change{Table: e.Table, Op: e.Op, Before: e.Before, After: e.After})
	}
	if e.Op == schema.Define {
		s.define(e.Definition)
		return nil
	}
	if s.wants() && s.config.Send(e.Table.TableName) {
		s.add(schema.Change{Table: e.Table, Op: e.Op, Before: e.Before, After: e.After})
	}
	return nil
}

// define takes a schema change in. A statement that is a transaction by itself says in a tag whose it is; elsewhere the transaction
// says it.
func (s *memorySource) define(c *schema.DefinitionChange) {
	change := *c
	if change.Was != nil && !s.config.Send(change.Was.TableName) {
		change.Was = nil
	}
	if change.Is != nil && !s.config.Send(change.Is.TableName) || len(schema.Diff(change.Was, change.Is)) == 0 {
		return
	}
	if !s.whose(change.Statement) {
		return
	}
	table := change.Is
	if table == nil {
		table = change.Was
	}
	change.Rows = schema.ChangesRows(change.Was, change.Is, change.Statement)
	s.add(schema.Change{Table: table.Table, Op: schema.Define, Definition: &change})
}

// Confirm lets the log go.
func (s *memorySource) Confirm(source string) {
	if s.config.LetGo != nil {
		s.config.LetGo(source)
	}
}

// Close has nothing to let go of.
func (s *memorySource) Close(context.Context) error { return nil }
