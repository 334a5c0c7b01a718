package capture

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pingcap/tidb/pkg/parser"
	"github.com/pingcap/tidb/pkg/parser/ast"
	parsed "github.com/pingcap/tidb/pkg/parser/mysql"
	_ "github.com/pingcap/tidb/pkg/parser/test_driver" // what the parser keeps constants in

	"cdc-sidecar/schema"
)

// mysqlDDL is what a statement of the binlog does to tables, as far as it can be told without them. Names are the database's own.
type mysqlDDL struct {
	created *ast.CreateTableStmt
	renames []mysqlRename
	altered []*ast.AlterTableSpec
	dropped []schema.TableName
	table   schema.TableName // created or altered: as it is called before the statement
	schema  string           // all tables of it are dropped
	other   schema.TableName // with which a partition was exchanged
}

type mysqlRename struct{ from, to schema.TableName }

// The bits of a session's sql_mode that change how a statement is read; all others are about what it does.
const mysqlReadingModes = parsed.ModePipesAsConcat | parsed.ModeANSIQuotes | parsed.ModeNoBackslashEscapes | parsed.ModeIgnoreSpace | parsed.ModeRealAsFloat

// mysqlSQLMode is a statement's sql_mode, from what the binlog says besides its text: first the flags, then the mode.
func mysqlSQLMode(status []byte) parsed.SQLMode {
	const flags, mode = 0, 1
	if len(status) >= 5 && status[0] == flags {
		status = status[5:]
	}
	if len(status) >= 9 && status[0] == mode {
		return parsed.SQLMode(binary.LittleEndian.Uint64(status[1:])) & mysqlReadingModes
	}
	return 0
}

// mysqlTableObjects and mysqlOtherObjects are what CREATE, ALTER, DROP and RENAME are about: the first word of them decides.
var (
	mysqlTableObjects = map[string]bool{"TABLE": true, "TABLES": true, "INDEX": true, "DATABASE": true, "SCHEMA": true}
	mysqlOtherObjects = map[string]bool{
		"VIEW": true, "TRIGGER": true, "PROCEDURE": true, "FUNCTION": true, "EVENT": true, "USER": true, "ROLE": true, "SERVER": true, "SEQUENCE": true,
		"PACKAGE": true, "TABLESPACE": true, "LOGFILE": true, "UNDO": true, "RESOURCE": true, "INSTANCE": true, "PREPARE": true, "REFERENCE": true,
		"LIBRARY": true, "CATALOG": true,
	}
)

// changesTables reports whether the statement may define a table: a view, a routine, an account is none, and temporary tables
// are not in the log.
func (s mysqlStatement) changesTables() bool {
	switch s.keyword() {
	case "ALTER", "CREATE", "DROP", "RENAME":
	default:
		return false
	}
	temporary := false
	for i := 1; i < len(s.words); i++ {
		word := strings.ToUpper(s.words[i].text)
		switch {
		case s.words[i].quoted:
		case word == "TEMPORARY":
			temporary = true
		case mysqlTableObjects[word]:
			return !temporary
		case mysqlOtherObjects[word]:
			return false
		}
	}
	return !temporary
}

// parseMySQLDDL takes a statement apart that may define tables. An error says that the parser does not know what the server knew.
func parseMySQLDDL(engine schema.Engine, mode parsed.SQLMode, query, defaultSchema string, lower bool) (ddl *mysqlDDL, err error) {
	if !utf8.ValidString(query) {
		return nil, fmt.Errorf("it is not UTF-8")
	}
	defer func() { // the grammar is large, and the log of a server is not to stop at what it does not expect
		if r := recover(); r != nil {
			ddl, err = nil, fmt.Errorf("the parser fails: %v", r)
		}
	}()
	p := parser.New()
	p.SetMariaDB(engine == schema.MariaDB)
	p.SetSQLMode(mode)
	statement, err := p.ParseOneStmt(plainMySQL(query), "", "")
	if err != nil {
		return nil, err
	}
	c := mysqlClassifier{defaultSchema: defaultSchema, lower: lower, replaces: parseMySQLStatement(query).is(1, "OR", "REPLACE")}
	return c.classify(statement)
}

type mysqlClassifier struct {
	defaultSchema string
	lower         bool // the server keeps names in small letters
	replaces      bool // CREATE OR REPLACE
}

func (c *mysqlClassifier) name(t *ast.TableName) schema.TableName {
	n := schema.TableName{Schema: t.Schema.O, Name: t.Name.O}
	if n.Schema == "" {
		n.Schema = c.defaultSchema
	}
	if c.lower {
		n.Schema, n.Name = strings.ToLower(n.Schema), strings.ToLower(n.Name)
	}
	return n
}

