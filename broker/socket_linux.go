package broker

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitUnacked sets TCP_USER_TIMEOUT: with data under way, the kernel's own patience is a quarter of an hour.
func limitUnacked(_, _ string, c syscall.RawConn) error {
	var err error
	control := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedLimit.Milliseconds()))
	})
	return errors.Join(control, err)
}
