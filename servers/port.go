package servers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are taken from below 32768, where Linux begins to hand out the local ports of outgoing connections: a port from
// up there may be taken by any client while its server restarts.
const (
	lowestPort  = 20000
	highestPort = 32000
)

// port is a loopback port that is ours until release, though nothing listens on it yet.
//
// The claim is an abstract unix socket named after the port: it keeps other processes that use this package from
// choosing the same port, leaves nothing on disk, and the kernel drops it when we die.
type port struct {
	number int
	claim  net.Listener
}

func (p port) release() error {
	if p.claim == nil {
		return nil
	}
	return p.claim.Close()
}

// claimPort finds a free port, starting anywhere, so that parallel processes rarely compete for the same one.
func claimPort(ctx context.Context) (port, error) {
	n := highestPort - lowestPort
	from := rand.IntN(n)
	for i := range n {
		p, err := tryPort(ctx, lowestPort+(from+i)%n)
		if err == nil {
			return p, nil
		}
		if ctx.Err() != nil {
			return port{}, fmt.Errorf("claim port: %w", ctx.Err())
		}
	}
	return port{}, fmt.Errorf("claim port: %w", errors.New("none is free below 32768"))
}

func tryPort(ctx context.Context, number int) (port, error) {
	var lc net.ListenConfig
	claim, err := lc.Listen(ctx, "unix", fmt.Sprintf("@cdc-sidecar/port/%d", number))
	if err != nil {
		return port{}, err
	}
	// Binding to every address, not only to loopback, also notices a server that listens on another one.
	probe, err := lc.Listen(ctx, "tcp", fmt.Sprintf(":%d", number))
	if err != nil {
		return port{}, errors.Join(err, claim.Close())
	}
	return port{number, claim}, probe.Close()
}

// claimPorts claims n ports, or none.
func claimPorts(ctx context.Context, n int) ([]port, error) {
	ports := make([]port, 0, n)
	for range n {
		p, err := claimPort(ctx)
		if err != nil {
			return nil, errors.Join(err, releasePorts(ports))
		}
		ports = append(ports, p)
	}
	return ports, nil
}

func releasePorts(ports []port) error {
	var errs []error
	for _, p := range ports {
		errs = append(errs, p.release())
	}
	return errors.Join(errs...)
}
