package capture

import "syscall"

// setReceiveLowWater sets how many bytes make a socket readable: socket(7), SO_RCVLOWAT; poll heeds it since Linux 2.6.28,
// TCP also before it wakes anybody.
func setReceiveLowWater(fd uintptr, bytes int) error {
	return syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, bytes)
}
