package servers

import "context"

// ClaimPort finds a free loopback port below 32768 for a server that the caller starts itself, such as a sidecar's admin
// address. Until release, no other process that uses this package chooses it, whether or not anything listens on it.
func ClaimPort(ctx context.Context) (number int, release func() error, err error) {
	p, err := claimPort(ctx)
	return p.number, p.release, err
}
