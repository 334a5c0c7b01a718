package capture

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pingcap/tidb/pkg/parser/ast"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// columnConstraints are the keys and references that stand beside a column. MariaDB's checks there are part of its type.
func (p *mysqlProjection) columnConstraints(def *ast.ColumnDef) {
	keys := []*ast.IndexPartSpecification{{Column: def.Name, Length: -1}}
	for _, o := range def.Options {
		switch o.Tp {
		case ast.ColumnOptionPrimaryKey:
			p.constrain(&ast.Constraint{Tp: ast.ConstraintPrimaryKey, Keys: keys})
		case ast.ColumnOptionUniqKey:
			p.constrain(&ast.Constraint{Tp: ast.ConstraintUniq, Keys: keys})
		case ast.ColumnOptionReference:
			p.constrain(&ast.Constraint{Tp: ast.ConstraintForeignKey, Keys: keys, Refer: o.Refer})
		case ast.ColumnOptionCheck:
			if p.engine == schema.MySQL && o.Enforced {
				p.constrain(&ast.Constraint{Tp: ast.ConstraintCheck, Name: o.ConstraintName, Expr: o.Expr, Enforced: true})
			}
		}
	}
}

// constrain adds a key, an index or a constraint.
func (p *mysqlProjection) constrain(c *ast.Constraint) {
	switch c.Tp {
	case ast.ConstraintPrimaryKey:
		p.is.Key = nil
		for _, k := range c.Keys {
			if k.Column == nil {
				continue
			}
			if at := p.column(k.Column.Name.O); at >= 0 {
				p.is.Key = append(p.is.Key, at)
			}
		}
	case ast.ConstraintKey, ast.ConstraintIndex, ast.ConstraintUniq, ast.ConstraintUniqKey, ast.ConstraintUniqIndex, ast.ConstraintFulltext:
		p.addIndex(c)
	case ast.ConstraintForeignKey:
		p.addForeignKey(c)
	case ast.ConstraintCheck:
		if c.Enforced {
			p.addCheck(c)
		}
	}
}

func (p *mysqlProjection) addIndex(c *ast.Constraint) {
	x := schema.Index{Name: c.Name, Unique: c.Tp == ast.ConstraintUniq || c.Tp == ast.ConstraintUniqKey || c.Tp == ast.ConstraintUniqIndex}
	if c.Tp == ast.ConstraintFulltext {
		x.Method = "fulltext"
	}
	for _, k := range c.Keys {
		part := schema.IndexPart{Prefix: max(k.Length, 0), Descending: k.Desc}
		if k.Column == nil {
			part.Expression = catalog.MySQLExpression(mysqlText(k.Expr))
		} else if at := p.column(k.Column.Name.O); at >= 0 {
			part.Column = p.is.Columns[at].Name
			if p.is.Columns[at].Size > 0 && part.Prefix >= p.is.Columns[at].Size {
				part.Prefix = 0
			}
		}
		x.Parts = append(x.Parts, part)
	}
	if x.Name == "" {
		x.Name = p.unnamedIndex(x)
	}
	p.putIndex(x)
}

// putIndex adds it, unless one of its name is there (IF NOT EXISTS).
func (p *mysqlProjection) putIndex(x schema.Index) {
	if !slices.ContainsFunc(p.is.Indexes, func(o schema.Index) bool { return schema.SameName(o.Name, x.Name) }) {
		p.is.Indexes = append(p.is.Indexes, x)
	}
}

// unnamedIndex is the name that the server gives: that of the first column, with a number when it is taken.
func (p *mysqlProjection) unnamedIndex(x schema.Index) string {
	taken := func(name string) bool {
		return slices.ContainsFunc(p.is.Indexes, func(o schema.Index) bool { return schema.SameName(o.Name, name) })
	}
	if p.now != nil {
		for _, o := range p.now.Indexes {
			if !taken(o.Name) && o.Unique == x.Unique && o.Method == x.Method && slices.Equal(o.Parts, x.Parts) {
				return o.Name
			}
		}
	}
	base := x.Parts[0].Column
	if base == "" {
		base = "functional_index"
	}
	name := base
	for n := 2; taken(name); n++ {
		name = fmt.Sprintf("%s_%d", base, n)
	}
	return name
}

