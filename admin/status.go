package admin

import (
	"fmt"
	"time"

	"cdc-sidecar/schema"
)

// State is how a sidecar is doing, in one word.
type State string

// The states. Degraded still captures: something else (broker, peer, apply) does not move. Blocked does not capture and
// will not until somebody decides (a BrokenError).
const (
	Starting State = "starting"
	Running  State = "running"
	Degraded State = "degraded"
	Blocked  State = "blocked"
	Stopped  State = "stopped"
)

// Status is everything there is to know of a running sidecar at one moment. The status verb, the API, the console and
// the metrics show this and nothing else, so they never contradict each other. Counters count from the process' start.
type Status struct {
	Office  schema.Office `json:"office"`
	Role    schema.Role   `json:"role"`
	Engine  schema.Engine `json:"engine"`
	Version string        `json:"version"` // of the program
	State   State         `json:"state"`
	Ready   bool          `json:"ready"` // local changes are captured, whatever broker and head do
	Since   time.Time     `json:"since"` // of State
	Started time.Time     `json:"started"`

	Corridors []Corridor     `json:"corridors"`
	Journal   Journal        `json:"journal"`
	Capture   Capture        `json:"capture"`
	Broker    Broker         `json:"broker"`
	Peers     []Peer         `json:"peers"` // at the head: every member; at a branch: the head
	Apply     Apply          `json:"apply"`
	Conflicts ConflictCounts `json:"conflicts"`       // at the head; zero at a branch
	Parked    uint64         `json:"parked"`          // changes that wait here: another row has their unique key, or their table lacks what they need
	Waiting   []WaitingTable `json:"waiting"`         // of Parked, by table
	DDL       SchemaChanges  `json:"ddl"`             // other offices' schema changes, as far as they are not done here
	Drift     *Drift         `json:"drift,omitempty"` // at a branch: where its tables differ from the head's; nil: nobody has looked yet
	Clocks    Clocks         `json:"clocks"`
	Sync      Sync           `json:"sync"`
	Joining   *Joining       `json:"joining,omitempty"` // at a branch whose tables are being made equal; nil: they are
	Verify    Verify         `json:"verify"`

	// RetentionDeadline is when the database's log would lose its place in our reading if nothing changed; zero while
	// nothing threatens.
	RetentionDeadline time.Time `json:"retention_deadline,omitzero"`

	Notices  []string         `json:"notices"`  // what an operator should know and need not mend now
	Findings []schema.Finding `json:"findings"` // doctor's, as far as the running sidecar met them
}

// WaitingTable is a table of which changes are parked.
type WaitingTable struct {
	Table   string `json:"table"` // as the fleet calls it
	Changes uint64 `json:"changes"`
	Needs   string `json:"needs,omitempty"` // what the table here lacks, and the statement that mends it; empty: a unique key is taken
}

// SchemaChanges are steps of other offices' schema changes that were not done here.
type SchemaChanges struct {
	Held    uint64       `json:"held"`    // they wait for a person
	Failed  uint64       `json:"failed"`  // the database refused them, or the table is not as it was before them
	Notices uint64       `json:"notices"` // they mean nothing here
	Entries []SchemaStep `json:"entries"` // the oldest first, at most MaxSchemaSteps of those held and failed
}

// MaxSchemaSteps bounds the entries of SchemaChanges.
const MaxSchemaSteps = 100

// SchemaStep is one of them.
type SchemaStep struct {
	Origin    schema.Office `json:"origin"`
	Table     string        `json:"table"` // as the fleet calls it
	Step      string        `json:"step"`  // drop column …
	Subject   string        `json:"subject,omitempty"`
	Statement string        `json:"statement"` // what is to be run here
	State     string        `json:"state"`     // held or failed
	Reason    string        `json:"reason"`
	Since     time.Time     `json:"since"`
}

// Drift is where a branch's tables differ from the head's, by the branch's own look: what a schema change on its way explains is not
// in it.
type Drift struct {
	Checked   time.Time    `json:"checked"`
	Different uint64       `json:"different"` // so many tables
	Tables    []DriftTable `json:"tables"`    // by name, at most MaxDriftTables
}

// MaxDriftTables bounds the tables of a Drift, MaxDriftLines what is said of each.
const (
	MaxDriftTables = 50
	MaxDriftLines  = 20
)

// DriftTable is a table that differs. Here is the branch.
type DriftTable struct {
	Table       string   `json:"table"`       // as the fleet calls it
	Differences []string `json:"differences"` // column note is not here …
	// Statements make the branch's table as the head's is, in the words of the branch's database. What takes something away stands
	// behind --, as a comment: the other remedy is to make it at the head.
	Statements []string `json:"statements"`
}

