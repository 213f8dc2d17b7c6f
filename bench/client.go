package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// clientPatience bounds a login, and a query.
const clientPatience = 60 * time.Second

// endpoint is where clients log in, and how.
type endpoint struct {
	addr        string
	database    string
	credentials *credentials
	tls         *tls.Config // nil: without TLS
}

// clientTLS is what libpq does with sslmode=require: the certificate is not
// looked at, and sessions are not resumed. X25519 comes first, as in OpenSSL;
// PostgreSQL itself takes only P-256 (ssl_ecdh_curve).
func clientTLS() *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true,
		CurvePreferences:   []tls.CurveID{tls.X25519, tls.CurveP256},
		MinVersion:         tls.VersionTLS12,
	}
}

// client is a connection that does no more than log in and run simple queries,
// with as little CPU as possible. It is for one goroutine.
type client struct {
	conn    net.Conn
	r       *bufio.Reader
	body    []byte // of the last message
	release func() bool
}

// clientBuffer is enough for a login and a short reply, as thousands of idle
// clients are kept.
const clientBuffer = 1024

// login connects and returns a client that is ready for a query. The end of
// ctx closes its connection, now and later. The caller closes it.
func (e endpoint) login(ctx context.Context) (*client, error) {
	dialer := net.Dialer{Timeout: clientPatience}
	conn, err := dialer.DialContext(ctx, "tcp", e.addr)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, release: context.AfterFunc(ctx, func() { conn.Close() })}
	conn.SetDeadline(time.Now().Add(clientPatience))
	if err := c.start(e); err != nil {
		c.drop()
		return nil, fmt.Errorf("log in: %w", err)
	}
	return c, nil
}

func (c *client) start(e endpoint) error {
	if e.tls != nil {
		if err := c.startTLS(e.tls); err != nil {
			return err
		}
	}
	c.r = bufio.NewReaderSize(c.conn, clientBuffer)
	startup := binary.BigEndian.AppendUint32(make([]byte, 4, 64), 3<<16)
	for _, text := range []string{"user", e.credentials.user, "database", e.database} {
		startup = append(append(startup, text...), 0)
	}
	startup = append(startup, 0)
	binary.BigEndian.PutUint32(startup, uint32(len(startup)))
	if _, err := c.conn.Write(startup); err != nil {
		return err
	}
	if err := c.authenticate(e.credentials.begin()); err != nil {
		return err
	}
	return c.ready()
}

const sslRequest = 80877103

func (c *client) startTLS(config *tls.Config) error {
	if err := askTLS(c.conn); err != nil {
		return err
	}
	conn := tls.Client(c.conn, config)
	c.conn = conn
	return conn.Handshake()
}

// askTLS returns when a server is ready for a TLS handshake.
func askTLS(server net.Conn) error {
	request := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, sslRequest)
	if _, err := server.Write(request); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(server, answer[:]); err != nil {
		return err
	}
	if answer[0] != 'S' {
		return errors.New("no TLS here")
	}
	return nil
}

// The codes of an authentication request.
const (
	authOK           = 0
	authSASL         = 10
	authSASLContinue = 11
	authSASLFinal    = 12
)

func (c *client) authenticate(e *exchange) error {
	for {
		kind, body, err := c.next()
		if err != nil {
			return err
		}
		if kind != 'R' || len(body) < 4 {
			return fmt.Errorf("message %q instead of authentication", kind)
		}
		switch code := binary.BigEndian.Uint32(body); code {
		case authOK:
			if e.signature == nil {
				return errors.New("let in without SCRAM")
			}
			return nil
		case authSASL:
			first := e.first()
			data := append([]byte("SCRAM-SHA-256"), 0)
			data = binary.BigEndian.AppendUint32(data, uint32(len(first)))
			err = c.send('p', append(data, first...))
		case authSASLContinue:
			var final string
			if final, err = e.final(string(body[4:])); err == nil {
				err = c.send('p', []byte(final))
			}
		case authSASLFinal:
			err = e.verify(string(body[4:]))
		default:
			err = fmt.Errorf("authentication request %d", code)
		}
		if err != nil {
			return err
		}
	}
}

func (c *client) send(kind byte, body []byte) error {
	message := make([]byte, 0, 5+len(body))
	message = append(message, kind)
	message = binary.BigEndian.AppendUint32(message, uint32(4+len(body)))
	_, err := c.conn.Write(append(message, body...))
	return err
}

// next returns the next message; its body is valid until the next call. What
// the server complains of is an error.
func (c *client) next() (kind byte, body []byte, err error) {
	header, err := c.r.Peek(5)
	if err != nil {
		return 0, nil, err
	}
	kind, size := header[0], int(binary.BigEndian.Uint32(header[1:]))-4
	if size < 0 || size > 1<<24 {
		return 0, nil, fmt.Errorf("message %q with a body of %d bytes", kind, size)
	}
	if _, err := c.r.Discard(5); err != nil {
		return 0, nil, err
	}
	if cap(c.body) < size {
		c.body = make([]byte, size)
	}
	c.body = c.body[:size]
	if _, err := io.ReadFull(c.r, c.body); err != nil {
		return 0, nil, err
	}
	if kind == 'E' {
		return 0, nil, serverError(c.body)
	}
	return kind, c.body, nil
}

// serverError reads an ErrorResponse.
func serverError(body []byte) error {
	var code, text string
	for field := range bytes.SplitSeq(body, []byte{0}) {
		if len(field) == 0 {
			continue
		}
		switch field[0] {
		case 'C':
			code = string(field[1:])
		case 'M':
			text = string(field[1:])
		}
	}
	return fmt.Errorf("%s (SQLSTATE %s)", text, code)
}

// ready reads up to ReadyForQuery.
func (c *client) ready() error {
	for {
		kind, _, err := c.next()
		if err != nil || kind == 'Z' {
			return err
		}
	}
}

// query runs a simple query and throws the result away.
func (c *client) query(sql string) error {
	c.conn.SetDeadline(time.Now().Add(clientPatience))
	if err := c.send('Q', append([]byte(sql), 0)); err != nil {
		return err
	}
	return c.ready()
}

// close says good-bye and closes.
func (c *client) close() {
	_ = c.send('X', nil) // the server may have gone first
	c.drop()
}

// drop closes without a word.
func (c *client) drop() {
	c.release()
	c.conn.Close()
}
