package evloop

import "golang.org/x/sys/unix"

// PeerPID returns the process at the other end of a unix socket, 0 if that is
// not known.
func PeerPID(fd int) int {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}
