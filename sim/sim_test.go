package sim_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"cdc-sidecar/schema"
)

// TestMain makes what the whole process shares before any bubble does: what is made in one belongs to it alone.
func TestMain(m *testing.M) {
	body, codec, err := schema.Pack(make([]byte, 4096))
	if err == nil {
		_, err = schema.Unpack(body, codec)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// number of an environment variable.
func setting(name string, otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}

// TestSeeds runs CDC_SIM_SEEDS seeds from CDC_SIM_FROM on; `make sim` sets them.
func TestSeeds(t *testing.T) {
	from := setting("CDC_SIM_FROM", 1)
	n := setting("CDC_SIM_SEEDS", seeds)
	var failures atomic.Int64
	search(t, from, n, nil, func(w *world, err error) bool {
		t.Error(report(w, err))
		return failures.Add(1) >= 3
	})
	t.Logf("%d seeds from %d on", n, from)
}

// TestOrderlyRestarts is about what one life keeps for the next, between lives that end otherwise.
func TestOrderlyRestarts(t *testing.T) {
	search(t, 1, seeds/10, func(p *plan) {
		contended(p)
		p.faults, p.faultRate = []func(*world){restart, restart, restart, killProcess, endSession, cutLine}, 0.02
	}, func(w *world, err error) bool {
		t.Error(report(w, err))
		return true
	})
}

func report(w *world, err error) string {
	var f *failure
	key := ""
	if errors.As(err, &f) {
		key = f.key
	}
	return fmt.Sprintf("seed %d: %v\n%s\nplan %+v\nrun it again: make sim SEEDS=1 FROM=%d", w.seed, err, w.story(key), w.plan, w.seed)
}

// search runs seeds on all cores until failed, which is called for each that fails, says that it is enough.
func search(t *testing.T, from, n uint64, change func(*plan), failed func(*world, error) bool) {
	var next atomic.Uint64
	var enough atomic.Bool
	var one sync.Mutex
	next.Store(from)
	t.Run("workers", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				for !enough.Load() {
					seed := next.Add(1) - 1
					if seed >= from+n {
						return
					}
					w, err := play(t, seed, dir, change)
					if err == nil {
						continue
					}
					one.Lock()
					if !enough.Load() && failed(w, err) {
						enough.Store(true)
					}
					one.Unlock()
				}
			})
		}
	})
}

// play runs one seed.
func play(t *testing.T, seed uint64, dir string, change func(*plan)) (w *world, err error) {
	synctest.Test(t, func(*testing.T) {
		w = newWorld(seed, dir, change)
		err = w.run()
	})
	return w, err
}
