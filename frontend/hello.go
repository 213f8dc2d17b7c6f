package frontend

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// errHello ends a handshake that was begun only to read the ClientHello.
var errHello = errors.New("the ClientHello has been read")

// peekHello returns the server's name that a ClientHello asks for, "" for none.
// What it reads stays there to be read.
func (s *socket) peekHello(ctx context.Context) (string, error) {
	name, seen := "", false
	replay := &helloConn{socket: s}
	err := tls.Server(replay, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name, seen = hello.ServerName, true
		return nil, errHello
	}}).HandshakeContext(ctx)
	s.ahead = append(replay.read, s.ahead...)
	if !seen {
		return "", err
	}
	return name, nil
}

// helloConn is a socket that keeps what is read from it, and drops what is
// written: the alert that ends the handshake.
type helloConn struct {
	socket *socket
	read   []byte
}

// Read implements net.Conn.
func (c *helloConn) Read(p []byte) (int, error) {
	n, err := c.socket.Read(p)
	c.read = append(c.read, p[:n]...)
	return n, err
}

// Write implements net.Conn.
func (c *helloConn) Write(p []byte) (int, error) { return len(p), nil }

// Close implements net.Conn.
func (c *helloConn) Close() error { return nil }

// LocalAddr implements net.Conn.
func (c *helloConn) LocalAddr() net.Addr { return c.socket.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *helloConn) RemoteAddr() net.Addr { return c.socket.RemoteAddr() }

// SetDeadline implements net.Conn.
func (c *helloConn) SetDeadline(t time.Time) error { return c.socket.SetDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *helloConn) SetReadDeadline(t time.Time) error { return c.socket.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (c *helloConn) SetWriteDeadline(t time.Time) error { return c.socket.SetWriteDeadline(t) }
