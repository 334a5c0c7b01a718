package schema

// TableReport is one table of the comparison, so far or in the end. Different, MissingHere, MissingThere and Disputed are what
// was found; Repaired, Sent and Removed say what of it is mended.
type TableReport struct {
	Table string `json:"table"` // as the fleet calls it
	Phase string `json:"phase"` // what is done with it now, in a word or two; "done" in the end
	Rows  uint64 `json:"rows"`  // compared so far
	Total uint64 `json:"total"` // about so many in all; 0: not known

	Equal        uint64 `json:"equal"`
	Different    uint64 `json:"different"`     // both have the row, with other values
	MissingHere  uint64 `json:"missing_here"`  // only the head has it
	MissingThere uint64 `json:"missing_there"` // only the branch has it
	Disputed     uint64 `json:"disputed"`      // differs because a parked change of it waits, here or at the head
	InFlight     uint64 `json:"in_flight"`     // written meanwhile, not decided yet; they are looked at again

	Repaired uint64 `json:"repaired"` // written at the branch as the head has them
	Sent     uint64 `json:"sent"`     // the branch's, gone up and taken by the head
	Removed  uint64 `json:"removed"`  // deleted at the branch

	Bytes   uint64  `json:"bytes"` // of chunks that travelled
	Seconds float64 `json:"seconds"`

	Keys        []KeyReport `json:"keys,omitempty"`          // of what was found, MaxKeys at most
	KeysLeftOut uint64      `json:"keys_left_out,omitempty"` // more were found
}

// MaxKeys is how many keys of a table are named: enough to see what it is, and few enough for one answer.
const MaxKeys = 1000

// Found is how many rows are not equal.
func (t *TableReport) Found() uint64 {
	return t.Different + t.MissingHere + t.MissingThere + t.Disputed
}

// Left is how many of those stand as they were found, and were not mended: disputed ones never are.
func (t *TableReport) Left() uint64 {
	found, mended := t.Found()-t.Disputed, t.Repaired+t.Sent+t.Removed
	return t.Disputed + found - min(found, mended)
}

// The outcomes of a comparison.
const (
	OutcomeEqual     = "equal"
	OutcomeRepaired  = "repaired" // and equal now
	OutcomeDifferent = "different"
	OutcomeUndecided = "undecided" // some rows were written all the while
)

// Outcome is the comparison of the table in a word.
func (t *TableReport) Outcome() string {
	switch {
	case t.Left() > 0:
		return OutcomeDifferent
	case t.InFlight > 0:
		return OutcomeUndecided
	case t.Found() > 0:
		return OutcomeRepaired
	default:
		return OutcomeEqual
	}
}

// KeyReport is a row that is not equal.
type KeyReport struct {
	Kind    string   `json:"kind"`
	Key     string   `json:"key"`               // id=7
	Columns []string `json:"columns,omitempty"` // that differ, where both have the row
}

// The kinds of differences.
const (
	KeyDifferent    = "different"
	KeyMissingHere  = "missing here"
	KeyMissingThere = "missing there"
	KeyDisputed     = "disputed"
)
