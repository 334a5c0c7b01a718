package e2e

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"cdc-sidecar/fleet"
)

// The sidecars of the head and of the MariaDB branch are killed again and again while both offices' tables change and
// applications write: nothing is done twice, and nothing left out.
func TestKillsDuringSchemaChanges(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	e := newEvolving(t, set, bin, everyChange, three(set))
	e.killed(t, e.Head(), e.Offices[atSouth])
}

func TestKillsDuringSchemaChangesWithMariaDBAsTheHead(t *testing.T) {
	wholeOnly(t)
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	e := newEvolving(t, set, bin, everyChange, mariaDBFirst(set))
	e.killed(t, e.Offices[atNorth], e.Head())
}

// killed plays the scripts of both engines at the same time, and kills the two sidecars.
func (e *evolving) killed(t *testing.T, postgres, mariadb *fleet.Office) {
	ofPostgres, ofMariaDB := readScript(t, "ddl/statements/postgres.sql"), readScript(t, "ddl/statements/mariadb.sql")
	if !full() {
		ofPostgres, ofMariaDB = ofPostgres.only("tables", "columns", "types"), ofMariaDB.only("tables", "columns", "types")
	}
	e.alone = append(ofPostgres.alone, ofMariaDB.alone...)
	e.live = append(ofPostgres.live, ofMariaDB.live...)
	endWriting := e.writing(t)
	var done sync.WaitGroup
	playing := make(chan error, 2)
	e.plays = []played{{ofPostgres, postgres}, {ofMariaDB, mariadb}}
	for _, p := range e.plays {
		done.Go(func() { playing <- p.slowly(within(t, stuck)) })
	}
	finished := make(chan struct{})
	go func() { done.Wait(); close(finished) }()
	rnd, kills, over := rand.New(rand.NewPCG(1, 2)), 0, false
	for ; !over || kills < sized(6, 30); kills++ {
		pause(t.Context(), time.Duration(300+rnd.IntN(1500))*time.Millisecond)
		select {
		case <-finished:
			over = true
		default:
		}
		o := []*fleet.Office{postgres, mariadb}[kills%2]
		o.Kill()
		must(t, o.Start())
	}
	must(t, errors.Join(<-playing, <-playing))
	endWriting()
	must(t, e.Met(within(t, stuck)))
	t.Logf("killed %d times", kills)
	e.equalBy(t, e.maker)
}

// slowly runs a script with a breath behind each statement, or kills would find all of it done.
func (p *played) slowly(ctx context.Context) error {
	for i := range p.groups {
		for _, statement := range p.groups[i].statements {
			if err := p.at.Exec(ctx, statement); err != nil {
				return err
			}
			pause(ctx, sized(100*time.Millisecond, 300*time.Millisecond))
		}
	}
	return nil
}
