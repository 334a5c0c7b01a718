package catalog

import (
	"fmt"
	"slices"
	"strings"

	"cdc-sidecar/schema"
)

// mysqlIndexBytes is how much of a long text an index has where it can have only its beginning.
const mysqlIndexBytes = mysqlKeyBytes

// source is the office's definition that names of the step belong to.
func (r *rendering) source() *schema.Definition {
	if r.Is == nil {
		return r.Was
	}
	return r.Is
}

// indexHere is the index here that the other office means; nil: it is not here.
func (r *rendering) indexHere(x *schema.Index) *schema.Index {
	if r.Here == nil {
		return nil
	}
	d := r.source()
	at := slices.IndexFunc(r.Here.Indexes, func(h schema.Index) bool { return sameIndexName(r.Engine, &h, d.Engine, x, d.Name) })
	if at < 0 {
		return nil
	}
	return &r.Here.Indexes[at]
}

func (r *rendering) dropIndex() {
	here := r.indexHere(r.Index)
	if r.out.Done = here == nil; r.out.Done {
		return
	}
	if r.Engine != schema.Postgres {
		r.run(r.alter("DROP INDEX " + r.quote(here.Name)))
		return
	}
	// A unique constraint has its index, and only the one or the other can be dropped.
	r.run(r.alter("DROP CONSTRAINT IF EXISTS "+r.quote(here.Name)), "DROP INDEX IF EXISTS "+r.quote(r.space)+"."+r.quote(here.Name))
}

func (r *rendering) addIndex() {
	statement, why := r.makeIndex(r.Index)
	if here := r.indexHere(r.Index); here != nil {
		if r.out.Done = r.sameParts(here, r.Index); !r.out.Done {
			r.conflict("another index is called %s here", here.Name)
		}
		return
	}
	r.notice(why)
	if statement != "" {
		r.run(r.exactly(r.Index)...)
		r.run(statement)
	}
}

// sameParts compares an index here with another engine's as far as columns go: expressions are written anew by every server.
func (r *rendering) sameParts(here, x *schema.Index) bool {
	if here.Unique != x.Unique && r.Engine == r.source().Engine {
		return false
	}
	plain := func(x *schema.Index) bool {
		return x.Method == "" && !slices.ContainsFunc(x.Parts, func(p schema.IndexPart) bool { return p.Column == "" })
	}
	if !plain(here) || !plain(x) || here.Native != "" || x.Native != "" {
		return true
	}
	return slices.EqualFunc(here.Parts, x.Parts, func(a, b schema.IndexPart) bool { return a.Column == b.Column })
}

// makeIndex is the statement that makes an index; empty where there is none such here. why says what it is not.
func (r *rendering) makeIndex(x *schema.Index) (statement, why string) {
	d := r.source()
	name := indexName(r.Engine, d.Engine, d.Name, x)
	if r.Engine == schema.Postgres {
		return r.postgresIndex(x, name)
	}
	return r.mysqlIndex(x, name)
}

func noIndex(x *schema.Index, format string, args ...any) (statement, why string) {
	return "", "the index " + x.Name + " is not here: " + fmt.Sprintf(format, args...)
}

func (r *rendering) postgresIndex(x *schema.Index, name string) (statement, why string) {
	create := "CREATE " + map[bool]string{true: "UNIQUE "}[x.Unique] + "INDEX " + r.quote(name) + " ON " + r.table
	same := r.source().Engine == r.Engine
	if same && x.Method == "exclude" { // a constraint, which has an index
		return r.alter("ADD CONSTRAINT " + r.quote(name) + " " + x.Native), ""
	}
	if same && x.Native != "" {
		return create + " " + afterTable(x.Native), ""
	}
	switch {
	case x.Method != "" && same:
		create += " USING " + x.Method
	case x.Method != "":
		return noIndex(x, "Postgres has no %s index", x.Method)
	}
	var parts []string
	for _, p := range x.Parts {
		part, why := r.postgresPart(&p)
		if why != "" {
			return noIndex(x, "%s", why)
		}
		parts = append(parts, part)
	}
	create += " (" + strings.Join(parts, ", ") + ")"
	if x.Where.Kind != schema.NoExpression {
		where, why := r.condition(x.Where)
		if why != "" {
			return noIndex(x, "%s", why)
		}
		create += " WHERE " + where
	}
	return create, ""
}

// afterTable is what stands in an index's own statement behind the table's name.
func afterTable(native string) string {
	if at := strings.Index(native, " USING "); at >= 0 && strings.HasPrefix(strings.ToUpper(native), "CREATE ") {
		return native[at+1:]
	}
	return native
}

// postgresPart: of MySQL's index on the beginning of a column an index on an expression is the same, also in what it makes unique.
func (r *rendering) postgresPart(p *schema.IndexPart) (part, why string) {
	switch {
	case p.Column == "":
		if part, why = r.computed(p.Expression); why != "" {
			return "", why
		}
		part = "(" + part + ")"
	case p.Prefix > 0 && r.kindOf(p.Column) == schema.KindBytes:
		part = fmt.Sprintf("(substring(%s from 1 for %d))", r.quote(p.Column), p.Prefix)
	case p.Prefix > 0:
		part = fmt.Sprintf(`(left(%s, %d))`, r.quote(p.Column), p.Prefix)
	default:
		part = r.quote(p.Column)
	}
	if p.Descending {
		part += " DESC"
	}
	return part, ""
}

