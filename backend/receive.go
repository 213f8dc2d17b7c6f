package backend

import (
	"errors"
	"fmt"
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
	return s.headerFrom(&h, 0)
}

// headerFrom is header when the first have bytes of h are there already.
func (s *session) headerFrom(h *[wire.HeaderLen]byte, have int) (typ byte, n int, err error) {
	if _, err := io.ReadFull(s.stream, h[have:]); err != nil {
		return 0, 0, s.lost(err)
	}
	typ, n, _ = wire.Header(h[:])
	if n -= len(h); n < 0 {
		return 0, 0, connectError(BrokenProtocol, "%q is not the header of a message", *h)
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
	reason := fmt.Errorf("while waiting for %s: %w", s.stage, err)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		reason = fmt.Errorf("the server closed the connection while waiting for %s", s.stage)
	}
	e := &ConnectError{Kind: ConnectionLost, Err: reason}
	if s.at.tokenSent && !s.at.authenticated {
		length := len(s.token.Reveal())
		e.Err = fmt.Errorf("%w: an IAM token of %d bytes", reason, length)
		e.tokenTooLong = length > longToken && hungUp(err) && time.Since(s.tokenAt) < atOnce
	}
	return e
}

const (
	// longToken is what no token of usual credentials reaches: they have 360 to
	// 2,300 bytes, and RDS takes those. A server that goes away when it has been
	// sent one does so for another reason than its length.
	longToken = 4096
	// atOnce is how soon a server hangs up that does not even read a message to
	// its end, because it is too long.
	atOnce = time.Second
)

// hungUp reports whether the other side has closed the connection.
func hungUp(err error) bool {
	for _, end := range [...]error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// quiet takes what the server has sent unasked behind ReadyForQuery: it may be
// told to go, or to read its settings again, at that very moment. Nothing may
// be left: what crypto/tls holds would be forgotten, as no poller announces it.
func (s *session) quiet() error {
	for {
		var h [wire.HeaderLen]byte
		n, err := s.arrived(h[:1])
		if wait := (interface{ Timeout() bool })(nil); n == 0 && errors.As(err, &wait) && wait.Timeout() && s.ctx.Err() == nil {
			return nil
		}
		if n == 0 || s.ctx.Err() != nil { // arrived may have lifted the deadline that ends reads with ctx
			return s.lost(err)
		}
		typ, n, err := s.headerFrom(&h, 1)
		if err != nil {
			return err
		}
		if typ != wire.ParameterStatus && typ != wire.NoticeResponse && typ != wire.ErrorResponse && typ != wire.NotificationResponse {
			return connectError(BrokenProtocol, "message of type %q after ReadyForQuery", typ)
		}
		body, err := s.rest(n)
		if err != nil {
			return err
		}
		if typ == wire.NotificationResponse { // of a LISTEN in connect_query
			continue
		}
		if err := s.asynchronous(typ, body); err != nil {
			return err
		}
	}
}

// arrived reads into p what is here already; the error is a timeout if that is
// nothing.
func (s *session) arrived(p []byte) (n int, err error) {
	if s.login.TLS != nil {
		// crypto/tls gives what it has, and asks the socket in vain.
		_ = s.login.Transport.SetReadDeadline(longAgo)
		n, err = s.login.TLS.Read(p)
		_ = s.login.Transport.SetReadDeadline(time.Time{})
		return n, err
	}
	raw, err := s.login.Transport.NetConn().(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var recvErr error
	if err := raw.Control(func(fd uintptr) {
		n, _, recvErr = unix.Recvfrom(int(fd), p, unix.MSG_DONTWAIT)
	}); err != nil {
		return 0, err
	}
	if n == 0 && recvErr == nil {
		return 0, io.EOF
	}
	return max(n, 0), recvErr // EAGAIN is a timeout
}