// CorridorName is one of the three ways that data goes, each started again by the supervisor when it ends.
type CorridorName string

// The corridors.
const (
	CaptureCorridor CorridorName = "capture" // database log → journal
	ShipCorridor    CorridorName = "ship"    // journal → broker
	ReceiveCorridor CorridorName = "receive" // broker → database
)

// CorridorState says what a corridor does now.
type CorridorState string

// The corridor states. Waiting is for something that is unreachable or held by another process, and is tried again; closed
// is as well as running.
const (
	CorridorStarting CorridorState = "starting"
	CorridorRunning  CorridorState = "running"
	CorridorWaiting  CorridorState = "waiting"
	CorridorBlocked  CorridorState = "blocked"
	CorridorStopped  CorridorState = "stopped"
	CorridorClosed   CorridorState = "closed" // until the next sync: so the configuration wants it
)

// Corridor is one corridor's state.
type Corridor struct {
	Name     CorridorName  `json:"name"`
	State    CorridorState `json:"state"`
	Since    time.Time     `json:"since"`
	Error    string        `json:"error,omitempty"` // the last one, while State is not running
	Attempts uint64        `json:"attempts"`        // starts since it last ran
	Restarts uint64        `json:"restarts"`        // since the process' start
}

// Journal is the outbox: what is between First and Last is still held, what is behind Published was not sent yet.
type Journal struct {
	Epoch     uint64 `json:"epoch"`
	First     uint64 `json:"first"`
	Last      uint64 `json:"last"`
	Published uint64 `json:"published"` // the last seq that the broker confirmed
	Released  uint64 `json:"released"`  // the last seq that every member has applied
	Bytes     int64  `json:"bytes"`     // on disk
	Budget    int64  `json:"budget"`
	Source    string `json:"source"` // where capture starts again: LSN, GTID set
}

// Held is how many transactions the journal holds.
func (j Journal) Held() uint64 {
	if j.Last == 0 || j.Last < j.First {
		return 0
	}
	return j.Last - j.First + 1
}

// Unsent is how many transactions wait for the broker.
func (j Journal) Unsent() uint64 {
	if j.Last < j.Published {
		return 0
	}
	return j.Last - j.Published
}

// Changes counts changes by operation.
type Changes struct {
	Insert   uint64 `json:"insert"`
	Update   uint64 `json:"update"`
	Delete   uint64 `json:"delete"`
	Truncate uint64 `json:"truncate"`
}

// Capture is what was read from the office's own log.
type Capture struct {
	Transactions uint64    `json:"transactions"`
	Changes      Changes   `json:"changes"`
	LagSeconds   float64   `json:"lag_seconds"` // between commit in the database and arrival in the journal, of the last one
	LastCommit   time.Time `json:"last_commit,omitzero"`
}

// Broker is the connection to RabbitMQ.
type Broker struct {
	Connected     bool   `json:"connected"`
	Blocked       string `json:"blocked,omitempty"` // the broker's reason why it takes nothing now
	Published     uint64 `json:"published"`         // messages confirmed
	Bytes         uint64 `json:"bytes"`             // of their bodies
	Returned      uint64 `json:"returned"`          // messages that no queue wanted
	Received      uint64 `json:"received"`
	ReceivedBytes uint64 `json:"received_bytes"`
	Quarantined   uint64 `json:"quarantined"` // messages that are not ours at all, passed by
}

// PeerState is how another office stands with this one.
type PeerState string

// The peer states. Silent has not been heard for a while, which is no fault; gap waits for a resend; held says something
// that this version does not understand; halted met data that cannot be applied; expired stayed away longer than the
// journal reaches, and needs_join is what it then says of itself.
const (
	PeerActive    PeerState = "active"
	PeerSilent    PeerState = "silent"
	PeerGap       PeerState = "gap"
	PeerHeld      PeerState = "held"
	PeerHalted    PeerState = "halted"
	PeerExpired   PeerState = "expired"
	PeerNeedsJoin PeerState = "needs_join"
)

