package broker

import (
	"context"
	"net"
	"time"
)

const (
	// connectLimit bounds the dial and the handshake, TLS included: minutes-long TCP defaults would look like a hang.
	connectLimit = 30 * time.Second
	// writeLimit bounds one write. The client library has no limit of its own and holds its locks while it writes, so that
	// not even its heartbeat could end a session whose peer stopped reading. 128 KiB in this time is a very slow link.
	writeLimit = 30 * time.Second
	// unackedLimit is how long the kernel waits for the other side's TCP to acknowledge data before the link counts as dead.
	unackedLimit = 30 * time.Second
)

// socket is a connection whose every write has a deadline.
type socket struct{ net.Conn }

func (s socket) Write(b []byte) (int, error) {
	if err := s.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return 0, err
	}
	return s.Conn.Write(b)
}

// dial connects with the deadline for the handshake set; the client library clears it afterwards.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: connectLimit, Control: limitUnacked}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(connectLimit)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return socket{conn}, nil
}
