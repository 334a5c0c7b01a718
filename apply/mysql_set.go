package apply

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"cdc-sidecar/schema"
)

const (
	// mysqlSetLeast is the shortest run that is worth a set: below, as many single statements cost less than the server's
	// two temporary tables.
	mysqlSetLeast = 5
	// mysqlLargeLeast is the same where a column of a large type is written, because then they are on disk.
	mysqlLargeLeast = 16
	// mysqlSetRows bounds the rows of one set, so that its temporary tables stay small and in memory.
	mysqlSetRows = 1000
	// mysqlMaxSets bounds the statements that a session remembers; its forms are made anew every minute.
	mysqlMaxSets = 1024
)

// mysqlSet is one statement that does what many updates or deletes of one form do, each of another row: the rows stand in a
// table of values, which is joined by the primary key.
//
//	UPDATE (WITH v(c0, c1, c2) AS (VALUES ('a', 1.5, 7), ('b', NULL, 8)) SELECT * FROM v) AS v
//	STRAIGHT_JOIN `shop`.`item` AS t FORCE INDEX (PRIMARY) ON t.`id` = v.c2 SET t.`name` = v.c0, t.`price` = v.c1
//
// It must leave the rows exactly as the single statements would. A column of values has one type, which the server derives
// from all of its literals. So that nothing depends on how it does that with decimals and doubles, all literals but those of
// integers and bytes are text, which the server then stores as it stores a single literal (see appendCell).
//
// The order of the join is forced: in another one the server would read, and wait for, rows that nobody meant.
type mysqlSet struct {
	before, after string
	keys          []schema.Column // compared with the last values of each tuple
	least         int             // rows that are worth it
}

// set is the statement for a run that begins with st; nil when such steps are to go one by one.
func (s *mysqlSession) set(ctx context.Context, st *step) (*mysqlSet, error) {
	if set, known := s.sets[st.form]; known {
		return set, nil
	}
	var set *mysqlSet
	if s.rowWord != nil && joinable(st) {
		on, err := s.keyCondition(ctx, st)
		if err != nil {
			return nil, err
		}
		if on != "" {
			set = newMySQLSet(st, on)
		}
	}
	if len(s.sets) >= mysqlMaxSets || s.sets == nil {
		s.sets = map[*form]*mysqlSet{}
	}
	s.sets[st.form] = set
	return set, nil
}

// joinable says whether a form can be a set at all: the row is found by the primary key, which stays as it is. A table with
// triggers is left alone, because what they do may depend on the order of the rows.
func joinable(st *step) bool {
	p := st.plan
	if p == nil || !p.sameKey || p.target.StorageEngine != "InnoDB" || len(p.target.Triggers) > 0 {
		return false
	}
	written := st.form.columns[:len(st.form.columns)-len(p.source.Key)]
	switch st.form.op {
	case schema.Delete:
		return true
	case schema.Update:
		return len(written) > 0 && !slices.ContainsFunc(written, func(c schema.Column) bool {
			return slices.Contains(p.target.Key, p.target.Column(c.Name))
		})
	}
	return false
}

// keyCondition joins the values with the rows so that each finds the row that its single statement would, through the index;
// "" when that cannot be said for sure.
func (s *mysqlSession) keyCondition(ctx context.Context, st *step) (string, error) {
	first := len(st.form.columns) - len(st.plan.source.Key)
	var on strings.Builder
	for i, c := range st.form.columns[first:] {
		value := "v.c" + strconv.Itoa(first+i)
		switch c.Kind {
		case schema.KindInt, schema.KindBytes:
		case schema.KindText:
			// A literal takes the collation of the column that it is compared with; a column of values has its own.
			charset, collation, err := s.collation(ctx, st, c.Name)
			if err != nil || charset == "" {
				return "", err
			}
			value = "CONVERT(" + value + " USING " + charset + ") COLLATE " + collation
		default:
			return "", nil
		}
		on.WriteString(map[bool]string{true: " AND "}[i > 0] + "t." + quote(schema.MySQL, c.Name) + " = " + value)
	}
	return on.String(), nil
}

// collation reads a column's character set and collation; none when they have strange names.
func (s *mysqlSession) collation(ctx context.Context, st *step, column string) (charset, collation string, err error) {
	err = s.conn.QueryRowContext(ctx, `SELECT COALESCE(MAX(CHARACTER_SET_NAME), ''), COALESCE(MAX(COLLATION_NAME), '') FROM information_schema.COLUMNS
		WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND COLUMN_NAME = ?`, st.plan.target.OwnSchema, st.plan.target.Name, column).Scan(&charset, &collation)
	if !plainName(charset) || !plainName(collation) {
		return "", "", err
	}
	return charset, collation, err
}

