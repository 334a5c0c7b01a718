package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"cdc-sidecar/schema"
)

// ReadMySQLDefinition reads all that is said of one table, by the database's own name for it; nil when the database has no such
// table. The session's time zone should be UTC: the server shows the defaults of timestamps in it.
func ReadMySQLDefinition(ctx context.Context, q MySQLQuerier, ownSchema, name, defaultSchema string) (*schema.Definition, error) {
	all, err := readMySQLDefinitions(ctx, &mysqlReader{q: q, one: []any{ownSchema, name}}, defaultSchema)
	if err != nil {
		return nil, fmt.Errorf("read the definition of %s.%s: %w", ownSchema, name, err)
	}
	for _, d := range all { // the catalog may compare names without regard to case where the server does not
		if d.TableName == MySQLName(ownSchema, name, defaultSchema) {
			return d, nil
		}
	}
	return nil, nil
}

// ReadMySQLDefinitions reads those of all tables that ReadMySQL gives, in the same order.
func ReadMySQLDefinitions(ctx context.Context, q MySQLQuerier, defaultSchema string) ([]*schema.Definition, error) {
	all, err := readMySQLDefinitions(ctx, &mysqlReader{q: q}, defaultSchema)
	if err != nil {
		return nil, fmt.Errorf("read the tables' definitions: %w", err)
	}
	return all, nil
}

// mysqlDefining completes what a mysqlReader has read.
type mysqlDefining struct {
	*mysqlReader
	defaultSchema string
	byName        map[schema.TableName]*schema.Definition // by the database's own names
}

func readMySQLDefinitions(ctx context.Context, r *mysqlReader, defaultSchema string) ([]*schema.Definition, error) {
	tables, err := readMySQL(ctx, r, defaultSchema)
	if err != nil || len(tables) == 0 {
		return nil, err
	}
	d := mysqlDefining{mysqlReader: r, defaultSchema: defaultSchema, byName: map[schema.TableName]*schema.Definition{}}
	all := make([]*schema.Definition, len(tables))
	for i := range tables {
		all[i] = &schema.Definition{Table: tables[i].Table, Details: make([]schema.ColumnDetail, len(tables[i].Columns))}
		d.byName[schema.TableName{Schema: tables[i].OwnSchema, Name: tables[i].Name}] = all[i]
	}
	for _, read := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"comments", d.readComments},
		{"columns", d.readDetails},
		{"indexes", d.readIndexes},
		{"foreign keys", d.readForeignKeys},
		{"what foreign keys do", d.readActions},
		{"check constraints", d.readChecks},
	} {
		if err := read.do(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", read.what, err)
		}
	}
	for _, one := range all {
		slices.SortFunc(one.Checks, func(a, b schema.Check) int { return strings.Compare(a.Name, b.Name) })
		if err := one.Validate(); err != nil { // the table was changed between two of our questions
			return nil, err
		}
	}
	return all, nil
}

func (d *mysqlDefining) readComments(ctx context.Context) error {
	return d.each(ctx, "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_COMMENT FROM information_schema.TABLES WHERE ", inTable, "",
		func(scan func(...any) error) error {
			var name schema.TableName
			var comment string
			if err := scan(&name.Schema, &name.Name, &comment); err != nil {
				return err
			}
			if t := d.byName[name]; t != nil {
				t.Comment = comment
			}
			return nil
		})
}

func (d *mysqlDefining) readDetails(ctx context.Context) error {
	var vague []mysqlVague
	err := d.each(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_DEFAULT, EXTRA, COALESCE(GENERATION_EXPRESSION, ''), COLUMN_COMMENT, COALESCE(COLLATION_NAME, '')
		FROM information_schema.COLUMNS WHERE `, inTable, "", func(scan func(...any) error) error {
		var name schema.TableName
		var column, extra, computed, comment, collation string
		var text sql.NullString
		if err := scan(&name.Schema, &name.Name, &column, &text, &extra, &computed, &comment, &collation); err != nil {
			return err
		}
		t := d.byName[name]
		if t == nil || t.Column(column) < 0 {
			return nil
		}
		detail, lower := t.Detail(column), strings.ToLower(extra)
		detail.Comment, detail.Collation, detail.Serial = comment, collation, strings.Contains(lower, "auto_increment")
		if computed != "" {
			detail.Computed = mysqlExpression(d.engine, computed)
			detail.Stored = strings.Contains(lower, "stored") || strings.Contains(lower, "persistent")
			return nil
		}
		m := mysqlDefault{engine: d.engine, column: &t.Columns[t.Column(column)], extra: lower}
		if detail.Default = m.expression(text); m.vague(text.String) {
			vague = append(vague, mysqlVague{name, column})
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.readVague(ctx, vague)
}

// mysqlIndexRow is one part of an index as information_schema.STATISTICS has it.
type mysqlIndexRow struct {
	table               schema.TableName
	name, column, order string
	kind, expression    string
	prefix              int // characters, or bytes
	mayRepeat           bool
}

func (d *mysqlDefining) readIndexes(ctx context.Context) error {
	expression := "''"
	if d.engine == schema.MySQL {
		expression = "COALESCE(EXPRESSION, '')"
	}
	return d.each(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, NON_UNIQUE, COALESCE(COLUMN_NAME, ''), COALESCE(COLLATION, ''), COALESCE(SUB_PART, 0),
		INDEX_TYPE, `+expression+" FROM information_schema.STATISTICS WHERE INDEX_NAME <> 'PRIMARY' AND ", inTable,
		" ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX", func(scan func(...any) error) error {
			var r mysqlIndexRow
			if err := scan(&r.table.Schema, &r.table.Name, &r.name, &r.mayRepeat, &r.column, &r.order, &r.prefix, &r.kind, &r.expression); err != nil {
				return err
			}
			if t := d.byName[r.table]; t != nil {
				d.indexPart(t, &r)
			}
			return nil
		})
}

