package backend

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgvalet/pgvalet/config"
)

func TestTCPOptions(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	NewTCPOptions(&config.Settings{TCPKeepalive: true, TCPKeepcnt: 7, TCPUserTimeout: 1234, TCPSocketBuffer: 8192}).Apply(conn)
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		for _, o := range []struct{ level, option, want int }{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 7},
			{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1234},
			{unix.SOL_SOCKET, unix.SO_SNDBUF, 2 * 8192}, // the kernel doubles it for its own needs
			{unix.SOL_SOCKET, unix.SO_RCVBUF, 2 * 8192},
		} {
			if got, err := unix.GetsockoptInt(int(fd), o.level, o.option); err != nil || got != o.want {
				t.Errorf("option %d is %d (%v), want %d", o.option, got, err, o.want)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
