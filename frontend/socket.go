package frontend

import (
	"errors"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pgvalet/pgvalet/backend/evloop"
)

// socket is an accepted connection below its Transport. It lets a login look
// at the first byte.
type socket struct {
	net.Conn
	ahead []byte // read already, not yet handed out
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	if len(s.ahead) > 0 {
		n := copy(p, s.ahead)
		s.ahead = s.ahead[n:]
		return n, nil
	}
	return s.Conn.Read(p)
}

// peek waits for the first byte and returns it without taking it.
func (s *socket) peek() (byte, error) {
	var b [1]byte
	for len(s.ahead) == 0 {
		n, err := s.Conn.Read(b[:])
		if n == 0 && err != nil {
			return 0, err
		}
		s.ahead = append(s.ahead, b[:n]...)
	}
	return s.ahead[0], nil
}

// take returns what has been read ahead, and forgets it.
func (s *socket) take() []byte {
	b := s.ahead
	s.ahead = nil
	return b
}

// pending reports whether bytes are there to read, without waiting.
func (s *socket) pending() bool {
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	var n int
	var b [1]byte
	err = raw.Control(func(fd uintptr) {
		n, _, _ = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return err == nil && n > 0
}

// peerUID returns the user whose process opened the other end of a unix socket.
func (s *socket) peerUID() (uid int, err error) {
	raw, err := s.SyscallConn()
	if err != nil {
		return 0, err
	}
	if ctlErr := raw.Control(func(fd uintptr) { uid, err = peerUID(int(fd)) }); ctlErr != nil {
		return 0, ctlErr
	}
	return uid, err
}

// SyscallConn implements syscall.Conn, which Transport.Detach needs.
func (s *socket) SyscallConn() (syscall.RawConn, error) {
	c, ok := s.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return c.SyscallConn()
}

// CloseWrite tells the peer that nothing more will come.
func (s *socket) CloseWrite() error {
	c, ok := s.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return c.CloseWrite()
}

// describeSocket returns the file descriptor of a socket, or of what listens on
// one, and which process is at the other end if it is a unix socket, 0 for what
// is not known.
func describeSocket(conn any) (fd, peerPID int) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return 0, 0
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0
	}
	_ = raw.Control(func(d uintptr) { // fails only if the socket is closed
		fd = int(d)
		if n, ok := conn.(net.Conn); ok && n.LocalAddr().Network() == "unix" {
			peerPID = evloop.PeerPID(fd)
		}
	})
	return fd, peerPID
}

// unix reports whether the socket is local, where encryption is neither offered
// nor required.
func (s *socket) unix() bool { return s.LocalAddr().Network() == "unix" }

// addrPortOf is what a session keeps of an address: a value that points to
// nothing of the connection. That of a unix socket is not valid.
func addrPortOf(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort()
	}
	return netip.AddrPort{}
}

// netAddrOf undoes addrPortOf, but for the path of a unix socket.
func netAddrOf(a netip.AddrPort) net.Addr {
	if a.IsValid() {
		return net.TCPAddrFromAddrPort(a)
	}
	return &net.UnixAddr{Net: "unix"}
}
