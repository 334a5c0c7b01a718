package sim_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"cdc-sidecar/resync"
	"cdc-sidecar/schema"
)

// plantedBugs are mistakes that must be noticed, each within so many seeds of companies that are likely to meet it.
var plantedBugs = []struct {
	name   string
	bugs   []schema.Bug
	seeds  uint64
	likely func(*plan)
}{
	{"journal says durable before it is", []schema.Bug{schema.ConfirmedBeforeDurable}, 100, func(p *plan) {
		p.faults, p.faultRate = []func(*world){powerFailure}, 0.01
	}},
	{"seen off by one", []schema.Bug{schema.SeenOffByOne}, 100, contended},
	{"no barrier", []schema.Bug{schema.NoBarrier}, 100, contended},
	// Without the hold alone, what a branch should have held is written over by the resolution that follows.
	{"neither barrier nor hold", []schema.Bug{schema.NoBarrier, schema.NoHold}, 100, contended},
	{"clock of the wrong side", []schema.Bug{schema.ClockOfTheWrongSide}, 100, contended},
	{"own changes conflict", []schema.Bug{schema.OwnChangesConflict}, 100, func(p *plan) {
		contended(p)
		p.solo = p.branches
	}},
	{"tie undecided", []schema.Bug{schema.TieUndecided}, 200, func(p *plan) {
		contended(p)
		p.coarse, p.skews = 10*time.Second, [5]time.Duration{}
	}},
	{"tombstone forgotten", []schema.Bug{schema.TombstoneForgotten}, 100, func(p *plan) {
		contended(p)
		p.deletes = true
	}},
	{"delta added twice", []schema.Bug{schema.DeltaTwice}, 100, adding},
	{"value instead of delta", []schema.Bug{schema.AbsoluteNotDelta}, 100, adding},
	{"resolution suppressed at its origin", []schema.Bug{schema.ResolutionSuppressed}, 100, contended},
	{"report beside the stream", []schema.Bug{schema.ReportBesideStream}, 400, slowCapture},
	{"acknowledged by the echo alone", []schema.Bug{schema.AcknowledgedByEcho}, 100, contended},
	{"stamp not raised by what is applied", []schema.Bug{schema.StampNotRaised}, 200, func(p *plan) {
		contended(p)
		p.skews = [5]time.Duration{time.Hour, 0, -time.Hour, 20 * time.Second, 0}
	}},
	{"drift not clamped", []schema.Bug{schema.DriftNotClamped}, 100, func(p *plan) {
		contended(p)
		p.skews = [5]time.Duration{0, 2 * time.Hour, 2 * time.Hour, 2 * time.Hour, 2 * time.Hour}
	}},
	{"progress row behind the rows", []schema.Bug{schema.ProgressBehind}, 50, contended},
	{"absence believed", []schema.Bug{schema.AbsenceBelieved, schema.StaleAbsenceUntold}, 400, seenLate},
	{"stale absence not told again", []schema.Bug{schema.StaleAbsenceUntold}, 400, seenLate},
	{"order of waiting changes lost", []schema.Bug{schema.ParkedOrderLost}, 2000, func(p *plan) {
		contended(p)
		p.unique = true
	}},
	{"loser not logged", []schema.Bug{schema.LoserNotLogged}, 100, contended},
	{"duplicates applied", []schema.Bug{schema.DuplicateApplied}, 100, func(p *plan) {
		contended(p)
		p.repeat = 0.3
	}},
	{"row clocks not rebuilt", []schema.Bug{schema.ClocksNotRebuilt}, 200, func(p *plan) {
		contended(p)
		p.faults, p.faultRate = []func(*world){killProcess, cutLine}, 0.01
	}},
	{"second key forgotten", []schema.Bug{schema.SecondKeyForgotten}, 200, func(p *plan) {
		contended(p)
		p.moves, p.keys, p.first = true, 6, nil
	}},
	{"blind changes taken for others", []schema.Bug{schema.BlindNotSeen}, 300, latecomer},
	{"what a comparison found taken for news", []schema.Bug{schema.ClaimsAreNews}, 300, func(p *plan) {
		contended(p)
		p.faults, p.faultRate = []func(*world){cutBranch, cutBranch, losesJournal}, 0.02
		p.writes, p.coarse, p.skews = 80, time.Microsecond, [5]time.Duration{}
	}},
	{"moving rows believed", []schema.Bug{schema.MovingBelieved}, 200, comparing},
	{"a chunk taken anywhere", []schema.Bug{schema.ChunkAnywhere}, 2000, comparing},
	{"definition behind the rows", []schema.Bug{schema.DefinitionBehindRows}, 100, func(p *plan) {
		defining(p)
		p.schema.heads, p.faults, p.engines[0] = true, nil, schema.Postgres
	}},
	{"definition taken for the office's own", []schema.Bug{schema.DefinitionIsOurs}, 100, defining},
	{"pending step believed done", []schema.Bug{schema.PendingBelieved}, 100, defining},
	{"pieces forgotten", []schema.Bug{schema.PiecesForgotten}, 100, func(p *plan) {
		defining(p)
		p.patience = 2 * time.Minute
	}},
	{"later columns forgotten", []schema.Bug{schema.LaterColumnsForgotten}, 100, defining},
	{"decided in an earlier piece and not told again", []schema.Bug{schema.DecidedEarlierUntold}, 400, defining},
	{"released before it is reported", []schema.Bug{schema.ReleasedBeforeReported}, 1000, slowCapture},
}

