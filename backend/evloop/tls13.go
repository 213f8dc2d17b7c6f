package evloop

import (
	"crypto/aes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"

	"github.com/pgvalet/pgvalet/backend/evloop/record"
)

// TLSConn is a TLS connection over a Transport. It never holds a byte that its
// peer has sent behind what was read, other than the rest of the same record,
// which Detach takes along.
type TLSConn interface {
	net.Conn
	CloseWrite() error // sends close_notify
	ConnectionState() tls.ConnectionState
}

const (
	// maxTicket is what fits into one record for certain: records are counted
	// by their tickets. The certificates of the client, of which it may send
	// as many as it likes, are in its ticket, twice.
	maxTicket = record.MaxPlaintext - 1024
	// uselessTicket is the length of what is sent instead of a longer one: a
	// random number. A client that comes back with it makes a full handshake.
	uselessTicket = aes.BlockSize
)

// ServerTLS prepares a configuration for Transport.Server. The result is to be
// shared by all connections, for the sake of session tickets; neither it nor c
// may be changed any more.
func ServerTLS(c *tls.Config) *tls.Config {
	shared := c.Clone()
	shared.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		t, ok := hello.Conn.(*Transport)
		if !ok {
			return nil, nil
		}
		own := c.Clone()
		own.KeyLogWriter = t.secrets
		own.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
			t.tickets++
			ticket, err := shared.EncryptTicket(state, session)
			if len(ticket) > maxTicket {
				ticket = ticket[:uselessTicket]
			}
			return ticket, err
		}
		return own, nil
	}
	return shared
}

// Server makes the TLS handshake of a server. c is of ServerTLS.
func (t *Transport) Server(c *tls.Config) (TLSConn, error) {
	t.secrets = new(record.Secrets)
	return t.handshake(tls.Server(t, c), true)
}

// Client makes the TLS handshake of a client.
func (t *Transport) Client(c *tls.Config) (TLSConn, error) {
	t.secrets = new(record.Secrets)
	c = c.Clone()
	c.KeyLogWriter = t.secrets
	return t.handshake(tls.Client(t, c), false)
}

func (t *Transport) handshake(conn *tls.Conn, server bool) (TLSConn, error) {
	t.capped = true
	err := conn.Handshake()
	secrets := t.secrets
	t.secrets = nil
	if err != nil {
		return nil, err
	}
	state := conn.ConnectionState()
	if !record.Supported(state) {
		return conn, nil
	}
	layer, err := record.New(state, secrets, server, t.tickets)
	if err != nil {
		return nil, err
	}
	return &secureConn{Transport: t, layer: layer, state: state}, nil
}

// secureConn is a TLS 1.3 connection during a login, behind its handshake.
type secureConn struct {
	*Transport
	layer *record.Layer
	state tls.ConnectionState
	rest  []byte // the start of a record
	plain []byte // opened, and not read yet: the end of buf
	buf   []byte
	out   []byte // records on their way

	readErr, writeErr error
}

// ConnectionState implements TLSConn.
func (c *secureConn) ConnectionState() tls.ConnectionState { return c.state }

// Read implements net.Conn. After a timeout it can be called again.
func (c *secureConn) Read(p []byte) (int, error) {
	for len(c.plain) == 0 {
		if len(p) == 0 || c.readErr != nil {
			return 0, c.readErr
		}
		if err := c.readRecord(); err != nil {
			if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
				c.readErr = err
			}
			return 0, err
		}
	}
	n := copy(p, c.plain)
	c.plain = c.plain[n:]
	return n, nil
}

// readRecord reads and opens one record, and not a byte more.
func (c *secureConn) readRecord() error {
	for {
		n := record.HeaderLen
		if size := record.Size(c.rest); size > record.MaxLen || size > 0 && size == len(c.rest) {
			break
		} else if size > 0 {
			n = size
		}
		if cap(c.rest) < n {
			c.rest = append(make([]byte, 0, n+512), c.rest...)
		}
		m, err := c.conn.Read(c.rest[len(c.rest):n])
		c.rest = c.rest[:len(c.rest)+m]
		switch {
		case err == io.EOF && len(c.rest) > 0:
			return io.ErrUnexpectedEOF
		case err != nil && m == 0:
			return err
		}
	}
	c.buf = slices.Grow(c.buf[:0], record.Room(len(c.rest)))
	plain, err := c.layer.Open(c.buf, c.rest)
	c.plain, c.rest = plain, c.rest[:0]
	if alert := c.layer.SealAlert(nil); len(alert) > 0 {
		_ = c.send(alert) // why reading ends matters more
	}
	return err
}

