package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"cdc-sidecar/schema"
)

const (
	// A client that sends nothing must not hold a connection; ours sends its headers in one packet.
	headerTimeout = 5 * time.Second
	// An answer is a few hundred kilobytes at most; the longest is the removal of an office, which talks to the broker.
	replyTimeout = 60 * time.Second
	idleTimeout  = 2 * time.Minute
	// Answers under way may end when the process is told to stop; they do not hold it up longer than this.
	closeGrace = 2 * time.Second
	// Requests have a name, and a short body at most.
	maxHeader = 64 << 10
)

// Listen opens the address: host:port, or unix:/path. A socket that a dead process left is taken over; one that answers
// is another sidecar's, and the error wraps schema.ErrHeld.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		l, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("admin address: %w", err)
		}
		return l, nil
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("admin address: %w", err)
	}
	// Whoever can open the socket can remove an office: its owner and group, and nobody else.
	if err := os.Chmod(path, 0o660); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("admin address: %w", err)
	}
	return l, nil
}

func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("admin address: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("admin address: %s is there and is no socket; remove it, or choose another path", path)
	}
	var d net.Dialer
	if conn, err := d.DialContext(ctx, "unix", path); err == nil {
		_ = conn.Close()
		return fmt.Errorf("admin address %s: %w", path, schema.ErrHeld)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("admin address: %w", err)
	}
	return nil
}

// Serve answers on l until ctx ends, and closes l. It returns nil after a clean end.
func Serve(ctx context.Context, l net.Listener, o Options) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	server := &http.Server{
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
		Handler:           NewHandler(o),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout,
		WriteTimeout:      replyTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("admin server: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeGrace)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		_ = server.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin server: %w", err)
	}
	return nil
}
