package schema

import "sync/atomic"

// Bug is a mistake that the simulation plants, one at a time, to prove that it would notice.
type Bug uint8

// The bugs that can be planted; each is one condition where the right way is.
const (
	SeenOffByOne           Bug = iota + 1 // a branch says that it had seen one transaction more than it had
	NoBarrier                             // the head decides before its own capture has passed the row
	NoHold                                // a branch applies what the head says of a row of which its own change is under way
	ClockOfTheWrongSide                   // the head compares with the branch's own touch
	OwnChangesConflict                    // an office's own earlier changes are a conflict with its later ones
	TieUndecided                          // of equal stamps the one that asks wins
	TombstoneForgotten                    // a delete does not touch the row's clock
	DeltaTwice                            // what a branch added is added twice
	AbsoluteNotDelta                      // a counter gets the branch's value instead of what it added
	ResolutionSuppressed                  // a resolution does not go back to the origin of the change
	ReportBesideStream                    // a branch reports what it has applied, not what its log has seen applied
	AcknowledgedByEcho                    // only a branch's own transactions, come back, carry its acknowledgement
	StampNotRaised                        // an office's clock does not move by what it applies
	DriftNotClamped                       // a stamp from far ahead is taken as it is
	ProgressBehind                        // the progress row is written behind the rows
	StaleAbsenceUntold                    // a row decided absent, and written meanwhile, is not told again
	AbsenceBelieved                       // a row that was not there before the barrier is not looked for behind it
	ParkedOrderLost                       // what waits of a row is tried without regard to its order
	LoserNotLogged                        // the conflict log has no image of the change that lost
	DuplicateApplied                      // a transaction that was applied already is applied again
	ClocksNotRebuilt                      // after a restart the head does not read the retained journal
	SecondKeyForgotten                    // a change of a key touches the old one only
	ConfirmedBeforeDurable                // the database's log is let go of before the journal has it
	ReleasedBeforeReported                // the head lets go of what the slowest branch has not reported
	BlindNotSeen                          // the head takes a blind change for one that has seen the row
	ClaimsAreNews                         // what a comparison found counts as written when it was found
	MovingBelieved                        // of a row that was written while its chunk was read the chunk is believed
	ChunkAnywhere                         // a chunk is taken at another place of the stream than its own
	DefinitionBehindRows                  // a schema change stands in the stream behind the rows of its transaction
	DefinitionIsOurs                      // a statement of an apply is taken for an application's own
	PendingBelieved                       // a statement that was to be executed when everything ended counts as executed
	PiecesForgotten                       // how much of a transaction is committed is not looked up
	LaterColumnsForgotten                 // a row of an older definition lacks the columns that came since
	DecidedEarlierUntold                  // what was decided in a piece of a transaction is not told again with its last one
)

var planted atomic.Uint64

// Planted reports whether a bug is planted. It is a hook of the simulation: outside of it, nothing ever is.
func Planted(b Bug) bool { return planted.Load()&(1<<b) != 0 }

// Plant plants bugs, in the whole process, until undo is called. For tests alone.
func Plant(bugs ...Bug) (undo func()) {
	before := planted.Load()
	for _, b := range bugs {
		planted.Store(planted.Load() | 1<<b)
	}
	return func() { planted.Store(before) }
}
