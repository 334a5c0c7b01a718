package main

import (
	"context"
	"errors"
	"log/slog"
)

// runSidecar captures, ships and applies until ctx ends.
func runSidecar(_ context.Context, _ Config, _ *slog.Logger) error {
	return errors.New("run is not built in yet")
}