func (c *mysqlClassifier) classify(statement ast.StmtNode) (*mysqlDDL, error) {
	ddl := &mysqlDDL{}
	switch s := statement.(type) {
	case *ast.CreateTableStmt:
		if s.TemporaryKeyword == ast.TemporaryNone {
			ddl.created, ddl.table = s, c.name(s.Table)
		}
	case *ast.AlterTableStmt:
		ddl.table, ddl.altered = c.name(s.Table), s.Specs
		c.alter(ddl)
	case *ast.CreateIndexStmt:
		kinds := map[ast.IndexKeyType]ast.ConstraintType{ast.IndexKeyTypeUnique: ast.ConstraintUniq, ast.IndexKeyTypeFulltext: ast.ConstraintFulltext}
		kind := kinds[s.KeyType]
		if kind == ast.ConstraintNoConstraint {
			kind = ast.ConstraintIndex
		}
		ddl.table = c.name(s.Table)
		if c.replaces {
			ddl.altered = append(ddl.altered, &ast.AlterTableSpec{Tp: ast.AlterTableDropIndex, Name: s.IndexName})
		}
		ddl.altered = append(ddl.altered, &ast.AlterTableSpec{Tp: ast.AlterTableAddConstraint, Constraint: &ast.Constraint{Tp: kind, Name: s.IndexName, Keys: s.IndexPartSpecifications}})
	case *ast.DropIndexStmt:
		ddl.table = c.name(s.Table)
		ddl.altered = []*ast.AlterTableSpec{{Tp: ast.AlterTableDropIndex, Name: s.IndexName}}
	case *ast.RenameTableStmt:
		for _, pair := range s.TableToTables {
			ddl.renames = append(ddl.renames, mysqlRename{c.name(pair.OldTable), c.name(pair.NewTable)})
		}
	case *ast.DropTableStmt:
		if s.IsView || s.TemporaryKeyword != ast.TemporaryNone {
			return ddl, nil
		}
		for _, t := range s.Tables {
			ddl.dropped = append(ddl.dropped, c.name(t))
		}
	case *ast.DropDatabaseStmt:
		if ddl.schema = s.Name.O; c.lower {
			ddl.schema = s.Name.L
		}
	case *ast.CreateDatabaseStmt, *ast.AlterDatabaseStmt, *ast.CreateViewStmt, *ast.CreateSequenceStmt, *ast.AlterSequenceStmt, *ast.DropSequenceStmt:
	default:
		return nil, fmt.Errorf("it was taken for a %T", statement)
	}
	return ddl, nil
}

// alter looks for what an ALTER TABLE does besides changing the table's definition.
func (c *mysqlClassifier) alter(ddl *mysqlDDL) {
	for _, spec := range ddl.altered {
		switch spec.Tp {
		case ast.AlterTableRenameTable:
			ddl.renames = []mysqlRename{{ddl.table, c.name(spec.NewTable)}}
		case ast.AlterTableExchangePartition:
			if spec.NewTable != nil {
				ddl.other = c.name(spec.NewTable)
			}
		}
	}
}

// plainMySQL blanks out the clauses that the parser refuses and that do not matter here: how long to wait for locks, collations,
// MariaDB's IF EXISTS where a missing thing shows anyhow.
func plainMySQL(query string) string {
	query = strings.ReplaceAll(query, "/*M!", "/*!")
	text := []byte(query)
	s := parseMySQLStatement(query)
	blank := func(from, to int) {
		for i := s.words[from].at; i < s.words[to-1].end; i++ {
			text[i] = ' '
		}
	}
	const head = 12 // words within which the statement says what it is about
	for i := 1; i < len(s.words); i++ {
		switch {
		case s.is(i, "COLLATE") && i+1 < len(s.words):
			blank(i, i+2) // with the = between them
		case i == 1 && s.is(i, "OR", "REPLACE"):
			blank(i, i+2)
		case i < 4 && (s.is(i, "ONLINE") || s.is(i, "OFFLINE")):
			blank(i, i+1)
		case i < head && s.is(i, "NOWAIT"):
			blank(i, i+1)
		case (i < head || i == len(s.words)-2) && s.is(i, "WAIT") && i+1 < len(s.words) && isNumber(s.words[i+1]):
			blank(i, i+2)
		case s.is(i, "IF", "EXISTS") && (s.is(i-1, "CONSTRAINT") || s.is(i-1, "TABLE") && s.keyword() != "DROP"):
			blank(i, i+2)
		case s.is(i, "IF", "NOT", "EXISTS") && s.is(i-1, "CONSTRAINT"):
			blank(i, i+3)
		case s.is(i, "PERSISTENT"):
			blank(i, i+1)
			copy(text[s.words[i].at:], "STORED")
		case i == len(s.words)-2 && s.is(i, "START", "TRANSACTION"):
			blank(i, i+2)
		}
	}
	return string(text)
}

func isNumber(w mysqlWord) bool { return !w.quoted && strings.Trim(w.text, "0123456789") == "" }