func plainName(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

func newMySQLSet(st *step, on string) *mysqlSet {
	p, columns := st.plan, st.form.columns
	written := len(columns) - len(p.source.Key)
	names := make([]string, len(columns))
	for i := range names {
		names[i] = "c" + strconv.Itoa(i)
	}
	verb := map[bool]string{true: "UPDATE ", false: "DELETE t FROM "}[st.form.op == schema.Update]
	set := &mysqlSet{
		before: verb + "(WITH v(" + strings.Join(names, ", ") + ") AS (VALUES ",
		after:  ") SELECT * FROM v) AS v STRAIGHT_JOIN " + p.name() + " AS t FORCE INDEX (PRIMARY) ON " + on,
		keys:   columns[written:],
		least:  mysqlSetLeast,
	}
	if slices.ContainsFunc(columns[:written], large) {
		set.least = mysqlLargeLeast
	}
	separator := " SET t."
	for i := range written {
		set.after += separator + quote(schema.MySQL, columns[i].Name) + " = v." + names[i]
		separator = ", t."
	}
	return set
}

// large says whether the server keeps a column out of the row.
func large(c schema.Column) bool {
	native := baseType(c.Native)
	return c.Kind == schema.KindJSON || strings.HasSuffix(native, "text") || strings.HasSuffix(native, "blob") || spatial[native] || native == "vector"
}

// takes says whether the row of a step is found by the join as by its single statement: an integer must be compared as one,
// and text be the same in every character set.
func (set *mysqlSet) takes(st *step) bool {
	for i, v := range st.args[len(st.args)-len(set.keys):] {
		switch text := v.Text(); {
		case v.IsNull():
			return false
		case set.keys[i].Kind == schema.KindInt && !plainInteger(text), set.keys[i].Kind == schema.KindText && !ascii(text):
			return false
		}
	}
	return true
}

func plainInteger(s string) bool { return plainNumber(s) && !strings.ContainsAny(s, ".e+") }

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] == 0 || s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// addSet appends steps, from the first on, to the query as one statement and says how many; 0 when the first is to be
// written by itself.
func (s *mysqlSession) addSet(ctx context.Context, steps []step) (int, error) {
	if op := steps[0].form.op; op != schema.Update && op != schema.Delete || !isRun(steps, mysqlSetLeast) {
		return 0, nil
	}
	set, err := s.set(ctx, &steps[0])
	if set == nil || err != nil || !isRun(steps, set.least) {
		return 0, err
	}
	from := len(s.query)
	s.query = append(s.query, set.before...)
	n := 0
	for n < min(len(steps), mysqlSetRows) && (n == 0 || steps[n].joins && len(s.query) < mysqlQuery) && set.takes(&steps[n]) {
		s.appendRow(&steps[n])
		n++
	}
	if full := len(s.query) >= mysqlQuery; n == 0 || n < set.least && !full {
		s.query = s.query[:from]
		return 0, nil
	}
	s.query = append(append(s.query[:len(s.query)-1], set.after...), ';')
	s.tuples = append(s.tuples, n)
	s.joined = append(s.joined, steps[0].form)
	return n, nil
}

// isRun says whether the first n steps are one run.
func isRun(steps []step, n int) bool {
	for i := 1; i < n; i++ {
		if i >= len(steps) || !steps[i].joins {
			return false
		}
	}
	return true
}

// appendRow appends a step's values as a row of the table of values, and a comma.
func (s *mysqlSession) appendRow(st *step) {
	s.query = append(append(s.query, s.rowWord...), '(')
	for i, v := range st.args {
		s.query = append(appendCell(s.query, v, &st.form.columns[i]), ',')
	}
	s.query[len(s.query)-1] = ')'
	s.query = append(s.query, ',')
}

// setError is a failure of a query that held sets.
type setError struct{ error }

func (e setError) Unwrap() error { return e.error }

// failed notes that sets failed, for a reason that need not be one of their rows: from now on these forms go one by one. The
// other reasons are to be expected.
func (s *mysqlSession) failed(err error) error {
	if len(s.joined) == 0 {
		return err
	}
	if fault := s.judge(err).fault; fault != busy && fault != duplicate {
		for _, f := range s.joined {
			s.sets[f] = nil
		}
	}
	s.joined = s.joined[:0]
	return setError{err}
}

// mysqlRowWord is what stands before each row of a table of values; nil for a server that has none (before MariaDB 10.3 and
// MySQL 8.0.19).
func mysqlRowWord(version string) []byte {
	var major, minor, patch int
	parts := strings.SplitN(strings.TrimPrefix(version, "5.5.5-"), ".", 3)
	for i, into := range []*int{&major, &minor, &patch} {
		if i < len(parts) {
			digits := strings.IndexFunc(parts[i]+" ", func(r rune) bool { return r < '0' || r > '9' })
			*into, _ = strconv.Atoi(parts[i][:digits])
		}
	}
	least, word := [3]int{8, 0, 19}, []byte("ROW")
	if strings.Contains(version, "MariaDB") {
		least, word = [3]int{10, 3, 0}, []byte{}
	}
	if slices.Compare([]int{major, minor, patch}, least[:]) < 0 {
		return nil
	}
	return word
}
