package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"cdc-sidecar/schema"
)

// serve runs Serve until the returned function is called, which gives Serve's error.
func serve(t *testing.T, address string) (net.Listener, func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l, err := Listen(ctx, address)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, Options{Source: &fake{}}) }()
	return l, func() error {
		cancel()
		return <-ended
	}
}

// get asks for the status under a host name.
func get(t *testing.T, network, address, host string) int {
	t.Helper()
	var d net.Dialer
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, network, address) }
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+"/api/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	return reply.StatusCode
}

func TestServeOverTCP(t *testing.T) {
	l, stop := serve(t, "127.0.0.1:0")
	if code := get(t, "tcp", l.Addr().String(), "localhost"); code != http.StatusOK {
		t.Errorf("got %d", code)
	}
	if code := get(t, "tcp", l.Addr().String(), "sidecar"); code != http.StatusForbidden {
		t.Errorf("under a strange name: got %d", code)
	}
	if _, err := Listen(t.Context(), l.Addr().String()); err == nil {
		t.Error("a second listener on the same port")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestServeOverASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	_, stop := serve(t, "unix:"+path)
	if code := get(t, "unix", path, "sidecar"); code != http.StatusOK {
		t.Errorf("got %d", code)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket's mode is %v: %v", info.Mode(), err)
	}
	if _, err := Listen(t.Context(), "unix:"+path); !errors.Is(err, schema.ErrHeld) {
		t.Errorf("a socket that answers was taken over: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestAStaleSocketIsTakenOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	_, stop := serve(t, "unix:"+path)
	if code := get(t, "unix", path, "sidecar"); code != http.StatusOK {
		t.Errorf("got %d", code)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestAFileIsNotTakenOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Listen(t.Context(), "unix:"+path); err == nil {
		_ = l.Close()
		t.Error("a plain file was taken over")
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
