package admin

import (
	"errors"
	"fmt"
	"time"

	"cdc-sidecar/schema"
)

// Jobs are what a person asks the running sidecar to do. They live in its memory: a sidecar that is started anew knows of
// none, and doing one again does no harm.
type Jobs interface {
	// Start takes a checked Spec and answers at once. The ID is not given again, by a later process either. Comparing jobs of
	// an office run one after the other, in the order they came. ErrUnknownOffice; a *SpecError when it cannot be done as asked.
	Start(spec Spec) (id string, err error)
	// Job is a job's state now. The caller may keep it. ErrUnknownJob.
	Job(id string) (Job, error)
	// List is all jobs that are remembered, the newest first; without Keys.
	List() []Job
	// Cancel tells a job to end; one that has ended stays as it is. What is done stays done. ErrUnknownJob.
	Cancel(id string) error
}

// ErrUnknownJob says that no job has that ID: it is too long ago, or the sidecar was started anew since.
var ErrUnknownJob = errors.New("there is no such job")

// SpecError says what is wrong with what a job was asked to do.
type SpecError struct{ Problem string }

func (e *SpecError) Error() string { return e.Problem }

// JobKind is what a job does.
type JobKind string

// The kinds of jobs.
const (
	JobSync   JobKind = "sync"   // send what waits here and take what waits for us, then close again
	JobResync JobKind = "resync" // bring the head's rows of some tables to a branch
	JobVerify JobKind = "verify" // compare some tables, and mend what differs when that is asked for
)

// What Prefer may be: whose row stays where both have it and the two differ.
const (
	PreferHead   = "head"
	PreferBranch = "branch"
)

// What Extra may be: what becomes of rows that only the branch has.
const (
	ExtraSend   = "send"   // they go up, and from there to all
	ExtraDelete = "delete" // they are deleted at the branch
	ExtraKeep   = "keep"   // they stay where they are
)

// What Mode may be.
const (
	ModeDiff    = "diff"    // hashes are compared, and only what differs is sent
	ModeReplace = "replace" // all rows are sent
)

// Spec is what a job is to do: the body of POST /api/v1/jobs. What is empty is the default.
type Spec struct {
	Kind JobKind `json:"kind"`
	// Table is a glob, as the configuration's tables have it; empty: all that the two offices exchange.
	Table string `json:"table,omitempty"`
	// Where is an expression (CEL, over row) that rows must meet.
	Where string `json:"where,omitempty"`
	// Office, at the head, is the branch that is compared; empty: every member.
	Office schema.Office `json:"office,omitempty"`
	// Repair mends what a comparison finds. The job then ends when the repair has arrived where it was sent.
	Repair bool   `json:"repair,omitempty"`
	Prefer string `json:"prefer,omitempty"` // head (default) or branch
	Extra  string `json:"extra,omitempty"`  // send, delete or keep; of a resync, and of a repair; default: what the branch's join says
	Mode   string `json:"mode,omitempty"`   // diff (default) or replace; of a resync
	// Rows is how many rows a second may be compared; 0: as the configuration says.
	Rows uint64 `json:"rows,omitempty"`
}

// maxWhere bounds an expression: longer ones are not written by hand.
const maxWhere = 4 << 10

// Check finds what cannot be meant, whatever office it is for.
func (s *Spec) Check() error {
	bad := func(format string, args ...any) error { return &SpecError{fmt.Sprintf(format, args...)} }
	switch {
	case s.Kind != JobSync && s.Kind != JobResync && s.Kind != JobVerify:
		return bad("kind: want sync, resync or verify")
	case s.Kind == JobSync && *s != Spec{Kind: JobSync}:
		return bad("sync is about everything: it takes no other key (resync has table, where and office)")
	case s.Prefer != "" && s.Prefer != PreferHead && s.Prefer != PreferBranch:
		return bad("prefer: want head or branch")
	case s.Extra != "" && s.Extra != ExtraSend && s.Extra != ExtraDelete && s.Extra != ExtraKeep:
		return bad("extra: want send, delete or keep")
	case s.Mode != "" && s.Mode != ModeDiff && s.Mode != ModeReplace:
		return bad("mode: want diff or replace")
	case s.Mode != "" && s.Kind != JobResync:
		return bad("mode is for resync")
	case s.Repair && s.Kind != JobVerify:
		return bad("repair is for verify; a resync mends anyway")
	case s.Kind == JobVerify && !s.Repair && (s.Prefer != "" || s.Extra != ""):
		return bad("prefer and extra say how to repair: want repair, too")
	case len(s.Where) > maxWhere:
		return bad("where: want at most %d bytes", maxWhere)
	case s.Office != "":
		if _, err := schema.ParseOffice(string(s.Office)); err != nil {
			return bad("%v", err)
		}
	}
	return nil
}

// JobState says how far a job, or an office's part of it, is.
type JobState string

// The states of a job.
const (
	JobWaiting   JobState = "waiting" // for another job, or for what Note says
	JobRunning   JobState = "running"
	JobDone      JobState = "done" // and in Offices stands what it found
	JobFailed    JobState = "failed"
	JobCancelled JobState = "cancelled"
)

// Ended reports whether nothing more comes.
func (s JobState) Ended() bool { return s == JobDone || s == JobFailed || s == JobCancelled }

// Job is a job's state: its progress, and in the end what it found.
type Job struct {
	ID      string    `json:"id"`
	Spec    Spec      `json:"spec"`
	State   JobState  `json:"state"`
	Error   string    `json:"error,omitempty"` // why it failed
	Note    string    `json:"note,omitempty"`  // what it waits for, like "the broker cannot be reached"; empty: nothing
	Asked   time.Time `json:"asked"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	// Offices are the branches that were compared with the head; of a sync there are none.
	Offices []OfficeReport `json:"offices,omitempty"`
	Moved   Moved          `json:"moved"` // by a sync
}

// JobList is the body of GET /api/v1/jobs.
type JobList struct {
	Jobs []Job `json:"jobs"` // the newest first, without keys
}

// Started is the body of the answer to POST /api/v1/jobs.
type Started struct {
	ID string `json:"id"`
}

// Moved is what a sync sent and received.
type Moved struct {
	Sent     MovedCount `json:"sent"`
	Received MovedCount `json:"received"`
}

// MovedCount is one direction of a sync.
type MovedCount struct {
	Transactions uint64 `json:"transactions"`
	Changes      uint64 `json:"changes"`
}

// OfficeReport is a branch compared with the head. Here means this branch, there the head.
type OfficeReport struct {
	Office schema.Office `json:"office"`
	State  JobState      `json:"state"`
	Error  string        `json:"error,omitempty"`
	Note   string        `json:"note,omitempty"` // what it waits for
	Tables []TableReport `json:"tables"`
}

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
	Disputed     uint64 `json:"disputed"`      // differs because a conflict or a parked change waits for a person
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

// Left is how many of those stand as they were found, and were not mended.
func (t *TableReport) Left() uint64 {
	found, mended := t.Found(), t.Repaired+t.Sent+t.Removed
	return found - min(found, mended)
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
