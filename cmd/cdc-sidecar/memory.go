package main

import (
	"os"
	"runtime/debug"
)

const (
	// memoryGoal is where the garbage collector begins to work harder, so that a sidecar stays within 120 MB of resident
	// memory under load. It is no hard limit: what is alive at once is bounded by the rooms' windows, and is far less.
	memoryGoal = 72 << 20
	// memoryGrowth is how far the heap may grow between two collections, in percent, while it is below the goal: an idle
	// sidecar keeps a few megabytes, so it may well double and double again.
	memoryGrowth = 200
)

// limitMemory sets the garbage collector up, unless the environment does (GOMEMLIMIT, GOGC).
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryGoal)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(memoryGrowth)
	}
}
