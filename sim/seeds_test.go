//go:build !race

package sim_test

const (
	raceDetector = false
	// seeds are run in each `make test`.
	seeds = 1000
)
