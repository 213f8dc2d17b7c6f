package backend

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

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

// A connection that gets its small buffer once it is open moves 8 KB in a fifth of
// a second.
func TestSmallBuffersAreNotSlow(t *testing.T) {
	const size = 1 << 20
	o := TCPOptions{SocketBuffer: 4096}
	lc := net.ListenConfig{Control: o.SetBuffers}
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	target := &Target{TCP: o}
	client, err := target.dial(context.Background(), ln.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, way := range []struct {
		name     string
		from, to net.Conn
	}{{"to the dialler", server, client}, {"to the listener", client, server}} {
		t.Run(way.name, func(t *testing.T) {
			sent := make(chan error, 1)
			go func() {
				_, err := way.from.Write(make([]byte, size))
				sent <- err
			}()
			way.to.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err := io.CopyN(io.Discard, way.to, size); err != nil {
				t.Errorf("%d bytes: %v", n, err)
				way.from.Close()
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		})
	}
}
