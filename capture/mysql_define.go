package capture

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/pingcap/tidb/pkg/parser/ast"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// mysqlDefinitions is what the tables are at the place where the log is read, as the stream has been told. A statement of the log
// says what it does to a table, but not always exactly what comes of it; the catalog says that exactly, but of a later moment. So
// a changed table is what the catalog says when nothing stands in the log behind the statement; else what the statement says
// (mysqlProjection), and when the log has been read to where the catalog was, the two are compared.
type mysqlDefinitions struct {
	engine schema.Engine
	lower  bool // the server keeps names in small letters
	log    *slog.Logger
	// read gives a table as the catalog has it now, nil when there is none, and a place of the log that is not before that.
	read func(own schema.TableName) (*schema.Definition, *mysqlPosition, error)
	// noted takes what cdc_sidecar.definitions has to say when everything to the place is durable with us.
	noted func(at *mysqlPosition, notes []mysqlNote)

	known map[schema.TableName]*schema.Definition // by the database's own names
	ahead map[schema.TableName]mysqlSight         // what was seen of the catalog when it was ahead of the log
	aside map[schema.TableName]*schema.Definition // tables that are not sent, as far as the log says what they are: one may take the place of one that is
	notes []mysqlNote                             // of the open transaction
	next  int                                     // the ID of the next new column
}

// begin makes a column's ID that no earlier column had, whether it is remembered or not: by the statement's time in the log, and
// those that are remembered.
func (d *mysqlDefinitions) begin(at time.Time) { d.next = max(d.next, int(at.Unix())) }

// mysqlSight is what the catalog said, and a place of the log that was not before that.
type mysqlSight struct {
	is *schema.Definition
	at *mysqlPosition
}

// mysqlNote is what becomes of a row of cdc_sidecar.definitions. Without a definition, it goes.
type mysqlNote struct {
	own       schema.TableName
	is        *schema.Definition
	statement string
}

// maxAside bounds the tables that are not sent and yet remembered.
const maxAside = 1024

// maxStatement is how much of a statement travels, for people.
const maxStatement = 4096

// mysqlChange is a statement being worked on.
type mysqlChange struct {
	*mysqlDecoder
	query string // as the log has it
	at    *mysqlPosition
	rows  bool // rows of the tables come or go with it that the log does not have
}

// schemaChange takes a statement in that may define tables.
func (d *mysqlDecoder) schemaChange(s mysqlStatement, ownSchema, query string) error {
	if d.ddl == nil || !s.changesTables() {
		return nil
	}
	at, err := d.position.behind(d.group.gtid)
	if err != nil {
		return err
	}
	d.ddl.begin(d.assembler.commit)
	c := &mysqlChange{mysqlDecoder: d, query: query, at: at, rows: s.movesRows()}
	ddl, err := parseMySQLDDL(d.ddl.engine, d.sqlMode, query, ownSchema, d.ddl.lower)
	if err != nil {
		return c.unparsed(s, ownSchema, err)
	}
	switch {
	case ddl.created != nil:
		return c.create(ddl)
	case ddl.altered != nil:
		if err := c.alter(ddl, ownSchema); err != nil {
			return err
		}
		if other := c.ddl.known[ddl.other]; other != nil { // its rows went into a partition, and others came out
			c.tell(other, other)
		}
		return nil
	case ddl.renames != nil:
		return c.rename(ddl.renames)
	}
	for own := range d.ddl.known {
		if ddl.schema != "" && own.Schema == ddl.schema {
			ddl.dropped = append(ddl.dropped, own)
		}
	}
	sortNames(ddl.dropped)
	for _, own := range ddl.dropped {
		c.define(own, own, nil)
		delete(c.ddl.aside, own)
	}
	return nil
}

// fleet is a table as the fleet calls it.
func (d *mysqlDecoder) fleet(own schema.TableName) schema.TableName {
	return catalog.MySQLName(own.Schema, own.Name, d.defaultSchema)
}

// takes reports whether the table's changes are to be sent, if it has a key.
func (d *mysqlDecoder) takes(own schema.TableName) bool {
	return d.sent(own.Schema, d.fleet(own)) && !d.shadow(own)
}

// mysqlShadows end the names of the tables in which gh-ost and pt-online-schema-change prepare a changed table x: _x_gho.
var mysqlShadows = []string{"_gho", "_ghc", "_del", "_new", "_old"}

// shadow reports whether the table is such a tool's: one beside a table that is known, or was when it was made.
func (d *mysqlDecoder) shadow(own schema.TableName) bool {
	if d.ddl != nil && d.ddl.aside[own] != nil && strings.HasPrefix(own.Name, "_") {
		return true
	}
	if d.ddl == nil || !strings.HasPrefix(own.Name, "_") {
		return false
	}
	for _, end := range mysqlShadows {
		base, ok := strings.CutSuffix(own.Name[1:], end)
		if ok && d.ddl.known[schema.TableName{Schema: own.Schema, Name: strings.TrimLeft(base, "_")}] != nil {
			return true
		}
	}
	return false
}

