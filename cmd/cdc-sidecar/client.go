package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"cdc-sidecar/admin"
)

const (
	// The sidecar answers from memory, and only an office's removal waits for the broker; longer means that it hangs.
	clientTimeout = 70 * time.Second
	// Ten thousand offices fit; more is not an answer of ours.
	maxReply = 16 << 20
)

// client talks to the running sidecar on its admin address.
type client struct {
	address, token, config string
	http                   http.Client
}

func newClient(c Config) *client {
	var d net.Dialer
	network, address := "tcp", c.Admin
	if path, unix := strings.CutPrefix(c.Admin, "unix:"); unix {
		network, address = "unix", path
	} else if host, port, err := net.SplitHostPort(c.Admin); err == nil && unspecified(host) {
		address = net.JoinHostPort("localhost", port)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, network, address) }
	return &client{
		address: c.Admin, token: c.AdminToken, config: c.Path,
		http: http.Client{Timeout: clientTimeout, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}},
	}
}

func unspecified(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || (ip != nil && ip.IsUnspecified())
}

// call makes a request and decodes the reply's body into result (nil: not wanted). Not being able to reach the sidecar,
// and not being let in, are *environmentError.
func (c *client) call(ctx context.Context, method, path string, result any) error {
	return c.send(ctx, method, path, nil, result)
}

// post is call with a body, sent as JSON.
func (c *client) post(ctx context.Context, path string, body, result any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("admin request: %w", err)
	}
	return c.send(ctx, http.MethodPost, path, bytes.NewReader(text), result)
}

func (c *client) send(ctx context.Context, method, path string, body io.Reader, result any) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, body)
	if err != nil {
		return fmt.Errorf("admin request: %w", err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	reply, err := c.http.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &environmentError{fmt.Errorf("the sidecar does not answer at %s: %w; start it with: cdc-sidecar run --config %s", c.address, innermost(err), c.config)}
	}
	defer reply.Body.Close()
	content, err := io.ReadAll(io.LimitReader(reply.Body, maxReply))
	switch {
	case err != nil:
		return &environmentError{fmt.Errorf("the sidecar's answer at %s broke off: %w", c.address, err)}
	case reply.StatusCode >= http.StatusBadRequest:
		return c.refusal(reply, content, result)
	case result == nil || len(content) == 0:
		return nil
	}
	if err := json.Unmarshal(content, result); err != nil {
		return &environmentError{fmt.Errorf("what answers at %s is no cdc-sidecar: %w", c.address, err)}
	}
	return nil
}

// problemError is what the sidecar itself answered to a request that it did not do.
type problemError struct {
	status int
	detail string
}

func (e *problemError) Error() string { return e.detail }

// refusal is the error of an answer with an error code; probes have their own body with one, which goes into result.
func (c *client) refusal(reply *http.Response, body []byte, result any) error {
	var p admin.Problem
	switch {
	case reply.StatusCode == http.StatusUnauthorized:
		return &environmentError{fmt.Errorf("the sidecar at %s wants its admin token: set admin_token, or CDC_ADMIN_TOKEN, as the sidecar has it", c.address)}
	case json.Unmarshal(body, &p) == nil && p.Detail != "":
		return &problemError{status: reply.StatusCode, detail: p.Detail}
	case result != nil && json.Unmarshal(body, result) == nil:
		return nil
	default:
		return &environmentError{fmt.Errorf("what answers at %s is no cdc-sidecar: %s", c.address, reply.Status)}
	}
}

// innermost is the cause without the URL that net/http puts before it: the address we dialled is another.
func innermost(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}
