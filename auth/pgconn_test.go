package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// pgx logs in at the server side of this package, over real TLS.
func TestPgconnLogsIn(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate := newCertificate(t, key)
	roots := x509.NewCertPool()
	roots.AddCert(certificate.Leaf)
	scramServer := NewScramServer(0)

	for name, test := range map[string]struct {
		stored, password string
		binding          string // pgx's channel_binding
		hideBinding      bool   // the server cannot bind
		wantMechanism    string
		refused          bool
	}{
		"bound":            {stored: "pencil", password: "pencil", binding: "require", wantMechanism: scramSHA256Plus},
		"bound, verifier":  {stored: pencilScram, password: "pencil", binding: "require", wantMechanism: scramSHA256Plus},
		"not bound":        {stored: "pencil", password: "pencil", binding: "disable", wantMechanism: scramSHA256},
		"server can't":     {stored: "pencil", password: "pencil", binding: "prefer", hideBinding: true, wantMechanism: scramSHA256},
		"wrong password":   {stored: "pencil", password: "pen", binding: "require", wantMechanism: scramSHA256Plus, refused: true},
		"secret no good":   {stored: pencilMD5, password: "pencil", binding: "require", wantMechanism: scramSHA256Plus, refused: true},
		"prohibited chars": {stored: "a\x07b", password: "a\x07b", binding: "require", wantMechanism: scramSHA256Plus},
	} {
		t.Run(name, func(t *testing.T) {
			var binding []byte
			if !test.hideBinding {
				if binding, err = TLSServerEndPoint(certificate.Leaf); err != nil {
					t.Fatal(err)
				}
			}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			type outcome struct {
				mechanism string
				err       error
			}
			served := make(chan outcome, 1)
			go func() {
				mechanism, err := serveLogin(listener, certificate, scramServer, ParseSecret(test.stored), binding)
				served <- outcome{mechanism, err}
			}()

			config, err := pgconn.ParseConfig(fmt.Sprintf("postgres://user@%s/db?sslmode=require&channel_binding=%s", listener.Addr(), test.binding))
			if err != nil {
				t.Fatal(err)
			}
			config.Password = test.password
			config.TLSConfig = &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			conn, err := pgconn.ConnectConfig(ctx, config)
			if err == nil {
				conn.Close(ctx)
			}
			listener.Close()
			got := <-served
			if got.mechanism != test.wantMechanism {
				t.Errorf("mechanism %q, want %q", got.mechanism, test.wantMechanism)
			}
			var refusal *pgconn.PgError
			if test.refused {
				if !errors.As(err, &refusal) || !errors.Is(got.err, ErrInvalidProof) {
					t.Errorf("client: %v, server: %v; want a refusal", err, got.err)
				}
			} else if err != nil || got.err != nil {
				t.Errorf("client: %v, server: %v", err, got.err)
			}
		})
	}
}

// serveLogin accepts one client and returns the mechanism it selected.
func serveLogin(listener net.Listener, certificate tls.Certificate, s *ScramServer, secret Secret, binding []byte) (mechanism string, err error) {
	raw, err := listener.Accept()
	if err != nil {
		return "", err
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(10 * time.Second))
	if m, err := pgproto3.NewBackend(raw, raw).ReceiveStartupMessage(); err != nil {
		return "", err
	} else if _, ok := m.(*pgproto3.SSLRequest); !ok {
		return "", fmt.Errorf("received %T, want SSLRequest", m)
	}
	if _, err := raw.Write([]byte{'S'}); err != nil {
		return "", err
	}
	conn := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{certificate}})
	client := pgproto3.NewBackend(conn, conn)
	if _, err := client.ReceiveStartupMessage(); err != nil {
		return "", err
	}
	client.Send(&pgproto3.AuthenticationSASL{AuthMechanisms: s.Mechanisms(binding)})
	if err := client.Flush(); err != nil {
		return "", err
	}
	if err := client.SetAuthType(pgproto3.AuthTypeSASL); err != nil {
		return "", err
	}
	m, err := client.Receive()
	if err != nil {
		return "", err
	}
	initial, ok := m.(*pgproto3.SASLInitialResponse)
	if !ok {
		return "", fmt.Errorf("received %T, want SASLInitialResponse", m)
	}
	mechanism = initial.AuthMechanism
	e, err := s.Begin("user", secret, true, mechanism, binding)
	if err != nil {
		return mechanism, err
	}
	data := initial.Data
	for {
		reply, done, err := e.Step(data)
		switch {
		case err != nil:
			client.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: "password authentication failed"})
			return mechanism, errors.Join(err, client.Flush())
		case done:
			client.Send(&pgproto3.AuthenticationSASLFinal{Data: reply})
			client.Send(&pgproto3.AuthenticationOk{})
			client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			if err := client.Flush(); err != nil {
				return mechanism, err
			}
			_, err := client.Receive() // Terminate
			return mechanism, err
		}
		client.Send(&pgproto3.AuthenticationSASLContinue{Data: reply})
		if err := errors.Join(client.Flush(), client.SetAuthType(pgproto3.AuthTypeSASLContinue)); err != nil {
			return mechanism, err
		}
		if m, err = client.Receive(); err != nil {
			return mechanism, err
		}
		response, ok := m.(*pgproto3.SASLResponse)
		if !ok {
			return mechanism, fmt.Errorf("received %T, want SASLResponse", m)
		}
		data = response.Data
	}
}
