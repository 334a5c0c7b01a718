//go:build !linux

package broker

import "syscall"

// limitUnacked does nothing where there is no TCP_USER_TIMEOUT: the write deadline and the heartbeat remain.
func limitUnacked(_, _ string, _ syscall.RawConn) error { return nil }
