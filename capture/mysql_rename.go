package capture

import (
	"slices"
	"strings"

	"cdc-sidecar/schema"
)

func sortNames(names []schema.TableName) {
	slices.SortFunc(names, func(a, b schema.TableName) int { return strings.Compare(a.String(), b.String()) })
}

// rename follows the tables of a RENAME TABLE, which moves them one after the other: a tool swaps a changed copy in by
// t TO _t_del, _t_gho TO t. What counts is which table stands where in the end.
func (c *mysqlChange) rename(pairs []mysqlRename) error {
	stands := map[schema.TableName]schema.TableName{} // by place: which table, by its name before; none: no table
	by := map[schema.TableName]schema.TableName{}     // where a table went first
	var places []schema.TableName
	none := schema.TableName{}
	for _, r := range pairs {
		table, moved := stands[r.from]
		if !moved {
			table = r.from
			places = append(places, r.from)
		}
		if _, ok := stands[r.to]; !ok {
			places = append(places, r.to)
		}
		stands[r.from], stands[r.to] = none, table
		if !moved {
			by[table] = r.to
		}
	}
	was, aside, takes := map[schema.TableName]*schema.Definition{}, map[schema.TableName]*schema.Definition{}, map[schema.TableName]bool{}
	for _, place := range places {
		was[place], aside[place], takes[place] = c.ddl.known[place], c.ddl.aside[place], c.takes(place)
		delete(c.ddl.aside, place)
	}
	var moves []mysqlRename // of tables that are known, to where tables are sent
	for _, place := range places {
		switch table := stands[place]; {
		case table == none:
		case !takes[place] && was[table] != nil:
			c.putAside(place, was[table])
		case !takes[place]:
			c.putAside(place, aside[table])
		case was[table] != nil && table != place:
			moves = append(moves, mysqlRename{table, place})
		}
	}
	for _, table := range places { // what leaves makes room first, unless something that nobody knows takes its place
		leaves := was[table] != nil && stands[table] != table && !slices.ContainsFunc(moves, func(r mysqlRename) bool { return r.from == table })
		if next := stands[table]; leaves && (next == none || was[next] != nil) {
			c.define(table, table, nil)
		}
	}
	if err := c.moveAll(moves, by); err != nil {
		return err
	}
	for _, place := range places {
		if table := stands[place]; table != none && table != place && was[table] == nil && takes[place] {
			if err := c.moved(place, place, aside[table]); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxThirds bounds the search for a third place that is sent.
const maxThirds = 8

// moveAll renames tables, each when its new place is free. Of those that exchange their places one goes by a third, as it did in
// the statement: their rows go with them.
func (c *mysqlChange) moveAll(moves []mysqlRename, by map[schema.TableName]schema.TableName) error {
	for len(moves) > 0 {
		next := slices.IndexFunc(moves, func(r mysqlRename) bool { return c.ddl.known[r.to] == nil })
		if next < 0 {
			occupied := func(place schema.TableName) bool { return c.ddl.known[place] != nil }
			r := &moves[max(slices.IndexFunc(moves, func(r mysqlRename) bool { return !occupied(by[r.from]) }), 0)]
			third := by[r.from]
			for n := 0; occupied(third) || n < maxThirds && !c.takes(third); n++ {
				third.Name += "_"
			}
			c.define(r.from, third, c.renamed(c.ddl.known[r.from], third))
			r.from = third
			continue
		}
		r := moves[next]
		moves = slices.Delete(moves, next, next+1)
		if err := c.moved(r.from, r.to, c.ddl.known[r.from]); err != nil {
			return err
		}
	}
	return nil
}

// renamed is a table as it is called at another place.
func (c *mysqlChange) renamed(content *schema.Definition, to schema.TableName) *schema.Definition {
	is := renameGenerated(content, to.Name)
	is.TableName = c.fleet(to)
	is.Table = schema.NewTable(*is.Table)
	return is
}

// moved defines what stands at a place now. content is the table that moved there, as it was; nil: nobody knows it.
func (c *mysqlChange) moved(from, to schema.TableName, content *schema.Definition) error {
	now, exact, err := c.see(to)
	if err != nil {
		return err
	}
	is := now
	if !exact && content != nil {
		is = c.renamed(content, to)
	}
	if is == nil && c.ddl.known[from] != nil { // it went further since: the next statement says where to
		is = c.renamed(c.ddl.known[from], to)
	}
	c.define(from, to, c.identified(from, is, mysqlMoves{}))
	return nil
}

// renameGenerated is a copy of d in which the constraints are called as the servers call them when a table gets another name: those
// that were named after it are named after it again.
func renameGenerated(d *schema.Definition, name string) *schema.Definition {
	is := cloneDefinition(d)
	for i := range is.ForeignKeys {
		if number, ok := strings.CutPrefix(is.ForeignKeys[i].Name, d.Name+"_ibfk_"); ok {
			is.ForeignKeys[i].Name = name + "_ibfk_" + number
		}
	}
	for i := range is.Checks {
		if number, ok := strings.CutPrefix(is.Checks[i].Name, d.Name+"_chk_"); ok {
			is.Checks[i].Name = name + "_chk_" + number
		}
	}
	return is
}

// maxCandidates bounds the tables that a statement which is not understood is searched for.
const maxCandidates = 32

// unparsed takes in a statement that the parser does not know: each table that it names counts as done to where the catalog is.
func (c *mysqlChange) unparsed(s mysqlStatement, ownSchema string, why error) error {
	var gone, came []schema.TableName
	now := map[schema.TableName]*schema.Definition{}
	for _, own := range c.candidates(s, ownSchema) {
		is, _, err := c.see(own)
		if err != nil {
			return err
		}
		was := c.ddl.known[own]
		now[own] = is
		switch {
		case was == nil && is == nil:
		case is == nil:
			gone = append(gone, own)
		case was == nil:
			came = append(came, own)
		default:
			c.whole(own, own, is, why)
		}
	}
	if len(gone) == 1 && len(came) == 1 && len(now[came[0]].Columns) == len(c.ddl.known[gone[0]].Columns) { // a rename
		c.whole(gone[0], came[0], now[came[0]], why)
		return nil
	}
	for _, own := range gone {
		if s.keyword() == "DROP" {
			c.whole(own, own, nil, why)
			continue
		}
		// It went later, which another statement says, or it is of a kind now that is not read (WITH SYSTEM VERSIONING).
		c.ddl.log.Warn("a schema change of the binlog is not understood, and its table is not there any more", "table", c.fleet(own), "statement", c.text(), "error", shortened(why))
	}
	for _, own := range came {
		c.whole(own, own, now[own], why)
	}
	return nil
}

func (c *mysqlChange) whole(from, to schema.TableName, is *schema.Definition, why error) {
	c.ddl.log.Warn("a schema change of the binlog is not understood: the table is taken as it is now", "table", c.fleet(to), "statement", c.text(), "error", shortened(why))
	c.define(from, to, c.identified(from, is, mysqlMoves{}))
}

// candidates are the tables that the statement may be about: those that are known and of which a word has the name, and
// what stands where the names of tables stand.
func (c *mysqlChange) candidates(s mysqlStatement, ownSchema string) []schema.TableName {
	var names []schema.TableName
	add := func(own schema.TableName) {
		if c.ddl.lower {
			own.Schema, own.Name = strings.ToLower(own.Schema), strings.ToLower(own.Name)
		}
		if own.Name != "" && len(names) < maxCandidates && !slices.Contains(names, own) && c.takes(own) {
			names = append(names, own)
		}
	}
	for i := 1; i < len(s.words); i++ {
		at := i + 1
		if s.is(at, "IF") {
			for s.is(at, "IF") || s.is(at, "NOT") || s.is(at, "EXISTS") {
				at++
			}
		}
		if s.is(i, "TABLE") || s.is(i, "TABLES") || s.is(i, "ON") || s.is(i, "TO") || s.is(i, "RENAME") {
			add(s.name(at, ownSchema))
		}
	}
	var known []schema.TableName
	for own := range c.ddl.known {
		if slices.ContainsFunc(s.words, func(w mysqlWord) bool { return strings.EqualFold(w.text, own.Name) }) {
			known = append(known, own)
		}
	}
	sortNames(known)
	for _, own := range known {
		add(own)
	}
	return names
}

// settle compares what the statements said with what the catalog did, where the log has been read to that place. It is called
// at the end of a transaction, of which the difference becomes a part if it is one of the office's own.
func (d *mysqlDecoder) settle() {
	if d.ddl == nil || len(d.ddl.ahead) == 0 || d.mode != nobodys && d.mode != applications {
		return
	}
	var due []schema.TableName
	for own, sight := range d.ddl.ahead {
		if d.position.reached(sight.at) {
			due = append(due, own)
		}
	}
	sortNames(due)
	d.ddl.begin(d.assembler.commit)
	c := &mysqlChange{mysqlDecoder: d, at: d.position}
	for _, own := range due {
		is := d.ddl.ahead[own].is
		delete(d.ddl.ahead, own)
		if is == nil { // it is gone since, which a statement of the log says
			continue
		}
		was := d.ddl.known[own]
		if is = c.identified(own, is, mysqlMoves{}); len(schema.Diff(was, is)) > 0 {
			d.ddl.log.Info("the catalog says more of a table than the statements did", "table", is.TableName)
			c.define(own, own, is)
		}
	}
}
