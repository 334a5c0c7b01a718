package capture

import (
	"strings"

	"cdc-sidecar/schema"
)

// mysqlStatement is a statement that the binlog has as text, taken apart as far as capture needs it: what kind it is, and
// which schemas and tables it may touch.
type mysqlStatement struct {
	words []mysqlWord
}

// mysqlWord is one token. Strings and numbers are left out, comments are no tokens.
type mysqlWord struct {
	text   string
	quoted bool // a name in backticks or double quotes: never a keyword
	at     int  // where it begins in the query
	end    int  // where it ends
}

// maxStatementWords bounds what is looked at: a statement's kind and target stand at its start. A longer statement that
// could be harmless only by what comes later counts as not harmless.
const maxStatementWords = 4096

// parseMySQLStatement reads tokens. Double quotes are taken for names although they hold strings without ANSI_QUOTES: a
// string that looks like a captured schema's name may then stop us, a name overlooked would lose changes.
func parseMySQLStatement(query string) mysqlStatement {
	var s mysqlStatement
	for i := 0; i < len(query) && len(s.words) < maxStatementWords; {
		switch c := query[i]; {
		case strings.HasPrefix(query[i:], "/*!"), strings.HasPrefix(query[i:], "/*M!"):
			// A comment that the server executes; its version number reads as one more word, which is skipped.
			i = strings.IndexByte(query[i:], '!') + i + 1
			for i < len(query) && query[i] >= '0' && query[i] <= '9' {
				i++
			}
		case strings.HasPrefix(query[i:], "/*"):
			i = after(query, i+2, "*/")
		case strings.HasPrefix(query[i:], "*/"): // the end of an executed comment
			i += 2
		case c == '#', strings.HasPrefix(query[i:], "-- "), strings.HasPrefix(query[i:], "--\n"), strings.HasPrefix(query[i:], "--\t"):
			i = after(query, i, "\n")
		case c == '\'':
			_, i = unquote(query, i)
		case c == '`', c == '"':
			start := i
			var name string
			name, i = unquote(query, i)
			s.words = append(s.words, mysqlWord{name, true, start, i})
		case nameByte(c):
			start := i
			for i < len(query) && nameByte(query[i]) {
				i++
			}
			s.words = append(s.words, mysqlWord{query[start:i], false, start, i})
		default:
			if c == '.' || c == '(' || c == ',' || c == ';' {
				s.words = append(s.words, mysqlWord{query[i : i+1], false, i, i + 1})
			}
			i++
		}
	}
	return s
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '$' || c == '@' || c >= 0x80
}

// after is the index behind the next end, or the query's length.
func after(query string, from int, end string) int {
	if n := strings.Index(query[from:], end); n >= 0 {
		return from + n + len(end)
	}
	return len(query)
}

// unquote reads a quoted thing, whose quote is doubled inside; a backslash hides the next character except in backticks.
func unquote(query string, at int) (string, int) {
	quote := query[at]
	var b strings.Builder
	for i := at + 1; i < len(query); i++ {
		switch c := query[i]; {
		case c == '\\' && quote != '`' && i+1 < len(query):
			i++
			b.WriteByte(query[i])
		case c != quote:
			b.WriteByte(c)
		case i+1 < len(query) && query[i+1] == quote:
			i++
			b.WriteByte(quote)
		default:
			return b.String(), i + 1
		}
	}
	return b.String(), len(query)
}

// is reports whether the statement has these keywords from the given word on.
func (s mysqlStatement) is(at int, keywords ...string) bool {
	if at+len(keywords) > len(s.words) {
		return false
	}
	for i, k := range keywords {
		if w := s.words[at+i]; w.quoted || !strings.EqualFold(w.text, k) {
			return false
		}
	}
	return true
}

// keyword is the first one, in capitals.
func (s mysqlStatement) keyword() string {
	if len(s.words) == 0 || s.words[0].quoted {
		return ""
	}
	return strings.ToUpper(s.words[0].text)
}

