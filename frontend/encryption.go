package frontend

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/pgvalet/pgvalet/pool"
)

// recordHandshake is the type of the first TLS record (RFC 8446 section 5.1).
const recordHandshake = 0x16

// start negotiates encryption and reads the start-up packet.
func (c *client) start(ctx context.Context) (*startup, error) {
	if err := c.directTLS(ctx); err != nil {
		return nil, err
	}
	sslDone, gssDone := false, c.login.TLS != nil
	for {
		code, body, err := readStartup(&c.login)
		switch {
		case errors.Is(err, io.EOF): // a health check, or an answer that was not liked
			return nil, &hangup{reason: "client unexpected eof", quiet: true}
		case err != nil:
			return nil, broken(err)
		case code == codeSSL && !sslDone && c.tlsConfig != nil && c.login.TLS == nil:
			if err := c.requestedTLS(ctx); err != nil {
				return nil, err
			}
			sslDone, gssDone = true, true
		case code == codeSSL && !sslDone:
			sslDone = true
			err = c.login.Write([]byte{'N'})
		case code == codeGSS && !gssDone:
			gssDone = true
			err = c.login.Write([]byte{'N'})
		case code == codeSSL || code == codeGSS:
			return nil, badHeader(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, code))
		case code == codeCancel:
			pid, key, ok := cancelRequest(body)
			if !ok {
				return nil, &hangup{reason: "invalid cancel request"}
			}
			if err := c.acceptor.o.Cancel(ctx, pid, key); errors.Is(err, pool.ErrCancelWait) {
				return nil, &hangup{reason: pool.ErrCancelWait.Error()}
			}
			return nil, &hangup{reason: "cancel request handled", quiet: true}
		default:
			return parseStartup(code, body)
		}
		if err != nil {
			return nil, broken(err)
		}
	}
}

// directTLS begins TLS at once if the client does. PostgreSQL 17 demands ALPN
// for that, so that no other protocol can be made to talk to it.
func (c *client) directTLS(ctx context.Context) error {
	first, err := c.socket.peek()
	switch {
	case errors.Is(err, io.EOF):
		return nil // start says so
	case err != nil:
		return broken(err)
	case first != recordHandshake:
		return nil
	case c.tlsConfig == nil:
		return &hangup{reason: "direct TLS connection, and TLS is off"}
	}
	if err := c.passByName(ctx, false); err != nil {
		return err
	}
	if err := c.handshake(ctx); err != nil {
		return err
	}
	if c.login.TLS.ConnectionState().NegotiatedProtocol != alpnPostgreSQL {
		return &hangup{reason: "direct TLS connection without ALPN"}
	}
	return nil
}

// requestedTLS answers an SSLRequest and begins TLS. Whatever is here before
// the answer was sent by somebody who does not wait for it, and is not let
// through as if it had come encrypted (CVE-2021-23214).
func (c *client) requestedTLS(ctx context.Context) error {
	if c.socket.pending() {
		return errInjected
	}
	if err := c.login.Write([]byte{'S'}); err != nil {
		return broken(err)
	}
	if err := c.passByName(ctx, true); err != nil {
		return err
	}
	return c.handshake(ctx)
}

// handshake sets up TLS, computing only while it has a slot.
func (c *client) handshake(ctx context.Context) error {
	t := c.login.Transport
	t.BeforeRead = c.ticket.release
	t.AfterRead = func() {
		if !t.MidRecord() {
			_ = c.ticket.acquire(ctx) // fails when time is up: then so does the handshake
		}
	}
	conn, err := t.Server(c.tlsConfig)
	t.BeforeRead, t.AfterRead = nil, nil
	c.ticket.release()
	if err != nil {
		return &hangup{reason: "TLS handshake failed: " + broken(err).Error()}
	}
	c.login.TLS = conn
	return nil
}
