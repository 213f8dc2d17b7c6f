package backend

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/config"
)

// Cancel asks the server at addr, the very address of the session to be
// interrupted (Login.Addr), to cancel what the session with this process ID and
// key is doing. overTLS says whether that session uses TLS; this connection
// does the same, under the same rules.
//
// Cancel returns nil when the server has closed the connection, which it does
// after it has sent the signal. The query may end at any time after that, or
// have ended before: PostgreSQL says nothing more about it. Errors are a
// *ConnectError, or ctx's own when that ends.
//
// sending, if not nil, is called when the connection is there and the request is
// about to be sent on it.
func Cancel(ctx context.Context, t *Target, addr net.Addr, overTLS bool, pid uint32, key []byte, sending func()) error {
	request, err := (&pgproto3.CancelRequest{ProcessID: pid, SecretKey: key}).Encode(nil)
	if err != nil {
		return err
	}
	if err := cancel(ctx, t, addr, overTLS, request, sending); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("cancel request to %s: %w", addr, err)
	}
	return nil
}

func cancel(ctx context.Context, t *Target, addr net.Addr, overTLS bool, request []byte, sending func()) error {
	conn, err := t.dial(ctx, addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(longAgo) })
	defer stop()
	s := &session{
		attempt: &attempt{t: t, ctx: ctx, addr: addr},
		login:   Login{Transport: evloop.NewTransport(conn)},
	}
	s.stream = s.login.Transport
	e := plain
	if overTLS {
		e = tlsAlways
	}
	if err := s.encrypt(e); err != nil {
		return err
	}
	if sending != nil {
		sending()
	}
	s.stage = "the end of the cancel request"
	if err := s.send(request); err != nil {
		return err
	}
	// PostgreSQL answers nothing but an error, if it cannot start a process.
	// However the connection ends, it has ended.
	if n, err := io.CopyN(io.Discard, s.stream, maxMessage); err == nil {
		return connectError(BrokenProtocol, "%d bytes in answer to a cancel request", n)
	}
	return ctx.Err()
}

// ForwardCancel sends a cancel request to another pooler, which has made the
// key, and returns nil when that has dealt with it: when it has closed the
// connection. The request goes unencrypted, as PgBouncer sends and takes it.
// host is a name, an address or the directory of a unix socket.
func ForwardCancel(ctx context.Context, host string, port int, tcp TCPOptions, pid uint32, key []byte) error {
	t := &Target{Host: host, Port: port, SSLMode: config.SSLDisable, TCP: tcp}
	addrs, err := t.resolve(ctx)
	if err != nil {
		return err
	}
	for _, addr := range addrs {
		if err = Cancel(ctx, t, addr, false, pid, key, nil); err == nil {
			return nil
		}
	}
	return err
}
