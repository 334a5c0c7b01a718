package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"cdc-sidecar/schema"
)

// addLabels adds labels to an enum or a set. A text takes them all.
func (r *rendering) addLabels(c *column) {
	is := &r.Is.Columns[r.Column]
	var lacks []string
	for _, l := range is.Labels {
		if !slices.Contains(c.here.Labels, l) {
			lacks = append(lacks, l)
		}
	}
	switch {
	case c.here.Kind != schema.KindEnum && c.here.Kind != schema.KindSet:
		if r.out.Done = holds(is, &c.mapped, c.here); !r.out.Done {
			r.conflict("column %s is %s here", c.wanted.name, c.here.Native)
		}
	case len(lacks) == 0:
		r.out.Done = true
	case r.Engine != schema.Postgres: // behind those that are there: no row is written anew
		c.have.typ = withLabels(c.have.typ, append(slices.Clone(c.here.Labels), lacks...))
		r.modify(&c.have)
	default:
		typ, has := r.enumHere(c.here), slices.Clone(c.here.Labels)
		for i, l := range is.Labels {
			if slices.Contains(has, l) {
				continue
			}
			r.run("ALTER TYPE " + typ + " ADD VALUE IF NOT EXISTS " + postgresConstant(l) + besideLabel(is.Labels, i, has))
			has = append(has, l)
		}
		r.out.Alone = true
	}
}

// besideLabel is where a label goes: behind the one that it follows there, or before the next.
func besideLabel(labels []string, i int, has []string) string {
	if i > 0 && slices.Contains(has, labels[i-1]) {
		return " AFTER " + postgresConstant(labels[i-1])
	}
	for _, l := range labels[i+1:] {
		if slices.Contains(has, l) {
			return " BEFORE " + postgresConstant(l)
		}
	}
	return ""
}

// enumHere is the enum type of a column that is here.
func (r *rendering) enumHere(c *schema.Column) string {
	space, name := splitType(c.Native)
	return quotePostgres(cmp.Or(space, r.Default)) + "." + quotePostgres(name)
}

// withLabels is a MySQL's enum or set with these labels, its character set as it was.
func withLabels(typ string, labels []string) string {
	quoted := make([]string, len(labels))
	for i, l := range labels {
		quoted[i] = mysqlConstant(l)
	}
	name, _, _ := strings.Cut(typ, "(")
	end := ""
	if at := strings.LastIndex(typ, ") CHARACTER SET "); at >= 0 {
		end = typ[at+1:]
	}
	return name + "(" + strings.Join(quoted, ",") + ")" + end
}

func (r *rendering) changeType(c *column) error {
	is, was := &r.Is.Columns[r.Column], &r.Was.Columns[r.WasColumn]
	before, err := fitsHere(r.Was, r.WasColumn, r.Here, c.at, r.space)
	if err != nil {
		before = false // what it was has no type here; what is here says enough
	}
	narrows := !schema.Widens(was, is)
	switch {
	case r.sameHere(c) || !narrows && holds(is, &c.mapped, c.here):
		r.out.Done = true
		return nil
	case !before && !schema.Widens(c.here, &c.mapped):
		r.conflict("column %s is %s here, which is neither what it was elsewhere nor %s", c.wanted.name, c.here.Native, c.wanted.typ)
		return nil
	case r.Engine != schema.Postgres:
		c.have.typ, c.have.def = c.wanted.typ, c.wanted.def
		if r.Engine != r.Is.Engine && collates(c.here.Kind) && collates(c.mapped.Kind) {
			c.have.typ = collated(c.have.typ, r.Here.Details[c.at].Collation)
		}
		if !c.have.null && c.have.def == "" && strings.HasPrefix(c.have.typ, "timestamp") {
			c.have.def = mysqlUnsetTimestamp
		}
		r.modify(&c.have)
	case isEnumType(r.Is, is) && c.here.Kind == schema.KindEnum && sameNative(is.Native, c.here.Native):
		r.renameLabels(c)
	default:
		r.retype(c)
	}
	return nil
}

