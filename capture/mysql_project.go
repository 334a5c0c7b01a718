package capture

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/pingcap/tidb/pkg/parser/ast"
	"github.com/pingcap/tidb/pkg/parser/format"
	parsed "github.com/pingcap/tidb/pkg/parser/mysql"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// mysqlProjection is a table behind a statement that stands further back in the log than the catalog does: what the table was,
// changed by what the statement says. Where the catalog still has a thing as the statement made it, the thing is taken from there,
// for the catalog knows it exactly.
type mysqlProjection struct {
	engine schema.Engine
	now    *schema.Definition // the catalog's, of some later moment; may be nil
	is     *schema.Definition
	nextID *int
	name   func(*ast.TableName) schema.TableName // as the fleet calls it
}

// cloneDefinition is one that may be changed without changing d.
func cloneDefinition(d *schema.Definition) *schema.Definition {
	t := *d.Table
	t.Columns, t.Key = slices.Clone(t.Columns), slices.Clone(t.Key)
	c := *d
	c.Table, c.Details = &t, slices.Clone(d.Details)
	c.Indexes, c.ForeignKeys, c.Checks = slices.Clone(d.Indexes), slices.Clone(d.ForeignKeys), slices.Clone(d.Checks)
	for i := range c.Indexes {
		c.Indexes[i].Parts = slices.Clone(c.Indexes[i].Parts)
	}
	for i := range c.ForeignKeys {
		k := &c.ForeignKeys[i]
		k.Columns, k.ParentColumns = slices.Clone(k.Columns), slices.Clone(k.ParentColumns)
	}
	return &c
}

// guarded runs one of the two below. The statements of a log are whatever a server took: one that is not understood here after all
// counts as done to where the catalog is.
func (p *mysqlProjection) guarded(log *slog.Logger, now *schema.Definition, project func() *schema.Definition) (is *schema.Definition) {
	defer func() {
		if r := recover(); r != nil {
			log.Warn("a schema change of the binlog is not understood: the table is taken as it is now", "error", r)
			is = now
		}
	}()
	if is = project(); is.Validate() != nil {
		return now
	}
	return is
}