// firstSeed is where the search for a mistake begins that is rarely met: shortly before a seed that was seen to meet it once.
// For the others it begins at the first.
var firstSeed = map[string]uint64{"order of waiting changes lost": 850, "a chunk taken anywhere": 650}

// contended is a company whose offices write the same few rows.
func contended(p *plan) {
	p.branches, p.policy, p.solo = max(p.branches, 2), schema.Policy{Kind: schema.Latest}, -1
	p.keys, p.unique, p.filled, p.truncate, p.large = 1+p.keys%3, false, false, false, nil
	p.first, p.schema = p.first[:min(len(p.first), 1)], schemaPlan{}
	p.speeds = []float64{1, 0.2, 0.02}
}

// latecomer is a company of which the last branch comes late, with old rows of its own, while everybody writes.
func latecomer(p *plan) {
	contended(p)
	p.branches, p.joiner, p.joinsAt, p.mode, p.extra = 2, 2, 10, resync.Diff, resync.Send
	p.writes, p.rate, p.deletes, p.keys, p.away, p.seesaw = 80, 0.05, true, 6, 0, false
	p.found = nil
	for id := range p.keys {
		p.found = append(p.found, item(id+1, "found", schema.NullValue()))
	}
	p.faults = nil
}

// comparing is such a company whose branches compare their tables all the while.
func comparing(p *plan) {
	latecomer(p)
	p.chunk, p.rate, p.writes, p.speeds = 4, 0.05, 120, []float64{1, 0.2}
	p.faults, p.faultRate = []func(*world){compareSomewhere}, 0.02
}

// seenLate is a company whose head deletes rows and inserts them again; what it commits is seen long after its log has it.
func seenLate(p *plan) {
	contended(p)
	p.seesaw, p.keys, p.writes, p.late, p.faults = true, 8, 80, 0.01, nil
	p.engines[0] = schema.Postgres
}

func adding(p *plan) {
	contended(p)
	p.policy, p.oldRows, p.deletes, p.moves = schema.Policy{Kind: schema.Add, Add: []string{"n"}}, true, false, false
}

// defining is a company whose offices change their tables among their rows, and whose processes and databases end all the while.
func defining(p *plan) {
	contended(p)
	p.joiner, p.found, p.allJoin, p.away, p.budget, p.queueLimit = 0, nil, false, 0, 256<<10, 0
	p.keys, p.deletes, p.writes, p.oldRows = 1+p.keys%2, true, 40, true
	p.schema = schemaPlan{rate: 0.5, most: 12, kinds: allKinds}
	p.faults, p.faultRate = []func(*world){killProcess, endSession, databaseRestart}, 0.01
}

// slowCapture is a company whose journals keep little, and whose lines are cut.
func slowCapture(p *plan) {
	contended(p)
	p.budget, p.writes, p.rate, p.speeds, p.slow, p.clockRows = 24<<10, 120, 0.02, []float64{1}, "north capture", 4
	p.faults, p.faultRate, p.queueLimit = nil, 0, 0
	p.joiner, p.found, p.allJoin, p.away = 0, nil, false, 0 // an office so slow would never have joined
}

// TestPlantedBugs proves that the validators notice what they are there for.
func TestPlantedBugs(t *testing.T) {
	if raceDetector {
		t.Skip("this is about validators; the race detector has TestSeeds")
	}
	for _, c := range plantedBugs {
		t.Run(c.name, func(t *testing.T) {
			defer schema.Plant(c.bugs...)()
			caught := ""
			search(t, max(firstSeed[c.name], 1), c.seeds, c.likely, func(w *world, err error) bool {
				caught = fmt.Sprintf("seed %d: %v", w.seed, err)
				return true
			})
			if caught == "" {
				t.Fatalf("not noticed within %d seeds", c.seeds)
			}
			t.Log(caught)
		})
	}
}

// innocent is the part of the same companies that TestNothingPlanted runs: a twentieth every day, a fifth with FULL=1.
func innocent(seeds uint64) uint64 {
	if os.Getenv("CDC_FULL") != "" {
		return seeds / 5
	}
	return seeds / 20
}

// TestNothingPlanted: the same companies are all right when nothing is planted.
func TestNothingPlanted(t *testing.T) {
	if raceDetector {
		t.Skip("this is about validators; the race detector has TestSeeds")
	}
	for _, c := range plantedBugs {
		t.Run(c.name, func(t *testing.T) {
			search(t, 1, innocent(c.seeds), c.likely, func(w *world, err error) bool {
				t.Error(report(w, err))
				return true
			})
		})
	}
}