func (d *mysqlDefining) indexPart(t *schema.Definition, r *mysqlIndexRow) {
	part := schema.IndexPart{Column: r.column, Descending: r.order == "D", Prefix: r.prefix}
	method := strings.ToLower(r.kind)
	switch method {
	case "btree", "hash": // a hash is what MariaDB makes of a UNIQUE over long columns, and MEMORY of everything
		method = ""
	case "spatial", "rtree":
		method, part.Prefix = "spatial", 0 // the server tells the bytes of a point
	}
	if r.column == "" {
		part.Expression = mysqlExpression(d.engine, r.expression)
	}
	last := len(t.Indexes) - 1
	if last < 0 || t.Indexes[last].Name != r.name {
		t.Indexes = append(t.Indexes, schema.Index{Name: r.name, Unique: !r.mayRepeat, Method: method})
		last++
	}
	t.Indexes[last].Parts = append(t.Indexes[last].Parts, part)
}

func (d *mysqlDefining) readForeignKeys(ctx context.Context) error {
	return d.each(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME
		FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_NAME IS NOT NULL AND `, inTable,
		" ORDER BY TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION", func(scan func(...any) error) error {
			var name, parent schema.TableName
			var key, column, parentColumn string
			if err := scan(&name.Schema, &name.Name, &key, &column, &parent.Schema, &parent.Name, &parentColumn); err != nil {
				return err
			}
			t := d.byName[name]
			if t == nil {
				return nil
			}
			last := len(t.ForeignKeys) - 1
			if last < 0 || t.ForeignKeys[last].Name != key {
				t.ForeignKeys = append(t.ForeignKeys, schema.ForeignKey{Name: key, Parent: MySQLName(parent.Schema, parent.Name, d.defaultSchema)})
				last++
			}
			k := &t.ForeignKeys[last]
			k.Columns, k.ParentColumns = append(k.Columns, column), append(k.ParentColumns, parentColumn)
			return nil
		})
}

// mysqlActions are the words for what a foreign key does. RESTRICT and NO ACTION are one and the same to InnoDB.
var mysqlActions = map[string]schema.Action{"CASCADE": schema.Cascade, "SET NULL": schema.SetNull, "SET DEFAULT": schema.SetDefault}

func (d *mysqlDefining) readActions(ctx context.Context) error {
	return d.each(ctx, `SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, DELETE_RULE, UPDATE_RULE
		FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE `, [2]string{"CONSTRAINT_SCHEMA", "TABLE_NAME"}, "",
		func(scan func(...any) error) error {
			var name schema.TableName
			var key, onDelete, onUpdate string
			if err := scan(&name.Schema, &name.Name, &key, &onDelete, &onUpdate); err != nil {
				return err
			}
			t := d.byName[name]
			if t == nil {
				return nil
			}
			for i := range t.ForeignKeys {
				if k := &t.ForeignKeys[i]; k.Name == key {
					k.OnDelete, k.OnUpdate = mysqlActions[onDelete], mysqlActions[onUpdate]
				}
			}
			return nil
		})
}

// readChecks leaves out MariaDB's checks of single columns, which belong to the column's type there (that a JSON column is valid
// is one of them), and MySQL's that are not enforced.
func (d *mysqlDefining) readChecks(ctx context.Context) error {
	query := "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS WHERE LEVEL = 'Table' AND "
	at := [2]string{"CONSTRAINT_SCHEMA", "TABLE_NAME"}
	if d.engine == schema.MySQL {
		query = `SELECT t.TABLE_SCHEMA, t.TABLE_NAME, c.CONSTRAINT_NAME, c.CHECK_CLAUSE FROM information_schema.TABLE_CONSTRAINTS t
			JOIN information_schema.CHECK_CONSTRAINTS c ON c.CONSTRAINT_SCHEMA = t.CONSTRAINT_SCHEMA AND c.CONSTRAINT_NAME = t.CONSTRAINT_NAME
			WHERE t.CONSTRAINT_TYPE = 'CHECK' AND t.ENFORCED = 'YES' AND `
		at = [2]string{"t.TABLE_SCHEMA", "t.TABLE_NAME"}
	}
	return d.each(ctx, query, at, "", func(scan func(...any) error) error {
		var name schema.TableName
		var check, clause string
		if err := scan(&name.Schema, &name.Name, &check, &clause); err != nil {
			return err
		}
		if t := d.byName[name]; t != nil {
			t.Checks = append(t.Checks, schema.Check{Name: check, Expression: mysqlExpression(d.engine, clause)})
		}
		return nil
	})
}
