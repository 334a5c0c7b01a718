package e2e

import (
	"slices"
	"strings"
	"testing"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
)

// manyStatements is how many a script must have, or it does not say what it claims to.
const manyStatements = 60

// writesOfGroup is what each application writes at least for each group of statements.
const writesOfGroup = 3

// What people write for a Postgres, at the head and at a branch of it, while all offices write the tables: at the MariaDB
// branch, too, the tables and their rows are the same behind each group.
func TestSchemaChangesOfPostgres(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	e := newEvolving(t, set, bin, everyChange, three(set))
	e.play(t, readScript(t, "ddl/statements/postgres.sql"), e.Head(), e.Offices[atNorth])
}

// The same with what people write for a MariaDB, at a branch that has one.
func TestSchemaChangesOfMariaDB(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	e := newEvolving(t, set, bin, everyChange, three(set))
	e.play(t, readScript(t, "ddl/statements/mariadb.sql"), e.Offices[atSouth], nil)
}

// The head has a MariaDB, and the branches a Postgres each: both scripts, one after the other.
func TestSchemaChangesWithMariaDBAsTheHead(t *testing.T) {
	wholeOnly(t)
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	e := newEvolving(t, set, bin, everyChange, mariaDBFirst(set))
	e.play(t, readScript(t, "ddl/statements/mariadb.sql"), e.Head(), nil)
	e.play(t, readScript(t, "ddl/statements/postgres.sql"), e.Offices[atNorth], e.Offices[atSouth])
}

// play runs a script's groups at an office, those for a branch at another, and compares behind each.
func (e *evolving) play(t *testing.T, s script, at, branch *fleet.Office) {
	t.Helper()
	if s.size() < manyStatements {
		t.Fatalf("%d statements, want %d", s.size(), manyStatements)
	}
	e.alone = append(e.alone, s.alone...)
	e.pen.Lock() // the applications read it
	e.live = s.live
	e.pen.Unlock()
	e.plays = append(e.plays, played{s, at})
	for i := range e.writes {
		e.writes[i].Store(0)
	}
	end := e.writing(t)
	if full() {
		s = s.singly()
	} else { // each comparison takes a second or two
		s = s.inPairs()
	}
	for i := range s.groups {
		g := &s.groups[i]
		o := at
		if g.branch {
			o = branch
		}
		for _, statement := range g.statements {
			if err := o.Exec(within(t, stuck), statement); err != nil {
				t.Fatalf("group %s: %v", g.name, err)
			}
		}
		if !full() { // else there may be no table yet that they write
			e.written(t, int64(i+1)*writesOfGroup)
		}
		e.equalBy(t, e.maker)
		if t.Failed() {
			t.Fatalf("behind group %s, which ends with %s", g.name, g.statements[len(g.statements)-1])
		}
		e.says(t, at, g.notices)
		t.Logf("group %s: %d statements", g.name, len(g.statements))
	}
	e.written(t, int64(len(s.groups))*writesOfGroup)
	end()
	e.equalBy(t, e.maker)
	if e.Head().Postgres() || at == e.Head() { // else a MariaDB keeps the indexes that it made for foreign keys when these go, and says so
		e.sameEverywhere(t)
	}
}

// says wants the offices of another engine than one's to say that they do not have these. What a branch does and the head leaves
// out, the other branches never hear of.
func (e *evolving) says(t *testing.T, of *fleet.Office, subjects []string) {
	t.Helper()
	for _, o := range e.Offices {
		if o.Postgres() == of.Postgres() || of != e.Head() && o != e.Head() {
			continue
		}
		notices := steps(within(t, stuck), o, "state = '"+schema.DDLNotice+"'")
		for _, subject := range subjects {
			if !slices.ContainsFunc(notices, func(s told) bool { return strings.EqualFold(s.subject, subject) }) {
				t.Errorf("%s says nothing of %s: %v", o.Name, subject, notices)
			}
		}
	}
}
