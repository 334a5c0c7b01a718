package schema

// Severity grades a finding of doctor.
type Severity string

// The grades: fine; works but weaker than it should be; would lose or stall data.
const (
	Fine    Severity = "ok"
	Warning Severity = "warning"
	Failure Severity = "failure"
)

// Finding is one check's result.
type Finding struct {
	Check    string   `json:"check"` // db.wal_level, table.key …
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`            // what was seen, naming the thing
	Cause    string   `json:"cause,omitempty"`    // what it would do
	Fix      string   `json:"fix,omitempty"`      // the exact statement or setting
	Document string   `json:"document,omitempty"` // where it is explained
}
