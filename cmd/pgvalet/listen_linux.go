package main

import "golang.org/x/sys/unix"

// deferAccept keeps a new connection in the kernel until its first data comes,
// for as many seconds. Not every kind of TCP socket can do so.
func deferAccept(fd, seconds int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, seconds)
}
