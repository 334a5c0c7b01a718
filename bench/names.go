package main

import "slices"

// kind is a database engine.
type kind string

const (
	postgres kind = "Postgres"
	maria    kind = "MariaDB"
)

// pair is who catches up with whom.
type pair struct {
	name           string
	source, target kind
	back           bool // the branch is the source and the head, which decides conflicts, the target
	oneWay         bool // the branch only receives, as native replication does; else both may write (the default)
	rounds         int  // of a full run: more where something is promised
}

var pairs = []pair{
	{name: "pg-pg", source: postgres, target: postgres, rounds: 3},
	{name: "maria-maria", source: maria, target: maria, rounds: 3},
	{name: "pg-maria", source: postgres, target: maria, rounds: 2},
	{name: "maria-pg", source: maria, target: postgres, rounds: 2},
	{name: "pg-pg-oneway", source: postgres, target: postgres, oneWay: true, rounds: 2},
	{name: "pg-pg-back", source: postgres, target: postgres, back: true, rounds: 2},
}

// The phases, in their order: each changes what the ones before have made.
const (
	insert100 = "insert100"
	update1   = "update1"
	bigtxn    = "bigtxn"
	mixed     = "mixed"
)

// The names that the command line knows.
var (
	pairNames  = namesOf(pairs, func(p pair) string { return p.name })
	phaseNames = []string{insert100, update1, bigtxn, mixed}
)

func namesOf[T any](all []T, name func(T) string) []string {
	var names []string
	for t := range slices.Values(all) {
		names = append(names, name(t))
	}
	return names
}