// finish gives the definition as it became.
func (p *mysqlProjection) finish() *schema.Definition {
	for _, k := range p.is.Key {
		p.is.Columns[k].Nullable = false
	}
	// As the catalog gives them.
	slices.SortFunc(p.is.Indexes, func(a, b schema.Index) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	slices.SortFunc(p.is.ForeignKeys, func(a, b schema.ForeignKey) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(p.is.Checks, func(a, b schema.Check) int { return strings.Compare(a.Name, b.Name) })
	p.is.Table = schema.NewTable(*p.is.Table)
	return p.is
}

// create begins with nothing.
func (p *mysqlProjection) create(name schema.TableName, s *ast.CreateTableStmt) *schema.Definition {
	p.is = &schema.Definition{Table: &schema.Table{TableName: name, Engine: p.engine}}
	for _, c := range s.Cols {
		p.add(c, nil)
	}
	for _, c := range s.Constraints {
		p.constrain(c)
	}
	p.options(s.Options)
	return p.finish()
}

// alter changes what the table was.
func (p *mysqlProjection) alter(was *schema.Definition, specs []*ast.AlterTableSpec) *schema.Definition {
	p.is = cloneDefinition(was)
	p.renameColumns(movesOf(specs).renamed)
	for _, s := range specs {
		p.spec(s)
	}
	return p.finish()
}

func (p *mysqlProjection) spec(s *ast.AlterTableSpec) {
	switch s.Tp {
	case ast.AlterTableAddColumns:
		for _, c := range s.NewColumns {
			p.add(c, s.Position)
		}
		for _, c := range s.NewConstraints {
			p.constrain(c)
		}
	case ast.AlterTableDropColumn:
		p.dropColumn(s.OldColumnName.Name.O)
	case ast.AlterTableModifyColumn:
		p.modify(s.NewColumns[0], s.Position)
	case ast.AlterTableChangeColumn:
		p.modify(s.NewColumns[0], s.Position)
	case ast.AlterTableRenameColumn:
		if at := p.column(s.NewColumnName.Name.O); at >= 0 {
			p.respell(at, s.NewColumnName.Name.O)
		}
	case ast.AlterTableAlterColumn:
		p.setDefault(s.NewColumns[0])
	case ast.AlterTableAddConstraint:
		p.constrain(s.Constraint)
	case ast.AlterTableDropPrimaryKey:
		p.is.Key = nil
	case ast.AlterTableDropIndex:
		p.drop(s.Name, false)
	case ast.AlterTableDropForeignKey:
		p.is.ForeignKeys = slices.DeleteFunc(p.is.ForeignKeys, func(k schema.ForeignKey) bool { return schema.SameName(k.Name, s.Name) })
	case ast.AlterTableDropCheck: // DROP CONSTRAINT, of whatever kind
		p.drop(s.Constraint.Name, true)
	case ast.AlterTableRenameIndex:
		for i := range p.is.Indexes {
			if schema.SameName(p.is.Indexes[i].Name, s.FromKey.O) {
				p.is.Indexes[i].Name = s.ToKey.O
			}
		}
	case ast.AlterTableRenameTable:
		name := p.name(s.NewTable)
		p.is = renameGenerated(p.is, name.Name)
		p.is.TableName = name
	case ast.AlterTableOption:
		p.options(s.Options)
	}
}

func (p *mysqlProjection) options(options []*ast.TableOption) {
	for _, o := range options {
		switch {
		case o.Tp == ast.TableOptionComment:
			p.is.Comment = o.StrValue
		case o.Tp == ast.TableOptionCharset && o.UintValue == ast.TableOptionCharsetWithConvertTo:
			p.convert()
		}
	}
}

// convert takes the collations of the catalog, which alone knows the default of a character set.
func (p *mysqlProjection) convert() {
	for i := range p.is.Details {
		if now := p.current(p.is.Columns[i].Name); now >= 0 && p.is.Details[i].Collation != "" {
			p.is.Details[i].Collation = p.now.Details[now].Collation
		}
	}
}

func (p *mysqlProjection) column(name string) int { return columnFold(p.is.Columns, name) }

func (p *mysqlProjection) add(def *ast.ColumnDef, position *ast.ColumnPosition) {
	if p.column(def.Name.Name.O) >= 0 { // IF NOT EXISTS
		return
	}
	column, detail := p.define(def)
	detail.ID = *p.nextID
	*p.nextID++
	p.insert(len(p.is.Columns), column, detail)
	p.place(column.Name, position)
	p.columnConstraints(def)
}

// modify replaces a column, which keeps its ID.
func (p *mysqlProjection) modify(def *ast.ColumnDef, position *ast.ColumnPosition) {
	at := p.column(def.Name.Name.O)
	if at < 0 { // IF EXISTS
		return
	}
	p.respell(at, def.Name.Name.O)
	id := p.is.Details[at].ID
	p.is.Columns[at], p.is.Details[at] = p.define(def)
	p.is.Details[at].ID = id
	p.place(def.Name.Name.O, position)
	p.columnConstraints(def)
}

// insert puts a column in, and keeps the key's.
func (p *mysqlProjection) insert(at int, c schema.Column, d schema.ColumnDetail) {
	p.is.Columns, p.is.Details = slices.Insert(p.is.Columns, at, c), slices.Insert(p.is.Details, at, d)
	for i, k := range p.is.Key {
		if k >= at {
			p.is.Key[i]++
		}
	}
}

func (p *mysqlProjection) remove(at int) {
	p.is.Columns, p.is.Details = slices.Delete(p.is.Columns, at, at+1), slices.Delete(p.is.Details, at, at+1)
	p.is.Key = slices.DeleteFunc(p.is.Key, func(k int) bool { return k == at })
	for i, k := range p.is.Key {
		if k > at {
			p.is.Key[i]--
		}
	}
}

// place moves a column to where the statement wants it.
func (p *mysqlProjection) place(name string, position *ast.ColumnPosition) {
	if position == nil || position.Tp == ast.ColumnPositionNone {
		return
	}
	at := p.column(name)
	if position.Tp == ast.ColumnPositionAfter && p.column(position.RelativeColumn.Name.O) < 0 {
		return
	}
	column, detail := p.is.Columns[at], p.is.Details[at]
	inKey := slices.Index(p.is.Key, at)
	p.remove(at)
	to := 0
	if position.Tp == ast.ColumnPositionAfter {
		to = p.column(position.RelativeColumn.Name.O) + 1
	}
	p.insert(to, column, detail)
	if inKey >= 0 {
		p.is.Key = slices.Insert(p.is.Key, inKey, to)
	}
}

// renameColumns does all renames of a statement at once: two columns may exchange their names. The names are in small letters.
func (p *mysqlProjection) renameColumns(to map[string]string) {
	old := slices.Clone(p.is.Columns)
	for name, from := range to {
		if at := columnFold(old, from); at >= 0 {
			p.is.Columns[at].Name = name
		}
	}
	names := map[string]string{}
	for i := range old {
		names[old[i].Name] = p.is.Columns[i].Name
	}
	p.rewrite(names)
}

// respell writes a column's name as the statement does.
func (p *mysqlProjection) respell(at int, name string) {
	was := p.is.Columns[at].Name
	p.is.Columns[at].Name = name
	p.rewrite(map[string]string{was: name})
}

// rewrite gives columns their new names where others refer to them.
func (p *mysqlProjection) rewrite(names map[string]string) {
	for i := range p.is.Indexes {
		for j := range p.is.Indexes[i].Parts {
			if to, ok := names[p.is.Indexes[i].Parts[j].Column]; ok {
				p.is.Indexes[i].Parts[j].Column = to
			}
		}
	}
	for i := range p.is.ForeignKeys {
		for j, c := range p.is.ForeignKeys[i].Columns {
			if to, ok := names[c]; ok {
				p.is.ForeignKeys[i].Columns[j] = to
			}
		}
	}
}

// dropColumn takes it out of the indexes, too, as the servers do.
func (p *mysqlProjection) dropColumn(name string) {
	at := p.column(name)
	if at < 0 {
		return
	}
	was := p.is.Columns[at].Name
	p.remove(at)
	for i := range p.is.Indexes {
		x := &p.is.Indexes[i]
		x.Parts = slices.DeleteFunc(x.Parts, func(part schema.IndexPart) bool { return part.Column == was })
	}
	p.is.Indexes = slices.DeleteFunc(p.is.Indexes, func(x schema.Index) bool { return len(x.Parts) == 0 })
}

// drop removes an index by its name; with constraint, also a check or a foreign key.
func (p *mysqlProjection) drop(name string, constraint bool) {
	if strings.EqualFold(name, "PRIMARY") {
		p.is.Key = nil
	}
	p.is.Indexes = slices.DeleteFunc(p.is.Indexes, func(x schema.Index) bool { return schema.SameName(x.Name, name) && (!constraint || x.Unique) })
	if constraint {
		p.is.Checks = slices.DeleteFunc(p.is.Checks, func(c schema.Check) bool { return schema.SameName(c.Name, name) })
		p.is.ForeignKeys = slices.DeleteFunc(p.is.ForeignKeys, func(k schema.ForeignKey) bool { return schema.SameName(k.Name, name) })
	}
}

func (p *mysqlProjection) setDefault(def *ast.ColumnDef) {
	at := p.column(def.Name.Name.O)
	if at < 0 {
		return
	}
	text := ""
	if len(def.Options) > 0 {
		text = mysqlText(def.Options[0].Expr)
	}
	p.is.Details[at].Default = catalog.MySQLDefault(&p.is.Columns[at], text, "")
	if now := p.current(p.is.Columns[at].Name); now >= 0 && sameExpression(p.is.Details[at].Default, p.now.Details[now].Default) {
		p.is.Details[at].Default = p.now.Details[now].Default
	}
}

// current finds a column in the catalog.
func (p *mysqlProjection) current(name string) int {
	if p.now == nil {
		return -1
	}
	return p.now.Column(name)
}

// define is a column as the statement describes it, or as the catalog has it if that is the same.
func (p *mysqlProjection) define(def *ast.ColumnDef) (schema.Column, schema.ColumnDetail) {
	c, d := mysqlColumn(p.engine, def)
	i := p.current(c.Name)
	if i < 0 {
		return c, d
	}
	now, detail := p.now.Columns[i], p.now.Details[i]
	key := slices.Contains(p.now.Key, i) // which the statement may say elsewhere
	same := c.Kind == now.Kind && c.Size == now.Size && c.Scale == now.Scale && c.Unsigned == now.Unsigned && c.Fixed == now.Fixed &&
		slices.Equal(c.Labels, now.Labels) && (c.Nullable == now.Nullable || key) && c.Generated == now.Generated &&
		d.Serial == detail.Serial && d.Stored == detail.Stored && d.Comment == detail.Comment &&
		sameExpression(d.Default, detail.Default) && sameExpression(d.Computed, detail.Computed)
	if !same {
		return c, d
	}
	now.Nullable = c.Nullable
	return now, detail
}

// sameExpression compares what a statement says with what the catalog made of it: an expression in its own words looks otherwise
// there, and MySQL adds brackets.
func sameExpression(said, kept schema.Expression) bool {
	if said.Kind == schema.PortableText && kept.Kind == schema.PortableText {
		return withoutBrackets(said.Text) == withoutBrackets(kept.Text)
	}
	return said == kept || said.Kind == schema.NativeText && kept.Kind == schema.NativeText
}

func withoutBrackets(text string) string {
	return strings.NewReplacer("(", "", ")", "", " ", "").Replace(text)
}

// mysqlText is an expression as MariaDB's catalog would write it.
func mysqlText(e ast.ExprNode) string {
	if e == nil {
		return ""
	}
	const flags = format.RestoreStringSingleQuotes | format.RestoreStringEscapeBackslash | format.RestoreNameBackQuotes |
		format.RestoreKeyWordLowercase | format.RestoreStringWithoutCharset | format.RestoreSpacesAroundBinaryOperation
	var b strings.Builder
	if err := e.Restore(format.NewRestoreCtx(flags, &b)); err != nil {
		return ""
	}
	return b.String()
}

// mysqlColumn describes a column of a statement.
func mysqlColumn(engine schema.Engine, def *ast.ColumnDef) (schema.Column, schema.ColumnDetail) {
	c := schema.Column{Name: def.Name.Name.O, Nullable: true}
	d := schema.ColumnDetail{}
	mysqlDescribe(engine, def, &c)
	text, onUpdate := "", ""
	for _, o := range def.Options {
		switch o.Tp {
		case ast.ColumnOptionNotNull, ast.ColumnOptionPrimaryKey:
			c.Nullable = false
		case ast.ColumnOptionAutoIncrement:
			c.Nullable, d.Serial = false, true
		case ast.ColumnOptionDefaultValue:
			text = mysqlText(o.Expr)
		case ast.ColumnOptionOnUpdate:
			onUpdate = mysqlText(o.Expr)
		case ast.ColumnOptionComment:
			if v, ok := o.Expr.(ast.ValueExpr); ok {
				d.Comment = v.GetString()
			}
		case ast.ColumnOptionGenerated:
			c.Generated, d.Stored, d.Computed = true, o.Stored, catalog.MySQLExpression(mysqlText(o.Expr))
		}
	}
	if strings.EqualFold(text, "null") {
		text = ""
	}
	d.Default = catalog.MySQLDefault(&c, text, onUpdate)
	return c, d
}

// mysqlTextLengths are what the types hold that have no length of their own.
var mysqlTextLengths = map[string]int64{
	"tinytext": 1<<8 - 1, "text": 1<<16 - 1, "mediumtext": 1<<24 - 1, "longtext": 1<<32 - 1,
	"tinyblob": 1<<8 - 1, "blob": 1<<16 - 1, "mediumblob": 1<<24 - 1, "longblob": 1<<32 - 1,
}

func mysqlDescribe(engine schema.Engine, def *ast.ColumnDef, c *schema.Column) {
	full := def.Tp.InfoSchemaStr()
	name := strings.FieldsFunc(full, func(r rune) bool { return r == '(' || r == ' ' })[0]
	m := catalog.MySQLType{Name: name, Full: full, Length: mysqlTextLengths[name], Fraction: max(def.Tp.GetDecimal(), 0)}
	digits, decimals := parsed.GetDefaultFieldLengthAndDecimal(def.Tp.GetType())
	if n := def.Tp.GetFlen(); n >= 0 {
		digits = n
	}
	if n := def.Tp.GetDecimal(); n >= 0 {
		decimals = n
	}
	m.Precision, m.Scale = digits, max(decimals, 0)
	switch {
	case m.Length == 0:
		m.Length = int64(digits)
	case name == "year":
		m.Full = "year(4)"
	}
	unsigned, zerofill := parsed.HasUnsignedFlag(def.Tp.GetFlag()), parsed.HasZerofillFlag(def.Tp.GetFlag())
	if _, width, ok := strings.Cut(full, "("); ok && strings.HasSuffix(name, "int") {
		_, sign, _ := strings.Cut(width, ")")
		switch {
		case engine == schema.MySQL && !zerofill && (name != "tinyint" || digits != 1):
			m.Full = name + sign
		case engine == schema.MariaDB && unsigned && def.Tp.GetFlen() == mysqlDefaultWidth(def): // a sign less
			m.Full = fmt.Sprintf("%s(%d)%s", name, digits-map[bool]int{true: 1}[name != "bigint"], sign)
		}
	}
	if zerofill {
		m.Full += " zerofill"
	}
	m.Describe(c)
	if c.Kind == schema.KindJSON && engine == schema.MariaDB {
		c.Native = "longtext"
	}
}

func mysqlDefaultWidth(def *ast.ColumnDef) int {
	width, _ := parsed.GetDefaultFieldLengthAndDecimal(def.Tp.GetType())
	return width
}
