package backend

import (
	"errors"
	"io"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgvalet/pgvalet/backend/wire"
)

const (
	// maxMessage bounds one message of a login. PostgreSQL's own are below 2 kB;
	// a notice of an event trigger may be longer.
	maxMessage = 64 << 10
	// maxLogin bounds all of them together.
	maxLogin = 1 << 20
)

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

func (s *session) send(b []byte) error {
	if _, err := s.stream.Write(b); err != nil {
		return s.lost(err)
	}
	return nil
}

// receive reads one message, and no byte more. body is valid until the next.
func (s *session) receive() (typ byte, body []byte, err error) {
	typ, n, err := s.header()
	if err != nil {
		return 0, nil, err
	}
	body, err = s.rest(n)
	return typ, body, err
}

// header reads a message's type and the length of what follows.
func (s *session) header() (typ byte, n int, err error) {
	var h [wire.HeaderLen]byte
	if _, err := io.ReadFull(s.stream, h[:]); err != nil {
		return 0, 0, s.lost(err)
	}
	typ, n, _ = wire.Header(h[:])
	if n -= len(h); n < 0 {
		return 0, 0, connectError(BrokenProtocol, "%q is not the header of a message", h)
	}
	return typ, n, nil
}

// rest reads the n bytes that header announced.
func (s *session) rest(n int) ([]byte, error) {
	if s.taken += n; n > maxMessage || s.taken > maxLogin {
		return nil, connectError(BrokenProtocol, "message of %d bytes while waiting for %s", n, s.stage)
	}
	s.body = slices.Grow(s.body[:0], n)[:n]
	if _, err := io.ReadFull(s.stream, s.body); err != nil {
		return nil, s.lost(err)
	}
	return s.body, nil
}

// lost explains an error of the connection.
func (s *session) lost(err error) error {
	if s.ctx.Err() != nil {
		return connectError(ConnectTimeout, "while waiting for %s", s.stage)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return connectError(ConnectionLost, "the server closed the connection while waiting for %s", s.stage)
	}
	return connectError(ConnectionLost, "while waiting for %s: %w", s.stage, err)
}

// quiet makes sure that the server has sent nothing after ReadyForQuery. With
// TLS, bytes that crypto/tls holds already would be forgotten: no poller
// announces them. Without, they would still be read, but nobody has asked for
// any.
func (s *session) quiet() error {
	var n int
	var err error
	if s.login.TLS == nil {
		n, err = s.peek()
	} else {
		// crypto/tls gives what it has, and asks the socket in vain.
		_ = s.login.Transport.SetReadDeadline(longAgo)
		n, err = s.login.TLS.Read(make([]byte, 1))
		_ = s.login.Transport.SetReadDeadline(time.Time{})
	}
	var wait interface{ Timeout() bool }
	switch {
	case n > 0:
		return connectError(BrokenProtocol, "bytes after ReadyForQuery")
	case errors.As(err, &wait) && wait.Timeout():
		return nil
	default:
		return s.lost(err)
	}
}

// peek looks at what has arrived without taking it.
func (s *session) peek() (n int, err error) {
	raw, err := s.login.Transport.NetConn().(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var peekErr error
	if err := raw.Control(func(fd uintptr) {
		n, _, peekErr = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
	}); err != nil {
		return 0, err
	}
	if n == 0 && peekErr == nil {
		return 0, io.EOF
	}
	return n, peekErr // EAGAIN is a timeout
}
