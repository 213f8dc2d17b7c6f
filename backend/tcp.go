package backend

import (
	"net"

	"golang.org/x/sys/unix"

	"github.com/pgvalet/pgvalet/config"
)

// TCPOptions are the tcp_* settings, which hold for connections of both sides.
type TCPOptions struct {
	KeepAlive    net.KeepAliveConfig
	UserTimeout  int // milliseconds; 0: the system's
	SocketBuffer int // bytes, for each direction; 0: the system's
}

// NewTCPOptions returns what s says.
func NewTCPOptions(s *config.Settings) TCPOptions {
	return TCPOptions{KeepAlive: s.KeepAlive(), UserTimeout: s.TCPUserTimeout, SocketBuffer: s.TCPSocketBuffer}
}

// Apply sets the options of a connection, if it is one of TCP. What fails is not
// reported: a dead connection is noticed by the first read.
func (o TCPOptions) Apply(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	_ = tcp.SetKeepAliveConfig(o.KeepAlive)
	if o.UserTimeout == 0 && o.SocketBuffer == 0 {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if o.UserTimeout > 0 {
			setUserTimeout(int(fd), o.UserTimeout)
		}
		if o.SocketBuffer > 0 {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, o.SocketBuffer)
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, o.SocketBuffer)
		}
	})
}
