package main

// The names that the command line knows.
var (
	pairNames  = []string{"pg-pg", "maria-maria", "pg-maria", "maria-pg", "pg-pg-back"}
	phaseNames = []string{"insert100", "update1", "bigtxn", "mixed"}
)