// name reads a table's name, with its schema or without.
func (s mysqlStatement) name(at int, defaultSchema string) schema.TableName {
	switch {
	case at >= len(s.words):
		return schema.TableName{}
	case at+2 < len(s.words) && s.is(at+1, "."):
		return schema.TableName{Schema: s.words[at].text, Name: s.words[at+2].text}
	}
	return schema.TableName{Schema: defaultSchema, Name: s.words[at].text}
}

// truncated is the table of a TRUNCATE TABLE.
func (s mysqlStatement) truncated(defaultSchema string) (schema.TableName, bool) {
	if s.keyword() != "TRUNCATE" {
		return schema.TableName{}, false
	}
	at := 1
	if s.is(at, "TABLE") && len(s.words) > 2 {
		at++
	}
	name := s.name(at, defaultSchema)
	return name, name.Name != ""
}

// movesRows reports whether rows of a table that is altered may come or go without the log having them: with a partition or a
// tablespace, or because they are in the way of a unique key.
func (s mysqlStatement) movesRows() bool {
	if s.keyword() != "ALTER" {
		return false
	}
	for i := 1; i < len(s.words); i++ {
		switch {
		case s.is(i+1, "PARTITION"):
			for _, verb := range []string{"TRUNCATE", "DROP", "EXCHANGE", "CONVERT", "IMPORT"} {
				if s.is(i, verb) {
					return true
				}
			}
		case s.is(i, "CONVERT", "TABLE"), s.is(i, "IMPORT", "TABLESPACE"), i < 3 && s.is(i, "IGNORE"):
			return true
		}
	}
	return false
}

// writesNoRows are the statements that belong into a row-format binlog. All others write rows, or might: in the binlog
// they mean that some session did not use binlog_format ROW.
var writesNoRows = map[string]bool{
	"": true, "ALTER": true, "ANALYZE": true, "BEGIN": true, "CACHE": true, "CHANGE": true, "CHECK": true, "COMMIT": true,
	"CREATE": true, "DROP": true, "FLUSH": true, "GRANT": true, "INSTALL": true, "KILL": true, "LOCK": true, "OPTIMIZE": true,
	"PURGE": true, "RELEASE": true, "RENAME": true, "REPAIR": true, "RESET": true, "REVOKE": true, "ROLLBACK": true,
	"SAVEPOINT": true, "SET": true, "SHUTDOWN": true, "START": true, "TRUNCATE": true, "UNINSTALL": true, "UNLOCK": true,
	"USE": true, "XA": true,
}

// writesRows reports whether the statement is DML in statement format. CREATE TABLE … SELECT is, when the SELECT is
// still in it.
func (s mysqlStatement) writesRows() bool {
	kind := s.keyword()
	if !writesNoRows[kind] {
		return true
	}
	if kind != "CREATE" {
		return false
	}
	for i := 1; i < len(s.words) && i < 6; i++ { // CREATE OR REPLACE TEMPORARY TABLE
		if s.is(i, "TABLE") {
			return s.has("SELECT")
		}
	}
	return false
}

func (s mysqlStatement) has(keyword string) bool {
	for i := range s.words {
		if s.is(i, keyword) {
			return true
		}
	}
	return false
}

// mayTouch reports whether the statement may write a table of such a schema: of the schema that it ran in, or of one that
// it names anywhere. An INSERT or REPLACE into a qualified name touches that one only (its triggers log rows or text of
// their own).
func (s mysqlStatement) mayTouch(defaultSchema string, captured func(ownSchema string) bool) bool {
	if kind := s.keyword(); kind == "INSERT" || kind == "REPLACE" {
		at := 1
		for s.is(at, "LOW_PRIORITY") || s.is(at, "HIGH_PRIORITY") || s.is(at, "DELAYED") || s.is(at, "IGNORE") || s.is(at, "INTO") {
			at++
		}
		return captured(s.name(at, defaultSchema).Schema)
	}
	if captured(defaultSchema) || len(s.words) == maxStatementWords {
		return true
	}
	for _, w := range s.words {
		if captured(w.text) {
			return true
		}
	}
	return false
}
