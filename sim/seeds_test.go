//go:build !race

package sim_test

// How many are run in each `make test`.
const (
	seeds = 2000
	// plantedShare of the seeds in which a planted bug must show are run without it.
	plantedShare = 2
)
