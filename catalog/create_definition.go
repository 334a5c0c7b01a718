package catalog

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"cdc-sidecar/schema"
)

const (
	// mysqlNameChars is how many characters a name may have in MySQL and MariaDB.
	mysqlNameChars = 64
	// mysqlUnsetTimestamp is the default of a TIMESTAMP that must not be NULL and has none: without one, older servers give it the
	// time of every change.
	mysqlUnsetTimestamp = "'1970-01-02 00:00:00'"
)

// clause is a column as CREATE TABLE and ALTER TABLE write it.
type clause struct {
	name     string
	typ      string
	def      string // behind DEFAULT; empty: none
	computed string // the expression of a generated column
	comment  string
	null     bool
	stored   bool
	serial   bool // the database gives numbers
	always   bool // and nobody else
}

// ddl is the column with all that is said of it. Postgres' comments are statements of their own.
func (c *clause) ddl(engine schema.Engine) string {
	d := dialect{to: engine}
	s := d.quote(c.name) + " " + c.typ
	if engine == schema.Postgres {
		switch {
		case c.computed != "":
			s += " GENERATED ALWAYS AS (" + c.computed + ") STORED"
		case c.serial:
			s += " " + identity(c.always)
		case c.def != "":
			s += " DEFAULT " + c.def
		}
		if !c.null {
			s += " NOT NULL"
		}
		return s
	}
	switch {
	case c.computed != "": // MariaDB has no NOT NULL of what it computes
		s += " GENERATED ALWAYS AS (" + c.computed + ") " + map[bool]string{true: "STORED", false: "VIRTUAL"}[c.stored]
	case !c.null:
		s += " NOT NULL"
	case strings.HasPrefix(c.typ, "timestamp"):
		s += " NULL"
	}
	if c.computed == "" {
		s += defaultWord(c.def)
		if c.serial {
			s += " AUTO_INCREMENT"
		}
	}
	if c.comment != "" {
		s += " COMMENT " + mysqlConstant(c.comment)
	}
	return s
}

func identity(always bool) string {
	return "GENERATED " + map[bool]string{true: "ALWAYS", false: "BY DEFAULT"}[always] + " AS IDENTITY"
}

// defaultWord is DEFAULT with its expression; what only says ON UPDATE needs no such word.
func defaultWord(def string) string {
	if def == "" || strings.HasPrefix(strings.ToUpper(def), "ON UPDATE ") {
		return strings.TrimRight(" "+def, " ")
	}
	return " DEFAULT " + def
}

// definitionTypes are the types of a definition's columns at an engine, with MySQL's character sets and collations. Besides what
// is said at CreateTable: a Postgres makes another Postgres' enum types (space is where the table stands), and texts under a
// unique index or a foreign key are compared byte by byte in a MySQL, as the key is.
func definitionTypes(engine schema.Engine, space string, d *schema.Definition) ([]string, error) {
	if engine == schema.Postgres {
		return postgresDefinitionTypes(space, d)
	}
	specs, err := mysqlSpecs(engine, d.Table)
	if err != nil {
		return nil, err
	}
	markExact(specs, d, !related(engine, d.Engine))
	fitKey(specs)
	fitRow(specs)
	types := make([]string, len(specs))
	for i := range specs {
		types[i] = specs[i].ddl(engine)
		if d.Engine == engine && collates(d.Columns[i].Kind) {
			types[i] = collated(types[i], d.Details[i].Collation)
		}
	}
	return types, generatedKey(d.Table)
}

// collates reports whether values of a kind have a collation in MySQL.
func collates(k schema.Kind) bool {
	return k == schema.KindText || k == schema.KindEnum || k == schema.KindSet
}

// collated is a type with this collation instead of another.
func collated(typ, collation string) string {
	if collation == "" {
		return typ
	}
	typ, _, _ = strings.Cut(typ, " CHARACTER SET")
	charset, _, _ := strings.Cut(collation, "_")
	return typ + " CHARACTER SET " + charset + " COLLATE " + collation
}