// see reads the catalog. It is exact when nothing stands in the log behind the statement.
func (c *mysqlChange) see(own schema.TableName) (now *schema.Definition, exact bool, err error) {
	now, at, err := c.ddl.read(own)
	if err != nil {
		return nil, false, err
	}
	delete(c.ddl.ahead, own)
	if exact = now != nil && c.at.reached(at); !exact {
		c.ddl.ahead[own] = mysqlSight{now, at}
	}
	return now, exact, nil
}

func (c *mysqlChange) projection(own schema.TableName, now *schema.Definition, ownSchema string) *mysqlProjection {
	names := mysqlClassifier{defaultSchema: ownSchema, lower: c.ddl.lower}
	return &mysqlProjection{
		engine: c.ddl.engine, now: now, nextID: &c.ddl.next,
		name: func(t *ast.TableName) schema.TableName {
			if t.Schema.O == "" {
				return c.fleet(schema.TableName{Schema: own.Schema, Name: names.name(t).Name}) // a parent stands beside its child
			}
			return c.fleet(names.name(t))
		},
	}
}

func (c *mysqlChange) create(ddl *mysqlDDL) error {
	own := ddl.table
	if ddl.created.IfNotExists && (c.ddl.known[own] != nil || c.ddl.aside[own] != nil) {
		return nil
	}
	if !c.takes(own) {
		c.putAside(own, c.created(ddl, nil))
		return nil
	}
	now, exact, err := c.see(own)
	if err != nil {
		return err
	}
	is := now
	if !exact {
		is = c.created(ddl, now)
	}
	c.define(own, own, c.identified(own, is, mysqlMoves{}))
	return nil
}

// created is the table as CREATE TABLE makes it; as the catalog has it where the statement does not say that.
func (c *mysqlChange) created(ddl *mysqlDDL, now *schema.Definition) *schema.Definition {
	p := c.projection(ddl.table, now, ddl.table.Schema)
	switch s := ddl.created; {
	case s.ReferTable != nil:
		names := mysqlClassifier{defaultSchema: ddl.table.Schema, lower: c.ddl.lower}
		if like := c.content(names.name(s.ReferTable)); like != nil {
			is := cloneDefinition(like)
			is.TableName, is.ForeignKeys = c.fleet(ddl.table), nil
			for i := range is.Checks {
				if c.ddl.engine == schema.MySQL { // where their names are the schema's
					is.Checks[i].Name = fmt.Sprintf("%s_chk_%d", is.Name, i+1)
				}
			}
			p.is = is
			return p.finish()
		}
	case len(s.Cols) > 0 && s.Select == nil:
		return p.guarded(c.ddl.log, now, func() *schema.Definition { return p.create(c.fleet(ddl.table), s) })
	}
	return now
}

// content is what stands at a place; nil: nobody knows.
func (c *mysqlChange) content(own schema.TableName) *schema.Definition {
	if known := c.ddl.known[own]; known != nil {
		return known
	}
	return c.ddl.aside[own]
}

// putAside remembers a table that is not sent; nil: it is gone, or nobody knows what it is.
func (c *mysqlChange) putAside(own schema.TableName, is *schema.Definition) {
	delete(c.ddl.aside, own)
	if is != nil && len(c.ddl.aside) < maxAside {
		c.ddl.aside[own] = is
	}
}

func (c *mysqlChange) alter(ddl *mysqlDDL, ownSchema string) error {
	from, to := ddl.table, ddl.table
	for _, r := range ddl.renames {
		to = r.to
	}
	was, takes := c.content(from), c.takes(to)
	if !takes || c.ddl.aside[from] != nil {
		c.putAside(from, nil)
		var is *schema.Definition
		if was != nil {
			p := c.projection(from, nil, ownSchema)
			is = p.guarded(c.ddl.log, nil, func() *schema.Definition { return p.alter(was, ddl.altered) })
		}
		if takes { // it comes in
			return c.moved(to, to, is)
		}
		c.putAside(to, is)
		c.define(from, from, nil)
		return nil
	}
	now, exact, err := c.see(to)
	if err != nil {
		return err
	}
	is := now
	if !exact && was != nil {
		p := c.projection(from, now, ownSchema)
		is = p.guarded(c.ddl.log, now, func() *schema.Definition { return p.alter(was, ddl.altered) })
		c.define(from, to, is)
		return nil
	}
	c.define(from, to, c.identified(from, is, movesOf(ddl.altered)))
	return nil
}

// identified is a definition of the catalog with the columns' numbers of what the table was.
func (c *mysqlChange) identified(from schema.TableName, is *schema.Definition, moves mysqlMoves) *schema.Definition {
	if is == nil {
		return nil
	}
	return numbered(c.ddl.known[from], is, moves, &c.ddl.next)
}