func (r *rendering) kindOf(column string) schema.Kind {
	d := r.source()
	if i := d.Column(column); i >= 0 {
		return d.Columns[i].Kind
	}
	return schema.KindInvalid
}

func (r *rendering) mysqlIndex(x *schema.Index, name string) (statement, why string) {
	family := related(r.Engine, r.source().Engine)
	kind := map[bool]string{true: "UNIQUE "}[x.Unique]
	switch method := strings.ToLower(x.Method); {
	case method == "", method == "hash", method == "btree":
	case family && (method == "fulltext" || method == "spatial"):
		kind = strings.ToUpper(method) + " "
	default:
		return noIndex(x, "%s has no %s index", r.Engine, x.Method)
	}
	if x.Where.Kind != schema.NoExpression {
		if x.Unique {
			return noIndex(x, "%s has no index on a part of the rows, and equal values in the others are allowed", r.Engine)
		}
		why = fmt.Sprintf("the index %s has all rows: %s has no index on a part of them", x.Name, r.Engine)
	}
	var parts []string
	for i := range x.Parts {
		part, said, ok := r.mysqlPart(x, &x.Parts[i], kind)
		if !ok {
			return noIndex(x, "%s", said)
		}
		if said != "" {
			why = strings.TrimPrefix(why+"; ", "; ") + said
		}
		if said != "" && x.Unique && x.Parts[i].Column != "" { // two values that begin alike would be taken for one
			kind = ""
			why += ", so it is not unique here: what takes a value twice is found where it is"
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return noIndex(x, "nothing is known of its columns")
	}
	statement = r.alter("ADD " + kind + "INDEX " + r.quote(name) + " (" + strings.Join(parts, ", ") + ")")
	if x.Native != "" && r.Engine == r.source().Engine {
		statement += " " + x.Native
	}
	return statement, why
}

// mysqlPart is a column of an index; of a long text only its beginning can be in one.
func (r *rendering) mysqlPart(x *schema.Index, p *schema.IndexPart, kind string) (part, why string, ok bool) {
	if p.Column == "" {
		if r.Engine == schema.MariaDB {
			return "", "MariaDB has no index on an expression", false
		}
		for i := range r.from.Columns {
			if c := r.from.Columns[i].Name; r.longText(c) > 0 && slices.Contains(words(p.Expression.Text), `"`+c+`"`) {
				return "", "MySQL has no index on an expression of the long text " + c, false
			}
		}
		text, why := r.computed(p.Expression)
		return "(" + text + ")" + descending(p), why, why == ""
	}
	part = r.quote(p.Column)
	prefix, long := p.Prefix, r.longText(p.Column)
	if prefix == 0 && long > 0 && kind != "FULLTEXT " && kind != "SPATIAL " {
		prefix = mysqlIndexBytes / long / max(len(x.Parts), 1)
		why = fmt.Sprintf("the index %s has the first %d of column %s", x.Name, prefix, p.Column)
	}
	if prefix > 0 && (long > 0 || related(r.Engine, r.source().Engine)) {
		part += fmt.Sprintf("(%d)", prefix)
	}
	return part + descending(p), why, true
}

func descending(p *schema.IndexPart) string {
	if p.Descending {
		return " DESC"
	}
	return ""
}

// longText is how many bytes a character may have of a column that is a text or a blob here; 0: it is none, or short enough to be
// in an index as a whole.
func (r *rendering) longText(name string) int {
	var c schema.Column
	if at := r.hereColumn(name); at >= 0 {
		c = r.Here.Columns[at]
	} else if types, err := definitionTypes(r.Engine, r.space, r.source()); err == nil {
		if i := r.source().Column(name); i >= 0 {
			c = typed(r.Engine, name, types[i])
		}
	}
	unit := map[schema.Kind]int{schema.KindText: mysqlCharBytes, schema.KindJSON: mysqlCharBytes, schema.KindBytes: 1}[c.Kind]
	if strings.HasSuffix(c.Native, "text") || strings.HasSuffix(c.Native, "blob") || c.Size*unit > mysqlKeyBytes {
		return unit
	}
	return 0
}

func (r *rendering) hereColumn(name string) int {
	if r.Here == nil {
		return -1
	}
	return r.Here.Column(name)
}

// exactly makes texts that a unique index of a Postgres is on be compared byte by byte, where they are not.
func (r *rendering) exactly(x *schema.Index) (statements []string) {
	if !x.Unique || related(r.Engine, r.source().Engine) {
		return nil
	}
	want := strings.TrimPrefix(collation(r.Engine), " COLLATE ")
	for _, p := range x.Parts {
		at := r.hereColumn(p.Column)
		if at < 0 || r.Engine == schema.Postgres || !collates(r.Here.Columns[at].Kind) {
			continue
		}
		if has := r.Here.Details[at].Collation; has != "" && !strings.HasSuffix(has, "_bin") {
			c := r.present(at)
			c.typ = collated(c.typ, want)
			statements = append(statements, r.alter("MODIFY COLUMN "+c.ddl(r.Engine)))
		}
	}
	return statements
}
