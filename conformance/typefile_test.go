package conformance

import (
	"bufio"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"cdc-sidecar/schema"
)

// typeFile is a file of testdata/types: a column's type as one engine has it, the types that other engines get for it, and
// values, each with what is read of it from the log and what it becomes elsewhere.
//
//	# what is odd about the type
//	postgres: numeric                        -- the engines that have it (a least version may follow), and the type
//	setup: CREATE TYPE …                     -- before the table is made, at the source and at a target of its own family
//	more: g int GENERATED ALWAYS AS (id)     -- further columns
//	insert: OVERRIDING SYSTEM VALUE          -- before VALUES
//	lenient: yes                             -- MySQL's sql_mode is not strict when the values are written
//	into mariadb: decimal(65,30)             -- the type that CreateTable chooses there; or "refused: why"
//	into mariadb given: varchar(20)          -- one that a person has chosen
//
//	1.50                                     -- a literal
//		= 1.50                               -- the canonical text that capture gives
//		mariadb = 1.500000000000000000       -- what is read at the target, where it is another text
//	'NaN'
//		= NaN
//		mariadb refused: a decimal(65,30) (decimal) holds no NaN
//	1.500
//		= 1.500
//		mariadb = 1.500000000000000000
//		mariadb back = 1.5                   -- what stands at an equal of the source when the target's value is sent back
//
// Nothing about a target: the same text. What is said of mariadb holds for mysql too, unless mysql has a line of its own.
// A text stands in Go's quotes where it is not plain, and is shortened where it is long (see shown).
type typeFile struct {
	path, name string
	comment    []string
	engines    []engineNeed
	ddl        string
	setup      []string
	more       string
	insert     string
	lenient    bool
	into       map[schema.Engine]string // see above; "given" stands in given
	given      map[schema.Engine]string
	values     []*typeValue
}

// engineNeed is an engine and the least version that has the type.
type engineNeed struct {
	engine  schema.Engine
	version string
}

type typeValue struct {
	literal string
	logged  string                   // what capture gives, as shown
	at      map[schema.Engine]string // "= text" or "refused: why"
}

var allEngines = []schema.Engine{schema.Postgres, schema.MariaDB, schema.MySQL}

const typesFolder = "../testdata/types"

func readTypeFiles(t *testing.T) []*typeFile {
	t.Helper()
	paths, err := filepath.Glob(typesFolder + "/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files in %s: %v", typesFolder, err)
	}
	files := make([]*typeFile, len(paths))
	for i, path := range paths {
		if files[i], err = readTypeFile(path); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	return files
}