// Position is a schema.Position as the API writes it; Position(p) converts.
type Position struct {
	Epoch uint64 `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// Peer is another office, seen from this one.
type Peer struct {
	Office         schema.Office `json:"office"`
	Role           schema.Role   `json:"role"`
	Engine         schema.Engine `json:"engine,omitempty"`
	State          PeerState     `json:"state"`
	Cause          string        `json:"cause,omitempty"` // why it is held, or needs to join
	Progress       Position      `json:"progress"`        // how far its stream is applied here
	Acknowledged   Position      `json:"acknowledged"`    // how far our stream is known to be applied there
	Unacknowledged uint64        `json:"unacknowledged"`  // our transactions that it has not reported as applied
	LastHeard      time.Time     `json:"last_heard,omitzero"`
	LastApplied    time.Time     `json:"last_applied,omitzero"` // commit time at the origin of its last transaction applied here
	Halted         *Halt         `json:"halted,omitempty"`
	// Conflicts are those in which its changes met others; at the head only, without ByTable.
	Conflicts ConflictCounts `json:"conflicts"`
	Parked    uint64         `json:"parked"` // its changes that wait here for a unique key
	// Drift is where its tables differ from this head's, as it has told; nil: it has not.
	Drift *Drift `json:"drift,omitempty"`
}

// Halt says why a peer's stream stands still: a schema.RejectedError, in parts.
type Halt struct {
	Table    string   `json:"table"`
	Key      string   `json:"key,omitempty"`
	Column   string   `json:"column,omitempty"`
	Position Position `json:"position"`
	Cause    string   `json:"cause"`
	Remedy   string   `json:"remedy,omitempty"`
}

// HaltOf takes a rejection apart.
func HaltOf(e *schema.RejectedError) *Halt {
	h := &Halt{Table: e.Table.String(), Key: e.Key, Column: e.Column, Position: Position(e.At), Remedy: e.Remedy}
	if e.Cause != nil {
		h.Cause = e.Cause.Error()
	}
	return h
}

// String is the halt in a line, for status and readiness.
func (h *Halt) String() string {
	if h.Table == "" {
		return h.Cause
	}
	s := h.Table
	if h.Column != "" {
		s += "." + h.Column
	}
	if h.Key != "" {
		s += " (" + h.Key + ")"
	}
	if s != "" {
		s += ": "
	}
	s += h.Cause
	if h.Remedy != "" {
		s += "; remedy: " + h.Remedy
	}
	return s
}

// Apply is what was written to the office's own database.
type Apply struct {
	Transactions uint64    `json:"transactions"`
	Changes      Changes   `json:"changes"`
	OwnReturned  uint64    `json:"own_returned"` // transactions of this office that came back as acknowledgement: their rows were skipped
	Repaired     uint64    `json:"repaired"`     // rows that were not as the change expected and are now
	Replaced     uint64    `json:"replaced"`     // values that a column here cannot hold, and for which tables[].columns[].unmapped gave others
	Duplicates   uint64    `json:"duplicates"`   // transactions that had been applied before: skipped
	Gaps         uint64    `json:"gaps"`         // times that a stream had a hole, to be filled by a resend
	LastApplied  time.Time `json:"last_applied,omitzero"`
}

// ConflictCounts says how often changes of offices that had not heard of each other met on a row.
type ConflictCounts struct {
	Total   uint64          `json:"total"`              // decided since the process' start, those that wait for a person included
	Open    uint64          `json:"open"`               // in the conflict log now, waiting for a person
	ByTable []ConflictCount `json:"by_table,omitempty"` // Total in parts; each combination once, none zero
}

// ConflictCount is how many conflicts of a table ended in one way.
type ConflictCount struct {
	Table  string `json:"table"`  // as the fleet calls it
	Policy string `json:"policy"` // its kind in one word (schema.PolicyKind), so that there are few
	Winner string `json:"winner"` // local, remote, merged, none
	Count  uint64 `json:"count"`
}

// Clocks is what it takes to see conflicts.
type Clocks struct {
	Rows           uint64  `json:"rows"`            // rows that have a clock: at a branch, that have a change which the head has not acknowledged
	Bytes          int64   `json:"bytes"`           // of their index, in memory
	DiskBytes      int64   `json:"disk_bytes"`      // of their index, on disk
	Held           uint64  `json:"held"`            // at a branch: the head's changes skipped because the head will meet ours of the same row
	Barriers       uint64  `json:"barriers"`        // at the head: times that a decision waited for our own capture to pass the log's end
	BarrierSeconds float64 `json:"barrier_seconds"` // waited for that, in all
}

// Sync is when this office speaks with the others.
type Sync struct {
	Mode     string    `json:"mode"`               // realtime, manual or scheduled
	Schedule string    `json:"schedule,omitempty"` // as the configuration has it
	Open     bool      `json:"open"`               // it does so now
	Next     time.Time `json:"next,omitzero"`      // sync by schedule
	Last     time.Time `json:"last,omitzero"`      // end of the last sync that moved everything
}

// The modes of Sync.
const (
	SyncRealtime  = "realtime"
	SyncManual    = "manual"
	SyncScheduled = "scheduled"
)

// Joining is how far a branch is with making its tables equal to the head's.
type Joining struct {
	Phase  string      `json:"phase"` // what it does now, in a word or two
	Why    string      `json:"why"`   // what made it necessary: a new office, its journal was lost, …
	Since  time.Time   `json:"since"`
	Note   string      `json:"note,omitempty"` // what it waits for
	Tables []JoinTable `json:"tables"`
}

// JoinTable is one table of a join; each stands once.
type JoinTable struct {
	Table         string  `json:"table"` // as the fleet calls it
	State         string  `json:"state"` // waiting, running or done
	Rows          uint64  `json:"rows"`
	Total         uint64  `json:"total"` // about so many in all; 0: not known
	RowsPerSecond float64 `json:"rows_per_second"`
	Remaining     float64 `json:"remaining"` // seconds, about; 0: not known, or done
}

// The states of a JoinTable.
const (
	JoinWaiting = "waiting"
	JoinRunning = "running"
	JoinDone    = "done"
)

// Progress adds the tables up; the second is about how many rows there are in all, and 0 while that is not known of each.
func (j *Joining) Progress() (rows, total uint64) {
	known := true
	for _, t := range j.Tables {
		rows += t.Rows
		total += max(t.Total, t.Rows)
		known = known && (t.Total > 0 || t.State == JoinDone)
	}
	if !known {
		total = 0
	}
	return rows, total
}

// Verify is what comparisons that were asked for here have found since the process' start; one in the background is one of
// them. A row counts each time that it is compared, by what was found before any repair.
type Verify struct {
	Equal        uint64 `json:"equal"`
	Different    uint64 `json:"different"`
	MissingHere  uint64 `json:"missing_here"`
	MissingThere uint64 `json:"missing_there"`
	Disputed     uint64 `json:"disputed"`
	// Diverged is how many tables were not equal when they were last compared, and repaired.
	Diverged uint64 `json:"diverged"`
	// LastSuccess is when a comparison last ran to its end, whatever it found.
	LastSuccess time.Time `json:"last_success,omitzero"`
	Next        time.Time `json:"next,omitzero"` // in the background
}

// Reasons says, in lines for people, why the sidecar is not simply running; empty when it is.
func (s Status) Reasons() []string {
	reasons := []string{}
	for _, c := range s.Corridors {
		if c.State == CorridorRunning || c.State == CorridorClosed {
			continue
		}
		line := string(c.Name) + " is " + string(c.State)
		if c.Error != "" {
			line += ": " + c.Error
		}
		reasons = append(reasons, line)
	}
	if s.Broker.Blocked != "" {
		reasons = append(reasons, "the broker takes nothing now: "+s.Broker.Blocked)
	}
	if j := s.Joining; j != nil {
		reasons = append(reasons, j.reason())
	}
	for _, p := range s.Peers {
		if line := p.reason(); line != "" {
			reasons = append(reasons, line)
		}
	}
	return reasons
}

// reason is why the tables are not equal yet, and how far that is.
func (j *Joining) reason() string {
	line := "joining (" + j.Phase + ")"
	if j.Why != "" {
		line += " because " + j.Why
	}
	if rows, total := j.Progress(); total > 0 {
		line += fmt.Sprintf(": %d of about %d rows", rows, total)
	} else if rows > 0 {
		line += fmt.Sprintf(": %d rows", rows)
	}
	if j.Note != "" {
		line += "; " + j.Note
	}
	return line
}

// reason is what is wrong with the peer. A silent one is not: an office may be away for as long as the journal reaches.
func (p Peer) reason() string {
	line := "office " + string(p.Office)
	switch {
	case p.Halted != nil:
		return line + " is halted: " + p.Halted.String()
	case p.State == PeerGap:
		line += ": its stream has a hole; waiting for it to send again"
	case p.State == PeerHeld:
		line += " is held"
	case p.State == PeerExpired:
		line += " stayed away longer than the journal reaches: it needs to join"
	case p.State == PeerNeedsJoin:
		line += ": one of the two no longer holds what the other lacks: a join is needed"
	default:
		return ""
	}
	if p.Cause != "" {
		line += ": " + p.Cause
	}
	return line
}

// filled has empty lists where s has none: JSON says [] and not null.
func (s Status) filled() Status {
	if s.Corridors == nil {
		s.Corridors = []Corridor{}
	}
	if s.Peers == nil {
		s.Peers = []Peer{}
	}
	if s.Notices == nil {
		s.Notices = []string{}
	}
	if s.Waiting == nil {
		s.Waiting = []WaitingTable{}
	}
	if s.Joining != nil && s.Joining.Tables == nil {
		joining := *s.Joining
		joining.Tables = []JoinTable{}
		s.Joining = &joining
	}
	if s.Findings == nil {
		s.Findings = []schema.Finding{}
	}
	return s
}
