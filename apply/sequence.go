package apply

import (
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// sequences keeps Postgres' sequences ahead of the values that are applied: a row that comes with its key does not move
// the sequence, and the application's next insert here would be given a key that exists. (InnoDB's AUTO_INCREMENT follows
// greater values by itself, inserted or updated.)
//
// Its statements belong into the transaction that applies the rows, before them: then no key of theirs is given out from
// the moment they are written, whether the transaction commits or not. What they do is not undone by a rollback, and need
// not be: the sequence has a hole then, as after any rollback of an application.
//
// Where keys are interleaved (setup --interleave), a value of another class is another office's, never given here, and
// moves nothing.
//
// It belongs to one stream. The zero value is ready; it logs nothing.
type sequences struct {
	log     *slog.Logger
	reached map[*catalog.Sequence]*reach
	since   time.Time // when reached was empty
	due     []*reach
	warned  map[string]bool // by the sequence's name
}

// reach is how far a sequence has to be and is known to be.
type reach struct {
	sequence *catalog.Sequence
	wanted   int64
	known    int64
}

const (
	// leastFree is how many numbers a sequence must have left behind a value that it follows. Applications insert the
	// greatest number of the type as a mark; following that one, no office could insert any more.
	leastFree = 1000
	// greatestIncrement bounds the increments that are followed, so that leastFree and mostSteps of them can be counted.
	greatestIncrement = 1 << 32
	// mostSteps is how far a sequence is moved on by taking numbers, some milliseconds' worth. Only that cannot set it back
	// when the application takes numbers at the same time. Farther it is set: for that to set it back, the application
	// would have to take as many numbers during one statement.
	mostSteps = 10_000
)

// sawChange notes the values that a change brings into columns with a sequence. On a table without one it costs nothing.
func (q *sequences) sawChange(p *plan, c *schema.Change) {
	if len(p.target.Sequences) == 0 || c.Op != schema.Insert && c.Op != schema.Update {
		return
	}
	for i := range p.target.Sequences {
		column := p.target.Sequences[i].Column
		for from := range p.columns {
			if p.columns[from].to != column {
				continue
			}
			if v := c.After[from]; !v.IsNull() && !v.IsUnchanged() {
				q.saw(p.target, column, v.Text())
			}
			break
		}
	}
}

// saw notes a value that is about to be written to a column.
func (q *sequences) saw(t *catalog.Table, column int, text string) {
	s := t.Sequence(column)
	if s == nil || s.Name == "" || s.Increment < 1 || s.Increment > greatestIncrement {
		return
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < s.Min || catalog.Remainder(n, s.Increment) != s.Class || n > s.Max-leastFree*s.Increment {
		return
	}
	r := q.reached[s]
	if r == nil {
		r = q.begin(t, s)
	}
	if n <= r.wanted {
		return
	}
	if r.wanted == r.known && s.Settable {
		q.due = append(q.due, r)
	}
	r.wanted = n
}

func (q *sequences) begin(t *catalog.Table, s *catalog.Sequence) *reach {
	if len(q.reached) == 0 {
		q.reached, q.since = map[*catalog.Sequence]*reach{}, time.Now()
	}
	r := &reach{sequence: s, wanted: math.MinInt64, known: math.MinInt64}
	q.reached[s] = r
	if s.Settable || q.log == nil || q.warned[s.Name] {
		return r
	}
	if q.warned == nil {
		q.warned = map[string]bool{}
	}
	q.warned[s.Name] = true
	q.log.Warn("a sequence is not kept ahead of applied keys: the application's next insert may fail, once for each key that exists",
		"table", t.String(), "sequence", s.Name, "fix", sequenceGrant(s, "the sidecar's user"))
	return r
}

// statements are what moves on the sequences that are not known to be far enough, one for each; usually none. They count
// as executed: after an error, forget.
func (q *sequences) statements() []string {
	var all []string
	for _, r := range q.due {
		all, r.known = append(all, advance(r.sequence, r.wanted)), r.wanted
	}
	q.due = q.due[:0]
	// Somebody may set a sequence back or truncate its table with RESTART IDENTITY; and definitions read anew are others.
	if len(q.reached) > 0 && time.Since(q.since) > definitionsAge {
		q.forget()
	}
	return all
}

// forget drops what is known of the sequences. Values noted and not yet asked for are lost with it: the transaction
// that has them comes again.
func (q *sequences) forget() {
	clear(q.reached)
	q.due = q.due[:0]
}

// advance is the statement after which s gives only values greater than n. It does nothing where that is so already, and
// never sets the sequence back.
func advance(s *catalog.Sequence, n int64) string {
	far := n - mostSteps*s.Increment
	if far > n {
		far = math.MinInt64
	}
	name := "'" + strings.ReplaceAll(s.Name, "'", "''") + "'"
	return fmt.Sprintf(`SELECT CASE WHEN given < %[1]d THEN pg_catalog.setval(%[2]s, %[3]d) ELSE (
		WITH RECURSIVE step (n) AS (SELECT given UNION ALL SELECT pg_catalog.nextval(%[2]s) FROM step WHERE n < %[3]d) SELECT max(n) FROM step) END
	FROM (SELECT CASE WHEN is_called THEN last_value ELSE last_value - %[4]d END AS given FROM %[5]s) AS sequence WHERE given < %[3]d`,
		far, name, n, s.Increment, s.Name)
}

func sequenceGrant(s *catalog.Sequence, user string) string {
	return "GRANT SELECT, UPDATE ON SEQUENCE " + s.Name + " TO " + user
}
