//go:build darwin || freebsd

package frontend

import "golang.org/x/sys/unix"

// solLocal is SOL_LOCAL, the level of options of unix sockets.
const solLocal = 0

// peerUID returns the user whose process opened the other end of a unix socket.
func peerUID(fd int) (int, error) {
	cred, err := unix.GetsockoptXucred(fd, solLocal, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, err
	}
	return int(cred.Uid), nil
}