// markExact marks texts that are compared byte by byte: those of foreign keys, which must be compared as the key is that they mean,
// and of a Postgres those that are unique.
func markExact(specs []mysqlSpec, d *schema.Definition, postgres bool) {
	for _, x := range d.Indexes {
		for _, p := range x.Parts {
			if i := d.Column(p.Column); postgres && x.Unique && i >= 0 {
				specs[i].exact = true
			}
		}
	}
	for _, k := range d.ForeignKeys {
		for _, name := range k.Columns {
			i := d.Column(name)
			if i < 0 || specs[i].name == "" {
				continue
			}
			specs[i].exact, specs[i].bound = true, true
			if specs[i].length == 0 || specs[i].length*specs[i].unit > mysqlKeyBytes {
				specs[i].length = mysqlKeyText
			}
		}
	}
}

func postgresDefinitionTypes(space string, d *schema.Definition) ([]string, error) {
	if d.Engine != schema.Postgres {
		return postgresColumnTypes(schema.Postgres, d.Table)
	}
	types := make([]string, len(d.Columns))
	for i := range d.Columns {
		c := &d.Columns[i]
		switch {
		case postgresHas(c.Native):
			types[i] = c.Native
		case c.Kind == schema.KindEnum:
			types[i] = enumType(space, c)
		case c.Kind == schema.KindNative && c.Native != "": // of an extension, which both may have
			types[i] = c.Native
		default:
			var err error
			if types[i], err = postgresColumnType(d.Table, c, slices.Contains(d.Key, i)); err != nil {
				return nil, err
			}
		}
		if x := d.Details[i].Collation; c.Kind == schema.KindText && (x == "C" || x == "POSIX") { // the others depend on the system
			types[i] += " COLLATE " + quotePostgres(x)
		}
	}
	return types, generatedKey(d.Table)
}

// enumType is an enum type of another Postgres as it is called here: beside the table.
func enumType(space string, c *schema.Column) string {
	_, name := splitType(c.Native)
	return quotePostgres(space) + "." + quotePostgres(name)
}

// makeEnum makes an enum type, or adds to the one that is there what it lacks.
func makeEnum(typ string, labels []string) []string {
	quoted := make([]string, len(labels))
	for i, l := range labels {
		quoted[i] = postgresConstant(l)
	}
	made := "DO $cdc$ BEGIN CREATE TYPE " + typ + " AS ENUM (" + strings.Join(quoted, ", ") + "); EXCEPTION WHEN duplicate_object THEN NULL; END $cdc$"
	all := []string{made}
	for _, l := range quoted {
		all = append(all, "ALTER TYPE "+typ+" ADD VALUE IF NOT EXISTS "+l)
	}
	return all
}

