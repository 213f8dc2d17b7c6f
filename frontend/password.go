package frontend

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend/wire"
)

const (
	// maxCleartext bounds a password. It is twice what PgBouncer takes for one in
	// auth_file: a longer one than that is wrong, and not a malformed message.
	// Other answers are short.
	maxCleartext    = 128 << 10
	maxAuthResponse = 4096
)

func (c *client) authPlain(ctx context.Context, a account) error {
	password, err := c.askPassword(&pgproto3.AuthenticationCleartextPassword{}, maxCleartext)
	if err != nil {
		return err
	}
	return c.verify(ctx, func() bool { return a.secret.VerifyPlain(c.login.User, password) })
}

func (c *client) authMD5(ctx context.Context, a account) error {
	var salt [4]byte
	rand.Read(salt[:])
	response, err := c.askPassword(&pgproto3.AuthenticationMD5Password{Salt: salt}, maxAuthResponse)
	if err != nil {
		return err
	}
	return c.verify(ctx, func() bool { return a.secret.VerifyMD5(c.login.User, salt, response) })
}

// verify runs right in a slot.
func (c *client) verify(ctx context.Context, right func() bool) error {
	if err := c.ticket.acquire(ctx); err != nil {
		return err
	}
	defer c.ticket.release()
	if !right() {
		return errPassword
	}
	return nil
}

// askPassword sends an authentication request and reads the PasswordMessage.
func (c *client) askPassword(request pgproto3.BackendMessage, limit int) (string, error) {
	if err := c.send(request); err != nil {
		return "", err
	}
	body, err := c.readResponse(limit)
	if err != nil {
		return "", err
	}
	password, rest, ok := wire.CString(body)
	switch {
	case !ok || len(rest) > 0:
		return "", errPasswordPacket
	case len(password) == 0:
		return "", errEmptyPassword
	}
	return string(password), nil
}

// authScram runs a SASL exchange (PostgreSQL documentation, "SASL
// Authentication").
func (c *client) authScram(ctx context.Context, a account) error {
	scram := c.acceptor.o.Scram()
	binding := c.channelBinding()
	mechanisms := scram.Mechanisms(binding)
	if err := c.send(&pgproto3.AuthenticationSASL{AuthMechanisms: mechanisms}); err != nil {
		return err
	}
	body, err := c.readResponse(maxAuthResponse)
	if err != nil {
		return err
	}
	var first pgproto3.SASLInitialResponse
	if first.Decode(body) != nil {
		return errPasswordPacket
	}
	if !slices.Contains(mechanisms, first.AuthMechanism) {
		return errMechanism
	}
	var exchange *auth.ScramExchange
	message := first.Data
	for {
		// The slot is for one step; the client's next message is waited for
		// without it.
		if err := c.ticket.acquire(ctx); err != nil {
			return err
		}
		var reply []byte
		var done bool
		if exchange == nil {
			exchange, err = scram.Begin(c.login.User, a.secret, a.known, first.AuthMechanism, binding)
		}
		if err == nil {
			reply, done, err = exchange.Step(message)
		}
		c.ticket.release()
		switch {
		case errors.Is(err, auth.ErrInvalidProof):
			return errSASL
		case err != nil:
			return fmt.Errorf("%w: %w", errSASL, err) // the second is for the log
		case done:
			c.login.keys = exchange.Keys()
			// It goes out with AuthenticationOk: the client has nothing to say
			// in between.
			final := pgproto3.AuthenticationSASLFinal{Data: reply}
			c.login.out, err = final.Encode(c.login.out)
			return err
		}
		if err := c.send(&pgproto3.AuthenticationSASLContinue{Data: reply}); err != nil {
			return err
		}
		if message, err = c.readResponse(maxAuthResponse); err != nil {
			return err
		}
	}
}

// channelBinding returns what binds SCRAM to the TLS connection: a hash of the
// certificate that the client saw. nil if there is none.
func (c *client) channelBinding() []byte {
	if c.login.TLS == nil {
		return nil
	}
	data, err := auth.TLSServerEndPoint(c.tlsConfig.Certificates[0].Leaf)
	if err != nil {
		return nil // not possible with this certificate
	}
	return data
}

func (c *client) send(m pgproto3.BackendMessage) error {
	b, err := m.Encode(nil)
	if err != nil {
		return err
	}
	return c.flush(b)
}

// readResponse reads the body of a PasswordMessage or a SASL response, which
// have the same type.
func (c *client) readResponse(limit int) ([]byte, error) {
	var header [wire.HeaderLen]byte
	if _, err := io.ReadFull(&c.login, header[:]); err != nil {
		return nil, broken(err)
	}
	typ, n, _ := wire.Header(header[:])
	switch {
	case typ == wire.Terminate:
		return nil, &hangup{reason: "client close request", quiet: true}
	case typ != wire.Password:
		return nil, errNotPassword.with(strconv.Itoa(int(typ)))
	case n < wire.HeaderLen || n > wire.HeaderLen+limit:
		return nil, errPasswordPacket
	}
	body := make([]byte, n-wire.HeaderLen)
	if _, err := io.ReadFull(&c.login, body); err != nil {
		return nil, broken(err)
	}
	return body, nil
}
