package sim_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"cdc-sidecar/schema"
)

// world is one run. Whatever would wait for the outside (a statement, a commit, a delivery, a read of the log) waits at a gate,
// and one goroutine, the run's own, lets them through one after the other as the seed has it: so everything that could
// interleave does, and a seed goes the same way again but for what Go itself leaves to chance (the order of maps, selects).
type world struct {
	seed uint64
	r    *rand.Rand // of the run's goroutine alone
	plan plan
	dir  string

	offices  []*office // the head first
	compared []comparison
	apps     sync.WaitGroup
	writing  int // applications under way; mu
	writes   int // statements begun
	definer  definer

	mu      sync.Mutex
	waiting []*ticket
	knock   chan struct{}
	weights map[string]float64
	events  []string // what was done to the company, for the trace
}

// ticket is somebody who waits at the gate.
type ticket struct {
	who  string
	pass chan struct{}
}

var errGone = errors.New("the process is gone")

func newWorld(seed uint64, dir string, change func(*plan)) *world {
	r := rand.New(rand.NewPCG(seed, 17))
	w := &world{seed: seed, r: r, dir: dir, knock: make(chan struct{}, 1), weights: map[string]float64{}}
	w.plan = newPlan(r)
	w.definer = definer{r: rand.New(rand.NewPCG(seed, 29)), maker: map[string]schema.Office{}}
	w.plan.defines(seed)
	if change != nil {
		change(&w.plan)
	}
	for i := range w.plan.branches + 1 {
		w.offices = append(w.offices, w.newOffice(i))
	}
	return w
}

func (w *world) head() *office { return w.offices[0] }

// slowness is how long plan.slow takes for each step.
const slowness = 20 * time.Second

// gate waits until the run lets who through; gone ends that with an error.
func (w *world) gate(ctx context.Context, gone <-chan struct{}, who string) error {
	t := &ticket{who: who, pass: make(chan struct{})}
	w.mu.Lock()
	slow := who == w.plan.slow
	w.mu.Unlock()
	if slow {
		select {
		case <-time.After(slowness):
		case <-gone:
		case <-ctx.Done():
		}
	}
	w.mu.Lock()
	w.waiting = append(w.waiting, t)
	w.mu.Unlock()
	select {
	case w.knock <- struct{}{}:
	default:
	}
	var err error
	select {
	case <-t.pass:
	case <-gone:
		err = errGone
	case <-ctx.Done():
		err = ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.waiting, t); i >= 0 {
		w.waiting = slices.Delete(w.waiting, i, i+1)
	}
	if err == nil {
		select {
		case <-gone: // it went while the gate was open
			err = errGone
		default:
		}
	}
	return err
}

// turn lets one through, or lets time pass when nobody waits (idle), and now and then when somebody does.
func (w *world) turn() (idle bool) {
	synctest.Wait()
	switch {
	case !w.anyWaits():
		idle = true
		select {
		case <-w.knock:
		case <-time.After(time.Second):
		}
	case w.r.Float64() < w.plan.pause:
		time.Sleep(time.Duration(w.r.ExpFloat64() * float64(2*time.Millisecond)))
	case w.r.Float64() < w.plan.stall:
		time.Sleep(time.Duration(w.r.IntN(3000)) * time.Millisecond)
	default:
		close(w.next().pass)
	}
	return idle
}

func (w *world) anyWaits() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting) > 0
}

// next chooses among those who wait by their weights, which change now and then: so a reader of the log, say, is slow for
// a while.
func (w *world) next() *ticket {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.r.Float64() < w.plan.shift {
		w.weights = map[string]float64{}
	}
	slices.SortStableFunc(w.waiting, func(a, b *ticket) int { return cmp.Compare(a.who, b.who) })
	total := 0.0
	for _, t := range w.waiting {
		total += w.weight(t.who)
	}
	at := w.r.Float64() * total
	i := 0
	for ; i < len(w.waiting)-1; i++ {
		if at -= w.weight(w.waiting[i].who); at < 0 {
			break
		}
	}
	t := w.waiting[i]
	w.waiting = slices.Delete(w.waiting, i, i+1)
	return t
}

