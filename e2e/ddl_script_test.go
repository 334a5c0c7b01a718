package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"

	"cdc-sidecar/servers"
)

// script is a file of statements; see testdata/ddl/statements/postgres.sql for its form.
type script struct {
	live   []string // tables, quoted as the script's engine has it, that applications write all the while
	groups []group
	alone  []string // tables that no other office gets

	passing bool // the next statement is one that the server does not know
}

// group is a part of a script behind which the offices are compared.
type group struct {
	name       string
	branch     bool // it is played at a branch of the engine, not at the script's office
	statements []string
	notices    []string // what the offices of the other engine say that they do not have
}

// readScript reads a file of the folder testdata.
func readScript(t *testing.T, path string) (s script) {
	t.Helper()
	text, err := os.ReadFile("../testdata/" + path)
	must(t, err)
	statement := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		if comment, is := strings.CutPrefix(line, "-- "); is && statement == "" {
			s.note(comment)
			continue
		}
		if strings.TrimSpace(line) == "" || line == "--" {
			continue
		}
		if len(s.groups) == 0 {
			t.Fatalf("%s: a statement before the first group: %s", path, line)
		}
		statement += line
		if !strings.HasSuffix(line, ";") {
			statement += "\n"
			continue
		}
		g := &s.groups[len(s.groups)-1]
		if !s.passing {
			g.statements = append(g.statements, strings.TrimSuffix(statement, ";"))
		}
		statement, s.passing = "", false
	}
	if statement != "" {
		t.Fatalf("%s: a statement without an end: %s", path, statement)
	}
	return s
}

// note reads a comment that says something to the test.
func (s *script) note(comment string) {
	if name, is := strings.CutPrefix(comment, "group "); is {
		name, branch := strings.CutPrefix(name, "at branch")
		s.groups = append(s.groups, group{name: name, branch: branch})
		return
	}
	subject, _, _ := strings.Cut(comment, ":")
	switch {
	case comment == "mariadb only":
		s.passing = servers.Oracle()
	case strings.HasPrefix(comment, "live: "):
		s.live = quotedWords(strings.TrimPrefix(comment, "live: "))
	case strings.HasPrefix(subject, "notice "):
		g := &s.groups[len(s.groups)-1]
		g.notices = append(g.notices, strings.TrimPrefix(subject, "notice "))
	case strings.HasPrefix(subject, "here alone "):
		s.alone = append(s.alone, strings.TrimPrefix(subject, "here alone "))
	}
}

// quotedWords are the words of a text; what stands in double quotes or backquotes is one.
func quotedWords(text string) (words []string) {
	quote := rune(0)
	for _, word := range strings.FieldsFunc(text, func(c rune) bool {
		switch {
		case c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '`'):
			quote = c
		}
		return c == ' ' && quote == 0
	}) {
		words = append(words, strings.Trim(word, "\"`"))
	}
	return words
}

// size is how many statements a script has.
func (s *script) size() (n int) {
	for i := range s.groups {
		n += len(s.groups[i].statements)
	}
	return n
}

// names reports whether some statement has a name in it.
func (s *script) names(name string) bool {
	for i := range s.groups {
		if slices.ContainsFunc(s.groups[i].statements, func(text string) bool { return strings.Contains(text, name) }) {
			return true
		}
	}
	return false
}

// only is the script without the other groups.
func (s *script) only(names ...string) (some script) {
	some.live, some.alone = s.live, s.alone
	for i := range s.groups {
		if slices.Contains(names, s.groups[i].name) {
			some.groups = append(some.groups, s.groups[i])
		}
	}
	return some
}

// inPairs is the script with two groups in one, where they are played at the same office.
func (s *script) inPairs() (fewer script) {
	fewer.live, fewer.alone = s.live, s.alone
	for i := 0; i < len(s.groups); i++ {
		g := s.groups[i]
		if i+1 < len(s.groups) && s.groups[i+1].branch == g.branch {
			i++
			next := &s.groups[i]
			g.name += ", " + next.name
			g.statements, g.notices = slices.Concat(g.statements, next.statements), slices.Concat(g.notices, next.notices)
		}
		fewer.groups = append(fewer.groups, g)
	}
	return fewer
}

// singly is the script with each statement in a group of its own.
func (s *script) singly() (one script) {
	one.live, one.alone = s.live, s.alone
	for i := range s.groups {
		g := &s.groups[i]
		for n, statement := range g.statements {
			single := group{name: g.name, branch: g.branch, statements: []string{statement}}
			if n == len(g.statements)-1 {
				single.notices = g.notices
			}
			one.groups = append(one.groups, single)
		}
	}
	return one
}