func readTypeFile(path string) (*typeFile, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	name := strings.ReplaceAll(strings.TrimSuffix(filepath.Base(path), ".txt"), "-", "_")
	f := &typeFile{path: path, name: name, into: map[schema.Engine]string{}, given: map[schema.Engine]string{}}
	lines := bufio.NewScanner(strings.NewReader(string(text)))
	lines.Buffer(nil, 1<<20)
	inValues := false
	for lines.Scan() {
		line := lines.Text()
		switch {
		case line == "":
			inValues = true
		case !inValues:
			err = f.header(line)
		case line[0] == '\t':
			err = f.expectation(line[1:])
		default:
			f.values = append(f.values, &typeValue{literal: line, at: map[schema.Engine]string{}})
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
	}
	if f.ddl == "" || len(f.values) == 0 {
		return nil, fmt.Errorf("no type or no values")
	}
	return f, lines.Err()
}

func (f *typeFile) header(line string) error {
	if strings.HasPrefix(line, "#") {
		f.comment = append(f.comment, line)
		return nil
	}
	key, value, ok := strings.Cut(line, ": ")
	if !ok {
		return fmt.Errorf("want key: value")
	}
	switch target, into := strings.CutPrefix(key, "into "); {
	case key == "setup":
		f.setup = append(f.setup, value)
	case key == "more":
		f.more = value
	case key == "insert":
		f.insert = value
	case key == "lenient":
		f.lenient = true
	case into && strings.HasSuffix(target, " given"):
		f.given[schema.Engine(strings.TrimSuffix(target, " given"))] = value
	case into:
		f.into[schema.Engine(target)] = value
	default:
		f.ddl = value
		for need := range strings.SplitSeq(key, ", ") {
			engine, version, _ := strings.Cut(need, " ")
			if !slices.Contains(allEngines, schema.Engine(engine)) {
				return fmt.Errorf("no engine is called %s", engine)
			}
			f.engines = append(f.engines, engineNeed{schema.Engine(engine), version})
		}
	}
	return nil
}

func (f *typeFile) expectation(line string) error {
	if len(f.values) == 0 {
		return fmt.Errorf("stands before the first value")
	}
	v := f.values[len(f.values)-1]
	if logged, ok := strings.CutPrefix(line, "= "); ok {
		v.logged = logged
		return nil
	}
	engine, outcome, ok := strings.Cut(line, " ")
	if back, found := strings.CutPrefix(outcome, "back "); found {
		v.at[sentBack(schema.Engine(engine))] = back
		return nil
	}
	if !ok || !slices.Contains(allEngines, schema.Engine(engine)) {
		return fmt.Errorf("want = text, engine = text, or engine refused: why")
	}
	v.at[schema.Engine(engine)] = outcome
	return nil
}

// sentBack stands for what comes back from an engine.
func sentBack(e schema.Engine) schema.Engine { return e + " back" }

// expected is what the file says of a value at a target.
func (v *typeValue) expected(target schema.Engine) string {
	if outcome := v.at[target]; outcome != "" {
		return outcome
	}
	if like := strings.Replace(string(target), string(schema.MySQL), string(schema.MariaDB), 1); v.at[schema.Engine(like)] != "" {
		return v.at[schema.Engine(like)]
	}
	return "= " + v.logged
}

// expect notes what was seen, as briefly as it can be said.
func (v *typeValue) expect(target schema.Engine, outcome string) {
	delete(v.at, target)
	if v.expected(target) != outcome {
		v.at[target] = outcome
	}
}

// target is the type that the file says the target gets.
func (f *typeFile) target(engine schema.Engine) string {
	if into, ok := f.into[engine]; ok || engine != schema.MySQL {
		return into
	}
	return f.into[schema.MariaDB]
}

func (f *typeFile) setTarget(engine schema.Engine, into string) {
	delete(f.into, engine)
	if f.target(engine) != into {
		f.into[engine] = into
	}
}

// givenType is the type that a person has chosen for the target; empty: none.
func (f *typeFile) givenType(engine schema.Engine) string {
	if given, ok := f.given[engine]; ok || engine != schema.MySQL {
		return given
	}
	return f.given[schema.MariaDB]
}

func (f *typeFile) write() error {
	var b strings.Builder
	line := func(text string) { b.WriteString(text + "\n") }
	for _, c := range f.comment {
		line(c)
	}
	var needs []string
	for _, e := range f.engines {
		needs = append(needs, strings.TrimSpace(string(e.engine)+" "+e.version))
	}
	line(strings.Join(needs, ", ") + ": " + f.ddl)
	for _, s := range f.setup {
		line("setup: " + s)
	}
	if f.more != "" {
		line("more: " + f.more)
	}
	if f.insert != "" {
		line("insert: " + f.insert)
	}
	if f.lenient {
		line("lenient: yes")
	}
	for _, e := range allEngines {
		if f.given[e] != "" {
			line("into " + string(e) + " given: " + f.given[e])
		}
		if f.into[e] != "" {
			line("into " + string(e) + ": " + f.into[e])
		}
	}
	line("")
	for _, v := range f.values {
		line(v.literal)
		line("\t= " + v.logged)
		for _, e := range allEngines {
			for _, place := range []schema.Engine{e, sentBack(e)} {
				if v.at[place] != "" {
					line("\t" + string(place) + " " + v.at[place])
				}
			}
		}
	}
	return os.WriteFile(f.path, []byte(b.String()), 0o644)
}

const (
	// shownText is how long a text may be to stand in a file as it is; of a longer one its beginning, length and checksum do.
	shownText = 400
	shownHead = 24
)

// shown is a value as a file has it.
func shown(v schema.Value) string {
	text := v.Text()
	switch {
	case v.IsUnchanged():
		return "-"
	case v.IsNull():
		return "NULL"
	case len(text) > shownText:
		return fmt.Sprintf("%q… %d bytes, checksum %08x", text[:shownHead], len(text), crc32.ChecksumIEEE([]byte(text)))
	case text == "NULL" || text == "-" || text == "" || text != strings.TrimSpace(text) || strings.ContainsFunc(text, odd):
		return strconv.Quote(text)
	}
	return text
}

func odd(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }
