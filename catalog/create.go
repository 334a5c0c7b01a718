package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cdc-sidecar/schema"
)

// CreateTable is the statement that makes another office's table in a database of an engine, where ownSchema is the database's
// own name of the schema (MySQL: the database): columns, types, NOT NULL and the primary key. What the database computes there
// is a plain column here; numbers given by the database, defaults, further keys and checks are left out.
//
// Where the engine knows the type under the same name, that is the column's type. Types that a user has made, in Postgres, are
// not believed to be here: of a domain the type behind it is taken, of an enum text. Between the families the type is one that
// holds every value that both have; where there is none that holds all, text does (what an application writes into it goes back where
// it is written as the other database would). Text in a key of a MySQL or MariaDB is compared byte by byte, so that what are two
// rows elsewhere are two rows here; without a length, or with one that no index takes, it gets one (see mysqlKeyText): a longer
// key is then refused when it comes.
//
// A *schema.RejectedError names the column for which there is no type here.
func CreateTable(engine schema.Engine, ownSchema string, t *schema.Table) (string, error) {
	if len(t.Key) == 0 {
		return "", &schema.RejectedError{
			Table: t.TableName, Cause: errors.New("it has no key, so its rows cannot be told apart"), Remedy: "give it a primary key, or flow: none for the table",
		}
	}
	quote, types, end := QuoteMySQL, mysqlColumnTypes, " ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4"
	if engine == schema.Postgres {
		if err := postgresNames(t); err != nil {
			return "", err
		}
		quote, types, end = quotePostgres, postgresColumnTypes, ""
	}
	all, err := types(engine, t)
	if err != nil {
		return "", err
	}
	var lines, key []string
	for i := range t.Columns {
		line := "\t" + quote(t.Columns[i].Name) + " " + all[i]
		if !mayBeNull(t, i) {
			line += " NOT NULL"
		}
		lines = append(lines, line)
	}
	for _, k := range t.Key {
		key = append(key, quote(t.Columns[k].Name))
	}
	lines = append(lines, "\tPRIMARY KEY ("+strings.Join(key, ", ")+")")
	return "CREATE TABLE IF NOT EXISTS " + quote(ownSchema) + "." + quote(t.Name) + " (\n" + strings.Join(lines, ",\n") + "\n)" + end, nil
}

// mayBeNull reports whether NULL is to be allowed. Postgres' log does not have what it computes, so nothing will come of that.
func mayBeNull(t *schema.Table, i int) bool {
	c := &t.Columns[i]
	return !slices.Contains(t.Key, i) && (c.Nullable || c.Generated && t.Engine == schema.Postgres)
}

// untyped says that there is no type for a column.
func untyped(t *schema.Table, c *schema.Column, why string) error {
	return &schema.RejectedError{
		Table: t.TableName, Column: c.Name, Cause: fmt.Errorf("the table is to be made here, and its type %s %s", c.Native, why),
		Remedy: "create the table here by hand, with a type that holds the values, or flow: none for the table",
	}
}

// withLength is a type with a length, where there is one.
func withLength(name string, n int) string {
	if n <= 0 {
		return name
	}
	return fmt.Sprintf("%s(%d)", name, n)
}

// baseName is a type without its lengths: timestamp without time zone of timestamp(3) without time zone.
func baseName(native string) string {
	before, rest, ok := strings.Cut(native, "(")
	if !ok {
		return native
	}
	_, after, _ := strings.Cut(rest, ")")
	return before + after
}
