package schema

import "encoding/json"

// Lost says in what way an office lost its way.
type Lost uint8

// The ways.
const (
	// LostJournal: the database knows a later journal than the one here, whose folder was emptied or is an older copy.
	LostJournal Lost = iota + 1
	// LostLog: the database is the one it was, but its log cannot be read on from where the journal ends.
	LostLog
	// Restored: the database went back to an earlier state, or its history does not have what the journal has.
	Restored
	// Stranger: the database does not know any journal of this office: it is another one, or was emptied.
	Stranger
)

func (l Lost) String() string {
	switch l {
	case LostJournal:
		return "journal lost"
	case LostLog:
		return "log lost"
	case Restored:
		return "restored"
	case Stranger:
		return "another database"
	}
	return "not lost"
}

// Began is how a journal's life begins that follows such a loss, for JournalTable.
func (l Lost) Began() string {
	switch l {
	case LostJournal, LostLog:
		return BeganLost
	case Restored:
		return BeganRestored
	case Stranger:
	}
	return ""
}

// LostError says that journal and database do not belong together any more, or that the log between them is not there. What
// was written in between can be found only by a comparison: the journal is put aside, and another begins with a later epoch.
type LostError struct {
	Kind  Lost
	What  string
	Cause error // the server's own words; may be nil
	// Known is the epoch of the journal that the database knows; 0: none. The next journal's is greater.
	Known uint64
}

func (e *LostError) Error() string {
	s := e.Kind.String() + ": " + e.What
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *LostError) Unwrap() error { return e.Cause }

// While a loss is being mended, JournalTable's row has one of these words in place of how the life began: a start that
// finds one puts the journal here aside, if it is not younger than the row, and the next one begins as BeganLost or
// BeganRestored.
const (
	BeginsLost     = "losing"
	BeginsRestored = "restoring"
)

// PhaseClaim is the first thing that a branch which lost its way does with its tables: what it has goes up to the head.
const PhaseClaim = "claim"

// JoinOrder is in JoinState of the row JoinAll what a branch that lost its way has to do, as JSON.
type JoinOrder struct {
	Phase string `json:"phase"` // PhaseClaim
	Why   string `json:"why"`   // Lost.String
	// Before is what stood there when the loss was noticed: a comparison that had not come to its end.
	Before json.RawMessage `json:"before,omitempty"`
}

// Order returns the JoinState to be written for this loss where before stands now ("": nothing). It may be asked again with
// its own answer.
func (l Lost) Order(before string) string {
	o := JoinOrder{Phase: PhaseClaim, Why: l.String()}
	var former JoinOrder
	switch {
	case json.Unmarshal([]byte(before), &former) != nil: // nothing, or none of ours
	case former.Phase == PhaseClaim:
		o.Before = former.Before
		if l == LostLog && former.Why != "" || former.Why == Restored.String() { // so it looks, too, when another loss is met halfway
			o.Why = former.Why
		}
	default:
		o.Before = json.RawMessage(before)
	}
	b, err := json.Marshal(o)
	if err != nil { // before was read as JSON above
		return `{"phase":"` + PhaseClaim + `"}`
	}
	return string(b)
}
