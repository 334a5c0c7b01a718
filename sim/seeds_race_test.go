//go:build race

package sim_test

// seeds is small under the race detector, which makes all of it some ten times slower.
const seeds = 100