// sameHere reports whether the column is what it would be here, no wider and no narrower.
func (r *rendering) sameHere(c *column) bool {
	is := &r.Is.Columns[r.Column]
	if collation := r.Is.Details[r.Column].Collation; collation != "" && r.Engine == r.Is.Engine && r.Engine != schema.Postgres && collation != r.Here.Details[c.at].Collation && collates(is.Kind) {
		return false
	}
	if c.mapped.Kind != c.here.Kind {
		return standsFor(is, c.here)
	}
	return holds(is, &c.mapped, c.here) && (schema.Widens(c.here, &c.mapped) || c.mapped.Kind == schema.KindNative)
}

// retype changes a Postgres' column. Only what Postgres does by itself, with an error where a value does not fit, is left to it:
// a cast that is written cuts texts off in silence.
func (r *rendering) retype(c *column) {
	name := r.quote(c.wanted.name)
	if is := &r.Is.Columns[r.Column]; isEnumType(r.Is, is) {
		r.run(makeEnum(enumType(r.space, is), is.Labels)...)
	}
	using := castPostgres(name, c.here, &c.mapped, c.wanted.typ)
	if using == "" {
		r.run(r.alter("ALTER COLUMN " + name + " TYPE " + c.wanted.typ))
		return
	}
	if c.have.def != "" {
		r.run(r.alter("ALTER COLUMN " + name + " DROP DEFAULT"))
	}
	r.run(r.alter("ALTER COLUMN " + name + " TYPE " + c.wanted.typ + " USING " + using))
	if c.have.def != "" && c.wanted.def != "" {
		r.run(r.alter("ALTER COLUMN " + name + " SET DEFAULT " + c.wanted.def))
	}
}

// castPostgres is the expression that makes the new value of the old; empty: Postgres knows one.
func castPostgres(name string, here, mapped *schema.Column, typ string) string {
	numbers := []schema.Kind{schema.KindInt, schema.KindDecimal, schema.KindFloat}
	times := []schema.Kind{schema.KindDate, schema.KindTimestamp, schema.KindTimestampTZ}
	from, to := here.Kind, mapped.Kind
	switch {
	case from == to && from != schema.KindNative && from != schema.KindEnum:
		return ""
	case slices.Contains(numbers, from) && slices.Contains(numbers, to), slices.Contains(times, from) && slices.Contains(times, to):
		return ""
	case from == schema.KindBytes && to == schema.KindText:
		return "convert_from(" + name + ", 'UTF8')"
	case from == schema.KindText && to == schema.KindBytes:
		return "convert_to(" + name + ", 'UTF8')"
	case to == schema.KindText:
		return ""
	case from == schema.KindBool && slices.Contains(numbers, to):
		return name + "::integer::" + typ
	case slices.Contains(numbers, from) && to == schema.KindBool:
		return name + " <> 0"
	}
	return name + "::text::" + typ
}

// renameLabels: labels of a Postgres' enum change their names, but do not go.
func (r *rendering) renameLabels(c *column) {
	is, was := r.Is.Columns[r.Column].Labels, r.Was.Columns[r.WasColumn].Labels
	typ := r.enumHere(c.here)
	if len(is) == len(was) {
		for i := range is {
			if is[i] != was[i] && slices.Contains(c.here.Labels, was[i]) && !slices.Contains(is, was[i]) && !slices.Contains(c.here.Labels, is[i]) {
				r.run("ALTER TYPE " + typ + " RENAME VALUE " + postgresConstant(was[i]) + " TO " + postgresConstant(is[i]))
			}
		}
	}
	if len(r.out.Statements) == 0 {
		r.conflict("the enum %s has the labels %s here, and %s there", c.here.Native, quotedList(c.here.Labels), quotedList(is))
	}
}

func quotedList(labels []string) string { return fmt.Sprintf("%q", labels) }
