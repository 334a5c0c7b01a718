//go:build !race

package sim_test

// seeds are run in each `make test`.
const seeds = 2000
