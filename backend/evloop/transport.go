package evloop

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgvalet/pgvalet/backend/evloop/record"
)

// Transport is the byte pipe below TLS. While a connection logs in it passes
// calls to a blocking net.Conn; after Detach it talks to the raw socket of its
// Stream and never blocks. It implements net.Conn so that crypto/tls can hold
// it through both lives.
type Transport struct {
	conn net.Conn

	// BeforeRead and AfterRead, when set, are called around every blocking
	// read: a login gives up its share of the processor while it waits for
	// the other end.
	BeforeRead, AfterRead func()

	// Of TLS.
	secrets *record.Secrets // during the handshake; a pointer, which prints as such
	tickets int             // session tickets sent
	capped  bool            // a Read does not go beyond the header or the body of the present record
	header  [5]byte         // RFC 8446 section 5.1
	have    int             // bytes of header handed out; 0 outside of one
	left    int             // bytes of the body still to come

	stream *Stream // set by Detach
}

// NewTransport wraps a connection that was just accepted or dialled. The
// connection must be a *net.TCPConn or a *net.UnixConn for Detach to work.
func NewTransport(conn net.Conn) *Transport { return &Transport{conn: conn} }

// errWouldBlock is what a non-blocking read returns when there is nothing to
// read. crypto/tls asks for Temporary.
type errWouldBlock struct{}

func (errWouldBlock) Error() string   { return "no bytes to read yet" }
func (errWouldBlock) Timeout() bool   { return true }
func (errWouldBlock) Temporary() bool { return true }

// ErrWouldBlock is returned by Stream.Read when the peer has sent nothing more.
var ErrWouldBlock net.Error = errWouldBlock{}

// Read implements net.Conn.
func (t *Transport) Read(p []byte) (int, error) {
	if t.stream != nil {
		return t.stream.readSocket(p)
	}
	if t.BeforeRead != nil {
		t.BeforeRead()
		defer t.AfterRead()
	}
	if !t.capped {
		return t.conn.Read(p)
	}
	// crypto/tls would read what comes behind the handshake into a buffer that
	// nobody else knows of.
	if t.left > 0 {
		n, err := t.conn.Read(p[:min(len(p), t.left)])
		t.left -= n
		return n, err
	}
	n, err := t.conn.Read(p[:min(len(p), len(t.header)-t.have)])
	copy(t.header[t.have:], p[:n])
	if t.have += n; t.have == len(t.header) {
		t.have, t.left = 0, int(t.header[3])<<8|int(t.header[4])
	}
	return n, err
}

// MidRecord reports whether crypto/tls has seen only a part of a record.
func (t *Transport) MidRecord() bool { return t.have > 0 || t.left > 0 }

// Write implements net.Conn.
func (t *Transport) Write(p []byte) (int, error) {
	if t.stream != nil {
		return t.stream.collect(p)
	}
	return t.conn.Write(p)
}

// Close implements net.Conn. After Detach it does nothing: the Stream owns the
// socket.
func (t *Transport) Close() error {
	if t.stream != nil {
		return nil
	}
	return t.conn.Close()
}

// LocalAddr implements net.Conn.
func (t *Transport) LocalAddr() net.Addr { return t.conn.LocalAddr() }

// RemoteAddr implements net.Conn.
func (t *Transport) RemoteAddr() net.Addr { return t.conn.RemoteAddr() }

// SetDeadline implements net.Conn; after Detach it does nothing.
func (t *Transport) SetDeadline(d time.Time) error {
	if t.stream != nil {
		return nil
	}
	return t.conn.SetDeadline(d)
}

// SetReadDeadline implements net.Conn; after Detach it does nothing.
func (t *Transport) SetReadDeadline(d time.Time) error {
	if t.stream != nil {
		return nil
	}
	return t.conn.SetReadDeadline(d)
}

// SetWriteDeadline implements net.Conn; after Detach it does nothing.
func (t *Transport) SetWriteDeadline(d time.Time) error {
	if t.stream != nil {
		return nil
	}
	return t.conn.SetWriteDeadline(d)
}

// NetConn returns the connection that Transport was made of.
func (t *Transport) NetConn() net.Conn { return t.conn }

// Detach takes the socket away from the Go runtime's poller and returns it as
// a Stream that is attached to no loop yet. conn is the TLS connection that
// runs over t, its handshake complete, or nil. The caller must not use t or its
// net.Conn again. Bytes that conn has read ahead are delivered; the caller must
// have read none that it does not keep itself. On error the connection is
// closed.
func (t *Transport) Detach(conn TLSConn) (*Stream, error) {
	defer t.conn.Close() // the socket lives on in the duplicate
	sc, ok := t.conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("detach: %T is not a socket", t.conn)
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("detach: %w", err)
	}
	fd := -1
	var dupErr error
	if err := rc.Control(func(s uintptr) {
		fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return nil, fmt.Errorf("detach: %w", err)
	}
	if dupErr != nil {
		return nil, fmt.Errorf("detach: duplicate socket: %w", dupErr)
	}
	if fd > maxFD {
		unix.Close(fd)
		return nil, errors.New("detach: file descriptor out of range")
	}
	s := &Stream{fd: fd}
	switch c := conn.(type) {
	case *secureConn:
		s.tls13 = c.detach()
		s.again = len(s.tls13.plain) > 0 || s.tls13.err != nil
	case *tls.Conn:
		s.tls = c
		t.stream = s
		s.again = true // crypto/tls may have read ahead
	}
	return s, nil
}