func (w *world) weight(who string) float64 {
	switch {
	case strings.HasPrefix(who, "app"):
		return 1
	case strings.HasPrefix(who, "late"):
		return w.plan.late
	}
	v, ok := w.weights[who]
	if !ok {
		v = w.plan.speeds[w.r.IntN(len(w.plan.speeds))]
		w.weights[who] = v
	}
	return v
}

// did notes what was done to the company.
func (w *world) did(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, time.Now().UTC().Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

// known is how many branches have noted where in the head's stream they begin; the head notes them before.
func (w *world) known() (n int) {
	for _, o := range w.offices {
		if o != w.head() && !o.progress(w.head().name).IsZero() {
			n++
		}
	}
	return n
}

// run is the whole life of the company; its error is what a validator says.
func (w *world) run() (err error) {
	first := w.plan.branches
	for i, o := range w.offices {
		if !w.plan.comes(i) {
			o.start()
		} else {
			first--
		}
	}
	defer w.stop()
	for (w.plan.budget < 64<<10 || w.plan.writes > 60 || w.plan.schema.rate > 0) && w.known() < first {
		w.turn() // whoever comes when the journal has begun to let go does not have what went before
	}
	for w.wanted() {
		w.live(w.turn())
	}
	w.heal()
	if err := w.quiet(); err != nil {
		return err
	}
	for round := 0; w.parked() > 0; round++ {
		if err := w.explained(); err != nil {
			return err
		}
		if round == w.plan.branches+20 {
			return fmt.Errorf("changes wait for ever:\n%s", w.whatIsParked())
		}
		w.unblock(round)
		if err := w.quiet(); err != nil {
			return err
		}
	}
	if err := w.verify(); err != nil {
		return err
	}
	return w.check()
}

// stop ends all offices in an orderly way.
func (w *world) stop() {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, o := range w.offices {
			if o.life != nil {
				o.end(false)
			}
		}
		w.apps.Wait()
	}()
	for {
		select {
		case <-ended:
			return
		default:
			w.turn()
		}
	}
}

// restTime is how long nothing may happen for the company to be at rest: longer than any interval at which something is tried
// again, but for those that mend a loss, which settled would notice.
const restTime = 12 * time.Second

// patience ends a run that does not come to rest: of virtual time, far more than any retry takes.
const patience = time.Hour

// quiet waits until everything is applied everywhere and nothing fails any more.
func (w *world) quiet() error {
	w.plan.pause, w.plan.stall, w.plan.late, w.plan.speeds = 0.1, 0, 1, []float64{1}
	w.weights = map[string]float64{}
	began := time.Now()
	rest, failures := time.Now(), w.failures()
	for n := 0; ; n++ {
		w.turn()
		if n%8 != 0 {
			continue
		}
		w.revive()
		missing := w.missing()
		if f := w.failures(); missing != "" || f != failures {
			rest, failures = time.Now(), f
		}
		if time.Since(rest) > restTime {
			return nil
		}
		if time.Since(began) > cmp.Or(w.plan.patience, patience) {
			return fmt.Errorf("no rest after %s: %s\n%s", cmp.Or(w.plan.patience, patience), cmp.Or(missing, "sessions fail again and again"), w.status())
		}
	}
}

func (w *world) failures() (n int) {
	for _, o := range w.offices {
		n += o.failed()
	}
	return n
}

// missing says what is not through yet; empty: all is.
func (w *world) missing() string {
	w.mu.Lock()
	writing := w.writing
	w.mu.Unlock()
	if writing > 0 {
		return "applications write"
	}
	head := w.head()
	for _, o := range w.offices {
		if why := o.missing(); why != "" {
			return string(o.name) + ": " + why
		}
	}
	for _, o := range w.offices[1:] {
		if at, last := head.progress(o.name), o.life.last(); at != last {
			return fmt.Sprintf("%s has applied %s of %s, which has %s", head.name, at, o.name, last)
		}
		if at, last := o.progress(head.name), head.life.last(); at != last && last.Seq > 0 {
			return fmt.Sprintf("%s has applied %s of %s, which has %s", o.name, at, head.name, last)
		}
	}
	return w.compares()
}

func (w *world) status() string {
	var b strings.Builder
	for _, o := range w.offices {
		fmt.Fprintf(&b, "%s: %s\n", o.name, o.status())
	}
	return b.String()
}
