package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"cdc-sidecar/schema"
)

// MySQLQuerier is a *sql.DB, a *sql.Conn or a *sql.Tx.
type MySQLQuerier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// ReadMySQL reads the definitions of all base tables of a MySQL or MariaDB that the account can see, in the order of their
// names, without those of the system and our own. MariaDB's sequences and system-versioned tables are no base tables: the
// rows that the latter keep of the past would look like the application's.
func ReadMySQL(ctx context.Context, q MySQLQuerier, defaultSchema string) ([]Table, error) {
	return readMySQL(ctx, &mysqlReader{q: q, defaultSchema: defaultSchema}, defaultSchema)
}

// ReadMySQLTable reads one table by the database's own name for it; nil when the database has none.
func ReadMySQLTable(ctx context.Context, q MySQLQuerier, ownSchema, name, defaultSchema string) (*Table, error) {
	tables, err := readMySQL(ctx, &mysqlReader{q: q, one: []any{ownSchema, name}}, defaultSchema)
	for i := range tables { // the catalog may compare names without regard to case where the server does not
		if tables[i].OwnSchema == ownSchema && tables[i].Name == name {
			return &tables[i], err
		}
	}
	return nil, err
}

// mysqlReader reads the parts of the definitions, one catalog table after the other.
type mysqlReader struct {
	q      MySQLQuerier
	one    []any // the one schema and table that are wanted; nil: all
	engine schema.Engine
	tables []Table

	defaultSchema string
	byName        map[schema.TableName]*Table // by the database's own names
}

func readMySQL(ctx context.Context, r *mysqlReader, defaultSchema string) ([]Table, error) {
	var err error
	if r.engine, err = MySQLEngine(ctx, r.q); err != nil {
		return nil, err
	}
	r.byName = map[schema.TableName]*Table{}
	for _, read := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"tables", r.readTables},
		{"columns", r.readColumns},
		{"keys", r.readKeys},
		{"triggers", r.readTriggers},
		{"check constraints", r.readJSON},
		{"foreign keys", r.readReferrers},
	} {
		if err := read.do(ctx); err != nil {
			return nil, fmt.Errorf("read %s: %w", read.what, err)
		}
	}
	for i := range r.tables {
		t := &r.tables[i]
		t.TableName = MySQLName(t.OwnSchema, t.Name, defaultSchema)
		t.Table = schema.NewTable(*t.Table)
	}
	return r.tables, nil
}

// MySQLEngine tells MariaDB from MySQL.
func MySQLEngine(ctx context.Context, q MySQLQuerier) (schema.Engine, error) {
	engine := schema.MySQL
	rows, err := q.QueryContext(ctx, "SELECT VERSION() LIKE '%MariaDB%'")
	if err != nil {
		return "", fmt.Errorf("read the version: %w", err)
	}
	err = eachRow(rows, func(scan func(...any) error) error {
		var isMariaDB bool
		if err := scan(&isMariaDB); err != nil {
			return err
		}
		if isMariaDB {
			engine = schema.MariaDB
		}
		return nil
	})
	return engine, err
}

// MySQLName is a table of this server as the fleet calls it.
func MySQLName(ownSchema, name, defaultSchema string) schema.TableName {
	if ownSchema == defaultSchema {
		ownSchema = ""
	}
	return schema.TableName{Schema: ownSchema, Name: name}
}

// each runs a query on the wanted tables and calls f for each row. The query ends in its condition; table names the columns
// that hold a table's schema and name.
func (r *mysqlReader) each(ctx context.Context, query string, table [2]string, order string, f func(scan func(...any) error) error) error {
	where := table[0] + " NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys', '" + schema.OwnSchema + "')"
	if r.one != nil {
		where = table[0] + " = ? AND " + table[1] + " = ?"
	}
	rows, err := r.q.QueryContext(ctx, query+where+order, r.one...)
	if err != nil {
		return err
	}
	return eachRow(rows, f)
}

// inTable is where most catalog tables have the table's name.
var inTable = [2]string{"TABLE_SCHEMA", "TABLE_NAME"}

