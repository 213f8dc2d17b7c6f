package backend

import (
	"net"
	"syscall"

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
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = o.SetBuffers("tcp", "", raw)
	if o.UserTimeout > 0 {
		_ = raw.Control(func(fd uintptr) { setUserTimeout(int(fd), o.UserTimeout) })
	}
}

// SetBuffers is the Control of a net.Dialer or net.ListenConfig. What a connection opens with is what its
// window is made of: with buffers that get smaller afterwards the peer sends more
// than they hold, and then waits a fifth of a second for each piece.
func (o TCPOptions) SetBuffers(network, _ string, raw syscall.RawConn) error {
	if o.SocketBuffer == 0 || network == "unix" {
		return nil
	}
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, o.SocketBuffer)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, o.SocketBuffer)
	})
}