// mysqlMoves are what a statement says of columns that come under another name, or anew under the same.
type mysqlMoves struct {
	renamed map[string]string // new names to old ones, in small letters
	anew    map[string]bool
}

func movesOf(specs []*ast.AlterTableSpec) mysqlMoves {
	m := mysqlMoves{map[string]string{}, map[string]bool{}}
	dropped := map[string]bool{}
	for _, s := range specs {
		switch s.Tp {
		case ast.AlterTableChangeColumn:
			m.renamed[s.NewColumns[0].Name.Name.L] = s.OldColumnName.Name.L
		case ast.AlterTableRenameColumn:
			m.renamed[s.NewColumnName.Name.L] = s.OldColumnName.Name.L
		case ast.AlterTableDropColumn:
			dropped[s.OldColumnName.Name.L] = true
		case ast.AlterTableAddColumns:
			for _, c := range s.NewColumns {
				m.anew[c.Name.Name.L] = dropped[c.Name.Name.L] && !s.IfNotExists
			}
		}
	}
	return m
}

// numbered is a copy of is with the columns' IDs as they were in was, which may be nil.
func numbered(was, is *schema.Definition, moves mysqlMoves, next *int) *schema.Definition {
	is = cloneDefinition(is)
	for i := range is.Columns {
		name := strings.ToLower(is.Columns[i].Name)
		from, at := name, -1
		if old, ok := moves.renamed[name]; ok {
			from = old
		}
		if was != nil && !moves.anew[name] {
			at = columnFold(was.Columns, from)
		}
		switch {
		case at >= 0 && was.Details[at].ID != 0:
			is.Details[i].ID = was.Details[at].ID
		case was == nil:
			is.Details[i].ID = i + 1
		default:
			is.Details[i].ID = *next
			*next++
		}
	}
	is.Table = schema.NewTable(*is.Table)
	return is
}

// columnFold finds a column by its name, which MySQL compares without regard to case; -1: there is none.
func columnFold(columns []schema.Column, name string) int {
	for i := range columns {
		if strings.EqualFold(columns[i].Name, name) {
			return i
		}
	}
	return -1
}

// text is the statement for people.
func (c *mysqlChange) text() string {
	text := strings.ToValidUTF8(c.query, "\ufffd")
	if len(text) > maxStatement {
		text = strings.ToValidUTF8(text[:maxStatement], "") + "…"
	}
	return text
}

// define says that a table became is, under another name or its own; nil: it is gone.
func (c *mysqlChange) define(from, to schema.TableName, is *schema.Definition) {
	was := c.ddl.known[from]
	if was == nil && (is == nil || len(is.Key) == 0) { // what never had a key was never sent
		return
	}
	c.record(from, to, is)
	if was != nil && is != nil && from.Name != to.Name { // which is no step of its own: each server does it by itself
		was = renameGenerated(was, to.Name)
		was.Table = schema.NewTable(*was.Table)
	}
	c.tell(was, is)
}

// record remembers what the table is.
func (c *mysqlChange) record(from, to schema.TableName, is *schema.Definition) {
	if is == nil || from != to {
		delete(c.ddl.known, from)
		delete(c.ddl.ahead, from)
		c.ddl.notes = append(c.ddl.notes, mysqlNote{own: from})
	}
	if is != nil {
		c.ddl.known[to] = is
		c.ddl.notes = append(c.ddl.notes, mysqlNote{to, is, c.text()})
		c.followParent(c.fleet(from), is)
	}
}

// followParent keeps the foreign keys of others that refer to a table which is called otherwise now, as the server does.
func (c *mysqlChange) followParent(old schema.TableName, parent *schema.Definition) {
	if old == parent.TableName {
		return
	}
	for own, d := range c.ddl.known {
		for i := range d.ForeignKeys {
			if d.ForeignKeys[i].Parent != old {
				continue
			}
			child := cloneDefinition(d)
			for j := range child.ForeignKeys {
				if child.ForeignKeys[j].Parent == old {
					child.ForeignKeys[j].Parent = parent.TableName
				}
			}
			child.Table = schema.NewTable(*child.Table)
			c.ddl.known[own] = child
			c.ddl.notes = append(c.ddl.notes, mysqlNote{own, child, c.text()})
			break
		}
	}
}

// tell puts the change into the stream, where there is one that other offices can see.
func (c *mysqlChange) tell(was, is *schema.Definition) {
	moved := c.rows && was != nil && is != nil
	if !moved && len(schema.Diff(was, is)) == 0 || !c.whose(c.query) {
		return
	}
	change := schema.Change{Op: schema.Define, Definition: &schema.DefinitionChange{
		Was: was, Is: is, Statement: c.text(), Rows: moved || schema.ChangesRows(was, is, c.text()),
	}}
	if is != nil {
		change.Table = is.Table
	} else {
		change.Table = was.Table
	}
	if c.passing(change.Table.TableName) && c.mode != anotherOrigins {
		return
	}
	c.add(change)
}
