package main

import (
	"fmt"
	"os"
	"runtime/pprof"
)

// profileVariable names a file for a CPU profile of the whole run, for whoever wants to know where the time goes.
const profileVariable = "CDC_CPUPROFILE"

// profile begins the CPU profile that the environment asks for. The caller must call stop, which writes it.
func profile() (stop func(), err error) {
	name := os.Getenv(profileVariable)
	if name == "" {
		return func() {}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", profileVariable, err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, fmt.Errorf("%s: %w", profileVariable, err)
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}
