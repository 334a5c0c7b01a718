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
	Why     string    `json:"why,omitempty"` // the statement that changed rows without the log; empty: somebody asked for the job
	State   JobState  `json:"state"`
	Error   string    `json:"error,omitempty"` // why it failed
	Note    string    `json:"note,omitempty"`  // what it waits for, like "the broker cannot be reached"; empty: nothing
	Asked   time.Time `json:"asked"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	// Offices are the branches that were compared with the head; of a sync there are none.
	Offices []OfficeReport `json:"offices"`
	Moved   Moved          `json:"moved"` // by a sync
}

// JobList is the body of GET /api/v1/jobs.
type JobList struct {
	Jobs []Job `json:"jobs"` // the newest first, without keys
}

// StartedJob is the body of the answer to POST /api/v1/jobs.
type StartedJob struct {
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
	Changes      uint64 `json:"changes"` // of what was sent they are not counted: 0
}

// OfficeReport is a branch compared with the head. Here means this branch, there the head.
type OfficeReport struct {
	Office schema.Office `json:"office"`
	State  JobState      `json:"state"`
	Error  string        `json:"error,omitempty"`
	Note   string        `json:"note,omitempty"` // what it waits for
	Tables []TableReport `json:"tables"`
}

type (
	// TableReport is one table of a comparison.
	TableReport = schema.TableReport
	// KeyReport is a row that is not equal.
	KeyReport = schema.KeyReport
)
