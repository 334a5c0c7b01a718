package servers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// apiLimit bounds one request to the management API. It answers within milliseconds unless the node is busy.
const apiLimit = 30 * time.Second

// apiBytes bounds an answer of the management API: more than a thousand queues are described in less.
const apiBytes = 16 << 20

// CreateVHost creates a virtual host, in which guest may do everything.
func (r *RabbitMQ) CreateVHost(ctx context.Context, name string) error {
	if err := r.API(ctx, http.MethodPut, "vhosts/"+url.PathEscape(name), nil, nil); err != nil {
		return err
	}
	user := url.PathEscape(r.user().Username())
	all := map[string]string{"configure": ".*", "write": ".*", "read": ".*"}
	return r.API(ctx, http.MethodPut, "permissions/"+url.PathEscape(name)+"/"+user, all, nil)
}

// deleteAgain is how soon a virtual host is deleted again that could not be.
const deleteAgain = 500 * time.Millisecond

// DeleteVHost deletes a virtual host with its queues and closes its connections. A broker that was killed a moment ago answers
// with an internal error until its queues are up again: it is asked again until ctx ends.
func (r *RabbitMQ) DeleteVHost(ctx context.Context, name string) error {
	for first := true; ; first = false {
		err := r.API(ctx, http.MethodDelete, "vhosts/"+url.PathEscape(name), nil, nil)
		var refused *statusError
		switch {
		case !errors.As(err, &refused):
			return err
		case refused.code == http.StatusNotFound && !first: // the time before has done it after all
			return nil
		case refused.code != http.StatusInternalServerError:
			return err
		}
		timer := time.NewTimer(deleteAgain)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// statusError is an answer of the management API that is no success.
type statusError struct {
	code   int
	status string
	answer []byte
}

func (e *statusError) Error() string { return fmt.Sprintf("%s: %s", e.status, e.answer) }

// DeleteQueue deletes a queue with its messages.
func (r *RabbitMQ) DeleteQueue(ctx context.Context, vhost, queue string) error {
	return r.API(ctx, http.MethodDelete, "queues/"+url.PathEscape(vhost)+"/"+url.PathEscape(queue), nil, nil)
}

// PurgeQueue drops the messages of a queue that wait; those delivered and not acknowledged stay.
func (r *RabbitMQ) PurgeQueue(ctx context.Context, vhost, queue string) error {
	return r.API(ctx, http.MethodDelete, "queues/"+url.PathEscape(vhost)+"/"+url.PathEscape(queue)+"/contents", nil, nil)
}

// API sends one request to the management API, below /api/. The body is sent as JSON unless it is nil, and the answer
// decoded into out unless that is nil. Counts in an answer may be seconds old.
func (r *RabbitMQ) API(ctx context.Context, method, path string, body, out any) error {
	if err := r.request(ctx, method, path, body, out); err != nil {
		return fmt.Errorf("management API: %s %s: %w", method, path, err)
	}
	return nil
}

func (r *RabbitMQ) request(ctx context.Context, method, path string, body, out any) (err error) {
	ctx, cancel := context.WithTimeout(ctx, apiLimit)
	defer cancel()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+r.managementHost()+"/api/"+path, content)
	if err != nil {
		return err
	}
	password, _ := r.user().Password()
	request.SetBasicAuth(r.user().Username(), password)
	request.Header.Set("Content-Type", "application/json")
	request.Close = true // a kept connection would be a leaked goroutine to the tests
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, apiBytes))
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return &statusError{response.StatusCode, response.Status, answer}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

func (r *RabbitMQ) user() *url.Userinfo {
	if r.external != nil && r.external.User != nil {
		return r.external.User
	}
	return url.UserPassword("guest", "guest")
}

// managementHost is where the management API listens. Of an external broker it is taken to be 10000 above the AMQP port,
// as RabbitMQ's own 5672 and 15672 are.
func (r *RabbitMQ) managementHost() string {
	if r.external == nil {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.ports[managementPort].number))
	}
	number := r.Port()
	if number == 0 {
		number = 5672
	}
	return net.JoinHostPort(r.external.Hostname(), strconv.Itoa(number+10000))
}