// shortened is a name that the engine takes: a longer one is cut, and tells itself from others that begin alike by its hash.
func shortened(engine schema.Engine, name string) string {
	if nameFits(engine, name) {
		return name
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	end := fmt.Sprintf("_%08x", h.Sum32())
	runes := []rune(name)
	for len(runes) > 0 && !nameFits(engine, string(runes)+end) {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + end
}

func nameFits(engine schema.Engine, name string) bool {
	if engine == schema.Postgres {
		return len(name) <= postgresNameBytes
	}
	return len([]rune(name)) <= mysqlNameChars
}

// namesFit: the name of a table or of a column cannot be another one here, for rows go by it.
func namesFit(engine schema.Engine, t *schema.Table, names ...string) error {
	for _, name := range names {
		if !nameFits(engine, name) {
			most := map[bool]string{true: "63 bytes", false: "64 characters"}[engine == schema.Postgres]
			return &schema.RejectedError{
				Table: t.TableName, Cause: fmt.Errorf("the name %s is longer than the %s that %s keeps", name, most, engine), Remedy: "shorten it, or flow: none for the table",
			}
		}
	}
	return nil
}

// indexName is what an index of another engine is called here. In a Postgres its name must be free among all tables and indexes
// of the schema, in a MySQL only among the table's.
func indexName(to, from schema.Engine, table string, x *schema.Index) string {
	name := x.Name
	switch {
	case to == schema.Postgres && from != schema.Postgres:
		name = prefixed(table, name)
		if end := map[bool]string{true: "_key", false: "_idx"}[x.Unique]; !strings.HasSuffix(name, end) {
			name += end
		}
	case to != schema.Postgres && strings.EqualFold(name, "PRIMARY"):
		name = prefixed(table, name)
	}
	return shortened(to, name)
}

// constraintName is what a check or a foreign key is called here: its name must be free in all of a MySQL's database, elsewhere
// only in the table.
func constraintName(to, from schema.Engine, table, name string) string {
	if to != schema.Postgres && to != from {
		name = prefixed(table, name)
	}
	return shortened(to, name)
}

func prefixed(table, name string) string {
	if strings.HasPrefix(strings.ToLower(name), strings.ToLower(table)+"_") {
		return name
	}
	return table + "_" + name
}

// sameIndexName reports whether the index here is the one that another engine calls by its own name.
func sameIndexName(here schema.Engine, x *schema.Index, from schema.Engine, y *schema.Index, table string) bool {
	return schema.SameName(x.Name, y.Name) || schema.SameName(x.Name, indexName(here, from, table, y)) || schema.SameName(y.Name, indexName(from, here, table, x))
}

func sameConstraintName(here schema.Engine, x string, from schema.Engine, y, table string) bool {
	return schema.SameName(x, y) || schema.SameName(x, constraintName(here, from, table, y)) || schema.SameName(y, constraintName(from, here, table, x))
}

// CreateDefinition are the statements that make another office's table in a database of an engine, with defaults, generated
// columns, checks and comments, where ownSchema is the database's own name of the schema. Indexes and foreign keys are not among
// them: they are steps of their own. Notices say what has no meaning here and was left out. Types are those of CreateTable, but
// for Postgres' enums, which another Postgres has as well. A *schema.RejectedError names what cannot be here at all.
func CreateDefinition(engine schema.Engine, ownSchema string, d *schema.Definition) (statements, notices []string, err error) {
	if len(d.Key) == 0 {
		return nil, nil, &schema.RejectedError{
			Table: d.TableName, Cause: errors.New("it has no key, so its rows cannot be told apart"), Remedy: "give it a primary key, or flow: none for the table",
		}
	}
	clauses, notices, err := clausesOf(engine, ownSchema, d)
	if err != nil {
		return nil, nil, err
	}
	x := dialect{to: engine, from: d.Table}
	var lines, key []string
	for _, computed := range []bool{false, true} { // MySQL wants columns with defaults before those that are computed of them
		for i := range clauses {
			if last := clauses[i].computed != "" && engine == schema.MySQL && d.Engine == schema.Postgres; last == computed {
				lines = append(lines, "\t"+clauses[i].ddl(engine))
			}
		}
	}
	for _, k := range d.Key {
		key = append(key, x.quote(d.Columns[k].Name))
	}
	lines = append(lines, "\tPRIMARY KEY ("+strings.Join(key, ", ")+")")
	if serial := serialKey(engine, d, clauses); serial != "" {
		lines = append(lines, "\t"+serial)
	}
	for i := range d.Checks {
		text, why := x.condition(d.Checks[i].Expression)
		if why != "" {
			notices = append(notices, fmt.Sprintf("the check %s is not here: %s", d.Checks[i].Name, why))
			continue
		}
		lines = append(lines, "\tCONSTRAINT "+x.quote(constraintName(engine, d.Engine, d.Name, d.Checks[i].Name))+" CHECK ("+text+")")
	}
	name := x.quote(ownSchema) + "." + x.quote(d.Name)
	create := "CREATE TABLE IF NOT EXISTS " + name + " (\n" + strings.Join(lines, ",\n") + "\n)"
	if engine != schema.Postgres {
		create += " ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4"
		if d.Comment != "" {
			create += " COMMENT=" + mysqlConstant(d.Comment)
		}
		return append(makeSchema(engine, ownSchema, d), create), notices, nil
	}
	statements = append(append(makeSchema(engine, ownSchema, d), enumsOf(ownSchema, d)...), create)
	if d.Comment != "" {
		statements = append(statements, "COMMENT ON TABLE "+name+" IS "+postgresConstant(d.Comment))
	}
	for i := range clauses {
		if c := &clauses[i]; c.comment != "" {
			statements = append(statements, "COMMENT ON COLUMN "+name+"."+quotePostgres(c.name)+" IS "+postgresConstant(c.comment))
		}
	}
	return statements, notices, nil
}

// makeSchema makes the schema of a table that is not in the fleet's default one. A Postgres asks for more rights than the table
// needs even where the schema is there.
func makeSchema(engine schema.Engine, space string, d *schema.Definition) []string {
	switch {
	case d.Schema == "":
		return nil
	case engine == schema.Postgres:
		return []string{"DO $cdc$ BEGIN IF to_regnamespace(" + postgresConstant(quotePostgres(space)) + ") IS NULL THEN CREATE SCHEMA " + quotePostgres(space) + "; END IF; END $cdc$"}
	}
	return []string{"CREATE DATABASE IF NOT EXISTS " + QuoteMySQL(space)}
}

// enumsOf makes the enum types that the columns of another Postgres' table have.
func enumsOf(space string, d *schema.Definition) (all []string) {
	for i := range d.Columns {
		if c := &d.Columns[i]; isEnumType(d, c) && len(c.Labels) > 0 {
			all = append(all, makeEnum(enumType(space, c), c.Labels)...)
		}
	}
	return all
}

func isEnumType(d *schema.Definition, c *schema.Column) bool {
	return d.Engine == schema.Postgres && c.Kind == schema.KindEnum && !postgresHas(c.Native)
}

// clausesOf are all columns of a definition as they would be here.
func clausesOf(engine schema.Engine, space string, d *schema.Definition) (all []clause, notices []string, err error) {
	names := []string{d.Name}
	for i := range d.Columns {
		names = append(names, d.Columns[i].Name)
	}
	if err := namesFit(engine, d.Table, names...); err != nil {
		return nil, nil, err
	}
	types, err := definitionTypes(engine, space, d)
	if err != nil {
		return nil, nil, err
	}
	serial := false
	for i := range d.Columns {
		c, whys := clauseOf(engine, d, i, types[i])
		if c.serial && serial && engine != schema.Postgres {
			c.serial = false
			whys = append(whys, fmt.Sprintf("column %s gets no numbers here: %s gives them to one column of a table", c.name, engine))
		}
		serial = serial || c.serial
		all, notices = append(all, c), append(notices, whys...)
	}
	return all, notices, nil
}

// clauseOf is one column, given its type here.
func clauseOf(engine schema.Engine, d *schema.Definition, i int, typ string) (c clause, notices []string) {
	from, detail := &d.Columns[i], &d.Details[i]
	x := dialect{to: engine, from: d.Table}
	have := typed(engine, from.Name, typ)
	c = clause{name: from.Name, typ: typ, comment: detail.Comment, null: mayBeNull(d.Table, i)}
	say := func(why string) {
		if why != "" {
			notices = append(notices, why)
		}
	}
	if detail.Computed.Kind != schema.NoExpression {
		var why string
		if c.computed, why = x.computed(detail.Computed); c.computed != "" {
			c.stored = detail.Stored || engine == schema.Postgres
			c.null = c.null || from.Nullable
			return c, nil
		}
		say(fmt.Sprintf("column %s is not computed here: %s", from.Name, why))
	}
	if detail.Serial {
		if c.serial = have.Kind == schema.KindInt; c.serial {
			c.always = from.Identity && engine == d.Engine
			return c, notices
		}
		say(fmt.Sprintf("column %s gets no numbers here: they are not given to a %s", from.Name, typ))
	}
	if from.Generated {
		return c, notices
	}
	var why string
	c.def, why = x.columnDefault(from, &have, detail.Default)
	say(why)
	if engine != schema.Postgres && strings.HasPrefix(typ, "timestamp") && !c.null && c.def == "" {
		c.def = mysqlUnsetTimestamp
	}
	return c, notices
}

// serialKey is the index without which a MySQL gives a column no numbers, where the primary key does not begin with that column.
func serialKey(engine schema.Engine, d *schema.Definition, clauses []clause) string {
	at := slices.IndexFunc(clauses, func(c clause) bool { return c.serial })
	if engine == schema.Postgres || at < 0 || d.Key[0] == at {
		return ""
	}
	for i := range d.Indexes {
		x := &d.Indexes[i]
		if len(x.Parts) == 1 && x.Parts[0].Column == clauses[at].name && x.Method == "" && x.Where.Kind == schema.NoExpression {
			return map[bool]string{true: "UNIQUE "}[x.Unique] + "KEY " + QuoteMySQL(indexName(engine, d.Engine, d.Name, x)) + " (" + QuoteMySQL(clauses[at].name) + ")"
		}
	}
	return "KEY (" + QuoteMySQL(clauses[at].name) + ")"
}
