//go:build !linux

package evloop

import "golang.org/x/sys/unix"

// The Go runtime ignores SIGPIPE for everything but standard output, and the
// sockets are non-blocking already.

func recv(fd int, p []byte) (int, error) {
	n, err := unix.Read(fd, p)
	return max(n, 0), err
}

func send(fd int, p []byte) (int, error) {
	n, err := unix.Write(fd, p)
	return max(n, 0), err
}