var mysqlReferences = map[ast.ReferOptionType]schema.Action{
	ast.ReferOptionCascade: schema.Cascade, ast.ReferOptionSetNull: schema.SetNull, ast.ReferOptionSetDefault: schema.SetDefault,
}

func (p *mysqlProjection) addForeignKey(c *ast.Constraint) {
	if c.Refer == nil || c.Refer.Table == nil {
		return
	}
	k := schema.ForeignKey{Name: c.Name, Parent: p.name(c.Refer.Table)}
	for _, part := range c.Keys {
		if at := p.column(part.Column.Name.O); at >= 0 {
			k.Columns = append(k.Columns, p.is.Columns[at].Name)
		}
	}
	for _, part := range c.Refer.IndexPartSpecifications {
		k.ParentColumns = append(k.ParentColumns, part.Column.Name.O)
	}
	if c.Refer.OnDelete != nil {
		k.OnDelete = mysqlReferences[c.Refer.OnDelete.ReferOpt]
	}
	if c.Refer.OnUpdate != nil {
		k.OnUpdate = mysqlReferences[c.Refer.OnUpdate.ReferOpt]
	}
	index := k.Name
	if k.Name == "" {
		k.Name = p.unnamed(fmt.Sprintf("%s_ibfk_", p.is.Name), func(name string) bool {
			return slices.ContainsFunc(p.is.ForeignKeys, func(o schema.ForeignKey) bool { return schema.SameName(o.Name, name) })
		})
	}
	p.is.ForeignKeys = append(p.is.ForeignKeys, k)
	p.indexFor(k, index)
}

// indexFor makes the index that a foreign key needs and the server adds.
func (p *mysqlProjection) indexFor(k schema.ForeignKey, name string) {
	begins := func(columns []string) bool {
		return len(columns) >= len(k.Columns) && slices.Equal(columns[:len(k.Columns)], k.Columns)
	}
	var key []string
	for _, i := range p.is.Key {
		key = append(key, p.is.Columns[i].Name)
	}
	if begins(key) {
		return
	}
	x := schema.Index{Name: name}
	for _, column := range k.Columns {
		x.Parts = append(x.Parts, schema.IndexPart{Column: column})
	}
	for _, o := range p.is.Indexes {
		var columns []string
		for _, part := range o.Parts {
			columns = append(columns, part.Column)
		}
		if begins(columns) {
			return
		}
	}
	if name == "" && len(x.Parts) > 0 {
		x.Name = p.unnamedIndex(x)
	}
	p.putIndex(x)
}

func (p *mysqlProjection) addCheck(c *ast.Constraint) {
	k := schema.Check{Name: c.Name, Expression: catalog.MySQLExpression(mysqlText(c.Expr))}
	if k.Name == "" {
		prefix := "CONSTRAINT_"
		if p.engine == schema.MySQL {
			prefix = strings.ToLower(p.is.Name) + "_chk_"
		}
		k.Name = p.unnamed(prefix, func(name string) bool {
			return slices.ContainsFunc(p.is.Checks, func(o schema.Check) bool { return schema.SameName(o.Name, name) })
		})
	}
	if p.now != nil {
		for _, o := range p.now.Checks {
			if schema.SameName(o.Name, k.Name) && sameExpression(k.Expression, o.Expression) {
				k = o
			}
		}
	}
	if !slices.ContainsFunc(p.is.Checks, func(o schema.Check) bool { return schema.SameName(o.Name, k.Name) }) {
		p.is.Checks = append(p.is.Checks, k)
	}
}

// unnamed is the first name with a number that is free.
func (p *mysqlProjection) unnamed(prefix string, taken func(string) bool) string {
	for n := 1; ; n++ {
		if name := fmt.Sprintf("%s%d", prefix, n); !taken(name) {
			return name
		}
	}
}
