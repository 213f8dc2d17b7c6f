package backend

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"

	"github.com/pgvalet/pgvalet/backend/evloop"
)

// Open opens a connection to t and leaves what is said on it to the caller. With
// askTLS it has asked for TLS, as a client does, and the server has agreed: what
// follows is the handshake. Errors are those of Connect. The caller owns the
// connection.
func Open(ctx context.Context, t *Target, askTLS bool) (*evloop.Transport, error) {
	if t.ConnectTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.ConnectTimeout)
		defer cancel()
	}
	addrs, err := t.resolve(ctx)
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	err = eachAddress(ctx, addrs, func(ctx context.Context, addr net.Addr) (err error) {
		if conn, err = t.dial(ctx, addr); err == nil && askTLS {
			if err = askForTLS(ctx, conn); err != nil {
				_ = conn.Close()
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return evloop.NewTransport(conn), nil
}

// askForTLS sends an SSLRequest and waits for the byte that answers it.
func askForTLS(ctx context.Context, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(longAgo) })
	defer stop()
	b := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, sslRequestCode)
	if _, err := conn.Write(b); err != nil {
		return &ConnectError{Kind: ConnectionLost, Err: err}
	}
	if _, err := io.ReadFull(conn, b[:1]); err != nil {
		if ctx.Err() != nil {
			return connectError(ConnectTimeout, "no answer to the SSLRequest")
		}
		return &ConnectError{Kind: ConnectionLost, Err: err}
	}
	if b[0] != 'S' {
		return &ConnectError{Kind: TLSRefused, Err: errors.New("the client is passed through and wants TLS")}
	}
	return nil
}
