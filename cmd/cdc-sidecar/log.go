package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/lmittmann/tint"
)

// newLogger writes to w (standard error: standard output is for data) as the configuration says; colours only for people.
func newLogger(w io.Writer, c Config) *slog.Logger {
	var h slog.Handler
	switch {
	case c.LogFormat == LogJSON:
		h = slog.NewJSONHandler(w, &slog.HandlerOptions{Level: c.LogLevel})
	case isTerminal(w):
		h = tint.NewTextHandler(w, &tint.Options{Level: c.LogLevel, NoColor: os.Getenv("NO_COLOR") != ""})
	default:
		h = slog.NewTextHandler(w, &slog.HandlerOptions{Level: c.LogLevel})
	}
	return slog.New(h)
}
