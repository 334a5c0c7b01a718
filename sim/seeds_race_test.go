//go:build race

package sim_test

// Few under the race detector, which makes all of it some ten times slower.
const (
	seeds        = 100
	plantedShare = 20
)