// Write implements net.Conn. After an error, a timeout too, nothing more can be
// written: how much of p has arrived, nobody can tell.
func (c *secureConn) Write(p []byte) (int, error) {
	if c.layer.Closed() {
		return 0, net.ErrClosed
	}
	c.out = c.layer.Seal(c.out[:0], p)
	if err := c.send(c.out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite implements TLSConn.
func (c *secureConn) CloseWrite() error { return c.send(c.layer.SealClose(nil)) }

// send writes records, unless one has been cut off already.
func (c *secureConn) send(records []byte) error {
	if c.writeErr == nil {
		_, c.writeErr = c.conn.Write(records)
	}
	return c.writeErr
}

// tls13 is what makes a Stream a TLS 1.3 stream.
type tls13 struct {
	layer   *record.Layer
	version uint16
	suite   uint16
	rest    []byte // the start of a record
	plain   []byte // opened, and not read yet
	err     error  // the end of the connection
}

// detach hands the connection over to a Stream.
func (c *secureConn) detach() *tls13 {
	s := &tls13{layer: c.layer, version: c.state.Version, suite: c.state.CipherSuite, err: c.readErr}
	if len(c.rest) > 0 {
		s.rest = c.rest
	}
	if len(c.plain) > 0 {
		s.plain = c.plain
	}
	return s
}

// maxReads is how often the socket is asked during one Read: records that carry
// little or nothing keep a loop busy for longer than those that fill p.
const maxReads = 4

// read fills p, as far as there are bytes: whatever makes up a whole record
// and fits is delivered, since no poller knows of it any more.
func (c *tls13) read(s *Stream, p []byte) (int, error) {
	l := s.loop.Load()
	if l == nil {
		return 0, net.ErrClosed
	}
	n := copy(p, c.plain)
	if c.plain = c.plain[n:]; len(c.plain) > 0 {
		return n, nil
	}
	c.plain = nil
	for range maxReads {
		if n == len(p) || c.err != nil {
			break
		}
		// What is read must fit when it is opened, but for one record.
		buf := l.cipher[:min(len(l.cipher), max(len(p)-n, record.MaxLen))]
		have := copy(buf, c.rest)
		got, err := s.readSocket(buf[have:])
		switch {
		case got > 0:
			n = c.open(s, l, p, n, buf[:have+got])
		case err == ErrWouldBlock:
			return n, err
		case err == io.EOF && have > 0:
			c.err = io.ErrUnexpectedEOF
		default:
			c.err = err
		}
	}
	switch {
	case len(c.plain) > 0: // the end comes after it
		return n, nil
	case n < len(p) && c.err == nil:
		return n, ErrWouldBlock // the poller knows that the socket has more
	}
	return n, c.err
}

// open opens the whole records in data, fills p from n on, and keeps what does
// not fit and what is not whole.
func (c *tls13) open(s *Stream, l *Loop, p []byte, n int, data []byte) int {
	for c.err == nil {
		size := record.Size(data)
		if size == 0 || size > len(data) && size <= record.MaxLen {
			break
		}
		rec := data[:min(size, len(data))]
		data = data[len(rec):]
		if len(p)-n >= record.Room(size) {
			var out []byte
			out, c.err = c.layer.Open(p[:n], rec)
			n = len(out)
		} else {
			var out []byte
			out, c.err = c.layer.Open(l.opened[:0], rec)
			m := copy(p[n:], out)
			n += m
			c.plain = append(c.plain, out[m:]...)
		}
	}
	if c.err != nil {
		data = nil
		s.send(c.layer.SealAlert(nil))
	}
	c.rest = l.keep(c.rest, data)
	return n
}
