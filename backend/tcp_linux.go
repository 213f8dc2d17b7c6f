package backend

import "golang.org/x/sys/unix"

func setUserTimeout(fd, milliseconds int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, milliseconds)
}
