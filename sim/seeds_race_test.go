//go:build race

package sim_test

const (
	raceDetector = true
	// seeds are few here: the race detector makes each some ten times slower.
	seeds = 100
)
