//go:build !linux

package evloop

// PeerPID returns the process at the other end of a unix socket, 0 if that is
// not known.
func PeerPID(int) int { return 0 }
