package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"cdc-sidecar/schema"
)

// Conflicts is the head's conflict log. A branch has none.
type Conflicts interface {
	// List gives the entries that f asks for, the newest first, without the rows' images.
	List(ctx context.Context, f ConflictFilter) ([]Conflict, error)
	// Show gives one entry with its images. ErrUnknownConflict.
	Show(ctx context.Context, id int64) (Conflict, error)
	// Resolve makes one side's image, TakeLocal or TakeRemote, the row of all offices, and gives the entry as it then is.
	// ErrUnknownConflict, ErrResolved.
	Resolve(ctx context.Context, id int64, take string) (Conflict, error)
}

// What can be taken, and what an entry's Winner may be besides.
const (
	TakeLocal  = "local"  // the row as it was at the head
	TakeRemote = "remote" // the other office's row
)

// The states of an entry.
const (
	ConflictDecided  = "decided"  // by the table's policy
	ConflictOpen     = "open"     // the head's row stays until a person decides
	ConflictParked   = "parked"   // the change waits, because another row has its unique key
	ConflictResolved = "resolved" // by a person; a parked one without Taken: its unique key was free again
)

// ConflictStates are all of them, as a list may be asked for.
var ConflictStates = []string{ConflictDecided, ConflictOpen, ConflictParked, ConflictResolved}

// Errors of the conflict log.
var (
	// ErrNoConflictLog says that conflicts are decided at the head, and this is a branch.
	ErrNoConflictLog = errors.New("the conflict log is at the head, and this is a branch; ask there")
	// ErrUnknownConflict says that the log has no entry of that number (any more).
	ErrUnknownConflict = errors.New("the conflict log has no such entry")
	// ErrResolved says that nothing waits for a decision any more: a person made it, or a parked change was applied.
	ErrResolved = errors.New("it was resolved already")
)

const (
	// DefaultConflicts is how many entries a list has that asks for no number: more than a screen, less than a flood.
	DefaultConflicts = 50
	// MaxConflicts is how many one answer may have; whoever wants more asks on with Before.
	MaxConflicts = 1000
	// maxBody is far more than {"take":"remote"} needs.
	maxBody = 1 << 10
)

// ConflictFilter says which entries are wanted. What is empty does not restrict.
type ConflictFilter struct {
	Table  string
	State  string
	Before int64 // only entries with a smaller ID
	Limit  int   // at least 1
}

// Conflict is one entry of the conflict log.
type Conflict struct {
	ID         int64           `json:"id"`
	DecidedAt  time.Time       `json:"decided_at"`
	Table      string          `json:"table"`  // as the fleet calls it
	Key        string          `json:"key"`    // id=7
	Kind       string          `json:"kind"`   // update/update …, the head's side first; unique
	Policy     string          `json:"policy"` // as the configuration said it then
	Winner     string          `json:"winner"` // local, remote, merged, none
	State      string          `json:"state"`
	Local      ConflictSide    `json:"local"`            // the row at the head
	Remote     ConflictSide    `json:"remote"`           // the other office's change
	Result     json.RawMessage `json:"result,omitempty"` // the row as it was decided, an object; null: no row; absent in lists
	Taken      string          `json:"taken,omitempty"`  // local or remote, by a person
	ResolvedAt time.Time       `json:"resolved_at,omitzero"`
}

// ConflictSide is one of the two that met.
type ConflictSide struct {
	Office   schema.Office   `json:"office"`      // whose change the row was
	At       time.Time       `json:"at,omitzero"` // of its stamp, to the millisecond; absent when nobody knows
	Counter  uint32          `json:"counter"`
	Position Position        `json:"position,omitzero"` // of the change in its office's stream; the head's has none
	Before   json.RawMessage `json:"before,omitempty"`  // the row that the change was made from, as far as the log has it
	Row      json.RawMessage `json:"row,omitempty"`     // an object; null: no row, or deleted; absent in lists
}

// ConflictList is the body of GET /api/v1/conflicts.
type ConflictList struct {
	Conflicts []Conflict `json:"conflicts"`
	// More says that older entries follow: ask again with before the last one's ID.
	More bool `json:"more"`
}

// Resolve is the body of POST /api/v1/conflicts/{id}/resolve.
type Resolve struct {
	Take string `json:"take"` // local or remote
}

func (a *api) conflicts(w http.ResponseWriter, r *http.Request) {
	f, err := conflictFilter(r)
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	if a.Conflicts == nil {
		problem(w, http.StatusNotFound, ErrNoConflictLog.Error())
		return
	}
	wanted := f.Limit
	f.Limit++ // one more, to know whether there is one
	list, err := a.Conflicts.List(r.Context(), f)
	if err != nil {
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	more := len(list) > wanted
	if more {
		list = list[:wanted]
	}
	reply(w, http.StatusOK, ConflictList{Conflicts: append([]Conflict{}, list...), More: more})
}

func conflictFilter(r *http.Request) (ConflictFilter, error) {
	q := r.URL.Query()
	f := ConflictFilter{Table: q.Get("table"), State: q.Get("state"), Limit: DefaultConflicts}
	if f.State != "" && !validState(f.State) {
		return f, errors.New("state: want decided, open, parked or resolved")
	}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > MaxConflicts {
			return f, errors.New("limit: want a number from 1 to " + strconv.Itoa(MaxConflicts))
		}
		f.Limit = n
	}
	if text := q.Get("before"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 {
			return f, errors.New("before: want the number of an entry")
		}
		f.Before = n
	}
	return f, nil
}

func validState(s string) bool {
	for _, known := range ConflictStates {
		if s == known {
			return true
		}
	}
	return false
}

func (a *api) conflict(w http.ResponseWriter, r *http.Request) {
	a.entry(w, r, func(ctx context.Context, id int64) (Conflict, error) { return a.Conflicts.Show(ctx, id) })
}

func (a *api) resolveConflict(w http.ResponseWriter, r *http.Request) {
	var body Resolve
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil || (body.Take != TakeLocal && body.Take != TakeRemote) {
		problem(w, http.StatusBadRequest, `want {"take": "local"} or {"take": "remote"}`)
		return
	}
	a.entry(w, r, func(ctx context.Context, id int64) (Conflict, error) { return a.Conflicts.Resolve(ctx, id, body.Take) })
}

// entry answers with what do makes of the entry that the path names.
func (a *api) entry(w http.ResponseWriter, r *http.Request, do func(context.Context, int64) (Conflict, error)) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id < 1 {
		problem(w, http.StatusBadRequest, "want the number of an entry of the conflict log")
		return
	}
	if a.Conflicts == nil {
		problem(w, http.StatusNotFound, ErrNoConflictLog.Error())
		return
	}
	c, err := do(r.Context(), id)
	switch {
	case err == nil:
		reply(w, http.StatusOK, c)
	case errors.Is(err, ErrUnknownConflict):
		problem(w, http.StatusNotFound, err.Error())
	case errors.Is(err, ErrResolved):
		problem(w, http.StatusConflict, err.Error())
	default:
		problem(w, http.StatusServiceUnavailable, err.Error())
	}
}