func eachRow(rows *sql.Rows, f func(scan func(...any) error) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (r *mysqlReader) readTables(ctx context.Context) error {
	err := r.each(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME, COALESCE(ENGINE, ''), CREATE_OPTIONS LIKE '%partitioned%'
		FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND `, inTable, " ORDER BY TABLE_SCHEMA, TABLE_NAME",
		func(scan func(...any) error) error {
			t := Table{Table: &schema.Table{Engine: r.engine}}
			var partitioned sql.NullBool
			if err := scan(&t.OwnSchema, &t.Name, &t.StorageEngine, &partitioned); err != nil {
				return err
			}
			t.Partitioned = partitioned.Bool
			r.tables = append(r.tables, t)
			return nil
		})
	for i := range r.tables {
		r.byName[schema.TableName{Schema: r.tables[i].OwnSchema, Name: r.tables[i].Name}] = &r.tables[i]
	}
	return err
}

func (r *mysqlReader) readColumns(ctx context.Context) error {
	return r.each(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE = 'YES', EXTRA,
		COALESCE(CHARACTER_MAXIMUM_LENGTH, 0), COALESCE(NUMERIC_PRECISION, 0), COALESCE(NUMERIC_SCALE, 0), COALESCE(DATETIME_PRECISION, 0)
		FROM information_schema.COLUMNS WHERE `, inTable, " ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
		func(scan func(...any) error) error {
			var name schema.TableName
			var c schema.Column
			var m MySQLType
			var extra string
			if err := scan(&name.Schema, &name.Name, &c.Name, &m.Name, &m.Full, &c.Nullable, &extra,
				&m.Length, &m.Precision, &m.Scale, &m.Fraction); err != nil {
				return err
			}
			m.Describe(&c)
			c.Generated = strings.Contains(extra, "VIRTUAL GENERATED") || strings.Contains(extra, "STORED GENERATED")
			t := r.byName[name]
			if t == nil {
				return nil
			}
			if strings.Contains(strings.ToLower(extra), "auto_increment") {
				t.Sequences = append(t.Sequences, Sequence{Column: len(t.Columns), Min: 1, Max: greatest(&c)})
			}
			t.Columns = append(t.Columns, c)
			return nil
		})
}

// readKeys reads the primary key and those unique keys that are over whole columns.
func (r *mysqlReader) readKeys(ctx context.Context) error {
	var table *Table
	var key string
	var columns []int
	whole := true
	finish := func() {
		switch {
		case table == nil || len(columns) == 0:
		case key == "PRIMARY": // over a prefix it identifies a row by its whole columns as well
			table.Key = columns
		case whole:
			table.Unique = append(table.Unique, columns)
		}
		columns, whole = nil, true
	}
	err := r.each(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COALESCE(COLUMN_NAME, ''), SUB_PART IS NOT NULL
		FROM information_schema.STATISTICS WHERE NON_UNIQUE = 0 AND `, inTable, " ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX",
		func(scan func(...any) error) error {
			var name schema.TableName
			var index, column string
			var prefix bool
			if err := scan(&name.Schema, &name.Name, &index, &column, &prefix); err != nil {
				return err
			}
			if t := r.byName[name]; t != table || index != key {
				finish()
				table, key = t, index
			}
			if table == nil {
				return nil
			}
			if at := table.Column(column); at >= 0 {
				columns = append(columns, at)
			} else {
				whole = false // over an expression
			}
			whole = whole && !prefix
			return nil
		})
	finish()
	return err
}

func (r *mysqlReader) readTriggers(ctx context.Context) error {
	at := [2]string{"EVENT_OBJECT_SCHEMA", "EVENT_OBJECT_TABLE"}
	query := "SELECT EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE, TRIGGER_NAME, ACTION_STATEMENT LIKE '%@cdc\\_sidecar\\_apply%' FROM information_schema.TRIGGERS WHERE "
	return r.each(ctx, query, at, " ORDER BY TRIGGER_NAME", func(scan func(...any) error) error {
		var name schema.TableName
		var trigger string
		var asks bool
		if err := scan(&name.Schema, &name.Name, &trigger, &asks); err != nil {
			return err
		}
		if t := r.byName[name]; t != nil {
			t.Triggers = append(t.Triggers, trigger)
			if asks {
				t.Guarded = append(t.Guarded, trigger)
			}
		}
		return nil
	})
}

// readJSON finds MariaDB's JSON columns. There JSON is a longtext with a check that it is valid, nothing more.
func (r *mysqlReader) readJSON(ctx context.Context) error {
	if r.engine != schema.MariaDB {
		return nil
	}
	at := [2]string{"CONSTRAINT_SCHEMA", "TABLE_NAME"}
	return r.each(ctx, `SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS
		WHERE CHECK_CLAUSE LIKE 'json_valid(%)' AND `, at, "", func(scan func(...any) error) error {
		var name schema.TableName
		var clause string
		if err := scan(&name.Schema, &name.Name, &clause); err != nil {
			return err
		}
		t := r.byName[name]
		if t == nil {
			return nil
		}
		i := slices.IndexFunc(t.Columns, func(c schema.Column) bool {
			return clause == "json_valid("+QuoteMySQL(c.Name)+")" && c.Kind == schema.KindText && c.Native == "longtext"
		})
		if i >= 0 {
			t.Columns[i].Kind, t.Columns[i].Size = schema.KindJSON, 0
		}
		return nil
	})
}

// QuoteMySQL makes a name safe in any statement, whatever sql_mode is.
func QuoteMySQL(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }
